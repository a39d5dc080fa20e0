//! Nodes leave a cluster, or are expelled from it: with three real members of etcd.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

mod members;
mod stores;

use std::fs;
use std::path::Path;

use members::contents::{add, has, identity, make_key, signs};
use members::nodes::{Nodes, start};
use members::{Members, until};
use stores::everything;
use strongroom_hsm::memory::SecretBytes;
use strongroom_hsm::partition::Settings;
use strongroom_hsm::seal::SealingKey;
use strongroom_hsm::vault::Vault;
use strongroom_protocol::v1::*;

/// The name of a node in its cluster.
fn name_of(vault: &Vault) -> String {
    let key = vault.identity().unwrap().public_key().unwrap();
    let members = vault.members().unwrap();
    members.into_iter().find(|member| member.public_key == key).unwrap().name
}

/// The key of a node whose store has never been sealed otherwise than by a file.
fn node_key(directory: &Path) -> SealingKey {
    SealingKey::new(SecretBytes::from(fs::read(directory.join("node.key")).unwrap().as_slice())).unwrap()
}

fn is_empty(vault: &Vault) {
    assert_eq!(vault.cluster().unwrap(), None);
    assert!(vault.slots().is_empty());
    vault.check().unwrap();
}

#[test]
fn who_leaves_has_nothing_and_the_others_go_on_with_another_key() {
    let members = Members::start();
    let mut nodes = Nodes::start(&members, 3);
    make_key(&nodes.nodes[0], identity(1, 1), "web");
    let left = &nodes.nodes[2];
    until("the key is on every node", || nodes.nodes.iter().all(|node| signs(node, &identity(1, 1))));
    let names: Vec<_> = nodes.nodes.iter().map(|node| name_of(node)).collect();
    left.leave_cluster().unwrap();
    is_empty(left);
    assert_eq!(left.expelled(), None);
    assert_eq!(left.partition(1).unwrap_err().code, ErrorCode::NoSuchPartition);
    assert_eq!(left.leave_cluster().unwrap_err().code, ErrorCode::NotAMember);
    assert!(!nodes.directory(2).join("cluster.mark").exists());
    // The others hear of it, and go on: what was loaded is the same, and a log-in would be.
    add(&nodes.nodes[0], identity(2, 1)).unwrap();
    add(&nodes.nodes[1], identity(2, 2)).unwrap();
    for node in &nodes.nodes[..2] {
        until("all that was made is on every node", || {
            let partition = node.partition(1).unwrap();
            has(&partition, &identity(2, 1)) && has(&partition, &identity(2, 2))
        });
        assert!(signs(node, &identity(1, 1)));
        let found: Vec<_> = node.members().unwrap().into_iter().map(|member| member.name).collect();
        assert_eq!(found, names[..2]);
        node.check().unwrap();
    }
    // Also when they start again, one after the other and both.
    for number in [0, 1] {
        nodes.restart(number, &members);
        assert!(signs(&nodes.nodes[number], &identity(1, 1)));
    }
    assert_eq!(everything(&nodes.nodes[0]).unwrap(), everything(&nodes.nodes[1]).unwrap());
    // Alone, it makes partitions of its own; empty again, it may join.
    let alone = nodes.nodes[2].create("own", Vec::new(), Settings::default()).unwrap().number();
    nodes.restart(2, &members);
    nodes.nodes[2].delete(&nodes.nodes[2].partition(alone).unwrap(), |_| Ok(())).unwrap();
    nodes.join(2);
    assert!(signs(&nodes.nodes[2], &identity(1, 1)));
    // One after the other goes; the last cannot.
    nodes.nodes[0].leave_cluster().unwrap();
    until("the one that stays has heard of it", || nodes.nodes[1].members().unwrap().len() == 2);
    nodes.nodes[2].leave_cluster().unwrap();
    let last = nodes.nodes[1].leave_cluster().unwrap_err();
    assert_eq!(last.code, ErrorCode::LastMember);
    assert!(last.message.contains("backup"), "{last}");
    assert!(signs(&nodes.nodes[1], &identity(1, 1)));
    add(&nodes.nodes[1], identity(2, 3)).unwrap();
}

