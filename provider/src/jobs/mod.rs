//! Signatures and other private-key operations inside OpenSSL's ASYNC jobs (ASYNC_start_job(3)): `openssl s_server -async`, HAProxy's `ssl-mode-async`.
//!
//! In a job the signature is handed to a thread of ours ([`workers`]), the job is paused, and the application goes on with its
//! other connections until the job's file descriptor, or its callback ([`notice`]), says that the signature is there. So one
//! thread of the application keeps many signatures in flight, whatever the PKCS#11 module.
//!
//! Two things differ from ordinary code. A job has a stack of 32 KiB without a guard page, so what runs in it is shallow: the
//! module is called on our thread's stack. And a job that the application gives up never runs again: its frames are not
//! unwound and its stack is freed or used anew. So no lock is held across a pause, and our threads touch nothing of a job
//! but a [`Task`], which both share by its reference count.

mod notice;
mod task;
mod workers;

pub use workers::rest;

use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use crate::bindings::{ASYNC_WAIT_CTX, ASYNC_get_current_job, ASYNC_get_wait_ctx, ASYNC_pause_job};
use crate::error::Result;
use crate::key::Key;
use crate::token::Operation;
use notice::Notice;
use task::{Outcome, Task, Work};

/// How often a job may be resumed before its signature is there until each time costs the application [`HOLD`]. An
/// application that polls its jobs, or that has pauses blocked (ASYNC_block_pause(3)), would take the processor from
/// those who sign.
const EARLY: u32 = 16;
const HOLD: Duration = Duration::from_millis(1);

/// The job that the calling code runs in.
pub struct Job {
    wait: NonNull<ASYNC_WAIT_CTX>,
}

impl Job {
    /// The current job; `None` outside of one, and in one that has nothing by which the application could wait.
    pub fn current() -> Option<Self> {
        // SAFETY: takes nothing; null outside of jobs.
        let job = NonNull::new(unsafe { ASYNC_get_current_job() })?;
        // SAFETY: the job that runs here.
        let wait = NonNull::new(unsafe { ASYNC_get_wait_ctx(job.as_ptr()) })?;
        Some(Job { wait })
    }

    /// Has `operation` done by one of at most `threads` threads, while the job is paused. Without a descriptor (EMFILE) the
    /// caller's thread waits for it. `None` if it was not done and the caller has to do it here: no thread
    /// can be had, or the process has forked in between.
    ///
    /// # Errors
    ///
    /// What [`Tokens::operate`](crate::token::Tokens::operate) says, and [`Error::Job`](crate::error::Error::Job) when too many
    /// operations wait already.
    fn operate(
        self,
        threads: usize,
        key: &Arc<Key>,
        operation: &Operation,
        data: &[u8],
        out: &mut [u8],
    ) -> Result<Option<usize>> {
        if !workers::are_there() {
            return Ok(None);
        }
        let notice = Notice::of(self.wait);
        let task = Task::new(Work::new(key, operation, data, out.len()), notice.clone());
        if !workers::submit(&task, threads)? {
            return Ok(None);
        }
        let made = match &notice {
            Some(notice) if notice.announce(self.wait) => {
                let made = pause(&task);
                notice.clear();
                made
            }
            _ => task.wait(),
        };
        let Some(made) = made.transpose()? else { return Ok(None) };
        for (to, from) in out.iter_mut().zip(made.iter()) {
            *to = *from;
        }
        Ok(Some(made.len()))
    }
}

/// Does `operation` with a private key on `data`: in a job by a thread of ours, where there is one to be had, and here
/// otherwise. Returns the size of the result in `out`, in bytes.
///
/// # Errors
///
/// What [`Tokens::operate`](crate::token::Tokens::operate) says, and [`Error::Job`](crate::error::Error::Job).
pub fn operate(key: &Arc<Key>, operation: &Operation, data: &[u8], out: &mut [u8]) -> Result<usize> {
    let private = key.private()?;
    let provider = &key.provider;
    if let Some(job) = Job::current() {
        let threads = provider.tokens.threads()?;
        if threads > 0
            && let Some(size) = job.operate(threads, key, operation, data, out)?
        {
            return Ok(size);
        }
    }
    provider.tokens.operate(&provider.openssl, private, operation, data, out)
}

/// Pauses the job, once at least, until the signature is there, however often it is resumed before.
// A job may go on in another thread than it was paused in. Not inlined, so that no address of a thread's own is kept
// across the pause.
#[inline(never)]
fn pause(task: &Task) -> Option<Outcome> {
    let mut resumed: u32 = 0;
    loop {
        // SAFETY: takes nothing. No lock is held here, and nothing on this stack is known to another thread.
        let is_resumed = unsafe { ASYNC_pause_job() } == 1;
        if !task.is_of_this_process() {
            return None;
        }
        if let Some(made) = task.take() {
            return Some(made);
        }
        if !is_resumed {
            // It cannot be paused: what nobody has begun yet is made here, the rest is waited for.
            return if task.take_back() { None } else { task.wait() };
        }
        resumed = resumed.saturating_add(1);
        if resumed > EARLY {
            task.wait_for(HOLD);
        }
    }
}
