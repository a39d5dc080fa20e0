//! Nodes that share a store in etcd: three real members, of which some die, hang, or have a hostile administrator.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

mod members;
mod stores;

use std::sync::Arc;
use std::time::Duration;

use members::{Members, SOON, until};
use rustix::process::Signal;
use stores::{everything, node_key};
use strongroom_hsm::crypto::aws_lc::PrivateKey;
use strongroom_hsm::crypto::{KeyKind, Mechanism};
use strongroom_hsm::object::{Key, Search};
use strongroom_hsm::partition::{Partition, Settings};
use strongroom_hsm::users::User;
use strongroom_hsm::vault::{Unlock, Vault};
use strongroom_protocol::v1::*;

const LEASE: Duration = Duration::from_secs(3600);

/// An empty cluster's records.
fn initialise(members: &Members) {
    let store = members.store();
    assert!(store.is_empty().unwrap());
    Vault::initialise(&node_key(), Arc::new(store)).unwrap();
}

/// A node with a disk of its own, on which nothing is yet.
fn node(members: &Members) -> Arc<Vault> {
    Vault::join(node_key(), members.store(), &members.new_mark(), LEASE).unwrap()
}

/// A cluster with the partition 1 "tls", on so many nodes.
fn cluster(members: &Members, nodes: usize) -> Vec<Arc<Vault>> {
    initialise(members);
    let nodes: Vec<_> = (0..nodes).map(|_| node(members)).collect();
    let admin = User::new("admin", Role::CryptoOfficer, None, Vec::new(), 0);
    nodes[0].create("tls", vec![admin], Settings::default()).unwrap();
    for node in &nodes {
        until("the partition is on every node", || node.partition(1).is_ok());
    }
    nodes
}

fn identity(of: u8, number: u8) -> Vec<u8> {
    let mut object = vec![of; 16];
    object[15] = number;
    object
}

fn info(object: Vec<u8>, label: &str) -> ObjectInfo {
    ObjectInfo { object, class: ObjectClass::Data.into(), label: label.into(), ..ObjectInfo::default() }
}

fn add(vault: &Vault, object: Vec<u8>) -> Result<(), ErrorCode> {
    let partition = vault.partition(1).map_err(|failure| failure.code)?;
    let added = partition.change(|change| change.add_object(info(object, "an object"), None, None));
    added.map(drop).map_err(|failure| failure.code)
}

/// Makes a P-256 key.
fn make_key(vault: &Vault, object: Vec<u8>, label: &str) {
    let key = Key::Private(Arc::new(PrivateKey::generate(KeyKind::P256).unwrap()));
    let info = ObjectInfo {
        class: ObjectClass::PrivateKey.into(),
        key_type: KeyType::P256.into(),
        ..info(object, label)
    };
    let partition = vault.partition(1).unwrap();
    partition.change(|change| change.add_object(info, Some(KeyKind::P256), Some(&key))).unwrap();
}

fn has(partition: &Partition, object: &[u8]) -> bool {
    partition.contents().objects.get(object).is_some()
}

fn signs(vault: &Vault, object: &[u8]) -> bool {
    let Ok(partition) = vault.partition(1) else { return false };
    let found = partition.contents().objects.get(object).map(Arc::clone);
    found.is_some_and(|object| {
        partition.private_key(&object).unwrap().sign(Mechanism::Ecdsa, &[7; 32]).is_ok()
    })
}

#[test]
fn whoever_was_told_of_a_change_finds_it_on_every_node_and_none_is_lost() {
    let members = Members::start();
    let nodes = cluster(&members, 3);
    make_key(&nodes[0], identity(9, 0), "web");
    for node in &nodes[1..] {
        // Who changes something knows all that was acknowledged before; the others hear of it.
        let partition = node.partition(1).unwrap();
        partition
            .change(|change| {
                assert!(change.before().objects.get(&identity(9, 0)).is_some());
                Ok(())
            })
            .unwrap();
        assert!(signs(node, &identity(9, 0)));
    }
    // All at the same time, each many.
    std::thread::scope(|scope| {
        for (of, node) in nodes.iter().enumerate() {
            scope.spawn(move || {
                for number in 0..12 {
                    add(node, identity(of as u8, number)).unwrap();
                }
            });
        }
    });
    let all: Vec<_> = (0..3).flat_map(|of| (0..12).map(move |number| identity(of, number))).collect();
    for node in &nodes {
        until("all objects are on every node", || {
            let partition = node.partition(1).unwrap();
            all.iter().all(|object| has(&partition, object))
        });
    }
    // What is taken away goes everywhere; a partition too.
    let partition = nodes[2].partition(1).unwrap();
    let gone = Arc::clone(partition.contents().objects.get(&all[0]).unwrap());
    partition
        .change(|change| {
            change.delete_object(&gone);
            change.put_user(User::new("web", Role::CryptoUser, None, vec![33], change.revision()))
        })
        .unwrap();
    until("a deletion is on every node", || {
        nodes.iter().all(|node| !has(&node.partition(1).unwrap(), &all[0]))
    });
    until("a user is on every node", || nodes.iter().all(|node| node.admits(33)));
    // A second partition, and what a node finds that comes now.
    nodes[1].create("second", Vec::new(), Settings::default()).unwrap();
    until("two partitions", || nodes.iter().all(|node| node.partition(2).is_ok()));
    let late = node(&members);
    for node in &nodes {
        assert_eq!(everything(node).unwrap(), everything(&late).unwrap());
        node.check().unwrap();
    }
    nodes[0].delete(&nodes[0].partition(1).unwrap(), |_| Ok(())).unwrap();
    until("one partition", || nodes.iter().all(|node| node.partition(1).is_err()));
    assert!(nodes.iter().all(|node| node.partition(2).is_ok() && node.ready().is_ok()));
    let left = members.administrator().all();
    assert!(
        left.iter().all(|(key, _)| !String::from_utf8_lossy(key).contains("partition/00000001")),
        "{left:?}"
    );
}

