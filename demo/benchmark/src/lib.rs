//! The benchmark: TLS servers and PKCS#11 tokens side by side, the key in a file, in the partition, in SoftHSM2.
//!
//! [`options`] say what is measured; [`stage`] makes the tokens, keys and certificates; [`handshakes`] loads web
//! servers; [`results`] is what comes out, written as JSON and by [`markdown`].
#![forbid(unsafe_code)]

pub mod handshakes;
pub mod machine;
pub mod markdown;
pub mod options;
pub mod progress;
pub mod results;
pub mod stage;
pub mod statistics;
