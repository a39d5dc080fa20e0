//! One signature on its way from a job to a thread of ours and back.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use strongroom_ffi::{fence, process_generation};
use zeroize::Zeroizing;

use super::notice::Notice;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::token::Operation;

/// What is to be done: copies, since the job's own memory may be gone when it is done.
pub struct Work {
    key: Arc<Key>,
    operation: Operation,
    data: Box<[u8]>,
    /// The largest result that the caller takes, in bytes.
    room: usize,
}

/// What came of it. A result may be a secret.
pub type Outcome = Result<Zeroizing<Vec<u8>>>;

impl Work {
    /// Copies what is to be done.
    pub fn new(key: &Arc<Key>, operation: &Operation, data: &[u8], room: usize) -> Self {
        Work { key: key.clone(), operation: operation.clone(), data: data.into(), room }
    }

    /// Does it.
    fn operate(&self) -> Outcome {
        let mut out = Zeroizing::new(vec![0; self.room]);
        let provider = &self.key.provider;
        let private = self.key.private()?;
        let size =
            provider.tokens.operate(&provider.openssl, private, &self.operation, &self.data, &mut out)?;
        out.truncate(size);
        Ok(out)
    }
}

/// A signature that a job waits for. The job and the thread that signs share it by its reference count: either may be gone
/// first.
pub struct Task {
    /// The process whose threads it waits for.
    generation: u64,
    state: Mutex<State>,
    /// Told when the state is `Done`.
    done: Condvar,
    notice: Option<Arc<Notice>>,
}

enum State {
    Queued(Work),
    Running,
    Done(Outcome),
    /// The job has the result, or has taken the work back.
    Over,
}

impl Task {
    /// A task whose end `notice` is to announce.
    pub fn new(work: Work, notice: Option<Arc<Notice>>) -> Arc<Self> {
        let task = Arc::new(Task {
            generation: process_generation(),
            state: Mutex::new(State::Queued(work)),
            done: Condvar::new(),
            notice,
        });
        if let Some(notice) = &task.notice {
            notice.expect(&task);
        }
        task
    }

    /// Whether this is the process that it was made in. In another one its lock may be held by a thread that is not there.
    pub fn is_of_this_process(&self) -> bool {
        self.generation == process_generation()
    }

    /// Signs and announces it; for a thread of ours. Nothing if the work was taken back or the job is gone.
    pub fn run(&self) {
        let work = match &mut *self.lock() {
            state @ State::Queued(_) => match std::mem::replace(state, State::Running) {
                State::Queued(work) => work,
                _ => return,
            },
            _ => return,
        };
        let signed = fence(Err(Error::Job("it failed inside the provider".into())), || work.operate());
        // The key goes before the job goes on: the application may end everything then.
        drop(work);
        self.end(signed);
    }

    /// Gives it up, if nobody has begun with it: its job will not run again, and nobody is told.
    pub fn cancel(&self) {
        let before = {
            let mut state = self.lock();
            if !matches!(*state, State::Queued(_)) {
                return;
            }
            std::mem::replace(&mut *state, State::Done(Err(Error::Job("it was given up".into()))))
        };
        // The key's end is not for the lock.
        drop(before);
        self.done.notify_all();
    }

    fn end(&self, signed: Outcome) {
        let before = {
            let mut state = self.lock();
            let before = std::mem::replace(&mut *state, State::Done(signed));
            // Under the lock: who finds the result finds also the descriptor readable, and can clear it for good.
            if let Some(notice) = &self.notice {
                notice.signal();
            }
            before
        };
        drop(before);
        self.done.notify_all();
        if let Some(notice) = &self.notice {
            notice.call_back();
        }
    }

    /// Takes the result, if it is there.
    pub fn take(&self) -> Option<Outcome> {
        match &mut *self.lock() {
            state @ State::Done(_) => match std::mem::replace(state, State::Over) {
                State::Done(signed) => Some(signed),
                _ => None,
            },
            _ => None,
        }
    }

    /// Takes the work back, if nobody has begun with it.
    pub fn take_back(&self) -> bool {
        let mut state = self.lock();
        let is_queued = matches!(*state, State::Queued(_));
        if is_queued {
            *state = State::Over;
        }
        is_queued
    }

    /// Waits for the result, as long as the module takes: as a signature without a job would.
    pub fn wait(&self) -> Option<Outcome> {
        let waiting = |state: &mut State| matches!(state, State::Queued(_) | State::Running);
        drop(self.done.wait_while(self.lock(), waiting).unwrap_or_else(PoisonError::into_inner));
        self.take()
    }

    /// Waits until the result is there, at most for `limit`.
    pub fn wait_for(&self, limit: Duration) {
        let waiting = |state: &mut State| matches!(state, State::Queued(_) | State::Running);
        drop(self.done.wait_timeout_while(self.lock(), limit, waiting));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
