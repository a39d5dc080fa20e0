//! `kill -9` while keys are made, rotated, deleted and purged, users come and go, and a backup is read and restored:
//! nothing that was acknowledged is lost, and what was not is there whole or not at all.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::print_stderr)]

mod running;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use running::{Client, OFFICER, PASSWORD, Process, TLS, USER};
use strongroom_protocol::client::ClientError;
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

/// The label of what is restored.
const COPY: &str = "copy";

/// A key as the partition has it: how many objects (two for each version) it can use, or keeps as deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Live(usize),
    Deleted(usize),
    Gone,
}

/// What the partition may hold. One state where the last change was acknowledged; two where the daemon was killed
/// before it said so.
#[derive(Default)]
struct Expected {
    keys: BTreeMap<String, Vec<Key>>,
    users: BTreeMap<String, Vec<bool>>,
    number: usize,
    acknowledged: BTreeMap<&'static str, usize>,
}

impl Expected {
    /// Carries out one change, and notes what the partition holds then. An error is the kill.
    fn step(&mut self, client: &mut Client, objects: &mut Objects) -> Result<(), ClientError> {
        self.number += 1;
        let (what, label, before, after, op) = self.next(objects);
        self.keys.insert(label.clone(), vec![before, after]);
        let made = client.objects_or_done(op)?;
        match after {
            Key::Live(_) => objects.entry(label.clone()).or_default().extend(made),
            Key::Deleted(_) => {}
            Key::Gone => drop(objects.remove(&label)),
        }
        self.keys.insert(label, vec![after]);
        *self.acknowledged.entry(what).or_default() += 1;
        if self.number.is_multiple_of(4) {
            self.change_users(client)?;
        }
        Ok(())
    }

    /// What is done next: its name, the key, and what that is before and after.
    fn next(&self, objects: &Objects) -> (&'static str, String, Key, Key, Op) {
        let in_state = |fits: fn(Key) -> bool| {
            let mut all = self.keys.iter().filter(|(_, states)| matches!(states[..], [state] if fits(state)));
            all.next().map(|(label, states)| (label.clone(), states[0]))
        };
        let live = self.keys.values().filter(|states| matches!(states[..], [Key::Live(_)])).count();
        let identities =
            |label: &str| objects[label].iter().map(|object| object.object.clone()).collect::<Vec<_>>();
        match self.number % 6 {
            2 if let Some((label, before @ Key::Live(count))) = in_state(|key| key == Key::Live(2)) => {
                let private = objects[&label].iter().rfind(|o| o.class() == ObjectClass::PrivateKey).unwrap();
                let rotate = RotateKey { object: private.object.clone(), activate: true };
                ("rotated", label, before, Key::Live(count + 2), Op::RotateKey(rotate))
            }
            3 | 4 if live > 3 => {
                let (label, before) = in_state(|key| matches!(key, Key::Live(_))).unwrap();
                let Key::Live(count) = before else { unreachable!() };
                let delete = DeleteKey { objects: identities(&label) };
                ("deleted", label, before, Key::Deleted(count), Op::DeleteKey(delete))
            }
            5 if let Some((label, before)) = in_state(|key| matches!(key, Key::Deleted(_))) => {
                let purge = PurgeKey { objects: identities(&label) };
                ("purged", label, before, Key::Gone, Op::PurgeKey(purge))
            }
            _ => {
                let label = format!("key {:06}", self.number);
                let template = KeyTemplate { label: label.clone(), ..KeyTemplate::default() };
                let generate = GenerateKeyPair {
                    key_type: KeyType::P256.into(),
                    private_key: Some(template.clone()),
                    public_key: Some(template),
                };
                ("generated", label, Key::Gone, Key::Live(2), Op::GenerateKeyPair(generate))
            }
        }
    }

    /// A user comes, and goes again when there are three.
    fn change_users(&mut self, client: &mut Client) -> Result<(), ClientError> {
        let there: Vec<_> = self.users.iter().filter(|(_, states)| states[..] == [true]).collect();
        let (what, name, op) = match there.first() {
            Some((name, _)) if there.len() > 2 => {
                let delete = DeleteUser { name: (*name).clone() };
                ("user deleted", (*name).clone(), Op::DeleteUser(delete))
            }
            _ => {
                let name = format!("user-{}", self.number);
                let role = Role::CryptoUser.into();
                let create = CreateUser { name: name.clone(), role, ..CreateUser::default() };
                ("user created", name, Op::CreateUser(create))
            }
        };
        let after = what == "user created";
        self.users.insert(name.clone(), vec![!after, after]);
        client.call(op)?;
        self.users.insert(name, vec![after]);
        *self.acknowledged.entry(what).or_default() += 1;
        Ok(())
    }

