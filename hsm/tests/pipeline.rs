//! Many requests in flight on one connection.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod running;

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use prost::Message;
use running::{PASSWORD, Process, Running, TLS, USER};
use strongroom_hsm::connection::Deadlines;
use strongroom_protocol::frame;
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

/// A connection that is logged in and waits for no reply before it sends the next request.
struct Pipeline {
    stream: UnixStream,
    /// What was read and is no whole frame yet.
    read: Vec<u8>,
}

fn frame_of(id: u64, partition: u32, op: Op) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::encode(&Request { id, partition, op: Some(op), ..Request::default() }, &mut bytes).unwrap();
    bytes
}

impl Pipeline {
    fn open(socket: &Path) -> Self {
        let mut pipeline = Pipeline { stream: UnixStream::connect(socket).unwrap(), read: Vec::new() };
        pipeline.stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let hello = Hello { versions: vec![1], client: "pipeline".into() };
        let login = Login {
            role: Role::CryptoUser.into(),
            user: USER.into(),
            password: PASSWORD.into(),
            ticket: Vec::new(),
        };
        let both = [frame_of(1, 0, Op::Hello(hello)), frame_of(2, TLS, Op::Login(login))].concat();
        pipeline.stream.write_all(&both).unwrap();
        assert!((1..=2).all(|id| !is_error(&pipeline.next().unwrap(), id)));
        pipeline
    }

