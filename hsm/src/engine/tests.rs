use std::sync::Weak;
use std::time::Duration;

use super::queue::{Next, Queue};
use super::*;
use crate::crypto::LANES;

fn queue() -> Queue {
    Queue::new(&Arc::new(Choices::measure().unwrap()), 2)
}

/// User id 33 asks for partition 1.
const WEB: Origin = Origin { partition: 1, uid: 33 };

fn job(key: &Arc<PrivateKey>, origin: Origin, arrived: Instant) -> Job {
    let (reply, _) = oneshot::channel();
    let data = Data::Inline { bytes: [0; 256], length: 32 };
    Job {
        origin,
        key: Arc::clone(key),
        mechanism: Mechanism::Ecdsa,
        data,
        arrived,
        answer: Answer::Task(reply),
    }
}

fn key(kind: KeyKind) -> Arc<PrivateKey> {
    Arc::new(PrivateKey::generate(kind).unwrap())
}

#[test]
fn shorter_operations_go_first_but_nobody_waits_for_ever() {
    let (long, short) = (key(KeyKind::Rsa2048), key(KeyKind::P256));
    let start = Instant::now();
    let mut queue = queue();
    queue.push(job(&long, WEB, start), start);
    queue.push(job(&short, WEB, start + Duration::from_micros(100)), start + Duration::from_micros(100));
    assert_eq!(queue.next(start + Duration::from_secs(1)), Next::Quick(KeyKind::P256));
    queue.take(KeyKind::P256, Instant::now(), drop);
    queue.push(job(&short, WEB, start + Duration::from_secs(1)), start + Duration::from_secs(1));
    assert_eq!(queue.next(start + Duration::from_secs(1)), Next::Slow(KeyKind::Rsa2048));
}

#[test]
fn one_user_does_not_fill_the_queue_for_the_others() {
    let key = key(KeyKind::P384);
    let mut queue = queue();
    let start = Instant::now();
    let mut pushed = 0;
    while queue.admit(WEB).is_ok() {
        queue.push(job(&key, WEB, start), start);
        pushed += 1;
    }
    assert_eq!(pushed, super::queue::MOST_WAITING_OF_ONE);
    let other = Origin { uid: 34, ..WEB };
    queue.admit(other).unwrap();
    queue.push(job(&key, other, start), start);
    let mut taken = 0;
    while !queue.is_empty() {
        queue.take(KeyKind::P384, Instant::now(), |_| taken += 1);
    }
    assert_eq!(taken, pushed + 1);
    queue.admit(WEB).unwrap();
}

/// A partition in which many user ids ask for as much as they may: what it has waiting is half of what may wait, and whoever asks
/// in another partition has the next turn, with the same type of key and with one that takes longer or shorter.
#[test]
fn a_partition_that_floods_leaves_the_others_their_turns() {
    let [rsa, longer, shorter] = [KeyKind::Rsa2048, KeyKind::Rsa4096, KeyKind::P256].map(key);
    let mut queue = queue();
    let start = Instant::now();
    let mut flood = 0;
    for uid in 0..64 {
        let origin = Origin { partition: 1, uid };
        while queue.admit(origin).is_ok() && flood < (uid as usize + 1) * 2_000 {
            queue.push(job([&rsa, &longer][flood % 2], origin, start), start);
            flood += 1;
        }
    }
    assert_eq!(flood, super::queue::MOST_WAITING / 2);
    // It is served all the time.
    let now = start + Duration::from_secs(1);
    for kind in [KeyKind::Rsa2048, KeyKind::Rsa4096] {
        let mut signatures = 0;
        queue.take(kind, now, |_| signatures += 1);
        queue.done(kind, signatures);
    }
    let other = Origin { partition: 2, uid: 0 };
    queue.admit(other).unwrap();
    for key in [&rsa, &longer, &shorter] {
        queue.push(job(key, other, now), now);
    }
    assert_eq!(queue.next(now), Next::Quick(KeyKind::P256), "what is shorter goes first");
    queue.take(KeyKind::P256, now, drop);
    // Then what has waited longest for its turn; that of the newcomer is the next one after one of the flood's.
    for kind in [KeyKind::Rsa2048, KeyKind::Rsa4096] {
        let mut turns = Vec::new();
        while !turns.contains(&other.partition) {
            let before = turns.len();
            queue.take(kind, now, |job| turns.push(job.origin.partition));
            queue.done(kind, turns.len() - before);
        }
        assert_eq!(turns.iter().position(|partition| *partition == 2), Some(1), "{kind}: {turns:?}");
    }
    // What takes long has its turn, however much of what is shorter comes after it.
    let (mut now, mut kinds) = (now, Vec::new());
    while !kinds.contains(&KeyKind::Rsa4096) {
        now += Duration::from_millis(1);
        if let Next::Slow(kind) = queue.next(now) {
            let mut signatures = 0;
            queue.take(kind, now, |_| signatures += 1);
            queue.done(kind, signatures);
            kinds.push(kind);
        }
        assert!(kinds.len() < 1_000, "{kinds:?}");
    }
}

fn pushed(queue: &mut Queue, key: &Arc<PrivateKey>, count: usize, arrived: Instant) {
    (0..count).for_each(|_| queue.push(job(key, WEB, arrived), arrived));
}

fn taken(queue: &mut Queue, kind: KeyKind) -> usize {
    let mut taken = 0;
    queue.take(kind, Instant::now(), |_| taken += 1);
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
    queue.push(job(&self::key(KeyKind::P256), WEB, start), start);
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
        let signature = engine.sign(WEB, key(kind), Mechanism::Ecdsa, vec![1; 32]).await.unwrap();
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
