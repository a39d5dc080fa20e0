//! The bytes of a connection: a Unix socket's as they are, the network's in TLS.

use std::io::{self, ErrorKind, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::ServerConnection;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpStream, UnixStream, unix};

/// The most that one TLS record takes, in bytes.
const RECORD: usize = 16 * 1024;

/// A stream that a client has opened.
#[derive(Debug)]
pub enum Stream {
    /// On this machine.
    Unix(UnixStream),
    /// Over the network.
    Tls(Box<Tls>),
}

/// A TLS session whose handshake is over.
#[derive(Debug)]
pub struct Tls {
    socket: TcpStream,
    session: ServerConnection,
    /// Bytes that the session has and the socket has not taken. They count as taken when it has.
    untaken: usize,
}

impl Tls {
    /// Of a handshake that is over.
    pub fn new(socket: TcpStream, session: ServerConnection) -> Self {
        Tls { socket, session, untaken: 0 }
    }

    /// Hands the socket what waits for it.
    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(&mut NotWaiting(&self.socket))?;
        }
        Ok(())
    }

    /// As [`Stream::try_write`]: who is refused comes again with the same bytes.
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        if self.untaken == 0 {
            let record = bytes.get(..RECORD).unwrap_or(bytes);
            self.untaken = self.session.writer().write(record)?;
            self.flush()?;
        }
        Ok(std::mem::take(&mut self.untaken))
    }
}

/// A socket for a library that reads and writes, and must not wait.
struct NotWaiting<'a>(&'a TcpStream);

impl Read for NotWaiting<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(room)
    }
}

impl Write for NotWaiting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream {
    /// The Unix socket, if it is one: only there descriptors can be sent.
    pub(super) fn unix(&self) -> Option<&UnixStream> {
        match self {
            Stream::Unix(socket) => Some(socket),
            Stream::Tls(_) => None,
        }
    }

    /// Writes what the socket takes now. After `WouldBlock` the same bytes come again, and more behind them.
    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(socket) => socket.try_write(bytes),
            Stream::Tls(tls) => tls.try_write(bytes),
        }
    }

    /// Waits until the socket takes more.
    pub(super) async fn writable(&self) -> io::Result<()> {
        match self {
            Stream::Unix(socket) => socket.writable().await,
            Stream::Tls(tls) => tls.socket.writable().await,
        }
    }

    /// Both directions, for who waits for either.
    pub(super) fn split(&mut self) -> (Reading<'_>, Writing<'_>) {
        match self {
            Stream::Unix(socket) => {
                let (reading, writing) = socket.split();
                (Reading::Unix(reading), Writing::Unix(writing))
            }
            Stream::Tls(tls) => {
                let Tls { socket, session, .. } = &mut **tls;
                (Reading::Tls(socket, session), Writing::Tls(socket))
            }
        }
    }
}

/// What arrives.
pub(super) enum Reading<'a> {
    Unix(unix::ReadHalf<'a>),
    Tls(&'a TcpStream, &'a mut ServerConnection),
}

/// What leaves.
pub(super) enum Writing<'a> {
    Unix(unix::WriteHalf<'a>),
    Tls(&'a TcpStream),
}

impl Writing<'_> {
    /// Waits until the socket takes more.
    pub(super) async fn writable(&self) -> io::Result<()> {
        match self {
            Writing::Unix(socket) => socket.writable().await,
            Writing::Tls(socket) => socket.writable().await,
        }
    }
}

impl AsyncRead for Reading<'_> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (socket, session) = match self.get_mut() {
            Reading::Unix(socket) => return Pin::new(socket).poll_read(cx, buf),
            Reading::Tls(socket, session) => (*socket, session),
        };
        loop {
            match session.reader().read(buf.initialize_unfilled()) {
                Ok(read) => {
                    buf.advance(read);
                    return Poll::Ready(Ok(()));
                }
                // A client that ends does not always say so in TLS. What it has asked is whole or is no frame.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Poll::Ready(Ok(())),
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Poll::Ready(Err(error)),
                Err(_) => {}
            }
            ready!(socket.poll_read_ready(cx))?;
            match session.read_tls(&mut NotWaiting(socket)) {
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    continue;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
            if let Err(error) = session.process_new_packets() {
                // The client is told what was wrong, if it listens.
                let _ = session.write_tls(&mut NotWaiting(socket));
                return Poll::Ready(Err(io::Error::new(ErrorKind::InvalidData, error)));
            }
        }
    }
}
