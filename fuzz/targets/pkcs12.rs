//! PKCS#12 files from anywhere: an archive or an error, whatever is in them.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../cli/src/pkcs12.rs"]
#[allow(dead_code, reason = "only the decoder is wanted")]
mod pkcs12;

fuzz_target!(|der: &[u8]| {
    if pkcs12::is_pkcs12(der) {
        if let Ok(archive) = pkcs12::open(der, "secret") {
            assert!(archive.keys.iter().all(|(_, key)| !key.is_empty()));
        }
    }
});
