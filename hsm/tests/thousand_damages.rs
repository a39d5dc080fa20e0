//! A store that was damaged in 1,000 random ways is never accepted as good: it is refused, or every object in
//! it is what it last was. STRONGROOM_DAMAGE_SEED=NUMBER damages it in 1,000 other ways.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::print_stderr)]

mod running;
mod stores;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use running::PASSWORD;
use stores::{Numbers, Records, copy, everything, load, node_key};
use strongroom_hsm::crypto::KeyKind;
use strongroom_hsm::crypto::aws_lc::PrivateKey;
use strongroom_hsm::object::{Key, Search};
use strongroom_hsm::partition::Settings;
use strongroom_hsm::store::{RedbStore, Store};
use strongroom_hsm::users::{PasswordHash, User};
use strongroom_hsm::vault::Vault;
use strongroom_protocol::v1::*;

const AT_RECORDS: usize = 800;
const AT_THE_FILE: usize = 200;

type State = BTreeMap<String, Vec<u8>>;

fn officer(password: PasswordHash) -> User {
    User::new("admin", Role::CryptoOfficer, Some(password), Vec::new(), 0)
}

/// The same in every run, unless another one is asked for.
fn seed() -> u64 {
    let given = std::env::var("STRONGROOM_DAMAGE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or(20_261_123);
    eprintln!("STRONGROOM_DAMAGE_SEED={seed}");
    seed
}

/// A year of three partitions: each state that the store had, the last one last.
fn life(store: &Arc<dyn Store>, numbers: &mut Numbers, look: &mut dyn FnMut()) {
    Vault::initialise(&node_key(), Arc::clone(store)).unwrap();
    let vault = Vault::load(node_key(), Arc::clone(store)).unwrap();
    look();
    let password = PasswordHash::new(PASSWORD).unwrap();
    for label in ["one", "two", "three"] {
        vault.create(label, vec![officer(password.clone())], Settings::default()).unwrap();
        look();
    }
    for step in 0..30u8 {
        let partition = vault.partition(1 + numbers.below(3) as u32).unwrap();
        let objects: Vec<_> = partition.contents().objects.find(Search::default()).cloned().collect();
        let info = |class: ObjectClass, id: u8| ObjectInfo {
            object: vec![id; 16],
            class: class.into(),
            key_type: if class == ObjectClass::PrivateKey { KeyType::P256.into() } else { 0 },
            label: format!("{step}"),
            ..ObjectInfo::default()
        };
        let pick = (!objects.is_empty()).then(|| Arc::clone(&objects[numbers.below(objects.len().max(1))]));
        partition
            .change(|change| {
                match (step % 5, pick) {
                    (3, Some(object)) => change.delete_object(&object),
                    (4, Some(object)) => {
                        let label = format!("renamed {step}");
                        drop(change.replace_object(&object, ObjectInfo { label, ..object.info.clone() })?);
                    }
                    (1, _) => {
                        let key = Key::Private(Arc::new(PrivateKey::generate(KeyKind::P256)?));
                        let info = info(ObjectClass::PrivateKey, step);
                        drop(change.add_object(info, Some(KeyKind::P256), Some(&key))?);
                    }
                    _ => drop(change.add_object(info(ObjectClass::Data, step), None, None)?),
                }
                Ok(())
            })
            .unwrap();
        look();
    }
}

/// Damages records in one of the ways that an intruder, a failing disk or a wrong restore would.
fn damage(numbers: &mut Numbers, history: &[State]) -> (&'static str, State) {
    let last = &history[history.len() - 1];
    let mut state = last.clone();
    let names: Vec<String> = last.keys().cloned().collect();
    let name = names[numbers.below(names.len())].clone();
    let other = names[numbers.below(names.len())].clone();
    // Often the one just before: the records that changed last are the least different.
    let old = match numbers.below(2) {
        0 => &history[history.len() - 2],
        _ => &history[numbers.below(history.len() - 1)],
    };
    let put_back = |state: &mut State, name: &str| match old.get(name) {
        Some(record) => drop(state.insert(name.to_owned(), record.clone())),
        None => drop(state.remove(name)),
    };
    let what = match numbers.below(13) {
        0..=2 => {
            for _ in 0..=numbers.below(3) {
                let record = state.get_mut(&name).unwrap();
                let at = numbers.below(record.len());
                record[at] ^= 1 << numbers.below(8);
            }
            "bits flipped"
        }
        3 => {
            let record = state.get_mut(&name).unwrap();
            record.truncate(numbers.below(record.len()));
            "cut"
        }
        4 => {
            state.get_mut(&name).unwrap().push(0);
            "longer"
        }
        5 => {
            state.insert(name.clone(), last[&other].clone());
            state.insert(other, last[&name].clone());
            "swapped"
        }
        6 => {
            state.insert(name, last[&other].clone());
            "one over another"
        }
        7 => {
            for _ in 0..=numbers.below(4) {
                state.remove(&names[numbers.below(names.len())]);
            }
            "dropped"
        }
        8 => {
            put_back(&mut state, &name);
            "an old record put back"
        }
        9 => {
            for name in old.keys().chain(&names) {
                if numbers.below(2) == 0 {
                    put_back(&mut state, name);
                }
            }
            "some old records put back"
        }
        10 => {
            let prefix = format!("partition/0000000{}/", 1 + numbers.below(3));
            for name in old.keys().chain(&names).filter(|name| name.starts_with(&prefix)) {
                put_back(&mut state, name);
            }
            "a whole old partition put back"
        }
        11 => {
            let spared = format!("partition/0000000{}/", 1 + numbers.below(3));
            for name in old.keys().chain(&names).filter(|name| !name.starts_with(&spared)) {
                put_back(&mut state, name);
            }
            "everything but one partition put back"
        }
        _ => {
            let number = 1 + numbers.below(3);
            let from = format!("partition/0000000{number}/");
            let to = format!("partition/0000000{}/", 1 + number % 3);
            let moved: Vec<_> = last.iter().filter(|(name, _)| name.starts_with(&from)).collect();
            for (name, record) in moved {
                state.insert(name.replace(&from, &to), record.clone());
            }
            "a partition in another's place"
        }
    };
    (what, state)
}

#[test]
fn records() {
    let seed = seed();
    let mut numbers = Numbers(seed);
    let store = Arc::new(Records::default());
    let mut history: Vec<State> = Vec::new();
    let as_store: Arc<dyn Store> = Arc::clone(&store) as _;
    life(&as_store, &mut numbers, &mut || history.push(store.0.lock().unwrap().clone()));
    let expected = load(&history[history.len() - 1]).unwrap();
    let mut refused: BTreeMap<&str, usize> = BTreeMap::new();
    for round in 0..AT_RECORDS {
        let (what, damaged) = damage(&mut numbers, &history);
        if history[..history.len() - 1].contains(&damaged) {
            // The whole store as it once was: that is a store.
            continue;
        }
        let changed = history[history.len() - 1] != damaged;
        match load(&damaged) {
            Ok(found) => {
                assert_eq!(found, expected, "seed {seed}, round {round}: {what}");
                assert!(!changed, "seed {seed}, round {round}: {what} was not noticed");
            }
            Err(_) => *refused.entry(what).or_default() += 1,
        }
    }
    eprintln!("{refused:?}");
    assert!(refused.values().sum::<usize>() > AT_RECORDS / 2 && refused.len() == 11, "{refused:?}");
}

#[test]
fn the_file() {
    let seed = seed();
    let mut numbers = Numbers(seed);
    let sound = tempfile::tempdir().unwrap();
    let path = sound.path().join("store.redb");
    let mut earlier = Vec::new();
    {
        let store: Arc<dyn Store> = Arc::new(RedbStore::create(&path).unwrap());
        let look_at = path.clone();
        life(&store, &mut numbers, &mut || earlier.push(fs::read(&look_at).unwrap()));
    }
    fs::write(sound.path().join("node.key"), [5; 32]).unwrap();
    set_private(&sound.path().join("node.key"));
    let expected = everything(&Vault::open(sound.path(), None).unwrap()).unwrap();
    let (bytes, mut refused) = (fs::read(&path).unwrap(), 0);
    // Where something is written: most of the file is empty.
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let directory = tempfile::tempdir().unwrap();
    copy(sound.path(), directory.path());
    for round in 0..AT_THE_FILE {
        let mut damaged = bytes.clone();
        let page = numbers.below(bytes.len() / 4096) * 4096;
        match round % 10 {
            0 => damaged.truncate(numbers.below(bytes.len())),
            1 => damaged[page..page + 4096].fill(0),
            // A page of another time, of another place.
            2 => {
                let old = &earlier[numbers.below(earlier.len())];
                let length = old.len().saturating_sub(page).min(4096);
                damaged[page..page + length].copy_from_slice(&old[page..page + length]);
            }
            3 => {
                let other = numbers.below(bytes.len() / 4096) * 4096;
                damaged[page..page + 4096].copy_from_slice(&bytes[other..other + 4096]);
            }
            _ => {
                for _ in 0..=numbers.below(3) {
                    damaged[used[numbers.below(used.len())]] ^= 1 << numbers.below(8);
                }
            }
        }
        fs::write(directory.path().join("store.redb"), damaged).unwrap();
        let found = Vault::open(directory.path(), None)
            .map_err(|error| error.to_string())
            .and_then(|vault| everything(&vault));
        match found {
            Ok(found) => assert_eq!(found, expected, "seed {seed}, round {round}"),
            Err(_) => refused += 1,
        }
    }
    assert!(
        refused > AT_THE_FILE / 5,
        "only {refused} of {AT_THE_FILE} damages were noticed: they hit nothing"
    );
}

fn set_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// The store above is what tests say it is: a whole old partition beside newer ones is what nothing but the
/// ledger shows.
#[test]
fn a_whole_partition_that_was_put_back_is_named() {
    let store = Arc::new(Records::default());
    let mut history: Vec<State> = Vec::new();
    let as_store: Arc<dyn Store> = Arc::clone(&store) as _;
    life(&as_store, &mut Numbers(7), &mut || history.push(store.0.lock().unwrap().clone()));
    let mut state = history[history.len() - 1].clone();
    let old = &history[5];
    state.retain(|name, _| !name.starts_with("partition/00000002/"));
    state.extend(
        old.iter()
            .filter(|(name, _)| name.starts_with("partition/00000002/"))
            .map(|(n, r)| (n.clone(), r.clone())),
    );
    let why = load(&state).unwrap_err();
    assert!(why.contains("partition 2 \"two\"") && why.contains("put back"), "{why}");
    let mut state = history[history.len() - 1].clone();
    state.remove("ledger");
    assert!(load(&state).unwrap_err().contains("ledger"));
    state.insert("ledger".into(), old["ledger"].clone());
    load(&state).unwrap_err();
    let store = Arc::new(Records(Mutex::new(history[history.len() - 1].clone())));
    Vault::load(node_key(), store).unwrap();
}
