//! PEM reference files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom_uri::reference;

fuzz_target!(|data: &[u8]| {
    if let Ok(uri) = reference::uri_from_der(data) {
        let pem = reference::pem_from_uri(&uri).expect("a URI that came from a reference");
        let der = reference::der_from_pem(pem.as_bytes()).expect("what was written");
        assert_eq!(reference::uri_from_der(&der).expect("what was written"), uri);
    }
    let _ = reference::der_from_pem(data);
});
