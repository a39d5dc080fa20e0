//! What happens to servers with a key in a token: cold starts and reloads under load, workers that end, a new program in the
//! place of the old, a cleared environment, another root, a token that is taken away and comes back.
//!
//! The tests take turns: each needs the whole machine.
// A panic is a test's report.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing
)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use rustix::process::{Pid, Signal, kill_process};
use strongroom_demo::load::Amount;
use strongroom_demo::pki::{KeyKind, text};
use strongroom_demo::process::wait_for;
use strongroom_demo::server::{Server, Site};
use strongroom_demo::{haproxy, nginx};
use strongroom_load::Report;
use strongroom_tests::servers::{MORE, lighttpd, stunnel};
use strongroom_tests::traffic::{self, Load, handshakes};
use strongroom_tests::{Bench, Keys, Place};

const OURS_AND_SOFTHSM: [Place; 2] = [Place::Partition, Place::SoftHsm];
const ALL: [Place; 3] = [Place::Partition, Place::SoftHsm, Place::Kryoptic];

const SOON: Duration = Duration::from_secs(25);

fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A key, and a site that it serves.
struct Served {
    bench: Bench,
    key: Keys,
    site: Site,
    ca: PathBuf,
}

impl Served {
    fn new(place: Place) -> Self {
        let bench = Bench::new().unwrap();
        let key = bench.keys(place, &[KeyKind::P256]).unwrap().remove(0);
        let certificate = key.certify(&bench).unwrap();
        let reference = text(&key.reference(&bench).unwrap());
        let folder = bench.run.folder("site").unwrap();
        let site = Site::new(folder, &certificate, &reference, &key.environment).as_daemon();
        let ca = bench.authority.certificate();
        Served { bench, key, site, ca }
    }

    fn load(&self, server: &Server, amount: Amount) -> Load {
        Load::start(&self.bench.programs, server, &self.ca, amount, &[]).unwrap()
    }

    fn all_succeed(&self, server: &Server, count: u64) {
        let report = handshakes(&self.bench.programs, server, &self.ca, count, &[]).unwrap();
        no_error(&report, server);
    }

    /// One handshake, and how long it took.
    fn handshake(&self, server: &Server) -> Duration {
        let begun = Instant::now();
        let done = traffic::handshake(server.port, "-tls1_3", &self.ca).unwrap();
        assert!(done.status.success(), "{:?} {}\n{}", self.key.place, done.stderr, server.said());
        begun.elapsed()
    }

    fn eventually_serves(&self, server: &Server) {
        wait_for("a handshake", SOON, || {
            let done = traffic::handshake(server.port, "-tls1_3", &self.ca)?;
            ensure!(done.status.success(), "{}\n{}", done.stderr, server.said());
            Ok(())
        })
        .unwrap();
    }
}

fn no_error(report: &Report, server: &Server) {
    assert_eq!(report.error_count(), 0, "{:?} {}", report.error_messages, server.errors());
    assert!(report.handshakes > 0);
}

fn no_crash(server: &Server) {
    let said = server.said();
    for crash in ["exited on signal", "exit signal", "core dumped"] {
        assert!(!said.contains(crash), "{said}");
    }
}

/// Starts nginx with eight workers while clients call, again and again: no worker is left that fails.
fn cold_starts(places: &[Place], starts: u32) {
    let _turn = turn();
    for place in places {
        let served = Served::new(*place);
        let mut failed = 0;
        for start in 0..starts {
            let site = served.site.clone().with_workers(Some(8));
            let server = nginx::start(&site).unwrap();
            // The first handshakes come to all workers at once.
            let first = served.load(&server, Amount::Count(400)).finish().unwrap();
            failed += first.error_count();
            assert_eq!(
                first.error_count(),
                0,
                "start {start} {:?} {}",
                first.error_messages,
                server.errors()
            );
            served.all_succeed(&server, 400);
            no_crash(&server);
        }
        println!("{place:?}: {starts} cold starts under load, {failed} failed handshakes");
    }
}

