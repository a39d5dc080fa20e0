//! What a key's maker rules out beyond its permissions: `CKA_ALLOWED_MECHANISMS`, and templates of other keys. The daemon
//! enforces them; what is said here spares the way.

use cryptoki_sys::*;
use strongroom_protocol::v1::{Attribute, KeyTemplates, ObjectClass};

use crate::api::signature::as_key;
use crate::brief::Key;
use crate::error::Outcome;
use crate::object::Object;
use crate::state::Process;
use crate::template::Template;
use crate::token::Token;

/// The attributes whose value is a template of other keys.
pub const TEMPLATES: [CK_ATTRIBUTE_TYPE; 3] = [CKA_WRAP_TEMPLATE, CKA_UNWRAP_TEMPLATE, CKA_DERIVE_TEMPLATE];

/// Whether an object of this class can be made with the attribute.
pub fn may_be_given(class: ObjectClass, attribute: CK_ATTRIBUTE_TYPE) -> bool {
    match attribute {
        CKA_ALLOWED_MECHANISMS => {
            matches!(class, ObjectClass::PrivateKey | ObjectClass::PublicKey | ObjectClass::SecretKey)
        }
        CKA_WRAP_TEMPLATE => matches!(class, ObjectClass::PublicKey | ObjectClass::SecretKey),
        CKA_UNWRAP_TEMPLATE | CKA_DERIVE_TEMPLATE => {
            matches!(class, ObjectClass::PrivateKey | ObjectClass::SecretKey)
        }
        _ => false,
    }
}

/// The mechanisms to which a template restricts a key; empty: it does not say.
///
/// # Errors
///
/// `CKR_ATTRIBUTE_VALUE_INVALID` for what is no list of mechanisms, and for an empty one: such a key could do nothing.
pub fn allowed_mechanisms(template: &Template<'_>) -> Outcome<Vec<u64>> {
    let Some(list) = template.bytes(CKA_ALLOWED_MECHANISMS) else { return Ok(Vec::new()) };
    let (numbers, rest) = list.as_chunks::<{ size_of::<CK_MECHANISM_TYPE>() }>();
    if numbers.is_empty() || !rest.is_empty() {
        return Err(CKR_ATTRIBUTE_VALUE_INVALID);
    }
    Ok(numbers.iter().map(|number| CK_MECHANISM_TYPE::from_ne_bytes(*number)).collect())
}

/// The templates of other keys that a template gives.
pub fn templates(template: &Template<'_>) -> Option<KeyTemplates> {
    let of = |attribute| template.nested(attribute).unwrap_or_default().to_vec();
    TEMPLATES.iter().any(|attribute| template.nested(*attribute).is_some()).then(|| KeyTemplates {
        wrap: of(CKA_WRAP_TEMPLATE),
        unwrap: of(CKA_UNWRAP_TEMPLATE),
        derive: of(CKA_DERIVE_TEMPLATE),
    })
}

/// A template of other keys that a key has; `None`: it has none.
pub fn template_of(templates: Option<&KeyTemplates>, attribute: CK_ATTRIBUTE_TYPE) -> Option<&[Attribute]> {
    let templates = templates?;
    let template = match attribute {
        CKA_WRAP_TEMPLATE => &templates.wrap,
        CKA_UNWRAP_TEMPLATE => &templates.unwrap,
        CKA_DERIVE_TEMPLATE => &templates.derive,
        _ => return None,
    };
    Some(template.as_slice()).filter(|template| !template.is_empty())
}

/// What a key says of those that are made of it: before what the application says.
pub fn derived(key: &Object) -> &[Attribute] {
    template_of(key.info.templates.as_ref(), CKA_DERIVE_TEMPLATE).unwrap_or_default()
}

/// Checks that a key may be used with a mechanism.
///
/// # Errors
///
/// `CKR_MECHANISM_INVALID`, and those of [`Process::object`].
pub fn check(
    process: &'static Process,
    token: &Token,
    key: &Key,
    handle: CK_OBJECT_HANDLE,
    mechanism: CK_MECHANISM_TYPE,
) -> Outcome {
    if !key.has_allowed_mechanisms {
        return Ok(());
    }
    let object = process.object(token, handle).map_err(as_key)?;
    let is_allowed = object.info.allowed_mechanisms.contains(&mechanism);
    if is_allowed { Ok(()) } else { Err(CKR_MECHANISM_INVALID) }
}
