//! What a partition's owner signs.
//!
//! The owner holds a private key, anywhere but here, and gives a partition its certificate when the partition is
//! made ([`certificate`]). With that key, and the plain openssl command, the owner signs two things: challenges
//! ([`challenge`]), and the certificates of nodes ([`node`]). The daemon and the command check them with this crate.
#![forbid(unsafe_code)]

pub mod certificate;
pub mod challenge;
pub mod holder;
pub mod node;

pub use certificate::{Certificate, CertificateError, OwnerCertificate};
pub use holder::Holder;
