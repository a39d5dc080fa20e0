//! The AlgorithmIdentifier of a signature, which X.509 and CMS put beside it (RFC 8017, RFC 5758, RFC 8410).

use der::asn1::{Any, ContextSpecific, Null, ObjectIdentifier};
use der::{Encode, Sequence, TagMode, TagNumber};
use spki::AlgorithmIdentifierOwned;

use super::scheme::{Padding, Scheme};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::openssl::Hash;
use crate::token::KeyKind;

const MGF1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.8");
const RSASSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");

/// RSASSA-PSS-params (RFC 8017, A.2.3); absent fields are the defaults.
#[derive(Sequence)]
struct PssParams {
    hash: Option<ContextSpecific<AlgorithmIdentifierOwned>>,
    mgf: Option<ContextSpecific<AlgorithmIdentifierOwned>>,
    salt: Option<ContextSpecific<u32>>,
}

/// The DER of the AlgorithmIdentifier of signatures by `key` under `scheme`.
///
/// # Errors
///
/// [`Error::Unsupported`] if there is none: a signature without a hash.
pub fn algorithm_identifier(key: &Key, scheme: &Scheme) -> Result<Vec<u8>> {
    let none = || Error::Unsupported("this signature has no AlgorithmIdentifier: choose a digest".into());
    let encode = |oid, parameters| AlgorithmIdentifierOwned { oid, parameters }.to_der().map_err(|_| none());
    if key.kind.signs_messages() {
        return encode(key.kind.facts().algorithm, None);
    }
    let hash = scheme.hash.ok_or_else(none)?;
    match (key.kind, scheme.padding) {
        (KeyKind::Rsa, Padding::Pkcs1) => {
            encode(oids(hash).and_then(|oids| oids.rsa).ok_or_else(none)?, Some(Null.into()))
        }
        (KeyKind::Rsa | KeyKind::RsaPss, Padding::Pss) => {
            let salt = scheme.salt_bytes(hash, key.public()?.bits())?;
            let parameters = pss_params(hash, scheme.mgf1.unwrap_or(hash), salt).ok_or_else(none)?;
            encode(RSASSA_PSS, Some(parameters))
        }
        _ => encode(oids(hash).and_then(|oids| oids.ecdsa).ok_or_else(none)?, None),
    }
}

fn pss_params(hash: Hash, mgf1: Hash, salt: usize) -> Option<Any> {
    let explicit =
        |number, value| ContextSpecific { tag_number: TagNumber(number), tag_mode: TagMode::Explicit, value };
    let digest =
        |hash| Some(AlgorithmIdentifierOwned { oid: oids(hash)?.digest, parameters: Some(Null.into()) });
    let mask =
        AlgorithmIdentifierOwned { oid: MGF1, parameters: Some(Any::encode_from(&digest(mgf1)?).ok()?) };
    let params = PssParams {
        hash: if hash == Hash::Sha1 { None } else { Some(explicit(0, digest(hash)?)) },
        mgf: if mgf1 == Hash::Sha1 { None } else { Some(explicit(1, mask)) },
        salt: if salt == 20 {
            None
        } else {
            Some(ContextSpecific {
                tag_number: TagNumber(2),
                tag_mode: TagMode::Explicit,
                value: u32::try_from(salt).ok()?,
            })
        },
    };
    Any::encode_from(&params).ok()
}

/// A hash's object identifiers: its own, and those of signatures with it, where they have any.
struct Oids {
    digest: ObjectIdentifier,
    rsa: Option<ObjectIdentifier>,
    ecdsa: Option<ObjectIdentifier>,
}

fn oids(hash: Hash) -> Option<Oids> {
    fn make(digest: &str, rsa: &str, ecdsa: &str) -> Option<Oids> {
        let oid = |text| ObjectIdentifier::new(text).ok();
        Some(Oids { digest: oid(digest)?, rsa: oid(rsa), ecdsa: oid(ecdsa) })
    }
    match hash {
        Hash::Md5Sha1 => None,
        Hash::Sha1 => make("1.3.14.3.2.26", "1.2.840.113549.1.1.5", "1.2.840.10045.4.1"),
        Hash::Sha224 => make("2.16.840.1.101.3.4.2.4", "1.2.840.113549.1.1.14", "1.2.840.10045.4.3.1"),
        Hash::Sha256 => make("2.16.840.1.101.3.4.2.1", "1.2.840.113549.1.1.11", "1.2.840.10045.4.3.2"),
        Hash::Sha384 => make("2.16.840.1.101.3.4.2.2", "1.2.840.113549.1.1.12", "1.2.840.10045.4.3.3"),
        Hash::Sha512 => make("2.16.840.1.101.3.4.2.3", "1.2.840.113549.1.1.13", "1.2.840.10045.4.3.4"),
        Hash::Sha3_224 => make("2.16.840.1.101.3.4.2.7", "2.16.840.1.101.3.4.3.13", "2.16.840.1.101.3.4.3.9"),
        Hash::Sha3_256 => {
            make("2.16.840.1.101.3.4.2.8", "2.16.840.1.101.3.4.3.14", "2.16.840.1.101.3.4.3.10")
        }
        Hash::Sha3_384 => {
            make("2.16.840.1.101.3.4.2.9", "2.16.840.1.101.3.4.3.15", "2.16.840.1.101.3.4.3.11")
        }
        Hash::Sha3_512 => {
            make("2.16.840.1.101.3.4.2.10", "2.16.840.1.101.3.4.3.16", "2.16.840.1.101.3.4.3.12")
        }
        Hash::Sha512_224 => make("2.16.840.1.101.3.4.2.5", "1.2.840.113549.1.1.15", ""),
        Hash::Sha512_256 => make("2.16.840.1.101.3.4.2.6", "1.2.840.113549.1.1.16", ""),
        Hash::Ripemd160 => make("1.3.36.3.2.1", "1.3.36.3.3.1.2", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pss_params_leave_the_defaults_away() {
        let der = |hash, salt| pss_params(hash, hash, salt).unwrap().to_der().unwrap();
        assert_eq!(der(Hash::Sha1, 20), [0x30, 0]);
        // As 'openssl req -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32 -sha256' writes them.
        let expected = "3034a00f300d06096086480165030402010500a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120";
        let text: String = der(Hash::Sha256, 32).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, expected);
    }
}
