//! Signatures over messages with OpenSSL 3.5 and 4.0 (EVP_PKEY_sign_message_init(3) and its like), by algorithms that say the hash, and by those
//! of keys that sign messages: `tests/programs/messages.c`.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::time::Duration;

use strongroom_demo::command;
use strongroom_tests::newer::OpenSsl;
use strongroom_tests::program;

const LIMIT: Duration = Duration::from_secs(60);

/// What the program prints if all is as it should be.
const SIGNED: &str = "\
openssl verifies done
verify done
verify in parts done
verify in parts without a signature refused
verify a changed one refused
verify a changed one in parts refused
";

#[test]
#[ignore = "builds OpenSSL 3.5 once, which takes five minutes"]
fn openssl_3_5_signs_messages_at_once_and_in_parts() {
    sign_messages("openssl-3.5");
}

#[test]
#[ignore = "builds OpenSSL 4.0 once, which takes five minutes"]
fn openssl_4_0_signs_messages_at_once_and_in_parts() {
    sign_messages("openssl-4.0");
}

fn sign_messages(version: &str) {
    let openssl = OpenSsl::new(version).unwrap();
    let program = openssl.build("messages").unwrap();
    let hashes =
        ["SHA1", "SHA224", "SHA256", "SHA384", "SHA512", "SHA3-224", "SHA3-256", "SHA3-384", "SHA3-512"];
    let of = |key: &str| hashes.map(|hash| format!("{key}-{hash}")).to_vec();
    let mut rsa = of("RSA");
    rsa.extend(["RSA-SHA512-224", "RSA-SHA512-256", "RSA-RIPEMD160"].map(str::to_owned));
    // By other names too.
    rsa.extend(["sha256WithRSAEncryption", "1.2.840.113549.1.1.11"].map(str::to_owned));
    let mut count = 0;
    for (kind, names) in [
        ("rsa2048", rsa),
        ("p256", of("ECDSA")),
        ("ed25519", vec!["ED25519".into()]),
        ("ml-dsa-44", vec!["ML-DSA-44".into()]),
    ] {
        openssl.manage(&["key", "generate", kind, "--type", kind]);
        let public = openssl.bench.file(&format!("{kind}.pub"));
        fs::write(&public, openssl.manage(&["key", "public", kind])).unwrap();
        let uri = openssl.bench.partition.short_uri(kind);
        let mut expected =
            format!("sign done\n{SIGNED}sign in parts done\n{SIGNED}another type of key refused\n");
        if names.len() > 1 {
            expected.push_str("another hash refused\n");
        }
        for name in names {
            let environment = openssl.environment(&openssl.bench.partition.environment());
            let told =
                command::succeed(program::command(&program, &environment, &[&uri, &public, &name]), LIMIT);
            assert_eq!(told.unwrap(), expected, "{name}");
            count += 1;
        }
    }
    assert_eq!(count, 25);
}
