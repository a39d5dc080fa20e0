//! A damaged or manipulated store is refused, or every object in it is what it was.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod running;
mod stores;

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};

use running::{PASSWORD, Running};
use stores::{Numbers, Records, copy, everything, load, node_key};
use strongroom_hsm::object::Object;
use strongroom_hsm::partition::{Change, Settings};
use strongroom_hsm::store::Store;
use strongroom_hsm::users::{PasswordHash, User};
use strongroom_hsm::vault::{Unlock, Vault};
use strongroom_protocol::v1::*;

fn officer(password: PasswordHash) -> User {
    User::new("admin", Role::CryptoOfficer, Some(password), Vec::new(), 0)
}

#[test]
fn flipped_bits_and_cut_files_are_never_accepted_silently() {
    let running = Running::with_partition();
    let mut user = running.user();
    for key_type in [KeyType::P256, KeyType::Ed25519, KeyType::P384] {
        for number in 0..4 {
            user.generate(key_type, &format!("key {number}")).unwrap();
        }
    }
    drop(user);
    let directory = running.stop();
    let sound = directory.path().join("state");
    let expected = everything(&Vault::open(&sound, None).unwrap()).unwrap();
    assert_eq!(expected.len(), 2 + 24);

    let mut numbers = Numbers(42);
    let mut refused = 0;
    for round in 0..80 {
        let damaged = tempfile::tempdir().unwrap();
        copy(&sound, damaged.path());
        let file = damaged.path().join("store.redb");
        let mut bytes = fs::read(&file).unwrap();
        match round % 8 {
            0 => bytes.truncate(numbers.below(bytes.len())),
            // A page lost.
            1 => {
                let page = numbers.below(bytes.len() / 4096) * 4096;
                bytes[page..page + 4096].fill(0);
            }
            _ => {
                // Where something is written: most of the file is empty.
                let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
                for _ in 0..=numbers.below(3) {
                    let at = used[numbers.below(used.len())];
                    bytes[at] ^= 1 << numbers.below(8);
                }
            }
        }
        fs::write(&file, bytes).unwrap();
        match Vault::open(damaged.path(), None) {
            Err(error) => {
                refused += 1;
                let text = error.to_string();
                assert!(text.contains("store.redb") && text.contains("backup"), "round {round}: {text}");
            }
            Ok(vault) => match everything(&vault) {
                Ok(found) => assert_eq!(found, expected, "round {round}"),
                Err(why) => {
                    refused += 1;
                    assert!(why.contains("backup"), "{why}");
                }
            },
        }
    }
    assert!(refused > 20, "only {refused} of 80 damages were noticed: they hit nothing");
}

#[test]
fn an_empty_or_missing_file_is_not_taken_for_a_new_store() {
    let running = Running::with_partition();
    let directory = running.stop();
    let state = directory.path().join("state");
    fs::write(state.join("store.redb"), b"").unwrap();
    let text = Vault::open(&state, None).unwrap_err().to_string();
    assert!(text.contains("store.redb") && text.contains("backup"), "{text}");
    fs::remove_file(state.join("store.redb")).unwrap();
    assert!(Vault::open(&state, None).unwrap_err().to_string().contains("restore the store"));
}

#[test]
fn another_nodes_key_opens_nothing() {
    let directory = Running::with_partition().stop();
    let state = directory.path().join("state");
    fs::write(state.join("node.key"), [9; 32]).unwrap();
    assert!(Vault::open(&state, None).unwrap_err().to_string().contains("node key"));
}

fn info(object: u8, label: &str) -> ObjectInfo {
    ObjectInfo {
        object: vec![object; 16],
        class: ObjectClass::Data.into(),
        label: label.into(),
        ..ObjectInfo::default()
    }
}

