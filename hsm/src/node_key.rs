//! The node's key, under which the partitions' keys are sealed, and the first start of a state directory.
//!
//! The key is the systemd credential `strongroom-node-key` if the service manager gives one, otherwise the
//! file `node.key` in the state directory. Key file and store are made under other names and put in place by
//! renaming, the store first: whatever a first start leaves behind when it is interrupted, the next one can
//! tell whether something was lost.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::memory::SecretBytes;
use crate::seal::{KEY_LENGTH, SealingKey};

/// The name of the credential.
const CREDENTIAL: &str = "strongroom-node-key";

/// Why there is no node key.
#[derive(Debug, thiserror::Error)]
pub enum NodeKeyError {
    /// A store, and nothing to open it with.
    #[error("the store {} is there, but not the node key {} that opens it: restore the key from a backup", store.display(), key.display())]
    Missing {
        /// The store.
        store: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// A key, and nothing that it opens.
    #[error("the node key {} is there, but not the store {}: restore the store from a backup (or, to begin anew and give up all keys, remove the node key)", key.display(), store.display())]
    StoreMissing {
        /// The store.
        store: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// Not 32 bytes.
    #[error("the node key {} has {length} bytes instead of {KEY_LENGTH}: restore it from a backup", path.display())]
    Length {
        /// The key's file or credential.
        path: PathBuf,
        /// Its length, in bytes.
        length: u64,
    },
    /// Others can read it.
    #[error("the node key {} can be read by other users (mode {mode:o}): 'chmod 600' it, and consider the keys in this store known to them", path.display())]
    Exposed {
        /// The key's file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Reading or writing failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The files of a state directory.
#[derive(Debug, Clone)]
pub struct Files {
    directory: PathBuf,
    credential: Option<PathBuf>,
}

/// What a state directory was found to be.
#[derive(Debug)]
pub enum Found {
    /// In use: a store and its key.
    Used(SealingKey),
    /// New: a key that is not in place yet. Make a store at [`Files::new_store`], then call [`Files::finish`].
    New(SealingKey),
}

impl Files {
    /// Of this state directory; `credentials` is systemd's $CREDENTIALS_DIRECTORY.
    pub fn of(directory: &Path, credentials: Option<&Path>) -> Self {
        let credential = credentials.map(|c| c.join(CREDENTIAL)).filter(|c| c.exists());
        Self { directory: directory.to_owned(), credential }
    }

    /// The store.
    pub fn store(&self) -> PathBuf {
        self.directory.join("store.redb")
    }

    /// The store of a first start that is not finished.
    pub fn new_store(&self) -> PathBuf {
        self.directory.join("store.redb.new")
    }

    fn key(&self) -> PathBuf {
        self.directory.join("node.key")
    }

    fn new_key(&self) -> PathBuf {
        self.directory.join("node.key.new")
    }

    /// Reads the node key, or makes one if nothing was ever here.
    ///
    /// # Errors
    ///
    /// If something is missing that has to be there, or cannot be trusted.
    pub fn find(&self) -> Result<Found, NodeKeyError> {
        let used = exists(&self.store())?;
        if let Some(credential) = &self.credential {
            let key = read_key(credential, false)?;
            return Ok(if used { Found::Used(key) } else { self.prepare(key, false)? });
        }
        match (used, exists(&self.key())?) {
            (true, true) => Ok(Found::Used(read_key(&self.key(), true)?)),
            (true, false) if exists(&self.new_key())? => {
                // The first start ended between its two renames.
                self.finish()?;
                Ok(Found::Used(read_key(&self.key(), true)?))
            }
            (true, false) => Err(NodeKeyError::Missing { store: self.store(), key: self.key() }),
            (false, true) => Err(NodeKeyError::StoreMissing { store: self.store(), key: self.key() }),
            (false, false) => self.prepare(SealingKey::generate(), true),
        }
    }

    fn prepare(&self, key: SealingKey, write: bool) -> Result<Found, NodeKeyError> {
        for leftover in [self.new_store(), self.new_key()] {
            match fs::remove_file(&leftover) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(&leftover)(e)),
                _ => {}
            }
        }
        if write {
            let path = self.new_key();
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
                .map_err(failed(&path))?;
            file.write_all(key.bytes()).and_then(|()| file.sync_all()).map_err(failed(&path))?;
        }
        Ok(Found::New(key))
    }

    /// Puts the new store and the new key in place, durably.
    ///
    /// # Errors
    ///
    /// [`NodeKeyError::Io`].
    pub fn finish(&self) -> Result<(), NodeKeyError> {
        for (from, to) in [(self.new_store(), self.store()), (self.new_key(), self.key())] {
            if exists(&from)? {
                fs::rename(&from, &to).map_err(failed(&to))?;
                File::open(&self.directory).and_then(|d| d.sync_all()).map_err(failed(&self.directory))?;
            }
        }
        Ok(())
    }
}

fn read_key(path: &Path, private: bool) -> Result<SealingKey, NodeKeyError> {
    let mut file = File::open(path).map_err(failed(path))?;
    let metadata = file.metadata().map_err(failed(path))?;
    let mode = metadata.permissions().mode() & 0o777;
    if private && mode & 0o077 != 0 {
        return Err(NodeKeyError::Exposed { path: path.to_owned(), mode });
    }
    let length = metadata.len();
    let wrong = || NodeKeyError::Length { path: path.to_owned(), length };
    if length != KEY_LENGTH as u64 {
        return Err(wrong());
    }
    let mut bytes = SecretBytes::zeroed(KEY_LENGTH);
    file.read_exact(&mut bytes).map_err(failed(path))?;
    SealingKey::new(bytes).ok_or_else(wrong)
}

fn exists(path: &Path) -> Result<bool, NodeKeyError> {
    path.try_exists().map_err(failed(path))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> NodeKeyError {
    let path = path.to_owned();
    move |source| NodeKeyError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_start(files: &Files) -> Vec<u8> {
        let Found::New(key) = files.find().unwrap() else { panic!("not new") };
        fs::write(files.new_store(), b"store").unwrap();
        files.finish().unwrap();
        key.bytes().to_vec()
    }

    #[test]
    fn the_key_made_at_the_first_start_is_found_at_the_second() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::of(directory.path(), None);
        let made = first_start(&files);
        let Found::Used(found) = files.find().unwrap() else { panic!("new") };
        assert_eq!(found.bytes(), made);
        assert_eq!(fs::metadata(files.key()).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_first_start_may_end_anywhere() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::of(directory.path(), None);
        assert!(matches!(files.find().unwrap(), Found::New(_)));
        assert!(matches!(files.find().unwrap(), Found::New(_)), "before the store was made");
        fs::write(files.new_store(), b"store").unwrap();
        let Found::New(key) = files.find().unwrap() else { panic!("before the first rename") };
        fs::write(files.store(), b"store").unwrap();
        let Found::Used(found) = files.find().unwrap() else { panic!("between the renames") };
        assert_eq!(found.bytes(), key.bytes());
    }

    #[test]
    fn what_was_lost_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::of(directory.path(), None);
        first_start(&files);
        fs::set_permissions(files.key(), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(files.find().unwrap_err(), NodeKeyError::Exposed { .. }));
        fs::set_permissions(files.key(), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(files.key(), b"short").unwrap();
        assert!(matches!(files.find().unwrap_err(), NodeKeyError::Length { .. }));
        fs::rename(files.store(), directory.path().join("away")).unwrap();
        assert!(matches!(files.find().unwrap_err(), NodeKeyError::StoreMissing { .. }));
        fs::remove_file(files.key()).unwrap();
        fs::rename(directory.path().join("away"), files.store()).unwrap();
        assert!(matches!(files.find().unwrap_err(), NodeKeyError::Missing { .. }));
    }

    #[test]
    fn a_credential_goes_before_the_file() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(CREDENTIAL), [7; KEY_LENGTH]).unwrap();
        let files = Files::of(directory.path(), Some(directory.path()));
        assert_eq!(first_start(&files), [7; KEY_LENGTH]);
        assert!(!files.key().exists());
        assert!(matches!(files.find().unwrap(), Found::Used(_)));
    }
}
