//! What nodes that share a store in etcd do when etcd, or a disk, is not what it has to be: three real members.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

mod members;
mod stores;

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use members::contents::{add, has, identity, info, make_key, signs};
use members::{Members, SOON, until};
use rustix::process::Signal;
use stores::{everything, node_key};
use strongroom_hsm::audit::{Audit, Options};
use strongroom_hsm::life::{self, Clocks};
use strongroom_hsm::partition::Settings;
use strongroom_hsm::users::User;
use strongroom_hsm::vault::{Unlock, Vault};
use strongroom_protocol::v1::*;

const LEASE: Duration = Duration::from_secs(3600);

/// An empty cluster with the partition 1 "tls", and its first node.
fn first_node(members: &Members) -> Arc<Vault> {
    first_node_with(members, &Clocks::System)
}

fn first_node_with(members: &Members, clocks: &Clocks) -> Arc<Vault> {
    Vault::initialise(&node_key(), Arc::new(members.store())).unwrap();
    let node = node(members);
    node.use_clocks(clocks);
    let admin = User::new("admin", Role::CryptoOfficer, None, Vec::new(), 0);
    node.create("tls", vec![admin], Settings::default()).unwrap();
    node
}

fn node(members: &Members) -> Arc<Vault> {
    Vault::join(node_key(), members.store(), &members.new_mark(), LEASE).unwrap()
}

/// Makes it impossible to write a mark, as on a full disk; the answer is what has to be removed to end that.
fn block(mark: &std::path::Path) -> PathBuf {
    let in_the_way = mark.with_extension("new");
    fs::create_dir(&in_the_way).unwrap();
    in_the_way
}

#[test]
fn who_missed_too_much_changes_nothing_of_what_it_has_not_read() {
    let members = Members::start();
    let first = first_node(&members);
    for number in 0..100 {
        add(&first, identity(1, number)).unwrap();
    }
    let (way, store) = members.store_by_a_way();
    let mark = members.new_mark();
    let away = Vault::join(node_key(), store, &mark, LEASE).unwrap();
    for round in 0..3 {
        way.cut();
        for number in 0..30 {
            add(&first, identity(10 + round, number)).unwrap();
        }
        members.compact();
        let made = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for of in 0..4 {
                let (away, made) = (&away, &made);
                scope.spawn(move || {
                    // It waits for etcd, and for what others have changed.
                    let object = identity(20 + round, of);
                    until("a change is made", || add(away, object.clone()).is_ok());
                    made.lock().unwrap().push(object);
                });
            }
            // Whoever waits has begun.
            thread::sleep(Duration::from_millis(200));
            way.mend();
        });
        let made = made.into_inner().unwrap();
        until("what both made is at the first", || {
            made.iter().all(|object| has(&first.partition(1).unwrap(), object))
        });
        until("and at the other", || {
            (0..30).all(|number| has(&away.partition(1).unwrap(), &identity(10 + round, number)))
        });
    }
    assert_eq!(everything(&first).unwrap(), everything(&away).unwrap());
    assert_eq!(everything(&node(&members)).unwrap(), everything(&away).unwrap());
    first.check().unwrap();
    away.check().unwrap();
}

#[test]
fn a_full_disk_is_no_tampering_and_nothing_is_changed_that_is_not_noted() {
    let members = Members::start();
    let first = first_node(&members);
    make_key(&first, identity(1, 1), "web");
    let (way, store) = members.store_by_a_way();
    let mark = members.new_mark();
    let node = Vault::join(node_key(), store, &mark, LEASE).unwrap();
    let in_the_way = block(&mark);
    let before = members.administrator().revision();
    let partition = node.partition(1).unwrap();
    let refused =
        partition.change(|change| change.add_object(info(identity(2, 1), "x"), None, None)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Store);
    assert!(
        refused.message.contains("seen last") && refused.message.contains("nothing was changed"),
        "{refused}"
    );
    assert!(!has(&node.partition(1).unwrap(), &identity(2, 1)));
    // What others change comes in.
    add(&first, identity(2, 2)).unwrap();
    until("a change is heard of", || has(&node.partition(1).unwrap(), &identity(2, 2)));
    // Also what has to be read anew: as soon as there is room.
    way.cut();
    add(&first, identity(2, 3)).unwrap();
    members.compact();
    way.mend();
    // It has tried.
    thread::sleep(Duration::from_secs(2));
    assert!(signs(&node, &identity(1, 1)), "keys are used meanwhile");
    assert_eq!(node.node_state(), NodeState::Open);
    fs::remove_dir(&in_the_way).unwrap();
    until("what was missed is read", || has(&node.partition(1).unwrap(), &identity(2, 3)));
    until("changes are made again", || add(&node, identity(2, 4)).is_ok());
    assert!(members.administrator().revision() > before);
    // A start says what is wrong, and does not say that it was tampered with.
    drop((node, partition));
    let in_the_way = block(&mark);
    let error = Vault::join(node_key(), members.store(), &mark, LEASE).unwrap_err().to_string();
    assert!(error.contains("cannot be read or written"), "{error}");
    fs::remove_dir(&in_the_way).unwrap();
    Vault::join(node_key(), members.store(), &mark, LEASE).unwrap();
}

