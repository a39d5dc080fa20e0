//! The command against a real nginx: what it counts is what nginx has logged.
// clippy sees tests only in functions marked as such, and much of this is in functions that they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod server;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::LazyLock;
use std::time::Duration;

use server::{Server, free_port};
use strongroom_load::Report;

fn load(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_strongroom-load")).args(arguments).output().unwrap()
}

fn report(output: &Output) -> Report {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Runs with `--json` and checks the exit code.
fn json(code: i32, arguments: &[&str]) -> Report {
    let output = load(&[&["--json"], arguments].concat());
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}{}", String::from_utf8_lossy(&output.stdout));
    let report = report(&output);
    assert_eq!(report.timeline.iter().map(|slice| slice.ok).sum::<u64>(), report.handshakes);
    assert_eq!(report.timeline.iter().map(|slice| slice.errors).sum::<u64>(), report.error_count());
    report
}

fn target(port: u16) -> String {
    format!("localhost:{port}")
}

#[test]
fn full_handshakes_are_what_the_server_counts() {
    let server = Server::start();
    for version in ["1.3", "1.2"] {
        let common = ["-n", "60", "-c", "8", "--tls", version, &target(server.port)];
        let report = json(0, &[&["--ca", &server.ca("all")], &common[..]].concat());
        assert_eq!((report.handshakes, report.resumed, report.tls.as_str()), (60, 0, version));
        let latency = report.latency_us.unwrap();
        assert!(latency.min <= latency.p50 && latency.p50 <= latency.p99 && latency.p99 <= latency.max);
        assert_eq!(server.handshakes(&format!("TLSv{version}"), 60), 60);
    }
    assert_eq!(server.resumed(0), 0);
}

#[test]
fn resumed_handshakes_are_what_the_server_counts() {
    for version in ["1.3", "1.2"] {
        let server = Server::start();
        let common = ["-n", "50", "-c", "6", "--resume", "--tls", version, &target(server.port)];
        let report = json(0, &[&["--ca", &server.ca("all")], &common[..]].concat());
        assert_eq!((report.handshakes, report.resumed), (50, 50), "TLS {version}");
        assert_eq!(server.resumed(50), 50, "TLS {version}");
        // The first sessions came from somewhere, and those handshakes are not in the report.
        assert!(server.handshakes(&format!("TLSv{version}"), 51) > 50, "TLS {version}");
    }
}

#[test]
fn requests_follow_handshakes() {
    let server = Server::start();
    let ca = server.ca("all");
    let common = ["--ca", &ca, "-n", "20", "-c", "4", "--requests", "3"];
    let report = json(0, &[&common[..], &["--path", "/a?b", &target(server.port)]].concat());
    assert_eq!((report.handshakes, report.requests), (20, 60));
    let log = server.requests(60);
    assert_eq!(log.iter().filter(|line| *line == ". TLSv1.3 200 /a?b").count(), 60, "{log:?}");

    let report = json(1, &[&common[..], &["--path", "/missing", &target(server.port)]].concat());
    assert_eq!((report.handshakes, report.requests, report.errors["http:404"]), (20, 0, 20));
}

#[test]
fn requests_and_resumption_go_together() {
    let server = Server::start();
    let report = json(
        0,
        &["--ca", &server.ca("all"), "-n", "30", "--resume", "--requests", "1", &target(server.port)],
    );
    assert_eq!((report.handshakes, report.resumed, report.requests), (30, 30, 30));
    assert_eq!(server.requests(30), ["r TLSv1.3 200 /"; 30]);
}

#[test]
fn key_type_chooses_the_certificate() {
    let server = Server::start();
    for (key_type, other) in [("rsa", "ec"), ("ecdsa", "rsa")] {
        let own = if key_type == "rsa" { "rsa" } else { "ec" };
        for version in ["1.2", "1.3"] {
            let common =
                ["-n", "5", "-c", "1", "--tls", version, "--key-type", key_type, &target(server.port)];
            let report = json(0, &[&["--ca", &server.ca(own)], &common[..]].concat());
            assert_eq!(report.handshakes, 5, "{key_type} {version}");
            json(1, &[&["--ca", &server.ca(other)], &common[..]].concat());
        }
    }
}

#[test]
fn certificates_are_verified() {
    let server = Server::start();
    let target = target(server.port);
    let rsa = ["--key-type", "rsa", "-n", "3", &target];
    let report = json(1, &[&["--ca", &server.ca("ec")], &rsa[..]].concat());
    assert_eq!((report.handshakes, report.errors["certificate:unknown_issuer"]), (0, 3));
    assert_eq!(report.latency_us, None);

    let named = ["--server-name", "www.example.com"];
    let report = json(1, &[&["--ca", &server.ca("rsa")], &named[..], &rsa].concat());
    assert_eq!(report.errors["certificate:not_valid_for_name"], 3);

    // The server's own certificate as the CA: what one has with a self-signed one.
    let own = server.path("rsa.pem");
    json(0, &[&["--ca", own.to_str().unwrap()], &rsa[..]].concat());
    let report = json(1, &[&["--ca", own.to_str().unwrap()], &named[..], &rsa].concat());
    assert_eq!(report.errors["certificate:not_valid_for_name"], 3);

    let report = json(0, &[&["--insecure-chain"], &named[..], &rsa].concat());
    assert_eq!(report.handshakes, 3);
}

