//! monitoring/: promtool takes the alert rules and the daemon's metrics, the rules' own tests pass, and each metric that rules
//! and dashboard name is one that the daemon has.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

mod looking;
mod running;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use looking::Looking;
use running::*;
use strongroom_protocol::v1::*;

fn monitoring(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../monitoring").join(file)
}

fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir(monitoring(""))
        .stdin(Stdio::null())
        .output()
        .expect("Debian's package prometheus ('demo/install tests' installs it)");
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
}

#[test]
fn promtool_takes_the_rules_and_their_tests() {
    promtool(&["check", "rules", "strongroom.rules.yml"]);
    promtool(&["test", "rules", "strongroom.rules.test.yml"]);
}

/// The words of a text that are names of our metrics or of the process's.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words
        .filter(|word| word.starts_with("strongroom_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

/// A daemon in which each family has a sample.
fn used() -> Looking {
    // Nobody is there.
    let looking = Looking::start_with(&["--audit-sink=journald:/nowhere/socket"]);
    let mut client = looking.process.client();
    client.make_partition("tls");
    client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    let keys = client.generate(KeyType::Rsa2048, "key").unwrap();
    client.sign(&keys[0], Mechanism::RsaPkcs, None, &[1; 51]).unwrap();
    client.sign(&keys[0], Mechanism::RsaPkcs, None, &[1; 500]).unwrap_err();
    looking
}

#[test]
fn rules_and_dashboard_name_metrics_that_there_are() {
    let metrics = used().metrics();
    let samples = metrics.text.lines().filter(|line| !line.starts_with('#'));
    let known: BTreeSet<&str> = samples.filter_map(|line| line.split(['{', ' ']).next()).collect();
    let dashboard: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(monitoring("strongroom.dashboard.json")).unwrap())
            .unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let queries = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let queries: String = queries.map(|target| format!("{}\n", target["expr"].as_str().unwrap())).collect();
    let variables = dashboard["templating"].to_string();
    let rules = std::fs::read_to_string(monitoring("strongroom.rules.yml")).unwrap();
    let documented = std::fs::read_to_string(monitoring("../docs/operations.md")).unwrap();
    for (text, least) in [(&queries, 20), (&variables, 2), (&rules, 10)] {
        let named = names(text);
        assert!(named.len() >= least, "{named:?}");
        for name in named {
            assert!(known.contains(name.as_str()), "{name} is none of {known:?}");
        }
    }
    // And each family stands in the documentation.
    let families = metrics.text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    for family in families.filter(|family| family.starts_with("strongroom_")) {
        assert!(documented.contains(family), "docs/operations.md does not say what {family} is");
    }
}

/// What Prometheus' own parser makes of the text: `promtool check metrics` reads the older format, of which OpenMetrics differs in
/// the names of counters, the end, and the types of its own.
#[test]
fn the_text_is_what_prometheus_reads() {
    use std::io::Write;
    let text = used().metrics().text;
    let mut older = String::new();
    let mut counters = BTreeSet::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("EOF" | "UNIT"), ..) => {}
            (Some("#"), Some("TYPE"), Some(name), Some("counter")) => {
                counters.insert(name.to_owned());
                older.push_str(&format!("# TYPE {name}_total counter\n"));
            }
            (Some("#"), Some("TYPE"), Some(name), Some("info")) => {
                older.push_str(&format!("# TYPE {name}_info gauge\n"));
            }
            (Some("#"), Some("HELP"), ..) => {}
            _ => older.push_str(&format!("{line}\n")),
        }
    }
    assert!(counters.len() > 5 && text.ends_with("# EOF\n"));
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(older.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    // 3: it reads it, and has advice (a text for help, which is left out above).
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(matches!(output.status.code(), Some(0 | 3)), "{said}");
    assert!(said.lines().all(|line| line.contains("no help text")), "{said}");
}
