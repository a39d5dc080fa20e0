//! The openssl command with keys in a token, each of its results checked by openssl without our provider.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use strongroom_demo::environment::Environment;
use strongroom_demo::pki::{KeyKind, openssl, run_openssl, text};
use strongroom_demo::process::{Process, wait_for};
use strongroom_demo::server::free_port;
use strongroom_tests::{Bench, Keys, Place, traffic};

fn in_both_places(test: impl Fn(&Bench, &Keys)) {
    for place in [Place::Partition, Place::SoftHsm] {
        let bench = Bench::new().unwrap();
        for key in bench.keys(place, &KeyKind::TYPES).unwrap() {
            eprintln!("{place:?} {}", key.kind.title());
            test(&bench, &key);
        }
    }
}

fn plain(arguments: &str, values: &[&str]) -> String {
    run_openssl(&Environment::plain(), arguments, values).unwrap()
}

#[test]
fn list_providers_shows_ours_active() {
    let bench = Bench::new().unwrap();
    let listed = run_openssl(&bench.partition.environment(), "list -providers", &[]).unwrap();
    let ours = listed.split("strongroom").nth(1).expect("strongroom is listed");
    assert!(ours.contains("status: active"), "{listed}");
    assert!(listed.contains("default"), "{listed}");
}

#[test]
fn storeutl_finds_the_key() {
    in_both_places(|_, key| {
        let listed = run_openssl(&key.environment, "storeutl -keys {}", &[&key.uri]).unwrap();
        assert!(listed.contains("Total found: 1"), "{listed}");
    });
}

#[test]
fn storeutl_shows_key_and_certificate_of_the_partition() {
    let bench = Bench::new().unwrap();
    let key = bench.keys(Place::Partition, &[KeyKind::P256]).unwrap().remove(0);
    let certificate = key.certify(&bench).unwrap();
    bench.partition.daemon.manage(&["cert", "put", "p256", &text(&certificate)]).unwrap();
    let listed =
        run_openssl(&key.environment, "storeutl -certs {}", &["pkcs11:token=tls;object=p256"]).unwrap();
    let stored = listed.split("-----BEGIN CERTIFICATE-----").nth(1).expect(&listed);
    let put = fs::read_to_string(certificate).unwrap();
    assert!(put.contains(stored.split("-----END").next().unwrap()), "{listed}");
}

#[test]
fn req_makes_a_request_and_x509_signs_with_the_key() {
    in_both_places(|bench, key| {
        let (request, ca, leaf) = (bench.file("a.csr"), bench.file("own-ca.pem"), bench.file("leaf.pem"));
        run_openssl(&key.environment, "req -new -key {} -subj /CN=localhost -out {}", &[&key.uri, &request])
            .unwrap();
        plain("req -verify -noout -in {}", &[&request]);
        run_openssl(&key.environment, "req -x509 -new -key {} -subj /CN=ca -out {}", &[&key.uri, &ca])
            .unwrap();
        run_openssl(
            &key.environment,
            "x509 -req -in {} -CA {} -CAkey {} -CAcreateserial -out {}",
            &[&request, &ca, &key.uri, &leaf],
        )
        .unwrap();
        plain("verify -CAfile {} {}", &[&ca, &leaf]);
        let of_certificate = plain("x509 -noout -pubkey -in {}", &[&leaf]);
        assert_eq!(of_certificate, fs::read_to_string(&key.public).unwrap());
    });
}

#[test]
fn dgst_signs_with_every_digest_and_padding() {
    in_both_places(|bench, key| {
        let (message, signature) = (bench.file("message"), bench.file("signature"));
        fs::write(&message, "a message").unwrap();
        let variants: &[(&str, &str)] = match key.kind {
            KeyKind::Rsa2048 | KeyKind::Rsa3072 | KeyKind::Rsa4096 => &[
                ("-sha256", ""),
                ("-sha384", ""),
                ("-sha512", ""),
                ("-sha256", "-sigopt rsa_padding_mode:pss"),
                ("-sha384", "-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest"),
            ],
            KeyKind::P256 | KeyKind::P384 => &[("-sha256", ""), ("-sha384", ""), ("-sha512", "")],
            // openssl dgst has no Ed25519, which has no digest: pkeyutl shows it below.
            KeyKind::Ed25519 => &[],
        };
        for (digest, options) in variants {
            let sign = format!("dgst {digest} {options} -sign {{}} -out {{}} {{}}");
            run_openssl(&key.environment, &sign, &[&key.uri, &signature, &message]).unwrap();
            let verify = format!("dgst {digest} {options} -verify {{}} -signature {{}} {{}}");
            plain(&verify, &[&text(&key.public), &signature, &message]);
            // The verification can fail: with another message it does.
            let other = bench.file("other");
            fs::write(&other, "another message").unwrap();
            let wrong = [text(&key.public), signature.clone(), other];
            let wrong: Vec<&str> = wrong.iter().map(String::as_str).collect();
            assert!(run_openssl(&Environment::plain(), &verify, &wrong).is_err());
        }
    });
}