    /// Compares what is there with what may be, and goes on from what is there.
    fn compare(&mut self, client: &mut Client) -> Objects {
        let (live, deleted) = (found(client), deleted(client));
        for (label, states) in &mut self.keys {
            let count = |objects: &Objects| objects.get(label).map_or(0, Vec::len);
            let there = match (count(&live), count(&deleted)) {
                (0, 0) => Key::Gone,
                (count, 0) => Key::Live(count),
                (0, count) => Key::Deleted(count),
                both => panic!("{label} is there and deleted: {both:?}"),
            };
            assert!(states.contains(&there), "{label} is {there:?} and may be {states:?}");
            *states = vec![there];
        }
        let response::Result::Users(list) = client.call(Op::ListUsers(ListUsers {})).unwrap() else {
            panic!()
        };
        let names: BTreeSet<_> = list.users.into_iter().map(|user| user.name).collect();
        for (name, states) in &mut self.users {
            let there = names.contains(name);
            assert!(states.contains(&there), "user {name}: {there}, and may be {states:?}");
            *states = vec![there];
        }
        // All that is there was asked for.
        assert!(live.keys().chain(deleted.keys()).all(|label| self.keys.contains_key(label)));
        // What is gone stays gone; it need not be looked for a thousand times.
        self.keys.retain(|_, states| *states != [Key::Gone]);
        self.users.retain(|_, states| *states != [false]);
        for objects in live.values() {
            for key in objects.iter().filter(|object| object.class() == ObjectClass::PrivateKey) {
                client.sign(key, Mechanism::Ecdsa, None, &[1; 32]).unwrap();
            }
        }
        live.into_iter().chain(deleted).collect()
    }
}

/// By label: all versions' objects.
type Objects = BTreeMap<String, Vec<ObjectInfo>>;

trait Asks {
    fn objects_or_done(&mut self, op: Op) -> Result<Vec<ObjectInfo>, ClientError>;
}

impl Asks for Client {
    fn objects_or_done(&mut self, op: Op) -> Result<Vec<ObjectInfo>, ClientError> {
        match self.call(op)? {
            response::Result::Objects(list) => Ok(list.objects),
            _ => Ok(Vec::new()),
        }
    }
}

/// All pages of a list.
fn pages(client: &mut Client, page: impl Fn(Vec<u8>) -> Op) -> Objects {
    let (mut all, mut after) = (Objects::new(), Vec::new());
    loop {
        let objects = client.objects(page(after)).unwrap();
        let Some(last) = objects.last() else { return all };
        after = last.object.clone();
        for object in objects {
            all.entry(object.label.clone()).or_default().push(object);
        }
    }
}

fn found(client: &mut Client) -> Objects {
    pages(client, |after| Op::FindObjects(FindObjects { after, ..FindObjects::default() }))
}

fn deleted(client: &mut Client) -> Objects {
    pages(client, |after| Op::ListDeleted(ListDeleted { after }))
}

/// How far a client came who makes a backup and restores it beside the partition.
#[derive(Default)]
struct Transferred {
    backup: Option<(Vec<u8>, Vec<u8>)>,
    begun: bool,
    restored: bool,
}

impl Transferred {
    fn transfer(&mut self, client: &mut Client) -> Result<(), ClientError> {
        let response::Result::BackupBegun(begun) = client.call(Op::BeginBackup(BeginBackup::default()))?
        else {
            panic!()
        };
        let mut rest = Vec::new();
        loop {
            let response::Result::BackupChunk(chunk) = client.call(Op::ReadBackup(ReadBackup {}))? else {
                panic!()
            };
            rest.extend(chunk.data);
            if chunk.last {
                break;
            }
        }
        self.backup = Some((begun.head, rest));
        self.begun = true;
        self.restore(client, false)?;
        self.restored = true;
        Ok(())
    }

