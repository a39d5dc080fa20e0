//! What is known in one process: that the module is initialised, and which tokens there are.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use cryptoki_sys::*;

use super::ending;
use super::gate::{Gate, Pass};
use super::module::Module;
use super::random::Inside;
use super::shared::Shared;
use super::slot::Slot;
use super::{TokenIdentity, Tokens};
use crate::error::{Error, Result};

/// The module is not initialised again sooner than this after the last time.
const PATIENCE: Duration = Duration::from_secs(1);

/// A process in which nothing has succeeded yet does not have that patience: other processes that start at the same time
/// may be what is in its way (SoftHSM2 shows no token while another process logs in). It tries so many times in a row, after
/// longer and longer pauses, for one of so many of its operations.
const FIRST_TRIES: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const FIRST_OPERATIONS: u32 = 3;

/// How long initialising the module again waits for the operations that run. One that waits for a session waits as long.
const LEAVE: Duration = Duration::from_secs(12);

/// How often one who waits for another thread's C_Initialize looks.
const GLANCE: Duration = Duration::from_millis(1);

/// The state of the module in one process.
pub struct Process {
    generation: u64,
    /// We, or a parent of this process through us, initialised the module; otherwise the application did, and it
    /// is not ours to finalise.
    ours: AtomicBool,
    /// The module's state is the parent's, which survived the fork.
    inherited: AtomicBool,
    /// An operation has succeeded.
    settled: AtomicBool,
    /// Operations that may still try again and again until one has.
    first_operations: AtomicU32,
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
pub struct Operation {
    /// The module's functions.
    pub module: &'static Module,
    /// The process that it runs in.
    pub generation: u64,
    process: &'static Process,
    /// Which initialisation of the module it relies on.
    pub times: u64,
    /// The module.
    pub shared: &'static Shared,
    _pass: Pass<'static>,
}

impl Tokens {
    /// Does `operation` and, if what it relied on has gone stale or the module has died, renews that and does it
    /// again: at most once after looking everything up again, and once after initialising the module again; more often in a
    /// process in which nothing has succeeded yet.
    ///
    /// # Errors
    ///
    /// The operation's last error, or that of initialising.
    pub(super) fn recovering<T>(&self, mut operation: impl FnMut(&Operation) -> Result<T>) -> Result<T> {
        let _inside = Inside::new();
        let shared = self.shared()?;
        let process = shared.process();
        let (mut looked_up, mut restarts) = (false, 0);
        loop {
            let seen = process.times.load(Ordering::Relaxed);
            let (error, seen) = match shared.operation(process) {
                Err(error) => (error, seen),
                Ok(current) => match operation(&current) {
                    Ok(done) => {
                        process.settle();
                        return Ok(done);
                    }
                    Err(error) if !looked_up && error.rv().is_some_and(is_stale) => {
                        looked_up = true;
                        // Its error, if any, is the next attempt's.
                        let _ = current.slots(true);
                        continue;
                    }
                    Err(error) => (error, current.times),
                },
            };
            let is_first = process.may_try_at_first(&error, restarts);
            if is_first {
                thread::sleep(first_pause(restarts));
            } else if restarts > 0 || !(error.is_away() || error.rv().is_some_and(is_dead)) {
                return Err(error);
            }
            let finalize = error.rv() != Some(CKR_CRYPTOKI_NOT_INITIALIZED);
            // What initialising says is the next attempt's error, if there is one.
            match shared.restart(process, seen, finalize, is_first) {
                Ok(true) => restarts += 1,
                Err(_) if is_first => restarts += 1,
                Ok(false) => return Err(error),
                Err(other) => return Err(other),
            }
        }
    }

    fn shared(&self) -> Result<&'static Shared> {
        self.shared.clone()
    }
}

