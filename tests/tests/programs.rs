//! Servers besides nginx and Apache, each with keys in our partition and in tokens that somebody else wrote: full handshakes
//! with a client that verifies the certificate, and what is said when something is missing at the start.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use strongroom_demo::command;
use strongroom_demo::pki::{KeyKind, openssl, text};
use strongroom_demo::programs::system;
use strongroom_demo::server::Site;
use strongroom_tests::servers::{MORE, Program};
use strongroom_tests::{Bench, Keys, Place};

/// Longer than the client's deadlines, with room for a slow machine.
const SOON: Duration = Duration::from_secs(25);

/// A key with its certificate and its reference file.
struct Served {
    key: Keys,
    certificate: PathBuf,
    reference: PathBuf,
}

impl Served {
    fn new(bench: &Bench, key: Keys) -> Self {
        let (certificate, reference) = (key.certify(bench).unwrap(), key.reference(bench).unwrap());
        Served { key, certificate, reference }
    }

    fn by(&self, bench: &Bench, program: Program) -> Site {
        let folder = bench.run.folder(&format!("{}-{}", program.name, self.key.kind.name())).unwrap();
        Site::new(folder, &self.certificate, &text(&self.reference), &self.key.environment)
    }
}

fn serve(place: Place) {
    let bench = Bench::new().unwrap();
    let ca = bench.authority.certificate();
    for key in bench.keys(place, &[KeyKind::Rsa2048, KeyKind::P256]).unwrap() {
        let served = Served::new(&bench, key);
        for program in MORE {
            let name = format!("{} {place:?} {}", program.name, served.key.kind.title());
            let site = served.by(&bench, program);
            let server = (program.start)(&site).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            for version in ["-tls1_2", "-tls1_3", "-tls1_3"] {
                let done = (program.request)(&server, version, &ca).unwrap();
                assert!(done.status.success(), "{name} {version}\n{}\n{}", done.stderr, server.said());
            }
        }
    }
}

#[test]
fn programs_serve_with_keys_in_the_partition() {
    serve(Place::Partition);
}

#[test]
fn programs_serve_with_keys_in_softhsm() {
    serve(Place::SoftHsm);
}

#[test]
#[ignore = "needs tests/kryoptic, which takes minutes to build"]
fn programs_serve_with_keys_in_kryoptic() {
    serve(Place::Kryoptic);
}

/// Starts each program, which must fail soon; what they say.
fn refused(bench: &Bench, served: &Served, change: impl Fn(Site) -> Site) -> Vec<(&'static str, String)> {
    let said = MORE.map(|program| {
        let site = change(served.by(bench, program));
        let begun = Instant::now();
        let error = (program.start)(&site).err().unwrap_or_else(|| panic!("{} starts", program.name));
        assert!(begun.elapsed() < SOON, "{} took {:?}", program.name, begun.elapsed());
        (program.name, format!("{error:#}"))
    });
    said.into()
}

#[test]
fn programs_say_that_the_token_is_away() {
    let mut bench = Bench::new().unwrap();
    let served = Served::new(&bench, bench.keys(Place::Partition, &[KeyKind::P256]).unwrap().remove(0));
    bench.partition.daemon.stop();
    for (program, said) in refused(&bench, &served, |site| site) {
        let word = match program {
            // They show nothing of what is on OpenSSL's error queue below its own entry: the openssl command tells more.
            "lighttpd" => "couldn't read private key from",
            "python" => "PEM lib",
            _ => "token not found; is its service (strongroomd) running",
        };
        assert!(said.contains(word), "{program}: {word:?} is missing in:\n{said}");
    }
    let check = openssl(&served.key.environment, "pkey -noout -in {}", &[&text(&served.reference)]).unwrap();
    let said = command::run(check, SOON).unwrap().stderr;
    assert!(said.contains("is the token (strongroomd) running"), "{said}");
}

#[test]
fn programs_name_a_key_file_that_is_missing() {
    let bench = Bench::new().unwrap();
    let served = Served::new(&bench, bench.keys(Place::Partition, &[KeyKind::P256]).unwrap().remove(0));
    let missing = |mut site: Site| {
        site.key = "/nowhere/web.ref.pem".into();
        site
    };
    for (program, said) in refused(&bench, &served, missing) {
        assert!(said.contains("/nowhere/web.ref.pem"), "{program}: {said}");
    }
}

/// Node.js has a copy of libcrypto in its own program. The provider calls that one, and brings no other into the process.
#[test]
fn the_provider_uses_the_copy_of_libcrypto_that_loads_it() {
    let bench = Bench::new().unwrap();
    let libraries = |arguments: &[String]| {
        let mut node = command::new(system("node").unwrap());
        bench.partition.daemon.client_environment().apply(&mut node);
        node.args(arguments).args(["-p", "require('fs').readFileSync('/proc/self/maps', 'utf8')"]);
        let maps = command::succeed(node, SOON).unwrap();
        let named = maps.lines().filter_map(|line| Some(line.rsplit_once('/')?.1.to_owned()));
        named.filter(|name| name.contains(".so")).collect::<BTreeSet<_>>()
    };
    let configuration = format!("--openssl-config={}", bench.file("openssl.cnf"));
    let with = libraries(&[configuration, "--openssl-shared-config".into()]);
    assert!(with.contains("libstrongroom_provider.so"), "{with:?}");
    let copies = |of: &BTreeSet<String>| {
        of.iter().filter(|name| name.contains("crypto.so")).cloned().collect::<Vec<_>>()
    };
    assert_eq!(copies(&with), copies(&libraries(&[])));
}
