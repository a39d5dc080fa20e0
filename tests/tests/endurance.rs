//! Many handshakes, while servers reload and while the daemon goes away and comes back.
//!
//! The tests take turns: each needs the whole machine.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use strongroom_demo::load::Amount;
use strongroom_demo::pki::{KeyKind, text};
use strongroom_demo::server::{Server, Site};
use strongroom_demo::{apache, nginx};
use strongroom_load::Report;
use strongroom_tests::traffic::{Load, handshakes};
use strongroom_tests::{Bench, Place};

const COUNT: u64 = 20_000;

fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone, Copy)]
struct Program {
    name: &'static str,
    start: fn(&Site) -> Result<Server>,
    reload: &'static [&'static str],
}

const NGINX: Program = Program { name: "nginx", start: nginx::start, reload: &["-s", "reload"] };
const APACHE: Program = Program { name: "apache", start: apache::start, reload: &["-k", "graceful"] };

/// Starts the program with a key in the partition.
fn serve(bench: &Bench, program: Program, kind: KeyKind) -> Server {
    let key = bench.keys(Place::Partition, &[kind]).unwrap().remove(0);
    let certificate = key.certify(bench).unwrap();
    let named = match program.name {
        "nginx" => text(&bench.partition.reference(kind.name()).unwrap()),
        _ => key.uri.clone(),
    };
    let folder = bench.run.folder(program.name).unwrap();
    (program.start)(&Site::new(folder, &certificate, &named, &key.environment).as_daemon()).unwrap()
}

fn all_succeeded(report: &Report, server: &Server) {
    assert_eq!(report.error_count(), 0, "{:?} {}", report.error_messages, server.errors());
    assert_eq!(report.handshakes, COUNT);
}

fn many(program: Program, kind: KeyKind, extra: &[&str]) {
    let _turn = turn();
    let bench = Bench::new().unwrap();
    let server = serve(&bench, program, kind);
    let report = handshakes(&bench.programs, &server, &bench.authority.certificate(), COUNT, extra).unwrap();
    all_succeeded(&report, &server);
}

#[test]
fn nginx_makes_20_000_handshakes_with_rsa() {
    many(NGINX, KeyKind::Rsa2048, &[]);
}

#[test]
fn nginx_makes_20_000_handshakes_with_p256_and_tls_1_2() {
    many(NGINX, KeyKind::P256, &["--tls", "1.2"]);
}

#[test]
fn apache_makes_20_000_handshakes() {
    many(APACHE, KeyKind::P256, &[]);
}

/// Reloads twice a second until all handshakes are made.
fn many_while_reloading(program: Program) {
    let _turn = turn();
    let bench = Bench::new().unwrap();
    let server = serve(&bench, program, KeyKind::P256);
    let ca = bench.authority.certificate();
    let mut load = Load::start(&bench.programs, &server, &ca, Amount::Count(COUNT), &[]).unwrap();
    let mut reloads = 0;
    while load.is_running() {
        server.tell(program.reload).unwrap();
        reloads += 1;
        thread::sleep(Duration::from_millis(500));
    }
    let report = load.finish().unwrap();
    assert!(reloads >= 3, "only {reloads} reloads");
    all_succeeded(&report, &server);
}

#[test]
fn nginx_makes_20_000_handshakes_while_it_reloads_twice_a_second() {
    many_while_reloading(NGINX);
}

#[test]
fn apache_makes_20_000_handshakes_while_it_reloads_twice_a_second() {
    many_while_reloading(APACHE);
}

#[test]
#[ignore = "minutes"]
fn every_kind_of_key_makes_100_000_handshakes() {
    let _turn = turn();
    for program in [NGINX, APACHE] {
        for kind in KeyKind::TYPES {
            let bench = Bench::new().unwrap();
            let server = serve(&bench, program, kind);
            let ca = bench.authority.certificate();
            let report = handshakes(&bench.programs, &server, &ca, 100_000, &[]).unwrap();
            assert_eq!(report.error_count(), 0, "{kind:?} {:?} {}", report.error_messages, server.errors());
        }
    }
}

