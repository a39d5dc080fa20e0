//! ReadAudit and DescribeAudit.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use strongroom_protocol::v1::{
    AuditDescription, AuditLog, AuditPage, AuditSink, AuditUses, ReadAudit, SetAudit, response,
};

use super::{Context, blocking, partitions};
use crate::audit::sink::SinkStatus;
use crate::audit::{LogStatus, NODE, Start};
use crate::failure::{Failure, refuse};
use crate::partition::Partition;
use crate::policy::{self, Needs};
use crate::service::Service;

/// The most lines that one request may ask the end of a log for.
const MOST_LAST: u32 = 10_000;

/// Everybody may know where the log is and how it is verified; who may read it, how far it has got.
pub(super) fn describe(context: &Context, number: u32) -> response::Result {
    let service = &context.service;
    let audit = &service.audit;
    let is_shown = |log: &LogStatus| {
        if number == NODE {
            return context.acting.root;
        }
        let partition = service.vault.partition(number);
        log.log == number
            && partition.is_ok_and(|partition| {
                policy::permit(Needs::OfficerOrAppliance, &context.session.acting(&partition)).is_ok()
            })
    };
    let logs: Vec<LogStatus> = audit.logs().into_iter().filter(is_shown).collect();
    let sinks = if logs.is_empty() { Vec::new() } else { audit.sinks() };
    let is_owner = context.acting.root;
    let sink = |sink: SinkStatus| AuditSink {
        lag: logs.iter().map(|log| sink.lag(log.log, log.last)).sum(),
        name: sink.name,
        address: if is_owner { sink.target.to_string() } else { String::new() },
        connected: sink.is_connected,
        error: if is_owner { sink.error } else { String::new() },
        since: sink.since.and_then(|since| since.duration_since(UNIX_EPOCH).ok()).map_or(0, |s| s.as_secs()),
        failures: sink.failures,
    };
    let sinks = sinks.into_iter().map(sink).collect();
    let log = |log: &LogStatus| AuditLog {
        log: log.name.clone(),
        last: log.last,
        partition: service.vault.partition(log.log).map(|p| p.label().to_owned()).unwrap_or_default(),
    };
    response::Result::AuditDescription(AuditDescription {
        directory: audit.directory().display().to_string(),
        healthy: audit.is_healthy(),
        public_key: audit.public_key().map(|key| key.to_spki()).unwrap_or_default(),
        logs: logs.iter().map(log).collect(),
        sinks,
    })
}

pub(super) async fn set(
    context: &Context,
    partition: &Arc<Partition>,
    request: SetAudit,
) -> Result<response::Result, Failure> {
    let each = match request.uses() {
        AuditUses::Each => true,
        AuditUses::Sums => false,
        AuditUses::Unspecified => {
            return refuse!(
                AttributeWrong,
                "uses of keys stand in the audit log each, or in sums: say which"
            );
        }
    };
    partitions::change_settings(context, partition, request, move |settings| {
        settings.audit_each = each;
        Ok(())
    })
    .await
}

/// The node's own log is the owner's.
pub(super) async fn read_node(context: &Context, request: &ReadAudit) -> Result<response::Result, Failure> {
    policy::permit(Needs::Owner, &context.acting)?;
    read(&context.service, NODE, request).await
}

pub(super) async fn read(
    service: &Arc<Service>,
    log: u32,
    request: &ReadAudit,
) -> Result<response::Result, Failure> {
    let start = match (request.cursor.as_slice(), request.last) {
        ([], 0) => Start::Since(request.since_micros),
        ([], last) if last <= MOST_LAST => Start::Last(last as usize),
        ([], _) => return refuse!(Limit, "at most the last {MOST_LAST} entries can be asked for"),
        (cursor, _) => match cursor_of(cursor) {
            Some((file, offset)) => Start::After(file, offset),
            None => return refuse!(Malformed, "this is no place in an audit log"),
        },
    };
    if request.checkpoint {
        service.audit.checkpoint(log).await;
    }
    let audit = Arc::clone(&service.audit);
    blocking(move || match audit.page(log, &start) {
        Ok(page) => Ok(response::Result::AuditPage(AuditPage {
            lines: page.lines,
            cursor: [page.next.0.to_le_bytes(), page.next.1.to_le_bytes()].concat(),
            more: page.more,
        })),
        Err(error) => {
            tracing::error!("reading the audit log in {}: {error}", audit.directory().display());
            refuse!(
                AuditUnavailable,
                "the audit log in {} cannot be read: {error}",
                audit.directory().display()
            )
        }
    })
    .await
}

fn cursor_of(bytes: &[u8]) -> Option<(u64, u64)> {
    let (file, offset) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*file), u64::from_le_bytes(offset.try_into().ok()?)))
}
