//! OpenSSL's own provider, for what needs no private key: digests, verification, public keys.
//!
//! It is used in a library context of ours, so that nothing here comes back to this provider, whatever the
//! application's configuration says.

mod certificate;
mod context;
mod curve;
mod digest;
mod key_derivation;
mod public_key;

pub use certificate::{Certificate, Name, certificate_public_key, digest_by_name};
pub use context::{Context, quietly};
pub use curve::curve_parameters;
pub use digest::{Digest, Hash, MAX_DIGEST};
pub use key_derivation::x963_kdf;
pub use public_key::{PublicKey, Verification};
