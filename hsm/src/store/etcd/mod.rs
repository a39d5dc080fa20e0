//! A store in etcd, which several nodes share.
//!
//! The records lie under `/strongroom/CLUSTER/`, with the names that they have in the embedded file, sealed as there. A
//! commit is one transaction of etcd, on the disks of a majority of its members before it is acknowledged. It takes
//! place only if the ledger is still the one that this node has seen last, so nobody writes over what they have not seen.
//!
//! Who is going to change something takes the *turn* first (`turn.rs`): one node has it at a time, and knows all changes
//! that were made before. What other nodes change is told as it happens (`follow.rs`).

mod follow;
mod invitation;
mod link;
mod note;
mod turn;

pub use self::follow::Happening;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, GetOptions, KvClient, Txn, TxnOp, TxnOpResponse, TxnResponse,
};
use zeroize::Zeroizing;

use self::link::{Link, Trouble};
use self::turn::Turns;
use super::{Batch, CHAIN, Snapshot, Store, StoreError, Turn};
use crate::records::LEDGER;

/// Under this lies what is in etcd, by cluster.
const ROOT: &str = "/strongroom/";

/// Records that are read at once.
const PAGE: i64 = 500;

/// The largest answer of etcd that is taken, in bytes.
const ANSWER: usize = 256 << 20;

/// Changes in one transaction of etcd (its --max-txn-ops), less what is added to them here.
const CHANGES: usize = 120;

/// Where the cluster is, and by what it is known.
#[derive(Debug, Clone)]
pub struct Options {
    /// The members of etcd: `https://HOST:2379`.
    pub endpoints: Vec<String>,
    /// Which cluster of Strongroom: 32 hexadecimal digits.
    pub cluster: String,
    /// For `https`.
    pub tls: Option<Tls>,
    /// For how long a member that answers is looked for.
    pub patience: Duration,
}

/// Certificates and keys, PEM.
#[derive(Clone)]
pub struct Tls {
    /// The authority of etcd's members.
    pub authority: Vec<u8>,
    /// The node's own certificate and key.
    pub client: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls(..)")
    }
}

/// The host and the port of a member's address, `https://HOST:2379`; `None` if it is none.
pub fn host_and_port(endpoint: &str) -> Option<(&str, u16)> {
    let rest = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"))?;
    let (host, port) = rest.rsplit_once(':')?;
    let is_host = !host.is_empty() && !host.contains(['/', '@', '?', '#', ' ']);
    Some((host, port.parse().ok()?)).filter(|_| is_host)
}

/// A cluster's records.
#[derive(Debug)]
pub struct EtcdStore(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    location: String,
    /// Ends with a slash.
    prefix: String,
    patience: Duration,
    link: Link,
    seen: Mutex<Seen>,
    has_seen: Condvar,
    turns: Turns,
    notes: Mutex<Option<note::Lease>>,
    agreement: Arc<follow::Agreement>,
}

/// What this node's memory has.
#[derive(Debug, Default)]
struct Seen {
    /// etcd's revision of the ledger; 0: there was none.
    head: i64,
    /// How often the ledger had been written then.
    count: i64,
    /// The revision at which the records were read.
    read: i64,
    /// The thread that takes in what others change. What it reads counts when memory has it.
    follower: Option<ThreadId>,
    /// What that thread has read anew: the moment, and the ledger's revision with how often it was written.
    anew: Option<(i64, (i64, i64))>,
}

/// What was read.
struct Read {
    records: BTreeMap<String, Vec<u8>>,
    /// The moment.
    revision: i64,
    /// The ledger's revision, and how often it was written; 0: there is none among them.
    head: (i64, i64),
}

impl EtcdStore {
    /// The records of a cluster. etcd is asked nothing yet.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] if the options make no sense.
    pub fn new(options: &Options) -> Result<Self, StoreError> {
        let location = format!("etcd ({})", options.endpoints.join(", "));
        let link = Link::open(options)
            .map_err(|reason| StoreError::Failed { location: location.clone(), reason })?;
        Ok(EtcdStore(Arc::new(Shared {
            location,
            prefix: format!("{ROOT}{}/", options.cluster),
            patience: options.patience,
            link,
            seen: Mutex::default(),
            has_seen: Condvar::new(),
            turns: Turns::default(),
            notes: Mutex::default(),
            agreement: Arc::default(),
        })))
    }

