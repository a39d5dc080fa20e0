//! The load generator, as a program beside the servers.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use strongroom_load::Report;

use crate::command;
use crate::pki::text;
use crate::programs::Programs;
use crate::server::Server;

/// Concurrent connections of every load.
pub const CONNECTIONS: u32 = 64;

/// How much load is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// So many handshakes.
    Count(u64),
    /// Handshakes for so long.
    Time(Duration),
}

/// The load generator's command line: full handshakes at [`CONNECTIONS`] connections, trusting the
/// authority whose certificate is in `ca`. `extra` are further arguments.
pub fn command(programs: &Programs, server: &Server, ca: &Path, amount: Amount, extra: &[&str]) -> Command {
    command_at(programs, server, ca, amount, CONNECTIONS, extra)
}

/// The same at another number of connections.
pub fn command_at(
    programs: &Programs,
    server: &Server,
    ca: &Path,
    amount: Amount,
    connections: u32,
    extra: &[&str],
) -> Command {
    let mut command = command::new(programs.load());
    command.args(["--concurrency", &connections.to_string(), "--ca", &text(ca), "--json"]);
    match amount {
        Amount::Count(count) => command.args(["--count", &count.to_string()]),
        Amount::Time(time) => command.args(["--duration", &format!("{}ms", time.as_millis())]),
    };
    command.args(extra).arg(server.address());
    command
}

/// Runs the load to its end, at most for `limit`, and returns its report. Failed handshakes are in the
/// report and no error here.
///
/// # Errors
///
/// When the load generator cannot start or does not end.
pub fn run(
    programs: &Programs,
    server: &Server,
    ca: &Path,
    amount: Amount,
    extra: &[&str],
    limit: Duration,
) -> Result<Report> {
    let finished = command::run(command(programs, server, ca, amount, extra), limit)?;
    serde_json::from_slice(&finished.stdout)
        .with_context(|| format!("strongroom-load ({}): {}", finished.status, finished.stderr.trim()))
}
