//! Replies on their way to the client: written as the socket takes them, while the connection goes on.

use std::io;
use std::time::Duration;

use prost::Message;
use strongroom_protocol::frame::{self, HEADER};
use strongroom_protocol::v1::{ErrorCode, Response};
use tokio::time::Instant;
use zeroize::Zeroize;

use super::error_response;
use crate::failure::Failure;

/// An empty buffer keeps at most this many bytes.
const KEPT: usize = 16 * 1024;

/// Frames that wait for the socket.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    /// So many of them are written.
    written: usize,
    is_secret: bool,
    due: Option<Due>,
}

/// What the client has to take, and by when. Who takes a byte now and then has no longer than who takes none.
#[derive(Debug, Clone, Copy)]
struct Due {
    bytes: usize,
    by: Instant,
}

impl Outbox {
    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// When the client will have had its time.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due.map(|due| due.by)
    }

    /// Adds a reply. If it is secret, no copy of its bytes stays behind.
    pub(super) fn push(&mut self, response: &Response, is_secret: bool) {
        self.is_secret |= is_secret;
        self.make_room(HEADER + response.encoded_len());
        if frame::encode(response, &mut self.bytes).is_err() {
            let failure = Failure::new(ErrorCode::Limit, "the reply is larger than a frame");
            // An error of this size always fits.
            let _ = frame::encode(&error_response(response.id, failure), &mut self.bytes);
        }
    }

    /// Adds what is left of a frame.
    pub(super) fn push_bytes(&mut self, rest: &[u8]) {
        self.make_room(rest.len());
        self.bytes.extend_from_slice(rest);
    }

    /// Makes room for `more` bytes: those that are written go first. (A Vec that grows by itself leaves a copy
    /// behind.)
    fn make_room(&mut self, more: usize) {
        if self.bytes.len() + more <= self.bytes.capacity() {
            return;
        }
        let waiting = self.bytes.get(self.written..).unwrap_or_default();
        let mut larger = Vec::with_capacity((waiting.len() + more).max(2 * waiting.len()));
        larger.extend_from_slice(waiting);
        if self.is_secret {
            self.bytes.zeroize();
        }
        self.bytes = larger;
        self.written = 0;
    }

    /// Writes as much as the socket takes at once. What it does not take is due after `patience`.
    ///
    /// # Errors
    ///
    /// The socket's, other than that it takes nothing now.
    pub(super) fn write(
        &mut self,
        patience: Duration,
        mut write: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        while let Some(waiting) = self.bytes.get(self.written..).filter(|waiting| !waiting.is_empty()) {
            match write(waiting) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => {
                    self.written += taken;
                    self.due = self.due.and_then(|due| {
                        let bytes = due.bytes.saturating_sub(taken);
                        (bytes > 0).then_some(Due { bytes, ..due })
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let bytes = self.len();
                    self.due.get_or_insert_with(|| Due { bytes, by: Instant::now() + patience });
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.is_secret {
            self.bytes.zeroize();
            self.is_secret = false;
        }
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        self.written = 0;
        self.due = None;
        Ok(())
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        if self.is_secret {
            self.bytes.zeroize();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strongroom_protocol::v1::{Done, Random, response};

    const PATIENCE: Duration = Duration::from_secs(30);

    fn random(length: usize) -> Response {
        let random = Random { random: vec![7; length] };
        Response { id: 1, result: Some(response::Result::Random(random)) }
    }

    /// A socket that takes `room` bytes.
    fn socket(mut room: usize, taken: &mut Vec<u8>) -> impl FnMut(&[u8]) -> io::Result<usize> {
        move |bytes| {
            let some = &bytes[..room.min(bytes.len())];
            room -= some.len();
            taken.extend_from_slice(some);
            if some.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(some.len()) }
        }
    }

    #[test]
    fn what_the_socket_takes_is_what_was_added() {
        let (mut outbox, mut expected, mut taken) = (Outbox::default(), Vec::new(), Vec::new());
        for round in 0..200 {
            let reply = random(round * 37 % 5_000 + 1);
            frame::encode(&reply, &mut expected).unwrap();
            outbox.push(&reply, round % 3 == 0);
            outbox.write(PATIENCE, socket(round * 53 % 6_000, &mut taken)).unwrap();
            assert_eq!(taken.len() + outbox.len(), expected.len());
        }
        outbox.push_bytes(b"rest");
        outbox.write(PATIENCE, socket(usize::MAX, &mut taken)).unwrap();
        assert!(taken == [&expected[..], b"rest"].concat() && outbox.len() == 0);
        assert!(outbox.bytes.capacity() <= KEPT && outbox.deadline().is_none());
    }

    #[test]
    fn a_client_that_takes_a_byte_now_and_then_gains_no_time() {
        let (mut outbox, mut taken) = (Outbox::default(), Vec::new());
        outbox.push(&random(97), false);
        let whole = outbox.len();
        outbox.write(PATIENCE, socket(10, &mut taken)).unwrap();
        let first = outbox.deadline().unwrap();
        outbox.push(&random(97), false);
        outbox.write(PATIENCE, socket(whole - 11, &mut taken)).unwrap();
        assert_eq!(outbox.deadline(), Some(first), "one byte of the first reply is still there");
        outbox.write(PATIENCE, socket(1, &mut taken)).unwrap();
        assert!(outbox.deadline().unwrap() > first, "the second reply has a time of its own");
        outbox.write(PATIENCE, socket(whole, &mut taken)).unwrap();
        assert_eq!((outbox.deadline(), outbox.len()), (None, 0));
    }

    #[test]
    fn a_reply_that_does_not_fit_a_frame_is_an_error() {
        let mut outbox = Outbox::default();
        outbox.push(&random(frame::MAX_FRAME), false);
        outbox.push(&Response { id: 2, result: Some(response::Result::Done(Done {})) }, false);
        let mut taken = Vec::new();
        outbox.write(PATIENCE, socket(usize::MAX, &mut taken)).unwrap();
        let length = frame::body_length(*taken.first_chunk().unwrap()).unwrap();
        let reply = Response::decode(&taken[HEADER..HEADER + length]).unwrap();
        let Some(response::Result::Error(error)) = reply.result else { panic!() };
        assert_eq!((reply.id, error.code()), (1, ErrorCode::Limit));
    }

    #[test]
    fn secrets_are_wiped_when_they_are_written() {
        let (mut outbox, mut taken) = (Outbox::default(), Vec::new());
        outbox.push(&random(100), true);
        outbox.write(PATIENCE, socket(usize::MAX, &mut taken)).unwrap();
        let room = outbox.bytes.spare_capacity_mut();
        assert!(room.len() >= 100);
        // SAFETY: the room was written by the reply, and then with zeros.
        assert!(room[..100].iter().all(|byte| unsafe { byte.assume_init() } == 0));
    }
}
