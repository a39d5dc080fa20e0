//! Memory for secrets, and what the process does so that nobody reads it.

mod secret;

pub use secret::SecretBytes;
