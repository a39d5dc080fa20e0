//! What can go wrong, and how it appears on OpenSSL's error queue.

use std::ffi::CStr;

use cryptoki_sys as ck;
use cryptoki_sys::CK_RV;
use strongroom_uri::UriError;
use strongroom_uri::reference::ReferenceError;

/// A failure of the provider. Its text is what nginx, Apache and the openssl command print: it names the object
/// and the remedy, and never contains a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The URI does not follow RFC 7512.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// The PEM reference file's content is not the structure that it should be.
    #[error("malformed PEM reference: {0}; make a new one with 'strongroom key reference'")]
    Reference(#[from] ReferenceError),
    /// The PKCS#11 module cannot be used at all.
    #[error("PKCS#11 module {module}: {why}; set pkcs11-module-path in openssl.cnf")]
    Module {
        /// The file.
        module: String,
        /// What loading it said.
        why: String,
    },
    /// No token fits the URI.
    #[error("no token for {uri}: {found}; is the token (strongroomd) running, and the label right?")]
    NoToken {
        /// What was looked for, without a PIN.
        uri: String,
        /// The tokens that are there.
        found: String,
        /// It was there before, or none is: the module may find it again.
        away: bool,
    },
    /// No object fits the URI.
    #[error("key {uri} not found: {found}")]
    NotFound {
        /// What was looked for, without a PIN.
        uri: String,
        /// What the token said instead.
        found: String,
    },
    /// More than one object fits where one is needed.
    #[error("{uri} fits {count} keys: {keys}; use a URI that fits one of them")]
    Ambiguous {
        /// What was looked for, without a PIN.
        uri: String,
        /// How many fit.
        count: usize,
        /// Their URIs, or those of the first few.
        keys: String,
    },
    /// The token wants a PIN and there is none.
    #[error(
        "token \"{token}\" wants a PIN and none was given; use pin-source in the URI, pkcs11-module-token-pin in openssl.cnf, the server's password file, or admit this user id ('strongroom user admit')"
    )]
    PinMissing {
        /// The token's label.
        token: String,
    },
    /// The PIN was refused, now or earlier, or must not be tried.
    #[error("token \"{token}\" refused the PIN: {why}")]
    PinRefused {
        /// The token's label.
        token: String,
        /// The PKCS#11 error's name, and what to do.
        why: String,
    },
    /// The PIN's source cannot be read.
    #[error("PIN source {from}: {why}")]
    PinSource {
        /// The file.
        from: String,
        /// What reading it said.
        why: String,
    },
    /// A setting has a value that cannot be honoured.
    #[error("{0}")]
    Setting(String),
    /// A PKCS#11 function failed.
    #[error("{function} on {object}: {rv}{remedy}")]
    Token {
        /// The function, such as C_Sign.
        function: &'static str,
        /// Which token or key.
        object: String,
        /// The error.
        rv: Rv,
        /// What to do, or nothing.
        remedy: &'static str,
    },
    /// The key is of a type that this provider cannot use, or its public half cannot be had.
    #[error("key {0}")]
    Key(String),
    /// The operation or parameter is not one that this key and provider have.
    #[error("{0}")]
    Unsupported(String),
    /// The caller's buffer is too small.
    #[error("the output buffer holds {room} bytes, the signature needs {needed}")]
    Buffer {
        /// The buffer's size in bytes.
        room: usize,
        /// The signature's size in bytes.
        needed: usize,
    },
    /// A ciphertext has no message, or the token says so. Why is not told: it would help those who try ciphertexts.
    #[error("the ciphertext cannot be decrypted with this key and padding")]
    Undecryptable,
    /// A signature in an ASYNC job was not made.
    #[error("signature in an ASYNC job: {0}")]
    Job(String),
    /// The program's libcrypto lacks a function.
    #[error("this libcrypto has no {}: it is older than 3.0, or built without it", .0.to_string_lossy())]
    Incompatible(&'static CStr),
    /// libcrypto itself failed; its own entry on the queue is before ours.
    #[error("libcrypto: {0}")]
    Libcrypto(&'static str),
}

/// A PKCS#11 error that prints as its name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rv(pub CK_RV);

/// Result with the provider's error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A failed PKCS#11 call, with the remedy where there is a usual one.
    pub fn token(function: &'static str, object: impl Into<String>, rv: CK_RV) -> Self {
        let remedy = match rv {
            ck::CKR_TOKEN_NOT_PRESENT | ck::CKR_DEVICE_REMOVED | ck::CKR_DEVICE_ERROR => {
                "; the token is away: is its service (strongroomd) running? It is used again as soon as it is back"
            }
            ck::CKR_KEY_FUNCTION_NOT_PERMITTED => {
                "; the key's policy does not allow this use (CKA_SIGN, CKA_DECRYPT, CKA_DERIVE)"
            }
            ck::CKR_USER_NOT_LOGGED_IN => "; give a PIN, or admit this user id ('strongroom user admit')",
            ck::CKR_PIN_LOCKED => "; unlock it ('strongroom user unlock')",
            _ => "",
        };
        Error::Token { function, object: object.into(), rv: Rv(rv), remedy }
    }

    /// The PKCS#11 error in it, if it came from a token.
    pub fn rv(&self) -> Option<CK_RV> {
        match self {
            Error::Token { rv, .. } => Some(rv.0),
            _ => None,
        }
    }

    /// Whether the token has gone away.
    pub fn is_away(&self) -> bool {
        matches!(self, Error::NoToken { away: true, .. })
    }

    /// The reason code on OpenSSL's error queue; [`REASONS`] has the words.
    pub fn reason(&self) -> u32 {
        match self {
            Error::Uri(_) => 1,
            Error::Reference(_) => 2,
            Error::Module { .. } => 3,
            Error::NoToken { .. } => 4,
            Error::NotFound { .. } => 5,
            Error::Ambiguous { .. } => 6,
            Error::PinMissing { .. } => 7,
            Error::PinRefused { .. } | Error::PinSource { .. } => 8,
            Error::Token { .. } => 9,
            Error::Key(_) => 10,
            Error::Unsupported(_) => 11,
            Error::Buffer { .. } => 12,
            Error::Libcrypto(_) => 13,
            Error::Job(_) => 14,
            Error::Incompatible(_) => 15,
            Error::Undecryptable => 16,
            Error::Setting(_) => 17,
        }
    }
}

