//! One connection: frames in, requests carried out side by side, replies out in the order they are ready.
//!
//! A task per connection does everything but long computations. A request that is ready at once (a P-256
//! signature) is answered without any other task or thread taking part.

mod channel;
mod frames;
mod large;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use std::{future, io};

use futures_util::stream::{FuturesUnordered, StreamExt};
use prost::Message;
use strongroom_protocol::frame::{self, HEADER};
use strongroom_protocol::secret;
use strongroom_protocol::v1::{ErrorCode, Request, Response, request::Op, response};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until, timeout, timeout_at};
use zeroize::Zeroize;

use self::frames::FrameBuffer;
pub use self::large::LargeFrames;
use self::large::{Permit, Share};
use crate::engine::Channel;
use crate::failure::Failure;
use crate::request;
use crate::service::Service;
use crate::session::Session;

/// Requests of one connection that are worked on at the same time; more wait in the socket.
const MOST_IN_FLIGHT: usize = 64;

/// Replies are written when this many bytes are ready, or when nothing else is.
const WRITE_SIZE: usize = 16 * 1024;

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

/// A reply, and whether its bytes are to be wiped.
type Reply = (Response, bool);
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
    stream: UnixStream,
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
        out: Vec::new(),
        out_secret: false,
        greeted: false,
        in_flight: FuturesUnordered::new(),
        channel: None,
    };
    let end = connection.run(stop).await.err().unwrap_or(End::Closed);
    if let End::Protocol(failure) = &end {
        tracing::warn!(uid = connection.session.uid, "a connection broke the protocol: {failure}");
        // The peer may be a client of another release: tell it, if it listens.
        connection.reply((error_response(0, failure.clone()), false));
    }
    if let End::Protocol(_) | End::Stranger = &end {
        let _ = connection.flush().await;
    }
    tracing::debug!(uid = connection.session.uid, "connection ended: {end}");
}

/// Answers a connection's Hello with a refusal and closes it.
pub async fn turn_away(mut stream: UnixStream, failure: Failure) {
    // A Hello is small.
    let mut frames = FrameBuffer::new(Share::none());
    let first = async {
        loop {
            match frames.next() {
                Ok(Some((frame, _))) => return Request::decode(frame).map_or(0, |request| request.id),
                Ok(None) => {}
                Err(_) => return 0,
            }
            if !matches!(frames.fill(&mut stream).await, Ok(read) if read > 0) {
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
    stream: UnixStream,
    deadlines: Deadlines,
    frames: FrameBuffer,
    /// Replies that are not written yet.
    out: Vec<u8>,
    out_secret: bool,
    greeted: bool,
    in_flight: InFlight,
    /// The client's shared memory, if it has asked for it.
    channel: Option<Channel>,
}

impl Connection {
    async fn run(&mut self, mut stop: watch::Receiver<bool>) -> Result<(), End> {
        let mut deadline: Option<Pin<Box<Sleep>>> =
            Some(Box::pin(sleep_until(Instant::now() + self.deadlines.hello)));
        loop {
            self.take_frames().await?;
            self.flush().await?;
            let stopping = *stop.borrow();
            if stopping && self.in_flight.is_empty() {
                return Ok(());
            }
            if self.greeted {
                deadline = match (self.frames.is_partial(), deadline.take()) {
                    (false, _) => None,
                    (true, Some(running)) => Some(running),
                    (true, None) => Some(Box::pin(sleep_until(Instant::now() + self.deadlines.frame))),
                };
            }
            let may_read = !stopping && self.in_flight.len() < MOST_IN_FLIGHT;
            tokio::select! {
                reply = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    if let Some(reply) = reply {
                        self.reply(reply);
                    }
                }
                read = self.frames.fill(&mut self.stream), if may_read => {
                    if read? == 0 {
                        return Ok(());
                    }
                }
                _ = stop.changed(), if !stopping => {}
                () = expired(&mut deadline), if may_read => return Err(End::Deadline),
            }
        }
    }

    /// Begins all requests that have arrived completely.
    async fn take_frames(&mut self) -> Result<(), End> {
        while self.in_flight.len() < MOST_IN_FLIGHT {
            let (decoded, permit) = match self.frames.next() {
                Ok(None) => return Ok(()),
                Ok(Some((frame, permit))) => (Request::decode(frame), permit),
                Err(error) => return Err(malformed(&error.to_string())),
            };
            let request = decoded.map_err(|error| malformed(&error.to_string()))?;
            match request.op {
                Some(Op::OpenChannel(_)) if self.greeted => self.open_channel(request.id).await?,
                _ => self.begin(request, permit)?,
            }
            if self.out.len() > WRITE_SIZE {
                self.flush().await?;
            }
            // A client with many requests at hand shares the thread with the others.
            tokio::task::consume_budget().await;
        }
        Ok(())
    }

    fn begin(&mut self, request: Request, permit: Option<Arc<Permit>>) -> Result<(), End> {
        let is_first = !self.greeted;
        if is_first && !matches!(request.op, Some(Op::Hello(_))) {
            return Err(malformed("the first request is not Hello"));
        }
        self.greeted = true;
        let is_secret = request.op.as_ref().is_some_and(secret::has_secret_reply);
        let (service, session) = (Arc::clone(&self.service), Arc::clone(&self.session));
        let mut work: Pin<Box<dyn Future<Output = Reply> + Send>> = Box::pin(async move {
            let _permit = permit;
            (request::answer(service, session, request).await, is_secret)
        });
        // What is not ready is polled again, with a real waker, as soon as it is among those in flight.
        match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(reply) => {
                let refused = matches!(reply.0.result, Some(response::Result::Error(_)));
                self.reply(reply);
                if is_first && refused { Err(End::Stranger) } else { Ok(()) }
            }
            Poll::Pending => {
                self.in_flight.push(work);
                Ok(())
            }
        }
    }

    fn reply(&mut self, (mut response, is_secret): Reply) {
        let id = response.id;
        self.out_secret |= is_secret;
        if self.out_secret {
            // Growing by itself the buffer would leave a copy behind.
            let needed = self.out.len() + HEADER + response.encoded_len();
            if needed > self.out.capacity() {
                let mut larger = Vec::with_capacity(needed.max(2 * self.out.capacity()));
                larger.extend_from_slice(&self.out);
                self.out.zeroize();
                self.out = larger;
            }
        }
        if frame::encode(&response, &mut self.out).is_err() {
            let failure = Failure::new(ErrorCode::Limit, "the reply is larger than a frame");
            // An error of this size always fits.
            let _ = frame::encode(&error_response(id, failure), &mut self.out);
        }
        if let Some(result) = &mut response.result {
            secret::wipe_reply(result);
        }
    }

    /// Writes the replies that are ready.
    async fn flush(&mut self) -> Result<(), End> {
        let mut written = 0;
        // One deadline for all of it: who takes a byte now and then has no longer than who takes none.
        let mut deadline = None;
        while let Some(rest) = self.out.get(written..).filter(|rest| !rest.is_empty()) {
            match self.stream.try_write(rest) {
                Ok(0) => return Err(End::Closed),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let deadline = *deadline.get_or_insert_with(|| Instant::now() + self.deadlines.frame);
                    match timeout_at(deadline, self.stream.writable()).await {
                        Ok(ready) => ready?,
                        Err(_) => return Err(End::Deadline),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if self.out_secret {
            self.out.zeroize();
            self.out_secret = false;
        }
        self.out.clear();
        self.out.shrink_to(WRITE_SIZE);
        Ok(())
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
