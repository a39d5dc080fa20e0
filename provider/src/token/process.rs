//! What is known in one process: that the module is initialised, and which tokens there are.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use cryptoki_sys::*;

use super::module::Module;
use super::slot::Slot;
use super::{PrivateKey, Tokens};
use crate::error::{Error, Result};

/// The module is not initialised again sooner than this after the last time.
const PATIENCE: Duration = Duration::from_secs(1);

/// The state of the module in one process. After a fork the child finds its parent's and makes its own; the
/// parent's is left alone, without taking a lock in it, because a thread that the child does not have may hold it.
pub struct Process {
    id: u64,
    /// We, or a parent of this process through us, initialised the module; otherwise the application did, and it
    /// is not ours to finalise.
    ours: AtomicBool,
    /// When the module was initialised. Held for reading by every operation, for writing while it is initialised.
    initialised: RwLock<Option<Instant>>,
    slots: RwLock<Vec<Arc<Slot>>>,
}

/// An operation of this process: while it lives the module stays initialised.
pub struct Operation<'a> {
    /// The module's functions.
    pub module: &'a Module,
    process: &'a Process,
    initialised: RwLockReadGuard<'a, Option<Instant>>,
    always_log_in: bool,
}

impl Tokens {
    /// Does `operation` and, if what it relied on has gone stale or the module has died, renews that and does it
    /// again: at most once after looking everything up again, and once after initialising the module again.
    ///
    /// # Errors
    ///
    /// The operation's last error, or that of initialising.
    pub(super) fn recovering<T>(&self, mut operation: impl FnMut(&Operation) -> Result<T>) -> Result<T> {
        let (mut looked_up, mut restarted) = (false, false);
        loop {
            let current = self.operation()?;
            let error = match operation(&current) {
                Err(error) => error,
                done => return done,
            };
            let rv = error.rv();
            if rv.is_some_and(is_stale) && !looked_up {
                looked_up = true;
                // Its error, if any, is the next attempt's.
                let _ = current.slots(true);
                continue;
            }
            let seen = *current.initialised;
            let (process, is_dead) = (current.process, error.is_away() || rv.is_some_and(is_dead));
            drop(current);
            if restarted
                || !is_dead
                || !self.restart(process, seen, rv != Some(CKR_CRYPTOKI_NOT_INITIALIZED))?
            {
                return Err(error);
            }
            restarted = true;
        }
    }

    /// Begins an operation, initialising the module if it has not been in this process.
    fn operation(&self) -> Result<Operation<'_>> {
        let module = self.module()?;
        let process = self.process();
        loop {
            let initialised = process.initialised.read().unwrap_or_else(PoisonError::into_inner);
            if initialised.is_some() {
                let always_log_in = self.settings.always_log_in;
                return Ok(Operation { module, process, initialised, always_log_in });
            }
            drop(initialised);
            let mut initialised = process.exclusive();
            if initialised.is_none() {
                *initialised = Some(self.initialise(module, process)?);
            }
        }
    }

    /// The state of this process, without content if it is new.
    fn process(&self) -> &Process {
        loop {
            let current = self.process.load(Ordering::Acquire);
            // SAFETY: null, or a Process that was leaked to be valid for ever.
            let known = unsafe { current.as_ref() };
            match known {
                Some(process) if process.id == strongroom_ffi::process_generation() => return process,
                _ => {}
            }
            // Some modules' state survives a fork, and C_Initialize in the child says that it is done already.
            let ours = known.is_some_and(|process| process.ours.load(Ordering::Relaxed));
            let fresh = Box::into_raw(Box::new(Process {
                id: strongroom_ffi::process_generation(),
                ours: AtomicBool::new(ours),
                initialised: RwLock::new(None),
                slots: RwLock::default(),
            }));
            // A parent's state is leaked in the child, once for each fork.
            if self.process.compare_exchange(current, fresh, Ordering::AcqRel, Ordering::Acquire).is_err() {
                // SAFETY: made above, and nobody else has seen it.
                drop(unsafe { Box::from_raw(fresh) });
            }
        }
    }

    fn initialise(&self, module: &Module, process: &Process) -> Result<Instant> {
        match module.initialize(self.settings.init_arguments.as_deref()) {
            Ok(()) => process.ours.store(true, Ordering::Relaxed),
            Err(CKR_CRYPTOKI_ALREADY_INITIALIZED) => {}
            Err(rv) => {
                return Err(Error::token("C_Initialize", self.settings.module.display().to_string(), rv));
            }
        }
        Ok(Instant::now())
    }

    /// Initialises the module again, after finalising it if `finalize`: some modules recover from the loss of their
    /// token by nothing less. `seen` is when it was initialised as the operation that failed knows it. False if
    /// that was less than a second ago, or if the application initialised it, so that it is not ours to finalise.
    fn restart(&self, process: &Process, seen: Option<Instant>, finalize: bool) -> Result<bool> {
        let mut initialised = process.exclusive();
        if *initialised != seen {
            // Another thread was first.
            return Ok(true);
        }
        if seen.is_some_and(|at| at.elapsed() < PATIENCE) {
            return Ok(false);
        }
        let module = self.module()?;
        if finalize {
            if !process.ours.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let _ = module.finalize();
        }
        process.slots.write().unwrap_or_else(PoisonError::into_inner).clear();
        *initialised = None;
        *initialised = Some(self.initialise(module, process)?);
        Ok(true)
    }

    fn module(&self) -> Result<&Module> {
        self.module.as_ref().map_err(Clone::clone)
    }
}

