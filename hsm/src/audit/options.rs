//! What the audit log is told at the daemon's start; everything has a default.

use std::path::PathBuf;

/// The audit log's configuration.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where its files are; `None`: the folder `audit` in the state directory.
    pub directory: Option<PathBuf>,
    /// A file that has reached this size, in bytes, is followed by another; and each day has its own.
    pub rotate_bytes: u64,
    /// Files are deleted after so many days; `None`: never.
    pub keep_days: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Options { directory: None, rotate_bytes: 64 << 20, keep_days: None }
    }
}
