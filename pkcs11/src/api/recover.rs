//! Signatures that what was signed comes out of (PKCS#11 3.0, 5.12 and 5.14): RSA with PKCS#1 v1.5's padding, and without.

use cryptoki_sys::*;
use strongroom_protocol::v1::{Mechanism, ObjectClass, Recover, request::Op, response};

use super::signature::{Operation, What, as_key, refused};
use super::{argument, has_room, input, sign};
use crate::call::{Access, Repeat};
use crate::error::{Outcome, lock};
use crate::key::Family;
use crate::mechanism::{self, Purpose};
use crate::object::ObjectId;
use crate::restrictions;
use crate::session::{begins, take};
use crate::state::Process;

/// A signature that is being opened.
pub struct Recovery {
    key: ObjectId,
    handle: CK_OBJECT_HANDLE,
    mechanism: Mechanism,
    /// Of the modulus, and of the signature, in bytes.
    size: usize,
}

/// `C_SignRecoverInit`. A null mechanism ends an operation (PKCS#11 3.0).
pub unsafe fn sign_recover_init(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> Outcome {
    let session = process.sessions.get(session)?;
    if !begins(&session, mechanism, |active| &mut active.sign_recover)? {
        return Ok(());
    }
    let what = What::SignRecover;
    // SAFETY: by the module's contract.
    let operation = unsafe { Operation::start(process, &session, mechanism, key, what, Vec::new()) }?;
    lock(&session.active).sign_recover = Some(operation);
    Ok(())
}

/// `C_SignRecover`.
pub unsafe fn sign_recover(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    length: CK_ULONG,
    signature: *mut CK_BYTE,
    signature_length: *mut CK_ULONG,
) -> Outcome {
    let session = process.sessions.get(session)?;
    let operation = take(&session, |active| &mut active.sign_recover)?;
    // SAFETY: by the module's contract.
    let data = unsafe { input(data, length) }?;
    // SAFETY: by the module's contract.
    match unsafe { has_room(operation.size, signature, signature_length) } {
        Ok(true) => {}
        outcome @ (Ok(false) | Err(CKR_BUFFER_TOO_SMALL)) => {
            lock(&session.active).sign_recover = Some(operation);
            return outcome.map(|_| ());
        }
        Err(code) => return Err(code),
    }
    // SAFETY: by the module's contract; there is room.
    unsafe { sign::complete(process, &session, operation, data, (signature, signature_length)) }
}

/// `C_VerifyRecoverInit`. A null mechanism ends an operation (PKCS#11 3.0).
pub unsafe fn verify_recover_init(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    handle: CK_OBJECT_HANDLE,
) -> Outcome {
    let session = process.sessions.get(session)?;
    if !begins(&session, mechanism, |active| &mut active.verify_recover)? {
        return Ok(());
    }
    // SAFETY: by the module's contract.
    let mechanism = unsafe { argument(mechanism) }?;
    let wire = match mechanism::find(mechanism.mechanism)?.purpose {
        Purpose::Sign(Family::Rsa, wire, _) if mechanism::recovers(mechanism.mechanism) => wire,
        _ => return Err(CKR_MECHANISM_INVALID),
    };
    if mechanism.ulParameterLen != 0 {
        return Err(CKR_MECHANISM_PARAM_INVALID);
    }
    let key = process.key(&session.token, handle).map_err(as_key)?;
    match key.class {
        ObjectClass::PublicKey => {}
        ObjectClass::PrivateKey | ObjectClass::SecretKey => return Err(CKR_KEY_TYPE_INCONSISTENT),
        _ => return Err(CKR_KEY_HANDLE_INVALID),
    }
    let facts = key.facts.filter(|facts| facts.family == Family::Rsa).ok_or(CKR_KEY_TYPE_INCONSISTENT)?;
    if !key.may_verify_recover {
        return Err(CKR_KEY_FUNCTION_NOT_PERMITTED);
    }
    restrictions::check(process, &session.token, &key, handle, mechanism.mechanism)?;
    let recovery = Recovery { key: key.id, handle, mechanism: wire, size: facts.signature };
    lock(&session.active).verify_recover = Some(recovery);
    Ok(())
}

/// `C_VerifyRecover`.
pub unsafe fn verify_recover(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    signature: *mut CK_BYTE,
    signature_length: CK_ULONG,
    data: *mut CK_BYTE,
    length: *mut CK_ULONG,
) -> Outcome {
    let session = process.sessions.get(session)?;
    let recovery = take(&session, |active| &mut active.verify_recover)?;
    // SAFETY: by the module's contract.
    let signature = unsafe { input(signature, signature_length) }?;
    if signature.len() != recovery.size {
        return Err(CKR_SIGNATURE_LEN_RANGE);
    }
    // How much it is the signature says; asked for a size, we name one that suffices.
    let most = mechanism::raw_input(recovery.mechanism, None, recovery.size).0;
    let outcome = if data.is_null() {
        // SAFETY: by the module's contract.
        unsafe { has_room(most, data, length) }
    } else {
        let recover = || {
            Op::Recover(Recover {
                key: recovery.key.to_vec(),
                mechanism: recovery.mechanism.into(),
                signature: signature.to_vec(),
            })
        };
        let reply = process
            .call(Access::of(&session.token), Repeat::Safe, recover)
            .map_err(|code| refused(process, recovery.handle, code))?;
        let response::Result::Plaintext(reply) = reply else { return Err(CKR_DEVICE_ERROR) };
        // SAFETY: by the module's contract.
        unsafe { super::write(&reply.plaintext, data, length) }
    };
    match outcome {
        Ok(true) => Ok(()),
        other => {
            if matches!(other, Ok(false) | Err(CKR_BUFFER_TOO_SMALL)) {
                lock(&session.active).verify_recover = Some(recovery);
            }
            other.map(|_| ())
        }
    }
}
