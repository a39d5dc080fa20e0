//! The provider and the module under valgrind, in the openssl command: no access to memory that is not theirs, no decision by
//! what was never written, nothing lost at the end.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use strongroom_demo::command;
use strongroom_demo::environment::Environment;
use strongroom_demo::pki::{KeyKind, openssl, text};
use strongroom_demo::process::wait_for;
use strongroom_demo::programs::system;
use strongroom_demo::server::free_port;
use strongroom_tests::{Bench, Keys, Place, traffic};

/// Valgrind makes a program thirty times as slow.
const LIMIT: Duration = Duration::from_secs(300);

/// Status of a program in which valgrind found something.
const FOUND: &str = "--error-exitcode=99";

/// The openssl command under valgrind.
fn watched(environment: &Environment, arguments: &str, values: &[&str]) -> Command {
    let openssl = openssl(environment, arguments, values).unwrap();
    let mut command = command::new(system("valgrind").unwrap());
    environment.apply(&mut command);
    command.args(["-q", FOUND, "--leak-check=full", "--errors-for-leak-kinds=definite", "--num-callers=25"]);
    command.arg(openssl.get_program()).args(openssl.get_args());
    command
}

fn succeeds(environment: &Environment, arguments: &str, values: &[&str]) {
    command::succeed(watched(environment, arguments, values), LIMIT).unwrap();
}

fn in_both_places(kinds: &[KeyKind], test: impl Fn(&Bench, &Keys)) {
    for place in [Place::Partition, Place::SoftHsm] {
        let bench = Bench::new().unwrap();
        for key in bench.keys(place, kinds).unwrap() {
            test(&bench, &key);
        }
    }
}

/// What would make the tests pass if valgrind were not asked for its opinion.
#[test]
fn valgrind_finds_what_is_wrong() {
    let bench = Bench::new().unwrap();
    let (source, program) = (bench.run.path().join("wrong.c"), bench.run.path().join("wrong"));
    fs::write(&source, "#include <stdlib.h>\nint main(void) { char *p = malloc(7); return p[7] == 3; }")
        .unwrap();
    let mut compiler = command::new(system("cc").unwrap());
    compiler.args(["-O0", "-o"]).arg(&program).arg(&source);
    command::succeed(compiler, LIMIT).unwrap();
    let mut watched = command::new(system("valgrind").unwrap());
    watched.args(["-q", FOUND]).arg(&program);
    assert_eq!(command::run(watched, LIMIT).unwrap().status.code(), Some(99));
}

#[test]
#[ignore = "under valgrind: two minutes"]
fn keys_are_found_and_sign() {
    in_both_places(&[KeyKind::Rsa2048, KeyKind::P256, KeyKind::Ed25519], |bench, key| {
        let uri = key.uri.as_str();
        succeeds(&key.environment, "storeutl -keys {}", &[uri]);
        succeeds(&key.environment, "storeutl -noout pkcs11:", &[]);
        succeeds(&key.environment, "pkey -in {} -pubout -out {}", &[uri, &bench.file("public")]);
        succeeds(
            &key.environment,
            "req -new -key {} -subj /CN=localhost -out {}",
            &[uri, &bench.file("csr")],
        );
        let (input, signature) = (bench.file("input"), bench.file("signature"));
        fs::write(&input, [7; 32]).unwrap();
        let how = if key.kind == KeyKind::Ed25519 { "-rawin" } else { "-pkeyopt digest:sha256" };
        let sign = format!("pkeyutl -sign {how} -inkey {{}} -in {{}} -out {{}}");
        succeeds(&key.environment, &sign, &[uri, &input, &signature]);
    });
}

/// With a wrong PIN, a key that is not there and a module that is none: what fails is cleaned up as well.
#[test]
#[ignore = "under valgrind: a minute"]
fn failures_leave_nothing() {
    in_both_places(&[KeyKind::P256], |_, key| {
        let wrong_pin = format!("{}?pin-value=wrong-pin", key.uri.split('?').next().unwrap());
        for uri in ["pkcs11:token=nowhere;object=nothing", "pkcs11:object=%00;type=private", &wrong_pin] {
            let failed =
                command::run(watched(&key.environment, "pkey -in {} -pubout -noout", &[uri]), LIMIT).unwrap();
            assert_ne!(failed.status.code(), Some(99), "{uri}: {}", failed.stderr);
        }
    });
}

#[test]
#[ignore = "under valgrind: two minutes"]
fn s_server_makes_handshakes() {
    in_both_places(&[KeyKind::Rsa2048, KeyKind::P256], |bench, key| {
        let certificate = text(&key.certify(bench).unwrap());
        let port = free_port().unwrap();
        let mut server = watched(
            &key.environment,
            "s_server -quiet -www -naccept 3 -accept {} -key {} -cert {}",
            &[&format!("127.0.0.1:{port}"), &key.uri, &certificate],
        );
        let said = bench.run.path().join("said");
        server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&said).unwrap());
        let mut server = server.spawn().unwrap();
        for version in ["-tls1_2", "-tls1_3", "-tls1_3"] {
            wait_for("a handshake", LIMIT, || {
                let done = traffic::handshake(port, version, &bench.authority.certificate())?;
                anyhow::ensure!(done.status.success(), "{version} {}", done.stderr);
                Ok(())
            })
            .unwrap();
        }
        let ended = wait_for("the end", LIMIT, || server.try_wait()?.context("it runs"));
        assert!(ended.unwrap().success(), "{}", fs::read_to_string(&said).unwrap());
    });
}
