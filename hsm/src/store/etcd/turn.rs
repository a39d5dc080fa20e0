//! Turns: one node changes the records at a time, and knows all that was changed before.
//!
//! A key in etcd says whose turn it is. It is bound to a lease, so that the turn of a node that has died ends after a
//! while; and each commit asks for it, so that who has lost it changes nothing.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use etcd_client::{Client, Compare, CompareOp, Error, PutOptions, Txn, TxnOp, TxnOpResponse};
use tokio::time::sleep;

use super::link::Trouble;
use super::{Shared, kv};
use crate::store::{StoreError, Turn};

/// What lies here is no record.
pub(super) const FOLDER: &str = "turn/";

/// The turn of a node that has died ends after so many seconds.
const LEASE: i64 = 10;

/// A lease that is older is not used for another turn: there has to be time for it.
const FRESH: Duration = Duration::from_secs(4);

/// How long a change waits for others of this node, and of the other nodes.
const WAIT: Duration = Duration::from_secs(20);

/// Between two looks whether a majority of etcd's members is there at all.
const LOOK: Duration = Duration::from_millis(100);

/// Between two looks at whose turn it is.
const PAUSE: Duration = Duration::from_millis(10);

/// Whose turn it is within this node.
#[derive(Debug, Default)]
pub(super) struct Turns {
    state: Mutex<State>,
    is_free: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The thread, and how often it has taken it.
    holder: Option<(ThreadId, u32)>,
    /// etcd's revision at which the turn became this node's.
    since: Option<i64>,
    /// The lease, and when it was granted.
    lease: Option<(i64, Instant)>,
}

impl Turns {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What holds as long as it is this node's turn; nothing if it has not taken it.
    pub(super) fn condition(&self, key: &str) -> Option<Compare> {
        self.state().since.map(|since| Compare::create_revision(key, CompareOp::Equal, since))
    }
}

/// The turn of a thread.
struct Held(Arc<Shared>);

impl Drop for Held {
    fn drop(&mut self) {
        let turns = &self.0.turns;
        let mut state = turns.state();
        match &mut state.holder {
            Some((_, depth)) if *depth > 1 => *depth -= 1,
            _ => {
                let since = state.since.take();
                drop(state);
                if let Some(since) = since {
                    give_back(&self.0, since);
                }
                turns.state().holder = None;
                turns.is_free.notify_one();
            }
        }
    }
}

