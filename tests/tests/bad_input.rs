//! What is wrong gets one clear error, soon, where a person looks for it: on stderr or in the error log. And
//! never a signature by another key.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use strongroom_demo::command;
use strongroom_demo::environment::{Environment, openssl_configuration};
use strongroom_demo::pki::{KeyKind, openssl, run_openssl, text};
use strongroom_demo::server::{Server, Site};
use strongroom_demo::softhsm::SoftHsm;
use strongroom_demo::{apache, nginx};
use strongroom_protocol::client::{Connection, Deadlines};
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::{GenerateKeyPair, KeyPolicy, KeyTemplate, KeyType};
use strongroom_tests::place::TOKEN;
use strongroom_tests::{Bench, Keys, Place, reference, traffic};

/// Longer than the client's deadlines (2 s to connect, 10 s for a reply), with room for a slow machine.
const SOON: Duration = Duration::from_secs(25);

type Starter = fn(&Site) -> Result<Server>;
const SERVERS: [(&str, Starter); 2] = [("nginx", nginx::start), ("apache", apache::start)];

struct Fixture {
    bench: Bench,
    key: Keys,
    certificate: std::path::PathBuf,
}

impl Fixture {
    fn new() -> Self {
        let bench = Bench::new().unwrap();
        let key = bench.keys(Place::Partition, &[KeyKind::P256]).unwrap().remove(0);
        let certificate = key.certify(&bench).unwrap();
        Fixture { bench, key, certificate }
    }

    /// How the program is told a URI: Apache as it is, nginx by a reference file.
    fn naming(&self, program: &str, uri: &str) -> String {
        if program == "apache" {
            return uri.into();
        }
        text(&reference::write(uri, &self.bench.run.path().join("named.ref.pem")).unwrap())
    }

    /// Starts `program` with the key `uri`, which must fail soon, and returns what it said.
    fn refuses(&self, program: (&str, Starter), uri: &str, environment: &Environment) -> String {
        let (name, start) = program;
        let named = self.naming(name, uri);
        let folder = self.bench.run.folder(name).unwrap();
        let begun = Instant::now();
        let error = start(&Site::new(folder, &self.certificate, &named, environment))
            .err()
            .unwrap_or_else(|| panic!("{name} starts with {uri}"));
        assert!(begun.elapsed() < SOON, "{name} took {:?}", begun.elapsed());
        format!("{error:#}")
    }

    /// Signs with the openssl command, which must fail soon, and returns what it said.
    fn openssl_refuses(&self, uri: &str, environment: &Environment) -> String {
        let message = self.bench.file("message");
        fs::write(&message, "a message").unwrap();
        let sign = openssl(environment, "dgst -sha256 -sign {} -out {} {}", &[uri, "/dev/null", &message]);
        let begun = Instant::now();
        let finished = command::run(sign.unwrap(), SOON).unwrap();
        assert!(!finished.status.success(), "openssl signs with {uri}");
        assert!(begun.elapsed() < SOON, "openssl took {:?}", begun.elapsed());
        finished.stderr
    }
}

/// nginx logs what is on OpenSSL's error queue. Apache 2.4.71 logs only the URI of a key that cannot be loaded:
/// its administrator finds the reason with the openssl command, which has its own assertion in every test.
fn server_says(program: &str, said: &str, uri: &str, words: &[&str]) {
    match program {
        "apache" => says(said, &["AH10492", uri]),
        _ => says(said, words),
    }
}

fn says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.to_lowercase().contains(&word.to_lowercase()), "{word:?} is missing in:\n{said}");
    }
}

#[test]
fn an_unknown_key_is_named() {
    let fixture = Fixture::new();
    let environment = fixture.key.environment.clone();
    let uri = "pkcs11:token=tls;object=nobody;type=private";
    says(&fixture.openssl_refuses(uri, &environment), &["nobody"]);
    for server in SERVERS {
        server_says(server.0, &fixture.refuses(server, uri, &environment), uri, &["nobody"]);
    }
}

#[test]
fn a_uri_that_does_not_parse_is_explained() {
    let fixture = Fixture::new();
    let environment = fixture.key.environment.clone();
    let uri = "pkcs11:token=tls;object=%zz";
    says(&fixture.openssl_refuses(uri, &environment), &["object", "hexadecimal"]);
    for server in SERVERS {
        let said = fixture.refuses(server, uri, &environment);
        server_says(server.0, &said, uri, &["object", "hexadecimal"]);
    }
}

