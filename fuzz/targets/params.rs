//! The parameters (OSSL_PARAM) of the provider's callers.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| strongroom_provider::fuzz::params(data));
