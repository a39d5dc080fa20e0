//! `strongroom backup`: backups of partitions and keys, and what is restored from them.

mod create;
mod restore;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use prost::Message;
use serde::Serialize;
use strongroom_protocol::v1::BackupHead;

use crate::args::Global;
use crate::commands::moment;
use crate::failure::{Exit, Failure};
use crate::output::{Output, Page, Report};
use crate::quorum_file::{QuorumFile, hex};

/// How a backup begins.
const MAGIC: &[u8] = b"strongroom backup\n";
/// The largest head, in bytes.
const MAX_HEAD: usize = 256 * 1024;
/// The ending of files whose names the command makes.
const ENDING: &str = ".strongroom-backup";

/// `strongroom backup`.
#[derive(Debug, Subcommand)]
pub enum Backup {
    /// Make a backup while the daemon serves (as a crypto officer or an appliance user)
    #[command(long_about = create::ABOUT)]
    Create(create::Create),
    /// Show what a backup says of itself; needs no strongroomd
    Show(Show),
    /// Read a backup to its end and see whether it could be restored here (as root)
    Verify(restore::Verify),
    /// Restore a backup (as root)
    #[command(long_about = restore::ABOUT)]
    Restore(restore::Restore),
}

/// `strongroom backup show`.
#[derive(Debug, Args)]
pub struct Show {
    /// The backup
    file: PathBuf,
}

#[derive(Debug, Serialize)]
struct View {
    partition: String,
    serial: String,
    id: String,
    /// RFC 3339.
    created: String,
    /// `null`: the whole partition.
    key: Option<String>,
    /// Holders that are needed of the security domain; `null`: there was none.
    quorum: Option<u32>,
    /// SHA-256 of the holders' public keys.
    holders: Vec<String>,
}

impl Report for View {
    fn text(&self, page: &mut Page) {
        let what = self.key.as_ref().map_or("the whole partition".to_owned(), |key| format!("key {key:?}"));
        let who = match self.quorum {
            Some(quorum) => {
                format!(
                    "the node that made it, or {quorum} of {} holders of its security domain",
                    self.holders.len()
                )
            }
            None => "only the node that made it: the partition had no security domain".to_owned(),
        };
        page.fields([
            ("partition", self.partition.as_str().into()),
            ("serial", self.serial.as_str().into()),
            ("holds", what.into()),
            ("created", self.created.as_str().into()),
            ("id", self.id.as_str().into()),
            ("opened by", who.into()),
        ]);
        for (number, holder) in (1..).zip(&self.holders) {
            page.line(format!("holder {number}   SHA256 {holder}"));
        }
        page.line("\nThis is what the file says. 'strongroom backup verify' looks whether it is true.");
    }
}

impl Backup {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Why it failed.
    pub fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        match self {
            Backup::Create(create) => create.run(global, output),
            Backup::Show(show) => {
                let (head, _) = read_head(&mut open(&show.file)?, &show.file)?;
                output.print(&View::of(head))
            }
            Backup::Verify(verify) => verify.run(global, output),
            Backup::Restore(restore) => restore.run(global, output),
        }
    }
}

impl View {
    fn of(head: BackupHead) -> Self {
        let domain = head.domain.as_ref().map(QuorumFile::of);
        View {
            partition: head.label,
            serial: head.serial,
            id: hex(&head.id),
            created: moment(head.created),
            key: Some(head.key).filter(|key| !key.is_empty()),
            quorum: domain.as_ref().map(|domain| domain.quorum),
            holders: domain.into_iter().flat_map(|d| d.holders).map(|holder| holder.fingerprint).collect(),
        }
    }
}

fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|e| Failure::file("read", path, &e))
}

/// Reads the head of a backup; second: the file's bytes up to its end.
fn read_head(file: &mut File, path: &Path) -> Result<(BackupHead, Vec<u8>), Failure> {
    let wrong = || {
        let message = format!("{} is no backup of strongroom's: its beginning is wrong", path.display());
        Failure::new(Exit::Failed, "backup_wrong", message)
    };
    let mut bytes = vec![0; MAGIC.len() + 4];
    file.read_exact(&mut bytes).map_err(|_| wrong())?;
    let length =
        bytes.strip_prefix(MAGIC).and_then(|length| <[u8; 4]>::try_from(length).ok()).ok_or_else(wrong)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_HEAD {
        return Err(wrong());
    }
    let mut head = vec![0; length];
    file.read_exact(&mut head).map_err(|_| wrong())?;
    bytes.extend_from_slice(&head);
    Ok((BackupHead::decode(head.as_slice()).map_err(|_| wrong())?, bytes))
}
