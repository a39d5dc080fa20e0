//! What the daemon makes of a message, on its way into the application's buffer.

use cryptoki_sys::*;
use strongroom_channel as channel;
use strongroom_ffi::output::Length;
use strongroom_ffi::pointer;
use strongroom_protocol::v1::GcmParameters;
use zeroize::Zeroizing;

use super::super::signature::as_key;
use super::super::write;
use super::{Operation, Way, slot};
use crate::error::{Outcome, lock};
use crate::line::Task;
use crate::session::Session;
use crate::state::Process;

/// Has the daemon carry out a whole message over a socket, or, with an IV, some blocks of one.
pub(in crate::api) type Request =
    fn(&'static Process, &Session, &Operation, &[u8], &[u8]) -> Outcome<Zeroizing<Vec<u8>>>;

/// Whether data lie where the outcome goes.
pub(in crate::api) fn overlaps(data: &[u8], buffer: *mut CK_BYTE, size: usize) -> bool {
    let (start, to) = (data.as_ptr().addr(), buffer.addr());
    // A size that no memory has is said of a buffer that ends where memory does.
    start < to.saturating_add(size) && to < start.saturating_add(data.len())
}

/// Puts an outcome of which only a bound was known into the application's buffer. If that is too small the operation
/// goes on, and the application knows the size now.
pub(in crate::api) unsafe fn give_out(
    way: Way,
    process: &'static Process,
    session: &Session,
    operation: Operation,
    outcome: Outcome<Zeroizing<Vec<u8>>>,
    (buffer, length): (*mut CK_BYTE, *mut CK_ULONG),
) -> Outcome {
    let outcome = outcome.map_err(|code| refused(process, &operation, code))?;
    // SAFETY: by the module's contract.
    match unsafe { write(&outcome, buffer, length) } {
        Ok(_) => Ok(()),
        Err(code) => put_back(way, session, operation, Err(code)),
    }
}

/// What the application is told of a refusal by the daemon.
pub(in crate::api) fn refused(process: &'static Process, operation: &Operation, code: CK_RV) -> CK_RV {
    if code == CKR_OBJECT_HANDLE_INVALID {
        process.handles.forget(operation.handle);
    }
    as_key(code)
}

/// Has the daemon carry out a message, and puts the outcome into the application's buffer, which has room for it.
pub(super) unsafe fn carry_out(
    (way, request): (Way, Request),
    process: &'static Process,
    session: &Session,
    operation: &Operation,
    data: &[u8],
    (buffer, length): (*mut CK_BYTE, *mut CK_ULONG),
) -> Outcome {
    let size = operation.size(way, data.len())?;
    // Only AES-GCM's goes through the channel, which writes where it is told. The application may have both in the same place, as the
    // standard allows.
    if operation.gcm().is_none() || overlaps(data, buffer, size) {
        let outcome = message((way, request), process, session, operation, data)?;
        // SAFETY: by the module's contract. `data` is not used any more.
        return unsafe { write(&outcome, buffer, length) }.map(|_| ());
    }
    // SAFETY: by the module's contract, for at least `size` bytes; `data` lies elsewhere.
    let place = unsafe { pointer::slice_mut(buffer, size) }.ok_or(CKR_ARGUMENTS_BAD)?;
    run((way, request), process, session, operation, data, place)?;
    // SAFETY: by the module's contract.
    *unsafe { super::super::place(length) }? = CK_ULONG::from_usize(size);
    Ok(())
}

/// What comes out of a whole message whose size is known.
pub(in crate::api) fn message(
    (way, request): (Way, Request),
    process: &'static Process,
    session: &Session,
    operation: &Operation,
    data: &[u8],
) -> Outcome<Zeroizing<Vec<u8>>> {
    let mut outcome = Zeroizing::new(vec![0; operation.size(way, data.len())?]);
    if operation.gcm().is_some() {
        run((way, request), process, session, operation, data, &mut outcome)?;
        return Ok(outcome);
    }
    let made = request(process, session, operation, &[], data);
    let made = made.map_err(|code| refused(process, operation, code))?;
    if made.len() == outcome.len() { Ok(made) } else { Err(CKR_DEVICE_ERROR) }
}

/// Has the daemon carry out a message with AES-GCM, over the channel if there is one. `place` is as long as the outcome.
fn run(
    (way, request): (Way, Request),
    process: &'static Process,
    session: &Session,
    operation: &Operation,
    data: &[u8],
    place: &mut [u8],
) -> Outcome {
    let size = place.len();
    let GcmParameters { iv, aad, tag_bits } = operation.gcm().ok_or(CKR_FUNCTION_FAILED)?;
    let tag_bits = *tag_bits;
    let task = Task {
        key: operation.key,
        operation: match way {
            Way::Encrypt => channel::Operation::Encrypt { iv, aad, tag_bits },
            Way::Decrypt => channel::Operation::Decrypt { iv, aad, tag_bits },
        },
        data,
    };
    let over_socket = |place: &mut [u8]| {
        let outcome = request(process, session, operation, &[], data)?;
        place.get_mut(..outcome.len()).ok_or(CKR_DEVICE_ERROR)?.copy_from_slice(&outcome);
        Ok(outcome.len())
    };
    let made = match operation.has_channel {
        true => process.operate(session, &task, place, over_socket),
        false => over_socket(place),
    };
    match made {
        Ok(made) if made == size => Ok(()),
        Ok(_) => Err(CKR_DEVICE_ERROR),
        Err(code) => Err(refused(process, operation, code)),
    }
}

/// Asking for the size, or a buffer that is too small, does not end the operation.
pub(in crate::api) fn put_back(
    way: Way,
    session: &Session,
    operation: Operation,
    room: Outcome<bool>,
) -> Outcome {
    if matches!(room, Ok(_) | Err(CKR_BUFFER_TOO_SMALL)) {
        *slot(way, &mut lock(&session.active)) = Some(operation);
    }
    room.map(|_| ())
}
