//! Why a request was refused, as the protocol says it.

use strongroom_protocol::v1::{Error, ErrorCode};

use crate::crypto::CryptoError;
use crate::metrics::Outcome;
use crate::seal::SealError;
use crate::store::StoreError;

/// A refusal: the protocol's code, and a sentence for people that names the object and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What a program acts on.
    pub code: ErrorCode,
    /// What a person reads.
    pub message: String,
}

impl Failure {
    /// A refusal with this code and sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// How an operation that ends so is counted.
    pub fn outcome(&self) -> Outcome {
        match self.code {
            ErrorCode::Internal | ErrorCode::Store | ErrorCode::NoQuorum => Outcome::Failed,
            _ => Outcome::Refused,
        }
    }
}

/// Makes an `Err(Failure)`: `refuse!(NotPermitted, "…")`.
macro_rules! refuse {
    ($code:ident, $($message:tt)+) => {
        Err($crate::failure::Failure::new(
            ::strongroom_protocol::v1::ErrorCode::$code,
            format!($($message)+),
        ))
    };
}
pub(crate) use refuse;

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Error { code: failure.code.into(), message: failure.message }
    }
}

impl From<CryptoError> for Failure {
    fn from(error: CryptoError) -> Self {
        let code = match &error {
            CryptoError::MechanismDoesNotFit { .. } | CryptoError::SecretKeyDoesNotFit { .. } => {
                ErrorCode::MechanismDoesNotFit
            }
            CryptoError::ParameterWrong(_) => ErrorCode::MechanismParameterWrong,
            CryptoError::DataLength { .. } => ErrorCode::DataLength,
            CryptoError::SignatureWrong => ErrorCode::SignatureWrong,
            CryptoError::CiphertextWrong => ErrorCode::CiphertextWrong,
            CryptoError::KeyMalformed(_) => ErrorCode::KeyMalformed,
            CryptoError::NotInBuild { .. } => ErrorCode::Unsupported,
            CryptoError::Busy(_) => ErrorCode::Limit,
            CryptoError::Library(_) => ErrorCode::Internal,
        };
        Failure::new(code, error.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        tracing::error!("{error}");
        let code = match &error {
            StoreError::NoMajority { .. } => ErrorCode::NoQuorum,
            _ => ErrorCode::Store,
        };
        Failure::new(code, error.to_string())
    }
}

impl From<SealError> for Failure {
    fn from(error: SealError) -> Self {
        Failure::new(ErrorCode::Internal, error.to_string())
    }
}
