//! An object of the partition as PKCS#11's attributes.

use std::borrow::Cow;

use cryptoki_sys::*;
use strongroom_protocol::v1::{Attribute, Hash, KeyPolicy, ObjectClass, ObjectInfo};
use zeroize::Zeroize;

use crate::certificate::Certificate;
use crate::error::Outcome;
use crate::key::{self, Family, KeyFacts, PublicKey};
use crate::template::Template;
use crate::{hash, import, parameter_set, restrictions};

/// An object's identity on the wire.
pub type ObjectId = [u8; 16];

/// An object that the daemon has described, with its DER parsed once.
#[derive(Debug)]
pub struct Object {
    /// What the daemon said.
    pub info: ObjectInfo,
    /// Its identity.
    pub id: ObjectId,
    /// Of keys.
    pub key: Option<&'static KeyFacts>,
    public: Option<PublicKey>,
    certificate: Option<Certificate>,
    /// Nobody but this process has it: see [`crate::session_objects`].
    is_local: bool,
}

impl Drop for Object {
    /// A private data object, or a secret, is not to be found in memory after log-out.
    fn drop(&mut self) {
        if self.info.private || self.info.class() == ObjectClass::SecretKey {
            self.info.value.zeroize();
        }
    }
}

/// What an object has under an attribute's name.
#[derive(Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// These bytes.
    Bytes(Cow<'a, [u8]>),
    /// A template of other keys.
    Template(&'a [Attribute]),
    /// Something that never leaves the partition.
    Sensitive,
    /// No such attribute.
    Absent,
}

impl Object {
    /// Takes the daemon's description; `None` if it lacks an identity (it is not of this protocol).
    pub fn new(info: ObjectInfo) -> Option<Self> {
        let id = info.object.as_slice().try_into().ok()?;
        let key = key::facts(info.key_type());
        let public = key.and_then(|facts| PublicKey::of_spki(facts, &info.public_key));
        let certificate = match info.class() {
            ObjectClass::Certificate => Certificate::parse(&info.value),
            _ => None,
        };
        Some(Object { info, id, key, public, certificate, is_local: false })
    }

    /// A session object that no daemon knows: what it holds stands in the description, also a secret. `None` if it lacks an identity.
    pub fn local(info: ObjectInfo) -> Option<Self> {
        let mut object = Object::new(info)?;
        object.is_local = true;
        Some(object)
    }

    /// Whether no daemon knows it: it is this process's alone.
    pub fn is_local(&self) -> bool {
        self.is_local
    }

    /// Whether it is a secret key whose value can be read.
    pub fn is_readable(&self) -> bool {
        is_readable(&self.info)
    }

    /// The length of its value in bytes, of secret keys.
    pub fn value_length(&self) -> Option<usize> {
        match self.key {
            Some(facts) if facts.family == Family::Generic => Some(self.info.value_length as usize),
            facts => facts.map(|facts| facts.bits / 8),
        }
    }

    /// Of public and private keys.
    pub fn public(&self) -> Option<&PublicKey> {
        self.public.as_ref()
    }

    /// What it may be used for.
    pub fn policy(&self) -> KeyPolicy {
        self.info.policy.unwrap_or_default()
    }

    /// The value of an attribute.
    pub fn attribute(&self, attribute: CK_ATTRIBUTE_TYPE) -> Value<'_> {
        let common = self.common(attribute);
        if common != Value::Absent {
            return common;
        }
        let own = match self.info.class() {
            ObjectClass::PrivateKey => self.private_key(attribute),
            ObjectClass::SecretKey => self.secret_key(attribute),
            ObjectClass::PublicKey => self.public_key(attribute),
            ObjectClass::Certificate => self.certificate(attribute),
            ObjectClass::Data => self.data(attribute),
            ObjectClass::Unspecified => Value::Absent,
        };
        if own != Value::Absent {
            return own;
        }
        // What a client stored with it, else the standard's default.
        match self.info.attributes.iter().find(|stored| stored.r#type == attribute) {
            Some(stored) => bytes(&stored.value),
            None => self.default_of(attribute),
        }
    }

    /// Whether it fits a search template.
    pub fn matches(&self, template: &Template<'_>) -> bool {
        template.iter().all(|(attribute, wanted)| match (attribute, &self.certificate) {
            (CKA_SERIAL_NUMBER, Some(certificate)) => certificate.has_serial_number(wanted),
            (CKA_WRAP_TEMPLATE | CKA_UNWRAP_TEMPLATE | CKA_DERIVE_TEMPLATE, _) => {
                let known = self.attribute(attribute);
                matches!((known, template.nested(attribute)), (Value::Template(known), Some(wanted)) if is_same(known, wanted))
            }
            _ => matches!(self.attribute(attribute), Value::Bytes(value) if value == wanted),
        })
    }

    /// About how many bytes it takes in the partition: `C_GetObjectSize`.
    pub fn size(&self) -> usize {
        let attributes: usize = self.info.attributes.iter().map(|stored| stored.value.len() + 16).sum();
        let info = &self.info;
        info.public_key.len() + info.value.len() + info.label.len() + info.id.len() + attributes + 128
    }

    fn common(&self, attribute: CK_ATTRIBUTE_TYPE) -> Value<'_> {
        match attribute {
            CKA_CLASS => number(class_of(self.info.class())),
            CKA_TOKEN => boolean(!self.info.session),
            CKA_COPYABLE => boolean(!self.info.not_copyable),
            CKA_PRIVATE => boolean(self.info.private),
            CKA_MODIFIABLE => boolean(!self.info.not_modifiable),
            CKA_DESTROYABLE => boolean(!self.info.not_destroyable),
            CKA_LABEL => bytes(self.info.label.as_bytes()),
            CKA_UNIQUE_ID => owned(hexadecimal(&self.id).into_bytes()),
            _ => Value::Absent,
        }
    }

    /// What all keys share.
    fn key(&self, attribute: CK_ATTRIBUTE_TYPE) -> Value<'_> {
        let Some(facts) = self.key else { return Value::Absent };
        match (attribute, &self.public) {
            (CKA_KEY_TYPE, _) => number(self.one_use().unwrap_or(facts.family.key_type())),
            (CKA_ID, _) => bytes(&self.info.id),
            (CKA_LOCAL, _) => boolean(self.policy().local),
            (CKA_DERIVE, _) => boolean(self.policy().derive),
            // What the partition is built from may be validated; no key is marked as such.
            (CKA_OBJECT_VALIDATION_FLAGS, _) => number(0),
            (CKA_KEY_GEN_MECHANISM, _) => number(match self.policy().local {
                true => {
                    self.one_use().and_then(key::generator_for_one_use).unwrap_or(facts.family.generator())
                }
                false => CK_UNAVAILABLE_INFORMATION,
            }),
            (CKA_WRAP_TEMPLATE | CKA_UNWRAP_TEMPLATE | CKA_DERIVE_TEMPLATE, _) => {
                restrictions::template_of(self.info.templates.as_ref(), attribute)
                    .map_or(Value::Absent, Value::Template)
            }
            (CKA_PUBLIC_KEY_INFO, _) => bytes(&self.info.public_key),
            (CKA_MODULUS, Some(PublicKey::Rsa { modulus, .. })) => bytes(modulus),
            (CKA_PUBLIC_EXPONENT, Some(PublicKey::Rsa { exponent, .. })) => bytes(exponent),
            (CKA_MODULUS_BITS, _) if facts.family == Family::Rsa => number(facts.bits as CK_ULONG),
            (CKA_EC_PARAMS, Some(PublicKey::Curve { parameters, .. })) => bytes(parameters),
            (CKA_EC_POINT, Some(PublicKey::Curve { point, .. })) => bytes(point),
            (CKA_ALLOWED_MECHANISMS, _) if !self.info.allowed_mechanisms.is_empty() => {
                owned(self.info.allowed_mechanisms.iter().flat_map(|number| number.to_ne_bytes()).collect())
            }
            (CKA_PARAMETER_SET, _) => {
                parameter_set::parameter_set(facts.key_type).map_or(Value::Absent, number)
            }
            _ => Value::Absent,
        }
    }

    /// The type of a generic secret that is for one use.
    fn one_use(&self) -> Option<CK_KEY_TYPE> {
        let kept = self.info.attributes.iter().find(|kept| kept.r#type == CKA_KEY_TYPE)?;
        kept.value.as_slice().try_into().ok().map(CK_KEY_TYPE::from_ne_bytes)
    }

    fn private_key(&self, attribute: CK_ATTRIBUTE_TYPE) -> Value<'_> {
        let policy = self.policy();
        match attribute {
            // The partition never shows a private key in the clear, extractable (wrapped) or not.
            CKA_SENSITIVE => boolean(true),
            CKA_EXTRACTABLE => boolean(policy.extractable),
            CKA_ALWAYS_SENSITIVE => boolean(policy.always_sensitive),
            CKA_NEVER_EXTRACTABLE => boolean(policy.never_extractable),
            CKA_SIGN => boolean(policy.sign),
            CKA_DECRYPT => boolean(policy.decrypt),
            CKA_UNWRAP => boolean(policy.unwrap),
            CKA_DECAPSULATE => boolean(policy.decapsulate),
            CKA_WRAP_WITH_TRUSTED => boolean(policy.wrap_with_trusted),
            CKA_SIGN_RECOVER => boolean(policy.sign_recover),
            CKA_ALWAYS_AUTHENTICATE => boolean(policy.always_authenticate),
            _ if import::is_secret(attribute) => Value::Sensitive,
            _ => self.key(attribute),
        }
    }

    fn public_key(&self, attribute: CK_ATTRIBUTE_TYPE) -> Value<'_> {
        let policy = self.policy();
        match attribute {
            CKA_VERIFY => boolean(policy.verify),
            CKA_ENCRYPT => boolean(policy.encrypt),
            CKA_WRAP => boolean(policy.wrap),
            CKA_ENCAPSULATE => boolean(policy.encapsulate),
            CKA_TRUSTED => boolean(policy.trusted),
            CKA_VERIFY_RECOVER => boolean(policy.verify_recover),
            CKA_VALUE => match &self.public {
                Some(PublicKey::Lattice(value)) => bytes(value),
                _ => Value::Absent,
            },
            _ => self.key(attribute),
        }
    }

    fn secret_key(&self, attribute: CK_ATTRIBUTE_TYPE) -> Value<'_> {
        let policy = self.policy();
        match attribute {
            CKA_SENSITIVE => boolean(!policy.not_sensitive),
            CKA_VALUE if self.is_local => bytes(&self.info.value),
            // The daemon is asked for those that can be read: see [`Object::is_readable`].
            CKA_VALUE => Value::Sensitive,
            CKA_EXTRACTABLE => boolean(policy.extractable),
            CKA_ALWAYS_SENSITIVE => boolean(policy.always_sensitive),
            CKA_NEVER_EXTRACTABLE => boolean(policy.never_extractable),
            CKA_ENCRYPT => boolean(policy.encrypt),
            CKA_DECRYPT => boolean(policy.decrypt),
            CKA_SIGN => boolean(policy.sign),
            CKA_VERIFY => boolean(policy.verify),
            CKA_WRAP => boolean(policy.wrap),
            CKA_UNWRAP => boolean(policy.unwrap),
            CKA_WRAP_WITH_TRUSTED => boolean(policy.wrap_with_trusted),
            CKA_TRUSTED => boolean(policy.trusted),
            CKA_VALUE_LEN => self.value_length().map_or(Value::Absent, |length| number(length as CK_ULONG)),
            // There is no public half.
            CKA_PUBLIC_KEY_INFO => Value::Absent,
            _ => self.key(attribute),
        }
    }

    fn certificate(&self, attribute: CK_ATTRIBUTE_TYPE) -> Value<'_> {
        match (attribute, &self.certificate) {
            (CKA_CERTIFICATE_TYPE, _) => number(CKC_X_509),
            (CKA_VALUE, _) => bytes(&self.info.value),
            (CKA_ID, _) => bytes(&self.info.id),
            (CKA_TRUSTED, _) => boolean(false),
            (CKA_CHECK_VALUE, _) => check_value(&self.info.value),
            (CKA_SUBJECT, Some(certificate)) => bytes(&certificate.subject),
            (CKA_ISSUER, Some(certificate)) => bytes(&certificate.issuer),
            (CKA_SERIAL_NUMBER, Some(certificate)) => bytes(&certificate.serial_number),
            (CKA_PUBLIC_KEY_INFO, Some(certificate)) => bytes(&certificate.public_key_info),
            _ => Value::Absent,
        }
    }

    fn data(&self, attribute: CK_ATTRIBUTE_TYPE) -> Value<'_> {
        match attribute {
            CKA_VALUE => bytes(&self.info.value),
            _ => Value::Absent,
        }
    }

    /// Attributes that an object of this class has even if nobody gave them.
    fn default_of(&self, attribute: CK_ATTRIBUTE_TYPE) -> Value<'static> {
        let class = self.info.class();
        let is_pair = matches!(class, ObjectClass::PrivateKey | ObjectClass::PublicKey);
        let is_key = is_pair || class == ObjectClass::SecretKey;
        let is_certificate = class == ObjectClass::Certificate;
        match attribute {
            CKA_SUBJECT if is_pair => bytes(&[]),
            CKA_START_DATE | CKA_END_DATE if is_key || is_certificate => bytes(&[]),
            CKA_CERTIFICATE_CATEGORY if is_certificate => number(CK_CERTIFICATE_CATEGORY_UNSPECIFIED),
            CKA_JAVA_MIDP_SECURITY_DOMAIN if is_certificate => number(CK_SECURITY_DOMAIN_UNSPECIFIED),
            CKA_NAME_HASH_ALGORITHM if is_certificate => number(CKM_SHA_1),
            CKA_URL | CKA_HASH_OF_SUBJECT_PUBLIC_KEY | CKA_HASH_OF_ISSUER_PUBLIC_KEY if is_certificate => {
                bytes(&[])
            }
            CKA_APPLICATION | CKA_OBJECT_ID if class == ObjectClass::Data => bytes(&[]),
            _ => Value::Absent,
        }
    }
}