#[test]
fn a_member_that_dies_or_hangs_holds_nobody_up_for_long_and_loses_nothing() {
    let mut members = Members::start();
    let nodes = cluster(&members, 2);
    let mut made = Vec::new();
    for number in 0..3 {
        members.kill(number);
        for of in 0..4 {
            let object = identity(of, number as u8);
            if add(&nodes[usize::from(of % 2)], object.clone()).is_ok() {
                made.push(object);
            }
        }
        members.start_again(number);
        until("a member is back", || members.etcdctl(&["endpoint", "health"]).is_some());
    }
    for number in 0..3 {
        members.signal(number, Signal::STOP);
        let object = identity(7, number as u8);
        until("a change beside a member that hangs", || {
            add(&nodes[0], object.clone()) != Err(ErrorCode::NoQuorum)
        });
        members.signal(number, Signal::CONT);
        until("a member is back", || members.etcdctl(&["endpoint", "health"]).is_some());
    }
    assert!(made.len() >= 6, "with two of three members most changes are made");
    for node in &nodes {
        until("what was acknowledged is on every node", || {
            let partition = node.partition(1).unwrap();
            made.iter().all(|object| has(&partition, object))
        });
    }
    assert_eq!(everything(&node(&members)).unwrap(), everything(&nodes[0]).unwrap());
}

#[test]
fn without_a_majority_keys_are_used_for_the_lease_and_nothing_is_changed() {
    let members = Members::start();
    make_key(&cluster(&members, 1)[0], identity(1, 1), "web");
    let node =
        |lease| Vault::join(node_key(), members.impatient_store(), &members.new_mark(), lease).unwrap();
    let (goes_on, stops_at_once) = (node(LEASE), node(Duration::ZERO));
    assert!(signs(&goes_on, &identity(1, 1)) && signs(&stops_at_once, &identity(1, 1)));
    let before = everything(&goes_on).unwrap();
    members.signal(0, Signal::STOP);
    members.signal(1, Signal::STOP);
    let refused = goes_on.partition(1).unwrap().change(|_| Ok(())).unwrap_err();
    assert_eq!(refused.code, ErrorCode::NoQuorum, "{refused}");
    assert!(refused.message.contains("nothing was changed"), "{refused}");
    until("a lease of nothing is over", || !signs(&stops_at_once, &identity(1, 1)));
    let refused = stops_at_once.partition(1).unwrap_err();
    assert_eq!(refused.code, ErrorCode::NoQuorum);
    assert!(refused.message.contains("majority"), "{refused}");
    assert!(signs(&goes_on, &identity(1, 1)));
    assert_eq!(everything(&goes_on).unwrap(), before);
    members.signal(0, Signal::CONT);
    members.signal(1, Signal::CONT);
    until("keys are used again", || signs(&stops_at_once, &identity(1, 1)));
    until("changes are made again", || add(&stops_at_once, identity(1, 2)).is_ok());
    until("and are heard of", || has(&goes_on.partition(1).unwrap(), &identity(1, 2)));
}

#[test]
fn the_turn_of_a_node_that_died_ends_by_itself() {
    let members = Members::start();
    let nodes = cluster(&members, 1);
    let key = "/strongroom/00112233445566778899aabbccddeeff/turn/holder";
    members.administrator().put_for(key.as_bytes(), b"7", 2);
    add(&nodes[0], identity(1, 1)).unwrap();
}

