//! A PKCS#11 load generator: how many signatures (or encryptions) a second a token makes, and how long each takes.
//!
//! [`options`] say what; [`token`] opens sessions and keys through [`module`]; [`load`] repeats one
//! [`operation`] in many threads and counts; [`report`] is what remains. [`in_process`] does the same without a
//! token, to compare with.
#![deny(unsafe_code)]

pub mod find;
pub mod in_process;
pub mod keys;
pub mod load;
#[allow(unsafe_code)] // the calls into the module
pub mod module;
pub mod operation;
pub mod options;
pub mod processes;
pub mod report;
pub mod token;
