//! How an RSA ciphertext becomes a message: what the token does, and what is done here.
//!
//! The private-key operation is the token's. Its paddings are taken away here, in constant time ([`rsa_padding`]), where the
//! token gives the bare result (CKM_RSA_X_509); a token that does not takes them away itself, and whether its answer can be
//! told by its time is the token's to see to.

use std::ffi::{CStr, c_int};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::asym_cipher::Parameters;
use crate::error::{Error, Result};
use crate::jobs;
use crate::key::Key;
use crate::openssl::Hash;
use crate::params::Value;
use crate::rsa_padding::{self, MadeUp, PREMASTER};
use crate::token::{Mechanism, Operation, RsaCipher, is_not_offered};

/// Padding of an RSA ciphertext (EVP_PKEY_CTX_set_rsa_padding(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// None: the bare operation.
    None,
    /// RSAES-PKCS1-v1_5
    Pkcs1,
    /// RSAES-OAEP
    Oaep,
    /// PKCS#1 v1.5 around the premaster secret of TLS 1.2 and before.
    Tls,
}

impl Padding {
    /// The padding that an application names, or numbers.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] for another.
    pub fn from_value(value: &Value) -> Result<Self> {
        Ok(match value {
            Value::Integer(3) | Value::Text("none") => Padding::None,
            Value::Integer(1) | Value::Text("pkcs1") => Padding::Pkcs1,
            // The second is how libcrypto once spelled it.
            Value::Integer(4) | Value::Text("oaep" | "oeap") => Padding::Oaep,
            Value::Integer(7) => Padding::Tls,
            other => {
                return Err(Error::Unsupported(format!(
                    "RSA decryption with padding {other:?}; pkcs1, oaep, none and TLS's are offered"
                )));
            }
        })
    }

    /// Its name and number in libcrypto. TLS's has no name.
    pub fn name_and_number(self) -> (&'static CStr, c_int) {
        match self {
            Padding::None => (c"none", 3),
            Padding::Pkcs1 => (c"pkcs1", 1),
            Padding::Oaep => (c"oaep", 4),
            Padding::Tls => (c"", 7),
        }
    }

    /// Its name for an encryption.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] for TLS's, with which only servers have to do.
    pub fn name(self) -> Result<&'static CStr> {
        match self {
            Padding::Tls => Err(Error::Unsupported("encryption with TLS's padding".into())),
            other => Ok(other.name_and_number().0),
        }
    }
}

/// Decrypts.
///
/// # Errors
///
/// [`Error::Undecryptable`] for a ciphertext that has no message with this padding (where that may be told), and what the
/// token says.
pub fn decrypt(key: &Arc<Key>, parameters: &Parameters, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let size = key.public()?.signature_size();
    let attempt = Attempt { key, size, ciphertext };
    match parameters.padding {
        Padding::None => attempt.by_token(&RsaCipher::Raw),
        Padding::Pkcs1 => attempt.pkcs1(parameters.rejects_implicitly),
        Padding::Oaep => attempt.oaep(parameters),
        Padding::Tls => attempt.tls(parameters.versions),
    }
}

struct Attempt<'a> {
    key: &'a Arc<Key>,
    /// The modulus's size in bytes.
    size: usize,
    ciphertext: &'a [u8],
}

