//! Tables of TLS handshakes.

use crate::options::{Key, Program, Source, Tls};
use crate::results::{Absent, Handshakes, Results};

use super::{number, table};

/// A table for each server and version of TLS, with a row for each key and source.
pub fn rows(all: &[Handshakes]) -> String {
    let mut text = String::new();
    for (program, tls) in contests() {
        let cells: Vec<&Handshakes> =
            all.iter().filter(|cell| cell.server == program && cell.tls == tls).collect();
        let Some(first) = cells.first() else { continue };
        text.push_str(&format!(
            "\n### {}, full TLS {} handshakes\n\n{}; {} connections. CPU: server and daemon together, µs a \
             handshake; in parentheses the daemon's part. ×: to the file.\n\n",
            program.title(),
            tls.number(),
            first.workers,
            first.connections
        ));
        let rows: Vec<Vec<String>> = cells.iter().map(|cell| row(cell)).collect();
        let head = ["key", "source", "handshakes/s", "×", "CPU µs", "×", "p50 ms", "p99 ms", "failed"];
        text.push_str(&table(&head, 2, &rows));
    }
    text
}

fn contests() -> impl Iterator<Item = (Program, Tls)> {
    Program::ALL.into_iter().flat_map(|program| [(program, Tls::V13), (program, Tls::V12)])
}

fn row(cell: &Handshakes) -> Vec<String> {
    let median = &cell.median;
    let ratio = cell.ratio.filter(|_| cell.source != Source::File);
    let daemon = if median.daemon_cpu_us < 0.5 {
        String::new()
    } else {
        format!(" ({})", number(median.daemon_cpu_us))
    };
    vec![
        cell.key.kind().title().to_owned(),
        cell.source.title().to_owned(),
        number(median.rate_per_s),
        ratio.map_or(String::new(), |ratio| format!("{:.2}", ratio.rate)),
        format!("{}{daemon}", number(median.cpu_us)),
        ratio.map_or(String::new(), |ratio| format!("{:.2}", ratio.cpu)),
        number(median.p50_us / 1e3),
        number(median.p99_us / 1e3),
        format!("{:.0}", cell.rounds.iter().map(|round| round.errors).sum::<f64>()),
    ]
}

/// The sources beside each other, a row for each key.
pub fn side_by_side(results: &Results) -> String {
    let mut text = String::new();
    for (program, tls) in contests() {
        let of_this = |cell: &&Handshakes| cell.server == program && cell.tls == tls;
        if !results.handshakes.iter().any(|cell| of_this(&cell)) {
            continue;
        }
        text.push_str(&format!(
            "\n### {}, TLS {}: handshakes a second and CPU µs a handshake (× to the file)\n\n",
            program.title(),
            tls.number()
        ));
        let sources = Source::ALL;
        let mut head = vec!["key".to_owned()];
        head.extend(sources.map(|source| format!("{} /s", source.title())));
        head.extend(sources.map(|source| format!("{} µs", source.title())));
        let head: Vec<&str> = head.iter().map(String::as_str).collect();
        let mut rows = Vec::new();
        for key in Key::ALL {
            let find = |source| {
                results
                    .handshakes
                    .iter()
                    .filter(of_this)
                    .find(|cell| cell.key == key && cell.source == source)
            };
            let cells = sources.map(find);
            if cells.iter().all(Option::is_none) {
                continue;
            }
            let figure = |cell: Option<&Handshakes>, value: f64, ratio: Option<f64>| match (cell, ratio) {
                (None, _) => "–".to_owned(),
                (Some(cell), Some(ratio)) if cell.source != Source::File => {
                    format!("{} (×{ratio:.2})", number(value))
                }
                (Some(_), _) => number(value),
            };
            let mut row = vec![key.kind().title().to_owned()];
            row.extend(cells.iter().map(|cell| {
                let ratio = cell.and_then(|cell| cell.ratio).map(|ratio| ratio.rate);
                figure(*cell, cell.map_or(0.0, |cell| cell.median.rate_per_s), ratio)
            }));
            row.extend(cells.iter().map(|cell| {
                let ratio = cell.and_then(|cell| cell.ratio).map(|ratio| ratio.cpu);
                figure(*cell, cell.map_or(0.0, |cell| cell.median.cpu_us), ratio)
            }));
            rows.push(row);
        }
        text.push_str(&table(&head, 1, &rows));
    }
    text
}

/// What was not possible, each reason once.
pub fn absent(all: &[Absent]) -> String {
    let mut text = String::new();
    let mut told: Vec<(Program, Source, &str)> = Vec::new();
    for absent in all {
        let this = (absent.server, absent.source, absent.why.as_str());
        if told.contains(&this) {
            continue;
        }
        told.push(this);
        let keys: Vec<&str> = all
            .iter()
            .filter(|other| (other.server, other.source, other.why.as_str()) == this)
            .map(|other| other.key.kind().title())
            .collect();
        text.push_str(&format!(
            "\nNot possible: {} with {} ({}): {}. It was tried.\n",
            absent.server.title(),
            absent.source.title(),
            keys.join(", "),
            absent.why.trim_end_matches('.')
        ));
    }
    text
}

/// Handshakes with the daemon near and far.
pub fn far(all: &[Handshakes]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|cell| {
            vec![
                cell.server.title().to_owned(),
                cell.workers.clone(),
                cell.key.kind().title().to_owned(),
                distance(cell.distance_ms),
                number(cell.median.rate_per_s),
                cell.ratio.map_or(String::new(), |ratio| format!("{:.2}", ratio.rate)),
                number(cell.median.cpu_us),
                number(cell.median.p50_us / 1e3),
                number(cell.median.p99_us / 1e3),
            ]
        })
        .collect();
    let head = ["server", "workers", "key", "daemon", "handshakes/s", "× near", "CPU µs", "p50 ms", "p99 ms"];
    let connections = all.first().map_or(0, |cell| cell.connections);
    format!(
        "\n### A daemon far away: full TLS 1.3 handshakes\n\n{connections} connections. The distance is added each \
         way: a daemon 5 ms away answers 10 ms later.\n\n{}",
        table(&head, 4, &rows)
    )
}

/// Where the daemon is.
pub fn distance(distance_ms: Option<u32>) -> String {
    match distance_ms {
        None => "near".to_owned(),
        Some(0) => "through the proxy".to_owned(),
        Some(distance) => format!("{distance} ms away"),
    }
}