    /// The next reply; `None` at the end of the stream.
    fn next(&mut self) -> Option<Response> {
        loop {
            if let Some(header) = self.read.first_chunk::<{ frame::HEADER }>() {
                let length = frame::HEADER + frame::body_length(*header).unwrap();
                if let Some(whole) = self.read.get(..length) {
                    let response = Response::decode(&whole[frame::HEADER..]).unwrap();
                    self.read.drain(..length);
                    return Some(response);
                }
            }
            let mut bytes = [0; 16 * 1024];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(read) => self.read.extend_from_slice(&bytes[..read]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Reads the replies to `count` requests, each once and none an error.
    fn expect(&mut self, first: u64, count: u64) {
        let mut missing: HashSet<u64> = (first..first + count).collect();
        while !missing.is_empty() {
            let response = self.next().unwrap_or_else(|| panic!("the daemon closed the connection"));
            assert!(missing.remove(&response.id), "an answer to nothing: {response:?}");
            assert!(!is_error(&response, response.id), "{response:?}");
        }
    }
}

fn is_error(response: &Response, id: u64) -> bool {
    assert_eq!(response.id, id);
    matches!(response.result, None | Some(response::Result::Error(_)))
}

/// Requests with ids from `first` on: signatures of each key in turn.
fn signatures(keys: &[(ObjectInfo, Mechanism)], first: u64, count: u64) -> Vec<u8> {
    let one = |id: u64| {
        let (key, mechanism) = &keys[id as usize % keys.len()];
        let (key, mechanism) = (key.object.clone(), (*mechanism).into());
        frame_of(id, TLS, Op::Sign(Sign { key, mechanism, pss: None, data: vec![7; 32], ..Sign::default() }))
    };
    (first..first + count).flat_map(one).collect()
}

/// Keys of a quick and of a slow kind: replies come out of order.
fn keys(user: &mut running::Client) -> Vec<(ObjectInfo, Mechanism)> {
    let p256 = user.generate(KeyType::P256, "p256").unwrap().remove(0);
    let p384 = user.generate(KeyType::P384, "p384").unwrap().remove(0);
    vec![(p256.clone(), Mechanism::Ecdsa), (p256, Mechanism::Ecdsa), (p384, Mechanism::Ecdsa)]
}

#[test]
fn a_client_that_reads_while_it_writes_has_as_many_in_flight_as_it_likes() {
    let running = Running::with_partition();
    let keys = keys(&mut running.user());
    let mut pipeline = Pipeline::open(&running.socket());
    let mut writer = pipeline.stream.try_clone().unwrap();
    let requests = signatures(&keys, 10, 10_000);
    let writing = std::thread::spawn(move || writer.write_all(&requests).unwrap());
    pipeline.expect(10, 10_000);
    writing.join().unwrap();
}

#[test]
fn ten_thousand_requests_may_be_written_before_the_first_reply_is_read() {
    let running = Running::with_partition();
    let keys = keys(&mut running.user());
    let mut pipeline = Pipeline::open(&running.socket());
    let requests = signatures(&keys, 10, 10_000);
    pipeline.stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    pipeline.stream.write_all(&requests).unwrap();
    pipeline.expect(10, 10_000);
}

/// Memory of a process that is in use, in bytes.
fn memory(process: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/statm")).unwrap();
    let pages: usize = status.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size()
}

#[test]
fn a_client_that_never_reads_is_made_to_wait() {
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(directory.path());
    let mut client = process.client();
    client.make_partition("tls");
    client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    let keys = keys(&mut client);
    let mut pipelines: Vec<Pipeline> = (0..8).map(|_| Pipeline::open(&process.socket)).collect();
    // After the log-ins: hashing a password takes 19 MiB.
    let before = memory(process.child.id());
    let mut written = Vec::new();
    for pipeline in &mut pipelines {
        pipeline.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        // Small requests with large replies: what a client would do that wants to fill the daemon's memory.
        let random = Op::GenerateRandom(GenerateRandom { length: 65_536 });
        let mut count = 0;
        while count < 20_000 && pipeline.stream.write_all(&frame_of(10 + count, TLS, random.clone())).is_ok()
        {
            count += 1;
        }
        assert!(count < 20_000, "the daemon takes everything");
        written.push(count);
    }
    let used = memory(process.child.id()).saturating_sub(before);
    assert!(used < 8 * 6 * 1024 * 1024, "{used} bytes for 8 connections");
    // Nobody else waits.
    let start = Instant::now();
    client.sign(&keys[0].0, Mechanism::Ecdsa, None, &[1; 32]).unwrap();
    assert!(start.elapsed() < Duration::from_secs(20));
    // What was taken is answered when it is read: all but a request that was cut off in the middle.
    pipelines[0].expect(10, written[0]);
}

#[test]
fn a_busy_connection_has_no_deadline() {
    let configure = |config: &mut strongroom_hsm::Config| {
        config.deadlines = Deadlines { frame: Duration::from_millis(300), ..Deadlines::default() };
    };
    let running = Running::try_start_in(tempfile::tempdir().unwrap(), configure).unwrap();
    running.client().make_partition("tls");
    let keys = keys(&mut running.user());
    let mut pipeline = Pipeline::open(&running.socket());
    // There is always a frame in the making: each write ends a few bytes into the next request.
    const CUT: usize = 5;
    let until = Instant::now() + Duration::from_millis(1200);
    let mut id = 10;
    let mut next = signatures(&keys, id, 1);
    pipeline.stream.write_all(&next[..CUT]).unwrap();
    while Instant::now() < until {
        let after = signatures(&keys, id + 1, 1);
        pipeline.stream.write_all(&[&next[CUT..], &after[..CUT]].concat()).unwrap();
        pipeline.expect(id, 1);
        (id, next) = (id + 1, after);
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Making a key takes seconds. Neither signatures nor what other threads compute waits for it.
#[test]
fn everything_else_goes_on_while_keys_are_made() {
    const MADE: u64 = 3;
    let running = Running::with_partition();
    let mut user = running.user();
    let keys = keys(&mut user);
    let x25519 = user.generate(KeyType::X25519, "x25519").unwrap().remove(0);
    let mut pipeline = Pipeline::open(&running.socket());
    let generate = GenerateKeyPair { key_type: KeyType::Rsa4096.into(), ..GenerateKeyPair::default() };
    let derive = Derive { key: x25519.object, mechanism: Mechanism::Ecdh.into(), public_key: vec![9; 32] };
    let generations = (0..MADE).flat_map(|id| frame_of(10 + id, TLS, Op::GenerateKeyPair(generate.clone())));
    let derivations = (0..50).flat_map(|id| frame_of(400 + id, TLS, Op::Derive(derive.clone())));
    let requests: Vec<u8> = generations.chain(signatures(&keys, 100, 300)).chain(derivations).collect();
    pipeline.stream.write_all(&requests).unwrap();
    let (mut made, mut others) = (0, 0);
    while others < 350 {
        let response = pipeline.next().unwrap();
        assert!(!is_error(&response, response.id), "{response:?}");
        if response.id < 100 { made += 1 } else { others += 1 }
    }
    assert!(made < MADE, "all {MADE} keys were made before the last signature");
}
