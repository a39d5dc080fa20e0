//! Requests and replies through memory that a client and the daemon on the same host share.
//!
//! A client asks for a channel on its connection (OpenChannel) and gets three descriptors: a *region* of memory
//! that it shares with the daemon alone, a *bell* (an eventfd) that wakes the daemon, and the daemon's *state*, a
//! page that every client may read and none may write. The region has 128 slots ([`layout`] is the normative
//! description): a client writes a request into a slot of its own and sets the slot's bit in `posted`. It rings
//! the bell only if the daemon sleeps. Then it waits on the slot's state, a futex, until the daemon has written
//! the reply into the same slot. So a request costs the client one system call while the daemon is busy (waiting),
//! two when it sleeps, and the daemon at most one (waking the client).
//!
//! The connection is the channel's life line: its peer credentials and log-ins are the channel's, and when it
//! closes, the channel is over.
//!
//! What a hostile client can do: write anything at any time into its own region. The daemon copies a
//! request before it looks at it, believes no number that it has not checked in the copy, and answers at most 128
//! at a time. The memory cannot shrink under the daemon (it is sealed). No other client sees it.
//!
//! [`Client`] is the client's side, [`Region`] and [`State`] the daemon's.

mod client;
pub mod layout;
mod memory;
mod region;
mod yields;

pub use client::{Bell, ChannelError, Client, Descriptors, Operation, Request};
pub use region::{Incoming, Region, State};
pub use yields::Yields;
