//! PKCS#8 from the attributes of a private key that an application hands in.

use cryptoki_sys::*;
use der::asn1::{OctetStringRef, UintRef};
use der::{Encode, Sequence};
use spki::AlgorithmIdentifierRef;
use zeroize::Zeroizing;

use crate::curve;
use crate::error::Outcome;
use crate::key::{self, Family, KeyFacts};
use crate::parameter_set;
use crate::template::Template;

/// PKCS#8's PrivateKeyInfo (RFC 5958) without attributes.
#[derive(Sequence)]
struct PrivateKeyInfo<'a> {
    version: u8,
    algorithm: AlgorithmIdentifierRef<'a>,
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

/// ECPrivateKey (RFC 5915) without the optional parts: the curve stands in the algorithm, the public key is
/// computed by the partition.
#[derive(Sequence)]
struct EcPrivateKey<'a> {
    version: u8,
    private_key: &'a OctetStringRef,
}

/// A lattice's private key in both forms (RFC 9881, 6; RFC 9935, 6).
#[derive(Sequence)]
struct LatticeBoth<'a> {
    seed: &'a OctetStringRef,
    expanded: &'a OctetStringRef,
}

/// Builds the PKCS#8 of the private key in `template`.
///
/// # Errors
///
/// `CKR_TEMPLATE_INCOMPLETE` if a part is missing (RSA keys need all of the CRT parts, lattice keys their seed),
/// `CKR_ATTRIBUTE_VALUE_INVALID` for numbers of a wrong size, and what [`curve::of_parameters`] says.
pub fn pkcs8(family: Family, template: &Template<'_>) -> Outcome<Zeroizing<Vec<u8>>> {
    match family {
        Family::Rsa => rsa(template),
        Family::MlDsa | Family::MlKem => lattice(family, template),
        Family::Ec | Family::Edwards | Family::Montgomery => {
            let facts = curve::of_parameters(family, template.required(CKA_EC_PARAMS)?)?;
            curve(facts, template.required(CKA_VALUE)?)
        }
        // No pair.
        Family::Aes | Family::Generic | Family::Des3 => Err(CKR_ATTRIBUTE_VALUE_INVALID),
    }
}

fn rsa(template: &Template<'_>) -> Outcome<Zeroizing<Vec<u8>>> {
    let number = |attribute| -> Outcome<UintRef<'_>> {
        UintRef::new(template.required(attribute)?).map_err(|_| CKR_ATTRIBUTE_VALUE_INVALID)
    };
    let key = RsaPrivateKey {
        version: 0,
        modulus: number(CKA_MODULUS)?,
        public_exponent: number(CKA_PUBLIC_EXPONENT)?,
        private_exponent: number(CKA_PRIVATE_EXPONENT)?,
        prime1: number(CKA_PRIME_1)?,
        prime2: number(CKA_PRIME_2)?,
        exponent1: number(CKA_EXPONENT_1)?,
        exponent2: number(CKA_EXPONENT_2)?,
        coefficient: number(CKA_COEFFICIENT)?,
    };
    let facts = key::rsa(key::bits(key.modulus.as_bytes())).ok_or(CKR_ATTRIBUTE_VALUE_INVALID)?;
    wrap(facts, &encode(&key)?)
}

/// RFC 9881, 6, and RFC 9935, 6: the seed, and the expanded key beside it if that is given too. The partition compares them.
fn lattice(family: Family, template: &Template<'_>) -> Outcome<Zeroizing<Vec<u8>>> {
    let invalid = |_| CKR_ATTRIBUTE_VALUE_INVALID;
    let set = template.number(CKA_PARAMETER_SET)?.ok_or(CKR_TEMPLATE_INCOMPLETE)?;
    let facts = parameter_set::of_parameter_set(family, set)?;
    let seed = template.required(CKA_SEED)?;
    if Some(seed.len()) != family.seed() {
        return Err(CKR_ATTRIBUTE_VALUE_INVALID);
    }
    let key = match template.bytes(CKA_VALUE) {
        Some(value) => encode(&LatticeBoth {
            seed: OctetStringRef::new(seed).map_err(invalid)?,
            expanded: OctetStringRef::new(value).map_err(invalid)?,
        })?,
        None => {
            let mut key = Zeroizing::new(Vec::with_capacity(2 + seed.len()));
            // [0] IMPLICIT OCTET STRING.
            key.extend_from_slice(&[0x80, seed.len() as u8]);
            key.extend_from_slice(seed);
            key
        }
    };
    wrap(facts, &key)
}

fn curve(facts: &KeyFacts, scalar: &[u8]) -> Outcome<Zeroizing<Vec<u8>>> {
    // CKA_VALUE is a number without its leading zeros; Ed25519's and X25519's is a string of bytes.
    let too_long = scalar.len().saturating_sub(facts.scalar());
    let (excess, scalar) = scalar.split_at(too_long);
    if excess.iter().any(|byte| *byte != 0) || (facts.family != Family::Ec && scalar.len() != facts.scalar())
    {
        return Err(CKR_ATTRIBUTE_VALUE_INVALID);
    }
    let mut padded = Zeroizing::new(vec![0; facts.scalar() - scalar.len()]);
    padded.reserve_exact(scalar.len());
    padded.extend_from_slice(scalar);
    let scalar = OctetStringRef::new(&padded).map_err(|_| CKR_ATTRIBUTE_VALUE_INVALID)?;
    let key = match facts.family {
        Family::Edwards | Family::Montgomery => encode(&scalar)?,
        _ => encode(&EcPrivateKey { version: 1, private_key: scalar })?,
    };
    wrap(facts, &key)
}

fn wrap(facts: &KeyFacts, key: &[u8]) -> Outcome<Zeroizing<Vec<u8>>> {
    let private_key = OctetStringRef::new(key).map_err(|_| CKR_ATTRIBUTE_VALUE_INVALID)?;
    encode(&PrivateKeyInfo { version: 0, algorithm: key::algorithm(facts), private_key })
}

/// Encodes into memory of the final size from the start, so that no copy of a part stays behind.
fn encode(value: &impl Encode) -> Outcome<Zeroizing<Vec<u8>>> {
    let length = value.encoded_len().map_err(|_| CKR_ATTRIBUTE_VALUE_INVALID)?;
    let mut buffer = Zeroizing::new(vec![0; usize::try_from(length).map_err(|_| CKR_HOST_MEMORY)?]);
    value.encode_to_slice(&mut buffer).map_err(|_| CKR_ATTRIBUTE_VALUE_INVALID)?;
    Ok(buffer)
}

/// Whether the attribute holds part of a private key: never stored, never handed out.
pub fn is_secret(attribute: CK_ATTRIBUTE_TYPE) -> bool {
    matches!(
        attribute,
        CKA_VALUE
            | CKA_SEED
            | CKA_PRIVATE_EXPONENT
            | CKA_PRIME_1
            | CKA_PRIME_2
            | CKA_EXPONENT_1
            | CKA_EXPONENT_2
            | CKA_COEFFICIENT
    )
}
