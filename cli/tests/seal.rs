//! A node that is sealed, unsealed by what its owner has chosen, tampered with, and zeroized.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test's panic is its report")]

mod harness;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use harness::{Daemon, openssl};

const PASSPHRASE: &str = "a passphrase for the node";

/// RSA keys of holders and their public halves, made by openssl.
fn holders(daemon: &Daemon, names: &[&str]) {
    for name in names {
        let (key, public) = (format!("{name}.key"), format!("{name}.pem"));
        openssl(daemon.directory.path(), &["genpkey", "-quiet", "-algorithm", "RSA", "-out", &key]);
        openssl(daemon.directory.path(), &["pkey", "-in", &key, "-pubout", "-out", &public]);
    }
}

/// Decrypts a holder's share as docs/seal.md says: with openssl alone.
fn decrypt(daemon: &Daemon, file: &str, number: usize, key: &str, out: &str) {
    let text = fs::read_to_string(daemon.path(file)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let encoded = json["holders"][number - 1]["share"].as_str().unwrap().to_owned() + "\n";
    let command = format!(
        "base64 -d | openssl pkeyutl -decrypt -inkey {key} -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 \
         -out {out}"
    );
    let mut child = Command::new("sh")
        .args(["-c", &command])
        .current_dir(daemon.directory.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(encoded.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_passphrase_unseals() {
    let mut daemon = Daemon::with_partition();
    daemon.run(&["key", "generate", "web", "--type", "p256"]).succeeds();
    assert_eq!(daemon.run(&["status", "--json"]).json()["sealed_with"], "file");
    let passphrase = daemon.secret("passphrase.txt", PASSPHRASE);
    daemon.run(&["seal-with", "passphrase", "--passphrase-file", &passphrase]).succeeds();
    assert!(!daemon.path("state/node.key").exists());
    // It goes on; the next start is sealed.
    daemon.run(&["key", "show", "web"]).succeeds();
    daemon.restart();
    let status = daemon.run(&["status", "--json"]).json();
    assert_eq!((&status["state"], &status["sealed_with"]), (&"sealed".into(), &"passphrase".into()));
    assert!(daemon.run(&["status"]).succeeds().contains("strongroom unseal"));
    let error = daemon.run(&["key", "list", "--json"]).json_error();
    assert_eq!((&error["code"], &error["exit"]), (&"sealed".into(), &1.into()));
    assert!(daemon.run(&["seal"]).fails(1).contains("strongroom unseal"));
    assert!(daemon.run(&["unseal"]).fails(2).contains("--passphrase-file"));
    let wrong = daemon.secret("wrong.txt", "another passphrase, wrong");
    let error = daemon.run(&["unseal", "--passphrase-file", &wrong, "--json"]).json_error();
    assert_eq!((&error["code"], &error["exit"]), (&"unseal_wrong".into(), &4.into()));
    daemon.run(&["unseal", "--passphrase-file", &passphrase]).succeeds();
    daemon.run(&["key", "show", "web"]).succeeds();
    // Back to the file: it unseals itself.
    daemon.run(&["seal-with", "file"]).succeeds();
    assert!(daemon.path("state/node.key").exists() && !daemon.path("state/node.seal").exists());
    daemon.restart();
    daemon.run(&["seal"]).succeeds();
    assert!(daemon.run(&["key", "list"]).fails(1).contains("sealed"));
    daemon.run(&["unseal"]).succeeds();
    daemon.run(&["key", "show", "web"]).succeeds();
    assert!(daemon.run(&["unseal"]).fails(6).contains("not sealed"));
    let short = daemon.secret("short.txt", "too short");
    assert!(
        daemon.run(&["seal-with", "passphrase", "--passphrase-file", &short]).fails(1).contains("12 to 1024")
    );
}

#[test]
fn a_credential_that_still_opens_the_store_is_told_of() {
    let mut daemon = Daemon::with_partition();
    let passphrase = daemon.secret("passphrase.txt", PASSPHRASE);
    // As docs/seal.md says: the credential is made of the key file; which is forgotten here.
    fs::create_dir(daemon.path("credentials")).unwrap();
    fs::copy(daemon.path("state/node.key"), daemon.path("credentials/strongroom-node-key")).unwrap();
    let credentials = daemon.path("credentials").display().to_string();
    daemon.environment.push(("CREDENTIALS_DIRECTORY", credentials));
    daemon.restart();
    let means = |daemon: &Daemon| {
        let status = daemon.run(&["status", "--json"]).json();
        (status["sealed_with"].clone(), status["also_opened_by"].clone())
    };
    assert_eq!(means(&daemon), ("credential".into(), serde_json::json!(["file"])));
    assert!(daemon.run(&["status"]).succeeds().contains("shred -u"));
    let said = daemon.run(&["seal-with", "passphrase", "--passphrase-file", &passphrase]).succeeds();
    assert!(said.contains("strongroom-node-key") && !said.contains("Nothing else opens"), "{said}");
    assert_eq!(means(&daemon), ("passphrase".into(), serde_json::json!(["credential"])));
    assert!(daemon.run(&["doctor"]).stdout.contains("strongroom-node-key"));
    assert!(!daemon.path("state/node.key").exists());
    // Back: the credential unseals, and no key file is made beside it.
    let said = daemon.run(&["seal-with", "file"]).succeeds();
    assert!(said.contains("credential"), "{said}");
    assert_eq!(means(&daemon), ("credential".into(), serde_json::json!([])));
    daemon.run(&["seal-with", "passphrase", "--passphrase-file", &passphrase]).succeeds();
    // Taken out of the unit it opens nothing any more.
    daemon.environment.clear();
    daemon.restart();
    assert_eq!(means(&daemon), ("passphrase".into(), serde_json::json!([])));
    daemon.run(&["unseal", "--passphrase-file", &passphrase]).succeeds();
    let said = daemon.run(&["seal-with", "passphrase", "--passphrase-file", &passphrase]).succeeds();
    assert!(said.contains("Nothing else opens"), "{said}");
}

#[test]
fn a_log_in_ends_when_the_node_is_sealed() {
    use strongroom_protocol::v1::{ListUsers, Login, Role, request::Op};

    let daemon = Daemon::with_partition();
    let mut officer = daemon.connect();
    let login = Login {
        role: Role::CryptoOfficer.into(),
        password: harness::OFFICER_PASSWORD.into(),
        ..Login::default()
    };
    officer.call(1, Op::Login(login)).unwrap();
    officer.call(1, Op::ListUsers(ListUsers {})).unwrap();
    daemon.run(&["seal"]).succeeds();
    daemon.run(&["unseal"]).succeeds();
    officer.call(1, Op::ListUsers(ListUsers {})).unwrap_err();
}

#[test]
fn a_quorum_of_holders_unseals_with_openssl() {
    let mut daemon = Daemon::with_partition();
    daemon.run(&["key", "generate", "web", "--type", "p256"]).succeeds();
    holders(&daemon, &["alice", "bob", "carol", "mallory"]);
    let with = ["--holder", "alice.pem", "--holder", "bob.pem", "--holder", "carol.pem"];
    let alone = daemon.run(&[&["seal-with", "shares", "--quorum", "1", "--out", "none"][..], &with].concat());
    assert!(alone.fails(1).contains("quorum") && !daemon.path("none").exists());
    let shares = ["seal-with", "shares", "--quorum", "2", "--out", "node.shares"];
    assert!(daemon.run(&[&shares[..], &with].concat()).succeeds().contains("2 of 3 holders"));
    assert!(!daemon.path("state/node.key").exists());
    daemon.restart();
    assert_eq!(daemon.run(&["status", "--json"]).json()["sealed_with"], "shares");
    assert!(daemon.run(&["unseal"]).fails(2).contains("--holder-key"));
    // One with openssl, one that was changed, one of nobody's, and one by the command.
    decrypt(&daemon, "node.shares", 3, "carol.key", "carol.share");
    let progress = daemon.run(&["unseal", "--share", "carol.share", "--json"]).json();
    assert_eq!(progress["shares"], serde_json::json!([1, 2]));
    let again = daemon.run(&["unseal", "--share", "carol.share", "--json"]).json();
    assert_eq!(again["shares"], serde_json::json!([1, 2]));
    let mut changed = fs::read(daemon.path("carol.share")).unwrap();
    changed[9] ^= 1;
    fs::write(daemon.path("changed.share"), changed).unwrap();
    let wrong = daemon.run(&["unseal", "--share", "changed.share"]).fails(4);
    assert!(wrong.contains("number 3"), "{wrong}");
    assert!(daemon.run(&["unseal", "--holder-key", "mallory.key"]).fails(1).contains("no holder's key"));
    // Holders work on machines of their own, with the file that they were given.
    daemon.run(&["share", "node.shares", "--holder-key", "alice.key", "--out", "alice.share"]).succeeds();
    daemon.run(&["unseal", "--share", "alice.share"]).succeeds();
    daemon.run(&["key", "show", "web"]).succeeds();
    let again = ["seal-with", "shares", "--again", "--out", "again.shares"];
    daemon.run(&again).succeeds();
    let read = |name: &str| fs::read_to_string(daemon.path(name)).unwrap();
    assert_eq!(read("node.shares"), read("again.shares"));
    daemon.run(&["seal"]).succeeds();
    daemon.run(&["unseal", "--holder-key", "alice.key", "--holder-key", "bob.key"]).succeeds();
    daemon.run(&["key", "show", "web"]).succeeds();
}

#[test]
fn a_passphrase_of_a_holders_key_is_asked_for() {
    let daemon = Daemon::with_partition();
    holders(&daemon, &["alice", "bob"]);
    let encrypt = ["pkcs8", "-topk8", "-in", "alice.key", "-passout", "pass:hunter22", "-out", "alice.enc"];
    openssl(daemon.directory.path(), &encrypt);
    let shares = ["--holder", "alice.pem", "--holder", "bob.pem", "--quorum", "2", "--out", "node.shares"];
    daemon.run(&[&["seal-with", "shares"][..], &shares].concat()).succeeds();
    daemon.run(&["seal"]).succeeds();
    assert!(daemon.run(&["unseal", "--holder-key", "alice.enc"]).fails(2).contains("openssl pkeyutl"));
    let typed = daemon.at_terminal(&["unseal", "--holder-key", "alice.enc"], &["hunter22"]);
    assert!(typed.code == 0 && typed.stdout.contains("1 of 2"), "{typed:?}");
    daemon.run(&["unseal", "--holder-key", "bob.key"]).succeeds();
    daemon.run(&["partition", "list"]).succeeds();
}

#[test]
fn a_damaged_store_is_shown_and_served_again_when_it_is_repaired() {
    let mut daemon = Daemon::with_partition();
    daemon.run(&["key", "generate", "web", "--type", "p256"]).succeeds();
    assert!(daemon.run(&["tamper", "check"]).succeeds().contains("Nothing was found"));
    assert_eq!(daemon.run(&["tamper", "show", "--json"]).json()["tampered"], false);
    assert!(daemon.run(&["tamper", "clear"]).fails(6).contains("nothing to clear"));
    daemon.stop();
    let store = daemon.path("state/store.redb");
    let sound = fs::read(&store).unwrap();
    let mut damaged = sound.clone();
    let half = damaged.len() / 2;
    damaged[4096..half].iter_mut().for_each(|byte| *byte ^= 0x40);
    fs::write(&store, damaged).unwrap();
    daemon.restart();
    let status = daemon.run(&["status", "--json"]).json();
    assert_eq!(status["state"], "tampered");
    assert!(status["tampering"].as_str().unwrap().contains("store.redb"), "{status}");
    assert_eq!(daemon.run(&["key", "list", "--json"]).json_error()["code"], "tampered");
    let shown = daemon.run(&["tamper", "show"]).succeeds();
    assert!(shown.starts_with("TAMPERED, found 20"), "{shown}");
    assert!(daemon.run(&["tamper", "clear"]).fails(1).contains("store.redb"));
    fs::write(&store, sound).unwrap();
    daemon.run(&["tamper", "clear"]).succeeds();
    daemon.run(&["key", "show", "web"]).succeeds();
}

#[test]
fn zeroize_destroys_everything_after_a_confirmation() {
    let mut daemon = Daemon::with_partition();
    let store = daemon.path("state/store.redb");
    let path = store.to_str().unwrap();
    assert!(
        daemon
            .run(&["zeroize", "--confirm", "/another/store.redb", "--yes"])
            .fails(2)
            .contains("nothing was")
    );
    assert!(daemon.run(&["zeroize", "--confirm", path]).fails(2).contains("--yes"));
    daemon.run(&["partition", "list"]).succeeds();
    // Whoever has the file open sees what became of it.
    let open = fs::File::open(&store).unwrap();
    let key = fs::File::open(daemon.path("state/node.key")).unwrap();
    daemon.run(&["zeroize", "--confirm", path, "--yes"]).succeeds();
    for mut file in [open, key] {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
        assert!(!bytes.is_empty() && bytes.iter().all(|byte| *byte == 0));
    }
    assert!(!store.exists() && !daemon.path("state/node.key").exists());
    assert_eq!(daemon.run(&["status", "--json"]).json()["state"], "zeroized");
    assert!(daemon.run(&["partition", "list"]).fails(1).contains("restart strongroomd"));
    assert_eq!(daemon.run(&["unseal", "--json"]).json_error()["code"], "zeroized");
    daemon.restart();
    assert_eq!(daemon.run(&["partition", "list", "--json"]).json()["partitions"], serde_json::json!([]));
    daemon.init("tls", &["--admit", "0"]).succeeds();
}