#[test]
fn a_uri_that_matches_two_keys_is_refused() {
    let fixture = Fixture::new();
    let environment = fixture.key.environment.clone();
    // Our own command refuses a second key of the same name; PKCS#11 allows it.
    let second =
        ["--keypairgen", "--key-type", "EC:prime256v1", "--label", fixture.key.kind.name(), "--id", "0777"];
    fixture.bench.pkcs11_tool(&[&["--token-label", TOKEN], &second[..]].concat()).unwrap();
    let uri = fixture.key.uri.clone();
    says(&fixture.openssl_refuses(&uri, &environment), &["p256", "2"]);
    for server in SERVERS {
        server_says(server.0, &fixture.refuses(server, &uri, &environment), &uri, &["p256", "2"]);
    }
}

#[test]
fn a_wrong_pin_is_refused_and_not_shown() {
    let mut fixture = Fixture::new();
    let locked = fixture.bench.locked().unwrap();
    let uri = locked.generate(KeyKind::P256, "web").unwrap();
    let right = locked.environment(&locked.pin, "right.cnf").unwrap();
    let wrong = locked.environment("user:wrong-password", "wrong.cnf").unwrap();
    let none = fixture.bench.partition.environment();
    fixture.certificate = fixture.bench.authority.certify(&right, &uri, "locked").unwrap();
    for environment in [&wrong, &none] {
        says(&fixture.openssl_refuses(&uri, environment), &["pin"]);
        for server in SERVERS {
            let said = fixture.refuses(server, &uri, environment);
            server_says(server.0, &said, &uri, &["pin"]);
            assert!(!said.contains("wrong-password"), "{said}");
        }
    }
    // And the user is not locked by it.
    run_openssl(
        &right,
        "dgst -sha256 -sign {} -out {} {}",
        &[&uri, "/dev/null", &fixture.bench.file("message")],
    )
    .unwrap();
}

#[test]
fn a_wrong_pin_of_softhsm_is_refused() {
    let fixture = Fixture::new();
    let token = SoftHsm::create(&fixture.bench.run.folder("softhsm").unwrap(), "soft").unwrap();
    token.generate(KeyKind::P256, "web", 1).unwrap();
    let environment = token.environment_with_pin(&fixture.bench.programs, "4321", "wrong.cnf").unwrap();
    let uri = token.uri("web");
    says(&fixture.openssl_refuses(&uri, &environment), &["pin"]);
    for server in SERVERS {
        server_says(server.0, &fixture.refuses(server, &uri, &environment), &uri, &["pin"]);
    }
    // And the token is not locked by it.
    let right = token.environment(&fixture.bench.programs).unwrap();
    run_openssl(&right, "pkey -in {} -pubout", &[&uri]).unwrap();
}

#[test]
fn a_daemon_that_is_not_running_is_missed_at_the_start() {
    let mut fixture = Fixture::new();
    let environment = fixture.key.environment.clone();
    let uri = fixture.key.uri.clone();
    // The reference file is made before: that needs the daemon.
    let reference = fixture.naming("nginx", &uri);
    fixture.bench.partition.daemon.stop();
    says(&fixture.openssl_refuses(&uri, &environment), &["strongroomd"]);
    for (name, start) in SERVERS {
        let named = if name == "nginx" { &reference } else { &uri };
        let folder = fixture.bench.run.folder(name).unwrap();
        let begun = Instant::now();
        let error = start(&Site::new(folder, &fixture.certificate, named, &environment)).unwrap_err();
        assert!(begun.elapsed() < SOON, "{name} took {:?}", begun.elapsed());
        server_says(name, &format!("{error:#}"), &uri, &["strongroomd"]);
    }
    let mut status = fixture.bench.partition.daemon.strongroom(["status"]);
    status.env("NO_COLOR", "1");
    let status = command::run(status, SOON).unwrap();
    assert_eq!(status.status.code(), Some(3));
    says(&status.stderr, &["strongroomd"]);
}