impl Attempt<'_> {
    /// What the token makes of the ciphertext.
    fn by_token(&self, cipher: &RsaCipher) -> Result<Zeroizing<Vec<u8>>> {
        let (mut message, made) = self.buffered(cipher)?;
        message.truncate(made);
        Ok(message)
    }

    /// The same in a buffer of the modulus's size, whatever the size of the message, which comes with it.
    fn buffered(&self, cipher: &RsaCipher) -> Result<(Zeroizing<Vec<u8>>, usize)> {
        let mut message = Zeroizing::new(vec![0; self.size]);
        let made =
            jobs::operate(self.key, &Operation::Decrypt(cipher.clone()), self.ciphertext, &mut message)?;
        Ok((message, made))
    }

    /// The bare operation's result, as long as the modulus: some tokens leave leading zeros away.
    fn bare(&self, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let (message, made) = Attempt { ciphertext, ..*self }.buffered(&RsaCipher::Raw)?;
        if made == self.size {
            return Ok(message);
        }
        let mut whole = Zeroizing::new(vec![0; self.size]);
        for (to, from) in whole.iter_mut().skip(self.size - made.min(self.size)).zip(message.iter()) {
            *to = *from;
        }
        Ok(whole)
    }

    fn pkcs1(&self, rejects_implicitly: bool) -> Result<Zeroizing<Vec<u8>>> {
        match self.bare(self.ciphertext) {
            Ok(encoded) if rejects_implicitly => {
                let secret = self.key.rejection.secret(|| self.rejection_secret())?;
                let rejection = MadeUp::new(&secret, self.ciphertext, self.size)?;
                Ok(rsa_padding::pkcs1_or_made_up(&encoded, &rejection))
            }
            Ok(encoded) => rsa_padding::pkcs1(&encoded),
            Err(error) if is_not_offered(&error) && rejects_implicitly => self.pkcs1_by_token(),
            Err(error) if is_not_offered(&error) => self.by_token(&RsaCipher::Pkcs),
            Err(error) => Err(error),
        }
    }

    /// By a token that takes the padding away: that its answer is an error, and how long it took for it, is the only thing that can
    /// still be seen.
    fn pkcs1_by_token(&self) -> Result<Zeroizing<Vec<u8>>> {
        let secret = self.key.rejection.secret(|| self.signed_secret())?;
        let rejection = MadeUp::new(&secret, self.ciphertext, self.size)?;
        // The message with a padding again, or nothing that has one.
        let mut encoded = Zeroizing::new(vec![0; self.size]);
        match self.buffered(&RsaCipher::Pkcs) {
            Ok((message, made)) => {
                let start = self.size.checked_sub(made).ok_or(Error::Undecryptable)?;
                encoded.fill(0xff);
                for (at, byte) in [(0, 0), (1, 2), (start.saturating_sub(1), 0)] {
                    encoded.get_mut(at).map(|place| *place = byte).ok_or(Error::Undecryptable)?;
                }
                for (to, from) in encoded.iter_mut().skip(start).zip(message.iter()) {
                    *to = *from;
                }
            }
            Err(Error::Undecryptable) => {}
            Err(error) => return Err(error),
        }
        Ok(rsa_padding::pkcs1_or_made_up(&encoded, &rejection))
    }

    /// As [`rejection_secret`](Self::rejection_secret), of a token without the bare operation: by a signature that nobody asks for
    /// otherwise. A key that does not sign has one for each process that does not inherit it.
    fn signed_secret(&self) -> Result<Zeroizing<[u8; 32]>> {
        let public = self.key.public()?.to_der()?;
        let data =
            Sha256::new().chain_update(b"strongroom implicit rejection").chain_update(&public).finalize();
        let mut signature = Zeroizing::new(vec![0; self.size]);
        let operation = Operation::Sign(Mechanism::RsaPkcs);
        match jobs::operate(self.key, &operation, &data, &mut signature) {
            Ok(made) => Ok(hashed(signature.get(..made).unwrap_or_default())),
            Err(error) if is_not_offered(&error) => {
                let mut random = Zeroizing::new([0; 32]);
                self.key.provider.openssl.random(random.as_mut_slice())?;
                Ok(random)
            }
            Err(error) => Err(error),
        }
    }

    /// What nobody can compute without the key, and every process with the key can.
    fn rejection_secret(&self) -> Result<Zeroizing<[u8; 32]>> {
        let public = self.key.public()?.to_der()?;
        let bare = self.bare(&rsa_padding::nothing_up_our_sleeve(&public, self.size))?;
        Ok(hashed(&bare))
    }

    /// A padding that is wrong shows, as it does with every OAEP decryption, but not what is wrong with it.
    fn oaep(&self, parameters: &Parameters) -> Result<Zeroizing<Vec<u8>>> {
        let hash = parameters.hash.unwrap_or(Hash::Sha1);
        let mgf1 = parameters.mgf1.unwrap_or(hash);
        let label = &parameters.label;
        let by_token = || self.by_token(&RsaCipher::Oaep { hash, mgf1, label: label.clone() });
        let here = || {
            let encoded = self.bare(self.ciphertext)?;
            rsa_padding::oaep(&self.key.provider.openssl, &encoded, hash, mgf1, label)
        };
        // SoftHSM2 takes a label and looks at none, so that any would do; and it has OAEP with SHA-1 alone.
        if label.is_empty() { either(by_token, here) } else { either(here, by_token) }
    }

    /// Always a premaster secret, unless the token is away: a random one for a ciphertext that has none, so that the handshake
    /// fails later, as with one that has the wrong one.
    fn tls(&self, versions: [Option<u16>; 2]) -> Result<Zeroizing<Vec<u8>>> {
        if versions.first().copied().flatten().is_none() {
            return Err(Error::Unsupported("TLS's padding without the client's version".into()));
        }
        // Made for every ciphertext: making it only for the wrong ones would show.
        let mut random = Zeroizing::new([0; PREMASTER]);
        self.key.provider.openssl.random(random.as_mut_slice())?;
        let secret = match self.bare(self.ciphertext) {
            Ok(encoded) => rsa_padding::tls_premaster(&encoded, versions, &random),
            // The token refuses the bare operation on numbers that are not smaller than the modulus, which everybody knows.
            Err(Error::Undecryptable) => random,
            Err(error) if is_not_offered(&error) => {
                // A token that takes the padding away: that its answer is an error, and how long it took for it, is the
                // only thing that can still be seen.
                let mut message = Zeroizing::new(vec![0; self.size.max(PREMASTER)]);
                let cipher = Operation::Decrypt(RsaCipher::Pkcs);
                let made = match jobs::operate(self.key, &cipher, self.ciphertext, &mut message) {
                    Ok(made) => (made, true),
                    Err(Error::Undecryptable) => (0, false),
                    Err(error) => return Err(error),
                };
                rsa_padding::tls_premaster_unpadded(&message, made.0, made.1, versions, &random)
            }
            Err(error) => return Err(error),
        };
        Ok(Zeroizing::new(secret.to_vec()))
    }
}

