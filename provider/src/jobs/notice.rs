//! How the application learns that a job can go on (ASYNC_WAIT_CTX_new(3)): a file descriptor, and a callback if it set one.

use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use strongroom_ffi::{fence, process_generation};

use super::task::Task;
use crate::bindings::*;

/// Its address names our descriptor in a wait context.
static KEY: u8 = 0;

/// How long the end of a wait context waits for a callback that is being called.
const CALL: Duration = Duration::from_secs(1);

/// The notification of one wait context, which is one connection: made once and kept to its end, because HAProxy wants
/// descriptors to stay.
pub struct Notice {
    generation: u64,
    state: Mutex<State>,
    /// Told when a call has ended.
    called: Condvar,
}

#[derive(Default)]
struct State {
    /// An eventfd(2). Readable from the end of a signature until its job has gone on: that suits poll, and epoll in both of
    /// its modes. None once the wait context is freed. It is written to and closed under the lock, so that nothing is ever
    /// written to what has its number next; and not closed when the last reference goes, since a job that was given up
    /// never lets go of its own.
    descriptor: Option<OwnedFd>,
    /// The wait context has the descriptor.
    is_announced: bool,
    /// What waits for its signature.
    task: Weak<Task>,
    /// The application's callback, for this signature.
    callback: Option<Callback>,
    /// The thread that is calling it.
    calling: Option<libc::pthread_t>,
}

#[derive(Clone, Copy)]
struct Callback {
    function: unsafe extern "C" fn(*mut c_void) -> c_int,
    argument: *mut c_void,
}

// SAFETY: the application gives the callback in order to be called from another thread.
unsafe impl Send for Callback {}

impl Notice {
    /// The wait context's notice, made if it has none yet. `None` if no descriptor can be had, or if it is one of a parent
    /// process, which both would read from.
    pub fn of(wait: NonNull<ASYNC_WAIT_CTX>) -> Option<Arc<Self>> {
        let notice = Self::existing(wait).or_else(Self::make)?;
        if notice.generation != process_generation() {
            return None;
        }
        let (mut function, mut argument) = (None, ptr::null_mut());
        // SAFETY: the context of the job that runs here; both can be written.
        let has_callback =
            unsafe { ASYNC_WAIT_CTX_get_callback(wait.as_ptr(), &mut function, &mut argument) } == 1;
        let callback = function.filter(|_| has_callback).map(|function| Callback { function, argument });
        if callback.is_some() {
            // SAFETY: as above.
            unsafe { ASYNC_WAIT_CTX_set_status(wait.as_ptr(), ASYNC_STATUS_OK as c_int) };
        }
        notice.lock().callback = callback;
        Some(notice)
    }

    fn existing(wait: NonNull<ASYNC_WAIT_CTX>) -> Option<Arc<Self>> {
        let (mut descriptor, mut data) = (-1, ptr::null_mut());
        // SAFETY: the context of the job that runs here; both can be written.
        let found = unsafe { ASYNC_WAIT_CTX_get_fd(wait.as_ptr(), key(), &mut descriptor, &mut data) } == 1;
        let notice = data.cast_const().cast::<Notice>();
        if !found || notice.is_null() {
            return None;
        }
        // SAFETY: what `announce` stored under our key, which holds a reference until the context is freed.
        unsafe {
            Arc::increment_strong_count(notice);
            Some(Arc::from_raw(notice))
        }
    }

    fn make() -> Option<Arc<Self>> {
        // SAFETY: takes no pointer; the result is checked.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if descriptor < 0 {
            return None;
        }
        Some(Arc::new(Notice {
            generation: process_generation(),
            state: Mutex::new(State {
                // SAFETY: new, open, and nobody else's.
                descriptor: Some(unsafe { OwnedFd::from_raw_fd(descriptor) }),
                ..State::default()
            }),
            called: Condvar::new(),
        }))
    }

    /// Gives the descriptor to the wait context, unless it has it. The job must be paused next: HAProxy (2.6) crashes at
    /// the connection's end over a descriptor that it did not get to see at a pause.
    pub fn announce(self: &Arc<Self>, wait: NonNull<ASYNC_WAIT_CTX>) -> bool {
        let descriptor = {
            let mut state = self.lock();
            if state.is_announced {
                return true;
            }
            state.is_announced = true;
            state.descriptor.as_ref().map_or(-1, AsRawFd::as_raw_fd)
        };
        let data = Arc::into_raw(self.clone());
        // SAFETY: the context of the job that runs here; `cleanup` gives the reference back when the context is freed.
        let is_set = unsafe {
            ASYNC_WAIT_CTX_set_wait_fd(
                wait.as_ptr(),
                key(),
                descriptor,
                data.cast_mut().cast(),
                Some(cleanup),
            )
        } == 1;
        if !is_set {
            // SAFETY: libcrypto did not take the reference.
            drop(unsafe { Arc::from_raw(data) });
        }
        is_set
    }

    /// Names the task whose end is to be announced next.
    pub fn expect(&self, task: &Arc<Task>) {
        self.lock().task = Arc::downgrade(task);
    }

    /// Makes the descriptor readable.
    pub fn signal(&self) {
        let one = 1u64.to_ne_bytes();
        if let Some(descriptor) = &self.lock().descriptor {
            // SAFETY: an eventfd of ours; eight bytes. It fails only after 2^64 - 2 signals, and is readable then too.
            unsafe { libc::write(descriptor.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        }
    }

    /// Makes the descriptor unreadable: the job goes on.
    pub fn clear(&self) {
        if self.generation != process_generation() {
            return;
        }
        let mut count = [0; 8];
        if let Some(descriptor) = &self.lock().descriptor {
            // SAFETY: an eventfd of ours, which does not block; eight bytes.
            unsafe { libc::read(descriptor.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
        }
    }

    /// Calls the application's callback, if it set one and the wait context is still there.
    pub fn call_back(&self) {
        let callback = {
            let mut state = self.lock();
            let Some(callback) = state.callback.take() else { return };
            state.calling = Some(this_thread());
            callback
        };
        // Not under the lock: the callback may end the connection, and with it the wait context.
        // SAFETY: the application's function and argument, valid until the wait context is freed; that waits for us.
        unsafe { (callback.function)(callback.argument) };
        self.lock().calling = None;
        self.called.notify_all();
    }

    /// The wait context is freed: its job will not run again.
    fn gone(&self) {
        if self.generation != process_generation() {
            // A parent's, whose threads may have held the lock.
            return;
        }
        let task = {
            let mut state = self.lock();
            state.descriptor = None;
            state.callback = None;
            std::mem::take(&mut state.task)
        };
        if let Some(task) = task.upgrade() {
            task.cancel();
        }
        // What the callback uses is freed next. If it is the callback that ends the connection, it knows.
        let another = |state: &mut State| state.calling.is_some_and(|thread| thread != this_thread());
        drop(self.called.wait_timeout_while(self.lock(), CALL, another));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// libcrypto calls this when a wait context is freed.
unsafe extern "C" fn cleanup(
    _wait: *mut ASYNC_WAIT_CTX,
    _key: *const c_void,
    _descriptor: c_int,
    data: *mut c_void,
) {
    fence((), || {
        if !data.is_null() {
            // SAFETY: the reference that `announce` stored, given back this once.
            unsafe { Arc::from_raw(data.cast_const().cast::<Notice>()) }.gone();
        }
    });
}

fn key() -> *const c_void {
    ptr::from_ref(&KEY).cast()
}

fn this_thread() -> libc::pthread_t {
    // SAFETY: takes nothing, and never fails.
    unsafe { libc::pthread_self() }
}