/// Kills the daemon again and again while the servers reload: at the end all handshakes succeed.
#[test]
#[ignore = "minutes"]
fn twenty_kills_and_reloads_leave_no_harm() {
    let _turn = turn();
    for program in [NGINX, APACHE] {
        let mut bench = Bench::new().unwrap();
        let server = serve(&bench, program, KeyKind::P256);
        let ca = bench.authority.certificate();
        let load =
            Load::start(&bench.programs, &server, &ca, Amount::Time(Duration::from_secs(60)), &[]).unwrap();
        for round in 0..20 {
            thread::sleep(Duration::from_millis(900));
            bench.partition.daemon.kill();
            if round % 2 == 0 {
                // Fails while the daemon is away, and then the old workers go on.
                let _ = server.tell(program.reload);
            }
            thread::sleep(Duration::from_millis(600));
            bench.partition.daemon.start_again().unwrap();
            if round % 3 == 0 {
                server.tell(program.reload).unwrap();
            }
        }
        load.finish().unwrap();
        let report = handshakes(&bench.programs, &server, &ca, COUNT, &[]).unwrap();
        all_succeeded(&report, &server);
    }
}

/// Takes the daemon away in the middle of a load, for so many seconds. Two seconds after its return no handshake
/// fails any more, with the workers that were there before.
fn resumes(program: Program, seconds: u64, take_away: fn(&mut Bench)) {
    let _turn = turn();
    let mut bench = Bench::new().unwrap();
    let server = serve(&bench, program, KeyKind::P256);
    let ca = bench.authority.certificate();
    // Apache starts more workers when many connections wait: it does so before the load proper.
    handshakes(&bench.programs, &server, &ca, 2_000, &[]).unwrap();
    let workers = server.processes().unwrap();

    let time = Duration::from_secs(7 + seconds);
    let load = Load::start(&bench.programs, &server, &ca, Amount::Time(time), &[]).unwrap();
    thread::sleep(Duration::from_secs(2));
    take_away(&mut bench);
    let away = load.started.elapsed().as_secs_f64();
    thread::sleep(Duration::from_secs(seconds));
    let returns = load.started.elapsed().as_secs_f64();
    bench.partition.daemon.start_again().unwrap();
    let back = load.started.elapsed().as_secs_f64();
    let report = load.finish().unwrap();

    // Half a slice and the start of the load generator lie between its clock and this one.
    let within = |from: f64, to: f64| {
        let slices = report.timeline.iter().filter(move |slice| slice.t_s > from && slice.t_s + 0.125 < to);
        slices.fold((0, 0, 0), |(n, ok, errors), slice| (n + 1, ok + slice.ok, errors + slice.errors))
    };
    let (slices, made, _) = within(away + 0.3, returns - 0.1);
    assert!(slices > 2, "{:?}", report.timeline);
    assert_eq!(made, 0, "handshakes without the daemon: who signed?");
    let (_, made, failed) = within(back + 2.0, time.as_secs_f64());
    assert!(made > 100 && failed == 0, "{made} made, {failed} failed afterwards\n{}", server.errors());

    let workers_now = server.processes().unwrap();
    let lost: Vec<_> = workers.iter().filter(|id| !workers_now.contains(id)).collect();
    // Apache may stop spare workers again; nginx has the same ones for ever.
    if program.name == "nginx" {
        assert!(lost.is_empty(), "workers {lost:?} have gone");
    }
    assert!(!server.errors().contains("exited on signal"), "{}", server.errors());
    assert!(!server.errors().contains("exit signal"), "{}", server.errors());
}

#[test]
fn nginx_resumes_after_a_restart_of_the_daemon() {
    resumes(NGINX, 1, |bench| bench.partition.daemon.stop());
}

#[test]
fn nginx_resumes_after_the_daemon_was_killed() {
    resumes(NGINX, 4, |bench| bench.partition.daemon.kill());
}

#[test]
fn apache_resumes_after_a_restart_of_the_daemon() {
    resumes(APACHE, 1, |bench| bench.partition.daemon.stop());
}
