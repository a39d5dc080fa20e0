//! `strongroom key import --wrapped`.

use std::path::PathBuf;

use clap::Args;
use strongroom_protocol::v1::{KeyTemplate, ObjectClass, Role, UnwrapKey, request::Op};

use super::import::{Imported, Origin};
use super::wrapping::{self, How, malformed};
use super::{KeyView, NewName, made};
use crate::failure::Failure;
use crate::objects::Selector;
use crate::session::{Session, answer};
use crate::{pem_file, transfer_blob};

/// The largest wrapped key that the daemon takes, in bytes.
const MAX_WRAPPED: usize = 16 * 1024;

/// Where a wrapped key is, and what unwraps it.
#[derive(Debug, Args)]
pub struct Wrapped {
    /// The file with the wrapped key, as bytes or as a .byok file (- for standard input)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["file", "passphrase_file"], requires = "unwrapping_key")]
    wrapped: Option<PathBuf>,
    /// The key of this partition for which it was wrapped: an AES or an RSA key
    #[arg(long, value_name = "KEY", value_parser = Selector::parse, requires = "wrapped")]
    unwrapping_key: Option<Selector>,
    /// A secret key (AES) is wrapped, and not a private key
    #[arg(long, requires = "wrapped")]
    secret: bool,
    #[command(flatten)]
    how: How,
}

impl Wrapped {
    /// Imports the key.
    pub(super) fn import(&self, session: &mut Session, name: &NewName) -> Result<Imported, Failure> {
        let (Some(path), Some(selector)) = (&self.wrapped, &self.unwrapping_key) else {
            // clap requires one or the other.
            return Err(Failure::usage("name a file, or give --wrapped FILE --unwrapping-key KEY"));
        };
        let bytes = pem_file::bytes(path)?;
        let is_blob = transfer_blob::is_json(&bytes);
        let wrapped = match is_blob {
            true => transfer_blob::read(&bytes).map_err(|what| malformed(path, &what))?,
            false => bytes.to_vec(),
        };
        if wrapped.is_empty() || wrapped.len() > MAX_WRAPPED {
            let what = format!("has {} bytes: a wrapped key has 1 to {MAX_WRAPPED}", wrapped.len());
            return Err(malformed(path, &what));
        }
        session.require_crypto_user()?;
        let with = session.key(selector)?;
        let how = self.how.decided(&with, is_blob);
        name.require_free(session)?;
        let unwrapping_key = &wrapping::private(&with)?.object;
        let (class, key, public_key) = match self.secret {
            true => (ObjectClass::SecretKey, name.secret(), KeyTemplate::default()),
            false => (ObjectClass::PrivateKey, name.private(), name.public()),
        };
        let op = || {
            Op::UnwrapKey(UnwrapKey {
                unwrapping_key: unwrapping_key.clone(),
                mechanism: how.mechanism().into(),
                oaep: how.oaep(),
                wrapped: wrapped.clone(),
                class: class.into(),
                key_types: Vec::new(),
                key: Some(key.clone()),
                public_key: Some(public_key.clone()),
                private_only: self.secret,
                iv: Vec::new(),
            })
        };
        let key = made(answer!(session.call(Role::CryptoUser, op), Objects)?)?;
        let partition = session.partition().label.clone();
        let origin = Origin::Wrapped { with: with.label().to_owned() };
        Ok(Imported { key: KeyView::new(&partition, &key, Vec::new(), true), partition, origin })
    }
}
