//! The threads that sign for jobs. They are made on first use, in the process that uses them, and end when they are idle.

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::task::Task;
use crate::bindings::OPENSSL_thread_stop;
use crate::error::{Error, Result};
use crate::per_process::PerProcess;

/// The most signatures that wait for a thread. A server that has so many has clients that do not wait so long.
const MAX_WAITING: usize = 16_384;

/// How long a thread stays without work.
const IDLE: Duration = Duration::from_secs(10);

/// A thread's stack in bytes. Ours and SoftHSM2's way of a signature take less than 32 KiB; what a vendor's module takes is not
/// known, and memory that is not touched costs nothing.
const STACK: usize = 512 * 1024;

/// How long no thread is tried again after the system refused the first one. HAProxy allows itself none
/// (RLIMIT_NPROC is 0) unless `insecure-fork-wanted` is set.
const REFUSED: Duration = Duration::from_secs(1);

/// How long the end of the process, or of a provider, waits for signatures that are being made.
const LEAVE: Duration = Duration::from_secs(3);

/// The threads of one process, for all providers in it.
#[derive(Default)]
struct Workers {
    queue: Mutex<Queue>,
    /// Told when there is a task.
    wanted: Condvar,
    /// Told when nothing is being signed.
    quiet: Condvar,
}

#[derive(Default)]
struct Queue {
    tasks: VecDeque<Arc<Task>>,
    threads: usize,
    /// Threads that wait for a task.
    idle: usize,
    /// Threads that sign, or are about to end.
    busy: usize,
    /// When the system refused the only thread.
    refused: Option<Instant>,
    /// The process ends: nothing is begun any more.
    stopped: bool,
}

static WORKERS: PerProcess<Workers> = PerProcess::new();

/// Whether there may be a thread for a task.
pub fn are_there() -> bool {
    let workers = workers();
    let queue = workers.lock();
    !queue.stopped && (queue.threads > 0 || queue.refused.is_none_or(|at| at.elapsed() > REFUSED))
}

/// Hands a task to a thread; makes one if none is idle and there are fewer than `threads`. False if there is no thread for it.
///
/// # Errors
///
/// [`Error::Job`] if too many tasks wait.
pub fn submit(task: &Arc<Task>, threads: usize) -> Result<bool> {
    let workers = workers();
    let is_thread_needed = {
        let mut queue = workers.lock();
        if queue.stopped {
            return Ok(false);
        }
        if queue.tasks.len() >= MAX_WAITING {
            return Err(Error::Job(format!(
                "{MAX_WAITING} signatures wait for the token already; it is too slow for this load"
            )));
        }
        queue.tasks.push_back(task.clone());
        let is_thread_needed = queue.tasks.len() > queue.idle && queue.threads < threads;
        queue.threads += usize::from(is_thread_needed);
        is_thread_needed
    };
    if is_thread_needed && !workers.start() {
        let mut queue = workers.lock();
        queue.threads -= 1;
        if queue.threads == 0 {
            queue.refused = Some(Instant::now());
            // Nobody will take it.
            queue.tasks.retain(|other| !Arc::ptr_eq(other, task));
            return Ok(!task.take_back());
        }
    }
    workers.wanted.notify_one();
    Ok(true)
}

fn workers() -> &'static Workers {
    WORKERS.get(|_, _| Workers::default())
}

/// Waits until nothing is being signed in a job, at most three seconds: a provider ends, and libcrypto perhaps with it.
pub fn rest() {
    if let Some(workers) = WORKERS.existing() {
        workers.wait_until_quiet();
    }
}

impl Workers {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // What is behind the lock is consistent after every statement.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a thread.
    fn start(&'static self) -> bool {
        stop_at_exit();
        let started = without_signals(|| {
            thread::Builder::new().name("strongroom-sign".into()).stack_size(STACK).spawn(|| self.work())
        });
        // Detached: nobody can join it who may not be gone before.
        started.is_ok()
    }

    /// What a thread does.
    fn work(&self) {
        let mut queue = self.lock();
        loop {
            if queue.stopped {
                drop(queue);
                // The end of a thread that has used libcrypto frees what libcrypto keeps for it, and at the end of the
                // process libcrypto does so too, without a lock between both. The thread ends with the process.
                loop {
                    thread::park();
                }
            }
            if let Some(task) = queue.tasks.pop_front() {
                queue.busy += 1;
                drop(queue);
                task.run();
                drop(task);
                queue = self.no_longer_busy();
                continue;
            }
            queue.idle += 1;
            let waited = self.wanted.wait_timeout(queue, IDLE).unwrap_or_else(PoisonError::into_inner);
            queue = waited.0;
            queue.idle -= 1;
            if waited.1.timed_out() && queue.tasks.is_empty() && !queue.stopped {
                break;
            }
        }
        queue.threads -= 1;
        queue.busy += 1;
        drop(queue);
        // While it counts as busy, so that the process's end waits for it.
        // SAFETY: frees what libcrypto keeps for this thread, which uses libcrypto no more.
        unsafe { OPENSSL_thread_stop() };
        drop(self.no_longer_busy());
    }

    fn no_longer_busy(&self) -> MutexGuard<'_, Queue> {
        let mut queue = self.lock();
        queue.busy -= 1;
        if queue.busy == 0 {
            self.quiet.notify_all();
        }
        queue
    }

    /// Lets nobody begin any more, and waits for what is being signed. What waits is left as it is: its jobs do not run
    /// again, and the application's callbacks have no place at the end of the process.
    fn stop(&self) {
        let waiting = {
            let mut queue = self.lock();
            queue.stopped = true;
            std::mem::take(&mut queue.tasks)
        };
        drop(waiting);
        self.wait_until_quiet();
    }

    fn wait_until_quiet(&self) {
        let is_busy = |queue: &mut Queue| queue.busy > 0 || !queue.tasks.is_empty();
        drop(self.quiet.wait_timeout_while(self.lock(), LEAVE, is_busy));
    }
}

/// Registers [`at_exit`], once: a child of a fork inherits it. It runs before what was registered before: the destructors of
/// the PKCS#11 module and libcrypto's clean-up, which our threads must not meet.
fn stop_at_exit() {
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    if !REGISTERED.swap(true, Ordering::AcqRel) {
        // SAFETY: a function that takes nothing, in a library that is never unloaded (-z nodelete).
        unsafe { libc::atexit(at_exit) };
    }
}

extern "C" fn at_exit() {
    strongroom_ffi::fence((), || {
        // In a child that has not used them these are its parent's, and not found.
        if let Some(workers) = WORKERS.existing() {
            workers.stop();
        }
    });
}

/// Runs `start` with all signals blocked, which the thread that it starts inherits: the application's handlers run in the
/// application's threads. Signals that a thread raises itself, by a fault, are not blocked: the application may report them.
fn without_signals<T>(start: impl FnOnce() -> T) -> T {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the first call initialises `all`; the third initialises `before`, or fails and it is not used.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        for fault in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS] {
            libc::sigdelset(all.as_mut_ptr(), fault);
        }
        let blocked = libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) == 0;
        let result = start();
        if blocked {
            libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
        }
        result
    }
}
