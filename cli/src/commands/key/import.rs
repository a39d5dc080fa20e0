//! `strongroom key import`: what kind of file it is, and what is said afterwards. The kinds are in file.rs and wrapped.rs.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::wrapped::Wrapped;
use super::{KeyView, NewName};
use crate::failure::Failure;
use crate::output::{Output, Page, Report};
use crate::session::Session;

pub(super) const ABOUT: &str = "\
Bring a key into the partition. There it signs, and cannot be read again.

From a file in the clear: PEM with PKCS#8 (PRIVATE KEY, or ENCRYPTED PRIVATE KEY with a passphrase), PKCS#1 (RSA PRIVATE \
KEY) or SEC1 (EC PRIVATE KEY), the same in DER, or PKCS#12 (.p12, .pfx), whose certificate and chain come with the key:

  strongroom key import web /etc/ssl/private/web.key
  strongroom cert put web /etc/ssl/certs/web.crt
  strongroom key import web site.p12

Wrapped, from another HSM or from openssl, with a key of this partition that unwraps; a .byok file of Azure's too:

  strongroom key generate kek --type rsa-3072 --usage unwrap
  strongroom key public kek --out kek.pem               what the sender wraps with
  strongroom key import web --wrapped web.wrapped --unwrapping-key kek

The key signs, and does nothing else, unless --usage says so. An RSA key that is to serve TLS 1.2 clients without \
forward secrecy, or to read encrypted mail, has to decrypt too:

  strongroom key import mail mail.key --usage sign,decrypt

The file stays. Destroy it, and its copies in backups, when the server runs with the partition's key; but keep \
one copy off this machine, if losing the partition must not mean losing the key.

A public key (PUBLIC KEY) is kept to wrap keys for its owner: --usage wrap.";

/// `strongroom key import`.
#[derive(Debug, Args)]

pub struct Import {
    #[command(flatten)]
    name: NewName,
    /// The file: PEM, DER or PKCS#12 (- for standard input)
    #[arg(required_unless_present = "wrapped")]
    file: Option<PathBuf>,
    /// The passphrase of an encrypted key or PKCS#12 file is the first line of this file
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    wrapped: Wrapped,
}

/// What came in.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Imported {
    pub key: KeyView,
    #[serde(skip)]
    pub partition: String,
    #[serde(skip)]
    pub origin: Origin,
}

/// Where it came from.
#[derive(Debug)]
pub(super) enum Origin {
    /// A file that still holds it; none for standard input. `certificate`: one beside it that stayed out.
    File { path: Option<PathBuf>, certificate: bool },
    /// A PKCS#12 file; so many certificates came in with it.
    Archive { path: Option<PathBuf>, certificates: usize },
    /// A wrapped key, unwrapped with this one.
    Wrapped { with: String },
    /// A public key.
    Public,
}

impl Report for Imported {
    fn text(&self, page: &mut Page) {
        let (key, partition) = (self.key.sentence(), &self.partition);
        let readable = match (&self.origin, self.key.extractable) {
            (Origin::Public, _) => "",
            (_, Some(true)) => " It can be taken out wrapped, and not read.",
            _ => " It cannot be read out again.",
        };
        page.line(match &self.origin {
            Origin::Wrapped { with } => {
                format!("Imported key {key} into partition {partition:?}, unwrapped with {with:?}.{readable}")
            }
            Origin::Public => {
                format!(
                    "Imported public key {key} into partition {partition:?}: it wraps keys for its owner."
                )
            }
            _ => format!("Imported key {key} into partition {partition:?}.{readable}"),
        });
        let mut fields = vec![("  id", self.key.id.as_str().into())];
        if !matches!(self.origin, Origin::Public) {
            fields.push(("  uri", self.key.uri.as_str().into()));
        }
        page.fields(fields);
        let path = match &self.origin {
            Origin::File { path, .. } | Origin::Archive { path, .. } => path,
            Origin::Wrapped { .. } | Origin::Public => return,
        };
        if let Origin::Archive { certificates: count @ 1.., .. } = self.origin {
            let titles = self.key.certificates.join(", ");
            page.line(match count {
                1 => format!("Stored its certificate {titles:?} beside it."),
                _ => format!("Stored its certificate {titles:?} beside it, and {} of its chain.", count - 1),
            });
        }
        let Some(file) = path.as_ref().map(|path| path.display().to_string()) else { return };
        page.line(format!(
            "\nThe file {file} still holds the key. When the server runs with the partition's:"
        ));
        page.line(format!("  shred -u {file}"));
        page.line("and destroy its copies in backups. Keep one off this machine, if losing the partition");
        page.line("must not mean losing the key.");
        if let Origin::File { certificate: true, .. } = self.origin {
            page.line("\nThe file also holds a certificate. Keep that beside the key with:");
            page.line(format!("  strongroom cert put {} {file}", self.key.name));
        }
    }
}

impl Import {
    pub(super) fn run(self, session: &mut Session, output: Output) -> Result<(), Failure> {
        let imported = match &self.file {
            Some(path) => super::file::import(session, output, &self.name, path, self.passphrase_file)?,
            None => self.wrapped.import(session, &self.name)?,
        };
        output.print(&imported)
    }
}
