//! An application's attribute templates: checked on entry, then plain slices.

use cryptoki_sys::*;
use strongroom_ffi::pointer;
use strongroom_protocol::v1::{Attribute, KeyPolicy, KeyTemplate, ObjectClass, ObjectInfo};

use crate::error::Outcome;
use crate::key::{self, Family, KEYS};
use crate::{object, restrictions};

/// More attributes than any object has.
const MAX_ATTRIBUTES: usize = 256;

/// More bytes than any attribute that the protocol can carry.
const MAX_VALUE: usize = 1 << 19;

/// The attributes that an application gives: to search by, or of an object to be made.
#[derive(Debug, Default)]
pub struct Template<'a> {
    attributes: Vec<(CK_ATTRIBUTE_TYPE, &'a [u8])>,
    /// Of attributes whose value is a template itself.
    nested: Vec<(CK_ATTRIBUTE_TYPE, Vec<Attribute>)>,
}

impl<'a> Template<'a> {
    /// Borrows the application's array of `count` attributes.
    ///
    /// # Errors
    ///
    /// `CKR_ARGUMENTS_BAD` for null pointers, `CKR_ATTRIBUTE_VALUE_INVALID` for impossible sizes,
    /// `CKR_TEMPLATE_INCONSISTENT` for an attribute that is given twice with different values.
    ///
    /// # Safety
    ///
    /// `attributes`, if not null, points to `count` attributes, whose values (if not null) have the length
    /// that stands beside them, and all of it stays unchanged for `'a`.
    pub unsafe fn read(attributes: *const CK_ATTRIBUTE, count: CK_ULONG) -> Outcome<Self> {
        // SAFETY: by the contract.
        unsafe { Self::read_to(attributes, count, true) }
    }

    /// As [`Template::read`], of one that has no other template in it.
    ///
    /// # Safety
    ///
    /// As for [`Template::read`].
    unsafe fn read_flat(attributes: *const CK_ATTRIBUTE, count: CK_ULONG) -> Outcome<Self> {
        // SAFETY: by the contract.
        unsafe { Self::read_to(attributes, count, false) }
    }

    unsafe fn read_to(attributes: *const CK_ATTRIBUTE, count: CK_ULONG, may_nest: bool) -> Outcome<Self> {
        let count = usize::try_from(count).map_err(|_| CKR_ARGUMENTS_BAD)?;
        if count > MAX_ATTRIBUTES {
            return Err(CKR_ARGUMENTS_BAD);
        }
        // SAFETY: by the contract.
        let attributes = unsafe { pointer::slice(attributes, count) }.ok_or(CKR_ARGUMENTS_BAD)?;
        let mut template = Template { attributes: Vec::with_capacity(count), nested: Vec::new() };
        for attribute in attributes {
            let length = usize::try_from(attribute.ulValueLen).map_err(|_| CKR_ATTRIBUTE_VALUE_INVALID)?;
            if length > MAX_VALUE {
                return Err(CKR_ATTRIBUTE_VALUE_INVALID);
            }
            if restrictions::TEMPLATES.contains(&attribute.type_) {
                if !may_nest {
                    return Err(CKR_ATTRIBUTE_VALUE_INVALID);
                }
                // SAFETY: by the contract.
                let inner = unsafe { read_nested(attribute.pValue.cast_const().cast(), length) }?;
                template.add_nested(attribute.type_, inner)?;
                continue;
            }
            // SAFETY: by the contract.
            let value = unsafe { pointer::slice(attribute.pValue.cast_const().cast::<u8>(), length) }
                .ok_or(CKR_ARGUMENTS_BAD)?;
            template.add(attribute.type_, value)?;
        }
        Ok(template)
    }

    fn add(&mut self, attribute: CK_ATTRIBUTE_TYPE, value: &'a [u8]) -> Outcome {
        match self.bytes(attribute) {
            Some(before) if before != value => Err(CKR_TEMPLATE_INCONSISTENT),
            Some(_) => Ok(()),
            None => {
                self.attributes.push((attribute, value));
                Ok(())
            }
        }
    }

    fn add_nested(&mut self, attribute: CK_ATTRIBUTE_TYPE, inner: Vec<Attribute>) -> Outcome {
        match self.nested(attribute) {
            Some(before) if before != inner => Err(CKR_TEMPLATE_INCONSISTENT),
            Some(_) => Ok(()),
            None => {
                self.attributes.push((attribute, &[]));
                self.nested.push((attribute, inner));
                Ok(())
            }
        }
    }

