//! Objects: find, generate, import, create, change, destroy.

use std::collections::HashSet;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use prost::Message;
use strongroom_protocol::names;
use strongroom_protocol::v1::{
    CreateObject, DestroyObject, FindObjects, GenerateKeyPair, ImportKeyPair, KeyPolicy, KeyTemplate,
    Mechanism, ObjectClass, ObjectInfo, ObjectList, Permission, SetAttributes, response,
};
use zeroize::Zeroizing;

use super::copy;
use super::session_objects::{self, Made};
use super::templates::{self, Half};
use super::{Context, changing, done, keeping, rotate, wrap};
use crate::access::Permissions;
use crate::crypto::KeyKind;
use crate::crypto::aws_lc::{PrivateKey, PublicKey};
use crate::failure::{Failure, refuse};
use crate::life;
use crate::object::{self, Key, Object, ObjectId, Objects, Search};
use crate::partition::{Contents, Partition};
use crate::policy::{self, Needs};
use crate::session::Acting;

/// Objects in one reply.
const MAX_PAGE: usize = 256;
/// Bytes of objects in one reply, which waits in memory for its reader; a larger object comes alone.
const MAX_PAGE_BYTES: usize = 64 * 1024;
/// The longest certificate or data object, in bytes.
const MAX_VALUE: usize = 32 * 1024;

/// The object of this identity, if those who ask may know of it.
pub(super) fn visible(
    acting: &Acting,
    partition: &Partition,
    identity: &[u8],
) -> Result<Arc<Object>, Failure> {
    visible_in(&partition.contents(), acting, partition, identity)
}

/// As [`visible`], among these contents of the partition.
pub(super) fn visible_in(
    contents: &Contents,
    acting: &Acting,
    partition: &Partition,
    identity: &[u8],
) -> Result<Arc<Object>, Failure> {
    let object = contents.objects.get(identity).filter(|object| may_see(acting, &contents.objects, object));
    match object.or_else(|| of_session(acting, contents, identity)) {
        Some(object) => Ok(Arc::clone(object)),
        None => no_such_object(partition, identity),
    }
}

/// The own session object of this identity.
fn of_session<'a>(acting: &Acting, contents: &'a Contents, identity: &[u8]) -> Option<&'a Arc<Object>> {
    let owner = acting.crypto_user.as_ref()?.identity;
    contents.session.get(identity, owner)
}

fn no_such_object<T>(partition: &Partition, identity: &[u8]) -> Result<T, Failure> {
    refuse!(
        NoSuchObject,
        "partition \"{}\" has no object {}; list them with 'strongroom key list'",
        partition.label(),
        crate::records::hex(identity.get(..16).unwrap_or(identity))
    )
}

/// Whom all public objects of the partition are shown to.
fn sees_public(acting: &Acting) -> bool {
    let user = acting.crypto_user.as_ref().or(acting.officer.as_ref()).or(acting.appliance_user.as_ref());
    user.is_some() || acting.root
}

/// Whether those who ask may know of an object.
pub(crate) fn may_see(acting: &Acting, objects: &Objects, object: &Object) -> bool {
    acting.crypto_user.is_some()
        || (!object.info.private && sees_public(acting))
        || objects.shows(&acting.named, object)
}

