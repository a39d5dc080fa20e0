//! Object management functions (PKCS#11 3.0, 5.7) other than searching.

use std::borrow::Cow;

use cryptoki_sys::*;
use strongroom_ffi::output::Length;
use strongroom_ffi::pointer;
use strongroom_protocol::v1::{
    Attribute, CreateObject, DestroyObject, ImportKey, ImportKeyPair, ObjectClass, ObjectInfo, SetAttributes,
    TrustKey, request::Op, response,
};

use super::copy::merged;
use super::{has_room, place};
use crate::built_in::{self, BuiltIn};
use crate::call::{Access, Repeat};
use crate::certificate::Certificate;
use crate::curve;
use crate::error::Outcome;
use crate::key::{self, Family};
use crate::object::{self, Object, Value};
use crate::session::Session;
use crate::state::Process;
use crate::template::Template;
use crate::{import, parameter_set, restrictions, template};

/// `C_CreateObject`.
pub unsafe fn create_object(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    handle: *mut CK_OBJECT_HANDLE,
) -> Outcome {
    // SAFETY: by the module's contract.
    let (template, handle) = unsafe { (Template::read(template, count)?, place(handle)?) };
    let session = process.sessions.get(session)?;
    let class = template.number(CKA_CLASS)?.ok_or(CKR_TEMPLATE_INCOMPLETE)?;
    let class = object::class_from(class)?;
    template::check(class, &template)?;
    session.may_make(template::is_for_session(&template)?)?;
    *handle = match class {
        ObjectClass::PrivateKey => import_private_key(process, &session, &template)?,
        ObjectClass::SecretKey => import_secret_key(process, &session, &template)?,
        _ => create(process, &session, public_object(class, &template)?)?,
    };
    Ok(())
}

/// Makes an object without a key that only the partition may see.
pub(super) fn create(
    process: &'static Process,
    session: &Session,
    object: ObjectInfo,
) -> Outcome<CK_OBJECT_HANDLE> {
    if object.session {
        return process.keep_local(session, object);
    }
    let make = || Op::CreateObject(CreateObject { object: Some(object.clone()) });
    let reply = process.call(Access::of(&session.token), Repeat::Never, make)?;
    first_handle(process, session, reply)
}

/// Remembers the object (or the first of a pair) that a reply lists.
pub(super) fn first_handle(
    process: &'static Process,
    session: &Session,
    reply: response::Result,
) -> Outcome<CK_OBJECT_HANDLE> {
    let handles = remember_all(process, session, reply)?;
    handles.first().copied().ok_or(CKR_DEVICE_ERROR)
}

/// Remembers all objects that a reply lists.
pub(super) fn remember_all(
    process: &'static Process,
    session: &Session,
    reply: response::Result,
) -> Outcome<Vec<CK_OBJECT_HANDLE>> {
    let response::Result::Objects(list) = reply else { return Err(CKR_DEVICE_ERROR) };
    let remember = |(info, sealed)| {
        let object = Object::new(info).ok_or(CKR_DEVICE_ERROR)?;
        match object.info.session {
            true => process.keep_for_session(session, object, sealed),
            false => process.handles.remember(session.token.partition, object.into()),
        }
    };
    let sealed = list.sealed.into_iter().chain(std::iter::repeat(Vec::new()));
    list.objects.into_iter().zip(sealed).map(remember).collect()
}

/// What all objects without a secret in them are made from.
pub(super) fn public_object(class: ObjectClass, template: &Template<'_>) -> Outcome<ObjectInfo> {
    let mut object = ObjectInfo {
        class: class.into(),
        label: template.text(CKA_LABEL)?.unwrap_or_default().to_owned(),
        id: template.bytes(CKA_ID).unwrap_or_default().to_vec(),
        private: template.boolean(CKA_PRIVATE)?.unwrap_or(false),
        not_modifiable: template.boolean(CKA_MODIFIABLE)? == Some(false),
        not_destroyable: template.boolean(CKA_DESTROYABLE)? == Some(false),
        not_copyable: template.boolean(CKA_COPYABLE)? == Some(false),
        session: template::is_for_session(template)?,
        attributes: template::kept(class, template),
        ..ObjectInfo::default()
    };
    match class {
        ObjectClass::Certificate => {
            // Attribute certificates, and WTLS's, are of no use to a program that has keys in a partition.
            if template.number(CKA_CERTIFICATE_TYPE)?.is_some_and(|kind| kind != CKC_X_509) {
                return Err(CKR_ATTRIBUTE_VALUE_INVALID);
            }
            template.only(CKA_TRUSTED, &[CK_FALSE])?;
            object.value = template.required(CKA_VALUE)?.to_vec();
            let certificate = Certificate::parse(&object.value).ok_or(CKR_ATTRIBUTE_VALUE_INVALID)?;
            // They stand in the certificate; given apart, they must be the same.
            template.only(CKA_SUBJECT, &certificate.subject)?;
            template.only(CKA_ISSUER, &certificate.issuer)?;
            if template.bytes(CKA_SERIAL_NUMBER).is_some_and(|given| !certificate.has_serial_number(given)) {
                return Err(CKR_TEMPLATE_INCONSISTENT);
            }
        }
        ObjectClass::PublicKey => {
            template.only(CKA_TRUSTED, &[CK_FALSE])?;
            let family = family(template)?;
            let (facts, spki) = public_key(family, template)?;
            object.key_type = facts.key_type.into();
            object.public_key = spki;
            object.policy = Some(template::public_policy(family, template)?);
            object.allowed_mechanisms = restrictions::allowed_mechanisms(template)?;
            object.templates = restrictions::templates(template);
        }
        _ => object.value = template.bytes(CKA_VALUE).unwrap_or_default().to_vec(),
    }
    Ok(object)
}

