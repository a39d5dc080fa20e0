//! Dual-function cryptographic functions (PKCS#11 3.0, 5.15): two operations of a session take the same part.
//!
//! A part is seen by both or by neither: who is told of a buffer that is too small calls again with the same part. Any other
//! failure ends both operations, as it ends one.

use cryptoki_sys::*;
use strongroom_ffi::output::Length;

use super::digest::digest_update;
use super::sign::sign_update;
use super::verify::verify_update;
use super::{cipher, copied, decrypt, encrypt, input, place};
use crate::error::{Outcome, lock};
use crate::session::Active;
use crate::state::Process;

/// Takes a part for the other operation: that of a digest, a signature or a verification.
type Other = unsafe fn(&'static Process, CK_SESSION_HANDLE, *mut CK_BYTE, CK_ULONG) -> Outcome;

/// Whether an operation is under way.
type IsActive = fn(&Active) -> bool;

/// Ends it.
type End = fn(&mut Active);

const DIGEST: (Other, IsActive, End) =
    (digest_update, |active| active.digest.is_some(), |active| active.digest = None);
const SIGN: (Other, IsActive, End) =
    (sign_update, |active| active.sign.is_some(), |active| active.sign = None);
const VERIFY: (Other, IsActive, End) =
    (verify_update, |active| active.verify.is_some(), |active| active.verify = None);

/// `C_DigestEncryptUpdate`.
pub unsafe fn digest_encrypt_update(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    part: *mut CK_BYTE,
    part_length: CK_ULONG,
    ciphertext: *mut CK_BYTE,
    ciphertext_length: *mut CK_ULONG,
) -> Outcome {
    let (from, to) = ((part, part_length), (ciphertext, ciphertext_length));
    // SAFETY: by the module's contract.
    unsafe { and_encrypt(DIGEST, process, session, from, to) }
}

/// `C_SignEncryptUpdate`.
pub unsafe fn sign_encrypt_update(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    part: *mut CK_BYTE,
    part_length: CK_ULONG,
    ciphertext: *mut CK_BYTE,
    ciphertext_length: *mut CK_ULONG,
) -> Outcome {
    let (from, to) = ((part, part_length), (ciphertext, ciphertext_length));
    // SAFETY: by the module's contract.
    unsafe { and_encrypt(SIGN, process, session, from, to) }
}

/// `C_DecryptDigestUpdate`: of AES-GCM and AES-CCM the plaintext comes with `C_DecryptFinal`, and is digested by who
/// gets it there, as the standard has it of the last part.
pub unsafe fn decrypt_digest_update(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    part: *mut CK_BYTE,
    part_length: CK_ULONG,
    plaintext: *mut CK_BYTE,
    plaintext_length: *mut CK_ULONG,
) -> Outcome {
    let (from, to) = ((part, part_length), (plaintext, plaintext_length));
    // SAFETY: by the module's contract.
    unsafe { decrypt_and(DIGEST, process, session, from, to) }
}

/// `C_DecryptVerifyUpdate`: as [`decrypt_digest_update`].
pub unsafe fn decrypt_verify_update(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    part: *mut CK_BYTE,
    part_length: CK_ULONG,
    plaintext: *mut CK_BYTE,
    plaintext_length: *mut CK_ULONG,
) -> Outcome {
    let (from, to) = ((part, part_length), (plaintext, plaintext_length));
    // SAFETY: by the module's contract.
    unsafe { decrypt_and(VERIFY, process, session, from, to) }
}

/// Finds out whether both operations are under way, before one of them takes anything.
fn check(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    is_active: IsActive,
    way: cipher::Way,
) -> Outcome {
    let session = process.sessions.get(session)?;
    let active = lock(&session.active);
    let ciphers = match way {
        cipher::Way::Encrypt => active.encrypt.is_some(),
        cipher::Way::Decrypt => active.decrypt.is_some(),
    };
    if ciphers && is_active(&active) { Ok(()) } else { Err(CKR_OPERATION_NOT_INITIALIZED) }
}

/// After the failure of one operation, ends both. A buffer that is too small is none.
fn settle(process: &'static Process, session: CK_SESSION_HANDLE, outcome: Outcome, end: End) -> Outcome {
    if matches!(outcome, Err(code) if code != CKR_BUFFER_TOO_SMALL)
        && let Ok(session) = process.sessions.get(session)
    {
        let mut active = lock(&session.active);
        end(&mut active);
    }
    outcome
}

unsafe fn and_encrypt(
    (other, is_active, end): (Other, IsActive, End),
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    (part, part_length): (*mut CK_BYTE, CK_ULONG),
    (buffer, length): (*mut CK_BYTE, *mut CK_ULONG),
) -> Outcome {
    check(process, session, is_active, cipher::Way::Encrypt)?;
    // SAFETY: by the module's contract.
    let given = unsafe { input(part, part_length).and_then(|given| Ok((given, *place(length)?))) };
    // The ciphertext may go where the part is.
    let copy = given.and_then(|(given, room)| match cipher::overlaps(given, buffer, room.to_usize()) {
        true => copied(given).map(Some),
        false => Ok(None),
    });
    let copy = match copy {
        Ok(copy) => copy,
        Err(code) => {
            let _ = settle(process, session, Err(code), |active| active.encrypt = None);
            return settle(process, session, Err(code), end);
        }
    };
    let from = (part, part_length);
    // SAFETY: by the module's contract.
    let outcome = unsafe {
        cipher::update((cipher::Way::Encrypt, encrypt::request), process, session, from, (buffer, length))
    };
    settle(process, session, outcome, end)?;
    if buffer.is_null() {
        return Ok(());
    }
    let part = copy.as_ref().map_or(part, |copy| copy.as_ptr().cast_mut());
    // SAFETY: by the module's contract, or to the copy, of the same length, which is only read.
    let outcome = unsafe { other(process, session, part, part_length) };
    settle(process, session, outcome, |active| active.encrypt = None)
}

unsafe fn decrypt_and(
    (other, is_active, end): (Other, IsActive, End),
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    from: (*mut CK_BYTE, CK_ULONG),
    (buffer, length): (*mut CK_BYTE, *mut CK_ULONG),
) -> Outcome {
    check(process, session, is_active, cipher::Way::Decrypt)?;
    // SAFETY: by the module's contract.
    let outcome = unsafe {
        cipher::update((cipher::Way::Decrypt, decrypt::request), process, session, from, (buffer, length))
    };
    settle(process, session, outcome, end)?;
    if buffer.is_null() {
        return Ok(());
    }
    // SAFETY: by the module's contract; so many bytes were written to the buffer.
    let outcome = unsafe { other(process, session, buffer, *place(length)?) };
    settle(process, session, outcome, |active| active.decrypt = None)
}