#[test]
fn cold_starts_under_load_leave_no_worker_that_fails() {
    cold_starts(&OURS_AND_SOFTHSM, 2);
}

#[test]
#[ignore = "takes minutes: ten starts for each token"]
fn ten_cold_starts_under_load_leave_no_worker_that_fails() {
    cold_starts(&ALL, 10);
}

/// Reloads nginx with 16 workers under load. No handshake fails, and no worker ends by a signal. Returns how many workers
/// ended.
fn reloads(places: &[Place], reloads: u32) {
    let _turn = turn();
    for place in places {
        let served = Served::new(*place);
        let server = nginx::start(&served.site.clone().with_workers(Some(16))).unwrap();
        let time = Duration::from_millis(1500 * u64::from(reloads + 1));
        let load = served.load(&server, Amount::Time(time));
        for _ in 0..reloads {
            thread::sleep(Duration::from_millis(1500));
            server.tell(&["-s", "reload"]).unwrap();
        }
        let report = load.finish().unwrap();
        println!(
            "{place:?}: {reloads} reloads of 16 workers, {} handshakes, {} failed, longest gap {} ms",
            report.handshakes,
            report.error_count(),
            report.longest_gap_ms
        );
        no_error(&report, &server);
        wait_for("the old workers' end", SOON, || {
            let processes = server.processes()?.len();
            ensure!(processes == 17, "{processes} processes");
            Ok(())
        })
        .unwrap();
        no_crash(&server);
    }
}

#[test]
fn reloads_under_load_fail_no_handshake_and_crash_no_worker() {
    reloads(&OURS_AND_SOFTHSM, 2);
}

#[test]
#[ignore = "takes minutes: five reloads of 16 workers, 80 ends, for each token"]
fn five_reloads_under_load_fail_no_handshake_and_crash_no_worker() {
    reloads(&ALL, 5);
}

/// The first handshake of a new worker: peers stall for a second there. One that is slow for another reason is not all.
fn first_handshakes(places: &[Place], rounds: usize) {
    let _turn = turn();
    for place in places {
        let served = Served::new(*place);
        let server = nginx::start(&served.site.clone().with_workers(Some(1))).unwrap();
        served.handshake(&server);
        let mut times = Vec::new();
        for _ in 0..rounds {
            let before = server.processes().unwrap();
            server.tell(&["-s", "reload"]).unwrap();
            wait_for("a new worker", SOON, || {
                let now = server.processes()?;
                ensure!(now.len() == 2 && now != before, "{now:?}");
                Ok(())
            })
            .unwrap();
            times.push(served.handshake(&server));
        }
        times.sort();
        println!("{place:?}: first handshakes {times:?}");
        assert!(times[rounds / 2] < Duration::from_millis(900), "{place:?} {times:?}");
    }
}

#[test]
fn a_new_workers_first_handshake_does_not_stall() {
    first_handshakes(&OURS_AND_SOFTHSM, 3);
}

#[test]
#[ignore = "takes minutes: twenty reloads for each token"]
fn twenty_new_workers_first_handshakes_do_not_stall() {
    first_handshakes(&ALL, 20);
}

/// nginx clears its environment: without the lines `env ...;` of the configuration the workers have none of the variables that
/// say where the token is. They sign, because the module was loaded before.
#[test]
fn workers_without_the_environment_sign() {
    let _turn = turn();
    for place in OURS_AND_SOFTHSM {
        let served = Served::new(place);
        let (file, port) = nginx::configure(&served.site).unwrap();
        let configured = fs::read_to_string(&file).unwrap();
        let without: Vec<&str> = configured.lines().filter(|line| !line.starts_with("env ")).collect();
        assert!(without.len() < configured.lines().count());
        fs::write(&file, without.join("\n")).unwrap();
        let server = nginx::start_configured(&served.site, &file, port).unwrap();
        for _ in 0..20 {
            served.handshake(&server);
        }
        server.tell(&["-s", "reload"]).unwrap();
        thread::sleep(Duration::from_millis(300));
        served.all_succeed(&server, 200);
    }
}

