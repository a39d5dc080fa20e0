//! What a process keeps between two calls of the application.
//!
//! A process is known by its generation, which counts forks: an id may come twice. After a fork the child finds its parent's state, sees that it is another's,
//! and is not initialised; its `C_Initialize` starts a new state and abandons the old one: none of its locks
//! is taken (a thread of the parent may have held one at the fork), nothing of it is dropped, only the
//! child's copies of its sockets are closed.

use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::Instant;

use cryptoki_sys::*;
use strongroom_ffi::process_generation;
use strongroom_protocol::node::{Address, Node};
use strongroom_protocol::settings::{self, Settings};
use strongroom_protocol::tls::Credentials;

use crate::api::events::Events;
use crate::call::Outage;
use crate::error::{Outcome, lock, write};
use crate::handles::Handles;
use crate::line::Door;
use crate::nodes::Nodes;
use crate::pool::ANONYMOUS;
use crate::session::Sessions;
use crate::session_objects::SessionObjects;
use crate::token::Tokens;

/// The state of one process. Never freed: other threads may be inside while `C_Finalize` runs.
#[derive(Debug)]
pub struct Process {
    id: u64,
    since: Instant,
    initialized: AtomicBool,
    /// Held while the process is initialised or finalised.
    lifecycle: Mutex<()>,
    /// How this process calls itself in the daemon's log.
    pub client: String,
    /// The nodes, with the connections to them.
    pub nodes: Nodes,
    /// The channel of the process's user id.
    pub door: Door,
    /// Since when the daemon is away.
    pub outage: Outage,
    /// Tokens that were seen, by partition number.
    pub tokens: Tokens,
    /// Open sessions.
    pub sessions: Sessions,
    /// Object handles that were given out.
    pub handles: Handles,
    /// Session objects.
    pub session_objects: SessionObjects,
    /// What happened in the slots.
    pub events: Events,
}

static STATE: AtomicPtr<Process> = AtomicPtr::new(std::ptr::null_mut());

/// This process's state.
///
/// # Errors
///
/// `CKR_CRYPTOKI_NOT_INITIALIZED` before `C_Initialize`, after `C_Finalize`, and in a child that has not called
/// `C_Initialize` itself.
pub fn current() -> Outcome<&'static Process> {
    match latest() {
        Some(process)
            if process.id == process_generation() && process.initialized.load(Ordering::Acquire) =>
        {
            Ok(process)
        }
        _ => Err(CKR_CRYPTOKI_NOT_INITIALIZED),
    }
}

/// `C_Initialize`.
///
/// # Errors
///
/// `CKR_CRYPTOKI_ALREADY_INITIALIZED`.
pub fn initialize() -> Outcome {
    let process = of_this_process();
    let _lifecycle = lock(&process.lifecycle);
    match process.initialized.compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {
            process.nodes.members().iter().for_each(|member| member.pool.reopen());
            Ok(())
        }
        Err(_) => Err(CKR_CRYPTOKI_ALREADY_INITIALIZED),
    }
}

/// `C_Finalize`.
///
/// # Errors
///
/// `CKR_CRYPTOKI_NOT_INITIALIZED`.
pub fn finalize() -> Outcome {
    let process = current()?;
    let _lifecycle = lock(&process.lifecycle);
    if process.initialized.compare_exchange(true, false, Ordering::AcqRel, Ordering::Acquire).is_err() {
        return Err(CKR_CRYPTOKI_NOT_INITIALIZED);
    }
    process.events.end();
    process.sessions.close_all(None);
    for token in process.remembered_tokens() {
        process.log_out(&token);
        token.login.end(ANONYMOUS);
    }
    drop(process.door.close());
    process.handles.clear();
    process.session_objects.clear();
    write(&process.tokens).clear();
    process.nodes.members().iter().for_each(|member| member.pool.close());
    process.nodes.end_trials();
    Ok(())
}

/// What the module is told: looked up at the first call, in the process in which the library was loaded, and the
/// same in all its children: nginx clears its workers' environment, and they may not read what root may. A program that
/// was started with more rights than its user (set-uid) uses the system's: the user's environment must not choose who
/// gets its PIN.
#[derive(Debug, Default)]
struct Told {
    nodes: Vec<Address>,
    credentials: Option<Credentials>,
}

