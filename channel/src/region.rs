//! The daemon's side: a client's region, and the state that all clients read.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use rustix::event::{EventfdFlags, eventfd};
use rustix::thread::futex;

use crate::layout::{self, MAX_PAYLOAD, MAX_TEXT, SLOTS, slot, slot_at};
use crate::memory::{self, Access, Mapping};

/// A client's region.
#[derive(Debug)]
pub struct Region {
    memory: Mapping,
    bell: OwnedFd,
}

/// A request's fields, copied once: what the client changes afterwards changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incoming {
    /// One of [`layout`]'s operations, or nonsense.
    pub operation: u32,
    /// The partition's number.
    pub partition: u32,
    /// The .proto's Mechanism, or nonsense.
    pub mechanism: u32,
    /// The key's identity.
    pub key: [u8; 16],
    /// See [`layout`]; unchecked.
    pub numbers: [u32; 3],
    /// The payload's length in bytes, at most [`MAX_PAYLOAD`].
    pub length: usize,
}

impl Region {
    /// Makes a region. The descriptors are for the client: the region's memory and the bell.
    ///
    /// # Errors
    ///
    /// The system's: no descriptors or no memory.
    pub fn create() -> io::Result<(Self, OwnedFd, OwnedFd)> {
        let file = memory::create("strongroom-channel", layout::REGION)?;
        let memory = Mapping::of(&file, layout::REGION, Access::ReadWrite)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let theirs = bell.try_clone()?;
        Ok((Region { memory, bell }, file, theirs))
    }

    /// The bell, to be watched (edge-triggered: it is never read).
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Whether there are new requests.
    pub fn has_posted(&self) -> bool {
        (0..layout::POSTED_WORDS).any(|number| {
            let posted = self.memory.word(layout::posted_at(number));
            posted.is_some_and(|posted| posted.load(Ordering::SeqCst) != 0)
        })
    }

    /// Takes the new requests: one bit for each slot that has one, the first slot's lowest.
    pub fn take_posted(&self) -> u128 {
        (0..layout::POSTED_WORDS).rev().fold(0, |taken, number| {
            let posted = self.memory.word(layout::posted_at(number)).map_or(0, |posted| {
                // Looked at far more often than written: the line stays shared.
                match posted.load(Ordering::Relaxed) {
                    0 => 0,
                    _ => posted.swap(0, Ordering::SeqCst),
                }
            });
            taken << 64 | u128::from(posted)
        })
    }

    /// Tells the client whether the daemon looks at its posts while it is awake.
    pub fn watch(&self, watched: bool) {
        if let Some(place) = self.memory.number(layout::WATCHED) {
            place.store(watched.into(), Ordering::SeqCst);
        }
    }

    /// Copies a request's fields; `None` if its length is nonsense.
    pub fn read(&self, number: usize) -> Option<Incoming> {
        let mut fields = [0u8; layout::PAYLOAD];
        if number >= SLOTS || !self.memory.copy_out(slot_at(number), &mut fields) {
            return None;
        }
        let at = |offset: usize| -> Option<u32> {
            Some(u32::from_le_bytes(*fields.get(offset..)?.first_chunk::<4>()?))
        };
        let length = at(slot::LENGTH)? as usize;
        Some(Incoming {
            operation: at(slot::OPERATION)?,
            partition: at(slot::PARTITION)?,
            mechanism: at(slot::MECHANISM)?,
            key: *fields.get(slot::KEY..)?.first_chunk()?,
            numbers: [at(slot::NUMBERS)?, at(slot::NUMBERS + 4)?, at(slot::NUMBERS + 8)?],
            length: Some(length).filter(|length| *length <= MAX_PAYLOAD)?,
        })
    }

    /// Copies a request's payload into `into`, as long as it is; false if there is no such slot.
    #[must_use]
    pub fn read_payload(&self, number: usize, into: &mut [u8]) -> bool {
        number < SLOTS
            && into.len() <= MAX_PAYLOAD
            && self.memory.copy_out(slot_at(number) + layout::PAYLOAD, into)
    }

    /// Answers with a payload of at most [`MAX_PAYLOAD`] bytes and wakes the client if it sleeps.
    pub fn reply(&self, number: usize, payload: &[u8]) {
        self.answer(number, 0, payload.get(..MAX_PAYLOAD).unwrap_or(payload));
    }

    /// Answers with an `ErrorCode` (not 0) and a text, of which at most [`MAX_TEXT`] bytes are kept.
    pub fn refuse(&self, number: usize, code: u32, text: &str) {
        let end = text.floor_char_boundary(MAX_TEXT);
        self.answer(number, code, text.get(..end).unwrap_or_default().as_bytes());
    }

    fn answer(&self, number: usize, status: u32, payload: &[u8]) {
        let start = slot_at(number);
        let (Some(state), Some(status_place), Some(length)) = (
            self.memory.number(start + slot::STATE),
            self.memory.number(start + slot::REPLY_STATUS),
            self.memory.number(start + slot::REPLY_LENGTH),
        ) else {
            return;
        };
        if number >= SLOTS || !self.memory.copy_in(start + layout::PAYLOAD, payload) {
            return;
        }
        status_place.store(status, Ordering::Relaxed);
        length.store(payload.len() as u32, Ordering::Relaxed);
        if state.swap(layout::STATE_DONE, Ordering::AcqRel) == layout::STATE_SLEEPING {
            // Not private: the waiter is another process.
            let _ = futex::wake(state, futex::Flags::empty(), 1);
        }
    }
}

/// Whether the daemon is awake: a page that clients read.
#[derive(Debug)]
pub struct State {
    memory: Mapping,
    file: OwnedFd,
}

impl State {
    /// Makes the page.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn create() -> io::Result<Self> {
        let file = memory::create("strongroom-state", layout::STATE)?;
        let memory = Mapping::of(&file, layout::STATE, Access::ReadWrite)?;
        memory::seal_writing(&file)?;
        Ok(State { memory, file })
    }

    /// A descriptor for a client, which cannot write through it.
    ///
    /// # Errors
    ///
    /// The system's: no descriptor left.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.file.try_clone()
    }

    /// Says whether the daemon is awake.
    pub fn set_awake(&self, awake: bool) {
        if let Some(place) = self.memory.number(layout::AWAKE) {
            place.store(awake.into(), Ordering::SeqCst);
        }
    }

    /// What was said last.
    pub fn is_awake(&self) -> bool {
        self.memory.number(layout::AWAKE).is_some_and(|place| place.load(Ordering::SeqCst) != 0)
    }
}
