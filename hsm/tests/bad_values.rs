//! Every option of strongroomd, on the command line and in the environment, with values that are none: it does not start, and says
//! which one it was.

#![allow(clippy::unwrap_used, clippy::panic)]

mod running;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use running::Process;

/// A number that fits no counter: 2^63.
const HUGE: &str = "9223372036854775808";

/// Longer than a socket's path may be.
const LONG: &str = "/tmp/0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345";

/// Each option with values that are none, and what it needs to be looked at.
const OPTIONS: [(&str, &[&str], &[&str]); 22] = [
    ("--tls", &["", "localhost:1", "127.0.0.1", "127.0.0.1:65536"], &["--tls-client-ca=cert.pem"]),
    ("--tls-client-ca", &["", "no-such-file", "a-file"], &["--tls=127.0.0.1:0"]),
    ("--tls-certificates", &["", "sometimes"], &[]),
    ("--state-dir", &["", "a-file", "/proc/no-such-directory"], &[]),
    ("--socket", &["", "a-file", "/proc/no-such-directory/socket", LONG], &[]),
    ("--socket-mode", &["", "888", "1777", "-1", "+660", "rw", HUGE], &[]),
    (
        "--metrics",
        &["", "localhost:1", "127.0.0.1", "127.0.0.1:65536", "0.0.0.0:9823", "[::]:9823", "300.0.0.1:1"],
        &[],
    ),
    ("--audit-dir", &["", "a-file", "/proc/no-such-directory"], &[]),
    ("--audit-keep-days", &["", "0", "-1", "1d", "4294967296", HUGE], &[]),
    ("--audit-file-size", &["", "0", "-1", "1025", "64M", HUGE], &[]),
    (
        "--audit-sink",
        &[
            "",
            "syslog",
            "syslog+udp://",
            "syslog+tcp://host:1",
            "syslog+udp://host:0",
            "syslog+udp://host:65536",
            "journald,journald",
        ],
        &[],
    ),
    ("--audit-ca", &["", "no-such-file", "a-file"], &["--audit-sink=syslog+tls://localhost:6514"]),
    (
        "--audit-certificate",
        &["", "no-such-file", "a-file"],
        &["--audit-sink=syslog+tls://localhost:6514", "--audit-key=a-file"],
    ),
    (
        "--audit-key",
        &["", "no-such-file", "a-file"],
        &["--audit-sink=syslog+tls://localhost:6514", "--audit-certificate=cert.pem"],
    ),
    ("--audit-facility", &["", "local8", "-1", HUGE], &[]),
    ("--etcd", &["", "https://", "http://localhost:2379", "localhost:2379", "https://localhost:65536"], &[]),
    (
        "--etcd-ca",
        &["", "no-such-file", "a-file", "key.pem"],
        &["--etcd=https://localhost:2379", "--etcd-cert=cert.pem", "--etcd-key=key.pem"],
    ),
    (
        "--etcd-cert",
        &["", "no-such-file", "a-file", "key.pem"],
        &["--etcd=https://localhost:2379", "--etcd-ca=cert.pem", "--etcd-key=key.pem"],
    ),
    (
        "--etcd-key",
        &["", "no-such-file", "a-file", "cert.pem"],
        &["--etcd=https://localhost:2379", "--etcd-ca=cert.pem", "--etcd-cert=cert.pem"],
    ),
    ("--cluster-lease", &["", "-1", "15m", "2592001", HUGE], &[]),
    ("--log-format", &["", "xml"], &[]),
    ("--log", &["", "strongroom=loud", "a=b=c"], &[]),
];

/// What a daemon says that does not start.
fn refused(mut command: Command) -> Result<String, String> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > until {
            child.kill().unwrap();
            let said = child.wait_with_output().unwrap().stderr;
            return Err(format!("it runs: {}", String::from_utf8_lossy(&said)));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    if output.status.success() { Err(format!("it succeeds: {said}")) } else { Ok(said) }
}

