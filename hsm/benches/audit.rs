//! What the audit log costs a signature: processor time of the daemon for each P-256 signature through a channel, with uses noted in
//! sums and each, alternating; and how long a change takes, alone and among others.
//!
//! `cargo bench -p strongroom-hsm --bench audit`; with PROGRAMS, other builds of strongroomd are measured beside this one.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, clippy::panic)]

#[path = "../tests/running/mod.rs"]
mod running;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use running::{Client, OFFICER, PASSWORD, Process, USER};
use strongroom_channel::{Client as Channel, Descriptors, Operation, Request};
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

const ROUND: Duration = Duration::from_secs(3);
const ROUNDS: usize = 5;
const THREADS: usize = 8;

/// Processor time of a process, in microseconds.
fn processor_time(process: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    // A hundredth of a second each.
    ticks * 10_000.0
}

fn user(process: &Process) -> Client {
    let mut client = process.client();
    client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    client
}

/// Signatures for a while: processor time for each, in microseconds, and how many there were a second.
fn sign(process: &Process, key: [u8; 16]) -> (f64, f64) {
    let before = processor_time(process.child.id());
    let started = Instant::now();
    let made: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(move || {
                    let mut client = user(process);
                    let given = client.connection.open_channel().unwrap().unwrap();
                    let (region, bell, state) = (given.region, given.bell, given.state);
                    let channel = Channel::new(Descriptors { region, bell, state }).unwrap();
                    let operation = Operation::Sign {
                        mechanism: Mechanism::Ecdsa as u32,
                        hash: 0,
                        mgf1_hash: 0,
                        salt_length: 0,
                    };
                    let mut output = [0; 1024];
                    let (mut made, until) = (0, Instant::now() + ROUND);
                    while Instant::now() < until {
                        let request = Request { operation, partition: client.partition, key, data: &[1; 32] };
                        assert!(channel.exchange(&request, &mut output, &mut || true).is_ok());
                        made += 1;
                    }
                    made
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    // The last sums are written, too.
    std::thread::sleep(Duration::from_millis(1100));
    let seconds = started.elapsed().as_secs_f64() - 1.1;
    ((processor_time(process.child.id()) - before) / made as f64, made as f64 / seconds)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Renames a key for a while, from as many connections: milliseconds for a change, and changes a second.
fn change(process: &Process, object: &[u8], connections: usize) -> (f64, f64) {
    let started = Instant::now();
    let made: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..connections)
            .map(|number| {
                scope.spawn(move || {
                    let mut client = user(process);
                    let (mut made, until) = (0, Instant::now() + ROUND);
                    while Instant::now() < until {
                        let label = Some(format!("label {number} {made}"));
                        let change =
                            SetAttributes { object: object.to_vec(), label, ..SetAttributes::default() };
                        client.call(Op::SetAttributes(change)).unwrap();
                        made += 1;
                    }
                    made
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let seconds = started.elapsed().as_secs_f64();
    (seconds * 1000.0 * connections as f64 / made as f64, made as f64 / seconds)
}

fn main() {
    let others = std::env::var("PROGRAMS").unwrap_or_default();
    let own = env!("CARGO_BIN_EXE_strongroomd").to_owned();
    let programs: Vec<String> =
        std::iter::once(own).chain(others.split(':').filter(|p| !p.is_empty()).map(str::to_owned)).collect();
    let directories: Vec<_> = programs.iter().map(|_| tempfile::tempdir_in(".").unwrap()).collect();
    let mut daemons = Vec::new();
    for (program, directory) in programs.iter().zip(&directories) {
        let socket = directory.path().join("socket");
        let mut command = Command::new(program);
        command.arg("--state-dir").arg(directory.path().join("state")).arg("--socket").arg(&socket);
        command.stderr(Stdio::null());
        let process = Process::spawn(command, directory.path());
        process.client().make_partition("tls");
        let pair = user(&process).generate(KeyType::P256, "web").unwrap();
        let key: [u8; 16] = pair[0].object.as_slice().try_into().unwrap();
        daemons.push((program, process, key));
    }
    let modes = [("sums", AuditUses::Sums), ("each", AuditUses::Each)];
    let mut found = vec![[(); 2].map(|()| Vec::new()); daemons.len()];
    for _ in 0..ROUNDS {
        for ((_, process, key), found) in daemons.iter().zip(&mut found) {
            for ((_, uses), found) in modes.iter().zip(found) {
                let mut officer = process.client();
                officer.login(Role::CryptoOfficer, OFFICER, PASSWORD).unwrap();
                officer.call(Op::SetAudit(SetAudit { uses: (*uses).into() })).unwrap();
                found.push(sign(process, *key));
            }
        }
    }
    for ((program, _, _), found) in daemons.iter().zip(&found) {
        for ((mode, _), rounds) in modes.iter().zip(found) {
            let time = median(rounds.iter().map(|round| round.0).collect());
            let rate = median(rounds.iter().map(|round| round.1).collect());
            println!(
                "{} {mode}: {time:.2} µs of the daemon for a signature, {rate:.0} a second",
                name(program)
            );
        }
    }
    for (program, process, key) in &daemons {
        for connections in [1, 8, 32] {
            let (time, rate) = change(process, key, connections);
            println!(
                "{} changes from {connections} connections: {time:.1} ms each, {rate:.0} a second",
                name(program)
            );
        }
    }
}

fn name(program: &str) -> String {
    Path::new(program).file_name().unwrap_or_default().to_string_lossy().into_owned()
}
