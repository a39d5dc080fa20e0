//! `strongroom status`: whether the daemon runs, how it keeps keys, and what it has done.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use strongroom_protocol::v1::{NodeState, Status, StatusReply, request::Op};

use crate::args::Global;
use crate::commands::partition::PartitionView;
use crate::commands::seal::{left_behind, state_name};
use crate::failure::Failure;
use crate::output::{Cell, Output, Page, Report, Tone};
use crate::session::{self, answer};

#[derive(Debug, Serialize)]
struct View {
    running: bool,
    socket: PathBuf,
    daemon: String,
    uptime_seconds: u64,
    memory: String,
    store: String,
    partitions: Vec<PartitionView>,
    objects: u64,
    connections: u32,
    requests: u64,
    signatures: u64,
    errors: u64,
    engines: Vec<String>,
    /// What computes, with its version.
    crypto_module: String,
    /// A build of a source that NIST has validated: not the validation itself.
    fips_module: bool,
    /// "open", "sealed", "tampered" or "zeroized".
    state: &'static str,
    /// What unseals the node.
    sealed_with: String,
    /// What opens the store besides.
    also_opened_by: Vec<String>,
    /// What was found first in a store that was tampered with.
    tampering: Option<String>,
}

/// Asks the daemon and prints what it says.
///
/// # Errors
///
/// If the daemon does not run or answer.
pub fn run(global: &Global, output: Output) -> Result<(), Failure> {
    let mut connection = session::connect(global)?;
    let status: StatusReply = answer!(connection.call(0, Op::Status(Status {})), Status)?;
    let is_open = matches!(status.state(), NodeState::Open | NodeState::Unspecified);
    // A node that is not open does not say what is in it.
    let partitions = if is_open { session::partitions(&mut connection)? } else { Vec::new() };
    output.print(&View {
        running: true,
        state: state_name(status.state()),
        sealed_with: status.sealed_with.clone(),
        also_opened_by: status.also_opened_by.clone(),
        tampering: Some(status.tampering.clone()).filter(|what| !what.is_empty()),
        socket: connection.node().to_owned(),
        daemon: status.daemon,
        uptime_seconds: status.uptime_seconds,
        memory: status.memory,
        store: status.store_path,
        partitions: partitions.into_iter().map(PartitionView::from).collect(),
        objects: status.objects,
        connections: status.connections,
        requests: status.requests,
        signatures: status.signatures,
        errors: status.errors,
        engines: status.engines,
        crypto_module: status.crypto_module,
        fips_module: status.fips_module,
    })
}

/// How good the protection of secrets in the daemon's memory is.
fn memory(how: &str) -> Cell {
    match how {
        "memfd_secret" => Cell::toned("memfd_secret (out of the kernel's own reach)", Tone::Good),
        "mlock" => Cell::toned("mlock (never swapped, never dumped)", Tone::Good),
        "unlocked" => {
            Cell::toned("unlocked: secrets can reach the swap; raise the daemon's LimitMEMLOCK", Tone::Bad)
        }
        other => Cell::from(other),
    }
}

impl View {
    fn module(&self) -> Cell {
        let what =
            if self.fips_module { "built as its FIPS module (docs/fips.md)" } else { "not a FIPS module" };
        format!("{}, {what}", self.crypto_module).into()
    }

    fn state(&self) -> Cell {
        match self.state {
            "open" => Cell::toned(format!("open, unsealed by: {}", self.sealed_with), Tone::Good),
            "tampered" => Cell::toned("TAMPERED", Tone::Bad),
            other => Cell::toned(format!("{other}, unsealed by: {}", self.sealed_with), Tone::Doubtful),
        }
    }

    /// What to do about a node that is not open.
    fn remedy(&self) -> String {
        match (self.state, &self.tampering) {
            ("tampered", Some(what)) => format!("{what}\nSee 'strongroom tamper show'."),
            ("sealed", _) => "No key is in memory: unseal the node with 'strongroom unseal'.".to_owned(),
            _ => "Everything in it was destroyed. A restart of strongroomd begins anew.".to_owned(),
        }
    }
}

impl Report for View {
    fn text(&self, page: &mut Page) {
        let uptime = humantime::format_duration(Duration::from_secs(self.uptime_seconds));
        page.fields([
            ("strongroomd", Cell::toned(format!("running, {}", self.daemon), Tone::Good)),
            ("state", self.state()),
            ("uptime", uptime.to_string().into()),
            ("socket", self.socket.display().to_string().into()),
            ("store", self.store.as_str().into()),
            ("memory", memory(&self.memory)),
            ("crypto module", self.module()),
            ("connections", self.connections.to_string().into()),
            ("requests", format!("{}, of which {} failed", self.requests, self.errors).into()),
            ("signatures", self.signatures.to_string().into()),
        ]);
        let keys: u64 = self.partitions.iter().map(PartitionView::keys).sum();
        let memory: u64 = self.partitions.iter().map(PartitionView::memory).sum();
        if let Some(each) = memory.checked_div(keys) {
            page.line(format!(
                "keys         {keys}, {each} bytes of memory for each with what belongs to it"
            ));
        }
        for engine in &self.engines {
            page.line(format!("engine       {engine}"));
        }
        for what in &self.also_opened_by {
            let (title, remedy) = left_behind(what);
            page.line(format!("\nNot only what unseals the node opens its store: {title}; {remedy}."));
        }
        if self.state != "open" {
            page.line(format!("\n{}", self.remedy()));
        } else if self.partitions.is_empty() {
            page.line("\nNo partition yet: make one with 'strongroom init LABEL'.");
        } else {
            page.line("");
            PartitionView::table(&self.partitions, page);
        }
    }
}
