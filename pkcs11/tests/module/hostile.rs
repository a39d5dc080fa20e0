//! Daemons that do not behave, in the real one's place.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cryptoki_sys::*;
use prost::Message;
use strongroom_protocol::frame;
use strongroom_protocol::v1::{
    Error, ErrorCode, HelloReply, KeyPolicy, KeyType, LoginReply, ObjectClass, ObjectInfo, ObjectList,
    PartitionInfo, PartitionList, Request, Response, Role, request::Op, response,
};

use crate::call;
use crate::support::application::Application;
use crate::support::{Daemon, USER};

/// Replaces the daemon by one that answers as `answer` says, and breaks the connection where that is `None`.
/// Connections, partitions and searches are answered here.
fn replace(
    mut daemon: Daemon,
    answer: impl Fn(&Op) -> Option<response::Result> + Send + Sync + 'static,
) -> Application {
    daemon.kill();
    let _ = fs::remove_file(daemon.socket());
    let listener = UnixListener::bind(daemon.socket()).unwrap();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let answer = Arc::clone(&answer);
            thread::spawn(move || serve(stream.unwrap(), |op| answer(op)));
        }
    });
    let application = Application::load();
    application.initialize();
    application
}

fn serve(mut stream: UnixStream, answer: impl Fn(&Op) -> Option<response::Result>) -> Option<()> {
    loop {
        let mut header = [0; frame::HEADER];
        stream.read_exact(&mut header).ok()?;
        let mut body = vec![0; frame::body_length(header).unwrap()];
        stream.read_exact(&mut body).ok()?;
        let request = Request::decode(body.as_slice()).unwrap();
        let op = request.op.unwrap();
        let result = match answer(&op) {
            Some(result) => result,
            None => match op {
                Op::Hello(_) => response::Result::Hello(HelloReply {
                    version: 1,
                    instance: vec![1; 16],
                    ..HelloReply::default()
                }),
                Op::ListPartitions(_) => response::Result::Partitions(PartitionList {
                    // The number 0 is no partition.
                    partitions: [0, 1].map(|number| PartitionInfo { number, ..Default::default() }).into(),
                }),
                Op::FindObjects(_) => objects(1, false),
                _ => return None,
            },
        };
        let mut reply = Vec::new();
        frame::encode(&Response { id: request.id, result: Some(result) }, &mut reply).unwrap();
        stream.write_all(&reply).ok()?;
    }
}

/// A list with one key.
fn objects(identity: u32, more: bool) -> response::Result {
    let object = ObjectInfo {
        object: [[0; 12].as_slice(), &identity.to_be_bytes()].concat(),
        class: ObjectClass::PrivateKey.into(),
        key_type: KeyType::P256.into(),
        policy: Some(KeyPolicy { sign: true, ..KeyPolicy::default() }),
        private: true,
        ..ObjectInfo::default()
    };
    response::Result::Objects(ObjectList { objects: vec![object], more, ..ObjectList::default() })
}

fn logged_in() -> response::Result {
    let reply = LoginReply {
        user: USER.0.into(),
        role: Role::CryptoUser.into(),
        ticket: vec![1; 32],
        ..LoginReply::default()
    };
    response::Result::Login(reply)
}

fn refused(code: ErrorCode) -> Option<response::Result> {
    Some(response::Result::Error(Error { code: code.into(), message: "no".into() }))
}

pub fn endless_pages(daemon: Daemon) {
    let pages = AtomicU32::new(0);
    let application = replace(daemon, move |op| match op {
        Op::FindObjects(_) => Some(objects(pages.fetch_add(1, Ordering::Relaxed), true)),
        _ => None,
    });
    let mut slots = [7; 4];
    let mut count = 4;
    assert_eq!(call!(application, C_GetSlotList, CK_TRUE, slots.as_mut_ptr(), &mut count), CKR_OK);
    assert_eq!((count, slots[0]), (1, 1));
    let session = application.open(1, 0).unwrap();
    assert_eq!(call!(application, C_FindObjectsInit, session, null_mut(), 0), CKR_DEVICE_ERROR);
}

/// Counts the log-ins with a password, and does `then` with each.
fn passwords(
    counter: &Arc<AtomicU32>,
    then: impl Fn(u32) -> Option<response::Result> + Send + Sync + 'static,
) -> impl Fn(&Op) -> Option<response::Result> + Send + Sync + 'static {
    let counter = Arc::clone(counter);
    move |op| match op {
        Op::Login(login) if login.password.is_empty() => refused(ErrorCode::TicketInvalid),
        Op::Login(_) => then(counter.fetch_add(1, Ordering::Relaxed)),
        Op::Sign(_) => refused(ErrorCode::NotLoggedIn),
        _ => None,
    }
}

pub fn broken_log_in(daemon: Daemon) {
    let sent = Arc::new(AtomicU32::new(0));
    let application = replace(daemon, passwords(&sent, |number| (number == 1).then(logged_in)));
    let session = application.open_writable(1);
    assert_eq!(application.login(session, CKU_USER, USER.1), CKR_DEVICE_ERROR);
    assert_eq!(sent.load(Ordering::Relaxed), 1, "it may have counted as an attempt");
    // Also when the module logs in again by itself.
    assert_eq!(application.login(session, CKU_USER, USER.1), CKR_OK);
    let key = application.find(session, &mut [])[0];
    assert_eq!(application.sign(session, key, b"data"), Err(CKR_DEVICE_ERROR));
    assert_eq!(sent.load(Ordering::Relaxed), 3);
}

pub fn hung_log_in(daemon: Daemon) {
    const THREADS: usize = 6;
    let sent = Arc::new(AtomicU32::new(0));
    let application = replace(
        daemon,
        passwords(&sent, |number| {
            if number > 0 {
                // It hangs, and breaks the connection before the client gives up.
                thread::sleep(Duration::from_secs(2));
                return None;
            }
            Some(logged_in())
        }),
    );
    let session = application.open_writable(1);
    assert_eq!(application.login(session, CKU_USER, USER.1), CKR_OK);
    let key = application.find(session, &mut [])[0];
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let session = application.open(1, 0).unwrap();
                assert_eq!(application.sign(session, key, b"data"), Err(CKR_DEVICE_ERROR));
            });
        }
    });
    assert!(start.elapsed() < Duration::from_secs(6), "not one after the other");
    assert_eq!(sent.load(Ordering::Relaxed), 2, "one thread asks for all");
}