#[test]
fn who_is_expelled_while_it_runs_or_is_away_finds_out_and_signs_nothing_more() {
    let members = Members::start();
    let mut nodes = Nodes::start(&members, 4);
    make_key(&nodes.nodes[0], identity(1, 1), "web");
    until("the key is on every node", || nodes.nodes.iter().all(|node| signs(node, &identity(1, 1))));
    let names: Vec<_> = nodes.nodes.iter().map(|node| name_of(node)).collect();
    let cluster = nodes.nodes[0].cluster().unwrap().unwrap();
    assert_eq!(nodes.nodes[0].expel("0123456789abcdef").unwrap_err().code, ErrorCode::NoSuchObject);
    assert_eq!(nodes.nodes[0].expel(&names[0]).unwrap_err().code, ErrorCode::AttributeWrong);
    // The last is away, and so is one that stays.
    let away = nodes.nodes.pop().unwrap();
    drop(away);
    let stays = nodes.nodes.pop().unwrap();
    drop(stays);
    add(&nodes.nodes[0], identity(2, 1)).unwrap();
    nodes.nodes[0].expel(&names[3]).unwrap();
    until("who stays has heard of it", || nodes.nodes[1].members().unwrap().len() == 3);
    nodes.nodes[0].expel(&names[1]).unwrap();
    let is_out = |node: &Vault| {
        node.partition(1).is_err_and(|failure| failure.code == ErrorCode::NotAMember)
            && node.expelled().is_some_and(|expelled| expelled.cluster == cluster && expelled.by == names[0])
    };
    until("who runs has heard of it", || is_out(&nodes.nodes[1]));
    is_empty(&nodes.nodes[1]);
    add(&nodes.nodes[0], identity(2, 2)).unwrap();
    // Who was away comes back, over two changes of the key.
    for number in [2, 3] {
        nodes.nodes.push(start(&nodes.directory(number), &members));
    }
    assert!(
        signs(&nodes.nodes[2], &identity(1, 1))
            && has(&nodes.nodes[2].partition(1).unwrap(), &identity(2, 2))
    );
    add(&nodes.nodes[2], identity(2, 3)).unwrap();
    assert!(is_out(&nodes.nodes[3]), "{:?}", nodes.nodes[3].partition(1));
    is_empty(&nodes.nodes[3]);
    let why = nodes.nodes[3].partition(1).unwrap_err().message;
    assert!(why.contains("expelled") && why.contains(&cluster), "{why}");
    // It says so until it joins again.
    nodes.restart(3, &members);
    assert!(is_out(&nodes.nodes[3]));
    assert_eq!(nodes.nodes[3].leave_cluster().unwrap_err().code, ErrorCode::NotAMember);
    nodes.join(3);
    assert!(signs(&nodes.nodes[3], &identity(1, 1)) && nodes.nodes[3].expelled().is_none());
    nodes.restart(0, &members);
    nodes.restart(2, &members);
    for number in [0, 2, 3] {
        until("all that was made is on every node", || {
            has(&nodes.nodes[number].partition(1).unwrap(), &identity(2, 3))
        });
        assert_eq!(nodes.nodes[number].members().unwrap().len(), 3);
        nodes.nodes[number].check().unwrap();
    }
}

/// What a node's own store has of its cluster's key, opened with the node's key: somebody took the disk.
#[test]
fn what_was_known_before_opens_nothing_that_is_written_afterwards() {
    let members = Members::start();
    let mut nodes = Nodes::start(&members, 2);
    make_key(&nodes.nodes[0], identity(1, 1), "web");
    let gone = name_of(&nodes.nodes[1]);
    // The disk of the node that is expelled, and all that etcd has then.
    drop(nodes.nodes.pop());
    let disk = nodes.folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    for file in fs::read_dir(nodes.directory(1)).unwrap() {
        let file = file.unwrap().path();
        if file.is_file() {
            fs::copy(&file, disk.join(file.file_name().unwrap())).unwrap();
        }
    }
    let mut administrator = members.administrator();
    let before = administrator.all();
    nodes.nodes[0].expel(&gone).unwrap();
    make_key(&nodes.nodes[0], identity(1, 2), "made since");
    let after = administrator.all();
    let cluster = nodes.nodes[0].cluster().unwrap().unwrap();
    let prefix = format!("/strongroom/{cluster}/");
    let records = |all: &[(Vec<u8>, Vec<u8>)]| -> std::collections::BTreeMap<String, Vec<u8>> {
        let name = |key: &[u8]| String::from_utf8_lossy(key).strip_prefix(&prefix).map(str::to_owned);
        all.iter().filter_map(|(key, value)| Some((name(key)?, value.clone()))).collect()
    };
    let (before, after) = (records(&before), records(&after));
    // The keys that whoever has the disk gets out of it: the cluster's of that time, and the partition's.
    let own = strongroom_hsm::store::RedbStore::open(&disk.join("store.redb")).unwrap();
    let mut sealed = None;
    strongroom_hsm::store::Store::scan(&own, &mut |name, record| {
        if name == "cluster" {
            sealed = Some(record.to_vec());
        }
    })
    .unwrap();
    let (_, plain) = node_key(&disk).open("cluster", &sealed.unwrap()).unwrap();
    let old = SealingKey::new(SecretBytes::from(&plain[plain.len() - 32..])).unwrap();
    let name = "partition/00000001/key";
    let (_, of_partition) = old.open(name, &before[name]).unwrap();
    let of_partition = SealingKey::new(SecretBytes::from(&of_partition[..32])).unwrap();
    assert!(
        before
            .iter()
            .any(|(name, record)| name.contains("/object/") && of_partition.open(name, record).is_ok())
    );
    // None of them opens what was written since.
    for (name, record) in &after {
        if before.get(name) == Some(record) {
            continue;
        }
        let opens = |key: &SealingKey| key.open(name, record).is_ok();
        if name.starts_with("hand-over/") {
            // It says who stays, and has no key that could be read.
            assert!(opens(&old));
            continue;
        }
        assert!(!opens(&old) && !opens(&of_partition), "{name}");
    }
    assert!(signs(&nodes.nodes[0], &identity(1, 1)) && signs(&nodes.nodes[0], &identity(1, 2)));
    nodes.restart(0, &members);
    assert!(signs(&nodes.nodes[0], &identity(1, 1)) && signs(&nodes.nodes[0], &identity(1, 2)));
}
