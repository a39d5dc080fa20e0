//! Pictures of the results.

mod sheet;

use std::path::Path;

use anyhow::{Context, Result};
use plotters::style::RGBColor;
use strongroom_load::picture::{Drawing as _, save};
use strongroom_load::summary;

use crate::markdown::distance;
use crate::options::{Key, Program, Source, Tls};
use crate::results::{Handshakes, Results, Token, TokenLoad};
use crate::tokens::OPERATIONS;
use sheet::{Panel, Series, Sheet};

const BLUE: RGBColor = RGBColor(0x25, 0x63, 0xeb);
const LIGHT_BLUE: RGBColor = RGBColor(0x93, 0xb4, 0xf5);
const ORANGE: RGBColor = RGBColor(0xea, 0x8a, 0x00);
const LIGHT_ORANGE: RGBColor = RGBColor(0xf6, 0xc9, 0x80);
const GREY: RGBColor = RGBColor(0x9c, 0xa3, 0xaf);
const TEAL: RGBColor = RGBColor(0x0d, 0x94, 0x88);

/// Draws everything that was measured into `folder`, as SVG and PNG, and returns the SVG files' names with what
/// they show in words.
///
/// # Errors
///
/// When a picture cannot be drawn or written.
pub fn draw(results: &Results, folder: &Path) -> Result<Vec<(String, String)>> {
    let sheets = [
        ("handshakes", handshakes(results)),
        ("tokens", tokens(results)),
        ("distance", far(results)),
        ("scale", scale(results)),
    ];
    let mut drawn = Vec::new();
    for (name, sheet) in sheets {
        let Some(sheet) = sheet else { continue };
        for ending in ["svg", "png"] {
            let file = folder.join(format!("{name}.{ending}"));
            save(&sheet, &file).with_context(|| file.display().to_string())?;
        }
        drawn.push((format!("{name}.svg"), sheet.spoken()));
    }
    Ok(drawn)
}

/// On what, when.
fn below(results: &Results) -> String {
    let day = results.started.split('T').next().unwrap_or_default();
    format!("{}, {} processors, {day}", results.machine.processor, results.machine.processors)
}

fn sheet(results: &Results, title: &str, series: Vec<Series>, panels: Vec<Panel>) -> Option<Sheet> {
    let title = title.to_owned();
    (!panels.is_empty()).then(|| Sheet { title, below: below(results), series, panels })
}

fn series(entries: &[(&str, RGBColor)]) -> Vec<Series> {
    entries.iter().map(|(name, color)| Series { name: (*name).to_owned(), color: *color }).collect()
}

fn handshakes(results: &Results) -> Option<Sheet> {
    let sources = [Source::Partition, Source::Softhsm, Source::Engine];
    let mut panels = Vec::new();
    for program in Program::ALL {
        let find = |key: Key, source: Source| {
            let found = results.handshakes.iter().find(|cell| {
                (cell.server, cell.tls, cell.key, cell.source) == (program, Tls::V13, key, source)
            });
            found.and_then(|cell| cell.ratio)
        };
        let keys: Vec<Key> =
            Key::ALL.into_iter().filter(|key| find(*key, Source::Partition).is_some()).collect();
        if keys.is_empty() {
            continue;
        }
        let panel = |title: String, figure: fn(crate::results::Ratio) -> f64| Panel {
            title,
            reference: Some(1.0),
            categories: keys.iter().map(|key| key.kind().title().to_owned()).collect(),
            values: sources
                .iter()
                .map(|source| keys.iter().map(|key| find(*key, *source).map(figure)).collect())
                .collect(),
            format: |value| format!("{value:.2}"),
        };
        let name = program.title();
        panels.push(panel(format!("{name}: handshakes a second, × file (more is better)"), |ratio| {
            ratio.rate
        }));
        panels.push(panel(format!("{name}: CPU a handshake, × file (less is better)"), |ratio| ratio.cpu));
    }
    let keys = series(&[("partition", BLUE), ("SoftHSM2", ORANGE), ("SoftHSM2, engine", GREY)]);
    sheet(results, "Full TLS 1.3 handshakes, compared with the key in a file", keys, panels)
}

