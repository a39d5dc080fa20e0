//! DeleteKey, ListDeleted, RecoverKey, PurgeKey and SetLife: keys that were deleted softly, see [`crate::life`].

use std::collections::BTreeSet;
use std::sync::Arc;

use strongroom_protocol::v1::{
    DeleteKey, ListDeleted, ObjectInfo, ObjectList, PurgeKey, RecoverKey, SetLife, response,
};

use super::{Context, blocking, done, objects, partitions};
use crate::failure::{Failure, refuse};
use crate::object::{self, Object, Search};
use crate::partition::{Contents, Partition};

/// Objects in one reply.
const MAX_PAGE: usize = 256;

/// A deleted key as clients see it, with the time of day at which it goes.
fn shown(partition: &Partition, object: &Object) -> ObjectInfo {
    ObjectInfo { purge_at: partition.age().as_wall(object.info.purge_due), ..object.info.clone() }
}

pub(super) fn list(partition: &Partition, request: &ListDeleted) -> response::Result {
    let contents = partition.contents();
    let after = contents.deleted.get(&request.after).map(|object| object.sequence);
    let mut found = contents.deleted.find(Search { after, ..Search::default() });
    let page = found.by_ref().take(MAX_PAGE).map(|object| shown(partition, object)).collect();
    let more = found.next().is_some();
    drop(found);
    response::Result::Objects(ObjectList { objects: page, more })
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
    blocking(move || {
        let deleted = partition.change(|change| {
            asker.still_may(&partition, &change.before().users)?;
            let contents = change.before();
            let found = request.objects.iter().map(|identity| contents.objects.get(identity).map(Arc::clone));
            let Some(found) = found.collect::<Option<Vec<_>>>() else {
                return refuse!(NoSuchObject, "the key was deleted meanwhile");
            };
            found.iter().map(|object| change.soft_delete(object)).collect::<Result<Vec<_>, _>>()
        })?;
        let (uid, by) = (asker.session.uid, &asker.by);
        for object in &deleted {
            tracing::info!(uid, by, partition = partition.label(), object = object.title(), "key deleted");
        }
        let objects = deleted.iter().map(|object| shown(&partition, object)).collect();
        Ok(response::Result::Objects(ObjectList { objects, more: false }))
    })
    .await
}

/// The objects of one request are few, and each is another one.
fn check_names(identities: &[Vec<u8>]) -> Result<(), Failure> {
    if identities.is_empty() {
        return refuse!(Malformed, "no object is named");
    }
    if identities.len() > MAX_PAGE {
        return refuse!(Limit, "{} objects at once: name {MAX_PAGE} at most", identities.len());
    }
    let different: BTreeSet<&Vec<u8>> = identities.iter().collect();
    if different.len() != identities.len() {
        return refuse!(Malformed, "an object is named twice");
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

pub(super) async fn recover(
    context: &Context,
    partition: &Arc<Partition>,
    request: RecoverKey,
) -> Result<response::Result, Failure> {
    let (partition, asker) = (Arc::clone(partition), context.asker());
    blocking(move || {
        super::templates::check_sizes(&request.label, &[], &[])?;
        let recovered = partition.change(|change| {
            asker.still_may(&partition, &change.before().users)?;
            let mut recovered = Vec::new();
            for object in named(change.before(), &request.objects)? {
                let mut info = ObjectInfo { deleted_at: 0, purge_due: 0, ..object.info.clone() };
                if !request.label.is_empty() {
                    info.label.clone_from(&request.label);
                }
                recovered.push(change.recover(&object, info)?);
            }
            Ok(recovered)
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
    blocking(move || {
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
    blocking(move || {
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
