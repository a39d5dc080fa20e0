//! Bytes from the socket, cut into frames.

use std::io;

use strongroom_protocol::frame::{self, FrameError, HEADER};
use tokio::net::UnixStream;
use zeroize::Zeroize;

/// The size of the buffer that every connection has, in bytes; most requests fit.
const USUAL: usize = 4 * 1024;

/// What was read and not yet taken. It grows with what has arrived, not with what a length promises, and
/// every byte is wiped after its frame was taken.
#[derive(Debug)]
pub(super) struct FrameBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// The frame that was taken last, to be wiped.
    taken: (usize, usize),
}

impl FrameBuffer {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; USUAL], start: 0, end: 0, taken: (0, 0) }
    }

    /// Whether a frame has begun and is not complete.
    pub(super) fn is_partial(&self) -> bool {
        self.start < self.end
    }

    /// The next complete frame's body, if there is one. Call [`FrameBuffer::wipe_taken`] when done with it.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let have = self.bytes.get(self.start..self.end).unwrap_or_default();
        let Some(header) = have.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = HEADER + frame::body_length(*header)?;
        if have.len() < length {
            return Ok(None);
        }
        self.taken = (self.start, self.start + length);
        self.start += length;
        Ok(self.bytes.get(self.taken.0 + HEADER..self.taken.1))
    }

    /// Wipes the frame that was taken last.
    pub(super) fn wipe_taken(&mut self) {
        let (from, to) = std::mem::take(&mut self.taken);
        if let Some(frame) = self.bytes.get_mut(from..to) {
            frame.zeroize();
        }
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            if self.bytes.len() > USUAL {
                *self = Self::new();
            }
        }
    }

    /// Reads what the socket has; 0 is its end. Nothing is lost if the future is dropped.
    pub(super) async fn fill(&mut self, stream: &UnixStream) -> io::Result<usize> {
        self.make_room();
        loop {
            stream.readable().await?;
            let room = self.bytes.get_mut(self.end..).unwrap_or_default();
            match stream.try_read(room) {
                Ok(read) => {
                    self.end += read;
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Moves what is there to the front, and doubles the buffer when it is full of one frame.
    fn make_room(&mut self) {
        if self.end < self.bytes.len() {
            return;
        }
        let kept = self.bytes.get(self.start..self.end).unwrap_or_default();
        // A complete frame is taken before more is read, so that this ends at twice the largest frame.
        let size = if kept.len() > self.bytes.len() / 2 { self.bytes.len() * 2 } else { self.bytes.len() };
        let mut bytes = vec![0; size];
        for (to, from) in bytes.iter_mut().zip(kept) {
            *to = *from;
        }
        self.end = kept.len();
        self.start = 0;
        self.bytes.zeroize();
        self.bytes = bytes;
    }
}

impl Drop for FrameBuffer {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}
