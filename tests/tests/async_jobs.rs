//! Servers that sign in OpenSSL's ASYNC jobs: `openssl s_server -async`, and HAProxy with `ssl-mode-async` and one thread.
// A panic is a test's report.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use prost::Message;
use rustix::process::Signal;
use strongroom_demo::environment::Environment;
use strongroom_demo::haproxy;
use strongroom_demo::load::Amount;
use strongroom_demo::pki::{KeyKind, openssl, text};
use strongroom_demo::process::{Process, wait_for};
use strongroom_demo::server::{Server, Site, free_port};
use strongroom_protocol::frame::{HEADER, body_length};
use strongroom_protocol::v1::{Request, request::Op};
use strongroom_tests::traffic::{self, Load};
use strongroom_tests::{Bench, Keys, Place};

/// How long the slow token takes for a signature.
const SLOW: Duration = Duration::from_millis(20);

/// A socket before the daemon's that holds each signature for [`SLOW`] and counts those that it holds.
struct SlowSocket {
    path: PathBuf,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    in_flight: AtomicUsize,
    most: AtomicUsize,
}

impl SlowSocket {
    fn before(daemon: &Path, path: PathBuf) -> Self {
        let listener = UnixListener::bind(&path).unwrap();
        // The servers' workers run as another user.
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        let counts = Arc::new(Counts::default());
        let (shared, daemon) = (counts.clone(), daemon.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (counts, daemon) = (shared.clone(), daemon.clone());
                thread::spawn(move || {
                    // Either side may end the connection when it likes.
                    if let Ok(server) = UnixStream::connect(daemon) {
                        let _ = counts.carry(client, server);
                    }
                });
            }
        });
        SlowSocket { path, counts }
    }

    fn in_flight(&self) -> usize {
        self.counts.in_flight.load(Ordering::SeqCst)
    }
}

impl Counts {
    /// Requests one by one, as the module's connections have them.
    fn carry(&self, mut client: UnixStream, mut server: UnixStream) -> Result<()> {
        let mut back = (server.try_clone()?, client.try_clone()?);
        thread::spawn(move || {
            let _ = std::io::copy(&mut back.0, &mut back.1);
            let _ = back.1.shutdown(Shutdown::Both);
        });
        loop {
            let mut frame = vec![0; HEADER];
            client.read_exact(&mut frame)?;
            let length = body_length([frame[0], frame[1], frame[2], frame[3]])?;
            frame.resize(HEADER + length, 0);
            client.read_exact(&mut frame[HEADER..])?;
            let is_signature =
                matches!(Request::decode(&frame[HEADER..]), Ok(Request { op: Some(Op::Sign(_)), .. }));
            if is_signature {
                let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
                self.most.fetch_max(now, Ordering::SeqCst);
                thread::sleep(SLOW);
                self.in_flight.fetch_sub(1, Ordering::SeqCst);
            }
            server.write_all(&frame)?;
        }
    }
}

/// HAProxy with one thread and one key.
fn one_thread(bench: &Bench, key: &Keys, environment: &Environment) -> Server {
    let certificate = key.certify(bench).unwrap();
    let key_file = key.reference(bench).unwrap();
    let folder = bench.run.folder(&format!("haproxy-{}", key.kind.name())).unwrap();
    let site = Site::new(folder, &certificate, &text(&key_file), environment).with_workers(Some(1));
    haproxy::start(&site).unwrap()
}

/// A partition behind a slow socket, and what programs need to use it.
fn slow_partition() -> (Bench, Keys, SlowSocket, Environment) {
    let bench = Bench::new().unwrap();
    let key = bench.keys(Place::Partition, &[KeyKind::P256]).unwrap().remove(0);
    let socket = SlowSocket::before(&bench.partition.daemon.socket(), bench.run.path().join("slow.sock"));
    let environment = key
        .environment
        .clone()
        .with("STRONGROOM_SOCKET", &socket.path)
        // Requests go over the socket, where they are counted.
        .with("STRONGROOM_CHANNEL", "off");
    (bench, key, socket, environment)
}

/// HAProxy's only worker. The master listens before it has made it.
fn worker(server: &Server) -> u32 {
    wait_for("HAProxy's worker", Duration::from_secs(10), || {
        let mut workers = server.processes()?;
        workers.retain(|id| *id != server.process.id());
        ensure!(workers.len() == 1, "{workers:?}");
        Ok(workers[0])
    })
    .unwrap()
}

/// How many of a process's descriptors are of the kind that jobs have.
fn job_descriptors(process: u32) -> Result<usize> {
    let descriptors = fs::read_dir(format!("/proc/{process}/fd"))?.flatten();
    let targets = descriptors.flat_map(|entry| fs::read_link(entry.path()));
    Ok(targets.filter(|target| text(target) == "anon_inode:[eventfd]").count())
}

fn load(bench: &Bench, server: &Server, count: u64) -> Load {
    let ca = bench.authority.certificate();
    Load::start(&bench.programs, server, &ca, Amount::Count(count), &[]).unwrap()
}

#[test]
fn s_server_signs_in_jobs() {
    for place in [Place::Partition, Place::SoftHsm] {
        let bench = Bench::new().unwrap();
        for key in bench.keys(place, &KeyKind::ALL).unwrap() {
            eprintln!("{place:?} {}", key.kind.title());
            let certificate = text(&key.certify(&bench).unwrap());
            let port = free_port().unwrap();
            let address = format!("127.0.0.1:{port}");
            let serve = "s_server -async -quiet -www -accept {} -key {} -cert {}";
            let mut server = openssl(&key.environment, serve, &[&address, &key.uri, &certificate]).unwrap();
            server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut server = Process::spawn("openssl", server).unwrap();
            wait_for("s_server", Duration::from_secs(10), || Ok(std::net::TcpStream::connect(&address)?))
                .unwrap();
            for version in ["-tls1_2", "-tls1_3", "-tls1_3"] {
                let done = traffic::handshake(port, version, &bench.authority.certificate()).unwrap();
                assert!(done.status.success(), "{version} {}", done.stderr);
            }
            assert!(has_signing_thread(server.id()), "it was signed in a job");
            assert!(server.is_running());
        }
    }
}

