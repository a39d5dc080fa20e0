//! The jobs that wait: a queue per key type, shorter operations first, nobody for ever.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::job::Job;
use crate::crypto::{Choices, CryptoError, KeyKind, LANES};

/// Requests that may wait, over all kinds. Above it a caller is told to try again.
pub(super) const MOST_WAITING: usize = 32_768;

/// Requests of one user id that may wait: the others' wait behind so many at most.
pub(super) const MOST_WAITING_OF_ONE: usize = 4_096;

/// A kind whose whole batch costs no more than this is quick: computed by whoever looks after the requests. What
/// costs more goes to a thread that does nothing else meanwhile.
const QUICK: Duration = Duration::from_micros(200);

/// The longest that a request waits for others to join it.
const LONGEST_PAUSE: Duration = Duration::from_millis(12);

const KINDS: usize = KeyKind::BATCHED.len();

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Compute a batch of this kind at once.
    Quick(KeyKind),
    /// Compute a batch of this kind, and let another thread look after the requests.
    Slow(KeyKind),
    /// A batch of this kind is not whole. Let others have the processor, and look again; if nobody wants it and no more
    /// are expected, compute what there is.
    Partial {
        kind: KeyKind,
        /// Whether as many as lately would fill the batch.
        more: bool,
        /// Whether another batch of the kind is computed, and this one may wait for its end.
        next: bool,
    },
    /// Nothing can be begun.
    Nothing,
}

/// Of one kind.
#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Job>,
    /// Batches that are being computed, and the signatures in them.
    batches: usize,
    signatures: usize,
    /// How many requests there were lately at the same time, waiting or being computed.
    crowd: usize,
}

/// What is known of a kind from the measurement at the start.
#[derive(Debug, Clone, Copy)]
struct Cost {
    quick: bool,
    /// How many are computed together, at most.
    lanes: usize,
    /// From how many on it pays to compute them together; fewer are computed one by one, by as many threads.
    least: usize,
    /// How long a request lets shorter ones go first: ten times what it costs.
    patience: Duration,
    /// How long a request waits at most for others to join it.
    pause: Duration,
}

/// How many wait, by kind, for those who only look.
pub(super) type Lengths = [AtomicU64; KINDS];

/// The jobs that wait.
pub(super) struct Queue {
    lengths: Arc<Lengths>,
    lines: [Line; KINDS],
    costs: [Cost; KINDS],
    length: usize,
    by_uid: HashMap<u32, usize>,
    /// Threads that compute slow batches at the same time, at most.
    most_batches: usize,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("uid", &self.uid).field("kind", &self.kind()).finish_non_exhaustive()
    }
}

impl Queue {
    pub(super) fn new(choices: &Arc<Choices>, most_batches: usize) -> Self {
        let costs = KeyKind::BATCHED.map(|kind| {
            let (one, all) = (choices.cost(kind, 1), choices.cost(kind, LANES));
            // It has to pay by more than the measurement is off.
            let pays = |batch: usize| choices.cost(kind, batch) < one * batch as u32 * 19 / 20;
            let least = (2..=LANES).find(|batch| pays(*batch));
            let quick = all <= QUICK;
            Cost {
                quick,
                // A slow batch that costs as much as its parts only makes the first wait for the last. A quick one
                // saves at least what is done once for all.
                lanes: if quick || least.is_some() { LANES } else { 1 },
                least: least.unwrap_or(1),
                patience: one * 10,
                pause: (one * 16).min(LONGEST_PAUSE),
            }
        });
        let lines = std::array::from_fn(|_| Line { waiting: VecDeque::with_capacity(64), ..Line::default() });
        Queue {
            lengths: Arc::default(),
            lines,
            costs,
            length: 0,
            by_uid: HashMap::new(),
            most_batches: most_batches.max(1),
        }
    }

    /// How many of a kind are computed together.
    #[cfg(test)]
    pub(super) fn lanes(&self, kind: KeyKind) -> usize {
        self.costs.get(kind as usize).map_or(1, |cost| cost.lanes)
    }

