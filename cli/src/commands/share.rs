//! `strongroom share`: a holder's part in unsealing a node or restoring a backup.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::failure::Failure;
use crate::output::{Output, Page, Report};
use crate::quorum_file;

/// What `strongroom share --help` says.
pub const ABOUT: &str = "\
Decrypt a holder's share, on a machine of the holder's. Needs no strongroomd. FILE is what 'strongroom seal-with \
shares' or 'strongroom security-domain create' has written.

  strongroom share tls.domain --holder-key alice.key --out alice.share

openssl does the same:

  jq -r '.holders[] | select(.number == 1) | .share' tls.domain | base64 -d | openssl pkeyutl -decrypt -inkey alice.key \
-pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -out alice.share

A decrypted share is a secret. Bring it to the node on a medium that you destroy afterwards.";

/// `strongroom share`.
#[derive(Debug, Args)]
pub struct Share {
    /// The file with the encrypted shares
    file: PathBuf,
    /// The holder's RSA private key, PEM; its passphrase is asked for
    #[arg(long, value_name = "FILE")]
    holder_key: PathBuf,
    /// Write the share to this file, mode 0600
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, Serialize)]
struct Decrypted {
    number: u32,
    quorum: u32,
    file: PathBuf,
}

impl Report for Decrypted {
    fn text(&self, page: &mut Page) {
        let file = self.file.display();
        page.line(format!("Wrote share {} to {file}; {} are needed.", self.number, self.quorum));
        page.line(format!("It is a secret. When it has been used: shred -u {file}"));
    }
}

impl Share {
    /// Decrypts the share.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or written, or the key is no holder's.
    pub fn run(self, output: Output) -> Result<(), Failure> {
        let quorum = quorum_file::read(&self.file)?;
        let (number, share) = quorum_file::decrypt_share(&quorum, &self.holder_key)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.out)
            .map_err(|e| Failure::file("write", &self.out, &e))?;
        file.write_all(&share)
            .and_then(|()| file.sync_all())
            .map_err(|e| Failure::file("write", &self.out, &e))?;
        output.print(&Decrypted { number, quorum: quorum.needed, file: self.out })
    }
}