    /// Whether etcd has nothing of this cluster. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoMajority`].
    pub fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(self.0.head()?.is_none())
    }

    /// Deletes all records of this cluster, which nobody knows of yet. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoMajority`].
    pub fn clear(&self) -> Result<(), StoreError> {
        let prefix = self.0.prefix.clone();
        let ask = move |client: Client| {
            let (prefix, all) = (prefix.clone(), DeleteOptions::new().with_prefix());
            async move { kv(&client).delete(prefix, Some(all)).await }
        };
        let shared = &self.0;
        shared.link.ask(shared.patience, ask).map(drop).map_err(|trouble| shared.unchanged(trouble))
    }

    /// The record of this name, as a majority has it now. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoMajority`].
    pub fn record(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.newest(name)?.map(|(_, record)| record))
    }

    /// The records whose names begin with `prefix`, as they were at a revision of etcd. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoMajority`]; [`StoreError::Failed`] if etcd has forgotten that time.
    pub fn read_at(&self, prefix: &str, revision: i64) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        Ok(self.0.read(prefix, Some(revision))?.records.into_iter().collect())
    }
}

/// Of a member, for large answers.
fn kv(client: &Client) -> KvClient {
    client.kv_client().max_decoding_message_size(ANSWER)
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The key that says whose turn it is.
    fn turn_key(&self) -> String {
        format!("{}{}holder", self.prefix, turn::FOLDER)
    }

    /// Memory has what etcd has had since `head`.
    fn saw(&self, seen: &mut Seen, (head, count): (i64, i64)) {
        (seen.head, seen.count) = (head, count);
        self.agreement.known.store(head, Ordering::Release);
        self.agreement.taken_in.store(count, Ordering::Relaxed);
        self.has_seen.notify_all();
    }

    /// Nothing was asked of etcd that would change it, or it was refused.
    fn unchanged(&self, trouble: Trouble) -> StoreError {
        let location = self.location.clone();
        match trouble {
            Trouble::Silent(reason) => StoreError::NoMajority { location, reason },
            Trouble::Refused(reason) | Trouble::Unsure(reason) => StoreError::Failed { location, reason },
        }
    }

    /// The ledger's revision and bytes, as a majority has them now.
    fn head(&self) -> Result<Option<(i64, Vec<u8>)>, StoreError> {
        self.newest(LEDGER)
    }

    /// A record's revision and bytes, as a majority has them now.
    fn newest(&self, name: &str) -> Result<Option<(i64, Vec<u8>)>, StoreError> {
        let key = self.key(name);
        let ask = move |client: Client| {
            let key = key.clone();
            async move { kv(&client).get(key, None).await }
        };
        let mut answer = self.link.ask(self.patience, ask).map_err(|trouble| self.unchanged(trouble))?;
        Ok(answer.take_kvs().pop().map(|found| (found.mod_revision(), found.value().to_vec())))
    }

    /// All records whose names begin with `prefix`, as they were at one moment: at `revision`, or now.
    fn read(&self, prefix: &str, revision: Option<i64>) -> Result<Read, StoreError> {
        let (mut records, mut at, mut head) = (BTreeMap::new(), revision, (0, 0));
        let mut from = self.key(prefix).into_bytes();
        let mut end = from.clone();
        // The first key that does not begin with the prefix. No name ends with the largest byte.
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        loop {
            let (start, stop, fixed) = (from.clone(), end.clone(), at.unwrap_or_default());
            let ask = move |client: Client| {
                let options =
                    GetOptions::new().with_range(stop.clone()).with_limit(PAGE).with_revision(fixed);
                let start = start.clone();
                async move { kv(&client).get(start, Some(options)).await }
            };
            let mut page = self.link.ask(self.patience, ask).map_err(|trouble| self.unchanged(trouble))?;
            let now = page.header().map_or(0, etcd_client::ResponseHeader::revision);
            at.get_or_insert(now);
            let more = page.more();
            for found in page.take_kvs() {
                from = [found.key(), &[0]].concat();
                let Some(name) = found.key_str().ok().and_then(|key| key.strip_prefix(&self.prefix)) else {
                    continue;
                };
                if name.starts_with(turn::FOLDER) {
                    continue;
                }
                if name == LEDGER {
                    head = (found.mod_revision(), found.version());
                }
                records.insert(name.to_owned(), found.value().to_vec());
            }
            if !more {
                return Ok(Read { records, revision: at.unwrap_or_default(), head });
            }
        }
    }

    /// What a transaction does for a batch.
    fn operations(&self, batch: &Batch) -> Result<Vec<TxnOp>, StoreError> {
        // A partition that goes as a whole is one operation, however many records it has.
        let gone: BTreeSet<&str> = batch
            .changes
            .iter()
            .filter(|(name, change)| change.is_none() && name.ends_with("/header"))
            .filter_map(|(name, _)| name.strip_suffix("header"))
            .filter(|folder| matches!(batch.changes.get(&format!("{folder}key")), Some(None)))
            .filter(|folder| {
                let inside =
                    batch.changes.range((*folder).to_owned()..).take_while(|(n, _)| n.starts_with(folder));
                inside.into_iter().all(|(_, change)| change.is_none())
            })
            .collect();
        let folder_of = |name: &str| gone.iter().find(|folder| name.starts_with(**folder));
        let whole = DeleteOptions::new().with_prefix();
        let folders = gone.iter().map(|folder| TxnOp::delete(self.key(folder), Some(whole.clone())));
        let single = batch.changes.iter().filter(|(name, _)| folder_of(name).is_none());
        let single = single.map(|(name, change)| match change {
            Some(record) => TxnOp::put(self.key(name), record.clone(), None),
            None => TxnOp::delete(self.key(name), None),
        });
        let operations: Vec<_> = folders.chain(single).collect();
        match operations.len() > CHANGES {
            true => Err(StoreError::Failed {
                location: self.location.clone(),
                reason: format!("{} records change at once, and etcd takes {CHANGES}", operations.len()),
            }),
            false => Ok(operations),
        }
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let ledger = batch.changes.get(LEDGER).and_then(Option::as_ref);
        if ledger.is_none() && batch.changes.len() > CHANGES {
            // Nothing of it counts before a ledger does: it need not come all at once.
            let all: Vec<_> = batch.changes.iter().collect();
            return all.chunks(CHANGES).try_for_each(|some| {
                let changes =
                    some.iter().map(|(name, change)| ((*name).clone(), (*change).clone())).collect();
                self.commit(&Batch { changes })
            });
        }
        let operations = self.operations(batch)?;
        // What is told of this change meanwhile waits until it is known whose it is.
        let mut seen = self.seen();
        let key = self.key(LEDGER);
        let mut conditions = vec![Compare::mod_revision(key.clone(), CompareOp::Equal, seen.head)];
        // The turn may have ended by itself, if this took too long.
        conditions.extend(self.turns.condition(&self.turn_key()));
        // What shows that it was made, if an earlier attempt made it and the answer was lost: its ledger, or, if another node has
        // changed something since, its link of the chain.
        let link = batch.changes.iter().find(|(name, record)| name.starts_with(CHAIN) && record.is_some());
        let signs: Vec<_> = batch.changes.get_key_value(LEDGER).into_iter().chain(link).collect();
        let signs: Vec<_> =
            signs.into_iter().filter_map(|(name, record)| Some((self.key(name), record.clone()?))).collect();
        let otherwise: Vec<_> = signs.iter().map(|(key, _)| TxnOp::get(key.clone(), None)).collect();
        let txn = Txn::new().when(conditions).and_then(operations).or_else(otherwise);
        let ask = move |client: Client| {
            let txn = txn.clone();
            async move { kv(&client).txn(txn).await }
        };
        let location = || self.location.clone();
        let answer = match self.link.ask(self.patience, ask) {
            Ok(answer) => answer,
            Err(Trouble::Refused(reason)) => return Err(StoreError::Failed { location: location(), reason }),
            Err(Trouble::Silent(reason) | Trouble::Unsure(reason)) => {
                return Err(StoreError::Unknown { location: location(), reason });
            }
        };
        let revision = match answer.succeeded() {
            true => answer.header().map(etcd_client::ResponseHeader::revision),
            // No two ledgers are the same.
            false => signs.iter().find_map(|sign| revision_of(&answer, sign)),
        };
        match revision {
            None => Err(StoreError::Conflict { location: location() }),
            Some(revision) => {
                if ledger.is_some() {
                    let count = seen.count + 1;
                    self.saw(&mut seen, (revision, count));
                }
                Ok(())
            }
        }
    }
}

