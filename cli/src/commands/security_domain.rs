//! `strongroom security-domain`: who can restore a partition's backups on a bare machine.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use strongroom_protocol::v1::{
    CreateSecurityDomain, Quorum, RenewSecurityDomain, Role, ShowSecurityDomain, request::Op,
};

use crate::args::Global;
use crate::commands::write_file;
use crate::failure::Failure;
use crate::output::{Output, Page, Report};
use crate::quorum_file::{self, QuorumFile};
use crate::session::{Session, answer};
use zeroize::Zeroizing;

const CREATE: &str = "\
Make the partition's security domain (as its crypto officer): a key for its backups, split among holders, each share \
encrypted to its holder's RSA key. A quorum of them and a backup rebuild the partition on a bare machine.

It is made once, so that nobody can put own keys in the place of the holders'. Do it at the start, before the first key.

  strongroom security-domain create --holder a.pem --holder b.pem --holder c.pem --quorum 2 --out tls.domain";

const RENEW: &str = "\
Put another security domain in the place of the partition's: other holders, other keys, or another quorum. It takes the \
crypto officer and a quorum of the present holders, who bring their shares or their keys. What is backed up from now on is \
for the new holders only.

  strongroom security-domain renew --share a.share --share b.share \\
      --holder a.pem --holder b.pem --holder dora.pem --quorum 2 --out tls.domain.2

Backups that were made before stay as they are: the old holders' shares open them. Destroy them when there are new ones.";

/// `strongroom security-domain`.
#[derive(Debug, Subcommand)]
pub enum SecurityDomain {
    /// Make it, once
    #[command(long_about = CREATE)]
    Create(Create),
    /// Give it to other holders, with a quorum of the present ones
    #[command(long_about = RENEW)]
    Renew(Renew),
    /// Show its holders, or write its file again
    Show(Show),
}

/// The holders of a new domain.
#[derive(Debug, Args)]
struct Holders {
    /// A holder: a PEM file with an RSA public key or a certificate; one for each
    #[arg(long, value_name = "FILE", required = true)]
    holder: Vec<PathBuf>,
    /// How many holders are needed
    #[arg(long, value_name = "NUMBER")]
    quorum: u32,
    /// Write the encrypted shares to this file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// `strongroom security-domain create`.
#[derive(Debug, Args)]
pub struct Create {
    #[command(flatten)]
    holders: Holders,
}

/// `strongroom security-domain renew`.
#[derive(Debug, Args)]
pub struct Renew {
    #[command(flatten)]
    holders: Holders,
    /// A present holder's decrypted share, 33 bytes; may be repeated
    #[arg(long, value_name = "FILE")]
    share: Vec<PathBuf>,
    /// A present holder's RSA private key (PEM); may be repeated
    #[arg(long, value_name = "FILE")]
    holder_key: Vec<PathBuf>,
}

/// `strongroom security-domain show`.
#[derive(Debug, Args)]
pub struct Show {
    /// Write the encrypted shares to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Serialize)]
struct View {
    partition: String,
    id: String,
    quorum: u32,
    /// SHA-256 of each public key.
    holders: Vec<String>,
    file: Option<PathBuf>,
}

impl Report for View {
    fn text(&self, page: &mut Page) {
        let (needed, count) = (self.quorum, self.holders.len());
        page.line(format!("Security domain of partition {:?}: {needed} of {count} holders.", self.partition));
        page.fields([("  id", self.id.as_str().into())]);
        for (number, holder) in (1..).zip(&self.holders) {
            page.line(format!("  holder {number}  SHA256 {holder}"));
        }
        if let Some(file) = &self.file {
            page.line(format!(
                "Wrote {}: give each holder a copy. It is in every backup, too.",
                file.display()
            ));
        }
    }
}

impl View {
    fn of(session: &Session, quorum: &Quorum, file: Option<PathBuf>) -> Self {
        let read = QuorumFile::of(quorum);
        View {
            partition: session.partition().label.clone(),
            id: read.id,
            quorum: read.quorum,
            holders: read.holders.into_iter().map(|holder| holder.fingerprint).collect(),
            file,
        }
    }
}

impl Holders {
    /// The holders' public keys; the file for their shares is not there yet.
    fn keys(&self) -> Result<Vec<Vec<u8>>, Failure> {
        if self.out.exists() {
            let exists = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
            return Err(Failure::file("write", &self.out, &exists));
        }
        self.holder.iter().map(|path| quorum_file::holder_key(path)).collect()
    }
}

impl SecurityDomain {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// The daemon's refusal; or if a file cannot be read or written.
    pub fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        let mut session = Session::open(global, output, Role::CryptoOfficer)?;
        let (quorum, file, force): (Quorum, _, _) = match self {
            SecurityDomain::Create(Create { holders }) => {
                let (keys, needed) = (holders.keys()?, holders.quorum);
                let op = || Op::CreateSecurityDomain(CreateSecurityDomain { holders: keys.clone(), needed });
                (answer!(session.call(Role::CryptoOfficer, op), Quorum)?, Some(holders.out), false)
            }
            SecurityDomain::Renew(Renew { holders, share, holder_key }) => {
                let (keys, needed) = (holders.keys()?, holders.quorum);
                let show = || Op::ShowSecurityDomain(ShowSecurityDomain {});
                let present = answer!(session.call(Role::CryptoOfficer, show), Quorum)?;
                let shares = Zeroizing::new(quorum_file::shares(Some(&present), &share, &holder_key)?);
                let op = || {
                    let (shares, holders) = (shares.to_vec(), keys.clone());
                    Op::RenewSecurityDomain(RenewSecurityDomain { shares, holders, needed })
                };
                (answer!(session.call(Role::CryptoOfficer, op), Quorum)?, Some(holders.out), false)
            }
            SecurityDomain::Show(show) => {
                let op = || Op::ShowSecurityDomain(ShowSecurityDomain {});
                (answer!(session.call(Role::CryptoOfficer, op), Quorum)?, show.out, show.force)
            }
        };
        if let Some(file) = &file {
            write_file(file, &quorum_file::text(&quorum)?, force).map_err(|failure| {
                failure.with_remedy("'strongroom security-domain show --out FILE' writes it again")
            })?;
        }
        output.print(&View::of(&session, &quorum, file))
    }
}
