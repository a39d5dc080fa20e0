//! Where metrics and the page are to be had.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// An address to listen on: `127.0.0.1:9823`, `[::1]:9823`, or the path of a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// Whether other machines can connect.
    pub fn is_exposed(&self) -> bool {
        match self {
            Address::Tcp(address) => !address.ip().to_canonical().is_loopback(),
            Address::Unix(_) => false,
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with('/') {
            return Ok(Address::Unix(text.into()));
        }
        text.parse().map(Address::Tcp).map_err(|_| {
            "not an address and port like 127.0.0.1:9823 or [::1]:9823, nor the path of a socket like \
             /run/strongroom/metrics.sock"
                .to_owned()
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "http://{address}/"),
            Address::Unix(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_numbers_or_paths() {
        for (text, shown, exposed) in [
            ("127.0.0.1:9823", "http://127.0.0.1:9823/", false),
            ("[::1]:1", "http://[::1]:1/", false),
            ("[::ffff:127.0.0.1]:1", "http://[::ffff:127.0.0.1]:1/", false),
            ("0.0.0.0:9823", "http://0.0.0.0:9823/", true),
            ("192.0.2.1:80", "http://192.0.2.1:80/", true),
            ("/run/metrics.sock", "/run/metrics.sock", false),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.to_string().as_str(), address.is_exposed()), (shown, exposed));
        }
        for wrong in ["", "9823", "localhost:9823", "127.0.0.1", "127.0.0.1:99999", "metrics.sock"] {
            wrong.parse::<Address>().unwrap_err();
        }
    }
}
