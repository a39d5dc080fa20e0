//! Channels: requests through memory that the client shares with the daemon.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod running;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use running::{Client, PASSWORD, Process, Running, TLS, USER};
use strongroom_channel::layout::{HEADER, REGION, SLOT, SLOTS};
use strongroom_channel::{ChannelError, Client as Channel, Descriptors, Operation, Request};
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

fn open(client: &mut Client) -> Channel {
    let given = client.connection.open_channel().unwrap().unwrap();
    Channel::new(Descriptors { region: given.region, bell: given.bell, state: given.state }).unwrap()
}

fn identity(key: &ObjectInfo) -> [u8; 16] {
    key.object.as_slice().try_into().unwrap()
}

fn patience() -> impl FnMut() -> bool {
    let until = Instant::now() + Duration::from_secs(60);
    move || Instant::now() < until
}

fn sign(
    channel: &Channel,
    key: &ObjectInfo,
    mechanism: Mechanism,
    data: &[u8],
) -> Result<Vec<u8>, ChannelError> {
    let pss = if mechanism == Mechanism::RsaPkcsPss { Hash::Sha256 as u32 } else { 0 };
    let operation = Operation::Sign {
        mechanism: mechanism as u32,
        hash: pss,
        mgf1_hash: pss,
        salt_length: if pss == 0 { 0 } else { 32 },
    };
    let mut signature = [0; 512];
    let request = Request { operation, partition: TLS, key: identity(key), data };
    let length = channel.exchange(&request, &mut signature, &mut patience())?;
    Ok(signature[..length].to_vec())
}

fn code(result: Result<Vec<u8>, ChannelError>) -> ErrorCode {
    match result.unwrap_err() {
        ChannelError::Refused { code, message } => {
            assert!(!message.is_empty());
            ErrorCode::try_from(code as i32).unwrap()
        }
        other => panic!("{other}"),
    }
}

fn verify(client: &mut Client, public: &ObjectInfo, mechanism: Mechanism, data: &[u8], signature: Vec<u8>) {
    let pss = (mechanism == Mechanism::RsaPkcsPss).then(|| PssParameters {
        hash: Hash::Sha256.into(),
        mgf1_hash: Hash::Sha256.into(),
        salt_length: 32,
    });
    let key = public.object.clone();
    let request = Verify { key, mechanism: mechanism.into(), pss, data: data.to_vec(), signature };
    client.call(Op::Verify(request)).unwrap();
}

const KINDS: [(KeyType, Mechanism); 6] = [
    (KeyType::Rsa2048, Mechanism::RsaPkcs),
    (KeyType::Rsa2048, Mechanism::RsaPkcsPss),
    (KeyType::P256, Mechanism::Ecdsa),
    (KeyType::P384, Mechanism::Ecdsa),
    (KeyType::P521, Mechanism::Ecdsa),
    (KeyType::Ed25519, Mechanism::Eddsa),
];

#[test]
fn every_kind_is_signed_also_after_a_silence() {
    let running = Running::with_partition();
    let mut client = running.user();
    let channel = open(&mut client);
    for (kind, mechanism) in KINDS {
        let pair = client.generate(kind, "key").unwrap();
        for round in 0..20u8 {
            let data = [round; 32];
            let signature = sign(&channel, &pair[0], mechanism, &data).unwrap();
            verify(&mut client, &pair[1], mechanism, &data, signature);
        }
        // The daemon sleeps, and no longer looks at this region unasked.
        std::thread::sleep(Duration::from_millis(300));
    }
    let long = vec![7; 5000];
    let pair = client.generate(KeyType::Ed25519, "long").unwrap();
    let signature = sign(&channel, &pair[0], Mechanism::Eddsa, &long).unwrap();
    verify(&mut client, &pair[1], Mechanism::Eddsa, &long, signature);
    assert_eq!(sign(&channel, &pair[0], Mechanism::Eddsa, &[7; SLOT]), Err(ChannelError::TooLarge));
}

