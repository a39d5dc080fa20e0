//! The PINs that tokens took, for the log-ins to come: of a worker, or after the token's restart.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::TokenIdentity;
use crate::pin::Secret;

/// A list that only grows, by one for each token and PIN: a child reads what it inherited, and no thread that it does not have
/// can have left it locked.
#[derive(Default)]
pub struct KnownPins(AtomicPtr<Known>);

struct Known {
    token: TokenIdentity,
    pin: Secret,
    before: *mut Known,
}

// SAFETY: entries do not change once they are in the list, and live as long as it; TokenIdentity and Secret are both.
unsafe impl Send for KnownPins {}
// SAFETY: as above.
unsafe impl Sync for KnownPins {}

impl KnownPins {
    /// Those that the token took, the last first.
    pub fn of<'a>(&'a self, token: &'a TokenIdentity) -> impl Iterator<Item = &'a Secret> {
        self.entries().filter(move |known| known.token == *token).map(|known| &known.pin)
    }

    /// Adds one, unless it is the last one already.
    pub fn add(&self, token: &TokenIdentity, pin: &Secret) {
        if self.of(token).next() == Some(pin) {
            return;
        }
        let mut before = self.0.load(Ordering::Acquire);
        let new = Box::into_raw(Box::new(Known { token: token.clone(), pin: pin.clone(), before }));
        while let Err(other) = self.0.compare_exchange(before, new, Ordering::AcqRel, Ordering::Acquire) {
            before = other;
            // SAFETY: nobody else has seen it yet.
            unsafe { (*new).before = before };
        }
    }

    fn entries(&self) -> impl Iterator<Item = &Known> {
        let mut next = self.0.load(Ordering::Acquire);
        std::iter::from_fn(move || {
            // SAFETY: null, or an entry that lives as long as the list.
            let known = unsafe { next.as_ref() }?;
            next = known.before;
            Some(known)
        })
    }
}

impl Drop for KnownPins {
    fn drop(&mut self) {
        let mut next = std::mem::replace(self.0.get_mut(), ptr::null_mut());
        while !next.is_null() {
            // SAFETY: made by Box::into_raw in `add`, freed this once.
            next = unsafe { Box::from_raw(next) }.before;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_pin_of_each_token_comes_first() {
        let token = |label: &str| TokenIdentity { label: label.into(), serial: String::new() };
        let pin = |text: &str| Secret::new(text.as_bytes()).unwrap();
        let known = KnownPins::default();
        for (label, text) in [("a", "1"), ("b", "2"), ("a", "3"), ("a", "3")] {
            known.add(&token(label), &pin(text));
        }
        let of = |label: &str| known.of(&token(label)).map(|pin| pin.bytes().to_vec()).collect::<Vec<_>>();
        assert_eq!(of("a"), [b"3".to_vec(), b"1".to_vec()]);
        assert_eq!(of("b"), [b"2".to_vec()]);
        assert!(of("c").is_empty());
    }
}
