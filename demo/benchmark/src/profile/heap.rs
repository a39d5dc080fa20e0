//! Who asks for memory, and how often: counted by a library that is preloaded into server and daemon.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use strongroom_demo::command;
use strongroom_demo::environment::Environment;
use strongroom_demo::programs::system;

/// The library's source.
const SOURCE: &str = include_str!("allocations.c");
/// As in the source.
const SLOTS: usize = 16384;
const SLOT: usize = 24;
/// How long the compiler may take.
const COMPILE: Duration = Duration::from_secs(30);

/// Calls and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Calls of malloc and its like.
    pub calls: u64,
    /// Bytes that were asked for.
    pub bytes: u64,
}

/// The compiled library, in a folder.
#[derive(Debug, Clone)]
pub struct Counter {
    library: PathBuf,
}

/// The counters of one server or daemon.
#[derive(Debug, Clone)]
pub struct Counters {
    library: PathBuf,
    file: PathBuf,
}

/// The counters at a moment, by page of code.
pub type Snapshot = BTreeMap<u64, Count>;

impl Counter {
    /// Compiles the library.
    ///
    /// # Errors
    ///
    /// When there is no C compiler.
    pub fn compile(folder: &Path) -> Result<Self> {
        let (source, library) = (folder.join("allocations.c"), folder.join("allocations.so"));
        fs::write(&source, SOURCE)?;
        let mut cc = command::new(system("cc")?);
        cc.args(["-O2", "-fPIC", "-shared", "-o"]).arg(&library).arg(&source);
        command::succeed(cc, COMPILE)?;
        Ok(Counter { library })
    }

    /// New counters, in `file`.
    ///
    /// # Errors
    ///
    /// When the file cannot be made.
    pub fn counters(&self, file: PathBuf) -> Result<Counters> {
        fs::write(&file, vec![0; SLOTS * SLOT])
            .with_context(|| format!("cannot write {}", file.display()))?;
        // The servers' workers run as another user.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666))?;
        Ok(Counters { library: self.library.clone(), file })
    }
}

impl Counters {
    /// What makes a program count.
    pub fn environment(&self, environment: &Environment) -> Environment {
        environment
            .clone()
            .with("LD_PRELOAD", self.library.clone())
            .with("STRONGROOM_ALLOCATIONS", self.file.clone())
    }

    /// The counters now.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let bytes = fs::read(&self.file)?;
        let mut snapshot = Snapshot::new();
        for slot in bytes.chunks_exact(SLOT) {
            let mut words = slot
                .chunks_exact(8)
                .filter_map(|word| word.first_chunk::<8>().map(|word| u64::from_ne_bytes(*word)));
            if let (Some(page), Some(calls), Some(bytes)) = (words.next(), words.next(), words.next())
                && page != 0
            {
                snapshot.insert(page, Count { calls, bytes });
            }
        }
        Ok(snapshot)
    }
}

/// What was added between two moments, by library. `process` is one that has all of them mapped.
///
/// # Errors
///
/// When /proc cannot be read.
pub fn by_library(before: &Snapshot, after: &Snapshot, process: u32) -> Result<BTreeMap<String, Count>> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps"))?;
    let mut libraries: BTreeMap<String, Count> = BTreeMap::new();
    for (page, count) in after {
        let earlier = before.get(page).copied().unwrap_or_default();
        let library = libraries.entry(owner(&maps, page << 12)).or_default();
        library.calls += count.calls.saturating_sub(earlier.calls);
        library.bytes += count.bytes.saturating_sub(earlier.bytes);
    }
    libraries.retain(|_, count| count.calls > 0);
    Ok(libraries)
}

/// The file that is mapped at `address`, by its name.
fn owner(maps: &str, address: u64) -> String {
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let Some((from, to)) = words.next().and_then(|range| range.split_once('-')) else { continue };
        let hex = |text: &str| u64::from_str_radix(text, 16).unwrap_or_default();
        if (hex(from)..hex(to)).contains(&address) {
            let path = words.nth(4).unwrap_or("other");
            return path.rsplit('/').next().unwrap_or(path).to_owned();
        }
    }
    "other".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocations_of_a_program_are_counted_by_library() {
        let folder = tempfile::tempdir().unwrap();
        let counter = Counter::compile(folder.path()).unwrap();
        let counters = counter.counters(folder.path().join("counters")).unwrap();
        let before = counters.snapshot().unwrap();
        let mut openssl = command::new("openssl");
        counters.environment(&Environment::plain()).apply(&mut openssl);
        openssl.args(["rand", "-hex", "8"]);
        command::succeed(openssl, COMPILE).unwrap();
        let after = counters.snapshot().unwrap();
        assert!(before.is_empty());
        assert!(after.values().map(|count| count.calls).sum::<u64>() > 100, "{after:?}");
    }

    #[test]
    fn an_address_belongs_to_a_file() {
        let maps = "5000-6000 r-xp 00000000 00:01 7  /usr/lib/libcrypto.so.3\n7000-8000 rw-p 0 0 0\n";
        assert_eq!(owner(maps, 0x5abc), "libcrypto.so.3");
        assert_eq!(owner(maps, 0x7000), "other");
        assert_eq!(owner(maps, 0x9000), "other");
    }
}
