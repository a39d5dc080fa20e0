//! Key agreement in the token: the shared secret of ECDH, X25519 and X448.

use cryptoki_sys::*;

use super::secret::readable;
use super::{PrivateKey, Tokens};
use crate::error::Result;
use crate::openssl::Context;

/// How a secret is agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreement {
    /// The private key is multiplied by the curve's cofactor (CKM_ECDH1_COFACTOR_DERIVE instead of CKM_ECDH1_DERIVE).
    pub cofactor: bool,
    /// The secret's size in bytes: that of the curve's field.
    pub size: usize,
}

impl Tokens {
    /// Derives the secret that `key` shares with the owner of `peer`, a point in the encoding of the curve (X9.62, RFC 7748),
    /// into `secret`; returns its size in bytes.
    ///
    /// The token makes of it a session object, which is read and destroyed at once: an application that asks libcrypto
    /// for a shared secret gets the bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Key`](crate::error::Error::Key) if the token keeps the secret to itself, else as [`with_key`](Self::with_key).
    pub fn derive(
        &self,
        context: &Context,
        key: &PrivateKey,
        agreement: Agreement,
        peer: &[u8],
        secret: &mut [u8],
    ) -> Result<usize> {
        let mechanism = if agreement.cofactor { CKM_ECDH1_COFACTOR_DERIVE } else { CKM_ECDH1_DERIVE };
        let template = readable(agreement.size);
        self.with_key(context, key, |using| {
            let (module, session) = (using.module, using.session);
            let mut parameter = CK_ECDH1_DERIVE_PARAMS {
                kdf: CKD_NULL,
                ulSharedDataLen: 0,
                pSharedData: std::ptr::null_mut(),
                ulPublicDataLen: peer.len() as CK_ULONG,
                pPublicData: peer.as_ptr().cast_mut(),
            };
            let object = module
                .derive_key(session, mechanism, &mut parameter, using.handle, &template)
                .map_err(|rv| using.failed("C_DeriveKey", rv))?;
            using.read_secret(key, object, secret)
        })
    }
}
