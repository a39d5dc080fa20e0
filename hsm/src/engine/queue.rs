//! The jobs that wait: a queue per key type, shorter operations first, nobody for ever. In each queue partitions take turns, and in
//! each partition its user ids.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::job::Job;
use crate::crypto::{Choices, CryptoError, KeyKind, LANES};
use crate::rounds::{Origin, Rounds};
use crate::vault::MAX_PARTITIONS;

/// Requests that may wait, over all kinds. Above it a caller is told to try again. Of one partition there are as many, at most, as
/// there is room for others beside them.
pub(super) const MOST_WAITING: usize = 32_768;

/// Requests of one user id that may wait.
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
    waiting: Rounds<Job>,
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
    by_partition: HashMap<u32, usize>,
    /// Threads that compute slow batches at the same time, at most.
    most_batches: usize,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("origin", &self.origin)
            .field("kind", &self.kind())
            .finish_non_exhaustive()
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
        Queue {
            lengths: Arc::default(),
            lines: Default::default(),
            costs,
            length: 0,
            by_uid: HashMap::new(),
            by_partition: HashMap::new(),
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

    /// Whether a job of this origin may come in.
    pub(super) fn admit(&self, origin: Origin) -> Result<(), CryptoError> {
        let own = self.by_uid.get(&origin.uid).copied().unwrap_or_default();
        let partition = self.by_partition.get(&origin.partition).copied().unwrap_or_default();
        match partition + self.length >= MOST_WAITING || own >= MOST_WAITING_OF_ONE {
            true => Err(CryptoError::Busy(own.max(partition))),
            false => Ok(()),
        }
    }

    /// Takes a job in, at the time `now`.
    pub(super) fn push(&mut self, job: Job, now: Instant) {
        let (kind, origin) = (job.kind(), job.origin);
        if let Some(line) = self.lines.get_mut(kind as usize) {
            *self.by_uid.entry(origin.uid).or_default() += 1;
            *self.by_partition.entry(origin.partition).or_default() += 1;
            line.waiting.push(origin, job, now);
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
            *place = line.waiting.since().map(|since| (since + cost.patience, kind));
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
            let is_due = !next && line.waiting.since().is_some_and(|since| since + cost.pause <= now);
            if line.waiting.len() >= cost.lanes || is_due {
                return Next::Slow(kind);
            }
            let more = line.crowd >= cost.least && line.waiting.len() + line.signatures < line.crowd;
            partial.get_or_insert(Next::Partial { kind, more, next });
        }
        partial.unwrap_or(Next::Nothing)
    }

    /// Moves the next batch of a kind into `into`, at the time `now`.
    pub(super) fn take(&mut self, kind: KeyKind, now: Instant, mut into: impl FnMut(Job)) {
        let (Some(line), Some(cost)) = (self.lines.get_mut(kind as usize), self.costs.get(kind as usize))
        else {
            return;
        };
        // They are believed to be there as soon as they are seen; each batch that misses them halves their number.
        let present = line.waiting.len() + line.signatures;
        line.crowd = present.max((present + line.crowd) / 2);
        let together = cost.quick || line.waiting.len() >= cost.least;
        let taken = line.waiting.len().min(if together { cost.lanes } else { 1 });
        for _ in 0..taken {
            let Some((origin, job)) = line.waiting.pop(now) else { break };
            self.length -= 1;
            // A place that is not used costs nothing; a map that shrinks and grows does.
            for (counts, of) in [(&mut self.by_uid, origin.uid), (&mut self.by_partition, origin.partition)] {
                if let Some(own) = counts.get_mut(&of) {
                    *own = own.saturating_sub(1);
                }
            }
            into(job);
        }
        Self::note_length(&self.lengths, kind, line);
        if self.length == 0 && self.by_uid.len() > 64 {
            self.by_uid.clear();
        }
        if self.length == 0 && self.by_partition.len() > 2 * MAX_PARTITIONS {
            self.by_partition.clear();
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
