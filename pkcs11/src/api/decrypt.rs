//! Decryption functions (PKCS#11 3.0, 5.9).

use cryptoki_sys::*;
use strongroom_protocol::v1::{Decrypt, request::Op, response};
use zeroize::Zeroizing;

use super::cipher::{self, Operation, Way};
use crate::error::Outcome;
use crate::session::Session;
use crate::state::Process;

/// `C_DecryptInit`.
pub unsafe fn decrypt_init(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> Outcome {
    // SAFETY: by the module's contract.
    unsafe { cipher::init(Way::Decrypt, process, session, mechanism, key) }
}

/// `C_Decrypt`.
pub unsafe fn decrypt(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    ciphertext: *mut CK_BYTE,
    ciphertext_length: CK_ULONG,
    plaintext: *mut CK_BYTE,
    plaintext_length: *mut CK_ULONG,
) -> Outcome {
    let (from, to) = ((ciphertext, ciphertext_length), (plaintext, plaintext_length));
    // SAFETY: by the module's contract.
    unsafe { cipher::whole((Way::Decrypt, request), process, session, from, to) }
}

/// `C_DecryptUpdate`.
pub unsafe fn decrypt_update(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    part: *mut CK_BYTE,
    part_length: CK_ULONG,
    plaintext: *mut CK_BYTE,
    plaintext_length: *mut CK_ULONG,
) -> Outcome {
    let (from, to) = ((part, part_length), (plaintext, plaintext_length));
    // SAFETY: by the module's contract.
    unsafe { cipher::update((Way::Decrypt, request), process, session, from, to) }
}

/// `C_DecryptFinal`.
pub unsafe fn decrypt_final(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    plaintext: *mut CK_BYTE,
    plaintext_length: *mut CK_ULONG,
) -> Outcome {
    // SAFETY: by the module's contract.
    unsafe { cipher::finish((Way::Decrypt, request), process, session, (plaintext, plaintext_length)) }
}

/// Has the daemon decrypt a whole message over a socket, or some blocks of one.
pub(super) fn request(
    process: &'static Process,
    session: &Session,
    operation: &Operation,
    iv: &[u8],
    ciphertext: &[u8],
) -> Outcome<Zeroizing<Vec<u8>>> {
    let (access, repeat) = operation.ticket.access(&session.token);
    let ticket = operation.ticket.clone().spend()?;
    let decrypt = || {
        Op::Decrypt(Decrypt {
            key: operation.key.to_vec(),
            mechanism: operation.mechanism.into(),
            gcm: operation.gcm().cloned(),
            ccm: operation.ccm().cloned(),
            iv: iv.to_vec(),
            ciphertext: ciphertext.to_vec(),
            oaep: operation.oaep().cloned(),
            ticket: ticket.clone(),
        })
    };
    match process.call(access, repeat, decrypt)? {
        response::Result::Plaintext(reply) => Ok(Zeroizing::new(reply.plaintext)),
        _ => Err(CKR_DEVICE_ERROR),
    }
}