fn family(template: &Template<'_>) -> Outcome<Family> {
    let key_type = template.number(CKA_KEY_TYPE)?.ok_or(CKR_TEMPLATE_INCOMPLETE)?;
    Family::of_key_type(key_type).ok_or(CKR_ATTRIBUTE_VALUE_INVALID)
}

fn public_key(family: Family, template: &Template<'_>) -> Outcome<(&'static key::KeyFacts, Vec<u8>)> {
    match family {
        Family::Rsa => {
            key::rsa_spki(template.required(CKA_MODULUS)?, template.required(CKA_PUBLIC_EXPONENT)?)
        }
        Family::MlDsa | Family::MlKem => {
            let set = template.number(CKA_PARAMETER_SET)?.ok_or(CKR_TEMPLATE_INCOMPLETE)?;
            let facts = parameter_set::of_parameter_set(family, set)?;
            Ok((facts, parameter_set::spki(facts, template.required(CKA_VALUE)?)?))
        }
        Family::Aes | Family::Generic | Family::Des3 => Err(CKR_ATTRIBUTE_VALUE_INVALID),
        Family::Ec | Family::Edwards | Family::Montgomery => {
            let facts = curve::of_parameters(family, template.required(CKA_EC_PARAMS)?)?;
            Ok((facts, key::curve_spki(facts, template.required(CKA_EC_POINT)?)?))
        }
    }
}

fn import_private_key(
    process: &'static Process,
    session: &Session,
    template: &Template<'_>,
) -> Outcome<CK_OBJECT_HANDLE> {
    let family = family(template)?;
    let key = template::private_key(family, template)?;
    let pkcs8 = import::pkcs8(family, template)?;
    let make = || {
        // This copy is wiped by the client when it has been sent.
        let pkcs8 = pkcs8.to_vec();
        let private_key = Some(key.clone());
        Op::ImportKeyPair(ImportKeyPair { pkcs8, private_key, public_key: None, private_only: true })
    };
    let reply = process.call(Access::of(&session.token), Repeat::Never, make)?;
    first_handle(process, session, reply)
}

fn import_secret_key(
    process: &'static Process,
    session: &Session,
    template: &Template<'_>,
) -> Outcome<CK_OBJECT_HANDLE> {
    let family = family(template)?;
    if family.is_pair() {
        return Err(CKR_ATTRIBUTE_VALUE_INVALID);
    }
    let value = template.required(CKA_VALUE)?;
    let facts = key::secret(family, value.len()).ok_or(CKR_ATTRIBUTE_VALUE_INVALID)?;
    template.only(CKA_VALUE_LEN, &CK_ULONG::from_usize(value.len()).to_ne_bytes())?;
    let key = template::secret_key(family, template)?;
    let make = || {
        // This copy is wiped by the client when it has been sent.
        let value = value.to_vec();
        Op::ImportKey(ImportKey { key_type: facts.key_type.into(), value, key: Some(key.clone()) })
    };
    let reply = process.call(Access::of(&session.token), Repeat::Never, make)?;
    first_handle(process, session, reply)
}

/// `C_DestroyObject`.
pub unsafe fn destroy_object(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    handle: CK_OBJECT_HANDLE,
) -> Outcome {
    let session = process.sessions.get(session)?;
    if BuiltIn::of(&session.token, handle).is_some() {
        return Err(CKR_ACTION_PROHIBITED);
    }
    let object = process.object(&session.token, handle)?;
    session.may_make(object.info.session)?;
    if object.info.not_destroyable {
        return Err(CKR_ACTION_PROHIBITED);
    }
    destroy(process, &session, handle, &object)
}

