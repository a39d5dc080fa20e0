//! Metrics over HTTP, of the real program: confined, with clients over sockets and through shared memory.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

mod looking;
mod running;

use looking::Looking;
use running::*;
use strongroom_channel::{ChannelError, Client as Channel, Descriptors, Operation, Request};
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

#[test]
fn operations_are_counted_by_what_they_were_and_how_they_went() {
    let looking = Looking::start();
    let mut client = looking.process.client();
    client.make_partition("web \"1\"\\");
    assert_eq!(code(client.login(Role::CryptoUser, USER, WRONG)), ErrorCode::PasswordWrong);
    client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    let keys = client.generate(KeyType::Rsa2048, "tls").unwrap();
    for _ in 0..5 {
        client.sign(&keys[0], Mechanism::RsaPkcs, None, &[1; 51]).unwrap();
    }
    client.sign(&keys[0], Mechanism::RsaPkcs, None, &[1; 500]).unwrap_err();
    let p256 = client.generate(KeyType::P256, "p256").unwrap();
    client.sign(&p256[0], Mechanism::Ecdsa, None, &[1; 32]).unwrap();

    let metrics = looking.metrics();
    let one = |name: &str, labels: &str| {
        metrics.value(&format!("{name}{{partition=\"web \\\"1\\\"\\\\\"{labels}}}"))
    };
    let rsa = ",operation=\"sign\",key_type=\"RSA-2048\",mechanism=\"RSA_PKCS\"";
    assert_eq!(one("strongroom_operations_total", &format!("{rsa},outcome=\"success\"")), 5.0);
    assert_eq!(one("strongroom_operations_total", &format!("{rsa},outcome=\"refused\"")), 1.0);
    let timed = ",operation=\"sign\",key_type=\"RSA-2048\"";
    assert_eq!(one("strongroom_operation_duration_seconds_count", timed), 5.0);
    assert!(one("strongroom_operation_duration_seconds_sum", timed) > 0.0);
    assert_eq!(one("strongroom_logins_total", ",outcome=\"wrong_password\""), 1.0);
    assert_eq!(one("strongroom_logins_total", ",outcome=\"success\""), 2.0);
    assert_eq!(one("strongroom_refusals_total", ",code=\"DATA_LENGTH\""), 1.0);
    assert_eq!(one("strongroom_objects", ""), 4.0);
    assert_eq!(one("strongroom_users", ",state=\"open\""), 2.0);
    assert_eq!(one("strongroom_partition_state", ",state=\"sound\""), 1.0);
    assert_eq!(metrics.value("strongroom_connections"), 1.0);
    assert!(metrics.value("strongroom_store_commits_total{outcome=\"success\"}") >= 6.0);
    assert_eq!(metrics.value("strongroom_store_failing"), 0.0);
    assert!(metrics.value("strongroom_secret_memory_bytes") > 0.0);
    assert!(metrics.value("process_resident_memory_bytes") > 1e6);
    assert!(metrics.value("process_open_fds") > 5.0);
    assert_eq!(metrics.value("strongroom_batch_size_count{key_type=\"RSA-2048\"}"), 5.0);
    assert!(metrics.text.ends_with("# EOF\n"));
}

/// The alarm for a missing backup reads it.
#[test]
fn a_backup_has_its_time() {
    let looking = Looking::start();
    let mut client = looking.process.client();
    client.make_partition("tls");
    let last = || looking.metrics().value("strongroom_last_backup_timestamp_seconds{partition=\"tls\"}");
    assert_eq!(last(), 0.0);
    client.login(Role::CryptoOfficer, OFFICER, PASSWORD).unwrap();
    client.call(Op::BeginBackup(BeginBackup::default())).unwrap();
    while !matches!(
        client.call(Op::ReadBackup(ReadBackup {})).unwrap(),
        response::Result::BackupChunk(BackupChunk { last: true, .. })
    ) {}
    assert!(last() > 1.7e9, "{}", last());
}

