//! Which engine computes what: measured at start, for each key type and size of batch.

use std::fmt::Write;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use strongroom_crypto_mb::{Absent, CryptoMb};

use super::known_answers::KnownAnswer;
use super::nonces::Moment;
use super::workshop::Workshop;
use super::{LANES, Signature};
use crate::crypto::aws_lc::is_fips_module;
use crate::crypto::{CryptoError, KeyKind};

/// Batches of 1, 2, 4 and 8 are measured; the costs of the others lie on the lines between. Each is measured so often
/// at least …
const RUNS: usize = 3;
/// … and so often at most, and then no longer than [`TIME`]. The median counts.
const MOST_RUNS: usize = 21;
const TIME: Duration = Duration::from_micros(400);

/// A batch above this cost is measured at both ends of the line only, and once: it is nearly level, and the time is
/// better used to start.
const LONG: Duration = Duration::from_millis(2);

/// Where the stack may begin, in bytes from its end. crypto_mb's code for RSA-3072 and RSA-4096 has arrays on the
/// stack that it does not align; which of the two beginnings makes a batch up to a quarter faster depends on the
/// frames between, so it is tried.
const SKEWS: [usize; 2] = [0, 16];

/// Which engine computes what, and what that costs; made once at start and shared by all signing threads.
#[derive(Debug)]
pub struct Choices {
    library: Result<CryptoMb, Absent>,
    kinds: [Choice; KeyKind::BATCHED.len()],
}

/// The costs for one kind, in processor time.
#[derive(Debug, Clone, Copy)]
struct Choice {
    kind: KeyKind,
    /// One signature by aws-lc.
    alone: Duration,
    /// `None`: crypto_mb does not compute this kind.
    together: Option<Together>,
    /// It computed a known answer wrong.
    faulty: bool,
    /// The smallest batch for crypto_mb; above [`LANES`]: none.
    from: usize,
}

#[derive(Debug, Clone, Copy)]
struct Together {
    /// A batch of so many signatures, less one, with nonces there (ECDSA).
    batch: [Duration; LANES],
    /// Eight nonces; zero for kinds without.
    nonces: Duration,
    /// One of [`SKEWS`].
    skew: usize,
}

impl Together {
    /// A batch and its share of the nonces.
    fn cost(&self, size: usize) -> Duration {
        let batch = self.batch.get(size.clamp(1, LANES) - 1).copied().unwrap_or_default();
        batch + self.nonces * size as u32 / LANES as u32
    }
}

impl Choices {
    /// Tests both engines with known answers and measures them: about 100 ms.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Library`] if aws-lc computes a known answer wrong. If crypto_mb does, it is not used for that
    /// type of key, and the log and [`Choices::describe`] say so.
    pub fn measure() -> Result<Self, CryptoError> {
        // What AWS-LC's FIPS module is for, crypto_mb is not: a build with the one computes nothing with the other.
        let library = if is_fips_module() { Err(Absent::NotWanted) } else { CryptoMb::detect() };
        let mut workshop = Workshop::new(library.ok());
        let mut kinds = Vec::with_capacity(KeyKind::BATCHED.len());
        for kind in KeyKind::BATCHED {
            kinds.push(Choice::measure(kind, library.ok(), &mut workshop)?);
        }
        let kinds =
            kinds.try_into().map_err(|_| CryptoError::Library("a key type was left out".to_owned()))?;
        Ok(Self { library, kinds })
    }

    /// What computes signatures, one line per key type, for people.
    pub fn describe(&self) -> Vec<String> {
        let lines = self.kinds.iter().map(Choice::describe);
        let why = self.library.err().map(|absent| format!("all by aws-lc: {absent}"));
        lines.chain(why).collect()
    }

    /// What a batch of `batch` signatures (1 to 8) costs in processor time, by the engine that is chosen for it. For
    /// ECDSA with nonces made ahead that includes their share.
    pub fn cost(&self, kind: KeyKind, batch: usize) -> Duration {
        self.of(kind).map(|choice| choice.cost(batch.clamp(1, LANES))).unwrap_or_default()
    }

    /// What a batch of `batch` signatures (1 to 8) costs in processor time, by aws-lc and by crypto_mb where that is
    /// there. For the benchmark.
    pub fn costs(&self, kind: KeyKind, batch: usize) -> (Duration, Option<Duration>) {
        let batch = batch.clamp(1, LANES);
        self.of(kind).map_or((Duration::ZERO, None), |choice| {
            (choice.alone * batch as u32, choice.together.map(|together| together.cost(batch)))
        })
    }

    /// The library, if it is used at all.
    pub(super) fn library(&self) -> Option<CryptoMb> {
        self.library.ok().filter(|_| self.kinds.iter().any(|choice| choice.from <= LANES))
    }

    /// Whether a batch of this size is for crypto_mb.
    pub(super) fn is_together(&self, kind: KeyKind, batch: usize) -> bool {
        self.of(kind).is_some_and(|choice| batch >= choice.from)
    }

