//! How entries get to a sink: journald's native protocol, and syslog over UDP and over TLS.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::Sink;
use super::feed::Line;
use super::syslog::{self, Header};
use super::target::{Host, Target};

/// For a connection to be made, and for a receiver to take what is sent.
const WAIT: Duration = Duration::from_secs(10);

/// A connection is given up if what was sent is not acknowledged by the receiver's system for so long.
const UNACKNOWLEDGED: Duration = Duration::from_secs(20);

/// What was sent counts as received when the connection has lasted so much longer: RFC 5425 has no acknowledgement, and
/// what is on the way, or not yet read by the receiver, is lost with the connection.
const TLS_CONFIRMED: Duration = Duration::from_secs(30);

/// For a datagram, an error comes back by then, if one does; and a receiver has written down what it took.
const DATAGRAM_CONFIRMED: Duration = Duration::from_secs(5);

/// Datagrams at a time: a receiver's system keeps few that its program has not read yet.
const DATAGRAMS: usize = 50;
const BETWEEN_DATAGRAMS: Duration = Duration::from_millis(10);

/// Written at a time over TLS, in bytes.
const CHUNK: usize = 32 * 1024;

/// For the receiver's goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// A way to a sink that is open.
pub(super) trait Carrier: Send {
    /// Sends entries. After an error nobody knows which have arrived.
    fn send(&mut self, lines: &[Line]) -> io::Result<()>;

    /// Whether the receiver is still there, as far as that can be told.
    fn check(&mut self) -> io::Result<()>;

    /// After how long without an error what was sent counts as received.
    fn confirmed_after(&self) -> Duration;

    /// Ends it; whether the receiver has got everything.
    fn finish(&mut self) -> bool;
}

/// Opens the way to a sink.
pub(super) fn open(sink: &Sink) -> io::Result<Box<dyn Carrier>> {
    let header = || Header::new(sink.facility);
    Ok(match (&sink.target, &sink.tls) {
        (Target::Journald(path), _) => Box::new(Journald::open(path.clone())?),
        (Target::Udp(host), _) => Box::new(Udp::open(host, header())?),
        (Target::Tls(host), Some(config)) => Box::new(Tls::open(host, Arc::clone(config), header())?),
        (Target::Tls(_), None) => return Err(io::Error::other("no certificates of authorities were read")),
    })
}

/// journald's native protocol: a datagram of fields.
struct Journald {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journald {
    fn open(path: PathBuf) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(WAIT))?;
        Ok(Journald { socket, path })
    }
}

/// The fields of an entry. None of them has a line feed: the line is JSON, and the others are printable.
fn fields(line: &Line) -> String {
    let entry = &line.entry;
    let seq = entry.seq.to_string();
    let fields = [
        ("SYSLOG_IDENTIFIER", "strongroomd"),
        ("STRONGROOM_LOG", &entry.log),
        ("STRONGROOM_SEQ", &seq),
        ("STRONGROOM_ACTION", &entry.action),
        ("STRONGROOM_OUTCOME", &entry.outcome),
        ("STRONGROOM_PARTITION", &entry.partition),
        ("STRONGROOM_KEY", &entry.key),
        ("STRONGROOM_USER", &entry.user),
    ];
    let mut text = format!("PRIORITY={}\nMESSAGE={}\n", syslog::severity(line), line.text);
    for (name, value) in fields {
        if !value.is_empty() && !value.contains('\n') {
            text.push_str(&format!("{name}={value}\n"));
        }
    }
    text
}

impl Carrier for Journald {
    fn send(&mut self, lines: &[Line]) -> io::Result<()> {
        for line in lines {
            self.socket.send_to(fields(line).as_bytes(), &self.path)?;
        }
        Ok(())
    }

    fn check(&mut self) -> io::Result<()> {
        UnixDatagram::unbound()?.connect(&self.path)
    }

    fn confirmed_after(&self) -> Duration {
        DATAGRAM_CONFIRMED
    }

    fn finish(&mut self) -> bool {
        true
    }
}

fn addresses(host: &Host) -> io::Result<Vec<std::net::SocketAddr>> {
    let found = (host.name.as_str(), host.port).to_socket_addrs();
    let found = found.map_err(|error| io::Error::other(format!("looking up {}: {error}", host.name)))?;
    Ok(found.collect())
}

