//! A message in parts.

use cryptoki_sys::*;
use strongroom_ffi::output::Length;
use zeroize::Zeroizing;

use super::super::flow::{flow, flow_end};
use super::super::{has_room, input, place};
use super::outcome::{Request, carry_out, give_out, put_back};
use super::{Way, slot};
use crate::error::{Outcome, lock};
use crate::session::take;
use crate::state::Process;

/// Takes a part of a message. Nothing stays behind where the parts were when they need more room.
pub(in crate::api) fn gather(parts: &mut Zeroizing<Vec<u8>>, part: &[u8]) {
    let whole = parts.len() + part.len();
    if whole > parts.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(whole.max(2 * parts.capacity())));
        larger.extend_from_slice(parts);
        *parts = larger;
    }
    parts.extend_from_slice(part);
}

/// `C_EncryptUpdate` and `C_DecryptUpdate`. Of what is gathered nothing comes out yet. Asked for the size, they say one that
/// suffices and take nothing.
pub(in crate::api) unsafe fn update(
    (way, request): (Way, Request),
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    (part, part_length): (*mut CK_BYTE, CK_ULONG),
    (buffer, length): (*mut CK_BYTE, *mut CK_ULONG),
) -> Outcome {
    let session = process.sessions.get(session)?;
    let mut operation = take(&session, |active| slot(way, active))?;
    // SAFETY: by the module's contract.
    let (part, length) = unsafe { (input(part, part_length)?, place(length)?) };
    if let Some(size) = operation.stream().map(|stream| stream.size(part.len())) {
        // SAFETY: by the module's contract.
        match unsafe { has_room(size, buffer, length) } {
            Ok(true) => {}
            other => return put_back(way, &session, operation, other),
        }
        // SAFETY: by the module's contract.
        *length = unsafe { flow((way, request), process, &session, &mut operation, part, (buffer, size)) }?;
        *slot(way, &mut lock(&session.active)) = Some(operation);
        return Ok(());
    }
    if buffer.is_null() {
        // Not 0: who is told so may have no buffer for the next call either, which then asks for the size again.
        *length = CK_ULONG::from_usize(part.len());
    } else {
        operation.update(way, part)?;
        *length = 0;
    }
    *slot(way, &mut lock(&session.active)) = Some(operation);
    Ok(())
}

/// `C_EncryptFinal` and `C_DecryptFinal`: all of the message comes out.
pub(in crate::api) unsafe fn finish(
    (way, request): (Way, Request),
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    (buffer, length): (*mut CK_BYTE, *mut CK_ULONG),
) -> Outcome {
    let session = process.sessions.get(session)?;
    let mut operation = take(&session, |active| slot(way, active))?;
    if operation.stream().is_some() {
        // SAFETY: by the module's contract.
        return unsafe { flow_end((way, request), process, &session, operation, (buffer, length)) };
    }
    let size = operation.size(way, operation.given())?;
    if operation.is_bound(way) && !buffer.is_null() {
        let parts = operation.parts.take();
        let data = parts.as_ref().map_or(&[][..], |parts| parts.as_slice());
        let outcome = operation.outcome(request, process, &session, data);
        operation.parts = parts;
        // SAFETY: by the module's contract.
        return unsafe { give_out(way, process, &session, operation, outcome, (buffer, length)) };
    }
    let data = operation.parts.as_ref().map_or(&[][..], |parts| parts.as_slice());
    // SAFETY: by the module's contract.
    match unsafe { has_room(size, buffer, length) } {
        Ok(true) => {}
        other => return put_back(way, &session, operation, other),
    }
    // SAFETY: by the module's contract; there is room.
    unsafe { carry_out((way, request), process, &session, &operation, data, (buffer, length)) }
}