/// Whether two templates say the same, in whatever order.
fn is_same(one: &[Attribute], other: &[Attribute]) -> bool {
    one.len() == other.len() && one.iter().all(|attribute| other.contains(attribute))
}

/// Whether a description is of a secret key whose value can be read.
pub fn is_readable(info: &ObjectInfo) -> bool {
    let policy = info.policy.unwrap_or_default();
    info.class() == ObjectClass::SecretKey
        && policy.not_sensitive
        && policy.extractable
        && !policy.wrap_with_trusted
}

/// Attributes that the partition keeps for a client without interpreting them, in objects of any class.
pub fn is_kept(class: ObjectClass, attribute: CK_ATTRIBUTE_TYPE) -> bool {
    match class {
        ObjectClass::PrivateKey | ObjectClass::PublicKey => {
            matches!(attribute, CKA_SUBJECT | CKA_START_DATE | CKA_END_DATE)
        }
        ObjectClass::SecretKey => matches!(attribute, CKA_START_DATE | CKA_END_DATE),
        ObjectClass::Certificate => matches!(
            attribute,
            CKA_START_DATE
                | CKA_END_DATE
                | CKA_CERTIFICATE_CATEGORY
                | CKA_JAVA_MIDP_SECURITY_DOMAIN
                | CKA_NAME_HASH_ALGORITHM
                | CKA_URL
                | CKA_HASH_OF_SUBJECT_PUBLIC_KEY
                | CKA_HASH_OF_ISSUER_PUBLIC_KEY
        ),
        ObjectClass::Data => matches!(attribute, CKA_APPLICATION | CKA_OBJECT_ID),
        ObjectClass::Unspecified => false,
    }
}

