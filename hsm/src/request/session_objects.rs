//! Keeping what was made, in the store or for a session; RestoreSessionObjects and ForgetSessionObjects.

use std::sync::Arc;

use strongroom_protocol::v1::{
    ForgetSessionObjects, ObjectInfo, ObjectList, RestoreSessionObjects, response,
};

use super::objects::Origin;
use super::{Asker, Context, done, keeping};
use crate::crypto::KeyKind;
use crate::failure::{Failure, refuse};
use crate::object::{Key, Object};
use crate::partition::{Contents, Partition};
use crate::session::Acting;

/// Session objects that one request may bring back.
const MAX_RESTORED: usize = 64;

/// What is to be kept.
pub(super) struct Made {
    pub info: ObjectInfo,
    pub kind: Option<KeyKind>,
    pub key: Option<Key>,
}

/// Keeps objects that belong together: those of the store all or none. Blocks.
pub(super) fn keep(
    partition: &Partition,
    asker: &Asker,
    origin: Origin,
    mut made: Vec<Made>,
) -> Result<(Vec<Arc<Object>>, response::Result), Failure> {
    let mut objects: Vec<Option<Arc<Object>>> = Vec::new();
    let mut sealed = vec![Vec::new(); made.len()];
    if made.iter().any(|one| !one.info.session) {
        objects = partition.change(|change| {
            asker.still_may(partition, &change.before().users)?;
            for one in &mut made {
                one.info = origin.bind(change.before(), std::mem::take(&mut one.info));
            }
            let add = |one: &Made| match one.info.session {
                true => Ok(None),
                false => change.add_object(one.info.clone(), one.kind, one.key.as_ref()).map(Some),
            };
            made.iter().map(add).collect::<Result<_, Failure>>()
        })?;
    } else {
        let contents = partition.contents();
        asker.still_may(partition, &contents.users)?;
        for one in &mut made {
            one.info = origin.bind(&contents, std::mem::take(&mut one.info));
        }
        drop(contents);
        objects.resize(made.len(), None);
    }
    let owner = owner(&asker.session.acting(partition))?;
    for ((one, object), sealed) in made.iter().zip(&mut objects).zip(&mut sealed) {
        if one.info.session {
            let still = |contents: &Contents| asker.still_may(partition, &contents.users).map(drop);
            let (kept, blob) =
                partition.keep_for_session(one.info.clone(), one.kind, one.key.as_ref(), owner, still)?;
            (*object, *sealed) = (Some(kept), blob);
        }
    }
    if sealed.iter().all(Vec::is_empty) {
        sealed.clear();
    }
    let objects: Vec<_> = objects.into_iter().flatten().collect();
    let list = objects.iter().map(|object| object.info.clone()).collect();
    Ok((objects, response::Result::Objects(ObjectList { objects: list, more: false, sealed })))
}

/// Whose session objects those who ask may use: a crypto user's own.
pub(super) fn owner(acting: &Acting) -> Result<u64, Failure> {
    match &acting.crypto_user {
        Some(user) => Ok(user.identity),
        None => refuse!(NotLoggedIn, "session objects are a crypto user's: log in first"),
    }
}

pub(super) async fn restore(
    context: &Context,
    partition: &Arc<Partition>,
    request: RestoreSessionObjects,
) -> Result<response::Result, Failure> {
    if request.sealed.len() > MAX_RESTORED {
        return refuse!(Limit, "{MAX_RESTORED} session objects are brought back at once, at most");
    }
    let owner = owner(&context.acting)?;
    let partition = Arc::clone(partition);
    keeping(context, true, move || {
        let restore = |sealed: &Vec<u8>| partition.restore_for_session(sealed, owner);
        let objects = request.sealed.iter().map(restore).collect::<Result<Vec<_>, Failure>>()?;
        Ok(super::objects::listed(&objects))
    })
    .await
}

pub(super) fn forget(
    context: &Context,
    partition: &Partition,
    request: &ForgetSessionObjects,
) -> response::Result {
    if let Ok(owner) = owner(&context.acting) {
        for identity in &request.objects {
            partition.forget_for_session(identity, owner);
        }
    }
    done()
}
