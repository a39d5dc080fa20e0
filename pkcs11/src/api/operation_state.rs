//! Saving and restoring what is under way in a session (PKCS#11 3.0, 5.6): of digests.
//!
//! Everything else depends on a key, and on what the daemon said of it, and is `CKR_STATE_UNSAVEABLE`. A saved digest may be
//! taken up by any session, in any process, of this release or one that knows its format.

use cryptoki_sys::*;

use super::{digest, input};
use crate::error::{Outcome, lock};
use crate::saved_digest;
use crate::state::Process;

/// `C_GetOperationState`: of a session in which nothing but a digest is under way.
pub unsafe fn get_operation_state(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    state: *mut CK_BYTE,
    length: *mut CK_ULONG,
) -> Outcome {
    let session = process.sessions.get(session)?;
    let saved = {
        let active = lock(&session.active);
        match &active.digest {
            _ if active.needs_key() => return Err(CKR_STATE_UNSAVEABLE),
            Some(operation) => saved_digest::save(operation.digest()),
            None => return Err(CKR_OPERATION_NOT_INITIALIZED),
        }
    };
    // SAFETY: by the module's contract.
    unsafe { super::write(&saved, state, length) }.map(|_| ())
}

/// `C_SetOperationState`: what was under way in the session ends.
pub unsafe fn set_operation_state(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    state: *mut CK_BYTE,
    length: CK_ULONG,
    encryption_key: CK_OBJECT_HANDLE,
    authentication_key: CK_OBJECT_HANDLE,
) -> Outcome {
    let session = process.sessions.get(session)?;
    if state.is_null() {
        return Err(CKR_ARGUMENTS_BAD);
    }
    // SAFETY: by the module's contract.
    let digest = saved_digest::restore(unsafe { input(state, length) }?)?;
    if encryption_key != CK_INVALID_HANDLE || authentication_key != CK_INVALID_HANDLE {
        return Err(CKR_KEY_NOT_NEEDED);
    }
    let mut active = lock(&session.active);
    active.end_all();
    active.digest = Some(digest::Operation::restored(digest));
    Ok(())
}
