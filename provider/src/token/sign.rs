//! Signing: the one operation with a private key, and its recovery when the token was away.

use cryptoki_sys::*;

use super::process::Process;
use super::{PrivateKey, Tokens};
use crate::error::{Error, Result};
use crate::openssl::Hash;

/// How a signature is made. One table from OpenSSL's names to these is in [`crate::dispatch::signature`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// CKM_RSA_PKCS over a DigestInfo, or over what the application gives.
    RsaPkcs,
    /// CKM_RSA_PKCS_PSS over a digest.
    RsaPss {
        /// The digest's hash.
        hash: Hash,
        /// The mask's hash.
        mgf1: Hash,
        /// The salt's length in bytes.
        salt: usize,
    },
    /// CKM_ECDSA over a digest; the signature is r and s, of equal length.
    Ecdsa,
    /// CKM_EDDSA over a message.
    Eddsa,
}

/// Errors after which sessions, handles or the log-in are looked up again and the operation is tried once more.
pub(super) fn is_stale(rv: CK_RV) -> bool {
    matches!(
        rv,
        CKR_SESSION_HANDLE_INVALID
            | CKR_SESSION_CLOSED
            | CKR_KEY_HANDLE_INVALID
            | CKR_OBJECT_HANDLE_INVALID
            | CKR_USER_NOT_LOGGED_IN
            | CKR_OPERATION_ACTIVE
            | CKR_OPERATION_NOT_INITIALIZED
            | CKR_CRYPTOKI_NOT_INITIALIZED
            | CKR_SLOT_ID_INVALID
            | CKR_TOKEN_NOT_PRESENT
            | CKR_TOKEN_NOT_RECOGNIZED
            | CKR_DEVICE_REMOVED
            | CKR_DEVICE_ERROR
            | CKR_GENERAL_ERROR
            | CKR_FUNCTION_FAILED
    )
}

/// Errors that some modules recover from only by C_Finalize and C_Initialize.
fn is_dead(rv: CK_RV) -> bool {
    matches!(
        rv,
        CKR_TOKEN_NOT_PRESENT
            | CKR_DEVICE_REMOVED
            | CKR_DEVICE_ERROR
            | CKR_GENERAL_ERROR
            | CKR_SLOT_ID_INVALID
    )
}

impl Tokens {
    /// Signs `data` with `key` into `signature`; returns the signature's size in bytes.
    ///
    /// Stale state is renewed and the signature tried once more. There is no other way: a key that its token does
    /// not use is not used.
    ///
    /// # Errors
    ///
    /// [`Error::Token`] with the module's own error, [`Error::NoToken`] while the token is away,
    /// [`Error::PinRefused`] and [`Error::PinMissing`] if it wants a log-in.
    pub fn sign(
        &self,
        key: &PrivateKey,
        mechanism: Mechanism,
        data: &[u8],
        signature: &mut [u8],
    ) -> Result<usize> {
        let process = self.process()?;
        let error = match self.sign_once(process, key, mechanism, data, signature) {
            Err(error) => error,
            signed => return signed,
        };
        match error.rv() {
            Some(CKR_CRYPTOKI_NOT_INITIALIZED) => self.restart(process, false)?,
            Some(rv) if is_stale(rv) => {}
            _ => return Err(error),
        }
        let error = match self.sign_once(self.process()?, key, mechanism, data, signature) {
            Err(error) => error,
            signed => return signed,
        };
        match error.rv() {
            Some(rv) if is_dead(rv) => self.restart(process, true)?,
            _ => return Err(error),
        }
        let current = self.process()?;
        if std::ptr::eq(current, process) {
            return Err(error);
        }
        self.sign_once(current, key, mechanism, data, signature)
    }

    fn sign_once(
        &self,
        process: &Process,
        key: &PrivateKey,
        mechanism: Mechanism,
        data: &[u8],
        signature: &mut [u8],
    ) -> Result<usize> {
        let _initialised = process.operation();
        let module = self.module()?;
        let slot = self.slot_of(key)?;
        let session = slot.session(module)?;
        let signed = (|| {
            if slot.login_required {
                let pin =
                    key.pin.as_ref().ok_or_else(|| Error::PinMissing { token: slot.token.label.clone() })?;
                slot.login(module, &session, pin)?;
            }
            let handle = slot.handle(module, &session, key)?;
            let failed = |function| move |rv| Error::token(function, key.name(), rv);
            let init = match mechanism {
                Mechanism::RsaPkcs => module.sign_init(session.handle, CKM_RSA_PKCS, &mut (), handle),
                Mechanism::Ecdsa => module.sign_init(session.handle, CKM_ECDSA, &mut (), handle),
                Mechanism::Eddsa => module.sign_init(session.handle, CKM_EDDSA, &mut (), handle),
                Mechanism::RsaPss { hash, mgf1, salt } => {
                    let mut parameter = pss_parameter(hash, mgf1, salt)?;
                    module.sign_init(session.handle, CKM_RSA_PKCS_PSS, &mut parameter, handle)
                }
            };
            init.map_err(failed("C_SignInit"))?;
            if key.always_authenticate
                && let Some(pin) = &key.pin
            {
                module.login(session.handle, CKU_CONTEXT_SPECIFIC, pin.bytes()).map_err(failed("C_Login"))?;
            }
            module.sign(session.handle, data, signature).map_err(failed("C_Sign"))
        })();
        if let Err(error) = &signed
            && let Some(rv) = error.rv()
        {
            if matches!(rv, CKR_KEY_HANDLE_INVALID | CKR_OBJECT_HANDLE_INVALID) {
                slot.forget_handle(key.number);
            }
            let epoch = session.epoch;
            if is_stale(rv) {
                session.discard();
                slot.forget(module, epoch);
            } else if rv == CKR_BUFFER_TOO_SMALL {
                // The operation is still active on this session.
                session.discard();
            }
        }
        signed
    }
}

fn pss_parameter(hash: Hash, mgf1: Hash, salt: usize) -> Result<CK_RSA_PKCS_PSS_PARAMS> {
    let unsupported = |hash: Hash| Error::Unsupported(format!("RSA-PSS with {hash:?} is not in PKCS#11"));
    let (mechanism, _) = pss_hash(hash).ok_or_else(|| unsupported(hash))?;
    let (_, mgf) = pss_hash(mgf1).ok_or_else(|| unsupported(mgf1))?;
    Ok(CK_RSA_PKCS_PSS_PARAMS { hashAlg: mechanism, mgf, sLen: salt as CK_ULONG })
}

/// A hash's mechanism and mask generation function.
fn pss_hash(hash: Hash) -> Option<(CK_MECHANISM_TYPE, CK_RSA_PKCS_MGF_TYPE)> {
    Some(match hash {
        Hash::Md5Sha1 => return None,
        Hash::Sha1 => (CKM_SHA_1, CKG_MGF1_SHA1),
        Hash::Sha224 => (CKM_SHA224, CKG_MGF1_SHA224),
        Hash::Sha256 => (CKM_SHA256, CKG_MGF1_SHA256),
        Hash::Sha384 => (CKM_SHA384, CKG_MGF1_SHA384),
        Hash::Sha512 => (CKM_SHA512, CKG_MGF1_SHA512),
        Hash::Sha3_224 => (CKM_SHA3_224, CKG_MGF1_SHA3_224),
        Hash::Sha3_256 => (CKM_SHA3_256, CKG_MGF1_SHA3_256),
        Hash::Sha3_384 => (CKM_SHA3_384, CKG_MGF1_SHA3_384),
        Hash::Sha3_512 => (CKM_SHA3_512, CKG_MGF1_SHA3_512),
    })
}