/// Whether an object of this class can be made with the attribute.
///
/// # Errors
///
/// `CKR_ATTRIBUTE_READ_ONLY` for what the partition sets, `CKR_ATTRIBUTE_TYPE_INVALID` for what it does not know:
/// ignoring it could make a key that may do more than its owner wants.
pub fn may_be_given(class: ObjectClass, attribute: CK_ATTRIBUTE_TYPE) -> Outcome {
    let of_keys = matches!(
        attribute,
        CKA_KEY_TYPE
            | CKA_ID
            | CKA_DERIVE
            | CKA_PUBLIC_KEY_INFO
            | CKA_EC_PARAMS
            | CKA_EC_POINT
            | CKA_MODULUS
            | CKA_MODULUS_BITS
            | CKA_PUBLIC_EXPONENT
            | CKA_PARAMETER_SET
    );
    let of_class = match class {
        ObjectClass::PrivateKey => {
            of_keys
                || import::is_secret(attribute)
                || matches!(
                    attribute,
                    CKA_SENSITIVE
                        | CKA_EXTRACTABLE
                        | CKA_SIGN
                        | CKA_SIGN_RECOVER
                        | CKA_DECRYPT
                        | CKA_UNWRAP
                        | CKA_DECAPSULATE
                        | CKA_ALWAYS_AUTHENTICATE
                        | CKA_WRAP_WITH_TRUSTED
                )
        }
        ObjectClass::PublicKey => {
            of_keys
                || matches!(
                    attribute,
                    CKA_VALUE
                        | CKA_VERIFY
                        | CKA_VERIFY_RECOVER
                        | CKA_ENCRYPT
                        | CKA_WRAP
                        | CKA_ENCAPSULATE
                        | CKA_TRUSTED
                )
        }
        ObjectClass::SecretKey => matches!(
            attribute,
            CKA_KEY_TYPE
                | CKA_ID
                | CKA_VALUE
                | CKA_VALUE_LEN
                | CKA_SENSITIVE
                | CKA_EXTRACTABLE
                | CKA_ENCRYPT
                | CKA_DECRYPT
                | CKA_SIGN
                | CKA_VERIFY
                | CKA_WRAP
                | CKA_UNWRAP
                | CKA_DERIVE
                | CKA_TRUSTED
                | CKA_WRAP_WITH_TRUSTED
        ),
        ObjectClass::Certificate => matches!(
            attribute,
            CKA_CERTIFICATE_TYPE
                | CKA_VALUE
                | CKA_ID
                | CKA_SUBJECT
                | CKA_ISSUER
                | CKA_SERIAL_NUMBER
                | CKA_TRUSTED
                | CKA_CHECK_VALUE
                | CKA_PUBLIC_KEY_INFO
        ),
        ObjectClass::Data => attribute == CKA_VALUE,
        ObjectClass::Unspecified => false,
    };
    match attribute {
        CKA_LOCAL
        | CKA_ALWAYS_SENSITIVE
        | CKA_NEVER_EXTRACTABLE
        | CKA_KEY_GEN_MECHANISM
        | CKA_UNIQUE_ID
        | CKA_OBJECT_VALIDATION_FLAGS => Err(CKR_ATTRIBUTE_READ_ONLY),
        CKA_CLASS | CKA_TOKEN | CKA_PRIVATE | CKA_MODIFIABLE | CKA_COPYABLE | CKA_DESTROYABLE | CKA_LABEL => {
            Ok(())
        }
        _ if of_class || is_kept(class, attribute) || restrictions::may_be_given(class, attribute) => Ok(()),
        _ => Err(CKR_ATTRIBUTE_TYPE_INVALID),
    }
}