/// A worker that may not read the token fails its handshakes, and says why.
#[test]
fn workers_that_may_not_reach_the_token_say_so() {
    let _turn = turn();
    let served = Served::new(Place::SoftHsm);
    let server = nginx::start(&served.site).unwrap();
    served.handshake(&server);
    // Debian's packages give the tokens to a group of their own.
    let tokens = served.bench.run.path().join("softhsm/tokens");
    set_mode(&tokens, 0o000);
    let mut chown = strongroom_demo::command::new("/bin/chown");
    chown.args(["-R", "root:"]).arg(&tokens);
    strongroom_demo::command::succeed(chown, SOON).unwrap();
    server.tell(&["-s", "reload"]).unwrap();
    thread::sleep(Duration::from_millis(500));
    let done = traffic::handshake(server.port, "-tls1_3", &served.ca).unwrap();
    assert!(!done.status.success());
    let said = server.errors();
    assert!(said.contains("strongroom::"), "{said}");
}

fn set_mode(file: &Path, mode: u32) {
    fs::set_permissions(file, Permissions::from_mode(mode)).unwrap();
}

/// A new nginx takes the place of the old one (USR2, then QUIT to the old) under load.
fn upgrades(places: &[Place]) {
    let _turn = turn();
    for place in places {
        let served = Served::new(*place);
        let (file, port) = nginx::configure(&served.site.clone().with_workers(Some(4))).unwrap();
        // Who ends, and why, is in the log.
        let configured = fs::read_to_string(&file).unwrap().replace("error.log;", "error.log notice;");
        fs::write(&file, configured).unwrap();
        let mut server = nginx::start_configured(&served.site, &file, port).unwrap();
        let load = served.load(&server, Amount::Time(Duration::from_secs(4)));
        thread::sleep(Duration::from_millis(700));
        server.process.signal(Signal::USR2).unwrap();
        let pid_file = served.site.folder.join("server.pid");
        let new: u32 = wait_for("the new nginx", SOON, || {
            if let Ok(status) = server.process.wait(Duration::ZERO) {
                panic!("the old nginx ended: {status}\n{}", server.said());
            }
            let id = fs::read_to_string(&pid_file)?;
            let id: u32 = id.trim().parse()?;
            ensure!(id != server.process.id(), "still the old one");
            Ok(id)
        })
        .unwrap();
        thread::sleep(Duration::from_millis(700));
        server.process.signal(Signal::QUIT).unwrap();
        let report = load.finish().unwrap();
        println!("{place:?}: upgrade, {} handshakes, {} failed", report.handshakes, report.error_count());
        no_error(&report, &server);
        let mut old = server;
        old.process.wait(SOON).unwrap();
        served.all_succeed(&old, 200);
        no_crash(&old);
        let new = i32::try_from(new).ok().and_then(Pid::from_raw).unwrap();
        kill_process(new, Signal::QUIT).unwrap();
    }
}

#[test]
fn a_new_nginx_takes_the_old_ones_place() {
    upgrades(&OURS_AND_SOFTHSM);
}

#[test]
#[ignore = "needs tests/kryoptic, which takes minutes to build"]
fn a_new_nginx_takes_the_old_ones_place_with_kryoptic() {
    upgrades(&[Place::Kryoptic]);
}

