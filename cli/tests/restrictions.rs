//! What `strongroom key generate` and `key import` rule out for good, and how it is shown. That it holds, the tests of the daemon and of the
//! PKCS#11 module show; here that it arrives.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's panic is its report")]

mod harness;

use harness::{Daemon, openssl};
use serde_json::json;
use strongroom_protocol::v1::{FindObjects, KeyTemplates, ObjectClass, ObjectInfo, request::Op, response};

/// What the partition has under a name.
fn objects(daemon: &Daemon, label: &str) -> Vec<ObjectInfo> {
    let find = FindObjects { label: label.into(), label_given: true, ..FindObjects::default() };
    match daemon.connect().call(1, Op::FindObjects(find)).unwrap() {
        response::Result::Objects(list) => list.objects,
        other => panic!("{other:?}"),
    }
}

fn of_class(daemon: &Daemon, label: &str, class: ObjectClass) -> ObjectInfo {
    objects(daemon, label).into_iter().find(|object| object.class() == class).unwrap()
}

/// A command line that is wrong in itself; what is said of it.
fn refused(run: harness::Run) -> String {
    assert_eq!(run.code, 2, "{run:?}");
    run.stderr
}

fn numbers(templates: Option<&KeyTemplates>, which: fn(&KeyTemplates) -> usize) -> usize {
    templates.map_or(0, which)
}

#[test]
fn a_key_is_restricted_without_saying_what_it_is_for() {
    let daemon = Daemon::with_partition();
    let generate = ["key", "generate", "code", "--type", "p256", "--json"];
    let more = ["--mechanisms", "ecdsa-sha256,CKM_ECDSA_SHA384,0x1046", "--always-authenticate"];
    let last = ["--not-copyable", "--not-modifiable"];
    let json = daemon.run(&[&generate[..], &more, &last].concat()).json();
    assert_eq!(json["mechanisms"], json!(["CKM_ECDSA_SHA256", "CKM_ECDSA_SHA384", "CKM_ECDSA_SHA512"]));
    let flags = ["always_authenticate", "copyable", "modifiable", "readable"].map(|name| json[name].clone());
    assert_eq!(flags, [true, false, false, false].map(|flag| json!(flag)));
    assert_eq!(json["uses"], json!(["sign"]), "as without");
    let private = of_class(&daemon, "code", ObjectClass::PrivateKey);
    assert_eq!(private.allowed_mechanisms, [0x1044, 0x1045, 0x1046]);
    assert!(private.policy.unwrap().always_authenticate && private.not_copyable && private.not_modifiable);
    let public = of_class(&daemon, "code", ObjectClass::PublicKey);
    assert!(public.allowed_mechanisms.is_empty() && !public.policy.unwrap().always_authenticate);
    let text = daemon.run(&["key", "show", "code"]).succeeds();
    for said in ["CKM_ECDSA_SHA256, CKM_ECDSA_SHA384", "takes the password", "copied, renamed"] {
        assert!(text.contains(said), "{text}");
    }

    // A key that comes in, and says what it is for.
    openssl(daemon.directory.path(), &["genpkey", "-algorithm", "RSA", "-out", "mail.key"]);
    let file = daemon.path("mail.key").to_str().unwrap().to_owned();
    let import = ["key", "import", "mail", &file, "--usage", "decrypt", "--mechanisms", "rsa-pkcs-oaep"];
    let json = daemon.run(&[&import[..], &["--always-authenticate", "--json"]].concat()).json();
    assert_eq!((&json["uses"], &json["always_authenticate"]), (&json!(["decrypt"]), &json!(true)));
    assert_eq!(json["mechanisms"], json!(["CKM_RSA_PKCS_OAEP"]));
    // Rotated, it stays so.
    daemon.run(&["key", "generate", "again", "--type", "p256", "--always-authenticate"]).succeeds();
    let json = daemon.run(&["key", "rotate", "again", "--json"]).succeeds();
    assert!(json.contains("\"always_authenticate\": true"), "{json}");
}

