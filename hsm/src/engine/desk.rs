//! The desk: where requests arrive and are given out.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use strongroom_channel::State;

use super::job::{Answer, Job};
use super::queue::{Lengths, MOST_WAITING, Next, Queue};
use super::seat::{Counters, Seat};
use super::watch::{Cipher, Watch};
use crate::crypto::{Choices, CryptoError, KeyKind, LANES, Order, Signature, Signer};
use crate::failure::Failure;
use crate::metrics::{Operation, Outcome};

/// Who was silent for this long is no longer looked after unasked: it has to ring.
const SILENT: Duration = Duration::from_millis(200);

/// How long those who have to ring may not be heard while the desk has work without a pause.
const DEAF: Duration = Duration::from_micros(200);

/// Requests that one client gets in before the next one's turn.
const A_TURN: u64 = 8;

/// How long the desk looks around before it sleeps, in case the next request is about to come.
const LINGER: Duration = Duration::from_micros(20);

/// It sleeps when it has found nothing for so long, whatever became of the processor: two who only give way to each other would
/// go on for ever.
const EMPTY: Duration = Duration::from_millis(5);

/// A yield that took longer than this gave the processor to somebody.
const YIELDED: Duration = Duration::from_micros(3);

/// A yield that took longer than this gave it to somebody who computes for long.
const LONG: Duration = Duration::from_millis(2);

/// Then so many requests have to have come meanwhile: it was the web server's workers that had the processor.
const WORTH_IT: u64 = 2;

/// Otherwise the desk gives way to nobody for so long: it sleeps, and is woken at once when somebody rings.
const ABSTAIN: Duration = Duration::from_millis(20);

/// One step of a wait for requests that fill a batch, while nobody wants the processor. A sleep, and not the bell: nobody rings for
/// a desk that is awake, which is what saves each client a system call; to be rung, the desk would have to say that it sleeps, and
/// then every request that comes would wake it, where it waits for several. A step is short against any slow
/// batch (more than 200 us): what is lost when the last one comes early is less than the batch saves, and the processor is free
/// meanwhile.
const STEP: Duration = Duration::from_micros(40);

/// The epoll number of the engine's own bell.
const OWN_BELL: u64 = u64::MAX;

/// A batch on its way through a signing thread.
type Batch = ArrayVec<Job, LANES>;

/// What the signing threads share.
#[derive(Debug)]
pub(super) struct Shared {
    choices: Arc<Choices>,
    /// Held by the thread that sits there.
    desk: Mutex<Desk>,
    /// What comes from other threads.
    inbox: Mutex<Vec<Message>>,
    has_mail: AtomicBool,
    /// Wakes the desk for the inbox, and when a slow batch is done.
    bell: OwnedFd,
    /// The clients' bells, by the address of the seat, and our own.
    epoll: OwnedFd,
    state: State,
    stopping: AtomicBool,
    made: AtomicU64,
    /// Batches by kind, and by how many signatures were in them, from one on.
    batches: [[AtomicU64; LANES]; KeyKind::BATCHED.len()],
    /// How many wait, by kind.
    lengths: Arc<Lengths>,
    requests: AtomicU64,
    errors: AtomicU64,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "most are jobs, and a box would be an allocation for each")]
enum Message {
    Job(Job),
    Seat(Arc<Seat>),
    Unseat(Arc<Seat>),
    /// A slow batch of so many is done.
    Done(KeyKind, usize),
}