/// Destroys an object, of a session also one with `CKA_DESTROYABLE` false: for who has just made it.
pub(super) fn destroy(
    process: &'static Process,
    session: &Session,
    handle: CK_OBJECT_HANDLE,
    object: &Object,
) -> Outcome {
    if object.info.session {
        let known = process.session_objects.destroy(handle);
        process.forget_session_objects(&session.token, known.as_slice());
        return Ok(());
    }
    let destroy = || Op::DestroyObject(DestroyObject { object: object.id.to_vec() });
    let outcome = process.call(Access::of(&session.token), Repeat::Never, destroy);
    if matches!(outcome, Ok(_) | Err(CKR_OBJECT_HANDLE_INVALID)) {
        process.handles.forget(handle);
    }
    outcome.map(|_| ())
}

/// `C_GetObjectSize`.
pub unsafe fn get_object_size(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    handle: CK_OBJECT_HANDLE,
    size: *mut CK_ULONG,
) -> Outcome {
    // SAFETY: by the module's contract.
    let size = unsafe { place(size) }?;
    let session = process.sessions.get(session)?;
    *size = CK_ULONG::from_usize(match BuiltIn::of(&session.token, handle) {
        Some(_) => built_in::SIZE,
        None => process.object(&session.token, handle)?.size(),
    });
    Ok(())
}

