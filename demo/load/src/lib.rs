//! A TLS load generator: how many new handshakes a second a server makes, how long each takes, and which fail.
//!
//! The data flow is one line: [`options`] are resolved into a [`plan`] (addresses, one TLS configuration),
//! [`schedule`] decides when the next connection starts, [`connection`] makes it, [`record`] counts it, and
//! [`report`] is what remains, printed by [`summary`] and drawn by [`picture`].
//!
//! [`run`] does all of it inside the caller's tokio runtime; [`launch`] brings its own.
#![forbid(unsafe_code)]

pub mod connection;
pub mod failure;
pub mod options;
pub mod picture;
pub mod plan;
pub mod record;
pub mod report;
pub mod schedule;
pub mod sessions;
pub mod summary;
pub mod text;
pub mod timeline;
pub mod tls;
pub mod verifier;

pub use options::Options;
pub use plan::{Plan, SetupError};
pub use record::{Progress, Recorder};
pub use report::Report;
pub use schedule::{launch, run};