/// The key of this identity, if those who ask are crypto users, or the key names them for all of `wanted`. (Its policy is asked
/// by who uses it.)
///
/// # Errors
///
/// NO_SUCH_OBJECT for a key that they may not know of; KEY_MAY_NOT; and to whom no key is known, what a log-in would help.
pub fn usable(
    acting: &Acting,
    partition: &Partition,
    identity: &[u8],
    wanted: &[Permission],
) -> Result<Arc<Object>, Failure> {
    let contents = partition.contents();
    let object = contents.objects.get(identity).or_else(|| of_session(acting, &contents, identity));
    match object {
        Some(object)
            if acting.crypto_user.is_some()
                || object.access.permits(&acting.named, Permissions::of(wanted)) =>
        {
            Ok(Arc::clone(object))
        }
        Some(object) if may_see(acting, &contents.objects, object) && object.access.names(&acting.named) => {
            let verbs: Vec<_> = wanted.iter().map(|permission| names::permission(*permission)).collect();
            refuse!(
                KeyMayNot,
                "{} does not let {} {}; a crypto user sees whom it names with 'strongroom key access'",
                object.title(),
                acting.key_user(),
                verbs.join(" and ")
            )
        }
        _ if acting.crypto_user.is_some() || contents.objects.names(&acting.named) => {
            no_such_object(partition, identity)
        }
        _ => {
            if acting.limited.is_none() {
                policy::permit(Needs::CryptoUser, acting)?;
            }
            no_such_object(partition, identity)
        }
    }
}

pub(super) fn find(
    context: &Context,
    partition: &Partition,
    request: &FindObjects,
) -> Result<response::Result, Failure> {
    let after = match request.after.is_empty() {
        true => None,
        false => Some(visible(&context.acting, partition, &request.after)?.sequence),
    };
    let limit = match request.limit {
        0 => MAX_PAGE,
        limit => MAX_PAGE.min(limit as usize),
    };
    let contents = partition.contents();
    let acting = &context.acting;
    let search = Search {
        label: (request.label_given || !request.label.is_empty()).then_some(request.label.as_str()),
        id: (request.id_given || !request.id.is_empty()).then_some(request.id.as_slice()),
        class: (request.class != 0).then_some(request.class),
        // Nobody sees private objects without a log-in but those whom a key names.
        public: acting.crypto_user.is_none() && sees_public(acting) && !contents.objects.names(&acting.named),
        after,
    };
    let fits = |object: &Object| {
        (request.class == 0 || request.class == object.info.class)
            && (request.key_type == 0 || request.key_type == object.info.key_type)
            && (request.object.is_empty() || request.object == object.id)
            && search.label.is_none_or(|label| label == object.info.label)
            && search.id.is_none_or(|id| id == object.info.id)
            && search.after.is_none_or(|after| after < object.sequence)
            && may_see(&context.acting, &contents.objects, object)
    };
    // A label means the active version; the others, and their certificates, are named by id.
    let by_label_alone = search.label.is_some() && search.id.is_none() && request.object.is_empty();
    let hidden: HashSet<&[u8]> = match search.label.filter(|_| by_label_alone && !request.all_versions) {
        Some(label) => {
            let same = contents.objects.find(Search { label: Some(label), ..Search::default() });
            same.filter(|object| !life::is_active(object)).map(|object| object.info.id.as_slice()).collect()
        }
        None => HashSet::new(),
    };
    let is_hidden = |object: &Object| {
        hidden.contains(object.info.id.as_slice())
            && (!life::is_active(object) || object.info.class() == ObjectClass::Certificate)
    };
    let is_named_search = search.label.is_some() || search.id.is_some();
    let some: Box<dyn Iterator<Item = &Arc<Object>>> = match request.object.is_empty() {
        false => Box::new(contents.objects.get(&request.object).into_iter()),
        true if is_named_search || sees_public(&context.acting) => contents.objects.find(search),
        // Not by looking at all that it may not see.
        true => Box::new(contents.objects.shown(&context.acting.named)),
    };
    let some = some.filter(|object| fits(object) && !is_hidden(object)).map(|object| object.info.clone());
    Ok(response::Result::Objects(page(some, limit)))
}

/// The first ones, as far as they fit into a reply.
pub(super) fn page(found: impl Iterator<Item = ObjectInfo>, limit: usize) -> ObjectList {
    let (mut page, mut bytes) = (ObjectList::default(), 0);
    for object in found {
        bytes += object.encoded_len() + 8;
        if page.objects.len() == limit || (bytes > MAX_PAGE_BYTES && !page.objects.is_empty()) {
            page.more = true;
            break;
        }
        page.objects.push(object);
    }
    page
}