#[derive(Debug)]
struct Desk {
    queue: Queue,
    watches: Vec<Option<Watch>>,
    /// By the address of the seat.
    by_seat: HashMap<u64, usize>,
    free: Vec<usize>,
    /// Watches of clients that were not silent lately.
    active: Vec<usize>,
    swept: Instant,
    /// Somebody has had the processor for long, and what has come meanwhile was not yet taken in.
    gave_long: bool,
    abstain_until: Instant,
    /// When it asked last who rang.
    listened: Instant,
    mail: Vec<Message>,
    cipher: Box<Cipher>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(choices: Arc<Choices>, cores: usize) -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &bell, epoll::EventData::new_u64(OWN_BELL), edge_triggered())?;
        let queue = Queue::new(&choices, cores);
        let lengths = queue.lengths();
        let desk = Desk {
            queue,
            watches: Vec::new(),
            by_seat: HashMap::new(),
            free: Vec::new(),
            active: Vec::new(),
            swept: Instant::now(),
            gave_long: false,
            abstain_until: Instant::now(),
            listened: Instant::now(),
            mail: Vec::with_capacity(64),
            cipher: Cipher::new(),
        };
        Ok(Shared {
            choices,
            desk: Mutex::new(desk),
            inbox: Mutex::new(Vec::with_capacity(64)),
            has_mail: AtomicBool::new(false),
            bell,
            epoll,
            state: State::create()?,
            stopping: AtomicBool::new(false),
            made: AtomicU64::new(0),
            batches: Default::default(),
            lengths,
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        })
    }

    pub(super) fn state_descriptor(&self) -> io::Result<OwnedFd> {
        self.state.descriptor()
    }

    pub(super) fn describe(&self) -> Vec<String> {
        // The first lines are those of the kinds, in their order.
        let mut lines = self.choices.describe();
        for (line, sizes) in lines.iter_mut().zip(self.batches()) {
            let batches: u64 = sizes.iter().sum();
            let signatures: u64 = sizes.iter().zip(1..).map(|(batches, size)| batches * size).sum();
            if batches > 0 {
                let each = signatures as f64 / batches as f64;
                line.push_str(&format!("; {each:.1} requests in a batch so far"));
            }
        }
        lines
    }

    pub(super) fn batches(&self) -> [[u64; LANES]; KeyKind::BATCHED.len()] {
        self.batches.each_ref().map(|sizes| sizes.each_ref().map(|batches| batches.load(Ordering::Relaxed)))
    }

    /// How many wait, by kind.
    pub(super) fn waiting(&self) -> [u64; KeyKind::BATCHED.len()] {
        self.lengths.each_ref().map(|length| length.load(Ordering::Relaxed))
    }

    pub(super) fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    pub(super) fn requests(&self) -> (u64, u64) {
        (self.requests.load(Ordering::Relaxed), self.errors.load(Ordering::Relaxed))
    }

    pub(super) fn count(&self, made: bool) {
        self.made.fetch_add(made.into(), Ordering::Relaxed);
    }

    pub(super) fn enqueue(&self, job: Job) -> Result<(), CryptoError> {
        {
            let mut inbox = lock(&self.inbox);
            if inbox.len() >= MOST_WAITING {
                return Err(CryptoError::Busy(inbox.len()));
            }
            inbox.push(Message::Job(job));
        }
        self.ring();
        Ok(())
    }

    pub(super) fn seat(&self, seat: Arc<Seat>) -> io::Result<()> {
        epoll::add(
            &self.epoll,
            seat.region.bell(),
            epoll::EventData::new_u64(address(&seat)),
            edge_triggered(),
        )?;
        self.tell(Message::Seat(seat));
        Ok(())
    }

    pub(super) fn unseat(&self, seat: &Arc<Seat>) {
        self.tell(Message::Unseat(Arc::clone(seat)));
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    fn tell(&self, message: Message) {
        lock(&self.inbox).push(message);
        self.ring();
    }

    /// After something was put into the inbox. The desk says that it sleeps and looks into the inbox once more before
    /// it does; we put something in and then look whether it sleeps: one sees the other.
    fn ring(&self) {
        self.has_mail.store(true, Ordering::SeqCst);
        if !self.state.is_awake() {
            let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
        }
    }

    /// A signing thread's life: at the desk, then away with a slow batch, and back.
    pub(super) fn work(&self) {
        let _vital = Vital;
        let mut signer = Signer::new(Arc::clone(&self.choices));
        let mut batch = Batch::new();
        loop {
            let kind = {
                let mut desk = lock(&self.desk);
                match desk.serve(self, &mut signer, &mut batch) {
                    Some(kind) => kind,
                    None => return,
                }
            };
            let signatures = batch.len();
            self.compute(&mut signer, &mut batch);
            self.tell(Message::Done(kind, signatures));
        }
    }

    /// Computes a batch and sends the results.
    fn compute(&self, signer: &mut Signer, batch: &mut Batch) {
        batch.retain(|job| job.answer.is_awaited());
        let mut signatures: [Signature; LANES] = std::array::from_fn(|_| Signature::empty());
        let mut orders: ArrayVec<Order<'_>, LANES> = batch
            .iter()
            .zip(&mut signatures)
            .map(|(job, signature)| Order {
                key: &job.key,
                mechanism: job.mechanism,
                data: job.data.bytes(),
                signature,
                outcome: Ok(()),
            })
            .collect();
        let Some(first) = orders.first() else { return };
        let sizes = self.batches.get(first.key.kind() as usize);
        if let Some(batches) = sizes.and_then(|sizes| sizes.get(orders.len() - 1)) {
            batches.fetch_add(1, Ordering::Relaxed);
        }
        signer.sign(&mut orders);
        let outcomes: ArrayVec<Result<(), CryptoError>, LANES> =
            orders.into_iter().map(|order| order.outcome).collect();
        let now = Instant::now();
        for ((job, signature), outcome) in batch.drain(..).zip(&signatures).zip(outcomes) {
            self.count(outcome.is_ok());
            self.account(&job, &outcome, now);
            job.answer.send(outcome.map(|()| signature.bytes()));
        }
    }

    /// Takes a job in, or refuses it if the queue has no room for it.
    fn line_up(&self, queue: &mut Queue, job: Job, now: Instant) {
        match queue.admit(job.origin) {
            Ok(()) => queue.push(job, now),
            Err(error) => {
                let outcome = Err(error);
                self.account(&job, &outcome, Instant::now());
                job.answer.send(outcome.map(|()| [].as_slice()));
            }
        }
    }

    /// Counts what has become of a request that came through a channel. What came over a socket is counted there.
    fn account(&self, job: &Job, outcome: &Result<(), CryptoError>, now: Instant) {
        let Answer::Slot { counters, .. } = &job.answer else { return };
        let Counters { meter, uses } = &**counters;
        let (key_type, mechanism) = (job.kind().to_wire(), job.mechanism.to_wire());
        let time = now.saturating_duration_since(job.arrived);
        match outcome {
            Ok(()) => {
                meter.count(Operation::Sign, key_type, mechanism, Outcome::Success, time);
                uses.done(None);
            }
            Err(error) => {
                self.errors.fetch_add(1, Ordering::Relaxed);
                let failure = Failure::from(error.clone());
                meter.count(Operation::Sign, key_type, mechanism, failure.outcome(), time);
                meter.refuse(&failure);
                uses.refused(failure.code, None);
            }
        }
    }
}