/// Each is answered: nobody waits for what the engine does not do.
#[test]
fn what_is_done_over_the_connection_only_is_refused() {
    let running = Running::with_partition();
    let mut client = running.user();
    let channel = open(&mut client);
    let key = |client: &mut Client, kind| client.generate(kind, "key").unwrap().swap_remove(0);
    let (lattice, x25519) = (key(&mut client, KeyType::MlDsa44), key(&mut client, KeyType::X25519));
    let (rsa, k256) = (key(&mut client, KeyType::Rsa2048), key(&mut client, KeyType::Secp256k1));
    for (key, mechanism, length, expected) in [
        (&lattice, Mechanism::MlDsa, 64, ErrorCode::Unsupported),
        (&k256, Mechanism::Ecdsa, 32, ErrorCode::Unsupported),
        (&lattice, Mechanism::Eddsa, 64, ErrorCode::MechanismDoesNotFit),
        (&x25519, Mechanism::Ecdh, 32, ErrorCode::MechanismDoesNotFit),
        (&x25519, Mechanism::Eddsa, 32, ErrorCode::KeyMayNot),
        (&rsa, Mechanism::RsaX509, 256, ErrorCode::MechanismDoesNotFit),
        (&rsa, Mechanism::RsaPkcsOaep, 256, ErrorCode::MechanismDoesNotFit),
    ] {
        assert_eq!(code(sign(&channel, key, mechanism, &vec![1; length])), expected, "{mechanism:?}");
    }
}

#[test]
fn whatever_changes_counts_from_the_next_request_on() {
    let running = Running::with_partition();
    let mut client = running.client();
    let channel = open(&mut client);
    let pair = running.user().generate(KeyType::P256, "key").unwrap();
    let ask = |key: &ObjectInfo| sign(&channel, key, Mechanism::Ecdsa, &[1; 32]);
    assert_eq!(code(ask(&pair[0])), ErrorCode::NotLoggedIn);
    client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    ask(&pair[0]).unwrap();
    assert_eq!(code(ask(&pair[1])), ErrorCode::KeyMayNot);
    assert_eq!(code(sign(&channel, &pair[0], Mechanism::RsaPkcs, &[1; 32])), ErrorCode::MechanismDoesNotFit);
    assert_eq!(code(sign(&channel, &pair[0], Mechanism::Ecdsa, &[1; 300])), ErrorCode::DataLength);
    client.call(Op::Logout(Logout {})).unwrap();
    assert_eq!(code(ask(&pair[0])), ErrorCode::NotLoggedIn);
    client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    ask(&pair[0]).unwrap();
    running.user().call(Op::DestroyObject(DestroyObject { object: pair[0].object.clone() })).unwrap();
    assert_eq!(code(ask(&pair[0])), ErrorCode::NoSuchObject);
    // One channel for a connection.
    assert!(client.connection.open_channel().unwrap().is_none());
    // And the connection still answers.
    client.find(FindObjects::default()).unwrap();
}

/// What was permitted a moment ago is asked anew after each of these, by whomever it was done.
#[test]
fn a_right_ends_on_an_open_channel_too() {
    let running = Running::with_partition();
    let uid = rustix::process::geteuid().as_raw();
    let pair = running.user().generate(KeyType::P256, "key").unwrap();
    let mut officer = running.officer();
    let mut client = running.client();
    let channel = open(&mut client);
    let ask = |partition| {
        let operation =
            Operation::Sign { mechanism: Mechanism::Ecdsa as u32, hash: 0, mgf1_hash: 0, salt_length: 0 };
        let request = Request { operation, partition, key: identity(&pair[0]), data: &[1; 32] };
        channel.exchange(&request, &mut [0; 512], &mut patience()).map(|_| Vec::new())
    };
    // The user id is admitted, and no longer.
    let admit = |withdraw| Op::AdmitUid(AdmitUid { name: USER.into(), uid, withdraw });
    officer.call(admit(false)).unwrap();
    ask(TLS).unwrap();
    officer.call(admit(true)).unwrap();
    assert_eq!(code(ask(TLS)), ErrorCode::NotLoggedIn);
    // The password is another.
    client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    ask(TLS).unwrap();
    let reset = ChangePassword {
        name: USER.into(),
        old_password: String::new(),
        new_password: "chosen by the officer".into(),
    };
    officer.call(Op::ChangePassword(reset)).unwrap();
    assert_eq!(code(ask(TLS)), ErrorCode::NotLoggedIn);
    // What the officer has chosen has to be changed before anything else.
    client.login(Role::CryptoUser, USER, "chosen by the officer").unwrap();
    assert_eq!(code(ask(TLS)), ErrorCode::PasswordExpired);
    let change = ChangePassword {
        name: USER.into(),
        old_password: "chosen by the officer".into(),
        new_password: "the user's own".into(),
    };
    client.call(Op::ChangePassword(change)).unwrap();
    ask(TLS).unwrap();
    // The log-in is ended on another connection that has its ticket.
    let ticket = client.login(Role::CryptoUser, USER, "the user's own").unwrap().ticket;
    ask(TLS).unwrap();
    let mut other = running.client();
    redeem(&mut other, ticket);
    other.call(Op::Logout(Logout {})).unwrap();
    assert_eq!(code(ask(TLS)), ErrorCode::NotLoggedIn);
    // The key's identity in another partition, where the same connection is logged in.
    let mut owner = running.client();
    owner.make_partition("second");
    client.login(Role::CryptoUser, USER, "the user's own").unwrap();
    client.partition = TLS + 1;
    client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    ask(TLS).unwrap();
    assert_eq!(code(ask(TLS + 1)), ErrorCode::NoSuchObject);
    assert_eq!(code(ask(TLS + 2)), ErrorCode::NoSuchPartition);
    // The user, and the partition.
    ask(TLS).unwrap();
    officer.call(Op::DeleteUser(DeleteUser { name: USER.into() })).unwrap();
    assert_eq!(code(ask(TLS)), ErrorCode::NotLoggedIn);
    officer.call(Op::DeletePartition(DeletePartition { label: "tls".into() })).unwrap();
    assert_eq!(code(ask(TLS)), ErrorCode::NoSuchPartition);
}

