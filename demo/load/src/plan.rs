//! Options resolved: addresses, one TLS configuration, and when to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::http::{Request, uri::PathAndQuery};
use rustls::pki_types::{InvalidDnsNameError, ServerName};

use crate::connection::Endpoint;
use crate::options::Options;
use crate::sessions::Sessions;
use crate::tls;

/// Connections in flight when the user does not say.
const CLOSED_CONCURRENCY: u32 = 64;
const OPEN_CONCURRENCY: u32 = 1024;
const DEFAULT_DURATION: Duration = Duration::from_secs(10);

/// Why the load could not start.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The target is not of the form HOST:PORT.
    #[error("{0:?} is not HOST:PORT (for example localhost:8443 or [::1]:8443)")]
    Target(String),
    /// The host has no address.
    #[error("cannot find the address of {target}: {source}")]
    Resolve {
        /// What was looked up.
        target: String,
        /// The resolver's word.
        source: std::io::Error,
    },
    /// The server name can be neither a DNS name nor an address.
    #[error("{name:?} cannot be a server name: {source}")]
    ServerName {
        /// The name.
        name: String,
        /// What is wrong with it.
        source: InvalidDnsNameError,
    },
    /// The CA file cannot be read, or holds no certificate.
    #[error("cannot use the CA certificates in {path}: {reason}; give --ca FILE, or --insecure-chain", path = path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No cipher suite or signature scheme is left.
    #[error("this combination of --tls, --cipher, --group and --key-type leaves nothing to offer: {0}")]
    Tls(String),
    /// The path cannot be sent in a request.
    #[error("{0:?} cannot be requested: a path starts with / and has no spaces")]
    Path(String),
    /// The server gave no session although a handshake succeeded.
    #[error(
        "the server gave no session that could be resumed: its tickets and its session cache are switched off, \
         or no ticket arrived within a second of the handshake"
    )]
    NoSession,
    /// The runtime or its timer cannot be made.
    #[error("cannot start: {0}")]
    Runtime(#[from] std::io::Error),
}

/// When connections start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// The next one starts when one is done.
    Closed {
        /// Connections at once.
        concurrency: u32,
    },
    /// They start on time.
    Open {
        /// Arrivals a second.
        rate: f64,
        /// Connections at once; arrivals above wait, and their latency grows.
        in_flight: u32,
    },
}

/// When to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// Connections to start.
    pub count: Option<u64>,
    /// How long to start new ones.
    pub duration: Option<Duration>,
    /// Errors to bear.
    pub errors: Option<u64>,
}

/// All that a run needs to know, checked.
#[derive(Debug)]
pub struct Plan {
    /// The title.
    pub label: String,
    /// The target as the user wrote it.
    pub target: String,
    /// When connections start.
    pub pace: Pace,
    /// When to stop.
    pub limit: Limit,
    /// Width of the timeline's slices, if fixed.
    pub interval: Option<Duration>,
    /// Worker threads that [`crate::launch`] makes.
    pub threads: usize,
    /// What to connect to, and how.
    pub endpoint: Endpoint,
}

impl Plan {
    /// Resolves names and reads files.
    ///
    /// # Errors
    ///
    /// Each [`SetupError`] but the last two; nothing was sent to the server yet.
    pub fn resolve(options: &Options) -> Result<Self, SetupError> {
        let (host, addresses) = addresses(&options.target)?;
        let name = options.server_name.as_deref().unwrap_or(host);
        let server_name = ServerName::try_from(name.to_owned())
            .map_err(|source| SetupError::ServerName { name: name.to_owned(), source })?;
        let sessions = options.resume.then(|| Arc::new(Sessions::default()));
        let config = tls::config(options, sessions.clone())?;
        let pace = match options.rate {
            None => Pace::Closed { concurrency: options.concurrency.map_or(CLOSED_CONCURRENCY, |n| n.get()) },
            Some(rate) => {
                Pace::Open { rate, in_flight: options.concurrency.map_or(OPEN_CONCURRENCY, |n| n.get()) }
            }
        };
        let duration = match (options.duration, options.count) {
            (None, None) => Some(DEFAULT_DURATION),
            (duration, _) => duration,
        };
        Ok(Self {
            label: options.label.clone(),
            target: options.target.clone(),
            pace,
            limit: Limit { count: options.count, duration, errors: options.max_errors },
            interval: options.interval,
            threads: usize::try_from(options.threads.get()).unwrap_or(1),
            endpoint: Endpoint {
                addresses,
                request: request(&options.path, name, &options.target)?,
                server_name,
                tls: Arc::new(config),
                requests: options.requests,
                timeout: options.timeout,
                sessions,
            },
        })
    }

    /// The most connections that are open at once.
    pub fn concurrency(&self) -> u32 {
        match self.pace {
            Pace::Closed { concurrency } => concurrency,
            Pace::Open { in_flight, .. } => in_flight,
        }
    }
}

fn addresses(target: &str) -> Result<(&str, Vec<SocketAddr>), SetupError> {
    let malformed = || SetupError::Target(target.to_owned());
    let (host, port) = target.rsplit_once(':').ok_or_else(malformed)?;
    let port: u16 = port.parse().map_err(|_| malformed())?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() {
        return Err(malformed());
    }
    let unresolved = |source| SetupError::Resolve { target: target.to_owned(), source };
    let addresses: Vec<_> =
        std::net::ToSocketAddrs::to_socket_addrs(&(host, port)).map_err(unresolved)?.collect();
    if addresses.is_empty() {
        return Err(unresolved(std::io::Error::other("no address")));
    }
    Ok((host, addresses))
}

fn request(path: &str, name: &str, target: &str) -> Result<Request<()>, SetupError> {
    let malformed = || SetupError::Path(path.to_owned());
    if !path.starts_with('/') {
        return Err(malformed());
    }
    let path: PathAndQuery = path.parse().map_err(|_| malformed())?;
    let port = target.rsplit_once(':').map_or("443", |(_, port)| port);
    let host = if name.contains(':') { format!("[{name}]:{port}") } else { format!("{name}:{port}") };
    Request::get(hyper::Uri::from(path))
        .header(hyper::header::HOST, host)
        .header(hyper::header::USER_AGENT, "strongroom-load")
        .body(())
        .map_err(|_| malformed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let (host, found) = addresses("[::1]:8443").unwrap();
        assert_eq!((host, found), ("::1", vec!["[::1]:8443".parse().unwrap()]));
        assert_eq!(addresses("127.0.0.1:1").unwrap().1, vec!["127.0.0.1:1".parse().unwrap()]);
        for wrong in ["localhost", "localhost:", ":443", "localhost:99999", ""] {
            assert!(matches!(addresses(wrong), Err(SetupError::Target(_))), "{wrong}");
        }
    }

    #[test]
    fn request_names_the_host() {
        let request = request("/a?b=c", "www.example.com", "127.0.0.1:8443").unwrap();
        assert_eq!(request.uri(), "/a?b=c");
        assert_eq!(request.headers()["host"], "www.example.com:8443");
        assert!(super::request("nothing", "a", "a:1").is_err());
        assert!(super::request("/a b", "a", "a:1").is_err());
    }
}