pub(super) async fn generate(
    context: &Context,
    partition: &Arc<Partition>,
    request: GenerateKeyPair,
) -> Result<response::Result, Failure> {
    let Some(kind) = KeyKind::from_wire(request.key_type()) else {
        return refuse!(Unsupported, "this strongroomd does not know the key type");
    };
    let private = request.private_key.unwrap_or_default();
    let public = request.public_key.unwrap_or_default();
    // Refuse what is wrong before spending seconds on a key.
    templates::key_info(context, private.clone(), Half::Private { generated: true }, kind, &[])?;
    templates::key_info(context, public.clone(), Half::Public { generated: true }, kind, &[])?;
    let stored = |half: &KeyTemplate| usize::from(!half.session);
    partition.has_room(stored(&private), stored(&public))?;
    context.uses(kind.to_wire(), Mechanism::Unspecified)?;
    let key = context.service.generate(context.origin(), kind).await?;
    store_pair(context, partition, key, private, Some(public), Origin::Generated).await
}

pub(super) async fn import(
    context: &Context,
    partition: &Arc<Partition>,
    request: ImportKeyPair,
) -> Result<response::Result, Failure> {
    let ImportKeyPair { pkcs8, private_key, public_key, private_only } = request;
    let pkcs8 = Zeroizing::new(pkcs8);
    // Before anything waits with them in memory.
    for template in private_key.iter().chain(&public_key) {
        templates::check_sizes(&template.label, &template.id, &template.attributes)?;
    }
    let key = context.compute(pkcs8.len(), move || Ok(PrivateKey::import(&pkcs8)?)).await?;
    let public = (!private_only).then(|| public_key.unwrap_or_default());
    store_pair(context, partition, key, private_key.unwrap_or_default(), public, Origin::Imported).await
}

/// How a key comes into the partition.
#[derive(Debug, Clone, Copy)]
pub(super) enum Origin {
    /// Made here.
    Generated,
    /// It was outside, whatever its history there.
    Imported,
    /// Made of a key with this policy.
    Derived(KeyPolicy),
    /// Out of its wrapping.
    Unwrapped {
        /// By this key.
        by: ObjectId,
        /// Which bound what it unwraps when that began.
        was_binding: bool,
    },
}

impl Origin {
    pub(super) fn is_generated(self) -> bool {
        matches!(self, Origin::Generated)
    }

    /// For the log.
    pub(super) fn verb(self) -> &'static str {
        match self {
            Origin::Generated => "generated",
            Origin::Imported | Origin::Unwrapped { .. } => "imported",
            Origin::Derived(_) => "derived",
        }
    }

    /// What a trusted key unwraps leaves under trusted keys only: also if an officer has begun to trust it meanwhile.
    pub(super) fn bind(self, contents: &Contents, mut info: ObjectInfo) -> ObjectInfo {
        let Origin::Unwrapped { by, was_binding } = self else { return info };
        let now = contents.objects.get(&by);
        if object::holds_key(info.class())
            && (was_binding || now.is_some_and(|by| wrap::binds(contents, &by.info)))
        {
            info.policy.get_or_insert_default().wrap_with_trusted = true;
        }
        info
    }
}

