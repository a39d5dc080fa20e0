//! Signing functions (PKCS#11 3.0, 5.11).

use cryptoki_sys::*;
use strongroom_protocol::v1::{ObjectClass, Sign, request::Op, response};

use super::signature::{Operation, as_key};
use super::{has_room, input};
use crate::call::{Access, Repeat};
use crate::error::{Outcome, lock};
use crate::session::{Session, take};
use crate::state::Process;

/// `C_SignInit`. A null mechanism ends an operation (PKCS#11 3.0).
pub unsafe fn sign_init(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> Outcome {
    let session = process.sessions.get(session)?;
    if mechanism.is_null() {
        return take(&session, |active| &mut active.sign).map(|_| ()).map_err(|_| CKR_ARGUMENTS_BAD);
    }
    if lock(&session.active).sign.is_some() {
        return Err(CKR_OPERATION_ACTIVE);
    }
    // SAFETY: by the module's contract.
    let operation = unsafe { Operation::start(process, &session, mechanism, key, ObjectClass::PrivateKey) }?;
    lock(&session.active).sign = Some(operation);
    Ok(())
}

/// `C_Sign`.
pub unsafe fn sign(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    length: CK_ULONG,
    signature: *mut CK_BYTE,
    signature_length: *mut CK_ULONG,
) -> Outcome {
    // SAFETY: by the module's contract.
    let data = unsafe { input(data, length) };
    // SAFETY: by the module's contract.
    unsafe { finish(process, session, data, signature, signature_length) }
}

/// `C_SignUpdate`.
pub unsafe fn sign_update(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    part: *mut CK_BYTE,
    length: CK_ULONG,
) -> Outcome {
    let session = process.sessions.get(session)?;
    let mut operation = take(&session, |active| &mut active.sign)?;
    // SAFETY: by the module's contract. A failure ends the operation.
    operation.update(unsafe { input(part, length) }?)?;
    lock(&session.active).sign = Some(operation);
    Ok(())
}

/// `C_SignFinal`.
pub unsafe fn sign_final(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    signature: *mut CK_BYTE,
    signature_length: *mut CK_ULONG,
) -> Outcome {
    // SAFETY: by the module's contract.
    unsafe { finish(process, session, Ok(&[]), signature, signature_length) }
}

/// Signs. Asking for the size, or a buffer that is too small, does not end the operation and asks nobody.
unsafe fn finish(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    data: Outcome<&[u8]>,
    buffer: *mut CK_BYTE,
    length: *mut CK_ULONG,
) -> Outcome {
    let session = process.sessions.get(session)?;
    let mut operation = take(&session, |active| &mut active.sign)?;
    let data = data?;
    // SAFETY: by the module's contract.
    match unsafe { has_room(operation.size, buffer, length) } {
        Ok(true) => {}
        outcome @ (Ok(false) | Err(CKR_BUFFER_TOO_SMALL)) => {
            lock(&session.active).sign = Some(operation);
            return outcome.map(|_| ());
        }
        Err(code) => return Err(code),
    }
    operation.update(data)?;
    let signature = request(process, &session, &mut operation)?;
    // SAFETY: by the module's contract.
    unsafe { super::write(&signature, buffer, length) }.map(|_| ())
}

fn request(process: &'static Process, session: &Session, operation: &mut Operation) -> Outcome<Vec<u8>> {
    let data = operation.finish()?;
    let sign = || {
        Op::Sign(Sign {
            key: operation.key.to_vec(),
            mechanism: operation.mechanism.into(),
            pss: operation.pss,
            data: data.clone(),
        })
    };
    match process.call(Access::of(&session.token), Repeat::Safe, sign) {
        Ok(response::Result::Signature(reply)) if reply.signature.len() == operation.size => {
            Ok(reply.signature)
        }
        Ok(_) => Err(CKR_DEVICE_ERROR),
        Err(code) => {
            if code == CKR_OBJECT_HANDLE_INVALID {
                process.handles.forget(operation.handle);
            }
            Err(as_key(code))
        }
    }
}
