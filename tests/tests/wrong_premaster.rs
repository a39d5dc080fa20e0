//! TLS 1.2's RSA key exchange with everything that can be wrong in it (Bleichenbacher's attack): a server gives the same answer to
//! all of it, and to what is right. The client is this test's own, since no other sends such messages.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use strongroom_demo::environment::Environment;
use strongroom_demo::pki::{KeyKind, openssl, run_openssl, text};
use strongroom_demo::process::{Process, wait_for};
use strongroom_demo::server::free_port;
use strongroom_tests::{Bench, Keys, Place};

const LIMIT: Duration = Duration::from_secs(20);

/// The size of the modulus in bytes.
const SIZE: usize = 256;

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;

/// A record of TLS 1.2: type, version, length, content.
fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind, 3, 3, (content.len() >> 8) as u8, content.len() as u8], content].concat()
}

/// A handshake message in a record.
fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    let message = [&[kind, 0, (body.len() >> 8) as u8, body.len() as u8], body].concat();
    record(HANDSHAKE, &message)
}

fn read_record(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut header = [0; 5];
    stream.read_exact(&mut header).ok()?;
    let mut content = vec![0; usize::from(header[3]) << 8 | usize::from(header[4])];
    stream.read_exact(&mut content).ok()?;
    Some((header[0], content))
}

/// What the server says to a client whose encrypted premaster secret is `ciphertext` and whose Finished is rubbish.
fn answer(address: &str, ciphertext: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    // Version, random, no session, TLS_RSA_WITH_AES_128_GCM_SHA256, no compression, signature_algorithms.
    let extensions = [0, 13, 0, 4, 0, 2, 4, 1];
    let hello = [
        &[3, 3][..],
        &[0x42; 32],
        &[0],
        &[0, 2, 0, 0x9c],
        &[1, 0],
        &[0, extensions.len() as u8],
        &extensions,
    ]
    .concat();
    stream.write_all(&handshake(1, &hello)).unwrap();
    // ServerHello, Certificate, ServerHelloDone, in one record or several.
    let mut messages = Vec::new();
    while !messages.ends_with(&[14, 0, 0, 0]) {
        let (kind, content) = read_record(&mut stream).expect("the server's first messages");
        assert_eq!(kind, HANDSHAKE, "{content:?}");
        messages.extend(content);
    }
    let length = [(ciphertext.len() >> 8) as u8, ciphertext.len() as u8];
    stream.write_all(&handshake(16, &[&length, ciphertext].concat())).unwrap();
    stream.write_all(&record(20, &[1])).unwrap();
    stream.write_all(&record(HANDSHAKE, &[0x5a; 40])).unwrap();
    std::iter::from_fn(|| read_record(&mut stream)).collect()
}

/// Encrypts blocks as large as the modulus, whatever they are, with the key's public half.
fn encrypt(bench: &Bench, key: &Keys, block: &[u8]) -> Vec<u8> {
    let (plain, cipher) = (bench.file("block"), bench.file("cipher"));
    fs::write(&plain, block).unwrap();
    let encrypt = "pkeyutl -encrypt -pubin -pkeyopt rsa_padding_mode:none -inkey {} -in {} -out {}";
    run_openssl(&Environment::plain(), encrypt, &[&text(&key.public), &plain, &cipher]).unwrap();
    fs::read(cipher).unwrap()
}

/// 0, 2, bytes that are not 0, 0, secret.
fn padded(secret: &[u8]) -> Vec<u8> {
    let mut block = vec![0x61; SIZE];
    block[..2].copy_from_slice(&[0, 2]);
    let start = SIZE - secret.len();
    block[start - 1] = 0;
    block[start..].copy_from_slice(secret);
    block
}

#[test]
fn a_server_answers_every_premaster_secret_alike() {
    for place in [Place::Partition, Place::SoftHsm] {
        let bench = Bench::new().unwrap();
        let key = match place {
            Place::Partition => {
                let name = KeyKind::Rsa2048.name();
                bench
                    .partition
                    .manage(&["key", "generate", name, "--type", name, "--usage", "sign,decrypt"])
                    .unwrap();
                let uri = bench.partition.short_uri(name);
                Keys::new(&bench, place, KeyKind::Rsa2048, uri, bench.partition.environment()).unwrap()
            }
            _ => bench.keys(place, &[KeyKind::Rsa2048]).unwrap().remove(0),
        };
        let certificate = text(&key.certify(&bench).unwrap());
        let address = format!("127.0.0.1:{}", free_port().unwrap());
        let server = "s_server -quiet -www -tls1_2 -cipher AES128-GCM-SHA256 -accept {} -key {} -cert {}";
        let mut server = openssl(&key.environment, server, &[&address, &key.uri, &certificate]).unwrap();
        server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let _server = Process::spawn("openssl", server).unwrap();
        wait_for("s_server", LIMIT, || Ok(TcpStream::connect(&address)?)).unwrap();

        let secret = [&[3, 3][..], &[0x5a; 46]].concat();
        let good = padded(&secret);
        let with = |at: usize, byte: u8| {
            let mut block = good.clone();
            block[at] = byte;
            encrypt(&bench, &key, &block)
        };
        let right = answer(&address, &encrypt(&bench, &key, &good));
        // The Finished cannot be decrypted: bad_record_mac, and the end.
        assert_eq!(right, [(ALERT, vec![2, 20])], "{place:?}");
        let wrong = [
            ("first byte", with(0, 1)),
            ("block type", with(1, 1)),
            ("a zero at the beginning", with(2, 0)),
            ("a zero in the middle", with(100, 0)),
            ("no separator", with(SIZE - 49, 7)),
            ("another version", with(SIZE - 47, 2)),
            ("one byte less", encrypt(&bench, &key, &padded(&secret[..47]))),
            ("one byte more", encrypt(&bench, &key, &padded(&[&secret[..], &[1]].concat()))),
            ("nothing", encrypt(&bench, &key, &padded(&[]))),
            ("no padding", encrypt(&bench, &key, &[&[0][..], &[0x77; SIZE - 1]].concat())),
            ("larger than the modulus", vec![0xff; SIZE]),
            ("zero", vec![0; SIZE]),
            ("too short", vec![1; SIZE - 1]),
            ("too long", vec![1; SIZE + 1]),
        ];
        for (what, ciphertext) in wrong {
            assert_eq!(answer(&address, &ciphertext), right, "{place:?} {what}");
        }
    }
}
