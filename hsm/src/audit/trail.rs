//! What one request leaves in the log.

use std::sync::{Arc, Mutex, PoisonError};

use strongroom_audit::chain::hex;
use strongroom_audit::{Entry, SUCCESS};
use strongroom_protocol::names;
use strongroom_protocol::v1::{KeyPolicy, KeyType, ObjectInfo, Role, request::Op, response};

use super::actions::{self, Kind};
use super::uses::{Subject, Uses};
use super::{Audit, Must, NODE, error_name};
use crate::changes;
use crate::failure::Failure;
use crate::metrics::Operation;
use crate::object::Object;
use crate::partition::Partition;
use crate::policy::{self, Needs};
use crate::service::Service;
use crate::session::{Acting, Session};

/// Counters that a connection remembers: a program uses few keys.
const REMEMBERED: usize = 8;

/// What a request leaves in the log: an entry of its own, or one more in a sum.
pub struct Trail {
    service: Arc<Service>,
    /// The request's number.
    id: u64,
    /// By whom its own entries are limited.
    account: u32,
    kind: TrailKind,
}

enum TrailKind {
    /// Counted; `None` once it was.
    Counted(Option<Arc<Uses>>),
    Entry {
        log: u32,
        entry: Box<Entry>,
        /// Whether it is noted before it begins.
        is_change: bool,
        /// Counts it, where there would be too many entries.
        instead: Option<Arc<Uses>>,
    },
}

impl Trail {
    /// Begins the trail of a request for a partition (0: the daemon).
    pub fn of(service: &Arc<Service>, session: &Session, number: u32, id: u64, op: &Op) -> Self {
        let audit = &service.audit;
        let (action, kind) = actions::of(op);
        let service = Arc::clone(service);
        if let Kind::Counted(object) = kind
            && let Some(known) = session.recent.find(number, action, object)
        {
            return Trail { service, id, account: session.uid, kind: TrailKind::Counted(Some(known)) };
        }
        // Before anything is looked up: see `changes`.
        let change = changes::number();
        let partition = service.vault.partition(number).ok();
        let acting = match &partition {
            Some(partition) => session.acting(partition),
            None => Acting { root: session.root, ..Acting::default() },
        };
        let count = |object: &[u8], whose: Whose| {
            let subject = subject(audit, session, partition.as_deref(), &acting, op, action, object, whose);
            audit.uses_of(subject)
        };
        let kind = match kind {
            Kind::Counted(object) => {
                let whose = if object.is_empty() { Whose::UserId } else { Whose::Connection };
                let uses = count(object, whose);
                session.recent.remember(change, number, action, object, &uses);
                TrailKind::Counted(Some(uses))
            }
            // What anybody can send is no entry each.
            Kind::Change | Kind::Session if policy::authorize(op, &acting).is_err() => {
                TrailKind::Counted(Some(count(actions::object(op), Whose::UserId)))
            }
            Kind::Change | Kind::Session => {
                let log = partition.as_ref().map_or(NODE, |partition| partition.number());
                let is_change = kind == Kind::Change;
                let is_strangers = is_change
                    && policy::responsible_user(policy::needs(op), &acting).is_none()
                    && !acting.root;
                let instead = (!is_change || is_strangers).then(|| count(&[], Whose::UserId));
                let mut entry = actions::describe(op, Entry::new(action, ""));
                name_who(&mut entry, audit, session, &acting, op);
                entry.request = Some(id);
                if let Some(partition) = &partition {
                    partition.label().clone_into(&mut entry.partition);
                    let object = partition.contents().known(actions::object(op));
                    match object {
                        Some(object) => name_object(&mut entry, &object.info),
                        None => entry.object = identity(actions::object(op)),
                    }
                }
                if let Op::Login(m) = op {
                    actions::name(&m.user).clone_into(&mut entry.user);
                    entry.role = role_name(m.role());
                }
                TrailKind::Entry { log, entry: Box::new(entry), is_change, instead }
            }
        };
        Trail { service, id, account: session.uid, kind }
    }

    /// Whether the request has to come to its end whatever becomes of its client, so that its outcome is noted.
    pub fn is_followed(&self) -> bool {
        matches!(self.kind, TrailKind::Entry { .. })
    }

    /// Notes that a change begins, and waits until that is on the disk.
    ///
    /// # Errors
    ///
    /// AUDIT_UNAVAILABLE: the change must not begin.
    pub async fn begin(&mut self) -> Result<(), Failure> {
        match &self.kind {
            TrailKind::Entry { log, entry, is_change: true, instead } => {
                if let Some(instead) = instead
                    && !self.service.audit.has_own_entry(self.account)
                {
                    let failure = Failure::new(
                        strongroom_protocol::v1::ErrorCode::Limit,
                        "too many requests of this user id that are noted one by one: wait a second",
                    );
                    instead.refused(failure.code, Some(self.id));
                    self.kind = TrailKind::Counted(None);
                    return Err(failure);
                }
                self.service.audit.begin(*log, (**entry).clone()).await
            }
            _ => Ok(()),
        }
    }

