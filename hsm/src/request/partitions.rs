//! Partitions: list, create, delete.

use std::fmt::Debug;
use std::sync::Arc;

use strongroom_owner::OwnerCertificate;
use strongroom_protocol::v1::{
    CreatePartition, DeletePartition, PartitionInfo, PartitionList, Role, SetPolicy, response,
};
use zeroize::Zeroizing;

use super::{Context, changing, done};
use crate::failure::{Failure, refuse};
use crate::partition::{Partition, Settings};
use crate::service::Service;
use crate::session::{Acting, Session};
use crate::users::{self, MAX_PASSWORD, MIN_PASSWORD, User};
use crate::vault::Slot;

pub(super) fn list(context: &Context) -> response::Result {
    let partitions = context
        .service
        .vault
        .slots()
        .iter()
        .map(|slot| match slot {
            Slot::Sound(partition) => info(&context.service, &context.session, partition),
            Slot::Damaged { record, why } => PartitionInfo {
                number: record.number,
                label: record.label.clone(),
                serial: record.serial.clone(),
                damaged: why.clone(),
                ..PartitionInfo::default()
            },
        })
        .collect();
    response::Result::Partitions(PartitionList { partitions })
}

/// A partition as this connection sees it.
pub(super) fn info(service: &Service, session: &Session, partition: &Partition) -> PartitionInfo {
    let record = service.vault.record(partition.number()).unwrap_or_default();
    let acting: Acting = session.acting(partition);
    let contents = partition.contents();
    let is_named = contents.objects.names(&acting.named);
    let limited = acting.crypto_user.is_none() && (acting.limited.is_some() || is_named);
    let role = match (acting.shown(), limited) {
        (_, true) => Role::CryptoUser,
        (shown, false) => shown.map_or(Role::Unspecified, |user| user.role),
    };
    let name = match limited {
        true => acting.limited.as_ref().map(|user| user.name.clone()),
        false => acting.shown().map(|user| user.name.clone()),
    };
    let owner = contents.settings.owner.as_ref();
    PartitionInfo {
        number: partition.number(),
        label: partition.label().to_owned(),
        serial: partition.serial().to_owned(),
        objects: contents.objects.len() as u64,
        acting_as: name.unwrap_or_default(),
        acting_role: role.into(),
        user_pin_initialized: contents
            .users
            .iter()
            .any(|user| user.role == Role::CryptoUser && user.password.is_some()),
        min_password: MIN_PASSWORD as u32,
        max_password: MAX_PASSWORD as u32,
        damaged: String::new(),
        limited,
        locked_users: contents
            .users
            .iter()
            .filter(|user| user.is_locked(contents.settings.max_attempts))
            .count() as u32,
        user_pin: Some(contents.users.pin_state(Role::CryptoUser, contents.settings.max_attempts)),
        officer_pin: Some(contents.users.pin_state(Role::CryptoOfficer, contents.settings.max_attempts)),
        policy: Some(contents.settings.policy()),
        owner_fingerprint: owner.map(|owner| owner.certificate().fingerprint()).unwrap_or_default(),
        retention_days: contents.life.retention_days,
        purge_protection: contents.life.purge_protection,
        destroy_at_once: contents.life.destroy_at_once,
        deleted_objects: contents.deleted.len() as u64,
        last_backup: record.last_backup,
        security_domain: record.domain.and_then(|domain| domain.quorum).unwrap_or_default().id,
        quota: Some(contents.settings.quota.to_wire()),
        keys: contents.objects.keys() as u64,
        memory: contents.bytes() as u64,
        fips_state: if contents.settings.fips { 2 } else { 0 },
        left_out: Vec::new(),
    }
}

