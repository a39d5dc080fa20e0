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

#[test]
fn a_lone_request_does_not_wait_and_a_second_thread_only_helps_with_whole_batches() {
    let key = key(KeyKind::Rsa4096);
    let mut queue = queue();
    let start = Instant::now();
    for _ in 0..3 {
        queue.push(job(&key, 33, start));
        assert_eq!(queue.next(start), Next::Slow(KeyKind::Rsa4096), "nobody else usually comes");
        queue.take(KeyKind::Rsa4096, drop);
        queue.done(KeyKind::Rsa4096, 1);
    }
    if queue.lanes(KeyKind::Rsa4096) == 1 {
        return;
    }
    queue.push(job(&key, 33, start));
    queue.take(KeyKind::Rsa4096, drop);
    for _ in 0..LANES - 1 {
        queue.push(job(&key, 33, start));
        assert_eq!(queue.next(start + Duration::from_secs(9)), Next::Nothing);
    }
    queue.push(job(&key, 33, start));
    assert_eq!(queue.next(start), Next::Slow(KeyKind::Rsa4096));
    let mut taken = 0;
    queue.take(KeyKind::Rsa4096, |_| taken += 1);
    assert_eq!(taken, LANES);
}

#[test]
fn a_batch_fills_when_there_usually_are_more_but_not_for_ever() {
    let key = key(KeyKind::Rsa4096);
    let mut queue = queue();
    if queue.lanes(KeyKind::Rsa4096) == 1 {
        return;
    }
    let start = Instant::now();
    for _ in 0..32 {
        (0..LANES).for_each(|_| queue.push(job(&key, 33, start)));
        queue.take(KeyKind::Rsa4096, drop);
        queue.done(KeyKind::Rsa4096, LANES);
    }
    queue.push(job(&key, 33, start));
    let Next::Pause(until) = queue.next(start) else { panic!("no pause") };
    assert!(until > start && until < start + Duration::from_millis(1));
    assert_eq!(queue.next(until), Next::Slow(KeyKind::Rsa4096));
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
