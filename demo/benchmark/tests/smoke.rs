//! The benchmark runs from end to end, and its JSON has what it says. Not that anything is fast.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use strongroom_demo::command;

const LIMIT: Duration = Duration::from_secs(100);

/// Runs the benchmark with a tenth of a second for each load, and returns its results and what it printed.
fn run(arguments: &[&str], json: &Path) -> (Value, String) {
    let mut bench = command::new(env!("CARGO_BIN_EXE_strongroom-bench"));
    bench.args(["--quick", "--rounds", "1", "--seconds", "0.1", "--json"]).arg(json).args(arguments);
    let finished = command::run(bench, LIMIT).unwrap();
    assert!(finished.status.success(), "{}", finished.stderr);
    let results = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    (results, String::from_utf8(finished.stdout).unwrap())
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn handshakes_and_signatures_are_measured() {
    let folder = tempfile::tempdir().unwrap();
    let arguments =
        ["--parts", "handshakes,lone", "--servers", "nginx", "--keys", "p256", "--sources", "file,partition"];
    let (results, text) = run(&arguments, &folder.path().join("results.json"));
    assert!(
        text.contains("nginx, full TLS 1.3 handshakes") && text.contains("| P-256 | partition |"),
        "{text}"
    );
    assert!(results["machine"]["processor"].is_string() && results["command"].is_string(), "{results}");

    let cells = results["handshakes"].as_array().unwrap();
    assert_eq!(cells.len(), 2, "{results}");
    for (cell, source) in cells.iter().zip(["file", "partition"]) {
        assert_eq!(cell["source"], source);
        assert_eq!(
            (&cell["server"], &cell["tls"], &cell["key"]),
            (&"nginx".into(), &"1.3".into(), &"P-256".into())
        );
        let rounds = cell["rounds"].as_array().unwrap();
        assert_eq!(rounds.len(), 1);
        for figure in ["handshakes", "rate_per_s", "cpu_us", "p50_us", "p99_us"] {
            assert!(number(&rounds[0][figure]) > 0.0, "{figure} of {source}: {cell}");
        }
        assert_eq!(number(&rounds[0]["errors"]), 0.0, "{cell}");
        // Only the partition has a daemon that works for the handshakes; both have one that looks after itself.
        assert_eq!(number(&rounds[0]["daemon_cpu_us"]) > 10.0, source == "partition", "{cell}");
    }
    let ratio = &cells[1]["ratio"];
    let expected = number(&cells[1]["median"]["cpu_us"]) / number(&cells[0]["median"]["cpu_us"]);
    assert!((number(&ratio["cpu"]) - expected).abs() < 1e-9, "{ratio}");

    let lone = results["lone"].as_array().unwrap();
    assert_eq!(lone.len(), 3 * 2 * 3, "three operations, two paces, three places");
    for load in lone {
        assert!(
            number(&load["median"]["operations"]) > 0.0 && number(&load["median"]["p50_us"]) > 0.0,
            "{load}"
        );
        assert_eq!(number(&load["median"]["errors"]), 0.0, "{load}");
    }
}

#[test]
fn distance_is_measured_and_felt() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--parts", "distance", "--servers", "nginx", "--keys", "p256", "--workers", "8"];
    let (results, _) = run(&arguments, &folder.path().join("results.json"));
    let cells = results["far_handshakes"].as_array().unwrap();
    let distances: Vec<&Value> = cells.iter().map(|cell| &cell["distance_ms"]).collect();
    assert_eq!(distances, [&Value::Null, &0.into(), &1.into(), &5.into()]);
    let errors: f64 = cells.iter().map(|cell| number(&cell["median"]["errors"])).sum();
    assert_eq!(errors, 0.0, "{results}");
    // No operation is quicker than the way there and back.
    for load in results["far_tokens"].as_array().unwrap() {
        let there_and_back = 2000.0 * load["distance_ms"].as_f64().unwrap_or(0.0);
        assert!(number(&load["median"]["p50_us"]) >= there_and_back, "{load}");
    }
}

#[test]
fn results_can_be_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("results.json"), folder.path().join("document"));
    run(
        &["--parts", "handshakes", "--servers", "nginx", "--keys", "p256", "--sources", "file,partition"],
        &from,
    );
    let mut bench = command::new(env!("CARGO_BIN_EXE_strongroom-bench"));
    bench.arg("--from").arg(&from).arg("--document").arg(&to);
    command::succeed(bench, LIMIT).unwrap();
    let document = std::fs::read_to_string(to.join("results.md")).unwrap();
    assert!(document.contains("### Targets") && document.contains("](handshakes.svg)"), "{document}");
    assert!(to.join("handshakes.png").exists() && to.join("results.json").exists());
}
