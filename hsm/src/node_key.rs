//! The node's key, under which the partitions' keys are sealed, and the first start of a state directory.
//!
//! The key is wrapped in the file `node.seal` if the owner has chosen so (see [`means`]); then the node starts
//! sealed. Otherwise it is the systemd credential `strongroom-node-key` if the service manager gives one, or
//! the file `node.key` in the state directory. Key file and store are made under other names and put in place by
//! renaming, the store first: whatever a first start leaves behind when it is interrupted, the next one can
//! tell whether something was lost.

pub mod means;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use prost::Message;

use self::means::SealRecord;
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
    /// Not what this release writes.
    #[error("{} is damaged: restore it from a copy; without it the store cannot be opened", path.display())]
    Seal {
        /// The file `node.seal`.
        path: PathBuf,
    },
    /// Of another node.
    #[error("the credential {} is not this node's key, and would go before it: take it out of the unit, restart strongroomd, and try again", path.display())]
    Other {
        /// The credential.
        path: PathBuf,
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

/// What unseals a node, and what lies beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Means {
    /// "file", "credential", "passphrase" or "shares".
    pub name: &'static str,
    /// What opens the store besides, of the same words.
    pub also: Vec<&'static str>,
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
    /// In use, and sealed: what unseals it.
    Sealed(Box<SealRecord>),
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

    /// Where a node of a cluster notes what it has seen.
    pub fn mark(&self) -> PathBuf {
        self.directory.join("cluster.mark")
    }

    fn key(&self) -> PathBuf {
        self.directory.join("node.key")
    }

    fn new_key(&self) -> PathBuf {
        self.directory.join("node.key.new")
    }

    fn seal(&self) -> PathBuf {
        self.directory.join("node.seal")
    }

    fn zeroizing(&self) -> PathBuf {
        self.directory.join("zeroizing")
    }

    /// What unseals, as far as it can be read.
    pub fn means(&self) -> Means {
        let seal = self.read_seal().ok().flatten().map(|seal| seal.name());
        let credential = self.credential.is_some().then_some("credential");
        let file = self.key().exists().then_some("file");
        let mut all = [seal, credential, file].into_iter().flatten();
        Means { name: all.next().unwrap_or("file"), also: all.collect() }
    }

    /// Who holds the shares that unseal, if shares do.
    pub fn quorum(&self) -> Option<strongroom_protocol::v1::Quorum> {
        self.read_seal().ok().flatten().and_then(|seal| seal.quorum().cloned())
    }

    fn read_seal(&self) -> Result<Option<SealRecord>, NodeKeyError> {
        let path = self.seal();
        let mut bytes = Vec::new();
        match File::open(&path) {
            Ok(file) => file.take(means::MAX_FILE).read_to_end(&mut bytes).map_err(failed(&path))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(&path)(e)),
        };
        SealRecord::read(&bytes).map(Some).ok_or(NodeKeyError::Seal { path })
    }

    /// Reads the node key, or makes one if nothing was ever here.
    ///
    /// # Errors
    ///
    /// If something is missing that has to be there, or cannot be trusted.
    pub fn find(&self) -> Result<Found, NodeKeyError> {
        if exists(&self.zeroizing())? {
            self.destroy().map_err(failed(&self.zeroizing()))?;
        }
        let used = exists(&self.store())?;
        match self.read_seal()? {
            Some(seal) if used => return Ok(Found::Sealed(Box::new(seal))),
            Some(_) => return Err(NodeKeyError::StoreMissing { store: self.store(), key: self.seal() }),
            None => {}
        }
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
            remove(&leftover)?;
        }
        if write {
            write_new(&self.new_key(), key.bytes())?;
        }
        Ok(Found::New(key))
    }

    /// Makes `record` what unseals the node from now on. When this returns, it does, and no key file lies beside
    /// it; when it is interrupted, the old means or the new one does.
    ///
    /// # Errors
    ///
    /// [`NodeKeyError::Io`].
    pub fn seal_with(&self, record: &SealRecord) -> Result<(), NodeKeyError> {
        let new = self.directory.join("node.seal.new");
        remove(&new)?;
        write_new(&new, &record.encode_to_vec())?;
        let seal = self.seal();
        let old = open_to_wipe(&seal).map_err(failed(&seal))?;
        fs::rename(&new, &seal).map_err(failed(&seal))?;
        self.sync()?;
        // Not before the new one is there for good.
        old.map_or(Ok(()), wipe).map_err(failed(&seal))?;
        self.remove_key_files()
    }

    /// Writes the node key into its file, to unseal the node from now on, as [`Files::seal_with`]. If the service manager
    /// gives it as a credential, that does.
    ///
    /// # Errors
    ///
    /// [`NodeKeyError::Io`], and [`NodeKeyError::Other`] if the credential is not this key.
    pub fn seal_with_file(&self, key: &SealingKey) -> Result<(), NodeKeyError> {
        match &self.credential {
            Some(credential) => {
                if read_key(credential, false)?.bytes() != key.bytes() {
                    return Err(NodeKeyError::Other { path: credential.clone() });
                }
            }
            None => {
                remove(&self.new_key())?;
                write_new(&self.new_key(), key.bytes())?;
                fs::rename(self.new_key(), self.key()).map_err(failed(&self.key()))?;
                self.sync()?;
            }
        }
        let seal = self.seal();
        let old = open_to_wipe(&seal).map_err(failed(&seal))?;
        remove(&seal)?;
        self.sync()?;
        old.map_or(Ok(()), wipe).map_err(failed(&seal))
    }

    /// Overwrites and removes a key file that a change of means has left. Only for who has just opened the node by
    /// the means that took its place.
    ///
    /// # Errors
    ///
    /// [`NodeKeyError::Io`].
    pub fn remove_key_files(&self) -> Result<(), NodeKeyError> {
        for path in [self.key(), self.new_key()] {
            overwrite(&path).map_err(failed(&path))?;
        }
        self.sync()
    }

    /// Overwrites and removes the node's key, in whatever form, and the store. What is interrupted is ended by the
    /// next start. (A credential is not ours: it opens nothing any more.)
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn destroy(&self) -> io::Result<()> {
        let sync = || File::open(&self.directory)?.sync_all();
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.zeroizing())?
            .sync_all()?;
        sync()?;
        // The keys first: without them the store is noise.
        let seal_new = self.directory.join("node.seal.new");
        let keys = [self.key(), self.new_key(), self.seal(), seal_new];
        for path in keys.into_iter().chain([self.store(), self.new_store(), self.mark()]) {
            overwrite(&path)?;
            sync()?;
        }
        fs::remove_file(self.zeroizing())?;
        sync()
    }

    fn sync(&self) -> Result<(), NodeKeyError> {
        File::open(&self.directory).and_then(|d| d.sync_all()).map_err(failed(&self.directory))
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
                self.sync()?;
            }
        }
        Ok(())
    }
}

