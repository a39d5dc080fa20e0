//! One connection: frames in, requests carried out side by side, replies out in the order they are ready.
//!
//! A task per connection does everything but long computations. A request that is ready at once (a P-256
//! signature) is answered without any other task or thread taking part.

mod channel;
mod frames;
mod large;
mod outbox;
mod stream;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use std::{future, io};

use futures_util::stream::{FuturesUnordered, StreamExt};
use prost::Message;
use strongroom_protocol::frame;
use strongroom_protocol::secret;
use strongroom_protocol::v1::{ErrorCode, Request, Response, request::Op, response};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until, timeout, timeout_at};

use self::frames::FrameBuffer;
pub use self::large::LargeFrames;
use self::large::{Permit, Share};
use self::outbox::Outbox;
pub use self::stream::{Stream, Tls};
use crate::engine::Channel;
use crate::failure::Failure;
use crate::request;
use crate::service::Service;
use crate::session::Session;

/// Requests of one connection that are worked on at the same time; more wait in the socket.
const MOST_IN_FLIGHT: usize = 1024;

/// The size of those requests together, in bytes. (One larger request alone is worked on, too.)
const MOST_BYTES_IN_FLIGHT: usize = 1 << 20;

/// Replies are written when this many bytes are ready, or when nothing else is.
const WRITE_SIZE: usize = 16 * 1024;

/// No further request is taken while more bytes of replies wait for the client to take them.
const MOST_UNSENT: usize = 1 << 20;

/// How long a connection may keep the daemon waiting.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// From the connection to its complete Hello.
    pub hello: Duration,
    /// For the rest of a frame that has begun, and for taking a reply.
    pub frame: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Deadlines { hello: Duration::from_secs(10), frame: Duration::from_secs(30) }
    }
}

/// What a request has come to.
struct Reply {
    response: Response,
    /// Whether its bytes are to be wiped.
    is_secret: bool,
    /// The size of the request, in bytes.
    request: usize,
}

impl Reply {
    /// A refusal of what is no request.
    fn refusal(id: u64, failure: Failure) -> Self {
        Reply { response: error_response(id, failure), is_secret: false, request: 0 }
    }
}

type InFlight = FuturesUnordered<Pin<Box<dyn Future<Output = Reply> + Send>>>;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("closed")]
    Closed,
    #[error("the client speaks another version")]
    Stranger,
    #[error("the deadline passed")]
    Deadline,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Protocol(Failure),
}

/// Serves a connection until it closes, breaks the protocol, or `stop` becomes true and what it has asked is
/// answered.
pub async fn serve(
    service: Arc<Service>,
    session: Arc<Session>,
    stream: Stream,
    deadlines: Deadlines,
    stop: watch::Receiver<bool>,
) {
    let frames = FrameBuffer::new(service.large_frames.of(session.uid));
    let mut connection = Connection {
        service,
        session,
        stream,
        deadlines,
        frames,
        out: Outbox::default(),
        greeted: false,
        in_flight: FuturesUnordered::new(),
        bytes_in_flight: 0,
        channel: None,
    };
    let end = connection.run(stop).await.err().unwrap_or(End::Closed);
    if let End::Protocol(failure) = &end {
        tracing::warn!(uid = connection.session.uid, "a connection broke the protocol: {failure}");
        connection.service.audit.refused_connection(&connection.session, failure.code);
        // The peer may be a client of another release: tell it, if it listens.
        connection.reply(Reply::refusal(0, failure.clone()));
    }
    if let End::Protocol(_) | End::Stranger = &end {
        let _ = connection.flush().await;
    }
    tracing::debug!(uid = connection.session.uid, "connection ended: {end}");
}

/// Answers a connection's Hello with a refusal and closes it.
pub async fn turn_away(mut stream: Stream, failure: Failure) {
    // A Hello is small.
    let mut frames = FrameBuffer::new(Share::none());
    let first = async {
        loop {
            match frames.next() {
                Ok(Some((frame, _))) => return Request::decode(frame).map_or(0, |request| request.id),
                Ok(None) => {}
                Err(_) => return 0,
            }
            if !matches!(frames.fill(&mut stream.split().0).await, Ok(read) if read > 0) {
                return 0;
            }
        }
    };
    let id = timeout(Duration::from_secs(1), first).await.unwrap_or(0);
    let mut out = Vec::new();
    if frame::encode(&error_response(id, failure), &mut out).is_ok() {
        let _ = stream.try_write(&out);
    }
}

fn error_response(id: u64, failure: Failure) -> Response {
    Response { id, result: Some(response::Result::Error(failure.into())) }
}

struct Connection {
    service: Arc<Service>,
    session: Arc<Session>,
    stream: Stream,
    deadlines: Deadlines,
    frames: FrameBuffer,
    /// Replies that are not written yet.
    out: Outbox,
    greeted: bool,
    in_flight: InFlight,
    /// The size of the requests in flight, in bytes.
    bytes_in_flight: usize,
    /// The client's shared memory, if it has asked for it.
    channel: Option<Channel>,
}

