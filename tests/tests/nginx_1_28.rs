//! A newer nginx than Debian's, built from the source that the crate nginx-src carries.
//!
//! That is 1.28.3, the last line that knows no `store:` URIs. nginx 1.29, for which nginx-conf/nginx-1.29.conf
//! is written, comes with no crate and no package of Debian 12: that file is compared with the one for nginx
//! 1.22 (tests/servers.rs), and its syntax is checked here, with a reference file in the place of the URI.

// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::time::Duration;

use strongroom_demo::command;
use strongroom_demo::nginx;
use strongroom_demo::pki::{KeyKind, text};
use strongroom_demo::process::wait_for;
use strongroom_demo::server::Site;
use strongroom_tests::{Bench, Place, newer, traffic};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
#[ignore = "builds nginx: half a minute"]
fn nginx_1_28_serves_with_a_reference_file() {
    let bench = Bench::new().unwrap();
    let program = newer::built("nginx-1.28").unwrap().join("nginx");
    let keys = bench.keys(Place::Partition, &KeyKind::TYPES).unwrap();
    for key in &keys {
        let certificate = key.certify(&bench).unwrap();
        let reference = text(&bench.partition.reference(key.kind.name()).unwrap());
        let folder = bench.run.folder(key.kind.name()).unwrap();
        let site = Site::new(folder, &certificate, &reference, &key.environment).as_daemon();
        let server = nginx::start_program(program.clone(), &site).unwrap();
        for version in ["-tls1_2", "-tls1_3"] {
            let done = traffic::handshake(server.port, version, &bench.authority.certificate()).unwrap();
            assert!(done.status.success(), "{version} {}\n{}", done.stderr, server.errors());
        }
        server.tell(&["-s", "reload"]).unwrap();
        // A worker that the reload ends closes a connection on which the client has not yet said anything.
        wait_for("a handshake after the reload", Duration::from_secs(5), || {
            let done = traffic::handshake(server.port, "-tls1_3", &bench.authority.certificate())?;
            anyhow::ensure!(done.status.success(), "{}\n{}", done.stderr, server.errors());
            Ok(())
        })
        .unwrap();
    }
    let key = keys.first().unwrap();
    let reference = text(&bench.partition.reference(key.kind.name()).unwrap());
    let folder = bench.run.folder("new").unwrap();
    let (file, _) =
        nginx::configure(&Site::new(folder, &key.certify(&bench).unwrap(), &key.uri, &key.environment))
            .unwrap();
    let configured = fs::read_to_string(&file).unwrap();
    let named = format!("\"store:{}\"", key.uri);
    assert!(configured.contains(&named) && configured.contains("http2 on;"), "{configured}");
    fs::write(&file, configured.replace(&named, &reference)).unwrap();
    let mut check = command::new(&program);
    key.environment.apply(&mut check);
    check.arg("-t").arg("-c").arg(&file);
    command::succeed(check, LIMIT).unwrap();
}
