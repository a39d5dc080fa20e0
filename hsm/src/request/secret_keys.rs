//! GenerateKey and ImportKey.

use std::sync::Arc;

use strongroom_protocol::v1::{GenerateKey, ImportKey, KeyTemplate, KeyType, Mechanism, response};
use zeroize::Zeroizing;

use super::{Context, blocking, objects, templates};
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
    store(context, partition, SecretKey::generate(kind, length)?, template, true).await
}

pub(super) async fn import(
    context: &Context,
    partition: &Arc<Partition>,
    mut request: ImportKey,
) -> Result<response::Result, Failure> {
    let value = Zeroizing::new(std::mem::take(&mut request.value));
    let key = SecretKey::new(kind(request.key_type())?, SecretBytes::from(value.as_slice()))?;
    store(context, partition, key, request.key.unwrap_or_default(), false).await
}

fn kind(key_type: KeyType) -> Result<SecretKind, Failure> {
    match SecretKind::from_wire(key_type) {
        Some(kind) => Ok(kind),
        None => refuse!(Unsupported, "this strongroomd knows no secret keys of that type"),
    }
}

/// Keeps a secret key that was made or brought in.
pub(super) async fn store(
    context: &Context,
    partition: &Arc<Partition>,
    key: SecretKey,
    template: KeyTemplate,
    generated: bool,
) -> Result<response::Result, Failure> {
    let kind = key.kind();
    let info = templates::secret_key_info(context, template, &key, generated)?;
    let (partition, asker) = (Arc::clone(partition), context.asker());
    let what = if generated { "secret key generated" } else { "secret key imported" };
    blocking(move || {
        let key = Key::Secret(Arc::new(key));
        let object = partition.change(|change| {
            asker.still_may(&partition, &change.before().users)?;
            change.add_object(info, None, Some(&key))
        })?;
        let (uid, by) = (asker.session.uid, &asker.by);
        tracing::info!(uid, by, partition = partition.label(), object = object.title(), %kind, "{what}");
        Ok(objects::listed(&[object]))
    })
    .await
}