/// Takes the turn, and waits until this node's memory has all that was changed before. Blocks.
pub(super) fn take(shared: &Arc<Shared>) -> Result<Turn, StoreError> {
    let busy =
        |reason: &str| StoreError::Busy { location: shared.location.clone(), reason: reason.to_owned() };
    let me = thread::current().id();
    let lease = {
        let mut state = shared.turns.state();
        if let Some((holder, depth)) = &mut state.holder
            && *holder == me
        {
            *depth += 1;
            return Ok(Turn::of(Held(Arc::clone(shared))));
        }
        let until = Instant::now() + WAIT;
        while state.holder.is_some() && Instant::now() < until && !shared.is_alone() {
            let waited = shared.turns.is_free.wait_timeout_while(state, LOOK, |state| state.holder.is_some());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        shared.answers()?;
        if state.holder.is_some() {
            return Err(busy("another change of this node takes long"));
        }
        state.holder = Some((me, 1));
        state.lease.filter(|(_, granted)| granted.elapsed() < FRESH)
    };
    let held = Held(Arc::clone(shared));
    let (id, granted) = match lease {
        Some(lease) => lease,
        None => (grant(shared)?, Instant::now()),
    };
    let since = enter(shared, id)?.ok_or_else(|| busy("another node changes something that takes long"))?;
    {
        let mut state = shared.turns.state();
        (state.since, state.lease) = (Some(since), Some((id, granted)));
    }
    // etcd is asked after it is known what memory has: what comes in meanwhile is no sign that it was put back.
    let known = shared.seen().head;
    let head = shared.head()?.map_or(0, |(revision, _)| revision);
    if head < known {
        return Err(StoreError::Damaged {
            location: shared.location.clone(),
            reason: "it was put back to an earlier time".to_owned(),
        });
    }
    let waited = shared.has_seen.wait_timeout_while(shared.seen(), shared.patience, |seen| seen.head < head);
    let (seen, _) = waited.unwrap_or_else(PoisonError::into_inner);
    if seen.head < head {
        return Err(busy("what another node has changed has not arrived here yet"));
    }
    drop(seen);
    Ok(Turn::of(held))
}

impl Shared {
    /// Whether no majority has answered for as long as anybody waits for one.
    fn is_alone(&self) -> bool {
        self.agreement.is_lost_for(self.patience)
    }

    /// Refuses what would wait for a majority when there is none.
    fn answers(&self) -> Result<(), StoreError> {
        match self.is_alone() {
            true => Err(self.unchanged(Trouble::Silent("it is known to be so for a while".to_owned()))),
            false => Ok(()),
        }
    }
}

fn grant(shared: &Shared) -> Result<i64, StoreError> {
    let ask = |client: Client| async move { client.lease_client().grant(LEASE, None).await };
    // Granted and lost, it ends by itself.
    Ok(shared.link.ask(shared.patience, ask).map_err(|trouble| shared.unchanged(trouble))?.id())
}

/// Waits until it is nobody's turn, and says whose it is now; since which revision. `None`: it takes too long.
fn enter(shared: &Shared, lease: i64) -> Result<Option<i64>, StoreError> {
    let until = Instant::now() + WAIT;
    let key = shared.turn_key();
    loop {
        let key = key.clone();
        let ask = move |client: Client| {
            let txn = Txn::new()
                .when([Compare::create_revision(key.clone(), CompareOp::Equal, 0)])
                .and_then([TxnOp::put(
                    key.clone(),
                    lease.to_string(),
                    Some(PutOptions::new().with_lease(lease)),
                )])
                .or_else([TxnOp::get(key.clone(), None)]);
            async move {
                let answer = kv(&client).txn(txn).await?;
                if answer.succeeded() {
                    return Ok(answer.header().map(etcd_client::ResponseHeader::revision));
                }
                let holder = answer.op_responses().into_iter().find_map(|answer| match answer {
                    TxnOpResponse::Get(found) => {
                        found.kvs().first().map(|kv| (kv.lease(), kv.create_revision()))
                    }
                    _ => None,
                });
                // The answer to an earlier attempt was lost.
                let own = holder.filter(|(of, _)| *of == lease).map(|(_, since)| since);
                if own.is_none() {
                    sleep(PAUSE).await;
                }
                Ok::<_, Error>(own)
            }
        };
        match shared.link.ask(shared.patience, ask) {
            Ok(Some(since)) => return Ok(Some(since)),
            Ok(None) if Instant::now() < until => {}
            Ok(None) => return Ok(None),
            // The lease has ended.
            Err(Trouble::Refused(_) | Trouble::Unsure(_)) => return Ok(None),
            Err(trouble) => return Err(shared.unchanged(trouble)),
        }
    }
}

/// Ends the turn that began at revision `since`. If etcd does not answer, the lease ends it.
fn give_back(shared: &Shared, since: i64) {
    let key = shared.turn_key();
    let ask = move |client: Client| {
        let own = Compare::create_revision(key.clone(), CompareOp::Equal, since);
        let txn = Txn::new().when([own]).and_then([TxnOp::delete(key.clone(), None)]);
        async move { kv(&client).txn(txn).await }
    };
    if let Err(trouble) = shared.link.ask(shared.patience, ask) {
        tracing::warn!("a turn to change what is in {} ends later: {}", shared.location, trouble.reason());
        shared.turns.state().lease = None;
    }
}
