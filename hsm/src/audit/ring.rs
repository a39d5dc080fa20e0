//! Uses that have an entry each, on their way to the writer: a ring that threads put into without a lock and without memory
//! of their own (D. Vyukov's bounded queue). What finds it full is counted instead, and becomes a sum.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Places: what is done in a tenth of a second has room, many times over.
const PLACES: usize = 1 << 16;

/// The bits of a use's outcome; the moment in microseconds is above them.
const OUTCOME: u32 = 12;

/// A use of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Use {
    /// Which counter it belongs to.
    pub(super) uses: u64,
    /// The request, plus one; 0: it has no number.
    pub(super) request: u64,
    /// In microseconds since 1970.
    pub(super) micros: u64,
    /// What came of it: a number below 4,096.
    pub(super) outcome: u64,
}

/// Microseconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or_default()
}

#[derive(Debug, Default)]
struct Place {
    /// Whose turn it is: that of the use with this number to be put, or, one more, to be taken.
    turn: AtomicU64,
    uses: AtomicU64,
    request: AtomicU64,
    what: AtomicU64,
}

/// The ring. Any thread puts; one takes.
#[derive(Debug)]
pub(super) struct Ring {
    places: Box<[Place]>,
    /// The number of the next use that is put, and of the next that is taken.
    put: AtomicU64,
    taken: AtomicU64,
}

impl Default for Ring {
    fn default() -> Self {
        let place = |number: u64| Place { turn: AtomicU64::new(number), ..Place::default() };
        Ring {
            places: (0..PLACES as u64).map(place).collect(),
            put: AtomicU64::new(0),
            taken: AtomicU64::new(0),
        }
    }
}

impl Ring {
    fn place(&self, number: u64) -> Option<&Place> {
        self.places.get((number % PLACES as u64) as usize)
    }

    /// Puts a use in; `false` if there is no room.
    pub(super) fn put(&self, used: Use) -> bool {
        let mut number = self.put.load(Ordering::Relaxed);
        loop {
            let Some(place) = self.place(number) else { return false };
            let turn = place.turn.load(Ordering::Acquire);
            if turn < number {
                return false;
            }
            if turn > number {
                number = self.put.load(Ordering::Relaxed);
                continue;
            }
            let claimed =
                self.put.compare_exchange_weak(number, number + 1, Ordering::Relaxed, Ordering::Relaxed);
            match claimed {
                Ok(_) => {
                    place.uses.store(used.uses, Ordering::Relaxed);
                    place.request.store(used.request, Ordering::Relaxed);
                    place.what.store(used.micros << OUTCOME | used.outcome, Ordering::Relaxed);
                    place.turn.store(number + 1, Ordering::Release);
                    return true;
                }
                Err(current) => number = current,
            }
        }
    }

    /// Takes the oldest use out. For one thread at a time.
    pub(super) fn take(&self) -> Option<Use> {
        let number = self.taken.load(Ordering::Relaxed);
        let place = self.place(number)?;
        if place.turn.load(Ordering::Acquire) != number + 1 {
            return None;
        }
        let what = place.what.load(Ordering::Relaxed);
        let used = Use {
            uses: place.uses.load(Ordering::Relaxed),
            request: place.request.load(Ordering::Relaxed),
            micros: what >> OUTCOME,
            outcome: what & ((1 << OUTCOME) - 1),
        };
        place.turn.store(number + PLACES as u64, Ordering::Release);
        self.taken.store(number + 1, Ordering::Relaxed);
        Some(used)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn every_use_comes_out_once_and_what_has_no_room_is_told() {
        let ring = Arc::new(Ring::default());
        let used = |uses, request| Use { uses, request, micros: 1_795_426_428_785_210, outcome: 4_095 };
        let (threads, each) = (4, 50_000u64);
        let putting: Vec<_> = (0..threads)
            .map(|uses| {
                let ring = Arc::clone(&ring);
                std::thread::spawn(move || (0..each).filter(|request| ring.put(used(uses, *request))).count())
            })
            .collect();
        // Of each thread in order, none twice.
        let mut next = [0; 4];
        let mut taken = 0;
        let mut take = || {
            while let Some(one) = ring.take() {
                assert_eq!((one.micros, one.outcome), (1_795_426_428_785_210, 4_095));
                let next = next.get_mut(one.uses as usize).unwrap();
                assert!(one.request >= *next);
                *next = one.request + 1;
                taken += 1;
            }
        };
        while putting.iter().any(|thread| !thread.is_finished()) {
            take();
        }
        take();
        let put: usize = putting.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(put, taken);
        let full = (0..PLACES as u64 + 5).filter(|request| ring.put(used(0, *request))).count();
        assert_eq!(full, PLACES);
    }
}
