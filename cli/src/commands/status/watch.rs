//! `strongroom status --watch`: a line for each interval.

use std::io::{self, Write};
use std::thread;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use strongroom_protocol::v1::StatusReply;

use super::rates::Rates;
use super::{ask, is_open};
use crate::args::Global;
use crate::commands::moment;
use crate::commands::seal::state_name;
use crate::failure::Failure;
use crate::session;

/// A heading stands above so many lines.
const LINES: u64 = 20;

/// What an interval has brought, for programs: one object a line.
#[derive(Debug, Serialize)]
struct View<'a> {
    time: String,
    /// "open", "sealed", "tampered" or "zeroized".
    state: &'static str,
    connections: u32,
    #[serde(flatten)]
    rates: &'a Rates,
}

/// Prints what was done in each interval, until it has done so `times`, or is interrupted.
///
/// # Errors
///
/// If the daemon does not answer, or standard output cannot be written.
pub(super) fn run(global: &Global, interval: Duration, times: Option<u64>) -> Result<(), Failure> {
    let mut connection = session::connect(global)?;
    let mut before = ask(&mut connection)?;
    for line in 0..times.unwrap_or(u64::MAX) {
        thread::sleep(interval);
        let now = ask(&mut connection)?;
        let rates = Rates::between(&before, &now);
        let mut text = match global.json {
            true => json(&now, &rates)?,
            false if line % LINES == 0 => heading() + &shown(&now, &rates),
            false => shown(&now, &rates),
        };
        text.push('\n');
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.map_err(|error| Failure::file("write", "standard output".as_ref(), &error))?,
        }
        before = now;
    }
    Ok(())
}

fn time() -> String {
    moment(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs())
}

fn json(now: &StatusReply, rates: &Rates) -> Result<String, Failure> {
    let view = View { time: time(), state: state_name(now.state()), connections: now.connections, rates };
    serde_json::to_string(&view)
        .map_err(|error| Failure::new(crate::failure::Exit::Failed, "json", error.to_string()))
}

fn heading() -> String {
    format!(
        "{:<20}  {:>10}  {:>8}  {:>11}  {:>7}  {:>6}  {:>11}  MOST OF IT\n",
        "TIME", "A SECOND", "MEDIAN", "99 % WITHIN", "REFUSED", "FAILED", "CONNECTIONS"
    )
}

fn shown(now: &StatusReply, rates: &Rates) -> String {
    let [rate, median, most] = rates.all.numbers().map(|cell| cell.text().to_owned());
    let (refused, failed) = rates.all.not_done();
    let what = match (is_open(now), rates.operations.first()) {
        (false, _) => format!("the node is {}", state_name(now.state())),
        (true, first) => first.map(|rate| rate.sort()).unwrap_or_default(),
    };
    let line = format!(
        "{:<20}  {rate:>10}  {median:>8}  {most:>11}  {refused:>7}  {failed:>6}  {:>11}  {what}",
        time(),
        now.connections
    );
    line.trim_end().to_owned()
}
