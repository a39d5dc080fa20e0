//! Bytes from the socket, cut into frames.

use std::io;

use bytes::Bytes;
use strongroom_protocol::frame::{self, FrameError, HEADER};
use tokio::net::UnixStream;
use zeroize::{Zeroize, Zeroizing};

/// The size of the buffer that every connection has, in bytes; most requests fit.
const USUAL: usize = 4 * 1024;

/// What was read and not yet taken. It grows with what has arrived, not with what a length promises, and
/// every byte is wiped after its frame was taken.
#[derive(Debug)]
pub(super) struct FrameBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl FrameBuffer {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; USUAL], start: 0, end: 0 }
    }

    /// Whether a frame has begun and is not complete.
    pub(super) fn is_partial(&self) -> bool {
        self.start < self.end
    }

    /// Takes the next complete frame's body, if there is one. The bytes are wiped when the last part of them
    /// is dropped: the decoder takes parts, where it would copy a borrowed slice to memory that nobody wipes.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        let have = self.bytes.get_mut(self.start..self.end).unwrap_or_default();
        let Some(header) = have.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = HEADER + frame::body_length(*header)?;
        let Some(frame) = have.get_mut(..length) else {
            return Ok(None);
        };
        let body = Zeroizing::new(frame.get(HEADER..).unwrap_or_default().to_vec());
        frame.zeroize();
        self.start += length;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            if self.bytes.len() > USUAL {
                *self = Self::new();
            }
        }
        Ok(Some(Bytes::from_owner(body)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn holds(buffer: &FrameBuffer, secret: &[u8]) -> bool {
        buffer.bytes.windows(secret.len()).any(|window| window == secret)
    }

    #[tokio::test]
    async fn frames_come_whole_and_leave_nothing_behind() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let ours = UnixStream::from_std(ours).unwrap();
        let mut theirs = theirs;
        let frame = [&[6, 0, 0, 0][..], b"secret"].concat();
        let mut buffer = FrameBuffer::new();
        theirs.write_all(&[&frame[..], &frame, &frame[..7]].concat()).unwrap();
        buffer.fill(&ours).await.unwrap();
        for _ in 0..2 {
            assert_eq!(buffer.next().unwrap().unwrap(), &b"secret"[..]);
        }
        assert_eq!(buffer.next().unwrap(), None);
        assert!(buffer.is_partial() && !holds(&buffer, b"secret"));
        theirs.write_all(&frame[7..]).unwrap();
        buffer.fill(&ours).await.unwrap();
        assert!(holds(&buffer, b"secret"));
        assert_eq!(buffer.next().unwrap().unwrap(), &b"secret"[..]);
        assert!(!buffer.is_partial() && !holds(&buffer, b"secret"));
    }

    #[tokio::test]
    async fn the_buffer_grows_with_what_arrives_and_shrinks_again() {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let ours = UnixStream::from_std(ours).unwrap();
        let body = vec![7u8; 100_000];
        let mut buffer = FrameBuffer::new();
        theirs.write_all(&(body.len() as u32).to_le_bytes()).unwrap();
        buffer.fill(&ours).await.unwrap();
        assert_eq!((buffer.next().unwrap(), buffer.bytes.len()), (None, USUAL));
        let writer = {
            let body = body.clone();
            std::thread::spawn(move || theirs.write_all(&body).unwrap())
        };
        let taken = loop {
            buffer.fill(&ours).await.unwrap();
            if let Some(taken) = buffer.next().unwrap() {
                break taken;
            }
        };
        writer.join().unwrap();
        assert!(taken == body && buffer.bytes.len() == USUAL);
    }
}