pub(super) async fn create(context: &Context, request: CreatePartition) -> Result<response::Result, Failure> {
    let CreatePartition {
        label,
        officer,
        password,
        owner_certificate,
        user,
        user_password,
        user_uids,
        hand_over,
        fips_state,
    } = request;
    let passwords = [Zeroizing::new(password), Zeroizing::new(user_password)];
    let [password, user_password] = &passwords;
    if !matches!(fips_state, 0 | 2) {
        return refuse!(AttributeWrong, "the FIPS state of a partition is 0 or 2, not {fips_state}");
    }
    users::check_name(&officer)?;
    users::check_new_password(password)?;
    let has_user = !user.is_empty();
    if has_user {
        users::check_name(&user)?;
        users::check_uids(&user_uids)?;
        if user == officer {
            return refuse!(Exists, "the crypto officer and the crypto user need different names");
        }
        if !user_password.is_empty() {
            users::check_new_password(user_password)?;
        }
    }
    let owner = match owner_certificate.as_slice() {
        [] => None,
        der => match OwnerCertificate::parse(der) {
            Ok(owner) => Some(Arc::new(owner)),
            Err(error) => return refuse!(CertificateWrong, "the owner's certificate {error}"),
        },
    };
    let settings = Settings { owner, fips: fips_state == 2, ..Settings::default() };
    let mut made = vec![first_user(context, &officer, Role::CryptoOfficer, password, Vec::new()).await?];
    if has_user {
        made.push(first_user(context, &user, Role::CryptoUser, user_password, user_uids).await?);
    }
    for user in &mut made {
        user.must_change = hand_over && user.password.is_some();
    }
    let service = Arc::clone(&context.service);
    let (uid, by) = (context.session.uid, context.asker().by);
    let partition = changing(context, move || {
        let partition = service.vault.create(&label, made, settings)?;
        tracing::info!(uid, by, partition = label, user = officer, "partition created");
        Ok(partition)
    })
    .await?;
    Ok(response::Result::Partition(info(&context.service, &context.session, &partition)))
}

/// A user of a partition that is to be made.
async fn first_user(
    context: &Context,
    name: &str,
    role: Role,
    password: &Zeroizing<String>,
    uids: Vec<u32>,
) -> Result<User, Failure> {
    let hash = match password.is_empty() {
        true => None,
        false => Some(context.service.hash_password(context.origin(), password.clone()).await?),
    };
    Ok(User::new(name, role, hash, uids, 0))
}

pub(super) async fn set_policy(
    context: &Context,
    partition: &Arc<Partition>,
    request: SetPolicy,
) -> Result<response::Result, Failure> {
    change_settings(context, partition, request, move |settings| settings.set(request)).await
}

/// Changes what is set for the partition, as `request` wants it.
pub(super) async fn change_settings(
    context: &Context,
    partition: &Arc<Partition>,
    request: impl Debug + Send + 'static,
    set: impl FnOnce(&mut Settings) -> Result<(), Failure> + Send + 'static,
) -> Result<response::Result, Failure> {
    let (asker, changed) = (context.asker(), Arc::clone(partition));
    changing(context, move || {
        changed.change(|change| {
            asker.still_may(&changed, &change.before().users)?;
            set(change.settings())
        })?;
        let (uid, by) = (asker.session.uid, &asker.by);
        tracing::info!(uid, by, partition = changed.label(), ?request, "policy set");
        Ok(())
    })
    .await?;
    Ok(response::Result::Partition(info(&context.service, &context.session, partition)))
}

pub(super) async fn delete(
    context: &Context,
    partition: &Arc<Partition>,
    request: &DeletePartition,
) -> Result<response::Result, Failure> {
    if request.label != partition.label() {
        return refuse!(
            AttributeWrong,
            "partition {} is called \"{}\", not \"{}\": nothing was deleted",
            partition.number(),
            partition.label(),
            request.label
        );
    }
    let (service, partition, asker) = (Arc::clone(&context.service), Arc::clone(partition), context.asker());
    changing(context, move || {
        service.vault.delete(&partition, |users| asker.still_may(&partition, users).map(drop))?;
        let (uid, by) = (asker.session.uid, &asker.by);
        tracing::info!(uid, by, partition = partition.label(), "partition deleted");
        Ok(done())
    })
    .await
}
