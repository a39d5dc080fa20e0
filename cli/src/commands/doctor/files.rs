//! Who may read which file.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{User, getgrouplist};

use crate::failure::{Exit, Failure};

/// The largest library that is looked into, in bytes.
const MAX_LIBRARY: u64 = 256 << 20;

/// A local user.
#[derive(Debug)]
pub(super) struct Person {
    pub(super) name: String,
    uid: u32,
    groups: Vec<u32>,
}

impl Person {
    /// The user of this name.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub(super) fn named(name: &str) -> Result<Self, Failure> {
        let unknown =
            || Failure::new(Exit::Usage, "no_such_user", format!("this machine has no user {name:?}"));
        let user = User::from_name(name).ok().flatten().ok_or_else(unknown)?;
        let c_name = std::ffi::CString::new(name).map_err(|_| unknown())?;
        let groups = getgrouplist(&c_name, user.gid).unwrap_or_else(|_| vec![user.gid]);
        let groups = groups.into_iter().map(nix::unistd::Gid::as_raw).collect();
        Ok(Self { name: name.to_owned(), uid: user.uid.as_raw(), groups })
    }

    /// The file or folder on the way to `path` that keeps this user from reading it, by owner, group and mode (not by access
    /// control lists).
    pub(super) fn kept_out_by(&self, path: &Path) -> Option<PathBuf> {
        if self.uid == 0 {
            return None;
        }
        let path = path.canonicalize().ok()?;
        let way: Vec<&Path> = path.ancestors().collect();
        way.iter().rev().find_map(|place| {
            let metadata = fs::metadata(place).ok()?;
            let wanted = if metadata.is_dir() { 1 } else { 4 };
            let shift = match (metadata.uid() == self.uid, self.groups.contains(&metadata.gid())) {
                (true, _) => 6,
                (_, true) => 3,
                _ => 0,
            };
            let permitted = metadata.permissions().mode() >> shift & wanted == wanted;
            (!permitted).then(|| place.to_path_buf())
        })
    }
}

/// The permissions of a file that users other than its owner and group may read.
pub(super) fn is_open_to_all(path: &Path) -> Option<u32> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o004 != 0).then_some(mode)
}

/// What is wrong with a file that should be a shared library with this function; `None` if nothing is.
pub(super) fn flaw_of_library(path: &Path, function: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(MAX_LIBRARY).read_to_end(&mut bytes));
    if let Err(error) = read {
        return Some(match error.kind() {
            io::ErrorKind::NotFound => "is not there".to_owned(),
            _ => format!("cannot be read: {error}"),
        });
    }
    if !bytes.starts_with(b"\x7fELF") {
        return Some("is no shared library".to_owned());
    }
    // e_machine, little-endian on both processors that are known here.
    let machine = bytes.get(18..).and_then(|rest| rest.first_chunk()).map(|two| u16::from_le_bytes(*two));
    let own = match std::env::consts::ARCH {
        "x86_64" => Some(62),
        "aarch64" => Some(183),
        _ => None,
    };
    if own.is_some() && machine != own {
        return Some("is for another type of processor".to_owned());
    }
    let name = function.as_bytes();
    let has = bytes.windows(name.len()).any(|window| window == name);
    (!has).then(|| format!("has no function {function}"))
}
