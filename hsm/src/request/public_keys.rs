//! Encapsulate with a public key. (Verify is in `sign`.)

use std::sync::Arc;

use strongroom_protocol::v1::{Encapsulate, Encapsulated, Mechanism, ObjectClass, response};

use super::{Context, objects};
use crate::crypto::aws_lc::PublicKey;
use crate::failure::{Failure, refuse};
use crate::partition::Partition;

pub(super) async fn encapsulate(
    context: &Context,
    partition: &Arc<Partition>,
    request: Encapsulate,
) -> Result<response::Result, Failure> {
    if request.mechanism() != Mechanism::MlKem {
        return refuse!(MechanismDoesNotFit, "the mechanism encapsulates nothing");
    }
    let object = objects::visible(&context.acting, partition, &request.key)?;
    if object.info.class() != ObjectClass::PublicKey {
        return refuse!(KeyMayNot, "{} is not a public key: it cannot encapsulate", object.title());
    }
    if !object.info.policy.unwrap_or_default().encapsulate {
        return refuse!(
            KeyMayNot,
            "{} may not encapsulate: its policy (CKA_ENCAPSULATE) forbids it",
            object.title()
        );
    }
    context.uses(object.info.key_type(), Mechanism::MlKem)?;
    let work = move || Ok(PublicKey::from_spki(&object.info.public_key)?.encapsulate()?);
    let (ciphertext, secret) = context.service.compute(context.session.uid, 0, work).await?;
    Ok(response::Result::Encapsulated(Encapsulated { ciphertext, secret: secret.to_vec() }))
}
