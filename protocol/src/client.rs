//! A blocking client: one connection, one request at a time, every wait with a deadline.
//!
//! It starts no thread and keeps no global state. A connection must not be used by two processes: after a
//! fork the child opens its own and drops (closes) its copy of this one, which leaves the parent's alone.

mod approach;
mod sign;
mod stream;

pub use approach::{Approach, Sight};

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use prost::Message;
use rustix::io::Errno;
use rustix::net::{self, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use zeroize::Zeroize;

use self::stream::{Stream, set_timeouts};
use crate::frame::{self, FrameError, HEADER};
use crate::node::Node;
use crate::v1::{ErrorCode, Hello, OpenChannel, Request, Response, request, response};
use crate::{VERSION, secret};

/// The buffer of a connection, in bytes: enough for the reply to any signature.
const BUFFER: usize = 1024;

/// A larger buffer, in bytes, is not kept after the message that needed it.
const KEPT: usize = 16 * 1024;

/// The id of a connection's first request.
const FIRST_ID: u64 = 1;

/// By how much a system call may outlast a deadline, before the socket is told to wait for less.
const SLACK: Duration = Duration::from_millis(20);

/// How long a connection waits for the daemon.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// For the daemon to accept the connection and answer the first message.
    pub connect: Duration,
    /// For the reply to a request.
    pub reply: Duration,
}

impl Deadlines {
    /// 2 seconds to connect, 10 for a reply.
    pub const DEFAULT: Self = Deadlines { connect: Duration::from_secs(2), reply: Duration::from_secs(10) };
}

impl Default for Deadlines {
    fn default() -> Self {
        Deadlines::DEFAULT
    }
}

/// Why a call to the daemon failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket.
    #[error("no strongroomd at {}: {source}; start it ('strongroomd', or 'systemctl start strongroomd'), or name its socket in STRONGROOM_SOCKET", socket.display())]
    NotRunning {
        /// The socket that was tried.
        socket: PathBuf,
        /// What connecting said.
        source: io::Error,
    },
    /// The connection broke: the daemon stopped or closed it. The request may have been carried out.
    #[error("the connection to strongroomd at {} was lost: {source}", socket.display())]
    Lost {
        /// The daemon's socket.
        socket: PathBuf,
        /// What reading or writing said.
        source: io::Error,
    },
    /// The daemon did not answer in time. The request may have been carried out.
    #[error("strongroomd at {} did not answer within {waited:?}; see its log", socket.display())]
    Deadline {
        /// The daemon's socket.
        socket: PathBuf,
        /// The deadline that passed.
        waited: Duration,
    },
    /// TLS failed: one side does not take the other's certificate, or the other side speaks something else.
    #[error("no TLS connection to the node {}: {source}", socket.display())]
    Tls {
        /// The node.
        socket: PathBuf,
        /// What the TLS library said.
        source: rustls::Error,
    },
    /// What came back is not this protocol.
    #[error("the reply from {} is not Strongroom's protocol: {what}", socket.display())]
    Protocol {
        /// The daemon's socket.
        socket: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The message cannot be sent: it is too large.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The daemon refused, and says why.
    #[error("{message}")]
    Refused {
        /// The reason as the protocol's code.
        code: ErrorCode,
        /// The reason for people.
        message: String,
    },
}

impl ClientError {
    /// The daemon's code, if it was the daemon that refused.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether this connection can no longer be used. The daemon's refusals leave it usable.
    pub fn is_broken(&self) -> bool {
        !matches!(self, ClientError::Refused { .. } | ClientError::Frame(_))
    }
}

/// The descriptors that come with a ChannelReply.
const CHANNEL_DESCRIPTORS: usize = 3;

/// What a channel is made of: see the crate strongroom-channel.
#[derive(Debug)]
pub struct ChannelDescriptors {
    /// The memory that client and daemon share.
    pub region: OwnedFd,
    /// The eventfd that wakes the daemon.
    pub bell: OwnedFd,
    /// The page that says whether the daemon is awake.
    pub state: OwnedFd,
}

/// When an exchange has to be over.
#[derive(Debug, Clone, Copy)]
struct Until {
    at: Instant,
    /// The whole time it was given, for the error.
    whole: Duration,
}

impl Until {
    fn after(whole: Duration) -> Self {
        Until { at: Instant::now() + whole, whole }
    }

