//! Session management functions (PKCS#11 3.0, 5.6), among them log-in.

use std::ffi::c_void;
use std::sync::Arc;

use cryptoki_sys::*;
use strongroom_protocol::v1::{self, Role, request::Op, response};

use super::pin::Pin;
use super::{authentication, input, place};
use crate::call::{Access, Repeat};
use crate::error::{Outcome, as_slot, lock};
use crate::pool::RETIRED;
use crate::session::Session;
use crate::state::Process;
use crate::token::Token;

/// `C_OpenSession`. The daemon is not asked: a session is this process's affair.
pub unsafe fn open_session(
    process: &'static Process,
    slot: CK_SLOT_ID,
    flags: CK_FLAGS,
    _application: *mut c_void,
    _notify: CK_NOTIFY,
    handle: *mut CK_SESSION_HANDLE,
) -> Outcome {
    // SAFETY: by the module's contract.
    let handle = unsafe { place(handle) }?;
    if flags & CKF_SERIAL_SESSION == 0 {
        return Err(CKR_SESSION_PARALLEL_NOT_SUPPORTED);
    }
    // PKCS#11 3.2; no token has CKF_ASYNC_SESSION_SUPPORTED.
    if flags & CKF_ASYNC_SESSION != 0 {
        return Err(CKR_SESSION_ASYNC_NOT_SUPPORTED);
    }
    let token = process.token(slot).map_err(as_slot)?;
    *handle = process.sessions.open(token, flags & CKF_RW_SESSION != 0)?;
    Ok(())
}

/// `C_CloseSession`. With the last one the log-in ends.
pub unsafe fn close_session(process: &'static Process, session: CK_SESSION_HANDLE) -> Outcome {
    let token = Arc::clone(&process.sessions.get(session)?.token);
    let last = process.sessions.close(session)?;
    let over = process.session_objects.end_session(session);
    process.forget_session_objects(&token, &over);
    if let Some(token) = last {
        process.log_out(&token);
    }
    Ok(())
}

/// `C_CloseAllSessions`.
pub unsafe fn close_all_sessions(process: &'static Process, slot: CK_SLOT_ID) -> Outcome {
    let token = process.token(slot).map_err(as_slot)?;
    process.sessions.close_all(Some(&token));
    let over = process.session_objects.end_partition(token.partition);
    process.forget_session_objects(&token, &over);
    process.log_out(&token);
    Ok(())
}

/// `C_GetSessionInfo`.
pub unsafe fn get_session_info(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    info: *mut CK_SESSION_INFO,
) -> Outcome {
    // SAFETY: by the module's contract.
    let info = unsafe { place(info) }?;
    let session = process.sessions.get(session)?;
    *info = CK_SESSION_INFO {
        slotID: session.token.partition.into(),
        state: session.state(),
        flags: CKF_SERIAL_SESSION | if session.read_write { CKF_RW_SESSION } else { 0 },
        ulDeviceError: 0,
    };
    Ok(())
}

/// `C_SessionCancel`: ends the operations that are named.
pub unsafe fn session_cancel(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    flags: CK_FLAGS,
) -> Outcome {
    let session = process.sessions.get(session)?;
    let mut active = lock(&session.active);
    if flags & CKF_FIND_OBJECTS != 0 {
        active.find = None;
    }
    if flags & CKF_ENCRYPT != 0 {
        active.encrypt = None;
    }
    if flags & CKF_DECRYPT != 0 {
        active.decrypt = None;
    }
    if flags & CKF_SIGN != 0 {
        active.sign = None;
    }
    if flags & CKF_VERIFY != 0 {
        active.verify = None;
        active.verify_signature = None;
    }
    if flags & CKF_SIGN_RECOVER != 0 {
        active.sign_recover = None;
    }
    if flags & CKF_VERIFY_RECOVER != 0 {
        active.verify_recover = None;
    }
    if flags & CKF_DIGEST != 0 {
        active.digest = None;
    }
    if flags & CKF_MESSAGE_ENCRYPT != 0 {
        active.message_encrypt = None;
    }
    if flags & CKF_MESSAGE_DECRYPT != 0 {
        active.message_decrypt = None;
    }
    if flags & CKF_MESSAGE_SIGN != 0 {
        active.message_sign = None;
    }
    if flags & CKF_MESSAGE_VERIFY != 0 {
        active.message_verify = None;
    }
    Ok(())
}

