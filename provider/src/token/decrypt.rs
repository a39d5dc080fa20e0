//! Decryption in the token.

use std::sync::Arc;

use cryptoki_sys::*;

use super::sign::masked_hash;
use super::{PrivateKey, Tokens};
use crate::error::{Error, Result};
use crate::openssl::{Context, Hash, quietly};

/// How a ciphertext is decrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RsaCipher {
    /// CKM_RSA_X_509: the bare operation. The result is as long as the modulus, with its padding.
    Raw,
    /// CKM_RSA_PKCS: the token takes the padding away, and says when there is none.
    Pkcs,
    /// CKM_RSA_PKCS_OAEP.
    Oaep {
        /// The label's hash.
        hash: Hash,
        /// The mask's hash.
        mgf1: Hash,
        /// The label; usually empty.
        label: Arc<[u8]>,
    },
}

impl Tokens {
    /// Decrypts `data` with `key` into `message`; returns the message's size in bytes. `message` has room for as many bytes
    /// as the modulus has.
    ///
    /// # Errors
    ///
    /// [`Error::Undecryptable`] if the token refuses the ciphertext, for whatever reason: which one it was would help
    /// those who send ciphertexts only to see what happens (Bleichenbacher's and Manger's attacks). An error for which
    /// [`is_not_offered`] holds if the token does not have this mechanism, or not for this key. The rest as
    /// [`with_key`](Self::with_key).
    pub fn decrypt(
        &self,
        context: &Context,
        key: &PrivateKey,
        cipher: &RsaCipher,
        data: &[u8],
        message: &mut [u8],
    ) -> Result<usize> {
        self.with_key(context, key, |using| {
            let (module, session, handle) = (using.module, using.session, using.handle);
            using.begin("C_DecryptInit", || match cipher {
                RsaCipher::Raw => Ok(module.decrypt_init(session, CKM_RSA_X_509, &mut (), handle)),
                RsaCipher::Pkcs => Ok(module.decrypt_init(session, CKM_RSA_PKCS, &mut (), handle)),
                RsaCipher::Oaep { hash, mgf1, label } => {
                    let mut parameter = oaep_parameter(*hash, *mgf1, label)?;
                    Ok(module.decrypt_init(session, CKM_RSA_PKCS_OAEP, &mut parameter, handle))
                }
            })?;
            // A module that uses this libcrypto (SoftHSM2) leaves on its error queue what is wrong with the padding.
            quietly(|| module.decrypt(session, data, message)).map_err(|rv| match rv {
                rv if is_about_the_token(rv) => using.failed("C_Decrypt", rv),
                _ => Error::Undecryptable,
            })
        })
    }
}

/// Whether the token said that it has no such mechanism or parameter, or that the key is not for it; or PKCS#11 has no name for
/// it. A ciphertext has no part in that.
pub fn is_not_offered(error: &Error) -> bool {
    matches!(error, Error::Unsupported(_))
        || matches!(
            error.rv(),
            Some(
                CKR_MECHANISM_INVALID
                    | CKR_MECHANISM_PARAM_INVALID
                    | CKR_ARGUMENTS_BAD
                    | CKR_FUNCTION_NOT_SUPPORTED
                    | CKR_KEY_FUNCTION_NOT_PERMITTED
            )
        )
}

/// Errors of C_Decrypt that tell of the session, the log-in or the token's absence, whatever the ciphertext was. All others may
/// mean that the padding was wrong: SoftHSM2 says CKR_GENERAL_ERROR, others CKR_FUNCTION_FAILED or CKR_DEVICE_ERROR. To
/// take those for a token that needs to be initialised again would tell the sender of the ciphertext, by the time that
/// takes, and let him stop the server's other operations.
fn is_about_the_token(rv: CK_RV) -> bool {
    matches!(
        rv,
        CKR_SESSION_HANDLE_INVALID
            | CKR_SESSION_CLOSED
            | CKR_KEY_HANDLE_INVALID
            | CKR_OBJECT_HANDLE_INVALID
            | CKR_USER_NOT_LOGGED_IN
            | CKR_OPERATION_NOT_INITIALIZED
            | CKR_SLOT_ID_INVALID
            | CKR_TOKEN_NOT_PRESENT
            | CKR_TOKEN_NOT_RECOGNIZED
            | CKR_DEVICE_REMOVED
            | CKR_CRYPTOKI_NOT_INITIALIZED
    )
}

/// The parameter borrows the label.
fn oaep_parameter(hash: Hash, mgf1: Hash, label: &[u8]) -> Result<CK_RSA_PKCS_OAEP_PARAMS> {
    let unsupported = |hash: Hash| Error::Unsupported(format!("RSA-OAEP with {hash:?} is not in PKCS#11"));
    let (mechanism, _) = masked_hash(hash).ok_or_else(|| unsupported(hash))?;
    let (_, mgf) = masked_hash(mgf1).ok_or_else(|| unsupported(mgf1))?;
    Ok(CK_RSA_PKCS_OAEP_PARAMS {
        hashAlg: mechanism,
        mgf,
        source: CKZ_DATA_SPECIFIED,
        // Some modules take a pointer with length 0 for a label.
        pSourceData: if label.is_empty() { std::ptr::null_mut() } else { label.as_ptr().cast_mut().cast() },
        ulSourceDataLen: label.len() as CK_ULONG,
    })
}
