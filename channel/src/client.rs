//! The client's side: no thread, no allocation and no lock on the way of a request.

use std::cell::UnsafeCell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::thread::futex::{self, Timespec};

use crate::layout::{self, MAX_PAYLOAD, MAX_TEXT, SLOTS, slot, slot_at};
use crate::memory::{Access, Mapping};
use crate::yields::Yields;

/// In [`Client::holders`]: no further exchange begins.
const CLOSED: u32 = 1 << 31;

/// How long a client sleeps before it asks whether the daemon is still there.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// What comes with the reply to OpenChannel.
#[derive(Debug)]
pub struct Descriptors {
    /// The shared memory.
    pub region: OwnedFd,
    /// Wakes the daemon.
    pub bell: OwnedFd,
    /// Whether the daemon is awake.
    pub state: OwnedFd,
}

/// A request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What is asked for.
    pub operation: Operation<'a>,
    /// The partition's number.
    pub partition: u32,
    /// The key's identity (`ObjectInfo.object`).
    pub key: [u8; 16],
    /// What is signed, encrypted or decrypted; ciphertexts end with their tag.
    pub data: &'a [u8],
}

/// What is asked for. Numbers are those of strongroom.proto's enums.
#[derive(Debug, Clone, Copy)]
pub enum Operation<'a> {
    /// A signature.
    Sign {
        /// `Mechanism`.
        mechanism: u32,
        /// `PssParameters.hash`, or 0.
        hash: u32,
        /// `PssParameters.mgf1_hash`, or 0.
        mgf1_hash: u32,
        /// `PssParameters.salt_length`, in bytes.
        salt_length: u32,
    },
    /// AES-GCM encryption; the reply is the ciphertext and the tag.
    Encrypt {
        /// The initialisation vector.
        iv: &'a [u8],
        /// Authenticated, not encrypted.
        aad: &'a [u8],
        /// The tag's length in bits.
        tag_bits: u32,
    },
    /// AES-GCM decryption of a ciphertext and its tag.
    Decrypt {
        /// The initialisation vector.
        iv: &'a [u8],
        /// Authenticated, not encrypted.
        aad: &'a [u8],
        /// The tag's length in bits.
        tag_bits: u32,
    },
}

/// Why an exchange did not succeed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// All slots are in use. Nothing was sent: the socket serves.
    #[error("{SLOTS} exchanges are under way on this channel")]
    Full,
    /// The request does not fit into a slot. Nothing was sent: the socket serves.
    #[error("the request is larger than a slot")]
    TooLarge,
    /// The channel was closed. Nothing was sent.
    #[error("the channel is closed")]
    Closed,
    /// The caller gave the wait up. The request may have been carried out.
    #[error("the daemon did not answer")]
    Abandoned,
    /// The reply is not one that the daemon writes, or larger than the caller expects.
    #[error("the reply does not follow the channel's layout")]
    Malformed,
    /// The daemon refused.
    #[error("{message}")]
    Refused {
        /// `ErrorCode`.
        code: u32,
        /// For people.
        message: String,
    },
}

/// A channel, used by all threads of the process that opened it, and by no other process: a child does not have the
/// memory.
#[derive(Debug)]
pub struct Client {
    /// Exchanges under way, and [`CLOSED`].
    holders: AtomicU32,
    /// The slots in use: bit n of word m is slot 64 m + n.
    taken: [AtomicU64; layout::POSTED_WORDS],
    /// Dropped by whoever makes `holders` equal [`CLOSED`], which happens once.
    parts: UnsafeCell<Option<Parts>>,
    bell: RawFd,
    yields: Yields,
}

// SAFETY: `parts` is read only by those whom `holders` counts, and taken out once, when it counts nobody and counts no
// more (see release and close).
unsafe impl Sync for Client {}
// SAFETY: nothing in it belongs to a thread.
unsafe impl Send for Client {}

#[derive(Debug)]
struct Parts {
    region: Mapping,
    state: Mapping,
    bell: OwnedFd,
}

/// A slot in use. As long as there is one, the parts are there.
struct Held<'a> {
    client: &'a Client,
    parts: &'a Parts,
    number: usize,
}

/// The bell of a channel, by number, for those who close what a child has inherited.
pub type Bell = RawFd;

