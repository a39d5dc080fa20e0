//! Signatures a second, and the daemon's processor time for one: `cargo bench -p strongroom-hsm`.
//!
//! One request at a time over one connection, then over several, per key type; median of five runs.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout)]

#[path = "../tests/running/mod.rs"]
mod running;

use std::time::{Duration, Instant};

use running::{Client, PASSWORD, Process, USER};
use strongroom_protocol::v1::*;

const RUN: Duration = Duration::from_millis(600);

/// The processor time that a process has used so far, user and system.
fn processor_time(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

fn user(process: &Process) -> Client {
    let mut client = process.client();
    client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    client
}

/// Signatures made by each client one after the other, for the time of a run.
fn signatures(clients: Vec<Client>, key: &ObjectInfo) -> u64 {
    let (mechanism, length) = match key.key_type() {
        KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => (Mechanism::RsaPkcs, 51),
        KeyType::Ed25519 => (Mechanism::Eddsa, 130),
        _ => (Mechanism::Ecdsa, 32),
    };
    let until = Instant::now() + RUN;
    let threads: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let key = key.clone();
            std::thread::spawn(move || {
                let mut made = 0;
                while Instant::now() < until {
                    client.sign(&key, mechanism, None, &vec![7; length]).unwrap();
                    made += 1;
                }
                made
            })
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).sum()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(directory.path());
    process.client().make_partition("bench");
    println!("{:<10} {:>11} {:>14} {:>22}", "key", "connections", "signatures/s", "daemon's CPU each, µs");
    for key_type in
        [KeyType::P256, KeyType::Ed25519, KeyType::P384, KeyType::Rsa2048, KeyType::Rsa3072, KeyType::Rsa4096]
    {
        let key = user(&process).generate(key_type, "key").unwrap().remove(0);
        for connections in [1, 16] {
            let (mut rates, mut costs) = (Vec::new(), Vec::new());
            for _ in 0..5 {
                let clients = (0..connections).map(|_| user(&process)).collect();
                let (before, start) = (processor_time(process.child.id()), Instant::now());
                let made = signatures(clients, &key) as f64;
                let used = processor_time(process.child.id()) - before;
                rates.push(made / start.elapsed().as_secs_f64());
                costs.push(used.as_secs_f64() * 1e6 / made);
            }
            let name = key_type.as_str_name().trim_start_matches("KEY_TYPE_");
            println!("{name:<10} {connections:>11} {:>14.0} {:>22.1}", median(rates), median(costs));
        }
    }
}
