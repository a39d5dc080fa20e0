//! Key transfer blobs from anywhere: what is read is written and read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../cli/src/transfer_blob.rs"]
mod transfer_blob;

fuzz_target!(|bytes: &[u8]| {
    if !transfer_blob::is_json(bytes) {
        return;
    }
    if let Ok(wrapped) = transfer_blob::read(bytes) {
        let written = transfer_blob::write("kid", &wrapped);
        assert_eq!(transfer_blob::read(written.as_bytes()).as_ref(), Ok(&wrapped));
    }
});
