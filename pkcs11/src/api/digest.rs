//! Message digesting functions (PKCS#11 3.0, 5.10), carried out in the application's process.

use cryptoki_sys::*;
use strongroom_protocol::v1::ObjectClass;

use super::signature::as_key;
use super::{argument, has_room, input};
use crate::error::{Outcome, lock};
use crate::hash::Digest;
use crate::session::take;
use crate::state::Process;
use crate::{hash, mechanism, saved_digest};

/// A digest that is being made.
pub struct Operation {
    digest: Digest,
    /// Data were given in parts.
    is_begun: bool,
}

impl Operation {
    /// One that goes on from a saved state.
    pub fn restored(digest: Digest) -> Self {
        Operation { is_begun: !saved_digest::is_new(&digest), digest }
    }

    /// What it has of the data.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    fn take(&mut self, part: &[u8]) {
        self.is_begun = true;
        self.digest.update(part);
    }
}

/// `C_DigestInit`.
pub unsafe fn digest_init(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
) -> Outcome {
    let session = process.sessions.get(session)?;
    // SAFETY: by the module's contract.
    let mechanism = unsafe { argument(mechanism) }?;
    let digest =
        mechanism::hash_of(mechanism.mechanism).and_then(hash::start).ok_or(CKR_MECHANISM_INVALID)?;
    if mechanism.ulParameterLen != 0 {
        return Err(CKR_MECHANISM_PARAM_INVALID);
    }
    let mut active = lock(&session.active);
    if active.digest.is_some() {
        return Err(CKR_OPERATION_ACTIVE);
    }
    active.digest = Some(Operation { digest, is_begun: false });
    Ok(())
}

/// `C_Digest`.
pub unsafe fn digest(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    length: CK_ULONG,
    digest: *mut CK_BYTE,
    digest_length: *mut CK_ULONG,
) -> Outcome {
    // SAFETY: by the module's contract.
    let data = unsafe { input(data, length) };
    // SAFETY: by the module's contract.
    unsafe { finish(process, session, data, false, (digest, digest_length)) }
}

/// `C_DigestUpdate`.
pub unsafe fn digest_update(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    part: *mut CK_BYTE,
    length: CK_ULONG,
) -> Outcome {
    let session = process.sessions.get(session)?;
    let mut digest = take(&session, |active| &mut active.digest)?;
    // SAFETY: by the module's contract. A failure ends the operation.
    digest.take(unsafe { input(part, length) }?);
    lock(&session.active).digest = Some(digest);
    Ok(())
}

/// `C_DigestKey`: of a secret that the application can read. One that stays in the partition is `CKR_KEY_INDIGESTIBLE`: digests
/// are computed in the application's process.
pub unsafe fn digest_key(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    key: CK_OBJECT_HANDLE,
) -> Outcome {
    let session = process.sessions.get(session)?;
    let mut digest = take(&session, |active| &mut active.digest)?;
    let object = process.object(&session.token, key).map_err(as_key)?;
    match object.info.class() {
        ObjectClass::SecretKey if object.is_readable() => {
            let value = process.value_of(&session.token, &object).map_err(|code| match code {
                CKR_KEY_UNEXTRACTABLE => CKR_KEY_INDIGESTIBLE,
                code => as_key(code),
            })?;
            digest.take(&value);
        }
        ObjectClass::SecretKey | ObjectClass::PrivateKey | ObjectClass::PublicKey => {
            return Err(CKR_KEY_INDIGESTIBLE);
        }
        _ => return Err(CKR_KEY_HANDLE_INVALID),
    }
    lock(&session.active).digest = Some(digest);
    Ok(())
}

/// `C_DigestFinal`.
pub unsafe fn digest_final(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    digest: *mut CK_BYTE,
    digest_length: *mut CK_ULONG,
) -> Outcome {
    // SAFETY: by the module's contract.
    unsafe { finish(process, session, Ok(&[]), true, (digest, digest_length)) }
}

/// Hashes the last of the data. Asking for the size, or a buffer that is too small, does not end the operation.
unsafe fn finish(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    data: Outcome<&[u8]>,
    ends_parts: bool,
    (buffer, length): (*mut CK_BYTE, *mut CK_ULONG),
) -> Outcome {
    let session = process.sessions.get(session)?;
    let mut operation = take(&session, |active| &mut active.digest)?;
    if operation.is_begun && !ends_parts {
        // The final function ends what was begun in parts. This one ends the operation, as any failure does.
        return Err(CKR_OPERATION_NOT_INITIALIZED);
    }
    let (data, digest) = (data?, &mut operation.digest);
    // SAFETY: by the module's contract.
    match unsafe { has_room(digest.output_size(), buffer, length) } {
        Ok(true) => {}
        outcome @ (Ok(false) | Err(CKR_BUFFER_TOO_SMALL)) => {
            lock(&session.active).digest = Some(operation);
            return outcome.map(|_| ());
        }
        Err(code) => return Err(code),
    }
    digest.update(data);
    // SAFETY: by the module's contract.
    unsafe { super::write(&digest.finalize(), buffer, length) }.map(|_| ())
}
