//! Turns at the processor for what the engine does not compute: verification, decryption, derivation, and signatures that are
//! not made in batches; and turns at the store. Partitions take turns, and in each its user ids, so that nobody's crowd makes the
//! others wait; and what nobody waits for any more is not computed.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use crate::failure::{Failure, refuse};
use crate::rounds::{Origin, Rounds};

/// What may wait. Of one partition there is as much, at most, as there is room for others beside it: one that floods takes half of
/// the room, and two that flood a third each, and whoever comes then finds room too.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Requests, of all and of one user id.
    pub requests: [usize; 2],
    /// Their data in bytes, of all and of one user id.
    pub bytes: [usize; 2],
}

impl Room {
    const USUAL: Self = Room { requests: [32_768, 4_096], bytes: [256 << 20, 32 << 20] };
}

/// Who takes turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Partitions, and in each its user ids.
    ByPartition,
    /// User ids, and for each the partitions that it asks: for what is done before anybody knows who asks. Who could come back as
    /// another partition's client would have a turn in each.
    ByUser,
}

impl Order {
    /// What stands for the first and the second.
    fn origin(self, origin: Origin) -> Origin {
        match self {
            Order::ByPartition => origin,
            Order::ByUser => Origin { partition: origin.uid, uid: origin.partition },
        }
    }
}

/// Work that waits for its turn: until it is begun, or nobody waits for it any more.
type Work = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

fn taken_from(work: &Work) -> Option<Box<dyn FnOnce() + Send>> {
    work.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn still_waits(work: &Work) -> bool {
    work.lock().unwrap_or_else(PoisonError::into_inner).is_some()
}

struct Waiting {
    bytes: usize,
    work: Work,
}

/// Who waits for work: if that ends before the work has begun, it is not done.
struct Awaited<'a> {
    turns: &'a Turns,
    origin: Origin,
    bytes: usize,
    work: Work,
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        if !still_waits(&self.work) {
            return;
        }
        let mut state = self.turns.lock();
        let Some(work) = taken_from(&self.work) else { return };
        state.taken(self.origin).into_iter().for_each(|taken| taken.bytes -= self.bytes);
        state.leave(self.origin);
        state.left_behind += 1;
        // Not for each that leaves: who comes and goes would have all the others looked through each time.
        if state.left_behind > LEFT_BEHIND && 2 * state.left_behind > state.waiting.len() {
            state.waiting.retain(|_, waiting| still_waits(&waiting.work));
            state.left_behind = 0;
        }
        drop(state);
        drop(work);
    }
}

/// So many places of work that nobody waits for are left in the line, or as many as those of other work if that is more.
const LEFT_BEHIND: usize = 64;

/// What waits and is computed, of all or of one.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Taken {
    requests: usize,
    /// Of what waits.
    bytes: usize,
}

#[derive(Default)]
struct State {
    waiting: Rounds<Waiting>,
    /// Of what waits: what nobody waits for any more. It counts nowhere else.
    left_behind: usize,
    all: Taken,
    by_uid: HashMap<u32, Taken>,
    by_partition: HashMap<u32, Taken>,
    /// Threads that compute.
    running: usize,
}

/// The turns of all partitions and user ids.
pub struct Turns {
    state: Mutex<State>,
    threads: usize,
    order: Order,
    room: Room,
}

impl std::fmt::Debug for Turns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turns").field("threads", &self.threads).finish_non_exhaustive()
    }
}

impl Turns {
    /// Turns on so many threads at the same time.
    pub fn new(threads: usize, order: Order) -> Arc<Self> {
        Self::with_room(threads, order, Room::USUAL)
    }

    fn with_room(threads: usize, order: Order, room: Room) -> Arc<Self> {
        Arc::new(Turns { state: Mutex::default(), threads: threads.max(1), order, room })
    }