/// RFC 5426: a datagram for each message.
struct Udp {
    socket: UdpSocket,
    header: Header,
}

impl Udp {
    fn open(host: &Host, header: Header) -> io::Result<Self> {
        let mut last = io::Error::other("the name has no address");
        for address in addresses(host)? {
            let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            match UdpSocket::bind(any).and_then(|socket| socket.connect(address).map(|()| socket)) {
                Ok(socket) => return Ok(Udp { socket, header }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Carrier for Udp {
    fn send(&mut self, lines: &[Line]) -> io::Result<()> {
        for together in lines.chunks(DATAGRAMS) {
            for line in together {
                self.socket.send(self.header.message(line).as_bytes())?;
            }
            std::thread::sleep(BETWEEN_DATAGRAMS);
            self.check()?;
        }
        Ok(())
    }

    /// An ICMP error that came back: nobody listens there.
    fn check(&mut self) -> io::Result<()> {
        self.socket.take_error()?.map_or(Ok(()), Err)
    }

    fn confirmed_after(&self) -> Duration {
        DATAGRAM_CONFIRMED
    }

    fn finish(&mut self) -> bool {
        std::thread::sleep(BETWEEN_DATAGRAMS);
        self.check().is_ok()
    }
}

/// RFC 5425: messages with their lengths, over TLS.
struct Tls {
    stream: StreamOwned<ClientConnection, TcpStream>,
    header: Header,
}

impl Tls {
    fn open(host: &Host, config: Arc<ClientConfig>, header: Header) -> io::Result<Self> {
        let name = ServerName::try_from(host.name.clone())
            .map_err(|_| io::Error::other(format!("\"{}\" is no name of a host", host.name)))?;
        let mut last = io::Error::other("the name has no address");
        let mut connected = None;
        for address in addresses(host)? {
            match TcpStream::connect_timeout(&address, WAIT) {
                Ok(stream) => {
                    connected = Some(stream);
                    break;
                }
                Err(error) => last = error,
            }
        }
        let Some(mut stream) = connected else { return Err(last) };
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(WAIT))?;
        stream.set_write_timeout(Some(WAIT))?;
        let unacknowledged = u32::try_from(UNACKNOWLEDGED.as_millis()).unwrap_or(u32::MAX);
        rustix::net::sockopt::set_tcp_user_timeout(&stream, unacknowledged)?;
        let mut connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let until = Instant::now() + 2 * WAIT;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
            if Instant::now() > until {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(Tls { stream: StreamOwned::new(connection, stream), header })
    }

    /// Reads what the receiver says, which is nothing of interest, until there is no more; `false` at its end.
    fn listen(&mut self) -> io::Result<bool> {
        let mut said = [0; 1024];
        loop {
            match self.stream.read(&mut said) {
                Ok(0) => return Ok(false),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The end without goodbye.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Carrier for Tls {
    fn send(&mut self, lines: &[Line]) -> io::Result<()> {
        let mut frames = Vec::with_capacity(CHUNK);
        for line in lines {
            let message = self.header.message(line);
            frames.extend_from_slice(format!("{} {message}", message.len()).as_bytes());
            if frames.len() >= CHUNK {
                self.stream.write_all(&frames)?;
                frames.clear();
            }
        }
        self.stream.write_all(&frames)?;
        self.stream.flush()
    }

    fn check(&mut self) -> io::Result<()> {
        self.stream.sock.set_nonblocking(true)?;
        let heard = self.listen();
        self.stream.sock.set_nonblocking(false)?;
        match heard? {
            true => Ok(()),
            false => {
                Err(io::Error::new(io::ErrorKind::ConnectionReset, "the receiver has closed the connection"))
            }
        }
    }

    fn confirmed_after(&self) -> Duration {
        TLS_CONFIRMED
    }

    /// The receiver closes its side when it has read everything up to our goodbye.
    fn finish(&mut self) -> bool {
        self.stream.conn.send_close_notify();
        let said = self.stream.flush().and_then(|()| self.stream.sock.shutdown(Shutdown::Write));
        let listens = self.stream.sock.set_read_timeout(Some(GOODBYE));
        said.is_ok() && listens.is_ok() && matches!(self.listen(), Ok(false))
    }
}
