//! Signatures, with every scheme, hash and padding.

use std::fs;

use strongroom_demo::command;
use strongroom_demo::environment::Environment;
use strongroom_demo::pki::{KeyKind, run_openssl, text};
use strongroom_tests::place::TOKEN;
use strongroom_tests::{Bench, Place};

use super::{BOTH, LIMIT, attempt, plain, reasons, s_server};

/// Every signature scheme that TLS 1.2 and 1.3 have for a key, each asked for alone by OpenSSL's own client.
#[test]
fn s_server_signs_with_every_scheme() {
    const TLS12: &str = "-tls1_2";
    const TLS13: &str = "-tls1_3";
    let rsa_pkcs1 = ["rsa_pkcs1_sha224", "rsa_pkcs1_sha256", "rsa_pkcs1_sha384", "rsa_pkcs1_sha512"];
    let rsa_pss = ["rsa_pss_rsae_sha256", "rsa_pss_rsae_sha384", "rsa_pss_rsae_sha512"];
    let pss_pss = ["rsa_pss_pss_sha256", "rsa_pss_pss_sha384", "rsa_pss_pss_sha512"];
    let ecdsa = ["ECDSA+SHA256", "ECDSA+SHA384", "ECDSA+SHA512"];
    let all = [
        (
            "-algorithm RSA -pkeyopt rsa_keygen_bits:2048",
            vec![(TLS12, &rsa_pkcs1[..]), (TLS12, &rsa_pss), (TLS13, &rsa_pss)],
        ),
        (
            "-algorithm EC -pkeyopt ec_paramgen_curve:P-256",
            vec![(TLS12, &ecdsa[..]), (TLS13, &["ecdsa_secp256r1_sha256"])],
        ),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-521", vec![(TLS13, &["ecdsa_secp521r1_sha512"][..])]),
        ("-algorithm ED25519", vec![(TLS12, &["ed25519"][..]), (TLS13, &["ed25519"])]),
        ("-algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048", vec![(TLS12, &pss_pss[..]), (TLS13, &pss_pss)]),
        ("-algorithm ED448", vec![(TLS12, &["ed448"][..]), (TLS13, &["ed448"])]),
    ];
    for (place, kinds) in [(Place::Partition, &all[..4]), (Place::SoftHsm, &all[..])] {
        let bench = Bench::new().unwrap();
        let environment = bench.environment(place).unwrap();
        for (at, (kind, schemes)) in kinds.iter().enumerate() {
            let (name, key) = (format!("key{at}"), bench.file(&format!("key{at}.ref")));
            let uri = format!("pkcs11_uri:pkcs11:token={TOKEN};object={name}");
            let generate =
                format!("genpkey -quiet -propquery ?provider=strongroom {kind} -pkeyopt {{}} -out {{}}");
            run_openssl(&environment, &generate, &[&uri, &key]).unwrap();
            let certificate = text(&bench.authority.certify(&environment, &key, &name).unwrap());
            let (_server, address) = s_server(&environment, "", &key, &certificate);
            for (version, algorithms) in schemes {
                for algorithm in *algorithms {
                    // The authority's own signature is ECDSA with SHA-256.
                    let client = format!(
                        "s_client -connect {{}} {version} -sigalgs {algorithm}:ECDSA+SHA256 -verify_return_error -brief -CAfile {{}}"
                    );
                    let client = if ["ECDSA+SHA256", "ecdsa_secp256r1_sha256"].contains(algorithm) {
                        client.replace(":ECDSA+SHA256", "")
                    } else {
                        client
                    };
                    let done = attempt(
                        &Environment::plain(),
                        &client,
                        &[&address, &text(&bench.authority.certificate())],
                    );
                    assert!(done.status.success(), "{place:?} {kind} {version} {algorithm} {}", done.stderr);
                    let hash = algorithm.rsplit(['_', '+']).next().unwrap().to_ascii_uppercase();
                    if hash.starts_with("SHA") {
                        assert!(
                            done.stderr.contains(&format!("Hash used: {hash}")),
                            "{algorithm} {}",
                            done.stderr
                        );
                    }
                }
            }
        }
    }
}

/// Ed448 has a parameter in PKCS#11 that Ed25519 has not.
#[test]
fn ed448_signs_a_message() {
    let bench = Bench::new().unwrap();
    let environment = bench.environment(Place::SoftHsm).unwrap();
    let [key, message, signature, public] =
        ["key.ref", "message", "signature", "pub"].map(|name| bench.file(name));
    fs::write(&message, "a message").unwrap();
    let uri = format!("pkcs11_uri:pkcs11:token={TOKEN};object=ed448");
    let generate = "genpkey -quiet -propquery ?provider=strongroom -algorithm ED448 -pkeyopt {} -out {}";
    run_openssl(&environment, generate, &[&uri, &key]).unwrap();
    run_openssl(&environment, "pkey -in {} -pubout -out {}", &[&key, &public]).unwrap();
    run_openssl(&environment, "pkeyutl -sign -rawin -inkey {} -in {} -out {}", &[&key, &message, &signature])
        .unwrap();
    plain("pkeyutl -verify -rawin -pubin -inkey {} -in {} -sigfile {}", &[&public, &message, &signature]);
}

