//! A client that makes keys through the module, and notes each that was acknowledged.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use cryptoki_sys::*;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use strongroom_demo::process::{Process, wait_for};
use strongroom_demo::programs::Programs;
use strongroom_token_load::module::Module;

use crate::cluster::{Cluster, PARTITION};
use crate::network::Host;
use crate::options::MakeKeys;

/// Between one key and the next.
const PAUSE: Duration = Duration::from_millis(100);

/// Within how long a key that was acknowledged is on each node.
const SOON: Duration = Duration::from_secs(30);

/// How long the one who makes keys may take to end. What is under way is finished.
const END: Duration = Duration::from_secs(60);

/// Makes keys until somebody ends it. A line for each: its label, how many milliseconds it took, and what went wrong.
///
/// # Errors
///
/// When it cannot begin.
pub fn make(options: &MakeKeys) -> Result<()> {
    let pin = fs::read_to_string(&options.pin_file).context("the PIN's file")?;
    let pin = format!("user:{}", pin.lines().next().unwrap_or_default());
    let module = Module::load(&options.module)?;
    let session = module.open_session(module.slot(PARTITION)?)?;
    module.login(session, &pin)?;
    let mut out = std::io::stdout().lock();
    let mut stop = signal_of_end()?;
    let (yes, length) = ([CK_TRUE], 16_u64.to_ne_bytes());
    for number in 0_u64.. {
        let label = format!("{}-{number}", options.name);
        let template = [
            (CKA_LABEL, label.as_bytes()),
            (CKA_TOKEN, &yes[..]),
            (CKA_VALUE_LEN, &length[..]),
            (CKA_ENCRYPT, &yes[..]),
        ];
        let begun = Instant::now();
        let outcome = match module.generate(session, CKM_AES_KEY_GEN, &template) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        };
        writeln!(out, "{label}\t{}\t{outcome}", begun.elapsed().as_millis())?;
        out.flush()?;
        if stop() {
            break;
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Says whether SIGTERM has come: a key that is under way is finished and noted.
fn signal_of_end() -> Result<impl FnMut() -> bool> {
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM])?;
    Ok(move || signals.pending().next().is_some())
}

/// One that makes keys beside the load.
#[derive(Debug)]
pub struct Maker {
    process: Process,
    log: PathBuf,
}

/// What became of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// Whose making was acknowledged.
    pub acknowledged: u64,
    /// Whose making was refused, or is not known to have succeeded.
    pub refused: u64,
    /// Acknowledged, and missing on a node.
    pub missing: u64,
    /// On a node more than once.
    pub double: u64,
    /// On one node and not on another, acknowledged or not.
    pub differing: u64,
    /// The longest time that one took, in milliseconds.
    pub longest_ms: u64,
    /// How often each reason was given.
    pub reasons: BTreeMap<String, u64>,
}

impl Maker {
    /// Starts one on a host, that makes keys with labels of this name.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start(
        programs: &Programs,
        cluster: &Cluster,
        host: &Host,
        name: &str,
        folder: &Path,
    ) -> Result<Self> {
        let log = folder.join(format!("keys-{name}.log"));
        let mut command = host.command(&std::env::current_exe()?)?;
        cluster.client_environment().apply(&mut command);
        command.args(["make-keys", "--name", name, "--module"]).arg(programs.module());
        command.arg("--pin-file").arg(cluster.password("user"));
        let errors = folder.join(format!("keys-{name}.errors"));
        command.stdin(Stdio::null()).stdout(File::create(&log)?).stderr(File::create(&errors)?);
        let mut maker = Maker { process: Process::spawn("make-keys", command)?, log };
        let is_running = wait_for("the first key", END, || {
            let is_running = maker.process.is_running();
            anyhow::ensure!(!is_running || fs::metadata(&maker.log)?.len() > 0, "no key yet");
            Ok(is_running)
        })?;
        anyhow::ensure!(is_running, "who makes keys has ended: {}", fs::read_to_string(&errors)?);
        Ok(maker)
    }

    /// Ends it, and looks for its keys on each node.
    ///
    /// # Errors
    ///
    /// When it does not end, or a node does not say what it has.
    pub fn finish(mut self, cluster: &Cluster, name: &str) -> Result<Keys> {
        self.process.signal(Signal::TERM)?;
        self.process.wait(END)?;
        let mut keys = Keys::default();
        let mut acknowledged = Vec::new();
        for line in BufReader::new(File::open(&self.log)?).lines() {
            let line = line?;
            let mut parts = line.splitn(3, '\t');
            let (Some(label), Some(took), Some(why)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            keys.longest_ms = keys.longest_ms.max(took.parse().unwrap_or_default());
            if why.is_empty() {
                acknowledged.push(label.to_owned());
            } else {
                keys.refused += 1;
                *keys.reasons.entry(why.to_owned()).or_default() += 1;
            }
        }
        keys.acknowledged = acknowledged.len() as u64;
        // A node may be a moment behind.
        let _ = wait_for("all keys on all nodes", SOON, || {
            keys.count(&acknowledged, &cluster.labels()?, name);
            anyhow::ensure!(keys.missing == 0 && keys.differing == 0);
            Ok(())
        });
        keys.count(&acknowledged, &cluster.labels()?, name);
        Ok(keys)
    }
}

impl Keys {
    /// Compares what was acknowledged with what each node has.
    fn count(&mut self, acknowledged: &[String], nodes: &[BTreeMap<String, u64>], name: &str) {
        let is_ours = |label: &&String| label.rsplit_once('-').is_some_and(|(front, _)| front == name);
        let is_missing = |label: &&String| nodes.iter().any(|labels| !labels.contains_key(*label));
        self.missing = acknowledged.iter().filter(is_missing).count() as u64;
        let doubled = |labels: &BTreeMap<String, u64>| {
            labels.iter().filter(|(label, count)| is_ours(label) && **count > 1).count() as u64
        };
        self.double = nodes.iter().map(doubled).max().unwrap_or_default();
        let mut all: Vec<_> = nodes.iter().flat_map(BTreeMap::keys).filter(is_ours).collect();
        all.sort_unstable();
        all.dedup();
        self.differing = all.into_iter().filter(is_missing).count() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_and_what_is_there_twice_is_counted() {
        let node = |labels: &[(&str, u64)]| -> BTreeMap<String, u64> {
            labels.iter().map(|(label, count)| ((*label).to_owned(), *count)).collect()
        };
        let acknowledged = ["k-0", "k-1", "k-2"].map(str::to_owned);
        let mut keys = Keys::default();
        let whole = node(&[("k-0", 1), ("k-1", 1), ("k-2", 1), ("k-3", 1), ("web", 2)]);
        keys.count(&acknowledged, &[whole.clone(), whole.clone()], "k");
        assert_eq!((keys.missing, keys.double, keys.differing), (0, 0, 0));
        let other = node(&[("k-0", 1), ("k-2", 2), ("other-1", 1)]);
        keys.count(&acknowledged, &[whole, other], "k");
        assert_eq!((keys.missing, keys.double, keys.differing), (1, 1, 2));
    }
}
