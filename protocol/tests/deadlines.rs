//! No daemon, however it behaves, and no signal makes a call wait longer than its deadline.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::thread::JoinHandleExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use prost::Message;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use strongroom_protocol::client::{ClientError, Connection, Deadlines};
use strongroom_protocol::frame;
use strongroom_protocol::v1::{
    Done, HelloReply, Random, Request, Response, Sign, Status, request::Op, response,
};

/// Short, and much shorter than what the daemons below would need.
const DEADLINES: Deadlines =
    Deadlines { connect: Duration::from_millis(500), reply: Duration::from_millis(600) };

/// A daemon for one connection: says Hello, then does what the test wants.
fn daemon(serve: impl FnOnce(UnixStream) + Send + 'static) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let hello = read(&mut stream);
        let reply = HelloReply { version: 1, ..HelloReply::default() };
        stream.write_all(&answer(hello.id, response::Result::Hello(reply))).unwrap();
        serve(stream);
    });
    (directory, path)
}

fn read(stream: &mut UnixStream) -> Request {
    let mut header = [0; frame::HEADER];
    stream.read_exact(&mut header).unwrap();
    let mut body = vec![0; frame::body_length(header).unwrap()];
    stream.read_exact(&mut body).unwrap();
    Request::decode(body.as_slice()).unwrap()
}

fn answer(id: u64, result: response::Result) -> Vec<u8> {
    let mut buffer = Vec::new();
    frame::encode(&Response { id, result: Some(result) }, &mut buffer).unwrap();
    buffer
}

fn large_request() -> Op {
    Op::Sign(Sign { data: vec![7; 900_000], ..Sign::default() })
}

#[test]
fn a_daemon_that_takes_a_request_in_small_bites() {
    let (_directory, path) = daemon(|mut stream| {
        // A second and a half; no single wait is long.
        let mut bite = vec![0; 30_000];
        for _ in 0..30 {
            thread::sleep(Duration::from_millis(50));
            if stream.read_exact(&mut bite).is_err() {
                return;
            }
        }
    });
    let mut connection = Connection::open(&path, "test", DEADLINES).unwrap();
    let error = connection.call(1, large_request()).unwrap_err();
    assert!(matches!(error, ClientError::Deadline { waited, .. } if waited == DEADLINES.reply), "{error}");
}

#[test]
fn a_slow_exchange_leaves_the_next_one_its_whole_time() {
    let (_directory, path) = daemon(|mut stream| {
        for pause in [300, 400] {
            let id = read(&mut stream).id;
            let reply = answer(id, response::Result::Done(Done {}));
            let (first, rest) = reply.split_at(2);
            thread::sleep(Duration::from_millis(pause));
            stream.write_all(first).unwrap();
            thread::sleep(Duration::from_millis(50));
            stream.write_all(rest).unwrap();
        }
    });
    let mut connection = Connection::open(&path, "test", DEADLINES).unwrap();
    for _ in 0..2 {
        connection.call(0, Op::Status(Status {})).unwrap();
    }
}

#[test]
fn large_replies_come_through() {
    let random = vec![5; 65_536];
    let expected = random.clone();
    let (_directory, path) = daemon(move |mut stream| {
        for random in [random, vec![6; 3]] {
            let id = read(&mut stream).id;
            stream.write_all(&answer(id, response::Result::Random(Random { random }))).unwrap();
        }
    });
    let mut connection = Connection::open(&path, "test", DEADLINES).unwrap();
    for expected in [expected, vec![6; 3]] {
        match connection.call(0, Op::Status(Status {})).unwrap() {
            response::Result::Random(reply) => assert_eq!(reply.random, expected),
            other => panic!("{other:?}"),
        }
    }
}

extern "C" fn nothing(_: libc::c_int) {}

/// Runs `call` in a thread that gets a signal every 10 milliseconds, and waits 10 seconds for its end.
fn interrupted<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    let handler: extern "C" fn(libc::c_int) = nothing;
    // SAFETY: the handler does nothing.
    unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        let _ = sender.send(call());
        // Not joined while signals are sent.
        thread::sleep(Duration::from_secs(60));
    });
    for _ in 0..1000 {
        // SAFETY: the thread runs longer than this function.
        unsafe { libc::pthread_kill(thread.as_pthread_t(), libc::SIGUSR1) };
        if let Ok(result) = receiver.recv_timeout(Duration::from_millis(10)) {
            return result;
        }
    }
    panic!("the call does not end while signals come");
}

/// A listener that accepts nobody and has no place left in its queue.
fn full_listener(path: &Path) -> Vec<OwnedFd> {
    let address = SocketAddrUnix::new(path).unwrap();
    let open =
        || net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
    let mut sockets = vec![open()];
    net::bind(&sockets[0], &address).unwrap();
    net::listen(&sockets[0], 0).unwrap();
    loop {
        let client = open();
        let full = net::connect(&client, &address).is_err();
        sockets.push(client);
        if full {
            return sockets;
        }
    }
}

#[test]
fn signals_while_connecting() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let _listener = full_listener(&path);
    let error = interrupted(move || Connection::open(&path, "test", DEADLINES).unwrap_err());
    assert!(matches!(error, ClientError::NotRunning { .. }), "{error}");
}

#[test]
fn signals_while_sending_and_receiving() {
    for op in [large_request(), Op::Status(Status {})] {
        let (_directory, path) = daemon(|_stream| thread::sleep(Duration::from_secs(60)));
        let mut connection = Connection::open(&path, "test", DEADLINES).unwrap();
        let error = interrupted(move || connection.call(0, op).unwrap_err());
        assert!(matches!(error, ClientError::Deadline { .. }), "{error}");
    }
}