    /// Whether aws-lc signs so many sooner than crypto_mb would make eight nonces.
    pub(super) fn is_sooner_alone(&self, kind: KeyKind, batch: usize) -> bool {
        self.of(kind).is_some_and(|choice| {
            choice.together.is_none_or(|together| choice.alone * (batch as u32) < together.nonces)
        })
    }

    /// Where the stack for crypto_mb begins.
    pub(super) fn skew(&self, kind: KeyKind) -> usize {
        self.of(kind).and_then(|choice| choice.together).map_or(0, |together| together.skew)
    }

    fn of(&self, kind: KeyKind) -> Option<&Choice> {
        self.kinds.get(kind as usize)
    }

    /// Choices that give everything to one engine.
    #[cfg(test)]
    pub(super) fn only(crypto_mb: bool) -> Self {
        let library = CryptoMb::detect();
        let from = if crypto_mb && library.is_ok() { 1 } else { LANES + 1 };
        let together = Some(Together { batch: [Duration::ZERO; LANES], nonces: Duration::ZERO, skew: 0 });
        let kinds = KeyKind::BATCHED.map(|kind| Choice {
            kind,
            alone: Duration::ZERO,
            together,
            faulty: false,
            from,
        });
        Self { library, kinds }
    }
}

impl Choice {
    fn measure(
        kind: KeyKind,
        library: Option<CryptoMb>,
        workshop: &mut Workshop,
    ) -> Result<Self, CryptoError> {
        let known = KnownAnswer::of(kind)?;
        if !known.holds_for_aws_lc()? {
            return Err(CryptoError::Library(format!(
                "aws-lc computed a known {kind} signature wrong: this processor, its memory or this program is \
                 damaged; do not use it"
            )));
        }
        let alone = median(
            workshop,
            RUNS,
            |_| (),
            |workshop| {
                let mut signature = Signature::empty();
                workshop.sign_one_by_one(std::iter::once(&mut known.order(&mut signature)));
            },
        );
        let mut choice = Self { kind, alone, together: None, faulty: false, from: LANES + 1 };
        if let Some(library) = library {
            if known.holds_for_crypto_mb(library, workshop) {
                choice.together = Some(Together::measure(&known, workshop));
            } else {
                tracing::error!(
                    "crypto_mb computed a known {kind} signature wrong and is not used for these keys"
                );
                choice.faulty = true;
            }
        }
        if let Some(together) = &choice.together {
            // From the smallest size on from which all are cheaper.
            choice.from = (1..=LANES)
                .rev()
                .take_while(|size| together.cost(*size) < alone * *size as u32)
                .last()
                .unwrap_or(LANES + 1);
        }
        Ok(choice)
    }

    fn cost(&self, batch: usize) -> Duration {
        match &self.together {
            Some(together) if batch >= self.from => together.cost(batch),
            _ => self.alone * batch as u32,
        }
    }

    fn describe(&self) -> String {
        let (kind, alone) = (self.kind, micros(self.alone));
        let Some(together) = self.together.filter(|_| self.from <= LANES) else {
            let why = match (self.faulty, self.together) {
                (true, _) => "; crypto_mb failed its self-test",
                (_, Some(_)) => "; crypto_mb is not faster here",
                _ => "",
            };
            return format!("{kind}: aws-lc ({alone}{why})");
        };
        let each = micros(together.cost(LANES) / LANES as u32);
        let mut line = format!("{kind}: crypto_mb");
        // Writing to a String does not fail.
        let _ = match self.from {
            1 => Ok(()),
            from => write!(line, " from {from} requests"),
        };
        let _ = match together.nonces.is_zero() {
            true => write!(line, " ({each} each in a batch of 8)"),
            false => write!(
                line,
                ", nonces ahead ({each} each in a batch of 8, {} of it for the nonce)",
                micros(together.nonces / LANES as u32)
            ),
        };
        let below = if self.from > 1 { "below" } else { "without a nonce, or where it cannot" };
        match (self.from, together.nonces.is_zero()) {
            (1, true) => line,
            _ => format!("{line}, aws-lc {below} ({alone})"),
        }
    }
}

