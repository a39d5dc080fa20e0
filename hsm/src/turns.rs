//! Turns at the processor for what the engine does not compute: verification, decryption, derivation, and signatures that are
//! not made in batches. User ids take turns, so that nobody's crowd makes the others wait; and what nobody waits for any more
//! is not computed.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::failure::{Failure, refuse};

/// What may wait.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Requests, of all user ids and of one.
    pub requests: [usize; 2],
    /// Their data in bytes, of all user ids and of one.
    pub bytes: [usize; 2],
}

impl Room {
    const USUAL: Self = Room { requests: [32_768, 4_096], bytes: [256 << 20, 32 << 20] };
}

/// Work that waits for its turn.
trait Work: Send {
    fn is_awaited(&self) -> bool;
    fn run(self: Box<Self>);
}

struct Task<T, F> {
    work: F,
    reply: oneshot::Sender<Result<T, Failure>>,
}

impl<T: Send, F: FnOnce() -> Result<T, Failure> + Send> Work for Task<T, F> {
    fn is_awaited(&self) -> bool {
        !self.reply.is_closed()
    }

    fn run(self: Box<Self>) {
        let Task { work, reply } = *self;
        // A panic leaves the reply without answer, which is an answer too.
        if let Ok(result) = catch_unwind(AssertUnwindSafe(work)) {
            drop(reply.send(result));
        }
    }
}

struct Waiting {
    bytes: usize,
    work: Box<dyn Work>,
}

/// What one user id has waiting, and how much of it is computed now.
#[derive(Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// Being computed.
    running: usize,
}

#[derive(Default)]
struct State {
    lines: HashMap<u32, Line>,
    /// User ids with something waiting, in the order of their turns.
    order: VecDeque<u32>,
    requests: usize,
    bytes: usize,
    /// Threads that compute.
    running: usize,
}

/// The turns of all user ids.
pub struct Turns {
    state: Mutex<State>,
    threads: usize,
    room: Room,
}

impl std::fmt::Debug for Turns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turns").field("threads", &self.threads).finish_non_exhaustive()
    }
}

impl Turns {
    /// Turns on so many threads at the same time.
    pub fn new(threads: usize) -> Arc<Self> {
        Self::with_room(threads, Room::USUAL)
    }

    fn with_room(threads: usize, room: Room) -> Arc<Self> {
        Arc::new(Turns { state: Mutex::default(), threads: threads.max(1), room })
    }