#[test]
fn dgst_signs_with_every_hash() {
    for place in BOTH {
        let bench = Bench::new().unwrap();
        let (message, signature) = (bench.file("message"), bench.file("signature"));
        fs::write(&message, "a message").unwrap();
        for key in bench.keys(place, &[KeyKind::Rsa2048, KeyKind::P256]).unwrap() {
            let check = |options: &str| {
                let sign = format!("dgst {options} -sign {{}} -out {{}} {{}}");
                run_openssl(&key.environment, &sign, &[&key.uri, &signature, &message]).unwrap();
                let verify = format!("dgst {options} -verify {{}} -signature {{}} {{}}");
                plain(&verify, &[&text(&key.public), &signature, &message]);
                // The provider verifies too, with the key's public half.
                let verify = format!("dgst {options} -prverify {{}} -signature {{}} {{}}");
                run_openssl(&key.environment, &verify, &[&key.uri, &signature, &message]).unwrap();
            };
            for hash in [
                "-sha1",
                "-sha224",
                "-sha256",
                "-sha384",
                "-sha512",
                "-sha512-224",
                "-sha512-256",
                "-sha3-224",
                "-sha3-256",
                "-sha3-384",
                "-sha3-512",
                "-rmd160",
            ] {
                check(hash);
            }
            if key.kind != KeyKind::Rsa2048 {
                continue;
            }
            for salt in ["digest", "max", "auto", "20", "0"] {
                for hash in ["-sha256", "-sha512"] {
                    check(&format!("{hash} -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:{salt}"));
                }
            }
            let refused = "dgst -sha256 -sigopt rsa_padding_mode:x931 -sign {} {}";
            let refused = attempt(&key.environment, refused, &[&key.uri, &message]);
            assert!(
                reasons(&refused).iter().any(|line| line.contains("pss is offered")),
                "{}",
                refused.stderr
            );
            // Without a digest, and what was signed comes out again.
            run_openssl(
                &key.environment,
                "pkeyutl -sign -inkey {} -in {} -out {}",
                &[&key.uri, &message, &signature],
            )
            .unwrap();
            let recover = "pkeyutl -verifyrecover -inkey {} -in {}";
            assert_eq!(
                plain("pkeyutl -verifyrecover -pubin -inkey {} -in {}", &[&text(&key.public), &signature]),
                "a message"
            );
            assert_eq!(run_openssl(&key.environment, recover, &[&key.uri, &signature]).unwrap(), "a message");
        }
    }
}

/// Data of any size is hashed as it comes: in less memory than it has bytes.
#[test]
fn large_files_are_signed_in_little_memory() {
    let bench = Bench::new().unwrap();
    let key = bench.keys(Place::Partition, &[KeyKind::P256]).unwrap().remove(0);
    let (large, signature) = (bench.file("large"), bench.file("signature"));
    fs::File::create(&large).unwrap().set_len(600 << 20).unwrap();
    let mut limited = command::new("sh");
    key.environment.apply(&mut limited);
    limited.args(["-c", "ulimit -v 300000 && exec openssl dgst -sha256 -sign \"$0\" -out \"$1\" \"$2\""]);
    limited.args([&key.uri, &signature, &large]);
    command::succeed(limited, LIMIT).unwrap();
    plain("dgst -sha256 -verify {} -signature {} {}", &[&text(&key.public), &signature, &large]);
}

/// SoftHSM2 has neither: the padding is made by the provider, and the token signs what came of it.
#[test]
fn pss_with_hashes_that_the_token_lacks() {
    let bench = Bench::new().unwrap();
    let key = bench.keys(Place::SoftHsm, &[KeyKind::Rsa2048]).unwrap().remove(0);
    let (message, signature) = (bench.file("message"), bench.file("signature"));
    fs::write(&message, "a message").unwrap();
    let pss = "-sigopt rsa_padding_mode:pss";
    for options in [
        format!("-sha3-256 {pss}"),
        format!("-sha512-256 {pss} -sigopt rsa_pss_saltlen:17"),
        format!("-sha256 {pss} -sigopt rsa_mgf1_md:sha1 -sigopt rsa_pss_saltlen:digest"),
    ] {
        let sign = format!("dgst {options} -sign {{}} -out {{}} {{}}");
        run_openssl(&key.environment, &sign, &[&key.uri, &signature, &message]).unwrap();
        let verify = format!("dgst {options} -verify {{}} -signature {{}} {{}}");
        plain(&verify, &[&text(&key.public), &signature, &message]);
    }
}
