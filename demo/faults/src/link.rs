//! A cable between a host and the switch, which can be cut, slow and bad: this program carries each frame from one end to the
//! other. (Not every kernel has netem, and one that has would do the same.)

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read, write};

use crate::tap;

/// A frame: 1,500 bytes and Ethernet's header, with room for a tag.
const FRAME: usize = 2048;

/// Frames under way in one direction; what comes while so many are is lost, as in a switch.
const UNDER_WAY: usize = 8192;

/// How often the thread looks whether it is to end.
const GLANCE: Duration = Duration::from_millis(200);

/// What befalls frames of one direction.
#[derive(Debug, Default)]
struct Way {
    is_cut: AtomicBool,
    /// In milliseconds.
    delay: AtomicU32,
    /// How many of a thousand are lost.
    loss: AtomicU32,
}

#[derive(Debug, Default)]
struct State {
    /// From the switch to the host, and from the host to the switch.
    ways: [Way; 2],
    is_over: AtomicBool,
}

/// A cable. It is gone when this is dropped.
#[derive(Debug)]
pub struct Link {
    state: Arc<State>,
}

/// A direction, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the host.
    In,
    /// From the host.
    Out,
    /// Both.
    Both,
}

impl Link {
    /// Makes a cable: two network devices of these names in this network namespace, to be put where its ends are. `seed`
    /// says which frames are lost.
    ///
    /// # Errors
    ///
    /// Those of [`tap::make`], or of the thread.
    pub fn make(switch: &str, host: &str, seed: u64) -> Result<Self> {
        let ends = [tap::make(switch)?, tap::make(host)?];
        let state = Arc::new(State::default());
        let cable = Arc::clone(&state);
        thread::Builder::new()
            .name(format!("link {switch}"))
            .spawn(move || carry(&ends, &cable, fastrand::Rng::with_seed(seed)))
            .context("no thread for a link")?;
        Ok(Link { state })
    }

    /// Lets no frame through in a direction.
    pub fn cut(&self, direction: Direction) {
        self.each(direction, |way| way.is_cut.store(true, Ordering::Relaxed));
    }

    /// Delays each frame in either direction, and loses some of a thousand.
    pub fn impair(&self, delay: Duration, loss: u32) {
        self.each(Direction::Both, |way| {
            way.delay.store(delay.as_millis() as u32, Ordering::Relaxed);
            way.loss.store(loss, Ordering::Relaxed);
        });
    }

    /// As it was made.
    pub fn heal(&self) {
        self.each(Direction::Both, |way| way.is_cut.store(false, Ordering::Relaxed));
        self.impair(Duration::ZERO, 0);
    }

    fn each(&self, direction: Direction, act: impl Fn(&Way)) {
        let [inwards, outwards] = &self.state.ways;
        if direction != Direction::Out {
            act(inwards);
        }
        if direction != Direction::In {
            act(outwards);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Relaxed);
    }
}

/// Frames of one direction that are under way, and when they arrive.
type Queue = VecDeque<(Instant, Vec<u8>)>;

fn carry([switch, host]: &[OwnedFd; 2], state: &State, mut random: fastrand::Rng) {
    let [inwards, outwards] = &state.ways;
    let mut queues = [Queue::new(), Queue::new()];
    while !state.is_over.load(Ordering::Relaxed) {
        let now = Instant::now();
        let next = queues.iter().filter_map(Queue::front).map(|(due, _)| due.saturating_duration_since(now));
        let wait = next.min().map_or(GLANCE, |next| next.min(GLANCE));
        let mut ends = [PollFd::new(switch, PollFlags::IN), PollFd::new(host, PollFlags::IN)];
        let wait = Timespec::try_from(wait).ok();
        // A signal, or a device that is not up yet: the frames say.
        let _ = poll(&mut ends, wait.as_ref());
        let [to_host, to_switch] = &mut queues;
        let mut is_idle = false;
        for (from, to, way, queue) in [(switch, host, inwards, to_host), (host, switch, outwards, to_switch)]
        {
            is_idle |= take(from, way, queue, &mut random).is_err();
            deliver(to, way, queue);
        }
        if is_idle {
            // A device that is down has an error for each read.
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Takes what has come.
fn take(from: &OwnedFd, way: &Way, queue: &mut Queue, random: &mut fastrand::Rng) -> Result<(), Errno> {
    let delay = Duration::from_millis(way.delay.load(Ordering::Relaxed).into());
    // Not for ever: the other direction waits.
    for _ in 0..64 {
        let mut frame = vec![0; FRAME];
        match read(from, &mut frame) {
            Ok(length) => frame.truncate(length),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(error) => return Err(error),
        }
        let is_lost = random.u32(0..1000) < way.loss.load(Ordering::Relaxed);
        if !is_lost && !way.is_cut.load(Ordering::Relaxed) && queue.len() < UNDER_WAY {
            queue.push_back((Instant::now() + delay, frame));
        }
    }
    Ok(())
}

/// Delivers what is due. What is under way when the cable is cut is lost.
fn deliver(to: &OwnedFd, way: &Way, queue: &mut Queue) {
    if way.is_cut.load(Ordering::Relaxed) {
        queue.clear();
    }
    let now = Instant::now();
    while queue.front().is_some_and(|(due, _)| *due <= now) {
        if let Some((_, frame)) = queue.pop_front() {
            // What the system does not take is lost, as on a wire.
            let _ = write(to, &frame);
        }
    }
}