/// Keeps a pair that was made or brought in.
pub(super) async fn store_pair(
    context: &Context,
    partition: &Arc<Partition>,
    key: PrivateKey,
    mut private: KeyTemplate,
    public: Option<KeyTemplate>,
    origin: Origin,
) -> Result<response::Result, Failure> {
    let (kind, generated) = (key.kind(), origin.is_generated());
    let spki = key.public_spki()?;
    let mut public = public;
    if private.id.is_empty() && public.as_ref().is_none_or(|public| public.id.is_empty()) {
        private.id = key_id(&spki);
        if let Some(public) = &mut public {
            public.id = private.id.clone();
        }
    }
    let private = templates::key_info(context, private, Half::Private { generated }, kind, &spki)?;
    let public = match public {
        Some(public) => Some(templates::key_info(context, public, Half::Public { generated }, kind, &spki)?),
        None => None,
    };
    let (partition, asker) = (Arc::clone(partition), context.asker());
    let what = origin.verb();
    let for_session = private.session && public.as_ref().is_none_or(|public| public.session);
    keeping(context, for_session, move || {
        let key = Some(Key::Private(Arc::new(key)));
        let mut made = vec![Made { info: private, kind: Some(kind), key }];
        made.extend(public.map(|info| Made { info, kind: Some(kind), key: None }));
        let (objects, reply) = session_objects::keep(&partition, &asker, origin, made)?;
        let title = objects.first().map(|object| object.title());
        let (uid, by) = (asker.session.uid, &asker.by);
        tracing::info!(uid, by, partition = partition.label(), object = title, %kind, "key pair {what}");
        Ok(reply)
    })
    .await
}

/// The id of a pair that the client gave none: the first 20 bytes of the public key's SHA-256.
pub(super) fn key_id(spki: &[u8]) -> Vec<u8> {
    digest(&SHA256, spki).as_ref().iter().copied().take(20).collect()
}

pub(super) async fn create(
    context: &Context,
    partition: &Arc<Partition>,
    request: CreateObject,
) -> Result<response::Result, Failure> {
    let mut asked = request.object.unwrap_or_default();
    let kind = match asked.class() {
        ObjectClass::PublicKey => {
            asked.value = Vec::new();
            Some(PublicKey::from_spki(&asked.public_key)?.kind())
        }
        ObjectClass::Certificate => {
            if !is_der_sequence(&asked.value) {
                return refuse!(KeyMalformed, "certificate \"{}\" is not a DER certificate", asked.label);
            }
            None
        }
        ObjectClass::Data => None,
        ObjectClass::PrivateKey => {
            return refuse!(AttributeWrong, "a private key is imported (ImportKeyPair), not created");
        }
        ObjectClass::SecretKey => {
            return refuse!(AttributeWrong, "a secret key is imported (ImportKey), not created");
        }
        ObjectClass::Unspecified => return refuse!(AttributeWrong, "an object needs a class"),
    };
    if kind.is_none() {
        asked.public_key = Vec::new();
        if asked.value.len() > MAX_VALUE {
            return refuse!(Limit, "\"{}\" is too large: at most {MAX_VALUE} bytes", asked.label);
        }
    }
    let info = templates::object_info(context, asked, kind)?;
    let (partition, asker) = (Arc::clone(partition), context.asker());
    keeping(context, info.session, move || {
        let made = vec![Made { info, kind, key: None }];
        let (objects, reply) = session_objects::keep(&partition, &asker, Origin::Imported, made)?;
        let (uid, by) = (asker.session.uid, &asker.by);
        let object = objects.first().map(|object| object.title());
        tracing::info!(uid, by, partition = partition.label(), object, "object created");
        Ok(reply)
    })
    .await
}

/// Whether the bytes are one DER SEQUENCE with nothing after it: what a certificate is from outside.
fn is_der_sequence(der: &[u8]) -> bool {
    let (length, head) = match der {
        [0x30, short @ 0..=0x7f, ..] => (usize::from(*short), 2),
        [0x30, 0x81, a, ..] => (usize::from(*a), 3),
        [0x30, 0x82, a, b, ..] => (usize::from(u16::from_be_bytes([*a, *b])), 4),
        [0x30, 0x83, a, b, c, ..] => (u32::from_be_bytes([0, *a, *b, *c]) as usize, 5),
        _ => return false,
    };
    length > 0 && der.len() == head + length
}

