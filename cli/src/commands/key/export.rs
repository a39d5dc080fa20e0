//! `strongroom key export`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use strongroom_protocol::v1::{Role, WrapKey, request::Op};

use super::wrapping::{self, How};
use super::{KeyView, Named};
use crate::commands::write_file;
use crate::failure::Failure;
use crate::objects::Selector;
use crate::output::{Output, Page, Report};
use crate::session::{Session, answer};
use crate::transfer_blob;

pub(super) const ABOUT: &str = "\
Take a key out of the partition, wrapped with another key. It has to have been made or imported with --extractable; \
without that nobody takes it out, ever.

  strongroom key generate web --type p256 --extractable
  strongroom key import other-hsm other-hsm.pub.pem --usage wrap
  strongroom key export web --wrapping-key other-hsm --out web.wrapped

A private key is wrapped as PKCS#8. With an AES key the file is what 'openssl enc -d -id-aes256-wrap-pad' opens; with an RSA \
key it is RSA-OAEP of a fresh AES key, followed by the key wrapped with that. --byok writes the JSON file in which Azure takes \
such a key.";

/// `strongroom key export`.
#[derive(Debug, Args)]

pub struct Export {
    #[command(flatten)]
    named: Named,
    /// The key to wrap it with: an AES key, or an RSA key of which the public half is enough
    #[arg(long, value_name = "KEY", value_parser = Selector::parse)]
    wrapping_key: Selector,
    #[command(flatten)]
    how: How,
    /// The file to write
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    /// Write a key transfer blob for the key exchange key that Azure calls by this identifier
    #[arg(long, value_name = "KID")]
    byok: Option<String>,
}

#[derive(Debug, Serialize)]
struct Exported {
    key: KeyView,
    wrapping_key: String,
    mechanism: String,
    file: PathBuf,
    /// Size of the wrapped key.
    bytes: usize,
}

impl Report for Exported {
    fn text(&self, page: &mut Page) {
        let (key, file) = (self.key.sentence(), self.file.display());
        let (with, mechanism) = (&self.wrapping_key, &self.mechanism);
        page.line(format!("Wrote key {key} to {file}, wrapped with {with:?} ({mechanism})."));
    }
}

impl Export {
    pub(super) fn run(self, session: &mut Session, output: Output) -> Result<(), Failure> {
        session.require_crypto_user()?;
        let key = session.key(&self.named.name)?;
        let with = session.key(&self.wrapping_key)?;
        let how = self.how.decided(&with, self.byok.is_some());
        if self.byok.is_some() && !how.fits_a_blob() {
            return Err(Failure::usage(
                "a key transfer blob (--byok) is wrapped with an RSA key, by rsa-aes",
            ));
        }
        let (object, wrapping) = (wrapping::private(&key)?, wrapping::wraps(&with)?);
        let op = || {
            Op::WrapKey(WrapKey {
                wrapping_key: wrapping.object.clone(),
                key: object.object.clone(),
                mechanism: how.mechanism().into(),
                oaep: how.oaep(),
                aes_bits: 256,
            })
        };
        let wrapped = answer!(session.call(Role::CryptoUser, op), WrappedKey)?.wrapped;
        match &self.byok {
            Some(kid) => write_file(&self.out, transfer_blob::write(kid, &wrapped), self.force)?,
            None => write_file(&self.out, &wrapped, self.force)?,
        }
        output.print(&Exported {
            key: KeyView::new(&session.partition().label, &key, Vec::new(), true),
            wrapping_key: with.label().to_owned(),
            mechanism: how.title(),
            file: self.out,
            bytes: wrapped.len(),
        })
    }
}