impl Shared {
    /// What is known in this process.
    fn process(&'static self) -> &'static Process {
        self.process.get(|generation, parent: Option<&Process>| Process {
            generation,
            // Some modules' state survives a fork, and C_Initialize in the child says that it is done already.
            ours: AtomicBool::new(parent.is_some_and(|process| process.ours.load(Ordering::Relaxed))),
            inherited: AtomicBool::new(false),
            settled: AtomicBool::new(false),
            first_operations: AtomicU32::new(FIRST_OPERATIONS),
            gate: Gate::new(),
            times: AtomicU64::new(0),
            initialised: Mutex::default(),
            slots: RwLock::default(),
        })
    }

    /// Begins an operation, initialising the module if it has not been in this process.
    fn operation(&'static self, process: &'static Process) -> Result<Operation> {
        loop {
            if ending::has_begun() {
                ending::hold();
                return Err(Error::Module { module: self.name(), why: "the process ends".into() });
            }
            if let Some(operation) = self.enter(process) {
                return Ok(operation);
            }
            let mut initialised = self.exclusive(process)?;
            if initialised.is_none() {
                self.initialise(process, &mut initialised)?;
            }
        }
    }

    /// Begins an operation, if the module is initialised in this process.
    pub fn current(&'static self) -> Option<Operation> {
        self.enter(self.process())
    }

    fn enter(&'static self, process: &'static Process) -> Option<Operation> {
        let pass = process.gate.enter()?;
        Some(Operation {
            module: &self.module,
            generation: process.generation,
            process,
            times: process.times.load(Ordering::Relaxed),
            shared: self,
            _pass: pass,
        })
    }

    /// Initialises the module and opens the gate.
    fn initialise(&self, process: &Process, initialised: &mut Option<Instant>) -> Result<()> {
        let change = process.gate.change();
        match self.module.initialize(self.manner.init_arguments.as_deref()) {
            Ok(()) => {
                process.ours.store(true, Ordering::Relaxed);
                process.inherited.store(false, Ordering::Relaxed);
            }
            Err(CKR_CRYPTOKI_ALREADY_INITIALIZED) => process.inherited.store(true, Ordering::Relaxed),
            Err(rv) => return Err(Error::token("C_Initialize", self.name(), rv)),
        }
        drop(change);
        *initialised = Some(Instant::now());
        process.times.fetch_add(1, Ordering::Relaxed);
        process.gate.open();
        Ok(())
    }

    /// Initialises the module again, after finalising it if `finalize`: some modules recover from the loss of their
    /// token by nothing less. `seen` is which initialisation the operation that failed relied on. False if
    /// that was less than a second ago and not `at_once`, if the module's state is not ours to finalise (the application made
    /// it, or another provider uses it in another way; or the parent did, with an environment that this process no longer has), or if other operations do not end.
    fn restart(&self, process: &Process, seen: u64, finalize: bool, at_once: bool) -> Result<bool> {
        let mut initialised = self.exclusive(process)?;
        if process.times.load(Ordering::Relaxed) != seen {
            // Another thread was first.
            return Ok(true);
        }
        let is_ours = process.ours.load(Ordering::Relaxed)
            && self.is_alone()
            && (!process.inherited.load(Ordering::Relaxed) || self.has_its_environment());
        if (!at_once && initialised.is_some_and(|at| at.elapsed() < PATIENCE))
            || (finalize && initialised.is_some() && !is_ours)
            || !process.gate.close(LEAVE)
        {
            return Ok(false);
        }
        if finalize && initialised.is_some() {
            let _change = process.gate.change();
            let _ = self.module.finalize();
        }
        {
            let mut slots = process.slots();
            slots.known.iter().for_each(|slot| slot.ended());
            slots.set_present(Vec::new());
        }
        *initialised = None;
        self.initialise(process, &mut initialised)?;
        Ok(true)
    }

    /// The right to initialise and finalise the module, which another thread may have.
    fn exclusive<'a>(&self, process: &'a Process) -> Result<MutexGuard<'a, Option<Instant>>> {
        let until = Instant::now() + LEAVE + PATIENCE;
        loop {
            match process.initialised.try_lock() {
                Ok(guard) => return Ok(guard),
                Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if Instant::now() < until => thread::sleep(GLANCE),
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::Module {
                        module: self.name(),
                        why: "its C_Initialize or C_Finalize does not return in another thread".into(),
                    });
                }
            }
        }
    }

    fn name(&self) -> String {
        self.module.path.display().to_string()
    }
}

impl Operation {
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
            let Shared { manner, log_ins, .. } = self.shared;
            let Some(slot) = Slot::new(self.module, id, manner, log_ins, self.generation) else {
                continue;
            };
            // A token that was here before keeps its sessions and its log-in; another token in its slot does not.
            present.push(slots.known(slot));
        }
        slots.set_present(present.clone());
        Ok(present)
    }

    /// The slot that has a token now; `name` is the key for which it is, for people.
    pub fn slot_of(&self, token: &TokenIdentity, name: impl Fn() -> String) -> Result<&'static Slot> {
        let find = |slots: &[&'static Slot]| slots.iter().find(|slot| slot.token == *token).copied();
        {
            let slots = self.process.slots.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(slot) = find(&slots.present) {
                return Ok(slot);
            }
        }
        let slots = self.slots(true)?;
        find(&slots).ok_or_else(|| Error::NoToken { uri: name(), found: listing(&slots), away: true })
    }
}

impl Process {
    /// Keeps operations out while the process forks, and waits for those that run, at most for `limit`.
    pub fn hold_for_fork(&self, limit: Duration) {
        self.gate.hold_for_fork(limit);
    }

    /// Lets operations in again.
    pub fn release_after_fork(&self) {
        self.gate.release_after_fork();
    }

    /// Waits, at most for `limit`, for the operations of other threads.
    pub fn wait_for_others(&self, limit: Duration) {
        self.gate.wait_for_others(limit);
    }

    fn settle(&self) {
        if !self.settled.load(Ordering::Relaxed) {
            self.settled.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the operation that failed so may try again at once, after `restarts` times.
    fn may_try_at_first(&self, error: &Error, restarts: u32) -> bool {
        let tries = match error {
            // More likely the name is wrong.
            Error::NoToken { away: false, .. } => FIRST_TRIES / 2,
            Error::NoToken { .. } => FIRST_TRIES,
            _ if error.rv().is_some_and(is_dead) => FIRST_TRIES,
            // SoftHSM2 says so, and goes on to, if it was loaded while another process wrote the file with the PIN. None was
            // compared, so no try was counted.
            _ if error.rv() == Some(CKR_USER_PIN_NOT_INITIALIZED) => FIRST_TRIES,
            _ => 0,
        };
        if restarts >= tries || self.settled.load(Ordering::Relaxed) {
            return false;
        }
        restarts > 0
            || self
                .first_operations
                .try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
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

/// The pause before the next of the first tries: longer and longer, and not the same in processes that start together.
fn first_pause(restarts: u32) -> Duration {
    let pause = FIRST_PAUSE * (1 << restarts.min(FIRST_TRIES));
    pause + pause * (std::process::id() % 8) / 8
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