/// Two partitions with objects, and the records of an earlier and of the last state.
fn history() -> (BTreeMap<String, Vec<u8>>, BTreeMap<String, Vec<u8>>) {
    let store = Arc::new(Records::default());
    Vault::initialise(&node_key(), Arc::clone(&store) as Arc<dyn Store>).unwrap();
    let vault = Vault::load(node_key(), Arc::clone(&store) as Arc<dyn Store>).unwrap();
    for label in ["one", "two"] {
        let partition = vault
            .create(label, vec![officer(PasswordHash::new(PASSWORD).unwrap())], Settings::default())
            .unwrap();
        partition
            .change(|change| {
                change.add_object(info(1, "first"), None, None)?;
                change.add_object(info(2, "second"), None, None)
            })
            .unwrap();
    }
    let earlier = store.0.lock().unwrap().clone();
    for number in [1, 2] {
        let partition = vault.partition(number).unwrap();
        let object = Arc::clone(partition.contents().objects.get(&[1; 16]).unwrap());
        partition.change(|change| change.replace_object(&object, info(1, "renamed"))).unwrap();
        partition.change(|change| change.add_object(info(3, "third"), None, None)).unwrap();
    }
    let last = store.0.lock().unwrap().clone();
    (earlier, last)
}

#[test]
fn every_record_that_is_removed_moved_or_put_back_is_noticed() {
    let (earlier, last) = history();
    let expected = load(&last).unwrap();
    assert_eq!(expected.len(), 2 * 4);
    let names: Vec<&String> = last.keys().collect();
    for name in &names {
        let mut removed = last.clone();
        removed.remove(*name);
        load(&removed).expect_err(name);

        let mut old = last.clone();
        match earlier.get(*name) {
            Some(record) if *record != last[*name] => {
                old.insert((*name).clone(), record.clone());
                load(&old).expect_err(name);
            }
            _ => {}
        }
        for other in &names {
            if name < other {
                let mut swapped = last.clone();
                swapped.insert((*name).clone(), last[*other].clone());
                swapped.insert((*other).clone(), last[*name].clone());
                load(&swapped).expect_err(&format!("{name} and {other}"));
                let mut doubled = last.clone();
                doubled.insert((*name).clone(), last[*other].clone());
                load(&doubled).expect_err(&format!("{other} over {name}"));
            }
        }
        for at in 0..last[*name].len() {
            let mut flipped = last.clone();
            flipped.get_mut(*name).unwrap()[at] ^= 0x10;
            load(&flipped).expect_err(name);
        }
    }
    // A record that was deleted in the meantime, or that nobody wrote.
    let mut stray = last.clone();
    stray.insert("partition/00000001/object/0000".into(), last["partition/00000001/header"].clone());
    load(&stray).unwrap_err();
    let mut stray = last.clone();
    stray.insert("partition/00000009/header".into(), last["partition/00000001/header"].clone());
    load(&stray).unwrap_err();
    let mut stray = last;
    stray.insert("something".into(), vec![1]);
    load(&stray).unwrap_err();
}

#[test]
fn a_damaged_partition_stops_the_node_until_its_owner_decides() {
    let (_, mut last) = history();
    let name = "partition/00000001/object/01010101010101010101010101010101";
    last.get_mut(name).unwrap()[50] ^= 1;
    let store = Arc::new(Records(Mutex::new(last)));
    let vault = Vault::load(node_key(), store).unwrap();
    assert_eq!(vault.node_state(), NodeState::Tampered);
    for number in [1, 2] {
        assert_eq!(vault.partition(number).unwrap_err().code, ErrorCode::Tampered);
    }
    let found = vault.tampering().unwrap().findings;
    assert!(found.len() == 1 && found[0].partition == "one" && !found[0].put_back, "{found:?}");
    for part in ["partition 1 \"one\"", "in memory", "object/0101", "backup"] {
        assert!(found[0].what.contains(part), "{found:?}");
    }
    // Only what was found can be given up.
    let unlock = vault.clear_tampering(Unlock::default(), vec![], vec!["two".into()]);
    assert_eq!(unlock.unwrap_err().code, ErrorCode::NoSuchPartition);
    vault.clear_tampering(Unlock::default(), vec![], vec![]).unwrap();
    assert_eq!(vault.partition(1).unwrap_err().code, ErrorCode::Store);
    assert_eq!(vault.partition(2).unwrap().contents().objects.len(), 3);
    // Its label and number stay taken, and the owner's decision holds.
    vault
        .create("one", vec![officer(PasswordHash::new(PASSWORD).unwrap())], Settings::default())
        .unwrap_err();
    vault.seal().unwrap();
    assert_eq!(vault.partition(2).unwrap_err().code, ErrorCode::Sealed);
    vault.unseal(Unlock::default()).unwrap();
    assert_eq!(vault.partition(2).unwrap().contents().objects.len(), 3);
}

