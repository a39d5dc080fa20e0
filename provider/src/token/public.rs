//! The type and public half of a key object: from its own attributes, or from the public key or certificate beside it.

use cryptoki_sys::*;
use der::asn1::{AnyRef, BitStringRef, ObjectIdentifier, OctetStringRef, UintRef};
use der::{Decode, Encode, Sequence};
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

use super::KeyKind;
use super::attribute::{Template, ulong};
use super::module::Module;
use super::session::Session;
use crate::error::{Error, Result};
use crate::openssl::{Context, Hash, PublicKey, certificate_public_key};

/// Attributes that a public half can be made of, in this order.
const TYPES: [CK_ATTRIBUTE_TYPE; 10] = [
    CKA_KEY_TYPE,
    CKA_MODULUS,
    CKA_PUBLIC_EXPONENT,
    CKA_EC_PARAMS,
    CKA_EC_POINT,
    CKA_PUBLIC_KEY_INFO,
    CKA_ID,
    CKA_LABEL,
    CKA_ALLOWED_MECHANISMS,
    CKA_PARAMETER_SET,
];

/// The mechanisms of RSA-PSS, with the hash of each but the first, which signs digests of any.
pub const PSS: [(CK_MECHANISM_TYPE, Option<Hash>); 10] = [
    (CKM_RSA_PKCS_PSS, None),
    (CKM_SHA1_RSA_PKCS_PSS, Some(Hash::Sha1)),
    (CKM_SHA224_RSA_PKCS_PSS, Some(Hash::Sha224)),
    (CKM_SHA256_RSA_PKCS_PSS, Some(Hash::Sha256)),
    (CKM_SHA384_RSA_PKCS_PSS, Some(Hash::Sha384)),
    (CKM_SHA512_RSA_PKCS_PSS, Some(Hash::Sha512)),
    (CKM_SHA3_224_RSA_PKCS_PSS, Some(Hash::Sha3_224)),
    (CKM_SHA3_256_RSA_PKCS_PSS, Some(Hash::Sha3_256)),
    (CKM_SHA3_384_RSA_PKCS_PSS, Some(Hash::Sha3_384)),
    (CKM_SHA3_512_RSA_PKCS_PSS, Some(Hash::Sha3_512)),
];

/// Whether these CKA_ALLOWED_MECHANISMS have a mechanism of RSA-PSS that hashes, and not the one over a digest.
pub fn hashes_in_token(allowed: &[u8]) -> bool {
    let (allowed, _) = allowed.as_chunks();
    let has = |hashes: bool| {
        let mechanisms = PSS.iter().filter(|(_, hash)| hash.is_some() == hashes);
        mechanisms.into_iter().any(|(mechanism, _)| allowed.contains(&mechanism.to_ne_bytes()))
    };
    has(true) && !has(false)
}

/// The type and public half of a private or public key object. `known` is the type that it was loaded as, when it is
/// looked up again: whether an RSA key is for PSS only may depend on what else is in the token.
///
/// # Errors
///
/// [`Error::Key`] for a type that is not ours, or if neither the object nor what is beside it tells.
pub fn public_key(
    module: &Module,
    session: &Session,
    object: CK_OBJECT_HANDLE,
    context: &Context,
    known: Option<KeyKind>,
) -> Result<(KeyKind, PublicKey)> {
    let own = Attributes::read(module, session, object)?;
    let kind = own.kind()?;
    let object = Object { module, session, context, own };
    if !kind.is_rsa() {
        return Ok((kind, object.public_half(kind)?));
    }
    match known {
        Some(known) if known.is_rsa() => Ok((known, object.public_half(known)?)),
        _ => match object.pss_only()? {
            Some(public) => Ok((KeyKind::RsaPss, public)),
            None => Ok((kind, object.public_half(kind)?)),
        },
    }
}

/// A key object.
struct Object<'a> {
    module: &'a Module,
    session: &'a Session<'a>,
    context: &'a Context,
    own: Attributes,
}

