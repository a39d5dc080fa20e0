//! Nodes: where a daemon is reached, on this machine or over the network.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use rustls::ClientConfig;

/// The port on which nodes listen for TLS, where an address has none.
pub const PORT: u16 = 9820;

/// The most nodes in a list.
pub const MAX_NODES: usize = 16;

/// What begins the address of a node that is reached over TLS.
const TLS: &str = "tls://";

/// Where a node is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// TLS 1.3 over TCP.
    Tls {
        /// A name, or an address of the network; an IPv6 address without brackets.
        host: String,
        /// The TCP port.
        port: u16,
    },
}

/// Why a text is no node's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no node's address: a node is tls://HOST or tls://HOST:PORT, or the path of a socket (/run/strongroom/strongroomd.sock)"
)]
pub struct AddressError(String);

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError(text.to_owned());
        let Some(rest) = text.strip_prefix(TLS) else {
            // Not relative: the working directory of a program is not what whoever writes a list thinks of.
            let is_path = text.starts_with('/') && !text.contains('\0');
            return if is_path { Ok(Address::Unix(PathBuf::from(text))) } else { Err(wrong()) };
        };
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or_else(wrong)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
                let port =
                    if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or_else(wrong)?) };
                (host, port)
            }
            None => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        let port = match port {
            None => PORT,
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?,
        };
        // What TLS takes as a server's name: a DNS name or an address.
        rustls::pki_types::ServerName::try_from(host).map_err(|_| wrong())?;
        Ok(Address::Tls { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => path.display().fmt(f),
            Address::Tls { host, port } if host.contains(':') => write!(f, "{TLS}[{host}]:{port}"),
            Address::Tls { host, port } => write!(f, "{TLS}{host}:{port}"),
        }
    }
}

/// A node, with what a client needs to reach it.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where it is.
    pub address: Address,
    /// How TLS is spoken with it; none on a Unix socket. A process makes its own after a fork: it remembers sessions.
    pub tls: Option<Arc<ClientConfig>>,
}

impl Node {
    /// A node on this machine.
    pub fn unix(socket: impl Into<PathBuf>) -> Self {
        Node { address: Address::Unix(socket.into()), tls: None }
    }

    /// Whether it is on this machine for certain: nothing is nearer.
    pub fn is_near(&self) -> bool {
        matches!(self.address, Address::Unix(_))
    }

    /// For errors.
    pub(crate) fn name(&self) -> PathBuf {
        match &self.address {
            Address::Unix(path) => path.clone(),
            address => PathBuf::from(address.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for (text, written) in [
            ("/run/strongroom/strongroomd.sock", "/run/strongroom/strongroomd.sock"),
            ("tls://hsm1.example.org", "tls://hsm1.example.org:9820"),
            ("tls://10.0.0.1:99", "tls://10.0.0.1:99"),
            ("tls://[fd00::1]", "tls://[fd00::1]:9820"),
            ("tls://[fd00::1]:7", "tls://[fd00::1]:7"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), written);
        }
        for wrong in [
            "",
            "run/socket",
            "hsm1",
            "tls://",
            "tls://a:0",
            "tls://a:65536",
            "tls://a b",
            "tls://[::1",
            "tls://[a]:1",
            "tcp://a:1",
            "tls://::1",
        ] {
            let error = wrong.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains("tls://HOST"), "{error}");
        }
    }
}