#[test]
fn the_owner_gives_a_partition_up_or_takes_it_as_it_was() {
    let (earlier, last) = history();
    let mut both = last.clone();
    both.retain(|name, _| !name.starts_with("partition/00000001/"));
    let old = earlier.iter().filter(|(name, _)| name.starts_with("partition/00000001/"));
    both.extend(old.map(|(name, record)| (name.clone(), record.clone())));
    for as_is in [true, false] {
        let store = Arc::new(Records(Mutex::new(both.clone())));
        let vault = Vault::load(node_key(), Arc::clone(&store) as Arc<dyn Store>).unwrap();
        assert!(vault.tampering().unwrap().findings[0].put_back);
        let labels = |yes: bool| if yes { vec!["one".to_owned()] } else { vec![] };
        vault.clear_tampering(Unlock::default(), labels(as_is), labels(!as_is)).unwrap();
        if as_is {
            assert_eq!(vault.partition(1).unwrap().contents().objects.len(), 2);
        } else {
            assert_eq!(vault.partition(1).unwrap_err().code, ErrorCode::NoSuchPartition);
            assert!(!store.0.lock().unwrap().keys().any(|name| name.starts_with("partition/00000001/")));
        }
        // And it is so when the store is loaded again.
        drop(vault);
        Vault::load(node_key(), store).unwrap().partition(2).unwrap();
    }
}

/// The owner has seen it and did not say that it may be used: no later start takes it into use.
#[test]
fn what_was_put_back_and_is_set_aside_stays_aside() {
    let (earlier, mut both) = history();
    both.retain(|name, _| !name.starts_with("partition/00000001/"));
    both.extend(earlier.into_iter().filter(|(name, _)| name.starts_with("partition/00000001/")));
    let store = Arc::new(Records(Mutex::new(both)));
    let vault = Vault::load(node_key(), Arc::clone(&store) as Arc<dyn Store>).unwrap();
    assert!(vault.tampering().unwrap().findings[0].put_back);
    vault.clear_tampering(Unlock::default(), vec![], vec![]).unwrap();
    for _ in 0..3 {
        let vault = Vault::load(node_key(), Arc::clone(&store) as Arc<dyn Store>).unwrap();
        assert_eq!(vault.node_state(), NodeState::Open);
        assert_eq!(vault.partition(1).unwrap_err().code, ErrorCode::Store);
        vault.check().unwrap();
        vault.partition(2).unwrap().change(|_| Ok(())).unwrap();
    }
}

