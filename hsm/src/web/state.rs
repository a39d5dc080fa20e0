//! What the page shows, as JSON. It asks once a second.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;
use strongroom_audit::Entry;
use strongroom_protocol::v1::{NodeState, ObjectClass};

use crate::audit::NODE;
use crate::crypto::{KeyKind, aws_lc};
use crate::memory::arena;
use crate::metrics::{Totals, key_type_name};
use crate::object::Search;
use crate::partition::{MAX_OBJECTS, Partition};
use crate::policy::{self, Needs};
use crate::records::hex;
use crate::request::may_see;
use crate::service::Service;
use crate::session::Session;
use crate::vault::{Slot, Vault};

/// Keys that are shown of a partition. The command lists all.
const MOST_KEYS: usize = 200;

/// Audit entries that are shown. The command shows all.
const MOST_ENTRIES: usize = 20;

/// The node at this moment.
#[derive(Serialize)]
pub(super) struct State {
    version: &'static str,
    /// What computes.
    crypto_module: String,
    /// "open", or why no key is served: "waiting" (for etcd), "sealed", "tampered", "zeroized".
    node: String,
    uptime_seconds: f64,
    memory: &'static str,
    memory_bytes: usize,
    connections: usize,
    channels: usize,
    store_failing: bool,
    engines: Vec<String>,
    queue: Vec<Waiting>,
    /// The upper bounds of [`Operation::buckets`], in seconds; one more bucket has the rest.
    bounds: Vec<f64>,
    partitions: Vec<PartitionState>,
    /// The audit log cannot be written.
    audit_failing: bool,
    /// The last audit entries, the newest first; `null` if the pass shows none.
    audit: Option<Vec<AuditEntry>>,
    /// `null` if the node is of none.
    cluster: Option<Cluster>,
    /// Whether the request came with a pass that is good.
    has_pass: bool,
}

/// As the node sees it.
#[derive(Serialize)]
struct Cluster {
    name: String,
    /// This one.
    node: String,
    members: Vec<String>,
    /// etcd's, of the last change that the node has.
    revision: u64,
    lag: u64,
    majority: bool,
    lease_left_seconds: u64,
}

impl Cluster {
    fn of(vault: &Vault) -> Option<Self> {
        let standing = vault.standing().ok().filter(|standing| !standing.cluster.is_empty())?;
        Some(Cluster {
            name: standing.cluster,
            node: standing.node,
            members: standing.members.into_iter().map(|member| member.name).collect(),
            revision: standing.revision,
            lag: standing.lag,
            majority: standing.majority,
            lease_left_seconds: standing.lease_left_millis / 1000,
        })
    }
}

#[derive(Serialize)]
struct AuditEntry {
    time: String,
    /// The partition's label; empty in the node's own log.
    partition: String,
    who: String,
    what: String,
    outcome: String,
}

#[derive(Serialize)]
struct Waiting {
    key_type: String,
    signatures: u64,
}

#[derive(Serialize)]
struct PartitionState {
    number: u32,
    label: String,
    /// "sound" or "damaged".
    state: &'static str,
    objects: usize,
    objects_limit: usize,
    /// Private and secret keys.
    keys_held: usize,
    /// What all objects take when all keys are in use, in bytes.
    memory_bytes: usize,
    users: usize,
    locked_users: usize,
    wrong_passwords: u64,
    /// In seconds since 1970; `null` if none is known of.
    last_backup: Option<u64>,
    operations: Vec<Operation>,
    /// `null` if the pass does not show them.
    keys: Option<Vec<Key>>,
}

#[derive(Serialize)]
struct Operation {
    operation: &'static str,
    key_type: String,
    success: u64,
    refused: u64,
    failed: u64,
    /// Of those that succeeded, together.
    seconds: f64,
    buckets: Vec<u64>,
}

#[derive(Serialize)]
struct Key {
    label: String,
    key_type: String,
    class: &'static str,
    id: String,
    /// In seconds since 1970.
    created: u64,
}

/// The state's name, in lower case.
pub(super) fn state_name(state: NodeState) -> String {
    state.as_str_name().trim_start_matches("NODE_STATE_").to_ascii_lowercase()
}

impl State {
    pub(super) fn of(service: &Service, holder: Option<&Arc<Session>>) -> Self {
        let waiting = KeyKind::BATCHED.into_iter().zip(service.engine.waiting());
        let bounds = Totals::default().histogram().into_iter().map(|(bound, _)| bound);
        State {
            version: env!("CARGO_PKG_VERSION"),
            crypto_module: aws_lc::module(),
            node: state_name(service.vault.node_state()),
            uptime_seconds: service.started.elapsed().as_secs_f64(),
            memory: arena::protection().name(),
            memory_bytes: crate::memory::taken(),
            connections: service.counters.connections.taken(),
            channels: service.engine.channels(),
            store_failing: service.vault.commits().is_failing(),
            engines: service.engine.describe(),
            queue: waiting
                .map(|(kind, signatures)| Waiting { key_type: kind.to_string(), signatures })
                .collect(),
            bounds: bounds.filter(|bound| *bound < f64::MAX).collect(),
            partitions: service.vault.slots().iter().map(|slot| partition(slot, holder)).collect(),
            audit_failing: !service.audit.is_healthy(),
            audit: holder.and_then(|holder| audit(service, holder)),
            cluster: Cluster::of(&service.vault),
            has_pass: holder.is_some(),
        }
    }
}