impl Together {
    fn measure(known: &KnownAnswer, workshop: &mut Workshop) -> Self {
        let kind = known.key.kind();
        let now = Moment::now();
        let forget = |workshop: &mut Workshop| {
            if let Some(bench) = workshop.bench(kind) {
                bench.pool.forget();
            }
        };
        let nonces = match workshop.bench(kind) {
            Some(_) => median(workshop, RUNS, forget, |workshop| {
                workshop.prepare(kind, now);
            }),
            None => Duration::ZERO,
        };
        let mut measure = |size: usize, skew: usize, runs: usize| {
            let ready = |workshop: &mut Workshop| {
                if workshop.bench(kind).is_some_and(|bench| bench.pool.left() < size) {
                    workshop.prepare(kind, now);
                }
            };
            median(workshop, runs, ready, |workshop| {
                let mut signatures = [const { Signature::empty() }; LANES];
                let mut orders = signatures.each_mut().map(|signature| known.order(signature));
                let mut lanes = [const { None }; LANES];
                lanes.iter_mut().zip(&mut orders).take(size).for_each(|(lane, order)| *lane = Some(order));
                workshop.sign_together(kind, &mut lanes, now, skew);
            })
        };
        let tried = SKEWS.map(|skew| (measure(LANES, skew, 1), skew));
        let (full, skew) = tried.into_iter().min().unwrap_or_default();
        let points = match full < LONG {
            true => [1, 2, 4, LANES].map(|size| (size, measure(size, skew, RUNS))).to_vec(),
            false => vec![(1, measure(1, skew, 1)), (LANES, full)],
        };
        forget(workshop);
        let mut batch = [Duration::ZERO; LANES];
        for (size, cost) in (1..).zip(&mut batch) {
            *cost = on_the_line(size, &points);
        }
        Self { batch, nonces, skew }
    }
}

/// The cost at `size` on the lines between the points that were measured, from small to large.
fn on_the_line(size: usize, points: &[(usize, Duration)]) -> Duration {
    for pair in points.windows(2) {
        if let [(from, low), (to, high)] = pair
            && (*from..=*to).contains(&size)
        {
            let part = (size - from) as f64 / (to - from) as f64;
            return Duration::from_secs_f64(low.as_secs_f64() * (1.0 - part) + high.as_secs_f64() * part);
        }
    }
    Duration::ZERO
}

/// The median processor time of `run`, each time after `ready`; at least `runs` of them, and more if they are short.
fn median(
    workshop: &mut Workshop,
    runs: usize,
    mut ready: impl FnMut(&mut Workshop),
    mut run: impl FnMut(&mut Workshop),
) -> Duration {
    let mut times = Vec::with_capacity(MOST_RUNS);
    let mut whole = Duration::ZERO;
    while times.len() < MOST_RUNS && (times.len() < runs || whole < TIME) {
        ready(workshop);
        let start = processor_time();
        run(workshop);
        let time = processor_time().saturating_sub(start);
        whole += time;
        times.push(time);
    }
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// What this thread has had of a processor: other programs do not count.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// In microseconds, with as many digits as people want.
fn micros(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    if micros < 10.0 { format!("{micros:.1} µs") } else { format!("{micros:.0} µs") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_between_measurements_lie_on_a_line() {
        let micros = Duration::from_micros;
        let points = [(1, micros(10)), (2, micros(20)), (8, micros(80))];
        assert_eq!(
            (1..=8).map(|size| on_the_line(size, &points)).collect::<Vec<_>>(),
            [10, 20, 30, 40, 50, 60, 70, 80].map(micros)
        );
    }

    fn choice(kind: KeyKind, alone: u64, together: Option<(u64, u64)>, from: usize) -> Choice {
        let micros = Duration::from_micros;
        let together = together.map(|(batch, nonces)| Together {
            batch: [micros(batch); LANES],
            nonces: micros(nonces),
            skew: 0,
        });
        Choice { kind, alone: micros(alone), together, faulty: false, from }
    }

    #[test]
    fn choices_are_described() {
        let lines = [
            choice(KeyKind::Rsa2048, 243, Some((648, 0)), 3),
            choice(KeyKind::P256, 15, Some((1, 32)), 1),
            choice(KeyKind::Ed25519, 9, Some((80, 0)), 9),
            Choice { faulty: true, ..choice(KeyKind::P384, 93, None, 9) },
        ]
        .map(|choice| choice.describe());
        assert_eq!(
            lines,
            [
                "RSA-2048: crypto_mb from 3 requests (81 µs each in a batch of 8), aws-lc below (243 µs)",
                "P-256: crypto_mb, nonces ahead (4.1 µs each in a batch of 8, 4.0 µs of it for the nonce), \
                 aws-lc without a nonce, or where it cannot (15 µs)",
                "Ed25519: aws-lc (9.0 µs; crypto_mb is not faster here)",
                "P-384: aws-lc (93 µs; crypto_mb failed its self-test)",
            ]
        );
    }

    #[test]
    fn the_measured_choice_is_the_cheaper_one() {
        let choices = Choices::measure().unwrap();
        choices.describe().iter().for_each(|line| println!("{line}"));
        for choice in &choices.kinds {
            assert!(!choice.faulty, "{}", choice.kind);
            for size in 1..=LANES {
                let cost = choices.cost(choice.kind, size);
                assert!(cost > Duration::ZERO);
                if size >= choice.from {
                    assert!(cost < choice.alone * size as u32);
                } else {
                    assert_eq!(cost, choice.alone * size as u32);
                }
            }
        }
    }
}
