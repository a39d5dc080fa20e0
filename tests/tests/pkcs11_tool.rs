//! pkcs11-tool, a client that somebody else wrote, against our module.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::time::Duration;

use strongroom_demo::environment::Environment;
use strongroom_demo::pki::run_openssl;
use strongroom_demo::process::{self, command};
use strongroom_tests::Bench;
use strongroom_tests::place::TOKEN;

const LIMIT: Duration = Duration::from_secs(60);

fn tool(bench: &Bench, arguments: &[&str]) -> String {
    let mut tool = command("pkcs11-tool");
    bench.partition.environment().apply(&mut tool);
    tool.arg("--module").arg(bench.programs.module()).args(arguments);
    process::succeed(tool, LIMIT).unwrap()
}

fn pin(bench: &Bench) -> String {
    let file = bench.run.path().join(format!("{TOKEN}-user.password"));
    format!("user:{}", fs::read_to_string(file).unwrap().trim())
}

#[test]
fn lists_slots_and_mechanisms() {
    let bench = Bench::new().unwrap();
    let slots = tool(&bench, &["--list-slots"]);
    assert!(slots.contains(TOKEN), "{slots}");
    let mechanisms = tool(&bench, &["--list-mechanisms"]);
    for mechanism in ["RSA-PKCS", "RSA-PKCS-PSS", "ECDSA", "EDDSA", "RSA-PKCS-KEY-PAIR-GEN"] {
        assert!(mechanisms.contains(mechanism), "{mechanism} is missing in {mechanisms}");
    }
}

#[test]
fn generates_signs_and_deletes() {
    let bench = Bench::new().unwrap();
    let pin = pin(&bench);
    let login = ["--login", "--pin", &pin];
    for (kind, mechanism) in [("rsa:2048", "SHA256-RSA-PKCS"), ("EC:prime256v1", "ECDSA-SHA256")] {
        let key = ["--keypairgen", "--key-type", kind, "--label", "made", "--id", "0a0b"];
        tool(&bench, &[&login[..], &key[..]].concat());
        assert!(tool(&bench, &[&login[..], &["--list-objects"]].concat()).contains("made"));

        let (message, signature, public) =
            (bench.file("message"), bench.file("signature"), bench.file("public.der"));
        fs::write(&message, "a message").unwrap();
        let mut sign = vec!["--sign", "--mechanism", mechanism, "--id", "0a0b", "--input-file", &message];
        sign.extend(["--output-file", &signature, "--signature-format", "openssl"]);
        tool(&bench, &[&login[..], &sign[..]].concat());
        tool(&bench, &["--read-object", "--type", "pubkey", "--id", "0a0b", "--output-file", &public]);
        run_openssl(
            &Environment::plain(),
            "dgst -sha256 -keyform DER -verify {} -signature {} {}",
            &[&public, &signature, &message],
        )
        .unwrap();

        for class in ["privkey", "pubkey"] {
            let delete = ["--delete-object", "--type", class, "--id", "0a0b"];
            tool(&bench, &[&login[..], &delete[..]].concat());
        }
        assert!(!tool(&bench, &[&login[..], &["--list-objects"]].concat()).contains("made"));
    }
}

/// pkcs11-tool's own test suite.
#[test]
fn passes_its_own_tests() {
    let bench = Bench::new().unwrap();
    let pin = pin(&bench);
    let login = ["--login", "--pin", &pin];
    for (kind, id) in [("rsa:2048", "01"), ("EC:prime256v1", "02")] {
        let key = ["--keypairgen", "--key-type", kind, "--label", kind, "--id", id];
        tool(&bench, &[&login[..], &key[..]].concat());
    }
    let said = tool(&bench, &[&login[..], &["--test"]].concat());
    assert!(said.contains("No errors"), "{said}");
}
