//! The metrics as text.

mod audit;
mod cluster;
mod sheet;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;
use strongroom_protocol::v1::NodeState;

use self::sheet::{Labels, Sheet, labels};
use super::operation::{Outcome, key_type_name, mechanism_name};
use super::series::Totals;
use crate::crypto::{KeyKind, aws_lc};
use crate::memory::{Protection, arena};
use crate::partition::{MAX_OBJECTS, Partition};
use crate::service::Service;
use crate::vault::Slot;

/// All metrics of the daemon, in OpenMetrics' text format (version 1.0.0).
///
/// # Errors
///
/// None that can be told of: writing to a string.
pub fn text(service: &Arc<Service>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Node(Arc::clone(service))));
    let mut text = String::with_capacity(16 * 1024);
    text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Node(Arc<Service>);

impl Collector for Node {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut sheet = Sheet(encoder);
        let slots = self.0.vault.slots();
        process(&mut sheet, &self.0)?;
        node(&mut sheet, &self.0, &slots)?;
        engine(&mut sheet, &self.0)?;
        store(&mut sheet, &self.0)?;
        cluster::cluster(&mut sheet, &self.0.vault)?;
        audit::audit(&mut sheet, &self.0.audit)?;
        partitions(&mut sheet, &slots)
    }
}

fn number(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// What every program of Prometheus' world says of itself.
fn process(sheet: &mut Sheet<'_>, service: &Service) -> fmt::Result {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let started = now.saturating_sub(service.started.elapsed()).as_secs();
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let cpu = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
    sheet.gauge(
        "process_start_time_seconds",
        "When the daemon started, in seconds since 1970.",
        started as f64,
    )?;
    sheet.seconds("process_cpu", "Processor time that the daemon has used.", cpu)?;
    if let Some(resident) = resident_memory() {
        sheet.gauge("process_resident_memory_bytes", "Memory of the daemon.", resident as f64)?;
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // The folder itself is one of them meanwhile.
        let open = open.count().saturating_sub(1);
        sheet.gauge("process_open_fds", "Files and sockets that the daemon has open.", open as f64)?;
    }
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    sheet.gauge(
        "process_max_fds",
        "How many it may have open.",
        most.map_or(f64::INFINITY, |most| most as f64),
    )
}

/// In bytes.
fn resident_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn node(sheet: &mut Sheet<'_>, service: &Service, slots: &[Slot]) -> fmt::Result {
    let version = labels([
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("crypto_module", aws_lc::module()),
        ("fips_module", aws_lc::is_fips_module().to_string()),
    ]);
    sheet.info("strongroom_build", "The release of strongroomd, and what computes.", version)?;
    let damaged = slots.iter().filter(|slot| matches!(slot, Slot::Damaged { .. })).count();
    sheet.gauges(
        "strongroom_partitions",
        "Partitions by their state; what is damaged is not used.",
        [("sound", slots.len() - damaged), ("damaged", damaged)]
            .map(|(state, count)| (labels([("state", state)]), count as f64)),
    )?;
    let protection = arena::protection();
    sheet.gauges(
        "strongroom_secret_memory_protection",
        "How keys lie in memory: 1 for the way in use, memfd_secret the best.",
        Protection::ALL.map(|way| (labels([("way", way.name())]), f64::from(u8::from(way == protection)))),
    )?;
    sheet.gauge(
        "strongroom_secret_memory_bytes",
        "Protected memory for keys and what is computed with them.",
        crate::memory::taken() as f64,
    )?;
    let counters = &service.counters;
    sheet.gauge(
        "strongroom_connections",
        "Connections of clients that are open.",
        counters.connections.taken() as f64,
    )?;
    sheet.counter(
        "strongroom_connections_refused",
        "Connections turned away because there were too many.",
        number(&counters.turned_away),
    )?;
    sheet.gauge(
        "strongroom_channels",
        "Clients that ask through shared memory.",
        service.engine.channels() as f64,
    )?;
    let (requests, refused) = service.engine.channel_requests();
    let of_connections = (number(&counters.requests), number(&counters.errors));
    let ways = [("connection", of_connections), ("channel", (requests, refused))];
    sheet.counters(
        "strongroom_requests",
        "Requests, by the way that they came.",
        ways.map(|(way, (all, _))| (labels([("way", way)]), all)),
    )?;
    sheet.counters(
        "strongroom_requests_refused",
        "Requests that were answered with an error, for whatever reason.",
        ways.map(|(way, (_, refused))| (labels([("way", way)]), refused)),
    )
}

fn engine(sheet: &mut Sheet<'_>, service: &Service) -> fmt::Result {
    let of_kind = |kind: KeyKind| labels([("key_type", kind.to_string())]);
    sheet.gauges(
        "strongroom_queue_length",
        "Signatures that wait for a signing thread.",
        KeyKind::BATCHED.into_iter().zip(service.engine.waiting()).map(|(kind, n)| (of_kind(kind), n as f64)),
    )?;
    sheet.histograms(
        "strongroom_batch_size",
        "Signatures that were computed together.",
        None,
        KeyKind::BATCHED.into_iter().zip(service.engine.batches()).map(|(kind, sizes)| {
            let signatures = sizes.iter().zip(1..).map(|(batches, size)| batches * size).sum::<u64>() as f64;
            let sizes = sizes.into_iter().zip(1u32..);
            let buckets = sizes.map(|(batches, size)| (f64::from(size), batches)).chain([(f64::MAX, 0)]);
            (of_kind(kind), signatures, buckets.collect())
        }),
    )
}

fn store(sheet: &mut Sheet<'_>, service: &Service) -> fmt::Result {
    let state = service.vault.node_state();
    for (is, name, help) in [
        (NodeState::Sealed, "strongroom_node_sealed", "1 if the node is sealed: no key is in memory."),
        (
            NodeState::Waiting,
            "strongroom_node_waiting",
            "1 if the node has no keys because no majority of etcd's members has answered since its start.",
        ),
        (
            NodeState::Tampered,
            "strongroom_node_tampered",
            "1 if the store is not what the node wrote: nothing is served.",
        ),
    ] {
        sheet.gauge(name, help, f64::from(u8::from(state == is)))?;
    }
    let commits = service.vault.commits();
    let totals = commits.totals();
    let [success, _, failed] = totals.outcomes;
    sheet.counters(
        "strongroom_store_commits",
        "Changes written to the store.",
        [(Outcome::Success, success), (Outcome::Failed, failed)]
            .map(|(outcome, count)| (labels([("outcome", outcome.name())]), count)),
    )?;
    sheet.durations(
        "strongroom_store_commit_duration",
        "How long a change took until it was on disk.",
        [(Labels::new(), totals)],
    )?;
    sheet.gauge(
        "strongroom_store_failing",
        "1 if the last change could not be written: changes are refused, signatures are made.",
        f64::from(u8::from(commits.is_failing())),
    )
}

/// A line for each partition, with its label.
fn each<'a, T>(
    slots: &'a [Slot],
    value: impl Fn(&Partition) -> T + 'a,
) -> impl Iterator<Item = (Labels, T)> + 'a {
    slots.iter().filter_map(move |slot| match slot {
        Slot::Sound(partition) => Some((labels([("partition", partition.label())]), value(partition))),
        Slot::Damaged { .. } => None,
    })
}

