//! The public half of a key object: from its own attributes, or from the public key or certificate beside it.

use cryptoki_sys::*;
use der::asn1::{AnyRef, BitStringRef, ObjectIdentifier, OctetStringRef, UintRef};
use der::{Decode, Encode, Sequence};
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

use super::KeyKind;
use super::attribute::{Template, ulong};
use super::module::Module;
use super::session::Session;
use crate::error::{Error, Result};
use crate::openssl::{Context, PublicKey, certificate_public_key};

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// Attributes that a public half can be made of, in this order.
const TYPES: [CK_ATTRIBUTE_TYPE; 8] = [
    CKA_KEY_TYPE,
    CKA_MODULUS,
    CKA_PUBLIC_EXPONENT,
    CKA_EC_PARAMS,
    CKA_EC_POINT,
    CKA_PUBLIC_KEY_INFO,
    CKA_ID,
    CKA_LABEL,
];

/// The type and public half of a private or public key object.
///
/// # Errors
///
/// [`Error::Key`] for a type that is not ours, or if neither the object nor what is beside it tells.
pub fn public_key(
    module: &Module,
    session: &Session,
    object: CK_OBJECT_HANDLE,
    context: &Context,
) -> Result<(KeyKind, PublicKey)> {
    let own = Attributes::read(module, session, object)?;
    let kind = own.kind()?;
    let fits = |key: &PublicKey| key.is_a(kind.name());
    if let Some(der) = own.spki(kind) {
        let key = PublicKey::from_der(context, &der)?;
        if !fits(&key) {
            return Err(Error::Key(format!("{} has a public half of another type", own.name())));
        }
        return Ok((kind, key));
    }
    // The object beside it that has the same id, or the same label where there is no id.
    let beside = |class| {
        let template = match (&own.id, &own.label) {
            (Some(id), _) if !id.is_empty() => Template::class(class).and(CKA_ID, id),
            (_, Some(label)) if !label.is_empty() => Template::class(class).and(CKA_LABEL, label),
            _ => return Ok(Vec::new()),
        };
        module.find(session.handle, &template, 8).map_err(|rv| Error::token("C_FindObjects", own.name(), rv))
    };
    let mut public_keys = Vec::new();
    for public in beside(CKO_PUBLIC_KEY)? {
        public_keys.push(Attributes::read(module, session, public)?);
    }
    // Several pairs may share an id: those of the same label come first.
    public_keys.sort_by_key(|public| public.label != own.label);
    for public in public_keys.iter().filter(|public| public.may_belong_to(&own)) {
        if let Some(der) = public.spki(kind)
            && let Some(key) = PublicKey::from_der(context, &der).ok().filter(fits)
        {
            return Ok((kind, key));
        }
    }
    for certificate in beside(CKO_CERTIFICATE)? {
        let value = module
            .attributes(session.handle, certificate, &[CKA_VALUE])
            .map_err(|rv| Error::token("C_GetAttributeValue", own.name(), rv))?;
        if let Some(der) = value.first().and_then(Option::as_deref)
            && let Some(key) = certificate_public_key(context, der).ok().filter(fits)
        {
            return Ok((kind, key));
        }
    }
    Err(Error::Key(format!(
        "{} has no public half: store its public key or certificate in the token, with the same id",
        own.name()
    )))
}

struct Attributes {
    key_type: Option<CK_KEY_TYPE>,
    modulus: Option<Vec<u8>>,
    exponent: Option<Vec<u8>>,
    ec_params: Option<Vec<u8>>,
    ec_point: Option<Vec<u8>>,
    spki: Option<Vec<u8>>,
    id: Option<Vec<u8>>,
    label: Option<Vec<u8>>,
}

impl Attributes {
    fn read(module: &Module, session: &Session, object: CK_OBJECT_HANDLE) -> Result<Self> {
        let values = module
            .attributes(session.handle, object, &TYPES)
            .map_err(|rv| Error::token("C_GetAttributeValue", "a key object", rv))?;
        let mut values = values.into_iter();
        let mut next = || values.next().flatten().filter(|value| !value.is_empty());
        Ok(Attributes {
            key_type: ulong(next().as_ref()),
            modulus: next(),
            exponent: next(),
            ec_params: next(),
            ec_point: next(),
            spki: next(),
            id: next(),
            label: next(),
        })
    }

    fn name(&self) -> String {
        String::from_utf8_lossy(self.label.as_deref().unwrap_or(b"without a label")).into_owned()
    }

