//! Why a command fails: one table from the protocol's errors to codes for programs and exit codes.

use std::fmt;
use std::io;
use std::path::Path;

use strongroom_protocol::client::ClientError;
use strongroom_protocol::settings::SettingsError;
use strongroom_protocol::v1::ErrorCode;

/// The command's exit codes. They are part of its interface: scripts rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Anything that has no code of its own.
    Failed = 1,
    /// The command line is wrong, or leaves open what is meant. Nothing was done.
    Usage = 2,
    /// The daemon is not running, or does not answer.
    Unreachable = 3,
    /// Not logged in, a wrong password, a locked user, or a right that is missing.
    NotPermitted = 4,
    /// There is no such partition, user, key or certificate.
    NotFound = 5,
    /// A partition, user, key, certificate or file of this name is there already.
    Exists = 6,
}

/// A command's failure: for people, for programs, and for scripts.
#[derive(Debug)]
pub struct Failure {
    code: String,
    exit: Exit,
    message: String,
}

impl Failure {
    /// Makes a failure. `code` is for programs (lower case, stable); `message` says what failed, on which
    /// object, and what to do.
    pub fn new(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        Failure { code: code.to_owned(), exit, message: message.into() }
    }

    /// The command line is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Failure::new(Exit::Usage, "usage", message)
    }

    /// The daemon's answer does not fit the request.
    pub fn unexpected_answer() -> Self {
        Failure::new(
            Exit::Failed,
            "protocol",
            "strongroomd's answer does not fit the request: this command and the daemon are of different \
             releases; compare 'strongroom --version' with 'strongroom status'",
        )
    }

    /// Reading, writing or making `path` failed. `what` is a verb: "read", "write".
    pub fn file(what: &str, path: &Path, error: &io::Error) -> Self {
        let (exit, code) = match error.kind() {
            io::ErrorKind::AlreadyExists => (Exit::Exists, "file_exists"),
            _ => (Exit::Failed, "file"),
        };
        Failure::new(exit, code, format!("cannot {what} {}: {error}", path.display()))
    }

    /// The same failure with what to do about it added to its message.
    pub fn with_remedy(mut self, remedy: &str) -> Self {
        self.message = format!("{}; {remedy}", self.message.trim_end_matches('.'));
        self
    }

    /// The code for programs: a daemon's refusal has the protocol's name for it (`no_such_object`).
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The process's exit code.
    pub fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let (code, exit) = match &error {
            ClientError::NotRunning { .. } => ("not_running".to_owned(), Exit::Unreachable),
            ClientError::Lost { .. } => ("connection_lost".to_owned(), Exit::Unreachable),
            ClientError::Deadline { .. } => ("deadline".to_owned(), Exit::Unreachable),
            ClientError::Tls { .. } => ("tls".to_owned(), Exit::Unreachable),
            ClientError::Protocol { .. } => ("protocol".to_owned(), Exit::Failed),
            ClientError::Frame(_) => ("too_large".to_owned(), Exit::Failed),
            ClientError::Refused { code, .. } => (refusal(*code), exit_of(*code)),
        };
        Failure { code, exit, message: error.to_string() }
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Failure::new(Exit::Usage, "settings", error.to_string())
    }
}

/// The protocol's name of a refusal, without its prefix, in lower case.
fn refusal(code: ErrorCode) -> String {
    code.as_str_name().trim_start_matches("ERROR_CODE_").to_ascii_lowercase()
}

/// The exit code for each reason that the daemon has to refuse.
fn exit_of(code: ErrorCode) -> Exit {
    match code {
        ErrorCode::NotLoggedIn
        | ErrorCode::NotPermitted
        | ErrorCode::PasswordWrong
        | ErrorCode::UserLocked
        | ErrorCode::PasswordExpired
        | ErrorCode::TicketInvalid
        | ErrorCode::KeyNotExtractable
        | ErrorCode::WrappingKeyNotTrusted
        | ErrorCode::UseNotAuthenticated
        | ErrorCode::TemplateDoesNotFit
        | ErrorCode::PurgeProtected
        | ErrorCode::NotApproved
        | ErrorCode::KeyMayNot => Exit::NotPermitted,
        ErrorCode::NoSuchPartition | ErrorCode::NoSuchObject | ErrorCode::NoSuchUser => Exit::NotFound,
        ErrorCode::Exists => Exit::Exists,
        ErrorCode::Unavailable | ErrorCode::NoQuorum => Exit::Unreachable,
        ErrorCode::UnsealWrong => Exit::NotPermitted,
        ErrorCode::Unspecified
        | ErrorCode::Internal
        | ErrorCode::CiphertextWrong
        | ErrorCode::WrappedKeyWrong
        | ErrorCode::AuditUnavailable
        | ErrorCode::Malformed
        | ErrorCode::Unsupported
        | ErrorCode::PasswordTooShort
        | ErrorCode::MechanismDoesNotFit
        | ErrorCode::MechanismParameterWrong
        | ErrorCode::DataLength
        | ErrorCode::SignatureWrong
        | ErrorCode::KeyMalformed
        | ErrorCode::AttributeReadOnly
        | ErrorCode::AttributeWrong
        | ErrorCode::Store
        | ErrorCode::NotAMember
        | ErrorCode::LastMember
        | ErrorCode::Sealed
        | ErrorCode::Tampered
        | ErrorCode::Zeroized
        | ErrorCode::BackupWrong
        | ErrorCode::NoChallenge
        | ErrorCode::CertificateWrong
        | ErrorCode::Quota
        | ErrorCode::Throttled
        | ErrorCode::Limit => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_the_protocols_name() {
        let refused = ClientError::Refused { code: ErrorCode::NoSuchObject, message: "no key".into() };
        let failure = Failure::from(refused);
        assert_eq!(failure.code(), "no_such_object");
        assert_eq!(failure.exit(), Exit::NotFound);
        assert_eq!(failure.to_string(), "no key");
    }

    #[test]
    fn a_remedy_follows_the_message() {
        let failure = Failure::usage("two keys match.").with_remedy("name one by id:HEX");
        assert_eq!(failure.to_string(), "two keys match; name one by id:HEX");
    }
}
