//! Backups, restores, and security domains. What a connection is at is in [`crate::transfers`].

use std::collections::HashSet;
use std::sync::Arc;

use strongroom_protocol::v1::{
    BackupBegun, BackupChunk, BeginBackup, BeginRestore, CreateSecurityDomain, PartitionInfo,
    RenewSecurityDomain, RestoreBegun, request::Op, response,
};
use zeroize::Zeroizing;

use super::{Context, blocking, done, partitions};
use crate::access::Grantee;
use crate::backup::OneKey;
use crate::failure::{Failure, refuse};
use crate::memory::SecretBytes;
use crate::object::Search;
use crate::partition::Partition;
use crate::policy;
use crate::session::Session;
use crate::transfers::{Of, Transfer};
use crate::users::Users;

pub(super) async fn create_domain(
    context: &Context,
    partition: &Arc<Partition>,
    request: CreateSecurityDomain,
) -> Result<response::Result, Failure> {
    let (service, partition, asker) = (Arc::clone(&context.service), Arc::clone(partition), context.asker());
    blocking(move || {
        let may = |users: &Users| asker.still_may(&partition, users).map(drop);
        let quorum = service.vault.create_domain(&partition, may, &request.holders, request.needed)?;
        let (uid, by) = (asker.session.uid, &asker.by);
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
    let (service, partition, asker) = (Arc::clone(&context.service), Arc::clone(partition), context.asker());
    blocking(move || {
        let RenewSecurityDomain { holders, needed, .. } = request;
        let may = |users: &Users| asker.still_may(&partition, users).map(drop);
        let quorum = service.vault.renew_domain(&partition, may, &shares, &holders, needed)?;
        let (uid, by) = (asker.session.uid, &asker.by);
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
    let (service, session) = (Arc::clone(&context.service), Arc::clone(&context.session));
    let (partition, by) = (Arc::clone(partition), context.asker().by);
    blocking(move || {
        let make = || {
            let only = match request.key.is_empty() {
                true => None,
                false => Some(key_and_what_belongs_to_it(&partition, &request)?),
            };
            let writer = service.vault.begin_backup(&partition, only)?;
            let head = writer.beginning().to_vec();
            tracing::info!(
                uid = session.uid,
                by,
                partition = partition.label(),
                whole = writer.is_whole(),
                "backup begun"
            );
            Ok((Transfer::Backup(Box::new(writer)), head))
        };
        let of = Of::Backup(partition.number());
        let head = session.transfers.begin(service.vault.transfers(), of, make)?;
        Ok(response::Result::BackupBegun(BackupBegun { head }))
    })
    .await
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
            let Transfer::Backup(writer) = transfer else {
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
                    Transfer::Restore(restore) => restore.push(&data).map(|()| (done(), false)),
                    Transfer::Backup(_) => {
                        refuse!(Malformed, "this connection makes a backup, and does not restore")
                    }
                })
            })
            .await
        }
        _ => {
            let finish = Arc::clone(&session);
            let restored = blocking(move || {
                let uid = finish.uid;
                let (label, restored) = finish.transfers.finish(|transfer| {
                    let Transfer::Restore(restore) = transfer else {
                        return refuse!(Malformed, "this connection makes a backup, and does not restore");
                    };
                    let by_officer = |partition: &Partition, users: &Users| brings_back(&finish, partition, users);
                    Ok((restore.head().label.clone(), restore.finish(by_officer)?))
                })?;
                if let Some(restored) = &restored {
                    let (partition, left_out) = (restored.partition.label(), &restored.left_out);
                    tracing::warn!(target: "audit", event = "restored", uid, of = label, partition, ?left_out, "a backup was restored");
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

/// Whether who brings a key back into a partition is one of its crypto officers.
///
/// # Errors
///
/// NOT_LOGGED_IN: nor one of its crypto users.
fn brings_back(session: &Session, partition: &Partition, users: &Users) -> Result<bool, Failure> {
    let acting = session.acting_among(partition.number(), users);
    if acting.officer.is_none() && acting.crypto_user.is_none() {
        return refuse!(
            NotLoggedIn,
            "to bring a key back into partition \"{}\" takes one of its crypto officers or crypto users: log in first",
            partition.label()
        );
    }
    Ok(acting.officer.is_some())
}

async fn begin_restore(
    context: &Context,
    number: u32,
    mut request: BeginRestore,
) -> Result<response::Result, Failure> {
    let shares = shares(&mut request.shares)?;
    let of_key = !crate::backup::parse_head(&request.head)?.key.is_empty();
    let into = match number {
        number if number == 0 || !of_key => None,
        number => {
            let partition = context.service.vault.partition(number)?;
            brings_back(&context.session, &partition, &partition.contents().users)?;
            Some(partition)
        }
    };
    let (service, session) = (Arc::clone(&context.service), Arc::clone(&context.session));
    blocking(move || {
        let make = || {
            let BeginRestore { head, label, replace, only_verify, .. } = request;
            let restore = service.vault.begin_restore(&head, &shares, &label, replace, only_verify, into)?;
            let number = restore.number();
            Ok((Transfer::Restore(Box::new(restore)), number))
        };
        let number = session.transfers.begin(service.vault.transfers(), Of::Restore, make)?;
        Ok(response::Result::RestoreBegun(RestoreBegun { number }))
    })
    .await
}
