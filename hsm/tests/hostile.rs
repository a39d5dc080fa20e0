//! What comes over the socket is hostile: garbage, promises, silence, floods.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod running;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use prost::Message;
use running::{PASSWORD, Process, Running, USER, code};
use strongroom_hsm::connection::Deadlines;
use strongroom_protocol::client::Connection;
use strongroom_protocol::frame;
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

fn raw(running: &Running) -> UnixStream {
    let stream = UnixStream::connect(running.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

fn frame_of(id: u64, partition: u32, op: Op) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::encode(&Request { id, partition, op: Some(op), ..Request::default() }, &mut bytes).unwrap();
    bytes
}

fn hello() -> Vec<u8> {
    frame_of(1, 0, Op::Hello(Hello { versions: vec![1], client: "raw".into() }))
}

fn read_response(stream: &mut UnixStream) -> Option<Response> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).ok()?;
    let mut body = vec![0; u32::from_le_bytes(header) as usize];
    stream.read_exact(&mut body).ok()?;
    Some(Response::decode(&*body).unwrap())
}

fn error_of(response: Option<Response>) -> ErrorCode {
    match response.unwrap().result {
        Some(response::Result::Error(error)) => error.code(),
        other => panic!("{other:?}"),
    }
}

/// The connection is closed by the daemon.
fn closed(stream: &mut UnixStream) -> bool {
    matches!(stream.read(&mut [0; 64]), Ok(0)) || {
        // Closing with unread bytes resets.
        matches!(stream.read(&mut [0; 64]), Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset)
    }
}

#[test]
fn what_is_not_the_protocol_is_answered_once_and_closed() {
    let running = Running::with_partition();
    let garbage: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0, 0, 0, 0],
        &[255, 255, 255, 255],
        &[1, 0, 16, 0],
        &[3, 0, 0, 0, 0xff, 0xff, 0xff],
        &frame_of(9, 0, Op::Status(Status {})),
    ];
    for bytes in garbage {
        let mut stream = raw(&running);
        stream.write_all(bytes).unwrap();
        assert_eq!(error_of(read_response(&mut stream)), ErrorCode::Malformed, "{bytes:?}");
        assert!(closed(&mut stream), "{bytes:?}");
    }
    // After Hello as well.
    let mut stream = raw(&running);
    stream.write_all(&[hello(), vec![0xff; 8]].concat()).unwrap();
    assert!(matches!(read_response(&mut stream).unwrap().result, Some(response::Result::Hello(_))));
    assert_eq!(error_of(read_response(&mut stream)), ErrorCode::Malformed);
    assert!(closed(&mut stream));
    running.user();
}

#[test]
fn random_bytes_never_end_the_daemon() {
    let running = Running::with_partition();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..300 {
        let mut stream = raw(&running);
        let mut bytes = if round % 2 == 0 { hello() } else { Vec::new() };
        for _ in 0..(round % 40) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            bytes.push((state >> 33) as u8);
        }
        // Half of them have a plausible length.
        if round % 4 < 2 && bytes.len() > 8 {
            let at = if round % 2 == 0 { hello().len() } else { 0 };
            let rest = bytes.len().saturating_sub(at + 4) as u32;
            if let Some(length) = bytes.get_mut(at..at + 4) {
                length.copy_from_slice(&rest.to_le_bytes());
            }
        }
        // The daemon may have closed already.
        let _ = stream.write_all(&bytes);
    }
    running.user();
}

#[test]
fn another_version_is_refused_with_both_named() {
    let running = Running::start();
    let mut stream = raw(&running);
    let hello = Op::Hello(Hello { versions: vec![2, 3], client: String::new() });
    stream.write_all(&frame_of(1, 0, hello)).unwrap();
    let response = read_response(&mut stream);
    assert_eq!(response.as_ref().unwrap().id, 1);
    assert_eq!(error_of(response), ErrorCode::Unsupported);
    assert!(closed(&mut stream));
}

#[test]
fn silence_has_deadlines_but_an_idle_client_stays() {
    let running = Running::try_start_in(tempfile::tempdir().unwrap(), |config| {
        config.deadlines = Deadlines { hello: Duration::from_millis(300), frame: Duration::from_millis(300) };
    })
    .unwrap();
    let mut silent = raw(&running);
    let mut half_hello = raw(&running);
    half_hello.write_all(&hello()[..5]).unwrap();
    let mut half_frame = raw(&running);
    half_frame.write_all(&[hello(), vec![100, 0, 0, 0, 1]].concat()).unwrap();
    let mut idle = raw(&running);
    idle.write_all(&hello()).unwrap();
    assert!(read_response(&mut idle).is_some());
    assert!(closed(&mut silent) && closed(&mut half_hello));
    assert!(read_response(&mut half_frame).is_some());
    assert!(closed(&mut half_frame));
    idle.write_all(&frame_of(2, 0, Op::Status(Status {}))).unwrap();
    assert_eq!(read_response(&mut idle).unwrap().id, 2);
}

