//! ReadAudit and DescribeAudit.

use std::sync::Arc;

use strongroom_protocol::v1::{AuditDescription, AuditPage, ReadAudit, response};

use super::{Context, blocking};
use crate::audit::{NODE, Start};
use crate::failure::{Failure, refuse};
use crate::policy::{self, Needs};
use crate::service::Service;

/// The most lines that one request may ask the end of a log for.
const MOST_LAST: u32 = 10_000;

pub(super) fn describe(service: &Service) -> response::Result {
    let audit = &service.audit;
    response::Result::AuditDescription(AuditDescription {
        directory: audit.directory().display().to_string(),
        healthy: audit.is_healthy(),
        public_key: audit.public_key().map(|key| key.to_spki()).unwrap_or_default(),
    })
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
