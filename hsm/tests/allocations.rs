//! Nothing is allocated on the way of a signature: an allocator that counts, around the signing of full and partial
//! batches of every key type. (What the crypto library allocates for itself comes from the protected arena.)

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use strongroom_hsm::crypto::aws_lc::PrivateKey;
use strongroom_hsm::crypto::{Choices, Hash, KeyKind, LANES, Mechanism, Order, Signature, Signer};
use strongroom_hsm::metrics::{Meter, Operation, Outcome};
use strongroom_protocol::v1::{self, KeyType};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, which counts.
struct Counting;

// SAFETY: everything is handed on to the system's allocator; the counter belongs to the thread and is never dropped.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: by the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: by the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn mechanism(kind: KeyKind, lane: usize) -> Mechanism {
    match (kind.rsa_bits(), kind.ec_scalar()) {
        (Some(_), _) if lane.is_multiple_of(2) => Mechanism::RsaPkcs,
        (Some(_), _) => Mechanism::RsaPss { hash: Hash::Sha256, mgf1_hash: Hash::Sha256, salt_length: 32 },
        (_, Some(_)) => Mechanism::Ecdsa,
        _ => Mechanism::EdDsa,
    }
}

#[test]
fn a_signature_allocates_nothing() {
    let mut signer = Signer::new(Arc::new(Choices::measure().unwrap()));
    let data = [7; 32];
    for kind in [KeyKind::P256, KeyKind::P384, KeyKind::P521, KeyKind::Ed25519, KeyKind::Rsa2048] {
        let key = PrivateKey::generate(kind).unwrap();
        let mut signatures = [const { Signature::empty() }; LANES];
        for size in [1, 2, LANES, 5, 1] {
            let mut orders = signatures.each_mut().map(|signature| Order {
                key: &key,
                mechanism: Mechanism::Ecdsa,
                data: &data,
                signature,
                outcome: Ok(()),
            });
            for (lane, order) in orders.iter_mut().enumerate() {
                order.mechanism = mechanism(kind, lane);
            }
            let before = ALLOCATIONS.get();
            signer.sign(&mut orders[..size]);
            while signer.prepare() {}
            assert_eq!(ALLOCATIONS.get() - before, 0, "{kind}, {size} at once");
            assert!(orders[..size].iter().all(|order| order.outcome.is_ok()));
        }
    }
    let before = ALLOCATIONS.get();
    std::hint::black_box(Box::new(before));
    assert_eq!(ALLOCATIONS.get() - before, 1, "the allocator counts");
}

#[test]
fn counting_an_operation_allocates_nothing_but_for_the_first_of_its_sort() {
    let meter = Meter::default();
    let count = || {
        let time = Duration::from_micros(17);
        meter.count(Operation::Sign, KeyType::P256, v1::Mechanism::Ecdsa, Outcome::Success, time);
        meter.count(Operation::Decrypt, KeyType::Aes256, v1::Mechanism::AesGcm, Outcome::Refused, time);
    };
    let before = ALLOCATIONS.get();
    count();
    assert!(ALLOCATIONS.get() > before);
    let before = ALLOCATIONS.get();
    (0..1_000).for_each(|_| count());
    assert_eq!(ALLOCATIONS.get() - before, 0);
}
