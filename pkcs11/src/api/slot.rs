//! Slot and token management functions (PKCS#11 3.0, 5.5).

use cryptoki_sys::*;

use strongroom_protocol::v1::PinState;

use super::general::{MANUFACTURER, VERSION};
use super::{padded, place, write_list};
use crate::error::{Outcome, as_slot};
use crate::mechanism;
use crate::session::MAX_SESSIONS;
use crate::state::Process;

/// `C_GetSlotList`. While the daemon is away these are the slots that were seen last, and none if none was ever
/// seen. Not an error: p11-kit would take it for the failure of all modules.
pub unsafe fn get_slot_list(
    process: &'static Process,
    _with_token: CK_BBOOL,
    list: *mut CK_SLOT_ID,
    count: *mut CK_ULONG,
) -> Outcome {
    // SAFETY: by the module's contract.
    unsafe { place(count) }?;
    let tokens = process.list_tokens().unwrap_or_else(|_| process.remembered_tokens());
    // Every slot has a token: a partition.
    let slots: Vec<CK_SLOT_ID> = tokens.iter().map(|token| token.partition.into()).collect();
    // SAFETY: by the module's contract.
    unsafe { write_list(&slots, list, count) }
}

/// `C_GetSlotInfo`.
pub unsafe fn get_slot_info(process: &'static Process, slot: CK_SLOT_ID, info: *mut CK_SLOT_INFO) -> Outcome {
    // SAFETY: by the module's contract.
    let info = unsafe { place(info) }?;
    let token = process.token(slot).map_err(as_slot)?;
    let present =
        process.list_tokens().is_ok_and(|listed| listed.iter().any(|t| t.partition == token.partition));
    *info = CK_SLOT_INFO {
        slotDescription: padded(&format!("Strongroom partition {}", token.partition)),
        manufacturerID: padded(MANUFACTURER),
        flags: if present { CKF_TOKEN_PRESENT } else { 0 },
        hardwareVersion: VERSION,
        firmwareVersion: VERSION,
    };
    Ok(())
}

/// The flags for count_low, final_try, locked and to_be_changed.
const USER_PIN: [CK_FLAGS; 4] =
    [CKF_USER_PIN_COUNT_LOW, CKF_USER_PIN_FINAL_TRY, CKF_USER_PIN_LOCKED, CKF_USER_PIN_TO_BE_CHANGED];
const SO_PIN: [CK_FLAGS; 4] =
    [CKF_SO_PIN_COUNT_LOW, CKF_SO_PIN_FINAL_TRY, CKF_SO_PIN_LOCKED, CKF_SO_PIN_TO_BE_CHANGED];

fn pin_flags(state: &PinState, flags: &[CK_FLAGS; 4]) -> CK_FLAGS {
    let states = [state.count_low, state.final_try, state.locked, state.to_be_changed];
    states.iter().zip(flags).filter(|(holds, _)| **holds).fold(0, |all, (_, flag)| all | flag)
}

/// `C_GetTokenInfo`.
pub unsafe fn get_token_info(
    process: &'static Process,
    slot: CK_SLOT_ID,
    info: *mut CK_TOKEN_INFO,
) -> Outcome {
    // SAFETY: by the module's contract.
    let place = unsafe { place(info) }?;
    // Asked anew: whether a log-in is required may have changed.
    let listed = process.list_tokens().map_err(as_slot)?;
    let token = process.token(slot).map_err(as_slot)?;
    if !listed.iter().any(|listed| listed.partition == token.partition) {
        // It was deleted, and is remembered for the sessions that are open.
        return Err(CKR_TOKEN_NOT_PRESENT);
    }
    let info = token.info();
    // What can be saved of operations is digests, which need no key.
    let mut flags = CKF_RNG | CKF_TOKEN_INITIALIZED | CKF_DUAL_CRYPTO_OPERATIONS | CKF_RESTORE_KEY_NOT_NEEDED;
    if !token.is_admitted() {
        flags |= CKF_LOGIN_REQUIRED;
    }
    if !info.damaged.is_empty() {
        flags |= CKF_ERROR_STATE;
    }
    if info.user_pin_initialized {
        flags |= CKF_USER_PIN_INITIALIZED;
    }
    flags |= pin_flags(&info.user_pin.unwrap_or_default(), &USER_PIN);
    flags |= pin_flags(&info.officer_pin.unwrap_or_default(), &SO_PIN);
    let (sessions, writable) = process.sessions.count(&token);
    *place = CK_TOKEN_INFO {
        label: padded(&info.label),
        manufacturerID: padded(MANUFACTURER),
        model: padded("Partition"),
        serialNumber: padded(&info.serial),
        flags,
        ulMaxSessionCount: MAX_SESSIONS as CK_ULONG,
        ulSessionCount: sessions,
        ulMaxRwSessionCount: MAX_SESSIONS as CK_ULONG,
        ulRwSessionCount: writable,
        // A PIN may be "name:password", the name of at most 32 characters.
        ulMaxPinLen: CK_ULONG::from(info.max_password) + 33,
        ulMinPinLen: CK_ULONG::from(info.min_password),
        ulTotalPublicMemory: CK_UNAVAILABLE_INFORMATION,
        ulFreePublicMemory: CK_UNAVAILABLE_INFORMATION,
        ulTotalPrivateMemory: CK_UNAVAILABLE_INFORMATION,
        ulFreePrivateMemory: CK_UNAVAILABLE_INFORMATION,
        hardwareVersion: VERSION,
        firmwareVersion: VERSION,
        utcTime: [b' '; 16],
    };
    Ok(())
}

/// `C_GetMechanismList`: without those of which FIPS state 2 leaves nothing, where the partition is in it.
pub unsafe fn get_mechanism_list(
    process: &'static Process,
    slot: CK_SLOT_ID,
    list: *mut CK_MECHANISM_TYPE,
    count: *mut CK_ULONG,
) -> Outcome {
    // SAFETY: by the module's contract.
    unsafe { place(count) }?;
    let state = process.token(slot).map_err(as_slot)?.fips_state();
    let there = mechanism::MECHANISMS.iter().filter(|entry| entry.info_in(state).is_some());
    let mechanisms: Vec<_> = there.map(|entry| entry.mechanism).collect();
    // SAFETY: by the module's contract.
    unsafe { write_list(&mechanisms, list, count) }
}

/// `C_GetMechanismInfo`: without the uses that FIPS state 2 refuses, where the partition is in it.
pub unsafe fn get_mechanism_info(
    process: &'static Process,
    slot: CK_SLOT_ID,
    mechanism: CK_MECHANISM_TYPE,
    info: *mut CK_MECHANISM_INFO,
) -> Outcome {
    // SAFETY: by the module's contract.
    let info = unsafe { place(info) }?;
    let state = process.token(slot).map_err(as_slot)?.fips_state();
    *info = mechanism::find(mechanism)?.info_in(state).ok_or(CKR_MECHANISM_INVALID)?;
    Ok(())
}
