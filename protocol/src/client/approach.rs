//! Finding out without waiting whether a node answers: begun by one call, looked at by later ones.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::{self, RecvFlags};

use super::stream::{Stream, set_timeouts};
use super::{ClientError, Connection, Deadlines, FIRST_ID, Until, hello, named};
use crate::frame;
use crate::node::Node;
use crate::v1::Request;

/// A connection that nobody waits for until the node has begun to answer. That it takes connections does not do: the kernel takes
/// them for one that hangs.
#[derive(Debug)]
pub struct Approach {
    stream: Stream,
    /// What is still to be sent before the node answers; what there is of TLS its session knows.
    question: Vec<u8>,
}

/// What is seen of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// Nothing yet.
    Nothing,
    /// It answers, or has closed the connection, which takes somebody who does.
    There,
    /// It cannot be reached.
    Gone,
}

impl Approach {
    /// Begins to connect, as `client`, close-on-exec. `turn` counts the approaches to this node: only one address of its name is
    /// tried in each, the next one in the next. (How long a node's name takes to be found is the system's to say; numeric
    /// addresses take no time.)
    ///
    /// # Errors
    ///
    /// What connecting says at once.
    pub fn begin(node: &Node, turn: usize, client: &str) -> io::Result<Self> {
        let stream = Stream::begin(node, turn)?;
        let mut question = Vec::new();
        if matches!(stream, Stream::Unix(_)) {
            let request =
                Request { id: FIRST_ID, partition: 0, op: Some(hello(named(client))), ..Request::default() };
            frame::encode(&request, &mut question).map_err(io::Error::other)?;
        }
        let mut approach = Approach { stream, question };
        match approach.ask() {
            Err(error) if !is_early(&error) => Err(error),
            _ => Ok(approach),
        }
    }

    /// Looks whether the node has answered, and waits for nothing.
    pub fn look(&mut self) -> Sight {
        match net::recv(&self.stream, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok(_) => return Sight::There,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => return Sight::Gone,
        }
        match self.ask() {
            Err(error) if !is_early(&error) => Sight::Gone,
            _ => Sight::Nothing,
        }
    }

    /// Makes it a connection like any other, when the node was seen to be there. `client` is who began it.
    ///
    /// # Errors
    ///
    /// As [`Connection::open_node`].
    pub fn finish(self, node: &Node, client: &str, deadlines: Deadlines) -> Result<Connection, ClientError> {
        let until = Until::after(deadlines.connect);
        let lost = |source: Errno| ClientError::NotRunning { socket: node.name(), source: source.into() };
        ioctl_fionbio(&self.stream, false).map_err(lost)?;
        set_timeouts(self.stream.descriptor(), deadlines.connect).map_err(lost)?;
        let is_asked = matches!(self.stream, Stream::Unix(_));
        let mut connection = Connection::new(node, self.stream, deadlines);
        if !is_asked {
            let answer = connection.exchange(0, hello(named(client)), until)?;
            return connection.greeted(answer);
        }
        connection.buffer = self.question;
        connection.send(until)?;
        connection.next_id = FIRST_ID + 1;
        let answer = connection.receive(until, None)?;
        let answer = connection.result_of(answer, FIRST_ID)?;
        connection.greeted(answer)
    }

    /// Sends what is left of the question.
    fn ask(&mut self) -> io::Result<()> {
        while !self.question.is_empty() || !self.stream.has_sent_all() {
            let sent = self.stream.send(&self.question)?;
            self.question.drain(..sent.min(self.question.len()));
        }
        Ok(())
    }
}

/// Whether there is no connection yet.
fn is_early(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

impl AsFd for Approach {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    fn seen(approach: &mut Approach) -> Sight {
        let until = Instant::now() + Duration::from_secs(60);
        while Instant::now() < until {
            match approach.look() {
                Sight::Nothing => thread::sleep(Duration::from_millis(2)),
                seen => return seen,
            }
        }
        Sight::Nothing
    }

    #[test]
    fn a_node_is_there_when_it_answers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let node = Node::unix(&path);
        assert!(Approach::begin(&node, 0, "test").is_err());
        let listener = UnixListener::bind(&path).unwrap();
        let mut approach = Approach::begin(&node, 0, "test").unwrap();
        // It is connected, and nobody has answered.
        for _ in 0..3 {
            assert_eq!(approach.look(), Sight::Nothing);
        }
        let (mut accepted, _) = listener.accept().unwrap();
        let mut asked = [0; 4];
        accepted.read_exact(&mut asked).unwrap();
        assert_eq!(approach.look(), Sight::Nothing);
        accepted.write_all(&[1]).unwrap();
        assert_eq!(seen(&mut approach), Sight::There);
        // Who hangs up is there too.
        let mut approach = Approach::begin(&node, 0, "test").unwrap();
        drop(listener.accept().unwrap());
        assert_ne!(seen(&mut approach), Sight::Nothing);
    }
}
