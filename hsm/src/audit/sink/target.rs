//! Where entries are sent: as the command line says it.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Where journald listens.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// The port of syslog over UDP (RFC 5426), and over TLS (RFC 5425).
const UDP_PORT: u16 = 514;
const TLS_PORT: u16 = 6514;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host {
    /// A name or an address.
    pub name: String,
    /// The port.
    pub port: u16,
}

impl Host {
    /// Whether the name has to be looked up.
    pub fn is_name(&self) -> bool {
        self.name.parse::<IpAddr>().is_err()
    }

    fn parse(text: &str, port: u16) -> Option<Self> {
        let (name, port) = match text.strip_prefix('[') {
            // [::1]:514
            Some(rest) => {
                let (address, rest) = rest.split_once(']')?;
                address.parse::<std::net::Ipv6Addr>().ok()?;
                match rest.strip_prefix(':') {
                    Some(port) => (address, port.parse().ok()?),
                    None if rest.is_empty() => (address, port),
                    None => return None,
                }
            }
            None => match text.rsplit_once(':') {
                Some((name, port)) => (name, port.parse().ok()?),
                None => (text, port),
            },
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let is_bracketed = text.starts_with('[');
        let fits = is_bracketed || (!name.is_empty() && name.chars().all(is_name));
        (fits && port != 0).then(|| Host { name: name.to_owned(), port })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(':') {
            true => write!(f, "[{}]:{}", self.name, self.port),
            false => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

/// Where entries are sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The machine's journal, at journald's native socket.
    Journald(PathBuf),
    /// Syslog, RFC 5424 over UDP (RFC 5426).
    Udp(Host),
    /// Syslog, RFC 5424 over TLS (RFC 5425).
    Tls(Host),
}

impl Target {
    /// What the sink is called in metrics, where no address belongs.
    pub fn kind(&self) -> &'static str {
        match self {
            Target::Journald(_) => "journald",
            Target::Udp(_) => "udp",
            Target::Tls(_) => "tls",
        }
    }

    /// The host, of those that are on the network.
    pub fn host(&self) -> Option<&Host> {
        match self {
            Target::Journald(_) => None,
            Target::Udp(host) | Target::Tls(host) => Some(host),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let host = |rest: &str, port| {
            Host::parse(rest, port).ok_or_else(|| format!("\"{rest}\" is not like logs.example.com:{port}"))
        };
        match text.split_once("://") {
            Some(("syslog+udp", rest)) => Ok(Target::Udp(host(rest, UDP_PORT)?)),
            Some(("syslog+tls", rest)) => Ok(Target::Tls(host(rest, TLS_PORT)?)),
            _ => match text.split_once(':') {
                None if text == "journald" => Ok(Target::Journald(JOURNAL.into())),
                Some(("journald", path)) if path.starts_with('/') => Ok(Target::Journald(path.into())),
                _ => Err("a sink is journald, syslog+udp://HOST:PORT or syslog+tls://HOST:PORT".to_owned()),
            },
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Journald(path) if path.as_os_str() == JOURNAL => f.write_str("journald"),
            Target::Journald(path) => write!(f, "journald:{}", path.display()),
            Target::Udp(host) => write!(f, "syslog+udp://{host}"),
            Target::Tls(host) => write!(f, "syslog+tls://{host}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinks_are_read_as_they_are_shown() {
        for text in [
            "journald",
            "journald:/tmp/socket",
            "syslog+udp://127.0.0.1:5514",
            "syslog+tls://logs.example.com:6514",
            "syslog+tls://[::1]:7000",
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        let tls: Target = "syslog+tls://logs".parse().unwrap();
        assert_eq!(tls.to_string(), "syslog+tls://logs:6514");
        assert!(tls.host().unwrap().is_name());
        let udp: Target = "syslog+udp://[fe80::1]".parse().unwrap();
        assert_eq!(udp.to_string(), "syslog+udp://[fe80::1]:514");
        assert!(!udp.host().unwrap().is_name());
        for text in [
            "",
            "syslog",
            "journald:relative",
            "syslog+tcp://a",
            "syslog+tls://",
            "syslog+tls://a:0",
            "syslog+tls://a:70000",
            "syslog+tls://a b",
            "syslog+udp://[::1",
            "syslog+udp://[x]:1",
            "syslog+udp://::1",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
