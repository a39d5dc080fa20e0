//! What the figures must reach, and whether they do.

use strongroom_token_load::options::Operation;

use crate::options::{Key, Program, Source, Tls};
use crate::results::{Results, Token};
use strongroom_demo::statistics::median;

use super::table;

/// nginx, TLS 1.3, the partition compared with the file: processor time at most, handshakes a second at least.
const HANDSHAKES: [(Key, f64, f64); 6] = [
    (Key::Rsa2048, 0.75, 1.2),
    (Key::Rsa3072, 0.62, 1.4),
    (Key::Rsa4096, 0.36, 2.4),
    (Key::P256, 1.05, 0.95),
    (Key::P384, 0.36, 1.7),
    (Key::Ed25519, 1.00, 1.0),
];
/// Operations a second through PKCS#11 with 64 sessions, at least.
const OPERATIONS: [(Operation, f64); 3] =
    [(Operation::Rsa2048, 20_000.0), (Operation::P256, 60_000.0), (Operation::AesGcm, 50_000.0)];
/// A lone P-256 signature takes at most so much longer than in process, in microseconds.
const LONE_US: f64 = 25.0;
/// With the daemon 5 ms away, of the throughput at least.
const FAR: f64 = 0.85;

/// The table of targets, of what was measured.
pub fn of(results: &Results) -> String {
    let mut rows = Vec::new();
    handshakes(results, &mut rows);
    operations(results, &mut rows);
    lone(results, &mut rows);
    far(results, &mut rows);
    if rows.is_empty() {
        return String::new();
    }
    format!("\n### Targets\n\n{}", table(&["figure", "target", "measured", ""], 1, &rows))
}

fn row(figure: String, target: String, measured: String, reached: bool) -> Vec<String> {
    vec![figure, target, measured, if reached { "reached" } else { "**missed**" }.to_owned()]
}

fn handshakes(results: &Results, rows: &mut Vec<Vec<String>>) {
    for (key, cpu, rate) in HANDSHAKES {
        let cell = results.handshakes.iter().find(|cell| {
            (cell.server, cell.tls, cell.key, cell.source)
                == (Program::Nginx, Tls::V13, key, Source::Partition)
        });
        let Some(ratio) = cell.and_then(|cell| cell.ratio) else { continue };
        let name = key.kind().title();
        // As precise as the target is given.
        let (is_cpu, is_rate) = (hundredths(ratio.cpu), hundredths(ratio.rate));
        rows.push(row(
            format!("nginx, {name}: CPU a handshake, × file"),
            format!("≤ {cpu:.2}"),
            format!("{:.2} ({:.2}–{:.2})", ratio.cpu, ratio.cpu_range.0, ratio.cpu_range.1),
            is_cpu <= cpu,
        ));
        rows.push(row(
            format!("nginx, {name}: handshakes a second, × file"),
            format!("≥ {rate:.2}"),
            format!("{:.2} ({:.2}–{:.2})", ratio.rate, ratio.rate_range.0, ratio.rate_range.1),
            is_rate >= rate,
        ));
    }
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn operations(results: &Results, rows: &mut Vec<Vec<String>>) {
    for (operation, target) in OPERATIONS {
        let of_this = results.tokens.iter().filter(|load| {
            load.subject.token == Token::Partition
                && load.subject.operation == operation
                && load.subject.sessions == 64
        });
        for load in of_this {
            let rate = load.median.rate_per_s;
            rows.push(row(
                format!(
                    "PKCS#11, 64 sessions, {} key{}: {} a second",
                    load.subject.keys,
                    if load.subject.keys == 1 { "" } else { "s" },
                    operation.title()
                ),
                format!("≥ {}", strongroom_load::summary::rate(target)),
                strongroom_load::summary::rate(rate),
                rate >= target,
            ));
        }
    }
}

fn lone(results: &Results, rows: &mut Vec<Vec<String>>) {
    for pause_ms in [0, 1] {
        let find = |token| {
            results.lone.iter().find(|load| {
                load.subject.token == token
                    && load.subject.operation == Operation::P256
                    && load.subject.pause_ms == pause_ms
            })
        };
        let (Some(here), Some(there)) = (find(Token::InProcess), find(Token::Partition)) else { continue };
        // Round by round: they were measured one after the other.
        let differences: Vec<f64> =
            there.rounds.iter().zip(&here.rounds).map(|(there, here)| there.p50_us - here.p50_us).collect();
        let Some(more) = median(&differences) else { continue };
        let how = if pause_ms == 0 { "back to back" } else { "one a millisecond" };
        rows.push(row(
            format!("a lone P-256 signature, {how}: more than in process"),
            format!("≤ {LONE_US:.0} µs"),
            format!("{more:.1} µs"),
            more <= LONE_US,
        ));
    }
}

fn far(results: &Results, rows: &mut Vec<Vec<String>>) {
    for cell in results.far_handshakes.iter().filter(|cell| cell.distance_ms == Some(5)) {
        let Some(ratio) = cell.ratio else { continue };
        rows.push(row(
            format!(
                "{}, {}, daemon 5 ms away: handshakes, × near",
                cell.server.title(),
                cell.key.kind().title()
            ),
            format!("≥ {FAR:.2}"),
            format!("{:.2} ({:.2}–{:.2})", ratio.rate, ratio.rate_range.0, ratio.rate_range.1),
            ratio.rate >= FAR,
        ));
    }
}
