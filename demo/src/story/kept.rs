//! What `--keep` leaves running, and how `--stop` finds it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use console::style;
use serde::{Deserialize, Serialize};
use strongroom_demo::pki::text;
use strongroom_demo::process::Process;
use strongroom_demo::stat;

use super::screen::Screen;
use super::{Servers, Stage, curl};

/// The processes and the folder of a run that was kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    folder: PathBuf,
    processes: Vec<KeptProcess>,
}

/// A process, so that it can be told from a later one with the same id.
#[derive(Debug, Serialize, Deserialize)]
struct KeptProcess {
    name: String,
    id: u32,
    /// Its start, in clock ticks since the machine's.
    started: u64,
}

impl KeptProcess {
    fn of(name: &str, id: u32) -> Result<Self> {
        let started = stat::of(id).with_context(|| format!("{name} has stopped"))?.started;
        Ok(KeptProcess { name: name.into(), id, started })
    }

    fn is_running(&self) -> bool {
        stat::of(self.id).is_some_and(|stat| stat.started == self.started && !stat.ended)
    }
}

fn read(note: &Path) -> Option<Kept> {
    serde_json::from_slice(&fs::read(note).ok()?).ok()
}

/// Fails if an earlier run was kept and still runs.
///
/// # Errors
///
/// Then.
pub fn refuse_second(note: &Path) -> Result<()> {
    match read(note) {
        Some(kept) if kept.processes.iter().any(KeptProcess::is_running) => {
            bail!("a kept demo is running already; `./demo/run --stop` stops it")
        }
        _ => Ok(()),
    }
}

/// Leaves partition and servers running and says what can be done with them.
///
/// # Errors
///
/// When the note for `--stop` cannot be written: then everything is stopped.
pub fn leave(screen: &mut Screen, mut stage: Stage, servers: Servers, note: &Path) -> Result<()> {
    let daemon = stage.partition.daemon.id().context("strongroomd has stopped")?;
    let kept = Kept {
        folder: stage.folder.path().into(),
        processes: vec![
            KeptProcess::of("nginx", servers.nginx.process.id())?,
            KeptProcess::of("apache2", servers.apache.process.id())?,
            KeptProcess::of("strongroomd", daemon)?,
        ],
    };
    if let Some(folder) = note.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(note, serde_json::to_vec_pretty(&kept)?)
        .with_context(|| format!("cannot write {}", note.display()))?;

    let curl_nginx = strongroom_demo::command::describe(&curl(&servers.nginx, &stage.authority));
    let curl_apache = strongroom_demo::command::describe(&curl(&servers.apache, &stage.authority));
    let environment = stage.partition.environment().as_shell();
    let strongroom = text(&stage.programs.strongroom());
    let address = servers.nginx.address();
    let ca = text(&stage.authority.certificate());
    let uri = stage.partition.short_uri("web");

    screen.step("Try it: everything is left running");
    for (what, line) in [
        ("Let the commands below find the partition", format!("export {environment}")),
        ("A page from nginx, and one from Apache", format!("{curl_nginx}\n{curl_apache}")),
        (
            "The handshake in detail",
            format!("openssl s_client -connect {address} -CAfile {ca} -brief </dev/null"),
        ),
        ("The keys, and what the partition has done", format!("{strongroom} key list\n{strongroom} status")),
        (
            "Sign a file with the web server's key",
            format!("openssl dgst -sha256 -sign '{uri}' -out /tmp/signature {ca}"),
        ),
        ("Load", format!("{} --ca {ca} --duration 10s {address}", text(&stage.programs.load()))),
        ("Stop everything", "./demo/run --stop".to_owned()),
    ] {
        screen.gap();
        screen.say(&style(what).italic().to_string());
        screen.say(&line);
    }
    stage.folder.keep();
    servers.nginx.process.leave();
    servers.apache.process.leave();
    stage.partition.daemon.leave();
    Ok(())
}

/// Stops what an earlier run has left.
///
/// # Errors
///
/// When it cannot be stopped, or there is nothing.
pub fn stop(note: &Path) -> Result<()> {
    let Some(kept) = read(note) else {
        bail!("nothing was kept ({} is not there)", note.display());
    };
    for process in kept.processes {
        if process.is_running() {
            Process::adopt(&process.name, process.id)?.stop();
        }
        if process.is_running() {
            bail!("{} (process {}) cannot be stopped; are you another user?", process.name, process.id);
        }
    }
    fs::remove_dir_all(&kept.folder).or_else(ignore_missing)?;
    fs::remove_file(note)?;
    Screen::new("Stopped.");
    Ok(())
}

fn ignore_missing(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}