impl Connection {
    async fn run(&mut self, mut stop: watch::Receiver<bool>) -> Result<(), End> {
        let mut deadline: Option<Pin<Box<Sleep>>> =
            Some(Box::pin(sleep_until(Instant::now() + self.deadlines.hello)));
        loop {
            let has_begun_some = self.take_frames().await?;
            let stopping = *stop.borrow();
            if stopping && self.in_flight.is_empty() {
                return self.flush().await;
            }
            let may_read = !stopping && self.may_begin();
            if self.greeted {
                // The time of a frame runs while the daemon waits for it, and anew for each.
                deadline = match (self.frames.is_partial() && may_read, deadline.take()) {
                    (true, Some(running)) if !has_begun_some => Some(running),
                    (true, _) => Some(Box::pin(sleep_until(Instant::now() + self.deadlines.frame))),
                    (false, _) => None,
                };
            }
            let untaken = self.out.deadline();
            let may_finish = !self.in_flight.is_empty() && self.out.len() < MOST_UNSENT;
            let (mut reading, writing) = self.stream.split();
            tokio::select! {
                reply = self.in_flight.next(), if may_finish => {
                    if let Some(reply) = reply {
                        self.bytes_in_flight -= reply.request;
                        self.reply(reply);
                    }
                }
                read = self.frames.fill(&mut reading), if may_read => {
                    if read? == 0 {
                        return self.flush().await;
                    }
                }
                ready = writing.writable(), if untaken.is_some() => ready?,
                _ = stop.changed(), if !stopping => {}
                () = expired(&mut deadline), if may_read => return Err(End::Deadline),
                () = at(untaken) => return Err(End::Deadline),
            }
        }
    }

    /// Whether there is room for one more request.
    fn may_begin(&self) -> bool {
        let few = self.in_flight.len() < MOST_IN_FLIGHT && self.bytes_in_flight < MOST_BYTES_IN_FLIGHT;
        few && self.out.len() < MOST_UNSENT
    }

    /// Begins the requests that have arrived completely, as far as there is room, and writes what the socket takes
    /// of the replies. Returns whether there were any.
    async fn take_frames(&mut self) -> Result<bool, End> {
        let mut has_begun_some = false;
        loop {
            if !self.may_begin() {
                // Writing may make room.
                self.write()?;
                if !self.may_begin() {
                    return Ok(has_begun_some);
                }
            }
            let (size, decoded, permit) = match self.frames.next() {
                Ok(None) => break,
                Ok(Some((frame, permit))) => (frame.len(), Request::decode(frame), permit),
                Err(error) => return Err(malformed(&error.to_string())),
            };
            let request = decoded.map_err(|error| malformed(&error.to_string()))?;
            match request.op {
                Some(Op::OpenChannel(_)) if self.greeted && self.stream.unix().is_some() => {
                    self.open_channel(request.id).await?
                }
                _ => self.begin(request, size, permit)?,
            }
            has_begun_some = true;
            // A client that does not take its replies gets the rest later, all at once.
            if self.out.len() > WRITE_SIZE && self.out.deadline().is_none() {
                self.write()?;
            }
            // A client with many requests at hand shares the thread with the others.
            tokio::task::consume_budget().await;
        }
        self.write()?;
        Ok(has_begun_some)
    }

    fn begin(&mut self, request: Request, size: usize, permit: Option<Arc<Permit>>) -> Result<(), End> {
        let is_first = !self.greeted;
        if is_first && !matches!(request.op, Some(Op::Hello(_))) {
            return Err(malformed("the first request is not Hello"));
        }
        self.greeted = true;
        let is_secret = request.op.as_ref().is_some_and(secret::has_secret_reply);
        let (service, session) = (Arc::clone(&self.service), Arc::clone(&self.session));
        let mut work: Pin<Box<dyn Future<Output = Reply> + Send>> = Box::pin(async move {
            let _permit = permit;
            let response = request::answer(service, session, request).await;
            Reply { response, is_secret, request: size }
        });
        // What is not ready is polled again, with a real waker, as soon as it is among those in flight.
        match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(reply) => {
                let refused = matches!(reply.response.result, Some(response::Result::Error(_)));
                self.reply(reply);
                if is_first && refused { Err(End::Stranger) } else { Ok(()) }
            }
            Poll::Pending => {
                self.bytes_in_flight += size;
                self.in_flight.push(work);
                Ok(())
            }
        }
    }

    fn reply(&mut self, mut reply: Reply) {
        self.out.push(&reply.response, reply.is_secret);
        if let Some(result) = &mut reply.response.result {
            secret::wipe_reply(result);
        }
    }

    /// Writes what the socket takes of the replies that are ready.
    fn write(&mut self) -> Result<(), End> {
        self.out.write(self.deadlines.frame, |bytes| self.stream.try_write(bytes)).map_err(End::Io)
    }

    /// Writes all replies that are ready.
    async fn flush(&mut self) -> Result<(), End> {
        loop {
            self.write()?;
            let Some(deadline) = self.out.deadline() else { return Ok(()) };
            match timeout_at(deadline, self.stream.writable()).await {
                Ok(ready) => ready?,
                Err(_) => return Err(End::Deadline),
            }
        }
    }
}

fn malformed(what: &str) -> End {
    End::Protocol(Failure::new(ErrorCode::Malformed, what))
}

async fn expired(deadline: &mut Option<Pin<Box<Sleep>>>) {
    match deadline {
        Some(deadline) => deadline.as_mut().await,
        None => future::pending().await,
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => future::pending().await,
    }
}
