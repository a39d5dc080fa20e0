use std::sync::Weak;
use std::time::Duration;

use super::queue::{Next, Queue};
use super::*;
use crate::crypto::LANES;

fn queue() -> Queue {
    Queue::new(&Arc::new(Choices::measure().unwrap()), 2)
}

fn job(key: &Arc<PrivateKey>, uid: u32, arrived: Instant) -> Job {
    let (reply, _) = oneshot::channel();
    let data = Data::Inline { bytes: [0; 256], length: 32 };
    Job { uid, key: Arc::clone(key), mechanism: Mechanism::Ecdsa, data, arrived, answer: Answer::Task(reply) }
}

fn key(kind: KeyKind) -> Arc<PrivateKey> {
    Arc::new(PrivateKey::generate(kind).unwrap())
}

#[test]
fn shorter_operations_go_first_but_nobody_waits_for_ever() {
    let (long, short) = (key(KeyKind::Rsa2048), key(KeyKind::P256));
    let start = Instant::now();
    let mut queue = queue();
    queue.push(job(&long, 33, start));
    queue.push(job(&short, 33, start + Duration::from_micros(100)));
    assert_eq!(queue.next(start + Duration::from_secs(1)), Next::Quick(KeyKind::P256));
    queue.take(KeyKind::P256, drop);
    queue.push(job(&short, 33, start + Duration::from_secs(1)));
    assert_eq!(queue.next(start + Duration::from_secs(1)), Next::Slow(KeyKind::Rsa2048));
}

#[test]
fn one_user_does_not_fill_the_queue_for_the_others() {
    let key = key(KeyKind::P384);
    let mut queue = queue();
    let start = Instant::now();
    let mut pushed = 0;
    while queue.admit(33).is_ok() {
        queue.push(job(&key, 33, start));
        pushed += 1;
    }
    assert_eq!(pushed, super::queue::MOST_WAITING_OF_ONE);
    queue.admit(34).unwrap();
    queue.push(job(&key, 34, start));
    let mut taken = 0;
    while !queue.is_empty() {
        queue.take(KeyKind::P384, |_| taken += 1);
    }
    assert_eq!(taken, pushed + 1);
    queue.admit(33).unwrap();
}

fn pushed(queue: &mut Queue, key: &Arc<PrivateKey>, count: usize, arrived: Instant) {
    (0..count).for_each(|_| queue.push(job(key, 33, arrived)));
}

fn taken(queue: &mut Queue, kind: KeyKind) -> usize {
    let mut taken = 0;
    queue.take(kind, |_| taken += 1);
    taken
}

#[test]
fn what_is_not_whole_is_for_an_idle_processor_until_it_is_due() {
    let kind = KeyKind::Rsa4096;
    let key = key(kind);
    let mut queue = queue();
    let start = Instant::now();
    if queue.lanes(kind) == 1 {
        return;
    }
    pushed(&mut queue, &key, 1, start);
    assert_eq!(
        queue.next(start),
        Next::Partial { kind, more: false, next: false },
        "nobody else is expected"
    );
    assert_eq!(queue.next(start + Duration::from_millis(12)), Next::Slow(kind), "it is due");
    // Something short does not wait meanwhile.
    queue.push(job(&self::key(KeyKind::P256), 33, start));
    assert_eq!(queue.next(start), Next::Quick(KeyKind::P256));
}

#[test]
fn while_one_is_computed_the_others_gather_for_the_next_batch() {
    let kind = KeyKind::Rsa4096;
    let key = key(kind);
    let mut queue = queue();
    let start = Instant::now();
    if queue.lanes(kind) == 1 {
        return;
    }
    pushed(&mut queue, &key, 1, start);
    assert_eq!(taken(&mut queue, kind), 1);
    for _ in 0..LANES - 1 {
        pushed(&mut queue, &key, 1, start);
        assert_eq!(
            queue.next(start + Duration::from_secs(9)),
            Next::Partial { kind, more: false, next: true }
        );
    }
    pushed(&mut queue, &key, 1, start);
    assert_eq!(queue.next(start), Next::Slow(kind));
    assert_eq!(taken(&mut queue, kind), LANES);
    // Two are computed, as many as may be.
    pushed(&mut queue, &key, LANES, start);
    assert_eq!(queue.next(start), Next::Nothing);
    queue.done(kind, 1);
    assert_eq!(queue.next(start), Next::Slow(kind));
}

#[test]
fn as_many_as_lately_are_expected_until_batches_miss_them() {
    let kind = KeyKind::Rsa4096;
    let key = key(kind);
    let mut queue = queue();
    let start = Instant::now();
    if queue.lanes(kind) == 1 {
        return;
    }
    pushed(&mut queue, &key, LANES, start);
    assert_eq!(taken(&mut queue, kind), LANES);
    queue.done(kind, LANES);
    let mut missed = 0;
    loop {
        pushed(&mut queue, &key, 1, start);
        let Next::Partial { more, .. } = queue.next(start) else { panic!("it is neither whole nor due") };
        if !more {
            break;
        }
        missed += 1;
        assert_eq!(taken(&mut queue, kind), 1);
        queue.done(kind, 1);
    }
    assert!((1..=2).contains(&missed), "{missed}");
}

#[test]
fn what_does_not_pay_together_is_taken_one_by_one() {
    for kind in [KeyKind::Rsa2048, KeyKind::Rsa3072, KeyKind::Rsa4096] {
        let key = key(kind);
        let mut queue = queue();
        let (least, lanes) = (queue.least(kind), queue.lanes(kind));
        for count in 1..=lanes {
            pushed(&mut queue, &key, count, Instant::now());
            let first = if count >= least { count } else { 1 };
            assert_eq!(taken(&mut queue, kind), first, "{count} of {kind}");
            while !queue.is_empty() {
                taken(&mut queue, kind);
            }
        }
    }
}

#[tokio::test]
async fn every_kind_is_signed_and_counted() {
    let engine = Engine::start(2).unwrap();
    for kind in [KeyKind::P256, KeyKind::P384, KeyKind::P521] {
        let signature = engine.sign(33, key(kind), Mechanism::Ecdsa, vec![1; 32]).await.unwrap();
        assert_eq!(signature.len(), 2 * kind.ec_scalar().unwrap());
    }
    assert_eq!(engine.made(), 3);
}

#[test]
fn threads_end_with_the_engine() {
    let engine = Engine::start(2).unwrap();
    let shared: Weak<Shared> = Arc::downgrade(&engine.shared);
    drop(engine);
    assert!(shared.upgrade().is_none());
}
