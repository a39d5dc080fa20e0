//! Makes keys in a token.

use anyhow::{Context, Result, anyhow};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa;
use cryptoki_sys::*;
use der::asn1::{AnyRef, OctetStringRef, UintRef};
use der::{Decode, Sequence};

use crate::module::{Attribute, Module};
use crate::options::Operation;
use crate::token::{Token, key_label};

const TRUE: &[u8] = &[CK_TRUE];
const FALSE: &[u8] = &[CK_FALSE];
/// The object identifier of P-256.
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// The name of Ed25519's curve, a PrintableString, which every module knows.
const EDWARDS25519: &[u8] = b"\x13\x0cedwards25519";
/// 65537.
const F4: &[u8] = &[1, 0, 1];

/// PKCS#8's PrivateKeyInfo (RFC 5958) without attributes.
#[derive(Sequence)]
struct PrivateKeyInfo<'a> {
    version: u8,
    algorithm: AnyRef<'a>,
    private_key: &'a OctetStringRef,
}

/// PKCS#1's RSAPrivateKey (RFC 8017, A.1.2), with two primes.
#[derive(Sequence)]
struct RsaPrivateKey<'a> {
    version: u8,
    modulus: UintRef<'a>,
    public_exponent: UintRef<'a>,
    private_exponent: UintRef<'a>,
    prime1: UintRef<'a>,
    prime2: UintRef<'a>,
    exponent1: UintRef<'a>,
    exponent2: UintRef<'a>,
    coefficient: UintRef<'a>,
}

/// Makes `count` keys, numbered from 0. RSA keys take long to make: one is made here and taken in under all
/// the names.
///
/// # Errors
///
/// What the module says.
pub fn generate(module: &Module, token: Token, operation: Operation, label: &str, count: u32) -> Result<()> {
    let rsa = match operation {
        Operation::Rsa2048 => Some(rsa_key()?),
        _ => None,
    };
    for number in 0..count {
        let label = key_label(label, operation, number);
        // CKA_ID alone tells keys apart for some: the number, and the operation's own byte.
        let mut id = number.to_be_bytes().to_vec();
        id.push(operation as u8 + 1);
        let named: [Attribute<'_>; 3] = [(CKA_TOKEN, TRUE), (CKA_LABEL, label.as_bytes()), (CKA_ID, &id)];
        match (&rsa, operation) {
            (Some(der), _) => import_rsa(module, token, der, &named),
            (None, Operation::AesGcm) => aes(module, token, &named),
            (None, Operation::Ed25519) => {
                pair(module, token, CKM_EC_EDWARDS_KEY_PAIR_GEN, EDWARDS25519, &named)
            }
            (None, _) => pair(module, token, CKM_EC_KEY_PAIR_GEN, P256, &named),
        }
        .with_context(|| format!("key {label:?}"))?;
    }
    Ok(())
}

fn rsa_key() -> Result<Vec<u8>> {
    let pair =
        rsa::KeyPair::generate(rsa::KeySize::Rsa2048).map_err(|_| anyhow!("cannot make an RSA key"))?;
    let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| anyhow!("cannot encode an RSA key"))?;
    Ok(der.as_ref().to_vec())
}

fn import_rsa(module: &Module, token: Token, der: &[u8], named: &[Attribute<'_>]) -> Result<()> {
    let info = PrivateKeyInfo::from_der(der).map_err(|error| anyhow!("PKCS#8: {error}"))?;
    let key =
        RsaPrivateKey::from_der(info.private_key.as_bytes()).map_err(|error| anyhow!("PKCS#1: {error}"))?;
    let class = CKO_PRIVATE_KEY.to_ne_bytes();
    let kind = CKK_RSA.to_ne_bytes();
    let own: [Attribute<'_>; 13] = [
        (CKA_CLASS, &class),
        (CKA_KEY_TYPE, &kind),
        (CKA_PRIVATE, TRUE),
        (CKA_SENSITIVE, TRUE),
        (CKA_SIGN, TRUE),
        (CKA_MODULUS, key.modulus.as_bytes()),
        (CKA_PUBLIC_EXPONENT, key.public_exponent.as_bytes()),
        (CKA_PRIVATE_EXPONENT, key.private_exponent.as_bytes()),
        (CKA_PRIME_1, key.prime1.as_bytes()),
        (CKA_PRIME_2, key.prime2.as_bytes()),
        (CKA_EXPONENT_1, key.exponent1.as_bytes()),
        (CKA_EXPONENT_2, key.exponent2.as_bytes()),
        (CKA_COEFFICIENT, key.coefficient.as_bytes()),
    ];
    debug_assert_eq!(key.public_exponent.as_bytes(), F4);
    module.create(token.session, &[&own, named].concat())
}

fn pair(
    module: &Module,
    token: Token,
    mechanism: CK_MECHANISM_TYPE,
    curve: &[u8],
    named: &[Attribute<'_>],
) -> Result<()> {
    let public: [Attribute<'_>; 2] = [(CKA_EC_PARAMS, curve), (CKA_VERIFY, TRUE)];
    let private: [Attribute<'_>; 3] = [(CKA_PRIVATE, TRUE), (CKA_SENSITIVE, TRUE), (CKA_SIGN, TRUE)];
    module.generate_pair(token.session, mechanism, &[&public, named].concat(), &[&private, named].concat())
}

fn aes(module: &Module, token: Token, named: &[Attribute<'_>]) -> Result<()> {
    let length = (32 as CK_ULONG).to_ne_bytes();
    let own: [Attribute<'_>; 6] = [
        (CKA_PRIVATE, TRUE),
        (CKA_SENSITIVE, TRUE),
        (CKA_EXTRACTABLE, FALSE),
        (CKA_ENCRYPT, TRUE),
        (CKA_DECRYPT, TRUE),
        (CKA_VALUE_LEN, &length),
    ];
    module.generate(token.session, CKM_AES_KEY_GEN, &[&own, named].concat())
}