/// SHA-256 of a secret, which is a secret.
fn hashed(secret: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut digest = Zeroizing::new([0; 32]);
    Sha256::new().chain_update(secret).finalize_into((&mut *digest).into());
    digest
}

/// The second way if the token does not offer the first; with neither, the first one's error.
fn either<T>(first: impl FnOnce() -> Result<T>, second: impl FnOnce() -> Result<T>) -> Result<T> {
    match first() {
        Err(error) if is_not_offered(&error) => match second() {
            Err(other) if is_not_offered(&other) => Err(error),
            done => done,
        },
        done => done,
    }
}

/// A key's secret for implicit rejection, made by its token when it is first needed.
#[derive(Default)]
pub struct Rejection(AtomicPtr<Zeroizing<[u8; 32]>>);

impl Rejection {
    /// The secret. Several threads may make it at the same time: it is the same. (Not a OnceLock: a fork while another thread
    /// is inside it would leave it locked in the child.)
    fn secret(&self, make: impl FnOnce() -> Result<Zeroizing<[u8; 32]>>) -> Result<Zeroizing<[u8; 32]>> {
        let known = self.0.load(Ordering::Acquire);
        // SAFETY: null, or made below and not freed before this.
        if let Some(secret) = unsafe { known.as_ref() } {
            return Ok(secret.clone());
        }
        let secret = make()?;
        let fresh = Box::into_raw(Box::new(secret.clone()));
        if self.0.compare_exchange(ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: made above, and nobody else has seen it.
            drop(unsafe { Box::from_raw(fresh) });
        }
        Ok(secret)
    }
}

impl Drop for Rejection {
    fn drop(&mut self) {
        let secret = std::mem::replace(self.0.get_mut(), ptr::null_mut());
        if !secret.is_null() {
            // SAFETY: made by `secret` from a box, and nobody else has it.
            drop(unsafe { Box::from_raw(secret) });
        }
    }
}
