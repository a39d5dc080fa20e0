//! How much a daemon holds, and what the number of its keys costs: the tables of docs/capacity.md.
//!
//! `cargo bench -p strongroom-hsm --bench capacity`. It makes partitions with keys of P-256 and of RSA-2048, up to a million, starts
//! strongroomd on each store, and measures while it serves. STRONGROOM_CAPACITY says what to make: `p256:91000,rsa2048:19000`. With
//! PROGRAMS, a folder with libstrongroom_pkcs11.so and strongroom-token-load, C_FindObjects and C_Sign are measured as well.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, clippy::panic)]

#[path = "../tests/running/mod.rs"]
mod running;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use running::{Client, OFFICER, PASSWORD, Process, USER};
use strongroom_hsm::crypto::KeyKind;
use strongroom_hsm::crypto::aws_lc::{PrivateKey, random_array};
use strongroom_hsm::object::Key;
use strongroom_hsm::partition::Settings;
use strongroom_hsm::users::{PasswordHash, User};
use strongroom_hsm::vault::Vault;
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

/// Keys that go to the disk together, while a store is made.
const BATCH: usize = 1_000;

/// RSA keys take long to make: so many are made, and kept under all the names.
const DIFFERENT_RSA_KEYS: usize = 64;

/// Look-ups and signatures whose median is told.
const SAMPLES: usize = 2_000;

/// What a store is filled with.
#[derive(Clone, Copy)]
struct Filling {
    name: &'static str,
    kind: KeyKind,
    key_type: KeyType,
    /// Keys in one partition, at most.
    in_one: usize,
    keys: usize,
}

impl Filling {
    fn parse(text: &str) -> Self {
        let (name, keys) = text.split_once(':').unwrap();
        let keys = keys.parse().unwrap();
        match name {
            "p256" => {
                Filling { name: "p256", kind: KeyKind::P256, key_type: KeyType::P256, in_one: 91_000, keys }
            }
            "rsa2048" => Filling {
                name: "rsa2048",
                kind: KeyKind::Rsa2048,
                key_type: KeyType::Rsa2048,
                in_one: 19_000,
                keys,
            },
            other => panic!("p256 or rsa2048, not {other}"),
        }
    }

    fn partitions(self) -> usize {
        self.keys.div_ceil(self.in_one)
    }

    /// As strongroom-token-load names them.
    fn label(self, number: usize) -> String {
        format!("load-{}-{number}", self.name)
    }

    /// Makes the store, by the way that every key takes into it.
    fn fill(self, directory: &Path) {
        let state = directory.join("state");
        fs::DirBuilder::new().mode(0o700).create(&state).unwrap();
        let vault = Vault::open(&state, None).unwrap();
        let hash = PasswordHash::new(PASSWORD).unwrap();
        let own = vec![rustix::process::geteuid().as_raw()];
        let reused: Vec<_> = match self.kind {
            KeyKind::Rsa2048 => {
                (0..DIFFERENT_RSA_KEYS).map(|_| Arc::new(PrivateKey::generate(self.kind).unwrap())).collect()
            }
            _ => Vec::new(),
        };
        for partition in 0..self.partitions() {
            let users = [(OFFICER, Role::CryptoOfficer, Vec::new()), (USER, Role::CryptoUser, own.clone())]
                .map(|(name, role, uids)| User::new(name, role, Some(hash.clone()), uids, 1));
            let made = vault.create(&format!("p{partition}"), users.to_vec(), Settings::default()).unwrap();
            let numbers: Vec<usize> = (0..self.in_one.min(self.keys - partition * self.in_one)).collect();
            for some in numbers.chunks(BATCH) {
                made.change(|change| {
                    for number in some {
                        let key = match reused.get(number % DIFFERENT_RSA_KEYS) {
                            Some(key) => Arc::clone(key),
                            None => Arc::new(PrivateKey::generate(self.kind)?),
                        };
                        let public_key = key.public_spki()?;
                        let id = random_array::<20>().to_vec();
                        let info = |class: ObjectClass| ObjectInfo {
                            object: random_array::<16>().to_vec(),
                            class: class.into(),
                            label: self.label(*number),
                            id: id.clone(),
                            key_type: self.key_type.into(),
                            policy: Some(KeyPolicy { sign: true, verify: true, ..KeyPolicy::default() }),
                            public_key: public_key.clone(),
                            private: class == ObjectClass::PrivateKey,
                            owner: USER.into(),
                            created: 1_700_000_000,
                            ..ObjectInfo::default()
                        };
                        let key = Key::Private(key);
                        change.add_object(info(ObjectClass::PrivateKey), Some(self.kind), Some(&key))?;
                        change.add_object(info(ObjectClass::PublicKey), Some(self.kind), None)?;
                    }
                    Ok(())
                })
                .unwrap();
            }
        }
    }
}

