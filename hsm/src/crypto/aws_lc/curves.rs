//! Keys on curves over prime fields: the library's numbers for the curves, and new keys.

use std::ffi::c_int;

use super::sys as c;

use super::owned::{EcKey, Pkey};
use super::{check, lacks, library_error};
use crate::crypto::{CryptoError, KeyKind};

/// The library's number for the curve of each kind that has one. The FIPS module's release does not have those of Brainpool
/// (lacks.rs).
const CURVES: [(KeyKind, c_int); 9] = [
    (KeyKind::P224, c::NID_secp224r1),
    (KeyKind::P256, c::NID_X9_62_prime256v1),
    (KeyKind::P384, c::NID_secp384r1),
    (KeyKind::P521, c::NID_secp521r1),
    (KeyKind::Secp256k1, c::NID_secp256k1),
    (KeyKind::BrainpoolP256r1, c::NID_brainpoolP256r1),
    (KeyKind::BrainpoolP320r1, c::NID_brainpoolP320r1),
    (KeyKind::BrainpoolP384r1, c::NID_brainpoolP384r1),
    (KeyKind::BrainpoolP512r1, c::NID_brainpoolP512r1),
];

/// The kind of a key on a curve.
///
/// # Errors
///
/// [`CryptoError::KeyMalformed`] for a curve that the partition does not keep keys on.
pub(super) fn kind_of(pkey: &Pkey) -> Result<KeyKind, CryptoError> {
    // SAFETY: the key is valid, and one on a curve; the get0 functions borrow from it.
    let number =
        unsafe { c::EC_GROUP_get_curve_name(c::EC_KEY_get0_group(c::EVP_PKEY_get0_EC_KEY(pkey.as_ptr()))) };
    let found = CURVES.iter().find(|(_, curve)| *curve == number);
    found.map(|(kind, _)| *kind).ok_or_else(|| {
        let kept: Vec<_> = CURVES.iter().map(|(kind, _)| kind.to_string()).collect();
        CryptoError::KeyMalformed(format!("an EC key on another curve: {} are kept", kept.join(", ")))
    })
}

/// Makes a key.
///
/// # Errors
///
/// [`CryptoError::Library`], [`CryptoError::NotInBuild`].
pub(super) fn generate(kind: KeyKind) -> Result<Pkey, CryptoError> {
    if let Some(missing) = lacks::kind(kind) {
        return Err(missing);
    }
    let curve = CURVES.iter().find(|(other, _)| *other == kind).map_or(c::NID_undef, |(_, curve)| *curve);
    // SAFETY: new objects are owned at once and outlive the calls that use them; EVP_PKEY_set1_EC_KEY takes a reference of
    // its own.
    unsafe {
        let ec = EcKey::new(c::EC_KEY_new_by_curve_name(curve)).ok_or_else(|| library_error("EC_KEY_new"))?;
        check(c::EC_KEY_generate_key(ec.as_ptr()), "generating an EC key")?;
        let pkey = Pkey::new(c::EVP_PKEY_new()).ok_or_else(|| library_error("EVP_PKEY_new"))?;
        check(c::EVP_PKEY_set1_EC_KEY(pkey.as_ptr(), ec.as_ptr()), "EVP_PKEY_set1_EC_KEY")?;
        Ok(pkey)
    }
}
