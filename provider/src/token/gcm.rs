//! AES in Galois counter mode in a token. Only ever to encrypt.

use cryptoki_sys::*;
use zeroize::Zeroizing;

use super::Tokens;
use super::in_parts::InParts;
use super::module::Module;
use super::secret_key::{Purpose, SecretKey};
use super::slot::Slot;
use crate::error::{Error, Result};

/// The size of a tag in bytes.
pub const TAG: usize = 16;

/// What is in a message, but for its text.
#[derive(Debug)]
pub struct Gcm<'a> {
    /// The initialisation vector.
    pub iv: &'a [u8],
    /// What is authenticated only.
    pub aad: &'a [u8],
}

/// An encryption of data that comes in several parts. The key is in the token as long as its session.
pub struct GcmInParts(InParts);

const NAME: &str = "AES in mode Gcm in a token";

const PURPOSE: Purpose = Purpose { kind: CKK_AES, uses: &[CKA_ENCRYPT] };

impl Gcm<'_> {
    /// C_EncryptInit, and what comes after it with the same initialisation vector.
    fn encrypt<T>(
        &self,
        module: &Module,
        session: CK_SESSION_HANDLE,
        slot: &Slot,
        key: CK_OBJECT_HANDLE,
        then: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let mut iv = self.iv.to_vec();
        let mut parameter = CK_GCM_PARAMS {
            pIv: iv.as_mut_ptr(),
            ulIvLen: iv.len() as CK_ULONG,
            ulIvBits: 8 * iv.len() as CK_ULONG,
            // Null for none, since tokens take offence at another one.
            pAAD: if self.aad.is_empty() { std::ptr::null_mut() } else { self.aad.as_ptr().cast_mut() },
            ulAADLen: self.aad.len() as CK_ULONG,
            ulTagBits: 8 * TAG as CK_ULONG,
        };
        module
            .encrypt_init(session, CKM_AES_GCM, &mut parameter, key)
            .map_err(|rv| Error::token("C_EncryptInit", slot.name(), rv))?;
        let done = then()?;
        // There are tokens that choose it, and write over ours.
        if iv == self.iv {
            return Ok(done);
        }
        Err(Error::Unsupported(format!(
            "GCM with an initialisation vector of one's own: {} takes another; use OpenSSL's with the property provider=default",
            slot.name()
        )))
    }
}

impl Tokens {
    /// Encrypts `data`; returns the ciphertext and after it the tag.
    ///
    /// # Errors
    ///
    /// As [`with_secret_key`](Self::with_secret_key), with the token's own. [`Error::Key`] if the token makes too little.
    pub fn gcm(&self, gcm: &Gcm, key: &SecretKey, data: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        self.with_secret_key(CKM_AES_GCM, NAME, key, &PURPOSE, |module, session, slot, object| {
            let mut out = Zeroizing::new(vec![0; data.len() + TAG]);
            gcm.encrypt(module, session, slot, object, || {
                let made = module.encrypt(session, data, &mut out);
                expect(made.map_err(|rv| Error::token("C_Encrypt", slot.name(), rv))?, data.len() + TAG)
            })?;
            Ok(out)
        })
    }

    /// Begins an encryption in parts.
    ///
    /// # Errors
    ///
    /// As [`gcm`](Self::gcm).
    pub fn gcm_in_parts(&self, gcm: &Gcm, key: &SecretKey) -> Result<GcmInParts> {
        self.begin_with_secret_key(CKM_AES_GCM, NAME, key, &PURPOSE, |module, session, slot, object| {
            gcm.encrypt(module, session, slot, object, || Ok(()))
        })
        .map(GcmInParts)
    }
}

impl GcmInParts {
    /// Encrypts the next part.
    ///
    /// # Errors
    ///
    /// [`Error::Token`]; [`Error::Key`] if the token keeps some of it back. It cannot be continued then.
    pub fn update(&mut self, data: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        // kryoptic wants room for the tag already.
        let mut out = Zeroizing::new(vec![0; data.len() + TAG]);
        let made = self
            .0
            .next("C_EncryptUpdate", |module, session| module.encrypt_update(session, data, &mut out))?;
        expect(made, data.len())?;
        out.truncate(made);
        Ok(out)
    }

    /// Ends the encryption; returns the tag.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update).
    pub fn finish(self) -> Result<[u8; TAG]> {
        let mut tag = [0; TAG];
        let made =
            self.0.next("C_EncryptFinal", |module, session| module.encrypt_final(session, &mut tag))?;
        expect(made, TAG)?;
        Ok(tag)
    }
}

fn expect(made: usize, size: usize) -> Result<()> {
    match made == size {
        true => Ok(()),
        false => Err(Error::Key(format!(
            "{NAME} made {made} bytes instead of {size}; use OpenSSL's own with the property provider=default"
        ))),
    }
}
