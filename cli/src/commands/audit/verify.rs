//! `strongroom audit verify`: with the files and the public key, and no daemon.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use strongroom_audit::{Collected, Fault, MAX_LINE, PublicKey, Summary, Verifier};

use crate::failure::{Exit, Failure};
use crate::output::{Output, Page, Report};

pub const ABOUT: &str = "\
Verify exported or original files, without the daemon.

The files of one log are verified together, in their order; a directory stands for all logs in it. What is found: an \
entry that was changed, removed, added, moved or repeated, and an end that was cut off before the last checkpoint \
that is there. What cannot be found in the files alone: that entries after the last checkpoint were cut off; compare \
with what was sent elsewhere (docs/audit.md).

  strongroom audit export --out tls.jsonl
  strongroom audit verify tls.jsonl --key audit.pem
  strongroom audit verify /var/lib/strongroom/audit --key audit.pem

What a syslog server or journald has collected is verified with --collected: lines of several logs may be mixed there, with \
words of the receiver before them, and an entry may stand there twice, because it is sent again when nobody knows whether it \
arrived.

  strongroom audit verify --collected /var/log/strongroom --key audit.pem
  journalctl -o cat SYSLOG_IDENTIFIER=strongroomd | strongroom audit verify --collected - --key audit.pem

Exit code 0: everything is as strongroomd wrote it. 1: something is not; the first line that is wrong is named.";

/// `strongroom audit verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// The log's files, or a directory
    #[arg(required = true, value_name = "FILE|DIRECTORY")]
    paths: Vec<PathBuf>,
    /// The public key, PEM, as 'strongroom audit key' wrote it. Without it, the key that the file names counts: then
    /// a file that was made anew as a whole is not found out
    #[arg(long, short, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The files are a receiver's; '-' is standard input
    #[arg(long)]
    collected: bool,
}

/// A log that is as it was written.
#[derive(Debug, Serialize)]
struct Sound {
    log: String,
    first: u64,
    last: u64,
    from: String,
    to: String,
    checkpoints: u64,
    /// Entries after the last checkpoint.
    unsigned: u64,
    alarms: u64,
    key: String,
    key_from_file: bool,
}

impl From<Summary> for Sound {
    fn from(summary: Summary) -> Self {
        let Summary { log, first, last, from, to, checkpoints, unsigned, alarms, key, key_from_file } =
            summary;
        Sound { log, first, last, from, to, checkpoints, unsigned, alarms, key, key_from_file }
    }
}

#[derive(Debug, Serialize)]
struct Verified {
    logs: Vec<Sound>,
}

impl Report for Verified {
    fn text(&self, page: &mut Page) {
        for log in &self.logs {
            page.line(format!(
                "{}: entries {} to {} are as strongroomd wrote them ({} to {}; {} checkpoints)",
                log.log, log.first, log.last, log.from, log.to, log.checkpoints
            ));
            if log.first > 1 {
                page.line(format!("  entries before {} were not given", log.first));
            }
            if log.unsigned > 0 {
                page.line(format!("  the last {} entries are chained, and not signed yet", log.unsigned));
            }
            if log.alarms > 0 {
                page.line(format!("  {} of them are alarms", log.alarms));
            }
            if log.key_from_file {
                page.line(format!(
                    "  the key is the one that the file names: compare it with 'strongroom audit key', or give \
                     --key\n  SHA-256 {}",
                    log.key
                ));
            }
        }
    }
}

impl Verify {
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        let key = match &self.key {
            None => None,
            Some(path) => {
                let pem = fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?;
                let key = PublicKey::from_pem(&pem);
                Some(key.map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?)
            }
        };
        if self.collected {
            let sound = collected(&self.paths, key)?.into_iter().map(Sound::from).collect();
            return output.print(&Verified { logs: sound });
        }
        let mut logs: BTreeMap<String, Vec<(u64, PathBuf)>> = BTreeMap::new();
        for path in files(&self.paths)? {
            // What is wrong with the first line is said when it is verified.
            let (log, first) = first_of(&path)?;
            logs.entry(log).or_default().push((first, path));
        }
        let mut sound = Vec::new();
        for files in logs.values_mut() {
            files.sort();
            sound.push(verify(files, key.clone())?.into());
        }
        if sound.is_empty() {
            let paths: Vec<_> = self.paths.iter().map(|path| path.display().to_string()).collect();
            let message = format!("there is no audit log in {}", paths.join(", "));
            return Err(Failure::new(Exit::NotFound, "no_audit_log", message));
        }
        output.print(&Verified { logs: sound })
    }
}

