//! Files that earlier releases have written are read by this one: the store, its seals, backups, and audit logs in tests/golden/,
//! a folder for each release. A release whose files these tests cannot read has no way for its users to come.
//!
//! When a format changes, `GOLDEN=0.2.0 cargo test -p strongroom-cli --test golden` writes another folder; those that are there
//! stay as they are.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test's panic is its report"
)]

mod harness;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{Daemon, OFFICER_PASSWORD, openssl};
use strongroom_protocol::v1::{
    FindObjects, Login, Mechanism, ObjectClass, Role, Sign, request::Op, response,
};

const PASSPHRASE: &str = "a passphrase for the node";

/// The private keys that every release's files have, by name and type.
const KEYS: [(&str, &str); 5] =
    [("web", "p256"), ("mail", "rsa-2048"), ("ssh", "ed25519"), ("large", "p521"), ("data", "aes-256")];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The folders of all releases; none if this is not root, whom their partitions admit.
fn releases() -> Vec<PathBuf> {
    if !rustix::process::getuid().is_root() {
        return Vec::new();
    }
    let mut found: Vec<_> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_all(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

fn gzip(arguments: &[&str], from: &Path, to: &Path) {
    let output = Command::new("gzip").args(arguments).arg("--stdout").arg(from).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::write(to, output.stdout).unwrap();
}

/// A stopped daemon in whose state directory are a release's store and the files that are named.
fn with_state(release: &Path, files: &[(&str, &str)]) -> Daemon {
    let mut daemon = Daemon::start();
    daemon.stop();
    fs::remove_dir_all(daemon.path("state")).unwrap();
    fs::create_dir(daemon.path("state")).unwrap();
    gzip(&["--decompress"], &release.join("store.redb.gz"), &daemon.path("state/store.redb"));
    for (name, as_what) in files {
        fs::copy(release.join(name), daemon.path("state").join(as_what)).unwrap();
    }
    for path in ["state", "state/store.redb", "state/node.key"] {
        let _ = fs::set_permissions(
            daemon.path(path),
            std::os::unix::fs::PermissionsExt::from_mode(if path == "state" { 0o700 } else { 0o600 }),
        );
    }
    daemon
}

/// What a private key signs, for openssl to verify with the public key that the release has written beside.
fn signs(daemon: &Daemon, release: &Path, name: &str) {
    let mut connection = daemon.connect();
    let login =
        Login { role: Role::CryptoUser.into(), password: harness::USER_PASSWORD.into(), ..Login::default() };
    connection.call(1, Op::Login(login)).unwrap();
    let find = FindObjects {
        class: ObjectClass::PrivateKey.into(),
        label: name.into(),
        label_given: true,
        ..FindObjects::default()
    };
    let response::Result::Objects(found) = connection.call(1, Op::FindObjects(find)).unwrap() else {
        panic!()
    };
    let key = found.objects[0].object.clone();
    let digest: Vec<u8> = (0..32).collect();
    let sign = Sign { key, mechanism: Mechanism::Ecdsa.into(), data: digest.clone(), ..Sign::default() };
    let response::Result::Signature(signature) = connection.call(1, Op::Sign(sign)).unwrap() else {
        panic!()
    };
    let der = strongroom_owner::node::ecdsa_der(&signature.signature).unwrap();
    fs::write(daemon.path("digest"), digest).unwrap();
    fs::write(daemon.path("signature"), der).unwrap();
    let public = release.join(format!("{name}.pub"));
    let public = public.to_str().unwrap();
    let verify = ["pkeyutl", "-verify", "-pubin", "-inkey", public, "-in", "digest", "-sigfile", "signature"];
    assert!(openssl(daemon.directory.path(), &verify).contains("Verified Successfully"));
}

/// The partition has what was in it when the release's files were written.
fn is_whole(daemon: &Daemon, release: &Path) {
    let list = daemon.run(&["key", "list", "--json"]).json();
    let keys = list["keys"].as_array().unwrap();
    for (name, key_type) in KEYS {
        let there = keys.iter().any(|key| key["name"] == name && key["type"] == key_type);
        assert!(there, "{}: no {name}: {list}", release.display());
    }
    for (name, _) in KEYS.iter().filter(|(_, key_type)| *key_type != "aes-256") {
        let written = fs::read_to_string(release.join(format!("{name}.pub"))).unwrap();
        assert_eq!(daemon.run(&["key", "public", name]).succeeds(), written, "{name}");
    }
    // Elliptic curves: their signatures are openssl's to verify over any digest.
    signs(daemon, release, "web");
    signs(daemon, release, "large");
    assert_eq!(
        daemon.run(&["cert", "get", "web"]).succeeds(),
        fs::read_to_string(release.join("web.crt")).unwrap()
    );
    let users = daemon.as_officer(&["user", "list", "--json"]).json();
    let names: Vec<_> = users["users"].as_array().unwrap().iter().map(|user| user["name"].clone()).collect();
    assert_eq!(names, ["admin", "auditor", "user"], "{users}");
    let access = daemon.run(&["key", "access", "web", "--json"]).json();
    assert_eq!(access["access"].as_array().unwrap().len(), 2, "{access}");
    daemon.run(&["role", "list"]).succeeds();
    daemon.run(&["key", "list", "--deleted"]).succeeds();
    daemon.run(&["tamper", "check"]).succeeds();
    // It is not only read.
    daemon.run(&["key", "generate", "new", "--type", "p256"]).succeeds();
}

#[test]
fn stores_of_all_releases_are_read() {
    write_a_release();
    for release in releases() {
        let mut daemon = with_state(&release, &[("node.key", "node.key")]);
        copy_all(&release.join("audit"), &daemon.path("state/audit"));
        daemon.restart();
        is_whole(&daemon, &release);
        // The log goes on where it ended, and is one chain.
        daemon.stop();
        let log = daemon.path("state/audit");
        let key = release.join("audit.pem");
        daemon.run(&["audit", "verify", log.to_str().unwrap(), "--key", key.to_str().unwrap()]).succeeds();
    }
}

#[test]
fn seals_of_all_releases_are_opened() {
    for release in releases() {
        let mut daemon = with_state(&release, &[("node.seal.passphrase", "node.seal")]);
        daemon.restart();
        assert_eq!(daemon.run(&["status", "--json"]).json()["sealed_with"], "passphrase");
        let passphrase = daemon.secret("passphrase", PASSPHRASE);
        daemon.run(&["unseal", "--passphrase-file", &passphrase]).succeeds();
        is_whole(&daemon, &release);

        let mut daemon = with_state(&release, &[("node.seal.shares", "node.seal")]);
        daemon.restart();
        assert_eq!(daemon.run(&["status", "--json"]).json()["sealed_with"], "shares");
        let share = ["share", "node.shares", "--holder-key", "alice.key", "--out"];
        let out = daemon.path("alice.share");
        let mut command = daemon.command(&share);
        assert!(command.arg(&out).current_dir(&release).status().unwrap().success());
        let bob = release.join("bob.key");
        let with = ["unseal", "--share", out.to_str().unwrap(), "--holder-key", bob.to_str().unwrap()];
        daemon.run(&with).succeeds();
        is_whole(&daemon, &release);
    }
}

#[test]
fn backups_of_all_releases_are_restored() {
    for release in releases() {
        let file = |name: &str| release.join(name).to_str().unwrap().to_owned();
        let bare = Daemon::start();
        let (alice, bob) = (file("alice.key"), file("bob.key"));
        let quorum = ["--holder-key", alice.as_str(), "--holder-key", &bob];
        bare.run(&[&["backup", "verify", &file("web.backup")][..], &quorum].concat()).succeeds();
        let with_domain = ["--domain", &file("tls.domain")];
        bare.run(&[&["backup", "restore", &file("tls.backup")][..], &with_domain, &quorum].concat())
            .succeeds();
        is_whole(&bare, &release);
        bare.run(&["key", "delete", "web", "--yes"]).succeeds();
        bare.as_officer(&["key", "purge", "web", "--yes"]).succeeds();
        bare.run(&["cert", "delete", "web", "--yes"]).succeeds();
        bare.run(&[&["backup", "restore", &file("web.backup")][..], &quorum].concat()).succeeds();
        signs(&bare, &release, "web");
    }
}

#[test]
fn audit_logs_of_all_releases_are_verified() {
    for release in releases() {
        let daemon = Daemon::start();
        let file = |name: &str| release.join(name).to_str().unwrap().to_owned();
        for log in ["audit", "tls.jsonl"] {
            let said = daemon.run(&["audit", "verify", &file(log), "--key", &file("audit.pem")]).succeeds();
            assert!(said.contains("partition-1: entries 1 to "), "{said}");
        }
    }
}

/// Writes this release's files if GOLDEN says what it is called.
fn write_a_release() {
    let Ok(name) = std::env::var("GOLDEN") else { return };
    let release = folder().join(name);
    fs::create_dir_all(&release).unwrap();
    let mut daemon = Daemon::with_partition();
    let directory = daemon.directory.path().to_owned();
    for name in ["alice", "bob", "carol"] {
        let (key, public) = (format!("{name}.key"), format!("{name}.pem"));
        openssl(&directory, &["genpkey", "-quiet", "-algorithm", "RSA", "-out", &key]);
        openssl(&directory, &["pkey", "-in", &key, "-pubout", "-out", &public]);
    }
    let holders = ["--holder", "alice.pem", "--holder", "bob.pem", "--holder", "carol.pem", "--quorum", "2"];
    daemon
        .as_officer(&[&["security-domain", "create"][..], &holders, &["--out", "tls.domain"]].concat())
        .succeeds();
    for (name, key_type) in KEYS {
        daemon.run(&["key", "generate", name, "--type", key_type]).succeeds();
    }
    daemon.run(&["key", "rotate", "mail", "--activate"]).succeeds();
    daemon.run(&["key", "rotation", "mail", "--every", "3650d"]).succeeds();
    daemon.run(&["key", "generate", "gone", "--type", "p256"]).succeeds();
    daemon.run(&["key", "delete", "gone", "--yes"]).succeeds();
    daemon.run(&["role", "create", "deploy", "--may", "sign"]).succeeds();
    daemon.run(&["key", "grant", "web", "--uid", "33", "--role", "tls-server"]).succeeds();
    daemon.run(&["key", "grant", "web", "--certificate", &"ab".repeat(32), "--role", "deploy"]).succeeds();
    let password = daemon.secret("auditor.txt", OFFICER_PASSWORD);
    daemon
        .as_officer(&["user", "create", "auditor", "--role", "au", "--new-password-file", &password])
        .succeeds();
    daemon.run(&["key", "request", "web", "--host", "www.example.org", "--out", "web.csr"]).succeeds();
    openssl(&directory, &["req", "-x509", "-key", "alice.key", "-subj", "/CN=CA", "-out", "ca.crt"]);
    let sign = ["x509", "-req", "-in", "web.csr", "-CA", "ca.crt", "-CAkey", "alice.key", "-out", "web.crt"];
    openssl(&directory, &sign);
    daemon.run(&["cert", "put", "web", "web.crt"]).succeeds();
    fs::write(daemon.path("web.crt"), daemon.run(&["cert", "get", "web"]).succeeds()).unwrap();
    for (name, _) in KEYS.iter().filter(|(_, key_type)| *key_type != "aes-256") {
        daemon.run(&["key", "public", name, "--out", &format!("{name}.pub")]).succeeds();
    }
    daemon.as_officer(&["backup", "create", "tls", "--out", "tls.backup"]).succeeds();
    daemon.as_officer(&["backup", "create", "tls", "--key", "web", "--out", "web.backup"]).succeeds();
    daemon.as_officer(&["audit", "export", "--out", "tls.jsonl"]).succeeds();
    daemon.run(&["audit", "key", "--out", "audit.pem"]).succeeds();
    fs::copy(daemon.path("state/node.key"), daemon.path("node.key")).unwrap();
    let passphrase = daemon.secret("passphrase", PASSPHRASE);
    daemon.run(&["seal-with", "passphrase", "--passphrase-file", &passphrase]).succeeds();
    fs::copy(daemon.path("state/node.seal"), daemon.path("node.seal.passphrase")).unwrap();
    daemon.run(&[&["seal-with", "shares"][..], &holders, &["--out", "node.shares"]].concat()).succeeds();
    fs::copy(daemon.path("state/node.seal"), daemon.path("node.seal.shares")).unwrap();
    daemon.run(&["seal-with", "file"]).succeeds();
    daemon.stop();
    gzip(&["--best"], &daemon.path("state/store.redb"), &release.join("store.redb.gz"));
    copy_all(&daemon.path("state/audit"), &release.join("audit"));
    let files = [
        "node.key",
        "node.seal.passphrase",
        "node.seal.shares",
        "node.shares",
        "tls.backup",
        "web.backup",
        "tls.domain",
        "tls.jsonl",
        "audit.pem",
        "alice.key",
        "bob.key",
        "web.crt",
        "web.pub",
        "mail.pub",
        "ssh.pub",
        "large.pub",
    ];
    for name in files {
        fs::copy(daemon.path(name), release.join(name)).unwrap();
    }
}
