//! AES keys, and what is computed with them.
//!
//! A key is expanded once, into protected memory. An operation takes no lock and no memory, so it is carried out
//! where the request is: 4 KiB take less than a microsecond, the largest frame some hundred.

mod gcm;
mod key;

pub use gcm::{GcmParameters, decrypt, encrypt};
pub use key::{AesKey, AesKind};