#[test]
fn an_administrator_of_etcd_reads_nothing_and_puts_nothing_back_unnoticed() {
    let members = Members::start();
    let nodes = cluster(&members, 1);
    make_key(&nodes[0], identity(1, 1), "a label that is nobody's business");
    let mut administrator = members.administrator();
    let earlier = administrator.all();
    let contents: Vec<Vec<u8>> = earlier.iter().map(|(_, value)| value.clone()).collect();
    let all = contents.concat();
    assert!(!String::from_utf8_lossy(&all).contains("nobody's business"));
    let exported = everything(&nodes[0]).unwrap().into_iter().find(|(_, key)| !key.is_empty()).unwrap().1;
    assert!(!all.windows(16).any(|window| exported.windows(16).any(|secret| secret == window)));
    make_key(&nodes[0], identity(1, 2), "second");

    let record = |name: &str| format!("/strongroom/00112233445566778899aabbccddeeff/{name}").into_bytes();
    let value = |key: &[u8]| earlier.iter().find(|(found, _)| found == key).unwrap().1.clone();
    let object = earlier
        .iter()
        .map(|(key, _)| key)
        .find(|key| String::from_utf8_lossy(key).contains("/object/"))
        .unwrap();
    let is_tampered = |vault: &Vault| vault.node_state() == NodeState::Tampered;
    let last = administrator.all();
    type Deed<'a> = (&'a str, Box<dyn Fn(&mut members::Administrator) + 'a>);
    let deeds: Vec<Deed<'_>> = vec![
        ("an object that goes", Box::new(|etcd| etcd.delete(object))),
        ("a record that is edited", Box::new(|etcd| etcd.put(object, b"x"))),
        (
            "a header that is put back",
            Box::new(|etcd| {
                let key = record("partition/00000001/header");
                etcd.put(&key, &value(&key));
            }),
        ),
        (
            "a ledger that is put back",
            Box::new(|etcd| etcd.put(&record("ledger"), &value(&record("ledger")))),
        ),
        ("a ledger that goes", Box::new(|etcd| etcd.delete(&record("ledger")))),
        (
            "everything put back",
            Box::new(|etcd| earlier.iter().for_each(|(key, value)| etcd.put(key, value))),
        ),
    ];
    for (what, deed) in deeds {
        let running = node(&members);
        assert!(!is_tampered(&running));
        deed(&mut administrator);
        until(what, || is_tampered(&running));
        assert!(running.partition(1).is_err());
        // As if it had not been.
        for (key, _) in administrator.all() {
            administrator.delete(&key);
        }
        last.iter().for_each(|(key, value)| administrator.put(key, value));
    }
    // One that only looks at what was there keeps it so.
    let partition = node(&members).partition(1).unwrap();
    assert_eq!(partition.contents().objects.find(Search::default()).count(), 2);
}

