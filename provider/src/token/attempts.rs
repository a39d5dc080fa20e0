//! Which PINs tokens took and refused, as all processes know that were forked from the one that loaded the provider.
//!
//! A wrong PIN locks a token after a few tries, and a server has many workers. So one of them tries, and those who come
//! meanwhile wait for what the token says: what it refuses is refused for all, and with what it takes all of them log in at once.
//!
//! The memory is shared and without locks: a process may end anywhere.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cryptoki_sys::{CK_RV, CK_USER_TYPE};

use super::TokenIdentity;
use crate::pin::Secret;

/// The pairs of token and PIN that are remembered. Beyond, each process is on its own.
const PLACES: usize = 512;

/// How long one waits for another process's try, and how often it looks.
const PATIENCE: Duration = Duration::from_secs(10);
const GLANCE: Duration = Duration::from_millis(2);

/// After so many seconds a process that tries is not believed to end.
const HANGS: u64 = 60;
const SECOND: u64 = 1_000_000_000;

/// The memory of one provider and its children.
pub struct Attempts {
    /// Shared with all children.
    places: &'static [Place; PLACES],
    /// Keyed: what lies in the shared memory tells nothing of a PIN to who does not have ours.
    hash: RandomState,
}

/// One token and PIN.
#[derive(Default)]
#[repr(C)]
struct Place {
    /// Their hash; 0 for a free place.
    name: AtomicU64,
    /// One of the states below.
    state: AtomicU64,
    /// What tries without a known outcome weigh together, or [`TRUSTED`].
    doubts: AtomicU64,
    /// The second of the last of them.
    doubted: AtomicU64,
}

/// The token has taken the PIN once: that a log-in fails says nothing against it.
const TRUSTED: u64 = u64::MAX;

/// So much doubt ends the tries …
const MAX_DOUBT: u64 = 10;
/// … until so many seconds have passed without another.
const DOUBT_LASTS: u64 = 600;

/// What the token says of its count of wrong PINs after a log-in of which nobody knows whether the PIN was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// None is counted: it may be tried again, ten times.
    None,
    /// Some are, from before, or the token does not say: it may be tried three times.
    Unknown,
    /// It was counted: the PIN is wrong.
    Yes,
}

// A state's upper two bits say which it is.
const UNKNOWN: u64 = 0;
/// … with the process id in 30 bits, and the second since when in 32.
const TRIED: u64 = 1 << 62;
/// … with the nanosecond when it was taken.
const TAKEN: u64 = 2 << 62;
/// … with the token's CK_RV.
const REFUSED: u64 = 3 << 62;
const KINDS: u64 = 3 << 62;

/// The right to try a PIN, until it is dropped.
pub struct Attempt<'a> {
    place: Option<&'a Place>,
    /// The state that says that we are trying, if others wait for us.
    claim: Option<u64>,
}

/// Why a PIN is not tried.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The token has refused it, with this error.
    Refused(CK_RV),
    /// Another process is trying it, and the token does not answer.
    Pending,
    /// It was tried too often without an answer.
    Doubtful,
}

impl Attempts {
    /// Nothing is known yet.
    pub fn new() -> Self {
        const SIZE: usize = size_of::<[Place; PLACES]>();
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists. It is all zeros, which is
        // an array of free places, and it stays mapped.
        let shared = unsafe {
            let shared = libc::mmap(
                ptr::null_mut(),
                SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            if shared == libc::MAP_FAILED { None } else { shared.cast::<[Place; PLACES]>().as_ref() }
        };
        // Without shared memory each process knows what it inherits and learns.
        let places = shared.unwrap_or_else(|| Box::leak(Box::new(std::array::from_fn(|_| Place::default()))));
        Attempts { places, hash: RandomState::new() }
    }

    /// Asks to try a PIN with a token. Waits up to ten seconds while another process does.
    ///
    /// # Errors
    ///
    /// [`Refusal`], and the PIN must not be tried.
    pub fn begin(
        &self,
        token: &TokenIdentity,
        user: CK_USER_TYPE,
        pin: &Secret,
    ) -> Result<Attempt<'_>, Refusal> {
        self.begin_since(now(), token, user, pin)
    }

