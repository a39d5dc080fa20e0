//! What a key's maker has ruled out beyond its policy: mechanisms (CKA_ALLOWED_MECHANISMS), and other keys that it would wrap,
//! unwrap or derive (CKA_WRAP_TEMPLATE, CKA_UNWRAP_TEMPLATE, CKA_DERIVE_TEMPLATE). It holds whoever asks, in whatever way: the PKCS#11
//! module says the same, and does not have to be believed.

use strongroom_protocol::pkcs11::{self, Row};
use strongroom_protocol::v1::{
    Attribute, Hash, KeyTemplates, KeyType, Mechanism, ObjectClass, ObjectInfo, PssParameters,
};

use crate::failure::{Failure, refuse};
use crate::object;

/// The most mechanisms that a key can be restricted to.
const MAX_MECHANISMS: usize = 64;

/// The most attributes of one template.
const MAX_ATTRIBUTES: usize = 32;

/// The longest value in a template, in bytes: a label, an id.
const MAX_VALUE: usize = 255;

/// What is to be done with a key.
#[derive(Debug, Clone, Copy)]
pub enum Use<'a> {
    /// A signature over these data, made or verified.
    Sign(Mechanism, Option<&'a PssParameters>, &'a [u8]),
    /// A message authentication code of so many bytes; 0: of all that there are.
    Mac(Mechanism, Hash, usize),
    /// Anything else.
    Other(Mechanism),
}

impl Use<'_> {
    fn mechanism(&self) -> Mechanism {
        match self {
            Use::Sign(mechanism, ..) | Use::Mac(mechanism, ..) | Use::Other(mechanism) => *mechanism,
        }
    }

    /// Whether a mechanism of PKCS#11 comes as this.
    fn is(&self, row: &Row) -> bool {
        if row.mechanism != self.mechanism() {
            return false;
        }
        let hash = row.hash;
        match self {
            _ if hash == Hash::Unspecified && !matches!(self, Use::Mac(..)) => true,
            Use::Sign(Mechanism::RsaPkcs, _, data) => {
                let digest = data.strip_prefix(pkcs11::digest_info(hash));
                digest.is_some_and(|digest| digest.len() == pkcs11::digest_size(hash))
            }
            Use::Sign(Mechanism::RsaPkcsPss, pss, _) => pss.is_some_and(|pss| pss.hash() == hash),
            Use::Sign(Mechanism::Ecdsa, _, data) => data.len() == pkcs11::digest_size(hash),
            Use::Sign(..) | Use::Other(_) => false,
            Use::Mac(_, used, length) => {
                let whole = if hash == Hash::Unspecified { 16 } else { pkcs11::digest_size(hash) };
                *used == hash && (row.is_general || *length == 0 || *length == whole)
            }
        }
    }
}

/// Whether anything is to be looked at each time that the key is used, which a channel does not do.
pub fn is_restricted(info: &ObjectInfo) -> bool {
    !info.allowed_mechanisms.is_empty() || info.policy.is_some_and(|policy| policy.always_authenticate)
}

/// Checks that a key may be used in this way.
///
/// # Errors
///
/// KEY_MAY_NOT.
pub fn allow(info: &ObjectInfo, what: Use<'_>) -> Result<(), Failure> {
    let allowed = &info.allowed_mechanisms;
    let is_allowed = |row: &&Row| allowed.contains(&row.number);
    if allowed.is_empty() || pkcs11::MECHANISMS.iter().filter(is_allowed).any(|row| what.is(row)) {
        return Ok(());
    }
    refuse!(
        KeyMayNot,
        "{} may not be used this way ({}): its maker has restricted it to other mechanisms (CKA_ALLOWED_MECHANISMS)",
        object::title(info),
        what.mechanism().as_str_name()
    )
}

/// Refuses a key that is restricted: it takes the way over the connection.
///
/// # Errors
///
/// KEY_MAY_NOT.
pub fn on_channel(info: &ObjectInfo) -> Result<(), Failure> {
    if !is_restricted(info) {
        return Ok(());
    }
    refuse!(
        KeyMayNot,
        "{} is not used through a channel: its mechanisms are restricted, or it asks for the password each time",
        object::title(info)
    )
}

