//! What servers hold does not grow: memory and descriptors, over handshakes and reloads.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use strongroom_demo::environment::Environment;
use strongroom_demo::nginx;
use strongroom_demo::pki::{KeyKind, key_file, text};
use strongroom_demo::process::wait_for;
use strongroom_demo::server::{Server, Site};
use strongroom_tests::{Bench, Place, traffic};

/// How much more memory there may be at the end: what malloc keeps varies.
const SLACK: u64 = 512 * 1024;

/// What a process holds.
#[derive(Debug, Clone, Copy)]
struct Holds {
    /// Memory without a file behind it, in bytes.
    memory: u64,
    descriptors: usize,
}

impl Holds {
    fn of(process: u32) -> Self {
        let map = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap();
        let kibibytes = |name: &str| -> u64 {
            let line = map.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        Holds {
            // Whoever else has the pages since the fork. nginx's cache of sessions is none of these.
            memory: kibibytes("Anonymous:") * 1024,
            descriptors: fs::read_dir(format!("/proc/{process}/fd")).unwrap().count(),
        }
    }
}

/// nginx with one worker.
fn serve(bench: &Bench, certificate: &Path, key: &str, environment: &Environment, name: &str) -> Server {
    let site = Site::new(bench.run.folder(name).unwrap(), certificate, key, environment);
    nginx::start(&site.as_daemon().with_workers(Some(1))).unwrap()
}

fn with_our_key(bench: &Bench, kind: KeyKind) -> Server {
    let key = bench.keys(Place::Partition, &[kind]).unwrap().remove(0);
    let reference = text(&bench.partition.reference(kind.name()).unwrap());
    serve(bench, &key.certify(bench).unwrap(), &reference, &key.environment, kind.name())
}

/// The master and its worker, when there is one.
fn wait_for_worker(server: &Server) -> (u32, u32) {
    wait_for("a worker", Duration::from_secs(120), || processes(server).context("there is none, or more"))
        .unwrap()
}

/// As [`wait_for_worker`], if there is exactly one now.
fn processes(server: &Server) -> Option<(u32, u32)> {
    let master = server.process.id();
    match server.processes().ok()?.as_slice() {
        [first, second] if *first == master => Some((master, *second)),
        [first, second] if *second == master => Some((master, *first)),
        _ => None,
    }
}

/// Makes so many handshakes, and says what the worker holds before and after.
fn handshakes(bench: &Bench, server: &Server, count: u64) -> (Holds, Holds) {
    let (_, worker) = wait_for_worker(server);
    let make = |count: u64| {
        let ca = bench.authority.certificate();
        let report = traffic::handshakes(&bench.programs, server, &ca, count, &[]).unwrap();
        assert_eq!(report.error_count(), 0, "{}", server.errors());
    };
    // Until malloc has what so many connections at a time take.
    make(2_000);
    let before = Holds::of(worker);
    for _ in 0..count / 2_000 {
        make(2_000);
    }
    (before, Holds::of(worker))
}

fn handshakes_leave_nothing(count: u64) {
    let bench = Bench::new().unwrap();
    let ours = handshakes(&bench, &with_our_key(&bench, KeyKind::P256), count);
    let plain = handshakes(&bench, &with_a_file(&bench), count);
    compare(ours, plain);
}

/// nginx itself grows a little.
fn compare(ours: (Holds, Holds), plain: (Holds, Holds)) {
    let said = format!("{ours:?}; with a key in a file {plain:?}");
    eprintln!("{said}");
    let grown = |(before, after): (Holds, Holds)| after.memory.saturating_sub(before.memory);
    assert!(grown(ours) <= grown(plain) + SLACK, "{said}");
    assert!(ours.1.descriptors <= ours.0.descriptors, "{said}");
}

fn with_a_file(bench: &Bench) -> Server {
    let file = bench.run.path().join("file.key");
    key_file(KeyKind::P256, &file).unwrap();
    let certificate = bench.authority.certify(&Environment::plain(), &text(&file), "file").unwrap();
    serve(bench, &certificate, &text(&file), &Environment::plain(), "file")
}

/// Reloads so often, and says what the master holds before and after.
fn reload(server: &Server, count: u32) -> (Holds, Holds) {
    let again = || {
        let (master, worker) = wait_for_worker(server);
        kill_process(Pid::from_raw(master as i32).unwrap(), Signal::HUP).unwrap();
        wait_for("another worker", Duration::from_secs(120), || match processes(server) {
            Some((_, other)) if other != worker => Ok(()),
            _ => bail!("{:?} {}", server.processes(), server.errors()),
        })
        .unwrap();
    };
    let (master, _) = wait_for_worker(server);
    (0..count / 5).for_each(|_| again());
    let before = Holds::of(master);
    (0..count).for_each(|_| again());
    (before, Holds::of(master))
}

fn reloads_leave_nothing(count: u32) {
    let bench = Bench::new().unwrap();
    let ours = reload(&with_our_key(&bench, KeyKind::P256), count);
    let plain = reload(&with_a_file(&bench), count);
    compare(ours, plain);
}

#[test]
fn two_thousand_handshakes_leave_nothing() {
    handshakes_leave_nothing(2_000);
}

#[test]
fn twenty_reloads_leave_nothing() {
    reloads_leave_nothing(20);
}

#[test]
#[ignore = "three minutes"]
fn a_hundred_thousand_handshakes_leave_nothing() {
    handshakes_leave_nothing(100_000);
}

#[test]
#[ignore = "several minutes"]
fn a_thousand_reloads_leave_nothing() {
    reloads_leave_nothing(1_000);
}
