//! Verifying a signature that is known before the data (PKCS#11 3.2, `C_VerifySignatureInit`).

use cryptoki_sys::*;

use super::signature::{Operation, What};
use super::{input, verify};
use crate::error::{Outcome, lock};
use crate::session::{begins, take};
use crate::state::Process;

/// A verification, and the signature.
pub struct GivenSignature {
    operation: Operation,
    signature: Vec<u8>,
}

/// `C_VerifySignatureInit`. A null mechanism ends an operation.
pub unsafe fn verify_signature_init(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
    signature: *mut CK_BYTE,
    signature_length: CK_ULONG,
) -> Outcome {
    let session = process.sessions.get(session)?;
    if !begins(&session, mechanism, |active| &mut active.verify_signature)? {
        return Ok(());
    }
    // SAFETY: by the module's contract.
    let signature = unsafe { input(signature, signature_length) }?;
    // SAFETY: by the module's contract.
    let operation = unsafe { Operation::start(process, &session, mechanism, key, What::Verify, Vec::new()) }?;
    if signature.len() != operation.size {
        return Err(CKR_SIGNATURE_LEN_RANGE);
    }
    let given = GivenSignature { operation, signature: signature.to_vec() };
    lock(&session.active).verify_signature = Some(given);
    Ok(())
}

/// `C_VerifySignature`.
pub unsafe fn verify_signature(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    length: CK_ULONG,
) -> Outcome {
    // SAFETY: by the module's contract.
    let data = unsafe { input(data, length) };
    finish(process, session, data, false)
}

/// `C_VerifySignatureUpdate`.
pub unsafe fn verify_signature_update(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    part: *mut CK_BYTE,
    length: CK_ULONG,
) -> Outcome {
    let session = process.sessions.get(session)?;
    let mut given = take(&session, |active| &mut active.verify_signature)?;
    // SAFETY: by the module's contract. A failure ends the operation.
    given.operation.take(process, &session, unsafe { input(part, length) }?)?;
    lock(&session.active).verify_signature = Some(given);
    Ok(())
}

/// `C_VerifySignatureFinal`.
pub unsafe fn verify_signature_final(process: &'static Process, session: CK_SESSION_HANDLE) -> Outcome {
    finish(process, session, Ok(&[]), true)
}

fn finish(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    data: Outcome<&[u8]>,
    ends_parts: bool,
) -> Outcome {
    let session = process.sessions.get(session)?;
    let given = take(&session, |active| &mut active.verify_signature)?;
    given.operation.check_end(ends_parts)?;
    verify::complete(process, &session, given.operation, data?, &given.signature)
}
