//! `strongroom cert`: certificates lie beside the right key, with their chain.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test's panic is its report")]

mod harness;

use std::fs;

use der::{DecodePem, Encode};
use harness::{Daemon, fields, openssl};
use ml_dsa::{EncodedVerifyingKey, MlDsa44, MlDsa65, MlDsa87, Signature, VerifyingKey};
use x509_cert::request::CertReq;

/// Makes a root, an issuer and a leaf for the key `web` (imported from web.key), and fullchain.pem.
fn with_pki() -> Daemon {
    let daemon = Daemon::with_partition();
    let directory = daemon.directory.path();
    for key in ["root", "issuer", "web", "other"] {
        let file = format!("{key}.key");
        openssl(
            directory,
            &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", &file],
        );
    }
    openssl(
        directory,
        &["req", "-x509", "-key", "root.key", "-subj", "/CN=Test Root", "-days", "30", "-out", "root.crt"],
    );
    sign(&daemon, "issuer", "/CN=Test Issuer", "root", "basicConstraints=critical,CA:true");
    sign(
        &daemon,
        "web",
        "/O=Example/CN=www.example.org",
        "issuer",
        "subjectAltName=DNS:www.example.org,IP:192.0.2.7",
    );
    sign(&daemon, "other", "/CN=other.example.org", "issuer", "subjectAltName=DNS:other.example.org");
    let chain: String = ["web.crt", "issuer.crt", "root.crt"]
        .iter()
        .map(|f| fs::read_to_string(daemon.path(f)).unwrap())
        .collect();
    fs::write(daemon.path("fullchain.pem"), chain).unwrap();
    daemon.run(&["key", "import", "web", "web.key"]).succeeds();
    daemon
}

/// Signs NAME.crt for NAME.key by ISSUER.
fn sign(daemon: &Daemon, name: &str, subject: &str, issuer: &str, extension: &str) {
    let directory = daemon.directory.path();
    let file = |suffix: &str| format!("{name}.{suffix}");
    let (ca, ca_key) = (format!("{issuer}.crt"), format!("{issuer}.key"));
    fs::write(
        daemon.path("extensions"),
        format!("{extension}\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"),
    )
    .unwrap();
    openssl(directory, &["req", "-new", "-key", &file("key"), "-subj", subject, "-out", &file("csr")]);
    openssl(
        directory,
        &[
            "x509",
            "-req",
            "-in",
            &file("csr"),
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-CAcreateserial",
            "-days",
            "90",
            "-extfile",
            "extensions",
            "-out",
            &file("crt"),
        ],
    );
}

