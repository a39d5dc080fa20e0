//! What the provider leaves to others: keys in files, operations that a setting blocks, random bytes that nobody asked it for.

use std::fs;

use strongroom_demo::environment::Environment;
use strongroom_demo::pki::{KeyKind, key_file, run_openssl, text};
use strongroom_tests::{Bench, Place};

use super::{BOTH, attempt, decrypting_key, plain, with_settings};

/// With our provider in the process, and even preferred for everything that it can, keys in files are OpenSSL's own: they
/// sign, decrypt, and derive, and the partition is not asked.
#[test]
fn file_keys_stay_with_openssl() {
    let bench = Bench::new().unwrap();
    let environment = bench.partition.environment();
    let preferring = {
        let text = fs::read_to_string(bench.file("openssl.cnf")).unwrap();
        let preferring = text
            .replace("providers = provider_sect\n", "providers = provider_sect\nalg_section = preferred\n")
            + "\n[preferred]\ndefault_properties = ?provider=strongroom\n";
        assert_ne!(preferring.len(), text.len());
        let file = bench.file("preferring.cnf");
        fs::write(&file, preferring).unwrap();
        environment.clone().with("OPENSSL_CONF", file)
    };
    let (message, out) = (bench.file("message"), bench.file("out"));
    fs::write(&message, [7; 32]).unwrap();
    for environment in [&environment, &preferring] {
        for kind in [KeyKind::Rsa2048, KeyKind::P256, KeyKind::Ed25519] {
            let (key, public) = (bench.file("file.key"), bench.file("file.pub"));
            key_file(kind, std::path::Path::new(&key)).unwrap();
            run_openssl(environment, "pkey -in {} -pubout -out {}", &[&key, &public]).unwrap();
            let raw = if kind == KeyKind::Ed25519 { "-rawin" } else { "" };
            let sign = format!("pkeyutl -sign {raw} -inkey {{}} -in {{}} -out {{}}");
            run_openssl(environment, &sign, &[&key, &message, &out]).unwrap();
            let verify = format!("pkeyutl -verify {raw} -pubin -inkey {{}} -in {{}} -sigfile {{}}");
            for environment in [environment, &Environment::plain()] {
                run_openssl(environment, &verify, &[&public, &message, &out]).unwrap();
            }
            match kind {
                KeyKind::Rsa2048 => {
                    plain("pkeyutl -encrypt -pubin -inkey {} -in {} -out {}", &[&public, &message, &out]);
                    let back = bench.file("back");
                    run_openssl(
                        environment,
                        "pkeyutl -decrypt -inkey {} -in {} -out {}",
                        &[&key, &out, &back],
                    )
                    .unwrap();
                    assert_eq!(fs::read(back).unwrap(), [7; 32]);
                }
                KeyKind::P256 => {
                    run_openssl(
                        environment,
                        "pkeyutl -derive -inkey {} -peerkey {} -out {}",
                        &[&key, &public, &out],
                    )
                    .unwrap();
                }
                _ => {}
            }
        }
    }
    let status = bench.partition.daemon.manage(&["status", "--json"]).unwrap();
    assert!(status.replace(' ', "").contains("\"signatures\":0"), "{status}");
}

#[test]
fn blocked_operations_are_left_to_others() {
    let bench = Bench::new().unwrap();
    let key = decrypting_key(&bench, Place::SoftHsm);
    let (message, cipher) = (bench.file("message"), bench.file("cipher"));
    fs::write(&message, "a message").unwrap();
    plain("pkeyutl -encrypt -pubin -inkey {} -in {} -out {}", &[&text(&key.public), &message, &cipher]);
    let decrypt = |environment: &Environment| {
        attempt(environment, "pkeyutl -decrypt -inkey {} -in {}", &[&key.uri, &cipher]).status.success()
    };
    let sign = |environment: &Environment| {
        attempt(environment, "dgst -sha256 -sign {} -out {} {}", &[&key.uri, &bench.file("out"), &message])
            .status
            .success()
    };
    assert!(decrypt(&key.environment) && sign(&key.environment));
    let only_signs = with_settings(&bench, &key, "pkcs11-module-block-operations = asym-cipher keyexch rand");
    assert!(!decrypt(&only_signs) && sign(&only_signs));
    let only_decrypts = with_settings(&bench, &key, "pkcs11-module-block-operations = signature");
    assert!(decrypt(&only_decrypts) && !sign(&only_decrypts));
    // A key in a file is decrypted with as ever.
    let file = bench.file("file.key");
    key_file(KeyKind::Rsa2048, std::path::Path::new(&file)).unwrap();
    run_openssl(&only_decrypts, "dgst -sha256 -sign {} -out {} {}", &[&file, &bench.file("out"), &message])
        .unwrap();
}

#[test]
fn random_bytes_come_from_the_token_only_if_asked_for() {
    for place in BOTH {
        let bench = Bench::new().unwrap();
        let key = bench.keys(place, &[KeyKind::P256]).unwrap().remove(0);
        let (log, message) = (bench.file("debug.log"), bench.file("message"));
        fs::write(&message, "a message").unwrap();
        let calls = |asked: bool| {
            let environment = with_settings(&bench, &key, &format!("strongroom-debug = file:{log},level:2"));
            let file = environment.value("OPENSSL_CONF").unwrap();
            if asked {
                let text = fs::read_to_string(file).unwrap();
                let text = text.replace(
                    "providers = provider_sect\n",
                    "providers = provider_sect\nrandom = generator\n",
                );
                fs::write(file, text + "\n[generator]\nrandom = PKCS11-RAND\n").unwrap();
            }
            let _ = fs::remove_file(&log);
            let one = run_openssl(&environment, "rand -hex 32", &[]).unwrap();
            let other = run_openssl(&environment, "rand -hex 32", &[]).unwrap();
            assert!(one.trim().len() == 64 && one != other);
            let random = fs::read_to_string(&log).unwrap_or_default().matches("C_GenerateRandom").count();
            // The token's own signature takes random bytes too, of a libcrypto that asks the token (SoftHSM2).
            let sign = "dgst -sha256 -sign {} -out {} {}";
            run_openssl(&environment, sign, &[&key.uri, &bench.file("out"), &message]).unwrap();
            plain(
                "dgst -sha256 -verify {} -signature {} {}",
                &[&text(&key.public), &bench.file("out"), &message],
            );
            random
        };
        assert_eq!(calls(false), 0, "{place:?}");
        assert!(calls(true) >= 2, "{place:?}");
    }
}
