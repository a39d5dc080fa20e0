//! Nonces of ECDSA, computed ahead in full batches and used once each.
//!
//! A nonce that signs two different digests, or that anybody can guess a few bits of, reveals the key. So: each is
//! made as FIPS 186-5, A.3.2 says (candidates from the library's generator, thrown away if they are out of range);
//! it is taken out of the pool and wiped there before the signature is computed; there are few; they lie in
//! protected memory, belong to one thread, and are thrown away
//!
//! - after a second,
//! - in another process (a fork),
//! - when the wall clock and the monotonic clock have moved apart since they were made: a virtual machine that was
//!   restored from a snapshot has its wall clock set, and must not use again what another run of the same snapshot
//!   may have used. Until the clock is set nothing tells the guest; the second above bounds what is left, as long as
//!   the machine signs at all.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use strongroom_crypto_mb::{CryptoMb, Curve, LANES, NonceLane};
use zeroize::Zeroize;

use crate::crypto::aws_lc::random_words;
use crate::memory::SecretWords;

/// How long nonces are kept.
const LIFE: Duration = Duration::from_secs(1);

/// How far the clocks may move apart meanwhile. Adjustments of a running clock (adjtime) are 0.5 ms a second.
const DRIFT: Duration = Duration::from_millis(100);

/// A pool that served nobody for this long is cold: the next request is likely to be alone.
const COLD: Duration = Duration::from_millis(100);

/// When, and in which process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    monotonic: Duration,
    real: Duration,
    process: u64,
}

impl Moment {
    /// Now, to a few milliseconds. No system call.
    pub(super) fn now() -> Self {
        let read = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
        Self {
            monotonic: read(ClockId::MonotonicCoarse),
            real: read(ClockId::RealtimeCoarse),
            process: strongroom_ffi::process_generation(),
        }
    }

    /// Whether what was made at `made` may be used now.
    fn may_use(self, made: Self) -> bool {
        let age = self.monotonic.checked_sub(made.monotonic);
        let real_age = self.real.checked_sub(made.real);
        self.process == made.process
            && age.zip(real_age).is_some_and(|(age, real)| age <= LIFE && age.abs_diff(real) <= DRIFT)
    }

    #[cfg(test)]
    pub(super) fn later(self, monotonic: Duration, real: Duration) -> Self {
        Self { monotonic: self.monotonic + monotonic, real: self.real + real, ..self }
    }

    #[cfg(test)]
    pub(super) fn in_a_child(self) -> Self {
        Self { process: self.process + 1, ..self }
    }
}

/// Nonces of one curve, in batches of eight; the oldest batch is used up first.
#[derive(Debug)]
pub(super) struct Pool {
    curve: Curve,
    /// Of each batch: eight times k^-1 and r.
    words: SecretWords,
    /// Of each batch, in a ring.
    batches: Box<[Batch]>,
    oldest: usize,
    count: usize,
    /// The k of the batch being made.
    nonces: SecretWords,
    /// As many batches are kept as requests lately had use for.
    wanted: usize,
    used: Option<Moment>,
}

#[derive(Debug, Clone, Copy)]
struct Batch {
    made: Moment,
    /// Nonces that were not used yet: the last ones.
    left: usize,
}

impl Pool {
    /// An empty pool.
    pub(super) fn new(curve: Curve) -> Self {
        // Bounded by what is lost when nobody signs for a second: half a millisecond of work.
        let most = match curve {
            Curve::P256 => 8,
            Curve::P384 => 4,
            Curve::P521 => 2,
        };
        let nothing = Batch { made: Moment::now(), left: 0 };
        Self {
            curve,
            words: SecretWords::zeroed(most * LANES * 2 * curve.words()),
            batches: vec![nothing; most].into_boxed_slice(),
            oldest: 0,
            count: 0,
            nonces: SecretWords::zeroed(LANES * curve.words()),
            wanted: 1,
            used: None,
        }
    }

    /// How many nonces there are.
    pub(super) fn left(&self) -> usize {
        (0..self.count).filter_map(|place| self.batches.get(self.ring(place))).map(|batch| batch.left).sum()
    }

    /// The batch's place in the ring, counted from the oldest.
    fn ring(&self, place: usize) -> usize {
        (self.oldest + place) % self.batches.len().max(1)
    }

    /// Whether nobody asked for a nonce lately.
    pub(super) fn is_cold(&self, now: Moment) -> bool {
        self.used.is_none_or(|used| now.monotonic.saturating_sub(used.monotonic) > COLD)
    }

    /// Notes that a nonce was asked for. Asked for and not there, more are kept from now on.
    pub(super) fn note_use(&mut self, now: Moment, missed: bool) {
        if missed && !self.is_cold(now) {
            self.wanted = (self.wanted * 2).min(self.batches.len());
        }
        self.used = Some(now);
    }

    /// Whether a batch should be made while there is time: requests came within a nonce's life, and fewer are
    /// there than they had use for.
    pub(super) fn wants_more(&mut self, now: Moment) -> bool {
        self.forget_old(now);
        self.used.is_some_and(|used| now.may_use(used)) && self.left() + LANES <= self.wanted * LANES
    }

