//! ML-DSA (FIPS 204): keys, and signatures over the message representative.
//!
//! The client makes the representative: it needs the message, the context and the public key, nothing secret. So what
//! comes here is short however long the message is. Signatures are hedged (FIPS 204, 3.4): random bytes go into each.

use super::sys as c;

use super::owned::{Pkey, PkeyContext};
use super::{PrivateKey, PublicKey, check, library_error};
use crate::crypto::{CryptoError, KeyKind, REPRESENTATIVE};

/// The library's number for a kind.
fn number(kind: KeyKind) -> std::ffi::c_int {
    match kind {
        KeyKind::MlDsa44 => c::NID_MLDSA44,
        KeyKind::MlDsa65 => c::NID_MLDSA65,
        KeyKind::MlDsa87 => c::NID_MLDSA87,
        _ => c::NID_undef,
    }
}

/// The kind of a key that is one of the library's lattice keys.
pub(super) fn kind_of(pkey: &Pkey) -> Option<KeyKind> {
    // The FIPS module's release has no function that tells a key's type. Signatures of each have a size of their own.
    // SAFETY: the key is valid.
    let size = unsafe { c::EVP_PKEY_size(pkey.as_ptr()) };
    [KeyKind::MlDsa44, KeyKind::MlDsa65, KeyKind::MlDsa87]
        .into_iter()
        .find(|kind| usize::try_from(size) == Ok(kind.signature_length()))
}

pub(super) fn generate(kind: KeyKind) -> Result<Pkey, CryptoError> {
    let mut made = std::ptr::null_mut();
    // SAFETY: the context is owned at once and outlives the calls; the key that is made is the caller's.
    unsafe {
        let context = PkeyContext::new(c::EVP_PKEY_CTX_new_id(c::EVP_PKEY_PQDSA, std::ptr::null_mut()))
            .ok_or_else(|| library_error("EVP_PKEY_CTX_new_id"))?;
        check(c::EVP_PKEY_CTX_pqdsa_set_params(context.as_ptr(), number(kind)), "choosing ML-DSA's size")?;
        check(c::EVP_PKEY_keygen_init(context.as_ptr()), "beginning to make an ML-DSA key")?;
        check(c::EVP_PKEY_keygen(context.as_ptr(), &mut made), "making an ML-DSA key")?;
        Pkey::new(made).ok_or_else(|| library_error("making an ML-DSA key"))
    }
}

impl PrivateKey {
    /// Checks that the key has its seed, without which it could not be stored, and signs what its public half verifies.
    pub(super) fn check_ml_dsa(&self) -> Result<(), CryptoError> {
        let malformed = |what: &str| CryptoError::KeyMalformed(what.to_owned());
        self.to_pkcs8().map_err(|_| {
            malformed("the ML-DSA key comes without its seed: only keys that are kept as a seed are taken")
        })?;
        let public = PublicKey::from_spki(&self.public_spki()?)?;
        let mut signature = vec![0; self.kind().signature_length()];
        let representative = [0x5a; REPRESENTATIVE];
        self.sign_ml_dsa(&representative, &mut signature)?;
        match public.verify_ml_dsa(&representative, &signature) {
            true => Ok(()),
            false => Err(malformed("the ML-DSA key's halves do not belong together")),
        }
    }

    pub(super) fn sign_ml_dsa(&self, representative: &[u8], signature: &mut [u8]) -> Result<(), CryptoError> {
        let context = PkeyContext::of(self.kept.pkey()?)?;
        let (size, mut length) = (signature.len(), signature.len());
        // SAFETY: the context is valid and has its key; the output has the length passed.
        let made = unsafe {
            check(c::EVP_PKEY_sign_init(context.as_ptr()), "beginning to sign")?;
            c::EVP_PKEY_sign(
                context.as_ptr(),
                signature.as_mut_ptr(),
                &mut length,
                representative.as_ptr(),
                representative.len(),
            )
        };
        if made == 1 && length == size { Ok(()) } else { Err(library_error("signing with an ML-DSA key")) }
    }
}

impl PublicKey {
    pub(super) fn verify_ml_dsa(&self, representative: &[u8], signature: &[u8]) -> bool {
        let Ok(context) = self.kept.pkey().and_then(PkeyContext::of) else { return false };
        // SAFETY: the context is valid and has its key; both slices are.
        unsafe {
            c::EVP_PKEY_verify_init(context.as_ptr()) == 1
                && c::EVP_PKEY_verify(
                    context.as_ptr(),
                    signature.as_ptr(),
                    signature.len(),
                    representative.as_ptr(),
                    representative.len(),
                ) == 1
        }
    }
}
