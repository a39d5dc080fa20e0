//! What a key in a token does beyond TLS signatures: decrypts, agrees on secrets, signs in every way that openssl knows; and what
//! the provider leaves alone. Each result is checked by openssl without our provider.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod agreement;
mod commands;
mod curves;
mod decryption;
mod left_alone;
mod signatures;

use std::fs;
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use strongroom_demo::command::{self, Finished};
use strongroom_demo::environment::Environment;
use strongroom_demo::pki::{KeyKind, openssl, run_openssl};
use strongroom_demo::process::{Process, wait_for};
use strongroom_demo::server::free_port;
use strongroom_tests::{Bench, Keys, Place};

const LIMIT: Duration = Duration::from_secs(30);

const BOTH: [Place; 2] = [Place::Partition, Place::SoftHsm];

fn plain(arguments: &str, values: &[&str]) -> String {
    run_openssl(&Environment::plain(), arguments, values).unwrap()
}

/// Runs openssl, which may fail.
fn attempt(environment: &Environment, arguments: &str, values: &[&str]) -> Finished {
    command::run(openssl(environment, arguments, values).unwrap(), LIMIT).unwrap()
}

/// What openssl said of a failure, without the thread's number.
fn reasons(finished: &Finished) -> Vec<String> {
    assert!(!finished.status.success());
    finished
        .stderr
        .lines()
        .map(|line| line.split_once(':').map_or(line, |(_, rest)| rest).to_owned())
        .collect()
}

/// A key of 2,048 bits that may sign and decrypt.
fn decrypting_key(bench: &Bench, place: Place) -> Keys {
    match place {
        Place::Partition => {
            let name = KeyKind::Rsa2048.name();
            let usage = ["--type", name, "--usage", "sign,decrypt"];
            bench.partition.manage(&[&["key", "generate", name], &usage[..]].concat()).unwrap();
            bench.partition.grant(name, "tls-server-rsa").unwrap();
            let uri = bench.partition.short_uri(name);
            Keys::new(bench, place, KeyKind::Rsa2048, uri, bench.partition.environment()).unwrap()
        }
        _ => bench.keys(place, &[KeyKind::Rsa2048]).unwrap().remove(0),
    }
}

/// A configuration with more lines in the provider's section.
fn with_settings(bench: &Bench, key: &Keys, lines: &str) -> Environment {
    let own = key.environment.value("OPENSSL_CONF").unwrap();
    let text = fs::read_to_string(own).unwrap();
    let file = bench.file("more.cnf");
    fs::write(&file, text.replace("[strongroom_sect]\n", &format!("[strongroom_sect]\n{lines}\n"))).unwrap();
    key.environment.clone().with("OPENSSL_CONF", file)
}

/// Starts `openssl s_server` with a key and a certificate; returns it with its address.
fn s_server(environment: &Environment, options: &str, key: &str, certificate: &str) -> (Process, String) {
    let address = format!("127.0.0.1:{}", free_port().unwrap());
    let server = format!("s_server -quiet -www {options} -accept {{}} -key {{}} -cert {{}}");
    let mut server = openssl(environment, &server, &[&address, key, certificate]).unwrap();
    server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Process::spawn("openssl", server).unwrap();
    wait_for("s_server", LIMIT, || Ok(TcpStream::connect(&address)?)).unwrap();
    (server, address)
}
