//! The file node.seal: what unseals a node, or nothing. A passphrase is not tried: that takes seconds by design.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom_hsm::memory::SecretBytes;
use strongroom_hsm::node_key::means::SealRecord;

fuzz_target!(|data: &[u8]| {
    let Some(record) = SealRecord::read(data) else { return };
    assert_eq!(record.name() == "shares", record.quorum().is_some());
    if record.quorum().is_some() {
        let shares = [[1; 33], [2; 33]].map(|share| SecretBytes::from(share.as_slice()));
        assert!(record.open("", &shares).is_err());
    }
});
