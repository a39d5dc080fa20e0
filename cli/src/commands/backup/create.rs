//! `strongroom backup create`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use strongroom_protocol::v1::{BackupHead, BeginBackup, ReadBackup, Role, request::Op};

use super::{ENDING, open, read_head};
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
    /// Then remove the oldest backups of this partition (with --key: of this key) in the directory, and leave so many
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
            (Some(directory), Some(keep)) => {
                let (head, _) = read_head(&mut open(&path)?, &path)?;
                retain(directory, &self.stem(&partition.label), &head, keep as usize)?
            }
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
        Ok(directory.join(format!("{}-{time}{ENDING}", self.stem(label))))
    }

    /// What the names of backups like this one begin with.
    fn stem(&self, label: &str) -> String {
        let key = self.key.as_ref().map(|key| format!("-key-{}", safe(key))).unwrap_or_default();
        safe(label) + &key
    }
}

/// Removes the oldest backups of what `like` is a backup of, until `keep` are left. What has another name stays, and
/// what is a backup of something else: names of partitions and keys may look alike in names of files.
fn retain(directory: &Path, stem: &str, like: &BackupHead, keep: usize) -> Result<Vec<PathBuf>, Failure> {
    let failed = |e: io::Error| Failure::file("look into", directory, &e);
    let prefix = format!("{stem}-");
    let of = |head: &BackupHead| (head.label.clone(), head.serial.clone(), head.key.clone());
    let is_like = |name: &str| {
        let path = directory.join(name);
        let head = open(&path).and_then(|mut file| read_head(&mut file, &path));
        head.is_ok_and(|(head, _)| of(&head) == of(like))
    };
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
            && is_like(&name)
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

    use super::super::MAGIC;
    use prost::Message;

    fn head(label: &str, serial: &str, key: &str) -> BackupHead {
        let (label, serial, key) = (label.into(), serial.into(), key.into());
        BackupHead { label, serial, key, ..BackupHead::default() }
    }

    #[test]
    fn the_oldest_of_the_same_partition_or_key_go() {
        let directory = tempfile::tempdir().unwrap();
        let name = |stem: &str| directory.path().join(format!("{stem}{ENDING}"));
        let make = |stem: &str, head: &BackupHead| {
            let head = head.encode_to_vec();
            let bytes = [MAGIC, &(head.len() as u32).to_le_bytes(), &head].concat();
            fs::write(name(stem), bytes).unwrap();
        };
        let (tls, web) = (head("tls", "1", ""), head("tls", "1", "web"));
        for day in [1, 3, 2] {
            make(&format!("tls-2026110{day}T000000Z"), &tls);
            make(&format!("tls-key-web-2026110{day}T000000Z"), &web);
        }
        // Of others, whose names look alike: a partition "tls-key-web", one that was made anew, and no backup at all.
        make("tls-key-web-20250101T000000Z", &head("tls-key-web", "2", ""));
        make("tls-20250101T000000Z", &head("tls", "3", ""));
        make("tls-2-20260101T000000Z", &head("tls-2", "4", ""));
        fs::write(name("tls-20240101T000000Z"), "").unwrap();
        assert_eq!(
            retain(directory.path(), "tls-key-web", &web, 1).unwrap(),
            [name("tls-key-web-20261101T000000Z"), name("tls-key-web-20261102T000000Z")]
        );
        assert_eq!(retain(directory.path(), "tls", &tls, 2).unwrap(), [name("tls-20261101T000000Z")]);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 7);
        assert_eq!(retain(directory.path(), "tls", &tls, 2).unwrap(), Vec::<PathBuf>::new());
    }
}
