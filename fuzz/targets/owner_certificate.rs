//! The certificates of owners, nodes and clients, and what owners sign, from anywhere.
#![no_main]

use std::time::SystemTime;

use libfuzzer_sys::fuzz_target;
use strongroom_owner::{Certificate, Holder, OwnerCertificate, node};

fuzz_target!(|data: &[u8]| {
    let (der, rest) = data.split_at(data.len() - data.len().min(64));
    let _ = Holder::parse(data);
    if let Ok(certificate) = Certificate::parse(data) {
        assert_eq!(certificate.der(), data);
        let _ = certificate.is_valid_at(SystemTime::UNIX_EPOCH);
    }
    if let Ok(owner) = OwnerCertificate::parse(data) {
        assert!(owner.verify(b"message", rest).is_err());
        let _ = node::check_proof(&owner, owner.certificate(), SystemTime::UNIX_EPOCH, b"message", rest);
    }
    // With a signature over something else behind it.
    if let Ok(owner) = OwnerCertificate::parse(der) {
        assert!(owner.verify(b"message", rest).is_err());
    }
    let _ = strongroom_owner::certificate::verify_by(der, b"message", rest);
    let _ = node::ecdsa_der(data);
});
