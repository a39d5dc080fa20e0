//! nginx and Apache with every kind of key, in our partition and in SoftHSM2, started in both ways.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anyhow::Result;
use strongroom_demo::pki::{KeyKind, text};
use strongroom_demo::server::{Server, Site};
use strongroom_demo::{apache, nginx};
use strongroom_tests::{Bench, Place, traffic};

type Starter = fn(&Site) -> Result<Server>;

/// Debian's Apache takes the URI; nginx 1.22 takes a reference file.
fn serves_every_kind(program: &str, start: Starter, place: Place) {
    let bench = Bench::new().unwrap();
    for key in bench.keys(place, &KeyKind::TYPES).unwrap() {
        let name = format!("{program} {place:?} {}", key.kind.title());
        let certificate = key.certify(&bench).unwrap();
        let named = if program == "nginx" { text(&key.reference(&bench).unwrap()) } else { key.uri.clone() };
        let folder = |kind| bench.run.folder(&format!("{program}-{}-{kind}", key.kind.name())).unwrap();
        let foreground = Site::new(folder("foreground"), &certificate, &named, &key.environment);
        let daemon = Site { folder: folder("daemon"), ..foreground.clone() }.as_daemon();
        for site in [foreground, daemon] {
            let server = start(&site).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            for version in ["-tls1_2", "-tls1_3"] {
                let done = traffic::handshake(server.port, version, &bench.authority.certificate()).unwrap();
                assert!(done.status.success(), "{name} {version}\n{}\n{}", done.stderr, server.errors());
            }
        }
    }
}

#[test]
fn nginx_with_keys_in_the_partition() {
    serves_every_kind("nginx", nginx::start, Place::Partition);
}

#[test]
fn nginx_with_keys_in_softhsm() {
    serves_every_kind("nginx", nginx::start, Place::SoftHsm);
}

#[test]
fn apache_with_keys_in_the_partition() {
    serves_every_kind("apache", apache::start, Place::Partition);
}

#[test]
fn apache_with_keys_in_softhsm() {
    serves_every_kind("apache", apache::start, Place::SoftHsm);
}

/// The two files for nginx differ only in how the key is named and in the words of nginx 1.25.1 for HTTP/2.
#[test]
fn the_configurations_for_old_and_new_nginx_are_the_same() {
    let read = |name: &str| {
        let text = std::fs::read_to_string(strongroom_demo::programs::repository(name)).unwrap();
        let lines = text.lines().map(|line| line.trim().to_owned());
        lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect::<Vec<_>>()
    };
    let (old, new) = (read("nginx-conf/nginx-1.22.conf"), read("nginx-conf/nginx-1.29.conf"));
    let only = |of: &[String], other: &[String]| {
        of.iter().filter(|line| !other.contains(line)).cloned().collect::<Vec<_>>()
    };
    assert_eq!(
        only(&old, &new),
        ["listen 443 ssl http2;", "ssl_certificate_key /etc/strongroom/web.ref.pem;"]
    );
    assert_eq!(
        only(&new, &old),
        [
            "listen 443 ssl;",
            "http2 on;",
            "ssl_certificate_key \"store:pkcs11:token=tls;object=web;type=private\";"
        ]
    );
}
