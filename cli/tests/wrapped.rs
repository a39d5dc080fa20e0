//! `strongroom key import` of PKCS#12, DER and wrapped keys, `key export` and `key trust`; docs/import.md has more of it.

mod harness;

use std::fs;

use harness::{Daemon, OFFICER_PASSWORD, openssl};

/// A key, its certificate and the issuer's in PKCS#12, and what openssl says of the public key.
fn archive(daemon: &Daemon, options: &[&str], passphrase: &str) -> String {
    let at = daemon.directory.path();
    let req = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"];
    openssl(at, &[&req[..], &["-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=Our CA"]].concat());
    let request = ["req", "-newkey", "rsa:2048", "-nodes", "-keyout", "leaf.key", "-out", "leaf.csr"];
    openssl(at, &[&request[..], &["-subj", "/CN=www.example.org"]].concat());
    let sign = ["x509", "-req", "-in", "leaf.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"];
    openssl(at, &[&sign[..], &["-out", "leaf.crt"]].concat());
    let export = ["pkcs12", "-export", "-inkey", "leaf.key", "-in", "leaf.crt", "-certfile", "ca.crt"];
    let passout = format!("pass:{passphrase}");
    openssl(at, &[&export[..], &["-out", "site.p12", "-passout", &passout], options].concat());
    openssl(at, &["pkey", "-in", "leaf.key", "-pubout"])
}

#[test]
fn pkcs12_brings_key_certificate_and_chain() {
    for (options, passphrase) in [(&[][..], "secret"), (&["-legacy"], "secret"), (&["-iter", "1"], "")] {
        let daemon = Daemon::with_partition();
        let public = archive(&daemon, options, passphrase);
        let file = daemon.path("site.p12");
        let file = file.to_str().unwrap();
        let right = daemon.secret("right", passphrase);
        let import = |more: &[&str]| daemon.run(&[&["key", "import", "web", file], more].concat());
        if !passphrase.is_empty() {
            let wrong = daemon.secret("wrong", "guess");
            let error = import(&["--passphrase-file", &wrong, "--json"]).json_error();
            assert_eq!((&error["code"], &error["exit"]), (&"passphrase_wrong".into(), &4.into()));
            assert_eq!(import(&["--json"]).json_error()["code"], "passphrase_needed");
        }
        let asked = if passphrase.is_empty() { vec![] } else { vec!["--passphrase-file", &right] };
        let text = import(&asked).succeeds();
        assert!(text.contains("\"www.example.org\" beside it, and 1 of its chain"), "{text}");
        assert_eq!(daemon.run(&["key", "public", "web"]).succeeds(), public);
        let pem = daemon.run(&["cert", "get", "web", "--chain"]).succeeds();
        assert_eq!(pem.matches("BEGIN CERTIFICATE").count(), 2, "{pem}");
        // A damaged file is one clear error.
        let mut bytes = fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
        fs::write(file, &bytes).unwrap();
        let damaged = daemon.run(&["key", "import", "other", file, "--passphrase-file", &right, "--json"]);
        let code = damaged.json_error()["code"].clone();
        assert!(["passphrase_wrong", "key_malformed", "password_file"].contains(&code.as_str().unwrap()));
    }
}

#[test]
fn der_is_imported_as_pem_is() {
    let daemon = Daemon::with_partition();
    let at = daemon.directory.path();
    let p384 = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out", "key.pem"];
    openssl(at, &p384);
    let public = openssl(at, &["pkey", "-in", "key.pem", "-pubout"]);
    let secret = daemon.secret("secret", "phrase");
    let pass = format!("file:{secret}");
    let topk8 = ["pkcs8", "-topk8", "-in", "key.pem", "-outform", "DER", "-out", "plain.der", "-nocrypt"];
    openssl(at, &topk8);
    let encrypted = ["pkcs8", "-topk8", "-in", "key.pem", "-outform", "DER", "-out", "secret.der"];
    openssl(at, &[&encrypted[..], &["-passout", &pass]].concat());
    openssl(at, &["ec", "-in", "key.pem", "-outform", "DER", "-out", "sec1.der"]);
    for name in ["plain", "secret", "sec1"] {
        let file = daemon.path(&format!("{name}.der"));
        let import = ["key", "import", name, file.to_str().unwrap(), "--passphrase-file", &secret];
        daemon.run(&import).succeeds();
        assert_eq!(daemon.run(&["key", "public", name]).succeeds(), public, "{name}");
    }
}

#[test]
fn transfer_blobs_go_from_one_partition_to_another() {
    let daemon = Daemon::with_partition();
    let officer = daemon.secret("officer", OFFICER_PASSWORD);
    let run = |arguments: &[&str]| daemon.run(arguments);
    run(&["key", "generate", "kek", "--type", "rsa-2048", "--usage", "unwrap"]).succeeds();
    let key = ["key", "generate", "web", "--type", "p256", "--extractable", "--wrap-with-trusted"];
    let public = run(&[&key[..], &["--json"]].concat()).json()["public_key"].clone();
    let blob = daemon.path("web.byok");
    let blob = blob.to_str().unwrap();
    let export = ["key", "export", "web", "--wrapping-key", "kek", "--byok", "kid", "--out", blob];
    let error = run(&[&export[..], &["--json"]].concat()).json_error();
    assert_eq!((&error["code"], &error["exit"]), (&"wrapping_key_not_trusted".into(), &4.into()));
    let trust = ["key", "trust", "kek", "--login", "admin", "--password-file", &officer];
    run(&trust).succeeds();
    run(&export).succeeds();
    assert_eq!(run(&[&export[..], &["--json"]].concat()).json_error()["code"], "file_exists");
    let import = ["key", "import", "again", "--wrapped", blob, "--unwrapping-key", "kek", "--json"];
    let again = run(&import).json();
    assert_eq!(again["public_key"], public);
    assert_eq!((&again["origin"], &again["extractable"]), (&"imported".into(), &false.into()));
    assert_eq!(run(&import).json_error()["code"], "exists");
    // The hash of another kind, a key that stays, no trust any more.
    let other = ["--hash", "sha256", "--json"];
    let import = ["key", "import", "other", "--wrapped", blob, "--unwrapping-key", "kek"];
    assert_eq!(run(&[&import[..], &other].concat()).json_error()["code"], "wrapped_key_wrong");
    let stays = ["key", "export", "again", "--wrapping-key", "kek", "--out", "x", "--json"];
    assert_eq!(run(&stays).json_error()["code"], "key_not_extractable");
    run(&[&trust[..], &["--withdraw"]].concat()).succeeds();
    let export = [&export[..], &["--force", "--json"]].concat();
    assert_eq!(run(&export).json_error()["code"], "wrapping_key_not_trusted");
    // What is no wrapped key.
    fs::write(blob, "{}").unwrap();
    assert_eq!(run(&[&import[..], &["--json"]].concat()).json_error()["code"], "wrapped_key_malformed");
    fs::write(blob, "").unwrap();
    assert_eq!(run(&[&import[..], &["--json"]].concat()).json_error()["code"], "wrapped_key_malformed");
}
