//! Tables of operations through PKCS#11.

use crate::results::{Token, TokenLoad};

use super::handshakes::distance;
use super::{number, table};

/// Sessions and keys.
pub fn sessions(all: &[TokenLoad]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let processes = all.iter().map(|load| load.subject.processes).max().unwrap_or(1);
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|load| {
            let mut row = vec![
                load.subject.operation.title().to_owned(),
                load.subject.token.title().to_owned(),
                load.subject.sessions.to_string(),
                strongroom_load::summary::grouped(load.subject.keys.into()),
            ];
            row.extend(figures(load));
            row
        })
        .collect();
    let head =
        ["operation", "token", "sessions", "keys", "a second", "p50 µs", "p99 µs", "p99.9 µs", "CPU µs"];
    format!(
        "\n### Through PKCS#11\n\nEach session is a thread with one request at a time, in {} client process{}. CPU: \
         clients and daemon together, µs an operation.\n\n{}",
        processes,
        if processes == 1 { "" } else { "es" },
        table(&head, 2, &rows)
    )
}

fn figures(load: &TokenLoad) -> [String; 5] {
    let median = &load.median;
    [median.rate_per_s, median.p50_us, median.p99_us, median.p999_us, median.cpu_us].map(number)
}

/// One request at a time.
pub fn lone(all: &[TokenLoad]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let in_process = |load: &TokenLoad| {
        all.iter()
            .find(|other| {
                other.subject.token == Token::InProcess
                    && other.subject.operation == load.subject.operation
                    && other.subject.pause_ms == load.subject.pause_ms
            })
            .map(|other| other.median.p50_us)
    };
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|load| {
            let more = in_process(load).map(|measure| load.median.p50_us - measure);
            vec![
                load.subject.operation.title().to_owned(),
                if load.subject.pause_ms == 0 { "back to back".into() } else { "one a millisecond".into() },
                load.subject.token.title().to_owned(),
                number(load.median.p50_us),
                more.filter(|_| load.subject.token != Token::InProcess)
                    .map_or(String::new(), |more| format!("{more:+.1}")),
                number(load.median.p99_us),
                number(load.median.cpu_us),
            ]
        })
        .collect();
    let head = ["operation", "requests", "where", "p50 µs", "more than in process", "p99 µs", "CPU µs"];
    format!(
        "\n### A lone request\n\nOne session, one request at a time; in process: the same signature by aws-lc in the \
         client's own process. After a pause of a millisecond all caches are colder and every thread asleep.\n\n{}",
        table(&head, 3, &rows)
    )
}

/// Near and far.
pub fn far(all: &[TokenLoad]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|load| {
            let near = all
                .iter()
                .find(|other| {
                    other.subject.operation == load.subject.operation && other.subject.distance_ms.is_none()
                })
                .map_or(f64::NAN, |near| near.median.rate_per_s);
            let [rate, p50, p99, _, cpu] = figures(load);
            vec![
                load.subject.operation.title().to_owned(),
                distance(load.subject.distance_ms),
                rate,
                format!("{:.2}", load.median.rate_per_s / near),
                p50,
                p99,
                cpu,
            ]
        })
        .collect();
    let sessions = all.first().map_or(0, |load| load.subject.sessions);
    format!(
        "\n### A daemon far away: through PKCS#11\n\n{sessions} sessions, each with one request at a time: with the daemon \
         5 ms away, each way, they make {} operations a second at most.\n\n{}",
        strongroom_load::summary::grouped(u64::from(sessions) * 100),
        table(&["operation", "daemon", "a second", "× near", "p50 µs", "p99 µs", "CPU µs"], 2, &rows)
    )
}

/// Cost against numbers.
pub fn scale(all: &[TokenLoad]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|load| {
            let mut row = vec![
                strongroom_load::summary::grouped(load.subject.keys.into()),
                load.subject.sessions.to_string(),
                load.subject.partitions.to_string(),
            ];
            row.extend(figures(load));
            row
        })
        .collect();
    let head = ["keys", "sessions", "partitions", "a second", "p50 µs", "p99 µs", "p99.9 µs", "CPU µs"];
    format!("\n### Cost against numbers: P-256 through PKCS#11\n\n{}", table(&head, 0, &rows))
}

/// Look-ups.
pub fn find(all: &[TokenLoad]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|load| {
            let median = &load.median;
            let mut row = vec![strongroom_load::summary::grouped(load.subject.keys.into())];
            row.extend([median.first_us, median.p50_us, median.p99_us].map(number));
            row
        })
        .collect();
    format!(
        "\n### To find a key by its label\n\n{}",
        table(&["keys in the partition", "first of a process µs", "p50 µs", "p99 µs"], 0, &rows)
    )
}
