//! Message authentication codes computed in a token.

use cryptoki_sys::*;
use zeroize::Zeroizing;

use super::Tokens;
use super::in_parts::{InParts, Parts};
use super::module::Module;
use super::secret_key::{Purpose, SecretKey};
use super::slot::Slot;
use crate::error::{Error, Result};
use crate::openssl::Hash;

/// How a code is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mac {
    /// HMAC (RFC 2104).
    Hmac(Hash),
    /// CMAC with AES (NIST SP 800-38B).
    AesCmac,
}

/// A code over data that comes in several parts. The key is in the token as long as its session.
pub struct MacInParts(InParts);

impl Mac {
    /// The code's size in bytes.
    pub fn size(self) -> usize {
        match self {
            Mac::Hmac(hash) => hash.size(),
            Mac::AesCmac => 16,
        }
    }

    pub(super) fn mechanism(self) -> Result<CK_MECHANISM_TYPE> {
        Ok(match self {
            Mac::AesCmac => CKM_AES_CMAC,
            Mac::Hmac(hash) => match hash {
                Hash::Sha1 => CKM_SHA_1_HMAC,
                Hash::Sha224 => CKM_SHA224_HMAC,
                Hash::Sha256 => CKM_SHA256_HMAC,
                Hash::Sha384 => CKM_SHA384_HMAC,
                Hash::Sha512 => CKM_SHA512_HMAC,
                Hash::Sha512_224 => CKM_SHA512_224_HMAC,
                Hash::Sha512_256 => CKM_SHA512_256_HMAC,
                Hash::Sha3_224 => CKM_SHA3_224_HMAC,
                Hash::Sha3_256 => CKM_SHA3_256_HMAC,
                Hash::Sha3_384 => CKM_SHA3_384_HMAC,
                Hash::Sha3_512 => CKM_SHA3_512_HMAC,
                Hash::Md5Sha1 | Hash::Ripemd160 => {
                    return Err(Error::Unsupported(format!("HMAC with {hash:?} is not computed in a token")));
                }
            },
        })
    }

    pub(super) fn purpose(self) -> Purpose {
        let kind = match self {
            Mac::Hmac(_) => CKK_GENERIC_SECRET,
            Mac::AesCmac => CKK_AES,
        };
        Purpose { kind, uses: &[CKA_SIGN] }
    }

    /// The key as tokens take it. HMAC puts zeros after one that is shorter than the hash's block, and some tokens want one as long as the
    /// hash: zeros up to there change nothing.
    pub(super) fn padded(self, key: &SecretKey) -> SecretKey {
        let (Mac::Hmac(hash), SecretKey::Bytes(key)) = (self, key) else { return key.clone() };
        let length = key.len().max(hash.size());
        let mut padded = Zeroizing::new(Vec::with_capacity(length));
        padded.extend_from_slice(key);
        padded.resize(length, 0);
        SecretKey::Bytes(padded)
    }

    pub(super) fn name(self) -> String {
        match self {
            Mac::Hmac(hash) => format!("HMAC with {} in a token", hash.name().to_string_lossy()),
            Mac::AesCmac => "CMAC with AES in a token".into(),
        }
    }

    /// C_SignInit.
    pub(super) fn init(
        self,
        module: &Module,
        session: CK_SESSION_HANDLE,
        slot: &Slot,
        key: CK_OBJECT_HANDLE,
    ) -> Result<()> {
        let mechanism = self.mechanism()?;
        module
            .sign_init(session, mechanism, &mut (), key)
            .map_err(|rv| Error::token("C_SignInit", slot.name(), rv))
    }
}

impl Tokens {
    /// Computes the code of `data` into `code`; returns its size in bytes.
    ///
    /// # Errors
    ///
    /// As [`with_mechanism`](Self::with_mechanism), with the token's own.
    pub fn mac(&self, mac: Mac, key: &SecretKey, data: &[u8], code: &mut [u8]) -> Result<usize> {
        let (mechanism, name, key) = (mac.mechanism()?, mac.name(), mac.padded(key));
        self.with_secret_key(mechanism, &name, &key, &mac.purpose(), |module, session, slot, object| {
            mac.init(module, session, slot, object)?;
            module.sign(session, data, code).map_err(|rv| Error::token("C_Sign", slot.name(), rv))
        })
    }

    /// Begins a code of data of which `first` is the first part.
    ///
    /// # Errors
    ///
    /// As [`mac`](Self::mac).
    pub fn mac_in_parts(&self, mac: Mac, key: &SecretKey, first: &[u8]) -> Result<MacInParts> {
        let (mechanism, name, key) = (mac.mechanism()?, mac.name(), mac.padded(key));
        let begun = self.begin_with_secret_key(
            mechanism,
            &name,
            &key,
            &mac.purpose(),
            |module, session, slot, object| {
                mac.init(module, session, slot, object)?;
                module.sign_update(session, first).map_err(|rv| Error::token("C_SignUpdate", slot.name(), rv))
            },
        );
        begun.map(MacInParts)
    }
}

impl Parts for MacInParts {
    fn update(&mut self, data: &[u8]) -> Result<()> {
        self.0.next("C_SignUpdate", |module, session| module.sign_update(session, data))
    }

    fn finish(self, code: &mut [u8]) -> Result<usize> {
        self.0.next("C_SignFinal", |module, session| module.sign_final(session, code))
    }

    /// The key would have to be the copy's too.
    fn duplicate(&self) -> Result<Self> {
        Err(Error::Unsupported("a copy of a MAC that has begun in the token, being long".into()))
    }
}