#[test]
fn one_machines_partitions_move_to_a_cluster_and_no_key_is_lost() {
    let members = Members::start();
    let directory = tempfile::tempdir().unwrap();
    let start = |patience| {
        // A thread of the one before may have it for a moment.
        let mut started = None;
        until("the store is let go of", || {
            started = Vault::start(directory.path(), None, Some(members.cluster(patience))).ok();
            started.is_some()
        });
        let vault = Arc::new(started.unwrap());
        vault.keep_up().unwrap();
        vault
    };
    let vault = start(Duration::from_secs(5));
    for label in ["tls", "second"] {
        let admin = User::new("admin", Role::CryptoOfficer, None, Vec::new(), 0);
        vault.create(label, vec![admin], Settings::default()).unwrap();
    }
    make_key(&vault, identity(1, 1), "web");
    for number in 0..150 {
        add(&vault, identity(2, number)).unwrap();
    }
    let holder = || {
        let pair = PrivateKey::generate(KeyKind::Rsa2048).unwrap();
        pair.public_spki().unwrap()
    };
    vault.create_domain(&vault.partition(1).unwrap(), |_| Ok(()), &[holder(), holder()], 2).unwrap();
    let (audit_key, _) = vault.audit().unwrap();
    let audit_key = audit_key.public().to_spki();
    let node = vault.identity().unwrap().public_key().unwrap();
    let before = everything(&vault).unwrap();
    let is_as_before = |vault: &Vault| {
        assert_eq!(everything(vault).unwrap(), before);
        assert!(signs(vault, &identity(1, 1)));
        assert_eq!(vault.domain(&vault.partition(1).unwrap()).unwrap().needed, 2);
        assert_eq!(vault.identity().unwrap().public_key().unwrap(), node);
        vault.check().unwrap();
    };
    // Asked once when the node was opened, as the audit log does.
    let is_same_log = |vault: &Vault| assert_eq!(vault.audit().unwrap().0.public().to_spki(), audit_key);

    // Without a majority nothing moves.
    members.signal(0, Signal::STOP);
    members.signal(1, Signal::STOP);
    assert_eq!(vault.found_cluster().unwrap_err().code, ErrorCode::Store);
    members.signal(0, Signal::CONT);
    members.signal(1, Signal::CONT);
    is_as_before(&vault);
    assert_eq!(vault.cluster().unwrap(), None);
    drop(vault);
    let vault = start(SOON);
    is_as_before(&vault);
    // Nor if it ends half way: this one etcd does not take.
    let large = identity(9, 9);
    let partition = vault.partition(1).unwrap();
    let long = "x".repeat(2 << 20);
    partition.change(|change| change.add_object(info(large.clone(), &long), None, None)).unwrap();
    let attempt = || vault.found_cluster().unwrap_err().message;
    until("etcd refuses it", || {
        let why = attempt();
        assert!(why.contains("etcd"), "{why}");
        !members.administrator().all().is_empty()
    });
    attempt();
    assert!(signs(&vault, &identity(1, 1)) && has(&vault.partition(1).unwrap(), &large));
    let large = Arc::clone(partition.contents().objects.get(&large).unwrap());
    partition
        .change(|change| {
            change.delete_object(&large);
            Ok(())
        })
        .unwrap();
    drop((vault, partition));
    let vault = start(SOON);
    is_as_before(&vault);

    let cluster = vault.found_cluster().unwrap();
    assert_eq!(vault.cluster().unwrap(), Some(cluster.clone()));
    is_as_before(&vault);
    is_same_log(&vault);
    assert_eq!(vault.found_cluster().unwrap_err().code, ErrorCode::Exists);
    // Of the attempts nothing is left, and etcd has nothing that it could read.
    let all = members.administrator().all();
    let prefix = format!("/strongroom/{cluster}/");
    assert!(all.iter().all(|(key, _)| key.starts_with(prefix.as_bytes())), "{all:?}");
    let exported = &before.iter().find(|(_, key)| !key.is_empty()).unwrap().1;
    let values: Vec<u8> = all.into_iter().flat_map(|(_, value)| value).collect();
    assert!(!values.windows(16).any(|window| exported.windows(16).any(|secret| secret == window)));
    // It goes on there; and after a restart, and when it was sealed.
    add(&vault, identity(3, 1)).unwrap();
    drop(vault);
    until("it does not start without etcd", || {
        Vault::start(directory.path(), None, None).unwrap_err().to_string().contains("--etcd")
    });
    let vault = start(SOON);
    assert!(has(&vault.partition(1).unwrap(), &identity(3, 1)) && signs(&vault, &identity(1, 1)));
    vault.seal_with("correct horse battery", &[], 0).unwrap();
    vault.seal().unwrap();
    assert!(vault.partition(1).is_err());
    let passphrase = "correct horse battery".to_owned().into();
    vault.unseal(Unlock { passphrase, shares: Vec::new() }).unwrap();
    add(&vault, identity(3, 2)).unwrap();
    assert!(signs(&vault, &identity(1, 1)));
    is_same_log(&vault);
    // What is put back in etcd shows.
    let mut administrator = members.administrator();
    let header = format!("{prefix}partition/00000001/header").into_bytes();
    let earlier = administrator.all().into_iter().find(|(key, _)| *key == header).unwrap().1;
    add(&vault, identity(3, 3)).unwrap();
    administrator.put(&header, &earlier);
    until("tampering is seen", || vault.node_state() == NodeState::Tampered);
}

#[test]
fn a_node_that_was_away_finds_out_that_etcd_was_put_back() {
    let members = Members::start();
    drop(cluster(&members, 1));
    let mark = members.new_mark();
    let start = || Vault::join(node_key(), members.store(), &mark, LEASE);
    let away = start().unwrap();
    add(&away, identity(1, 1)).unwrap();
    let earlier = members.administrator().all();
    add(&away, identity(1, 2)).unwrap();
    drop(away);
    // Others have gone on meanwhile: that is as it has to be.
    let other = node(&members);
    (3..6).for_each(|number| add(&other, identity(1, number)).unwrap());
    drop(other);
    let back = start().unwrap();
    assert!(has(&back.partition(1).unwrap(), &identity(1, 5)));
    drop(back);

    let mut administrator = members.administrator();
    let put_back = |administrator: &mut members::Administrator| {
        for (key, _) in administrator.all() {
            administrator.delete(&key);
        }
        earlier.iter().for_each(|(key, value)| administrator.put(key, value));
    };
    put_back(&mut administrator);
    let error = start().unwrap_err().to_string();
    assert!(error.contains("earlier time"), "{error}");
    // A node without a memory goes on from there, further than it was before.
    let new = node(&members);
    (10..20).for_each(|number| add(&new, identity(2, number)).unwrap());
    drop(new);
    let error = start().unwrap_err().to_string();
    assert!(error.contains("another history"), "{error}");
}
