//! Decapsulation in the token: ML-KEM.

use cryptoki_sys::*;

use super::secret::readable_whole;
use super::{PrivateKey, Tokens};
use crate::error::Result;
use crate::openssl::Context;

impl Tokens {
    /// Gets the secret of a ciphertext by `key`, into `secret`; returns its size in bytes. As with [`derive`](Self::derive) it is
    /// a session object for an instant. Of a ciphertext that was changed another secret comes out (FIPS 203, 6.3).
    ///
    /// # Errors
    ///
    /// [`Error::Key`](crate::error::Error::Key) if the token keeps the secret to itself, else as [`with_key`](Self::with_key):
    /// CKR_FUNCTION_NOT_SUPPORTED by modules without PKCS#11 3.2's interface.
    pub fn decapsulate(
        &self,
        context: &Context,
        key: &PrivateKey,
        ciphertext: &[u8],
        secret: &mut [u8],
    ) -> Result<usize> {
        let template = readable_whole();
        self.with_key(context, key, |using| {
            let object = using
                .module
                .decapsulate_key(using.session, CKM_ML_KEM, using.handle, &template, ciphertext)
                .map_err(|rv| using.failed("C_DecapsulateKey", rv))?;
            using.read_secret(key, object, secret)
        })
    }
}
