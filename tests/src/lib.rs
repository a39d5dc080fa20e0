//! What the end-to-end tests share: a place with keys, and handshakes with whoever serves them.
//!
//! The tests need Strongroom's programs, built (`cargo build --release --workspace`) in the folder of the
//! tests themselves or in the one named by STRONGROOM_PROGRAMS, and Debian's nginx, apache2, openssl,
//! softhsm2 and opensc (`demo/install tests`). `tests/run` sees to both.
#![forbid(unsafe_code)]

pub mod bind;
pub mod etcd;
pub mod kryoptic;
pub mod newer;
pub mod operations;
pub mod page;
pub mod place;
pub mod program;
pub mod python;
pub mod reference;
pub mod servers;
pub mod traffic;

pub use place::{Bench, Keys, Place};
