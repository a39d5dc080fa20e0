//! A PKCS#11 module with its state in this process, shared by all providers that use it.
//!
//! A module has one state in a process (it is initialised once, logged in once), whoever loads the provider how often:
//! programs have several library contexts, and load and unload providers. So this is kept for the life of the process, as
//! the module is: a provider that is loaded again finds its sessions, its log-in and its handles.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::time::Duration;

use cryptoki_sys::CK_USER_TYPE;

use super::ending;
use super::login::LogIns;
use super::module::Module;
use super::process::Process;
use crate::error::Result;
use crate::per_process::PerProcess;
use crate::settings::{Login, Settings};

/// How long a fork waits for what other threads are doing in a module.
const FORK: Duration = Duration::from_secs(1);

/// How a module is loaded and used: what openssl.cnf says, without a PIN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manner {
    /// The module, or those that are tried.
    modules: Vec<PathBuf>,
    /// `pkcs11-module-init-args`
    pub init_arguments: Option<String>,
    /// When to log in, where the token does not ask for it.
    pub log_in: Login,
    /// How many sessions with each token are kept.
    pub sessions: usize,
    /// As whom to log in.
    user: CK_USER_TYPE,
    /// The token has no CKA_ALLOWED_MECHANISMS.
    no_allowed_mechanisms: bool,
}

impl Manner {
    /// What these settings say.
    pub fn of(settings: &Settings) -> Self {
        Manner {
            modules: settings.modules.clone(),
            init_arguments: settings.init_arguments.clone(),
            log_in: settings.login,
            sessions: settings.sessions,
            user: settings.user,
            no_allowed_mechanisms: settings.no_allowed_mechanisms,
        }
    }
}

/// A module and what is known of it.
pub struct Shared {
    /// The module's functions.
    pub module: Module,
    /// Its state in each process.
    pub process: PerProcess<Process>,
    /// How it is used.
    pub manner: Manner,
    /// What is known of log-ins, in this process and its children.
    pub log_ins: LogIns,
    /// The names of the environment's variables at that time.
    environment: Vec<OsString>,
    /// The one that was added before it.
    next: *const Shared,
}

// SAFETY: the pointer is to another one that is never freed, and everything else is.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// The newest; a list that only grows, so that a fork finds it whole.
static ALL: AtomicPtr<Shared> = AtomicPtr::new(ptr::null_mut());

impl Shared {
    /// The module, loaded if it is not yet.
    ///
    /// # Errors
    ///
    /// As [`Module::load`].
    pub fn of(manner: Manner) -> Result<&'static Self> {
        if let Some(known) = all().find(|known| known.manner == manner) {
            return Ok(known);
        }
        let module = Module::load_first(&manner.modules, !manner.no_allowed_mechanisms)?;
        let fresh = Box::into_raw(Box::new(Shared {
            module,
            process: PerProcess::new(),
            log_ins: LogIns::new(manner.user),
            manner,
            environment: env::vars_os().map(|(name, _)| name).collect(),
            next: ptr::null(),
        }));
        loop {
            let newest = ALL.load(Ordering::Acquire);
            // Another thread may have come at the same time.
            // SAFETY: made above, and nobody else has seen it.
            if let Some(known) = all().find(|known| known.manner == unsafe { &*fresh }.manner) {
                // SAFETY: as above; given back this once.
                drop(unsafe { Box::from_raw(fresh) });
                return Ok(known);
            }
            // SAFETY: made above, and nobody else has seen it.
            unsafe { (*fresh).next = newest };
            if ALL.compare_exchange(newest, fresh, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                break;
            }
        }
        watch_the_process();
        // SAFETY: made above, and never freed now that it is in the list.
        Ok(unsafe { &*fresh })
    }

    /// Whether all variables are there that were there when the module was loaded. nginx clears its workers' environment: a
    /// module that would be initialised there would not find what it was told.
    pub fn has_its_environment(&self) -> bool {
        self.environment.iter().all(|name| env::var_os(name).is_some())
    }

    /// Whether no other provider uses the module in another way.
    pub fn is_alone(&self) -> bool {
        all().filter(|other| other.module.is(&self.module)).count() == 1
    }
}

fn all() -> impl Iterator<Item = &'static Shared> {
    // SAFETY: null, or in the list and never freed.
    let pointed = |pointer: *const Shared| unsafe { pointer.as_ref() };
    std::iter::successors(pointed(ALL.load(Ordering::Acquire)), move |shared| pointed(shared.next))
}

/// Registers, once, what happens at forks (pthread_atfork(3)) and at the process's end (atexit(3)). A child inherits it. What was
/// registered last comes first: before the destructors of the module, and before libcrypto's clean-up.
fn watch_the_process() {
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    if !REGISTERED.swap(true, Ordering::AcqRel) {
        // SAFETY: functions that take nothing, in a library that is never unloaded (-z nodelete). Without memory for them
        // forks and ends are as they would be without us.
        unsafe {
            libc::pthread_atfork(Some(before), Some(after), None);
            libc::atexit(at_exit);
        }
    }
}

/// Before a fork: no other thread is in a module.
extern "C" fn before() {
    strongroom_ffi::fence((), || {
        all().filter_map(|shared| shared.process.existing()).for_each(|process| process.hold_for_fork(FORK));
    });
}

/// In the parent. The child's state is its own, and new.
extern "C" fn after() {
    strongroom_ffi::fence((), || {
        all().filter_map(|shared| shared.process.existing()).for_each(Process::release_after_fork);
    });
}

/// At the end no other thread is in a module.
extern "C" fn at_exit() {
    strongroom_ffi::fence((), || {
        ending::begin();
        let processes = all().filter_map(|shared| shared.process.existing());
        processes.for_each(|process| process.wait_for_others(ending::LEAVE));
    });
}