pub(super) async fn set_attributes(
    context: &Context,
    partition: &Arc<Partition>,
    request: SetAttributes,
) -> Result<response::Result, Failure> {
    let asked_for = visible(&context.acting, partition, &request.object)?;
    if asked_for.info.not_modifiable {
        return refuse!(AttributeReadOnly, "{} is not modifiable", asked_for.title());
    }
    let (partition, asker) = (Arc::clone(partition), context.asker());
    keeping(context, asked_for.info.session, move || {
        if asked_for.info.session {
            return session_objects::replace(&partition, &asker, &asked_for, request);
        }
        let object = partition.change(|change| {
            asker.still_may(&partition, &change.before().users)?;
            let Some(object) = change.before().objects.get(&asked_for.id).map(Arc::clone) else {
                return gone(&asked_for.info);
            };
            let mut info = changed(&object.info, request)?;
            if info.label != object.info.label {
                info = rotate::placed(change.before(), info);
            }
            change.replace_object(&object, info)
        })?;
        let (uid, by) = (asker.session.uid, &asker.by);
        tracing::info!(uid, by, partition = partition.label(), object = object.title(), "object changed");
        Ok(listed(&[object]))
    })
    .await
}

/// An object's description with what a request changes in it.
pub(super) fn changed(info: &ObjectInfo, request: SetAttributes) -> Result<ObjectInfo, Failure> {
    let mut info = info.clone();
    templates::hide(&mut info, request.sensitive);
    templates::restrict(&mut info, request.not_extractable, request.wrap_with_trusted)?;
    info.label = request.label.unwrap_or(info.label);
    info.id = request.id.unwrap_or(info.id);
    info.attributes = copy::merged(&info.attributes, request.attributes);
    templates::check_sizes(&info.label, &info.id, &info.attributes)?;
    Ok(info)
}

pub(super) async fn destroy(
    context: &Context,
    partition: &Arc<Partition>,
    request: DestroyObject,
) -> Result<response::Result, Failure> {
    let object = visible(&context.acting, partition, &request.object)?;
    if object.info.not_destroyable {
        return refuse!(AttributeReadOnly, "{} is not destroyable", object.title());
    }
    if object.info.session {
        partition.forget_for_session(&object.id, session_objects::owner(&context.acting)?);
        return Ok(done());
    }
    let (partition, asker) = (Arc::clone(partition), context.asker());
    changing(context, move || {
        partition.change(|change| {
            asker.still_may(&partition, &change.before().users)?;
            let Some(object) = change.before().objects.get(&object.id).map(Arc::clone) else {
                return gone(&object.info);
            };
            if object::is_key(object.info.class()) && !change.before().life.destroy_at_once {
                return change.soft_delete(&object).map(drop);
            }
            change.delete_object(&object);
            Ok(())
        })?;
        let (uid, by) = (asker.session.uid, &asker.by);
        tracing::info!(uid, by, partition = partition.label(), object = object.title(), "object destroyed");
        Ok(done())
    })
    .await
}

pub(super) fn gone<T>(info: &ObjectInfo) -> Result<T, Failure> {
    refuse!(NoSuchObject, "{} was destroyed meanwhile", object::title(info))
}

pub(super) fn listed(objects: &[Arc<Object>]) -> response::Result {
    let objects = objects.iter().map(|object| object.info.clone()).collect();
    response::Result::Objects(ObjectList { objects, ..ObjectList::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_one_der_sequence() {
        assert!(is_der_sequence(&[0x30, 1, 5]));
        assert!(is_der_sequence(&[&[0x30, 0x81, 0x80][..], &[0; 0x80]].concat()));
        assert!(is_der_sequence(&[&[0x30, 0x82, 1, 0][..], &[0; 256]].concat()));
        for wrong in [&[][..], &[0x30], &[0x30, 0], &[0x30, 2, 5], &[0x30, 1, 5, 5], &[0x31, 1, 5], b"-----B"]
        {
            assert!(!is_der_sequence(wrong), "{wrong:?}");
        }
    }
}
