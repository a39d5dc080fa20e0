//! `strongroom backup create`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use strongroom_protocol::v1::{BeginBackup, ReadBackup, Role, request::Op};

use super::ENDING;
use crate::args::Global;
use crate::commands::moment;
use crate::failure::{Exit, Failure};
use crate::output::{Output, Page, Report};
use crate::session::{Session, answer};

pub(super) const ABOUT: &str = "\
Make a backup of a partition, or of one key, while the daemon serves. It holds the partition as it is at one moment; \
signatures and changes go on.

  strongroom backup create tls --out tls.backup
  strongroom backup create tls --key web --out web.backup
  strongroom backup create tls --directory /var/backups/strongroom --keep 30     for a timer; see strongroom-backup@.timer

The file is encrypted. The node that made it can restore it, and a quorum of the holders of the partition's security \
domain ('strongroom security-domain create'). Without one it is lost with the node.";

/// `strongroom backup create`.
#[derive(Debug, Args)]
pub struct Create {
    /// The partition's label; needless when there is only one
    label: Option<String>,
    /// Write the backup to this file, which must not exist
    #[arg(long, value_name = "FILE", required_unless_present = "directory", conflicts_with = "directory")]
    out: Option<PathBuf>,
    /// Write the backup into this directory, under the partition's label and the time
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
    /// Then remove the oldest backups of this partition in the directory, and leave so many
    #[arg(long, value_name = "NUMBER", requires = "directory", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    /// Only this key, its other half and its certificates
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

#[derive(Debug, Serialize)]
struct Made {
    partition: String,
    file: PathBuf,
    bytes: u64,
    /// Older backups that were removed.
    removed: Vec<PathBuf>,
    #[serde(skip)]
    has_domain: bool,
}

impl Report for Made {
    fn text(&self, page: &mut Page) {
        page.line(format!(
            "Wrote {} ({} bytes), a backup of partition {:?}.",
            self.file.display(),
            self.bytes,
            self.partition
        ));
        for old in &self.removed {
            page.line(format!("Removed {}.", old.display()));
        }
        if !self.has_domain {
            page.line("Only this node can restore it: the partition has no security domain.");
        }
    }
}

/// A file that is put in place when it is whole.
struct NewFile {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    placed: bool,
}

impl NewFile {
    fn create(path: &Path) -> Result<Self, Failure> {
        let failed = |e: io::Error| Failure::file("write", path, &e);
        if path.exists() {
            return Err(failed(io::ErrorKind::AlreadyExists.into()));
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let temporary = path.with_file_name(name);
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&temporary).map_err(failed)?;
        Ok(NewFile { file, temporary, path: path.to_owned(), placed: false })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(|e| Failure::file("write", &self.path, &e))
    }

    /// Puts it in place, durably. A file that is there by now stays.
    fn place(mut self) -> Result<(), Failure> {
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        self.file
            .sync_all()
            .and_then(|()| fs::hard_link(&self.temporary, &self.path))
            .and_then(|()| fs::remove_file(&self.temporary))
            .and_then(|()| File::open(directory)?.sync_all())
            .map_err(|e| Failure::file("write", &self.path, &e))?;
        self.placed = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.placed {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// The label as a part of a file's name.
fn safe(label: &str) -> String {
    label.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect()
}

impl Create {
    pub(super) fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        let wanted = self.label.as_deref().or(global.partition.as_deref());
        let role = if global.login.is_some() { Role::Unspecified } else { Role::ApplianceUser };
        let mut session = Session::open_partition(global, output, wanted, role)?;
        let partition = session.partition().clone();
        let key = self.key.clone().unwrap_or_default();
        let path = self.path(&partition.label)?;
        let begin = || Op::BeginBackup(BeginBackup { key: key.clone() });
        let begun = answer!(session.call(Role::ApplianceUser, begin), BackupBegun)?;
        session.be_patient()?;
        let mut file = NewFile::create(&path)?;
        file.write(&begun.head)?;
        let mut bytes = begun.head.len() as u64;
        loop {
            let chunk = answer!(session.try_call(Op::ReadBackup(ReadBackup {})), BackupChunk)?;
            file.write(&chunk.data)?;
            bytes += chunk.data.len() as u64;
            if chunk.last {
                break;
            }
        }
        file.place()?;
        let removed = match (&self.directory, self.keep) {
            (Some(directory), Some(keep)) => retain(directory, &partition.label, keep as usize)?,
            _ => Vec::new(),
        };
        let has_domain = !partition.security_domain.is_empty();
        output.print(&Made { partition: partition.label, file: path, bytes, removed, has_domain })
    }

    fn path(&self, label: &str) -> Result<PathBuf, Failure> {
        let directory = match (&self.out, &self.directory) {
            (Some(out), _) => return Ok(out.clone()),
            (None, Some(directory)) => directory,
            (None, None) => return Err(Failure::usage("--out FILE or --directory DIRECTORY")),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|e| Failure::file("make the directory", directory, &e))?;
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let time = moment(since.as_secs()).replace([':', '-'], "");
        let key = self.key.as_ref().map(|key| format!("-key-{}", safe(key))).unwrap_or_default();
        Ok(directory.join(format!("{}{key}-{time}{ENDING}", safe(label))))
    }
}

/// Removes the oldest backups of a partition, until `keep` are left. What has another name stays.
fn retain(directory: &Path, label: &str, keep: usize) -> Result<Vec<PathBuf>, Failure> {
    let failed = |e: io::Error| Failure::file("look into", directory, &e);
    let prefix = format!("{}-", safe(label));
    let is_ours = |name: &str| {
        let time = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(ENDING));
        // 20261123T061500Z
        time.is_some_and(|time| {
            time.len() == 16 && time.ends_with('Z') && time.bytes().filter(u8::is_ascii_digit).count() == 14
        })
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        if let Ok(name) = entry.map_err(failed)?.file_name().into_string()
            && is_ours(&name)
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    let old = names.len().saturating_sub(keep);
    let mut removed = Vec::new();
    for name in names.into_iter().take(old) {
        let path = directory.join(name);
        fs::remove_file(&path).map_err(|e| {
            Failure::new(
                Exit::Failed,
                "file",
                format!("the backup is made, but {} stays: {e}", path.display()),
            )
        })?;
        removed.push(path);
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_the_same_partition_go() {
        let directory = tempfile::tempdir().unwrap();
        let make = |name: &str| fs::write(directory.path().join(name), "").unwrap();
        for name in
            ["tls-20261101T000000Z", "tls-20261103T000000Z", "tls-20261102T000000Z", "tls-2-20260101T000000Z"]
        {
            make(&format!("{name}{ENDING}"));
        }
        make("tls-notes.txt");
        make("tls-key-web-20250101T000000Z.strongroom-backup");
        let removed = retain(directory.path(), "tls", 2).unwrap();
        assert_eq!(removed, [directory.path().join(format!("tls-20261101T000000Z{ENDING}"))]);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 5);
        assert_eq!(retain(directory.path(), "tls", 2).unwrap(), Vec::<PathBuf>::new());
    }
}
