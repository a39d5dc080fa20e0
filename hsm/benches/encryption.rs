//! AES-GCM operations a second at 4 KiB: the function alone, and over the socket with the daemon's processor time for
//! one: `cargo bench -p strongroom-hsm --bench encryption`. Median of five runs.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout)]

#[path = "../tests/running/mod.rs"]
mod running;

use std::time::{Duration, Instant};

use running::{PASSWORD, Process, USER};
use strongroom_hsm::crypto::symmetric::{self, SecretKey, SecretKind};
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

const RUN: Duration = Duration::from_millis(400);
const SIZE: usize = 4096;

/// The processor time that a process has used so far, user and system.
fn processor_time(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

/// How often `work` is done in the time of a run, per second; the median of five runs.
fn rate(mut work: impl FnMut()) -> f64 {
    let mut rates: Vec<f64> = (0..5)
        .map(|_| {
            let (start, mut done) = (Instant::now(), 0u32);
            while start.elapsed() < RUN {
                (0..16).for_each(|_| work());
                done += 16;
            }
            f64::from(done) / start.elapsed().as_secs_f64()
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn main() {
    let plain = vec![7; SIZE];
    let (mut sealed, mut opened) = (vec![0; SIZE + 16], vec![0; SIZE]);
    println!("{:<34} {:>12} {:>22}", "operation, 4 KiB", "a second", "daemon's CPU each, µs");
    for kind in [SecretKind::Aes128, SecretKind::Aes192, SecretKind::Aes256] {
        let key = SecretKey::generate(kind, 0).unwrap();
        let parameters = symmetric::GcmParameters::new(&[1; 12], b"", 128).unwrap();
        let encrypt =
            rate(|| assert_eq!(symmetric::encrypt(&key, parameters, &plain, &mut sealed), Ok(SIZE + 16)));
        let decrypt =
            rate(|| assert_eq!(symmetric::decrypt(&key, parameters, &sealed, &mut opened), Ok(SIZE)));
        println!("{:<34} {encrypt:>12.0}", format!("{kind} encrypt, the function"));
        println!("{:<34} {decrypt:>12.0}", format!("{kind} decrypt, the function"));
    }
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(directory.path());
    let mut client = process.client();
    client.make_partition("bench");
    client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    let request = GenerateKey { key_type: KeyType::Aes256.into(), key: None };
    let key = client.objects(Op::GenerateKey(request)).unwrap().remove(0).object;
    let mechanism = Mechanism::AesGcm.into();
    let gcm = GcmParameters { iv: vec![1; 12], aad: Vec::new(), tag_bits: 128 };
    let (before, mut count) = (processor_time(process.child.id()), 0);
    let encrypt = rate(|| {
        let request = Encrypt {
            key: key.clone(),
            mechanism,
            gcm: Some(gcm.clone()),
            data: plain.clone(),
            ..Encrypt::default()
        };
        client.call(Op::Encrypt(request)).unwrap();
        count += 1;
    });
    let used = (processor_time(process.child.id()) - before).as_secs_f64() * 1e6 / f64::from(count);
    println!("{:<34} {encrypt:>12.0} {used:>22.1}", "AES-256 encrypt, one connection");
}