impl Operation<'_> {
    /// The slots with tokens; asked of the module again if `refresh`, or if there were none.
    pub fn slots(&self, refresh: bool) -> Result<Vec<Arc<Slot>>> {
        {
            let slots = self.process.slots.read().unwrap_or_else(PoisonError::into_inner);
            if !refresh && !slots.is_empty() {
                return Ok(slots.clone());
            }
        }
        let ids =
            self.module.slots().map_err(|rv| Error::token("C_GetSlotList", "the PKCS#11 module", rv))?;
        let mut slots = self.process.slots.write().unwrap_or_else(PoisonError::into_inner);
        let mut fresh = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(slot) = Slot::new(self.module, id, self.always_log_in) else { continue };
            // A token that was here before keeps its sessions and its log-in; another token in its slot does not.
            match slots.iter().find(|known| known.is_same(&slot)) {
                Some(known) => fresh.push(known.clone()),
                None => fresh.push(Arc::new(slot)),
            }
        }
        *slots = fresh;
        Ok(slots.clone())
    }

    /// The slot that has a key's token now.
    pub fn slot_of(&self, key: &PrivateKey) -> Result<Arc<Slot>> {
        let find = |slots: &[Arc<Slot>]| slots.iter().find(|slot| slot.token == key.token).cloned();
        {
            let slots = self.process.slots.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(slot) = find(&slots) {
                return Ok(slot);
            }
        }
        let slots = self.slots(true)?;
        find(&slots).ok_or_else(|| Error::NoToken { uri: key.name(), found: listing(&slots), away: true })
    }
}

impl Process {
    fn exclusive(&self) -> RwLockWriteGuard<'_, Option<Instant>> {
        self.initialised.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Errors after which sessions, handles or the log-in are looked up again and the operation is tried once more.
pub fn is_stale(rv: CK_RV) -> bool {
    matches!(
        rv,
        CKR_SESSION_HANDLE_INVALID
            | CKR_SESSION_CLOSED
            | CKR_KEY_HANDLE_INVALID
            | CKR_OBJECT_HANDLE_INVALID
            | CKR_USER_NOT_LOGGED_IN
            | CKR_OPERATION_ACTIVE
            | CKR_OPERATION_NOT_INITIALIZED
            | CKR_SLOT_ID_INVALID
            | CKR_TOKEN_NOT_PRESENT
            | CKR_TOKEN_NOT_RECOGNIZED
            | CKR_DEVICE_REMOVED
            | CKR_DEVICE_ERROR
            | CKR_GENERAL_ERROR
            | CKR_FUNCTION_FAILED
    )
}

/// Errors that some modules recover from only by C_Finalize and C_Initialize.
fn is_dead(rv: CK_RV) -> bool {
    matches!(
        rv,
        CKR_CRYPTOKI_NOT_INITIALIZED
            | CKR_TOKEN_NOT_PRESENT
            | CKR_DEVICE_REMOVED
            | CKR_DEVICE_ERROR
            | CKR_GENERAL_ERROR
            | CKR_SLOT_ID_INVALID
    )
}

/// The tokens for people.
pub fn listing(slots: &[Arc<Slot>]) -> String {
    if slots.is_empty() {
        return "the module shows no token".into();
    }
    let labels: Vec<_> = slots.iter().map(|slot| format!("\"{}\"", slot.token.label)).collect();
    format!("the module shows {}", labels.join(", "))
}