/// Writes a new private file, durably.
fn write_new(path: &Path, content: &[u8]) -> Result<(), NodeKeyError> {
    let open = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let write = |mut file: File| file.write_all(content).and_then(|()| file.sync_all());
    open().and_then(write).map_err(failed(path))
}

fn remove(path: &Path) -> Result<(), NodeKeyError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed(path)(e)),
        _ => Ok(()),
    }
}

/// Overwrites a file and removes it; nothing if it is not there. On flash memory and on file systems that copy on
/// write the old blocks may stay: a node key that must not is in a credential or behind a passphrase.
fn overwrite(path: &Path) -> io::Result<()> {
    let Some(file) = open_to_wipe(path)? else { return Ok(()) };
    wipe(file)?;
    fs::remove_file(path)
}

/// A file whose content is to go, whatever becomes of its name; `None` if it is not there.
fn open_to_wipe(path: &Path) -> io::Result<Option<File>> {
    match OpenOptions::new().write(true).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Overwrites a file's content.
fn wipe(mut file: File) -> io::Result<()> {
    let (mut left, zeros) = (file.metadata()?.len(), vec![0; 64 * 1024]);
    while left > 0 {
        let piece = zeros.get(..left.min(zeros.len() as u64) as usize).unwrap_or_default();
        file.write_all(piece)?;
        left -= piece.len() as u64;
    }
    file.sync_all()
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
    fn the_means_change_without_losing_the_key() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::of(directory.path(), None);
        let made = SealingKey::new(SecretBytes::from(first_start(&files).as_slice())).unwrap();
        let record = SealRecord::by_passphrase(&made, "correct horse battery").unwrap();
        files.seal_with(&record).unwrap();
        assert!(!files.key().exists() && files.means() == Means { name: "passphrase", also: Vec::new() });
        let Found::Sealed(found) = files.find().unwrap() else { panic!("not sealed") };
        assert_eq!(found.open("correct horse battery", &[]).unwrap().bytes(), made.bytes());
        // Another passphrase: of the first one's file nothing is left, under whatever name.
        let copy = directory.path().join("copy");
        fs::hard_link(files.seal(), &copy).unwrap();
        files.seal_with(&SealRecord::by_passphrase(&made, "another passphrase").unwrap()).unwrap();
        assert!(fs::read(&copy).unwrap().iter().all(|byte| *byte == 0));
        let Found::Sealed(found) = files.find().unwrap() else { panic!("not sealed") };
        assert!(found.open("correct horse battery", &[]).is_err());
        assert_eq!(found.open("another passphrase", &[]).unwrap().bytes(), made.bytes());
        fs::remove_file(&copy).unwrap();
        fs::hard_link(files.seal(), &copy).unwrap();
        files.seal_with_file(&made).unwrap();
        assert!(!files.seal().exists() && files.means() == Means { name: "file", also: Vec::new() });
        assert!(fs::read(&copy).unwrap().iter().all(|byte| *byte == 0));
        let Found::Used(found) = files.find().unwrap() else { panic!("sealed") };
        assert_eq!(found.bytes(), made.bytes());
        // Interrupted between the two steps of either change: the new means, or still the old one, opens.
        fs::write(files.seal(), record.encode_to_vec()).unwrap();
        assert!(matches!(files.find().unwrap(), Found::Sealed(_)) && files.key().exists());
        fs::write(files.seal(), b"damaged").unwrap();
        assert!(matches!(files.find().unwrap_err(), NodeKeyError::Seal { .. }));
    }

    #[test]
    fn an_interrupted_zeroize_is_ended_by_the_next_start() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::of(directory.path(), None);
        let made = first_start(&files);
        fs::write(files.zeroizing(), b"").unwrap();
        let Found::New(key) = files.find().unwrap() else { panic!("not new") };
        assert_ne!(key.bytes(), made);
        assert!(!files.store().exists() && !files.key().exists() && !files.zeroizing().exists());
    }

    #[test]
    fn a_credential_goes_before_the_file() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(CREDENTIAL), [7; KEY_LENGTH]).unwrap();
        let files = Files::of(directory.path(), Some(directory.path()));
        assert_eq!(first_start(&files), [7; KEY_LENGTH]);
        assert!(!files.key().exists());
        assert!(matches!(files.find().unwrap(), Found::Used(_)));
        // It is not ours to remove, and opens the store whatever else does.
        let key = SealingKey::new(SecretBytes::from([7; KEY_LENGTH].as_slice())).unwrap();
        files.seal_with(&SealRecord::by_passphrase(&key, "correct horse battery").unwrap()).unwrap();
        assert_eq!(files.means(), Means { name: "passphrase", also: vec!["credential"] });
        files.seal_with_file(&key).unwrap();
        assert_eq!(files.means(), Means { name: "credential", also: Vec::new() });
        let error = files.seal_with_file(&SealingKey::generate()).unwrap_err();
        assert!(matches!(error, NodeKeyError::Other { .. }) && !files.key().exists());
        fs::write(files.key(), [7; KEY_LENGTH]).unwrap();
        assert_eq!(files.means(), Means { name: "credential", also: vec!["file"] });
    }
}
