//! DeleteKey, ListDeleted, RecoverKey, PurgeKey and SetLife: keys that were deleted softly, see [`crate::life`].

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use prost::Message;
use strongroom_protocol::frame::MAX_FRAME;
use strongroom_protocol::v1::{
    DeleteKey, ListDeleted, ObjectInfo, ObjectList, PurgeKey, RecoverKey, SetLife, VersionState, response,
};

use super::{Context, changing, done, objects, partitions, rotate};
use crate::failure::{Failure, refuse};
use crate::object::{self, Object, Search};
use crate::partition::{Contents, Partition};

/// Objects in one reply.
const MAX_PAGE: usize = 256;
/// Objects in one change: the audit log names them all in one entry.
const MOST_AT_ONCE: usize = 64;
/// Bytes of objects that were changed, in one reply.
const MAX_REPLY: usize = MAX_FRAME / 2;

/// A deleted key as clients see it, with the time of day at which it goes.
fn shown(partition: &Partition, object: &Object) -> ObjectInfo {
    ObjectInfo { purge_at: partition.age().as_wall(object.info.purge_due), ..object.info.clone() }
}

pub(super) fn list(partition: &Partition, request: &ListDeleted) -> Result<response::Result, Failure> {
    let contents = partition.contents();
    let after = match request.after.is_empty() {
        true => None,
        // One that was recovered meanwhile has its place.
        false => match contents.known(&request.after) {
            Some(object) => Some(object.sequence),
            None => {
                return refuse!(NoSuchObject, "the last key of the list was purged meanwhile: list again");
            }
        },
    };
    let found = contents.deleted.find(Search { after, ..Search::default() });
    Ok(response::Result::Objects(objects::page(found.map(|object| shown(partition, object)), MAX_PAGE)))
}

pub(super) async fn delete(
    context: &Context,
    partition: &Arc<Partition>,
    request: DeleteKey,
) -> Result<response::Result, Failure> {
    check_names(&request.objects)?;
    for identity in &request.objects {
        let object = objects::visible(&context.acting, partition, identity)?;
        if object.info.not_destroyable {
            return refuse!(AttributeReadOnly, "{} is not destroyable", object.title());
        }
        if !object::is_key(object.info.class()) {
            return refuse!(KeyMayNot, "{} is no key: it is destroyed, and not kept", object.title());
        }
    }
    let (partition, asker) = (Arc::clone(partition), context.asker());
    changing(context, move || {
        let deleted = partition.change(|change| {
            asker.still_may(&partition, &change.before().users)?;
            let contents = change.before();
            let found = request.objects.iter().map(|identity| contents.objects.get(identity).map(Arc::clone));
            let Some(found) = found.collect::<Option<Vec<_>>>() else {
                return refuse!(NoSuchObject, "the key was deleted meanwhile");
            };
            check_reply(&found)?;
            found.iter().map(|object| change.soft_delete(object)).collect::<Result<Vec<_>, _>>()
        })?;
        let (uid, by) = (asker.session.uid, &asker.by);
        for object in &deleted {
            tracing::info!(uid, by, partition = partition.label(), object = object.title(), "key deleted");
        }
        let objects = deleted.iter().map(|object| shown(&partition, object)).collect();
        Ok(response::Result::Objects(ObjectList { objects, ..ObjectList::default() }))
    })
    .await
}

/// The objects of one request are few, and each is another one.
fn check_names(identities: &[Vec<u8>]) -> Result<(), Failure> {
    if identities.is_empty() {
        return refuse!(Malformed, "no object is named");
    }
    if identities.len() > MOST_AT_ONCE {
        return refuse!(Limit, "{} objects at once: name {MOST_AT_ONCE} at most", identities.len());
    }
    let different: BTreeSet<&Vec<u8>> = identities.iter().collect();
    if different.len() != identities.len() {
        return refuse!(Malformed, "an object is named twice");
    }
    Ok(())
}

/// A change whose answer is larger than a frame would be made, and be told as an error.
fn check_reply(objects: &[Arc<Object>]) -> Result<(), Failure> {
    let bytes: usize = objects.iter().map(|object| object.info.encoded_len()).sum();
    if bytes > MAX_REPLY {
        return refuse!(
            Limit,
            "{} objects at once have {bytes} bytes of attributes, and an answer holds {MAX_REPLY}: name fewer",
            objects.len()
        );
    }
    Ok(())
}

/// The deleted objects of these identities, all of them.
fn named(contents: &Contents, identities: &[Vec<u8>]) -> Result<Vec<Arc<Object>>, Failure> {
    check_names(identities)?;
    let found = identities.iter().map(|identity| contents.deleted.get(identity).map(Arc::clone));
    match found.collect::<Option<Vec<_>>>() {
        Some(found) => Ok(found),
        None => {
            refuse!(
                NoSuchObject,
                "there is no such deleted key; list them with 'strongroom key list --deleted'"
            )
        }
    }
}

