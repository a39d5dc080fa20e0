//! A stream's way through a session: from the application's memory to the daemon, and back into the application's buffer.

use cryptoki_sys::*;
use strongroom_ffi::output::Length;
use zeroize::Zeroizing;

use super::cipher::{Operation, Request, Way, give_out, overlaps, put_back, refused};
use super::stream::{Blocks, Buffer, Sink, Stream};
use super::{copied, has_room, place, room};
use crate::error::Outcome;
use crate::session::Session;
use crate::state::Process;

/// The daemon behind an operation.
struct Remote<'a> {
    process: &'static Process,
    session: &'a Session,
    operation: &'a Operation,
    request: Request,
}

impl Blocks for Remote<'_> {
    fn run(&self, iv: &[u8], data: &[u8]) -> Outcome<Zeroizing<Vec<u8>>> {
        let made = (self.request)(self.process, self.session, self.operation, iv, data);
        made.map_err(|code| refused(self.process, self.operation, code))
    }
}

/// Does something with a copy of an operation's stream, which takes the stream's place.
fn with_stream<T>(
    request: Request,
    process: &'static Process,
    session: &Session,
    operation: &mut Operation,
    action: impl FnOnce(&mut Stream, &Remote<'_>) -> Outcome<T>,
) -> Outcome<T> {
    let mut stream = operation.stream().cloned().ok_or(CKR_FUNCTION_FAILED)?;
    let done = action(&mut stream, &Remote { process, session, operation, request })?;
    operation.set_stream(stream);
    Ok(done)
}

/// Has a part of a stream carried out; how many bytes came out, for which there is room.
pub(super) unsafe fn flow(
    (_, request): (Way, Request),
    process: &'static Process,
    session: &Session,
    operation: &mut Operation,
    part: &[u8],
    (buffer, size): (*mut CK_BYTE, usize),
) -> Outcome<CK_ULONG> {
    let copy;
    let part = if overlaps(part, buffer, size) {
        // The application has both in the same place, as the standard allows.
        copy = copied(part)?;
        &copy
    } else {
        part
    };
    // SAFETY: by the module's contract, for at least `size` bytes; the part lies elsewhere, or is not used any more.
    let mut sink = unsafe { Buffer::new(buffer, size) };
    with_stream(request, process, session, operation, |stream, remote| {
        stream.update(remote, part, &mut sink)
    })?;
    Ok(CK_ULONG::from_usize(sink.used()))
}

/// The end of a stream.
pub(super) unsafe fn flow_end(
    (way, request): (Way, Request),
    process: &'static Process,
    session: &Session,
    mut operation: Operation,
    (buffer, length): (*mut CK_BYTE, *mut CK_ULONG),
) -> Outcome {
    let end = with_stream(request, process, session, &mut operation, |stream, remote| {
        stream.finish(remote).map(|end| Zeroizing::new(end.to_vec()))
    })?;
    // SAFETY: by the module's contract.
    match unsafe { super::write(&end, buffer, length) } {
        Ok(true) => Ok(()),
        other => put_back(way, session, operation, other),
    }
}

/// A message in one part that flows through.
pub(super) unsafe fn streamed(
    (way, request): (Way, Request),
    process: &'static Process,
    session: &Session,
    mut operation: Operation,
    data: &[u8],
    (buffer, length): (*mut CK_BYTE, *mut CK_ULONG),
) -> Outcome {
    let size = operation.size(way, data.len())?;
    let is_exact = operation.stream().is_some_and(|stream| stream.is_exact());
    if !is_exact && !buffer.is_null() {
        // How much it is turns out at its end; and if it is too much, the operation goes on from its beginning.
        let before = operation.stream().cloned().ok_or(CKR_FUNCTION_FAILED)?;
        let whole = with_stream(request, process, session, &mut operation, |stream, remote| {
            let mut whole = room(size)?;
            stream.update(remote, data, &mut whole)?;
            whole.put(stream.finish(remote)?)?;
            Ok(whole)
        })?;
        operation.set_stream(before);
        // SAFETY: by the module's contract.
        return unsafe { give_out(way, process, session, operation, Ok(whole), (buffer, length)) };
    }
    // SAFETY: by the module's contract.
    match unsafe { has_room(size, buffer, length) } {
        Ok(true) => {}
        other => return put_back(way, session, operation, other),
    }
    // SAFETY: by the module's contract; there is room.
    let used = unsafe { flow((way, request), process, session, &mut operation, data, (buffer, size)) }?;
    let end = with_stream(request, process, session, &mut operation, |stream, remote| {
        stream.finish(remote).map(|end| Zeroizing::new(end.to_vec()))
    })?;
    // SAFETY: by the module's contract; the bytes before are written.
    let mut sink = unsafe { Buffer::new(buffer.wrapping_add(used as usize), size - used as usize) };
    sink.put(&end)?;
    // SAFETY: by the module's contract.
    *unsafe { place(length) }? = used + CK_ULONG::from_usize(end.len());
    Ok(())
}
