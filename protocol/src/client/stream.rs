//! The bytes between a client and a node: on a Unix socket as they are, over TCP in TLS.
//!
//! Each call makes one system call at most, so that its caller keeps to its deadline between two of them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::addr::SocketAddrArg;
use rustix::net::{
    self, AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::Until;
use crate::node::{Address, Node};

/// The most that is handed to the kernel at once, in bytes. It waits anew for each of the blocks into which it
/// cuts a larger message.
const CHUNK: usize = 32 * 1024;

/// An open stream.
#[derive(Debug)]
pub(super) enum Stream {
    Unix(OwnedFd),
    Tls(Box<Tls>),
}

#[derive(Debug)]
pub(super) struct Tls {
    descriptor: OwnedFd,
    session: ClientConnection,
}

/// A socket for a library that reads and writes.
struct Socket<'a>(&'a OwnedFd);

impl Read for Socket<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        Ok(net::recv(self.0, room, RecvFlags::empty()).map(|(_, received)| received)?)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let chunk = bytes.get(..CHUNK).unwrap_or(bytes);
        // NOSIGNAL: SIGPIPE would end a host process that does not expect it.
        match net::send(self.0, chunk, SendFlags::NOSIGNAL)? {
            0 => Err(ErrorKind::WriteZero.into()),
            sent => Ok(sent),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream {
    /// Connects; of TLS nothing is said before the first message.
    pub(super) fn open(node: &Node, until: Until) -> io::Result<Self> {
        Self::connect(node, Some(until), 0)
    }

    /// Begins to connect, to one address; no call on the stream waits for anything. Of a name with several addresses it is
    /// another one for each `turn`.
    pub(super) fn begin(node: &Node, turn: usize) -> io::Result<Self> {
        Self::connect(node, None, turn)
    }

    fn connect(node: &Node, until: Option<Until>, turn: usize) -> io::Result<Self> {
        match (&node.address, &node.tls) {
            (Address::Unix(path), _) => Ok(Stream::Unix(connect_unix(path, until)?)),
            (Address::Tls { host, port }, Some(config)) => {
                let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                let session = ClientConnection::new(Arc::<ClientConfig>::clone(config), name)
                    .map_err(io::Error::other)?;
                let descriptor = connect_tcp(host, *port, until, turn)?;
                Ok(Stream::Tls(Box::new(Tls { descriptor, session })))
            }
            (Address::Tls { .. }, None) => {
                Err(io::Error::other("there is no owner's certificate by which the node would be known"))
            }
        }
    }

    pub(super) fn descriptor(&self) -> &OwnedFd {
        match self {
            Stream::Unix(descriptor) => descriptor,
            Stream::Tls(tls) => &tls.descriptor,
        }
    }

    /// Sends some of `bytes`, which may be none; how many were taken. `WouldBlock`: the socket's time is over.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(descriptor) => Socket(descriptor).write(bytes),
            Stream::Tls(tls) => {
                let taken = if bytes.is_empty() { 0 } else { tls.session.writer().write(bytes)? };
                if tls.session.wants_write() {
                    tls.session.write_tls(&mut Socket(&tls.descriptor))?;
                }
                Ok(taken)
            }
        }
    }

    /// Whether nothing of what was taken waits here. (What waits for the handshake goes when the answer is read.)
    pub(super) fn has_sent_all(&self) -> bool {
        match self {
            Stream::Unix(_) => true,
            Stream::Tls(tls) => !tls.session.wants_write(),
        }
    }

    /// Receives into `room`; 0 is the end. `WouldBlock`: the socket's time is over. `Interrupted`: nothing yet.
    pub(super) fn receive(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let tls = match self {
            Stream::Unix(descriptor) => return Socket(descriptor).read(room),
            Stream::Tls(tls) => tls,
        };
        let Tls { descriptor, session } = &mut **tls;
        match session.reader().read(room) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            other => return other,
        }
        if session.wants_write() {
            session.write_tls(&mut Socket(descriptor))?;
        } else if session.read_tls(&mut Socket(descriptor))? == 0 {
            return Ok(0);
        } else if let Err(error) = session.process_new_packets() {
            // The node's log is to say what the client had against it.
            let _ = session.write_tls(&mut Socket(descriptor));
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
        Err(ErrorKind::Interrupted.into())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor().as_fd()
    }
}

fn connect_unix(path: &Path, until: Option<Until>) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    Ok(connect(AddressFamily::UNIX, &address, until)?)
}

/// Tries the addresses of a name one after the other, from that of the `turn` on. (How long a name takes to be found is the system's to say;
/// numeric addresses take no time.)
fn connect_tcp(host: &str, port: u16, until: Option<Until>, turn: usize) -> io::Result<OwnedFd> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
    let mut addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    if !addresses.is_empty() {
        let first = turn % addresses.len();
        addresses.rotate_left(first);
    }
    for address in addresses {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        match connect(family, &address, until) {
            Ok(socket) => {
                // A request is one small segment: it must not wait for the answer to the one before.
                sockopt::set_tcp_nodelay(&socket, true)?;
                return Ok(socket);
            }
            // The kernel's word for a connect(2) whose time is over.
            Err(Errno::INPROGRESS | Errno::ALREADY) => last = ErrorKind::TimedOut.into(),
            Err(error) => last = error.into(),
        }
        if until.is_some_and(|until| until.left().is_none()) {
            break;
        }
    }
    Err(last)
}

/// A stream socket connected to `address`, close-on-exec, on which every system call ends in the time that `until`
/// has left; without, one that is being connected, and on which none waits.
fn connect(
    family: AddressFamily,
    address: &impl SocketAddrArg,
    until: Option<Until>,
) -> Result<OwnedFd, Errno> {
    let Some(until) = until else {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
        return match net::connect(&socket, address) {
            Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(socket),
            Err(error) => Err(error),
        };
    };
    let socket = net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // The send timeout also bounds connect(2), which waits when the daemon's backlog is full (unix(7)), or for a
    // machine that is not there.
    let mut interrupted = false;
    loop {
        set_timeouts(&socket, until.left().ok_or(Errno::TIMEDOUT)?)?;
        match net::connect(&socket, address) {
            Err(Errno::INTR) => interrupted = true,
            // After an interruption the kernel went on by itself.
            Err(Errno::ISCONN) if interrupted => return Ok(socket),
            Err(error) => return Err(error),
            Ok(()) => return Ok(socket),
        }
    }
}

/// How long each system call on the socket waits.
pub(super) fn set_timeouts(socket: &OwnedFd, wait: Duration) -> Result<(), Errno> {
    sockopt::set_socket_timeout(socket, sockopt::Timeout::Send, Some(wait))?;
    sockopt::set_socket_timeout(socket, sockopt::Timeout::Recv, Some(wait))
}
