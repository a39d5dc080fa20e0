//! Keys made of secret keys (HKDF, SP 800-108: `C_DeriveKey`) and of passwords (PBKDF2: `C_GenerateKey`), in the partition.

use std::sync::Arc;

use cryptoki_sys::*;
use strongroom_ffi::pointer;
use strongroom_protocol::v1::{
    Attribute, DeriveKey, Hash, HkdfParameters, KeyPolicy, KeyTemplate, Mechanism, ObjectClass, ObjectInfo,
    Sp800108Parameters, request::Op,
};
use zeroize::Zeroize;

use super::object::{create, destroy, first_handle, public_object};
use super::signature::as_key;
use crate::call::{Access, Repeat};
use crate::error::Outcome;
use crate::hash;
use crate::key::{self, Family};
use crate::mechanism;
use crate::object::{self, Object};
use crate::restrictions;
use crate::session::Session;
use crate::session_keys::template_of;
use crate::state::Process;
use crate::template::{self, Template};

/// A key that is to be derived: what it is to be, and its size in bytes.
struct Wanted {
    info: ObjectInfo,
    length: usize,
}

impl Wanted {
    /// Reads a template; `usual` is the size of a generic secret for which none is asked.
    fn read(template: &Template<'_>, usual: Option<usize>) -> Outcome<Self> {
        let mut info = template::derived(template)?;
        let family = key::facts(info.key_type()).ok_or(CKR_FUNCTION_FAILED)?.family;
        let length = match (template.number(CKA_VALUE_LEN)?, family) {
            (Some(length), _) => usize::try_from(length).map_err(|_| CKR_KEY_SIZE_RANGE)?,
            // There is only one.
            (None, Family::Des3) => 24,
            (None, Family::Generic) => usual.ok_or(CKR_TEMPLATE_INCOMPLETE)?,
            (None, _) => return Err(CKR_TEMPLATE_INCOMPLETE),
        };
        let facts = key::secret(family, length).ok_or(CKR_KEY_SIZE_RANGE)?;
        info.key_type = facts.key_type.into();
        // At most 1,024; of the others the type says it.
        info.value_length = if family == Family::Generic { length as u32 } else { 0 };
        Ok(Wanted { info, length })
    }

    /// A generic secret of the session that can be read.
    fn readable(length: usize) -> Outcome<Self> {
        let facts = key::secret(Family::Generic, length).ok_or(CKR_KEY_SIZE_RANGE)?;
        let policy = KeyPolicy { not_sensitive: true, extractable: true, ..KeyPolicy::default() };
        let info = ObjectInfo {
            class: ObjectClass::SecretKey.into(),
            key_type: facts.key_type.into(),
            policy: Some(policy),
            session: true,
            private: true,
            // At most 1,024.
            value_length: length as u32,
            ..ObjectInfo::default()
        };
        Ok(Wanted { info, length })
    }

    /// The request that makes it, without the mechanism's parameters.
    fn request(&self, key: &[u8], mechanism: Mechanism) -> DeriveKey {
        let derived = template_of(&self.info);
        DeriveKey {
            key: key.to_vec(),
            mechanism: mechanism.into(),
            key_type: self.info.key_type,
            derived: Some(KeyTemplate { value_length: self.info.value_length, ..derived }),
            ..DeriveKey::default()
        }
    }
}

/// Has the daemon derive a key.
fn make(process: &'static Process, session: &Session, request: &DeriveKey) -> Outcome<CK_OBJECT_HANDLE> {
    // This copy is wiped by the client when it has been sent.
    let derive = || Op::DeriveKey(request.clone());
    let reply = process.call(Access::of(&session.token), Repeat::Never, derive).map_err(as_key)?;
    first_handle(process, session, reply)
}