    /// Notes what came of a request that is only counted.
    pub fn counted(mut self, failure: Option<&Failure>) {
        if let TrailKind::Counted(uses) = &mut self.kind {
            match (uses.take(), failure) {
                (Some(uses), None) => uses.done(Some(self.id)),
                (Some(uses), Some(failure)) => uses.refused(failure.code, Some(self.id)),
                (None, _) => {}
            }
        }
    }

    /// Notes what came of it. What was changed or logged in is on the disk then.
    pub async fn end(mut self, result: &Result<response::Result, Failure>) {
        match std::mem::replace(&mut self.kind, TrailKind::Counted(None)) {
            TrailKind::Counted(uses) => count(uses.as_ref(), self.id, result),
            TrailKind::Entry { log, mut entry, is_change, instead } => {
                let audit = &self.service.audit;
                if !is_change && instead.is_some() && !audit.has_own_entry(self.account) {
                    return count(instead.as_ref(), self.id, result);
                }
                match result {
                    Ok(reply) => {
                        entry.outcome = SUCCESS.to_owned();
                        describe_reply(&mut entry, reply);
                    }
                    Err(failure) => entry.outcome = error_name(failure.code),
                }
                let entry = *entry;
                // What makes and deletes a partition is in both logs.
                match (entry.action.as_str(), result) {
                    ("create_partition", Ok(response::Result::Partition(made))) => {
                        audit.note(made.number, entry.clone());
                    }
                    ("delete_partition", _) => audit.note(NODE, entry.clone()),
                    _ => {}
                }
                // If the disk takes no more, memory keeps it: what is done is done.
                let is_about_the_node = log == NODE;
                audit.write(log, entry, Must::Last).await;
                if is_about_the_node {
                    audit.follow();
                }
            }
        }
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        if let TrailKind::Counted(Some(uses)) = &self.kind {
            uses.abandoned(Some(self.id));
        }
    }
}

fn count(uses: Option<&Arc<Uses>>, id: u64, result: &Result<response::Result, Failure>) {
    match (uses, result) {
        (Some(uses), Ok(_)) => uses.done(Some(id)),
        (Some(uses), Err(failure)) => uses.refused(failure.code, Some(id)),
        (None, _) => {}
    }
}

/// Whose requests are counted together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// A connection's: uses of keys.
    Connection,
    /// Those of a user id: anybody can connect again and again, and each would be an entry.
    UserId,
}

#[expect(clippy::too_many_arguments, reason = "an entry says as much")]
fn subject(
    audit: &Audit,
    session: &Session,
    partition: Option<&Partition>,
    acting: &Acting,
    op: &Op,
    action: &'static str,
    object: &[u8],
    whose: Whose,
) -> Subject {
    let mut entry = Entry::new(action, "");
    name_who(&mut entry, audit, session, acting, op);
    let known = partition.and_then(|partition| partition.contents().objects.get(object).map(Arc::clone));
    match known {
        Some(object) => name_object(&mut entry, &object.info),
        None => entry.object = identity(object),
    }
    subject_of(partition, action, entry, whose)
}

fn subject_of(partition: Option<&Partition>, action: &'static str, entry: Entry, whose: Whose) -> Subject {
    let own = whose == Whose::Connection;
    let each = own && partition.is_some_and(|partition| partition.contents().settings.audit_each);
    Subject {
        log: partition.map_or(NODE, Partition::number),
        action,
        partition: partition.map(Partition::label).unwrap_or_default().to_owned(),
        role: entry.role,
        user: entry.user,
        uid: entry.uid,
        pid: entry.pid.filter(|_| own),
        address: entry.address,
        certificate: entry.certificate,
        program: if own { entry.program } else { String::new() },
        connection: if own { entry.connection } else { String::new() },
        key: entry.key,
        object: entry.object,
        class: entry.class,
        key_type: entry.key_type,
        each,
    }
}

impl Audit {
    /// The counter of what a connection does with a key of a partition through its channel.
    pub(crate) fn uses_of_key(
        &self,
        session: &Session,
        partition: &Partition,
        acting: &Acting,
        action: Operation,
        object: &Object,
    ) -> Arc<Uses> {
        let mut entry = Entry::default();
        name_connection(&mut entry, self, session);
        name_key_user(&mut entry, acting);
        name_object(&mut entry, &object.info);
        self.uses_of(subject_of(Some(partition), action.name(), entry, Whose::Connection))
    }

    /// Counts what was refused to a connection with a channel.
    pub(crate) fn refused_use(
        &self,
        session: &Session,
        partition: Option<&Partition>,
        action: Operation,
        object: &[u8],
        code: strongroom_protocol::v1::ErrorCode,
    ) {
        let mut entry = Entry::default();
        name_connection(&mut entry, self, session);
        if let Some(partition) = partition {
            let acting = session.acting(partition);
            name_key_user(&mut entry, &acting);
            let known = partition.contents().objects.get(object).map(Arc::clone);
            if let Some(known) = known {
                name_object(&mut entry, &known.info);
            }
        }
        entry.object = identity(object);
        self.uses_of(subject_of(partition, action.name(), entry, Whose::Connection)).refused(code, None);
    }
}