/// Several lines for each partition, with further labels.
fn all<'a, T: 'a, const N: usize>(
    slots: &'a [Slot],
    values: impl Fn(&Partition) -> Vec<([(&'static str, String); N], T)> + 'a,
) -> impl Iterator<Item = (Labels, T)> + 'a {
    each(slots, values).flat_map(|(partition, values)| {
        values.into_iter().map(move |(more, value)| {
            let mut labels = partition.clone();
            labels.extend(sheet::labels(more));
            (labels, value)
        })
    })
}

fn partitions(sheet: &mut Sheet<'_>, slots: &[Slot]) -> fmt::Result {
    let states = slots.iter().flat_map(|slot| {
        let (label, is_sound) = match slot {
            Slot::Sound(partition) => (partition.label(), true),
            Slot::Damaged { record, .. } => (record.label.as_str(), false),
        };
        [("sound", is_sound), ("damaged", !is_sound)].map(|(state, is_so)| {
            (labels([("partition", label), ("state", state)]), f64::from(u8::from(is_so)))
        })
    });
    sheet.gauges("strongroom_partition_state", "1 for the state that a partition is in.", states)?;
    sheet.gauges(
        "strongroom_objects",
        "Keys, certificates and data objects.",
        each(slots, |partition| partition.contents().objects.len() as f64),
    )?;
    sheet.gauges(
        "strongroom_objects_limit",
        "How many a partition may have.",
        each(slots, |_| MAX_OBJECTS as f64),
    )?;
    limits(sheet, slots)?;
    sheet.gauges(
        "strongroom_users",
        "Users by whether they are locked after wrong passwords.",
        all(slots, |partition| {
            let contents = partition.contents();
            let locked =
                contents.users.iter().filter(|user| user.is_locked(contents.settings.max_attempts)).count();
            [("locked", locked), ("open", contents.users.len() - locked)]
                .map(|(state, count)| ([("state", state.to_owned())], count as f64))
                .to_vec()
        }),
    )?;
    sheet.counters(
        "strongroom_logins",
        "Log-ins with a password or a ticket.",
        all(slots, |partition| {
            let logins = &partition.meter().logins;
            let outcomes = [
                ("success", &logins.success),
                ("wrong_password", &logins.wrong),
                ("locked", &logins.locked),
                ("other", &logins.other),
            ];
            outcomes.map(|(outcome, count)| ([("outcome", outcome.to_owned())], number(count))).to_vec()
        }),
    )?;
    sheet.gauges(
        "strongroom_last_backup_timestamp_seconds",
        "When the last backup of the partition was made, in seconds since 1970; 0 if none is known of.",
        each(slots, |partition| number(&partition.meter().last_backup) as f64),
    )?;
    sheet.counters(
        "strongroom_refusals",
        "Refused requests by the protocol's code.",
        all(slots, |partition| {
            let refusals = partition.meter().refusals().into_iter();
            let name = |code: &'static str| code.trim_start_matches("ERROR_CODE_").to_owned();
            refusals.map(|(code, count)| ([("code", name(code.as_str_name()))], count)).collect()
        }),
    )?;
    operations(sheet, slots)
}

/// What partitions take and may take, and what they refuse.
fn limits(sheet: &mut Sheet<'_>, slots: &[Slot]) -> fmt::Result {
    sheet.gauges(
        "strongroom_keys",
        "Private and secret keys.",
        each(slots, |partition| partition.contents().objects.keys() as f64),
    )?;
    sheet.gauges(
        "strongroom_partition_memory_bytes",
        "Memory that a partition's objects take when all its keys are in use.",
        each(slots, |partition| partition.contents().bytes() as f64),
    )?;
    let unlimited = |most: f64| if most > 0.0 { most } else { f64::INFINITY };
    sheet.gauges(
        "strongroom_quota",
        "What root lets a partition have: keys, bytes of memory, operations a second. +Inf: as much as any.",
        all(slots, move |partition| {
            let quota = partition.contents().settings.quota;
            let of = [
                ("keys", quota.keys as f64),
                ("memory", quota.memory as f64),
                ("operations", f64::from(quota.operations)),
            ];
            of.map(|(what, most)| ([("of", what.to_owned())], unlimited(most))).to_vec()
        }),
    )?;
    sheet.gauges(
        "strongroom_fips_state",
        "2 for a partition that refuses what NIST does not approve of, 0 for others.",
        each(slots, |partition| if partition.meter().limits.is_fips() { 2.0 } else { 0.0 }),
    )
}

fn operations(sheet: &mut Sheet<'_>, slots: &[Slot]) -> fmt::Result {
    sheet.counters(
        "strongroom_operations",
        "Operations by what was asked for, with which key type and mechanism, and how it went: 'refused' for a reason \
         that lies in the request, 'failed' for one that lies in the daemon.",
        all(slots, |partition| {
            let sorts = partition.meter().totals().into_iter();
            let lines = sorts.flat_map(|(operation, key_type, mechanism, totals)| {
                Outcome::ALL.into_iter().zip(totals.outcomes).filter(|(_, count)| *count > 0).map(
                    move |(outcome, count)| {
                        let labels = [
                            ("operation", operation.name().to_owned()),
                            ("key_type", key_type_name(key_type)),
                            ("mechanism", mechanism_name(mechanism).to_owned()),
                            ("outcome", outcome.name().to_owned()),
                        ];
                        (labels, count)
                    },
                )
            });
            lines.collect()
        }),
    )?;
    sheet.durations(
        "strongroom_operation_duration",
        "How long operations took that succeeded, from the request's arrival to its answer.",
        all(slots, |partition| {
            let mut lines: Vec<(_, Totals)> = Vec::new();
            for (operation, key_type, _, totals) in partition.meter().totals() {
                let sort = (operation, key_type);
                match lines.last_mut() {
                    Some((last, sum)) if *last == sort => sum.add(&totals),
                    _ => lines.push((sort, totals)),
                }
            }
            lines.retain(|(_, totals)| totals.timed() > 0);
            let named = lines.into_iter().map(|((operation, key_type), totals)| {
                let names = (operation.name().to_owned(), key_type_name(key_type));
                ([("operation", names.0), ("key_type", names.1)], totals)
            });
            named.collect()
        }),
    )
}
