//! The owner of a partition, whose part the real openssl plays: unlocking by a challenge, and node certificates.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test's panic is its report")]

mod harness;

use std::fs;

use harness::{Daemon, openssl};

const OWN: &[&str] = &["-l", "admin", "--password-file", "officer.txt"];

/// A self-signed certificate NAME.crt with the key NAME.key.
fn certificate(daemon: &Daemon, name: &str, algorithm: &[&str]) {
    let (key, crt, subject) = (format!("{name}.key"), format!("{name}.crt"), format!("/CN={name}"));
    let new = ["req", "-x509", "-noenc", "-days", "30", "-keyout", &key, "-out", &crt, "-subj", &subject];
    openssl(daemon.directory.path(), &[&new[..], &["-newkey"], algorithm].concat());
}

fn sign(daemon: &Daemon, key: &str, challenge: &str, signature: &str) {
    openssl(daemon.directory.path(), &["dgst", "-sha256", "-sign", key, "-out", signature, challenge]);
}

/// Wrong passwords until the user is locked.
fn lock(daemon: &Daemon, partition: &str, name: &str) {
    let wrong = daemon.secret("wrong.txt", "not the password");
    let login = ["-p", partition, "-l", name, "--password-file", &wrong, "--json"];
    let try_once = || daemon.run(&[&["user", "list"][..], &login].concat()).json_error();
    let refused = (0..20).map(|_| try_once()["code"].as_str().unwrap().to_owned());
    assert_eq!(refused.take_while(|code| code == "password_wrong").count(), 10);
}

/// Partitions "one" and "two" of one owner; both officers are locked.
fn two_locked(owner: &[&str]) -> Daemon {
    let daemon = Daemon::start();
    certificate(&daemon, "PO", owner);
    certificate(&daemon, "other", owner);
    for label in ["one", "two"] {
        daemon.init(label, &["--owner-certificate", "PO.crt"]).succeeds();
        lock(&daemon, label, "admin");
    }
    daemon
}

fn unlocks_by_challenge_only(owner: &[&str]) {
    let mut daemon = two_locked(owner);
    let challenge = |partition: &str, name: &str, out: &str| {
        daemon.run(&["user", "challenge", name, "-p", partition, "--out", out]).succeeds();
    };
    let unlock = |daemon: &Daemon, partition: &str, signature: &str| {
        daemon.run(&["user", "unlock", "admin", "-p", partition, "--signature", signature, "--json"])
    };
    // Nobody else unlocks: not root, who runs this.
    let error = daemon.run(&["user", "unlock", "admin", "-p", "one", "--json"]).json_error();
    assert_eq!(error["code"], "not_logged_in");
    challenge("one", "admin", "one.bin");
    challenge("two", "admin", "two.bin");
    assert_ne!(fs::read(daemon.path("one.bin")).unwrap(), fs::read(daemon.path("two.bin")).unwrap());
    sign(&daemon, "PO.key", "one.bin", "one.sig");
    sign(&daemon, "PO.key", "two.bin", "two.sig");
    sign(&daemon, "other.key", "one.bin", "other.sig");
    // Another owner's, another partition's, and no signature at all.
    for wrong in ["other.sig", "two.sig", "one.bin"] {
        assert_eq!(unlock(&daemon, "one", wrong).json_error()["code"], "signature_wrong", "{wrong}");
    }
    let user = ["user", "unlock", "user", "-p", "one", "--signature", "one.sig", "--json"];
    assert_eq!(daemon.run(&user).json_error()["code"], "no_challenge", "it is another user's");
    assert_eq!(unlock(&daemon, "one", "one.sig").code, 0);
    daemon.run(&[&["user", "list", "-p", "one"][..], OWN].concat()).succeeds();
    // Once: also when the officer is locked again.
    lock(&daemon, "one", "admin");
    assert_eq!(unlock(&daemon, "one", "one.sig").json_error()["code"], "no_challenge");
    challenge("one", "admin", "again.bin");
    assert_eq!(unlock(&daemon, "one", "one.sig").json_error()["code"], "signature_wrong");
    // A restart ends those that wait; the user stays locked, and the owner is remembered.
    daemon.restart();
    assert_eq!(unlock(&daemon, "two", "two.sig").json_error()["code"], "no_challenge");
    daemon.run(&["user", "challenge", "admin", "-p", "two", "--out", "new.bin"]).succeeds();
    sign(&daemon, "PO.key", "new.bin", "new.sig");
    assert_eq!(unlock(&daemon, "two", "new.sig").code, 0);
}

#[test]
fn an_owner_with_an_rsa_key_unlocks_an_officer() {
    unlocks_by_challenge_only(&["rsa:3072"]);
}