/// The files that are named, and those in directories that are.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let found = in_directory(path)?.into_iter();
        files.extend(found.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl")));
    }
    Ok(files)
}

/// What is in a directory, by name.
fn in_directory(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let listed = fs::read_dir(path).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let listed = listed.map_err(|error| Failure::file("list", path, &error))?;
    let mut paths: Vec<PathBuf> = listed.into_iter().map(|entry| entry.path()).collect();
    paths.retain(|path| path.is_file());
    paths.sort();
    Ok(paths)
}

/// Lines of a file, each at most a little longer than a line may be.
struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    number: u64,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|error| Failure::file("read", path, &error))?;
        Ok(Lines { path: path.to_owned(), reader: Box::new(BufReader::new(file)), number: 0 })
    }

    fn of_standard_input() -> Self {
        Lines { path: "standard input".into(), reader: Box::new(io::stdin().lock()), number: 0 }
    }

    /// The next line, with its line feed if it has one.
    fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let mut line = Vec::new();
        let most = MAX_LINE as u64 + 2;
        let read = Read::by_ref(&mut self.reader).take(most).read_until(b'\n', &mut line);
        self.number += 1;
        match read.map_err(|error| Failure::file("read", &self.path, &error))? {
            0 => Ok(None),
            _ => Ok(Some(line)),
        }
    }
}

/// Which log a file belongs to, and the number of its first entry.
fn first_of(path: &Path) -> Result<(String, u64), Failure> {
    let line = Lines::open(path)?.next()?.unwrap_or_default();
    let entry = serde_json::from_slice::<strongroom_audit::Entry>(&line).unwrap_or_default();
    Ok((entry.log, entry.seq))
}

fn verify(files: &[(u64, PathBuf)], key: Option<PublicKey>) -> Result<Summary, Failure> {
    let mut verifier = Verifier::new(key);
    for (_, path) in files {
        let mut lines = Lines::open(path)?;
        while let Some(mut line) = lines.next()? {
            let checked = match line.pop() {
                Some(b'\n') => verifier.line(&line).map(drop),
                Some(last) => {
                    line.push(last);
                    let torn = "the line has no end: the file was cut off, or is being written";
                    match verifier.line(&line) {
                        Err(fault @ Fault::Long(_)) => Err(fault),
                        _ => Err(Fault::Form(torn.to_owned())),
                    }
                }
                None => Ok(()),
            };
            checked.map_err(|fault| broken(&format!("{} line {}", path.display(), lines.number), &fault))?;
        }
    }
    let names: Vec<String> = files.iter().map(|(_, path)| path.display().to_string()).collect();
    verifier.finish().map_err(|fault| broken(&names.join(", "), &fault))
}

/// Verifies what a receiver has written down, in the order of the files' names.
fn collected(paths: &[PathBuf], key: Option<PublicKey>) -> Result<Vec<Summary>, Failure> {
    let mut verifier = Collected::new(key);
    for path in paths {
        let is_input = path.as_os_str() == "-";
        let mut files = vec![path.clone()];
        if path.is_dir() {
            files = in_directory(path)?;
        }
        for path in files {
            let mut lines = if is_input { Lines::of_standard_input() } else { Lines::open(&path)? };
            while let Some(line) = lines.next()? {
                // What has no end is being written.
                let Some(line) = line.strip_suffix(b"\n") else { continue };
                let place = || format!("{} line {}", lines.path.display(), lines.number);
                verifier.line(line).map_err(|fault| broken(&place(), &fault))?;
            }
        }
    }
    verifier.finish().map_err(|fault| broken("what was collected", &fault))
}

fn broken(place: &str, fault: &Fault) -> Failure {
    Failure::new(Exit::Failed, "audit_log_broken", format!("{place}: {fault}; what follows is not verified"))
}
