//! What is known in one process: that the module is initialised, and which tokens there are.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use cryptoki_sys::*;

use super::gate::{Gate, Pass};
use super::module::Module;
use super::random::Inside;
use super::slot::Slot;
use super::{PrivateKey, Tokens};
use crate::error::{Error, Result};

/// The module is not initialised again sooner than this after the last time.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long initialising the module again waits for the operations that run. One that waits for a session waits as long.
const LEAVE: Duration = Duration::from_secs(12);

/// The state of the module in one process.
pub struct Process {
    generation: u64,
    /// We, or a parent of this process through us, initialised the module; otherwise the application did, and it
    /// is not ours to finalise.
    ours: AtomicBool,
    /// Open while the module is initialised.
    gate: Gate,
    /// How often the module was initialised. It does not change while somebody is inside the gate.
    times: AtomicU64,
    /// When the module was initialised last. Held while it is initialised, never by an operation.
    initialised: Mutex<Option<Instant>>,
    slots: RwLock<Slots>,
}

/// The tokens of a process. A slot is never freed, so that keys can remember it without a lock; one whose token comes back is
/// used again.
#[derive(Default)]
struct Slots {
    /// Those that are there.
    present: Vec<&'static Slot>,
    /// Those that are or were there: as many as different tokens were seen.
    known: Vec<&'static Slot>,
}

/// An operation of this process: while it lives the module stays initialised.
pub struct Operation<'a> {
    /// The module's functions.
    pub module: &'a Module,
    /// The process that it runs in.
    pub generation: u64,
    process: &'static Process,
    /// Which initialisation of the module it relies on.
    times: u64,
    tokens: &'a Tokens,
    _pass: Pass<'static>,
}

impl Tokens {
    /// Does `operation` and, if what it relied on has gone stale or the module has died, renews that and does it
    /// again: at most once after looking everything up again, and once after initialising the module again.
    ///
    /// # Errors
    ///
    /// The operation's last error, or that of initialising.
    pub(super) fn recovering<T>(&self, mut operation: impl FnMut(&Operation) -> Result<T>) -> Result<T> {
        let _inside = Inside::new();
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
            let seen = current.times;
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
        let process = self.process.get(|generation, parent: Option<&Process>| Process {
            generation,
            // Some modules' state survives a fork, and C_Initialize in the child says that it is done already.
            ours: AtomicBool::new(parent.is_some_and(|process| process.ours.load(Ordering::Relaxed))),
            gate: Gate::new(),
            times: AtomicU64::new(0),
            initialised: Mutex::default(),
            slots: RwLock::default(),
        });
        loop {
            if let Some(pass) = process.gate.enter() {
                return Ok(Operation {
                    module,
                    generation: process.generation,
                    process,
                    times: process.times.load(Ordering::Relaxed),
                    tokens: self,
                    _pass: pass,
                });
            }
            let mut initialised = process.exclusive();
            if initialised.is_none() {
                self.initialise(module, process, &mut initialised)?;
            }
        }
    }

    /// Initialises the module and opens the gate.
    fn initialise(
        &self,
        module: &Module,
        process: &Process,
        initialised: &mut Option<Instant>,
    ) -> Result<()> {
        match module.initialize(self.settings.init_arguments.as_deref()) {
            Ok(()) => process.ours.store(true, Ordering::Relaxed),
            Err(CKR_CRYPTOKI_ALREADY_INITIALIZED) => {}
            Err(rv) => {
                return Err(Error::token("C_Initialize", module.path.display().to_string(), rv));
            }
        }
        *initialised = Some(Instant::now());
        process.times.fetch_add(1, Ordering::Relaxed);
        process.gate.open();
        Ok(())
    }

    /// Initialises the module again, after finalising it if `finalize`: some modules recover from the loss of their
    /// token by nothing less. `seen` is which initialisation the operation that failed relied on. False if
    /// that was less than a second ago, if the application initialised it, so that it is not ours to finalise, or if
    /// other operations do not end.
    fn restart(&self, process: &Process, seen: u64, finalize: bool) -> Result<bool> {
        let mut initialised = process.exclusive();
        if process.times.load(Ordering::Relaxed) != seen {
            // Another thread was first.
            return Ok(true);
        }
        if initialised.is_some_and(|at| at.elapsed() < PATIENCE)
            || (finalize && !process.ours.load(Ordering::Relaxed))
            || !process.gate.close(LEAVE)
        {
            return Ok(false);
        }
        let module = self.module()?;
        if finalize {
            let _ = module.finalize();
        }
        {
            let mut slots = process.slots();
            slots.known.iter().for_each(|slot| slot.ended());
            slots.set_present(Vec::new());
        }
        *initialised = None;
        self.initialise(module, process, &mut initialised)?;
        Ok(true)
    }

    fn module(&self) -> Result<&Module> {
        self.module.as_ref().map_err(Clone::clone)
    }
}

impl Operation<'_> {
    /// The slots with tokens; asked of the module again if `refresh`, or if there were none.
    pub fn slots(&self, refresh: bool) -> Result<Vec<&'static Slot>> {
        {
            let slots = self.process.slots.read().unwrap_or_else(PoisonError::into_inner);
            if !refresh && !slots.present.is_empty() {
                return Ok(slots.present.clone());
            }
        }
        let ids =
            self.module.slots().map_err(|rv| Error::token("C_GetSlotList", "the PKCS#11 module", rv))?;
        let mut slots = self.process.slots();
        let mut present = Vec::with_capacity(ids.len());
        for id in ids {
            let Tokens { settings, log_ins, .. } = self.tokens;
            let Some(slot) = Slot::new(self.module, id, settings, log_ins, self.generation) else {
                continue;
            };
            // A token that was here before keeps its sessions and its log-in; another token in its slot does not.
            present.push(slots.known(slot));
        }
        slots.set_present(present.clone());
        Ok(present)
    }

    /// The slot that has a key's token now.
    pub fn slot_of(&self, key: &PrivateKey) -> Result<&'static Slot> {
        let find = |slots: &[&'static Slot]| slots.iter().find(|slot| slot.token == key.token).copied();
        {
            let slots = self.process.slots.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(slot) = find(&slots.present) {
                return Ok(slot);
            }
        }
        let slots = self.slots(true)?;
        find(&slots).ok_or_else(|| Error::NoToken { uri: key.name(), found: listing(&slots), away: true })
    }
}

impl Process {
    fn exclusive(&self) -> MutexGuard<'_, Option<Instant>> {
        self.initialised.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slots(&self) -> std::sync::RwLockWriteGuard<'_, Slots> {
        self.slots.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    /// What is known of this token in this slot, or else `slot`, which is known from now on.
    fn known(&mut self, slot: Slot) -> &'static Slot {
        if let Some(known) = self.known.iter().find(|known| known.is_same(&slot)) {
            return known;
        }
        let slot: &'static Slot = Box::leak(Box::new(slot));
        self.known.push(slot);
        slot
    }

    fn set_present(&mut self, present: Vec<&'static Slot>) {
        for slot in &self.known {
            slot.set_present(present.iter().any(|other| std::ptr::eq(*other, *slot)));
        }
        self.present = present;
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
pub fn listing(slots: &[&Slot]) -> String {
    if slots.is_empty() {
        return "the module shows no token".into();
    }
    let labels: Vec<_> = slots.iter().map(|slot| format!("\"{}\"", slot.token.label)).collect();
    format!("the module shows {}", labels.join(", "))
}
