//! Stores that tests can damage, and what has to be the same in them afterwards.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use strongroom_hsm::memory::SecretBytes;
use strongroom_hsm::object::Search;
use strongroom_hsm::seal::SealingKey;
use strongroom_hsm::store::{Batch, Store, StoreError};
use strongroom_hsm::vault::{Slot, Vault};
use strongroom_protocol::v1::*;

/// Everything in a vault that matters: descriptions and private keys; an error if anything is refused.
pub fn everything(vault: &Vault) -> Result<Vec<(ObjectInfo, Vec<u8>)>, String> {
    vault.ready().map_err(|closed| closed.message)?;
    let mut all = Vec::new();
    for slot in vault.slots() {
        let partition = match slot {
            Slot::Sound(partition) => partition,
            Slot::Damaged { why, .. } => return Err(why),
        };
        let contents = partition.contents();
        for user in contents.users.iter() {
            all.push((ObjectInfo { label: format!("{:?}", user.info(10)), ..ObjectInfo::default() }, vec![]));
        }
        for object in contents.objects.find(Search::default()) {
            let private = match object.info.class() {
                ObjectClass::PrivateKey => {
                    partition.private_key(object).unwrap().to_pkcs8().unwrap().to_vec()
                }
                _ => Vec::new(),
            };
            all.push((object.info.clone(), private));
        }
    }
    Ok(all)
}

pub fn copy(from: &Path, to: &Path) {
    for file in ["store.redb", "node.key"] {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

/// Numbers that look random, the same in every run.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % limit
    }
}

/// A store whose records a test can put where it likes.
#[derive(Default)]
pub struct Records(pub Mutex<BTreeMap<String, Vec<u8>>>);

impl Store for Records {
    fn scan(&self, visit: &mut dyn FnMut(&str, &[u8])) -> Result<(), StoreError> {
        self.0.lock().unwrap().iter().for_each(|(name, record)| visit(name, record));
        Ok(())
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut records = self.0.lock().unwrap();
        for (name, change) in batch.changes.clone() {
            match change {
                Some(record) => drop(records.insert(name, record)),
                None => drop(records.remove(&name)),
            }
        }
        Ok(())
    }

    fn location(&self) -> String {
        "in memory".to_owned()
    }
}

pub fn node_key() -> SealingKey {
    SealingKey::new(SecretBytes::from([5; 32].as_slice())).unwrap()
}

pub fn load(records: &BTreeMap<String, Vec<u8>>) -> Result<Vec<(ObjectInfo, Vec<u8>)>, String> {
    let store = Arc::new(Records(Mutex::new(records.clone())));
    everything(&Vault::load(node_key(), store).map_err(|error| error.to_string())?)
}