#[test]
fn a_client_that_does_not_read_is_dropped_and_the_others_are_served() {
    let running = Running::try_start_in(tempfile::tempdir().unwrap(), |config| {
        config.deadlines.frame = Duration::from_millis(500);
    })
    .unwrap();
    running.client().make_partition("tls");
    let mut greedy = raw(&running);
    greedy.write_all(&hello()).unwrap();
    greedy.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    let request = frame_of(2, 1, Op::GenerateRandom(GenerateRandom { length: 65_536 }));
    let mut dropped = false;
    for _ in 0..100_000 {
        if greedy.write_all(&request).is_err() {
            dropped = true;
            break;
        }
    }
    assert!(dropped);
    running.user();
}

#[test]
fn many_requests_in_flight_are_all_answered() {
    let running = Running::with_partition();
    let pair = running.user().generate(KeyType::P384, "key").unwrap();
    let mut stream = raw(&running);
    let login =
        Login { role: Role::CryptoUser.into(), user: USER.into(), password: PASSWORD.into(), ticket: vec![] };
    stream.write_all(&[hello(), frame_of(2, 1, Op::Login(login))].concat()).unwrap();
    assert!(read_response(&mut stream).is_some() && read_response(&mut stream).is_some());
    let sign = Sign {
        key: pair[0].object.clone(),
        mechanism: Mechanism::Ecdsa.into(),
        data: vec![1; 48],
        ..Sign::default()
    };
    let requests: Vec<u8> = (0..500).flat_map(|id| frame_of(100 + id, 1, Op::Sign(sign.clone()))).collect();
    let mut writer = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || writer.write_all(&requests).unwrap());
    let mut ids: Vec<u64> = (0..500)
        .map(|_| {
            let response = read_response(&mut stream).unwrap();
            assert!(matches!(response.result, Some(response::Result::Signature(_))), "{response:?}");
            response.id
        })
        .collect();
    sender.join().unwrap();
    ids.sort_unstable();
    assert!(ids.iter().copied().eq(100..600));
}

#[test]
fn a_large_message_passes_and_is_signed() {
    let running = Running::with_partition();
    let mut user = running.user();
    let pair = user.generate(KeyType::Ed25519, "key").unwrap();
    assert_eq!(user.sign(&pair[0], Mechanism::Eddsa, None, &vec![7; 512 * 1024]).unwrap().len(), 64);
    let too_long = user.sign(&pair[0], Mechanism::Eddsa, None, &vec![7; 512 * 1024 + 1]);
    assert_eq!(code(too_long), ErrorCode::DataLength);
}

