//! `C_InitToken` (PKCS#11 3.0, 5.5): for programs that initialise a token before they use it.
//!
//! A partition is made, with its first officer, by who owns the machine (`strongroom init`), so every token is initialised.
//! What is left to do for the officer, whose PIN the function takes, is nothing where the partition is empty and has the label.
//! Everything else would destroy what is in it: that is `strongroom partition delete`, which names what it destroys, and no
//! program does it by the way.

use cryptoki_sys::*;
use strongroom_ffi::pointer;
use strongroom_protocol::v1::{self, ListPartitions, Role, request::Op, response};

use super::pin::Pin;
use super::{input, padded};
use crate::call::{Access, Repeat};
use crate::error::{Outcome, as_slot};
use crate::pool::RETIRED;
use crate::state::Process;

/// The size of a token's label, in bytes.
const LABEL: usize = 32;

/// `C_InitToken`: succeeds for the crypto officer, on an empty partition that has the label; destroys nothing
/// (`CKR_TOKEN_WRITE_PROTECTED`).
pub unsafe fn init_token(
    process: &'static Process,
    slot: CK_SLOT_ID,
    pin: *mut CK_UTF8CHAR,
    length: CK_ULONG,
    label: *mut CK_UTF8CHAR,
) -> Outcome {
    // SAFETY: by the module's contract; a label has this size and no length beside it.
    let (pin, label) = unsafe { (input(pin, length)?, pointer::slice(label.cast_const(), LABEL)) };
    let (pin, label) = (Pin::read(pin)?, label.filter(|label| !label.is_empty()).ok_or(CKR_ARGUMENTS_BAD)?);
    let token = process.token(slot).map_err(as_slot)?;
    if process.sessions.count(&token).0 > 0 {
        return Err(CKR_SESSION_EXISTS);
    }
    if pin.password.is_empty() {
        return Err(CKR_PIN_INCORRECT);
    }
    // On a connection of its own, which nobody gets afterwards. Not repeated: each time may count as another wrong password.
    let partition = process.on_connection(Access::anonymous(), Repeat::Never, |pooled| {
        pooled.epoch = RETIRED;
        let login = v1::Login {
            role: Role::CryptoOfficer.into(),
            user: pin.user.to_owned(),
            password: pin.password.to_owned(),
            ticket: Vec::new(),
        };
        pooled.connection.call(token.partition, Op::Login(login))?;
        pooled.connection.call(0, Op::ListPartitions(ListPartitions {}))
    })?;
    let response::Result::Partitions(list) = partition else { return Err(CKR_DEVICE_ERROR) };
    let found = list.partitions.iter().find(|found| found.number == token.partition);
    let found = found.ok_or(CKR_TOKEN_NOT_PRESENT)?;
    let is_empty = found.objects == 0 && found.deleted_objects == 0;
    if is_empty && padded::<LABEL>(&found.label) == label { Ok(()) } else { Err(CKR_TOKEN_WRITE_PROTECTED) }
}
