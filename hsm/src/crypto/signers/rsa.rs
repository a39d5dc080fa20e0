//! RSA with crypto_mb: padded blocks in, signatures out, each checked before it leaves.
//!
//! One faulty half of a CRT signature reveals the key (Boneh, DeMillo, Lipton), and crypto_mb neither checks nor
//! blinds. So the public operation is done on every result and has to give the block that was signed; what does not
//! pass is wiped and computed once more by aws-lc, which blinds and checks itself. The library's working memory,
//! which it leaves full of primes and exponents, is this thread's, in protected pages, and wiped after each batch.

use strongroom_crypto_mb::{CryptoMb, LANES, RsaLane, RsaSize};

use super::{Lanes, Order};
use crate::crypto::aws_lc::Parts;
use crate::memory::SecretBytes;

/// The longest block, in bytes.
const LONGEST: usize = 512;

/// From so many signatures on the library's public operation, which costs the same for one and for eight, is
/// cheaper than aws-lc's for each.
const CHECK_TOGETHER: usize = 3;

/// Working memory of one thread.
#[derive(Debug)]
pub(super) struct Workspace {
    /// Eight blocks each: what is signed, what came out, and what the check made of that.
    blocks: SecretBytes,
    results: SecretBytes,
    opened: SecretBytes,
    memory: SecretBytes,
}

impl Workspace {
    pub(super) fn new(library: CryptoMb) -> Self {
        let memory = [RsaSize::Bits2048, RsaSize::Bits3072, RsaSize::Bits4096]
            .map(|size| library.rsa_memory(size))
            .into_iter()
            .max()
            .unwrap_or_default();
        let blocks = || SecretBytes::zeroed(LANES * LONGEST);
        Self { blocks: blocks(), results: blocks(), opened: blocks(), memory: SecretBytes::zeroed(memory) }
    }

    /// Signs, in the lanes that have an order with an RSA key of this size and its parts. Lanes whose order is done,
    /// or is wrong, are empty afterwards.
    pub(super) fn sign(&mut self, library: CryptoMb, size: RsaSize, lanes: &mut Lanes<'_, '_>) {
        for (lane, block) in lanes.iter_mut().zip(blocks(&mut self.blocks, size)) {
            if let Some(order) = lane
                && let Err(error) = order.key.pad(order.mechanism, order.data, block)
            {
                order.fail(error);
                *lane = None;
            }
        }
        let mut private = [const { None }; LANES];
        let parts = blocks(&mut self.blocks, size).zip(blocks(&mut self.results, size));
        for ((order, private), (from, to)) in lanes.iter().zip(&mut private).zip(parts) {
            if let Some(key) = order.as_ref().and_then(private_of) {
                *private = Some(RsaLane { key, from, to, done: false });
            }
        }
        library.rsa_private(size, &mut private, &mut self.memory);
        let computed = private.map(|lane| lane.is_some_and(|lane| lane.done));
        self.memory.wipe(library.rsa_memory(size));

        let right = self.check(library, size, lanes, computed);
        let results = blocks(&mut self.results, size);
        for ((lane, result), right) in lanes.iter_mut().zip(results).zip(right) {
            if right && let Some(order) = lane.take() {
                order.signature.room(size.bytes()).copy_from_slice(result);
                order.outcome = Ok(());
            }
        }
        // Wrong ones among them.
        self.results.wipe(LANES * LONGEST);
    }

    #[cfg(test)]
    pub(super) fn is_wiped(&self) -> bool {
        self.results.iter().chain(self.memory.iter()).all(|byte| *byte == 0)
    }

    /// Which results the public operation makes the signed block of.
    fn check(
        &mut self,
        library: CryptoMb,
        size: RsaSize,
        lanes: &Lanes<'_, '_>,
        computed: [bool; LANES],
    ) -> [bool; LANES] {
        let mut right = [false; LANES];
        let mut public = [const { None }; LANES];
        let parts = blocks(&mut self.results, size).zip(blocks(&mut self.opened, size));
        for (((order, public), computed), (from, to)) in
            lanes.iter().zip(&mut public).zip(computed).zip(parts)
        {
            if computed && let Some(key) = order.as_ref().and_then(modulus_of) {
                *public = Some(RsaLane { key, from, to, done: false });
            }
        }
        let together = public.iter().flatten().count() >= CHECK_TOGETHER;
        if together {
            library.rsa_public(size, &mut public, &mut self.memory);
        }
        let opened = public.map(|lane| lane.is_some_and(|lane| lane.done));
        let parts = blocks(&mut self.blocks, size)
            .zip(blocks(&mut self.results, size))
            .zip(blocks(&mut self.opened, size));
        let states = right.iter_mut().zip(computed).zip(opened);
        for ((order, ((block, result), open)), ((right, computed), opened)) in
            lanes.iter().zip(parts).zip(states)
        {
            *right = computed
                && match order {
                    Some(_) if opened => open == block,
                    Some(order) => order.key.gives(result, block),
                    None => false,
                };
        }
        right
    }
}

/// One block for each lane.
fn blocks(memory: &mut SecretBytes, size: RsaSize) -> impl Iterator<Item = &mut [u8]> {
    memory.chunks_exact_mut(LONGEST).filter_map(move |block| block.get_mut(..size.bytes()))
}

fn private_of<'k>(order: &&mut Order<'k>) -> Option<&'k [u64]> {
    match order.key.parts() {
        Some(Parts::Rsa { private, .. }) => Some(private),
        _ => None,
    }
}

fn modulus_of<'k>(order: &&mut Order<'k>) -> Option<&'k [u64]> {
    match order.key.parts() {
        Some(Parts::Rsa { modulus: Some(modulus), .. }) => Some(modulus),
        _ => None,
    }
}