    /// As [`Attempts::begin`], for one who came at this time.
    fn begin_since(
        &self,
        came: u64,
        token: &TokenIdentity,
        user: CK_USER_TYPE,
        pin: &Secret,
    ) -> Result<Attempt<'_>, Refusal> {
        let Some(place) = self.place(token, user, pin) else {
            return Ok(Attempt { place: None, claim: None });
        };
        if place.is_doubtful() {
            return Err(Refusal::Doubtful);
        }
        let until = Instant::now() + PATIENCE;
        loop {
            let state = place.state.load(Ordering::Acquire);
            match state & KINDS {
                REFUSED => return Err(Refusal::Refused(state & !KINDS)),
                // Since we came: the PIN is right. What was right before may have been changed.
                TAKEN if state & !KINDS > came => {
                    return Ok(Attempt { place: Some(place), claim: None });
                }
                TRIED if !is_abandoned(state) => {
                    if Instant::now() >= until {
                        return Err(Refusal::Pending);
                    }
                    thread::sleep(GLANCE);
                    continue;
                }
                _ => {}
            }
            let claim = TRIED | u64::from(std::process::id() & 0x3fff_ffff) << 32 | seconds();
            if place.state.compare_exchange(state, claim, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return Ok(Attempt { place: Some(place), claim: Some(claim) });
            }
        }
    }

    /// The error with which the token refused a PIN, if it did.
    pub fn refused(&self, token: &TokenIdentity, user: CK_USER_TYPE, pin: &Secret) -> Option<CK_RV> {
        let state = self.place(token, user, pin)?.state.load(Ordering::Acquire);
        (state & KINDS == REFUSED).then_some(state & !KINDS)
    }

    /// The place of a token and a user's PIN, which has one from now on if there is room. A PIN that is wrong for one use of
    /// a key (CKU_CONTEXT_SPECIFIC) may be right for a log-in.
    fn place(&self, token: &TokenIdentity, user: CK_USER_TYPE, pin: &Secret) -> Option<&Place> {
        let name = self.hash.hash_one((&token.label, &token.serial, user, pin.bytes())).max(1);
        let start = name as usize % PLACES;
        let (before, from) = self.places.split_at(start);
        from.iter().chain(before).find(|place| {
            match place.name.compare_exchange(0, name, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => true,
                Err(other) => other == name,
            }
        })
    }
}

impl Place {
    fn is_doubtful(&self) -> bool {
        let doubts = self.doubts.load(Ordering::Acquire);
        if doubts == TRUSTED || doubts < MAX_DOUBT {
            return false;
        }
        let since = seconds().wrapping_sub(self.doubted.load(Ordering::Relaxed)) & 0xffff_ffff;
        if since < DOUBT_LASTS {
            return true;
        }
        // Somebody may have mended it.
        let _ = self.doubts.compare_exchange(doubts, 0, Ordering::AcqRel, Ordering::Relaxed);
        false
    }
}