fn name_who(entry: &mut Entry, audit: &Audit, session: &Session, acting: &Acting, op: &Op) {
    name_connection(entry, audit, session);
    let needs = policy::needs(op);
    if needs == Needs::KeyUser && policy::permit(needs, acting).is_ok() {
        return name_key_user(entry, acting);
    }
    let user = match policy::responsible_user(needs, acting) {
        // Who may not do it is named as well.
        None if policy::permit(needs, acting).is_err() => acting.shown(),
        user => user,
    };
    name_user(entry, user.map(|user| &**user), acting);
}

fn name_connection(entry: &mut Entry, audit: &Audit, session: &Session) {
    entry.uid = session.local_uid();
    (entry.address, entry.certificate) = session.names();
    entry.pid = session.peer.pid;
    entry.program = session.peer.program().to_owned();
    entry.connection = audit.connection_name(session.peer.connection);
}

fn name_user(entry: &mut Entry, user: Option<&crate::users::User>, acting: &Acting) {
    match user {
        Some(user) => {
            entry.role = role_name(user.role);
            user.name.clone_into(&mut entry.user);
        }
        None if acting.root => "owner".clone_into(&mut entry.role),
        None => {}
    }
}

/// Whoever uses a key: a user, or what the key itself names.
fn name_key_user(entry: &mut Entry, acting: &Acting) {
    let user = policy::responsible_user(Needs::KeyUser, acting);
    match (user, acting.named.certificate) {
        (None, Some(hash)) => {
            "client_certificate".clone_into(&mut entry.role);
            entry.user = hex(&hash);
        }
        (None, None) if acting.named.uid.is_some() && !acting.root => {
            "user_id".clone_into(&mut entry.role);
        }
        _ => name_user(entry, user.map(|user| &**user), acting),
    }
}

pub(super) fn name_object(entry: &mut Entry, info: &ObjectInfo) {
    entry.key.clone_from(&info.label);
    entry.object = hex(&info.object);
    entry.class = lower(info.class().as_str_name(), "OBJECT_CLASS_");
    entry.key_type = key_type_name(info.key_type());
}

/// An identity that a client names, as far as it is one.
pub(super) fn identity(object: &[u8]) -> String {
    hex(object.get(..16).unwrap_or(object))
}

/// What an answer adds: the object that was made, the user that logged in.
fn describe_reply(entry: &mut Entry, reply: &response::Result) {
    match reply {
        response::Result::Objects(list) => {
            let Some((first, others)) = list.objects.split_first() else { return };
            name_object(entry, first);
            let may = first.policy.map(|policy| usage(&policy)).unwrap_or_default();
            if !may.is_empty() {
                entry.details.insert("may".to_owned(), may);
            }
            for other in others.iter().take(1) {
                entry.details.insert("other_object".to_owned(), hex(&other.object));
            }
        }
        response::Result::Login(login) => {
            login.user.clone_into(&mut entry.user);
            entry.role = role_name(login.role());
        }
        response::Result::Partition(made) => {
            entry.details.insert("number".to_owned(), made.number.to_string());
        }
        _ => {}
    }
}

fn usage(policy: &KeyPolicy) -> String {
    let uses = names::uses(policy).chain(policy.extractable.then_some("extractable"));
    uses.collect::<Vec<_>>().join(",")
}

/// A role's name in entries.
pub(super) fn role_name(role: Role) -> String {
    if role == Role::Unspecified { String::new() } else { lower(role.as_str_name(), "ROLE_") }
}

/// A key type's name in entries.
pub(super) fn key_type_name(key_type: KeyType) -> String {
    if key_type == KeyType::Unspecified { String::new() } else { lower(key_type.as_str_name(), "KEY_TYPE_") }
}

pub(super) fn lower(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_ascii_lowercase()
}

/// The counters that a connection used last: kept until anything changes that could change what they say.
#[derive(Debug, Default)]
pub struct Recent(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    uses: [Option<KnownUse>; REMEMBERED],
    next: usize,
}

#[derive(Debug)]
struct KnownUse {
    changes: u64,
    partition: u32,
    action: &'static str,
    object: Vec<u8>,
    uses: Arc<Uses>,
}

impl Recent {
    fn find(&self, partition: u32, action: &'static str, object: &[u8]) -> Option<Arc<Uses>> {
        let now = changes::number();
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut uses = known.uses.iter().flatten();
        let found = uses.find(|known| {
            known.changes == now
                && known.partition == partition
                && known.object == object
                && known.action == action
        });
        found.map(|known| Arc::clone(&known.uses))
    }

    fn remember(&self, changes: u64, partition: u32, action: &'static str, object: &[u8], uses: &Arc<Uses>) {
        // What is no identity is not asked for again and again.
        if object.len() > 16 {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = known.next;
        if let Some(place) = known.uses.get_mut(next) {
            *place = Some(KnownUse {
                changes,
                partition,
                action,
                object: object.to_vec(),
                uses: Arc::clone(uses),
            });
        }
        known.next = (next + 1) % REMEMBERED;
    }
}