impl Client {
    /// Maps the memory. The two memory descriptors are closed at once.
    ///
    /// # Errors
    ///
    /// The system's, and `InvalidData` if the memory is not what this release shares.
    pub fn new(descriptors: Descriptors) -> io::Result<Self> {
        let Descriptors { region, bell, state } = descriptors;
        let parts = Parts {
            region: Mapping::of(&region, layout::REGION, Access::ReadWrite)?,
            state: Mapping::of(&state, layout::STATE, Access::ReadOnly)?,
            bell,
        };
        let bell = parts.bell.as_raw_fd();
        Ok(Client {
            holders: AtomicU32::new(0),
            taken: Default::default(),
            parts: UnsafeCell::new(Some(parts)),
            bell,
            yields: Yields::default(),
        })
    }

    /// The number of the bell's descriptor, close-on-exec; closed with the channel.
    pub fn bell(&self) -> Bell {
        self.bell
    }

    /// Sends a request and waits for the reply, which is written to `reply`; returns its length in bytes. About
    /// every 50 ms of waiting, and after each signal, `worth_waiting` is asked, and ends it by saying no.
    ///
    /// # Errors
    ///
    /// [`ChannelError`]. After [`ChannelError::Abandoned`] and [`ChannelError::Malformed`] the channel is closed:
    /// the daemon may yet write to the slot.
    pub fn exchange(
        &self,
        request: &Request<'_>,
        reply: &mut [u8],
        worth_waiting: &mut dyn FnMut() -> bool,
    ) -> Result<usize, ChannelError> {
        let held = self.hold()?;
        let rang = held.post(request)?;
        let answered = held.wait(rang, worth_waiting).and_then(|()| held.take(reply));
        held.wipe(request);
        if let Err(ChannelError::Abandoned | ChannelError::Malformed) = answered {
            self.close();
        }
        answered
    }

    /// Begins no further exchange, and gives the memory and the bell back when the last one is over.
    pub fn close(&self) {
        if self.holders.fetch_or(CLOSED, Ordering::AcqRel) == 0 {
            self.give_back();
        }
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.holders.load(Ordering::Acquire) & CLOSED != 0
    }

    fn hold(&self) -> Result<Held<'_>, ChannelError> {
        let entered = self.holders.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |holders| {
            (holders & CLOSED == 0).then_some(holders + 1)
        });
        if entered.is_err() {
            return Err(ChannelError::Closed);
        }
        let Some(number) = self.take_slot() else {
            self.leave();
            return Err(ChannelError::Full);
        };
        // SAFETY: counted in `holders` before the channel was closed: the parts stay until we leave.
        match unsafe { &*self.parts.get() } {
            Some(parts) => Ok(Held { client: self, parts, number }),
            // Cannot happen: they are taken out only after CLOSED was set and the last one has left.
            None => Err(ChannelError::Closed),
        }
    }

    fn take_slot(&self) -> Option<usize> {
        self.taken.iter().zip(0..).find_map(|(word, place)| {
            let before = word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |taken| {
                (taken != u64::MAX).then(|| taken | 1 << taken.trailing_ones())
            });
            Some(64 * place + before.ok()?.trailing_ones() as usize)
        })
    }

    fn release(&self, number: usize) {
        // After the end a slot is not used again, also not by those who were counted before it: the daemon may yet
        // write the reply to an exchange that was abandoned.
        if !self.is_closed()
            && let Some(word) = self.taken.get(number / 64)
        {
            word.fetch_and(!(1 << (number % 64)), Ordering::AcqRel);
        }
        self.leave();
    }

    fn leave(&self) {
        if self.holders.fetch_sub(1, Ordering::AcqRel) == CLOSED + 1 {
            self.give_back();
        }
    }

    /// Called once: by close if no exchange is under way then, else by the last one that leaves.
    fn give_back(&self) {
        // SAFETY: closed and nobody counted: nobody has a reference to the parts, nor will.
        drop(unsafe { (*self.parts.get()).take() });
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.client.release(self.number);
    }
}

