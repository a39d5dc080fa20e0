//! What the release of AWS-LC that has the FIPS module lacks. A build with the feature `fips` says so in plain words; in
//! others nothing is missing.

use super::module;
use crate::crypto::{CryptoError, KeyKind};

/// The identifiers of Brainpool's curves (RFC 5639, 4.1) without their last number, and those of P256r1, P320r1, P384r1 and
/// P512r1.
const BRAINPOOL: [u8; 8] = [0x2b, 0x24, 3, 3, 2, 8, 1, 1];
const CURVES: [u8; 4] = [7, 9, 11, 13];

/// The end of ML-KEM's identifiers without their last number, and what precedes a key that is a seed alone, after the
/// number (RFC 9935, 6).
const ML_KEM: &[u8] = &[0x65, 3, 4, 4];
const SEED: &[u8] = &[4, 0x42, 0x80, 0x40];

/// Where an identifier stands in an encoded key, at the latest.
const HEAD: usize = 48;

/// Of a key that could not be made.
pub(super) fn kind(kind: KeyKind) -> Option<CryptoError> {
    let is_missing = matches!(
        kind,
        KeyKind::BrainpoolP256r1
            | KeyKind::BrainpoolP320r1
            | KeyKind::BrainpoolP384r1
            | KeyKind::BrainpoolP512r1
    );
    (cfg!(feature = "fips") && is_missing).then(|| not_in_build(&format!("keys of type {kind}")))
}

/// Of an encoded key, private or public, that did not parse.
pub(super) fn encoded(der: &[u8]) -> Option<CryptoError> {
    if !cfg!(feature = "fips") {
        return None;
    }
    let head = der.get(..der.len().min(HEAD)).unwrap_or_default();
    let has = |what: &[u8]| head.windows(what.len()).any(|some| some == what);
    if CURVES.iter().any(|curve| has(&[&BRAINPOOL[..], &[*curve]].concat())) {
        return Some(not_in_build("Brainpool's curves"));
    }
    (has(ML_KEM) && has(SEED)).then(|| not_in_build("ML-KEM keys that come as a seed alone"))
}

fn not_in_build(what: &str) -> CryptoError {
    CryptoError::NotInBuild { what: what.to_owned(), module: module() }
}
