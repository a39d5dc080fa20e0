//! `strongroom-plan`: what many web servers get from a few nodes, before anybody buys them.
//!
//! A discrete-event simulation: [`simulation`] moves requests between clients and nodes, [`node`] is the queue in
//! front of a node's cores, [`client`] how a client chooses among nodes, [`world`] where everything stands.
//! Service times are measured ones ([`times`]). [`storm`] is the second after a power cut.
#![forbid(unsafe_code)]

pub mod client;
pub mod compare;
pub mod grid;
pub mod node;
pub mod options;
pub mod outcome;
pub mod simulation;
pub mod storm;
pub mod times;
pub mod world;
