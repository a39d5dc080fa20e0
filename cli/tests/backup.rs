//! Backups that are made while the daemon serves, restored on the same node and on a bare one.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test's panic is its report"
)]

mod harness;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use harness::{Daemon, OFFICER_PASSWORD, openssl};
use strongroom_protocol::v1::{
    BeginBackup, DestroyObject, FindObjects, Login, Mechanism, ObjectClass, ReadBackup, Role, Sign,
    request::Op, response,
};

/// SHA-256 of nothing, in a DigestInfo.
fn digest_info() -> Vec<u8> {
    let prefix = [0x30, 0x31, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20];
    let hash = openssl("/".as_ref(), &["dgst", "-sha256", "-hex", "-r", "/dev/null"]);
    let hash = hash.split_whitespace().next().unwrap().to_owned();
    let hash = (0..32).map(|at| u8::from_str_radix(&hash[2 * at..2 * at + 2], 16).unwrap());
    prefix.into_iter().chain(hash).collect()
}

/// What the only private RSA key of a partition signs.
fn signature(daemon: &Daemon, partition: u32) -> Vec<u8> {
    let mut connection = daemon.connect();
    let find = FindObjects { class: ObjectClass::PrivateKey.into(), ..FindObjects::default() };
    let response::Result::Objects(found) = connection.call(partition, Op::FindObjects(find)).unwrap() else {
        panic!()
    };
    let sign = Sign {
        key: found.objects[0].object.clone(),
        mechanism: Mechanism::RsaPkcs.into(),
        data: digest_info(),
        ..Sign::default()
    };
    match connection.call(partition, Op::Sign(sign)).unwrap() {
        response::Result::Signature(signature) => signature.signature,
        other => panic!("{other:?}"),
    }
}

/// A daemon with the partition "tls" and the key "web" in it, which openssl has made; and what openssl signs with it.
fn with_key() -> (Daemon, Vec<u8>) {
    let daemon = Daemon::with_partition();
    let directory = daemon.directory.path();
    openssl(directory, &["genpkey", "-quiet", "-algorithm", "RSA", "-out", "web.key"]);
    openssl(directory, &["dgst", "-sha256", "-sign", "web.key", "-out", "web.signature", "/dev/null"]);
    daemon.run(&["key", "import", "web", "web.key"]).succeeds();
    let expected = fs::read(daemon.path("web.signature")).unwrap();
    assert_eq!(signature(&daemon, 1), expected);
    (daemon, expected)
}

fn holders(daemon: &Daemon) {
    for name in ["alice", "bob", "carol", "mallory"] {
        let (key, public) = (format!("{name}.key"), format!("{name}.pem"));
        openssl(daemon.directory.path(), &["genpkey", "-quiet", "-algorithm", "RSA", "-out", &key]);
        openssl(daemon.directory.path(), &["pkey", "-in", &key, "-pubout", "-out", &public]);
    }
}

