//! `strongroom backup restore` and `verify`.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use strongroom_protocol::v1::{
    BackupHead, BeginRestore, FinishRestore, RestoreChunk, Role, request::Op, response,
};

use super::{open, read_head};
use crate::args::Global;
use crate::commands::confirm;
use crate::failure::{Exit, Failure};
use crate::output::{Output, Page, Report};
use crate::quorum_file;
use crate::session::{self, Session, answer};

pub(super) const ABOUT: &str = "\
Restore a backup: a partition to where none of its label is, or a key into a partition that is there. Nothing is \
usable before the whole file was read and found sound; then everything is, at once.

On the node that made the backup:

  strongroom backup restore tls.backup
  strongroom backup restore tls.backup --label tls-of-monday     beside the present one
  strongroom backup restore tls.backup --replace                 in its place, which destroys it
  strongroom backup restore web.backup --partition tls           a key

On a bare machine, after the loss of every node, with a quorum of the holders of its security domain:

  strongroom backup restore tls.backup --holder-key alice.key --holder-key bob.key
  strongroom backup restore tls.backup --share alice.share --share bob.share

See 'strongroom share' for holders who are elsewhere. Users and their passwords are restored, too.";

/// The shares of a security domain.
#[derive(Debug, Args)]
pub struct Shares {
    /// The file of the security domain, if the one in the backup is not to be relied on
    #[arg(long, value_name = "FILE")]
    domain: Option<PathBuf>,
    /// The RSA private key (PEM) of a holder; may be repeated
    #[arg(long, value_name = "FILE")]
    holder_key: Vec<PathBuf>,
    /// A decrypted share, 33 bytes; may be repeated
    #[arg(long, value_name = "FILE")]
    share: Vec<PathBuf>,
}

/// `strongroom backup restore`.
#[derive(Debug, Args)]
pub struct Restore {
    /// The backup
    file: PathBuf,
    #[command(flatten)]
    shares: Shares,
    /// The restored partition's label, if not the old one
    #[arg(long, value_name = "LABEL")]
    label: Option<String>,
    /// Destroy the partition of this label that is there, and take its place
    #[arg(long)]
    replace: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// `strongroom backup verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// The backup
    file: PathBuf,
    #[command(flatten)]
    shares: Shares,
}

#[derive(Debug, Serialize)]
struct Restored {
    /// `null`: it was only verified.
    partition: Option<String>,
    number: u32,
    objects: u64,
    /// What is not as it was in the backup.
    left_out: Vec<String>,
    #[serde(skip)]
    sentence: String,
}

impl Report for Restored {
    fn text(&self, page: &mut Page) {
        page.line(&self.sentence);
        self.left_out.iter().for_each(|what| page.line(format!("Not as it was: {what}.")));
    }
}

impl Shares {
    fn read(&self, head: &BackupHead) -> Result<Vec<Vec<u8>>, Failure> {
        let given = self.domain.as_ref().map(|path| quorum_file::read(path)).transpose()?;
        if let (Some(given), Some(domain)) = (&given, &head.domain)
            && given != domain
        {
            let message = "the backup's security domain is not the one in the file: the backup is of another time or \
                           partition, or was changed";
            return Err(Failure::new(Exit::Failed, "backup_wrong", message));
        }
        quorum_file::shares(head.domain.as_ref().or(given.as_ref()), &self.share, &self.holder_key)
    }
}

impl Restore {
    pub(super) fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        let mut file = open(&self.file)?;
        let (head, _) = read_head(&mut file, &self.file)?;
        let label = self.label.clone().unwrap_or_else(|| head.label.clone());
        if self.replace {
            confirm(self.yes, &format!("Destroy partition {label:?} and put the backup in its place?"))?;
        }
        transfer(global, output, &self.file, &self.shares, |head, shares| BeginRestore {
            head,
            shares,
            label: self.label.clone().unwrap_or_default(),
            replace: self.replace,
            only_verify: false,
        })
    }
}

impl Verify {
    pub(super) fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        transfer(global, output, &self.file, &self.shares, |head, shares| BeginRestore {
            head,
            shares,
            only_verify: true,
            ..BeginRestore::default()
        })
    }
}

fn transfer(
    global: &Global,
    output: Output,
    path: &Path,
    shares: &Shares,
    request: impl Fn(Vec<u8>, Vec<Vec<u8>>) -> BeginRestore,
) -> Result<(), Failure> {
    let mut file = open(path)?;
    let (head, bytes) = read_head(&mut file, path)?;
    let shares = zeroize::Zeroizing::new(shares.read(&head)?);
    let verifies = request(Vec::new(), Vec::new()).only_verify;
    // A key goes into a partition, as one of its users.
    let into = match head.key.is_empty() || verifies {
        true => None,
        false => Some(Session::open(global, output, Role::CryptoOfficer)?),
    };
    let (number, mut connection) = match into {
        Some(session) => session.into_connection(),
        None => (0, session::connect(global)?),
    };
    session::be_patient(&mut connection)?;
    let begin = request(bytes, shares.to_vec());
    answer!(connection.call(number, Op::BeginRestore(begin)), RestoreBegun)?;
    let mut piece = vec![0; 256 * 1024];
    loop {
        let read = file.read(&mut piece).map_err(|e| Failure::file("read", path, &e))?;
        let Some(data) = piece.get(..read).filter(|data| !data.is_empty()) else { break };
        answer!(connection.call(0, Op::RestoreChunk(RestoreChunk { data: data.to_vec() })), Done)?;
    }
    let report = match connection.call(0, Op::FinishRestore(FinishRestore {}))? {
        response::Result::Partition(partition) => {
            let what = match head.key.is_empty() {
                true => format!(
                    "Restored partition {:?} (number {}) with {} objects.",
                    partition.label, partition.number, partition.objects
                ),
                false => format!("Restored key {:?} into partition {:?}.", head.key, partition.label),
            };
            Restored {
                partition: Some(partition.label),
                number: partition.number,
                objects: partition.objects,
                left_out: partition.left_out,
                sentence: what,
            }
        }
        response::Result::Done(_) => {
            let sentence = format!("{} is whole and sound, and can be restored here.", path.display());
            Restored { partition: None, number: 0, objects: 0, left_out: Vec::new(), sentence }
        }
        _ => return Err(Failure::unexpected_answer()),
    };
    output.print(&report)
}