/// The descriptions with which deleted keys come back, under this label unless it is empty. A name is that of one key, and a
/// key has one active version and one pending one at most: one more comes back retired.
fn coming_back(
    contents: &Contents,
    objects: &[Arc<Object>],
    label: &str,
) -> Result<Vec<ObjectInfo>, Failure> {
    let mut order: Vec<_> = objects.iter().enumerate().collect();
    // Of several that were active the last one goes on being so.
    order.sort_by_key(|(_, object)| Reverse((object.info.deleted_at, object.info.version)));
    let mut back: Vec<(usize, ObjectInfo)> = Vec::new();
    for (place, object) in order {
        let mut info = ObjectInfo { deleted_at: 0, purge_due: 0, ..object.info.clone() };
        if !label.is_empty() {
            label.clone_into(&mut info.label);
        }
        let name = info.label.clone();
        let same_name = contents.objects.find(Search { label: Some(&name), ..Search::default() });
        let there = same_name.map(|object| &object.info).chain(back.iter().map(|(_, info)| info));
        let keys = there.filter(|other| object::is_key(other.class()) && other.label == name);
        let mut others = keys.filter(|other| !rotate::is_same_version(other, &info)).collect::<Vec<_>>();
        if let Some(other) = others.iter().find(|other| !rotate::is_version(other, &info)) {
            return refuse!(
                Exists,
                "there is a {} by now: bring the deleted key back under another name, with --as",
                object::title(other)
            );
        }
        others.retain(|other| other.version_state() == info.version_state());
        if info.version_state() != VersionState::Retired && !others.is_empty() {
            let family = rotate::family(&info).to_vec();
            info = rotate::retired(&info, &family);
        }
        back.push((place, info));
    }
    if !label.is_empty() {
        make_findable(contents, &mut back);
    }
    back.sort_by_key(|(place, _)| *place);
    Ok(back.into_iter().map(|(_, info)| info).collect())
}

/// Of keys that come back under another name, and of which no version is active there: the last one is. Otherwise nobody would find
/// the key by its name.
fn make_findable(contents: &Contents, back: &mut [(usize, ObjectInfo)]) {
    let is_active = |info: &ObjectInfo| info.version_state() == VersionState::Active;
    let keys: Vec<_> =
        back.iter().map(|(_, info)| info).filter(|info| object::is_key(info.class())).collect();
    let chosen = keys.iter().find(|info| {
        let same_name = contents.objects.find(Search { label: Some(&info.label), ..Search::default() });
        let there = same_name.map(|object| &object.info).chain(keys.iter().copied());
        !there.filter(|other| rotate::is_version(other, info)).any(is_active)
    });
    let Some(chosen) = chosen.map(|info| (*info).clone()) else { return };
    for (_, info) in back.iter_mut().filter(|(_, info)| rotate::is_same_version(info, &chosen)) {
        info.version_state = VersionState::Active.into();
    }
}

pub(super) async fn recover(
    context: &Context,
    partition: &Arc<Partition>,
    request: RecoverKey,
) -> Result<response::Result, Failure> {
    let (partition, asker) = (Arc::clone(partition), context.asker());
    changing(context, move || {
        super::templates::check_sizes(&request.label, &[], &[])?;
        let recovered = partition.change(|change| {
            asker.still_may(&partition, &change.before().users)?;
            let objects = named(change.before(), &request.objects)?;
            check_reply(&objects)?;
            let infos = coming_back(change.before(), &objects, &request.label)?;
            let both = objects.iter().zip(infos);
            both.map(|(object, info)| change.recover(object, info)).collect::<Result<Vec<_>, _>>()
        })?;
        let (uid, by) = (asker.session.uid, &asker.by);
        for object in &recovered {
            tracing::info!(uid, by, partition = partition.label(), object = object.title(), "key recovered");
        }
        Ok(objects::listed(&recovered))
    })
    .await
}

pub(super) async fn purge(
    context: &Context,
    partition: &Arc<Partition>,
    request: PurgeKey,
) -> Result<response::Result, Failure> {
    let (partition, asker) = (Arc::clone(partition), context.asker());
    changing(context, move || {
        let purged = partition.change(|change| {
            asker.still_may(&partition, &change.before().users)?;
            let purged = named(change.before(), &request.objects)?;
            if change.before().life.purge_protection {
                return refuse!(
                    PurgeProtected,
                    "partition \"{}\" has purge protection: deleted keys go by themselves, when their time is over",
                    partition.label()
                );
            }
            purged.iter().for_each(|object| change.purge(object));
            Ok(purged)
        })?;
        let (uid, by) = (asker.session.uid, &asker.by);
        for object in &purged {
            tracing::info!(uid, by, partition = partition.label(), object = object.title(), "key purged");
        }
        Ok(done())
    })
    .await
}

pub(super) async fn set_life(
    context: &Context,
    partition: &Arc<Partition>,
    request: SetLife,
) -> Result<response::Result, Failure> {
    let (place, asker) = (Arc::clone(partition), context.asker());
    changing(context, move || {
        let life = place.change(|change| {
            asker.still_may(&place, &change.before().users)?;
            let SetLife { retention_days, purge_protection, destroy_at_once } = request;
            let life = change.before().life.changed(retention_days, purge_protection, destroy_at_once)?;
            change.set_life(life);
            Ok(life)
        })?;
        let (uid, by) = (asker.session.uid, &asker.by);
        tracing::info!(uid, by, partition = place.label(), ?life, "what is done with deleted keys changed");
        Ok(())
    })
    .await?;
    Ok(response::Result::Partition(partitions::info(&context.service, &context.session, partition)))
}