#[test]
fn many_threads_share_a_channel() {
    let running = Running::with_partition();
    let mut client = running.user();
    let channel = open(&mut client);
    let pairs: Vec<_> =
        KINDS.map(|(kind, mechanism)| (client.generate(kind, "key").unwrap(), mechanism)).into();
    let signed: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2 * SLOTS)
            .map(|thread| {
                let channel = &channel;
                let (pair, mechanism) = &pairs[thread % pairs.len()];
                scope.spawn(move || {
                    let mut made = Vec::new();
                    for round in 0..20 {
                        let data = [(thread * 20 + round) as u8; 32];
                        let signature = loop {
                            match sign(channel, &pair[0], *mechanism, &data) {
                                Err(ChannelError::Full) => std::thread::yield_now(),
                                other => break other.unwrap(),
                            }
                        };
                        made.push((&pair[1], *mechanism, data, signature));
                    }
                    made
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(signed.len(), 2 * SLOTS * 20);
    for (public, mechanism, data, signature) in signed {
        verify(&mut client, public, mechanism, &data, signature);
    }
}

#[test]
fn ciphers_agree_with_those_over_the_socket() {
    let running = Running::with_partition();
    let mut client = running.user();
    let channel = open(&mut client);
    let request = GenerateKey { key_type: KeyType::Aes256.into(), ..GenerateKey::default() };
    let key = client.objects(Op::GenerateKey(request)).unwrap().remove(0);
    let (iv, aad, plain) = ([3; 12], [4; 20], vec![5; 4096]);
    let mut out = vec![0; 5000];
    let ask = |operation, data: &[u8], out: &mut [u8]| {
        let request = Request { operation, partition: TLS, key: identity(&key), data };
        channel.exchange(&request, out, &mut patience())
    };
    let length = ask(Operation::Encrypt { iv: &iv, aad: &aad, tag_bits: 128 }, &plain, &mut out).unwrap();
    assert_eq!(length, plain.len() + 16);
    let mut sealed = out[..length].to_vec();
    let gcm = GcmParameters { iv: iv.to_vec(), aad: aad.to_vec(), tag_bits: 128 };
    let request = Encrypt {
        key: key.object.clone(),
        mechanism: Mechanism::AesGcm.into(),
        gcm: Some(gcm),
        data: plain.clone(),
        ..Encrypt::default()
    };
    let response::Result::Ciphertext(by_socket) = client.call(Op::Encrypt(request)).unwrap() else {
        panic!()
    };
    assert_eq!(by_socket.ciphertext, sealed);
    let decrypt = || Operation::Decrypt { iv: &iv, aad: &aad, tag_bits: 128 };
    let length = ask(decrypt(), &sealed, &mut out).unwrap();
    assert_eq!(out[..length], plain);
    sealed[9] ^= 1;
    match ask(decrypt(), &sealed, &mut out) {
        Err(ChannelError::Refused { code, .. }) => assert_eq!(code, ErrorCode::CiphertextWrong as u32),
        other => panic!("{other:?}"),
    }
    assert_eq!(ask(decrypt(), &vec![0; SLOT], &mut out), Err(ChannelError::TooLarge));
}

/// A region as a hostile client sees it. Stays mapped.
fn mapped(region: &std::os::fd::OwnedFd) -> &'static [AtomicU64] {
    use rustix::mm::*;
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a mapping of the whole file that is never unmapped, used as atomics as the other side does.
    unsafe {
        let start = mmap(std::ptr::null_mut(), REGION, protection, MapFlags::SHARED, region, 0).unwrap();
        std::slice::from_raw_parts(start.cast::<AtomicU64>(), REGION / 8)
    }
}

/// Writes all over the region, again and again, with every bit of `posted` set and the bell rung.
#[test]
fn a_hostile_client_hurts_only_itself() {
    let running = Running::with_partition();
    let mut good = running.user();
    let good_channel = open(&mut good);
    let pair = good.generate(KeyType::P256, "key").unwrap();
    let mut bad = running.user();
    let given = bad.connection.open_channel().unwrap().unwrap();
    // Its size is fixed.
    assert!(rustix::fs::ftruncate(&given.region, 0).is_err());
    assert!(rustix::fs::ftruncate(&given.region, 2 * REGION as u64).is_err());
    let words = mapped(&given.region);
    let mut seed = 1u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        seed
    };
    for round in 0..300 {
        for slot in 0..SLOTS {
            let start = (HEADER + slot * SLOT) / 8;
            for word in 0..8 {
                words[start + word].store(random() >> (random() % 64), Ordering::Relaxed);
            }
            if random() % 2 == 0 {
                // Almost right: a key that it may use, a length up to what fits, numbers that are nearly lengths.
                let fields = [1 + random() % 3, u64::from(TLS) | (random() % 6) << 32];
                let key: Vec<u64> = pair[0]
                    .object
                    .chunks(8)
                    .map(|part| u64::from_le_bytes(part.try_into().unwrap()))
                    .collect();
                words[start].store(1 | fields[0] << 32, Ordering::Relaxed);
                words[start + 1].store(fields[1], Ordering::Relaxed);
                words[start + 2].store(key[0], Ordering::Relaxed);
                words[start + 3].store(key[1], Ordering::Relaxed);
                words[start + 5].store(((random() % 9000) << 32) | (random() % 40), Ordering::Relaxed);
            }
        }
        words[0].store(u64::MAX, Ordering::SeqCst);
        words[1].store(u64::MAX, Ordering::SeqCst);
        words[8].store(random(), Ordering::SeqCst);
        rustix::io::write(&given.bell, &1u64.to_ne_bytes()).unwrap();
        if round % 10 == 0 {
            let data = [round as u8; 32];
            let signature = sign(&good_channel, &pair[0], Mechanism::Ecdsa, &data).unwrap();
            verify(&mut good, &pair[1], Mechanism::Ecdsa, &data, signature);
        }
    }
}

#[test]
fn the_end_of_the_daemon_and_of_a_connection_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Process::start(directory.path());
    daemon.client().make_partition("tls");
    let mut client = daemon.client();
    client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    let pair = client.generate(KeyType::P256, "key").unwrap();
    // A channel whose connection is closed is nobody's any more: it has to be dropped with it.
    for _ in 0..50 {
        let mut other = daemon.client();
        other.login(Role::CryptoUser, USER, PASSWORD).unwrap();
        let channel = open(&mut other);
        sign(&channel, &pair[0], Mechanism::Ecdsa, &[1; 32]).unwrap();
    }
    let channel = open(&mut client);
    sign(&channel, &pair[0], Mechanism::Ecdsa, &[1; 32]).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let descriptors = format!("/proc/{}/fd", daemon.child.id());
    while std::fs::read_dir(&descriptors).unwrap().count() > 40 {
        assert!(Instant::now() < until, "descriptors of closed channels stay open");
        std::thread::sleep(Duration::from_millis(20));
    }
    daemon.kill();
    let operation =
        Operation::Sign { mechanism: Mechanism::Ecdsa as u32, hash: 0, mgf1_hash: 0, salt_length: 0 };
    let request = Request { operation, partition: TLS, key: identity(&pair[0]), data: &[1; 32] };
    let connection = &client.connection;
    let outcome = channel.exchange(&request, &mut [0; 512], &mut || connection.is_open());
    assert_eq!(outcome, Err(ChannelError::Abandoned));
    assert_eq!(sign(&channel, &pair[0], Mechanism::Ecdsa, &[1; 32]), Err(ChannelError::Closed));
}

