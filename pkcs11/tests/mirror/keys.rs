//! Public keys and a certificate that parse: what the module makes attributes of.

use strongroom_pkcs11::key::{self, Family};
use strongroom_pkcs11::parameter_set;
use strongroom_protocol::v1::KeyType;

/// A SubjectPublicKeyInfo of a key type.
pub fn spki(key_type: KeyType) -> Vec<u8> {
    let Some(facts) = key::facts(key_type) else { return Vec::new() };
    match facts.family {
        Family::Rsa => key::rsa_spki(&vec![0xc1; facts.bits / 8], &[1, 0, 1]).unwrap().1,
        Family::MlDsa | Family::MlKem => parameter_set::spki(facts, &vec![7; facts.bits / 8]).unwrap(),
        Family::Ec => key::curve_spki(facts, &vec![4; 1 + 2 * facts.scalar()]).unwrap(),
        _ => Vec::new(),
    }
}

/// A certificate's skeleton: every field in place and almost empty.
pub fn certificate() -> Vec<u8> {
    let tbs = [
        2, 1, 7, // serial number
        0x30, 0, // algorithm
        0x30, 2, 5, 0, // issuer
        0x30, 0, // validity
        0x30, 3, 2, 1, 1, // subject
        0x30, 3, 2, 1, 2, // public key
    ];
    let tbs = [&[0x30, tbs.len() as u8][..], &tbs].concat();
    let rest = [tbs.as_slice(), &[0x30, 0, 3, 1, 0]].concat();
    [&[0x30, rest.len() as u8][..], &rest].concat()
}
