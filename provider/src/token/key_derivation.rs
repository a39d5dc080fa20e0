//! HKDF (RFC 5869) in a token.

use cryptoki_sys::*;

use super::Tokens;
use super::secret::readable;
use super::secret_key::{Purpose, SecretKey};
use crate::error::{Error, Result};
use crate::openssl::Hash;

/// One derivation by HKDF.
#[derive(Debug)]
pub struct Hkdf<'a> {
    /// The hash of its HMAC.
    pub hash: Hash,
    /// The first step is done.
    pub extract: bool,
    /// The second step is done.
    pub expand: bool,
    /// For the first step; empty for none.
    pub salt: &'a [u8],
    /// For the second step.
    pub info: &'a [u8],
}

impl Tokens {
    /// Fills `out` by HKDF from `secret`: an application's is in the token meanwhile, as a session object.
    ///
    /// # Errors
    ///
    /// As [`with_secret_key`](Self::with_secret_key), with the token's own; [`Error::Key`] if the token keeps what it derived.
    pub fn hkdf(&self, hkdf: &Hkdf, secret: &SecretKey, out: &mut [u8]) -> Result<()> {
        let prf = hkdf.hash.mechanism()?;
        let template = readable(out.len()).and_flag(CKA_PRIVATE, false);
        let purpose = Purpose { kind: CKK_GENERIC_SECRET, uses: &[CKA_DERIVE] };
        let name = "HKDF in a token";
        self.with_secret_key(CKM_HKDF_DERIVE, name, secret, &purpose, |module, session, slot, key| {
            let failed = |function| move |rv| Error::token(function, slot.name(), rv);
            let mut parameter = CK_HKDF_PARAMS {
                bExtract: if hkdf.extract { CK_TRUE } else { CK_FALSE },
                bExpand: if hkdf.expand { CK_TRUE } else { CK_FALSE },
                prfHashMechanism: prf,
                ulSaltType: if hkdf.salt.is_empty() { CKF_HKDF_SALT_NULL } else { CKF_HKDF_SALT_DATA },
                pSalt: pointer_to(hkdf.salt),
                ulSaltLen: hkdf.salt.len() as CK_ULONG,
                hSaltKey: CK_INVALID_HANDLE,
                pInfo: pointer_to(hkdf.info),
                ulInfoLen: hkdf.info.len() as CK_ULONG,
            };
            let object = module
                .derive_key(session, CKM_HKDF_DERIVE, &mut parameter, key, &template)
                .map_err(failed("C_DeriveKey"))?;
            let value = module.take_secret(session, object).map_err(failed("C_GetAttributeValue"))?;
            if value.len() != out.len() {
                return Err(Error::Key(format!("{}: it does not show what HKDF derived", slot.name())));
            }
            out.copy_from_slice(&value);
            Ok(())
        })
    }
}

/// A pointer for a parameter that is only read; null for none, since tokens take offence at another one.
fn pointer_to(data: &[u8]) -> CK_BYTE_PTR {
    if data.is_empty() { std::ptr::null_mut() } else { data.as_ptr().cast_mut() }
}
