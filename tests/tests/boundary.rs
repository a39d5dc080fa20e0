//! The provider's functions, called as libcrypto never would: by a program in C (tests/c/hostile.c), on SoftHSM2's keys.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;
use std::time::Duration;

use strongroom_demo::command;
use strongroom_demo::pki::KeyKind;
use strongroom_demo::programs::{Programs, repository, system};
use strongroom_demo::run_folder::RunFolder;
use strongroom_demo::softhsm::{self, SoftHsm};

const LIMIT: Duration = Duration::from_secs(540);

/// Builds the program and runs it on a token with a key of each type, under `checker` if that is not empty.
fn hostile(checker: &[&str], pairs: &str) {
    let programs = Programs::find().unwrap();
    let run = RunFolder::new().unwrap();
    let token = SoftHsm::create(&run.folder("softhsm").unwrap(), "tls").unwrap();
    let mut uris = Vec::new();
    for (id, kind) in (1..).zip([KeyKind::Rsa2048, KeyKind::P256, KeyKind::Ed25519]) {
        token.generate(kind, kind.name(), id).unwrap();
        uris.push(token.uri(kind.name()));
    }
    let program = run.path().join("hostile");
    let mut compiler = command::new(system("cc").unwrap());
    compiler.args(["-Wall", "-Wextra", "-Werror", "-O1", "-g", "-o"]).arg(&program);
    compiler.arg(repository("tests/c/hostile.c")).arg("-ldl");
    command::succeed(compiler, LIMIT).unwrap();

    let words: Vec<PathBuf> = checker.iter().map(PathBuf::from).chain([program]).collect();
    let (first, rest) = words.split_first().unwrap();
    let mut run = command::new(first);
    run.args(rest).arg(programs.provider()).arg(token.module()).args([softhsm::PIN, pairs]).args(&uris);
    token.plain_environment().apply(&mut run);
    let told = command::succeed(run, LIMIT).unwrap();
    let calls: u64 = told.split(' ').next().unwrap().parse().unwrap();
    assert!(calls > 10_000, "{told}");
}

/// With one and with two wrong arguments at a time.
#[test]
fn hostile_arguments_are_refused() {
    hostile(&[], "1");
}

#[test]
#[ignore = "under valgrind: a minute"]
fn hostile_arguments_touch_no_memory_that_is_not_theirs() {
    let valgrind = system("valgrind").unwrap();
    hostile(&[valgrind.to_str().unwrap(), "-q", "--error-exitcode=9", "--num-callers=20"], "0");
}
