//! The newest change that a node has seen, on its own disk. Who keeps a store that several nodes share may show what was there
//! earlier: a node that was away finds out by its mark, and by the chain of ledgers that leads from there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::memory::SecretBytes;
use crate::seal::{Element, SealError, SealingKey};

/// What the file is sealed as.
const NAME: &str = "mark";

/// Where a node notes what it has seen.
#[derive(Debug, Clone)]
pub struct Mark {
    path: PathBuf,
    /// What seals it; and what did so before, oldest first.
    key: Arc<SealingKey>,
    earlier: Vec<Arc<SealingKey>>,
}

/// The number of a change, and the hash of the ledger that it wrote.
pub type Seen = (u64, Element);

impl Mark {
    /// In this file, sealed by a key that took the place of these earlier ones.
    pub fn new(path: &Path, key: Arc<SealingKey>, earlier: &[Arc<SealingKey>]) -> Self {
        Mark { path: path.to_owned(), key, earlier: earlier.to_vec() }
    }

    /// The same file, sealed by another key from now on.
    pub(super) fn under(&self, key: Arc<SealingKey>) -> Self {
        let earlier = self.earlier.iter().chain([&self.key]).map(Arc::clone).collect();
        Mark { path: self.path.clone(), key, earlier }
    }

    /// Opens a record that was sealed by this key, or by one of the earlier ones.
    pub(super) fn open(&self, name: &str, record: &[u8]) -> Result<(u64, SecretBytes), SealError> {
        let now = self.key.open(name, record);
        let earlier = self.earlier.iter().rev().map(|key| key.open(name, record));
        std::iter::once(now).chain(earlier).reduce(Result::or).unwrap_or(Err(SealError::Forged))
    }

    /// The change that was noted last; `None`: none was yet.
    ///
    /// # Errors
    ///
    /// The system's; `InvalidData` if the file is not what this node wrote.
    pub fn read(&self) -> io::Result<Option<Seen>> {
        let sealed = match fs::read(&self.path) {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let opened = self.open(NAME, &sealed).map_err(|error| {
            let what = format!("{}: {error}", self.path.display());
            io::Error::new(io::ErrorKind::InvalidData, what)
        })?;
        let (epoch, plain) = opened;
        Ok(Element::from_bytes(&plain).map(|element| (epoch, element)))
    }

    /// Notes a change, so that it is there after a loss of power.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn write(&self, seen: Seen) -> io::Result<()> {
        self.prepare(seen)?.note()
    }

    /// Does all of it that needs room on the disk.
    ///
    /// # Errors
    ///
    /// The system's: the mark is as it was.
    pub fn prepare(&self, (epoch, element): Seen) -> io::Result<Prepared> {
        let plain = SecretBytes::from(element.to_bytes().as_slice());
        let sealed = self.key.seal(NAME, epoch, plain).map_err(io::Error::other)?;
        let new = self.path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&sealed)?;
        file.sync_all()?;
        Ok(Prepared { new, path: self.path.clone() })
    }
}

/// A change that is as good as noted.
#[derive(Debug)]
pub struct Prepared {
    new: PathBuf,
    path: PathBuf,
}

impl Prepared {
    /// Puts it in the place of the change that was noted before.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn note(self) -> io::Result<()> {
        fs::rename(&self.new, &self.path)?;
        match self.path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}
