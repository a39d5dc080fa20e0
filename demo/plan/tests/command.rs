//! The command, as a user calls it.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::process::{Command, Output};

use strongroom_token_load::report::{Latency, Report};

fn plan(line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_strongroom-plan")).args(line.split_whitespace()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_grid_has_a_row_for_each() {
    let made =
        plan("grid --servers 20 --workers 2 --rate 10 --duration 2s --nodes 2,3 --regions 1,2 --cores 1");
    assert!(made.status.success(), "{}", text(&made.stderr));
    let table = text(&made.stdout);
    let rows: Vec<&str> =
        table.lines().filter(|line| line.starts_with("| ") && !line.contains("p50")).collect();
    let starts = ["| 1 | 2 |", "| 1 | 3 |", "| 2 | 2 |", "| 2 | 3 |"];
    assert_eq!(rows.len(), starts.len(), "{table}");
    assert!(rows.iter().zip(starts).all(|(row, start)| row.starts_with(start)), "{table}");
}

#[test]
fn a_wrong_value_is_named() {
    let refused = plan("grid --rate -1");
    assert_eq!(refused.status.code(), Some(2));
    let refused = plan("grid --rate=0");
    let said = text(&refused.stderr);
    assert!(
        refused.status.code() == Some(2) && said.contains("--rate") && said.contains("above 0"),
        "{said}"
    );
}

#[test]
fn a_measurement_is_compared() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, report: &Report| {
        let file = folder.path().join(name);
        fs::write(&file, serde_json::to_vec(report).unwrap()).unwrap();
        file.display().to_string()
    };
    // A request takes 300 µs of processor time, 256 of them for the signature, and 350 µs in all.
    let latency = Latency { p50: 350.0, p99: 400.0, ..Latency::default() };
    let alone = Report {
        operations: 1_000,
        duration_s: 1.0,
        rate_per_s: 1_000.0,
        client_cpu_s: 0.02,
        watched_cpu_s: 0.28,
        latency_us: latency,
        ..Report::default()
    };
    let busy = Report { operations: 9_000, rate_per_s: 9_000.0, ..alone.clone() };
    let line = |measured: &str, alone: &str| {
        plan(&format!("--json compare --alone {alone} --measured {measured} --sessions 1 --cores 1"))
    };
    let alone = write("alone.json", &alone);
    let made = line(&write("busy.json", &busy), &alone);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let found: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    let of = |path: &str| found.pointer(path).and_then(serde_json::Value::as_f64).unwrap();
    assert!((43.0..45.0).contains(&of("/message_us")) && (49.0..51.0).contains(&of("/way_us")), "{found}");
    assert!((0.34..0.36).contains(&of("/model/p50_ms")), "{found}");
    assert!((2_800.0..2_900.0).contains(&of("/model/rate_per_s")) && of("/measured/rate_per_s") == 9_000.0);

    let refused = line(&write("failed.json", &Report { errors: 3, ..busy }), &alone);
    let said = text(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains("3 of its operations failed"), "{said}");
    let missing = text(&line("/nowhere/busy.json", &alone).stderr);
    assert!(missing.contains("/nowhere/busy.json"), "{missing}");
}
