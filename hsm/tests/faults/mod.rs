//! Disks that fail: by a library that is preloaded into the daemon.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::running::Process;

/// The library disk.c, built once.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/disk.c");
        let name = format!("disk-fault-{}.so", std::process::id());
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .args([library.as_os_str(), source.as_ref()])
            .status()
            .unwrap();
        assert!(built.success(), "cc cannot build {source}");
        library
    })
}

/// What fails in a daemon that was started with [`Fault::start`].
pub struct Fault(PathBuf);

impl Fault {
    /// A daemon whose disk does not fail yet.
    pub fn start(directory: &Path) -> (Process, Self) {
        // In a directory that the confined daemon may read.
        let control = directory.join("state/fault");
        let mut command = Process::command(directory);
        command.env("LD_PRELOAD", library()).env("DISK_FAULT", &control);
        command.env("DISK_RECORD", control.with_extension("record"));
        (Process::spawn(command, directory), Self(control))
    }

    /// From now on these calls fail, see disk.c.
    pub fn set(&self, what: &str) {
        // Put in place as a whole: the daemon reads it at any moment.
        let new = self.0.with_extension("new");
        std::fs::write(&new, what).unwrap();
        std::fs::rename(new, &self.0).unwrap();
    }

    /// From now on so many syncs of the store pass, and the next ones are held until nothing fails any more.
    pub fn hold_after(&self, syncs: usize) {
        let _ = std::fs::remove_file(self.held());
        self.set(&format!("hold {syncs} store.redb"));
    }

    /// Waits until a sync is held.
    pub fn wait_until_held(&self) {
        let until = Instant::now() + Duration::from_secs(60);
        while !self.held().exists() {
            assert!(Instant::now() < until, "nothing was held");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn held(&self) -> PathBuf {
        let mut name = self.0.clone().into_os_string();
        name.push(".held");
        name.into()
    }

    /// From now on nothing fails.
    pub fn clear(&self) {
        std::fs::remove_file(&self.0).unwrap();
    }

    /// From now on it is recorded what is done to the store.
    pub fn record(&self) {
        std::fs::write(self.0.with_extension("record"), "").unwrap();
    }

    /// What was done since.
    pub fn recorded(&self) -> Vec<Event> {
        let all = std::fs::read(self.0.with_extension("record")).unwrap();
        let mut rest = &all[..];
        let mut events = Vec::new();
        while let Some((head, after)) = rest.split_first_chunk::<24>() {
            let number = |at: usize| u64::from_ne_bytes(head[at..at + 8].try_into().unwrap()) as usize;
            let (at, length) = (number(8), number(16));
            events.push(match number(0) {
                1 => Event::Write { at, bytes: after[..length].to_vec() },
                2 => Event::Length(at),
                _ => Event::Sync,
            });
            rest = &after[length..];
        }
        events
    }
}

/// What was done to the store, see disk.c.
#[derive(Debug)]
pub enum Event {
    Write {
        at: usize,
        bytes: Vec<u8>,
    },
    /// The file has so many bytes.
    Length(usize),
    /// All before is on the disk.
    Sync,
}