#[test]
fn an_owner_with_a_key_on_a_curve_unlocks_an_officer() {
    unlocks_by_challenge_only(&["ec", "-pkeyopt", "ec_paramgen_curve:P-384"]);
}

#[test]
fn without_an_owner_root_unlocks() {
    let daemon = Daemon::start();
    daemon.init("one", &[]).succeeds();
    lock(&daemon, "one", "admin");
    let error = daemon.run(&["user", "challenge", "admin", "--out", "c.bin", "--json"]).json_error();
    assert_eq!(error["code"], "no_challenge");
    daemon.run(&["user", "unlock", "admin"]).succeeds();
    daemon.run(&[&["user", "list"][..], OWN].concat()).succeeds();
}

#[test]
fn who_is_not_locked_needs_no_challenge_and_names_nobody() {
    let daemon = Daemon::start();
    certificate(&daemon, "PO", &["rsa:2048"]);
    daemon.init("one", &["--owner-certificate", "PO.crt"]).succeeds();
    let refused = |name: &str| {
        daemon.run(&["user", "challenge", name, "--out", "c.bin"]).fails(5).replace(name, "NAME")
    };
    assert_eq!(refused("admin"), refused("nobody-of-this-name"));
}

/// What is no owner's certificate is refused before anything is made.
#[test]
fn an_owner_signs_the_own_certificate() {
    let daemon = Daemon::start();
    certificate(&daemon, "PO", &["rsa:2048"]);
    certificate(&daemon, "weak", &["rsa:1024"]);
    certificate(&daemon, "edwards", &["ed25519"]);
    let directory = daemon.directory.path();
    openssl(
        directory,
        &[
            "req", "-new", "-newkey", "rsa:2048", "-noenc", "-keyout", "x.key", "-out", "x.csr", "-subj",
            "/CN=x",
        ],
    );
    openssl(
        directory,
        &[
            "x509",
            "-req",
            "-in",
            "x.csr",
            "-CA",
            "PO.crt",
            "-CAkey",
            "PO.key",
            "-days",
            "30",
            "-out",
            "signed.crt",
        ],
    );
    for file in ["signed.crt", "weak.crt", "edwards.crt", "PO.key", "missing.crt"] {
        daemon.init("one", &["--owner-certificate", file]).fails(1);
    }
    assert_eq!(daemon.run(&["partition", "list", "--json"]).json()["partitions"], serde_json::json!([]));
}

#[test]
fn a_client_checks_the_node() {
    let mut daemon = Daemon::start();
    certificate(&daemon, "PO", &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    certificate(&daemon, "other", &["rsa:2048"]);
    daemon.init("one", &["--owner-certificate", "PO.crt"]).succeeds();
    daemon.run(&["node", "verify", "--owner", "PO.crt"]).fails(1);
    daemon.run(&["node", "request", "--out", "node.csr"]).succeeds();
    let sign = |daemon: &Daemon, owner: &str, request: &str, out: &str, days: &str| {
        let (crt, key) = (format!("{owner}.crt"), format!("{owner}.key"));
        let ca = ["x509", "-req", "-in", request, "-CA", &crt, "-CAkey", &key, "-days", days, "-out", out];
        openssl(daemon.directory.path(), &ca);
    };
    // Signed by somebody else, for another key, and one that has run out.
    let new = [
        "req", "-new", "-newkey", "rsa:2048", "-noenc", "-keyout", "x.key", "-out", "x.csr", "-subj", "/CN=x",
    ];
    openssl(daemon.directory.path(), &new);
    sign(&daemon, "other", "node.csr", "stranger.crt", "30");
    sign(&daemon, "PO", "x.csr", "key.crt", "30");
    sign(&daemon, "PO", "node.csr", "old.crt", "-1");
    for wrong in ["stranger.crt", "key.crt", "old.crt"] {
        let error = daemon.run(&["node", "certificate", "install", wrong, "--json"]).json_error();
        assert_eq!(error["code"], "certificate_wrong", "{wrong}");
    }
    sign(&daemon, "PO", "node.csr", "node.crt", "30");
    daemon.run(&["node", "certificate", "install", "node.crt"]).succeeds();
    // The key and its certificate are kept.
    daemon.restart();
    let json = daemon.run(&["node", "verify", "--owner", "PO.crt", "--json"]).json();
    assert!(json["subject"].as_str().unwrap().starts_with("CN=strongroom node "), "{json}");
    let error = daemon.run(&["node", "verify", "--owner", "other.crt", "--json"]).json_error();
    assert_eq!(error["code"], "node_not_verified");
}
