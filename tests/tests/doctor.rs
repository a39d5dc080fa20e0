//! `strongroom doctor` on a set-up that works: the provider, the module, the daemon and a certificate, all real.

// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::time::Duration;

use strongroom_demo::command;
use strongroom_demo::pki::KeyKind;
use strongroom_tests::Bench;
use strongroom_tests::place::Place;

#[test]
fn a_server_that_works_has_no_problems() {
    let bench = Bench::new().unwrap();
    let keys = bench.keys(Place::Partition, &[KeyKind::P256]).unwrap().remove(0);
    let certificate = keys.certify(&bench).unwrap();
    let site = bench.file("site.conf");
    let text =
        format!("ssl_certificate {};\nssl_certificate_key \"store:{}\";\n", certificate.display(), keys.uri);
    fs::write(&site, text).unwrap();
    let mut doctor = command::new(bench.programs.strongroom());
    keys.environment.apply(&mut doctor);
    doctor.args(["doctor", &site]);
    let said = command::succeed(doctor, Duration::from_secs(60)).unwrap();
    for found in ["loads the provider, release", "answers", "belongs to the certificate", "0 problems"] {
        assert!(said.contains(found), "{found}:\n{said}");
    }
}
