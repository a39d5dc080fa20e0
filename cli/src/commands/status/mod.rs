//! `strongroom status`: whether the daemon runs, how it keeps keys, and what it has done.

mod rates;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use strongroom_protocol::client::Connection;
use strongroom_protocol::v1::{NodeState, Status, StatusReply, request::Op};

use rates::Rates;

use crate::args::Global;
use crate::commands::cluster;
use crate::commands::partition::PartitionView;
use crate::commands::seal::{left_behind, state_name};
use crate::failure::Failure;
use crate::output::{Cell, Output, Page, Report, Tone};
use crate::session::{self, answer};

pub(crate) const ABOUT: &str = "\
Show whether the daemon runs, how it keeps keys, and what it has done.

Exit code 0: it runs and answers. 3: it does not; standard error says what to do.

What was done with keys is counted since the daemon's start, in the partitions in which you act as somebody (root: in all). How long it \
took is measured in the daemon, from the request's arrival to its answer.

  strongroom status --watch            a line each second: operations a second and their latency
  strongroom status --watch=10s        a line each ten seconds
  strongroom status --watch=5s --times 1 --json          one measurement, for programs";

/// `strongroom status`.
#[derive(Debug, Args)]
pub struct Asked {
    /// Print what is done, a line for each interval [default: 1s], until interrupted
    #[arg(long, value_name = "TIME", value_parser = interval, num_args = 0..=1, require_equals = true, default_missing_value = "1s")]
    watch: Option<Duration>,
    /// With --watch: end after so many lines
    #[arg(long, value_name = "NUMBER", requires = "watch", value_parser = clap::value_parser!(u64).range(1..))]
    times: Option<u64>,
}

fn interval(text: &str) -> Result<Duration, String> {
    let (least, most) = (Duration::from_millis(100), Duration::from_secs(86_400));
    let time = humantime::parse_duration(text).ok().filter(|time| (least..=most).contains(time));
    time.ok_or_else(|| "a time between 100ms and 1d, as in 1s, 10s, 5m".to_owned())
}

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
    /// What was done with keys since the start, in the partitions that concern the caller.
    done: Rates,
    /// Of a node of a cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<cluster::Shown>,
    /// "open", "waiting" (for etcd), "sealed", "tampered" or "zeroized".
    state: &'static str,
    /// What unseals the node.
    sealed_with: String,
    /// What opens the store besides.
    also_opened_by: Vec<String>,
    /// What was found first in a store that was tampered with.
    tampering: Option<String>,
}

fn ask(connection: &mut Connection) -> Result<StatusReply, Failure> {
    answer!(connection.call(0, Op::Status(Status {})), Status)
}

fn is_open(status: &StatusReply) -> bool {
    matches!(status.state(), NodeState::Open | NodeState::Unspecified)
}

impl Asked {
    /// Asks the daemon and prints what it says.
    ///
    /// # Errors
    ///
    /// If the daemon does not run or answer.
    pub fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        match self.watch {
            Some(interval) => watch::run(global, interval, self.times),
            None => once(global, output),
        }
    }
}

fn once(global: &Global, output: Output) -> Result<(), Failure> {
    let mut connection = session::connect(global)?;
    let status = ask(&mut connection)?;
    // A node that is not open does not say what is in it.
    let partitions = if is_open(&status) { session::partitions(&mut connection)? } else { Vec::new() };
    // A daemon of an earlier release does not know the question, one that is sealed not the answer.
    let cluster = cluster::standing(&mut connection).ok().filter(|standing| !standing.cluster.is_empty());
    output.print(&View {
        running: true,
        cluster: cluster.map(cluster::Shown::from),
        done: Rates::since_the_start(&status),
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
            ("waiting", _) => "No key is in memory yet: no majority of etcd's members has answered since strongroomd was started or \
                               unsealed. It goes on by itself; see 'strongroom cluster status'."
                .to_owned(),
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
        if let Some(cluster) = &self.cluster {
            cluster.line(page);
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
            if !self.done.operations.is_empty() {
                page.line("\nSince the start:");
                self.done.table(page);
            }
        }
    }
}
