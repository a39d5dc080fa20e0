//! What the daemon counts, and how it is shown: OpenMetrics.
//!
//! Each partition has a [`Meter`]. Whoever carries an operation out counts it there: the engine what comes through
//! channels, [`crate::request`] everything else. That is on the way of a signature, so it takes no lock and, after the first
//! operation of its sort, no memory: each thread adds to numbers of its own stripe ([`series`]), and the sum is made when
//! somebody asks ([`exposition`]).
//!
//! Labels are partitions, and words of the protocol: their number is bounded. No key, user or client is a label.

mod exposition;
mod meter;
mod operation;
mod series;
mod store;

pub use exposition::text;
pub use meter::{Logins, Meter};
pub use operation::{Operation, Outcome, key_type_name};
pub use series::Totals;
pub use store::{Commits, Metered};