impl Object<'_> {
    /// The public half of a key of type `kind`, from its own attributes or from what is beside it.
    fn public_half(&self, kind: KeyKind) -> Result<PublicKey> {
        let fits = |key: &PublicKey| key.is_a(kind.name());
        if let Some(der) = self.own.spki(kind) {
            let key = PublicKey::from_der(self.context, &der)?;
            if !fits(&key) {
                return Err(Error::Key(format!("{} has a public half of another type", self.own.name())));
            }
            return Ok(key);
        }
        let mut public_keys = Vec::new();
        for public in self.beside(CKO_PUBLIC_KEY)? {
            public_keys.push(Attributes::read_public(self.module, self.session, public)?);
        }
        // Several pairs may share an id: those of the same label come first.
        public_keys.sort_by_key(|public| public.label != self.own.label);
        for public in public_keys.iter().filter(|public| public.may_belong_to(&self.own)) {
            if let Some(der) = public.spki(kind)
                && let Some(key) = PublicKey::from_der(self.context, &der).ok().filter(fits)
            {
                return Ok(key);
            }
        }
        self.certified()?.into_iter().find(fits).ok_or_else(|| {
            Error::Key(format!(
                "{} has no public half: store its public key or certificate in the token, with the same id",
                self.own.name()
            ))
        })
    }

    /// The public half of an RSA key that is for PSS only: its certificate says so or, where there is none,
    /// CKA_ALLOWED_MECHANISMS does. A certificate comes first because a server's key must be of its type.
    fn pss_only(&self) -> Result<Option<PublicKey>> {
        let Some(pss) = self.own.spki(KeyKind::RsaPss) else { return Ok(None) };
        let pss = PublicKey::from_der(self.context, &pss)?;
        let certified = self.certified()?;
        if let Some(key) = certified.iter().find(|key| key.is_a(KeyKind::RsaPss.name()) && key.equals(&pss)) {
            return Ok(Some(key.clone()));
        }
        if let Some(der) = self.own.spki(KeyKind::Rsa)
            && let Ok(plain) = PublicKey::from_der(self.context, &der)
            && certified.iter().any(|key| key.is_a(KeyKind::Rsa.name()) && key.equals(&plain))
        {
            return Ok(None);
        }
        match self.own.pss_mechanisms() {
            Some(hashes) => match hashes.as_slice() {
                [hash] => Ok(Some(pss.restricted_to(self.context, *hash)?)),
                _ => Ok(Some(pss)),
            },
            None => Ok(self.own.is_called_pss().then_some(pss)),
        }
    }

    /// The public keys of the certificates beside it.
    fn certified(&self) -> Result<Vec<PublicKey>> {
        let mut keys = Vec::new();
        for certificate in self.beside(CKO_CERTIFICATE)? {
            let value = self
                .module
                .attributes(self.session.handle, certificate, &[CKA_VALUE])
                .map_err(|rv| Error::token("C_GetAttributeValue", self.own.name(), rv))?;
            if let Some(der) = value.first().and_then(Option::as_deref) {
                keys.extend(certificate_public_key(self.context, der).ok());
            }
        }
        Ok(keys)
    }

    /// The objects that have the same id, or the same label where there is no id.
    fn beside(&self, class: CK_OBJECT_CLASS) -> Result<Vec<CK_OBJECT_HANDLE>> {
        let template = match (&self.own.id, &self.own.label) {
            (Some(id), _) if !id.is_empty() => Template::class(class).and(CKA_ID, id),
            (_, Some(label)) if !label.is_empty() => Template::class(class).and(CKA_LABEL, label),
            _ => return Ok(Vec::new()),
        };
        self.module
            .find(self.session.handle, &template, 8)
            .map_err(|rv| Error::token("C_FindObjects", self.own.name(), rv))
    }
}

#[derive(Default)]
struct Attributes {
    key_type: Option<CK_KEY_TYPE>,
    modulus: Option<Vec<u8>>,
    exponent: Option<Vec<u8>>,
    ec_params: Option<Vec<u8>>,
    ec_point: Option<Vec<u8>>,
    spki: Option<Vec<u8>>,
    id: Option<Vec<u8>>,
    label: Option<Vec<u8>>,
    allowed_mechanisms: Option<Vec<u8>>,
    parameter_set: Option<CK_ULONG>,
    /// CKA_VALUE of a public key object that has its public key there. Private keys are never asked for theirs.
    value: Option<Vec<u8>>,
}