fn tokens(results: &Results) -> Option<Sheet> {
    let mut numbers: Vec<u32> = results.tokens.iter().map(|load| load.subject.keys).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let (few, many) = (*numbers.first()?, *numbers.last()?);
    let lines = [
        (Token::Partition, few, BLUE),
        (Token::Partition, many, LIGHT_BLUE),
        (Token::Softhsm, few, ORANGE),
        (Token::Softhsm, many, LIGHT_ORANGE),
    ];
    let mut sessions: Vec<u32> = results.tokens.iter().map(|load| load.subject.sessions).collect();
    sessions.sort_unstable();
    sessions.dedup();
    let panels = OPERATIONS
        .into_iter()
        .filter(|operation| results.tokens.iter().any(|load| load.subject.operation == *operation))
        .map(|operation| {
            let find = |token, keys, sessions| {
                let found = results.tokens.iter().find(|load| {
                    let subject = &load.subject;
                    (subject.token, subject.operation, subject.keys, subject.sessions)
                        == (token, operation, keys, sessions)
                });
                found.map(|load| load.median.rate_per_s)
            };
            Panel {
                title: format!("{}: operations a second", operation.title()),
                reference: None,
                categories: sessions
                    .iter()
                    .map(|sessions| format!("{sessions} session{}", if *sessions == 1 { "" } else { "s" }))
                    .collect(),
                values: lines
                    .iter()
                    .map(|(token, keys, _)| {
                        sessions.iter().map(|sessions| find(*token, *keys, *sessions)).collect()
                    })
                    .collect(),
                format: thousands,
            }
        })
        .collect();
    let keys = lines
        .iter()
        .map(|(token, keys, color)| Series {
            name: format!(
                "{}, {} key{}",
                token.title(),
                summary::grouped((*keys).into()),
                if *keys == 1 { "" } else { "s" }
            ),
            color: *color,
        })
        .collect();
    sheet(results, "Operations through PKCS#11", keys, panels)
}

fn far(results: &Results) -> Option<Sheet> {
    let lines = [
        (Program::Nginx, Key::Rsa2048, BLUE),
        (Program::Nginx, Key::P256, LIGHT_BLUE),
        (Program::Haproxy, Key::Rsa2048, ORANGE),
        (Program::Haproxy, Key::P256, LIGHT_ORANGE),
    ];
    let distances = distances(&results.far_handshakes);
    if distances.is_empty() {
        return None;
    }
    let find = |program, key, away| {
        let found = results
            .far_handshakes
            .iter()
            .find(|cell| (cell.server, cell.key, cell.distance_ms) == (program, key, away));
        found.and_then(|cell| cell.ratio).map(|ratio| ratio.rate)
    };
    let panels = vec![Panel {
        title: "Handshakes a second, × the daemon on the same machine".to_owned(),
        reference: Some(1.0),
        categories: distances.iter().map(|away| distance(*away)).collect(),
        values: lines
            .iter()
            .map(|(program, key, _)| distances.iter().map(|away| find(*program, *key, *away)).collect())
            .collect(),
        format: |value| format!("{value:.2}"),
    }];
    let keys = lines
        .iter()
        .map(|(program, key, color)| Series {
            name: format!("{}, {}", program.title(), key.kind().title()),
            color: *color,
        })
        .collect();
    sheet(results, "A daemon far away: full TLS 1.3 handshakes", keys, panels)
}

fn distances(cells: &[Handshakes]) -> Vec<Option<u32>> {
    let mut distances: Vec<Option<u32>> = cells.iter().map(|cell| cell.distance_ms).collect();
    distances.sort_unstable();
    distances.dedup();
    distances
}

fn scale(results: &Results) -> Option<Sheet> {
    if results.scale.is_empty() {
        return None;
    }
    // What changes is what differs from the contest's other loads; the contests follow each other.
    let by = |title: &str,
              loads: Vec<&TokenLoad>,
              number: fn(&TokenLoad) -> u32,
              value: fn(&TokenLoad) -> f64| Panel {
        title: title.to_owned(),
        reference: None,
        categories: loads.iter().map(|load| summary::grouped(number(load).into())).collect(),
        values: vec![loads.iter().map(|load| Some(value(load))).collect()],
        format: |value| format!("{value:.1}"),
    };
    let of = |which: usize| -> Vec<&TokenLoad> {
        let mut contests: Vec<Vec<&TokenLoad>> = vec![Vec::new()];
        let mut before: Option<(u32, u32, u32)> = None;
        for load in &results.scale {
            let now = (load.subject.keys, load.subject.sessions, load.subject.partitions);
            // Numbers only grow within a contest.
            if before.is_some_and(|before| now.0 < before.0 || now.1 < before.1 || now.2 < before.2) {
                contests.push(Vec::new());
            }
            before = Some(now);
            if let Some(contest) = contests.last_mut() {
                contest.push(load);
            }
        }
        contests.into_iter().nth(which).unwrap_or_default()
    };
    let panels = vec![
        by("CPU µs a signature, by keys", of(0), |load| load.subject.keys, |load| load.median.cpu_us),
        by("CPU µs a signature, by sessions", of(1), |load| load.subject.sessions, |load| load.median.cpu_us),
        by(
            "CPU µs a signature, by partitions",
            of(2),
            |load| load.subject.partitions,
            |load| load.median.cpu_us,
        ),
        by(
            "µs to find a key by its label (median), by keys",
            results.find.iter().collect(),
            |load| load.subject.keys,
            |load| load.median.p50_us,
        ),
    ];
    sheet(results, "Cost against numbers: P-256 through PKCS#11", series(&[("partition", TEAL)]), panels)
}

fn thousands(value: f64) -> String {
    if value >= 10_000.0 { format!("{:.0}k", value / 1e3) } else { format!("{:.1}k", value / 1e3) }
}