/// A secret key that may derive with this mechanism.
fn base(
    process: &'static Process,
    session: &Session,
    mechanism: CK_MECHANISM_TYPE,
    handle: CK_OBJECT_HANDLE,
) -> Outcome<Arc<Object>> {
    let key = process.key(&session.token, handle).map_err(as_key)?;
    match key.class {
        ObjectClass::SecretKey => {}
        ObjectClass::PublicKey | ObjectClass::PrivateKey => return Err(CKR_KEY_TYPE_INCONSISTENT),
        _ => return Err(CKR_KEY_HANDLE_INVALID),
    }
    if !key.may_derive {
        return Err(CKR_KEY_FUNCTION_NOT_PERMITTED);
    }
    restrictions::check(process, &session.token, &key, handle, mechanism)?;
    process.object(&session.token, handle).map_err(as_key)
}

/// `C_DeriveKey` of a secret key.
///
/// # Safety
///
/// The module's contract holds for the mechanism's parameter.
pub(super) unsafe fn derive(
    process: &'static Process,
    session: &Session,
    wire: Mechanism,
    mechanism: &CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
    template: Template<'_>,
) -> Outcome<CK_OBJECT_HANDLE> {
    let of = base(process, session, mechanism.mechanism, key)?;
    let (key, own) = (of.id, restrictions::derived(&of));
    if wire != Mechanism::Hkdf {
        // SAFETY: by the contract.
        return unsafe { sp800_108(process, session, (wire, mechanism), &key, own, template) };
    }
    // SAFETY: by the contract.
    let (parameters, salt) = unsafe { mechanism::hkdf_parameters(mechanism) }?;
    let salt = match salt {
        Some(handle) => Some(base(process, session, mechanism.mechanism, handle)?),
        None => None,
    };
    let salt_key = salt.as_ref().map_or_else(Vec::new, |salt| salt.id.to_vec());
    // What is extracted has one size.
    let usual = (!parameters.expand).then(|| hash::size(parameters.hash()));
    let hkdf = Some(HkdfParameters { salt_key, ..parameters });
    if mechanism.mechanism == CKM_HKDF_DATA {
        let (length, described) = data_object(&template, usual)?;
        session.may_make(described.session)?;
        let request = DeriveKey { hkdf, ..Wanted::readable(length)?.request(&key, wire) };
        return as_data(process, session, &request, described);
    }
    let mut template = template;
    template.complete(own)?;
    template.complete(salt.as_deref().map(restrictions::derived).unwrap_or_default())?;
    let wanted = Wanted::read(&template, usual)?;
    session.may_make(wanted.info.session)?;
    let request = DeriveKey { hkdf, ..wanted.request(&key, wire) };
    make(process, session, &request)
}

/// Reads the template of `CKM_HKDF_DATA`: how many bytes the data object holds, and what else it is. It is private unless the template
/// says otherwise, as the keys are that it is made of.
fn data_object(template: &Template<'_>, usual: Option<usize>) -> Outcome<(usize, ObjectInfo)> {
    template.only(CKA_CLASS, &CKO_DATA.to_ne_bytes())?;
    let length = match template.number(CKA_VALUE_LEN)? {
        Some(length) => usize::try_from(length).map_err(|_| CKR_KEY_SIZE_RANGE)?,
        None => usual.ok_or(CKR_TEMPLATE_INCOMPLETE)?,
    };
    if template.bytes(CKA_VALUE).is_some() {
        return Err(CKR_TEMPLATE_INCONSISTENT);
    }
    // The length is the derivation's: data objects have no such attribute.
    for (attribute, _) in template.iter().filter(|(attribute, _)| *attribute != CKA_VALUE_LEN) {
        object::may_be_given(ObjectClass::Data, attribute)?;
    }
    let private = template.boolean(CKA_PRIVATE)?.unwrap_or(true);
    Ok((length, ObjectInfo { private, ..public_object(ObjectClass::Data, template)? }))
}

/// Derives a secret that can be read, reads it, and keeps it as a data object. So it is made only of a key that may make such secrets
/// (its `CKA_DERIVE_TEMPLATE`), and the audit log has it as one.
fn as_data(
    process: &'static Process,
    session: &Session,
    request: &DeriveKey,
    described: ObjectInfo,
) -> Outcome<CK_OBJECT_HANDLE> {
    let token = &session.token;
    let secret = make(process, session, request)?;
    let value = process.object(token, secret).and_then(|object| process.value_of(token, &object));
    let known = process.session_objects.destroy(secret);
    process.forget_session_objects(token, known.as_slice());
    let mut value = value?;
    create(process, session, ObjectInfo { value: std::mem::take(&mut *value), ..described })
}

