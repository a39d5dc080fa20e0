//! pkcs11-tool, a client that somebody else wrote, against our module.

// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use strongroom_demo::environment::Environment;
use strongroom_demo::pki::run_openssl;
use strongroom_tests::Bench;
use strongroom_tests::place::TOKEN;

#[test]
fn lists_slots_and_mechanisms() {
    let bench = Bench::new().unwrap();
    let slots = bench.pkcs11_tool(&["--list-slots"]).unwrap();
    assert!(slots.contains(TOKEN), "{slots}");
    let mechanisms = bench.pkcs11_tool(&["--list-mechanisms"]).unwrap();
    for mechanism in ["RSA-PKCS", "RSA-PKCS-PSS", "ECDSA", "EDDSA", "RSA-PKCS-KEY-PAIR-GEN"] {
        assert!(mechanisms.contains(mechanism), "{mechanism} is missing in {mechanisms}");
    }
}

#[test]
fn generates_signs_and_deletes() {
    let bench = Bench::new().unwrap();
    let locked = bench.locked().unwrap();
    let tool = |arguments: &[&str]| locked.pkcs11_tool(arguments).unwrap();
    for (kind, mechanism) in [("rsa:2048", "SHA256-RSA-PKCS"), ("EC:prime256v1", "ECDSA-SHA256")] {
        tool(&["--keypairgen", "--key-type", kind, "--label", "made", "--id", "0a0b"]);
        assert!(tool(&["--list-objects"]).contains("made"));

        let (message, signature, public) =
            (bench.file("message"), bench.file("signature"), bench.file("public.der"));
        fs::write(&message, "a message").unwrap();
        let mut sign = vec!["--sign", "--mechanism", mechanism, "--id", "0a0b", "--input-file", &message];
        sign.extend(["--output-file", &signature, "--signature-format", "openssl"]);
        tool(&sign);
        tool(&["--read-object", "--type", "pubkey", "--id", "0a0b", "--output-file", &public]);
        run_openssl(
            &Environment::plain(),
            "dgst -sha256 -keyform DER -verify {} -signature {} {}",
            &[&public, &signature, &message],
        )
        .unwrap();

        for class in ["privkey", "pubkey"] {
            tool(&["--delete-object", "--type", class, "--id", "0a0b"]);
        }
        assert!(!tool(&["--list-objects"]).contains("made"));
    }
}

/// pkcs11-tool's own test suite.
#[test]
fn passes_its_own_tests() {
    let bench = Bench::new().unwrap();
    let locked = bench.locked().unwrap();
    for (kind, id) in [("rsa:2048", "01"), ("EC:prime256v1", "02")] {
        locked.pkcs11_tool(&["--keypairgen", "--key-type", kind, "--label", kind, "--id", id]).unwrap();
    }
    let said = locked.pkcs11_tool(&["--test"]).unwrap();
    assert!(said.contains("No errors"), "{said}");
}