    /// From how many of a kind on it pays to compute them together.
    #[cfg(test)]
    pub(super) fn least(&self, kind: KeyKind) -> usize {
        self.costs.get(kind as usize).map_or(1, |cost| cost.least)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Where the numbers of those that wait are written.
    pub(super) fn lengths(&self) -> Arc<Lengths> {
        Arc::clone(&self.lengths)
    }

    fn note_length(lengths: &Lengths, kind: KeyKind, line: &Line) {
        if let Some(length) = lengths.get(kind as usize) {
            length.store(line.waiting.len() as u64, Ordering::Relaxed);
        }
    }

    /// Whether a job of this user id may come in.
    pub(super) fn admit(&self, uid: u32) -> Result<(), CryptoError> {
        let own = self.by_uid.get(&uid).copied().unwrap_or_default();
        match self.length >= MOST_WAITING || own >= MOST_WAITING_OF_ONE {
            true => Err(CryptoError::Busy(own)),
            false => Ok(()),
        }
    }

    /// Takes a job in.
    pub(super) fn push(&mut self, job: Job) {
        let kind = job.kind();
        if let Some(line) = self.lines.get_mut(kind as usize) {
            *self.by_uid.entry(job.uid).or_default() += 1;
            line.waiting.push_back(job);
            self.length += 1;
            Self::note_length(&self.lengths, kind, line);
        }
    }

    /// Decides what to do at the time `now`.
    pub(super) fn next(&self, now: Instant) -> Next {
        if self.length == 0 {
            return Next::Nothing;
        }
        let mut waiting: [Option<(Instant, KeyKind)>; KINDS] = [None; KINDS];
        for ((place, kind), (line, cost)) in
            waiting.iter_mut().zip(KeyKind::BATCHED).zip(self.lines.iter().zip(&self.costs))
        {
            *place = line.waiting.front().map(|job| (job.arrived + cost.patience, kind));
        }
        waiting.sort_unstable_by_key(|place| place.map(|(due, kind)| (false, due, kind)).ok_or(true));
        let batches: usize = self.lines.iter().map(|line| line.batches).sum();
        let mut partial = None;
        for (_, kind) in waiting.into_iter().flatten() {
            let (Some(line), Some(cost)) = (self.lines.get(kind as usize), self.costs.get(kind as usize))
            else {
                continue;
            };
            if cost.quick {
                return Next::Quick(kind);
            }
            if batches >= self.most_batches {
                continue;
            }
            let next = line.batches > 0;
            let is_due = !next && line.waiting.front().is_some_and(|job| job.arrived + cost.pause <= now);
            if line.waiting.len() >= cost.lanes || is_due {
                return Next::Slow(kind);
            }
            let more = line.crowd >= cost.least && line.waiting.len() + line.signatures < line.crowd;
            partial.get_or_insert(Next::Partial { kind, more, next });
        }
        partial.unwrap_or(Next::Nothing)
    }

    /// Moves the next batch of a kind into `batch`.
    pub(super) fn take(&mut self, kind: KeyKind, mut into: impl FnMut(Job)) {
        let (Some(line), Some(cost)) = (self.lines.get_mut(kind as usize), self.costs.get(kind as usize))
        else {
            return;
        };
        // They are believed to be there as soon as they are seen; each batch that misses them halves their number.
        let present = line.waiting.len() + line.signatures;
        line.crowd = present.max((present + line.crowd) / 2);
        let together = cost.quick || line.waiting.len() >= cost.least;
        let taken = line.waiting.len().min(if together { cost.lanes } else { 1 });
        for job in line.waiting.drain(..taken) {
            self.length -= 1;
            // A place that is not used costs nothing; a map that shrinks and grows does.
            if let Some(own) = self.by_uid.get_mut(&job.uid) {
                *own = own.saturating_sub(1);
            }
            into(job);
        }
        Self::note_length(&self.lengths, kind, line);
        if self.length == 0 && self.by_uid.len() > 64 {
            self.by_uid.clear();
        }
        if !cost.quick {
            line.batches += 1;
            line.signatures += taken;
        }
    }

    /// A slow batch of so many is done.
    pub(super) fn done(&mut self, kind: KeyKind, signatures: usize) {
        if let Some(line) = self.lines.get_mut(kind as usize) {
            line.batches = line.batches.saturating_sub(1);
            line.signatures = line.signatures.saturating_sub(signatures);
        }
    }
}