    /// Computes `work` when it is its turn. `bytes` is the size of what it holds. If the caller stops waiting before
    /// that, it is not computed.
    ///
    /// # Errors
    ///
    /// Those of the work, LIMIT if too much waits already, INTERNAL if the work panics.
    pub async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        origin: Origin,
        bytes: usize,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (reply, result) = oneshot::channel();
        let work: Box<dyn FnOnce() + Send> = Box::new(move || {
            // A panic leaves the reply without answer, which is an answer too.
            if let Ok(result) = catch_unwind(AssertUnwindSafe(work)) {
                drop(reply.send(result));
            }
        });
        let work = Arc::new(Mutex::new(Some(work)));
        self.line_up(origin, Waiting { bytes, work: Arc::clone(&work) })?;
        let _awaited = Awaited { turns: self, origin, bytes, work };
        match result.await {
            Ok(result) => result,
            Err(_) => {
                tracing::error!("a computation failed inside");
                refuse!(Internal, "strongroomd failed inside; its log says more")
            }
        }
    }

    fn line_up(self: &Arc<Self>, origin: Origin, waiting: Waiting) -> Result<(), Failure> {
        let mut state = self.lock();
        if !state.has_room(self.room, origin, waiting.bytes) {
            return refuse!(Limit, "too many requests wait for their turn; try again");
        }
        let bytes = waiting.bytes;
        state.taken(origin).into_iter().for_each(|taken| {
            taken.requests += 1;
            taken.bytes += bytes;
        });
        state.waiting.push(self.order.origin(origin), waiting, Instant::now());
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
            if let Some(origin) = done {
                state.leave(origin);
            }
            let Some((origin, waiting)) = state.waiting.pop(Instant::now()) else {
                state.running -= 1;
                return;
            };
            let Some(work) = taken_from(&waiting.work) else {
                state.left_behind = state.left_behind.saturating_sub(1);
                done = None;
                continue;
            };
            let origin = self.order.origin(origin);
            state.taken(origin).into_iter().for_each(|taken| taken.bytes -= waiting.bytes);
            drop(state);
            done = Some(origin);
            work();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_room(&self, room: Room, origin: Origin, bytes: usize) -> bool {
        let ([all, of_one], [all_bytes, bytes_of_one]) = (room.requests, room.bytes);
        let own = self.by_uid.get(&origin.uid).copied().unwrap_or_default();
        let partition = self.by_partition.get(&origin.partition).copied().unwrap_or_default();
        let left = all.saturating_sub(self.all.requests);
        let bytes_left = all_bytes.saturating_sub(self.all.bytes);
        own.requests < of_one
            && own.bytes + bytes <= bytes_of_one
            && partition.requests < left
            && partition.bytes + bytes <= bytes_left
    }

    /// Where something of this origin is counted.
    fn taken(&mut self, origin: Origin) -> [&mut Taken; 3] {
        let own = self.by_uid.entry(origin.uid).or_default();
        [&mut self.all, own, self.by_partition.entry(origin.partition).or_default()]
    }

    /// Something of this origin was computed, or is not any more.
    fn leave(&mut self, origin: Origin) {
        self.taken(origin).into_iter().for_each(|taken| taken.requests -= 1);
        let Origin { partition, uid } = origin;
        if self.by_uid.get(&uid).is_some_and(|taken| taken.requests == 0) {
            self.by_uid.remove(&uid);
        }
        if self.by_partition.get(&partition).is_some_and(|taken| taken.requests == 0) {
            self.by_partition.remove(&partition);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use strongroom_protocol::v1::ErrorCode;
    use tokio::task::JoinHandle;

    use super::*;

    type Joined = JoinHandle<Result<(), Failure>>;

    /// Of user id 33 of a partition.
    fn of(partition: u32) -> Origin {
        Origin { partition, uid: 33 }
    }

    fn by(partition: u32, uid: u32) -> Origin {
        Origin { partition, uid }
    }

    fn run(turns: &Arc<Turns>, origin: Origin, bytes: usize, work: impl FnOnce() + Send + 'static) -> Joined {
        let turns = Arc::clone(turns);
        tokio::spawn(async move {
            let work = move || {
                work();
                Ok(())
            };
            turns.run(origin, bytes, work).await
        })
    }

    async fn until(turns: &Turns, requests: usize) {
        while turns.lock().all.requests != requests {
            tokio::task::yield_now().await;
        }
    }

    /// Occupies the only thread until the sender is dropped.
    async fn hold(turns: &Arc<Turns>, origin: Origin) -> (mpsc::Sender<()>, Joined) {
        let (release, held) = mpsc::channel::<()>();
        let holder = run(turns, origin, 0, move || assert!(held.recv().is_err()));
        until(turns, 1).await;
        while !turns.lock().waiting.is_empty() {
            tokio::task::yield_now().await;
        }
        (release, holder)
    }

    async fn order_of(order: Order, origins: &[(u32, u32)]) -> Vec<(u32, u32)> {
        let turns = Turns::with_room(1, order, Room::USUAL);
        let (release, holder) = hold(&turns, by(1, 1)).await;
        let (done, computed) = mpsc::channel();
        let mut all = vec![holder];
        for (number, (partition, uid)) in origins.iter().copied().enumerate() {
            let done = done.clone();
            all.push(run(&turns, by(partition, uid), 0, move || done.send((partition, uid)).unwrap()));
            until(&turns, number + 2).await;
        }
        drop(release);
        for one in all {
            one.await.unwrap().unwrap();
        }
        drop(done);
        until(&turns, 0).await;
        let state = turns.lock();
        assert!(state.by_uid.is_empty() && state.by_partition.is_empty());
        assert!(state.running == 0 && state.all == Taken::default());
        computed.iter().collect()
    }

    /// The same who ask, with many requests in one partition and few in others.
    #[tokio::test(flavor = "multi_thread")]
    async fn partitions_take_turns_or_user_ids_do() {
        let asked = [(1, 1), (1, 1), (1, 1), (1, 2), (2, 1), (3, 1), (2, 3)];
        let by_partition = [(1, 1), (2, 1), (3, 1), (1, 2), (2, 3), (1, 1), (1, 1)];
        assert_eq!(order_of(Order::ByPartition, &asked).await, by_partition);
        let by_user = [(1, 1), (1, 2), (2, 3), (2, 1), (3, 1), (1, 1), (1, 1)];
        assert_eq!(order_of(Order::ByUser, &asked).await, by_user);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_user_leaves_room_for_others_in_number_and_bytes() {
        let turns = Turns::with_room(1, Order::ByPartition, Room { requests: [8, 3], bytes: [1000, 60] });
        let (release, holder) = hold(&turns, by(1, 1)).await;
        let first = run(&turns, by(2, 1), 50, || {});
        until(&turns, 2).await;
        let refused = |result: Result<(), Failure>| result.unwrap_err().code == ErrorCode::Limit;
        assert!(refused(run(&turns, by(3, 1), 11, || {}).await.unwrap()), "bytes of one");
        let second = run(&turns, by(3, 1), 10, || {});
        until(&turns, 3).await;
        assert!(refused(run(&turns, by(4, 1), 0, || {}).await.unwrap()), "requests of one");
        let other = run(&turns, by(1, 2), 60, || {});
        until(&turns, 4).await;
        drop(release);
        for one in [holder, first, second, other] {
            one.await.unwrap().unwrap();
        }
        until(&turns, 0).await;
        assert_eq!(turns.lock().all, Taken::default());
    }

    /// However many flood, and by how many user ids: one more partition has room.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_partition_has_as_much_waiting_as_there_is_room_beside_it() {
        let turns = Turns::with_room(1, Order::ByPartition, Room { requests: [64, 8], bytes: [640, 80] });
        let (release, holder) = hold(&turns, by(100, 100)).await;
        let mut waiting = vec![holder];
        let mut flood = async |partition: u32| {
            let (before, mut taken) = (waiting.len(), 0);
            for uid in (0..64).map(|number| partition * 1_000 + number / 4) {
                let one = run(&turns, by(partition, uid), 10, || {});
                while !one.is_finished() && turns.lock().all.requests == before + taken {
                    tokio::task::yield_now().await;
                }
                if one.is_finished() {
                    assert_eq!(one.await.unwrap().unwrap_err().code, ErrorCode::Limit);
                } else {
                    waiting.push(one);
                    taken += 1;
                }
            }
            taken
        };
        let mut most = Vec::new();
        for partition in 1..=4 {
            most.push(flood(partition).await);
        }
        assert_eq!(most, [32, 16, 8, 4]);
        drop(release);
        for one in waiting {
            one.await.unwrap().unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_nobody_waits_for_is_not_computed_and_takes_no_room() {
        let turns = Turns::with_room(1, Order::ByPartition, Room { requests: [6, 3], bytes: [200, 100] });
        let (release, holder) = hold(&turns, of(1)).await;
        let left: Vec<_> = (0..2).map(|_| run(&turns, of(1), 50, || panic!("computed"))).collect();
        until(&turns, 3).await;
        for one in left {
            one.abort();
            assert!(one.await.unwrap_err().is_cancelled());
        }
        let stays = run(&turns, of(1), 90, || {});
        until(&turns, 2).await;
        drop(release);
        holder.await.unwrap().unwrap();
        stays.await.unwrap().unwrap();
        // A panic is the failure of its own request.
        let failed = run(&turns, of(1), 1, || panic!("in a test")).await.unwrap();
        assert_eq!(failed.unwrap_err().code, ErrorCode::Internal);
        run(&turns, of(1), 1, || {}).await.unwrap().unwrap();
    }

    /// Who comes and leaves again and again takes no room, and no memory either.
    #[tokio::test(flavor = "multi_thread")]
    async fn those_who_leave_leave_little_behind() {
        let turns = Turns::with_room(1, Order::ByPartition, Room { requests: [6, 3], bytes: [200, 100] });
        let (release, holder) = hold(&turns, of(1)).await;
        let stays = run(&turns, of(1), 10, || {});
        until(&turns, 2).await;
        for uid in 0..1_000 {
            let leaves = run(&turns, by(2, uid), 50, || panic!("computed"));
            until(&turns, 3).await;
            leaves.abort();
            assert!(leaves.await.unwrap_err().is_cancelled());
            until(&turns, 2).await;
            assert!(turns.lock().waiting.len() <= 2 * LEFT_BEHIND);
        }
        drop(release);
        holder.await.unwrap().unwrap();
        stays.await.unwrap().unwrap();
        until(&turns, 0).await;
    }
}
