//! RotateKey, ActivateKey and SetRotation: versions of a key.
//!
//! A version is a key of its own, with an id of its own, under the label of the first. A search by label finds the active
//! version; one by id finds any. So a web server goes on with the version that it has loaded, and has the new one when it loads
//! its configuration again after the new one has become active: when its certificate is there.

use std::sync::Arc;

use strongroom_protocol::v1::{
    ActivateKey, Mechanism, ObjectClass, ObjectInfo, RotateKey, SetRotation, VersionState, response,
};

use super::{Context, changing, objects};
use crate::access::Access;
use crate::audit::Audit;
use crate::crypto::aws_lc::{self, PrivateKey};
use crate::crypto::symmetric::{SecretKey, SecretKind};
use crate::failure::{Failure, refuse};
use crate::life::ROTATION;
use crate::object::{self, Key, Object, Objects, Search};
use crate::partition::{Change, Contents, Partition};
use crate::records::hex;

/// What all versions of a key share: the identity of the first one's private or secret key.
pub(crate) fn family(info: &ObjectInfo) -> &[u8] {
    if info.family.is_empty() { &info.object } else { &info.family }
}

/// All versions of a key: private or secret keys, and their public halves.
pub(crate) fn versions(contents: &Contents, key: &ObjectInfo) -> Vec<Arc<Object>> {
    versions_among(&contents.objects, key).map(Arc::clone).collect()
}

fn versions_among<'a>(objects: &'a Objects, key: &'a ObjectInfo) -> impl Iterator<Item = &'a Arc<Object>> {
    let label = Some(key.label.as_str());
    objects.find(Search { label, ..Search::default() }).filter(|object| is_version(&object.info, key))
}

/// Whether an object is a version of a key, or a half of one. (Both are of one label.)
pub(super) fn is_version(object: &ObjectInfo, key: &ObjectInfo) -> bool {
    let half_of_first = object.family.is_empty() && is_same_version(object, key) && object.id == key.id;
    object::is_key(object.class()) && (family(object) == family(key) || half_of_first)
}

/// Whether two objects are one version of a key: the same object, or halves of one pair.
pub(super) fn is_same_version(one: &ObjectInfo, other: &ObjectInfo) -> bool {
    one.object == other.object || !one.public_key.is_empty() && one.public_key == other.public_key
}

/// The description of a version that another one has replaced.
pub(super) fn retired(info: &ObjectInfo, family: &[u8]) -> ObjectInfo {
    ObjectInfo {
        version: number(info),
        version_state: VersionState::Retired.into(),
        family: family.to_vec(),
        rotate_every: 0,
        rotation_due: 0,
        ..info.clone()
    }
}

/// The description of an object that gets another label. Its name means one version there, too: what comes to an active version
/// of its key is retired, and what comes to none is the one that the name means.
pub(super) fn placed(contents: &Contents, info: ObjectInfo) -> ObjectInfo {
    if !object::is_key(info.class()) {
        return info;
    }
    let same_name = contents.objects.find(Search { label: Some(&info.label), ..Search::default() });
    let there = same_name.map(|other| &other.info).filter(|other| other.object != info.object);
    let versions: Vec<_> =
        there.filter(|other| is_version(other, &info) || is_same_version(other, &info)).collect();
    let is_taken = |state| versions.iter().any(|other| other.version_state() == state);
    let state = match versions.iter().find(|other| is_same_version(other, &info)) {
        // Both halves are of one version.
        Some(half) => half.version_state(),
        None if versions.is_empty() => VersionState::Active,
        None if is_taken(info.version_state()) => VersionState::Retired,
        None => info.version_state(),
    };
    match state {
        state if state == info.version_state() => info,
        VersionState::Retired => {
            let family = family(&info).to_vec();
            retired(&info, &family)
        }
        state => ObjectInfo { version_state: state.into(), ..info },
    }
}

/// The number of a version; keys that were never rotated have none written down.
fn number(info: &ObjectInfo) -> u32 {
    info.version.max(1)
}

