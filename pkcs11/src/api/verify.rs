//! Functions for verifying signatures (PKCS#11 3.0, 5.13).

use cryptoki_sys::*;
use strongroom_protocol::v1::{Verify, request::Op};

use super::input;
use super::signature::{Operation, What, as_key};
use crate::call::{Access, Repeat};
use crate::error::{Outcome, lock};
use crate::session::{Session, begins, take};
use crate::state::Process;

/// `C_VerifyInit`. A null mechanism ends an operation (PKCS#11 3.0).
pub unsafe fn verify_init(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> Outcome {
    let session = process.sessions.get(session)?;
    if !begins(&session, mechanism, |active| &mut active.verify)? {
        return Ok(());
    }
    // SAFETY: by the module's contract.
    let operation = unsafe { Operation::start(process, &session, mechanism, key, What::Verify, Vec::new()) }?;
    lock(&session.active).verify = Some(operation);
    Ok(())
}

/// `C_Verify`.
pub unsafe fn verify(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    length: CK_ULONG,
    signature: *mut CK_BYTE,
    signature_length: CK_ULONG,
) -> Outcome {
    // SAFETY: by the module's contract.
    let (data, signature) = unsafe { (input(data, length), input(signature, signature_length)) };
    finish(process, session, data, signature, false)
}

/// `C_VerifyUpdate`.
pub unsafe fn verify_update(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    part: *mut CK_BYTE,
    length: CK_ULONG,
) -> Outcome {
    let session = process.sessions.get(session)?;
    let mut operation = take(&session, |active| &mut active.verify)?;
    // SAFETY: by the module's contract. A failure ends the operation.
    operation.take(process, &session, unsafe { input(part, length) }?)?;
    lock(&session.active).verify = Some(operation);
    Ok(())
}

/// `C_VerifyFinal`.
pub unsafe fn verify_final(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    signature: *mut CK_BYTE,
    signature_length: CK_ULONG,
) -> Outcome {
    // SAFETY: by the module's contract.
    let signature = unsafe { input(signature, signature_length) };
    finish(process, session, Ok(&[]), signature, true)
}

fn finish(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    data: Outcome<&[u8]>,
    signature: Outcome<&[u8]>,
    ends_parts: bool,
) -> Outcome {
    let session = process.sessions.get(session)?;
    let operation = take(&session, |active| &mut active.verify)?;
    operation.check_end(ends_parts)?;
    complete(process, &session, operation, data?, signature?)
}

/// Compares a signature with the data that remain.
pub(super) fn complete(
    process: &'static Process,
    session: &Session,
    mut operation: Operation,
    data: &[u8],
    signature: &[u8],
) -> Outcome {
    if signature.len() != operation.size {
        return Err(CKR_SIGNATURE_LEN_RANGE);
    }
    if let Some(code) = operation.code() {
        return code.check(process, session, data, signature).map_err(as_key);
    }
    let (key, mechanism, pss) = (operation.key, operation.mechanism, operation.pss);
    let data = operation.finish(data)?;
    let verify = || {
        Op::Verify(Verify {
            key: key.to_vec(),
            mechanism: mechanism.into(),
            pss,
            data: data.to_vec(),
            signature: signature.to_vec(),
        })
    };
    process.call(Access::of(&session.token), Repeat::Safe, verify).map(|_| ()).map_err(as_key)
}