/// The reason codes' words, for `OSSL_FUNC_PROVIDER_GET_REASON_STRINGS`. They are all that stunnel, PostgreSQL, Node.js and
/// Python show, so they say the usual remedy.
pub const REASONS: [(u32, &CStr); 17] = [
    (1, c"invalid pkcs11 URI"),
    (2, c"malformed PEM reference"),
    (3, c"PKCS#11 module unusable; check pkcs11-module-path in openssl.cnf"),
    (4, c"token not found; is its service (strongroomd) running, and may this user reach it?"),
    (5, c"key not found in the token; list its keys with 'openssl storeutl'"),
    (6, c"URI fits several keys; add id= or object="),
    (7, c"PIN missing; set pkcs11-module-token-pin in openssl.cnf, or admit this user id"),
    (8, c"PIN refused; it is not tried again in this process"),
    (9, c"token error"),
    (10, c"unusable key"),
    (11, c"unsupported"),
    (12, c"buffer too small"),
    (13, c"libcrypto error"),
    (14, c"ASYNC job failed"),
    (15, c"incompatible libcrypto"),
    (16, c"decryption failed"),
    (17, c"bad setting"),
];

impl std::fmt::Display for Rv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        macro_rules! names {
            ($($name:ident)*) => { match self.0 { $(ck::$name => f.write_str(stringify!($name)),)* other => write!(f, "CKR 0x{other:08x}") } };
        }
        names! {
            CKR_OK CKR_CANCEL CKR_HOST_MEMORY CKR_SLOT_ID_INVALID CKR_GENERAL_ERROR CKR_FUNCTION_FAILED
            CKR_ARGUMENTS_BAD CKR_NO_EVENT CKR_NEED_TO_CREATE_THREADS CKR_CANT_LOCK CKR_ATTRIBUTE_READ_ONLY
            CKR_ATTRIBUTE_SENSITIVE CKR_ATTRIBUTE_TYPE_INVALID CKR_ATTRIBUTE_VALUE_INVALID
            CKR_ACTION_PROHIBITED CKR_DATA_INVALID CKR_DATA_LEN_RANGE CKR_DEVICE_ERROR CKR_DEVICE_MEMORY
            CKR_DEVICE_REMOVED CKR_ENCRYPTED_DATA_INVALID CKR_ENCRYPTED_DATA_LEN_RANGE CKR_AEAD_DECRYPT_FAILED
            CKR_FUNCTION_CANCELED CKR_FUNCTION_NOT_PARALLEL CKR_FUNCTION_NOT_SUPPORTED CKR_KEY_HANDLE_INVALID
            CKR_KEY_SIZE_RANGE CKR_KEY_TYPE_INCONSISTENT CKR_KEY_NOT_NEEDED CKR_KEY_CHANGED CKR_KEY_NEEDED
            CKR_KEY_INDIGESTIBLE CKR_KEY_FUNCTION_NOT_PERMITTED CKR_KEY_NOT_WRAPPABLE CKR_KEY_UNEXTRACTABLE
            CKR_MECHANISM_INVALID CKR_MECHANISM_PARAM_INVALID CKR_OBJECT_HANDLE_INVALID CKR_OPERATION_ACTIVE
            CKR_OPERATION_NOT_INITIALIZED CKR_PIN_INCORRECT CKR_PIN_INVALID CKR_PIN_LEN_RANGE CKR_PIN_EXPIRED
            CKR_PIN_LOCKED CKR_SESSION_CLOSED CKR_SESSION_COUNT CKR_SESSION_HANDLE_INVALID
            CKR_SESSION_PARALLEL_NOT_SUPPORTED CKR_SESSION_READ_ONLY CKR_SESSION_EXISTS
            CKR_SESSION_READ_ONLY_EXISTS CKR_SESSION_READ_WRITE_SO_EXISTS CKR_SIGNATURE_INVALID
            CKR_SIGNATURE_LEN_RANGE CKR_TEMPLATE_INCOMPLETE CKR_TEMPLATE_INCONSISTENT CKR_TOKEN_NOT_PRESENT
            CKR_TOKEN_NOT_RECOGNIZED CKR_TOKEN_WRITE_PROTECTED CKR_UNWRAPPING_KEY_HANDLE_INVALID
            CKR_UNWRAPPING_KEY_SIZE_RANGE CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT CKR_USER_ALREADY_LOGGED_IN
            CKR_USER_NOT_LOGGED_IN CKR_USER_PIN_NOT_INITIALIZED CKR_USER_TYPE_INVALID
            CKR_USER_ANOTHER_ALREADY_LOGGED_IN CKR_USER_TOO_MANY_TYPES CKR_WRAPPED_KEY_INVALID
            CKR_WRAPPED_KEY_LEN_RANGE CKR_WRAPPING_KEY_HANDLE_INVALID CKR_WRAPPING_KEY_SIZE_RANGE
            CKR_WRAPPING_KEY_TYPE_INCONSISTENT CKR_RANDOM_SEED_NOT_SUPPORTED CKR_RANDOM_NO_RNG
            CKR_DOMAIN_PARAMS_INVALID CKR_CURVE_NOT_SUPPORTED CKR_BUFFER_TOO_SMALL CKR_SAVED_STATE_INVALID
            CKR_INFORMATION_SENSITIVE CKR_STATE_UNSAVEABLE CKR_CRYPTOKI_NOT_INITIALIZED
            CKR_CRYPTOKI_ALREADY_INITIALIZED CKR_MUTEX_BAD CKR_MUTEX_NOT_LOCKED CKR_NEW_PIN_MODE CKR_NEXT_OTP
            CKR_EXCEEDED_MAX_ITERATIONS CKR_FIPS_SELF_TEST_FAILED CKR_LIBRARY_LOAD_FAILED CKR_PIN_TOO_WEAK
            CKR_PUBLIC_KEY_INVALID CKR_FUNCTION_REJECTED CKR_TOKEN_RESOURCE_EXCEEDED
            CKR_OPERATION_CANCEL_FAILED CKR_KEY_EXHAUSTED CKR_PENDING CKR_SESSION_ASYNC_NOT_SUPPORTED
            CKR_SEED_RANDOM_REQUIRED CKR_OPERATION_NOT_VALIDATED CKR_TOKEN_NOT_INITIALIZED
            CKR_PARAMETER_SET_NOT_SUPPORTED
        }
    }
}

impl std::fmt::Debug for Rv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_words() {
        let error = Error::token("C_Sign", "key", ck::CKR_DEVICE_REMOVED);
        assert!(REASONS.iter().any(|(code, _)| *code == error.reason()));
        assert!(
            error.to_string().starts_with("C_Sign on key: CKR_DEVICE_REMOVED; the token is away"),
            "{error}"
        );
        assert_eq!(Rv(0x8000_0001).to_string(), "CKR 0x80000001");
    }
}