impl Told {
    /// What is wrong with the settings shows as nodes that are not there; `strongroom doctor` says why.
    fn find() -> Self {
        // SAFETY: reads a value that the kernel gave the process.
        let settings = match unsafe { libc::getauxval(libc::AT_SECURE) } {
            0 => {
                let is_off = std::env::var_os("STRONGROOM_CHANNEL").is_some_and(|value| value == "off");
                CHANNEL_OFF.store(is_off, Ordering::Relaxed);
                Settings::of_user(rustix::process::getuid().as_raw())
            }
            _ => Settings::of_system(),
        };
        let Ok(settings) = settings else { return Told::default() };
        match settings.credentials() {
            Ok(credentials) => Told { nodes: settings.nodes, credentials },
            // Those of this machine need none.
            Err(_) => {
                let mut nodes = settings.nodes;
                nodes.retain(|node| matches!(node, Address::Unix(_)));
                Told { nodes, credentials: None }
            }
        }
    }

    /// The nodes with a TLS configuration that no other process has: a session is its own, and so is a lock.
    fn nodes(&self) -> Vec<Node> {
        settings::nodes(&self.nodes, self.credentials.as_ref()).unwrap_or_default()
    }
}

/// Finds [`Told`], if that has not been done.
pub fn settle() {
    let _ = told();
}

fn told() -> &'static Told {
    // Not a OnceLock: a fork while another thread initialises it would leave it locked in the child.
    static TOLD: AtomicPtr<Told> = AtomicPtr::new(std::ptr::null_mut());
    let mut told = TOLD.load(Ordering::Acquire);
    if told.is_null() {
        let found = Box::into_raw(Box::new(Told::find()));
        told = match TOLD.compare_exchange(std::ptr::null_mut(), found, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => found,
            Err(other) => {
                // SAFETY: from Box::into_raw above, and handed to nobody.
                drop(unsafe { Box::from_raw(found) });
                other
            }
        };
    }
    // SAFETY: not null; from Box::into_raw and never freed once it is stored.
    unsafe { &*told }
}

/// Whether requests may go through memory shared with the daemon: not if `STRONGROOM_CHANNEL` is `off`, which is
/// looked up as [`Told`] is.
pub fn uses_channel() -> bool {
    !CHANNEL_OFF.load(Ordering::Relaxed)
}

static CHANNEL_OFF: AtomicBool = AtomicBool::new(false);

fn latest() -> Option<&'static Process> {
    // SAFETY: null or from Box::into_raw, and never freed once it is stored.
    unsafe { STATE.load(Ordering::Acquire).as_ref() }
}

fn of_this_process() -> &'static Process {
    loop {
        let latest = latest();
        if let Some(process) = latest
            && process.id == process_generation()
        {
            return process;
        }
        let new = Box::into_raw(Box::new(Process::after(latest)));
        let old = latest.map_or(std::ptr::null_mut(), |process| std::ptr::from_ref(process).cast_mut());
        if STATE.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            if let Some(parent) = latest {
                parent.nodes.members().iter().for_each(|member| member.pool.close_inherited());
            }
            continue;
        }
        // SAFETY: from Box::into_raw above, and handed to nobody. Another thread of this process was first.
        drop(unsafe { Box::from_raw(new) });
    }
}

impl Process {
    /// Between `C_Initialize` and `C_Finalize`.
    pub fn is_initialized(&self) -> bool {
        self.initialized.load(Ordering::Acquire)
    }

    /// Milliseconds since this state was made.
    pub fn age(&self) -> u64 {
        self.since.elapsed().as_millis() as u64
    }

    /// The state of a process that was forked by the one whose state is `parent`. Handles go on where the
    /// parent's ended, so that one from before the fork is invalid rather than something else.
    fn after(parent: Option<&Process>) -> Self {
        Process {
            id: process_generation(),
            since: Instant::now(),
            initialized: AtomicBool::new(false),
            lifecycle: Mutex::default(),
            client: client_name(),
            nodes: Nodes::new(told().nodes(), parent.map(|parent| &parent.nodes)),
            door: Door::default(),
            outage: parent.map_or_else(Outage::default, |parent| parent.outage.inherit()),
            tokens: RwLock::default(),
            sessions: Sessions::after(parent.map(|parent| &parent.sessions)),
            handles: Handles::after(parent.map(|parent| &parent.handles)),
            session_objects: SessionObjects::after(parent.map(|parent| &parent.session_objects)),
            events: Events::default(),
        }
    }
}

/// As in `pkcs11 nginx[1234]`.
fn client_name() -> String {
    let program = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
    format!("pkcs11 {}[{}]", program.trim_end(), std::process::id())
}
