//! CopyObject.

use std::sync::Arc;

use strongroom_protocol::v1::{Attribute, CopyObject, KeyPolicy, ObjectInfo, response};

use super::objects::Origin;
use super::session_objects::{self, Made};
use super::{Context, keeping, objects, templates};
use crate::crypto::aws_lc;
use crate::failure::{Failure, refuse};
use crate::object;
use crate::partition::Partition;

pub(super) async fn copy(
    context: &Context,
    partition: &Arc<Partition>,
    request: CopyObject,
) -> Result<response::Result, Failure> {
    let source = objects::visible(&context.acting, partition, &request.object)?;
    if source.info.not_copyable {
        return refuse!(AttributeReadOnly, "{} is not copyable (CKA_COPYABLE)", source.title());
    }
    let info = described(context, &source.info, request)?;
    let (partition, asker) = (Arc::clone(partition), context.asker());
    keeping(context, info.session, move || {
        let key = match object::holds_key(info.class()) {
            true => partition.key(&source)?,
            false => None,
        };
        let made = vec![Made { info, kind: source.kind, key }];
        let (objects, reply) = session_objects::keep(&partition, &asker, Origin::Imported, made)?;
        let (uid, by) = (asker.session.uid, &asker.by);
        let object = objects.first().map(|object| object.title());
        tracing::info!(uid, by, partition = partition.label(), of = source.title(), object, "object copied");
        Ok(reply)
    })
    .await
}

/// The copy's description. Versions and their times stay with the original.
fn described(context: &Context, source: &ObjectInfo, request: CopyObject) -> Result<ObjectInfo, Failure> {
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
        public_key: source.public_key.clone(),
        value: source.value.clone(),
        value_length: source.value_length,
        not_modifiable: request.not_modifiable.unwrap_or(source.not_modifiable),
        not_destroyable: request.not_destroyable.unwrap_or(source.not_destroyable),
        not_copyable: request.not_copyable,
        private: request.private.unwrap_or(source.private),
        owner: templates::owner(context),
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

/// Attributes with others added or in their place, by type.
pub(super) fn merged(kept: &[Attribute], new: Vec<Attribute>) -> Vec<Attribute> {
    let is_new = |attribute: &&Attribute| new.iter().all(|other| other.r#type != attribute.r#type);
    let mut merged: Vec<Attribute> = kept.iter().filter(is_new).cloned().collect();
    merged.extend(new);
    merged
}
