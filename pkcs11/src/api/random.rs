//! Random number generation functions (PKCS#11 3.0, 5.16).

use cryptoki_sys::*;
use strongroom_ffi::output::Length;
use strongroom_ffi::pointer;
use strongroom_protocol::v1::{GenerateRandom, request::Op, response};
use zeroize::Zeroizing;

use super::input;
use crate::call::{Access, Repeat};
use crate::error::Outcome;
use crate::session::Session;
use crate::state::Process;

/// The most that one request brings, in bytes.
const CHUNK: usize = 65_536;

/// `C_SeedRandom`: the partition seeds itself.
pub unsafe fn seed_random(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    seed: *mut CK_BYTE,
    length: CK_ULONG,
) -> Outcome {
    process.sessions.get(session)?;
    // SAFETY: by the module's contract.
    unsafe { input(seed, length) }?;
    Err(CKR_RANDOM_SEED_NOT_SUPPORTED)
}

/// `C_GenerateRandom`.
pub unsafe fn generate_random(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    random: *mut CK_BYTE,
    length: CK_ULONG,
) -> Outcome {
    let session = process.sessions.get(session)?;
    if random.is_null() {
        return Err(CKR_ARGUMENTS_BAD);
    }
    // SAFETY: by the module's contract.
    let random = unsafe { pointer::slice_mut(random, length.to_usize()) }.ok_or(CKR_ARGUMENTS_BAD)?;
    fill(process, &session, random)
}

/// Fills the buffer with random bytes of the partition's.
///
/// # Errors
///
/// What the daemon says.
pub(super) fn fill(process: &'static Process, session: &Session, random: &mut [u8]) -> Outcome {
    for chunk in random.chunks_mut(CHUNK) {
        // A chunk's length fits in 32 bits.
        let request = GenerateRandom { length: chunk.len() as u32 };
        let make = || Op::GenerateRandom(request);
        let reply = process.call(Access::of(&session.token), Repeat::Safe, make)?;
        let response::Result::Random(reply) = reply else { return Err(CKR_DEVICE_ERROR) };
        let bytes = Zeroizing::new(reply.random);
        if bytes.len() != chunk.len() {
            return Err(CKR_DEVICE_ERROR);
        }
        chunk.copy_from_slice(&bytes);
    }
    Ok(())
}