#[test]
fn a_node_that_is_cut_off_refuses_changes_at_once_and_can_be_sealed() {
    let members = Members::start();
    make_key(&first_node(&members), identity(1, 1), "web");
    let join =
        |lease| Vault::join(node_key(), members.impatient_store(), &members.new_mark(), lease).unwrap();
    let (node, cut_off) = (join(LEASE), join(Duration::ZERO));
    members.signal(0, Signal::STOP);
    members.signal(1, Signal::STOP);
    until("a lease of nothing is over", || cut_off.ready().is_err());
    let change = || node.partition(1).unwrap().change(|_| Ok(())).unwrap_err();
    until("it is known that nobody answers", || change().message.contains("known to be so"));
    let refused = change();
    assert_eq!(refused.code, ErrorCode::NoQuorum, "{refused}");
    assert!(refused.message.contains("nothing was changed"), "{refused}");
    assert!(signs(&node, &identity(1, 1)));
    // Sealing needs nobody.
    assert_eq!(cut_off.ready().unwrap_err().code, ErrorCode::NoQuorum);
    cut_off.seal().unwrap();
    assert_eq!(cut_off.node_state(), NodeState::Sealed);
    assert_eq!(cut_off.ready().unwrap_err().code, ErrorCode::Sealed);
    members.signal(0, Signal::CONT);
    members.signal(1, Signal::CONT);
    until("changes are made again", || node.partition(1).unwrap().change(|_| Ok(())).is_ok());
}

#[test]
fn what_is_due_together_goes_in_pieces_that_etcd_takes() {
    const MANY: u8 = 250;
    let members = Members::start();
    let hands = Arc::new(Mutex::new((1_800_000_000, 100)));
    let node = first_node_with(&members, &Clocks::Set(Arc::clone(&hands)));
    let partition = node.partition(1).unwrap();
    for number in 0..MANY {
        add(&node, identity(1, number)).unwrap();
    }
    let all: Vec<_> = (0..MANY).map(|number| identity(1, number)).collect();
    for some in all.chunks(100) {
        partition
            .change(|change| {
                for id in some {
                    let object = Arc::clone(change.before().objects.get(id).unwrap());
                    change.soft_delete(&object)?;
                }
                Ok(())
            })
            .unwrap();
    }
    // A version is due at a time that no clock says.
    for number in 0..MANY {
        let wrong = ObjectInfo {
            rotation_due: u64::MAX / 2,
            rotate_every: 86_400,
            ..info(identity(2, number), "due")
        };
        partition.change(|change| change.add_object(wrong, None, None)).unwrap();
    }
    for _ in 0..3 {
        life::mend(&partition).unwrap();
    }
    assert!(partition.contents().objects.due(u64::MAX).all(|object| object.info.rotation_due < u64::MAX / 2));
    {
        let mut hands = hands.lock().unwrap();
        *hands = (hands.0 + 91 * 86_400, hands.1 + 91 * 86_400);
    }
    let folder = tempfile::tempdir().unwrap();
    let audit = Audit::start(folder.path(), &Options::default(), [7; 16]).unwrap();
    audit.watch(&node);
    life::purge_due(&partition, &audit).unwrap();
    assert!(partition.contents().deleted.is_empty());
    let left = members.administrator().all();
    let objects = left.iter().filter(|(key, _)| String::from_utf8_lossy(key).contains("/object/")).count();
    assert_eq!(objects, usize::from(MANY));
    node.check().unwrap();
}

#[test]
fn everything_put_back_in_one_moment_is_found_out() {
    let members = Members::start();
    let node = first_node(&members);
    add(&node, identity(1, 1)).unwrap();
    let mut administrator = members.administrator();
    let earlier = administrator.all();
    add(&node, identity(1, 2)).unwrap();
    administrator.put_back(&earlier);
    until("it is found out", || node.node_state() == NodeState::Tampered);
    assert!(node.partition(1).is_err());
}

#[test]
fn what_was_found_counts_after_a_restart_whatever_was_put_right_meanwhile() {
    let members = Members::start();
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let mut started = None;
        until("the store is let go of", || {
            started = Vault::start(folder.path(), None, Some(members.cluster(SOON))).ok();
            started.is_some()
        });
        let vault = Arc::new(started.unwrap());
        vault.keep_up().unwrap();
        vault
    };
    let vault = start();
    let admin = User::new("admin", Role::CryptoOfficer, None, Vec::new(), 0);
    vault.create("tls", vec![admin], Settings::default()).unwrap();
    vault.found_cluster().unwrap();
    add(&vault, identity(1, 1)).unwrap();
    let mut administrator = members.administrator();
    let all = administrator.all();
    let (header, value) = all.iter().find(|(key, _)| key.ends_with(b"/header")).unwrap();
    administrator.put(header, b"edited");
    until("it is found", || vault.node_state() == NodeState::Tampered);
    administrator.put(header, value);
    drop(vault);
    let vault = start();
    assert_eq!(vault.node_state(), NodeState::Tampered);
    assert!(vault.tampering().unwrap().findings[0].what.contains("header"));
    // Until the owner decides.
    vault.clear_tampering(Unlock::default(), Vec::new(), Vec::new()).unwrap();
    assert!(has(&vault.partition(1).unwrap(), &identity(1, 1)));
    drop(vault);
    assert_eq!(start().node_state(), NodeState::Open);
}