/// Ends the process when its thread panics: the clients of what it was about would wait in vain, and the engine would
/// go on with a thread less. A daemon that is started anew answers them.
struct Vital;

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// What a seat's bell is known by; nobody else's as long as the seat is watched.
fn address(seat: &Arc<Seat>) -> u64 {
    Arc::as_ptr(seat) as u64
}

fn edge_triggered() -> epoll::EventFlags {
    epoll::EventFlags::IN | epoll::EventFlags::ET
}

impl Desk {
    /// Looks after requests until there is a slow batch to compute, which it puts into `batch`; `None`: the engine
    /// stops.
    fn serve(&mut self, shared: &Shared, signer: &mut Signer, batch: &mut Batch) -> Option<KeyKind> {
        let mut idle_since: Option<Instant> = None;
        let mut empty_since: Option<Instant> = None;
        loop {
            if shared.stopping.load(Ordering::Relaxed) {
                return None;
            }
            let now = Instant::now();
            let found = self.collect(shared, now);
            if found > 0 {
                empty_since = None;
            }
            if std::mem::take(&mut self.gave_long) && found < WORTH_IT {
                self.abstain_until = now + ABSTAIN;
            }
            match self.queue.next(now) {
                Next::Quick(kind) => {
                    self.queue.take(kind, now, |job| batch.push(job));
                    shared.compute(signer, batch);
                    idle_since = None;
                }
                Next::Slow(kind) => {
                    self.queue.take(kind, now, |job| batch.push(job));
                    return Some(kind);
                }
                Next::Partial { kind, more, next } => {
                    idle_since = None;
                    let abstains = self.abstains(now);
                    if !abstains && self.give_way(now) {
                        // Somebody had the processor: likely those whose requests fill the batch.
                    } else if more {
                        std::thread::sleep(STEP);
                    } else if abstains && next {
                        self.sleep(shared);
                    } else {
                        self.queue.take(kind, now, |job| batch.push(job));
                        return Some(kind);
                    }
                }
                Next::Nothing if found > 0 => idle_since = None,
                Next::Nothing => {
                    let since = *idle_since.get_or_insert(now);
                    let empty = *empty_since.get_or_insert(now);
                    let lingers = now.duration_since(since) < LINGER
                        && now.duration_since(empty) < EMPTY
                        && !self.abstains(now);
                    if lingers {
                        if self.give_way(now) {
                            idle_since = None;
                        }
                    } else if !signer.prepare() {
                        self.sleep(shared);
                        idle_since = None;
                        empty_since = None;
                    }
                }
            }
        }
    }

    /// Lets others have the processor; whether anybody wanted it.
    fn give_way(&mut self, now: Instant) -> bool {
        std::thread::yield_now();
        let took = now.elapsed();
        self.gave_long |= took > LONG;
        took > YIELDED
    }

    /// Whether somebody computes for long on this processor, to whom giving way would cost a time slice.
    fn abstains(&self, now: Instant) -> bool {
        now < self.abstain_until
    }