/// # Safety
///
/// As [`fn@derive`].
unsafe fn sp800_108<'a>(
    process: &'static Process,
    session: &Session,
    (wire, mechanism): (Mechanism, &CK_MECHANISM),
    key: &[u8; 16],
    own: &'a [Attribute],
    mut template: Template<'a>,
) -> Outcome<CK_OBJECT_HANDLE> {
    // SAFETY: by the contract.
    let (parameters, others) = unsafe { mechanism::sp800_108_parameters(mechanism, wire) }?;
    // A block of the function's, where nothing is said.
    let block = match parameters.hash() {
        Hash::Unspecified => 16,
        hash => hash::size(hash),
    };
    template.complete(own)?;
    let mut wanted = vec![Wanted::read(&template, Some(block))?];
    for other in others {
        // SAFETY: by the contract.
        let mut template = unsafe { Template::read(other.pTemplate, other.ulAttributeCount) }?;
        template.complete(own)?;
        wanted.push(Wanted::read(&template, Some(block))?);
        // SAFETY: by the contract.
        if unsafe { pointer::reference_mut(other.phKey) }.is_none() {
            return Err(CKR_MECHANISM_PARAM_INVALID);
        }
    }
    for Wanted { info, .. } in &wanted {
        session.may_make(info.session)?;
        // If another of them cannot be made, this one could not be taken back.
        if wanted.len() > 1 && info.not_destroyable && !info.session {
            return Err(CKR_TEMPLATE_INCONSISTENT);
        }
    }
    let total: usize = wanted.iter().map(|wanted| wanted.length).sum();
    let total = u32::try_from(total).map_err(|_| CKR_KEY_SIZE_RANGE)?;
    let mut made: Vec<CK_OBJECT_HANDLE> = Vec::with_capacity(wanted.len());
    let mut offset = 0;
    for wanted in &wanted {
        let parameters = Sp800108Parameters { offset, total, ..parameters.clone() };
        let request = DeriveKey { sp800_108: Some(parameters), ..wanted.request(key, wire) };
        match make(process, session, &request) {
            Ok(handle) => made.push(handle),
            Err(code) => {
                // All or none.
                for handle in made {
                    let object = process.object(&session.token, handle);
                    let _ = object.and_then(|object| destroy(process, session, handle, &object));
                }
                return Err(code);
            }
        }
        // At most `total`.
        offset += wanted.length as u32;
    }
    let (first, rest) = made.split_first().ok_or(CKR_FUNCTION_FAILED)?;
    for (other, handle) in others.iter().zip(rest) {
        // SAFETY: by the contract; checked above.
        if let Some(place) = unsafe { pointer::reference_mut(other.phKey) } {
            *place = *handle;
        }
    }
    Ok(*first)
}

/// `C_GenerateKey` with `CKM_PKCS5_PBKD2`.
///
/// # Safety
///
/// As [`fn@derive`].
pub(super) unsafe fn from_password(
    process: &'static Process,
    session: &Session,
    mechanism: &CK_MECHANISM,
    template: &Template<'_>,
) -> Outcome<CK_OBJECT_HANDLE> {
    // SAFETY: by the contract.
    let parameters = unsafe { mechanism::pbkdf2_parameters(mechanism) }?;
    let usual = hash::size(parameters.hash());
    let mut request = DeriveKey { pbkdf2: Some(parameters), ..DeriveKey::default() };
    let made = Wanted::read(template, Some(usual)).and_then(|wanted| {
        session.may_make(wanted.info.session)?;
        let pbkdf2 = request.pbkdf2.take();
        request = DeriveKey { pbkdf2, ..wanted.request(&[], Mechanism::Pbkdf2) };
        make(process, session, &request)
    });
    if let Some(pbkdf2) = &mut request.pbkdf2 {
        pbkdf2.password.zeroize();
    }
    made
}