fn has_signing_thread(process: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
    let mut names = tasks.flat_map(|task| fs::read_to_string(task.path().join("comm")));
    names.any(|name| name.trim() == "strongroom-sign")
}

#[test]
fn haproxy_serves_many_connections_with_one_thread() {
    for place in [Place::Partition, Place::SoftHsm] {
        let bench = Bench::new().unwrap();
        for key in bench.keys(place, &KeyKind::ALL).unwrap() {
            eprintln!("{place:?} {}", key.kind.title());
            let server = one_thread(&bench, &key, &key.environment);
            for version in ["-tls1_2", "-tls1_3"] {
                let done = traffic::handshake(server.port, version, &bench.authority.certificate()).unwrap();
                assert!(done.status.success(), "{version} {}", done.stderr);
            }
            let worker = worker(&server);
            // The PKCS#11 module may have some of its own.
            let before = job_descriptors(worker).unwrap();
            let report = load(&bench, &server, 400).finish().unwrap();
            assert!(report.errors.is_empty(), "{:?}", report.errors);
            assert!(has_signing_thread(worker));
            wait_for("closed descriptors", Duration::from_secs(10), || {
                let left = job_descriptors(worker)?;
                ensure!(left <= before, "{left} descriptors, {before} before");
                Ok(())
            })
            .unwrap();
        }
    }
}

#[test]
fn one_thread_of_haproxy_keeps_many_signatures_in_flight() {
    let (bench, key, socket, environment) = slow_partition();
    let server = one_thread(&bench, &key, &environment);
    let report = load(&bench, &server, 640).finish().unwrap();
    assert!(report.errors.is_empty(), "{:?}", report.errors);
    let most = socket.counts.most.load(Ordering::SeqCst);
    assert!(most > 8, "{most} signatures at the same time");
}

#[test]
fn clients_that_go_away_leave_nothing_behind() {
    let (bench, key, socket, environment) = slow_partition();
    let server = one_thread(&bench, &key, &environment);
    let worker = worker(&server);
    for round in 0..5 {
        let clients = load(&bench, &server, 1_000_000);
        wait_for("signatures in flight", Duration::from_secs(10), || {
            ensure!(socket.in_flight() > 8, "{} in flight", socket.in_flight());
            Ok(())
        })
        .unwrap();
        assert!(job_descriptors(worker).unwrap() > 8);
        // Killed, with all its connections.
        drop(clients);
        wait_for("closed descriptors", Duration::from_secs(10), || {
            let left = job_descriptors(worker)?;
            ensure!(left == 0, "round {round}: {left} descriptors");
            Ok(())
        })
        .unwrap();
    }
    let done = traffic::handshake(server.port, "-tls1_3", &bench.authority.certificate()).unwrap();
    assert!(done.status.success(), "{}", done.stderr);
    assert_eq!(self::worker(&server), worker, "the same worker is still there");
}

#[test]
fn haproxy_reloads_under_load() {
    let (bench, key, socket, environment) = slow_partition();
    let server = one_thread(&bench, &key, &environment);
    let before = worker(&server);
    let clients = load(&bench, &server, 2000);
    for _ in 0..2 {
        wait_for("signatures in flight", Duration::from_secs(10), || {
            ensure!(socket.in_flight() > 8, "{} in flight", socket.in_flight());
            Ok(())
        })
        .unwrap();
        server.process.signal(Signal::USR2).unwrap();
        thread::sleep(Duration::from_millis(500));
    }
    let report = clients.finish().unwrap();
    assert!(report.errors.is_empty(), "{:?}\n{}", report.errors, said(&bench, &key));
    wait_for("the old workers' end", Duration::from_secs(20), || {
        let processes = server.processes()?;
        ensure!(processes.len() == 2 && !processes.contains(&before), "{processes:?}");
        Ok(())
    })
    .unwrap();
    let done = traffic::handshake(server.port, "-tls1_3", &bench.authority.certificate()).unwrap();
    assert!(done.status.success(), "{}", done.stderr);
    // A worker that crashed ends by a signal, which the master reports as a code above 128.
    let said = said(&bench, &key);
    for crash in ["code 134", "code 139", "code 135", "code 132"] {
        assert!(!said.contains(crash), "{said}");
    }
}

#[test]
fn haproxy_ends_with_signatures_in_flight() {
    for _ in 0..3 {
        let (bench, key, socket, environment) = slow_partition();
        let mut server = one_thread(&bench, &key, &environment);
        let _clients = load(&bench, &server, 1_000_000);
        wait_for("signatures in flight", Duration::from_secs(10), || {
            ensure!(socket.in_flight() > 8, "{} in flight", socket.in_flight());
            Ok(())
        })
        .unwrap();
        server.process.signal(Signal::TERM).unwrap();
        let status = server.process.wait(Duration::from_secs(10)).unwrap();
        let said = said(&bench, &key);
        for crash in ["code 134", "code 139", "code 135", "code 132"] {
            assert!(!said.contains(crash), "{status}: {said}");
        }
    }
}

/// What HAProxy's master wrote.
fn said(bench: &Bench, key: &Keys) -> String {
    let file = bench.run.path().join(format!("haproxy-{}/output.log", key.kind.name()));
    fs::read_to_string(file).unwrap_or_default()
}
