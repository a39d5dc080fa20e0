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
            let derive = |point: &[u8]| {
                let mut parameter = CK_ECDH1_DERIVE_PARAMS {
                    kdf: CKD_NULL,
                    ulSharedDataLen: 0,
                    pSharedData: std::ptr::null_mut(),
                    ulPublicDataLen: point.len() as CK_ULONG,
                    pPublicData: point.as_ptr().cast_mut(),
                };
                module.derive_key(session, mechanism, &mut parameter, using.handle, &template)
            };
            // Bare, as every token takes it. One that takes DER too may take a point for DER; then it gets it as that.
            let object = derive(peer).or_else(|rv| match seems_der(peer) {
                true => derive(&octet_string(peer)),
                false => Err(rv),
            });
            let object = object.map_err(|rv| using.failed("C_DeriveKey", rv))?;
            using.read_secret(key, object, secret)
        })
    }
}

/// Whether a point reads as a DER OCTET STRING, whose first byte is an uncompressed point's: if its second is by chance what a length would
/// be there. With some curves that is one point in 170; SoftHSM2 2.6 refuses those.
fn seems_der(point: &[u8]) -> bool {
    match point {
        [4, length @ 0..=0x7f, rest @ ..] | [4, 0x81, length, rest @ ..] => {
            usize::from(*length) == rest.len()
        }
        _ => false,
    }
}

/// A point of at most 255 bytes in a DER OCTET STRING.
fn octet_string(point: &[u8]) -> Vec<u8> {
    // The largest curve's has 133.
    let length = point.len() as u8;
    let header: &[u8] = if length < 0x80 { &[4, length] } else { &[4, 0x81, length] };
    [header, point].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_that_seem_der() {
        let point = |size: usize, second: u8| [&[4, second][..], &vec![9; size - 2]].concat();
        assert!(seems_der(&point(129, 127)) && seems_der(&point(65, 63)));
        assert!(!seems_der(&point(129, 126)) && !seems_der(&point(133, 1)) && !seems_der(&point(32, 2)));
        assert!(!seems_der(&[4]) && !seems_der(&[]));
        for size in [65, 129, 133] {
            let wrapped = octet_string(&point(size, 1));
            assert!(seems_der(&wrapped) && wrapped.ends_with(&point(size, 1)));
        }
    }
}