impl Attempt<'_> {
    /// The token took the PIN.
    pub fn taken(mut self) {
        if let Some(place) = self.place {
            place.doubts.store(TRUSTED, Ordering::Relaxed);
        }
        self.end(TAKEN | now());
    }

    /// The log-in failed, and nobody knows whether it was for the PIN. True if it may be tried again.
    pub fn doubted(self, counted: Counted) -> bool {
        let Some(place) = self.place else { return counted != Counted::Yes };
        let more = match counted {
            Counted::None => 1,
            Counted::Unknown => MAX_DOUBT.div_ceil(3),
            Counted::Yes => MAX_DOUBT,
        };
        let add = |doubts: u64| Some(if doubts == TRUSTED { TRUSTED } else { doubts.min(MAX_DOUBT) + more });
        place.doubted.store(seconds(), Ordering::Relaxed);
        let _ = place.doubts.try_update(Ordering::AcqRel, Ordering::Acquire, add);
        !place.is_doubtful()
    }

    /// The token refused it.
    pub fn refused(mut self, rv: CK_RV) {
        if let Some(place) = self.place {
            place.doubts.store(0, Ordering::Relaxed);
        }
        self.end(REFUSED | rv & !KINDS);
    }

    fn end(&mut self, state: u64) {
        self.claim = None;
        if let Some(place) = self.place {
            place.state.store(state, Ordering::Release);
        }
    }
}

/// Without a word from the token, the next one may try.
impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let (Some(place), Some(claim)) = (self.place, self.claim) {
            let _ = place.state.compare_exchange(claim, UNKNOWN, Ordering::AcqRel, Ordering::Relaxed);
        }
    }
}

/// Whether the process that tries has ended, or has been trying for so long that it will not end.
fn is_abandoned(state: u64) -> bool {
    let process = (state >> 32 & 0x3fff_ffff) as libc::pid_t;
    let since = state & 0xffff_ffff;
    // SAFETY: signal 0 is only a question.
    let is_gone = unsafe { libc::kill(process, 0) } == -1
        && std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH);
    is_gone || is_zombie(process) || seconds().wrapping_sub(since) & 0xffff_ffff > HANGS
}

/// Whether a process has ended and its parent has not asked how (proc_pid_stat(5)).
fn is_zombie(process: libc::pid_t) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // After the program's name, which may hold anything.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// Nanoseconds of the clock that all processes share and nobody sets; 62 bits are a century.
fn now() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // Not by rustix, which looks for the kernel's page (vDSO) itself at the first call: in a chroot, or under valgrind, it is not
    // where it looks.
    // SAFETY: writes one timespec of ours.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    (now.tv_sec.unsigned_abs() * SECOND + now.tv_nsec.unsigned_abs()) & !KINDS
}

/// Its seconds, in 32 bits.
fn seconds() -> u64 {
    (now() / SECOND) & 0xffff_ffff
}

#[cfg(test)]
mod tests {
    use cryptoki_sys::{CKU_CONTEXT_SPECIFIC, CKU_USER};

    use super::*;

    fn token(label: &str) -> TokenIdentity {
        TokenIdentity { label: label.into(), serial: "1".into() }
    }

