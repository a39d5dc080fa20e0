//! The systemd units: how exposed the service is, and whether the daemon takes the sockets that systemd opens for it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

mod running;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use running::*;
use strongroom_protocol::client::{Connection, Deadlines};

fn unit(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn run(command: &mut Command) -> (bool, String) {
    let output = command.stdin(Stdio::null()).output().expect("Debian's package systemd");
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.success(), said)
}

#[test]
fn the_service_is_hardly_exposed() {
    let analyze = |file: &Path| {
        run(Command::new("systemd-analyze").args(["security", "--offline=true", "--threshold=20"]).arg(file))
    };
    let (safe, said) = analyze(&unit("strongroomd.service"));
    assert!(safe, "more than 2.0: {said}");
    // The threshold is one that a unit can miss.
    let folder = tempfile::tempdir().unwrap();
    let open = folder.path().join("open.service");
    std::fs::write(&open, "[Service]\nExecStart=/bin/true\n").unwrap();
    assert!(!analyze(&open).0);
}

#[test]
fn systemd_understands_the_units() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no", "--generators=no"]);
    for name in ["strongroomd.service", "strongroomd.socket", "strongroomd-metrics.socket"] {
        // The daemon is not installed here.
        let text = std::fs::read_to_string(unit(name)).unwrap();
        let text = text.replace("/usr/local/bin/strongroomd", env!("CARGO_BIN_EXE_strongroomd"));
        std::fs::write(folder.path().join(name), text).unwrap();
        command.arg(folder.path().join(name));
    }
    let drop_ins = folder.path().join("strongroomd.service.d");
    std::fs::create_dir(&drop_ins).unwrap();
    for name in ["audit-syslog.conf", "cluster.conf"] {
        std::fs::copy(unit(name), drop_ins.join(name)).unwrap();
    }
    let (_, said) = run(&mut command);
    // What it says of other units on the machine is not about ours.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("strongroomd")).collect();
    assert!(ours.is_empty(), "{ours:#?}");
}

/// A port that was free a moment ago.
fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn ask(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_first_client_starts_the_daemon_and_systemd_opens_its_port() {
    let directory = tempfile::tempdir().unwrap();
    let (socket, metrics) = (directory.path().join("socket"), free_port());
    let mut child = Command::new("systemd-socket-activate")
        .arg("--listen")
        .arg(&socket)
        .arg(format!("--listen={metrics}"))
        .arg("--fdname=clients:metrics")
        .arg(format!("--setenv=STRONGROOM_STATE_DIR={}", directory.path().join("state").display()))
        .arg(format!("--setenv=STRONGROOM_SOCKET={}", socket.display()))
        .arg(env!("CARGO_BIN_EXE_strongroomd"))
        .stderr(Stdio::null())
        .spawn()
        .expect("Debian's package systemd");
    let until = Instant::now() + Duration::from_secs(60);
    while Connection::open(&socket, "test", Deadlines::default()).is_err() {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        assert!(Instant::now() < until, "no daemon");
        std::thread::sleep(Duration::from_millis(20));
    }
    let process = Process { child, socket };
    process.client().make_partition("tls");
    // The daemon itself may open no socket of the network: this one it was given.
    let answer = ask(metrics, "/metrics");
    assert!(answer.contains("strongroom_objects{partition=\"tls\"} 0"), "{answer}");
}