/// The revision of a record in an answer, if it is there and is this one.
fn revision_of(answer: &TxnResponse, (key, record): &(String, Vec<u8>)) -> Option<i64> {
    answer.op_responses().into_iter().find_map(|answer| match answer {
        TxnOpResponse::Get(found) => {
            let found = found.kvs().first()?;
            (found.key() == key.as_bytes() && found.value() == record).then(|| found.mod_revision())
        }
        _ => None,
    })
}

impl Store for EtcdStore {
    fn scan(&self, visit: &mut dyn FnMut(&str, &[u8])) -> Result<(), StoreError> {
        let Read { records, revision, head } = self.0.read("", None)?;
        {
            let mut seen = self.0.seen();
            // Of a look at a store that is in use memory has all already: a turn is held meanwhile.
            if seen.follower == Some(thread::current().id()) {
                seen.anew = Some((revision, head));
            } else if seen.read == 0 {
                seen.read = revision;
                self.0.saw(&mut seen, head);
            }
        }
        records.iter().for_each(|(name, record)| visit(name, record));
        Ok(())
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.0.commit(batch)
    }

    fn note(&self, batch: &Batch, life: Duration) -> Result<(), StoreError> {
        self.0.note(batch, life)
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        Ok(Box::new(self.0.read("", None)?.records))
    }

    fn turn(&self) -> Result<Turn, StoreError> {
        turn::take(&self.0)
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn location(&self) -> String {
        self.0.location.clone()
    }
}