    /// The template that is an attribute's value.
    pub fn nested(&self, attribute: CK_ATTRIBUTE_TYPE) -> Option<&[Attribute]> {
        self.nested.iter().find(|(found, _)| *found == attribute).map(|(_, inner)| inner.as_slice())
    }

    /// Adds what another key's template says of this one.
    ///
    /// # Errors
    ///
    /// `CKR_TEMPLATE_INCONSISTENT` if the application has given something else.
    pub fn complete(&mut self, others: &'a [Attribute]) -> Outcome {
        others.iter().try_for_each(|other| self.add(other.r#type, &other.value))
    }

    /// All attributes, in the application's order.
    pub fn iter(&self) -> impl Iterator<Item = (CK_ATTRIBUTE_TYPE, &'a [u8])> + '_ {
        self.attributes.iter().copied()
    }

    /// An attribute's value.
    pub fn bytes(&self, attribute: CK_ATTRIBUTE_TYPE) -> Option<&'a [u8]> {
        self.attributes.iter().find(|(found, _)| *found == attribute).map(|(_, value)| *value)
    }

    /// An attribute's value.
    ///
    /// # Errors
    ///
    /// `CKR_TEMPLATE_INCOMPLETE` if it is not given.
    pub fn required(&self, attribute: CK_ATTRIBUTE_TYPE) -> Outcome<&'a [u8]> {
        self.bytes(attribute).ok_or(CKR_TEMPLATE_INCOMPLETE)
    }

    /// A `CK_BBOOL`.
    ///
    /// # Errors
    ///
    /// `CKR_ATTRIBUTE_VALUE_INVALID` if it is neither `CK_TRUE` nor `CK_FALSE`.
    pub fn boolean(&self, attribute: CK_ATTRIBUTE_TYPE) -> Outcome<Option<bool>> {
        match self.bytes(attribute) {
            None => Ok(None),
            Some([CK_FALSE]) => Ok(Some(false)),
            Some([CK_TRUE]) => Ok(Some(true)),
            Some(_) => Err(CKR_ATTRIBUTE_VALUE_INVALID),
        }
    }

    /// A `CK_ULONG`.
    ///
    /// # Errors
    ///
    /// `CKR_ATTRIBUTE_VALUE_INVALID` if it has another size.
    pub fn number(&self, attribute: CK_ATTRIBUTE_TYPE) -> Outcome<Option<CK_ULONG>> {
        match self.bytes(attribute) {
            None => Ok(None),
            Some(value) => {
                let value = value.try_into().map_err(|_| CKR_ATTRIBUTE_VALUE_INVALID)?;
                Ok(Some(CK_ULONG::from_ne_bytes(value)))
            }
        }
    }

    /// A string of UTF-8.
    ///
    /// # Errors
    ///
    /// `CKR_ATTRIBUTE_VALUE_INVALID` for other bytes.
    pub fn text(&self, attribute: CK_ATTRIBUTE_TYPE) -> Outcome<Option<&'a str>> {
        match self.bytes(attribute) {
            None => Ok(None),
            Some(value) => match std::str::from_utf8(value) {
                Ok(text) => Ok(Some(text)),
                Err(_) => Err(CKR_ATTRIBUTE_VALUE_INVALID),
            },
        }
    }

    /// Checks that an attribute has a value if it is given at all.
    ///
    /// # Errors
    ///
    /// `CKR_TEMPLATE_INCONSISTENT` otherwise.
    pub fn only(&self, attribute: CK_ATTRIBUTE_TYPE, value: &[u8]) -> Outcome {
        match self.bytes(attribute) {
            Some(given) if given != value => Err(CKR_TEMPLATE_INCONSISTENT),
            _ => Ok(()),
        }
    }
}

