//! Connections that are cut between a daemon's answer and the module: what was asked for is made once.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use cryptoki_sys::*;
use prost::Message;
use strongroom_protocol::frame;
use strongroom_protocol::once::makes_objects;
use strongroom_protocol::v1::Request;

use crate::call;
use crate::logged_in;
use crate::support::Daemon;
use crate::support::application::{TRUE, attribute, number, plain};

/// One frame with its header.
fn read(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut header = [0; frame::HEADER];
    stream.read_exact(&mut header).ok()?;
    let mut body = vec![0; frame::body_length(header).unwrap()];
    stream.read_exact(&mut body).ok()?;
    Some([&header[..], &body].concat())
}

/// Passes requests and answers on, but for as many answers to requests that make something as `cuts` says: there the connection
/// ends.
fn pass(mut client: UnixStream, mut daemon: UnixStream, cuts: &AtomicU32) -> Option<()> {
    loop {
        let request = read(&mut client)?;
        daemon.write_all(&request).ok()?;
        let answer = read(&mut daemon)?;
        let makes =
            Request::decode(&request[frame::HEADER..]).unwrap().op.is_some_and(|op| makes_objects(&op));
        let less = |left: u32| left.checked_sub(1);
        if makes && cuts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
            return None;
        }
        client.write_all(&answer).ok()?;
    }
}

pub fn lost_answers(mut daemon: Daemon) {
    daemon.kill();
    daemon.run_aside();
    let _ = fs::remove_file(daemon.socket());
    let listener = UnixListener::bind(daemon.socket()).unwrap();
    let cuts = Arc::new(AtomicU32::new(0));
    let (aside, counted) = (daemon.path("aside"), Arc::clone(&cuts));
    thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(daemon), cuts) = (UnixStream::connect(&aside), Arc::clone(&counted)) else { return };
            thread::spawn(move || pass(client.unwrap(), daemon, &cuts));
        }
    });
    let (application, _, session) = logged_in(&daemon);
    for round in 0..6u32 {
        cuts.store(round % 3, Ordering::Relaxed);
        let label = format!("pair {round}");
        let (key, public) = application.generate(session, &label).unwrap();
        assert_eq!(cuts.load(Ordering::Relaxed), 0);
        let mut named = [attribute(CKA_LABEL, label.as_bytes())];
        let mut found = application.find(session, &mut named);
        found.sort_unstable();
        let mut made = [key, public];
        made.sort_unstable();
        assert_eq!(found, made, "round {round}");
        let signature = application.sign(session, key, b"data").unwrap();
        assert_eq!(application.verify(session, public, b"data", &signature), CKR_OK);
    }
    // A secret key, an object, and a copy.
    cuts.store(1, Ordering::Relaxed);
    let named = attribute(CKA_LABEL, b"once");
    let mut template = [attribute(CKA_TOKEN, TRUE), named, attribute(CKA_VALUE_LEN, number(16))];
    let (mut generate, mut key) = (plain(CKM_AES_KEY_GEN), 0);
    let made = call!(application, C_GenerateKey, session, &mut generate, template.as_mut_ptr(), 3, &mut key);
    assert_eq!((made, cuts.load(Ordering::Relaxed)), (CKR_OK, 0));
    cuts.store(1, Ordering::Relaxed);
    let class = attribute(CKA_CLASS, number(CKO_DATA));
    let (mut template, mut object) = ([attribute(CKA_TOKEN, TRUE), named, class], 0);
    assert_eq!(call!(application, C_CreateObject, session, template.as_mut_ptr(), 3, &mut object), CKR_OK);
    cuts.store(1, Ordering::Relaxed);
    let (mut template, mut copy) = ([attribute(CKA_TOKEN, TRUE)], 0);
    assert_eq!(call!(application, C_CopyObject, session, key, template.as_mut_ptr(), 1, &mut copy), CKR_OK);
    assert_eq!((cuts.load(Ordering::Relaxed), application.find(session, &mut [named]).len()), (0, 3));
    assert_eq!(call!(application, C_Finalize, null_mut()), CKR_OK);
}
