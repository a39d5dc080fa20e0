//! `strongroom.so`: an OpenSSL 3 provider that signs with keys in any PKCS#11 token.
//!
//! A call from libcrypto enters in [`dispatch`], on a key that is a reference ([`key`]); what needs the private
//! key becomes an operation on a token in [`token`]; everything else (digests, public-key operations) is
//! done by OpenSSL's own provider through [`openssl`].
//!
//! We live in other people's processes: no output, no exit, no state that a fork breaks, and no thread but in [`jobs`].

mod bindings;
mod core;
mod dispatch;
mod entry;
mod environment;
mod error;
mod fence;
#[cfg(feature = "fuzz")]
pub mod fuzz;
#[cfg(debug_assertions)]
mod inject;
mod jobs;
mod key;
mod libcrypto;
mod newer;
mod openssl;
mod params;
mod per_process;
mod pin;
mod provider;
mod rsa_padding;
mod settings;
mod short_digest;
mod spares;
mod thread_place;
mod token;
mod trace;
