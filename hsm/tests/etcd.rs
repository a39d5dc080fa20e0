//! Nodes that share a store in etcd: three real members, of which some die, hang, or have a hostile administrator.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

mod members;
mod stores;

use std::sync::Arc;
use std::time::Duration;

use members::contents::{add, has, identity, make_key, signs};
use members::{Members, until};
use rustix::process::Signal;
use stores::{everything, node_key};
use strongroom_hsm::object::Search;
use strongroom_hsm::partition::Settings;
use strongroom_hsm::users::{PasswordHash, User};
use strongroom_hsm::vault::Vault;
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

#[test]
fn a_log_in_on_one_node_is_one_on_every_node_until_the_password_changes() {
    let members = Members::start();
    let nodes = cluster(&members, 3);
    let partition = |node: usize| nodes[node].partition(1).unwrap();
    let with_password = |epoch| {
        let hash = PasswordHash::new("correct horse").unwrap();
        User::new("web", Role::CryptoUser, Some(hash), Vec::new(), epoch)
    };
    let holds = |node: usize, ticket: &[u8]| {
        let partition = partition(node);
        let contents = partition.contents();
        let known = partition.tickets().redeem(ticket, &contents.users);
        known.is_some_and(|(login, user)| login.is_valid_for(user) && user.name == "web")
    };
    let web = partition(0).change(|change| change.put_user(with_password(change.revision()))).unwrap();
    let (ticket, _) = partition(0).tickets().issue(&web);
    for node in 0..3 {
        // As soon as the user is known there.
        until("the ticket holds", || holds(node, &ticket));
    }
    // The same password again is another one.
    partition(1).change(|change| change.put_user(with_password(change.revision()))).unwrap();
    assert!(!holds(1, &ticket));
    for node in 0..3 {
        until("the ticket is worth nothing", || !holds(node, &ticket));
    }
}

#[test]
fn a_log_out_on_one_node_is_one_on_every_node_and_after_a_start() {
    let members = Members::start();
    let nodes = cluster(&members, 2);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let partition = |node: &Arc<Vault>| node.partition(1).unwrap();
    let hash = PasswordHash::new("correct horse").unwrap();
    let user = |epoch| User::new("web", Role::CryptoUser, Some(hash.clone()), Vec::new(), epoch);
    let web = partition(&nodes[0]).change(|change| change.put_user(user(change.revision()))).unwrap();
    until("the user is on every node", || partition(&nodes[1]).contents().users.get("web").is_some());
    let redeem = |node: &Arc<Vault>, ticket: &[u8]| {
        let partition = partition(node);
        let contents = partition.contents();
        partition.tickets().redeem(ticket, &contents.users).map(|(login, _)| login)
    };
    let logins: Vec<_> = (0..200).map(|_| partition(&nodes[0]).tickets().issue(&web)).collect();
    let (stays, _) = partition(&nodes[0]).tickets().issue(&web);
    // A connection of the other node.
    let (ticket, _) = &logins[0];
    let there = redeem(&nodes[1], ticket).unwrap();
    assert!(there.is_valid_for(&web));
    let epoch = members.administrator().all().len();
    runtime.block_on(async {
        let ends: Vec<_> = logins
            .iter()
            .map(|(_, login)| {
                let (partition, login) = (partition(&nodes[0]), Arc::clone(login));
                tokio::spawn(async move { partition.log_out(&login).await.unwrap() })
            })
            .collect();
        for end in ends {
            end.await.unwrap();
        }
    });
    assert_eq!(members.administrator().all().len(), epoch + 200);
    until("the other node has heard of it", || !there.is_valid_for(&web));
    let late = node(&members);
    for node in [&nodes[0], &nodes[1], &late] {
        for (ticket, _) in &logins {
            until("a ticket is worth nothing", || redeem(node, ticket).is_none());
        }
        assert!(redeem(node, &stays).is_some() && node.ready().is_ok());
        node.check().unwrap();
    }
    // A change goes on beside them, and what etcd's administrator makes of them harms nobody.
    add(&nodes[1], identity(1, 1)).unwrap();
    let mut administrator = members.administrator();
    let is_log_out = |key: &[u8]| String::from_utf8_lossy(key).contains("/log-out/");
    let all: Vec<_> = administrator.all().into_iter().filter(|(key, _)| is_log_out(key)).collect();
    administrator.put(&all[0].0, b"x");
    administrator.put(&all[1].0, &all[2].1);
    administrator.delete(&all[3].0);
    add(&nodes[0], identity(1, 2)).unwrap();
    until("a change", || has(&partition(&nodes[1]), &identity(1, 2)));
    assert!(nodes.iter().all(|node| node.ready().is_ok()));
    assert!(node(&members).ready().is_ok());
    // Without a majority it is one here only, and says so.
    let impatient = Vault::join(node_key(), members.impatient_store(), &members.new_mark(), LEASE).unwrap();
    let (_, login) = partition(&impatient).tickets().issue(&web);
    members.signal(0, Signal::STOP);
    members.signal(1, Signal::STOP);
    let refused = runtime.block_on(partition(&impatient).log_out(&login)).unwrap_err();
    assert!(refused.message.contains("on this node"), "{refused}");
    assert!(!login.is_valid_for(&web));
    members.signal(0, Signal::CONT);
    members.signal(1, Signal::CONT);
}
