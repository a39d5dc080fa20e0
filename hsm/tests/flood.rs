//! Floods of connections and of log-ins: who is logged in is served, and who is slow or silent is cut off.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod running;

use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use running::{Client, PASSWORD, Running, TLS, USER};
use strongroom_hsm::connection;
use strongroom_protocol::client::{Connection, Deadlines};
use strongroom_protocol::frame;
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

/// What anything may take on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// Local users whom the daemon does not know, one for each sort of flood.
const STRANGERS: u32 = 61_300;

/// Connections that one flood keeps open.
const KEPT: usize = 200;

fn frame_of(id: u64, partition: u32, op: Op) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::encode(&Request { id, partition, op: Some(op), ..Request::default() }, &mut bytes).unwrap();
    bytes
}

fn hello() -> Vec<u8> {
    frame_of(1, 0, Op::Hello(Hello { versions: vec![1], client: "flood".into() }))
}

/// What a flood sends on each connection, and whether it then leaves.
#[derive(Clone)]
struct Sort {
    bytes: Vec<u8>,
    leaves: bool,
}

/// Log-ins with wrong passwords, more than may wait at the same time.
fn log_ins() -> Sort {
    let login = |id| {
        let (role, password) = (Role::CryptoUser.into(), format!("wrong password {id}"));
        // Nobody of this name: whose log-ins are refused is not the flood's to decide.
        frame_of(id, TLS, Op::Login(Login { role, user: "nobody".into(), password, ticket: Vec::new() }))
    };
    Sort { bytes: [hello(), (2..102).flat_map(login).collect()].concat(), leaves: false }
}

/// Threads that connect again and again until they are told to stop.
struct Floods {
    stop: Arc<AtomicBool>,
    connections: Vec<Arc<AtomicU64>>,
    threads: Vec<JoinHandle<Vec<UnixStream>>>,
}

impl Floods {
    /// Starts one flood of each sort, each as a user of its own, where the test may become one.
    fn start(socket: &Path, sorts: Vec<Sort>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut floods = Floods { stop, connections: Vec::new(), threads: Vec::new() };
        for (uid, sort) in (STRANGERS..).zip(sorts) {
            let (socket, stop) = (socket.to_owned(), Arc::clone(&floods.stop));
            let count = Arc::new(AtomicU64::new(0));
            floods.connections.push(Arc::clone(&count));
            floods.threads.push(std::thread::spawn(move || flood(uid, &socket, &sort, &stop, &count)));
        }
        floods
    }

