//! URIs from configurations and reference files: what is read and written is read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom_uri::Uri;

fuzz_target!(|text: &str| {
    if let Ok(uri) = Uri::parse(text) {
        let written = uri.to_string();
        let again = Uri::parse(&written).expect("what was written");
        assert_eq!(again.to_string(), written);
        assert_eq!((again.token, again.object, again.id), (uri.token, uri.object, uri.id));
        assert_eq!((again.slot_id, again.library_version), (uri.slot_id, uri.library_version));
        assert!(again.pin_value.is_none() && again.pin_source.is_none());
    }
});
