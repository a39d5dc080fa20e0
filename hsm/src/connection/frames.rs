//! Bytes from the socket, cut into frames.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use strongroom_protocol::frame::{self, FrameError, HEADER};
use tokio::io::{AsyncRead, AsyncReadExt};
use zeroize::{Zeroize, Zeroizing};

use super::large::{Permit, Share};

/// The size of the buffer that every connection has, in bytes; most requests fit, and one with 4 KiB to encrypt.
const USUAL: usize = 8 * 1024;

/// Above this many bytes a buffer is large: only so many connections may have one at the same time.
const LARGE: usize = 64 * 1024;

/// A frame's body. With a large one comes its permit, for as long as what it asks for takes memory.
type Frame = (Bytes, Option<Arc<Permit>>);

/// What was read and not yet taken. It grows with what has arrived, not with what a length promises, and
/// every byte is wiped after its frame was taken.
#[derive(Debug)]
pub(super) struct FrameBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    share: Share,
    permit: Option<Arc<Permit>>,
}

impl FrameBuffer {
    /// `share`: for large frames.
    pub(super) fn new(share: Share) -> Self {
        Self { bytes: vec![0; USUAL], start: 0, end: 0, share, permit: None }
    }

    /// Whether a frame has begun and is not complete.
    pub(super) fn is_partial(&self) -> bool {
        self.start < self.end
    }

    /// Takes the next complete frame's body, if there is one. The bytes are wiped when the last part of them
    /// is dropped: the decoder takes parts, where it would copy a borrowed slice to memory that nobody wipes.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, FrameError> {
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
        let permit = self.permit.clone().filter(|_| length > LARGE);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            if self.bytes.len() > USUAL {
                *self = Self::new(self.share.clone());
            }
        }
        Ok(Some((Bytes::from_owner(body), permit)))
    }

    /// Reads what the socket has; 0 is its end. Nothing is lost if the future is dropped. (Not `try_read`: that
    /// takes a second system call to find out that the socket is empty.)
    pub(super) async fn fill(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
        self.make_room().await;
        let read = stream.read(self.bytes.get_mut(self.end..).unwrap_or_default()).await?;
        self.end += read;
        Ok(read)
    }

    /// Moves what is there to the front, and doubles the buffer when it is full of one frame.
    async fn make_room(&mut self) {
        if self.end < self.bytes.len() {
            return;
        }
        let kept = self.end - self.start;
        // A complete frame is taken before more is read, so that this ends at twice the largest frame.
        let size = if kept > self.bytes.len() / 2 { self.bytes.len() * 2 } else { self.bytes.len() };
        if size > LARGE && self.permit.is_none() {
            // The frame's deadline ends a wait that takes too long.
            self.permit = Some(Arc::new(self.share.acquire().await));
        }
        let mut bytes = vec![0; size];
        for (to, from) in bytes.iter_mut().zip(self.bytes.get(self.start..self.end).unwrap_or_default()) {
            *to = *from;
        }
        self.end = kept;
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
    use super::super::large::LargeFrames;
    use super::*;
    use std::io::Write;

    use tokio::net::UnixStream;

    fn holds(buffer: &FrameBuffer, secret: &[u8]) -> bool {
        buffer.bytes.windows(secret.len()).any(|window| window == secret)
    }

    #[tokio::test]
    async fn frames_come_whole_and_leave_nothing_behind() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut ours = UnixStream::from_std(ours).unwrap();
        let mut theirs = theirs;
        let frame = [&[6, 0, 0, 0][..], b"secret"].concat();
        let mut buffer = FrameBuffer::new(LargeFrames::default().of(1));
        theirs.write_all(&[&frame[..], &frame, &frame[..7]].concat()).unwrap();
        buffer.fill(&mut ours).await.unwrap();
        for _ in 0..2 {
            assert_eq!(buffer.next().unwrap().unwrap().0, &b"secret"[..]);
        }
        assert!(buffer.next().unwrap().is_none());
        assert!(buffer.is_partial() && !holds(&buffer, b"secret"));
        theirs.write_all(&frame[7..]).unwrap();
        buffer.fill(&mut ours).await.unwrap();
        assert!(holds(&buffer, b"secret"));
        assert_eq!(buffer.next().unwrap().unwrap().0, &b"secret"[..]);
        assert!(!buffer.is_partial() && !holds(&buffer, b"secret"));
    }

    #[tokio::test]
    async fn the_buffer_grows_with_what_arrives_and_shrinks_again() {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut ours = UnixStream::from_std(ours).unwrap();
        let body = vec![7u8; 100_000];
        let mut buffer = FrameBuffer::new(LargeFrames::default().of(1));
        theirs.write_all(&(body.len() as u32).to_le_bytes()).unwrap();
        buffer.fill(&mut ours).await.unwrap();
        assert!(buffer.next().unwrap().is_none() && buffer.bytes.len() == USUAL);
        let writer = {
            let body = body.clone();
            std::thread::spawn(move || theirs.write_all(&body).unwrap())
        };
        let (taken, permit) = loop {
            buffer.fill(&mut ours).await.unwrap();
            if let Some(taken) = buffer.next().unwrap() {
                break taken;
            }
        };
        writer.join().unwrap();
        assert!(taken == body && buffer.bytes.len() == USUAL);
        // The frame keeps its permit; the buffer has none left.
        assert!(permit.is_some_and(|permit| Arc::into_inner(permit).is_some()));
    }

    #[tokio::test]
    async fn only_so_many_buffers_are_large() {
        let share = Share::of_one();
        let body = vec![7u8; 3 * LARGE];
        let frame = [&(body.len() as u32).to_le_bytes()[..], &body].concat();
        let (mut connections, mut writers) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            let frame = frame.clone();
            writers.push(std::thread::spawn(move || theirs.write_all(&frame).unwrap()));
            connections.push((UnixStream::from_std(ours).unwrap(), FrameBuffer::new(share.clone())));
        }
        let whole = async |stream: &mut UnixStream, buffer: &mut FrameBuffer| {
            while buffer.next().unwrap().is_none() {
                buffer.fill(stream).await.unwrap();
            }
        };
        let [(one, first), (other, second)] = &mut connections[..] else { panic!() };
        while first.bytes.len() <= LARGE {
            first.fill(one).await.unwrap();
        }
        let waits = tokio::time::timeout(std::time::Duration::from_millis(200), whole(other, second)).await;
        assert!(waits.is_err() && second.bytes.len() <= LARGE);
        whole(one, first).await;
        whole(other, second).await;
        writers.into_iter().for_each(|writer| writer.join().unwrap());
    }
}
