//! The folder that holds all files of one run.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::process::geteuid;

use crate::process;

/// A temporary folder, removed with all that is in it when dropped. Other users can pass through it but
/// not list it: the web servers' workers run as another user and need their files and the socket.
#[derive(Debug)]
pub struct RunFolder {
    folder: Option<tempfile::TempDir>,
    path: PathBuf,
}

impl RunFolder {
    /// Makes the folder in the system's place for temporary files.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub fn new() -> Result<Self> {
        Self::within(&std::env::temp_dir())
    }

    /// Makes it in memory, where the system has a place for that: no disk disturbs a measurement.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub fn in_memory() -> Result<Self> {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { Self::within(memory) } else { Self::new() }
    }

    fn within(place: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("strongroom-")
            .tempdir_in(place)
            .context("cannot make a folder for temporary files")?;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o711))?;
        process::remove_on_signal(folder.path());
        let path = folder.path().to_path_buf();
        Ok(RunFolder { folder: Some(folder), path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder in it, made if it is not there.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        fs::set_permissions(&path, Permissions::from_mode(0o711))?;
        Ok(path)
    }

    /// Does not remove the folder when dropped.
    pub fn keep(&mut self) {
        if let Some(folder) = self.folder.take() {
            process::keep_on_signal(&self.path);
            let _ = folder.keep();
        }
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        if self.folder.is_some() {
            process::keep_on_signal(&self.path);
        }
    }
}

/// Whether this program runs as root: then web servers have workers of the user `www-data`, as installed.
pub fn is_root() -> bool {
    geteuid().is_root()
}