fn rotatable(object: &Object) -> Result<(), Failure> {
    let title = object.title();
    if !object::holds_key(object.info.class()) {
        return refuse!(KeyMayNot, "{title} is neither a private nor a secret key: it has no versions");
    }
    if object.info.not_modifiable {
        return refuse!(AttributeReadOnly, "{title} is not modifiable");
    }
    Ok(())
}

/// A new key like this one.
fn key_like(object: &Object) -> Result<Key, Failure> {
    match (object.kind, SecretKind::from_wire(object.info.key_type())) {
        (Some(kind), _) => Ok(Key::Private(Arc::new(PrivateKey::generate(kind)?))),
        (None, Some(kind)) => {
            let length = object.info.value_length as usize;
            Ok(Key::Secret(Arc::new(SecretKey::generate(kind, length)?)))
        }
        (None, None) => refuse!(Unsupported, "{} is of a type that is not made here", object.title()),
    }
}

/// Adds a version of the active key `current`; the objects that were made, the private or secret key first.
fn add_version(
    change: &mut Change<'_>,
    current: &Arc<Object>,
    key: &Key,
    activate: bool,
) -> Result<Vec<Arc<Object>>, Failure> {
    let now = change.age();
    let all = versions(change.before(), &current.info);
    if let Some(pending) = all.iter().find(|other| other.info.version_state() == VersionState::Pending) {
        return refuse!(
            Exists,
            "{} has a version {} that is not active yet: activate it with 'strongroom key activate', or delete it",
            current.title(),
            number(&pending.info)
        );
    }
    // One that was deleted may come back.
    let deleted = versions_among(&change.before().deleted, &current.info);
    let last = all.iter().chain(deleted).map(|object| number(&object.info)).max().unwrap_or(1);
    let public_key = match key {
        Key::Private(key) => key.public_spki()?,
        Key::Secret(_) => Vec::new(),
    };
    let identity = aws_lc::random_array::<16>().to_vec();
    let id = if public_key.is_empty() { identity.clone() } else { objects::key_id(&public_key) };
    let family = family(&current.info).to_vec();
    let like = |info: &ObjectInfo, object: Vec<u8>| {
        let mut policy = info.policy.unwrap_or_default();
        // A crypto officer's word was about the old version, which keeps it.
        (policy.trusted, policy.once_trusted) = (false, false);
        if object::holds_key(info.class()) {
            (policy.local, policy.always_sensitive, policy.never_extractable) =
                (true, !policy.not_sensitive, !policy.extractable);
        }
        ObjectInfo {
            object,
            id: id.clone(),
            policy: Some(policy),
            public_key: public_key.clone(),
            created: crate::request::templates::now(),
            // The subject and the dates are the old version's.
            attributes: Vec::new(),
            version: last + 1,
            version_state: VersionState::Pending.into(),
            family: family.clone(),
            copy_of: Vec::new(),
            rotate_every: 0,
            rotation_due: 0,
            ..info.clone()
        }
    };
    let mut infos = vec![(like(&current.info, identity), Some(key))];
    let half = |other: &&Arc<Object>| {
        other.info.class() == ObjectClass::PublicKey && other.info.public_key == current.info.public_key
    };
    if let Some(public) = all.iter().find(half) {
        infos.push((like(&public.info, aws_lc::random_array::<16>().to_vec()), None));
    }
    if activate {
        for object in all.iter().filter(|object| crate::life::is_active(object)) {
            change.replace_object(object, retired(&object.info, &family))?;
        }
        for (info, _) in &mut infos {
            info.version_state = VersionState::Active.into();
        }
        if let Some((info, _)) = infos.first_mut() {
            info.rotate_every = current.info.rotate_every;
            info.rotation_due = due(current.info.rotate_every, now);
        }
    } else {
        let counts = |object: &&Arc<Object>| object.info.version == 0 || object.info.rotation_due != 0;
        for object in all.iter().filter(counts) {
            // If the new version is deleted, the next one is made when it is time again, and not at once.
            let rotation_due = due(object.info.rotate_every, now);
            let (version, family) = (number(&object.info), family.clone());
            let numbered = ObjectInfo { version, family, rotation_due, ..object.info.clone() };
            change.replace_object(object, numbered)?;
        }
    }
    let kind = current.kind;
    // Whoever may use the old version may use the new one.
    let access = |info: &ObjectInfo| {
        if object::holds_key(info.class()) { current.access.clone() } else { Access::default() }
    };
    infos.into_iter().map(|(info, key)| change.add_named(info.clone(), access(&info), kind, key)).collect()
}

