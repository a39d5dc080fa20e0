//! Keeping what was made, in the store or for a session; RestoreSessionObjects and ForgetSessionObjects.

use std::sync::Arc;

use strongroom_protocol::v1::{
    ForgetSessionObjects, ObjectInfo, ObjectList, RestoreSessionObjects, SetAttributes, response,
};

use super::objects::{self, Origin};
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
    let mut objects: Vec<Option<Arc<Object>>> = vec![None; made.len()];
    let mut sealed = vec![Vec::new(); made.len()];
    let owner = owner(&asker.session.acting(partition))?;
    let kept = keep_for_session(partition, asker, origin, &mut made, owner, (&mut objects, &mut sealed))
        .and_then(|()| keep_in_store(partition, asker, origin, &mut made, &mut objects));
    if let Err(failure) = kept {
        for object in objects.iter().flatten().filter(|object| object.info.session) {
            partition.forget_for_session(&object.id, owner);
        }
        return Err(failure);
    }
    if sealed.iter().all(Vec::is_empty) {
        sealed.clear();
    }
    let objects: Vec<_> = objects.into_iter().flatten().collect();
    let list = objects.iter().map(|object| object.info.clone()).collect();
    Ok((objects, response::Result::Objects(ObjectList { objects: list, more: false, sealed })))
}

fn keep_for_session(
    partition: &Partition,
    asker: &Asker,
    origin: Origin,
    made: &mut [Made],
    owner: u64,
    (objects, sealed): (&mut [Option<Arc<Object>>], &mut [Vec<u8>]),
) -> Result<(), Failure> {
    for ((one, object), sealed) in made.iter_mut().zip(objects).zip(sealed) {
        if one.info.session {
            one.info = origin.bind(&partition.contents(), std::mem::take(&mut one.info));
            let still = |contents: &Contents| asker.still_may(partition, &contents.users).map(drop);
            let (kept, blob) =
                partition.keep_for_session(one.info.clone(), one.kind, one.key.as_ref(), owner, still)?;
            (*object, *sealed) = (Some(kept), blob);
        }
    }
    Ok(())
}

fn keep_in_store(
    partition: &Partition,
    asker: &Asker,
    origin: Origin,
    made: &mut [Made],
    objects: &mut [Option<Arc<Object>>],
) -> Result<(), Failure> {
    if made.iter().all(|one| one.info.session) {
        return Ok(());
    }
    partition.change(|change| {
        asker.still_may(partition, &change.before().users)?;
        for (one, object) in made.iter_mut().zip(objects).filter(|(one, _)| !one.info.session) {
            one.info = origin.bind(change.before(), std::mem::take(&mut one.info));
            *object = Some(change.add_object(one.info.clone(), one.kind, one.key.as_ref())?);
        }
        Ok(())
    })
}

/// Changes a session object's description: it takes its own place, under the same identity. Blocks.
pub(super) fn replace(
    partition: &Partition,
    asker: &Asker,
    was: &Object,
    request: SetAttributes,
) -> Result<response::Result, Failure> {
    let info = objects::changed(&was.info, request)?;
    let key = partition.key(was)?;
    let owner = owner(&asker.session.acting(partition))?;
    let (object, sealed) = partition.keep_for_session(info, was.kind, key.as_ref(), owner, |contents| {
        asker.still_may(partition, &contents.users)?;
        match contents.session.get(&was.id, owner) {
            Some(now) if now.info == was.info => Ok(()),
            Some(_) => {
                refuse!(AttributeWrong, "{} was changed by another request; try again", was.title())
            }
            None => objects::gone(&was.info),
        }
    })?;
    let list = ObjectList { objects: vec![object.info.clone()], more: false, sealed: vec![sealed] };
    Ok(response::Result::Objects(list))
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
