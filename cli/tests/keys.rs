//! `strongroom key`: what goes in comes out the same, as openssl sees it; bad input is one clear error.

mod harness;

use std::fs;

use harness::{Daemon, fields, openssl};
use strongroom_protocol::v1::{
    FindObjects, GenerateKeyPair, KeyTemplate, KeyType, ObjectClass, SetAttributes, request::Op, response,
};

/// Every key type with openssl's arguments to make such a key.
const TYPES: [(&str, &[&str]); 12] = [
    ("rsa-2048", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
    ("rsa-3072", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"]),
    ("rsa-4096", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096"]),
    ("p256", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    ("p384", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]),
    ("p521", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"]),
    ("ed25519", &["-algorithm", "ED25519"]),
    ("ed448", &["-algorithm", "ED448"]),
    ("secp256k1", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"]),
    ("p224", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-224"]),
    ("brainpoolP256r1", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:brainpoolP256r1"]),
    ("brainpoolP512r1", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:brainpoolP512r1"]),
];

/// Makes a key file with openssl.
fn key_file(daemon: &Daemon, name: &str, arguments: &[&str]) {
    openssl(daemon.directory.path(), &[&["genpkey", "-out", name], arguments].concat());
}

#[test]
fn every_type_is_generated() {
    let daemon = Daemon::with_partition();
    for (name, _) in TYPES {
        let json = daemon.run(&["key", "generate", name, "--type", name, "--json"]).json();
        assert_eq!(json["type"], name);
        assert_eq!(json["origin"], "generated");
        assert_eq!((&json["extractable"], &json["never_extractable"]), (&false.into(), &true.into()));
        assert_eq!(json["objects"].as_array().unwrap().len(), 2, "{json}");
        fs::write(daemon.path("public.pem"), daemon.run(&["key", "public", name]).succeeds()).unwrap();
        let text =
            openssl(daemon.directory.path(), &["pkey", "-pubin", "-in", "public.pem", "-noout", "-text"]);
        let bits = name.trim_start_matches(|c: char| c.is_ascii_lowercase() || c == '-');
        assert!(text.contains(bits), "{name}: {text}");
    }
    let text = daemon.run(&["key", "list"]).succeeds();
    assert_eq!(text.lines().count(), 1 + TYPES.len(), "{text}");
    assert!(text.contains("ECDSA P-521") && text.contains("generated"), "{text}");
    let json = daemon.run(&["key", "list", "--json"]).json();
    assert_eq!(fields(&json), ["keys", "partition"]);
    assert_eq!(json["keys"].as_array().unwrap().len(), TYPES.len());
    assert_eq!(
        fields(&json["keys"][0]),
        [
            "always_authenticate",
            "always_sensitive",
            "certificates",
            "copyable",
            "created",
            "derive_template",
            "extractable",
            "fingerprint",
            "has_private_key",
            "id",
            "mechanisms",
            "modifiable",
            "name",
            "never_extractable",
            "objects",
            "origin",
            "owner",
            "public_key",
            "readable",
            "rotate_every",
            "state",
            "trusted",
            "type",
            "unwrap_template",
            "uri",
            "uses",
            "version",
            "wrap_template",
            "wrap_with_trusted"
        ]
    );
}

/// What older versions of openssl do not read.
#[test]
fn newer_types_are_generated() {
    let daemon = Daemon::with_partition();
    for (name, length, uses) in [
        ("x25519", 44, ["derive"]),
        ("ml-dsa-44", 1334, ["sign"]),
        ("ml-dsa-65", 1974, ["sign"]),
        ("ml-dsa-87", 2614, ["sign"]),
    ] {
        let json = daemon.run(&["key", "generate", name, "--type", name, "--json"]).json();
        assert_eq!((&json["type"], &json["uses"]), (&name.into(), &uses[..].into()));
        let pem = json["public_key"].as_str().unwrap();
        let (_, der) = pem_rfc7468::decode_vec(pem.as_bytes()).unwrap();
        assert_eq!(der.len(), length, "{name}");
    }
}

#[test]
fn a_key_may_do_what_it_was_made_for() {
    let daemon = Daemon::with_partition();
    let uses = |name: &str, more: &[&str]| {
        let json = daemon.run(&[&["key", "generate", name, "--json"], more].concat()).json();
        json["uses"].clone()
    };
    assert_eq!(uses("web", &["--type", "rsa-2048"]), serde_json::json!(["sign"]));
    let both = uses("mail", &["--type", "rsa-2048", "--usage", "sign,decrypt"]);
    assert_eq!(both, serde_json::json!(["sign", "decrypt"]));
    assert_eq!(uses("vpn", &["--type", "p256", "--usage", "derive"]), serde_json::json!(["derive"]));
    assert_eq!(uses("in", &["--type", "aes-128", "--usage", "decrypt"]), serde_json::json!(["decrypt"]));
    let refused = daemon.run(&["key", "generate", "no", "--type", "p256", "--usage", "decrypt"]);
    assert!(refused.fails(1).contains("P-256 cannot do what its policy allows"));
    // Only who signs gets a certificate.
    let said = |name: &str, kind| daemon.run(&["key", "generate", name, "--type", kind]).succeeds();
    assert!(said("signs", "p256").contains("openssl req") && !said("derives", "x25519").contains("req"));
    key_file(&daemon, "rsa.key", TYPES[0].1);
    let json = daemon.run(&["key", "import", "rsa", "rsa.key", "--usage", "decrypt", "--json"]).json();
    assert_eq!(json["uses"], serde_json::json!(["decrypt"]));
}

#[test]
fn every_type_is_imported_as_it_is() {
    let daemon = Daemon::with_partition();
    let directory = daemon.directory.path();
    for (name, arguments) in TYPES {
        let file = format!("{name}.key");
        key_file(&daemon, &file, arguments);
        let json = daemon.run(&["key", "import", name, &file, "--json"]).json();
        assert_eq!((&json["type"], &json["origin"]), (&name.into(), &"imported".into()));
        assert_eq!((&json["extractable"], &json["never_extractable"]), (&false.into(), &false.into()));
        let expected = openssl(directory, &["pkey", "-in", &file, "-pubout"]);
        assert_eq!(daemon.run(&["key", "public", name]).succeeds(), expected, "{name}");
        assert_eq!(json["public_key"], expected);
    }
}

/// The older forms, and encrypted ones, hold the same key.
#[test]
fn every_form_of_a_file_is_read() {
    let daemon = Daemon::with_partition();
    let directory = daemon.directory.path();
    key_file(&daemon, "rsa.key", TYPES[0].1);
    key_file(&daemon, "ec.key", TYPES[3].1);
    openssl(directory, &["rsa", "-in", "rsa.key", "-traditional", "-out", "pkcs1.key"]);
    openssl(directory, &["ec", "-in", "ec.key", "-out", "sec1.key"]);
    openssl(
        directory,
        &["pkcs8", "-topk8", "-in", "ec.key", "-out", "pbkdf2.key", "-passout", "pass:open sesame"],
    );
    openssl(
        directory,
        &[
            "pkcs8",
            "-topk8",
            "-in",
            "ec.key",
            "-out",
            "scrypt.key",
            "-scrypt",
            "-passout",
            "pass:open sesame",
        ],
    );
    for (file, label) in [
        ("pkcs1.key", "RSA PRIVATE KEY"),
        ("sec1.key", "EC PRIVATE KEY"),
        ("pbkdf2.key", "ENCRYPTED PRIVATE KEY"),
    ] {
        assert!(fs::read_to_string(daemon.path(file)).unwrap().contains(label));
    }
    let passphrase = daemon.secret("passphrase.txt", "open sesame");
    for (name, file, of) in [
        ("a", "pkcs1.key", "rsa.key"),
        ("b", "sec1.key", "ec.key"),
        ("c", "pbkdf2.key", "ec.key"),
        ("d", "scrypt.key", "ec.key"),
    ] {
        daemon.run(&["key", "import", name, file, "--passphrase-file", &passphrase]).succeeds();
        let expected = openssl(directory, &["pkey", "-in", of, "-pubout"]);
        assert_eq!(daemon.run(&["key", "public", name]).succeeds(), expected, "{file}");
        daemon.run(&["key", "delete", name, "--yes"]).succeeds();
    }
    // From a bundle, after the certificate, through standard input.
    openssl(directory, &["req", "-x509", "-key", "rsa.key", "-subj", "/CN=bundle", "-out", "rsa.crt"]);
    let bundle = fs::read_to_string(daemon.path("rsa.crt")).unwrap()
        + &fs::read_to_string(daemon.path("pkcs1.key")).unwrap();
    let text = daemon.run_with_input(&["key", "import", "bundle", "-"], &bundle).succeeds();
    assert!(!text.contains("shred"), "{text}");
    // A prompt asks for the passphrase.
    let run = daemon.at_terminal(&["key", "import", "asked", "pbkdf2.key"], &["open sesame"]);
    assert!(run.code == 0 && run.stdout.contains("shred -u pbkdf2.key"), "{run:?}");
    let error = daemon.run(&["key", "import", "x", "pbkdf2.key"]).fails(2);
    assert!(error.contains("--passphrase-file"), "{error}");
    let error =
        daemon.run(&["key", "import", "x", "pbkdf2.key", "--passphrase-file", "officer.txt"]).fails(4);
    assert!(error.contains("passphrase"), "{error}");
}

#[test]
fn files_that_hold_no_key_are_refused() {
    let daemon = Daemon::with_partition();
    let directory = daemon.directory.path();
    key_file(&daemon, "ec.key", TYPES[3].1);
    openssl(directory, &["pkey", "-in", "ec.key", "-outform", "DER", "-out", "ec.der"]);
    openssl(directory, &["pkey", "-in", "ec.key", "-pubout", "-out", "public.pem"]);
    openssl(
        directory,
        &["ec", "-in", "ec.key", "-aes128", "-passout", "pass:open sesame", "-out", "old.key"],
    );
    let binary = ["-pkeyopt", "ec_paramgen_curve:sect283k1"];
    openssl(directory, &[&["genpkey", "-algorithm", "EC", "-out", "binary.key"], &binary[..]].concat());
    openssl(
        directory,
        &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024", "-out", "short.key"],
    );
    let pem = fs::read_to_string(daemon.path("ec.key")).unwrap();
    fs::write(daemon.path("cut.key"), &pem[..pem.len() / 2]).unwrap();
    fs::write(daemon.path("text.key"), "no key here").unwrap();
    fs::write(daemon.path("empty.key"), "").unwrap();
    fs::write(
        daemon.path("ref.pem"),
        "-----BEGIN PKCS#11 PROVIDER URI-----\nAAAA\n-----END PKCS#11 PROVIDER URI-----\n",
    )
    .unwrap();
    fs::write(
        daemon.path("ssh.key"),
        "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
    )
    .unwrap();
    fs::write(
        daemon.path("wrong.key"),
        "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n",
    )
    .unwrap();
    let mut damaged = pem.into_bytes();
    damaged[60] ^= 1;
    fs::write(daemon.path("damaged.key"), damaged).unwrap();
    fs::write(daemon.path("large.key"), vec![b'x'; 1 << 21]).unwrap();
    for (file, sign) in [
        ("missing.key", "No such file"),
        ("public.pem", "no private key"),
        ("old.key", "openssl pkcs8 -topk8"),
        ("binary.key", ""),
        ("short.key", ""),
        ("cut.key", "cut short"),
        ("text.key", "not a PEM file"),
        ("empty.key", "not a PEM file"),
        ("ref.pem", "already is in a token"),
        ("ssh.key", "ssh-keygen"),
        ("wrong.key", "PKCS#1"),
        ("damaged.key", ""),
        ("large.key", "1 MiB"),
    ] {
        let error = daemon.run(&["key", "import", "web", file]).fails(1);
        assert!(error.contains(sign), "{file}: {error}");
        assert_eq!(error.lines().count(), 1, "{file}: {error}");
    }
    assert_eq!(daemon.run(&["key", "list", "--json"]).json()["keys"].as_array().unwrap().len(), 0);
}

#[test]
fn show_and_fingerprint() {
    let daemon = Daemon::with_partition();
    let directory = daemon.directory.path();
    key_file(&daemon, "ec.key", TYPES[3].1);
    let text = daemon.run(&["key", "import", "web", "ec.key", "--id", "01:aB"]).succeeds();
    assert!(text.contains("shred -u ec.key"), "{text}");
    let text = daemon.run(&["key", "show", "web"]).succeeds();
    openssl(directory, &["pkey", "-in", "ec.key", "-pubout", "-outform", "DER", "-out", "public.der"]);
    let digest = openssl(directory, &["dgst", "-sha256", "-r", "public.der"]);
    assert!(text.contains(digest.split(' ').next().unwrap()), "{text} {digest}");
    for expected in [
        "ECDSA P-256",
        "01ab",
        "imported",
        "not extractable",
        "pkcs11:token=tls;object=web;id=%01%AB;type=private",
        "BEGIN PUBLIC KEY",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    let json = daemon.run(&["key", "show", "id:01ab", "--json"]).json();
    assert_eq!(json["name"], "web");
    assert_eq!(json["uses"], serde_json::json!(["sign"]));
    assert_eq!(json["has_private_key"], true);
}

/// What is public needs no log-in, and says so of the rest.
#[test]
fn public_facts_need_no_log_in() {
    let daemon = Daemon::start();
    daemon.init("tls", &[]).succeeds();
    let user = ["--password-file", "user.txt"];
    daemon.run(&[&["key", "generate", "web", "--type", "p256"][..], &user].concat()).succeeds();
    let json = daemon.run(&["key", "show", "web", "--json"]).json();
    assert_eq!(json["has_private_key"], serde_json::Value::Null);
    let text = daemon.run(&["key", "show", "web"]).succeeds();
    assert!(text.contains("seen by crypto users only"), "{text}");
    assert!(daemon.run(&["key", "uri", "web"]).succeeds().starts_with("pkcs11:token=tls;object=web;id=%"));
    daemon.run(&["key", "public", "web"]).succeeds();
    daemon.run(&["key", "reference", "web"]).succeeds();
    daemon.run(&["cert", "list"]).succeeds();
    let error = daemon.run(&["key", "show", "other"]).fails(4);
    assert!(error.contains("\"other\"") && error.contains("--login"), "{error}");
}

#[test]
fn uris_escape_what_they_must() {
    let daemon = Daemon::start();
    let uid = rustix::process::getuid().as_raw().to_string();
    daemon.init("TLS keys; site/1", &["--admit", &uid]).succeeds();
    daemon.run(&["key", "generate", "www example?", "--type", "p256", "--id", "0041ff"]).succeeds();
    let uri = daemon.run(&["key", "uri", "www example?"]).succeeds();
    assert_eq!(
        uri,
        "pkcs11:token=TLS%20keys%3B%20site%2F1;object=www%20example%3F;id=%00%41%FF;type=private\n"
    );
    let json = daemon.run(&["key", "uri", "id:0041ff", "--json"]).json();
    assert_eq!(fields(&json), ["name", "uri"]);
    assert_eq!(json["uri"], uri.trim_end());
}

/// The file's format as openssl takes it apart.
#[test]
fn the_reference_file() {
    let daemon = Daemon::with_partition();
    daemon.run(&["key", "generate", "web", "--type", "p256", "--id", "0102"]).succeeds();
    let text = daemon.run(&["key", "reference", "web", "--out", "web.ref.pem"]).succeeds();
    assert!(text.contains("web.ref.pem"), "{text}");
    let written = fs::read_to_string(daemon.path("web.ref.pem")).unwrap();
    assert!(written.starts_with("-----BEGIN PKCS#11 PROVIDER URI-----\n"), "{written}");
    assert_eq!(daemon.run(&["key", "reference", "web"]).succeeds(), written);
    let parsed = openssl(daemon.directory.path(), &["asn1parse", "-in", "web.ref.pem"]);
    let lines: Vec<_> = parsed.lines().collect();
    assert_eq!(lines.len(), 3, "{parsed}");
    assert!(lines[0].contains("cons: SEQUENCE"), "{parsed}");
    assert!(
        lines[1].contains("VISIBLESTRING") && lines[1].ends_with(":PKCS#11 Provider URI v1.0"),
        "{parsed}"
    );
    assert!(
        lines[2].contains("UTF8STRING")
            && lines[2].ends_with(":pkcs11:token=tls;object=web;id=%01%02;type=private"),
        "{parsed}"
    );

    let error = daemon.run(&["key", "reference", "web", "--out", "web.ref.pem"]).fails(6);
    assert!(error.contains("--force"), "{error}");
    fs::write(daemon.path("web.ref.pem"), "old").unwrap();
    let json = daemon.run(&["key", "reference", "web", "--out", "web.ref.pem", "--force", "--json"]).json();
    assert_eq!(fields(&json), ["file", "name", "pem", "uri"]);
    assert_eq!(fs::read_to_string(daemon.path("web.ref.pem")).unwrap(), written);
    let left: Vec<_> =
        fs::read_dir(daemon.directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".new")), "{left:?}");
    daemon.run(&["key", "reference", "web", "--out", "no/such/directory"]).fails(1);
    let error = daemon.run(&["key", "reference", "web", "--cert"]).fails(5);
    assert!(error.contains("cert put"), "{error}");
}

#[test]
fn unknown_and_ambiguous_keys() {
    let daemon = Daemon::with_partition();
    let error = daemon.run(&["key", "show", "web"]).fails(5);
    assert!(error.contains("\"web\"") && error.contains("key generate"), "{error}");
    daemon.run(&["key", "generate", "web", "--type", "p256", "--id", "01"]).succeeds();
    let error = daemon.run(&["key", "generate", "web", "--type", "p256"]).fails(6);
    assert!(error.contains("\"web\""), "{error}");
    daemon.run(&["key", "generate", "mail", "--type", "p256", "--id", "02"]).succeeds();
    let error = daemon.run(&["key", "uri", "wbe"]).fails(5);
    assert!(error.contains("2 keys") && error.contains("strongroom key list"), "{error}");
    assert_eq!(daemon.run(&["key", "uri", "wbe", "--json"]).json_error()["code"], "no_such_object");
    // Two keys of one id: names and identities still tell them apart.
    daemon.run(&["key", "generate", "twin", "--type", "p384", "--id", "02"]).succeeds();
    let error = daemon.run(&["key", "show", "id:02"]).fails(2);
    assert!(error.contains("2 keys") && error.contains("id:02"), "{error}");
    let json = daemon.run(&["key", "show", "twin", "--json"]).json();
    assert_eq!(json["type"], "p384");
    let by_identity = format!("object:{}", json["objects"][0].as_str().unwrap());
    assert_eq!(daemon.run(&["key", "show", &by_identity, "--json"]).json()["name"], "twin");
}

/// Other programs may give two keys one name, and the halves of a key two names.
#[test]
fn keys_that_other_programs_made() {
    let daemon = Daemon::with_partition();
    let mut connection = daemon.connect();
    let mut made = Vec::new();
    for id in [1, 2] {
        let template = KeyTemplate { label: "web".into(), id: vec![id], ..KeyTemplate::default() };
        let generate = GenerateKeyPair {
            key_type: KeyType::P256 as i32,
            private_key: Some(template.clone()),
            public_key: Some(template),
        };
        match connection.call(1, Op::GenerateKeyPair(generate)).unwrap() {
            response::Result::Objects(pair) => made.extend(pair.objects),
            other => panic!("{other:?}"),
        }
    }
    let error = daemon.run(&["key", "uri", "web"]).fails(2);
    assert!(error.contains("2 keys") && error.contains("id:01 or id:02"), "{error}");
    assert_eq!(daemon.run(&["key", "delete", "web", "--yes", "--json"]).json_error()["code"], "ambiguous");

    // Now the second key's public half gets another name, and both keys one id.
    for (object, label, id) in [(&made[2], "web", 1), (&made[3], "half", 1)] {
        let set = SetAttributes {
            object: object.object.clone(),
            label: Some(label.into()),
            id: Some(vec![id]),
            ..SetAttributes::default()
        };
        connection.call(1, Op::SetAttributes(set)).unwrap();
    }
    let json = daemon.run(&["key", "show", "half", "--json"]).json();
    assert_eq!(json["name"], "web");
    let identity = harness::hex(&made[2].object);
    assert_eq!(json["objects"], serde_json::json!([identity, harness::hex(&made[3].object)]));
    daemon.run(&["key", "delete", &format!("object:{identity}"), "--yes"]).succeeds();
    let left = FindObjects { class: ObjectClass::PublicKey as i32, ..FindObjects::default() };
    match connection.call(1, Op::FindObjects(left)).unwrap() {
        response::Result::Objects(list) => assert_eq!(list.objects.len(), 1, "{list:?}"),
        other => panic!("{other:?}"),
    }
    daemon.run(&["key", "show", "half"]).fails(5);
}

#[test]
fn a_name_cannot_steer_the_terminal() {
    let daemon = Daemon::with_partition();
    daemon.run(&["key", "generate", "\u{1b}[2Jweb", "--type", "p256"]).succeeds();
    let text = daemon.run(&["key", "list"]).succeeds();
    assert!(text.contains("\\u{1b}[2Jweb") && !text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn delete_takes_both_halves_and_no_other() {
    let daemon = Daemon::with_partition();
    daemon.run(&["key", "generate", "web", "--type", "p256", "--id", "01"]).succeeds();
    daemon.run(&["key", "generate", "twin", "--type", "p256", "--id", "01"]).succeeds();
    let error = daemon.run(&["key", "delete", "web"]).fails(2);
    assert!(error.contains("--yes"), "{error}");
    let json = daemon.run(&["key", "delete", "web", "--yes", "--json"]).json();
    assert_eq!(json["deleted"]["name"], "web");
    daemon.run(&["key", "delete", "web", "--yes"]).fails(5);
    let json = daemon.run(&["key", "list", "--json"]).json();
    assert_eq!(json["keys"].as_array().unwrap().len(), 1);
    assert_eq!(json["keys"][0]["name"], "twin");
    assert_eq!(json["keys"][0]["objects"].as_array().unwrap().len(), 2);
    assert_eq!(daemon.run(&["status", "--json"]).json()["objects"], 2);
}

#[test]
fn all_versions_go_and_come_back_together() {
    let daemon = Daemon::with_partition();
    daemon.run(&["key", "generate", "web", "--type", "p256"]).succeeds();
    daemon.run(&["key", "generate", "other", "--type", "p256"]).succeeds();
    for _ in 0..2 {
        daemon.run(&["key", "rotate", "web", "--activate"]).succeeds();
    }
    let list = || daemon.run(&["key", "list", "--json"]).json()["keys"].clone();
    let names = || {
        let keys = list();
        keys.as_array()
            .unwrap()
            .iter()
            .map(|key| key["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let before = list();
    assert_eq!(names().len(), 4);
    assert!(daemon.run(&["key", "delete", "web", "--yes"]).fails(2).contains("--all-versions"));
    daemon.run(&["key", "delete", "web", "--yes", "--all-versions"]).succeeds();
    assert_eq!(names(), ["other"]);
    let error = daemon.as_officer(&["key", "recover", "web"]);
    assert!(error.code != 0 && error.stderr.contains("--all-versions"), "{}", error.stderr);
    daemon.as_officer(&["key", "recover", "web", "--all-versions"]).succeeds();
    assert_eq!(list(), before, "each is what it was");
    daemon.run(&["key", "delete", "web", "--yes", "--all-versions"]).succeeds();
    let error = daemon.as_officer(&["key", "purge", "web", "--yes"]);
    assert!(error.code != 0 && error.stderr.contains("--all-versions"), "{}", error.stderr);
    daemon.as_officer(&["key", "purge", "web", "--yes", "--all-versions"]).succeeds();
    daemon.as_officer(&["key", "recover", "web", "--all-versions"]).fails(5);
    assert_eq!(names(), ["other"]);
    daemon.run(&["tamper", "check"]).succeeds();
}

#[test]
fn secret_keys_have_no_public_half() {
    let mut daemon = Daemon::with_partition();
    daemon.run(&["key", "generate", "web", "--type", "p256"]).succeeds();
    for (name, bits) in [("aes-128", "128"), ("aes-192", "192"), ("aes-256", "256")] {
        let text = daemon.run(&["key", "generate", name, "--type", name]).succeeds();
        assert!(text.contains(&format!("AES {bits}")) && text.contains("type=secret-key"), "{text}");
        assert!(!text.contains("certificate"), "{text}");
    }
    daemon.restart();
    let json = daemon.run(&["key", "list", "--json"]).json();
    assert_eq!(json["keys"].as_array().unwrap().len(), 4, "{json}");
    let json = daemon.run(&["key", "show", "aes-256", "--json"]).json();
    assert_eq!((&json["type"], &json["origin"]), (&"aes-256".into(), &"generated".into()));
    assert_eq!((&json["extractable"], &json["never_extractable"]), (&false.into(), &true.into()));
    assert_eq!(json["uses"], serde_json::json!(["encrypt", "decrypt"]));
    for none in ["fingerprint", "public_key", "has_private_key"] {
        assert!(json[none].is_null(), "{none}: {json}");
    }
    assert_eq!(json["objects"].as_array().unwrap().len(), 1);
    let text = daemon.run(&["key", "show", "aes-256"]).succeeds();
    assert!(text.contains("not extractable, and never was") && !text.contains("PUBLIC KEY"), "{text}");
    for refused in ["public", "reference"] {
        let error = daemon.run(&["key", refused, "aes-256"]).fails(1);
        assert!(error.contains("is a secret key"), "{error}");
    }
    daemon.run(&["key", "generate", "aes-256", "--type", "aes-256"]).fails(6);
    let text = daemon.run(&["key", "delete", "aes-256", "--yes"]).succeeds();
    assert!(text.contains("Deleted key \"aes-256\" (AES 256)"), "{text}");
    let json = daemon.run(&["key", "list", "--json"]).json();
    assert_eq!(json["keys"].as_array().unwrap().len(), 3, "{json}");
}

#[test]
fn keys_survive_a_restart() {
    let mut daemon = Daemon::with_partition();
    daemon.run(&["key", "generate", "web", "--type", "ed25519"]).succeeds();
    let before = daemon.run(&["key", "show", "web", "--json"]).json();
    daemon.restart();
    assert_eq!(daemon.run(&["key", "show", "web", "--json"]).json(), before);
}
