//! What root gets from the running daemon: a core taken by gdb, and what is left when the daemon dies.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

mod running;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use running::{PASSWORD, Process, USER};
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

fn openssl(folder: &Path, arguments: &str) -> Vec<u8> {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The numbers of a private key as openssl prints them: a name, then bytes in hexadecimal.
fn numbers(text: &str, names: &[&str]) -> Vec<Vec<u8>> {
    names
        .iter()
        .map(|name| {
            let lines = text.lines().skip_while(|line| line.trim() != format!("{name}:")).skip(1);
            let hex: String = lines.take_while(|line| line.starts_with("    ")).map(str::trim).collect();
            let bytes: Vec<u8> = hex
                .split(':')
                .filter(|byte| !byte.is_empty())
                .map(|byte| u8::from_str_radix(byte, 16).unwrap())
                .collect();
            bytes.into_iter().skip_while(|byte| *byte == 0).collect()
        })
        .inspect(|number: &Vec<u8>| assert!(number.len() >= 31))
        .collect()
}

/// Pieces of a secret number in each form that it may have in memory: 24 bytes of its middle, big-endian as it is stored,
/// little-endian as it is computed with, and in words of 64 bits the other way round.
fn forms(number: &[u8]) -> Vec<Vec<u8>> {
    let even = &number[number.len() % 8..];
    let little: Vec<u8> = number.iter().rev().copied().collect();
    let swapped: Vec<u8> = even.chunks(8).flat_map(|word| word.iter().rev().copied()).collect();
    [number.to_vec(), little, swapped]
        .into_iter()
        .map(|bytes| {
            let start = (bytes.len().saturating_sub(24) / 2).next_multiple_of(8).min(bytes.len() - 24);
            bytes[start..start + 24].to_vec()
        })
        .collect()
}

fn found(haystack: &[u8], needles: &[Vec<u8>]) -> usize {
    needles.iter().map(|needle| memchr::memmem::find_iter(haystack, needle).count()).sum()
}

#[test]
fn a_core_of_the_running_daemon_holds_no_key() {
    if !rustix::process::geteuid().is_root() {
        // Others may not even attach: hsm/tests/memory.rs.
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    openssl(at, "genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.pem");
    openssl(at, "genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec.pem");
    let text = |file: &str| String::from_utf8(openssl(at, &format!("pkey -in {file} -noout -text"))).unwrap();
    let rsa = numbers(
        &text("rsa.pem"),
        &["privateExponent", "prime1", "prime2", "exponent1", "exponent2", "coefficient"],
    );
    let ec = numbers(&text("ec.pem"), &["priv"]);
    let needles: Vec<Vec<u8>> = rsa.iter().chain(&ec).flat_map(|number| forms(number)).collect();

    let process = Process::start(at);
    let mut client = process.client();
    client.make_partition("tls");
    client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    let label = "a label, which is no secret and is found";
    for (file, mechanism, data) in
        [("rsa.pem", Mechanism::RsaPkcs, &[1; 51][..]), ("ec.pem", Mechanism::Ecdsa, &[1; 32])]
    {
        let pkcs8 = openssl(at, &format!("pkcs8 -topk8 -nocrypt -outform DER -in {file}"));
        assert!(found(&pkcs8, &needles) > 0, "the needles are those of the key");
        let template = KeyTemplate { label: label.to_owned(), ..KeyTemplate::default() };
        let import = ImportKeyPair { pkcs8, private_key: Some(template), ..ImportKeyPair::default() };
        let pair = client.objects(Op::ImportKeyPair(import)).unwrap();
        for _ in 0..50 {
            client.sign(&pair[0], mechanism, None, data).unwrap();
        }
    }
    let response::Result::Status(status) = client.call(Op::Status(Status {})).unwrap() else { panic!() };

    let output = Command::new("gcore")
        .arg("-o")
        .arg(at.join("core"))
        .arg(process.child.id().to_string())
        .stdin(Stdio::null())
        .output()
        .expect("Debian's package gdb ('demo/install tests' installs it)");
    let core = fs::read(at.join(format!("core.{}", process.child.id())));
    let core = core.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    assert!(found(&core, &[label.as_bytes().to_vec()]) > 0, "the core has the daemon's memory");
    if status.memory == "memfd_secret" {
        assert_eq!(found(&core, &needles), 0, "a key lies in memory that root can read");
    }
    // Running on, it signs.
    client.call(Op::Status(Status {})).unwrap();
}

/// The daemon may leave no core, whatever ends it: neither a file nor anything for the program that the kernel's core pattern names.
#[test]
fn a_daemon_that_dies_leaves_no_core() {
    use std::os::unix::process::ExitStatusExt;
    let directory = tempfile::tempdir().unwrap();
    let mut command = Process::command(directory.path());
    command.current_dir(directory.path());
    let mut process = Process::spawn(command, directory.path());
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.child.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
    let pid = rustix::process::Pid::from_child(&process.child);
    rustix::process::kill_process(pid, rustix::process::Signal::ABORT).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let status = loop {
        if let Some(status) = process.child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(status.signal().is_some() && !status.core_dumped(), "{status}");
}
