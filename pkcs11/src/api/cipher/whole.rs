//! A message in one part.

use cryptoki_sys::*;

use super::super::flow::streamed;
use super::super::{has_room, input};
use super::outcome::{Request, carry_out, give_out, put_back};
use super::{Way, slot};
use crate::error::Outcome;
use crate::session::take;
use crate::state::Process;

/// `C_Encrypt` and `C_Decrypt`: a message in one part. It may lie where the outcome goes.
pub(in crate::api) unsafe fn whole(
    (way, request): (Way, Request),
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    (data, data_length): (*mut CK_BYTE, CK_ULONG),
    (buffer, length): (*mut CK_BYTE, *mut CK_ULONG),
) -> Outcome {
    let session = process.sessions.get(session)?;
    let mut operation = take(&session, |active| slot(way, active))?;
    if operation.parts.is_some() || operation.stream().is_some_and(|stream| stream.is_begun()) {
        // The final function ends what was begun in parts. This one ends the operation, as any failure does.
        return Err(CKR_OPERATION_NOT_INITIALIZED);
    }
    // SAFETY: by the module's contract.
    let data = unsafe { input(data, data_length) }?;
    if operation.stream().is_some() {
        // SAFETY: by the module's contract.
        return unsafe { streamed((way, request), process, &session, operation, data, (buffer, length)) };
    }
    let size = operation.size(way, data.len())?;
    if operation.is_bound(way) && !buffer.is_null() {
        let outcome = operation.outcome(request, process, &session, data);
        // SAFETY: by the module's contract.
        return unsafe { give_out(way, process, &session, operation, outcome, (buffer, length)) };
    }
    // SAFETY: by the module's contract.
    match unsafe { has_room(size, buffer, length) } {
        Ok(true) => {}
        other => return put_back(way, &session, operation, other),
    }
    // SAFETY: by the module's contract; there is room.
    unsafe { carry_out((way, request), process, &session, &operation, data, (buffer, length)) }
}
