//! Backups, restores, and security domains.
//!
//! A backup or a restore belongs to its connection. It ends with it, or when the connection does not ask for more for a
//! minute: a snapshot keeps the store from giving room back.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError, Weak};
use std::time::Duration;

use strongroom_protocol::v1::{
    BackupBegun, BackupChunk, BeginBackup, BeginRestore, CreateSecurityDomain, PartitionInfo,
    RenewSecurityDomain, RestoreBegun, request::Op, response,
};
use tokio::sync::OwnedSemaphorePermit;
use zeroize::Zeroizing;

use super::{Context, blocking, done, partitions};
use crate::access::Grantee;
use crate::backup::{OneKey, Writer};
use crate::failure::{Failure, refuse};
use crate::memory::SecretBytes;
use crate::object::Search;
use crate::partition::Partition;
use crate::policy;
use crate::service::now;
use crate::vault::{Into, Restore};

/// Backups and restores of a node at the same time.
pub const MOST: usize = 4;
/// How long a connection may do nothing with its own, in seconds.
const IDLE: u64 = 60;
/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(10);

/// What a connection is at.
#[derive(Debug)]
enum Transfer {
    Backup(Box<Writer>, OwnedSemaphorePermit),
    Restore(Box<Restore>, OwnedSemaphorePermit),
}

/// A connection's place for a backup or a restore.
#[derive(Debug, Default)]
pub struct Place {
    transfer: Mutex<Option<Transfer>>,
    /// When it was last used, seconds since 1970.
    used: AtomicU64,
}

impl Place {
    fn begin(self: &Arc<Self>, transfer: Transfer) {
        self.used.store(now(), Ordering::Relaxed);
        *self.transfer.lock().unwrap_or_else(PoisonError::into_inner) = Some(transfer);
        let place: Weak<Self> = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK).await;
                let Some(place) = place.upgrade() else { return };
                let mut transfer = match place.transfer.try_lock() {
                    Ok(transfer) => transfer,
                    Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                    Err(TryLockError::WouldBlock) => continue,
                };
                if transfer.is_none() {
                    return;
                }
                if now().saturating_sub(place.used.load(Ordering::Relaxed)) >= IDLE {
                    *transfer = None;
                    return;
                }
            }
        });
    }

    /// Works on what the connection is at. It is over if `work` fails, or says so.
    fn work<T>(&self, work: impl FnOnce(&mut Transfer) -> Result<(T, bool), Failure>) -> Result<T, Failure> {
        self.used.store(now(), Ordering::Relaxed);
        let mut place = self.transfer.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut transfer) = place.take() else {
            return refuse!(
                Malformed,
                "this connection has begun no backup or restore, or left it for a minute"
            );
        };
        let (value, over) = work(&mut transfer)?;
        if !over {
            *place = Some(transfer);
        }
        self.used.store(now(), Ordering::Relaxed);
        Ok(value)
    }
}

fn permit(context: &Context) -> Result<OwnedSemaphorePermit, Failure> {
    match Arc::clone(&context.service.transfers).try_acquire_owned() {
        Ok(permit) => Ok(permit),
        Err(_) => refuse!(Limit, "{MOST} backups or restores are at work: wait for the end of one"),
    }
}

pub(super) async fn create_domain(
    context: &Context,
    partition: &Arc<Partition>,
    request: CreateSecurityDomain,
) -> Result<response::Result, Failure> {
    let (service, partition, by) = (Arc::clone(&context.service), Arc::clone(partition), context.asker().by);
    let uid = context.session.uid;
    blocking(move || {
        let quorum = service.vault.create_domain(&partition, &request.holders, request.needed)?;
        tracing::info!(uid, by, partition = partition.label(), "security domain made");
        Ok(response::Result::Quorum(quorum))
    })
    .await
}

pub(super) async fn renew_domain(
    context: &Context,
    partition: &Arc<Partition>,
    mut request: RenewSecurityDomain,
) -> Result<response::Result, Failure> {
    let shares = shares(&mut request.shares)?;
    let (service, partition, by) = (Arc::clone(&context.service), Arc::clone(partition), context.asker().by);
    let uid = context.session.uid;
    blocking(move || {
        let RenewSecurityDomain { holders, needed, .. } = request;
        let quorum = service.vault.renew_domain(&partition, &shares, &holders, needed)?;
        tracing::info!(uid, by, partition = partition.label(), "security domain renewed");
        Ok(response::Result::Quorum(quorum))
    })
    .await
}

/// Decrypted shares out of a request, into secret memory.
fn shares(given: &mut Vec<Vec<u8>>) -> Result<Vec<SecretBytes>, Failure> {
    let shares = Zeroizing::new(std::mem::take(given));
    if shares.len() > crate::quorum::MAX_HOLDERS {
        return refuse!(Limit, "{} shares at most", crate::quorum::MAX_HOLDERS);
    }
    Ok(shares.iter().map(|share| SecretBytes::from(share.as_slice())).collect())
}

pub(super) fn show_domain(context: &Context, partition: &Partition) -> Result<response::Result, Failure> {
    Ok(response::Result::Quorum(context.service.vault.domain(partition)?))
}

pub(super) async fn begin(
    context: &Context,
    partition: &Arc<Partition>,
    request: BeginBackup,
) -> Result<response::Result, Failure> {
    let permit = permit(context)?;
    let (service, session) = (Arc::clone(&context.service), Arc::clone(&context.session));
    let (partition, by) = (Arc::clone(partition), context.asker().by);
    let writer = blocking(move || {
        let only = match request.key.is_empty() {
            true => None,
            false => Some(key_and_what_belongs_to_it(&partition, &request)?),
        };
        let writer = service.vault.begin_backup(&partition, only)?;
        tracing::info!(
            uid = session.uid,
            by,
            partition = partition.label(),
            whole = writer.is_whole(),
            "backup begun"
        );
        Ok(writer)
    })
    .await?;
    let head = writer.beginning().to_vec();
    context.session.transfers.begin(Transfer::Backup(Box::new(writer), permit));
    Ok(response::Result::BackupBegun(BackupBegun { head }))
}

