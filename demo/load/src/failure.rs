//! Why a connection failed, as a name to count by.

use std::fmt;
use std::io;

/// A failed connection.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What it is counted as.
    pub kind: Kind,
    /// The message of the layer that failed.
    pub message: String,
}

/// What failures are counted by. Its text is `refused` or, with a detail, `alert:handshake_failure`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nothing listens.
    Refused,
    /// The connection was reset.
    Reset,
    /// The server closed the connection in the middle of the handshake.
    Closed,
    /// Not done in time.
    Timeout,
    /// No route.
    Unreachable,
    /// This machine has no free port for the connection.
    NoPort,
    /// This process has no free file descriptor.
    NoDescriptor,
    /// The server sent this alert.
    Alert(String),
    /// The server's certificate is not trusted, for this reason.
    Certificate(String),
    /// The handshake broke for another reason.
    Tls(String),
    /// The request failed: a status code, or what happened.
    Http(String),
    /// Another error of the operating system.
    Io(String),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::Reset => f.write_str("reset"),
            Self::Closed => f.write_str("closed"),
            Self::Timeout => f.write_str("timeout"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::NoPort => f.write_str("no_port"),
            Self::NoDescriptor => f.write_str("no_descriptor"),
            Self::Alert(name) => write!(f, "alert:{name}"),
            Self::Certificate(reason) => write!(f, "certificate:{reason}"),
            Self::Tls(reason) => write!(f, "tls:{reason}"),
            Self::Http(reason) => write!(f, "http:{reason}"),
            Self::Io(reason) => write!(f, "io:{reason}"),
        }
    }
}

impl Failure {
    /// The connection was not done in time.
    pub fn timeout() -> Self {
        Self { kind: Kind::Timeout, message: "not done within --timeout".into() }
    }

    /// The server answered with an error.
    pub fn status(status: hyper::StatusCode) -> Self {
        Self { kind: Kind::Http(status.as_str().into()), message: format!("the server answered {status}") }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let kind = match tls {
            Some(error) => Kind::from(error),
            None => Kind::from(&error),
        };
        Self { kind, message: error.to_string() }
    }
}

impl From<hyper::Error> for Failure {
    fn from(error: hyper::Error) -> Self {
        let mut message = error.to_string();
        let mut kind = if error.is_parse() { "malformed_response" } else { "closed" }.to_owned();
        if let Some(cause) = std::error::Error::source(&error) {
            message = format!("{message}: {cause}");
            if let Some(cause) = cause.downcast_ref::<io::Error>() {
                kind = Kind::from(cause).to_string();
            }
        }
        Self { kind: Kind::Http(kind), message }
    }
}

impl From<&io::Error> for Kind {
    fn from(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected => Self::Reset,
            io::ErrorKind::UnexpectedEof => Self::Closed,
            io::ErrorKind::TimedOut => Self::Timeout,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Self::Unreachable,
            io::ErrorKind::AddrNotAvailable => Self::NoPort,
            kind => match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
                Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE) => Self::NoDescriptor,
                _ => Self::Io(snake_case(&format!("{kind:?}"))),
            },
        }
    }
}

impl From<&rustls::Error> for Kind {
    fn from(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::AlertReceived(alert) => Self::Alert(snake_case(&format!("{alert:?}"))),
            rustls::Error::InvalidCertificate(reason) => {
                let name = snake_case(&format!("{reason:?}"));
                Self::Certificate(name.strip_suffix("_context").unwrap_or(&name).to_owned())
            }
            other => Self::Tls(snake_case(&format!("{other:?}"))),
        }
    }
}

/// Turns the leading name of a Debug text into snake case: `UnknownCA` into `unknown_ca`.
fn snake_case(debug: &str) -> String {
    let end = debug.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(debug.len());
    let name = debug.get(..end).unwrap_or_default();
    let mut snake = String::with_capacity(name.len() + 4);
    let mut before = ' ';
    let mut rest = name.chars().peekable();
    while let Some(c) = rest.next() {
        let starts_word = before.is_ascii_lowercase() || rest.peek().is_some_and(char::is_ascii_lowercase);
        if c.is_ascii_uppercase() && !snake.is_empty() && starts_word {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
        before = c;
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{AlertDescription, CertificateError};

    fn kind(error: rustls::Error) -> String {
        Failure::from(io::Error::new(io::ErrorKind::InvalidData, error)).kind.to_string()
    }

    #[test]
    fn alerts_have_the_names_of_the_specification() {
        for (alert, name) in [
            (AlertDescription::HandshakeFailure, "alert:handshake_failure"),
            (AlertDescription::UnknownCA, "alert:unknown_ca"),
            (AlertDescription::BadRecordMac, "alert:bad_record_mac"),
            (AlertDescription::InternalError, "alert:internal_error"),
        ] {
            assert_eq!(kind(rustls::Error::AlertReceived(alert)), name);
        }
    }

    #[test]
    fn certificates() {
        assert_eq!(kind(CertificateError::UnknownIssuer.into()), "certificate:unknown_issuer");
        let named = CertificateError::NotValidForNameContext {
            expected: "www.example.com".try_into().unwrap(),
            presented: vec![],
        };
        assert_eq!(kind(named.into()), "certificate:not_valid_for_name");
        assert_eq!(
            kind(rustls::Error::PeerIncompatible(rustls::PeerIncompatible::NoSignatureSchemesInCommon)),
            "tls:peer_incompatible"
        );
    }

    #[test]
    fn operating_system_errors() {
        let os = |errno: rustix::io::Errno| {
            Failure::from(io::Error::from_raw_os_error(errno.raw_os_error())).kind.to_string()
        };
        assert_eq!(os(rustix::io::Errno::CONNREFUSED), "refused");
        assert_eq!(os(rustix::io::Errno::PIPE), "reset");
        assert_eq!(os(rustix::io::Errno::ADDRNOTAVAIL), "no_port");
        assert_eq!(os(rustix::io::Errno::MFILE), "no_descriptor");
        assert_eq!(os(rustix::io::Errno::ACCESS), "io:permission_denied");
    }
}