/// Which of a key's templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// CKA_WRAP_TEMPLATE: of keys that it takes out.
    Wrap,
    /// CKA_UNWRAP_TEMPLATE: of keys that it brings in.
    Unwrap,
    /// CKA_DERIVE_TEMPLATE: of keys that are derived from it.
    Derive,
}

impl Kind {
    fn of(self, templates: &KeyTemplates) -> (&[Attribute], &'static str) {
        match self {
            Kind::Wrap => (&templates.wrap, "CKA_WRAP_TEMPLATE"),
            Kind::Unwrap => (&templates.unwrap, "CKA_UNWRAP_TEMPLATE"),
            Kind::Derive => (&templates.derive, "CKA_DERIVE_TEMPLATE"),
        }
    }
}

/// Checks that another key is what this key's template wants.
///
/// # Errors
///
/// TEMPLATE_DOES_NOT_FIT.
pub fn fits(info: &ObjectInfo, kind: Kind, other: &ObjectInfo) -> Result<(), Failure> {
    let Some(templates) = &info.templates else { return Ok(()) };
    let (template, name) = kind.of(templates);
    for attribute in template {
        if value(other, attribute.r#type).as_ref() != Some(&attribute.value) {
            return refuse!(
                TemplateDoesNotFit,
                "{} is for other keys than {}: attribute {:#x} is not what its template ({name}) wants",
                object::title(info),
                object::title(other),
                attribute.r#type
            );
        }
    }
    Ok(())
}

