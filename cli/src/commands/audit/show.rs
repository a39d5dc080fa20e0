//! `strongroom audit show` and `tail`.

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use strongroom_audit::{Entry, SUCCESS};
use strongroom_protocol::v1::ReadAudit;

use super::filter::{Filter, When};
use super::{Reader, Which};
use crate::args::Global;
use crate::failure::Failure;
use crate::output::{Cell, Output, Page, Report, Tone, printable};

/// Entries that are shown if nothing else was asked for.
const USUAL: u32 = 50;

/// How often `tail` looks for more.
const LOOK: Duration = Duration::from_millis(500);

/// `strongroom audit show`.
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    which: Which,
    /// Only the last so many of those that fit [default: 50, and all with --since]
    #[arg(long, short = 'n', value_name = "NUMBER")]
    last: Option<u32>,
    /// Only from then on: 2h, 7d, 2026-11-23 or 2026-11-23T06:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    since: Option<When>,
    #[command(flatten)]
    filter: Filter,
}

/// `strongroom audit tail`.
#[derive(Debug, Args)]
pub struct Tail {
    #[command(flatten)]
    which: Which,
    /// Begin with the last so many entries
    #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 10)]
    last: u32,
    #[command(flatten)]
    filter: Filter,
}

impl Show {
    pub(super) fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        let last = match (self.last, self.since) {
            (None, None) => Some(USUAL),
            (last, _) => last,
        };
        let mut request =
            ReadAudit { since_micros: self.since.map_or(0, |when| when.0), ..ReadAudit::default() };
        // Checkpoints among them are not shown.
        if let (Some(last), true, None) = (last, self.filter.is_open(), self.since) {
            request.last = last.saturating_mul(2).saturating_add(2).min(10_000);
        }
        let mut reader = Reader::open(&self.which, global, output, request)?;
        let mut entries = Vec::new();
        loop {
            let (lines, more) = reader.page()?;
            for line in lines {
                let entry = read(&line)?;
                if self.filter.shows(&entry) {
                    entries.push(entry);
                }
            }
            // What cannot be among the last is not kept.
            if let Some(last) = last {
                let surplus = entries.len().saturating_sub(last as usize);
                entries.drain(..surplus);
            }
            if !more {
                return output.print(&Entries { entries });
            }
        }
    }
}

impl Tail {
    pub(super) fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        let request = ReadAudit { last: self.last.max(1), ..ReadAudit::default() };
        let mut reader = Reader::open(&self.which, global, output, request)?;
        loop {
            let (lines, more) = reader.page()?;
            let mut text = String::new();
            for line in lines {
                let entry = read(&line)?;
                if self.filter.shows(&entry) {
                    // One object a line: what follows is not known yet.
                    let shown = if global.json { line } else { printable(&in_words(&entry)) };
                    text.push_str(&shown);
                    text.push('\n');
                }
            }
            let mut stdout = io::stdout().lock();
            match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                written => {
                    written.map_err(|error| Failure::file("write", "standard output".as_ref(), &error))?
                }
            }
            if !more {
                thread::sleep(LOOK);
            }
        }
    }
}

fn read(line: &str) -> Result<Entry, Failure> {
    serde_json::from_str(line).map_err(|_| Failure::unexpected_answer())
}

#[derive(Debug, Serialize)]
struct Entries {
    entries: Vec<Entry>,
}

impl Report for Entries {
    fn text(&self, page: &mut Page) {
        if self.entries.is_empty() {
            return page.line("No entry fits.");
        }
        let rows = self.entries.iter().map(row).collect();
        page.table(&["TIME", "ACTION", "OUTCOME", "KEY", "USER", "FROM", "MORE"], rows);
    }
}

fn row(entry: &Entry) -> Vec<Cell> {
    let tone = match entry.outcome.as_str() {
        SUCCESS if entry.action == "alarm" => Tone::Bad,
        SUCCESS => Tone::Good,
        "begun" => Tone::Plain,
        _ => Tone::Bad,
    };
    let time = entry.time.get(..19).map_or(entry.time.clone(), |seconds| format!("{seconds}Z"));
    vec![
        time.into(),
        entry.action.as_str().into(),
        Cell::toned(outcome(entry), tone),
        or_dash(&entry.key).into(),
        user(entry).into(),
        from(entry).into(),
        details(entry).into(),
    ]
}

fn outcome(entry: &Entry) -> String {
    match entry.count {
        Some(count) => format!("{} ×{count}", entry.outcome),
        None => entry.outcome.clone(),
    }
}

fn user(entry: &Entry) -> String {
    or_dash(if entry.user.is_empty() { &entry.role } else { &entry.user })
}

fn from(entry: &Entry) -> String {
    let program = match entry.pid {
        // The module says its process itself.
        Some(pid) if !entry.program.ends_with(']') => format!(" {}[{pid}]", entry.program),
        _ if entry.program.is_empty() => String::new(),
        _ => format!(" {}", entry.program),
    };
    match (entry.uid, entry.address.as_str()) {
        (Some(uid), _) => format!("uid {uid}{program}"),
        (None, "") => "-".to_owned(),
        (None, address) => format!("{address}{program}"),
    }
}

fn details(entry: &Entry) -> String {
    let details: Vec<String> = entry.details.iter().map(|(name, value)| format!("{name}={value}")).collect();
    details.join(" ")
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

fn in_words(entry: &Entry) -> String {
    let mut line = format!("{} {} {}", entry.time, entry.action, outcome(entry));
    if !entry.key.is_empty() {
        line.push_str(&format!(" key={}", entry.key));
    }
    line.push_str(&format!(" user={} {} {}", user(entry), from(entry), details(entry)));
    line.trim_end().to_owned()
}