    /// Takes in what has arrived; how much.
    fn collect(&mut self, shared: &Shared, now: Instant) -> u64 {
        let mut found = 0;
        if shared.has_mail.load(Ordering::Relaxed) && shared.has_mail.swap(false, Ordering::SeqCst) {
            found += self.read_mail(shared, now);
        }
        let mut requests = 0;
        let active = std::mem::take(&mut self.active);
        for index in &active {
            requests += self.look_at(shared, *index, now);
        }
        self.active = active;
        if requests > 0 {
            shared.requests.fetch_add(requests, Ordering::Relaxed);
        }
        if now.duration_since(self.swept) > SILENT {
            self.sweep(now);
        }
        // It may never come to sleep.
        if now.duration_since(self.listened) > DEAF && self.active.len() < self.by_seat.len() {
            self.listen(shared, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        }
        found + requests
    }

    fn read_mail(&mut self, shared: &Shared, now: Instant) -> u64 {
        let mut mail = std::mem::take(&mut self.mail);
        std::mem::swap(&mut mail, &mut *lock(&shared.inbox));
        let count = mail.len() as u64;
        for message in mail.drain(..) {
            match message {
                Message::Job(job) => shared.line_up(&mut self.queue, job, now),
                Message::Seat(seat) => self.add(seat, now),
                Message::Unseat(seat) => self.remove(shared, &seat),
                Message::Done(kind, signatures) => self.queue.done(kind, signatures),
            }
        }
        self.mail = mail;
        count
    }

    /// Takes some of a client's new requests in; how many.
    fn look_at(&mut self, shared: &Shared, index: usize, now: Instant) -> u64 {
        let Some(Some(watch)) = self.watches.get_mut(index) else { return 0 };
        let mut count = 0;
        while count < A_TURN
            && let Some(number) = watch.next_posted()
        {
            count += 1;
            match watch.begin(number, now, &mut self.cipher) {
                Ok(Some(job)) => shared.line_up(&mut self.queue, job, now),
                Ok(None) => shared.count(true),
                Err(failure) => {
                    shared.errors.fetch_add(1, Ordering::Relaxed);
                    watch.seat.refuse(number, &failure);
                }
            }
        }
        if count > 0 {
            watch.last = now;
        }
        count
    }

    fn add(&mut self, seat: Arc<Seat>, now: Instant) {
        let index = self.free.pop().unwrap_or(self.watches.len());
        if index == self.watches.len() {
            self.watches.push(None);
        }
        self.by_seat.insert(address(&seat), index);
        if let Some(place) = self.watches.get_mut(index) {
            *place = Some(Watch::new(seat, now));
        }
        self.activate(index, now);
    }

    fn remove(&mut self, shared: &Shared, seat: &Arc<Seat>) {
        // The client has a copy of the bell, which would keep it watched.
        let _ = epoll::delete(&shared.epoll, seat.region.bell());
        let Some(index) = self.by_seat.remove(&address(seat)) else { return };
        self.active.retain(|active| *active != index);
        if let Some(place) = self.watches.get_mut(index) {
            *place = None;
            self.free.push(index);
        }
    }

    fn activate(&mut self, index: usize, now: Instant) {
        if let Some(Some(watch)) = self.watches.get_mut(index) {
            watch.last = now;
            if !watch.is_active {
                watch.is_active = true;
                watch.seat.region.watch(true);
                self.active.push(index);
            }
        }
    }

    /// Those who were silent have to ring from now on.
    fn sweep(&mut self, now: Instant) {
        self.swept = now;
        let watches = &mut self.watches;
        self.active.retain(|index| {
            let Some(Some(watch)) = watches.get_mut(*index) else { return false };
            if now.duration_since(watch.last) < SILENT {
                return true;
            }
            watch.seat.region.watch(false);
            // It may have posted without ringing just before.
            if watch.has_posted() {
                watch.seat.region.watch(true);
                return true;
            }
            watch.is_active = false;
            false
        });
    }

    /// Sleeps until somebody rings.
    fn sleep(&mut self, shared: &Shared) {
        shared.state.set_awake(false);
        let posted = self
            .active
            .iter()
            .any(|index| matches!(self.watches.get(*index), Some(Some(watch)) if watch.has_posted()));
        if posted || shared.has_mail.load(Ordering::SeqCst) || shared.stopping.load(Ordering::SeqCst) {
            shared.state.set_awake(true);
            return;
        }
        self.listen(shared, None);
        shared.state.set_awake(true);
    }

    /// Waits until somebody rings, or as long as `most`, and looks after them from now on.
    fn listen(&mut self, shared: &Shared, most: Option<&Timespec>) {
        let mut events = [MaybeUninit::uninit(); 64];
        let woken = epoll::wait(&shared.epoll, &mut events, most);
        let now = Instant::now();
        self.listened = now;
        let Ok((events, _)) = woken else { return };
        for number in events.iter().map(|event| event.data.u64()).filter(|number| *number != OWN_BELL) {
            // One whose seat is still in the inbox is looked after from the beginning.
            if let Some(index) = self.by_seat.get(&number) {
                self.activate(*index, now);
            }
        }
    }
}