/// When the next version is due, on the partition's clock; 0: never.
fn due(every: u64, now: u64) -> u64 {
    if every == 0 { 0 } else { now.saturating_add(every) }
}

/// The active version of the key that has this object, as it is now.
fn current(contents: &Contents, identity: &[u8]) -> Result<Arc<Object>, Failure> {
    match contents.objects.get(identity) {
        Some(object) if crate::life::is_active(object) => Ok(Arc::clone(object)),
        Some(object) => {
            refuse!(AttributeWrong, "{} is not the active version of its key", object.title())
        }
        None => refuse!(NoSuchObject, "there is no such key"),
    }
}

pub(super) async fn rotate(
    context: &Context,
    partition: &Arc<Partition>,
    request: RotateKey,
) -> Result<response::Result, Failure> {
    let object = objects::visible(&context.acting, partition, &request.object)?;
    rotatable(&object)?;
    context.uses(object.info.key_type(), Mechanism::Unspecified)?;
    // Refuse what is wrong before spending seconds on a key.
    let public = current(&partition.contents(), &request.object)?.kind.map_or(0, |_| 1);
    partition.has_room(1, public)?;
    let key = match object.kind {
        Some(kind) => Key::Private(Arc::new(context.service.generate(context.origin(), kind).await?)),
        None => key_like(&object)?,
    };
    let (partition, asker) = (Arc::clone(partition), context.asker());
    changing(context, move || {
        let made = partition.change(|change| {
            asker.still_may(&partition, &change.before().users)?;
            let current = current(change.before(), &request.object)?;
            add_version(change, &current, &key, request.activate)
        })?;
        let (uid, by) = (asker.session.uid, &asker.by);
        let object = made.first().map(|object| object.title());
        tracing::info!(uid, by, partition = partition.label(), object, "key rotated");
        Ok(objects::listed(&made))
    })
    .await
}

pub(super) async fn activate(
    context: &Context,
    partition: &Arc<Partition>,
    request: ActivateKey,
) -> Result<response::Result, Failure> {
    let object = objects::visible(&context.acting, partition, &request.object)?;
    rotatable(&object)?;
    let (partition, asker) = (Arc::clone(partition), context.asker());
    changing(context, move || {
        let changed = partition.change(|change| {
            asker.still_may(&partition, &change.before().users)?;
            let now = change.age();
            let Some(chosen) = change.before().objects.get(&request.object).map(Arc::clone) else {
                return refuse!(NoSuchObject, "there is no such key");
            };
            if crate::life::is_active(&chosen) {
                return refuse!(AttributeWrong, "{} is the active version already", chosen.title());
            }
            let all = versions(change.before(), &chosen.info);
            let every = all.iter().map(|object| object.info.rotate_every).max().unwrap_or_default();
            let mut changed = Vec::new();
            for object in all {
                let is_chosen = is_same_version(&object.info, &chosen.info);
                let state = match (is_chosen, object.info.version_state()) {
                    (true, _) => VersionState::Active,
                    (false, VersionState::Active) => VersionState::Retired,
                    _ => continue,
                };
                let has_policy = is_chosen && object::holds_key(object.info.class());
                let info = ObjectInfo {
                    version: number(&object.info),
                    version_state: state.into(),
                    family: family(&chosen.info).to_vec(),
                    rotate_every: if has_policy { every } else { 0 },
                    rotation_due: if has_policy { due(every, now) } else { 0 },
                    ..object.info.clone()
                };
                changed.push(change.replace_object(&object, info)?);
            }
            changed.sort_by_key(|object| !crate::life::is_active(object));
            Ok(changed)
        })?;
        let (uid, by) = (asker.session.uid, &asker.by);
        let object = changed.first().map(|object| object.title());
        tracing::info!(uid, by, partition = partition.label(), object, "version of a key activated");
        let active: Vec<_> = changed.into_iter().filter(|object| crate::life::is_active(object)).collect();
        Ok(objects::listed(&active))
    })
    .await
}