#[test]
fn a_partition_comes_back_on_the_node_that_made_the_backup() {
    let (daemon, expected) = with_key();
    assert_eq!(daemon.run(&["backup", "create", "tls", "--out", "none", "--json"]).json_error()["exit"], 4);
    let made = daemon.as_officer(&["backup", "create", "tls", "--out", "tls.backup"]).succeeds();
    assert!(made.contains("Only this node"), "{made}");
    let mode = fs::metadata(daemon.path("tls.backup")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    daemon.as_officer(&["backup", "create", "tls", "--out", "tls.backup"]).fails(6);
    let shown = daemon.run(&["backup", "show", "tls.backup", "--json"]).json();
    assert_eq!((&shown["partition"], &shown["key"]), (&"tls".into(), &serde_json::Value::Null));
    daemon.run(&["backup", "verify", "tls.backup"]).succeeds();
    // Not over what is there, unless that is said.
    daemon.run(&["backup", "restore", "tls.backup"]).fails(6);
    daemon.run(&["backup", "restore", "tls.backup", "--label", "copy"]).succeeds();
    assert_eq!(signature(&daemon, 2), expected);
    daemon.run(&["key", "delete", "web", "--yes", "-p", "tls"]).succeeds();
    daemon.run(&["backup", "restore", "tls.backup", "--replace", "--yes"]).succeeds();
    assert_eq!(signature(&daemon, 3), expected);
    let list = daemon.run(&["partition", "list", "--json"]).json();
    let labels: Vec<_> = list["partitions"].as_array().unwrap().iter().map(|p| p["label"].clone()).collect();
    assert_eq!(labels, ["copy", "tls"]);
    daemon.run(&["tamper", "check"]).succeeds();
    // And it is there after a restart.
    let mut daemon = daemon;
    daemon.restart();
    assert_eq!(signature(&daemon, 3), expected);
}

#[test]
fn a_partition_is_rebuilt_on_a_bare_machine_by_a_quorum_of_its_holders() {
    let (lost, expected) = with_key();
    holders(&lost);
    let create = ["security-domain", "create", "--quorum", "2", "--out", "tls.domain"];
    let with = ["--holder", "alice.pem", "--holder", "bob.pem", "--holder", "carol.pem"];
    lost.as_officer(&[&create[..], &with].concat()).succeeds();
    let again = ["security-domain", "create", "--quorum", "2", "--out", "other.domain"];
    assert!(lost.as_officer(&[&again[..], &with].concat()).fails(6).contains("made once"));
    lost.as_officer(&["security-domain", "show", "--out", "again.domain"]).succeeds();
    let read = |name: &str| fs::read(lost.path(name)).unwrap();
    assert_eq!(read("tls.domain"), read("again.domain"));
    lost.as_officer(&["backup", "create", "tls", "--out", "tls.backup"]).succeeds();
    lost.run(&["share", "tls.domain", "--holder-key", "carol.key", "--out", "carol.share"]).succeeds();

    let bare = Daemon::start();
    for name in ["tls.backup", "tls.domain", "alice.key", "bob.key", "mallory.key", "carol.share"] {
        fs::copy(lost.path(name), bare.path(name)).unwrap();
    }
    drop(lost);
    let error = bare.run(&["backup", "restore", "tls.backup", "--json"]).json_error();
    assert_eq!(error["code"], "backup_wrong");
    assert!(error["message"].as_str().unwrap().contains("2 of its 3 holders"), "{error}");
    let one = bare.run(&["backup", "restore", "tls.backup", "--holder-key", "alice.key"]).fails(4);
    assert!(one.contains("1 of 2"), "{one}");
    let with = ["--holder-key", "alice.key", "--holder-key", "mallory.key"];
    assert!(
        bare.run(&[&["backup", "restore", "tls.backup"][..], &with].concat())
            .fails(1)
            .contains("no holder's")
    );
    let mut changed = fs::read(bare.path("carol.share")).unwrap();
    changed[5] ^= 1;
    fs::write(bare.path("changed.share"), changed).unwrap();
    let with = ["--holder-key", "alice.key", "--share", "changed.share"];
    assert!(
        bare.run(&[&["backup", "restore", "tls.backup"][..], &with].concat()).fails(4).contains("number 3")
    );
    assert_eq!(bare.run(&["partition", "list", "--json"]).json()["partitions"], serde_json::json!([]));

    let with = ["--domain", "tls.domain", "--holder-key", "alice.key", "--share", "carol.share"];
    bare.run(&[&["backup", "restore", "tls.backup"][..], &with].concat()).succeeds();
    assert_eq!(signature(&bare, 1), expected);
    // Users and the security domain came along: the next loss is survived, too.
    bare.as_officer(&["backup", "create", "tls", "--out", "next.backup"]).succeeds();
    let shown = bare.run(&["backup", "show", "next.backup", "--json"]).json();
    assert_eq!(shown["quorum"], 2);
    let with = ["--holder-key", "bob.key", "--share", "carol.share"];
    bare.run(&[&["backup", "verify", "next.backup"][..], &with].concat()).succeeds();
}

#[test]
fn a_backup_that_was_changed_is_never_restored() {
    let (daemon, expected) = with_key();
    daemon.as_officer(&["backup", "create", "tls", "--out", "tls.backup"]).succeeds();
    let sound = fs::read(daemon.path("tls.backup")).unwrap();
    for round in 0..40 {
        let mut damaged = sound.clone();
        match round {
            0 => damaged.push(0),
            1 => damaged.truncate(sound.len() - 1),
            2 => damaged.truncate(sound.len() / 2),
            3 => damaged.extend_from_slice(&sound),
            4 => damaged.clear(),
            _ => {
                let at = round * 7919 % sound.len();
                damaged[at] ^= 1 << (round % 8);
            }
        }
        fs::write(daemon.path("damaged.backup"), &damaged).unwrap();
        let run = daemon.run(&["backup", "restore", "damaged.backup", "--label", "copy"]);
        assert_ne!(run.code, 0, "round {round}: {run:?}");
    }
    let list = daemon.run(&["partition", "list", "--json"]).json();
    assert_eq!(list["partitions"].as_array().unwrap().len(), 1, "{list}");
    daemon.run(&["tamper", "check"]).succeeds();
    daemon.run(&["backup", "restore", "tls.backup", "--label", "copy"]).succeeds();
    assert!(signature(&daemon, 1) == expected);
}

#[test]
fn a_backup_is_the_partition_at_one_moment() {
    let (daemon, expected) = with_key();
    let mut officer = daemon.connect();
    let login =
        Login { role: Role::CryptoOfficer.into(), password: OFFICER_PASSWORD.into(), ..Login::default() };
    officer.call(1, Op::Login(login)).unwrap();
    let response::Result::BackupBegun(begun) =
        officer.call(1, Op::BeginBackup(BeginBackup::default())).unwrap()
    else {
        panic!()
    };
    // Meanwhile everything goes, and something else comes.
    let mut user = daemon.connect();
    let response::Result::Objects(all) = user.call(1, Op::FindObjects(FindObjects::default())).unwrap()
    else {
        panic!()
    };
    for object in all.objects {
        user.call(1, Op::DestroyObject(DestroyObject { object: object.object })).unwrap();
    }
    daemon.run(&["key", "generate", "later", "--type", "p256"]).succeeds();
    let mut file = begun.head;
    loop {
        let response::Result::BackupChunk(chunk) = officer.call(1, Op::ReadBackup(ReadBackup {})).unwrap()
        else {
            panic!()
        };
        file.extend(chunk.data);
        if chunk.last {
            break;
        }
    }
    officer.call(1, Op::ReadBackup(ReadBackup {})).unwrap_err();
    fs::write(daemon.path("tls.backup"), file).unwrap();
    daemon.run(&["backup", "restore", "tls.backup", "--label", "before"]).succeeds();
    assert_eq!(signature(&daemon, 2), expected);
    daemon.run(&["key", "show", "later", "-p", "before"]).fails(5);
    daemon.run(&["key", "show", "later", "-p", "tls"]).succeeds();
}

#[test]
fn a_key_comes_back_into_its_partition() {
    let (mut daemon, expected) = with_key();
    daemon.run(&["key", "generate", "other", "--type", "p256"]).succeeds();
    daemon.as_officer(&["backup", "create", "tls", "--key", "web", "--out", "web.backup"]).succeeds();
    assert_eq!(daemon.run(&["backup", "show", "web.backup", "--json"]).json()["key"], "web");
    assert!(daemon.run(&["backup", "restore", "web.backup"]).fails(6).contains("already"));
    daemon.run(&["key", "delete", "web", "--yes"]).succeeds();
    daemon.run(&["key", "delete", "other", "--yes"]).succeeds();
    // What can be recovered is not made a second time.
    assert!(daemon.run(&["backup", "restore", "web.backup"]).fails(6).contains("recover"));
    daemon.as_officer(&["key", "purge", "web", "--yes"]).succeeds();
    daemon.run(&["backup", "restore", "web.backup"]).succeeds();
    assert_eq!(signature(&daemon, 1), expected);
    daemon.run(&["tamper", "check"]).succeeds();
    daemon.restart();
    assert_eq!(signature(&daemon, 1), expected);
    daemon.run(&["key", "show", "other"]).fails(5);
    daemon.as_officer(&["backup", "create", "tls", "--key", "wbe", "--out", "none"]).fails(5);
}

/// Its certificate stays when a key is deleted, and does not keep it from coming back.
#[test]
fn a_key_comes_back_to_its_certificate() {
    let (daemon, expected) = with_key();
    let directory = daemon.directory.path();
    daemon.run(&["key", "request", "web", "--host", "www.example.org", "--out", "web.csr"]).succeeds();
    openssl(directory, &["genpkey", "-algorithm", "ed25519", "-out", "ca.key"]);
    openssl(directory, &["req", "-x509", "-key", "ca.key", "-subj", "/CN=CA", "-out", "ca.crt"]);
    let sign = ["x509", "-req", "-in", "web.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-out", "web.crt"];
    openssl(directory, &sign);
    daemon.run(&["cert", "put", "web", "web.crt"]).succeeds();
    let certificate = daemon.run(&["cert", "get", "web"]).succeeds();
    daemon.as_officer(&["backup", "create", "tls", "--key", "web", "--out", "web.backup"]).succeeds();
    daemon.run(&["key", "delete", "web", "--yes"]).succeeds();
    daemon.as_officer(&["key", "purge", "web", "--yes"]).succeeds();
    assert_eq!(daemon.run(&["cert", "get", "web"]).succeeds(), certificate);
    let restored = daemon.run(&["backup", "restore", "web.backup", "--json"]).json();
    assert_eq!(restored["left_out"], serde_json::json!([]), "{restored}");
    assert_eq!(signature(&daemon, 1), expected);
    assert_eq!(daemon.run(&["cert", "get", "web"]).succeeds(), certificate);
    assert_eq!(daemon.run(&["cert", "list", "--json"]).json()["certificates"].as_array().unwrap().len(), 1);
    // Where the key is, nothing comes back.
    assert!(daemon.run(&["backup", "restore", "web.backup"]).fails(6).contains("already"));
    daemon.run(&["tamper", "check"]).succeeds();
}

#[test]
fn a_timer_keeps_as_many_backups_as_it_is_told() {
    let (daemon, _) = with_key();
    let admit = ["user", "create", "backup", "--role", "au", "--admit", "0"];
    if !rustix::process::getuid().is_root() {
        return;
    }
    daemon.as_officer(&admit).succeeds();
    fs::create_dir(daemon.path("backups")).unwrap();
    for (name, more) in [("tls", &[][..]), ("tls-key-web", &["--key", "web"])] {
        daemon.run(&[&["backup", "create", "tls", "--out", name][..], more].concat()).succeeds();
        for day in 1..5 {
            let old = format!("backups/{name}-2025010{day}T000000Z.strongroom-backup");
            fs::copy(daemon.path(name), daemon.path(&old)).unwrap();
        }
    }
    fs::write(daemon.path("backups/notes"), "").unwrap();
    let create = ["backup", "create", "tls", "--directory", "backups", "--keep", "3", "--json"];
    let of_key = daemon.run(&[&create[..], &["--key", "web"]].concat()).json();
    for removed in of_key["removed"].as_array().unwrap() {
        assert!(removed.as_str().unwrap().contains("tls-key-web-2025"), "{of_key}");
    }
    let made = daemon.run(&create).json();
    for made in [&of_key, &made] {
        assert_eq!(made["removed"].as_array().unwrap().len(), 2, "{made}");
    }
    assert_eq!(fs::read_dir(daemon.path("backups")).unwrap().count(), 7);
    daemon.run(&["backup", "verify", made["file"].as_str().unwrap()]).succeeds();
}

/// Whom a key names: what and as what.
fn names(daemon: &Daemon, partition: &str) -> Vec<String> {
    let shown = daemon.run(&["key", "access", "web", "-p", partition, "--json"]).json();
    let grants = shown["access"].as_array().unwrap_or_else(|| panic!("{shown}"));
    let mut names: Vec<String> =
        grants.iter().map(|grant| format!("{} {}", grant["who"], grant["role"])).collect();
    names.sort();
    names
}

#[test]
fn a_key_that_comes_back_names_whom_it_named() {
    let (daemon, _) = with_key();
    let user = daemon.secret("shop.txt", "the shop's own");
    daemon
        .as_officer(&["user", "create", "shop", "--role", "cu", "--limited", "--new-password-file", &user])
        .succeeds();
    daemon.run(&["role", "create", "deploy", "--may", "sign"]).succeeds();
    let hash = "ab".repeat(32);
    let whom = [["--uid", "33"], ["--user", "shop"], ["--certificate", &hash]];
    for (whom, role) in whom.into_iter().zip(["tls-server", "tls-server", "deploy"]) {
        daemon.run(&[&["key", "grant", "web", "--role", role][..], &whom].concat()).succeeds();
    }
    daemon.run(&["key", "rotation", "web", "--every", "30d"]).succeeds();
    holders(&daemon);
    let of = ["--holder", "alice.pem", "--holder", "bob.pem", "--quorum", "2", "--out", "tls.domain"];
    daemon.as_officer(&[&["security-domain", "create"][..], &of].concat()).succeeds();
    let rotates = |daemon: &Daemon| {
        daemon.run(&["key", "show", "web", "-p", "tls", "--json"]).json()["rotate_every"].clone()
    };
    let (before, every) = (names(&daemon, "tls"), rotates(&daemon));
    assert!(before.len() == 3 && !every.is_null(), "{before:?} {every}");
    daemon.as_officer(&["backup", "create", "tls", "--key", "web", "--out", "web.backup"]).succeeds();
    let lose = |daemon: &Daemon| {
        daemon.run(&["key", "delete", "web", "--yes", "-p", "tls"]).succeeds();
        daemon.as_officer(&["key", "purge", "web", "--yes", "-p", "tls"]).succeeds();
    };
    lose(&daemon);
    let text = daemon.run(&["backup", "restore", "web.backup", "-p", "tls"]).succeeds();
    assert!(!text.contains("Not as it was"), "{text}");
    assert_eq!(names(&daemon, "tls"), before);
    assert_eq!(rotates(&daemon), every);

    // Another user of the same name is somebody else.
    daemon.as_officer(&["user", "delete", "shop", "--yes"]).succeeds();
    daemon
        .as_officer(&["user", "create", "shop", "--role", "cu", "--limited", "--new-password-file", &user])
        .succeeds();
    lose(&daemon);
    let restored = daemon.run(&["backup", "restore", "web.backup", "-p", "tls", "--json"]).json();
    assert_eq!(restored["left_out"].as_array().unwrap().len(), 1, "{restored}");
    assert!(restored["left_out"][0].as_str().unwrap().contains("user \"shop\""), "{restored}");
    assert_eq!(names(&daemon, "tls").len(), 2);

    // In another partition users and its own roles are others: nobody gets more than the machine and certificates say.
    daemon.init("other", &["--admit", &rustix::process::getuid().as_raw().to_string()]).succeeds();
    // Nor does root take a key into a partition of root's own, with its own users: the holders do.
    let into = ["backup", "restore", "web.backup", "-p", "other"];
    assert!(daemon.run(&into).fails(4).contains("quorum of the holders"));
    daemon.run(&[&into[..], &["--holder-key", "alice.key"]].concat()).fails(4);
    let quorum = ["--holder-key", "alice.key", "--holder-key", "bob.key", "--json"];
    let restored = daemon.run(&[&into[..], &quorum].concat()).json();
    assert_eq!(restored["left_out"].as_array().unwrap().len(), 2, "{restored}");
    assert_eq!(names(&daemon, "other").len(), 1);
    daemon.run(&["tamper", "check"]).succeeds();
}

#[test]
fn an_old_version_does_not_come_back_in_the_place_of_the_present_one() {
    let (daemon, _) = with_key();
    daemon.as_officer(&["backup", "create", "tls", "--key", "web", "--out", "web.backup"]).succeeds();
    let old = daemon.run(&["key", "show", "web", "--json"]).json();
    daemon.run(&["key", "rotate", "web", "--activate"]).succeeds();
    let version = format!("object:{}", old["objects"][0].as_str().unwrap_or_else(|| panic!("{old}")));
    daemon.run(&["key", "delete", &version, "--yes"]).succeeds();
    daemon.as_officer(&["key", "purge", &version, "--yes"]).succeeds();
    let present = daemon.run(&["key", "show", "web", "--json"]).json();
    let text = daemon.run(&["backup", "restore", "web.backup"]).succeeds();
    assert!(text.contains("version 1, retired"), "{text}");
    assert_eq!(daemon.run(&["key", "show", "web", "--json"]).json(), present);
    daemon.run(&["key", "show", &version]).succeeds();
}

#[test]
fn a_security_domain_is_renewed_by_a_quorum_of_its_holders() {
    let (daemon, expected) = with_key();
    holders(&daemon);
    let of = ["--holder", "alice.pem", "--holder", "bob.pem", "--quorum", "2"];
    let create = ["security-domain", "create", "--out", "first.domain"];
    daemon.as_officer(&[&create[..], &of].concat()).succeeds();
    daemon.as_officer(&["backup", "create", "tls", "--out", "first.backup"]).succeeds();
    // An officer alone, or with one of two holders, renews nothing.
    let to = ["--holder", "carol.pem", "--holder", "bob.pem", "--holder", "mallory.pem", "--quorum", "2"];
    let renew = ["security-domain", "renew", "--out", "second.domain"];
    let alone = daemon.as_officer(&[&renew[..], &to].concat());
    assert_ne!(alone.code, 0, "{alone:?}");
    let one = daemon.as_officer(&[&renew[..], &to, &["--holder-key", "alice.key"]].concat()).fails(4);
    assert!(one.contains("1 of 2"), "{one}");
    assert!(!daemon.path("second.domain").exists());
    daemon.run(&["share", "first.domain", "--holder-key", "bob.key", "--out", "bob.share"]).succeeds();
    let quorum = ["--holder-key", "alice.key", "--share", "bob.share"];
    daemon.as_officer(&[&renew[..], &to, &quorum].concat()).succeeds();
    daemon.as_officer(&["backup", "create", "tls", "--out", "second.backup"]).succeeds();
    let log = daemon.as_officer(&["audit", "show", "--json"]).succeeds();
    assert!(log.contains("renew_security_domain"), "{log}");

    // What was backed up after is for the new holders, and only for them.
    let bare = Daemon::start();
    let files =
        ["first.backup", "second.backup", "second.domain", "alice.key", "bob.key", "carol.key", "bob.share"];
    for name in files {
        fs::copy(daemon.path(name), bare.path(name)).unwrap();
    }
    let restore = |file: &'static str| ["backup", "restore", file];
    let old = bare.run(&[&restore("second.backup")[..], &quorum].concat());
    assert_ne!(old.code, 0, "{old:?}");
    let new = ["--holder-key", "carol.key", "--holder-key", "bob.key"];
    bare.run(&[&restore("second.backup")[..], &new].concat()).succeeds();
    assert_eq!(signature(&bare, 1), expected);
    // What was backed up before is not.
    bare.run(&[&["backup", "verify", "first.backup"][..], &new].concat()).fails(1);
    bare.run(&[&["backup", "verify", "first.backup"][..], &quorum].concat()).succeeds();
    // An old backup brings the keys of its time back, and not its holders.
    let text = daemon.run(&["backup", "restore", "first.backup", "--replace", "--yes"]).succeeds();
    assert!(text.contains("security domain is the present one"), "{text}");
    daemon.as_officer(&["security-domain", "show", "--out", "shown.domain"]).succeeds();
    let read = |name: &str| fs::read(daemon.path(name)).unwrap();
    assert_eq!(read("shown.domain"), read("second.domain"));
    assert_eq!(signature(&daemon, 2), expected);
}
