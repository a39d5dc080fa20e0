//! A request whose answer was lost is sent again, and makes its key once: over another connection, and after `kill -9`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

mod running;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use running::{Client, PASSWORD, Process, Running, TLS, USER, code};
use strongroom_protocol::client::ClientError;
use strongroom_protocol::frame;
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

fn generation(label: &str) -> Op {
    let template = KeyTemplate { label: label.into(), ..KeyTemplate::default() };
    Op::GenerateKeyPair(GenerateKeyPair {
        key_type: KeyType::P256.into(),
        private_key: Some(template.clone()),
        public_key: Some(template),
    })
}

fn make(client: &mut Client, op: Op, once: &[u8; 16]) -> Result<Vec<Vec<u8>>, ClientError> {
    match client.connection.call_once(TLS, op, once)? {
        response::Result::Objects(list) => Ok(list.objects.into_iter().map(|object| object.object).collect()),
        other => panic!("{other:?}"),
    }
}

fn count(client: &mut Client, label: &str) -> usize {
    client.find(FindObjects { label: label.into(), ..FindObjects::default() }).unwrap().len()
}

#[test]
fn a_request_that_comes_again_is_answered_with_what_it_has_made() {
    let running = Running::with_partition();
    let mut first = running.user();
    assert!(first.connection.knows_once());
    let made = make(&mut first, generation("web"), &[1; 16]).unwrap();
    assert_eq!(made.len(), 2);
    let mut second = running.user();
    assert_eq!(make(&mut second, generation("web"), &[1; 16]).unwrap(), made);
    assert_eq!(count(&mut second, "web"), 2);
    // Another request makes another key, and so does one without a name.
    assert_ne!(make(&mut second, generation("web"), &[2; 16]).unwrap(), made);
    second.generate(KeyType::P256, "web").unwrap();
    assert_eq!(count(&mut second, "web"), 6);
    let data = || {
        let info =
            ObjectInfo { class: ObjectClass::Data.into(), label: "data".into(), ..ObjectInfo::default() };
        Op::CreateObject(CreateObject { object: Some(info) })
    };
    let made = make(&mut first, data(), &[3; 16]).unwrap();
    assert_eq!(make(&mut second, data(), &[3; 16]).unwrap(), made);
    assert_eq!(count(&mut second, "data"), 1);
    let rotated = Op::RotateKey(RotateKey { object: made_key(&mut first), ..RotateKey::default() });
    let version = make(&mut first, rotated.clone(), &[4; 16]).unwrap();
    assert_eq!(make(&mut second, rotated, &[4; 16]).unwrap(), version);
    // Who may not make it is told nothing, whatever the name.
    let mut stranger = running.officer();
    assert_eq!(code(make(&mut stranger, generation("web"), &[1; 16])), ErrorCode::NotPermitted);
}

fn made_key(client: &mut Client) -> Vec<u8> {
    client.generate(KeyType::P256, "rotated").unwrap()[0].object.clone()
}

#[test]
fn requests_that_come_at_the_same_time_make_one_key() {
    let running = Running::with_partition();
    for round in 0..8u8 {
        let once = [round; 16];
        let label = format!("key {round}");
        let made: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| make(&mut running.user(), generation(&label), &once).unwrap()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(made.iter().all(|one| *one == made[0]), "{made:?}");
        assert_eq!(count(&mut running.user(), &label), 2);
    }
}

/// Sends a request and does not wait for its answer.
fn send_and_forget(process: &Process, once: &[u8; 16], label: &str) -> UnixStream {
    let mut stream = UnixStream::connect(&process.socket).unwrap();
    let hello = Op::Hello(Hello { versions: vec![1], client: "test".into() });
    let login = Op::Login(Login {
        role: Role::CryptoUser.into(),
        user: USER.into(),
        password: PASSWORD.into(),
        ..Login::default()
    });
    let request = |id, op, once: &[u8]| Request { id, partition: TLS, op: Some(op), once: once.to_vec() };
    for (id, op) in [(1, hello), (2, login)] {
        let mut bytes = Vec::new();
        frame::encode(&request(id, op, &[]), &mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
        answer(&mut stream);
    }
    let mut bytes = Vec::new();
    frame::encode(&request(3, generation(label), once), &mut bytes).unwrap();
    stream.write_all(&bytes).unwrap();
    stream
}

fn answer(stream: &mut UnixStream) {
    use std::io::Read;
    let mut header = [0; 4];
    stream.read_exact(&mut header).unwrap();
    let mut body = vec![0; u32::from_le_bytes(header) as usize];
    stream.read_exact(&mut body).unwrap();
}

#[test]
fn a_daemon_that_is_killed_before_it_answers_has_made_the_key_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut process = Process::start(directory.path());
    process.client().make_partition("tls");
    let (mut found_again, rounds) = (0, 8u8);
    for round in 0..rounds {
        let (once, label) = ([round; 16], format!("key {round}"));
        let stream = send_and_forget(&process, &once, &label);
        // Before, during and after its commit.
        std::thread::sleep(Duration::from_micros(1_500 * u64::from(round)));
        process.kill();
        drop(stream);
        process = Process::start(directory.path());
        let mut client = process.client();
        client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
        found_again += count(&mut client, &label) / 2;
        let made = make(&mut client, generation(&label), &once).unwrap();
        assert_eq!(make(&mut client, generation(&label), &once).unwrap(), made);
        assert_eq!(count(&mut client, &label), 2, "round {round}");
    }
    println!("{found_again} of {rounds} keys were made before the daemon was killed");
    // One that was made for certain, and not answered to this client.
    let mut client = process.client();
    client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    let made = make(&mut client, generation("last"), &[99; 16]).unwrap();
    process.kill();
    let process = Process::start(directory.path());
    let mut client = process.client();
    client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    assert_eq!(make(&mut client, generation("last"), &[99; 16]).unwrap(), made);
    assert_eq!(count(&mut client, "last"), 2);
}
