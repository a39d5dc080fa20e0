//! Message-based encryption and decryption (PKCS#11 3.0, 5.9 and 5.11): one key, many messages, each with an IV and a tag of
//! its own, which stand beside it and not in it. AES-GCM and AES-CCM.
//!
//! The IV is the application's, or is made here: from random bytes of the partition's, or by counting. What is counted begins
//! at a random place each time (with `CKG_GENERATE_COUNTER`) or at nought (`CKG_GENERATE_COUNTER_XOR`, whose IV is the
//! application's and new for each key), because no partition remembers where it ended.

#![allow(clippy::too_many_arguments, reason = "as many as the C functions have")]

use cryptoki_sys::*;
use strongroom_protocol::v1::{Mechanism, ObjectClass};
use zeroize::Zeroizing;

use super::cipher::{self, Way};
use super::nonce::{Counter, Parameters};
use super::signature::as_key;
use super::{decrypt, encrypt, has_room, input, place};
use crate::brief::Key;
use crate::error::{Outcome, lock};
use crate::key::Family;
use crate::mechanism::{self, Purpose};
use crate::restrictions;
use crate::session::{Active, Held, Session, begins, take, with_messages};
use crate::state::Process;

/// Messages that are being encrypted, or decrypted, with a key.
pub struct Messages {
    key: Key,
    handle: CK_OBJECT_HANDLE,
    mechanism: Mechanism,
    counter: Counter,
    /// One that is given in parts.
    current: Option<Message>,
}

/// A message that is given in parts.
struct Message {
    operation: cipher::Operation,
    parts: Zeroizing<Vec<u8>>,
}

fn slot(way: Way, active: &mut Active) -> &mut Option<Held<Messages>> {
    match way {
        Way::Encrypt => &mut active.message_encrypt,
        Way::Decrypt => &mut active.message_decrypt,
    }
}

fn request(way: Way) -> (Way, cipher::Request) {
    match way {
        Way::Encrypt => (way, encrypt::request),
        Way::Decrypt => (way, decrypt::request),
    }
}

