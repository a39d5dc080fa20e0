//! `C_WaitForSlotEvent` (PKCS#11 3.0, 5.5): partitions that come and go, and daemons.
//!
//! Nobody tells us, and no thread of ours asks: who waits asks, twice a second.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use cryptoki_sys::*;

use super::place;
use crate::error::{Outcome, lock};
use crate::state::Process;

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(500);

/// What is known of the slots by who waits for their events.
#[derive(Debug, Default)]
pub struct Events {
    state: Mutex<State>,
    /// `C_Finalize` was called.
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Whether there is a token in a slot that was seen. `None`: nobody has asked for events yet.
    present: Option<BTreeMap<CK_SLOT_ID, bool>>,
    /// Slots in which something happened that nobody was told of.
    pending: BTreeSet<CK_SLOT_ID>,
}

impl State {
    /// Compares what there is with what there was.
    fn note(&mut self, listed: &BTreeSet<CK_SLOT_ID>) {
        let is_first = self.present.is_none();
        let present = self.present.get_or_insert_default();
        for slot in listed {
            if present.insert(*slot, true) != Some(true) && !is_first {
                self.pending.insert(*slot);
            }
        }
        for (slot, is_present) in present.iter_mut().filter(|(slot, _)| !listed.contains(slot)) {
            if *is_present {
                *is_present = false;
                self.pending.insert(*slot);
            }
        }
    }
}

impl Events {
    /// Wakes who waits, after the process's state said that it is finalised; what was seen is forgotten.
    pub fn end(&self) {
        *lock(&self.state) = State::default();
        self.ended.notify_all();
    }
}

/// `C_WaitForSlotEvent`: a partition was made or deleted, or a daemon stopped or came back, since the first call. `C_Finalize`
/// ends the wait.
pub unsafe fn wait_for_slot_event(
    process: &'static Process,
    flags: CK_FLAGS,
    slot: *mut CK_SLOT_ID,
    reserved: *mut std::ffi::c_void,
) -> Outcome {
    // SAFETY: by the module's contract.
    let slot = unsafe { place(slot) }?;
    if !reserved.is_null() || flags & !CKF_DONT_BLOCK != 0 {
        return Err(CKR_ARGUMENTS_BAD);
    }
    loop {
        // A daemon that is away has no tokens.
        let listed = process.list_tokens().unwrap_or_default();
        let listed = listed.iter().map(|token| token.partition.into()).collect();
        let mut state = lock(&process.events.state);
        if !process.is_initialized() {
            return Err(CKR_CRYPTOKI_NOT_INITIALIZED);
        }
        state.note(&listed);
        if let Some(happened) = state.pending.pop_first() {
            *slot = happened;
            return Ok(());
        }
        if flags & CKF_DONT_BLOCK != 0 {
            return Err(CKR_NO_EVENT);
        }
        drop(process.events.ended.wait_timeout(state, PAUSE).unwrap_or_else(PoisonError::into_inner));
        if !process.is_initialized() {
            return Err(CKR_CRYPTOKI_NOT_INITIALIZED);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_since_the_first_question_is_told_once() {
        let mut state = State::default();
        let mut events = |listed: &[CK_SLOT_ID]| {
            state.note(&listed.iter().copied().collect());
            std::mem::take(&mut state.pending).into_iter().collect::<Vec<_>>()
        };
        assert!(events(&[1, 2]).is_empty());
        assert!(events(&[1, 2]).is_empty());
        assert_eq!(events(&[2, 3]), [1, 3]);
        assert_eq!(events(&[]), [2, 3]);
        assert!(events(&[]).is_empty());
        assert_eq!(events(&[1, 2, 3]), [1, 2, 3]);
    }
}