    fn counts(&self) -> Vec<u64> {
        self.connections.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// Waits until each flood has made so many more connections.
    fn wait_for(&self, more: u64) {
        let before = self.counts();
        let until = Instant::now() + LONG;
        while self.counts().iter().zip(&before).any(|(now, before)| now - before < more) {
            assert!(Instant::now() < until, "{before:?}, then {:?}", self.counts());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends all of them and returns the connections that they still have.
    fn stop(self) -> Vec<UnixStream> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    }
}

fn flood(uid: u32, socket: &Path, sort: &Sort, stop: &AtomicBool, count: &AtomicU64) -> Vec<UnixStream> {
    if rustix::process::geteuid().is_root() {
        let uid = rustix::process::Uid::from_raw(uid);
        rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
    }
    let mut kept = std::collections::VecDeque::new();
    while !stop.load(Ordering::Relaxed) {
        // Refused while the daemon is busy, and turned away when there are too many.
        let Ok(mut stream) = UnixStream::connect(socket) else { continue };
        stream.set_write_timeout(Some(LONG)).unwrap();
        let _ = stream.write_all(&sort.bytes);
        count.fetch_add(1, Ordering::Relaxed);
        if !sort.leaves {
            kept.push_back(stream);
        }
        if kept.len() > KEPT {
            kept.pop_front();
        }
    }
    kept.into()
}

/// Waits until the daemon has closed a connection, whatever it says before.
fn is_closed(mut stream: UnixStream) -> bool {
    stream.set_read_timeout(Some(LONG)).unwrap();
    let until = Instant::now() + LONG;
    loop {
        match stream.read(&mut [0; 4096]) {
            Ok(0) => return true,
            Ok(_) if Instant::now() < until => {}
            Err(error) => return error.kind() == ErrorKind::ConnectionReset,
            Ok(_) => return false,
        }
    }
}

/// A daemon to which everybody may connect, that is as patient with whom it does not hear from as a test has time.
fn daemon() -> Running {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let running = Running::try_start_in(directory, |config| {
        config.socket_mode = 0o666;
        let patience = Duration::from_secs(5);
        config.deadlines = connection::Deadlines { hello: patience, frame: patience };
    })
    .unwrap();
    running.client().make_partition("tls");
    running
}

fn client(socket: PathBuf) -> Client {
    let deadlines = Deadlines { connect: LONG, reply: LONG };
    let until = Instant::now() + LONG;
    loop {
        match Connection::open(&socket, "test", deadlines) {
            Ok(connection) => return Client { connection, partition: TLS },
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
    }
}

#[test]
fn a_flood_starves_nobody_who_is_logged_in() {
    let running = daemon();
    let mut user = client(running.socket());
    let ticket = user.login(Role::CryptoUser, USER, PASSWORD).unwrap().ticket;
    let key = user.generate(KeyType::P256, "key").unwrap();
    let silent = Sort { bytes: Vec::new(), leaves: false };
    let half = Sort { bytes: [hello(), vec![100, 0, 0, 0, 1]].concat(), leaves: false };
    let garbage = Sort { bytes: b"GET / HTTP/1.1\r\n\r\n".repeat(10), leaves: true };
    let gone = Sort { bytes: hello(), leaves: true };
    let floods = Floods::start(&running.socket(), vec![silent, half, garbage, gone, log_ins(), log_ins()]);
    floods.wait_for(1);
    for _ in 0..5 {
        for _ in 0..40 {
            user.sign(&key[0], Mechanism::Ecdsa, None, &[1; 32]).unwrap();
        }
        // It is a flood all the while.
        floods.wait_for(1);
    }
    user.generate(KeyType::P256, "another").unwrap();
    // Who comes now comes in, too: with what it was given before, and, if the flood is other users', with the password.
    let mut other = client(running.socket());
    let login = Login { role: Role::CryptoUser.into(), ticket, ..Login::default() };
    other.call(Op::Login(login)).unwrap();
    other.sign(&key[0], Mechanism::Ecdsa, None, &[1; 32]).unwrap();
    if rustix::process::geteuid().is_root() {
        client(running.socket()).login(Role::CryptoUser, USER, PASSWORD).unwrap();
    }
    let silent: Vec<UnixStream> = floods.stop();
    assert!(silent.len() > 100, "{}", silent.len());
    for stream in silent.into_iter().step_by(7) {
        // Those who are still sent replies to their log-ins are not silent: they say now that they are.
        let _ = stream.shutdown(std::net::Shutdown::Write);
        assert!(is_closed(stream));
    }
    user.sign(&key[0], Mechanism::Ecdsa, None, &[1; 32]).unwrap();
}

/// Bytes that come one after the other do not make a frame any younger.
#[test]
fn who_sends_a_frame_byte_by_byte_is_cut_off() {
    let running = daemon();
    let mut user = running.user();
    let threads: Vec<_> = [Vec::new(), hello()]
        .into_iter()
        .map(|first| {
            let mut stream = UnixStream::connect(running.socket()).unwrap();
            std::thread::spawn(move || {
                stream.write_all(&first).unwrap();
                stream.write_all(&50_000u32.to_le_bytes()).unwrap();
                let until = Instant::now() + LONG;
                // Half an hour of it.
                while stream.write_all(&[8]).is_ok() {
                    assert!(Instant::now() < until, "it is still listened to");
                    std::thread::sleep(Duration::from_millis(40));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    user.generate(KeyType::P256, "key").unwrap();
}

/// Silent ones are cut off by the daemon itself: nothing is said on these connections.
#[test]
fn who_is_silent_is_cut_off_and_who_was_heard_stays() {
    let running = daemon();
    let mut idle = running.user();
    let silent: Vec<_> = (0..50).map(|_| UnixStream::connect(running.socket()).unwrap()).collect();
    assert!(silent.into_iter().all(is_closed));
    idle.generate(KeyType::P256, "key").unwrap();
}
