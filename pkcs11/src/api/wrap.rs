//! Wrapping and unwrapping keys (PKCS#11 3.0, 5.18.6 and 5.18.7).

use cryptoki_sys::*;
use strongroom_protocol::v1::{
    Hash, KeyTemplate, KeyType, Mechanism, ObjectClass, UnwrapKey, WrapKey, request::Op, response,
};

use super::signature::{as_key, refused};
use super::{argument, input, object, place, write};
use crate::call::{Access, Repeat};
use crate::error::{Outcome, lock};
use crate::key::{self, Family, KEYS};
use crate::mechanism::{self, Purpose, Wrapping};
use crate::object::class_from;
use crate::restrictions;
use crate::session::Session;
use crate::state::Process;
use crate::template::{self, Template};

/// The longest wrapped key that the partition takes, in bytes.
const MAX_WRAPPED: usize = 16 * 1024;

/// What a mechanism wraps with, and how.
fn way(mechanism: CK_MECHANISM_TYPE) -> Outcome<(Family, Mechanism)> {
    match mechanism::find(mechanism)?.purpose {
        Purpose::Wrap(family, wire) => Ok((family, wire)),
        Purpose::Decrypt(family, wire @ Mechanism::RsaPkcsOaep) => Ok((family, wire)),
        Purpose::Sign(family, wire @ Mechanism::RsaPkcs, Hash::Unspecified) => Ok((family, wire)),
        _ => Err(CKR_MECHANISM_INVALID),
    }
}

/// A key that was wrapped for who asked for its size: it leaves once, and so does the audit log have it.
pub struct Wrapped {
    request: WrapKey,
    /// Of the log-in for which it was made.
    epoch: u64,
    made: Vec<u8>,
}

/// What a mechanism unwraps with, and how.
fn way_back(mechanism: CK_MECHANISM_TYPE) -> Outcome<(Family, Mechanism)> {
    match mechanism::find(mechanism)?.purpose {
        // Keys come in as others' files have them, and leave only in ways that say whether they were changed.
        Purpose::Cipher(family, wire @ Mechanism::AesCbcPad) => Ok((family, wire)),
        _ => way(mechanism),
    }
}

/// `C_WrapKey`. Whether the key may leave, and under this one, the partition decides.
pub unsafe fn wrap_key(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    wrapping_key: CK_OBJECT_HANDLE,
    key: CK_OBJECT_HANDLE,
    wrapped: *mut CK_BYTE,
    length: *mut CK_ULONG,
) -> Outcome {
    // SAFETY: by the module's contract.
    let (mechanism, _) = unsafe { (argument(mechanism)?, place(length)?) };
    let session = process.sessions.get(session)?;
    let (family, wire) = way(mechanism.mechanism)?;
    // SAFETY: by the module's contract.
    let Wrapping { oaep, aes_bits, .. } = unsafe { mechanism::wrapping_parameters(mechanism, wire) }?;
    let class = if family == Family::Aes { ObjectClass::SecretKey } else { ObjectClass::PublicKey };
    let with = wrapping(process, &session, wrapping_key, family, class, mechanism.mechanism, &WRAPPING)?;
    let handle = key;
    let key = process.key(&session.token, handle).map_err(as_key)?;
    if !matches!(key.class, ObjectClass::PrivateKey | ObjectClass::SecretKey) {
        return Err(CKR_KEY_NOT_WRAPPABLE);
    }
    let request =
        WrapKey { wrapping_key: with.to_vec(), key: key.id.to_vec(), mechanism: wire.into(), oaep, aes_bits };
    let epoch = session.token.login.epoch();
    let kept = lock(&session.active).wrapped.take();
    let wrapped_key = match kept.filter(|kept| kept.request == request && kept.epoch == epoch) {
        Some(kept) => kept,
        None => {
            let made = wrap(process, &session, &request, (wrapping_key, handle))?;
            Wrapped { request, epoch, made }
        }
    };
    // SAFETY: by the module's contract.
    let written = unsafe { write(&wrapped_key.made, wrapped, length) };
    if matches!(written, Ok(false) | Err(CKR_BUFFER_TOO_SMALL)) {
        lock(&session.active).wrapped = Some(wrapped_key);
    }
    written.map(|_| ())
}

