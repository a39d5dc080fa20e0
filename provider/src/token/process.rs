//! What is known in one process: that the module is initialised, and which tokens there are.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use cryptoki_sys::*;

use super::Tokens;
use super::module::Module;
use super::slot::Slot;
use super::{PrivateKey, TokenIdentity};
use crate::error::{Error, Result};

/// The module is not initialised again sooner than this after the last time.
const PATIENCE: Duration = Duration::from_secs(1);

/// The state of the module in one process. After a fork the child finds its parent's and makes its own; the
/// parent's is left alone, without taking a lock in it, because a thread that the child does not have may hold it.
pub struct Process {
    id: u32,
    /// We initialised the module; otherwise the application did, and it is not ours to finalise.
    ours: bool,
    since: Instant,
    /// Held for reading by every operation, for writing while the module is initialised again.
    gate: RwLock<()>,
    slots: RwLock<Vec<Arc<Slot>>>,
}

impl Tokens {
    /// The state of this process, after initialising the module if it has not been in this process.
    pub(super) fn process(&self) -> Result<&Process> {
        let current = self.process.load(Ordering::Acquire);
        // SAFETY: null, or a Process that was leaked to be valid for ever.
        if let Some(process) = unsafe { current.as_ref() }
            && process.id == strongroom_ffi::process_id()
        {
            return Ok(process);
        }
        self.start(current)
    }

    /// Initialises the module in this process and replaces the state `current`.
    fn start(&self, current: *mut Process) -> Result<&Process> {
        let module = self.module()?;
        let ours = match module.initialize(self.settings.init_arguments.as_deref()) {
            Ok(()) => true,
            Err(CKR_CRYPTOKI_ALREADY_INITIALIZED) => false,
            Err(rv) => {
                return Err(Error::token("C_Initialize", self.settings.module.display().to_string(), rv));
            }
        };
        let process = Box::into_raw(Box::new(Process {
            id: strongroom_ffi::process_id(),
            ours,
            since: Instant::now(),
            gate: RwLock::new(()),
            slots: RwLock::default(),
        }));
        // The old state is leaked: in a child it is the parent's, otherwise other threads may be using it. It is
        // replaced once per fork, and at most once a second.
        let now = match self.process.compare_exchange(current, process, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => process,
            Err(other) => {
                // SAFETY: made above, and nobody else has seen it.
                drop(unsafe { Box::from_raw(process) });
                other
            }
        };
        // SAFETY: leaked, so valid for ever.
        unsafe { now.as_ref() }.ok_or(Error::Libcrypto("no process state"))
    }

    /// Finalises the module and initialises it again: some modules recover from the loss of their token by
    /// nothing less. Does nothing if it was initialised within the last second, or by the application.
    pub(super) fn restart(&self, process: &Process, finalize: bool) -> Result<()> {
        let _no_operation_runs = process.exclusive();
        let current = self.process.load(Ordering::Acquire);
        if !std::ptr::eq(current, process) || process.since.elapsed() < PATIENCE {
            return Ok(());
        }
        if finalize {
            if !process.ours {
                return Ok(());
            }
            let _ = self.module()?.finalize();
        }
        self.start(current).map(|_| ())
    }

    pub(super) fn module(&self) -> Result<&Module> {
        self.module.as_ref().map_err(Clone::clone)
    }

    /// The slots with tokens; asked of the module again if `refresh`.
    pub(super) fn slots(&self, refresh: bool) -> Result<Vec<Arc<Slot>>> {
        let process = self.process()?;
        {
            let slots = process.slots.read().unwrap_or_else(PoisonError::into_inner);
            if !refresh && !slots.is_empty() {
                return Ok(slots.clone());
            }
        }
        let module = self.module()?;
        let ids = module
            .slots()
            .map_err(|rv| Error::token("C_GetSlotList", self.settings.module.display().to_string(), rv))?;
        let mut slots = process.slots.write().unwrap_or_else(PoisonError::into_inner);
        let mut fresh = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(slot) = Slot::new(module, id, self.settings.always_log_in) else { continue };
            // A token that was here before keeps its sessions and its log-in.
            match slots.iter().find(|known| known.is_same(&slot)) {
                Some(known) => fresh.push(known.clone()),
                None => fresh.push(Arc::new(slot)),
            }
        }
        *slots = fresh;
        Ok(slots.clone())
    }

    /// The slot that has a key's token now.
    pub(super) fn slot_of(&self, key: &PrivateKey) -> Result<Arc<Slot>> {
        let find = |slots: &[Arc<Slot>]| slots.iter().find(|slot| slot.token == key.token).cloned();
        if let Some(slot) = find(&self.slots(false)?) {
            return Ok(slot);
        }
        let slots = self.slots(true)?;
        find(&slots).ok_or_else(|| Error::NoToken { uri: key.name(), found: listing(&slots) })
    }
}

impl Process {
    /// Keeps the module initialised while the guard lives.
    pub fn operation(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn exclusive(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tokens for people.
pub fn listing(slots: &[Arc<Slot>]) -> String {
    if slots.is_empty() {
        return "the module shows no token".into();
    }
    let labels: Vec<_> = slots.iter().map(|slot| format!("\"{}\"", slot.token.label)).collect();
    format!("the module shows {}", labels.join(", "))
}

/// A number that no other key in this process image has.
pub fn next_key_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The identity of a token, to compare.
impl Slot {
    fn is_same(&self, other: &Self) -> bool {
        let identity = |slot: &Slot| -> (TokenIdentity, bool) { (slot.token.clone(), slot.login_required) };
        identity(self) == identity(other) && self.id() == other.id()
    }
}