/// No request asks for it; whatever a later one does, the set hash stays that of the records.
#[test]
fn no_change_names_a_record_twice_or_one_that_is_no_longer_there() {
    let (_, last) = history();
    let store = Arc::new(Records(Mutex::new(last)));
    let vault = Vault::load(node_key(), Arc::clone(&store) as Arc<dyn Store>).unwrap();
    let partition = vault.partition(1).unwrap();
    let object = Arc::clone(partition.contents().objects.get(&[1; 16]).unwrap());
    let user = Arc::clone(partition.contents().users.get("admin").unwrap());
    let before = store.0.lock().unwrap().clone();
    let twice: [fn(&mut Change<'_>, &Object, &User); 4] = [
        |change, object, _| drop(change.replace_object(object, object.info.clone())),
        |change, object, _| drop(change.soft_delete(object)),
        |change, object, _| change.delete_object(object),
        |change, _, user| change.delete_user(user),
    ];
    for plan in twice {
        let changed = partition.change(|change| {
            plan(change, &object, &user);
            plan(change, &object, &user);
            Ok(())
        });
        assert_eq!(changed.unwrap_err().code, ErrorCode::Internal);
    }
    assert!(*store.0.lock().unwrap() == before);
    partition.change(|change| change.replace_object(&object, object.info.clone())).unwrap();
    let old = partition.change(|change| change.replace_object(&object, object.info.clone()));
    assert_eq!(old.unwrap_err().code, ErrorCode::Internal);
    vault.check().unwrap();
}

/// A restore that was broken off is cleared away, but not before the owner has seen what else is wrong: to write anything
/// would write down that the partition that was put back is as it should be.
#[test]
fn what_was_put_back_stays_so_when_a_broken_restore_is_cleared_away() {
    let (earlier, last) = history();
    let store = Arc::new(Records(Mutex::new(last)));
    let vault = Vault::load(node_key(), Arc::clone(&store) as Arc<dyn Store>).unwrap();
    let head = vault.begin_backup(&vault.partition(2).unwrap(), None).unwrap().beginning().to_vec();
    vault.begin_restore(&head, &[], "three", false, false, None).map(drop).unwrap();
    drop(vault);
    let mut put_back = store.0.lock().unwrap().clone();
    put_back.retain(|name, _| !name.starts_with("partition/00000001/"));
    let old = earlier.iter().filter(|(name, _)| name.starts_with("partition/00000001/"));
    put_back.extend(old.map(|(name, record)| (name.clone(), record.clone())));
    *store.0.lock().unwrap() = put_back;
    for start in 0..3 {
        let vault = Vault::load(node_key(), Arc::clone(&store) as Arc<dyn Store>).unwrap();
        let found = vault.tampering().unwrap_or_else(|| panic!("start {start} takes it as it is")).findings;
        assert!(found.len() == 1 && found[0].put_back, "{found:?}");
    }
    let vault = Vault::load(node_key(), Arc::clone(&store) as Arc<dyn Store>).unwrap();
    vault.clear_tampering(Unlock::default(), vec!["one".into()], vec![]).unwrap();
    assert_eq!(vault.partition(1).unwrap().contents().objects.len(), 2);
    drop(vault);
    Vault::load(node_key(), store).unwrap().partition(1).unwrap();
}

/// The store of a running node is edited: the next look finds it.
#[test]
fn a_store_that_is_edited_under_a_running_node_is_found_out() {
    let (earlier, last) = history();
    for (name, record) in &last {
        let store = Arc::new(Records(Mutex::new(last.clone())));
        let vault = Vault::load(node_key(), Arc::clone(&store) as Arc<dyn Store>).unwrap();
        vault.check().unwrap();
        let partition = vault.partition(1).unwrap();
        partition.change(|change| change.add_object(info(9, "ninth"), None, None)).unwrap();
        vault.check().unwrap();
        let old = earlier.get(name).filter(|old| *old != record && !name.starts_with("partition/00000001/h"));
        let edited = match old {
            Some(old) => old.clone(),
            None => [record.as_slice(), &[0]].concat(),
        };
        store.0.lock().unwrap().insert(name.clone(), edited);
        let failure = vault.check().expect_err(name);
        assert_eq!(failure.code, ErrorCode::Tampered, "{name}: {failure}");
        assert!(partition.contents().objects.is_empty() && partition.contents().users.is_empty());
        assert_eq!(vault.partition(2).unwrap_err().code, ErrorCode::Tampered);
    }
    let store = Arc::new(Records(Mutex::new(last.clone())));
    let vault = Vault::load(node_key(), Arc::clone(&store) as Arc<dyn Store>).unwrap();
    store.0.lock().unwrap().remove("partition/00000002/header");
    assert_eq!(vault.check().unwrap_err().code, ErrorCode::Tampered);
    // What was found stays known after a restart, even if the store looks right again.
    *store.0.lock().unwrap() = last;
    let vault = Vault::load(node_key(), Arc::clone(&store) as Arc<dyn Store>).unwrap();
    vault.partition(1).unwrap();
    vault.tampered("somebody edits the store");
    drop(vault);
    let vault = Vault::load(node_key(), Arc::clone(&store) as Arc<dyn Store>).unwrap();
    assert!(vault.tampering().unwrap().findings[0].what.contains("somebody edits"));
    vault.clear_tampering(Unlock::default(), vec![], vec![]).unwrap();
    drop(vault);
    Vault::load(node_key(), store).unwrap().partition(1).unwrap();
}