/// The desk never rests, and somebody who was silent for a while has only the bell.
#[test]
fn a_silent_client_is_heard_although_others_never_pause() {
    let running = Running::with_partition();
    let mut silent = running.user();
    let channel = open(&mut silent);
    let pair = silent.generate(KeyType::P256, "key").unwrap();
    let mut busy = [running.user(), running.user()];
    let busy = busy.each_mut().map(|client| client.connection.open_channel().unwrap().unwrap());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for given in &busy {
            let (words, over) = (mapped(&given.region), &over);
            rustix::io::write(&given.bell, &1u64.to_ne_bytes()).unwrap();
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    words[0].store(u64::MAX, Ordering::SeqCst);
                }
            });
        }
        let waited: Vec<_> = (0..4)
            .map(|_| {
                std::thread::sleep(Duration::from_millis(300));
                let started = Instant::now();
                sign(&channel, &pair[0], Mechanism::Ecdsa, &[1; 32]).map(|_| started.elapsed())
            })
            .collect();
        over.store(true, Ordering::Relaxed);
        for waited in waited {
            let waited = waited.unwrap();
            assert!(waited < Duration::from_secs(2), "{waited:?}");
        }
    });
}

/// How long the clients of [`every_exchange_returns_whatever_the_rhythm`] go on: `STRONGROOM_STRESS` in seconds.
fn stress_time() -> Duration {
    let seconds = std::env::var("STRONGROOM_STRESS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(3))
}

/// The longest that an exchange may take, however busy the machine is.
const AT_MOST: Duration = Duration::from_secs(30);

/// Numbers that look random, a different sequence for each seed.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % sides
    }

    /// Mostly none; now and then so long that the daemon sleeps; sometimes so long that it listens for the bell only.
    fn pause(&mut self) {
        match self.throw(100) {
            0..60 => {}
            60..80 => std::thread::sleep(Duration::from_micros(self.throw(100))),
            80..98 => std::thread::sleep(Duration::from_micros(self.throw(5000))),
            _ => std::thread::sleep(Duration::from_millis(190 + self.throw(60))),
        }
    }
}