/// Whether `C_SetAttributeValue` can change the attribute in an object of this class. Whether it can in this object, and to
/// what, is another question.
pub fn may_be_changed(class: ObjectClass, attribute: CK_ATTRIBUTE_TYPE) -> bool {
    let holds_key = matches!(class, ObjectClass::PrivateKey | ObjectClass::SecretKey);
    match attribute {
        CKA_LABEL => true,
        CKA_ID => class != ObjectClass::Data,
        CKA_EXTRACTABLE | CKA_WRAP_WITH_TRUSTED => holds_key,
        CKA_SENSITIVE => class == ObjectClass::SecretKey,
        CKA_TRUSTED => matches!(class, ObjectClass::PublicKey | ObjectClass::SecretKey),
        _ => is_kept(class, attribute),
    }
}

/// The class of a `CKA_CLASS`.
///
/// # Errors
///
/// `CKR_ATTRIBUTE_VALUE_INVALID` for a class that the partition does not have.
pub fn class_from(class: CK_OBJECT_CLASS) -> Outcome<ObjectClass> {
    Ok(match class {
        CKO_PRIVATE_KEY => ObjectClass::PrivateKey,
        CKO_PUBLIC_KEY => ObjectClass::PublicKey,
        CKO_SECRET_KEY => ObjectClass::SecretKey,
        CKO_CERTIFICATE => ObjectClass::Certificate,
        CKO_DATA => ObjectClass::Data,
        _ => return Err(CKR_ATTRIBUTE_VALUE_INVALID),
    })
}

