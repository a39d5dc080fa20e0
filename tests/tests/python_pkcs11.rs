//! python-pkcs11's own tests, with our module. docs/programs/python-pkcs11.md lists those that fail, and why.

// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use strongroom_demo::command;
use strongroom_demo::programs::repository;
use strongroom_tests::{Bench, python};

const NAME: &str = "python-pkcs11";

/// How long they may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(500);

/// Their RSA keys have 1,024 bits, which no partition has.
const LARGER: [(&str, &str); 4] = [
    ("KeyType.RSA, 1024", "KeyType.RSA, 2048"),
    ("assertEqual(1024, self.", "assertEqual(2048, self."),
    ("pub.encrypt(key + iv, PKCS1v15())), 128)", "pub.encrypt(key + iv, PKCS1v15())), 256)"),
    ("dest.read(128)", "dest.read(256)"),
];

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "py") {
            let source = fs::read_to_string(&file).unwrap();
            let source = LARGER.iter().fold(source, |source, (small, large)| source.replace(small, large));
            fs::write(to.join(file.file_name().unwrap()), source).unwrap();
        }
    }
}

/// The tests that a page lists: in its table, as pytest names them.
fn listed() -> Vec<String> {
    let page = fs::read_to_string(repository("docs/programs").join(NAME).with_extension("md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `test_")?.split_once('`'));
    rows.map(|(name, _)| format!("tests/test_{name}")).collect()
}

#[test]
fn passes_its_tests_but_for_those_that_the_page_lists() {
    let programs = python::environment(NAME).unwrap();
    let sources = python::sources(NAME, NAME).unwrap();
    let bench = Bench::new().unwrap();
    let locked = bench.locked().unwrap();
    let folder = bench.run.folder("suite").unwrap();
    copy(&sources.join("tests"), &folder.join("tests"));

    let mut pytest = command::new(programs.join("python"));
    bench.partition.environment().apply(&mut pytest);
    pytest
        .current_dir(&folder)
        .args(["-m", "pytest", "-q", "-rfEp", "--tb=short", "-p", "no:cacheprovider", "tests"])
        .env("PKCS11_MODULE", bench.programs.module())
        .env("PKCS11_TOKEN_LABEL", locked.label)
        .env("PKCS11_TOKEN_PIN", &locked.pin);
    let finished = command::run(pytest, LIMIT).unwrap();
    let printed = String::from_utf8_lossy(&finished.stdout).into_owned() + &finished.stderr;
    let named = |start: &str| -> Vec<String> {
        let lines = printed.lines().filter_map(|line| line.strip_prefix(start));
        lines.map(|line| line.split(" - ").next().unwrap_or(line).trim().to_owned()).collect()
    };
    let (passed, failed, errors) = (named("PASSED "), named("FAILED "), named("ERROR "));
    let listed = listed();
    let others: Vec<_> = failed.iter().chain(&errors).filter(|name| !listed.contains(name)).collect();
    assert!(
        others.is_empty() && passed.len() > 110,
        "{} passed, {others:?} failed:\n{printed}",
        passed.len()
    );
}