/// The keys that the clients of the stress test use: those to sign, and the secret one.
struct StressKeys {
    to_sign: Vec<(ObjectInfo, Mechanism)>,
    secret: ObjectInfo,
}

/// Signs, encrypts and decrypts over one channel from several threads.
fn stress(channel: &Channel, keys: &StressKeys, seed: u64, until: Instant) {
    let exchange = |operation, key: &ObjectInfo, data: &[u8], out: &mut [u8]| {
        let request = Request { operation, partition: TLS, key: identity(key), data };
        let started = Instant::now();
        let length = channel.exchange(&request, out, &mut || started.elapsed() < AT_MOST).unwrap();
        assert!(started.elapsed() < AT_MOST, "an exchange took {:?}", started.elapsed());
        length
    };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                let mut dice = Dice(seed * 4 + thread);
                while Instant::now() < until {
                    dice.pause();
                    let mut out = [0; 4096];
                    if dice.throw(3) == 0 {
                        // Nobody gets what was meant for somebody else.
                        let mut plain = vec![0; 16 + dice.throw(2000) as usize];
                        plain.iter_mut().for_each(|byte| *byte = dice.throw(256) as u8);
                        let (iv, aad, tag_bits) = (&[7; 12][..], &[8; 20][..], 128);
                        let length = exchange(
                            Operation::Encrypt { iv, aad, tag_bits },
                            &keys.secret,
                            &plain,
                            &mut out,
                        );
                        let sealed = out[..length].to_vec();
                        let length = exchange(
                            Operation::Decrypt { iv, aad, tag_bits },
                            &keys.secret,
                            &sealed,
                            &mut out,
                        );
                        assert_eq!(out[..length], plain);
                    } else {
                        let (key, mechanism) = &keys.to_sign[dice.throw(keys.to_sign.len() as u64) as usize];
                        let mechanism = *mechanism as u32;
                        let operation = Operation::Sign { mechanism, hash: 0, mgf1_hash: 0, salt_length: 0 };
                        assert!(exchange(operation, key, &[thread as u8; 32], &mut out) >= 64);
                    }
                }
            });
        }
    });
}