/// Copies a template that is an attribute's value.
///
/// # Safety
///
/// As for [`Template::read`]; `length` is in bytes.
unsafe fn read_nested(attributes: *const CK_ATTRIBUTE, length: usize) -> Outcome<Vec<Attribute>> {
    if !length.is_multiple_of(size_of::<CK_ATTRIBUTE>()) {
        return Err(CKR_ATTRIBUTE_VALUE_INVALID);
    }
    // SAFETY: by the contract.
    let inner = unsafe { Template::read_flat(attributes, (length / size_of::<CK_ATTRIBUTE>()) as CK_ULONG) }?;
    Ok(inner
        .iter()
        .map(|(attribute, value)| Attribute { r#type: attribute, value: value.to_vec() })
        .collect())
}

/// Checks that a template asks for an object of this class with attributes that it can have.
///
/// # Errors
///
/// Those of [`object::may_be_given`].
pub fn check(class: ObjectClass, template: &Template<'_>) -> Outcome {
    for (attribute, _) in template.iter() {
        object::may_be_given(class, attribute)?;
    }
    Ok(())
}

/// Whether a template asks for a session object, as the standard's default is.
///
/// # Errors
///
/// What the getter says.
pub fn is_for_session(template: &Template<'_>) -> Outcome<bool> {
    Ok(!template.boolean(CKA_TOKEN)?.unwrap_or(false))
}

/// What a client says of a private key that is to be made or imported.
///
/// # Errors
///
/// `CKR_TEMPLATE_INCONSISTENT` for what contradicts a private key in a partition (`CKA_PRIVATE` or
/// `CKA_SENSITIVE` false, `CKA_ALWAYS_AUTHENTICATE` true of a key that does more than sign or decrypt), and what the getters say.
pub fn private_key(family: Family, template: &Template<'_>) -> Outcome<KeyTemplate> {
    template.only(CKA_PRIVATE, &[CK_TRUE])?;
    template.only(CKA_SENSITIVE, &[CK_TRUE])?;
    // A key that can nothing else derives unasked.
    let derive = template.boolean(CKA_DERIVE)?.unwrap_or(!family.signs());
    let decapsulate = template.boolean(CKA_DECAPSULATE)?.unwrap_or(true);
    let policy = KeyPolicy {
        sign: template.boolean(CKA_SIGN)?.unwrap_or(true) && family.signs(),
        decrypt: template.boolean(CKA_DECRYPT)?.unwrap_or(false),
        unwrap: template.boolean(CKA_UNWRAP)?.unwrap_or(false),
        // pkcs11-tool asks for both with every curve. What a key cannot do is not granted.
        derive: derive && family.derives(),
        decapsulate: decapsulate && family.decapsulates(),
        extractable: template.boolean(CKA_EXTRACTABLE)?.unwrap_or(false),
        wrap_with_trusted: template.boolean(CKA_WRAP_WITH_TRUSTED)?.unwrap_or(false),
        sign_recover: template.boolean(CKA_SIGN_RECOVER)?.unwrap_or(false) && family == Family::Rsa,
        always_authenticate: template.boolean(CKA_ALWAYS_AUTHENTICATE)?.unwrap_or(false),
        ..KeyPolicy::default()
    };
    // Of these functions the standard has no place for a password.
    if policy.always_authenticate && (policy.unwrap || policy.derive || policy.decapsulate) {
        return Err(CKR_TEMPLATE_INCONSISTENT);
    }
    key(ObjectClass::PrivateKey, template, policy)
}

/// What a client says of a secret key that is to be made or imported.
///
/// # Errors
///
/// As [`private_key`]; `CKA_SENSITIVE` false is no contradiction.
pub fn secret_key(family: Family, template: &Template<'_>) -> Outcome<KeyTemplate> {
    template.only(CKA_PRIVATE, &[CK_TRUE])?;
    key(ObjectClass::SecretKey, template, secret_policy(family, template, false)?)
}

/// What a secret key may be used for, with the default for whether it may leave the partition.
fn secret_policy(family: Family, template: &Template<'_>, leaves: bool) -> Outcome<KeyPolicy> {
    // A crypto officer says so, afterwards.
    template.only(CKA_TRUSTED, &[CK_FALSE])?;
    // What is kept in the token stays hidden unless somebody says otherwise; in a session the standard's default holds.
    let sensitive = template.boolean(CKA_SENSITIVE)?.unwrap_or(!is_for_session(template)?);
    // What makes codes and encrypts nothing does so unasked. What a key cannot do is not granted: applications ask for all.
    let may = |attribute, default| template.boolean(attribute).map(|given| given.unwrap_or(default));
    Ok(KeyPolicy {
        encrypt: may(CKA_ENCRYPT, true)? && family.encrypts(),
        decrypt: may(CKA_DECRYPT, true)? && family.encrypts(),
        sign: may(CKA_SIGN, !family.encrypts())?,
        verify: may(CKA_VERIFY, !family.encrypts())?,
        wrap: may(CKA_WRAP, false)? && family.wraps(),
        unwrap: may(CKA_UNWRAP, false)? && family.wraps(),
        derive: may(CKA_DERIVE, false)?,
        extractable: may(CKA_EXTRACTABLE, leaves)?,
        wrap_with_trusted: may(CKA_WRAP_WITH_TRUSTED, false)?,
        not_sensitive: !sensitive,
        ..KeyPolicy::default()
    })
}

/// What a client says of a secret that is to be derived. Unless it says otherwise: a generic secret of a session, which it can read.
///
/// # Errors
///
/// Those of [`object::may_be_given`], `CKR_TEMPLATE_INCONSISTENT` for a key of no secret's type, and what the getters say.
pub fn derived(template: &Template<'_>) -> Outcome<ObjectInfo> {
    for (attribute, _) in template.iter() {
        object::may_be_given(ObjectClass::SecretKey, attribute)?;
    }
    template.only(CKA_CLASS, &CKO_SECRET_KEY.to_ne_bytes())?;
    let family = template.number(CKA_KEY_TYPE)?.unwrap_or(CKK_GENERIC_SECRET);
    let family = Family::of_key_type(family).ok_or(CKR_ATTRIBUTE_VALUE_INVALID)?;
    if family.is_pair() || template.bytes(CKA_VALUE).is_some() {
        return Err(CKR_TEMPLATE_INCONSISTENT);
    }
    let for_session = is_for_session(template)?;
    let key = key(ObjectClass::SecretKey, template, secret_policy(family, template, for_session)?)?;
    // Its length says which of the family it is.
    let any = KEYS.iter().find(|facts| facts.family == family).ok_or(CKR_ATTRIBUTE_VALUE_INVALID)?;
    let info = ObjectInfo {
        class: ObjectClass::SecretKey.into(),
        key_type: any.key_type.into(),
        label: key.label,
        id: key.id,
        policy: key.policy,
        not_modifiable: key.not_modifiable,
        not_destroyable: key.not_destroyable,
        not_copyable: key.not_copyable,
        session: key.session,
        private: key.private,
        attributes: key.attributes,
        allowed_mechanisms: key.allowed_mechanisms,
        templates: key.templates,
        ..ObjectInfo::default()
    };
    // What the daemon has is private.
    let is_local = info.session && object::is_readable(&info);
    if !info.private && !is_local {
        return Err(CKR_TEMPLATE_INCONSISTENT);
    }
    Ok(info)
}

/// What a client says of a public key that is to be made.
///
/// # Errors
///
/// As [`private_key`].
pub fn public_key(family: Family, template: &Template<'_>) -> Outcome<KeyTemplate> {
    template.only(CKA_TRUSTED, &[CK_FALSE])?;
    key(ObjectClass::PublicKey, template, public_policy(family, template)?)
}

/// What a public key may be used for.
///
/// # Errors
///
/// As [`private_key`].
pub fn public_policy(family: Family, template: &Template<'_>) -> Outcome<KeyPolicy> {
    template.boolean(CKA_DERIVE)?;
    Ok(KeyPolicy {
        verify: template.boolean(CKA_VERIFY)?.unwrap_or(true) && family.signs(),
        encrypt: template.boolean(CKA_ENCRYPT)?.unwrap_or(false),
        wrap: template.boolean(CKA_WRAP)?.unwrap_or(false),
        // Derivation is the private key's part: CKA_DERIVE is read, and not granted.
        derive: false,
        verify_recover: template.boolean(CKA_VERIFY_RECOVER)?.unwrap_or(false) && family == Family::Rsa,
        encapsulate: template.boolean(CKA_ENCAPSULATE)?.unwrap_or(true) && family.decapsulates(),
        ..KeyPolicy::default()
    })
}

fn key(class: ObjectClass, template: &Template<'_>, policy: KeyPolicy) -> Outcome<KeyTemplate> {
    Ok(KeyTemplate {
        label: template.text(CKA_LABEL)?.unwrap_or_default().to_owned(),
        id: template.bytes(CKA_ID).unwrap_or_default().to_vec(),
        policy: Some(policy),
        not_modifiable: template.boolean(CKA_MODIFIABLE)? == Some(false),
        not_destroyable: template.boolean(CKA_DESTROYABLE)? == Some(false),
        not_copyable: template.boolean(CKA_COPYABLE)? == Some(false),
        session: is_for_session(template)?,
        private: template.boolean(CKA_PRIVATE)?.unwrap_or(class != ObjectClass::PublicKey),
        attributes: kept(class, template),
        allowed_mechanisms: restrictions::allowed_mechanisms(template)?,
        templates: restrictions::templates(template),
        ..KeyTemplate::default()
    })
}

/// The attributes that the partition keeps for the client.
pub fn kept(class: ObjectClass, template: &Template<'_>) -> Vec<Attribute> {
    let says_use = |attribute: CK_ATTRIBUTE_TYPE, value: &[u8]| {
        let key_type = value.try_into().map(CK_KEY_TYPE::from_ne_bytes);
        class == ObjectClass::SecretKey
            && attribute == CKA_KEY_TYPE
            && key_type.is_ok_and(key::is_for_one_use)
    };
    template
        .iter()
        .filter(|(attribute, value)| {
            (object::is_kept(class, *attribute) && !value.is_empty()) || says_use(*attribute, value)
        })
        .map(|(attribute, value)| Attribute { r#type: attribute, value: value.to_vec() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(type_: CK_ATTRIBUTE_TYPE, value: &[u8]) -> CK_ATTRIBUTE {
        CK_ATTRIBUTE { type_, pValue: value.as_ptr().cast_mut().cast(), ulValueLen: value.len() as CK_ULONG }
    }

    fn read(attributes: &[CK_ATTRIBUTE]) -> Outcome<Template<'static>> {
        // SAFETY: the tests' values are static.
        unsafe { Template::read(attributes.as_ptr(), attributes.len() as CK_ULONG) }
    }

    #[test]
    fn values_by_type() {
        let template = read(&[
            attribute(CKA_TOKEN, &[CK_TRUE]),
            attribute(CKA_LABEL, b"web"),
            attribute(CKA_CLASS, &[3, 0, 0, 0, 0, 0, 0, 0]),
            attribute(CKA_ID, &[]),
        ])
        .unwrap();
        assert_eq!(template.boolean(CKA_TOKEN), Ok(Some(true)));
        assert_eq!(template.boolean(CKA_PRIVATE), Ok(None));
        assert_eq!(template.boolean(CKA_LABEL), Err(CKR_ATTRIBUTE_VALUE_INVALID));
        assert_eq!(template.text(CKA_LABEL), Ok(Some("web")));
        assert_eq!(template.number(CKA_CLASS), Ok(Some(CKO_PRIVATE_KEY)));
        assert_eq!(template.number(CKA_TOKEN), Err(CKR_ATTRIBUTE_VALUE_INVALID));
        assert_eq!(template.bytes(CKA_ID), Some(&[][..]));
        assert_eq!(template.required(CKA_VALUE), Err(CKR_TEMPLATE_INCOMPLETE));
    }

    #[test]
    fn hostile_templates_are_refused() {
        let null = CK_ATTRIBUTE { type_: CKA_LABEL, pValue: std::ptr::null_mut(), ulValueLen: 4 };
        assert_eq!(read(&[null]).unwrap_err(), CKR_ARGUMENTS_BAD);
        let huge = CK_ATTRIBUTE { ulValueLen: CK_UNAVAILABLE_INFORMATION, ..null };
        assert_eq!(read(&[huge]).unwrap_err(), CKR_ATTRIBUTE_VALUE_INVALID);
        let twice = [attribute(CKA_LABEL, b"a"), attribute(CKA_LABEL, b"b")];
        assert_eq!(read(&twice).unwrap_err(), CKR_TEMPLATE_INCONSISTENT);
        // SAFETY: null pointers and impossible counts are what is checked; nothing is read.
        unsafe {
            assert_eq!(Template::read(std::ptr::null(), 1).unwrap_err(), CKR_ARGUMENTS_BAD);
            assert_eq!(Template::read(std::ptr::null(), CK_ULONG::MAX).unwrap_err(), CKR_ARGUMENTS_BAD);
            assert!(Template::read(std::ptr::null(), 0).is_ok());
        }
    }
}