    fn kind(&self) -> Result<KeyKind> {
        match self.key_type {
            Some(CKK_RSA) => Ok(KeyKind::Rsa),
            Some(CKK_EC) => Ok(KeyKind::Ec),
            Some(CKK_EC_EDWARDS) => Ok(KeyKind::Ed25519),
            _ => Err(Error::Key(format!(
                "{} has a type that this provider does not use (it uses RSA, EC and Ed25519)",
                self.name()
            ))),
        }
    }

    /// Whether these, of a public key, can be the other half of a private key: what both tell is the same.
    fn may_belong_to(&self, private: &Self) -> bool {
        let agree =
            |one: &Option<Vec<u8>>, other: &Option<Vec<u8>>| one.is_none() || other.is_none() || one == other;
        self.key_type == private.key_type
            && agree(&self.modulus, &private.modulus)
            && agree(&self.ec_params, &private.ec_params)
    }

    /// The DER SubjectPublicKeyInfo, if the attributes suffice.
    fn spki(&self, kind: KeyKind) -> Option<Vec<u8>> {
        if let Some(spki) = &self.spki
            && SubjectPublicKeyInfoRef::from_der(spki).is_ok()
        {
            return Some(spki.clone());
        }
        match kind {
            KeyKind::Rsa => {
                let key = RsaPublicKey {
                    modulus: UintRef::new(self.modulus.as_deref()?).ok()?,
                    exponent: UintRef::new(self.exponent.as_deref()?).ok()?,
                };
                info(RSA_ENCRYPTION, Some(AnyRef::NULL), &key.to_der().ok()?)
            }
            KeyKind::Ec => {
                let params = AnyRef::from_der(self.ec_params.as_deref()?).ok()?;
                info(EC_PUBLIC_KEY, Some(params), point(self.ec_point.as_deref()?))
            }
            KeyKind::Ed25519 => {
                let point = point(self.ec_point.as_deref()?);
                if point.len() != 32 {
                    return None;
                }
                info(ED25519, None, point)
            }
        }
    }
}

#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

/// CKA_EC_POINT is the point in a DER OCTET STRING; some tokens leave the wrapping away.
fn point(attribute: &[u8]) -> &[u8] {
    <&OctetStringRef>::from_der(attribute).map_or(attribute, OctetStringRef::as_bytes)
}

fn info(algorithm: ObjectIdentifier, parameters: Option<AnyRef>, key: &[u8]) -> Option<Vec<u8>> {
    SubjectPublicKeyInfoRef {
        algorithm: AlgorithmIdentifierRef { oid: algorithm, parameters },
        subject_public_key: BitStringRef::from_bytes(key).ok()?,
    }
    .to_der()
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_with_and_without_wrapping() {
        assert_eq!(point(&[4, 2, 7, 8]), [7, 8]);
        let raw = [4u8, 65, 66, 67, 68];
        assert_eq!(point(&raw), raw);
    }

    #[test]
    fn a_public_key_of_another_curve_does_not_belong() {
        let on = |curve: &[u8]| Attributes {
            key_type: Some(CKK_EC),
            ec_params: Some(curve.to_vec()),
            modulus: None,
            exponent: None,
            ec_point: None,
            spki: None,
            id: None,
            label: None,
        };
        assert!(on(&[6, 1, 1]).may_belong_to(&on(&[6, 1, 1])));
        assert!(!on(&[6, 1, 1]).may_belong_to(&on(&[6, 1, 2])));
        assert!(Attributes { ec_params: None, ..on(&[]) }.may_belong_to(&on(&[6, 1, 2])));
    }

    #[test]
    fn libcrypto_reads_what_is_assembled() {
        let context = Context::new().unwrap();
        let attributes = Attributes {
            key_type: Some(CKK_EC_EDWARDS),
            ec_point: Some([&[4, 32][..], &[0x21; 32]].concat()),
            modulus: Some([vec![0x80], vec![1; 255]].concat()),
            exponent: Some(vec![1, 0, 1]),
            ec_params: None,
            spki: None,
            id: None,
            label: None,
        };
        let ed25519 = PublicKey::from_der(&context, &attributes.spki(KeyKind::Ed25519).unwrap()).unwrap();
        assert_eq!(ed25519.signature_size(), 64);
        let rsa = PublicKey::from_der(&context, &attributes.spki(KeyKind::Rsa).unwrap()).unwrap();
        assert_eq!(rsa.signature_size(), 256);
        assert_eq!(attributes.spki(KeyKind::Ec), None);
    }
}