/// Checks what a client asks for a new key.
///
/// # Errors
///
/// LIMIT, ATTRIBUTE_WRONG.
pub fn check(allowed_mechanisms: &[u64], templates: Option<&KeyTemplates>) -> Result<(), Failure> {
    if allowed_mechanisms.len() > MAX_MECHANISMS {
        return refuse!(Limit, "a key is restricted to at most {MAX_MECHANISMS} mechanisms");
    }
    let Some(templates) = templates else { return Ok(()) };
    for kind in [Kind::Wrap, Kind::Unwrap, Kind::Derive] {
        let (template, name) = kind.of(templates);
        let is_long = |attribute: &Attribute| attribute.value.len() > MAX_VALUE;
        if template.len() > MAX_ATTRIBUTES || template.iter().any(is_long) {
            return refuse!(
                Limit,
                "{name} has at most {MAX_ATTRIBUTES} attributes of at most {MAX_VALUE} bytes each"
            );
        }
        // Of what no key has, no key would ever fit.
        let none = ObjectInfo::default();
        if let Some(unknown) = template.iter().find(|attribute| value(&none, attribute.r#type).is_none()) {
            return refuse!(
                AttributeWrong,
                "{name} names attribute {:#x}, which a template of other keys cannot have here",
                unknown.r#type
            );
        }
    }
    Ok(())
}

/// An attribute of a key by PKCS#11's number, as templates have it. `None`: templates do not have it.
fn value(info: &ObjectInfo, attribute: u64) -> Option<Vec<u8>> {
    let policy = info.policy.unwrap_or_default();
    let is_secret = info.class() == ObjectClass::SecretKey;
    let holds = match attribute {
        0x000 => return Some(number(class(info.class()))),
        // CKA_LABEL, CKA_KEY_TYPE, CKA_ID, CKA_VALUE_LEN.
        0x003 => return Some(info.label.clone().into_bytes()),
        0x100 => return Some(number(key_type(info.key_type()))),
        0x102 => return Some(info.id.clone()),
        0x161 => return Some(number(length(info))),
        // CKA_PRIVATE, CKA_SENSITIVE.
        0x002 => info.private,
        0x103 => info.class() == ObjectClass::PrivateKey || !policy.not_sensitive,
        0x104 => policy.encrypt,
        0x105 => policy.decrypt,
        0x106 => policy.wrap,
        0x107 => policy.unwrap,
        0x108 => policy.sign,
        0x109 => policy.sign_recover,
        0x10a => policy.verify,
        0x10b => policy.verify_recover,
        0x10c => policy.derive,
        0x162 => policy.extractable,
        0x163 => policy.local,
        0x164 => policy.never_extractable,
        0x165 => policy.always_sensitive,
        // CKA_TOKEN, CKA_MODIFIABLE, CKA_COPYABLE, CKA_DESTROYABLE.
        0x001 => !info.session,
        0x171 => !info.not_copyable,
        0x170 => !info.not_modifiable,
        0x172 => !info.not_destroyable,
        0x202 => policy.always_authenticate,
        0x210 => policy.wrap_with_trusted,
        0x086 => policy.trusted && is_secret,
        0x633 => policy.encapsulate,
        0x634 => policy.decapsulate,
        _ => return None,
    };
    Some(vec![u8::from(holds)])
}

fn number(number: u64) -> Vec<u8> {
    number.to_le_bytes().to_vec()
}

fn class(class: ObjectClass) -> u64 {
    match class {
        ObjectClass::Data => 0,
        ObjectClass::Certificate => 1,
        ObjectClass::PublicKey => 2,
        ObjectClass::PrivateKey => 3,
        ObjectClass::SecretKey => 4,
        ObjectClass::Unspecified => u64::MAX,
    }
}

/// CKK_…
fn key_type(key_type: KeyType) -> u64 {
    match key_type {
        KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => 0x00,
        KeyType::GenericSecret => 0x10,
        KeyType::Des3 => 0x15,
        KeyType::Aes128 | KeyType::Aes192 | KeyType::Aes256 => 0x1f,
        KeyType::Ed25519 | KeyType::Ed448 => 0x40,
        KeyType::X25519 | KeyType::X448 => 0x41,
        KeyType::MlKem512 | KeyType::MlKem768 | KeyType::MlKem1024 => 0x49,
        KeyType::MlDsa44 | KeyType::MlDsa65 | KeyType::MlDsa87 => 0x4a,
        KeyType::Unspecified => u64::MAX,
        // On curves.
        _ => 0x03,
    }
}

/// Of secret keys, in bytes.
fn length(info: &ObjectInfo) -> u64 {
    match info.key_type() {
        KeyType::Aes128 => 16,
        KeyType::Aes192 | KeyType::Des3 => 24,
        KeyType::Aes256 => 32,
        _ => info.value_length.into(),
    }
}

#[cfg(test)]
mod tests {
    use strongroom_protocol::v1::{ErrorCode, KeyPolicy};

    use super::*;

    const PSS: PssParameters = PssParameters { hash: 3, mgf1_hash: 3, salt_length: 32 };

    fn allowed(mechanisms: &[u64], what: Use<'_>) -> bool {
        let info = ObjectInfo { allowed_mechanisms: mechanisms.to_vec(), ..ObjectInfo::default() };
        allow(&info, what).is_ok()
    }

    /// What people call the attributes of templates, and what is known of them here.
    #[test]
    fn attributes_that_have_names_are_known() {
        let none = ObjectInfo::default();
        let known: Vec<_> = (0..0x1000).filter(|number| value(&none, *number).is_some()).collect();
        let mut named: Vec<_> = strongroom_protocol::template_names::numbers().collect();
        named.sort_unstable();
        assert_eq!(named, known);
    }

    #[test]
    fn a_request_is_what_a_mechanism_sends() {
        let sha256 = [pkcs11::digest_info(Hash::Sha256), &[7; 32]].concat();
        let rsa = |data| Use::Sign(Mechanism::RsaPkcs, None, data);
        // CKM_SHA256_RSA_PKCS, CKM_RSA_PKCS, CKM_SHA384_RSA_PKCS.
        assert!(allowed(&[], rsa(&[1])), "not restricted");
        assert!(allowed(&[0x40], rsa(&sha256)) && !allowed(&[0x40], rsa(&sha256[1..])));
        assert!(!allowed(&[0x40], rsa(&[7; 32])) && !allowed(&[0x41], rsa(&sha256)));
        assert!(allowed(&[0x41, 0x01], rsa(&[7; 32])));
        let decryption = Use::Other(Mechanism::RsaPkcs);
        assert!(allowed(&[0x01], decryption) && !allowed(&[0x40], decryption));
        // CKM_SHA256_RSA_PKCS_PSS, and that of SHA-384.
        let pss = Use::Sign(Mechanism::RsaPkcsPss, Some(&PSS), &[7; 32]);
        assert!(allowed(&[0x43], pss) && allowed(&[0x0d], pss) && !allowed(&[0x44, 0x40, 0x01], pss));
        // CKM_ECDSA_SHA256, CKM_ECDSA_SHA512.
        let ecdsa = Use::Sign(Mechanism::Ecdsa, None, &[7; 32]);
        assert!(allowed(&[0x1044], ecdsa) && allowed(&[0x1041], ecdsa) && !allowed(&[0x1046], ecdsa));
        // CKM_SHA256_HMAC, and of any length.
        let mac = |length| Use::Mac(Mechanism::Hmac, Hash::Sha256, length);
        assert!(allowed(&[0x251], mac(32)) && allowed(&[0x251], mac(0)) && !allowed(&[0x251], mac(20)));
        assert!(allowed(&[0x252], mac(20)) && !allowed(&[0x262, 0x261], mac(32)));
        // CKM_AES_CMAC.
        let cmac = |length| Use::Mac(Mechanism::AesCmac, Hash::Unspecified, length);
        assert!(allowed(&[0x108a], cmac(16)) && !allowed(&[0x108a], cmac(8)) && allowed(&[0x108b], cmac(8)));
        // A number that nobody knows allows nothing.
        assert!(!allowed(&[0x8000_0001], ecdsa));
    }

    #[test]
    fn keys_fit_templates_or_not() {
        let attribute = |r#type, value: &[u8]| Attribute { r#type, value: value.to_vec() };
        let templates = KeyTemplates {
            wrap: vec![attribute(0x100, &number(0x1f)), attribute(0x104, &[1])],
            unwrap: vec![attribute(0x162, &[0]), attribute(0x161, &number(32))],
            ..KeyTemplates::default()
        };
        check(&[], Some(&templates)).unwrap();
        let with = ObjectInfo { templates: Some(templates), ..ObjectInfo::default() };
        let aes = |key_type: KeyType, policy| ObjectInfo {
            class: ObjectClass::SecretKey.into(),
            key_type: key_type.into(),
            policy: Some(policy),
            ..ObjectInfo::default()
        };
        let encrypts = KeyPolicy { encrypt: true, ..KeyPolicy::default() };
        let fits = |kind, other: &ObjectInfo| super::fits(&with, kind, other).map_err(|error| error.code);
        assert_eq!(fits(Kind::Wrap, &aes(KeyType::Aes256, encrypts)), Ok(()));
        let no = Err(ErrorCode::TemplateDoesNotFit);
        assert_eq!(fits(Kind::Wrap, &aes(KeyType::Aes256, KeyPolicy::default())), no);
        assert_eq!(fits(Kind::Wrap, &aes(KeyType::Des3, encrypts)), no);
        assert_eq!(fits(Kind::Unwrap, &aes(KeyType::Aes256, encrypts)), Ok(()));
        assert_eq!(fits(Kind::Unwrap, &aes(KeyType::Aes128, encrypts)), no);
        let extractable = KeyPolicy { extractable: true, ..encrypts };
        assert_eq!(fits(Kind::Unwrap, &aes(KeyType::Aes256, extractable)), no);
        assert_eq!(fits(Kind::Derive, &ObjectInfo::default()), Ok(()), "none was given");
    }

    #[test]
    fn templates_of_what_no_key_has_are_refused() {
        let of = |r#type, count: usize| KeyTemplates {
            derive: vec![Attribute { r#type, value: vec![1] }; count],
            ..KeyTemplates::default()
        };
        assert!(check(&[1; MAX_MECHANISMS], Some(&of(0x104, MAX_ATTRIBUTES))).is_ok());
        assert!(check(&[1; MAX_MECHANISMS + 1], None).is_err());
        assert!(check(&[], Some(&of(0x104, MAX_ATTRIBUTES + 1))).is_err());
        // CKA_SUBJECT.
        assert_eq!(check(&[], Some(&of(0x101, 1))).unwrap_err().code, ErrorCode::AttributeWrong);
    }
}