#[test]
fn failures_have_names() {
    let nobody = free_port();
    let report = json(1, &["--insecure-chain", "-n", "7", "-c", "3", &target(nobody)]);
    assert_eq!((report.handshakes, report.errors["refused"]), (0, 7));

    let server = Server::start();
    let report = json(1, &["--insecure-chain", "-n", "2", &target(server.forgetful)]);
    assert_eq!(report.errors["alert:protocol_version"], 2);

    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let report =
        json(1, &["--insecure-chain", "-n", "2", "--timeout", "100ms", &format!("127.0.0.1:{port}")]);
    assert_eq!(report.errors["timeout"], 2);
    assert!(report.longest_gap_ms >= 100.0);
}

#[test]
fn errors_can_end_a_run() {
    let port = free_port();
    let report = json(
        1,
        &["--insecure-chain", "-d", "1h", "-c", "2", "--max-errors", "5", &format!("127.0.0.1:{port}")],
    );
    assert!((5..=6).contains(&report.errors["refused"]), "{:?}", report.errors);
}

#[test]
fn open_loop_starts_all_arrivals() {
    let server = Server::start();
    let report = json(0, &["--ca", &server.ca("all"), "--rate", "50", "-d", "2s", &target(server.port)]);
    assert_eq!((report.handshakes, report.rate_asked_per_s), (100, Some(50.0)));
    assert!(report.duration_s >= 2.0);
    assert_eq!(server.handshakes("TLSv1.3", 100), 100);
}

#[test]
fn waiting_counts_as_latency() {
    const STALL_MS: u64 = 500;
    let server = Server::start();
    let proxy = stalling_proxy(server.port, Duration::from_millis(STALL_MS));
    // Twenty arrivals, the last due after 190 ms, and only one connection for all of them.
    let report = json(
        0,
        &["--ca", &server.ca("all"), "--rate", "100", "-n", "20", "-c", "1", &format!("localhost:{proxy}")],
    );
    assert_eq!(report.handshakes, 20);
    let shortest = report.latency_us.unwrap().min;
    assert!(shortest >= (STALL_MS - 200) * 1000, "an arrival during the stall took only {shortest} µs");
}

#[test]
fn wrong_set_up_is_code_2() {
    static NOWHERE: LazyLock<String> = LazyLock::new(|| target(free_port()));
    let server = Server::start();
    for (arguments, said) in [
        (&["localhost"][..], "HOST:PORT"),
        (&["--ca", "/does/not/exist.pem", &NOWHERE], "--insecure-chain"),
        (&["--insecure-chain", "--path", "x", &NOWHERE], "path"),
        (&["--insecure-chain", "--resume", "--tls", "1.2", &target(server.forgetful)], "resumed"),
        (&["--plot", "picture.gif", &NOWHERE], ".png"),
        (&[], "HOST:PORT"),
    ] {
        let output = load(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
}

#[test]
fn results_are_written_to_files() {
    let server = Server::start();
    let files = ["report.json", "picture.svg", "picture.png"].map(|name| server.path(name));
    let [report, svg, png] = files.each_ref().map(|path| path.to_str().unwrap());
    let output = load(&[
        "--ca",
        &server.ca("all"),
        "-n",
        "10",
        "--label",
        "ten of them",
        "--json-file",
        report,
        "--plot",
        svg,
        "--plot",
        png,
        &target(server.port),
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let summary = String::from_utf8(output.stdout).unwrap();
    assert!(summary.contains("ten of them") && summary.contains("handshakes   10 in"), "{summary}");
    let report: Report = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!((report.label.as_str(), report.handshakes), ("ten of them", 10));
    assert!(std::fs::read_to_string(svg).unwrap().contains("<title>ten of them"));
    assert!(std::fs::read(png).unwrap().starts_with(b"\x89PNG"));
}

/// Passes connections on to `port`, the first one after a while. Lives as long as the test.
fn stalling_proxy(port: u16, stall: Duration) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for (number, client) in listener.incoming().map_while(Result::ok).enumerate() {
            if number == 0 {
                std::thread::sleep(stall);
            }
            let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            for (from, to) in [(&client, &server), (&server, &client)] {
                let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                std::thread::spawn(move || pass_on(&mut from, &mut to));
            }
        }
    });
    proxy
}

fn pass_on(from: &mut TcpStream, to: &mut TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
