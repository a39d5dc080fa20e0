//! A daemon that is far away: a proxy on a Unix socket that passes everything on after a fixed time, each way.
//!
//! One thread serves all connections. All that is read gets the same delay, so that one queue in the order of
//! arrival is also in the order of departure: nothing is reordered, and nothing limits the throughput but the
//! machine. File descriptors are not passed on, as a network would not.

use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fs::Timespec;

/// Read at once from one connection.
const PIECE: usize = 64 * 1024;
/// Bytes under way at most, of all connections together: above that nothing is read.
const MOST: usize = 256 * 1024 * 1024;
/// The listening socket among the events.
const LISTENER: u64 = u64::MAX;
/// How often the thread looks whether it shall end.
const GLANCE: Duration = Duration::from_millis(100);

/// A running proxy; it ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    socket: PathBuf,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens on `socket` and passes on to `daemon`, `delay` later, and back as much later.
    ///
    /// # Errors
    ///
    /// When the socket or the thread cannot be made.
    pub fn start(socket: &Path, daemon: &Path, delay: Duration) -> Result<Self> {
        let listener =
            UnixListener::bind(socket).with_context(|| format!("cannot listen on {}", socket.display()))?;
        listener.set_nonblocking(true)?;
        // Web servers' workers connect as another user. The daemon sees this program's user.
        std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666))?;
        let poll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&poll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        let ended = Arc::new(AtomicBool::new(false));
        let relay = Relay {
            poll,
            listener,
            daemon: daemon.to_owned(),
            delay,
            ends: HashMap::new(),
            next: 0,
            queue: VecDeque::new(),
            under_way: 0,
        };
        let until = Arc::clone(&ended);
        let thread = thread::Builder::new().name("delay".into()).spawn(move || relay.run(&until))?;
        Ok(Proxy { socket: socket.to_owned(), ended, thread: Some(thread) })
    }

    /// Where clients connect.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// One end of a connection. Ends come in pairs: the other one's number differs in the lowest bit.
struct End {
    stream: UnixStream,
    /// What was due but did not fit into the socket.
    waiting: VecDeque<u8>,
    /// The other side has said that it sends no more.
    closing: bool,
}

/// Something on its way to an end: bytes, or none for the end of the stream.
struct Parcel {
    due: Instant,
    to: u64,
    bytes: Vec<u8>,
}

struct Relay {
    poll: OwnedFd,
    listener: UnixListener,
    daemon: PathBuf,
    delay: Duration,
    ends: HashMap<u64, End>,
    next: u64,
    queue: VecDeque<Parcel>,
    under_way: usize,
}

