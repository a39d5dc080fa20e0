//! `C_CopyObject` (PKCS#11 3.0, 5.7.2).

use cryptoki_sys::*;
use strongroom_protocol::v1::{Attribute, CopyObject, CreateObject, ObjectClass, ObjectInfo, request::Op};

use super::object::first_handle;
use super::place;
use crate::built_in::BuiltIn;
use crate::call::{Access, Repeat};
use crate::error::Outcome;
use crate::object::{self, Object, Value};
use crate::state::Process;
use crate::template::Template;

/// `C_CopyObject`: in the token or of the session, with attributes of its own as far as they give the copy no more rights.
pub unsafe fn copy_object(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    handle: CK_OBJECT_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    copy: *mut CK_OBJECT_HANDLE,
) -> Outcome {
    // SAFETY: by the module's contract.
    let (template, copy) = unsafe { (Template::read(template, count)?, place(copy)?) };
    let session = process.sessions.get(session)?;
    if BuiltIn::of(&session.token, handle).is_some() {
        return Err(CKR_ACTION_PROHIBITED);
    }
    let object = process.object(&session.token, handle)?;
    let asked = asked(&object, &template)?;
    session.may_make(asked.session)?;
    if object.info.not_copyable {
        return Err(CKR_ACTION_PROHIBITED);
    }
    let holds_key = matches!(object.info.class(), ObjectClass::PrivateKey | ObjectClass::SecretKey);
    if !holds_key && (asked.session || object.is_local()) {
        let info = described(&object.info, asked);
        *copy = if info.session {
            process.keep_local(&session, info)?
        } else {
            let create = || Op::CreateObject(CreateObject { object: Some(info.clone()) });
            first_handle(process, &session, process.call(Access::of(&session.token), Repeat::Never, create)?)?
        };
        return Ok(());
    }
    // A secret that this process alone has is given to the daemon first.
    let key = process.key(&session.token, handle)?;
    let make = || Op::CopyObject(CopyObject { object: key.id.to_vec(), ..asked.clone() });
    let reply = process.call(Access::of(&session.token), Repeat::Never, make)?;
    *copy = first_handle(process, &session, reply)?;
    Ok(())
}

/// What a template changes in the copy of an object.
fn asked(object: &Object, template: &Template<'_>) -> Outcome<CopyObject> {
    let class = object.info.class();
    let holds_key = matches!(class, ObjectClass::PrivateKey | ObjectClass::SecretKey);
    let mut asked = CopyObject { session: object.info.session, ..CopyObject::default() };
    for (attribute, value) in template.iter() {
        let given = || template.boolean(attribute).map(|given| given.unwrap_or_default());
        match attribute {
            CKA_TOKEN => asked.session = !given()?,
            CKA_PRIVATE => asked.private = Some(given()?),
            CKA_MODIFIABLE => asked.not_modifiable = Some(!given()?),
            CKA_DESTROYABLE => asked.not_destroyable = Some(!given()?),
            CKA_COPYABLE => asked.not_copyable = !given()?,
            CKA_LABEL => asked.label = template.text(CKA_LABEL)?.map(str::to_owned),
            CKA_ID if class != ObjectClass::Data => asked.id = Some(value.to_vec()),
            _ if object::is_kept(class, attribute) => {
                asked.attributes.push(Attribute { r#type: attribute, value: value.to_vec() });
            }
            CKA_EXTRACTABLE if value == [CK_FALSE] && holds_key => asked.not_extractable = true,
            CKA_WRAP_WITH_TRUSTED if value == [CK_TRUE] && holds_key => asked.wrap_with_trusted = true,
            CKA_SENSITIVE if value == [CK_TRUE] && holds_key => asked.sensitive = true,
            // What is as in the other one is no change.
            _ => match object.attribute(attribute) {
                Value::Bytes(current) if current == value => {}
                Value::Absent => return Err(CKR_ATTRIBUTE_TYPE_INVALID),
                _ => return Err(CKR_ATTRIBUTE_READ_ONLY),
            },
        }
    }
    if holds_key && asked.private == Some(false) && object.info.private {
        return Err(CKR_TEMPLATE_INCONSISTENT);
    }
    Ok(asked)
}

/// The description of a copy that holds no key's secret, as the daemon makes it of others.
fn described(source: &ObjectInfo, asked: CopyObject) -> ObjectInfo {
    ObjectInfo {
        label: asked.label.unwrap_or_else(|| source.label.clone()),
        id: asked.id.unwrap_or_else(|| source.id.clone()),
        attributes: merged(&source.attributes, asked.attributes),
        private: asked.private.unwrap_or(source.private),
        not_modifiable: asked.not_modifiable.unwrap_or(source.not_modifiable),
        not_destroyable: asked.not_destroyable.unwrap_or(source.not_destroyable),
        not_copyable: asked.not_copyable,
        session: asked.session,
        ..source.clone()
    }
}

/// Attributes with others added or in their place, by type.
pub(super) fn merged(kept: &[Attribute], new: Vec<Attribute>) -> Vec<Attribute> {
    let is_new = |attribute: &&Attribute| new.iter().all(|other| other.r#type != attribute.r#type);
    let mut merged: Vec<Attribute> = kept.iter().filter(is_new).cloned().collect();
    merged.extend(new);
    merged
}
