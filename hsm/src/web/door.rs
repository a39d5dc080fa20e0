//! A socket that listens for those who only look.

use std::os::fd::OwnedFd;
use std::{fmt, io};

use rustix::net::AddressFamily;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::Address;

/// A listening socket, opened before the daemon gives up sockets of the network.
#[derive(Debug)]
pub struct Door {
    socket: Socket,
    name: String,
}

#[derive(Debug)]
enum Socket {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Door {
    /// Opens a door. A Unix socket gets the permissions `mode`.
    ///
    /// # Errors
    ///
    /// With the address, and what the system said.
    pub fn open(address: &Address, mode: u32) -> io::Result<Self> {
        let name = address.to_string();
        let failed = |error: io::Error| io::Error::new(error.kind(), format!("listening on {name}: {error}"));
        match address {
            Address::Tcp(address) => {
                let listener = std::net::TcpListener::bind(address).map_err(failed)?;
                // With port 0 the system has chosen one.
                let name = Address::Tcp(listener.local_addr().map_err(failed)?).to_string();
                Ok(Self { socket: Socket::Tcp(listener), name })
            }
            Address::Unix(path) => {
                let listener = crate::daemon::listen(path, mode).map_err(io::Error::other)?;
                Ok(Self { socket: Socket::Unix(listener), name })
            }
        }
    }

    /// Takes over a listening socket that the service manager has opened.
    ///
    /// # Errors
    ///
    /// If it is of another family than TCP's and Unix sockets'.
    pub fn inherited(socket: OwnedFd) -> io::Result<Self> {
        match rustix::net::getsockname(&socket)?.address_family() {
            AddressFamily::INET | AddressFamily::INET6 => {
                let listener = std::net::TcpListener::from(socket);
                let name = Address::Tcp(listener.local_addr()?).to_string();
                Ok(Self { socket: Socket::Tcp(listener), name })
            }
            AddressFamily::UNIX => {
                let listener = std::os::unix::net::UnixListener::from(socket);
                let name = match listener.local_addr()?.as_pathname() {
                    Some(path) => path.display().to_string(),
                    None => "a socket without a name".to_owned(),
                };
                Ok(Self { socket: Socket::Unix(listener), name })
            }
            _ => Err(io::Error::other("the socket for metrics is neither TCP's nor a Unix socket")),
        }
    }

    /// The link that a browser on this machine opens; none where there is no page, or no browser comes.
    pub fn page(&self) -> Option<String> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let address = listener.local_addr().map(Address::Tcp).ok();
                address.filter(|address| !address.is_exposed()).map(|address| address.to_string())
            }
            Socket::Unix(_) => None,
        }
    }

    pub(super) fn listen(self) -> io::Result<Listener> {
        match self.socket {
            Socket::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener).map(Listener::Tcp)
            }
            Socket::Unix(listener) => {
                listener.set_nonblocking(true)?;
                UnixListener::from_std(listener).map(Listener::Unix)
            }
        }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

pub(super) enum Accepted {
    Tcp(TcpStream, std::net::SocketAddr),
    Unix(UnixStream),
}

impl Listener {
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Listener::Tcp(listener) => {
                listener.accept().await.map(|(stream, from)| Accepted::Tcp(stream, from))
            }
            Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| Accepted::Unix(stream)),
        }
    }
}