pub(super) async fn set_rotation(
    context: &Context,
    partition: &Arc<Partition>,
    request: SetRotation,
) -> Result<response::Result, Failure> {
    let object = objects::visible(&context.acting, partition, &request.object)?;
    rotatable(&object)?;
    let every = request.every_seconds;
    if every != 0 && !ROTATION.contains(&every) {
        return refuse!(AttributeWrong, "a key gets a new version every day to every ten years, or never");
    }
    let (partition, asker) = (Arc::clone(partition), context.asker());
    changing(context, move || {
        let changed = partition.change(|change| {
            asker.still_may(&partition, &change.before().users)?;
            let current = current(change.before(), &request.object)?;
            let rotation_due = due(every, change.age());
            let info = ObjectInfo { rotate_every: every, rotation_due, ..current.info.clone() };
            change.replace_object(&current, info)
        })?;
        let (uid, by) = (asker.session.uid, &asker.by);
        tracing::info!(
            uid,
            by,
            partition = partition.label(),
            object = changed.title(),
            every,
            "rotation set"
        );
        Ok(objects::listed(&[changed]))
    })
    .await
}

/// Keys that get a new version at one look: one takes up to some seconds of a processor.
const MOST_AT_ONCE: usize = 8;

/// After how long a new version that could not be made is tried again, in seconds.
const TRY_AGAIN: u64 = 60 * 60;

/// Tries a new version again later: where there is no room for it, a key would be made in vain at every look.
fn put_off(partition: &Partition, key: &[u8]) -> Result<(), Failure> {
    partition.change(|change| {
        let Some(object) = change.before().objects.get(key).map(Arc::clone) else { return Ok(()) };
        let later = change.age().saturating_add(TRY_AGAIN);
        let rotation_due = match object.info.rotation_due {
            0 => return Ok(()),
            due if due >= later => return Ok(()),
            _ => later,
        };
        let info = ObjectInfo { rotation_due, ..object.info.clone() };
        change.replace_object(&object, info).map(drop)
    })
}

/// Gives a new version to each key that is due for one. A key pair's waits for its certificate; a secret key's is active.
///
/// # Errors
///
/// STORE, INTERNAL.
pub fn rotate_due(partition: &Partition, audit: &Audit) -> Result<(), Failure> {
    let now = partition.age().now();
    let has_pending = |contents: &Contents, object: &Object| {
        let all = versions(contents, &object.info);
        all.iter().any(|other| other.info.version_state() == VersionState::Pending)
    };
    let due: Vec<_> = {
        let contents = partition.contents();
        let due = contents.objects.due(now).filter(|object| crate::life::is_active(object));
        due.filter(|object| !has_pending(&contents, object)).map(Arc::clone).collect()
    };
    for object in due.into_iter().take(MOST_AT_ONCE) {
        let rotate = || {
            partition.has_room(1, object.kind.map_or(0, |_| 1))?;
            // Also tried again later if this one fails. A store that takes nothing is no reason to make a key, either.
            put_off(partition, &object.id)?;
            let key = key_like(&object)?;
            partition.change(|change| {
                let current = current(change.before(), &object.id)?;
                add_version(change, &current, &key, matches!(key, Key::Secret(_)))
            })
        };
        let made = audit.own_act(
            partition,
            ("rotate_key", "the time for a new version had come"),
            &[&object.info],
            rotate,
            |entry, made| match made.first() {
                Some(new) => entry.with("new_object", hex(&new.id)),
                None => entry,
            },
        );
        match made {
            Ok(made) => {
                let object = made.first().map(|object| object.title());
                tracing::info!(partition = partition.label(), object, "key rotated: its time had come");
            }
            Err(failure) => {
                let (key, object) = (object.id, object.title());
                tracing::error!(partition = partition.label(), object, "not rotated: {failure}");
                // If the store takes nothing now, nothing was made either.
                let _ = put_off(partition, &key);
            }
        }
    }
    Ok(())
}
