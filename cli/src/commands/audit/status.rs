//! `strongroom audit status`.

use clap::Args;
use serde::Serialize;
use strongroom_audit::PublicKey;
use strongroom_protocol::v1::{
    AuditDescription, AuditLog, AuditSink, DescribeAudit, ReadAudit, Role, request::Op,
};

use super::super::moment;
use crate::args::Global;
use crate::failure::Failure;
use crate::output::{Cell, Output, Page, Report, Tone};
use crate::session::{self, Session, answer};

pub const ABOUT: &str = "\
Show whether the audit log gets to the disk and to where it is sent.

Root sees all logs, and the sinks with their addresses; a crypto officer or appliance user sees the partition's log. LAG is \
how many entries a sink has not been sent yet: they are in the log's files, and sent when the sink takes them again.

  strongroom audit status
  strongroom audit status --partition tls --login admin
  strongroom audit status --json | jq '.sinks[] | select(.lag > 0)'";

/// `strongroom audit status`.
#[derive(Debug, Args)]
pub struct Status {}

#[derive(Debug, Serialize)]
struct View {
    directory: String,
    /// Entries get to the disk.
    healthy: bool,
    /// SHA-256 of the public key.
    key: Option<String>,
    logs: Vec<LogView>,
    sinks: Vec<SinkView>,
}

#[derive(Debug, Serialize)]
struct LogView {
    log: String,
    partition: Option<String>,
    last: u64,
}

#[derive(Debug, Serialize)]
struct SinkView {
    name: String,
    address: Option<String>,
    connected: bool,
    lag: u64,
    failures: u64,
    error: Option<String>,
    since: Option<String>,
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

impl From<AuditDescription> for View {
    fn from(said: AuditDescription) -> Self {
        let log = |log: AuditLog| LogView { log: log.log, partition: some(log.partition), last: log.last };
        let sink = |sink: AuditSink| SinkView {
            name: sink.name,
            address: some(sink.address),
            connected: sink.connected,
            lag: sink.lag,
            failures: sink.failures,
            error: some(sink.error),
            since: (sink.since > 0).then(|| moment(sink.since)),
        };
        View {
            directory: said.directory,
            healthy: said.healthy,
            key: PublicKey::from_spki(&said.public_key).ok().map(|key| key.fingerprint()),
            logs: said.logs.into_iter().map(log).collect(),
            sinks: said.sinks.into_iter().map(sink).collect(),
        }
    }
}

impl Report for View {
    fn text(&self, page: &mut Page) {
        let health = match self.healthy {
            true => Cell::toned("written", Tone::Good),
            false => Cell::toned(
                "cannot be written: changes are refused until there is room on its disk",
                Tone::Bad,
            ),
        };
        let signed = self
            .key
            .as_ref()
            .map_or("not now: the node is not open".to_owned(), |key| format!("SHA256 {key}"));
        page.fields([
            ("audit log", health),
            ("files", self.directory.as_str().into()),
            ("signed with", signed.into()),
        ]);
        page.line("");
        let row = |log: &LogView| {
            vec![
                log.log.as_str().into(),
                log.partition.as_deref().unwrap_or("-").into(),
                Cell::from(log.last.to_string()),
            ]
        };
        page.table(&["LOG", "PARTITION", "ENTRIES"], self.logs.iter().map(row).collect());
        page.line("");
        if self.sinks.is_empty() {
            return page.line("Sent nowhere else: strongroomd --audit-sink.");
        }
        let row = |sink: &SinkView| {
            let state = match sink.connected {
                true => Cell::toned("connected", Tone::Good),
                false => Cell::toned("failing", Tone::Bad),
            };
            vec![
                sink.address.as_deref().unwrap_or(&sink.name).into(),
                state,
                Cell::from(sink.lag.to_string()),
                sink.since.as_deref().unwrap_or("-").into(),
                sink.error.as_deref().unwrap_or("-").into(),
            ]
        };
        page.table(&["SINK", "STATE", "LAG", "SINCE", "WHY"], self.sinks.iter().map(row).collect());
    }
}

impl Status {
    pub(super) fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        let describe = || Op::DescribeAudit(DescribeAudit {});
        let mut connection = session::connect(global)?;
        let mut said: AuditDescription = answer!(connection.call(0, describe()), AuditDescription)?;
        // Who is not root is shown the partition's.
        if said.logs.is_empty() {
            let mut session = Session::open_in_own_role(global, output, Role::CryptoOfficer)?;
            // Only who may read the log may see more: this logs in.
            let read = || Op::ReadAudit(ReadAudit { last: 1, ..ReadAudit::default() });
            session.call(Role::CryptoOfficer, read)?;
            said = answer!(session.call(Role::CryptoOfficer, describe), AuditDescription)?;
        }
        output.print(&View::from(said))
    }
}