    /// Makes a batch. False if there is no room, or the library could not.
    pub(super) fn fill(&mut self, library: CryptoMb, now: Moment) -> bool {
        let place = self.ring(self.count);
        let words = self.curve.words();
        let size = LANES * 2 * words;
        if self.count >= self.batches.len() {
            return false;
        }
        let Some(room) = self.words.get_mut(place * size..(place + 1) * size) else { return false };
        draw(self.curve, &mut self.nonces);
        let mut lanes = [const { None }; LANES];
        let parts = self.nonces.chunks_exact(words).zip(room.chunks_exact_mut(2 * words));
        for (lane, (nonce, out)) in lanes.iter_mut().zip(parts) {
            let (inverse, r) = out.split_at_mut(words);
            *lane = Some(NonceLane { nonce, inverse, r, done: false });
        }
        library.ecdsa_setup(self.curve, &mut lanes);
        // r is zero for one nonce in 2^256: then the batch is not worth keeping.
        let done = lanes.iter().all(|lane| lane.as_ref().is_some_and(|lane| lane.done));
        self.nonces.zeroize();
        if !done {
            room.zeroize();
            return false;
        }
        if let Some(batch) = self.batches.get_mut(place) {
            *batch = Batch { made: now, left: LANES };
            self.count += 1;
        }
        true
    }

    /// Moves the next nonce's k^-1 and r to `inverse` and `r`, and wipes them here. False if there is none.
    pub(super) fn take(&mut self, inverse: &mut [u64], r: &mut [u64]) -> bool {
        let words = self.curve.words();
        let oldest = self.oldest;
        let Some(batch) = self.batches.get_mut(oldest).filter(|batch| self.count > 0 && batch.left > 0)
        else {
            return false;
        };
        let at = (oldest * LANES + LANES - batch.left) * 2 * words;
        let Some(nonce) = self.words.get_mut(at..at + 2 * words) else { return false };
        let (from_inverse, from_r) = nonce.split_at(words);
        if inverse.len() != words || r.len() != words {
            return false;
        }
        inverse.copy_from_slice(from_inverse);
        r.copy_from_slice(from_r);
        nonce.zeroize();
        batch.left -= 1;
        if batch.left == 0 {
            self.oldest = self.ring(1);
            self.count -= 1;
        }
        true
    }

    /// Throws away what may not be used any more.
    pub(super) fn forget_old(&mut self, now: Moment) {
        while let Some(batch) = self.batches.get(self.oldest).filter(|_| self.count > 0) {
            if now.may_use(batch.made) {
                return;
            }
            // More was kept than there was use for.
            self.wanted = (self.wanted / 2).max(1);
            self.drop_oldest();
        }
    }

    /// Throws away everything.
    pub(super) fn forget(&mut self) {
        while self.count > 0 {
            self.drop_oldest();
        }
        self.used = None;
        self.wanted = 1;
    }

    fn drop_oldest(&mut self) {
        let size = LANES * 2 * self.curve.words();
        if let Some(room) = self.words.get_mut(self.oldest * size..(self.oldest + 1) * size) {
            room.zeroize();
        }
        self.oldest = self.ring(1);
        self.count = self.count.saturating_sub(1);
    }
}

/// Draws eight nonces, 0 < k < n (FIPS 186-5, A.3.2): random numbers of the order's length, thrown away while they
/// are above n - 2, plus one. How often it is drawn tells nothing of what is kept.
fn draw(curve: Curve, nonces: &mut [u64]) {
    let most: &[u64] = match curve {
        Curve::P256 => &P256_ORDER_LESS_2,
        Curve::P384 => &P384_ORDER_LESS_2,
        Curve::P521 => &P521_ORDER_LESS_2,
    };
    random_words(nonces);
    for nonce in nonces.chunks_exact_mut(most.len()) {
        loop {
            if let (Curve::P521, Some(top)) = (curve, nonce.last_mut()) {
                *top &= 0x1ff;
            }
            if !is_above(nonce, most) {
                break;
            }
            random_words(nonce);
        }
        let mut carry = true;
        for word in nonce {
            (*word, carry) = word.overflowing_add(u64::from(carry));
        }
    }
}

/// Whether a > b, both of one length, the least word first; looks at every word and branches on none.
fn is_above(a: &[u64], b: &[u64]) -> bool {
    let mut borrow = false;
    for (a, b) in a.iter().zip(b) {
        let (difference, first) = b.overflowing_sub(*a);
        let (_, second) = difference.overflowing_sub(u64::from(borrow));
        borrow = first | second;
    }
    borrow
}

/// The orders of the curves' groups, less 2 (SP 800-186, 3.2.1), the least word first.
const P256_ORDER_LESS_2: [u64; 4] =
    [0xf3b9_cac2_fc63_254f, 0xbce6_faad_a717_9e84, 0xffff_ffff_ffff_ffff, 0xffff_ffff_0000_0000];