/// Another root: the test's folder, in which the paths outside lead to the same files.
fn jail(served: &Served) -> PathBuf {
    let jail = served.bench.run.path().to_owned();
    let itself = jail.join(jail.strip_prefix("/").unwrap());
    fs::create_dir_all(itself.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/", itself).unwrap();
    jail
}

#[test]
fn haproxy_signs_in_another_root() {
    let _turn = turn();
    let served = Served::new(Place::Partition);
    let jail = jail(&served);
    let (file, port) = haproxy::configure(&served.site).unwrap();
    let configured = fs::read_to_string(&file).unwrap();
    let changed = configured.replace("global\n", &format!("global\n    chroot {}\n", jail.display()));
    fs::write(&file, &changed).unwrap();
    let server = haproxy::start_configured(&served.site, &file, port).unwrap();
    let worker = wait_for("HAProxy's worker", SOON, || {
        let workers =
            server.processes()?.into_iter().filter(|id| *id != server.process.id()).collect::<Vec<_>>();
        ensure!(workers.len() == 1, "{workers:?}");
        Ok(workers[0])
    })
    .unwrap();
    served.all_succeed(&server, 200);
    has_root(worker, &jail);
}

#[test]
fn stunnel_signs_in_another_root() {
    let _turn = turn();
    let served = Served::new(Place::Partition);
    let jail = jail(&served);
    let (file, port) = stunnel::configure(&served.site).unwrap();
    let configured = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("chroot = {}\n{configured}", jail.display())).unwrap();
    let server = stunnel::start_configured(&served.site, &file, port).unwrap();
    for _ in 0..20 {
        served.handshake(&server);
    }
    has_root(server.process.id(), &jail);
}

fn has_root(process: u32, jail: &Path) {
    let root = fs::read_link(format!("/proc/{process}/root")).unwrap();
    assert_eq!(root, jail);
}

/// SoftHSM2's token is moved away and back under nginx, in which it is in use.
#[test]
fn a_token_that_is_taken_away_and_comes_back_is_used_again() {
    let _turn = turn();
    let served = Served::new(Place::SoftHsm);
    let server = nginx::start(&served.site.clone().with_workers(Some(4))).unwrap();
    for _ in 0..8 {
        served.handshake(&server);
    }
    let tokens = served.bench.run.path().join("softhsm/tokens");
    let away = served.bench.run.path().join("softhsm/away");
    fs::rename(&tokens, &away).unwrap();
    fs::create_dir(&tokens).unwrap();
    // New workers too, which see no token at all.
    let _ = server.tell(&["-s", "reload"]);
    for _ in 0..8 {
        let _ = traffic::handshake(server.port, "-tls1_3", &served.ca).unwrap();
    }
    fs::remove_dir(&tokens).unwrap();
    fs::rename(&away, &tokens).unwrap();
    served.eventually_serves(&server);
    server.tell(&["-s", "reload"]).unwrap();
    thread::sleep(Duration::from_millis(500));
    served.all_succeed(&server, 200);
    no_crash(&server);
}

/// The other servers read their configuration again, as their administrators make them, and go on with the same key.
#[test]
fn the_other_servers_reload() {
    let _turn = turn();
    let served = Served::new(Place::Partition);
    for program in
        MORE.into_iter().filter(|program| ["stunnel", "lighttpd", "postgresql"].contains(&program.name))
    {
        let folder = served.bench.run.folder(program.name).unwrap();
        let site = Site { folder, start: strongroom_demo::server::Start::Foreground, ..served.site.clone() };
        let server = (program.start)(&site).unwrap();
        let signal = if program.name == "lighttpd" { Signal::USR1 } else { Signal::HUP };
        for _ in 0..3 {
            server.process.signal(signal).unwrap();
            thread::sleep(Duration::from_millis(300));
            wait_for("an answer", SOON, || {
                let done = (program.request)(&server, "-tls1_3", &served.ca)?;
                ensure!(done.status.success(), "{}: {}\n{}", program.name, done.stderr, server.said());
                Ok(())
            })
            .unwrap();
        }
    }
}

/// lighttpd and stunnel as daemons.
#[test]
fn the_other_servers_become_daemons() {
    let _turn = turn();
    let served = Served::new(Place::SoftHsm);
    for (name, start) in [("lighttpd", lighttpd::start as fn(&Site) -> _), ("stunnel", stunnel::start)] {
        let site = Site { folder: served.bench.run.folder(name).unwrap(), ..served.site.clone() };
        let server = start(&site).unwrap_or_else(|error: anyhow::Error| panic!("{name}: {error:#}"));
        for _ in 0..5 {
            served.handshake(&server);
        }
    }
}
