//! CopyObject.

use std::sync::Arc;

use strongroom_protocol::v1::{Attribute, CopyObject, KeyPolicy, ObjectInfo, ObjectList, response};

use super::{Asker, Context, keeping, objects, session_objects, templates};
use crate::crypto::aws_lc;
use crate::failure::{Failure, refuse};
use crate::object::{self, Key, Object};
use crate::partition::{Contents, Partition};
use crate::session::Acting;

pub(super) async fn copy(
    context: &Context,
    partition: &Arc<Partition>,
    request: CopyObject,
) -> Result<response::Result, Failure> {
    // Refused at once what cannot be; what is copied is looked up again when it is.
    let source = objects::visible(&context.acting, partition, &request.object)?;
    described(&context.acting, &source.info, request.clone())?;
    let (partition, asker) = (Arc::clone(partition), context.asker());
    keeping(context, request.session, move || {
        let (title, made, sealed) = match request.session {
            true => for_session(&partition, &asker, &request)?,
            false => stored(&partition, &asker, &request)?,
        };
        let (uid, by, object) = (asker.session.uid, &asker.by, made.title());
        tracing::info!(uid, by, partition = partition.label(), of = title, object, "object copied");
        let objects = vec![made.info.clone()];
        Ok(response::Result::Objects(ObjectList { objects, more: false, sealed }))
    })
    .await
}

/// What is to be copied, as it is now, if those who ask may; and as whom they act.
fn source(
    partition: &Partition,
    asker: &Asker,
    contents: &Contents,
    request: &CopyObject,
) -> Result<(Acting, Arc<Object>), Failure> {
    let acting = asker.still_may(partition, &contents.users)?;
    let source = objects::visible_in(contents, &acting, partition, &request.object)?;
    Ok((acting, source))
}

fn key_of(partition: &Partition, source: &Object) -> Result<Option<Key>, Failure> {
    if object::holds_key(source.info.class()) { partition.key(source) } else { Ok(None) }
}

/// What was copied, for people; the copy; and what a client brings it back with.
type Copied = (String, Arc<Object>, Vec<Vec<u8>>);

fn stored(partition: &Partition, asker: &Asker, request: &CopyObject) -> Result<Copied, Failure> {
    partition.change(|change| {
        let (acting, source) = source(partition, asker, change.before(), request)?;
        let info = described(&acting, &source.info, request.clone())?;
        let key = key_of(partition, &source)?;
        let made = change.add_object(info, source.kind, key.as_ref())?;
        Ok((source.title(), made, Vec::new()))
    })
}

fn for_session(partition: &Partition, asker: &Asker, request: &CopyObject) -> Result<Copied, Failure> {
    let (acting, of) = source(partition, asker, &partition.contents(), request)?;
    let info = described(&acting, &of.info, request.clone())?;
    let key = key_of(partition, &of)?;
    let owner = session_objects::owner(&acting)?;
    let (made, sealed) = partition.keep_for_session(info, of.kind, key.as_ref(), owner, |contents| {
        let (_, now) = source(partition, asker, contents, request)?;
        match now.info == of.info {
            true => Ok(()),
            false => refuse!(AttributeWrong, "{} was changed while it was copied; try again", of.title()),
        }
    })?;
    Ok((of.title(), made, vec![sealed]))
}

/// The copy's description. Versions and their times stay with the original.
fn described(acting: &Acting, source: &ObjectInfo, request: CopyObject) -> Result<ObjectInfo, Failure> {
    if source.not_copyable {
        return refuse!(AttributeReadOnly, "{} is not copyable (CKA_COPYABLE)", object::title(source));
    }
    let holds_key = object::holds_key(source.class());
    if holds_key && request.private == Some(false) {
        return refuse!(AttributeWrong, "{} is private, and so is a copy", object::title(source));
    }
    let mut info = ObjectInfo {
        object: aws_lc::random_array::<16>().to_vec(),
        class: source.class,
        label: request.label.unwrap_or_else(|| source.label.clone()),
        id: request.id.unwrap_or_else(|| source.id.clone()),
        key_type: source.key_type,
        // Trust is a crypto officer's word about one key.
        policy: source.policy.map(|policy| KeyPolicy { trusted: false, ..policy }),
        copy_of: origin(source).to_vec(),
        public_key: source.public_key.clone(),
        value: source.value.clone(),
        value_length: source.value_length,
        not_modifiable: request.not_modifiable.unwrap_or(source.not_modifiable),
        not_destroyable: request.not_destroyable.unwrap_or(source.not_destroyable),
        not_copyable: request.not_copyable,
        private: request.private.unwrap_or(source.private),
        owner: templates::owner(acting),
        created: templates::now(),
        attributes: merged(&source.attributes, request.attributes),
        session: request.session,
        // What its maker has ruled out is ruled out for all copies.
        allowed_mechanisms: source.allowed_mechanisms.clone(),
        templates: source.templates.clone(),
        ..ObjectInfo::default()
    };
    templates::hide(&mut info, request.sensitive);
    templates::restrict(&mut info, request.not_extractable, request.wrap_with_trusted)?;
    templates::check_sizes(&info.label, &info.id, &info.attributes)?;
    Ok(info)
}

/// What an object goes back to: the one that was copied first, or itself.
pub(super) fn origin(info: &ObjectInfo) -> &[u8] {
    if info.copy_of.is_empty() { &info.object } else { &info.copy_of }
}

/// Attributes with others added or in their place, by type.
pub(super) fn merged(kept: &[Attribute], new: Vec<Attribute>) -> Vec<Attribute> {
    let is_new = |attribute: &&Attribute| new.iter().all(|other| other.r#type != attribute.r#type);
    let mut merged: Vec<Attribute> = kept.iter().filter(is_new).cloned().collect();
    merged.extend(new);
    merged
}