    fn pin(text: &str) -> Secret {
        Secret::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_was_refused_is_refused_for_this_token_and_pin_only() {
        let attempts = Attempts::new();
        let (tls, other) = (token("tls"), token("other"));
        attempts.begin(&tls, CKU_USER, &pin("1")).unwrap().refused(0xa0);
        assert_eq!(attempts.begin(&tls, CKU_USER, &pin("1")).err(), Some(Refusal::Refused(0xa0)));
        assert_eq!(attempts.refused(&tls, CKU_USER, &pin("1")), Some(0xa0));
        assert_eq!(attempts.refused(&tls, CKU_CONTEXT_SPECIFIC, &pin("1")), None, "for another purpose");
        for (token, pin) in [(&tls, pin("2")), (&other, pin("1"))] {
            assert_eq!(attempts.refused(token, CKU_USER, &pin), None);
            attempts.begin(token, CKU_USER, &pin).unwrap().taken();
            assert_eq!(attempts.refused(token, CKU_USER, &pin), None);
        }
    }

    #[test]
    fn who_waited_for_a_pin_that_was_taken_goes_at_once() {
        let attempts = Attempts::new();
        let (token, pin) = (token("tls"), pin("1"));
        // That it was right before says nothing.
        attempts.begin(&token, CKU_USER, &pin).unwrap().taken();
        let first = attempts.begin(&token, CKU_USER, &pin).unwrap();
        assert!(first.claim.is_some());
        // Both came while the first was trying, whenever their threads begin to run.
        let came = now();
        thread::scope(|scope| {
            let begin = || attempts.begin_since(came, &token, CKU_USER, &pin).unwrap();
            let waiting: Vec<_> = (0..2).map(|_| scope.spawn(begin)).collect();
            thread::sleep(Duration::from_millis(50));
            assert!(waiting.iter().all(|thread| !thread.is_finished()));
            first.taken();
            // Both at the same time: neither has been dropped when the other begins.
            let begun: Vec<_> = waiting.into_iter().map(|thread| thread.join().unwrap()).collect();
            assert!(begun.iter().all(|attempt| attempt.claim.is_none()));
        });
    }

    #[test]
    fn an_attempt_without_an_answer_leaves_the_next_one_free() {
        let attempts = Attempts::new();
        drop(attempts.begin(&token("tls"), CKU_USER, &pin("1")).unwrap());
        attempts.begin(&token("tls"), CKU_USER, &pin("1")).unwrap().taken();
    }

    #[test]
    fn tries_without_an_answer_come_to_an_end() {
        for (counted, tries) in [(Counted::None, 10), (Counted::Unknown, 3), (Counted::Yes, 1)] {
            let attempts = Attempts::new();
            let (token, pin) = (token("tls"), pin("1"));
            for number in 1..=tries {
                let again = attempts.begin(&token, CKU_USER, &pin).unwrap().doubted(counted);
                assert_eq!(again, number < tries, "{counted:?}");
            }
            assert_eq!(attempts.begin(&token, CKU_USER, &pin).err(), Some(Refusal::Doubtful));
            assert!(attempts.begin(&token, CKU_USER, &self::pin("2")).is_ok());
            // A PIN that was right is not doubted.
            let good = self::pin("3");
            attempts.begin(&token, CKU_USER, &good).unwrap().taken();
            for _ in 0..20 {
                assert!(attempts.begin(&token, CKU_USER, &good).unwrap().doubted(Counted::Unknown));
            }
        }
    }

    /// Eight processes with the same wrong PIN: one attempt. The one whose turn it is may die over it.
    #[test]
    fn one_process_tries_for_all() {
        let attempts = Attempts::new();
        let counter = Attempts::new();
        let (token, pin) = (token("tls"), pin("1"));
        let count = &counter.places[0].state;
        // SAFETY: the children use atomics, allocate and sleep, which glibc allows after a fork, and call _exit.
        let children: Vec<_> = (0..8)
            .map(|_| unsafe {
                let child = libc::fork();
                if child == 0 {
                    if let Ok(attempt) = attempts.begin(&token, CKU_USER, &pin) {
                        if count.fetch_add(1, Ordering::SeqCst) == 0 {
                            // Killed in the middle of it.
                            libc::_exit(0);
                        }
                        thread::sleep(Duration::from_millis(100));
                        attempt.refused(0xa0);
                    }
                    libc::_exit(0);
                }
                child
            })
            .collect();
        for child in children {
            let mut status = -1;
            // SAFETY: a child of ours.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        }
        assert_eq!(count.load(Ordering::SeqCst), 2, "the one that died, and one for all");
        assert_eq!(attempts.refused(&token, CKU_USER, &pin), Some(0xa0));
    }

    #[test]
    fn more_pins_than_places_are_not_remembered() {
        let attempts = Attempts::new();
        for number in 0..PLACES + 8 {
            attempts.begin(&token("tls"), CKU_USER, &pin(&number.to_string())).unwrap().refused(0xa0);
        }
        assert_eq!(attempts.refused(&token("tls"), CKU_USER, &pin("0")), Some(0xa0));
        assert!(attempts.begin(&token("tls"), CKU_USER, &pin(&(PLACES + 7).to_string())).is_ok());
    }
}