impl Attributes {
    fn read(module: &Module, session: &Session, object: CK_OBJECT_HANDLE) -> Result<Self> {
        let types = match TYPES.split_last() {
            Some((&CKA_ALLOWED_MECHANISMS, others)) if !module.has_allowed_mechanisms => others,
            _ => &TYPES,
        };
        let values = module
            .attributes(session.handle, object, types)
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
            allowed_mechanisms: next(),
            parameter_set: ulong(next().as_ref()),
            value: None,
        })
    }

    /// As [`read`](Self::read), of a public key object.
    fn read_public(module: &Module, session: &Session, object: CK_OBJECT_HANDLE) -> Result<Self> {
        let mut attributes = Self::read(module, session, object)?;
        if attributes.parameter_set.is_some() {
            let value = module
                .attributes(session.handle, object, &[CKA_VALUE])
                .map_err(|rv| Error::token("C_GetAttributeValue", "a public key object", rv))?;
            attributes.value = value.into_iter().next().flatten();
        }
        Ok(attributes)
    }

    fn name(&self) -> String {
        String::from_utf8_lossy(self.label.as_deref().unwrap_or(b"without a label")).into_owned()
    }

    fn kind(&self) -> Result<KeyKind> {
        let kind = match (self.key_type, self.parameter_set) {
            (Some(key_type @ (CKK_ML_DSA | CKK_ML_KEM | CKK_SLH_DSA)), Some(parameter_set)) => {
                KeyKind::of_parameter_set(key_type, parameter_set)
            }
            (Some(key_type), _) => KeyKind::of_object(key_type, self.ec_params.as_deref()),
            (None, _) => None,
        };
        kind.ok_or_else(|| {
            Error::Key(format!(
                "{} has a type that this provider does not use (it uses {})",
                self.name(),
                KeyKind::ALL.iter().map(|kind| kind.name().to_string_lossy()).collect::<Vec<_>>().join(", ")
            ))
        })
    }

    /// Whether CKA_PUBLIC_KEY_INFO is that of a key for PSS only.
    fn is_called_pss(&self) -> bool {
        self.own_info().is_some_and(|info| info.algorithm.oid == KeyKind::RsaPss.facts().algorithm)
    }

    /// CKA_PUBLIC_KEY_INFO.
    fn own_info(&self) -> Option<SubjectPublicKeyInfoRef<'_>> {
        SubjectPublicKeyInfoRef::from_der(self.spki.as_deref()?).ok()
    }

    /// The hashes of CKA_ALLOWED_MECHANISMS, if it has mechanisms of RSA-PSS and no others.
    fn pss_mechanisms(&self) -> Option<Vec<Hash>> {
        let (allowed, rest) = self.allowed_mechanisms.as_deref()?.as_chunks();
        if allowed.is_empty() || !rest.is_empty() {
            return None;
        }
        let hashes = allowed.iter().map(|bytes| {
            let mechanism = CK_MECHANISM_TYPE::from_ne_bytes(*bytes);
            PSS.iter().find(|(known, _)| *known == mechanism).map(|(_, hash)| *hash)
        });
        Some(hashes.collect::<Option<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// Whether these, of a public key, can be the other half of a private key: what both tell is the same.
    fn may_belong_to(&self, private: &Self) -> bool {
        let agree =
            |one: &Option<Vec<u8>>, other: &Option<Vec<u8>>| one.is_none() || other.is_none() || one == other;
        // SoftHSM2 names a fixed curve in one way in the public key and in another in the private key.
        let same_curve = match (self.kind(), private.kind()) {
            (Ok(one), Ok(other)) if one.facts().curve.is_some() => one == other,
            _ => agree(&self.ec_params, &private.ec_params),
        };
        self.key_type == private.key_type
            && self.parameter_set == private.parameter_set
            && agree(&self.modulus, &private.modulus)
            && same_curve
    }

    /// The DER SubjectPublicKeyInfo of a key of type `kind`, if the attributes suffice.
    fn spki(&self, kind: KeyKind) -> Option<Vec<u8>> {
        let facts = kind.facts();
        if self.own_info().is_some_and(|info| info.algorithm.oid == facts.algorithm) {
            return self.spki.clone();
        }
        if kind.is_rsa() {
            let key = RsaPublicKey {
                modulus: UintRef::new(self.modulus.as_deref()?).ok()?,
                exponent: UintRef::new(self.exponent.as_deref()?).ok()?,
            };
            // PSS without parameters is PSS without further restrictions (RFC 4055, 3.3).
            let parameters = (kind == KeyKind::Rsa).then_some(AnyRef::NULL);
            return info(facts.algorithm, parameters, &key.to_der().ok()?);
        }
        if facts.parameter_set.is_some() {
            return info(facts.algorithm, None, self.value.as_deref()?);
        }
        let point = point(self.ec_point.as_deref()?);
        match &facts.curve {
            Some(curve) if point.len() == curve.point => info(facts.algorithm, None, point),
            Some(_) => None,
            None => {
                let params = AnyRef::from_der(self.ec_params.as_deref()?).ok()?;
                info(facts.algorithm, Some(params), point)
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
            ..Attributes::default()
        };
        assert!(on(&[6, 1, 1]).may_belong_to(&on(&[6, 1, 1])));
        assert!(!on(&[6, 1, 1]).may_belong_to(&on(&[6, 1, 2])));
        let edwards = |curve: &[u8]| Attributes { key_type: Some(CKK_EC_EDWARDS), ..on(curve) };
        let (oid, name) = ([6, 3, 0x2b, 0x65, 0x70], b"\x13\x0cedwards25519");
        assert!(edwards(&oid).may_belong_to(&edwards(name)));
        assert!(!edwards(&[6, 3, 0x2b, 0x65, 0x71]).may_belong_to(&edwards(name)));
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
            ..Attributes::default()
        };
        let read = |kind| PublicKey::from_der(&context, &attributes.spki(kind).unwrap()).unwrap();
        assert_eq!(read(KeyKind::Ed25519).signature_size(), 64);
        assert!(read(KeyKind::X25519).is_a(c"X25519"));
        assert_eq!(attributes.spki(KeyKind::Ed448), None, "of another size");
        assert_eq!(read(KeyKind::Rsa).signature_size(), 256);
        assert!(read(KeyKind::RsaPss).is_a(c"RSA-PSS"));
        assert_eq!(attributes.spki(KeyKind::Ec), None);
    }

    #[test]
    fn allowed_mechanisms_say_that_a_key_is_for_pss() {
        let hashes = |mechanisms: &[CK_MECHANISM_TYPE]| {
            let allowed = mechanisms.iter().flat_map(|mechanism| mechanism.to_ne_bytes()).collect();
            Attributes { allowed_mechanisms: Some(allowed), ..Attributes::default() }.pss_mechanisms()
        };
        assert_eq!(hashes(&PSS.map(|(mechanism, _)| mechanism)).map(|hashes| hashes.len()), Some(9));
        assert_eq!(hashes(&[CKM_RSA_PKCS_PSS]), Some(vec![]));
        assert_eq!(hashes(&[CKM_RSA_PKCS_PSS, CKM_SHA256_RSA_PKCS_PSS]), Some(vec![Hash::Sha256]));
        assert_eq!(hashes(&[CKM_SHA256_RSA_PKCS_PSS, CKM_RSA_PKCS]), None);
        assert_eq!(hashes(&[]), None);
        assert!(hashes_in_token(&CKM_SHA256_RSA_PKCS_PSS.to_ne_bytes()));
        assert!(!hashes_in_token(
            &[CKM_SHA256_RSA_PKCS_PSS.to_ne_bytes(), CKM_RSA_PKCS_PSS.to_ne_bytes()].concat()
        ));
        assert!(!hashes_in_token(&[]));
        assert_eq!(Attributes::default().pss_mechanisms(), None);
    }
}
