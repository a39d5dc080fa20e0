//! Hello and Status.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use strongroom_protocol::VERSION;
use strongroom_protocol::v1::{
    Hello, HelloReply, KeyType, OperationTotals, PageReply, StatusReply, response,
};

use super::Context;
use crate::crypto::aws_lc;
use crate::failure::{Failure, refuse};
use crate::memory::arena;
use crate::metrics::Totals;
use crate::service::Service;
use crate::session::Session;
use crate::vault::Slot;

pub(super) fn hello(context: &Context, hello: &Hello) -> Result<response::Result, Failure> {
    if !hello.versions.contains(&VERSION) {
        return refuse!(
            Unsupported,
            "this strongroomd speaks version {VERSION} of the protocol, the client {:?}; use one release for both",
            hello.versions
        );
    }
    context.session.peer.set_program(&hello.client);
    tracing::debug!(client = ?context.session.peer.program(), "hello");
    Ok(response::Result::Hello(HelloReply {
        version: VERSION,
        daemon: env!("CARGO_PKG_VERSION").to_owned(),
        instance: context.service.instance.to_vec(),
        knows_once: true,
    }))
}

/// A pass for the page, and where the page is.
pub(super) fn show_page(service: &Service, session: Arc<Session>) -> Result<response::Result, Failure> {
    let addresses = service.pages.get().cloned().unwrap_or_default();
    if addresses.is_empty() {
        return refuse!(
            Unavailable,
            "strongroomd has no page: start it with --metrics 127.0.0.1:9823, or 'systemctl enable --now \
             strongroomd-metrics.socket'"
        );
    }
    let pass = service.passes.issue(session, Instant::now());
    Ok(response::Result::Page(PageReply { addresses, pass }))
}

pub(super) fn status(context: &Context) -> response::Result {
    let service = &context.service;
    let means = service.vault.means();
    let (channel_requests, channel_errors) = service.engine.channel_requests();
    let slots = service.vault.slots();
    let objects = slots
        .iter()
        .map(|slot| match slot {
            Slot::Sound(partition) => partition.contents().objects.len() as u64,
            Slot::Damaged { .. } => 0,
        })
        .sum();
    response::Result::Status(StatusReply {
        daemon: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_seconds: service.started.elapsed().as_secs(),
        partitions: slots.len() as u32,
        objects,
        connections: service.counters.connections.taken() as u32,
        requests: service.counters.requests.load(Ordering::Relaxed) + channel_requests,
        signatures: service.engine.made(),
        errors: service.counters.errors.load(Ordering::Relaxed) + channel_errors,
        memory: arena::protection().name().to_owned(),
        store_path: service.vault.location(),
        engines: service.engine.describe(),
        state: service.vault.node_state().into(),
        sealed_with: means.name.to_owned(),
        also_opened_by: means.also.into_iter().map(str::to_owned).collect(),
        tampering: service
            .vault
            .tampering()
            .and_then(|t| t.findings.into_iter().next())
            .map(|f| f.what)
            .unwrap_or_default(),
        crypto_module: aws_lc::module(),
        fips_module: aws_lc::is_fips_module(),
        operations: operations(&slots, &context.session),
        latency_bounds: Totals::bounds().to_vec(),
        uptime_millis: service.started.elapsed().as_millis() as u64,
    })
}

/// What was done with keys in the partitions that concern whoever asks: nobody learns how busy others are.
fn operations(slots: &[Slot], session: &Session) -> Vec<OperationTotals> {
    let mut sums: BTreeMap<(&'static str, i32), Totals> = BTreeMap::new();
    for slot in slots {
        let Slot::Sound(partition) = slot else { continue };
        if !session.root && session.acting(partition).shown().is_none() {
            continue;
        }
        for (operation, key_type, totals) in partition.meter().by_key_type() {
            if key_type != KeyType::Unspecified {
                sums.entry((operation.name(), key_type.into())).or_default().add(&totals);
            }
        }
    }
    let totals = sums.into_iter().map(|((operation, key_type), totals)| {
        let [succeeded, refused, failed] = totals.outcomes;
        let (operation, nanoseconds) = (operation.to_owned(), totals.time.as_nanos() as u64);
        let buckets = totals.buckets.to_vec();
        OperationTotals { operation, key_type, succeeded, refused, failed, nanoseconds, buckets }
    });
    totals.collect()
}