/// Has the daemon wrap a key; the handles are those of the wrapping key and of the other.
fn wrap(
    process: &'static Process,
    session: &Session,
    request: &WrapKey,
    (wrapping_key, key): (CK_OBJECT_HANDLE, CK_OBJECT_HANDLE),
) -> Outcome<Vec<u8>> {
    let wrap = || Op::WrapKey(request.clone());
    let reply = process.call(Access::of(&session.token), Repeat::Safe, wrap).map_err(|code| match code {
        // One of the two is gone.
        CKR_OBJECT_HANDLE_INVALID if is_gone(process, session, wrapping_key) => {
            process.handles.forget(wrapping_key);
            CKR_WRAPPING_KEY_HANDLE_INVALID
        }
        CKR_OBJECT_HANDLE_INVALID => refused(process, key, code),
        // The key is too long, or not of a length that this way takes.
        CKR_DATA_LEN_RANGE => CKR_KEY_SIZE_RANGE,
        // "CKR_KEY_HANDLE_INVALID is returned if any attribute mismatches" CKA_WRAP_TEMPLATE.
        CKR_TEMPLATE_INCONSISTENT => CKR_KEY_HANDLE_INVALID,
        code => code,
    })?;
    match reply {
        response::Result::WrappedKey(reply) => Ok(reply.wrapped),
        _ => Err(CKR_DEVICE_ERROR),
    }
}

/// Whether the daemon has the object behind a handle no more.
fn is_gone(process: &'static Process, session: &Session, handle: CK_OBJECT_HANDLE) -> bool {
    let known = process.object(&session.token, handle);
    let asked = known.and_then(|object| match object.info.session {
        true => Ok(object),
        false => process.ask_for(&session.token, &object.id),
    });
    asked.err() == Some(CKR_OBJECT_HANDLE_INVALID)
}

/// `C_UnwrapKey`: a private or a secret key, in the token or of the session.
#[allow(clippy::too_many_arguments, reason = "the C function's")]
pub unsafe fn unwrap_key(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    unwrapping_key: CK_OBJECT_HANDLE,
    wrapped: *mut CK_BYTE,
    length: CK_ULONG,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    handle: *mut CK_OBJECT_HANDLE,
) -> Outcome {
    // SAFETY: by the module's contract.
    let (mechanism, wrapped, mut template, handle) = unsafe {
        (argument(mechanism)?, input(wrapped, length)?, Template::read(template, count)?, place(handle)?)
    };
    let session = process.sessions.get(session)?;
    let (family, wire) = way_back(mechanism.mechanism)?;
    // SAFETY: by the module's contract.
    let parameters = unsafe { mechanism::wrapping_parameters(mechanism, wire) }?;
    let class = if family == Family::Aes { ObjectClass::SecretKey } else { ObjectClass::PrivateKey };
    let with = wrapping(process, &session, unwrapping_key, family, class, mechanism.mechanism, &UNWRAPPING)?;
    let unwrapping =
        process.object(&session.token, unwrapping_key).map_err(|code| UNWRAPPING.of_handle(code))?;
    let own = restrictions::template_of(unwrapping.info.templates.as_ref(), CKA_UNWRAP_TEMPLATE);
    template.complete(own.unwrap_or_default())?;
    if wrapped.is_empty() || wrapped.len() > MAX_WRAPPED {
        return Err(CKR_WRAPPED_KEY_LEN_RANGE);
    }
    let Wanted { class, key_types, key } = wanted(&template)?;
    session.may_make(key.session)?;
    let unwrap = || request(&with, wire, &parameters, wrapped, class, &key_types, &key);
    let reply =
        process.call(Access::of(&session.token), Repeat::Never, unwrap).map_err(|code| match code {
            CKR_OBJECT_HANDLE_INVALID => {
                process.handles.forget(unwrapping_key);
                CKR_UNWRAPPING_KEY_HANDLE_INVALID
            }
            // What came out is no key, or not of the type that was asked for.
            CKR_ATTRIBUTE_VALUE_INVALID => CKR_WRAPPED_KEY_INVALID,
            code => code,
        })?;
    *handle = object::first_handle(process, &session, reply)?;
    Ok(())
}