impl Relay {
    fn run(mut self, ended: &AtomicBool) {
        let mut events = Vec::with_capacity(256);
        let mut piece = vec![0; PIECE];
        while !ended.load(Ordering::Relaxed) {
            self.deliver();
            let wait = self
                .queue
                .front()
                .map_or(GLANCE, |parcel| parcel.due.saturating_duration_since(Instant::now()).min(GLANCE));
            events.clear();
            let timeout = Timespec::try_from(wait).ok();
            let waited =
                epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref());
            if waited.is_err() {
                continue;
            }
            for event in &events {
                let flags = event.flags;
                match event.data.u64() {
                    LISTENER => self.accept(),
                    number => {
                        if flags.contains(EventFlags::OUT) {
                            self.flush(number);
                        }
                        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                            self.read(number, &mut piece);
                        }
                    }
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((client, _)) = self.listener.accept() {
            // If the daemon is away, the client's connection closes: what it would see of a distant one.
            let Ok(daemon) = UnixStream::connect(&self.daemon) else { continue };
            for stream in [client, daemon] {
                let number = self.next;
                self.next += 1;
                let registered = stream.set_nonblocking(true).is_ok()
                    && epoll::add(
                        &self.poll,
                        stream.as_fd(),
                        EventData::new_u64(number),
                        EventFlags::IN | EventFlags::OUT | EventFlags::ET,
                    )
                    .is_ok();
                if registered {
                    self.ends.insert(number, End { stream, waiting: VecDeque::new(), closing: false });
                }
            }
        }
    }

    /// Reads what is there. Registered for edges: all of it, or there is no other event.
    fn read(&mut self, number: u64, piece: &mut [u8]) {
        loop {
            if self.under_way > MOST {
                // Far more than ever is under way in a benchmark.
                return self.drop_pair(number);
            }
            let Some(end) = self.ends.get_mut(&number) else { return };
            let due = Instant::now() + self.delay;
            match end.stream.read(piece) {
                Ok(length) => {
                    let bytes = piece.get(..length).unwrap_or_default().to_vec();
                    self.under_way += length;
                    self.queue.push_back(Parcel { due, to: number ^ 1, bytes });
                    if length == 0 {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.queue.push_back(Parcel { due, to: number ^ 1, bytes: Vec::new() });
                    return;
                }
            }
        }
    }

    /// Hands over what is due.
    fn deliver(&mut self) {
        let now = Instant::now();
        while let Some(parcel) = self.queue.pop_front_if(|parcel| parcel.due <= now) {
            self.under_way = self.under_way.saturating_sub(parcel.bytes.len());
            let Some(end) = self.ends.get_mut(&parcel.to) else { continue };
            if parcel.bytes.is_empty() {
                end.closing = true;
            } else {
                end.waiting.extend(parcel.bytes);
            }
            self.flush(parcel.to);
        }
    }

    /// Writes what fits.
    fn flush(&mut self, number: u64) {
        let Some(end) = self.ends.get_mut(&number) else { return };
        while !end.waiting.is_empty() {
            match end.stream.write(end.waiting.as_slices().0) {
                Ok(written) => drop(end.waiting.drain(..written)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.drop_pair(number),
            }
        }
        if end.closing {
            let _ = end.stream.shutdown(Shutdown::Write);
            // When both directions have ended, both ends go.
            if self.ends.get(&(number ^ 1)).is_none_or(|other| other.closing && other.waiting.is_empty()) {
                self.drop_pair(number);
            }
        }
    }

    fn drop_pair(&mut self, number: u64) {
        self.ends.remove(&number);
        self.ends.remove(&(number ^ 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A daemon that returns what it gets.
    fn echo(socket: &Path) {
        let listener = UnixListener::bind(socket).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, mut back) = {
                    let stream = stream.unwrap();
                    (stream.try_clone().unwrap(), stream)
                };
                thread::spawn(move || {
                    std::io::copy(&mut stream, &mut back).unwrap();
                    back.shutdown(Shutdown::Write).unwrap();
                });
            }
        });
    }

    #[test]
    fn bytes_arrive_late_complete_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let (daemon, socket) = (folder.path().join("daemon"), folder.path().join("proxy"));
        echo(&daemon);
        let delay = Duration::from_millis(5);
        let proxy = Proxy::start(&socket, &daemon, delay).unwrap();
        let clients: Vec<_> = (0..8_u8)
            .map(|number| {
                let mut stream = UnixStream::connect(proxy.socket()).unwrap();
                thread::spawn(move || {
                    let sent: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8 ^ number).collect();
                    let mut writer = stream.try_clone().unwrap();
                    let copy = sent.clone();
                    let started = Instant::now();
                    let writing = thread::spawn(move || {
                        writer.write_all(&copy).unwrap();
                        writer.shutdown(Shutdown::Write).unwrap();
                    });
                    let mut received = Vec::new();
                    stream.read_to_end(&mut received).unwrap();
                    writing.join().unwrap();
                    assert!(received == sent, "{} bytes", received.len());
                    assert!(started.elapsed() >= 2 * delay);
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
    }

    #[test]
    fn many_in_flight_are_delayed_once() {
        let folder = tempfile::tempdir().unwrap();
        let (daemon, socket) = (folder.path().join("daemon"), folder.path().join("proxy"));
        echo(&daemon);
        let proxy = Proxy::start(&socket, &daemon, Duration::from_millis(20)).unwrap();
        let mut stream = UnixStream::connect(proxy.socket()).unwrap();
        let started = Instant::now();
        for _ in 0..200 {
            stream.write_all(&[7; 100]).unwrap();
        }
        let mut received = vec![0; 20_000];
        stream.read_exact(&mut received).unwrap();
        // Twenty milliseconds each way, not two hundred times that.
        assert!(started.elapsed() >= Duration::from_millis(40));
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    }
}