impl Held<'_> {
    fn number(&self, offset: usize) -> Result<&AtomicU32, ChannelError> {
        self.parts.region.number(slot_at(self.number) + offset).ok_or(ChannelError::Malformed)
    }

    /// Whether the daemon had to be woken.
    fn post(&self, request: &Request<'_>) -> Result<bool, ChannelError> {
        let (operation, mechanism, numbers, iv, aad): (_, _, _, &[u8], &[u8]) = match request.operation {
            Operation::Sign { mechanism, hash, mgf1_hash, salt_length } => {
                (layout::SIGN, mechanism, [hash, mgf1_hash, salt_length], &[], &[])
            }
            Operation::Encrypt { iv, aad, tag_bits } => {
                (layout::ENCRYPT, 0, [iv.len() as u32, aad.len() as u32, tag_bits], iv, aad)
            }
            Operation::Decrypt { iv, aad, tag_bits } => {
                (layout::DECRYPT, 0, [iv.len() as u32, aad.len() as u32, tag_bits], iv, aad)
            }
        };
        let length = iv.len().saturating_add(aad.len()).saturating_add(request.data.len());
        // A cipher's reply is longer than the request by the tag.
        if length > MAX_PAYLOAD - 16 {
            return Err(ChannelError::TooLarge);
        }
        let mut fields = [0u8; layout::PAYLOAD];
        let mut put = |at: usize, value: &[u8]| {
            fields.iter_mut().skip(at).zip(value).for_each(|(to, from)| *to = *from);
        };
        put(slot::OPERATION, &operation.to_le_bytes());
        put(slot::PARTITION, &request.partition.to_le_bytes());
        put(slot::MECHANISM, &mechanism.to_le_bytes());
        put(slot::KEY, &request.key);
        for (place, number) in numbers.iter().enumerate() {
            put(slot::NUMBERS + 4 * place, &number.to_le_bytes());
        }
        put(slot::LENGTH, &(length as u32).to_le_bytes());
        put(slot::STATE, &layout::STATE_POSTED.to_le_bytes());
        let Parts { region, state, bell } = self.parts;
        let start = slot_at(self.number);
        let written = region.copy_in_all(start + layout::PAYLOAD, &[iv, aad, request.data])
            && region.copy_in(start, &fields);
        let (Some(posted), Some(watched), Some(awake)) = (
            region.word(layout::posted_at(self.number / 64)),
            region.number(layout::WATCHED),
            state.number(layout::AWAKE),
        ) else {
            return Err(ChannelError::Malformed);
        };
        if !written {
            return Err(ChannelError::Malformed);
        }
        posted.fetch_or(1 << (self.number % 64), Ordering::SeqCst);
        let sleeps = watched.load(Ordering::SeqCst) == 0 || awake.load(Ordering::SeqCst) == 0;
        if sleeps {
            // It fails only when nobody has listened for 2^64 rings; then somebody will look at the connection.
            let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
        }
        Ok(sleeps)
    }

    fn wait(&self, rang: bool, worth_waiting: &mut dyn FnMut() -> bool) -> Result<(), ChannelError> {
        let state = self.number(slot::STATE)?;
        // It takes a while to wake, so that there is nothing to wait for awake.
        if !rang && self.client.yields.until(|| state.load(Ordering::Acquire) == layout::STATE_DONE) {
            return Ok(());
        }
        let slept = state.compare_exchange(
            layout::STATE_POSTED,
            layout::STATE_SLEEPING,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        if slept.is_err() {
            return Ok(());
        }
        loop {
            // Not private: the waker is another process.
            let _ = futex::wait(state, futex::Flags::empty(), layout::STATE_SLEEPING, Some(&LOOK));
            if state.load(Ordering::Acquire) != layout::STATE_SLEEPING {
                return Ok(());
            }
            // Also after a signal: one every 10 ms would make it wait for ever.
            if !worth_waiting() {
                return Err(ChannelError::Abandoned);
            }
        }
    }

    /// Leaves no plaintext behind: it was where the request was, which is longer than a plaintext that came back.
    fn wipe(&self, request: &Request<'_>) {
        if let Operation::Encrypt { iv, aad, .. } | Operation::Decrypt { iv, aad, .. } = request.operation {
            let length = iv.len() + aad.len() + request.data.len();
            self.parts.region.wipe(slot_at(self.number) + layout::PAYLOAD, length);
        }
    }

    fn take(&self, reply: &mut [u8]) -> Result<usize, ChannelError> {
        let region = &self.parts.region;
        let state = self.number(slot::STATE)?.load(Ordering::Acquire);
        let status = self.number(slot::REPLY_STATUS)?.load(Ordering::Relaxed);
        let length = self.number(slot::REPLY_LENGTH)?.load(Ordering::Relaxed) as usize;
        let payload = slot_at(self.number) + layout::PAYLOAD;
        if state != layout::STATE_DONE {
            return Err(ChannelError::Malformed);
        }
        if status != 0 {
            let mut text = [0u8; MAX_TEXT];
            let text = text.get_mut(..length).ok_or(ChannelError::Malformed)?;
            if !region.copy_out(payload, text) {
                return Err(ChannelError::Malformed);
            }
            let message = String::from_utf8_lossy(text).into_owned();
            return Err(ChannelError::Refused { code: status, message });
        }
        let reply = reply.get_mut(..length).ok_or(ChannelError::Malformed)?;
        match length <= MAX_PAYLOAD && region.copy_out(payload, reply) {
            true => Ok(length),
            false => Err(ChannelError::Malformed),
        }
    }
}

#[cfg(test)]
mod tests;
