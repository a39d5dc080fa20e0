//! What a token tells of a key: attributes, and what is beside it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| strongroom_provider::fuzz::attributes(data));