#[test]
fn templates_of_other_keys() {
    let daemon = Daemon::with_partition();
    let all = [
        ["--wrap-template", "class=secret,type=aes,length=32"],
        ["--unwrap-template", "extractable=no,label=guest"],
        ["--derive-template", "sensitive=yes,id=01ab"],
    ]
    .concat();
    let generate =
        ["key", "generate", "door", "--type", "aes-256", "--usage", "wrap,unwrap,derive", "--json"];
    let json = daemon.run(&[&generate[..], &all].concat()).json();
    assert_eq!(json["wrap_template"], json!(["class=secret", "type=aes", "length=32"]));
    assert_eq!(json["unwrap_template"], json!(["extractable=no", "label=guest"]));
    assert_eq!(json["derive_template"], json!(["sensitive=yes", "id=01ab"]));
    let text = daemon.run(&["key", "show", "door"]).succeeds();
    assert!(text.contains("class=secret, type=aes, length=32") && text.contains("id=01ab"), "{text}");

    // Of a pair the public half wraps, and the private one unwraps.
    let generate = ["key", "generate", "pair", "--type", "rsa-2048", "--usage", "wrap,unwrap"];
    daemon.run(&[&generate[..], &all[..4]].concat()).succeeds();
    for (class, expected) in [(ObjectClass::PrivateKey, [0, 2]), (ObjectClass::PublicKey, [3, 0])] {
        let object = of_class(&daemon, "pair", class);
        let templates = object.templates.as_ref();
        let found = [numbers(templates, |all| all.wrap.len()), numbers(templates, |all| all.unwrap.len())];
        assert_eq!(found, expected, "{class:?}");
    }
    let json = daemon.run(&["key", "show", "pair", "--json"]).json();
    assert_eq!(json["unwrap_template"], json!(["extractable=no", "label=guest"]));
    // What is wrong is said before anything is made.
    for (wrong, said) in [
        ("extractable=perhaps", "yes or no"),
        ("subject=x", "has no attribute"),
        ("class=data", "public, private, secret"),
    ] {
        let generate =
            ["key", "generate", "x", "--type", "aes-256", "--usage", "wrap", "--wrap-template", wrong];
        let error = refused(daemon.run(&generate));
        assert!(error.contains(said), "{error}");
    }
    let error = refused(daemon.run(&["key", "generate", "x", "--type", "p256", "--mechanisms", "ecdsa-md5"]));
    assert!(error.contains("docs/pkcs11.md"), "{error}");
    assert!(objects(&daemon, "x").is_empty());
}

#[test]
fn a_secret_key_is_read_if_its_maker_wants_it() {
    let daemon = Daemon::with_partition();
    let generate =
        |name, kind, more: &[&str]| daemon.run(&[&["key", "generate", name, "--type", kind], more].concat());
    let text = generate("token", "generic-secret", &["--extractable", "--readable"]).succeeds();
    assert!(text.contains("token"), "{text}");
    let text = daemon.run(&["key", "show", "token"]).succeeds();
    assert!(text.contains("read by crypto users"), "{text}");
    assert_eq!(daemon.run(&["key", "show", "token", "--json"]).json()["readable"], json!(true));
    assert!(of_class(&daemon, "token", ObjectClass::SecretKey).policy.unwrap().not_sensitive);
    // What cannot leave is not read, nor what leaves under trusted keys; and no private key ever.
    refused(generate("x", "aes-256", &["--readable"]));
    refused(generate("x", "aes-256", &["--extractable", "--readable", "--wrap-with-trusted"]));
    let error = generate("x", "p256", &["--extractable", "--readable"]).fails(1);
    assert!(error.contains("private key"), "{error}");
    // A key that asks each time does one of two things.
    let error = generate("x", "x25519", &["--always-authenticate"]).fails(1);
    assert!(error.contains("PKCS#11 has no place for a password"), "{error}");
}

/// Whoever leaves open which key is meant gets the same exit code from every command.
#[test]
fn a_name_that_leaves_open_what_is_meant() {
    let daemon = Daemon::with_partition();
    for _ in 0..2 {
        daemon.run(&["key", "generate", "web", "--type", "p256"]).succeeds();
        daemon.run(&["key", "delete", "web", "--yes"]).succeeds();
    }
    for command in [&["key", "recover", "web"][..], &["key", "purge", "web", "--yes"]] {
        let error = daemon.as_officer(command).fails(2);
        assert!(error.contains("2 deleted keys"), "{error}");
    }
    daemon.run(&["key", "generate", "web", "--type", "p256"]).succeeds();
    daemon.run(&["key", "rotate", "web"]).succeeds();
    daemon.run(&["key", "delete", "web", "--yes"]).fails(2);
}
