//! What tests of clusters make in a partition 1, and look for.

use std::sync::Arc;

use strongroom_hsm::crypto::aws_lc::PrivateKey;
use strongroom_hsm::crypto::{KeyKind, Mechanism};
use strongroom_hsm::object::Key;
use strongroom_hsm::partition::Partition;
use strongroom_hsm::vault::Vault;
use strongroom_protocol::v1::*;

pub fn identity(of: u8, number: u8) -> Vec<u8> {
    let mut object = vec![of; 16];
    object[15] = number;
    object
}

pub fn info(object: Vec<u8>, label: &str) -> ObjectInfo {
    ObjectInfo { object, class: ObjectClass::Data.into(), label: label.into(), ..ObjectInfo::default() }
}

pub fn add(vault: &Vault, object: Vec<u8>) -> Result<(), ErrorCode> {
    let partition = vault.partition(1).map_err(|failure| failure.code)?;
    let added = partition.change(|change| change.add_object(info(object, "an object"), None, None));
    added.map(drop).map_err(|failure| failure.code)
}

/// Makes a P-256 key.
pub fn make_key(vault: &Vault, object: Vec<u8>, label: &str) {
    let key = Key::Private(Arc::new(PrivateKey::generate(KeyKind::P256).unwrap()));
    let info = ObjectInfo {
        class: ObjectClass::PrivateKey.into(),
        key_type: KeyType::P256.into(),
        ..info(object, label)
    };
    let partition = vault.partition(1).unwrap();
    partition.change(|change| change.add_object(info, Some(KeyKind::P256), Some(&key))).unwrap();
}

pub fn has(partition: &Partition, object: &[u8]) -> bool {
    partition.contents().objects.get(object).is_some()
}

pub fn signs(vault: &Vault, object: &[u8]) -> bool {
    let Ok(partition) = vault.partition(1) else { return false };
    let found = partition.contents().objects.get(object).map(Arc::clone);
    found.is_some_and(|object| {
        partition.private_key(&object).unwrap().sign(Mechanism::Ecdsa, &[7; 32]).is_ok()
    })
}
