//! What lies where in a region: the normative description. Numbers are little-endian, as on all hosts that share
//! memory with themselves; offsets and sizes are in bytes.
//!
//! A region is a header of 4,096 bytes and [`SLOTS`] slots of [`SLOT`] bytes.
//!
//! | offset in the header | size | name | written by |
//! |---|---|---|---|
//! | 0 | 16 | posted, two words of 64 bits: bit n of word m is set when slot 64 m + n holds a new request; the daemon sets all to 0 when it takes them | both |
//! | 64 | 4 | watched: 1 while the daemon, as long as it is awake, looks at `posted` by itself | daemon |
//!
//! | offset in a slot | size | name |
//! |---|---|---|
//! | 0 | 4 | state: the `STATE_` constants. A futex |
//! | 4 | 4 | operation: the `SIGN`, `ENCRYPT`, `DECRYPT` constants |
//! | 8 | 4 | partition number |
//! | 12 | 4 | mechanism: strongroom.proto's `Mechanism` (SIGN) |
//! | 16 | 16 | the key's identity (`ObjectInfo.object`) |
//! | 32 | 12 | three numbers. SIGN: hash, mgf1 hash (`Hash`), salt length. ENCRYPT, DECRYPT: length of the IV, length of the additional data, bits of the tag |
//! | 44 | 4 | length of the payload |
//! | 48 | 4 | of the reply: 0, or an `ErrorCode` |
//! | 52 | 4 | of the reply: length of the payload |
//! | 64 | 8,128 | payload. SIGN: what is signed. ENCRYPT, DECRYPT: IV, additional data, data. Reply: the signature, the data, or the error's text |
//!
//! The state (a page of the daemon's own, which clients map read-only) has at offset 0, 4 bytes: 1 while the daemon
//! is awake.
//!
//! The client rings the bell after it has set its bit unless the region is watched and the daemon awake. The daemon
//! looks at `posted` of all watched regions once more between writing that it sleeps and sleeping. So one of
//! the two sees the other (all four accesses are sequentially consistent).

/// Slots in a region: exchanges that one client has under way at most.
pub const SLOTS: usize = 128;

/// The size of the header, in bytes.
pub const HEADER: usize = 4096;

/// The size of a slot, in bytes.
pub const SLOT: usize = 8192;

/// The size of a region, in bytes. Memory is used only for slots that were used.
pub const REGION: usize = HEADER + SLOTS * SLOT;

/// The size of the state, in bytes.
pub const STATE: usize = 4096;

/// Where the payload begins in a slot, in bytes.
pub const PAYLOAD: usize = 64;

/// The largest payload, in bytes.
pub const MAX_PAYLOAD: usize = SLOT - PAYLOAD;

/// The longest error text, in bytes.
pub const MAX_TEXT: usize = 512;

/// Words of `posted`.
pub(crate) const POSTED_WORDS: usize = SLOTS / 64;

/// Where word `number` of `posted` is in the header.
pub(crate) const fn posted_at(number: usize) -> usize {
    8 * number
}

pub(crate) const WATCHED: usize = 64;
pub(crate) const AWAKE: usize = 0;

/// A slot that nobody waits for.
pub const STATE_FREE: u32 = 0;
/// A request was posted, and the client looks at the state now and then.
pub const STATE_POSTED: u32 = 1;
/// A request was posted, and the client sleeps: it has to be woken.
pub const STATE_SLEEPING: u32 = 2;
/// The reply is there.
pub const STATE_DONE: u32 = 3;

/// Sign a digest or a message.
pub const SIGN: u32 = 1;
/// Encrypt with AES-GCM.
pub const ENCRYPT: u32 = 2;
/// Decrypt with AES-GCM.
pub const DECRYPT: u32 = 3;

/// Offsets in a slot.
pub(crate) mod slot {
    pub(crate) const STATE: usize = 0;
    pub(crate) const OPERATION: usize = 4;
    pub(crate) const PARTITION: usize = 8;
    pub(crate) const MECHANISM: usize = 12;
    pub(crate) const KEY: usize = 16;
    pub(crate) const NUMBERS: usize = 32;
    pub(crate) const LENGTH: usize = 44;
    pub(crate) const REPLY_STATUS: usize = 48;
    pub(crate) const REPLY_LENGTH: usize = 52;
}

/// Where slot `number` begins in a region.
pub(crate) const fn slot_at(number: usize) -> usize {
    HEADER + number * SLOT
}