#[test]
fn what_comes_through_channels_is_counted_in_its_partition() {
    let looking = Looking::start();
    let mut client = looking.process.client();
    client.make_partition("tls");
    client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    let keys = client.generate(KeyType::P256, "p256").unwrap();
    let key: [u8; 16] = keys[0].object.as_slice().try_into().unwrap();
    let given = client.connection.open_channel().unwrap().unwrap();
    let channel =
        Channel::new(Descriptors { region: given.region, bell: given.bell, state: given.state }).unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let sign = |key: [u8; 16]| {
        let operation =
            Operation::Sign { mechanism: Mechanism::Ecdsa as u32, hash: 0, mgf1_hash: 0, salt_length: 0 };
        let request = Request { operation, partition: TLS, key, data: &[7; 32] };
        channel.exchange(&request, &mut [0; 512], &mut || std::time::Instant::now() < until)
    };
    for _ in 0..50 {
        sign(key).unwrap();
    }
    assert!(matches!(sign([9; 16]), Err(ChannelError::Refused { .. })));
    let metrics = looking.metrics();
    let p256 = "partition=\"tls\",operation=\"sign\",key_type=\"P-256\",mechanism=\"ECDSA\"";
    let made = format!("strongroom_operations_total{{{p256},outcome=\"success\"}}");
    assert_eq!(metrics.value(&made), 50.0);
    assert_eq!(metrics.value("strongroom_refusals_total{partition=\"tls\",code=\"NO_SUCH_OBJECT\"}"), 1.0);
    assert_eq!(metrics.value("strongroom_requests_total{way=\"channel\"}"), 51.0);
    assert_eq!(metrics.value("strongroom_requests_refused_total{way=\"channel\"}"), 1.0);
    assert_eq!(metrics.value("strongroom_channels"), 1.0);
}

/// Pages of other sites in a browser on this machine, other machines, and whoever sends nonsense or nothing.
#[test]
fn only_those_who_ask_properly_are_answered() {
    let looking = Looking::start();
    let get = |path: &str, host: &str| {
        looking
            .send(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
            .unwrap()
            .status
    };
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(get(path, "localhost:1"), 200);
        assert_eq!(get(path, "rebound.example"), 403);
    }
    assert_eq!(get("/nothing", "127.0.0.1"), 404);
    let close = "Connection: close\r\n\r\n";
    assert_eq!(looking.send(&format!("GET /metrics HTTP/1.1\r\n{close}")).unwrap().status, 403);
    let post = format!("POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n{close}");
    assert_eq!(looking.send(&post).unwrap().status, 405);
    let long = "x".repeat(100_000);
    let refused = looking.send(&format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n{close}"));
    assert!(refused.is_none_or(|answer| answer.status >= 400));
    let refused = looking.send("\u{1}\u{2}\u{3}\r\n\r\n");
    assert!(refused.is_none_or(|answer| answer.status == 400));
    let answer = looking.ask("/healthz");
    assert_eq!(answer.body, "ok\n");
    for header in [
        "content-security-policy: default-src 'none'",
        "x-content-type-options: nosniff",
        "cache-control: no-store",
    ] {
        assert!(answer.head.contains(header), "{}", answer.head);
    }
}

/// More connections than are served at once, which say nothing: who asks afterwards waits, and clients do not notice.
#[test]
fn silent_connections_hold_up_nobody_for_good() {
    let looking = Looking::start();
    let mut silent: Vec<_> =
        (0..40).map(|_| std::net::TcpStream::connect(looking.address).unwrap()).collect();
    looking.process.client().make_partition("tls");
    silent.truncate(10);
    assert_eq!(looking.ask("/healthz").status, 200);
}

#[test]
fn an_address_that_others_reach_takes_a_word_more() {
    let directory = tempfile::tempdir().unwrap();
    for (address, said) in [("0.0.0.0:0", "--metrics-from-anywhere"), ("localhost:1", "127.0.0.1:9823")] {
        let output = Process::command(directory.path())
            .args(["--metrics", address])
            .stderr(std::process::Stdio::piped())
            .output()
            .unwrap();
        assert!(!output.status.success());
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(said), "{text}");
    }
}
