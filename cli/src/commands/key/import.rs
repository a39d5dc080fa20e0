//! `strongroom key import`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use strongroom_protocol::v1::{ImportKeyPair, Role, request::Op};

use crate::commands::key::{KeyView, NewName, made};
use crate::failure::{Exit, Failure};
use crate::output::{Output, Page, Report};
use crate::session::{Session, answer};
use crate::{password, pem_file, private_key};

pub(super) const ABOUT: &str = "\
Bring a private key from a PEM file into the partition. There it signs, and cannot be read again.

Taken are PKCS#8 (PRIVATE KEY, or ENCRYPTED PRIVATE KEY with a passphrase), PKCS#1 (RSA PRIVATE KEY) and SEC1 \
(EC PRIVATE KEY): all that openssl writes. Other blocks in the file, certificates for example, are passed over.

  strongroom key import web /etc/ssl/private/web.key
  strongroom cert put web /etc/ssl/certs/web.crt

The key signs, and does nothing else, unless --usage says so. An RSA key that is to serve TLS 1.2 clients without \
forward secrecy, or to read encrypted mail, has to decrypt too:

  strongroom key import mail mail.key --usage sign,decrypt

The file stays. Destroy it, and its copies in backups, when the server runs with the partition's key; but keep \
one copy off this machine, if losing the partition must not mean losing the key.";

/// `strongroom key import`.
#[derive(Debug, Args)]

pub struct Import {
    #[command(flatten)]
    name: NewName,
    /// The PEM file (- for standard input)
    file: PathBuf,
    /// The passphrase of an encrypted key is the first line of this file
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Imported {
    key: KeyView,
    #[serde(skip)]
    partition: String,
    #[serde(skip)]
    file: Option<PathBuf>,
    #[serde(skip)]
    has_certificate: bool,
}

impl Report for Imported {
    fn text(&self, page: &mut Page) {
        let (key, partition) = (self.key.sentence(), &self.partition);
        page.line(format!("Imported key {key} into partition {partition:?}. It cannot be read out again."));
        page.fields([("  id", self.key.id.as_str().into()), ("  uri", self.key.uri.as_str().into())]);
        if let Some(file) = &self.file {
            let file = file.display();
            page.line(format!(
                "\nThe file {file} still holds the key. When the server runs with the partition's:"
            ));
            page.line(format!("  shred -u {file}"));
            page.line(
                "and destroy its copies in backups. Keep one off this machine, if losing the partition",
            );
            page.line("must not mean losing the key.");
            if self.has_certificate {
                page.line("\nThe file also holds a certificate. Keep that beside the key with:");
                page.line(format!("  strongroom cert put {} {file}", self.key.name));
            }
        }
    }
}

impl Import {
    pub(super) fn run(self, session: &mut Session, output: Output) -> Result<(), Failure> {
        let blocks = pem_file::read(&self.file)?;
        let has_certificate = blocks.iter().any(|block| block.label == "CERTIFICATE");
        let pkcs8 = private_key::pkcs8(&self.file, blocks, || match &self.passphrase_file {
            Some(path) => password::from_file(path, output),
            None if password::interactive() => {
                password::ask(&format!("Passphrase of {}", self.file.display()))
            }
            None => Err(Failure::new(
                Exit::Usage,
                "passphrase_needed",
                format!(
                    "{} is encrypted: there is no terminal to ask for its passphrase; give --passphrase-file FILE",
                    self.file.display()
                ),
            )),
        })?;
        session.require_crypto_user()?;
        self.name.require_free(session)?;
        let op = || {
            Op::ImportKeyPair(ImportKeyPair {
                pkcs8: pkcs8.to_vec(),
                private_key: Some(self.name.private()),
                public_key: Some(self.name.public()),
                private_only: false,
            })
        };
        let key = made(answer!(session.call(Role::CryptoUser, op), Objects)?)?;
        let partition = session.partition().label.clone();
        output.print(&Imported {
            key: KeyView::new(&partition, &key, Vec::new(), true),
            partition,
            file: Some(self.file).filter(|path| path.as_os_str() != "-"),
            has_certificate,
        })
    }
}