fn request(
    with: &[u8; 16],
    wire: Mechanism,
    parameters: &Wrapping,
    wrapped: &[u8],
    class: ObjectClass,
    key_types: &[KeyType],
    key: &KeyTemplate,
) -> Op {
    Op::UnwrapKey(UnwrapKey {
        unwrapping_key: with.to_vec(),
        mechanism: wire.into(),
        oaep: parameters.oaep.clone(),
        wrapped: wrapped.to_vec(),
        class: class.into(),
        key_types: key_types.iter().map(|key_type| (*key_type).into()).collect(),
        key: Some(key.clone()),
        public_key: None,
        private_only: true,
        iv: parameters.iv.clone(),
    })
}

/// The codes for a wrapping and for an unwrapping key.
struct Codes {
    handle: CK_RV,
    kind: CK_RV,
}

impl Codes {
    /// What a code about a handle is called, of this key.
    fn of_handle(&self, code: CK_RV) -> CK_RV {
        if matches!(code, CKR_OBJECT_HANDLE_INVALID | CKR_KEY_HANDLE_INVALID) { self.handle } else { code }
    }
}

const WRAPPING: Codes =
    Codes { handle: CKR_WRAPPING_KEY_HANDLE_INVALID, kind: CKR_WRAPPING_KEY_TYPE_INCONSISTENT };
const UNWRAPPING: Codes =
    Codes { handle: CKR_UNWRAPPING_KEY_HANDLE_INVALID, kind: CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT };

/// The identity of a key that wraps or unwraps in this way.
fn wrapping(
    process: &'static Process,
    session: &Session,
    handle: CK_OBJECT_HANDLE,
    family: Family,
    class: ObjectClass,
    mechanism: CK_MECHANISM_TYPE,
    codes: &Codes,
) -> Outcome<[u8; 16]> {
    let key = process.key(&session.token, handle).map_err(|code| codes.of_handle(code))?;
    let facts = key.facts.ok_or(codes.handle)?;
    if facts.family != family || key.class != class {
        return Err(codes.kind);
    }
    let allowed = restrictions::check(process, &session.token, &key, handle, mechanism);
    allowed.map_err(|code| codes.of_handle(code))?;
    Ok(key.id)
}

/// What an application wants to have unwrapped.
struct Wanted {
    class: ObjectClass,
    /// The types that fit its template.
    key_types: Vec<KeyType>,
    key: KeyTemplate,
}

fn wanted(template: &Template<'_>) -> Outcome<Wanted> {
    let class = template.number(CKA_CLASS)?.ok_or(CKR_TEMPLATE_INCOMPLETE)?;
    let class = class_from(class)?;
    if !matches!(class, ObjectClass::PrivateKey | ObjectClass::SecretKey) {
        return Err(CKR_TEMPLATE_INCONSISTENT);
    }
    template::check(class, template)?;
    // They come with the key.
    for refused in [CKA_VALUE, CKA_PRIVATE_EXPONENT, CKA_SEED] {
        if template.bytes(refused).is_some() {
            return Err(CKR_TEMPLATE_INCONSISTENT);
        }
    }
    let family = template.number(CKA_KEY_TYPE)?.ok_or(CKR_TEMPLATE_INCOMPLETE)?;
    let family = Family::of_key_type(family).ok_or(CKR_ATTRIBUTE_VALUE_INVALID)?;
    if family.is_pair() != (class == ObjectClass::PrivateKey) {
        return Err(CKR_TEMPLATE_INCONSISTENT);
    }
    let (key, length) = match class {
        ObjectClass::PrivateKey => (template::private_key(family, template)?, None),
        _ => (template::secret_key(family, template)?, template.number(CKA_VALUE_LEN)?),
    };
    let length = match length {
        Some(length) => {
            let length = usize::try_from(length).ok().and_then(|length| key::secret(family, length));
            Some(length.ok_or(CKR_ATTRIBUTE_VALUE_INVALID)?.key_type)
        }
        None => None,
    };
    let fits =
        |facts: &&key::KeyFacts| facts.family == family && length.is_none_or(|only| only == facts.key_type);
    let key_types = KEYS.iter().filter(fits).map(|facts| facts.key_type).collect();
    Ok(Wanted { class, key_types, key })
}
