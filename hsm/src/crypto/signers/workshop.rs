//! What one thread computes signatures with: both engines, their working memory, and a stack in protected pages.

use std::sync::Once;

use strongroom_crypto_mb::{CryptoMb, Curve, RsaSize};

use super::ecdsa::Bench;
use super::nonces::Moment;
use super::{Lanes, Order, ed25519, rsa};
use crate::crypto::KeyKind;
use crate::memory::ProtectedStack;

/// How much of the stack is wiped after a batch, in bytes: more than the engines use (a test looks).
pub(super) const DEPTH: usize = 32 * 1024;

/// Both engines, for one thread.
#[derive(Debug)]
pub(super) struct Workshop {
    stack: Option<ProtectedStack>,
    multi: Option<Multi>,
}

/// crypto_mb and its working memory.
#[derive(Debug)]
struct Multi {
    library: CryptoMb,
    rsa: rsa::Workspace,
    p256: Bench,
    p384: Bench,
    p521: Bench,
}

impl Workshop {
    /// With crypto_mb where that is there.
    pub(super) fn new(library: Option<CryptoMb>) -> Self {
        static SAID: Once = Once::new();
        let stack = ProtectedStack::map();
        if stack.is_none() {
            SAID.call_once(|| {
                tracing::warn!("no memory for protected stacks: signatures are computed on the usual ones");
            });
        }
        let multi = library.map(|library| Multi {
            library,
            rsa: rsa::Workspace::new(library),
            p256: Bench::new(Curve::P256),
            p384: Bench::new(Curve::P384),
            p521: Bench::new(Curve::P521),
        });
        Self { stack, multi }
    }

    /// Signs with aws-lc, one after the other.
    pub(super) fn sign_one_by_one<'o, 'a: 'o>(&mut self, orders: impl Iterator<Item = &'o mut Order<'a>>) {
        on(&mut self.stack, 0, || {
            for order in orders {
                let room = order.signature.room(order.key.kind().signature_length());
                match order.key.sign_into(order.mechanism, order.data, room) {
                    Ok(()) => order.outcome = Ok(()),
                    Err(error) => order.fail(error),
                }
            }
        });
    }

    /// Signs with crypto_mb, all keys of one kind. The lanes whose order is done are empty afterwards; what is left
    /// is for the other engine. `skew` is for the stack.
    pub(super) fn sign_together(
        &mut self,
        kind: KeyKind,
        lanes: &mut Lanes<'_, '_>,
        now: Moment,
        skew: usize,
    ) {
        let Some(multi) = &mut self.multi else { return };
        on(&mut self.stack, skew, || multi.sign(kind, lanes, now));
    }

    /// The nonces of a kind.
    pub(super) fn bench(&mut self, kind: KeyKind) -> Option<&mut Bench> {
        self.multi.as_mut()?.bench(kind)
    }

    /// Makes a batch of nonces. False if there is no room.
    pub(super) fn prepare(&mut self, kind: KeyKind, now: Moment) -> bool {
        let Some(multi) = &mut self.multi else { return false };
        let library = multi.library;
        let Some(bench) = multi.bench(kind) else { return false };
        on(&mut self.stack, 0, || bench.pool.fill(library, now))
    }

    /// Whether RSA's working memory holds nothing.
    #[cfg(test)]
    pub(super) fn is_wiped(&self) -> bool {
        self.multi.as_ref().unwrap().rsa.is_wiped()
    }

    #[cfg(test)]
    pub(super) fn stack(&mut self) -> &mut ProtectedStack {
        self.stack.as_mut().unwrap()
    }
}

impl Multi {
    fn bench(&mut self, kind: KeyKind) -> Option<&mut Bench> {
        match kind {
            KeyKind::P256 => Some(&mut self.p256),
            KeyKind::P384 => Some(&mut self.p384),
            KeyKind::P521 => Some(&mut self.p521),
            _ => None,
        }
    }

    fn sign(&mut self, kind: KeyKind, lanes: &mut Lanes<'_, '_>, now: Moment) {
        let library = self.library;
        match kind {
            KeyKind::Rsa2048 => self.rsa.sign(library, RsaSize::Bits2048, lanes),
            KeyKind::Rsa3072 => self.rsa.sign(library, RsaSize::Bits3072, lanes),
            KeyKind::Rsa4096 => self.rsa.sign(library, RsaSize::Bits4096, lanes),
            KeyKind::P256 => self.p256.sign(library, lanes, now),
            KeyKind::P384 => self.p384.sign(library, lanes, now),
            KeyKind::P521 => self.p521.sign(library, lanes, now),
            KeyKind::Ed25519 => ed25519::sign(library, lanes),
            // Not batched.
            _ => {}
        }
    }
}

/// Runs `work` on the protected stack, if there is one, and wipes what it left.
fn on<R>(stack: &mut Option<ProtectedStack>, skew: usize, work: impl FnOnce() -> R) -> R {
    match stack {
        Some(stack) => {
            let result = stack.run(skew, work);
            stack.wipe(DEPTH + skew);
            result
        }
        None => work(),
    }
}
