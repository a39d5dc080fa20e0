//! How long it takes until everybody is back after a restart of the daemon: connections that log in with the password, and with the
//! tickets that they had before, alternating.
//!
//! `cargo bench -p strongroom-hsm --bench log_ins`

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, clippy::panic)]

#[path = "../tests/running/mod.rs"]
mod running;

use std::sync::Barrier;
use std::time::{Duration, Instant};

use running::{PASSWORD, Process, USER};
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

const CONNECTIONS: usize = 200;
/// A user id may have 64 passwords checked at the same time.
const AT_ONCE: usize = 50;
const ROUNDS: usize = 5;

fn by_password() -> Login {
    let role = Role::CryptoUser.into();
    Login { role, user: USER.into(), password: PASSWORD.into(), ..Login::default() }
}

/// Until all connections are logged in.
fn all(process: &Process, login: &(dyn Fn() -> Login + Sync)) -> Duration {
    let ready = Barrier::new(AT_ONCE + 1);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                ready.wait();
                for _ in 0..CONNECTIONS / AT_ONCE {
                    process.client().call(Op::Login(login())).unwrap();
                }
            });
        }
        ready.wait();
        let started = Instant::now();
        // The scope ends with the last one.
        started
    })
    .elapsed()
}

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let mut process = Process::start(directory.path());
    process.client().make_partition("tls");
    let (mut passwords, mut tickets) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        process.kill();
        process = Process::start(directory.path());
        passwords.push(all(&process, &by_password));
        let response::Result::Login(reply) = process.client().call(Op::Login(by_password())).unwrap() else {
            panic!()
        };
        process.kill();
        process = Process::start(directory.path());
        let by_ticket = || Login { role: reply.role, ticket: reply.ticket.clone(), ..Login::default() };
        tickets.push(all(&process, &by_ticket));
    }
    for (name, mut times) in [("password", passwords), ("ticket", tickets)] {
        times.sort_unstable();
        println!(
            "{CONNECTIONS} connections, {AT_ONCE} at once, by {name}: median {:.1?}, of {times:.1?}",
            times[ROUNDS / 2]
        );
    }
}
