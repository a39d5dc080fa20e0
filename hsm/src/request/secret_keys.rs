//! GenerateKey and ImportKey.

use std::sync::Arc;

use strongroom_protocol::v1::{
    GenerateKey, ImportKey, KeyTemplate, KeyType, Mechanism, ObjectClass, RevealKey, SharedSecret, response,
};
use zeroize::Zeroizing;

pub(super) use super::objects::Origin;
use super::session_objects::{self, Made};
use super::{Context, keeping, objects, templates};
use crate::crypto::symmetric::{SecretKey, SecretKind};
use crate::failure::{Failure, refuse};
use crate::memory::SecretBytes;
use crate::object::Key;
use crate::partition::Partition;

/// The size of a generic secret for which none is asked, in bytes.
const USUAL: usize = 32;

pub(super) async fn generate(
    context: &Context,
    partition: &Arc<Partition>,
    request: GenerateKey,
) -> Result<response::Result, Failure> {
    let kind = kind(request.key_type())?;
    context.uses(kind.to_wire(), Mechanism::Unspecified)?;
    let template = request.key.unwrap_or_default();
    let length = if template.value_length == 0 { USUAL } else { template.value_length as usize };
    store(context, partition, SecretKey::generate(kind, length)?, template, Origin::Generated).await
}

pub(super) async fn import(
    context: &Context,
    partition: &Arc<Partition>,
    mut request: ImportKey,
) -> Result<response::Result, Failure> {
    let value = Zeroizing::new(std::mem::take(&mut request.value));
    let key = SecretKey::new(kind(request.key_type())?, SecretBytes::from(value.as_slice()))?;
    store(context, partition, key, request.key.unwrap_or_default(), Origin::Imported).await
}

/// Hands out the value of a key that was made for that.
pub(super) fn reveal(
    context: &Context,
    partition: &Partition,
    request: &RevealKey,
) -> Result<response::Result, Failure> {
    let object = objects::visible(&context.acting, partition, &request.key)?;
    let policy = object.info.policy.unwrap_or_default();
    let is_open = policy.not_sensitive && policy.extractable && !policy.wrap_with_trusted;
    if object.info.class() != ObjectClass::SecretKey || !is_open {
        return refuse!(
            KeyNotExtractable,
            "{} cannot be read: CKA_SENSITIVE, or CKA_EXTRACTABLE, forbids it",
            object.title()
        );
    }
    context.uses(object.info.key_type(), Mechanism::Unspecified)?;
    let key = partition.secret_key(&object)?;
    let (uid, by) = (context.session.uid, context.asker().by);
    tracing::info!(uid, by, partition = partition.label(), object = object.title(), "secret key read");
    Ok(response::Result::SharedSecret(SharedSecret { secret: key.value().to_vec() }))
}

pub(super) fn kind(key_type: KeyType) -> Result<SecretKind, Failure> {
    match SecretKind::from_wire(key_type) {
        Some(kind) => Ok(kind),
        None => refuse!(Unsupported, "this strongroomd knows no secret keys of that type"),
    }
}

/// Keeps a secret key that was made, brought in or derived.
pub(super) async fn store(
    context: &Context,
    partition: &Arc<Partition>,
    key: SecretKey,
    template: KeyTemplate,
    origin: Origin,
) -> Result<response::Result, Failure> {
    let kind = key.kind();
    let info = templates::secret_key_info(context, template, &key, &origin)?;
    let (partition, asker) = (Arc::clone(partition), context.asker());
    let what = origin.verb();
    keeping(context, info.session, move || {
        let key = Some(Key::Secret(Arc::new(key)));
        let made = vec![Made { info, kind: None, key }];
        let (objects, reply) = session_objects::keep(&partition, &asker, origin, made)?;
        let (uid, by) = (asker.session.uid, &asker.by);
        let object = objects.first().map(|object| object.title());
        tracing::info!(uid, by, partition = partition.label(), object, %kind, "secret key {what}");
        Ok(reply)
    })
    .await
}
