//! SLH-DSA keys of a token (kryoptic) with OpenSSL 3.5, through the provider: every parameter set made, shown, and used. What is
//! made is verified by openssl without the provider.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::time::Duration;

use strongroom_demo::command;
use strongroom_demo::environment::Environment;
use strongroom_tests::newer::OpenSsl;

/// The slowest sets sign for seconds, on a loaded machine for many.
const LIMIT: Duration = Duration::from_secs(120);

/// FIPS 205, table 2, with the size of a signature in bytes.
const SETS: [(&str, usize); 12] = [
    ("SLH-DSA-SHA2-128s", 7_856),
    ("SLH-DSA-SHA2-128f", 17_088),
    ("SLH-DSA-SHA2-192s", 16_224),
    ("SLH-DSA-SHA2-192f", 35_664),
    ("SLH-DSA-SHA2-256s", 29_792),
    ("SLH-DSA-SHA2-256f", 49_856),
    ("SLH-DSA-SHAKE-128s", 7_856),
    ("SLH-DSA-SHAKE-128f", 17_088),
    ("SLH-DSA-SHAKE-192s", 16_224),
    ("SLH-DSA-SHAKE-192f", 35_664),
    ("SLH-DSA-SHAKE-256s", 29_792),
    ("SLH-DSA-SHAKE-256f", 49_856),
];

#[test]
#[ignore = "builds OpenSSL 3.5 and kryoptic once, which takes ten minutes"]
fn openssl_3_5_takes_what_kryoptic_signs() {
    let openssl = OpenSsl::new("openssl-3.5").unwrap();
    let token = openssl.kryoptic().unwrap();
    let environment = token.environment(&openssl.bench.programs).unwrap();
    let run = |arguments: &[&str]| command::succeed(openssl.command(&environment, arguments), LIMIT);
    let plain =
        |arguments: &[&str]| command::succeed(openssl.command(&Environment::plain(), arguments), LIMIT);
    for (name, size) in SETS {
        let file = |suffix: &str| openssl.bench.file(&format!("{name}.{suffix}"));
        let (reference, public, certificate) = (file("ref"), file("pub"), file("crt"));
        let uri = format!("pkcs11_uri:pkcs11:token=tls;object={name}");
        let generate = ["genpkey", "-propquery", "provider=strongroom", "-algorithm", name];
        run(&[&generate[..], &["-pkeyopt", &uri, "-out", &reference]].concat()).unwrap();
        assert!(fs::read_to_string(&reference).unwrap().contains("PKCS#11 PROVIDER URI"));
        let uri = token.uri(name);

        // The public half, as everybody has it.
        fs::write(&public, run(&["pkey", "-in", &reference, "-pubout"]).unwrap()).unwrap();
        let shown = run(&["pkey", "-in", &uri, "-noout", "-text_pub"]).unwrap();
        assert_eq!(shown, plain(&["pkey", "-pubin", "-in", &public, "-noout", "-text_pub"]).unwrap());
        assert!(shown.starts_with(&format!("{name} Public-Key")), "{shown}");

        let request = ["req", "-x509", "-new", "-key", &uri, "-subj", "/CN=localhost", "-out", &certificate];
        run(&request).unwrap();
        plain(&["verify", "-CAfile", &certificate, &certificate]).unwrap();
        let described = plain(&["x509", "-in", &certificate, "-noout", "-text"]).unwrap();
        assert!(described.contains(&format!("Signature Algorithm: {name}")), "{described}");

        // Each is made for as little as it has: a context, the same again, a reference file.
        let (message, signature) = (file("message"), file("signature"));
        fs::write(&message, [7; 100_000]).unwrap();
        let sign = |key: &str, options: &[&str]| {
            let sign = ["pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", &message, "-out", &signature];
            run(&[&sign[..], options].concat()).unwrap();
            fs::read(&signature).unwrap()
        };
        let verify = |options: &[&str]| {
            let verify = ["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", &public, "-in", &message];
            plain(&[&verify[..], &["-sigfile", &signature], options].concat())
        };
        let context = ["-pkeyopt", "context-string:a context"];
        assert_eq!(sign(&reference, &context).len(), size);
        verify(&context).unwrap();
        verify(&["-pkeyopt", "context-string:another"]).unwrap_err();
        verify(&[]).unwrap_err();
        if name.ends_with('f') {
            let hedged = sign(&uri, &[]);
            verify(&[]).unwrap();
            assert_ne!(sign(&uri, &[]), hedged, "the token's random bytes are in it");
            let deterministic = sign(&uri, &["-pkeyopt", "deterministic:1"]);
            verify(&[]).unwrap();
            assert_eq!(sign(&uri, &["-pkeyopt", "deterministic:1"]), deterministic);
        }
    }

    // All of them are listed, and Debian's openssl, which knows none of them, says so.
    let listed = run(&["storeutl", "-keys", "-noout", "pkcs11:token=tls;type=private"]).unwrap();
    assert!(listed.contains("Total found: 12"), "{listed}");
}