    /// Computes `work` when it is this user id's turn. `bytes` is the size of what it holds. If the caller stops waiting before
    /// that, it is not computed.
    ///
    /// # Errors
    ///
    /// Those of the work, LIMIT if too much waits already, INTERNAL if the work panics.
    pub async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        uid: u32,
        bytes: usize,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (reply, result) = oneshot::channel();
        self.line_up(uid, Waiting { bytes, work: Box::new(Task { work, reply }) })?;
        match result.await {
            Ok(result) => result,
            Err(_) => {
                tracing::error!("a computation failed inside");
                refuse!(Internal, "strongroomd failed inside; its log says more")
            }
        }
    }

    fn line_up(self: &Arc<Self>, uid: u32, waiting: Waiting) -> Result<(), Failure> {
        let mut state = self.lock();
        if !state.has_room(self.room, uid, waiting.bytes) {
            // Those who have left may have left work behind.
            state.forget_the_unawaited();
            if !state.has_room(self.room, uid, waiting.bytes) {
                return refuse!(Limit, "too many requests wait for the processor; try again");
            }
        }
        state.requests += 1;
        state.bytes += waiting.bytes;
        let line = state.lines.entry(uid).or_default();
        line.bytes += waiting.bytes;
        line.waiting.push_back(waiting);
        if line.waiting.len() == 1 {
            state.order.push_back(uid);
        }
        if state.running < self.threads {
            state.running += 1;
            let turns = Arc::clone(self);
            tokio::task::spawn_blocking(move || turns.compute());
        }
        Ok(())
    }

    /// Computes what waits, until nothing does.
    fn compute(&self) {
        let mut done = None;
        loop {
            let mut state = self.lock();
            if let Some(uid) = done {
                state.leave(uid);
            }
            let Some((uid, waiting)) = state.next() else {
                state.running -= 1;
                return;
            };
            drop(state);
            done = Some(uid);
            if waiting.work.is_awaited() {
                waiting.work.run();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_room(&self, room: Room, uid: u32, bytes: usize) -> bool {
        let ([all, of_one], [all_bytes, bytes_of_one]) = (room.requests, room.bytes);
        let (own, own_bytes) = self.lines.get(&uid).map_or((0, 0), |line| (line.requests(), line.bytes));
        self.requests < all
            && own < of_one
            && self.bytes + bytes <= all_bytes
            && own_bytes + bytes <= bytes_of_one
    }

    /// The next one's turn: of the user id that has waited longest for one.
    fn next(&mut self) -> Option<(u32, Waiting)> {
        let uid = self.order.pop_front()?;
        let line = self.lines.get_mut(&uid)?;
        let waiting = line.waiting.pop_front()?;
        line.bytes -= waiting.bytes;
        line.running += 1;
        self.bytes -= waiting.bytes;
        if !line.waiting.is_empty() {
            self.order.push_back(uid);
        }
        Some((uid, waiting))
    }

    /// Something of this user id was computed.
    fn leave(&mut self, uid: u32) {
        self.requests -= 1;
        if let Some(line) = self.lines.get_mut(&uid) {
            line.running -= 1;
            if line.requests() == 0 {
                self.lines.remove(&uid);
            }
        }
    }

    fn forget_the_unawaited(&mut self) {
        for line in self.lines.values_mut() {
            line.waiting.retain(|waiting| {
                let stays = waiting.work.is_awaited();
                if !stays {
                    line.bytes -= waiting.bytes;
                    self.bytes -= waiting.bytes;
                    self.requests -= 1;
                }
                stays
            });
        }
        self.lines.retain(|_, line| line.requests() > 0);
        let lines = &self.lines;
        self.order.retain(|uid| lines.get(uid).is_some_and(|line| !line.waiting.is_empty()));
    }
}

impl Line {
    fn requests(&self) -> usize {
        self.waiting.len() + self.running
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use strongroom_protocol::v1::ErrorCode;
    use tokio::task::JoinHandle;

    use super::*;

    type Joined = JoinHandle<Result<(), Failure>>;

    fn run(turns: &Arc<Turns>, uid: u32, bytes: usize, work: impl FnOnce() + Send + 'static) -> Joined {
        let turns = Arc::clone(turns);
        tokio::spawn(async move {
            let work = move || {
                work();
                Ok(())
            };
            turns.run(uid, bytes, work).await
        })
    }

    async fn until(turns: &Turns, requests: usize) {
        while turns.lock().requests != requests {
            tokio::task::yield_now().await;
        }
    }

    /// Occupies the only thread until the sender is dropped.
    async fn hold(turns: &Arc<Turns>, uid: u32) -> (mpsc::Sender<()>, Joined) {
        let (release, held) = mpsc::channel::<()>();
        let holder = run(turns, uid, 0, move || assert!(held.recv().is_err()));
        until(turns, 1).await;
        while turns.lock().order.front().is_some() {
            tokio::task::yield_now().await;
        }
        (release, holder)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn user_ids_take_turns() {
        let turns = Turns::with_room(1, Room::USUAL);
        let (release, holder) = hold(&turns, 1).await;
        let (done, order) = mpsc::channel();
        let mut all = vec![holder];
        for (number, uid) in [1, 1, 1, 1, 2, 3, 2].into_iter().enumerate() {
            let done = done.clone();
            all.push(run(&turns, uid, 0, move || done.send(uid).unwrap()));
            until(&turns, number + 2).await;
        }
        drop(release);
        for one in all {
            one.await.unwrap().unwrap();
        }
        drop(done);
        assert_eq!(order.iter().collect::<Vec<_>>(), [1, 2, 3, 1, 2, 1, 1]);
        until(&turns, 0).await;
        assert!(turns.lock().lines.is_empty() && turns.lock().running == 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_user_leaves_room_for_others_in_number_and_bytes() {
        let turns = Turns::with_room(1, Room { requests: [4, 3], bytes: [100, 60] });
        let (release, holder) = hold(&turns, 1).await;
        let first = run(&turns, 1, 50, || {});
        until(&turns, 2).await;
        let refused = |result: Result<(), Failure>| result.unwrap_err().code == ErrorCode::Limit;
        assert!(refused(run(&turns, 1, 11, || {}).await.unwrap()), "bytes of one");
        let second = run(&turns, 1, 10, || {});
        until(&turns, 3).await;
        assert!(refused(run(&turns, 1, 0, || {}).await.unwrap()), "requests of one");
        assert!(refused(run(&turns, 2, 41, || {}).await.unwrap()), "bytes of all");
        let other = run(&turns, 2, 40, || {});
        until(&turns, 4).await;
        assert!(refused(run(&turns, 3, 0, || {}).await.unwrap()), "requests of all");
        drop(release);
        for one in [holder, first, second, other] {
            one.await.unwrap().unwrap();
        }
        until(&turns, 0).await;
        assert_eq!(turns.lock().bytes, 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_nobody_waits_for_is_not_computed_and_takes_no_room() {
        let turns = Turns::with_room(1, Room { requests: [3, 3], bytes: [100, 100] });
        let (release, holder) = hold(&turns, 1).await;
        let left: Vec<_> = (0..2).map(|_| run(&turns, 1, 50, || panic!("computed"))).collect();
        until(&turns, 3).await;
        for one in left {
            one.abort();
            assert!(one.await.unwrap_err().is_cancelled());
        }
        let stays = run(&turns, 1, 90, || {});
        until(&turns, 2).await;
        drop(release);
        holder.await.unwrap().unwrap();
        stays.await.unwrap().unwrap();
        // A panic is the failure of its own request.
        let failed = run(&turns, 1, 1, || panic!("in a test")).await.unwrap();
        assert_eq!(failed.unwrap_err().code, ErrorCode::Internal);
        run(&turns, 1, 1, || {}).await.unwrap().unwrap();
    }
}
