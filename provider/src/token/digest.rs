//! Digests computed in a token.

use cryptoki_sys::*;

use super::Tokens;
use super::in_parts::{InParts, Parts};
use crate::error::{Error, Result};
use crate::openssl::Hash;

/// A digest of data that comes in several parts.
pub struct DigestInParts(InParts);

impl Tokens {
    /// Computes the digest of `data` into `digest`; returns its size in bytes.
    ///
    /// # Errors
    ///
    /// As [`with_mechanism`](Self::with_mechanism), with the token's own.
    pub fn digest(&self, hash: Hash, data: &[u8], digest: &mut [u8]) -> Result<usize> {
        let mechanism = hash.mechanism()?;
        self.with_mechanism(mechanism, &name(hash), |module, session, slot| {
            let failed = |function| move |rv| Error::token(function, slot.name(), rv);
            module.digest_init(session, mechanism).map_err(failed("C_DigestInit"))?;
            module.digest(session, data, digest).map_err(failed("C_Digest"))
        })
    }

    /// Begins a digest of data of which `first` is the first part.
    ///
    /// # Errors
    ///
    /// As [`digest`](Self::digest).
    pub fn digest_in_parts(&self, hash: Hash, first: &[u8]) -> Result<DigestInParts> {
        let mechanism = hash.mechanism()?;
        self.begin_in_parts(mechanism, &name(hash), |module, session, slot| {
            let failed = |function| move |rv| Error::token(function, slot.name(), rv);
            module.digest_init(session, mechanism).map_err(failed("C_DigestInit"))?;
            module.digest_update(session, first).map_err(failed("C_DigestUpdate"))
        })
        .map(DigestInParts)
    }
}

impl Parts for DigestInParts {
    fn update(&mut self, data: &[u8]) -> Result<()> {
        self.0.next("C_DigestUpdate", |module, session| module.digest_update(session, data))
    }

    fn finish(self, digest: &mut [u8]) -> Result<usize> {
        self.0.next("C_DigestFinal", |module, session| module.digest_final(session, digest))
    }

    fn duplicate(&self) -> Result<Self> {
        self.0.duplicate().map(DigestInParts)
    }
}

/// What is missing, in a message.
fn name(hash: Hash) -> String {
    format!("{} in a token", hash.name().to_string_lossy())
}

impl Hash {
    /// The mechanism that computes it.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] if PKCS#11 has none, or none that is offered.
    pub(super) fn mechanism(self) -> Result<CK_MECHANISM_TYPE> {
        Ok(match self {
            Hash::Sha1 => CKM_SHA_1,
            Hash::Sha224 => CKM_SHA224,
            Hash::Sha256 => CKM_SHA256,
            Hash::Sha384 => CKM_SHA384,
            Hash::Sha512 => CKM_SHA512,
            Hash::Sha512_224 => CKM_SHA512_224,
            Hash::Sha512_256 => CKM_SHA512_256,
            Hash::Sha3_224 => CKM_SHA3_224,
            Hash::Sha3_256 => CKM_SHA3_256,
            Hash::Sha3_384 => CKM_SHA3_384,
            Hash::Sha3_512 => CKM_SHA3_512,
            Hash::Md5Sha1 | Hash::Ripemd160 => {
                return Err(Error::Unsupported(format!("{self:?} is not computed in a token")));
            }
        })
    }
}
