//! What lies in etcd for a node, and gives it a cluster's key: an invitation, and a hand-over. Nobody but a node can have written one that
//! is taken.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use strongroom_hsm::identity::Identity;
use strongroom_hsm::seal::SealingKey;
use strongroom_hsm::vault::{HandedOver, invited_key, open_hand_over, read_hand_over};
use strongroom_owner::OwnerCertificate;

const CLUSTER: [u8; 16] = [7; 16];

fn known() -> &'static (Identity, SealingKey, Option<OwnerCertificate>) {
    static KNOWN: OnceLock<(Identity, SealingKey, Option<OwnerCertificate>)> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let owner = OwnerCertificate::parse(include_bytes!("owner.der")).ok();
        (Identity::generate().unwrap(), SealingKey::generate(), owner)
    })
}

fuzz_target!(|bytes: &[u8]| {
    let (identity, key, owner) = known();
    let owners: Vec<_> = owner.iter().cloned().collect();
    assert_eq!(owners.len(), 1);
    assert!(invited_key(bytes, &owners, identity).is_err());
    assert!(open_hand_over(bytes, &CLUSTER, key, identity).is_err());
    // What another node of the cluster might seal: it gives no key to a node that it is not encrypted to.
    assert!(!matches!(read_hand_over(bytes, &CLUSTER, identity), Ok(HandedOver::Key(_))));
    let mut of_cluster = [&[10, 16][..], &CLUSTER].concat();
    of_cluster.extend_from_slice(bytes);
    assert!(!matches!(read_hand_over(&of_cluster, &CLUSTER, identity), Ok(HandedOver::Key(_))));
});
