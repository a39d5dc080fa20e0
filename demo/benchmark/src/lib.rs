//! The benchmark: TLS servers and PKCS#11 tokens side by side, the key in a file, in the partition, in SoftHSM2.
//!
//! [`options`] say what is measured; [`stage`] makes the tokens, keys and certificates; [`handshakes`] loads web
//! servers, [`signing`] loads tokens through PKCS#11 ([`tokens`]), and [`distance`] does both with the daemon behind
//! a proxy ([`delay`]). [`results`] is what comes out, written as JSON, by
//! [`markdown`] and by [`picture`].
#![forbid(unsafe_code)]

pub mod delay;
pub mod distance;
pub mod handshakes;
pub mod machine;
pub mod markdown;
pub mod options;
pub mod order;
pub mod picture;
pub mod profile;
pub mod progress;
pub mod results;
pub mod signing;
pub mod stage;
pub mod tokens;
