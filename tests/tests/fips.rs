//! A partition in FIPS state 2, as pkcs11-tool sees it: what is not approved is refused, the rest works (docs/fips.md).

// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use strongroom_demo::environment::Environment;
use strongroom_demo::pki::run_openssl;
use strongroom_tests::Bench;
use strongroom_tests::place::TOKEN;

const REFUSED: &str = "CKR_KEY_FUNCTION_NOT_PERMITTED";

#[test]
fn state_2_refuses_what_is_not_approved_and_state_0_does_not() {
    let bench = Bench::new().unwrap();
    let own = rustix::process::getuid().as_raw().to_string();
    let folder = bench.file("");
    let init = ["init", "approved", "--fips", "--admit", &own, "--generate-passwords", &folder];
    bench.partition.daemon.manage(&init).unwrap();
    let (message, signature) = (bench.file("message"), bench.file("signature"));
    fs::write(&message, "a message").unwrap();
    for (token, is_approved_only) in [(TOKEN, false), ("approved", true)] {
        let tool = |arguments: &[&str]| {
            let result = bench.pkcs11_tool(&[&["--token-label", token][..], arguments].concat());
            result.map_err(|error| error.to_string())
        };
        let generate =
            |kind: &str, id: &str| tool(&["--keypairgen", "--key-type", kind, "--label", kind, "--id", id]);
        let sign = |mechanism: &str, id: &str| {
            let _ = fs::remove_file(&signature);
            let way = ["--sign", "--mechanism", mechanism, "--id", id];
            tool(&[&way[..], &["--input-file", &message, "--output-file", &signature]].concat())
        };
        let check = |result: Result<String, String>, what: &str, approved: bool| match result {
            Ok(_) => assert!(approved || !is_approved_only, "{what} in {token}"),
            Err(error) => {
                assert!(
                    !approved && is_approved_only && error.contains(REFUSED),
                    "{what} in {token}: {error}"
                );
            }
        };
        check(generate("rsa:2048", "01"), "RSA-2048", true);
        check(generate("EC:prime256v1", "02"), "P-256", true);
        check(generate("EC:secp256k1", "03"), "secp256k1", false);
        for (mechanism, id, approved) in [
            ("SHA256-RSA-PKCS", "01", true),
            ("SHA1-RSA-PKCS", "01", false),
            ("RSA-X-509", "01", false),
            ("ECDSA-SHA384", "02", true),
            ("ECDSA-SHA1", "02", false),
        ] {
            check(sign(mechanism, id), mechanism, approved);
        }
        // What is approved is what it says.
        sign("SHA256-RSA-PKCS", "01").unwrap();
        let public = bench.file("public.der");
        tool(&["--read-object", "--type", "pubkey", "--id", "01", "--output-file", &public]).unwrap();
        let verify = "dgst -sha256 -keyform DER -verify {} -signature {} {}";
        run_openssl(&Environment::plain(), verify, &[&public, &signature, &message]).unwrap();
    }
}