#[test]
fn two_hundred_connections_sign_at_once() {
    let running = Running::with_partition();
    let mut user = running.user();
    let pair = user.generate(KeyType::P256, "key").unwrap();
    let ticket = user.login(Role::CryptoUser, USER, PASSWORD).unwrap().ticket;
    let mut clients: Vec<_> = (0..200).map(|_| running.client()).collect();
    for client in &mut clients {
        let login = Login { role: Role::CryptoUser.into(), ticket: ticket.clone(), ..Login::default() };
        client.call(Op::Login(login)).unwrap();
    }
    let threads: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let key = pair[0].clone();
            std::thread::spawn(move || {
                for _ in 0..20 {
                    client.sign(&key, Mechanism::Ecdsa, None, &[3; 32]).unwrap();
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn connections_above_the_limit_are_told_so() {
    let running =
        Running::try_start_in(tempfile::tempdir().unwrap(), |config| config.connections.all = 3).unwrap();
    let clients: Vec<_> = (0..3).map(|_| running.client()).collect();
    let refused = Connection::open(&running.socket(), "test", Default::default());
    assert_eq!(code(refused), ErrorCode::Limit);
    drop(clients);
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while Connection::open(&running.socket(), "test", Default::default()).is_err() {
        assert!(std::time::Instant::now() < until);
    }
}

#[test]
fn a_promised_megabyte_takes_no_memory() {
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(directory.path());
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = resident();
    let streams: Vec<UnixStream> = (0..500)
        .map(|_| {
            let mut stream = UnixStream::connect(&process.socket).unwrap();
            stream.write_all(&[hello(), vec![0, 0, 16, 0, 1, 2, 3]].concat()).unwrap();
            stream
        })
        .collect();
    process.client();
    let after = resident();
    assert!(after < before + 50_000, "{before} KiB, then {after} KiB for {} connections", streams.len());
}

#[test]
fn one_user_cannot_queue_passwords_without_end() {
    let running = Running::with_partition();
    let mut streams: Vec<UnixStream> = (0..3).map(|_| raw(&running)).collect();
    for stream in &mut streams {
        stream.write_all(&hello()).unwrap();
        for id in 0..50 {
            let login = Login {
                role: Role::CryptoUser.into(),
                user: "nobody".into(),
                password: format!("wrong {id}"),
                ..Login::default()
            };
            stream.write_all(&frame_of(10 + id, 1, Op::Login(login))).unwrap();
        }
    }
    let mut codes = Vec::new();
    for stream in &mut streams {
        assert!(matches!(read_response(stream).unwrap().result, Some(response::Result::Hello(_))));
        codes.extend((0..50).map(|_| error_of(read_response(stream))));
    }
    let count = |code| codes.iter().filter(|found| **found == code).count();
    assert!(count(ErrorCode::Limit) > 0 && count(ErrorCode::PasswordWrong) >= 64, "{codes:?}");
    assert_eq!(count(ErrorCode::Limit) + count(ErrorCode::PasswordWrong), 150);
    running.user();
}

/// A connection whose client asks `first` and then for more than it reads: its requests rest, begun.
fn stalled(running: &Running, first: &[u8]) -> UnixStream {
    let mut stream = raw(running);
    stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    let random = frame_of(3, 1, Op::GenerateRandom(GenerateRandom { length: 65_536 }));
    stream.write_all(&[&hello(), first, &random.repeat(300)].concat()).unwrap();
    stream
}

#[test]
fn a_client_that_does_not_read_holds_up_no_log_in() {
    let running = Running::with_partition();
    let wrong = |user: &str| {
        let login = Login {
            role: Role::CryptoUser.into(),
            user: user.into(),
            password: "wrong password".into(),
            ..Login::default()
        };
        frame_of(2, 1, Op::Login(login))
    };
    let _stalled = [stalled(&running, &wrong(USER)), stalled(&running, &wrong("nobody").repeat(8))];
    std::thread::sleep(Duration::from_millis(200));
    // The client waits for 25 s, the daemon for a slow reader for 30 s.
    running.user();
}

/// The reply to the first request of a [`stalled`] connection, once it is read on.
fn resumed(mut stream: UnixStream) -> Option<Response> {
    loop {
        let response = read_response(&mut stream)?;
        if response.id == 2 {
            return Some(response);
        }
    }
}

#[test]
fn what_waited_is_not_done_for_one_who_may_no_longer() {
    // How long a password takes depends on what else the machine does. What matters happens if it was checked in time.
    assert!((1..=8).any(|tries| waits_while_rights_are_taken(Duration::from_millis(700 * tries))));
}

/// Whether the passwords were found right within this time, before those who gave them lost their rights.
fn waits_while_rights_are_taken(time: Duration) -> bool {
    let running = Running::with_partition();
    let mut officer = running.officer();
    officer.create_user("leaving", Role::CryptoOfficer, PASSWORD).unwrap();
    let login = |role: Role, user: &str| Login {
        role: role.into(),
        user: user.into(),
        password: PASSWORD.into(),
        ..Login::default()
    };
    let create =
        CreateUser { name: "back-door".into(), role: 1, password: PASSWORD.into(), ..CreateUser::default() };
    let mut leaving = raw(&running);
    leaving
        .write_all(&[hello(), frame_of(9, 1, Op::Login(login(Role::CryptoOfficer, "leaving")))].concat())
        .unwrap();
    assert!(read_response(&mut leaving).is_some() && read_response(&mut leaving).is_some());
    let random = frame_of(3, 1, Op::GenerateRandom(GenerateRandom { length: 65_536 }));
    leaving.write_all(&[frame_of(2, 1, Op::CreateUser(create)), random.repeat(60)].concat()).unwrap();
    // Its owner resets the password while the old one has been found right.
    let change = ChangePassword {
        name: USER.into(),
        old_password: PASSWORD.into(),
        new_password: "the thief's own".into(),
    };
    let thief = stalled(&running, &frame_of(2, 1, Op::ChangePassword(change)));
    let old = stalled(&running, &frame_of(2, 1, Op::Login(login(Role::CryptoUser, USER))));
    std::thread::sleep(time);
    officer.call(Op::DeleteUser(DeleteUser { name: "leaving".into() })).unwrap();
    let reset = "chosen by the officer";
    officer
        .call(Op::ChangePassword(ChangePassword {
            name: USER.into(),
            old_password: String::new(),
            new_password: reset.into(),
        }))
        .unwrap();
    assert_eq!(error_of(resumed(leaving)), ErrorCode::NotLoggedIn);
    assert_eq!(error_of(resumed(thief)), ErrorCode::PasswordWrong);
    // The log-in was right when it was checked; its ticket is of that time.
    let ticket = match resumed(old).unwrap().result {
        Some(response::Result::Login(reply)) => reply.ticket,
        Some(response::Result::Error(error)) if error.code() == ErrorCode::PasswordWrong => return false,
        other => panic!("{other:?}"),
    };
    let mut client = running.client();
    let redeem = Login { role: Role::CryptoUser.into(), ticket, ..Login::default() };
    assert_eq!(code(client.call(Op::Login(redeem))), ErrorCode::TicketInvalid);
    client.login(Role::CryptoUser, USER, reset).unwrap();
    assert_eq!(code(client.login(Role::CryptoOfficer, "back-door", PASSWORD)), ErrorCode::PasswordWrong);
    true
}
