//! Memory for secrets, and what the process does so that nobody reads it.
//!
//! [`arena`] hands out blocks of pages that other processes, core dumps and the swap never see; the crypto
//! library allocates everything there (see [`crate::crypto::aws_lc`]), [`SecretBytes`] too. [`process`] closes
//! the ways in that concern the process as a whole.

pub mod arena;
mod pages;
pub mod process;
mod secret;
mod stack;

pub use pages::{Protection, taken};
pub use secret::{SecretBytes, SecretWords};
pub use stack::ProtectedStack;
