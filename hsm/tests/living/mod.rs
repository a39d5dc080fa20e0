//! What happens to keys: a daemon whose clocks a test sets, and the requests about deleted keys and versions.
#![allow(dead_code)]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use strongroom_hsm::life::Clocks;
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;
use tempfile::TempDir;

use crate::running::{Client, Running};

pub const DAY: u64 = 86_400;

/// The hands of the daemon's clocks: the time of day, and the one that does not jump.
pub type Hands = Arc<Mutex<(u64, u64)>>;

pub fn start(directory: TempDir, hands: &Hands) -> Running {
    let clocks = Clocks::Set(Arc::clone(hands));
    Running::try_start_in(directory, |config| {
        (config.clocks, config.keeping) = (clocks, Duration::from_millis(5));
    })
    .unwrap()
}

pub fn with_clocks() -> (Running, Hands) {
    let hands = Hands::new(Mutex::new((1_800_000_000, 100)));
    let running = start(tempfile::tempdir().unwrap(), &hands);
    running.client().make_partition("tls");
    (running, hands)
}

pub fn pass(hands: &Hands, seconds: u64) {
    let mut hands = hands.lock().unwrap();
    *hands = (hands.0 + seconds, hands.1 + seconds);
}

/// Somebody sets the system's clock.
pub fn put_ahead(hands: &Hands, seconds: u64) {
    hands.lock().unwrap().0 += seconds;
}

pub fn put_back(hands: &Hands, seconds: u64) {
    hands.lock().unwrap().0 -= seconds;
}

pub fn deleted(client: &mut Client) -> Vec<ObjectInfo> {
    client.objects(Op::ListDeleted(ListDeleted::default())).unwrap()
}

pub fn delete(client: &mut Client, objects: &[ObjectInfo]) -> Vec<ObjectInfo> {
    client.objects(Op::DeleteKey(DeleteKey { objects: identities(objects) })).unwrap()
}

pub fn identities(objects: &[ObjectInfo]) -> Vec<Vec<u8>> {
    objects.iter().map(|object| object.object.clone()).collect()
}

pub fn recover(objects: &[ObjectInfo]) -> Op {
    Op::RecoverKey(RecoverKey { objects: identities(objects), label: String::new() })
}

pub fn purge(objects: &[ObjectInfo]) -> Op {
    Op::PurgeKey(PurgeKey { objects: identities(objects) })
}

pub fn by_label(label: &str) -> FindObjects {
    FindObjects { label: label.into(), ..FindObjects::default() }
}

pub fn signs(client: &mut Client, key: &ObjectInfo) -> Result<(), ErrorCode> {
    let signed = client.sign(key, Mechanism::Ecdsa, None, &[0; 32]);
    signed.map(drop).map_err(|error| error.code().unwrap())
}

/// Until the daemon has looked after its partitions.
pub fn wait(mut until: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !until() {
        assert!(Instant::now() < end, "nothing happened");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What the daemon says in the audit log that it did by itself: outcome and key.
pub fn own_acts(running: &Running, action: &str) -> Vec<(String, String)> {
    let request = ReadAudit { checkpoint: true, ..ReadAudit::default() };
    let response::Result::AuditPage(page) = running.officer().call(Op::ReadAudit(request)).unwrap() else {
        panic!()
    };
    let entries =
        page.lines.iter().map(|line| serde_json::from_str::<strongroom_audit::Entry>(line).unwrap());
    let own = entries.filter(|entry| entry.role == "daemon" && entry.action == action);
    own.map(|entry| (entry.outcome, entry.key)).collect()
}

pub fn done(keys: &[&str]) -> Vec<(String, String)> {
    let all = ["begun", "success"].into_iter();
    all.flat_map(|outcome| keys.iter().map(move |key| (outcome.to_owned(), (*key).to_owned()))).collect()
}