    /// What is left; `None` if it is over.
    fn left(&self) -> Option<Duration> {
        Some(self.at.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }
}

/// What every connection begins with.
fn hello(client: String) -> request::Op {
    request::Op::Hello(Hello { versions: vec![VERSION], client })
}

/// A client's name, as long as the daemon takes.
fn named(client: &str) -> String {
    let mut client = client.to_owned();
    client.truncate(client.floor_char_boundary(64));
    client
}

/// An open connection that has said Hello.
#[derive(Debug)]
pub struct Connection {
    socket: PathBuf,
    stream: Stream,
    deadlines: Deadlines,
    /// What the socket waits at most in one system call.
    wait: Duration,
    next_id: u64,
    buffer: Vec<u8>,
    instance: Vec<u8>,
    daemon: String,
    knows_once: bool,
    /// That of the next request.
    once: Vec<u8>,
    /// The signature before: memory for the next. It has no secret.
    signing: Request,
}

impl Connection {
    /// Connects to the daemon at `socket` and agrees on the protocol's version. `client` names the program
    /// in the daemon's log.
    ///
    /// # Errors
    ///
    /// [`ClientError::NotRunning`] if nobody listens, and all that [`Connection::call`] may say.
    pub fn open(socket: &Path, client: &str, deadlines: Deadlines) -> Result<Self, ClientError> {
        Connection::open_node(&Node::unix(socket), client, deadlines)
    }

    /// As [`Connection::open`], on this machine or over the network.
    ///
    /// # Errors
    ///
    /// As [`Connection::open`], and [`ClientError::Tls`].
    pub fn open_node(node: &Node, client: &str, deadlines: Deadlines) -> Result<Self, ClientError> {
        let until = Until::after(deadlines.connect);
        let stream = Stream::open(node, until)
            .map_err(|source| ClientError::NotRunning { socket: node.name(), source })?;
        let mut connection = Connection::new(node, stream, deadlines);
        let answer = connection.exchange(0, hello(named(client)), until)?;
        connection.greeted(answer)
    }

    fn new(node: &Node, stream: Stream, deadlines: Deadlines) -> Self {
        Connection {
            socket: node.name(),
            stream,
            deadlines,
            wait: deadlines.connect,
            next_id: FIRST_ID,
            buffer: Vec::with_capacity(BUFFER),
            instance: Vec::new(),
            daemon: String::new(),
            knows_once: false,
            once: Vec::new(),
            signing: Request::default(),
        }
    }

    /// After the answer to Hello.
    fn greeted(mut self, answer: response::Result) -> Result<Self, ClientError> {
        match answer {
            response::Result::Hello(reply) if reply.version == VERSION => {
                self.instance = reply.instance;
                self.daemon = reply.daemon;
                self.knows_once = reply.knows_once;
            }
            _ => return Err(self.protocol("an unexpected answer to Hello")),
        }
        self.wait_at_most(self.deadlines.reply)?;
        Ok(self)
    }

    /// The node: a socket's path, or an address as the settings have it.
    pub fn node(&self) -> &Path {
        &self.socket
    }

    /// What identifies this start of the daemon: session objects end with it.
    pub fn instance(&self) -> &[u8] {
        &self.instance
    }

    /// The daemon's release.
    pub fn daemon(&self) -> &str {
        &self.daemon
    }

    /// Waits as long as `reply` for each reply from now on: some keys take their time to be made.
    ///
    /// # Errors
    ///
    /// [`ClientError::Lost`] if the socket does not take the deadline.
    pub fn set_reply_deadline(&mut self, reply: Duration) -> Result<(), ClientError> {
        if self.wait != reply {
            self.wait_at_most(reply)?;
        }
        self.deadlines.reply = reply;
        Ok(())
    }

