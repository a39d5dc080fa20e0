//! The audit log: what its lines say, how they are chained and signed, and how that is verified.
//!
//! A log is text: one JSON object a line ([`Entry`]), so that `grep` and `jq` read it. Each line carries the SHA-256
//! of the line before it, byte for byte as it stands in the file (`prev`): whoever changes, removes or moves a line
//! breaks the chain there. Lines of the action `audit_checkpoint` carry an Ed25519 signature besides, which covers
//! the line itself and, through the chain, all before it ([`chain`]). [`Verifier`] needs the lines and the public key,
//! and no daemon.
#![forbid(unsafe_code)]

pub mod chain;
mod collected;
mod entry;
mod key;
mod time;
mod verify;

pub use collected::Collected;
pub use entry::{CHECKPOINT, Entry, FORMAT, MAX_LINE, SUCCESS};
pub use key::{KeyError, PublicKey};
pub use time::{micros_of, moment};
pub use verify::{Fault, Summary, Verifier};
