//! Keys that are made of other keys and of passwords.

mod hkdf;
mod pbkdf2;
mod sp800_108;

pub use hkdf::Hkdf;
pub use pbkdf2::{MAX_WORK, Pbkdf2};
pub use sp800_108::{Format, Mode, Part, Prf, Sp800108};

/// The most bytes of key material that one derivation makes.
pub const MAX_MATERIAL: usize = 16 * 1024;