const P384_ORDER_LESS_2: [u64; 6] = [
    0xecec_196a_ccc5_2971,
    0x581a_0db2_48b0_a77a,
    0xc763_4d81_f437_2ddf,
    0xffff_ffff_ffff_ffff,
    0xffff_ffff_ffff_ffff,
    0xffff_ffff_ffff_ffff,
];
const P521_ORDER_LESS_2: [u64; 9] = [
    0xbb6f_b71e_9138_6407,
    0x3bb5_c9b8_899c_47ae,
    0x7fcc_0148_f709_a5d0,
    0x5186_8783_bf2f_966b,
    0xffff_ffff_ffff_fffa,
    0xffff_ffff_ffff_ffff,
    0xffff_ffff_ffff_ffff,
    0xffff_ffff_ffff_ffff,
    0x1ff,
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const CURVES: [Curve; 3] = [Curve::P256, Curve::P384, Curve::P521];

    fn second(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn numbers_are_compared() {
        assert!(!is_above(&[5, 5], &[5, 5]));
        assert!(is_above(&[6, 5], &[5, 5]));
        assert!(!is_above(&[6, 4], &[5, 5]));
        assert!(is_above(&[4, 6], &[5, 5]));
        assert!(is_above(&[0, 1], &[u64::MAX, 0]));
    }

    #[test]
    fn nonces_are_in_range_and_differ() {
        for (curve, most) in
            CURVES.into_iter().zip([&P256_ORDER_LESS_2[..], &P384_ORDER_LESS_2, &P521_ORDER_LESS_2])
        {
            let mut nonces = vec![0; LANES * curve.words()];
            let mut seen = HashSet::new();
            for _ in 0..200 {
                draw(curve, &mut nonces);
                for nonce in nonces.chunks_exact(curve.words()) {
                    assert!(nonce.iter().any(|word| *word != 0));
                    let mut less = nonce.to_vec();
                    // k - 1 <= n - 2
                    let mut borrow = true;
                    for word in &mut less {
                        (*word, borrow) = word.overflowing_sub(u64::from(borrow));
                    }
                    assert!(!is_above(&less, most));
                    assert!(seen.insert(nonce.to_vec()));
                }
            }
        }
    }

    #[test]
    fn a_moment_ends_with_time_drift_and_process() {
        let made = Moment::now();
        assert!(made.may_use(made));
        assert!(made.later(second(1), second(1)).may_use(made));
        assert!(!made.later(second(2), second(2)).may_use(made));
        assert!(!made.later(second(0), second(60)).may_use(made));
        assert!(!made.later(second(1), second(0)).may_use(made));
        assert!(!made.in_a_child().may_use(made));
        // Clocks that went back.
        assert!(!made.may_use(made.later(second(1), second(1))));
    }

    #[test]
    fn the_pool_gives_each_nonce_once_and_keeps_nothing() {
        let Ok(library) = CryptoMb::detect() else { return };
        for curve in CURVES {
            let (words, now) = (curve.words(), Moment::now());
            let mut pool = Pool::new(curve);
            let (mut inverse, mut r) = (vec![0; words], vec![0; words]);
            assert!(!pool.take(&mut inverse, &mut r));
            let mut batches = 0;
            while pool.fill(library, now) {
                batches += 1;
            }
            assert_eq!(pool.left(), LANES * batches);
            let mut seen = HashSet::new();
            for left in (0..LANES * batches).rev() {
                assert!(pool.take(&mut inverse, &mut r));
                assert!(seen.insert((inverse.clone(), r.clone())));
                assert_eq!(pool.left(), left);
            }
            assert!(!pool.take(&mut inverse, &mut r));
            assert!(pool.words.iter().chain(pool.nonces.iter()).all(|word| *word == 0));
            // The ring goes round.
            assert!(pool.fill(library, now) && pool.take(&mut inverse, &mut r));
            assert!(seen.insert((inverse.clone(), r.clone())));

            pool.forget_old(now);
            assert_eq!(pool.left(), LANES - 1);
            for unfit in [now.later(second(2), second(2)), now.later(second(0), second(1)), now.in_a_child()]
            {
                assert!(pool.fill(library, now));
                pool.forget_old(unfit);
                assert_eq!(pool.left(), 0);
                assert!(!pool.take(&mut inverse, &mut r));
            }
            assert!(pool.fill(library, now));
            pool.forget();
            assert!(!pool.take(&mut inverse, &mut r));
            assert!(pool.words.iter().all(|word| *word == 0));
        }
    }

    #[test]
    fn the_pool_prepares_what_is_asked_for() {
        let Ok(library) = CryptoMb::detect() else { return };
        let now = Moment::now();
        let mut pool = Pool::new(Curve::P256);
        assert!(!pool.wants_more(now), "nobody asked");
        pool.note_use(now, true);
        assert!(pool.wants_more(now) && pool.fill(library, now));
        assert!(!pool.wants_more(now), "a lone request has use for one batch");
        pool.note_use(now, true);
        assert!(pool.wants_more(now) && pool.fill(library, now));
        assert!(!pool.wants_more(now.later(second(3), second(3))), "not for ever");
        assert_eq!((pool.left(), pool.wanted), (0, 1));
    }
}