fn names(daemon: &Daemon) -> Vec<String> {
    let json = daemon.run(&["cert", "list", "--json"]).json();
    json["certificates"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_certificate_with_its_chain() {
    let daemon = with_pki();
    let text = daemon.run(&["cert", "list"]).succeeds();
    assert!(text.contains("cert put"), "{text}");
    let text = daemon.run(&["cert", "put", "web", "fullchain.pem"]).succeeds();
    assert!(text.contains("CN=www.example.org") && text.contains("Test Issuer"), "{text}");
    assert_eq!(names(&daemon), ["Test Issuer", "Test Root", "web"]);
    let text = daemon.run(&["cert", "list"]).succeeds();
    assert!(text.contains("CN=www.example.org"), "{text}");

    let json = daemon.run(&["cert", "show", "web", "--json"]).json();
    assert_eq!(
        fields(&json),
        [
            "expired",
            "id",
            "issuer",
            "key",
            "name",
            "names",
            "not_after",
            "not_before",
            "object",
            "pem",
            "public_key_fingerprint",
            "serial",
            "subject"
        ]
    );
    assert_eq!(json["names"], serde_json::json!(["www.example.org", "192.0.2.7"]));
    assert_eq!(json["key"], "web");
    assert_eq!(json["expired"], false);
    let key = daemon.run(&["key", "show", "web", "--json"]).json();
    assert_eq!(json["id"], key["id"]);
    assert_eq!(json["public_key_fingerprint"], key["fingerprint"]);
    assert_eq!(key["certificates"], serde_json::json!(["www.example.org"]));
    let serial = openssl(daemon.directory.path(), &["x509", "-in", "web.crt", "-noout", "-serial"]);
    assert_eq!(format!("serial={}", json["serial"].as_str().unwrap().to_uppercase()), serial.trim());

    let text = daemon.run(&["cert", "show", "web"]).succeeds();
    assert!(text.contains("192.0.2.7") && text.contains("BEGIN CERTIFICATE"), "{text}");
    assert_eq!(
        daemon.run(&["cert", "get", "web"]).succeeds(),
        fs::read_to_string(daemon.path("web.crt")).unwrap()
    );
    let chain = fs::read_to_string(daemon.path("fullchain.pem")).unwrap();
    assert_eq!(daemon.run(&["cert", "get", "web", "--chain"]).succeeds(), chain);
    daemon.run(&["cert", "get", "web", "--chain", "--out", "chain.pem"]).succeeds();
    assert_eq!(fs::read_to_string(daemon.path("chain.pem")).unwrap(), chain);

    // A bundle for HAProxy: the reference, then the chain.
    let bundle = daemon.run(&["key", "reference", "web", "--cert"]).succeeds();
    assert!(bundle.starts_with("-----BEGIN PKCS#11 PROVIDER URI-----\n"), "{bundle}");
    assert!(bundle.ends_with(&chain), "{bundle}");
}

#[test]
fn a_certificate_of_another_key_is_refused() {
    let daemon = with_pki();
    let error = daemon.run(&["cert", "put", "web", "other.crt"]).fails(1);
    assert!(error.contains("other.example.org") && error.contains("not for key \"web\""), "{error}");
    assert_eq!(
        daemon.run(&["cert", "put", "web", "other.crt", "--json"]).json_error()["code"],
        "certificate_does_not_match"
    );
    daemon.run(&["cert", "put", "no-such-key", "web.crt"]).fails(5);
    let error = daemon.run(&["cert", "put", "web", "web.key"]).fails(1);
    assert!(error.contains("no certificate"), "{error}");
    let pem = fs::read_to_string(daemon.path("web.crt")).unwrap();
    fs::write(daemon.path("cut.crt"), &pem[..200]).unwrap();
    let error = daemon.run(&["cert", "put", "web", "cut.crt"]).fails(1);
    assert!(error.contains("cut short"), "{error}");
    fs::write(daemon.path("wrong.crt"), "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n")
        .unwrap();
    let error = daemon.run(&["cert", "put", "web", "wrong.crt"]).fails(1);
    assert!(error.contains("not an X.509 certificate"), "{error}");
    fs::write(daemon.path("twice.crt"), format!("{pem}{pem}")).unwrap();
    daemon.run(&["cert", "put", "web", "twice.crt"]).fails(2);
    assert!(names(&daemon).is_empty());
}

#[test]
fn a_renewed_certificate_replaces_the_old_one() {
    let daemon = with_pki();
    daemon.run(&["cert", "put", "web", "fullchain.pem"]).succeeds();
    let again = daemon.run(&["cert", "put", "web", "fullchain.pem", "--json"]).json();
    assert_eq!(fields(&again), ["certificate", "chain", "changed", "replaced"]);
    assert_eq!(again["changed"], false);
    assert_eq!(names(&daemon).len(), 3);

    sign(&daemon, "web", "/CN=renewed.example.org", "issuer", "subjectAltName=DNS:www.example.org");
    let error = daemon.run(&["cert", "put", "web", "web.crt"]).fails(6);
    assert!(error.contains("--replace") && error.contains("serial"), "{error}");
    let json = daemon.run(&["cert", "put", "web", "web.crt", "--replace", "--json"]).json();
    assert_eq!(json["changed"], true);
    assert_eq!(json["replaced"].as_array().unwrap().len(), 1);
    assert_eq!(names(&daemon), ["Test Issuer", "Test Root", "web"]);
    assert_eq!(daemon.run(&["cert", "show", "web", "--json"]).json()["subject"], "CN=renewed.example.org");
}

#[test]
fn certificates_and_keys_are_deleted_apart() {
    let daemon = with_pki();
    daemon.run(&["cert", "put", "web", "web.crt"]).succeeds();
    let text = daemon.run(&["key", "delete", "web", "--yes"]).succeeds();
    assert!(text.contains("certificate \"www.example.org\" is still there"), "{text}");
    let text = daemon.run(&["cert", "show", "web"]).succeeds();
    assert!(text.contains("none in this partition"), "{text}");
    daemon.run(&["cert", "delete", "web"]).fails(2);
    daemon.run(&["cert", "delete", "web", "--yes"]).succeeds();
    let error = daemon.run(&["cert", "show", "web"]).fails(5);
    assert!(error.contains("cert list"), "{error}");
}

/// Somebody else's ML-DSA.
fn verify_ml_dsa(key_type: &str, pem: &str) {
    fn verify<P: ml_dsa::MlDsaParams>(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
        let key = VerifyingKey::<P>::decode(&EncodedVerifyingKey::<P>::try_from(key).unwrap());
        let signature = Signature::<P>::try_from(signature).unwrap();
        key.verify_with_context(message, &[], &signature)
    }
    let request = CertReq::from_pem(pem).unwrap();
    let (message, signature) = (request.info.to_der().unwrap(), request.signature.raw_bytes());
    let key = request.info.public_key.subject_public_key.raw_bytes();
    assert_eq!(request.algorithm, request.info.public_key.algorithm, "RFC 9881: both are named alike");
    let verifies = match key_type {
        "ml-dsa-44" => verify::<MlDsa44>,
        "ml-dsa-65" => verify::<MlDsa65>,
        _ => verify::<MlDsa87>,
    };
    assert!(verifies(key, &message, signature), "{key_type}");
    assert!(!verifies(key, &[&message[..], b"."].concat(), signature), "{key_type}");
}

#[test]
fn a_request_is_signed_by_the_key_and_read_by_openssl() {
    let daemon = Daemon::with_partition();
    let directory = daemon.directory.path();
    let public = |arguments: &[&str]| openssl(directory, arguments);
    let curves = ["p256", "p384", "p521", "secp256k1", "p224", "brainpoolP384r1", "ed25519", "ed448"];
    let others = ["rsa-2048", "rsa-3072", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87"];
    for key_type in curves.into_iter().chain(others) {
        daemon.run(&["key", "generate", key_type, "--type", key_type]).succeeds();
        let file = format!("{key_type}.csr");
        let request = ["key", "request", key_type, "--host", "www.example.org", "--out", &file];
        let said = daemon.run(&request).succeeds();
        assert!(said.contains("CN=www.example.org") && said.contains("cert put"), "{said}");
        // Debian's openssl reads it from 3.5 on.
        if key_type.starts_with("ml-dsa") {
            verify_ml_dsa(key_type, &fs::read_to_string(daemon.path(&file)).unwrap());
            continue;
        }
        openssl(directory, &["req", "-in", &file, "-noout", "-verify"]);
        daemon.run(&["key", "public", key_type, "--out", "key.pub", "--force"]).succeeds();
        let its = public(&["pkey", "-pubin", "-in", "key.pub", "-pubout"]);
        assert_eq!(public(&["req", "-in", &file, "-noout", "-pubkey"]), its, "{key_type}");
    }
    assert!(
        daemon
            .run(&["key", "request", "p256", "--host", "a", "--out", "p256.csr"])
            .fails(6)
            .contains("--force")
    );
    let long = ["--subject", "CN=www.example.org,O=Example Inc.\\, Berlin,C=DE", "--host", "*.example.org"];
    let more = ["--ip", "192.0.2.7", "--ip", "2001:db8::7", "--json"];
    let made = daemon.run(&[&["key", "request", "p256"][..], &long, &more].concat()).json();
    assert_eq!(made["addresses"], serde_json::json!(["192.0.2.7", "2001:db8::7"]));
    fs::write(daemon.path("long.csr"), made["pem"].as_str().unwrap()).unwrap();
    let text =
        openssl(directory, &["req", "-in", "long.csr", "-noout", "-verify", "-text", "-nameopt", "RFC2253"]);
    for shown in [
        "Subject: CN=www.example.org,O=Example Inc.\\, Berlin,C=DE",
        "DNS:*.example.org, IP Address:192.0.2.7, IP Address:2001:DB8:0:0:0:0:0:7",
    ] {
        assert!(text.contains(shown), "{text}");
    }
    // What cannot be a name is said to be none.
    for (option, value, said) in [
        ("--subject", "www.example.org", "CN=www.example.org,O=Example"),
        ("--subject", "", "CN=www.example.org,O=Example"),
        ("--host", "", "not a host name"),
        ("--host", "m\u{fc}nchen.example", "xn--"),
        ("--host", "a b", "not a host name"),
        ("--ip", "192.0.2", "--ip"),
    ] {
        let refused = daemon.run(&["key", "request", "p256", option, value]);
        let error = refused.stderr;
        assert!(refused.code == 2 && error.contains(said) && error.contains(option), "{value:?}: {error}");
    }
    assert!(daemon.run(&["key", "request", "p256"]).stderr.contains("--subject"));
    for key_type in ["x25519", "aes-256", "ml-kem-768"] {
        daemon.run(&["key", "generate", key_type, "--type", key_type]).succeeds();
        daemon.run(&["key", "request", key_type, "--host", "a"]).fails(1);
    }
}

#[test]
fn a_request_is_for_the_version_that_waits() {
    let daemon = Daemon::with_partition();
    let directory = daemon.directory.path();
    daemon.run(&["key", "generate", "web", "--type", "p256"]).succeeds();
    let first = daemon.run(&["key", "public", "web"]).succeeds();
    let rotated = daemon.run(&["key", "rotate", "web", "--json"]).json();
    let request = |name: &str| {
        daemon.run(&["key", "request", name, "--host", "a", "--out", "a.csr", "--force"]).succeeds();
        openssl(directory, &["req", "-in", "a.csr", "-noout", "-verify", "-pubkey"])
    };
    let second = request("web");
    assert_ne!(second, first);
    let id = |key: &serde_json::Value| format!("id:{}", key["id"].as_str().unwrap());
    assert_eq!(request(&id(&rotated)), second);
    let key = daemon.run(&["key", "show", "web", "--json"]).json();
    assert_eq!(request(&id(&key)), first);
    daemon.run(&["key", "activate", "web"]).succeeds();
    assert_eq!(request("web"), second);
}