/// The key that a request names, its other half, certificates of the same label or id, and the users whom it names.
fn key_and_what_belongs_to_it(partition: &Partition, request: &BeginBackup) -> Result<OneKey, Failure> {
    let contents = partition.contents();
    let named = Search { label: Some(&request.key), ..Search::default() };
    let keys: Vec<_> = contents.objects.find(named).collect();
    if keys.is_empty() {
        return refuse!(
            NoSuchObject,
            "there is no key \"{}\" in partition \"{}\"",
            request.key,
            partition.label()
        );
    }
    let grants = keys.iter().flat_map(|key| key.access.grants());
    let named: HashSet<_> = grants.map(|grant| grant.grantee).collect();
    let users = contents.users.iter().filter(|user| named.contains(&Grantee::User(user.identity)));
    let users = users.map(|user| user.name.clone()).collect();
    Ok(OneKey { title: request.key.clone(), objects: contents.objects.related(&request.key), users })
}

pub(super) async fn read(context: &Context, partition: &Arc<Partition>) -> Result<response::Result, Failure> {
    let (service, session, number) =
        (Arc::clone(&context.service), Arc::clone(&context.session), partition.number());
    blocking(move || {
        session.transfers.work(|transfer| {
            let Transfer::Backup(writer, _permit) = transfer else {
                return refuse!(Malformed, "this connection restores, and makes no backup");
            };
            if writer.partition().number() != number {
                return refuse!(Malformed, "the backup that was begun is of another partition");
            }
            let (data, last) = writer.next_bytes()?;
            if last {
                // A full disk is when a backup is wanted most: it is whole, noted or not.
                if writer.is_whole()
                    && let Err(failure) = service.vault.backed_up(number)
                {
                    tracing::warn!("the time of the backup is not noted: {failure}");
                }
                tracing::info!(uid = session.uid, partition = writer.partition().label(), "backup made");
            }
            Ok((response::Result::BackupChunk(BackupChunk { data, last }), last))
        })
    })
    .await
}

pub(super) fn is_restore(op: &Op) -> bool {
    matches!(op, Op::BeginRestore(_) | Op::RestoreChunk(_) | Op::FinishRestore(_))
}

/// For the owner. A key goes into a partition of which the owner is a user, too.
pub(super) async fn restore(
    context: &Context,
    number: u32,
    op: &mut Op,
) -> Result<response::Result, Failure> {
    policy::authorize(op, &context.acting)?;
    let (service, session) = (Arc::clone(&context.service), Arc::clone(&context.session));
    match op {
        Op::BeginRestore(m) => begin_restore(context, number, std::mem::take(m)).await,
        Op::RestoreChunk(m) => {
            let data = std::mem::take(&mut m.data);
            blocking(move || {
                session.transfers.work(|transfer| match transfer {
                    Transfer::Restore(restore, _) => restore.push(&data).map(|()| (done(), false)),
                    Transfer::Backup(..) => {
                        refuse!(Malformed, "this connection makes a backup, and does not restore")
                    }
                })
            })
            .await
        }
        _ => {
            let finish = Arc::clone(&session);
            let restored = blocking(move || {
                let place = &finish.transfers;
                let taken = place.transfer.lock().unwrap_or_else(PoisonError::into_inner).take();
                let Some(Transfer::Restore(restore, _permit)) = taken else {
                    return refuse!(Malformed, "this connection has begun no restore, or left it for a minute");
                };
                let label = restore.head().label.clone();
                let restored = restore.finish()?;
                if let Some(restored) = &restored {
                    let (partition, left_out) = (restored.partition.label(), &restored.left_out);
                    tracing::warn!(target: "audit", event = "restored", uid = finish.uid, of = label, partition, ?left_out, "a backup was restored");
                }
                Ok(restored)
            })
            .await?;
            let Some(restored) = restored else { return Ok(done()) };
            Ok(response::Result::Partition(PartitionInfo {
                left_out: restored.left_out,
                ..partitions::info(&service, &session, &restored.partition)
            }))
        }
    }
}

async fn begin_restore(
    context: &Context,
    number: u32,
    mut request: BeginRestore,
) -> Result<response::Result, Failure> {
    let permit = permit(context)?;
    let shares = shares(&mut request.shares)?;
    let of_key = !crate::backup::parse_head(&request.head)?.key.is_empty();
    let into = match number {
        number if number == 0 || !of_key => None,
        number => {
            let partition = context.service.vault.partition(number)?;
            let acting = context.session.acting(&partition);
            if acting.officer.is_none() && acting.crypto_user.is_none() {
                return refuse!(
                    NotLoggedIn,
                    "to bring a key back into partition \"{}\" takes one of its crypto officers or crypto users: log in \
                     first",
                    partition.label()
                );
            }
            Some(Into { partition, by_officer: acting.officer.is_some() })
        }
    };
    let service = Arc::clone(&context.service);
    let restore = blocking(move || {
        let BeginRestore { head, label, replace, only_verify, .. } = request;
        service.vault.begin_restore(&head, &shares, &label, replace, only_verify, into)
    })
    .await?;
    let number = restore.number();
    context.session.transfers.begin(Transfer::Restore(Box::new(restore), permit));
    Ok(response::Result::RestoreBegun(RestoreBegun { number }))
}
