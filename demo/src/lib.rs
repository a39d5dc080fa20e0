//! Starts a partition, nginx and Apache around it, loads them and looks into them: for the demo and for the
//! end-to-end tests.
//!
//! [`process`] owns every child process; [`daemon`], [`softhsm`], [`nginx`], [`apache`] and [`haproxy`] start
//! one thing each, with the configuration files that the documentation shows ([`configuration`]); [`pki`] makes keys
//! and certificates with the openssl command; [`load`], [`cpu`] and [`memory`] measure.
#![forbid(unsafe_code)]

pub mod apache;
pub mod command;
pub mod configuration;
pub mod cpu;
pub mod daemon;
pub mod environment;
pub mod haproxy;
pub mod load;
pub mod memory;
pub mod nginx;
pub mod partition;
pub mod pki;
pub mod process;
pub mod programs;
pub mod run_folder;
pub mod server;
pub mod softhsm;
pub mod stat;
pub mod statistics;
