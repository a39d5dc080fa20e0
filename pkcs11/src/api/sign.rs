//! Signing functions (PKCS#11 3.0, 5.11).

use cryptoki_sys::*;
use strongroom_channel as channel;
use strongroom_protocol::v1::{self, Decrypt, Mechanism, request::Op, response};
use zeroize::Zeroizing;

use super::signature::{Operation, What, refused};
use super::{has_room, input};
use crate::call::{Access, Repeat};
use crate::error::{Outcome, lock};
use crate::line::Task;
use crate::object::ObjectId;
use crate::session::{Session, begins, take};
use crate::session_keys::ask;
use crate::state::Process;

/// The longest signature that goes through the channel, in bytes: RSA-4096's. ML-DSA's are longer.
const LONGEST: usize = 512;

/// `C_SignInit`. A null mechanism ends an operation (PKCS#11 3.0).
pub unsafe fn sign_init(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> Outcome {
    let session = process.sessions.get(session)?;
    if !begins(&session, mechanism, |active| &mut active.sign)? {
        return Ok(());
    }
    let room = std::mem::take(&mut lock(&session.active).spare);
    // SAFETY: by the module's contract.
    let operation = unsafe { Operation::start(process, &session, mechanism, key, What::Sign, room) }?;
    lock(&session.active).sign = Some(operation);
    Ok(())
}

/// `C_Sign`.
pub unsafe fn sign(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    length: CK_ULONG,
    signature: *mut CK_BYTE,
    signature_length: *mut CK_ULONG,
) -> Outcome {
    // SAFETY: by the module's contract.
    let data = unsafe { input(data, length) };
    // SAFETY: by the module's contract.
    unsafe { finish(process, session, data, false, (signature, signature_length)) }
}

/// `C_SignUpdate`.
pub unsafe fn sign_update(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    part: *mut CK_BYTE,
    length: CK_ULONG,
) -> Outcome {
    let session = process.sessions.get(session)?;
    let mut operation = take(&session, |active| &mut active.sign)?;
    // SAFETY: by the module's contract. A failure ends the operation.
    operation.take(process, &session, unsafe { input(part, length) }?)?;
    lock(&session.active).sign = Some(operation);
    Ok(())
}

/// `C_SignFinal`.
pub unsafe fn sign_final(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    signature: *mut CK_BYTE,
    signature_length: *mut CK_ULONG,
) -> Outcome {
    // SAFETY: by the module's contract.
    unsafe { finish(process, session, Ok(&[]), true, (signature, signature_length)) }
}

/// Signs. Asking for the size, or a buffer that is too small, does not end the operation and asks nobody.
unsafe fn finish(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    data: Outcome<&[u8]>,
    ends_parts: bool,
    (buffer, length): (*mut CK_BYTE, *mut CK_ULONG),
) -> Outcome {
    let session = process.sessions.get(session)?;
    let operation = take(&session, |active| &mut active.sign)?;
    operation.check_end(ends_parts)?;
    let data = data?;
    // SAFETY: by the module's contract.
    match unsafe { has_room(operation.size, buffer, length) } {
        Ok(true) => {}
        outcome @ (Ok(false) | Err(CKR_BUFFER_TOO_SMALL)) => {
            lock(&session.active).sign = Some(operation);
            return outcome.map(|_| ());
        }
        Err(code) => return Err(code),
    }
    // SAFETY: by the module's contract; there is room.
    unsafe { complete(process, &session, operation, data, (buffer, length)) }
}

/// Makes a signature of the data that remain, and puts it into the application's buffer, which has room for it.
pub(super) unsafe fn complete(
    process: &'static Process,
    session: &Session,
    mut operation: Operation,
    data: &[u8],
    (buffer, length): (*mut CK_BYTE, *mut CK_ULONG),
) -> Outcome {
    let (mut short, mut long) = ([0; LONGEST], Vec::new());
    let signature = match short.get_mut(..operation.size) {
        Some(signature) => signature,
        None => {
            long.resize(operation.size, 0);
            &mut long
        }
    };
    request(process, session, &mut operation, data, signature)?;
    lock(&session.active).spare = operation.into_room();
    // SAFETY: by the module's contract.
    unsafe { super::write(signature, buffer, length) }.map(|_| ())
}

/// The signature goes to memory of ours first: the application's buffer may be where its data are, and a failure
/// leaves it as it was.
fn request(
    process: &'static Process,
    session: &Session,
    operation: &mut Operation,
    data: &[u8],
    signature: &mut [u8],
) -> Outcome {
    let (key, handle, mechanism, pss) = (operation.key, operation.handle, operation.mechanism, operation.pss);
    let has_channel = operation.has_channel;
    if let Some(code) = operation.code() {
        return match code.make(process, session, data, signature) {
            Ok(length) if length == signature.len() => Ok(()),
            Ok(_) => Err(CKR_DEVICE_ERROR),
            Err(code) => Err(refused(process, handle, code)),
        };
    }
    let is_ticketed = operation.ticket.is_needed();
    let way = operation.ticket.access(&session.token);
    let ticket = operation.ticket.spend()?;
    let data = &*operation.finish(data)?;
    let parameters = pss.unwrap_or_default();
    let task = Task {
        key,
        operation: channel::Operation::Sign {
            mechanism: mechanism as u32,
            hash: parameters.hash() as u32,
            mgf1_hash: parameters.mgf1_hash() as u32,
            salt_length: parameters.salt_length,
        },
        data,
    };
    let size = signature.len();
    let over_socket = |signature: &mut [u8]| {
        let partition = session.token.partition;
        let sealed = || process.session_objects.sealed(partition, std::iter::once(&key[..]));
        process.on_connection(Access::of(&session.token), Repeat::Safe, |pooled| {
            ask(pooled, partition, sealed, |connection| {
                connection.sign(partition, &key, mechanism, pss, data, signature)
            })
        })
    };
    let made = match mechanism {
        Mechanism::RsaX509 => without_padding(process, way, key, data, ticket, signature),
        _ if is_ticketed => {
            let request =
                v1::Sign { key: key.to_vec(), mechanism: mechanism.into(), pss, data: data.to_vec(), ticket };
            with_ticket(process, way, request, signature)
        }
        _ if has_channel => process.operate(session, &task, signature, over_socket),
        _ => over_socket(signature),
    };
    match made {
        Ok(length) if length == size => Ok(()),
        Ok(_) => Err(CKR_DEVICE_ERROR),
        Err(code) => Err(refused(process, handle, code)),
    }
}

/// A signature that somebody has given the password for.
fn with_ticket(
    process: &'static Process,
    (access, repeat): (Access<'_>, Repeat),
    request: v1::Sign,
    signature: &mut [u8],
) -> Outcome<usize> {
    match process.call(access, repeat, || Op::Sign(request.clone()))? {
        response::Result::Signature(reply) => {
            let made = reply.signature;
            signature.get_mut(..made.len()).ok_or(CKR_DEVICE_ERROR)?.copy_from_slice(&made);
            Ok(made.len())
        }
        _ => Err(CKR_DEVICE_ERROR),
    }
}

/// `CKM_RSA_X_509`: the daemon knows it as decrypting, which it is.
fn without_padding(
    process: &'static Process,
    (access, repeat): (Access<'_>, Repeat),
    key: ObjectId,
    data: &[u8],
    ticket: Vec<u8>,
    signature: &mut [u8],
) -> Outcome<usize> {
    // PKCS#11 3.0, 6.1.12: "padded with leading zero bytes".
    let mut block = vec![0; signature.len().saturating_sub(data.len())];
    block.extend_from_slice(data);
    let decrypt = || {
        let mechanism = Mechanism::RsaX509.into();
        let (key, ticket, ciphertext) = (key.to_vec(), ticket.clone(), block.clone());
        Op::Decrypt(Decrypt { key, mechanism, ciphertext, ticket, ..Decrypt::default() })
    };
    match process.call(access, repeat, decrypt) {
        Ok(response::Result::Plaintext(mut reply)) => {
            let made = Zeroizing::new(std::mem::take(&mut reply.plaintext));
            signature.get_mut(..made.len()).ok_or(CKR_DEVICE_ERROR)?.copy_from_slice(&made);
            Ok(made.len())
        }
        Ok(_) => Err(CKR_DEVICE_ERROR),
        // A number that is not below the modulus.
        Err(CKR_ENCRYPTED_DATA_INVALID) => Err(CKR_DATA_INVALID),
        Err(code) => Err(code),
    }
}