#[test]
fn pkeyutl_signs_digests_and_messages() {
    in_both_places(|bench, key| {
        let (input, signature) = (bench.file("input"), bench.file("signature"));
        fs::write(&input, [7; 32]).unwrap();
        let options = match key.kind {
            KeyKind::Ed25519 => "-rawin",
            _ => "-pkeyopt digest:sha256",
        };
        let sign = format!("pkeyutl -sign {options} -inkey {{}} -in {{}} -out {{}}");
        run_openssl(&key.environment, &sign, &[&key.uri, &input, &signature]).unwrap();
        let verify = format!("pkeyutl -verify {options} -pubin -inkey {{}} -in {{}} -sigfile {{}}");
        plain(&verify, &[&text(&key.public), &input, &signature]);
    });
}

#[test]
fn cms_signs_a_message() {
    in_both_places(|bench, key| {
        if key.kind == KeyKind::Ed25519 {
            // OpenSSL 3.0 cannot, with any key: "no default digest".
            return;
        }
        let certificate = text(&key.certify(bench).unwrap());
        let (message, signed) = (bench.file("message"), bench.file("signed.pem"));
        fs::write(&message, "a message").unwrap();
        run_openssl(
            &key.environment,
            "cms -sign -binary -nodetach -outform PEM -signer {} -inkey {} -in {} -out {}",
            &[&certificate, &key.uri, &message, &signed],
        )
        .unwrap();
        let ca = text(&bench.authority.certificate());
        let verified =
            plain("cms -verify -binary -purpose any -inform PEM -CAfile {} -in {}", &[&ca, &signed]);
        assert_eq!(verified, "a message");
    });
}

#[test]
fn s_server_serves_both_versions_of_tls() {
    in_both_places(|bench, key| {
        let certificate = text(&key.certify(bench).unwrap());
        let port = free_port().unwrap();
        let address = format!("127.0.0.1:{port}");
        let mut server = openssl(
            &key.environment,
            "s_server -quiet -www -accept {} -key {} -cert {}",
            &[&address, &key.uri, &certificate],
        )
        .unwrap();
        server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let _server = Process::spawn("openssl", server).unwrap();
        wait_for("s_server", Duration::from_secs(10), || Ok(std::net::TcpStream::connect(&address)?))
            .unwrap();
        for version in ["-tls1_2", "-tls1_3"] {
            let done = traffic::handshake(port, version, &bench.authority.certificate()).unwrap();
            assert!(done.status.success(), "{version} {}", done.stderr);
        }
    });
}

/// A key in a file goes on working, and is not captured, while our provider is active.
#[test]
fn file_keys_are_left_alone() {
    let bench = Bench::new().unwrap();
    let environment = bench.partition.environment();
    let (key, public) = (bench.file("file.key"), bench.file("file.pub"));
    let (message, signature) = (bench.file("message"), bench.file("signature"));
    fs::write(&message, "a message").unwrap();
    for kind in KeyKind::TYPES {
        if kind == KeyKind::Ed25519 {
            continue;
        }
        strongroom_demo::pki::key_file(kind, std::path::Path::new(&key)).unwrap();
        run_openssl(&environment, "pkey -in {} -pubout -out {}", &[&key, &public]).unwrap();
        run_openssl(&environment, "dgst -sha256 -sign {} -out {} {}", &[&key, &signature, &message]).unwrap();
        plain("dgst -sha256 -verify {} -signature {} {}", &[&public, &signature, &message]);
    }
    let status = bench.partition.daemon.manage(&["status", "--json"]).unwrap();
    assert!(status.replace(' ', "").contains("\"signatures\":0"), "{status}");
}
