//! A key gets new versions under the same name while a server that uses it is under load of full handshakes: the request is made
//! in the partition and signed by an authority of openssl's, and the server has the new version when it reloads.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use strongroom_demo::environment::Environment;
use strongroom_demo::load::Amount;
use strongroom_demo::pki::{KeyKind, run_openssl, text};
use strongroom_demo::process::wait_for;
use strongroom_demo::server::{Server, Site};
use strongroom_demo::{apache, nginx};
use strongroom_tests::Bench;
use strongroom_tests::traffic::{self, Load};

const KEY: &str = "web";

/// The load is ended when the work is done; by itself it ends if the test does not.
const LONGEST: Duration = Duration::from_secs(150);

const SOON: Duration = Duration::from_secs(60);

/// Has an authority certify the key, or its version that waits, and returns the public key that is in the request.
fn certify(bench: &Bench) -> Result<String> {
    let (request, answer) = (bench.file("web.csr"), bench.run.path().join("web.new.crt"));
    let hosts = ["--host", "localhost", "--ip", "127.0.0.1", "--out", &request, "--force"];
    bench.partition.manage(&[&["key", "request", KEY][..], &hosts].concat())?;
    let plain = Environment::plain();
    run_openssl(&plain, "req -in {} -noout -verify", &[&request])?;
    let ca = text(&bench.authority.certificate());
    run_openssl(
        &plain,
        "x509 -req -in {} -CA {} -CAkey {} -copy_extensions copyall -days 30 -out {}",
        &[&request, &ca, &bench.file("ca.key"), &text(&answer)],
    )?;
    bench.partition.manage(&["cert", "put", KEY, &text(&answer)])?;
    run_openssl(&plain, "req -in {} -noout -pubkey", &[&request])
}

/// Writes the certificate of the version that the name means to where the server reads it.
fn publish(bench: &Bench, site: &Site) -> Result<()> {
    let to = text(&site.certificate);
    bench.partition.manage(&["cert", "get", KEY, "--chain", "--out", &to, "--force"]).map(drop)
}

/// The public key with which the server proves itself now.
fn shown(server: &Server, ca: &Path) -> Result<String> {
    let done = traffic::certificate(server.port, ca)?;
    let file = ca.with_file_name("shown.crt");
    std::fs::write(&file, &done)?;
    run_openssl(&Environment::plain(), "x509 -in {} -noout -pubkey", &[&text(&file)])
}

fn rotates(start: fn(&Site) -> Result<Server>, reload: &[&str], kind: KeyKind) {
    let bench = Bench::new().unwrap();
    bench.partition.generate(kind, KEY).unwrap();
    let reference = bench.file("web.ref.pem");
    bench.partition.manage(&["key", "reference", KEY, "--by-name", "--out", &reference]).unwrap();
    let folder = bench.run.folder("site").unwrap();
    let certificate = bench.run.path().join("web.crt");
    let site = Site::new(folder, &certificate, &reference, &bench.partition.environment()).as_daemon();
    let first = certify(&bench).unwrap();
    publish(&bench, &site).unwrap();
    let server = start(&site).unwrap();
    let ca = bench.authority.certificate();
    assert_eq!(shown(&server, &ca).unwrap(), first);

    let mut load = Load::start(&bench.programs, &server, &ca, Amount::Time(LONGEST), &[]).unwrap();
    let mut last = first;
    for _ in 0..2 {
        bench.partition.manage(&["key", "rotate", KEY]).unwrap();
        let next = certify(&bench).unwrap();
        assert_ne!(next, last);
        bench.partition.manage(&["key", "activate", KEY]).unwrap();
        publish(&bench, &site).unwrap();
        server.tell(reload).unwrap();
        wait_for("the new version", SOON, || {
            ensure!(shown(&server, &ca)? == next, "another key:\n{}", server.errors());
            Ok(())
        })
        .unwrap();
        last = next;
    }
    assert!(load.is_running(), "the load ended before the work was done");
    let report = load.end().unwrap();
    assert_eq!(report.error_count(), 0, "{:?} {}", report.error_messages, server.errors());
    assert!(report.handshakes > 100, "{}", report.handshakes);
}

#[test]
fn nginx_has_a_new_version_at_reload_and_fails_no_handshake() {
    rotates(nginx::start, &["-s", "reload"], KeyKind::P256);
}

#[test]
fn apache_has_a_new_version_at_reload_and_fails_no_handshake() {
    rotates(apache::start, &["-k", "graceful"], KeyKind::Rsa2048);
}