fn class_of(class: ObjectClass) -> CK_OBJECT_CLASS {
    match class {
        ObjectClass::PrivateKey => CKO_PRIVATE_KEY,
        ObjectClass::PublicKey => CKO_PUBLIC_KEY,
        ObjectClass::SecretKey => CKO_SECRET_KEY,
        ObjectClass::Certificate => CKO_CERTIFICATE,
        ObjectClass::Data => CKO_DATA,
        ObjectClass::Unspecified => CKO_VENDOR_DEFINED,
    }
}

/// The first three bytes of the SHA-1 of a certificate.
fn check_value(certificate: &[u8]) -> Value<'static> {
    let Some(mut digest) = hash::start(Hash::Sha1) else { return Value::Absent };
    digest.update(certificate);
    let mut digest = digest.finalize().into_vec();
    digest.truncate(3);
    owned(digest)
}

fn bytes(value: &[u8]) -> Value<'_> {
    Value::Bytes(Cow::Borrowed(value))
}

fn owned(value: Vec<u8>) -> Value<'static> {
    Value::Bytes(Cow::Owned(value))
}

fn boolean(value: bool) -> Value<'static> {
    bytes(if value { &[CK_TRUE] } else { &[CK_FALSE] })
}

fn number(value: CK_ULONG) -> Value<'static> {
    owned(value.to_ne_bytes().to_vec())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use strongroom_ffi::output::Length;
    use strongroom_protocol::v1::KeyType;

    use super::*;

    fn private_key() -> Object {
        let (_, spki) = key::rsa_spki(&[0xc1; 256], &[1, 0, 1]).unwrap();
        Object::new(ObjectInfo {
            object: vec![0xab; 16],
            class: ObjectClass::PrivateKey.into(),
            label: "web".into(),
            id: vec![1],
            key_type: KeyType::Rsa2048.into(),
            policy: Some(KeyPolicy { sign: true, local: true, ..KeyPolicy::default() }),
            public_key: spki,
            private: true,
            attributes: vec![Attribute { r#type: CKA_SUBJECT, value: vec![0x30, 0] }],
            ..ObjectInfo::default()
        })
        .unwrap()
    }

    #[test]
    fn a_private_key_shows_its_public_half_and_nothing_else() {
        let object = private_key();
        assert_eq!(object.attribute(CKA_CLASS), number(CKO_PRIVATE_KEY));
        assert_eq!(object.attribute(CKA_KEY_TYPE), number(CKK_RSA));
        assert_eq!(object.attribute(CKA_MODULUS), bytes(&[0xc1; 256]));
        assert_eq!(object.attribute(CKA_PUBLIC_EXPONENT), bytes(&[1, 0, 1]));
        assert_eq!(object.attribute(CKA_SIGN), boolean(true));
        assert_eq!(object.attribute(CKA_DECRYPT), boolean(false));
        assert_eq!(object.attribute(CKA_SUBJECT), bytes(&[0x30, 0]));
        assert_eq!(object.attribute(CKA_START_DATE), bytes(&[]));
        assert_eq!(object.attribute(CKA_UNIQUE_ID), bytes("ab".repeat(16).as_bytes()));
        assert_eq!(object.attribute(CKA_VERIFY), Value::Absent);
        assert_eq!(object.attribute(CKA_EC_POINT), Value::Absent);
        for secret in [CKA_PRIVATE_EXPONENT, CKA_PRIME_1, CKA_COEFFICIENT, CKA_VALUE] {
            assert_eq!(object.attribute(secret), Value::Sensitive);
        }
    }

    /// Java looks for a certificate by the serial number's bytes, without the header of the INTEGER.
    #[test]
    fn a_certificate_is_found_by_its_serial_number_in_both_forms() {
        let fields = [&[2, 1, 7, 0x30, 0, 0x30, 0, 0x30, 0][..], &[0x30, 0, 0x30, 0]].concat();
        let tbs = [&[0x30, fields.len() as u8][..], &fields].concat();
        let object = Object::new(ObjectInfo {
            object: vec![1; 16],
            class: ObjectClass::Certificate.into(),
            value: [&[0x30, tbs.len() as u8][..], &tbs].concat(),
            ..ObjectInfo::default()
        });
        let object = object.unwrap();
        assert_eq!(object.attribute(CKA_SERIAL_NUMBER), bytes(&[2, 1, 7]));
        for (serial, fits) in [(&[2_u8, 1, 7][..], true), (&[7], true), (&[8], false), (&[], false)] {
            let mut wanted = CK_ATTRIBUTE {
                type_: CKA_SERIAL_NUMBER,
                pValue: serial.as_ptr().cast_mut().cast(),
                ulValueLen: CK_ULONG::from_usize(serial.len()),
            };
            // SAFETY: one attribute, whose value outlives the template.
            let template = unsafe { Template::read(&raw mut wanted, 1) }.unwrap();
            assert_eq!(object.matches(&template), fits, "{serial:?}");
        }
    }

    #[test]
    fn an_object_without_identity_is_refused() {
        assert!(Object::new(ObjectInfo::default()).is_none());
    }
}