/// `C_GetAttributeValue`: every attribute is answered, also after one that is not.
pub unsafe fn get_attribute_value(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    handle: CK_OBJECT_HANDLE,
    attributes: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> Outcome {
    let session = process.sessions.get(session)?;
    if attributes.is_null() {
        return Err(CKR_ARGUMENTS_BAD);
    }
    // SAFETY: by the module's contract.
    let attributes = unsafe { pointer::slice_mut(attributes, count.to_usize()) }.ok_or(CKR_ARGUMENTS_BAD)?;
    if let Some(object) = BuiltIn::of(&session.token, handle) {
        // SAFETY: by the module's contract.
        return answer_each(attributes, |attribute| unsafe {
            answer(attribute, object.attribute(attribute.type_))
        });
    }
    let object = process.object(&session.token, handle)?;
    answer_each(attributes, |attribute| {
        // SAFETY: by the module's contract.
        unsafe {
            match object.attribute(attribute.type_) {
                Value::Sensitive if attribute.type_ == CKA_VALUE && object.is_readable() => {
                    answer_value(process, &session, &object, attribute)
                }
                value => answer(attribute, value),
            }
        }
    })
}

/// Has every attribute answered; the last failure.
fn answer_each(
    attributes: &mut [CK_ATTRIBUTE],
    mut answer: impl FnMut(&mut CK_ATTRIBUTE) -> Outcome,
) -> Outcome {
    let mut outcome = Ok(());
    for attribute in attributes {
        if let Err(code) = answer(attribute) {
            attribute.ulValueLen = CK_UNAVAILABLE_INFORMATION;
            outcome = Err(code);
        }
    }
    outcome
}

/// The value of a secret key that can be read. The daemon is asked for it, not for its size.
unsafe fn answer_value(
    process: &'static Process,
    session: &Session,
    object: &Object,
    attribute: &mut CK_ATTRIBUTE,
) -> Outcome {
    if attribute.pValue.is_null()
        && let Some(length) = object.value_length()
    {
        attribute.ulValueLen = CK_ULONG::from_usize(length);
        return Ok(());
    }
    let secret = process.value_of(&session.token, object).map_err(|code| match code {
        CKR_KEY_UNEXTRACTABLE => CKR_ATTRIBUTE_SENSITIVE,
        code => code,
    })?;
    // SAFETY: by the module's contract.
    unsafe { answer(attribute, Value::Bytes(Cow::Borrowed(&secret))) }
}

unsafe fn answer(attribute: &mut CK_ATTRIBUTE, value: Value<'_>) -> Outcome {
    match value {
        // SAFETY: `pValue`, if not null, has `ulValueLen` bytes by the module's contract.
        Value::Bytes(value) => unsafe {
            super::write(&value, attribute.pValue.cast(), &raw mut attribute.ulValueLen).map(|_| ())
        },
        // SAFETY: as above, of an array of attributes.
        Value::Template(inner) => unsafe { answer_template(attribute, inner) },
        Value::Sensitive => Err(CKR_ATTRIBUTE_SENSITIVE),
        Value::Absent => Err(CKR_ATTRIBUTE_TYPE_INVALID),
    }
}

/// An attribute whose value is a template: the application gives an array of attributes, as long as its bytes say, and room in each.
unsafe fn answer_template(attribute: &mut CK_ATTRIBUTE, inner: &[Attribute]) -> Outcome {
    let size = inner.len() * size_of::<CK_ATTRIBUTE>();
    // SAFETY: by the caller's contract.
    if !unsafe { has_room(size, attribute.pValue.cast(), &raw mut attribute.ulValueLen) }? {
        return Ok(());
    }
    attribute.ulValueLen = CK_ULONG::from_usize(size);
    // SAFETY: by the caller's contract, for at least so many attributes.
    let places = unsafe { pointer::slice_mut(attribute.pValue.cast::<CK_ATTRIBUTE>(), inner.len()) };
    let mut known = inner.iter();
    answer_each(places.ok_or(CKR_ARGUMENTS_BAD)?, |place| {
        let known = known.next().ok_or(CKR_FUNCTION_FAILED)?;
        place.type_ = known.r#type;
        // SAFETY: `pValue`, if not null, has `ulValueLen` bytes by the caller's contract.
        unsafe { super::write(&known.value, place.pValue.cast(), &raw mut place.ulValueLen) }.map(|_| ())
    })
}

/// `C_SetAttributeValue`: the label, the id, what is only kept for clients; that a key is to stay in the token, to leave it under trusted
/// keys only, or to be read no more; and, for the crypto officer, that a wrapping key is trusted.
pub unsafe fn set_attribute_value(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    handle: CK_OBJECT_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> Outcome {
    if template.is_null() {
        return Err(CKR_ARGUMENTS_BAD);
    }
    // SAFETY: by the module's contract.
    let template = unsafe { Template::read(template, count) }?;
    let session = process.sessions.get(session)?;
    if BuiltIn::of(&session.token, handle).is_some() {
        return Err(CKR_ACTION_PROHIBITED);
    }
    let mut object = process.object(&session.token, handle)?;
    session.may_make(object.info.session)?;
    if object.info.not_modifiable {
        return Err(CKR_ACTION_PROHIBITED);
    }
    let holds_key = matches!(object.info.class(), ObjectClass::PrivateKey | ObjectClass::SecretKey);
    if holds_key && object.is_local() {
        // What it may changes, and the daemon sees to that.
        process.session_key(&session.token, handle)?;
        object = process.object(&session.token, handle)?;
    }
    let mut trust = None;
    let mut change = SetAttributes { object: object.id.to_vec(), ..SetAttributes::default() };
    for (attribute, value) in template.iter() {
        match attribute {
            CKA_LABEL => change.label = template.text(CKA_LABEL)?.map(str::to_owned),
            CKA_ID if object.info.class() != ObjectClass::Data => change.id = Some(value.to_vec()),
            _ if object::is_kept(object.info.class(), attribute) => {
                change.attributes.push(Attribute { r#type: attribute, value: value.to_vec() });
            }
            CKA_EXTRACTABLE if value == [CK_FALSE] && holds_key => change.not_extractable = true,
            CKA_WRAP_WITH_TRUSTED if value == [CK_TRUE] && holds_key => change.wrap_with_trusted = true,
            CKA_SENSITIVE if value == [CK_TRUE] && holds_key => change.sensitive = true,
            CKA_TRUSTED if matches!(value, [_]) && object.policy().wrap => {
                let distrust = template.boolean(CKA_TRUSTED)? == Some(false);
                if object.policy().trusted == distrust {
                    trust = Some(TrustKey { object: object.id.to_vec(), label: String::new(), distrust });
                }
            }
            // To set what is there already changes nothing.
            _ => match object.attribute(attribute) {
                Value::Bytes(current) if current == value => {}
                Value::Absent => return Err(CKR_ATTRIBUTE_TYPE_INVALID),
                _ => return Err(CKR_ATTRIBUTE_READ_ONLY),
            },
        }
    }
    if let Some(trust) = trust {
        // Others' attributes are not the officer's.
        if template.iter().count() > 1 {
            return Err(CKR_TEMPLATE_INCONSISTENT);
        }
        let reply = process.call(Access::of(&session.token), Repeat::Safe, || Op::TrustKey(trust.clone()))?;
        remember_all(process, &session, reply)?;
        return Ok(());
    }
    if object.is_local() {
        let mut info = object.info.clone();
        info.label = change.label.unwrap_or(info.label);
        info.id = change.id.unwrap_or(info.id);
        info.attributes = merged(&info.attributes, change.attributes);
        return if process.session_objects.change_local(handle, info) {
            Ok(())
        } else {
            Err(CKR_OBJECT_HANDLE_INVALID)
        };
    }
    let set = || Op::SetAttributes(change.clone());
    // Set twice is as set once.
    let reply = process.call(Access::of(&session.token), Repeat::Safe, set)?;
    remember_all(process, &session, reply)?;
    Ok(())
}
