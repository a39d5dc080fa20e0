//! The HSM partition as a service.
//!
//! A request's way: [`connection`] reads it, [`request`] checks it against [`policy`] and carries it out on a
//! [`partition`], [`crypto`] computes; changes go sealed ([`seal`]) into the [`store`]. [`daemon`] starts all
//! of it. Secrets lie in protected memory ([`memory`]), and the process gives up what it does not need
//! ([`confinement`]).

pub mod access;
pub mod approval;
pub mod audit;
pub mod backup;
mod challenges;
mod changes;
pub mod config;
pub mod confinement;
pub mod connection;
pub mod crypto;
pub mod daemon;
pub mod engine;
pub mod failure;
pub mod identity;
pub mod life;
pub mod memory;
pub mod metrics;
pub mod network;
pub mod node_key;
pub mod object;
pub mod partition;
pub mod places;
pub mod policy;
pub mod quorum;
pub mod records;
pub mod request;
pub mod restrictions;
pub mod rounds;
pub mod seal;
pub mod service;
pub mod session;
pub mod store;
pub mod tickets;
mod transfers;
pub mod turns;
pub mod use_tickets;
pub mod users;
pub mod vault;
pub mod web;

pub use config::Config;
pub use daemon::{Daemon, StartError, run};