/// `C_MessageEncryptInit`. A null mechanism ends what is under way.
pub unsafe fn message_encrypt_init(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> Outcome {
    // SAFETY: by the module's contract.
    unsafe { init(Way::Encrypt, process, session, mechanism, key) }
}

/// `C_MessageDecryptInit`. A null mechanism ends what is under way.
pub unsafe fn message_decrypt_init(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> Outcome {
    // SAFETY: by the module's contract.
    unsafe { init(Way::Decrypt, process, session, mechanism, key) }
}

unsafe fn init(
    way: Way,
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    handle: CK_OBJECT_HANDLE,
) -> Outcome {
    let session = process.sessions.get(session)?;
    if !begins(&session, mechanism, |active| slot(way, active))? {
        return Ok(());
    }
    // SAFETY: by the module's contract.
    let mechanism = unsafe { super::argument(mechanism) }?;
    // Its parameter is each message's own, and is not read here.
    let wire = match mechanism::find(mechanism.mechanism)?.purpose {
        Purpose::Cipher(Family::Aes, wire @ (Mechanism::AesGcm | Mechanism::AesCcm)) => wire,
        _ => return Err(CKR_MECHANISM_INVALID),
    };
    let key = process.key(&session.token, handle).map_err(as_key)?;
    cipher::check(&key, ObjectClass::SecretKey, way)?;
    if key.facts.is_none_or(|facts| facts.family != Family::Aes) {
        return Err(CKR_KEY_TYPE_INCONSISTENT);
    }
    restrictions::check(process, &session.token, &key, handle, mechanism.mechanism)?;
    let messages = Messages { key, handle, mechanism: wire, counter: Counter::default(), current: None };
    *slot(way, &mut lock(&session.active)) = Some(Held::Here(messages));
    Ok(())
}

impl Messages {
    fn operation(
        &mut self,
        (way, process, session): (Way, &'static Process, &Session),
        parameters: &Parameters,
        aad: &[u8],
    ) -> Outcome<cipher::Operation> {
        let nonce = match way {
            // SAFETY: by the module's contract, as whoever read the parameters says.
            Way::Encrypt => unsafe { parameters.next_nonce(&mut self.counter, process, session) }?,
            // SAFETY: as above.
            Way::Decrypt => unsafe { parameters.nonce() }?.to_vec(),
        };
        let method = parameters.method(nonce, aad)?;
        Ok(cipher::Operation::of_message(&self.key, self.handle, self.mechanism, method))
    }
}

/// `C_EncryptMessage`.
pub unsafe fn encrypt_message(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    parameter: *mut std::ffi::c_void,
    parameter_length: CK_ULONG,
    aad: *mut CK_BYTE,
    aad_length: CK_ULONG,
    plaintext: *mut CK_BYTE,
    plaintext_length: CK_ULONG,
    ciphertext: *mut CK_BYTE,
    ciphertext_length: *mut CK_ULONG,
) -> Outcome {
    let given = (parameter, parameter_length, aad, aad_length);
    let (from, to) = ((plaintext, plaintext_length), (ciphertext, ciphertext_length));
    // SAFETY: by the module's contract.
    unsafe { whole(Way::Encrypt, process, session, given, from, to) }
}

/// `C_DecryptMessage`.
pub unsafe fn decrypt_message(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    parameter: *mut std::ffi::c_void,
    parameter_length: CK_ULONG,
    aad: *mut CK_BYTE,
    aad_length: CK_ULONG,
    ciphertext: *mut CK_BYTE,
    ciphertext_length: CK_ULONG,
    plaintext: *mut CK_BYTE,
    plaintext_length: *mut CK_ULONG,
) -> Outcome {
    let given = (parameter, parameter_length, aad, aad_length);
    let (from, to) = ((ciphertext, ciphertext_length), (plaintext, plaintext_length));
    // SAFETY: by the module's contract.
    unsafe { whole(Way::Decrypt, process, session, given, from, to) }
}

/// A message's parameter, and its associated data.
type Given = (*mut std::ffi::c_void, CK_ULONG, *mut CK_BYTE, CK_ULONG);

unsafe fn whole(
    way: Way,
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    (parameter, parameter_length, aad, aad_length): Given,
    (data, data_length): (*mut CK_BYTE, CK_ULONG),
    (buffer, length): (*mut CK_BYTE, *mut CK_ULONG),
) -> Outcome {
    let session = process.sessions.get(session)?;
    with_messages(
        &session,
        |active| slot(way, active),
        |messages| {
            if messages.current.is_some() {
                return Err(CKR_OPERATION_ACTIVE);
            }
            // SAFETY: by the module's contract.
            let parameters = unsafe { Parameters::read(messages.mechanism, parameter, parameter_length) }?;
            // SAFETY: by the module's contract.
            let (aad, data) = unsafe { (input(aad, aad_length)?, input(data, data_length)?) };
            // Ciphertext and plaintext are of one length; the tag stands in the parameter. No IV is made before there is room.
            // SAFETY: by the module's contract.
            if !unsafe { has_room(data.len(), buffer, length) }? {
                return Ok(());
            }
            let operation = messages.operation((way, process, &session), &parameters, aad)?;
            // SAFETY: by the module's contract; there is room.
            unsafe { carry_out(way, process, &session, &operation, &parameters, data, (buffer, length)) }
        },
    )
}

/// Has a whole message carried out, and puts what comes out into the application's buffer and the parameter's place for the
/// tag.
unsafe fn carry_out(
    way: Way,
    process: &'static Process,
    session: &Session,
    operation: &cipher::Operation,
    parameters: &Parameters,
    data: &[u8],
    (buffer, length): (*mut CK_BYTE, *mut CK_ULONG),
) -> Outcome {
    match way {
        Way::Encrypt => {
            let made = cipher::message(request(way), process, session, operation, data)?;
            let (ciphertext, tag) = made.split_at_checked(data.len()).ok_or(CKR_DEVICE_ERROR)?;
            // SAFETY: by the module's contract.
            unsafe {
                parameters.put_tag(tag)?;
                super::write(ciphertext, buffer, length).map(|_| ())
            }
        }
        Way::Decrypt => {
            // SAFETY: by the module's contract.
            let tag = unsafe { parameters.tag() }?;
            let size = data.len().saturating_add(tag.len());
            operation.size(way, size)?;
            let mut whole = Zeroizing::new(Vec::with_capacity(size));
            whole.extend_from_slice(data);
            whole.extend_from_slice(tag);
            let made =
                cipher::message(request(way), process, session, operation, &whole).map_err(|code| {
                    // The tag is apart from the data here, and has an error of its own.
                    if code == CKR_ENCRYPTED_DATA_INVALID { CKR_AEAD_DECRYPT_FAILED } else { code }
                })?;
            // SAFETY: by the module's contract.
            unsafe { super::write(&made, buffer, length) }.map(|_| ())
        }
    }
}

/// `C_EncryptMessageBegin`: makes the IV, where it is to be made.
pub unsafe fn encrypt_message_begin(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    parameter: *mut std::ffi::c_void,
    parameter_length: CK_ULONG,
    aad: *mut CK_BYTE,
    aad_length: CK_ULONG,
) -> Outcome {
    // SAFETY: by the module's contract.
    unsafe { begin(Way::Encrypt, process, session, (parameter, parameter_length, aad, aad_length)) }
}

/// `C_DecryptMessageBegin`.
pub unsafe fn decrypt_message_begin(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    parameter: *mut std::ffi::c_void,
    parameter_length: CK_ULONG,
    aad: *mut CK_BYTE,
    aad_length: CK_ULONG,
) -> Outcome {
    // SAFETY: by the module's contract.
    unsafe { begin(Way::Decrypt, process, session, (parameter, parameter_length, aad, aad_length)) }
}

unsafe fn begin(
    way: Way,
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    (parameter, parameter_length, aad, aad_length): Given,
) -> Outcome {
    let session = process.sessions.get(session)?;
    with_messages(
        &session,
        |active| slot(way, active),
        |messages| {
            if messages.current.is_some() {
                return Err(CKR_OPERATION_ACTIVE);
            }
            // SAFETY: by the module's contract.
            let parameters = unsafe { Parameters::read(messages.mechanism, parameter, parameter_length) }?;
            // SAFETY: by the module's contract.
            let aad = unsafe { input(aad, aad_length) }?;
            let operation = messages.operation((way, process, &session), &parameters, aad)?;
            messages.current = Some(Message { operation, parts: Zeroizing::default() });
            Ok(())
        },
    )
}

/// `C_EncryptMessageNext`: the parts are gathered, and all of the message comes out with the last.
pub unsafe fn encrypt_message_next(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    parameter: *mut std::ffi::c_void,
    parameter_length: CK_ULONG,
    part: *mut CK_BYTE,
    part_length: CK_ULONG,
    ciphertext: *mut CK_BYTE,
    ciphertext_length: *mut CK_ULONG,
    flags: CK_FLAGS,
) -> Outcome {
    let (from, to) = ((part, part_length), (ciphertext, ciphertext_length));
    // SAFETY: by the module's contract.
    unsafe { next(Way::Encrypt, process, session, (parameter, parameter_length), from, to, flags) }
}

/// `C_DecryptMessageNext`: nothing comes out before the tag was checked, which the last part's parameter has.
pub unsafe fn decrypt_message_next(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    parameter: *mut std::ffi::c_void,
    parameter_length: CK_ULONG,
    part: *mut CK_BYTE,
    part_length: CK_ULONG,
    plaintext: *mut CK_BYTE,
    plaintext_length: *mut CK_ULONG,
    flags: CK_FLAGS,
) -> Outcome {
    let (from, to) = ((part, part_length), (plaintext, plaintext_length));
    // SAFETY: by the module's contract.
    unsafe { next(Way::Decrypt, process, session, (parameter, parameter_length), from, to, flags) }
}

unsafe fn next(
    way: Way,
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    (parameter, parameter_length): (*mut std::ffi::c_void, CK_ULONG),
    (part, part_length): (*mut CK_BYTE, CK_ULONG),
    (buffer, length): (*mut CK_BYTE, *mut CK_ULONG),
    flags: CK_FLAGS,
) -> Outcome {
    let session = process.sessions.get(session)?;
    with_messages(
        &session,
        |active| slot(way, active),
        |messages| {
            let mut message = messages.current.take().ok_or(CKR_OPERATION_NOT_INITIALIZED)?;
            // SAFETY: by the module's contract.
            let (part, length) = unsafe { (input(part, part_length)?, place(length)?) };
            let size = message.parts.len().saturating_add(part.len());
            message.operation.size(Way::Encrypt, size)?;
            let is_last = flags & CKF_END_OF_MESSAGE != 0;
            let room = if is_last || buffer.is_null() {
                // SAFETY: by the module's contract.
                unsafe { has_room(if is_last { size } else { part.len() }, buffer, length) }
            } else {
                *length = 0;
                Ok(true)
            };
            match room {
                Ok(true) => {}
                // The message goes on, with the same part again.
                other @ (Ok(false) | Err(CKR_BUFFER_TOO_SMALL)) => {
                    messages.current = Some(message);
                    return other.map(|_| ());
                }
                Err(code) => return Err(code),
            }
            cipher::gather(&mut message.parts, part);
            if !is_last {
                messages.current = Some(message);
                return Ok(());
            }
            // SAFETY: by the module's contract.
            let parameters = unsafe { Parameters::read(messages.mechanism, parameter, parameter_length) }?;
            let Message { operation, parts } = &message;
            // SAFETY: by the module's contract; there is room.
            unsafe { carry_out(way, process, &session, operation, &parameters, parts, (buffer, length)) }
        },
    )
}

/// `C_MessageEncryptFinal`.
pub unsafe fn message_encrypt_final(process: &'static Process, session: CK_SESSION_HANDLE) -> Outcome {
    end(Way::Encrypt, process, session)
}

/// `C_MessageDecryptFinal`.
pub unsafe fn message_decrypt_final(process: &'static Process, session: CK_SESSION_HANDLE) -> Outcome {
    end(Way::Decrypt, process, session)
}

fn end(way: Way, process: &'static Process, session: CK_SESSION_HANDLE) -> Outcome {
    let session = process.sessions.get(session)?;
    take(&session, |active| slot(way, active)).map(|_| ())
}