/// Logs in without a password, which takes its time.
fn redeem(client: &mut Client, ticket: Vec<u8>) {
    let login = Login { role: Role::CryptoUser.into(), ticket, ..Login::default() };
    client.call(Op::Login(login)).unwrap();
}

fn stress_keys(client: &mut Client) -> StressKeys {
    let all = client.find(FindObjects::default()).unwrap();
    let of = |kind: KeyType| {
        let is_it =
            |object: &&ObjectInfo| object.key_type() == kind && object.class() != ObjectClass::PublicKey;
        all.iter().find(is_it).unwrap().clone()
    };
    StressKeys {
        to_sign: vec![
            (of(KeyType::P256), Mechanism::Ecdsa),
            (of(KeyType::P384), Mechanism::Ecdsa),
            (of(KeyType::Ed25519), Mechanism::Eddsa),
            (of(KeyType::Rsa2048), Mechanism::RsaPkcs),
        ],
        secret: of(KeyType::Aes256),
    }
}

/// A client process of [`every_exchange_returns_whatever_the_rhythm`], which starts it.
#[test]
#[ignore = "started by every_exchange_returns_whatever_the_rhythm"]
fn stress_in_a_process() {
    let socket = std::env::var_os("STRONGROOM_STRESS_SOCKET").unwrap();
    let ticket = std::env::var("STRONGROOM_STRESS_TICKET").unwrap();
    let ticket = ticket.split(' ').map(|byte| byte.parse().unwrap()).collect();
    let mut client = Client::open(socket.as_ref()).unwrap();
    redeem(&mut client, ticket);
    let keys = stress_keys(&mut client);
    let channel = open(&mut client);
    stress(&channel, &keys, u64::from(std::process::id()), Instant::now() + stress_time());
}

/// Clients in this and other processes, with pauses of all lengths: the daemon sleeps and wakes all the time, regions
/// fall silent and speak again, come and go, and so do log-ins and processes.
#[test]
fn every_exchange_returns_whatever_the_rhythm() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Process::start(directory.path());
    let mut first = daemon.client();
    first.make_partition("tls");
    let ticket = first.login(Role::CryptoUser, USER, PASSWORD).unwrap().ticket;
    for kind in [KeyType::P256, KeyType::P384, KeyType::Ed25519, KeyType::Rsa2048] {
        first.generate(kind, "key").unwrap();
    }
    let request = GenerateKey { key_type: KeyType::Aes256.into(), ..GenerateKey::default() };
    first.objects(Op::GenerateKey(request)).unwrap();
    let keys = stress_keys(&mut first);
    let process = || {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "stress_in_a_process", "--ignored", "--quiet"]);
        let in_words: Vec<_> = ticket.iter().map(u8::to_string).collect();
        command.env("STRONGROOM_STRESS_TICKET", in_words.join(" "));
        command.env("STRONGROOM_STRESS_SOCKET", &daemon.socket).stdout(std::process::Stdio::null());
        command.spawn().unwrap()
    };
    let until = Instant::now() + stress_time();
    let mut others = [process(), process()];
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let (keys, mut client) = (&keys, daemon.client());
            redeem(&mut client, ticket.clone());
            scope.spawn(move || stress(&open(&mut client), keys, seed, until));
        }
        // Come and go, most with a request that they do not wait for.
        scope.spawn(|| {
            while Instant::now() < until {
                let mut client = daemon.client();
                redeem(&mut client, ticket.clone());
                let channel = open(&mut client);
                let (key, mechanism) = &keys.to_sign[3];
                let mechanism = *mechanism as u32;
                let operation = Operation::Sign { mechanism, hash: 0, mgf1_hash: 0, salt_length: 0 };
                let request = Request { operation, partition: TLS, key: identity(key), data: &[1; 32] };
                let _ = channel.exchange(&request, &mut [0; 512], &mut || false);
            }
        });
        // Dies in the middle of something.
        scope.spawn(|| {
            while Instant::now() < until {
                let mut process = process();
                std::thread::sleep(Duration::from_millis(400));
                process.kill().unwrap();
                process.wait().unwrap();
            }
        });
    });
    for other in &mut others {
        assert!(other.wait().unwrap().success());
    }
}