#[test]
fn a_daemon_that_goes_away_later_fails_handshakes_and_nothing_else() {
    for (name, start) in SERVERS {
        let mut fixture = Fixture::new();
        let named = fixture.naming(name, &fixture.key.uri);
        let folder = fixture.bench.run.folder(name).unwrap();
        let site = Site::new(folder, &fixture.certificate, &named, &fixture.key.environment).verbose();
        let server = start(&site).unwrap();
        let ca = fixture.bench.authority.certificate();
        let shake = || traffic::handshake(server.port, "-tls1_3", &ca).unwrap();
        assert!(shake().status.success());
        fixture.bench.partition.daemon.kill();
        let begun = Instant::now();
        assert!(!shake().status.success(), "{name} made a handshake without the partition");
        assert!(begun.elapsed() < SOON, "{name} took {:?}", begun.elapsed());
        says(&server.errors(), &["strongroomd"]);
        fixture.bench.partition.daemon.start_again().unwrap();
        let done = shake();
        assert!(done.status.success(), "{name} does not recover: {}\n{}", done.stderr, server.errors());
    }
}

#[test]
fn a_certificate_of_another_key_is_refused() {
    let mut fixture = Fixture::new();
    let other = fixture.bench.run.path().join("other.key");
    strongroom_demo::pki::key_file(KeyKind::P256, &other).unwrap();
    fixture.certificate =
        fixture.bench.authority.certify(&Environment::plain(), &text(&other), "other").unwrap();
    let uri = fixture.key.uri.clone();
    for server in SERVERS {
        says(&fixture.refuses(server, &uri, &fixture.key.environment), &["mismatch"]);
    }
}

#[test]
fn a_key_that_may_not_sign_is_refused() {
    let fixture = Fixture::new();
    let environment = fixture.key.environment.clone();
    // Neither our command nor pkcs11-tool makes such a key: the protocol does.
    let public = KeyTemplate { label: "idle".into(), ..KeyTemplate::default() };
    let private = KeyTemplate { policy: Some(KeyPolicy::default()), ..public.clone() };
    let socket = fixture.bench.partition.daemon.socket();
    let mut connection = Connection::open(&socket, "tests", Deadlines::default()).unwrap();
    connection
        .call(
            1,
            Op::GenerateKeyPair(GenerateKeyPair {
                key_type: KeyType::P256.into(),
                private_key: Some(private),
                public_key: Some(public),
            }),
        )
        .unwrap();
    let uri = "pkcs11:token=tls;object=idle;type=private";
    says(&fixture.openssl_refuses(uri, &environment), &["idle", "CKA_SIGN"]);
}

#[test]
fn a_damaged_reference_file_is_refused() {
    let fixture = Fixture::new();
    let file = fixture.bench.run.path().join("damaged.ref.pem");
    let good = fs::read_to_string(fixture.bench.partition.reference("p256").unwrap()).unwrap();
    let folder = fixture.bench.run.folder("nginx").unwrap();
    for damaged in [
        good.replace("-----END", "!!!!\n-----END"),
        good.lines().take(2).collect::<Vec<_>>().join("\n"),
        "-----BEGIN PKCS#11 PROVIDER URI-----\nMAA=\n-----END PKCS#11 PROVIDER URI-----\n".into(),
        String::new(),
    ] {
        fs::write(&file, &damaged).unwrap();
        let site = Site::new(folder.clone(), &fixture.certificate, &text(&file), &fixture.key.environment);
        let begun = Instant::now();
        let error = nginx::start(&site).unwrap_err();
        assert!(begun.elapsed() < SOON);
        says(&format!("{error:#}"), &["damaged.ref.pem"]);
    }
}

/// The module's path is wrong: the provider says so, and other keys go on working.
#[test]
fn a_missing_module_is_named() {
    let fixture = Fixture::new();
    let file = fixture.bench.run.path().join("no-module.cnf");
    openssl_configuration(&fixture.bench.programs, Path::new("/nowhere/module.so"), None, &file).unwrap();
    let environment = fixture.bench.partition.daemon.client_environment().with("OPENSSL_CONF", file);
    says(&fixture.openssl_refuses(&fixture.key.uri, &environment), &["/nowhere/module.so"]);
    let key = fixture.bench.file("file.key");
    strongroom_demo::pki::key_file(KeyKind::P256, Path::new(&key)).unwrap();
    run_openssl(&environment, "pkey -in {} -pubout", &[&key]).unwrap();
}
