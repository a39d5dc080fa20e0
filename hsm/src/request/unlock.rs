//! Unlocking a user: by an officer, or by the partition's owner, who signs a challenge.

use std::sync::Arc;
use std::time::SystemTime;

use strongroom_owner::OwnerCertificate;
use strongroom_protocol::v1::{Challenge, ChallengeUser, Role, UnlockUser, response};

use super::Context;
use super::users::{administer, described, edit, no_such_user};
use crate::failure::{Failure, refuse};
use crate::partition::{Change, Partition};
use crate::policy::{self, Needs};
use crate::session::Acting;
use crate::users::User;

pub(super) fn challenge(partition: &Partition, request: &ChallengeUser) -> Result<response::Result, Failure> {
    let contents = partition.contents();
    owner_of(partition, contents.settings.owner.as_ref())?;
    let limit = contents.settings.max_attempts;
    // Who is no user and who is not locked get the same answer: it names no users to strangers.
    if !contents.users.get(&request.name).is_some_and(|user| user.is_locked(limit)) {
        return refuse!(NoSuchUser, "no user \"{}\" of this partition is locked", request.name);
    }
    drop(contents);
    let (text, expires) = partition.challenges().issue(&request.name, |nonce, expires| {
        let challenge = strongroom_owner::challenge::Challenge {
            partition: partition.label(),
            serial: partition.serial(),
            user: &request.name,
            nonce,
            expires,
        };
        challenge.to_string()
    });
    let expires = expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(response::Result::Challenge(Challenge { challenge: text.into_bytes(), expires }))
}

fn owner_of(
    partition: &Partition,
    owner: Option<&Arc<OwnerCertificate>>,
) -> Result<Arc<OwnerCertificate>, Failure> {
    match owner {
        Some(owner) => Ok(Arc::clone(owner)),
        None => refuse!(
            NoChallenge,
            "partition \"{}\" has no owner's certificate, which is given when it is made: a crypto officer \
             unlocks, or root",
            partition.label()
        ),
    }
}

pub(super) async fn unlock(
    context: &Context,
    partition: &Arc<Partition>,
    request: UnlockUser,
) -> Result<response::Result, Failure> {
    let UnlockUser { name, signature } = request;
    let by_owner = !signature.is_empty();
    let mut asker = context.asker();
    if by_owner {
        check_answer(context, partition, &name, signature).await?;
        asker.by = "partition owner".to_owned();
    }
    let user = administer(context, asker, partition, "user unlocked", name, move |change, acting, name| {
        if !by_owner {
            may_unlock(change, acting, name)?;
        }
        edit(change, name, |user| {
            user.attempts = 0;
            Ok(())
        })
    })
    .await?;
    Ok(described(partition, &user))
}

/// Whether those who act may unlock a user without the partition's owner.
fn may_unlock(change: &Change<'_>, acting: &Acting, name: &str) -> Result<(), Failure> {
    let has_owner = change.before().settings.owner.is_some();
    if acting.root && !has_owner {
        return Ok(());
    }
    policy::permit(Needs::Officer, acting)?;
    match change.before().users.get(name).map(|user: &Arc<User>| user.role) {
        None => no_such_user(name),
        Some(Role::CryptoOfficer) if has_owner => refuse!(
            NotPermitted,
            "a crypto officer of this partition is unlocked by its owner: 'strongroom user challenge {name}' says \
             how"
        ),
        Some(_) => Ok(()),
    }
}

/// Checks the owner's signature over a challenge for this user, and takes the challenge out.
async fn check_answer(
    context: &Context,
    partition: &Arc<Partition>,
    name: &str,
    signature: Vec<u8>,
) -> Result<(), Failure> {
    let owner = owner_of(partition, partition.contents().settings.owner.as_ref())?;
    let waiting = partition.challenges().waiting(name);
    let gone = || {
        refuse!(
            NoChallenge,
            "no challenge for user \"{name}\" waits for an answer (each is good once, for ten minutes): get another \
             with 'strongroom user challenge {name}'"
        )
    };
    if waiting.is_empty() {
        return gone();
    }
    let bytes = signature.len();
    let verify =
        move || Ok(waiting.into_iter().find(|text| owner.verify(text.as_bytes(), &signature).is_ok()));
    match context.compute(bytes, verify).await? {
        Some(answered) if partition.challenges().take(name, &answered) => Ok(()),
        Some(_) => gone(),
        None => {
            let uid = context.session.uid;
            tracing::warn!(uid, partition = partition.label(), user = name, "wrong signature of a challenge");
            refuse!(
                SignatureWrong,
                "the signature is not the owner's over the challenge for \"{name}\" in partition \"{}\": sign its \
                 newest challenge with 'openssl dgst -sha256 -sign KEY'",
                partition.label()
            )
        }
    }
}
