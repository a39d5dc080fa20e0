//! The wire protocol between a Strongroom partition and its clients.
//!
//! `strongroom.proto` beside this crate is the normative document. [`v1`] holds its messages,
//! [`frame`] the framing, [`address`] where a daemon listens, [`node`] the addresses of nodes, [`settings`] what a client
//! is told of them, [`tls`] how nodes are reached over the network, [`client`] a blocking client for
//! processes that must not have a runtime or threads of ours (the PKCS#11 module and the command).
#![forbid(unsafe_code)]

pub mod address;
pub mod client;
pub mod frame;
pub mod names;
pub mod node;
pub mod once;
pub mod pkcs11;
pub mod secret;
pub mod settings;
pub mod template_names;
pub mod tls;

/// The messages of protocol version 1, generated from `strongroom.proto`.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/strongroom.v1.rs"));
}

/// The protocol version that this crate speaks.
pub const VERSION: u32 = 1;
