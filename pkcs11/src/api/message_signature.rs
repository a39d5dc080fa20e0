//! Message-based signing and verifying (PKCS#11 3.0, 5.13 and 5.15): one key and mechanism, many messages, without beginning anew
//! for each.

#![allow(clippy::too_many_arguments, reason = "as many as the C functions have")]

use std::ffi::c_void;

use cryptoki_sys::*;
use strongroom_ffi::output::Length;

use super::signature::{Operation, What};
use super::{has_room, input, sign, verify};
use crate::error::{Outcome, lock};
use crate::session::{Active, Held, begins, take, with_messages};
use crate::state::Process;

/// Messages that are being signed or verified.
pub struct SignedMessages {
    /// What each message begins with.
    fresh: Operation,
    /// One that is given in parts.
    current: Option<Operation>,
}

impl SignedMessages {
    /// What the next message, or the one under way, is signed with.
    pub fn in_hand(&mut self) -> &mut Operation {
        self.current.as_mut().unwrap_or(&mut self.fresh)
    }

    /// A message. The password was given for this one.
    fn begin(&mut self) -> Operation {
        let ticket = self.fresh.ticket.hand_over();
        let mut operation = self.fresh.clone();
        operation.ticket = ticket;
        operation
    }
}

fn slot(what: What, active: &mut Active) -> &mut Option<Held<SignedMessages>> {
    match what {
        What::Sign => &mut active.message_sign,
        _ => &mut active.message_verify,
    }
}