/// A line of /proc/PID/status, in bytes.
fn memory(process: u32, what: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    (work(), begun.elapsed())
}

/// What the daemon says over HTTP.
fn get(directory: &Path, path: &str) -> String {
    let mut stream = UnixStream::connect(directory.join("metrics")).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    text
}

/// Protected memory of the daemon, in bytes.
fn secret_memory(directory: &Path) -> f64 {
    let text = get(directory, "/metrics");
    let line = text.lines().find(|line| line.starts_with("strongroom_secret_memory_bytes ")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// What strongroom-token-load reports, in microseconds: the median.
fn through_the_module(directory: &Path, filling: Filling, what: &[&str]) -> Option<f64> {
    let programs = PathBuf::from(std::env::var_os("PROGRAMS")?);
    let output = Command::new(programs.join("strongroom-token-load"))
        .arg("--module")
        .arg(programs.join("libstrongroom_pkcs11.so"))
        .args(["--token", "p0"])
        .args(what)
        .arg(filling.name)
        .args(["--keys", &filling.keys.min(filling.in_one).to_string(), "--duration", "3s"])
        .env("STRONGROOM_SOCKET", directory.join("socket"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let latency = report["latency_us"]["p50"].as_f64();
    Some(latency.unwrap_or_else(|| panic!("{report}")))
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The daemon on a store, and how long it took until it answered.
fn start(directory: &Path) -> (Killed, Client, Duration) {
    let begun = Instant::now();
    let mut command = Process::command(directory);
    let mut child = Killed(command.arg("--metrics").arg(directory.join("metrics")).spawn().unwrap());
    loop {
        assert!(child.0.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_secs(600));
        match Client::open(&directory.join("socket")) {
            Ok(client) => return (child, client, begun.elapsed()),
            Err(_) => sleep(Duration::from_millis(2)),
        }
    }
}

/// The longest that a signature took while something else was done, in milliseconds, and how long that took.
fn meanwhile(directory: &Path, key: &ObjectInfo, work: impl FnOnce()) -> (f64, Duration) {
    let mut client = Client::open(&directory.join("socket")).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let signing = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !over.load(Ordering::Relaxed) {
                let data = [7; 32];
                let (mechanism, data): (_, &[u8]) = match key.key_type() {
                    KeyType::P256 => (Mechanism::Ecdsa, &data),
                    _ => (Mechanism::RsaPkcs, &data),
                };
                longest = longest.max(timed(|| client.sign(key, mechanism, None, data).unwrap()).1);
                sleep(Duration::from_millis(1));
            }
            longest.as_secs_f64() * 1e3
        });
        let (_, took) = timed(work);
        over.store(true, Ordering::Relaxed);
        (signing.join().unwrap(), took)
    })
}

fn measure(filling: Filling, empty: &mut f64) {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (_, made) = timed(|| filling.fill(directory));
    let stored = fs::metadata(directory.join("state/store.redb")).map_or(0, |file| file.len()) as f64;
    let (child, mut client, started) = start(directory);
    let process = child.0.id();
    let (resident, peak) = (memory(process, "VmRSS:"), memory(process, "VmHWM:"));
    if *empty == 0.0 {
        *empty = resident;
    }
    let secret = secret_memory(directory);
    let (mut finds, mut firsts, mut signs) = (Vec::new(), Vec::new(), Vec::new());
    let mechanism = if filling.kind == KeyKind::P256 { Mechanism::Ecdsa } else { Mechanism::RsaPkcs };
    let mut last = None;
    for round in 0..SAMPLES {
        let number = (round * 7_919) % filling.keys;
        client.partition = (number / filling.in_one) as u32 + 1;
        let label = filling.label(number % filling.in_one);
        let find = FindObjects { label, class: ObjectClass::PrivateKey.into(), ..FindObjects::default() };
        let (found, time) = timed(|| client.find(find).unwrap());
        finds.push(time);
        assert_eq!(found.len(), 1);
        for times in [&mut firsts, &mut signs] {
            times.push(timed(|| client.sign(&found[0], mechanism, None, &[7; 32]).unwrap()).1);
        }
        last = found.into_iter().next();
    }
    client.partition = 1;
    let used = (secret_memory(directory) - secret) / SAMPLES.min(filling.keys) as f64;
    let makes = (0..50).map(|n| timed(|| client.generate(KeyType::P256, &format!("new {n}")).unwrap()).1);
    let makes = makes.collect();
    let info = match client.connection.call(0, Op::ListPartitions(ListPartitions {})).unwrap() {
        response::Result::Partitions(list) => list.partitions.into_iter().next().unwrap(),
        other => panic!("{other:?}"),
    };
    let listed = {
        let mut request = FindObjects::default();
        let (mut all, begun) = (0, Instant::now());
        loop {
            let found = client.find(request.clone()).unwrap();
            all += found.len();
            match found.last() {
                Some(last) => request.after.clone_from(&last.object),
                None => break,
            }
        }
        assert_eq!(all as u64, info.objects);
        begun.elapsed()
    };
    let metrics = median((0..20).map(|_| timed(|| get(directory, "/metrics")).1).collect());
    let mut key = last.unwrap();
    if filling.partitions() > 1 {
        let label = filling.label(0);
        let find = FindObjects { label, class: ObjectClass::PrivateKey.into(), ..FindObjects::default() };
        key = client.find(find).unwrap().swap_remove(0);
    }
    let before = memory(process, "VmHWM:");
    let (check_longest, check) = meanwhile(directory, &key, || {
        let mut client = Client::open(&directory.join("socket")).unwrap();
        loop {
            match client.connection.call(0, Op::CheckStore(CheckStore {})) {
                Ok(_) => break,
                Err(error) if error.code().is_none() => sleep(Duration::from_millis(100)),
                Err(error) => panic!("{error}"),
            }
        }
    });
    let (backup_longest, backup) = meanwhile(directory, &key, || {
        let mut officer = Client::open(&directory.join("socket")).unwrap();
        officer.login(Role::CryptoOfficer, OFFICER, PASSWORD).unwrap();
        officer.call(Op::BeginBackup(BeginBackup::default())).unwrap();
        loop {
            match officer.call(Op::ReadBackup(ReadBackup {})).unwrap() {
                response::Result::BackupChunk(chunk) if chunk.last => break,
                _ => {}
            }
        }
    });
    let grown = memory(process, "VmHWM:") - before;
    let find = through_the_module(directory, filling, &["find"]);
    let run = through_the_module(directory, filling, &["run"]);
    let cell = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.0}"));
    let keys = filling.keys as f64;
    println!(
        "\n{} {} in {} partitions, filled in {made:.0?}",
        filling.keys,
        filling.name,
        filling.partitions()
    );
    println!("  start                        {:>10.2} s", started.as_secs_f64());
    println!("  find by label                {:>10.0} µs", median(finds));
    println!("  C_FindObjects by label       {:>10} µs", cell(find));
    println!("  first signature with a key   {:>10.0} µs", median(firsts));
    println!("  signature                    {:>10.0} µs", median(signs));
    println!("  C_Sign, keys in turn         {:>10} µs", cell(run));
    println!("  generate a P-256 key         {:>10.0} µs", median(makes));
    println!("  list a partition             {:>10.2} s for {} objects", listed.as_secs_f64(), info.objects);
    println!("  metrics                      {metrics:>10.0} µs");
    println!("  on disk                      {:>10.0} bytes a key ({:.0} MB)", stored / keys, stored / 1e6);
    println!(
        "  memory                       {:>10.0} bytes a key ({:.0} MB)",
        (resident - *empty) / keys,
        resident / 1e6
    );
    println!("  memory of the start, peak    {:>10.0} MB", peak / 1e6);
    println!("  secret memory of a used key  {used:>10.0} bytes");
    println!("  reported of partition 1      {:>10.0} bytes a key", info.memory as f64 / info.keys as f64);
    println!(
        "  check of the store           {:>10.2} s, the longest signature {check_longest:.1} ms",
        check.as_secs_f64()
    );
    println!(
        "  backup of a partition        {:>10.2} s, the longest signature {backup_longest:.1} ms",
        backup.as_secs_f64()
    );
    println!("  memory of both               {:>10.1} MB more", grown / 1e6);
    std::io::stdout().flush().unwrap();
}

fn main() {
    let sizes = std::env::var("STRONGROOM_CAPACITY")
        .unwrap_or_else(|_| "p256:10,p256:1000,p256:91000,p256:1000000,rsa2048:10,rsa2048:19000".to_owned());
    let mut empty = 0.0;
    for filling in sizes.split(',').map(Filling::parse) {
        measure(filling, &mut empty);
    }
}
