//! Signatures a second, and the daemon's processor time for one: `cargo bench -p strongroom-hsm`.
//!
//! First what the two crypto engines cost by size of batch; then, through the daemon, one request at a time over one
//! connection and over several. Per key type; median of five runs.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout)]

#[path = "../tests/running/mod.rs"]
mod running;

use std::time::{Duration, Instant};

use running::{Client, PASSWORD, Process, USER};
use strongroom_hsm::crypto::{Choices, KeyKind};
use strongroom_protocol::v1::*;

const RUN: Duration = Duration::from_millis(600);
const RUNS: usize = 5;

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

/// The processor time of each signature in a batch, by each engine.
fn engines() {
    let runs: Vec<Choices> = (0..RUNS).map(|_| Choices::measure().unwrap()).collect();
    println!("{:<10} {:>5} {:>18} {:>21}", "key", "batch", "aws-lc, µs each", "crypto_mb, µs each");
    for kind in KeyKind::BATCHED {
        for batch in [1, 2, 4, 8] {
            let each = |time: Duration| time.as_secs_f64() * 1e6 / batch as f64;
            let costs: Vec<_> = runs.iter().map(|choices| choices.costs(kind, batch)).collect();
            let alone = median(costs.iter().map(|(alone, _)| each(*alone)).collect());
            let together: Option<Vec<f64>> = costs.iter().map(|(_, together)| together.map(each)).collect();
            let together = together.map_or("-".to_owned(), |costs| format!("{:.1}", median(costs)));
            println!("{:<10} {batch:>5} {alone:>18.1} {together:>21}", kind.to_string());
        }
    }
    runs.last().into_iter().flat_map(Choices::describe).for_each(|line| println!("{line}"));
}

fn main() {
    engines();
    println!();
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
            for _ in 0..RUNS {
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
