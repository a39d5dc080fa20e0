//! One machine's partitions become a cluster's, and other nodes join: with three real members of etcd.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

mod members;
mod stores;

use std::slice::from_ref;
use std::sync::Arc;
use std::time::Duration;

use members::contents::{add, has, identity, info, make_key, signs};
use members::nodes::{self, owner, signed};
use members::{Members, SOON, until};
use rustix::process::Signal;
use stores::everything;
use strongroom_hsm::crypto::KeyKind;
use strongroom_hsm::crypto::aws_lc::PrivateKey;
use strongroom_hsm::partition::Settings;
use strongroom_hsm::users::User;
use strongroom_hsm::vault::{Unlock, Vault};
use strongroom_protocol::v1::*;

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
fn a_node_that_the_owner_agrees_to_joins_and_no_other() {
    let members = Members::start();
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (owner, stranger) = (owner(at, "owner"), owner(at, "stranger"));
    let start = |name: &str| nodes::start(&at.join(name), &members);
    let (first, second, third) = (start("first"), start("second"), start("third"));
    let admin = User::new("admin", Role::CryptoOfficer, None, Vec::new(), 0);
    let settings = Settings { owner: Some(Arc::new(owner.clone())), ..Settings::default() };
    let partition = first.create("tls", vec![admin], settings).unwrap();
    make_key(&first, identity(1, 1), "web");
    let own = signed(at, "owner", &first);
    let certificate = signed(at, "owner", &second);
    assert_eq!(first.admit(from_ref(&certificate)).unwrap_err().code, ErrorCode::Unsupported);
    first.found_cluster().unwrap();
    drop(partition);

    // Who admits has to be known to the new node, and the new node to the owner.
    assert_eq!(first.admit(from_ref(&certificate)).unwrap_err().code, ErrorCode::CertificateWrong);
    first.set_node_certificate(&first.partition(1).unwrap(), |_| Ok(()), own.der().to_vec()).unwrap();
    let by_stranger = signed(at, "stranger", &second);
    assert_eq!(first.admit(&[by_stranger]).unwrap_err().code, ErrorCode::CertificateWrong);
    let not_admitted = second.join_cluster(from_ref(&owner)).unwrap_err();
    assert_eq!(not_admitted.code, ErrorCode::NoSuchObject, "{not_admitted}");
    let name = first.admit(&[certificate]).unwrap();
    assert_eq!(second.join_cluster(&[stranger]).unwrap_err().code, ErrorCode::CertificateWrong);
    // What was written for one node is of no use to another, and shows when it was changed.
    let mut administrator = members.administrator();
    let key = format!("/strongroom/join/{name}").into_bytes();
    let invitation = administrator.all().into_iter().find(|(found, _)| *found == key).unwrap().1;
    for at in [10, invitation.len() / 2, invitation.len() - 1] {
        let mut changed = invitation.clone();
        changed[at] ^= 1;
        administrator.put(&key, &changed);
        assert!(second.join_cluster(from_ref(&owner)).is_err(), "byte {at}");
    }
    let third_name = first.admit(&[signed(at, "owner", &third)]).unwrap();
    administrator.put(format!("/strongroom/join/{third_name}").as_bytes(), &invitation);
    assert_eq!(third.join_cluster(from_ref(&owner)).unwrap_err().code, ErrorCode::CertificateWrong);
    administrator.put(&key, &invitation);
    let cluster = second.join_cluster(from_ref(&owner)).unwrap();
    assert_eq!(Some(cluster), first.cluster().unwrap());
    assert_eq!(second.join_cluster(from_ref(&owner)).unwrap_err().code, ErrorCode::Exists);
    first.admit(&[signed(at, "owner", &third)]).unwrap();
    third.join_cluster(&[owner]).unwrap();

    let nodes = [first, second, third];
    make_key(&nodes[1], identity(2, 1), "made at the second");
    for node in &nodes {
        until("a key is on every node", || signs(node, &identity(2, 1)));
        assert!(signs(node, &identity(1, 1)));
        assert_eq!(everything(node).unwrap(), everything(&nodes[0]).unwrap());
        assert_eq!(node.members().unwrap().len(), 3);
        node.check().unwrap();
    }
}