/// The last entries of the logs that the holder of the pass may read now; `None` if they may read none.
fn audit(service: &Service, holder: &Session) -> Option<Vec<AuditEntry>> {
    let sound = service.vault.slots().into_iter().filter_map(|slot| match slot {
        Slot::Sound(partition) => Some(partition),
        Slot::Damaged { .. } => None,
    });
    let readable = sound
        .filter(|partition| policy::permit(Needs::OfficerOrAppliance, &holder.acting(partition)).is_ok())
        .map(|partition| partition.number())
        .chain(holder.root.then_some(NODE));
    let logs: Vec<Vec<Entry>> = readable.map(|log| service.audit.last_entries(log)).collect();
    if logs.is_empty() {
        return None;
    }
    let mut entries: Vec<Entry> = logs.into_iter().flatten().collect();
    entries.sort_by(|one, other| other.time.cmp(&one.time));
    Some(entries.into_iter().take(MOST_ENTRIES).map(shown).collect())
}

fn shown(entry: Entry) -> AuditEntry {
    let who = match (entry.user.is_empty(), entry.role.is_empty(), entry.uid) {
        (false, ..) => entry.user,
        (true, false, _) => entry.role,
        (true, true, Some(uid)) => format!("user id {uid}"),
        (true, true, None) => "daemon".to_owned(),
    };
    let mut what = entry.action;
    if !entry.key.is_empty() {
        what = format!("{what} {}", entry.key);
    }
    if let Some(count) = entry.count {
        what = format!("{what} ×{count}");
    }
    AuditEntry { time: entry.time, partition: entry.partition, who, what, outcome: entry.outcome }
}

fn partition(slot: &Slot, holder: Option<&Arc<Session>>) -> PartitionState {
    let partition = match slot {
        Slot::Sound(partition) => partition,
        Slot::Damaged { record, .. } => {
            return PartitionState {
                number: record.number,
                label: record.label.clone(),
                state: "damaged",
                objects: 0,
                objects_limit: MAX_OBJECTS,
                keys_held: 0,
                memory_bytes: 0,
                users: 0,
                locked_users: 0,
                wrong_passwords: 0,
                last_backup: None,
                operations: Vec::new(),
                keys: None,
            };
        }
    };
    let contents = partition.contents();
    let meter = partition.meter();
    let last_backup = meter.last_backup.load(Ordering::Relaxed);
    PartitionState {
        number: partition.number(),
        label: partition.label().to_owned(),
        state: "sound",
        objects: contents.objects.len(),
        objects_limit: MAX_OBJECTS,
        keys_held: contents.objects.keys(),
        memory_bytes: contents.bytes(),
        users: contents.users.len(),
        locked_users: contents
            .users
            .iter()
            .filter(|user| user.is_locked(contents.settings.max_attempts))
            .count(),
        wrong_passwords: meter.logins.wrong.load(Ordering::Relaxed),
        last_backup: (last_backup > 0).then_some(last_backup),
        operations: operations(partition),
        keys: holder.and_then(|holder| {
            drop(contents);
            keys(partition, holder)
        }),
    }
}

/// By operation and key type, whatever the mechanism.
fn operations(partition: &Partition) -> Vec<Operation> {
    let shown = partition.meter().by_key_type().into_iter().map(|(operation, key_type, totals)| {
        let [success, refused, failed] = totals.outcomes;
        let (seconds, buckets) = (totals.time.as_secs_f64(), totals.buckets.to_vec());
        let (operation, key_type) = (operation.name(), key_type_name(key_type));
        Operation { operation, key_type, success, refused, failed, seconds, buckets }
    });
    shown.collect()
}

/// Those that the holder of the pass may see now; `None` if they act as nobody here.
fn keys(partition: &Partition, holder: &Session) -> Option<Vec<Key>> {
    let acting = holder.acting(partition);
    acting.shown()?;
    let contents = partition.contents();
    let keys =
        contents.objects.find(Search::default()).filter(|object| may_see(&acting, &contents.objects, object));
    let shown = keys.filter_map(|object| {
        let class = match object.info.class() {
            ObjectClass::PrivateKey => "private key",
            ObjectClass::PublicKey => "public key",
            ObjectClass::SecretKey => "secret key",
            ObjectClass::Certificate => "certificate",
            _ => return None,
        };
        Some(Key {
            label: object.info.label.clone(),
            key_type: key_type_name(object.info.key_type()),
            class,
            id: hex(&object.info.id),
            created: object.info.created,
        })
    });
    Some(shown.take(MOST_KEYS).collect())
}
