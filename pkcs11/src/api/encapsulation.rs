//! Encapsulation functions (PKCS#11 3.2, chapter "Key management functions"): ML-KEM.

use cryptoki_sys::*;
use strongroom_protocol::v1::{
    Decapsulate, Encapsulate, Encapsulated, KeyType, Mechanism, ObjectClass, ObjectInfo, request::Op,
    response,
};
use zeroize::Zeroizing;

use super::derive::Derivation;
use super::signature::{as_key, refused};
use super::{argument, has_room, input, place, write};
use crate::brief::Key;
use crate::call::{Access, Repeat};
use crate::error::Outcome;
use crate::key::KeyFacts;
use crate::mechanism::{self, Purpose};
use crate::restrictions;
use crate::session::Session;
use crate::state::Process;
use crate::template::{self, Template};

/// The size of ML-KEM's secrets, in bytes (FIPS 203, table 3).
const SECRET: usize = 32;

/// The size of a ciphertext, in bytes (FIPS 203, table 3); 0 of other keys.
fn ciphertext_size(facts: &KeyFacts) -> usize {
    match facts.key_type {
        KeyType::MlKem512 => 768,
        KeyType::MlKem768 => 1088,
        KeyType::MlKem1024 => 1568,
        _ => 0,
    }
}

/// `C_EncapsulateKey`: a secret key, as of `C_DeriveKey`, and the ciphertext for the owner of the private key.
#[allow(clippy::too_many_arguments, reason = "the C function's")]
pub unsafe fn encapsulate_key(
    process: &'static Process,
    handle: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    public: CK_OBJECT_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    ciphertext: *mut CK_BYTE,
    ciphertext_length: *mut CK_ULONG,
    secret: *mut CK_OBJECT_HANDLE,
) -> Outcome {
    // SAFETY: by the module's contract.
    let (mechanism, template) = unsafe { (argument(mechanism)?, Template::read(template, count)?) };
    let session = process.sessions.get(handle)?;
    let (key, facts) = key(process, &session, mechanism, public, ObjectClass::PublicKey)?;
    let info = secret_of(&template)?;
    session.may_make(info.session)?;
    // SAFETY: by the module's contract.
    if !unsafe { has_room(ciphertext_size(facts), ciphertext, ciphertext_length) }? {
        return Ok(());
    }
    // SAFETY: by the module's contract.
    let secret = unsafe { place(secret) }?;
    let derivation = Derivation::begin(process, &session);
    let encapsulate =
        || Op::Encapsulate(Encapsulate { key: key.id.to_vec(), mechanism: Mechanism::MlKem.into() });
    let reply = process.call(Access::of(&session.token), Repeat::Safe, encapsulate);
    let response::Result::Encapsulated(reply) = reply.map_err(|code| refused(process, public, code))? else {
        return Err(CKR_DEVICE_ERROR);
    };
    let Encapsulated { ciphertext: made, secret: value } = reply;
    let value = Zeroizing::new(value);
    if value.len() != SECRET || made.len() != ciphertext_size(facts) {
        return Err(CKR_DEVICE_ERROR);
    }
    let kept = derivation.keep(info, &value)?;
    // SAFETY: by the module's contract.
    unsafe { write(&made, ciphertext, ciphertext_length) }?;
    *secret = kept;
    Ok(())
}

/// `C_DecapsulateKey`: the secret of a ciphertext, as a secret key as of `C_DeriveKey`.
#[allow(clippy::too_many_arguments, reason = "the C function's")]
pub unsafe fn decapsulate_key(
    process: &'static Process,
    handle: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    private: CK_OBJECT_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    ciphertext: *mut CK_BYTE,
    ciphertext_length: CK_ULONG,
    secret: *mut CK_OBJECT_HANDLE,
) -> Outcome {
    // SAFETY: by the module's contract.
    let (mechanism, template, ciphertext, secret) = unsafe {
        (
            argument(mechanism)?,
            Template::read(template, count)?,
            input(ciphertext, ciphertext_length)?,
            place(secret)?,
        )
    };
    let session = process.sessions.get(handle)?;
    let (key, facts) = key(process, &session, mechanism, private, ObjectClass::PrivateKey)?;
    let info = secret_of(&template)?;
    session.may_make(info.session)?;
    if ciphertext.len() != ciphertext_size(facts) {
        return Err(CKR_ENCRYPTED_DATA_LEN_RANGE);
    }
    let derivation = Derivation::begin(process, &session);
    let decapsulate = || {
        Op::Decapsulate(Decapsulate {
            key: key.id.to_vec(),
            mechanism: Mechanism::MlKem.into(),
            ciphertext: ciphertext.to_vec(),
        })
    };
    let reply = process.call(Access::of(&session.token), Repeat::Safe, decapsulate);
    let response::Result::SharedSecret(reply) = reply.map_err(|code| refused(process, private, code))? else {
        return Err(CKR_DEVICE_ERROR);
    };
    let value = Zeroizing::new(reply.secret);
    if value.len() != SECRET {
        return Err(CKR_DEVICE_ERROR);
    }
    *secret = derivation.keep(info, &value)?;
    Ok(())
}

/// The key behind a handle, if it is of this class and may do this.
fn key(
    process: &'static Process,
    session: &Session,
    mechanism: &CK_MECHANISM,
    handle: CK_OBJECT_HANDLE,
    class: ObjectClass,
) -> Outcome<(Key, &'static KeyFacts)> {
    let Purpose::Encapsulate(family) = mechanism::find(mechanism.mechanism)?.purpose else {
        return Err(CKR_MECHANISM_INVALID);
    };
    if mechanism.ulParameterLen != 0 {
        return Err(CKR_MECHANISM_PARAM_INVALID);
    }
    let key = process.key(&session.token, handle).map_err(as_key)?;
    let facts = key.facts.ok_or(CKR_KEY_HANDLE_INVALID)?;
    if key.class != class || facts.family != family {
        return Err(CKR_KEY_TYPE_INCONSISTENT);
    }
    let may = if class == ObjectClass::PublicKey { key.may_encapsulate } else { key.may_decapsulate };
    if !may {
        return Err(CKR_KEY_FUNCTION_NOT_PERMITTED);
    }
    restrictions::check(process, &session.token, &key, handle, mechanism.mechanism)?;
    Ok((key, facts))
}

/// What is said of the secret: it has one length.
fn secret_of(template: &Template<'_>) -> Outcome<ObjectInfo> {
    template.only(CKA_VALUE_LEN, &(SECRET as CK_ULONG).to_ne_bytes())?;
    template::derived(template)
}