    /// Whether the daemon has kept this idle connection open, as far as is known without a message. Asked before
    /// a request that must not be sent twice.
    pub fn is_open(&self) -> bool {
        let mut byte = [0; 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        // No byte is due on an idle connection: neither the end of the stream nor an answer.
        matches!(net::recv(&self.stream, &mut byte, flags), Err(Errno::AGAIN | Errno::INTR))
    }

    /// Whether the daemon is on this machine, so that it may share memory.
    pub fn is_local(&self) -> bool {
        matches!(self.stream, Stream::Unix(_))
    }

    /// Asks for a channel of shared memory. It lives as long as this connection, and has its log-ins: keep both
    /// together. `None`: the daemon, or the way to it, has none to give, and the connection serves as it is.
    ///
    /// # Errors
    ///
    /// As [`Connection::call`].
    pub fn open_channel(&mut self) -> Result<Option<ChannelDescriptors>, ClientError> {
        let until = Until::after(self.deadlines.reply);
        if !self.is_local() {
            return Ok(None);
        }
        let mut received = Vec::new();
        let op = request::Op::OpenChannel(OpenChannel {});
        match self.exchange_with(0, op, until, Some(&mut received)) {
            Ok(response::Result::Channel(_)) => match <[OwnedFd; 3]>::try_from(received) {
                Ok([region, bell, state]) => Ok(Some(ChannelDescriptors { region, bell, state })),
                // A relay between us and the daemon passes bytes on, but not descriptors.
                Err(_) => Ok(None),
            },
            Ok(_) => Err(self.protocol("an unexpected answer to OpenChannel")),
            Err(ClientError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a request about `partition` (0: the whole daemon) and waits for its reply. Secrets in `op`, and
    /// in the buffers they pass through, are wiped.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] and [`ClientError::Frame`] leave the connection usable; after any other error
    /// it must be dropped (see [`ClientError::is_broken`]).
    pub fn call(&mut self, partition: u32, op: request::Op) -> Result<response::Result, ClientError> {
        let until = Until::after(self.deadlines.reply);
        let outcome = self.exchange(partition, op, until);
        if self.wait != self.deadlines.reply && !outcome.as_ref().is_err_and(ClientError::is_broken) {
            self.wait_at_most(self.deadlines.reply)?;
        }
        outcome
    }

    /// Whether the daemon carries a request that is sent twice with the same `once` out once.
    pub fn knows_once(&self) -> bool {
        self.knows_once
    }

    /// As [`Connection::call`], for a request that makes objects ([`crate::once::makes_objects`]). Sent again with the same
    /// `once`, over whichever connection, it makes nothing more: 16 random bytes.
    ///
    /// # Errors
    ///
    /// As [`Connection::call`].
    pub fn call_once(
        &mut self,
        partition: u32,
        op: request::Op,
        once: &[u8; 16],
    ) -> Result<response::Result, ClientError> {
        self.once = once.to_vec();
        self.call(partition, op)
    }

    fn exchange(
        &mut self,
        partition: u32,
        op: request::Op,
        until: Until,
    ) -> Result<response::Result, ClientError> {
        self.exchange_with(partition, op, until, None)
    }

    /// With room for descriptors that come with the reply.
    fn exchange_with(
        &mut self,
        partition: u32,
        op: request::Op,
        until: Until,
        descriptors: Option<&mut Vec<OwnedFd>>,
    ) -> Result<response::Result, ClientError> {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let (secret, secret_reply) = (secret::is_secret(&op), secret::has_secret_reply(&op));
        let once = std::mem::take(&mut self.once);
        let mut request = Request { id, partition, op: Some(op), once };
        self.buffer.clear();
        let encoded = frame::encode(&request, &mut self.buffer);
        let sent = match &encoded {
            Ok(()) => self.send(until),
            Err(_) => Ok(()),
        };
        if secret {
            self.buffer.zeroize();
            if let Some(op) = request.op.as_mut() {
                secret::wipe(op);
            }
        }
        encoded?;
        sent?;
        let response = self.receive(until, descriptors);
        if secret_reply {
            self.buffer.zeroize();
        }
        if self.buffer.capacity() > KEPT {
            self.buffer = Vec::with_capacity(BUFFER);
        }
        self.result_of(response?, id)
    }

    /// What a response to the request `id` says.
    fn result_of(&self, response: Response, id: u64) -> Result<response::Result, ClientError> {
        if response.id != id {
            return Err(self.protocol("an answer to another request"));
        }
        match response.result {
            Some(response::Result::Error(error)) => {
                Err(ClientError::Refused { code: error.code(), message: error.message })
            }
            Some(result) => Ok(result),
            None => Err(self.protocol("an answer without a result that this release knows")),
        }
    }

    fn send(&mut self, until: Until) -> Result<(), ClientError> {
        let mut sent = 0;
        loop {
            let rest = self.buffer.get(sent..).unwrap_or_default();
            if rest.is_empty() && self.stream.has_sent_all() {
                return Ok(());
            }
            match self.stream.send(rest) {
                Ok(taken) => sent += taken,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(self.deadline(until)),
                Err(error) => return Err(self.lost(error)),
            }
            // Each system call waits anew: a signal every second, or a daemon that takes a byte a second,
            // would make it wait for ever.
            self.keep_within(until)?;
        }
    }

    fn receive(
        &mut self,
        until: Until,
        descriptors: Option<&mut Vec<OwnedFd>>,
    ) -> Result<Response, ClientError> {
        let end = self.receive_frame(until, descriptors)?;
        let body = self.buffer.get(HEADER..end).unwrap_or_default();
        Response::decode(body).map_err(|e| self.protocol(&e.to_string()))
    }

    /// Reads one frame into the buffer, and returns its length with the header. A small reply takes one system call.
    fn receive_frame(
        &mut self,
        until: Until,
        mut descriptors: Option<&mut Vec<OwnedFd>>,
    ) -> Result<usize, ClientError> {
        let mut needed = HEADER;
        let mut have = 0;
        // After a large request the reply may be large too: it is read at once if there is room.
        self.buffer.resize(self.buffer.capacity().clamp(BUFFER, KEPT), 0);
        loop {
            let room = self.buffer.get_mut(have..).unwrap_or_default();
            let received = match (&mut self.stream, descriptors.as_deref_mut()) {
                (Stream::Unix(socket), Some(descriptors)) => {
                    receive_with_descriptors(socket, room, descriptors).map_err(io::Error::from)
                }
                (stream, _) => stream.receive(room),
            };
            match received {
                Ok(0) => return Err(self.lost(io::ErrorKind::UnexpectedEof.into())),
                Ok(received) => have += received,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(self.deadline(until)),
                Err(error) => return Err(self.lost(error)),
            }
            if needed == HEADER
                && let Some(header) = self.buffer.first_chunk::<HEADER>()
                && have >= HEADER
            {
                needed = HEADER + frame::body_length(*header).map_err(|e| self.protocol(&e.to_string()))?;
                self.grow(needed);
            }
            if have > HEADER && have >= needed {
                break;
            }
            self.keep_within(until)?;
        }
        if have > needed {
            return Err(self.protocol("more than one answer to one request"));
        }
        Ok(needed)
    }

    /// Makes the buffer at least this long, and leaves nothing behind where it was.
    fn grow(&mut self, length: usize) {
        if self.buffer.len() < length {
            let mut larger = Vec::with_capacity(length);
            larger.extend_from_slice(&self.buffer);
            larger.resize(length, 0);
            self.buffer.zeroize();
            self.buffer = larger;
        }
    }

    /// Between two system calls of an exchange: the next one waits only for what is left.
    fn keep_within(&mut self, until: Until) -> Result<(), ClientError> {
        let left = until.left().ok_or_else(|| self.deadline(until))?;
        if left + SLACK < self.wait {
            self.wait_at_most(left)?;
        }
        Ok(())
    }

    fn wait_at_most(&mut self, wait: Duration) -> Result<(), ClientError> {
        set_timeouts(self.stream.descriptor(), wait).map_err(|e| self.lost(e.into()))?;
        self.wait = wait;
        Ok(())
    }

    fn lost(&self, source: io::Error) -> ClientError {
        let socket = self.socket.clone();
        match source.downcast::<rustls::Error>() {
            Ok(source) => ClientError::Tls { socket, source },
            Err(source) => ClientError::Lost { socket, source },
        }
    }

    fn deadline(&self, until: Until) -> ClientError {
        ClientError::Deadline { socket: self.socket.clone(), waited: until.whole }
    }

    fn protocol(&self, what: &str) -> ClientError {
        ClientError::Protocol { socket: self.socket.clone(), what: what.to_owned() }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// As recv(2); descriptors that come with the bytes are added to `descriptors`, close-on-exec.
fn receive_with_descriptors(
    socket: &OwnedFd,
    room: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(CHANNEL_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = net::recvmsg(socket, &mut [IoSliceMut::new(room)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for received in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = received {
            descriptors.extend(received);
        }
    }
    // One more shows that there were too many. A peer that sends some with every byte does not use ours up.
    descriptors.truncate(CHANNEL_DESCRIPTORS + 1);
    Ok(message.bytes)
}
