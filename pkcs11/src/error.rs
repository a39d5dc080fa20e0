//! What an application sees of a failure: one table for the daemon's answers, one for the connection's.

use std::io::ErrorKind;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use cryptoki_sys::*;
use strongroom_protocol::client::ClientError;
use strongroom_protocol::v1::ErrorCode;

/// What a PKCS#11 function does: a value, or the `CKR_` code that the application gets.
pub type Outcome<T = ()> = Result<T, CK_RV>;

/// Why something on a connection failed, while it is not yet decided whether to try again.
#[derive(Debug)]
pub enum Failure {
    /// The daemon or the connection said so.
    Daemon(ClientError),
    /// It is decided: the application gets this code.
    Code(CK_RV),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Failure::Daemon(error)
    }
}

/// No daemon listens: the standard's code for a token that was taken away. The application may try again at
/// any time; the module connects by itself as soon as the daemon is back.
pub const AWAY: CK_RV = CKR_DEVICE_REMOVED;

/// The `CKR_` code for a refusal by the daemon.
pub fn of_code(code: ErrorCode) -> CK_RV {
    match code {
        ErrorCode::Unspecified | ErrorCode::Internal | ErrorCode::Malformed => CKR_FUNCTION_FAILED,
        ErrorCode::Unsupported => CKR_FUNCTION_NOT_SUPPORTED,
        ErrorCode::NoSuchPartition => CKR_TOKEN_NOT_PRESENT,
        ErrorCode::NoSuchObject => CKR_OBJECT_HANDLE_INVALID,
        ErrorCode::NoSuchUser | ErrorCode::PasswordWrong => CKR_PIN_INCORRECT,
        ErrorCode::Exists => CKR_ATTRIBUTE_VALUE_INVALID,
        ErrorCode::NotLoggedIn | ErrorCode::NotPermitted | ErrorCode::TicketInvalid => CKR_USER_NOT_LOGGED_IN,
        ErrorCode::UserLocked => CKR_PIN_LOCKED,
        ErrorCode::PasswordExpired => CKR_PIN_EXPIRED,
        ErrorCode::NoChallenge | ErrorCode::CertificateWrong => CKR_FUNCTION_FAILED,
        ErrorCode::PasswordTooShort => CKR_PIN_LEN_RANGE,
        ErrorCode::KeyMayNot | ErrorCode::NotApproved => CKR_KEY_FUNCTION_NOT_PERMITTED,
        ErrorCode::MechanismDoesNotFit => CKR_KEY_TYPE_INCONSISTENT,
        ErrorCode::MechanismParameterWrong => CKR_MECHANISM_PARAM_INVALID,
        ErrorCode::DataLength => CKR_DATA_LEN_RANGE,
        ErrorCode::SignatureWrong => CKR_SIGNATURE_INVALID,
        ErrorCode::KeyMalformed | ErrorCode::AttributeWrong => CKR_ATTRIBUTE_VALUE_INVALID,
        ErrorCode::AttributeReadOnly => CKR_ATTRIBUTE_READ_ONLY,
        ErrorCode::Store | ErrorCode::AuditUnavailable => CKR_DEVICE_MEMORY,
        ErrorCode::Limit | ErrorCode::Quota | ErrorCode::Throttled => CKR_TOKEN_RESOURCE_EXCEEDED,
        ErrorCode::Unavailable => AWAY,
        ErrorCode::CiphertextWrong => CKR_ENCRYPTED_DATA_INVALID,
        ErrorCode::KeyNotExtractable => CKR_KEY_UNEXTRACTABLE,
        ErrorCode::WrappingKeyNotTrusted => CKR_KEY_NOT_WRAPPABLE,
        ErrorCode::PurgeProtected => CKR_ACTION_PROHIBITED,
        ErrorCode::WrappedKeyWrong => CKR_WRAPPED_KEY_INVALID,
        // As if it did not run: it may be back at any time.
        ErrorCode::Sealed
        | ErrorCode::Tampered
        | ErrorCode::Zeroized
        | ErrorCode::NoQuorum
        | ErrorCode::NotAMember => AWAY,
        ErrorCode::UseNotAuthenticated => CKR_USER_NOT_LOGGED_IN,
        ErrorCode::TemplateDoesNotFit => CKR_TEMPLATE_INCONSISTENT,
        ErrorCode::UnsealWrong | ErrorCode::BackupWrong | ErrorCode::LastMember => CKR_FUNCTION_FAILED,
    }
}

/// The `CKR_` code for a failed call to the daemon.
pub fn of_client(error: &ClientError) -> CK_RV {
    match error {
        error if is_out_of_descriptors(error) => CKR_HOST_MEMORY,
        ClientError::NotRunning { .. } | ClientError::Tls { .. } => AWAY,
        ClientError::Lost { .. } | ClientError::Deadline { .. } | ClientError::Protocol { .. } => {
            CKR_DEVICE_ERROR
        }
        ClientError::Frame(_) => CKR_DATA_LEN_RANGE,
        ClientError::Refused { code, .. } => of_code(*code),
    }
}

/// Whether connecting failed in a way that ends by itself when a daemon (re)starts.
pub fn is_absence(error: &ClientError) -> bool {
    match error {
        error if is_out_of_descriptors(error) => false,
        ClientError::NotRunning { source, .. } => source.kind() != ErrorKind::PermissionDenied,
        ClientError::Lost { .. } => true,
        ClientError::Refused { code, .. } => *code == ErrorCode::Unavailable,
        _ => false,
    }
}

/// Whether connecting failed because the process or the machine has too many files open.
pub fn is_out_of_descriptors(error: &ClientError) -> bool {
    match error {
        ClientError::NotRunning { source, .. } => {
            matches!(source.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
        }
        _ => false,
    }
}

/// In functions about slots an absent daemon is an absent token.
pub fn as_slot(code: CK_RV) -> CK_RV {
    if code == AWAY { CKR_TOKEN_NOT_PRESENT } else { code }
}

/// Locks. A panic of another thread while it held the lock does not matter: what our locks guard is replaced
/// as a whole.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks to read, as [`lock`].
pub fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// Locks to write, as [`lock`].
pub fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
