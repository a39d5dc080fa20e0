//! `libstrongroom_pkcs11.so`: a Strongroom partition as a PKCS#11 token.
//!
//! A call of an application enters through [`entry`] (the table of all C functions), is carried out in
//! [`api`], whose files follow the standard's chapters, and leaves through [`call`] as a request to
//! strongroomd. Everything that lives between two calls is in [`state`].
//!
//! The module runs inside other people's processes. It starts no thread, installs no handler, prints
//! nothing, and keeps what it keeps for one process (`strongroom_ffi::process` tells a child): after a fork the child calls `C_Initialize` and starts
//! anew, without touching the parent's locks or connections.

pub mod api;
pub mod brief;
pub mod built_in;
pub mod call;
pub mod certificate;
pub mod choice;
pub mod curve;
pub mod descriptors;
pub mod entry;
pub mod error;
pub mod handles;
pub mod hash;
pub mod import;
pub mod key;
pub mod line;
pub mod lists;
pub mod login;
pub mod mechanism;
pub mod ml_dsa;
pub mod nodes;
pub mod object;
pub mod parameter_set;
pub mod pool;
pub mod restrictions;
pub mod saved_digest;
pub mod secret;
pub mod session;
pub mod session_keys;
pub mod session_objects;
pub mod state;
pub mod template;
pub mod token;
mod trial;