    fn restore(&self, client: &mut Client, only_verify: bool) -> Result<(), ClientError> {
        let (head, rest) = self.backup.as_ref().unwrap();
        client.partition = 0;
        let begin =
            BeginRestore { head: head.clone(), label: COPY.into(), only_verify, ..BeginRestore::default() };
        client.call(Op::BeginRestore(begin))?;
        for piece in rest.chunks(256 * 1024) {
            client.call(Op::RestoreChunk(RestoreChunk { data: piece.to_vec() }))?;
        }
        client.call(Op::FinishRestore(FinishRestore {})).map(drop)
    }
}

/// Starts the daemon and kills it, so many times.
fn killed(rounds: u64) {
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(directory.path());
    let mut officer = process.client();
    officer.make_partition("tls");
    officer.login(Role::CryptoOfficer, OFFICER, PASSWORD).unwrap();
    // So that no round spends its time on a log-in.
    let uid = rustix::process::geteuid().as_raw();
    for name in [OFFICER, USER] {
        officer.call(Op::AdmitUid(AdmitUid { name: name.into(), uid, withdraw: false })).unwrap();
    }
    process.kill();
    let (mut expected, mut objects) = (Expected::default(), Objects::new());
    let (mut backups, mut restored) = (0, 0);
    for round in 0..rounds {
        let process = Process::start(directory.path());
        let id = rustix::process::Pid::from_raw(process.child.id() as i32).unwrap();
        let killer = std::thread::spawn(move || {
            // At any moment of what follows, another one each round.
            let wait =
                round.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407) >> 48;
            std::thread::sleep(Duration::from_micros(2_000 + wait));
            rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
        });
        // Where the daemon was killed early, a client does not come in at all. Errors are the kill.
        let socket = process.socket.clone();
        let other = std::thread::spawn(move || {
            let mut transferred = Transferred::default();
            if let Ok(mut client) = Client::open(&socket) {
                let _ = transferred.transfer(&mut client);
            }
            transferred
        });
        if let Ok(mut client) = Client::open(&process.socket) {
            while expected.step(&mut client, &mut objects).is_ok() {}
        }
        let transferred = other.join().unwrap();
        killer.join().unwrap();
        drop(process);
        objects = check(directory.path(), &mut expected, &transferred);
        backups += usize::from(transferred.backup.is_some());
        restored += usize::from(transferred.restored);
    }
    let acknowledged = &expected.acknowledged;
    eprintln!(
        "{rounds} kills; acknowledged: {acknowledged:?}, {backups} backups, {restored} of them restored"
    );
    assert!(acknowledged.values().sum::<usize>() >= rounds as usize / 4, "too slow: {acknowledged:?}");
    assert!(backups > 0, "no backup was read to its end");
}

/// Starts the daemon once more and looks at what is there.
fn check(directory: &Path, expected: &mut Expected, transferred: &Transferred) -> Objects {
    let process = Process::start(directory);
    let mut client = process.client();
    let objects = expected.compare(&mut client);
    let response::Result::Partitions(list) = client.call(Op::ListPartitions(ListPartitions {})).unwrap()
    else {
        panic!()
    };
    assert!(list.partitions.iter().all(|partition| partition.damaged.is_empty()), "{list:?}");
    let copy = list.partitions.iter().find(|partition| partition.label == COPY);
    assert!(copy.is_some() || !transferred.restored, "a restore was acknowledged");
    assert!(copy.is_none() || transferred.begun, "nobody restored anything");
    assert!(list.partitions.iter().all(|p| p.number == TLS || p.label == COPY), "{list:?}");
    if let Some(copy) = copy {
        client.partition = copy.number;
        found(&mut client);
        client.call(Op::DeletePartition(DeletePartition { label: COPY.into() })).unwrap();
    }
    if transferred.backup.is_some() {
        // What was read to its end can be restored by the daemon that came after.
        transferred.restore(&mut client, true).unwrap();
    }
    process.kill();
    objects
}

#[test]
fn nothing_acknowledged_is_lost_at_20_moments() {
    killed(20);
}

#[test]
#[ignore = "takes minutes: 2,000 starts"]
fn nothing_acknowledged_is_lost_at_1000_moments() {
    killed(1_000);
}