unsafe fn init(
    what: What,
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> Outcome {
    let session = process.sessions.get(session)?;
    if !begins(&session, mechanism, |active| slot(what, active))? {
        return Ok(());
    }
    // SAFETY: by the module's contract.
    let fresh = unsafe { Operation::start(process, &session, mechanism, key, what, Vec::new()) }?;
    *slot(what, &mut lock(&session.active)) = Some(Held::Here(SignedMessages { fresh, current: None }));
    Ok(())
}

/// No mechanism here has a parameter of each message's own.
fn check(parameter: *const c_void, length: CK_ULONG) -> Outcome {
    if parameter.is_null() && length == 0 { Ok(()) } else { Err(CKR_MECHANISM_PARAM_INVALID) }
}

fn end(what: What, process: &'static Process, session: CK_SESSION_HANDLE) -> Outcome {
    let session = process.sessions.get(session)?;
    take(&session, |active| slot(what, active)).map(|_| ())
}

/// Begins a message in parts.
fn begin(
    what: What,
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    (parameter, length): (*const c_void, CK_ULONG),
) -> Outcome {
    let session = process.sessions.get(session)?;
    with_messages(
        &session,
        |active| slot(what, active),
        |messages| {
            check(parameter, length)?;
            if messages.current.is_some() {
                return Err(CKR_OPERATION_ACTIVE);
            }
            messages.current = Some(messages.begin());
            Ok(())
        },
    )
}

/// `C_MessageSignInit`. A null mechanism ends what is under way.
pub unsafe fn message_sign_init(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> Outcome {
    // SAFETY: by the module's contract.
    unsafe { init(What::Sign, process, session, mechanism, key) }
}

/// `C_SignMessage`.
pub unsafe fn sign_message(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    parameter: *mut c_void,
    parameter_length: CK_ULONG,
    data: *mut CK_BYTE,
    length: CK_ULONG,
    signature: *mut CK_BYTE,
    signature_length: *mut CK_ULONG,
) -> Outcome {
    let session = process.sessions.get(session)?;
    with_messages(
        &session,
        |active| slot(What::Sign, active),
        |messages| {
            check(parameter, parameter_length)?;
            if messages.current.is_some() {
                return Err(CKR_OPERATION_ACTIVE);
            }
            // SAFETY: by the module's contract.
            let data = unsafe { input(data, length) }?;
            // SAFETY: by the module's contract.
            if !unsafe { has_room(messages.fresh.size, signature, signature_length) }? {
                return Ok(());
            }
            let operation = messages.begin();
            // SAFETY: by the module's contract; there is room.
            unsafe { sign::complete(process, &session, operation, data, (signature, signature_length)) }
        },
    )
}

/// `C_SignMessageBegin`.
pub unsafe fn sign_message_begin(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    parameter: *mut c_void,
    parameter_length: CK_ULONG,
) -> Outcome {
    begin(What::Sign, process, session, (parameter, parameter_length))
}

/// `C_SignMessageNext`: with a place for the signature's length the part is the last.
pub unsafe fn sign_message_next(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    parameter: *mut c_void,
    parameter_length: CK_ULONG,
    part: *mut CK_BYTE,
    length: CK_ULONG,
    signature: *mut CK_BYTE,
    signature_length: *mut CK_ULONG,
) -> Outcome {
    let session = process.sessions.get(session)?;
    with_messages(
        &session,
        |active| slot(What::Sign, active),
        |messages| {
            let mut operation = messages.current.take().ok_or(CKR_OPERATION_NOT_INITIALIZED)?;
            check(parameter, parameter_length)?;
            // SAFETY: by the module's contract.
            let part = unsafe { input(part, length) }?;
            if signature_length.is_null() {
                operation.take(process, &session, part)?;
                messages.current = Some(operation);
                return Ok(());
            }
            // SAFETY: by the module's contract.
            match unsafe { has_room(operation.size, signature, signature_length) } {
                Ok(true) => {}
                // The message goes on, with the same part again.
                other => {
                    messages.current = Some(operation);
                    return other.map(|_| ());
                }
            }
            // SAFETY: by the module's contract; there is room.
            unsafe { sign::complete(process, &session, operation, part, (signature, signature_length)) }
        },
    )
}

/// `C_MessageSignFinal`.
pub unsafe fn message_sign_final(process: &'static Process, session: CK_SESSION_HANDLE) -> Outcome {
    end(What::Sign, process, session)
}

/// `C_MessageVerifyInit`. A null mechanism ends what is under way.
pub unsafe fn message_verify_init(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> Outcome {
    // SAFETY: by the module's contract.
    unsafe { init(What::Verify, process, session, mechanism, key) }
}

/// `C_VerifyMessage`.
pub unsafe fn verify_message(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    parameter: *mut c_void,
    parameter_length: CK_ULONG,
    data: *mut CK_BYTE,
    length: CK_ULONG,
    signature: *mut CK_BYTE,
    signature_length: CK_ULONG,
) -> Outcome {
    let session = process.sessions.get(session)?;
    with_messages(
        &session,
        |active| slot(What::Verify, active),
        |messages| {
            check(parameter, parameter_length)?;
            if messages.current.is_some() {
                return Err(CKR_OPERATION_ACTIVE);
            }
            // SAFETY: by the module's contract.
            let (data, signature) = unsafe { (input(data, length)?, input(signature, signature_length)?) };
            verify::complete(process, &session, messages.begin(), data, signature)
        },
    )
}

/// `C_VerifyMessageBegin`.
pub unsafe fn verify_message_begin(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    parameter: *mut c_void,
    parameter_length: CK_ULONG,
) -> Outcome {
    begin(What::Verify, process, session, (parameter, parameter_length))
}

/// `C_VerifyMessageNext`: with a signature the part is the last.
pub unsafe fn verify_message_next(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    parameter: *mut c_void,
    parameter_length: CK_ULONG,
    part: *mut CK_BYTE,
    length: CK_ULONG,
    signature: *mut CK_BYTE,
    signature_length: CK_ULONG,
) -> Outcome {
    let session = process.sessions.get(session)?;
    with_messages(
        &session,
        |active| slot(What::Verify, active),
        |messages| {
            let mut operation = messages.current.take().ok_or(CKR_OPERATION_NOT_INITIALIZED)?;
            check(parameter, parameter_length)?;
            // SAFETY: by the module's contract.
            let part = unsafe { input(part, length) }?;
            if signature.is_null() {
                if signature_length.to_usize() != 0 {
                    return Err(CKR_ARGUMENTS_BAD);
                }
                operation.take(process, &session, part)?;
                messages.current = Some(operation);
                return Ok(());
            }
            // SAFETY: by the module's contract.
            let signature = unsafe { input(signature, signature_length) }?;
            verify::complete(process, &session, operation, part, signature)
        },
    )
}

/// `C_MessageVerifyFinal`.
pub unsafe fn message_verify_final(process: &'static Process, session: CK_SESSION_HANDLE) -> Outcome {
    end(What::Verify, process, session)
}
