//! Two faults, once each: the hosts, the cluster and what is counted, from end to end. Not that anything is quick.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use strongroom_demo::command;
use strongroom_demo::run_folder::is_root;
use strongroom_faults::fault::Fault;
use strongroom_faults::results::Results;

/// The hosts are made by root, where the system lets it.
fn can_make_hosts() -> bool {
    let enter = || {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--net", "--pid", "--fork", "--mount-proc", "true"]);
        unshare.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    is_root() && Path::new("/dev/net/tun").exists() && enter()
}

fn run(arguments: &[&str], limit: Duration) -> Results {
    let folder = tempfile::tempdir().unwrap();
    let mut faults = command::new(env!("CARGO_BIN_EXE_strongroom-faults"));
    // How long a handshake waits is the machine's to say.
    faults.args(["--stall", "1h", "--out"]).arg(folder.path()).args(arguments);
    let finished = command::run(faults, limit).unwrap();
    let printed = String::from_utf8_lossy(&finished.stdout);
    assert!(finished.status.success(), "{}\n{printed}", finished.stderr);
    println!("{printed}");
    assert!(fs::read_to_string(folder.path().join("faults.svg")).unwrap().contains("</svg>"));
    serde_json::from_slice(&fs::read(folder.path().join("faults.json")).unwrap()).unwrap()
}

#[test]
fn a_node_that_is_killed_and_one_that_is_cut_off_fail_no_handshake_and_lose_no_key() {
    if !can_make_hosts() {
        println!("not as root, or where namespaces and /dev/net/tun are missing");
        return;
    }
    let arguments = ["--faults", "kill,cut", "--times", "1", "--hold", "3s", "--workers", "2"];
    let results = run(&arguments, Duration::from_secs(500));
    let faults: Vec<_> = results.outcomes.iter().map(|outcome| outcome.fault).collect();
    assert_eq!(faults, [Fault::Kill, Fault::Cut]);
    for outcome in &results.outcomes {
        assert!(outcome.handshakes > 0 && outcome.failed == 0, "{outcome:?}");
        assert!(outcome.keys.acknowledged > 0 && outcome.moments.len() == 1, "{outcome:?}");
    }
}

#[test]
#[ignore = "an hour: each fault 20 times"]
fn each_fault_twenty_times() {
    assert!(can_make_hosts(), "root, namespaces and /dev/net/tun are needed");
    let results = run(&["--times", "20"], Duration::from_secs(2 * 3600));
    assert_eq!(results.outcomes.len(), Fault::all().len());
}