#[test]
fn every_value_is_checked_and_named() {
    let help = Process::command("/".as_ref()).arg("--help").output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    let mut bad = String::new();
    for line in help.lines().map(str::trim_start).filter(|line| line.starts_with("--") && line.contains(" <"))
    {
        let option = line.split(' ').next().unwrap();
        if !OPTIONS.iter().any(|(known, ..)| *known == option) {
            bad.push_str(&format!("{option} is not in this test\n"));
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    std::fs::write(at.join("a-file"), "this is no PEM, and no directory").unwrap();
    let certificate = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=a",
        ])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(at)
        .output()
        .unwrap();
    assert!(certificate.status.success());
    for (option, values, with) in OPTIONS {
        let variable = help
            .lines()
            .skip_while(|line| !line.trim_start().starts_with(&format!("{option} <")))
            .find_map(|line| line.trim().strip_prefix("[env: ")?.split('=').next());
        // Its own, and not that of an option further down.
        let variable = variable.filter(|name| *name == variable_of(option));
        for value in values {
            for by_environment in [false, true] {
                let mut command = Process::command(at);
                command.current_dir(at).args(with);
                match (by_environment, variable) {
                    // The last one counts: the test's own stand before it. In the environment none stands against it.
                    (false, _) => drop(command.arg(format!("{option}={value}"))),
                    (true, Some(name)) if !["--state-dir", "--socket"].contains(&option) => {
                        command.env(name, value);
                        // An empty variable is one that is not set.
                        if value.is_empty() {
                            continue;
                        }
                    }
                    _ => continue,
                }
                match refused(command) {
                    Ok(said) if said.contains(option) || !value.is_empty() && said.contains(value) => {}
                    Ok(said) => bad.push_str(&format!("{option}={value} is not named: {said}\n")),
                    Err(why) => bad.push_str(&format!("{option}={value}: {why}\n")),
                }
            }
        }
    }
    assert!(bad.is_empty(), "{bad}");
}

/// What is said about something that is not there.
#[test]
fn an_option_that_would_do_nothing_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let tls = ["--audit-ca", "--audit-certificate", "--audit-key"];
    let mut cases = vec![
        (vec!["--tls-client-ca", "cert.pem"], "--tls"),
        (vec!["--tls-certificates", "optional"], "--tls"),
        (vec!["--tls", "127.0.0.1:0"], "--tls-client-ca"),
        (vec!["--metrics-from-anywhere"], "--metrics"),
        (vec!["--audit-facility", "local0"], "--audit-sink"),
        (vec!["--audit-facility", "audit", "--audit-sink", "journald"], "--audit-sink"),
    ];
    cases.push((vec![tls[0], "cert.pem", "--audit-sink", "syslog+udp://127.0.0.1:514"], "--audit-sink"));
    cases.push((vec![tls[1], "cert.pem", tls[2], "key.pem"], "--audit-sink"));
    cases.push((vec![tls[1], "cert.pem"], tls[2]));
    cases.push((vec![tls[2], "key.pem"], tls[1]));
    cases.extend(
        ["--etcd-ca", "--etcd-cert", "--etcd-key"].map(|option| (vec![option, "cert.pem"], "--etcd https")),
    );
    for (given, needs) in &cases {
        let mut command = Process::command(at);
        command.current_dir(at).args(given);
        let said = refused(command).unwrap_or_else(|why| panic!("{given:?}: {why}"));
        assert!(said.contains(given[0]) && said.contains(needs), "{given:?}: {said}");
    }
    let mut command = Process::command(at);
    command.current_dir(at).env("STRONGROOM_TLS_CLIENT_CA", "cert.pem");
    let said = refused(command).unwrap();
    assert!(said.contains("--tls-client-ca") && said.contains("--tls 10"), "{said}");
}

fn variable_of(option: &str) -> String {
    let name = option.trim_start_matches('-').replace('-', "_").to_ascii_uppercase();
    format!("STRONGROOM_{name}")
}
