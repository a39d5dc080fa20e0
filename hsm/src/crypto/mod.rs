//! Keys and what is computed with them.
//!
//! [`aws_lc`] is the only module that calls the crypto library's C functions; it leaves the keys that the library does not have to
//! `curve448`. [`crate::engine`] the way to signatures that
//! are computed in batches, [`symmetric`] what is done with secret keys, [`wrapping`] how keys go out and come in,
//! [`derivation`] how keys are made of others and of passwords.

pub mod aws_lc;
mod curve448;
pub mod derivation;
mod kind;
mod mechanism;
pub mod signers;
pub mod symmetric;
pub mod wrapping;

pub use kind::{Algorithm, KeyKind};
pub use mechanism::{Hash, Mechanism, REPRESENTATIVE};
pub use signers::{Choices, LANES, Order, Signature, Signer};

/// Why an operation on a key failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// The mechanism is for keys of another type.
    #[error("{mechanism} does not fit a key of type {kind}")]
    MechanismDoesNotFit {
        /// The mechanism asked for.
        mechanism: &'static str,
        /// The key's type.
        kind: KeyKind,
    },
    /// The mechanism is for secret keys of another type.
    #[error("{mechanism} does not fit a key of type {kind}")]
    SecretKeyDoesNotFit {
        /// The mechanism asked for.
        mechanism: &'static str,
        /// The key's type.
        kind: symmetric::SecretKind,
    },
    /// A mechanism parameter is out of range.
    #[error("{0}")]
    ParameterWrong(String),
    /// The data to sign has a length that the key and mechanism cannot take.
    #[error("{mechanism} takes {expected} bytes here, not {got}")]
    DataLength {
        /// The mechanism asked for.
        mechanism: &'static str,
        /// What would fit.
        expected: String,
        /// The length of the data, in bytes.
        got: usize,
    },
    /// The signature does not belong to the data and the key.
    #[error("the signature is wrong")]
    SignatureWrong,
    /// The ciphertext was not made with the key, the IV and the associated data.
    #[error("the ciphertext, its tag, the IV or the associated data was changed, or the key is another")]
    CiphertextWrong,
    /// The encoded key does not parse, is of a kind that the partition does not keep, or is unsound.
    #[error("{0}")]
    KeyMalformed(String),
    /// The FIPS module's release of the library does not have it.
    #[error("{what} are not in this build of strongroomd, which computes with {module}; see docs/fips.md")]
    NotInBuild {
        /// Keys, in the plural.
        what: String,
        /// The library and its version.
        module: String,
    },
    /// The engine's queue is full.
    #[error("the signing engine has {0} requests waiting; try again")]
    Busy(usize),
    /// The crypto library failed where it should not: memory, or a fault during the computation.
    #[error("the crypto library failed: {0}")]
    Library(String),
}
