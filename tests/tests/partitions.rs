//! As many partitions as a daemon has, each a slot of the PKCS#11 module, seen by pkcs11-tool.

// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;
use std::fs;

use strongroom_tests::Bench;
use strongroom_tests::place::TOKEN;

const PARTITIONS: usize = 100;

/// What stands behind a heading of pkcs11-tool's, in every line that has it.
fn all<'a>(said: &'a str, heading: &str) -> Vec<&'a str> {
    let lines = said.lines().filter_map(|line| line.trim().strip_prefix(heading));
    lines.map(|rest| rest.trim_start_matches([' ', ':']).trim()).collect()
}

#[test]
fn a_hundred_partitions_are_a_hundred_slots() {
    let bench = Bench::new().unwrap();
    let daemon = &bench.partition.daemon;
    let password = bench.file("officer.password");
    fs::write(&password, "a password of officers\n").unwrap();
    let own = rustix::process::getuid().as_raw().to_string();
    let init = |label: &str| {
        daemon.manage(&["init", label, "--admit", &own, "--officer-password-file", &password]).map(drop)
    };
    // One is there.
    let mut labels = vec![TOKEN.to_owned()];
    for number in 1..PARTITIONS {
        let label = format!("tenant {number}");
        init(&label).unwrap();
        labels.push(label);
    }
    let refused = init("one more").unwrap_err().to_string();
    assert!(refused.contains("100 partitions"), "{refused}");

    let slots = bench.pkcs11_tool(&["--list-slots"]).unwrap();
    assert_eq!(all(&slots, "token label"), labels);
    let serials: HashSet<&str> = all(&slots, "serial num").into_iter().collect();
    assert_eq!(serials.len(), PARTITIONS);

    // The same label and id in two of them: each token shows its own key, and the others show none.
    let in_token = |token: &str, arguments: &[&str]| {
        bench.pkcs11_tool(&[&["--token-label", token][..], arguments].concat()).unwrap()
    };
    let mut points = HashSet::new();
    for token in ["tenant 1", "tenant 99"] {
        assert!(all(&in_token(token, &["--list-objects"]), "label").is_empty());
        let key = ["--keypairgen", "--key-type", "EC:prime256v1", "--label", "web", "--id", "01"];
        in_token(token, &key);
        let objects = in_token(token, &["--list-objects"]);
        assert_eq!(all(&objects, "label"), ["web", "web"], "{objects}");
        points.extend(all(&objects, "EC_POINT").into_iter().map(str::to_owned));
    }
    assert_eq!(points.len(), 2, "{points:?}");
    let other = in_token("tenant 50", &["--list-objects"]);
    assert!(all(&other, "label").is_empty(), "{other}");
}
