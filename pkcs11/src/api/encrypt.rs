//! Encryption functions (PKCS#11 3.0, 5.8).

use cryptoki_sys::*;
use strongroom_protocol::v1::{Encrypt, request::Op, response};
use zeroize::Zeroizing;

use super::cipher::{self, Operation, Way};
use crate::call::{Access, Repeat};
use crate::error::Outcome;
use crate::session::Session;
use crate::state::Process;

/// `C_EncryptInit`.
pub unsafe fn encrypt_init(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> Outcome {
    // SAFETY: by the module's contract.
    unsafe { cipher::init(Way::Encrypt, process, session, mechanism, key) }
}

/// `C_Encrypt`.
pub unsafe fn encrypt(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    data_length: CK_ULONG,
    ciphertext: *mut CK_BYTE,
    ciphertext_length: *mut CK_ULONG,
) -> Outcome {
    let (from, to) = ((data, data_length), (ciphertext, ciphertext_length));
    // SAFETY: by the module's contract.
    unsafe { cipher::whole((Way::Encrypt, request), process, session, from, to) }
}

/// `C_EncryptUpdate`.
pub unsafe fn encrypt_update(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    part: *mut CK_BYTE,
    part_length: CK_ULONG,
    ciphertext: *mut CK_BYTE,
    ciphertext_length: *mut CK_ULONG,
) -> Outcome {
    let (from, to) = ((part, part_length), (ciphertext, ciphertext_length));
    // SAFETY: by the module's contract.
    unsafe { cipher::update((Way::Encrypt, request), process, session, from, to) }
}

/// `C_EncryptFinal`.
pub unsafe fn encrypt_final(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    ciphertext: *mut CK_BYTE,
    ciphertext_length: *mut CK_ULONG,
) -> Outcome {
    // SAFETY: by the module's contract.
    unsafe { cipher::finish((Way::Encrypt, request), process, session, (ciphertext, ciphertext_length)) }
}

/// Has the daemon encrypt a whole message over a socket, or some blocks of one.
pub(super) fn request(
    process: &'static Process,
    session: &Session,
    operation: &Operation,
    iv: &[u8],
    data: &[u8],
) -> Outcome<Zeroizing<Vec<u8>>> {
    let encrypt = || {
        Op::Encrypt(Encrypt {
            key: operation.key.to_vec(),
            mechanism: operation.mechanism.into(),
            gcm: operation.gcm().cloned(),
            ccm: operation.ccm().cloned(),
            iv: iv.to_vec(),
            oaep: operation.oaep().cloned(),
            // This copy is wiped by the client when it has been sent.
            data: data.to_vec(),
        })
    };
    let reply =
        process.call(Access::of(&session.token), Repeat::Safe, encrypt).map_err(|code| match code {
            // A number that is not below the modulus.
            CKR_ENCRYPTED_DATA_INVALID => CKR_DATA_INVALID,
            code => code,
        })?;
    match reply {
        response::Result::Ciphertext(reply) => Ok(Zeroizing::new(reply.ciphertext)),
        _ => Err(CKR_DEVICE_ERROR),
    }
}