/// `C_Login`.
pub unsafe fn login(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    user_type: CK_USER_TYPE,
    pin: *mut CK_UTF8CHAR,
    length: CK_ULONG,
) -> Outcome {
    // SAFETY: by the module's contract.
    let pin = Pin::read(unsafe { input(pin, length) }?)?;
    log_in(process, session, user_type, pin)
}

/// `C_LoginUser`: the name stands apart from the password.
pub unsafe fn login_user(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    user_type: CK_USER_TYPE,
    pin: *mut CK_UTF8CHAR,
    length: CK_ULONG,
    user: *mut CK_UTF8CHAR,
    user_length: CK_ULONG,
) -> Outcome {
    // SAFETY: by the module's contract.
    let (pin, user) = unsafe { (input(pin, length)?, input(user, user_length)?) };
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| CKR_PIN_INCORRECT);
    log_in(process, session, user_type, Pin { user: text(user)?, password: text(pin)? })
}

fn log_in(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    user_type: CK_USER_TYPE,
    pin: Pin<'_>,
) -> Outcome {
    let session = process.sessions.get(session)?;
    let role = match user_type {
        CKU_USER => Role::CryptoUser,
        CKU_SO => Role::CryptoOfficer,
        CKU_CONTEXT_SPECIFIC => return authentication::log_in_for_use(process, &session, pin),
        _ => return Err(CKR_USER_TYPE_INVALID),
    };
    check_log_in(process, &session, role)?;
    if pin.password.is_empty() {
        return Err(CKR_PIN_INCORRECT);
    }
    let token = &session.token;
    // On a connection of its own kind: one that is logged in already would stay so. Not repeated: each time may
    // count as another wrong password.
    let begun = process.on_connection(Access::anonymous(), Repeat::Never, |pooled| {
        let login = v1::Login {
            role: role.into(),
            user: pin.user.to_owned(),
            password: pin.password.to_owned(),
            ticket: Vec::new(),
        };
        // If anything fails from here on, nobody else gets the half logged-in connection.
        pooled.epoch = RETIRED;
        let reply = pooled.connection.call(token.partition, Op::Login(login))?;
        Ok(match reply {
            response::Result::Login(reply) => {
                token.login.begin(&pooled.connection, reply, pin.password).map(|epoch| pooled.epoch = epoch)
            }
            _ => Err(CKR_DEVICE_ERROR),
        })
    });
    begun.map_err(|code| refused(process, token, role, code))??;
    if process.sessions.count(token).0 == 0 {
        // Meanwhile the last session was closed, which found nobody to log out.
        process.log_out(token);
        return Err(CKR_SESSION_HANDLE_INVALID);
    }
    Ok(())
}

/// What a refused log-in is called: where no crypto user has a password, there is none that could be right.
fn refused(process: &'static Process, token: &Token, role: Role, code: CK_RV) -> CK_RV {
    let is_user = role == Role::CryptoUser && code == CKR_PIN_INCORRECT;
    // Asked anew: somebody may have got one.
    match is_user && process.list_tokens().is_ok() && !token.info().user_pin_initialized {
        true => CKR_USER_PIN_NOT_INITIALIZED,
        false => code,
    }
}

fn check_log_in(process: &Process, session: &Session, role: Role) -> Outcome {
    match session.token.login.role() {
        Some(current) if current == role => return Err(CKR_USER_ALREADY_LOGGED_IN),
        Some(_) => return Err(CKR_USER_ANOTHER_ALREADY_LOGGED_IN),
        None => {}
    }
    let (sessions, writable) = process.sessions.count(&session.token);
    if role == Role::CryptoOfficer && sessions != writable {
        return Err(CKR_SESSION_READ_ONLY_EXISTS);
    }
    Ok(())
}

/// `C_Logout`.
pub unsafe fn logout(process: &'static Process, session: CK_SESSION_HANDLE) -> Outcome {
    let session = process.sessions.get(session)?;
    if session.token.login.role().is_none() {
        return Err(CKR_USER_NOT_LOGGED_IN);
    }
    process.log_out(&session.token);
    Ok(())
}

/// `C_GetSessionValidationFlags`: no operation of a session is marked as validated. What the partition's FIPS state refuses,
/// it refuses.
pub unsafe fn get_session_validation_flags(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    kind: CK_SESSION_VALIDATION_FLAGS_TYPE,
    flags: *mut CK_FLAGS,
) -> Outcome {
    process.sessions.get(session)?;
    // SAFETY: by the module's contract.
    let flags = unsafe { place(flags) }?;
    if kind != CKS_LAST_VALIDATION_OK {
        return Err(CKR_ARGUMENTS_BAD);
    }
    *flags = 0;
    Ok(())
}
