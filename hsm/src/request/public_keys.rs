//! Encapsulate and Encrypt with a public key. (Verify is in `sign`.)

use std::sync::Arc;

use strongroom_protocol::v1::{
    Ciphertext, Encapsulate, Encapsulated, Encrypt, Mechanism, ObjectClass, Plaintext, Recover, response,
};

use zeroize::Zeroizing;

use super::{Context, objects, private_keys};
use crate::crypto::aws_lc::PublicKey;
use crate::failure::{Failure, refuse};
use crate::partition::Partition;
use crate::restrictions::{self, Use};

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
    restrictions::allow(&object.info, Use::Other(request.mechanism()))?;
    context.uses(object.info.key_type(), Mechanism::MlKem)?;
    let work = move || Ok(PublicKey::from_spki(&object.info.public_key)?.encapsulate()?);
    let (ciphertext, secret) = context.compute(0, work).await?;
    Ok(response::Result::Encapsulated(Encapsulated { ciphertext, secret: secret.to_vec() }))
}

/// Whether a public key encrypts this way.
pub(crate) fn encrypts(request: &Encrypt) -> bool {
    matches!(request.mechanism(), Mechanism::RsaPkcs | Mechanism::RsaX509 | Mechanism::RsaPkcsOaep)
}

pub(super) async fn encrypt(
    context: &Context,
    partition: &Arc<Partition>,
    mut request: Encrypt,
) -> Result<response::Result, Failure> {
    let data = Zeroizing::new(std::mem::take(&mut request.data));
    let object = objects::visible(&context.acting, partition, &request.key)?;
    context.uses(object.info.key_type(), request.mechanism())?;
    if object.info.class() != ObjectClass::PublicKey {
        return refuse!(KeyMayNot, "{} is not a public key: it cannot encrypt this way", object.title());
    }
    if !object.info.policy.unwrap_or_default().encrypt {
        return refuse!(KeyMayNot, "{} may not encrypt: its policy (CKA_ENCRYPT) forbids it", object.title());
    }
    restrictions::allow(&object.info, Use::Other(request.mechanism()))?;
    // What is wrong with the parameters is said before anything waits.
    private_keys::padding(request.mechanism(), request.oaep.as_ref())?;
    let bytes = data.len();
    let title = Arc::clone(&object);
    let work = move || {
        let padding = private_keys::padding(request.mechanism(), request.oaep.as_ref())?;
        Ok(PublicKey::from_spki(&object.info.public_key)?.encrypt(padding, &data)?)
    };
    let ciphertext = context.compute(bytes, work).await.map_err(|failure| title.blame(failure))?;
    Ok(response::Result::Ciphertext(Ciphertext { ciphertext }))
}

pub(super) async fn recover(
    context: &Context,
    partition: &Arc<Partition>,
    request: Recover,
) -> Result<response::Result, Failure> {
    let object = objects::visible(&context.acting, partition, &request.key)?;
    context.uses(object.info.key_type(), request.mechanism())?;
    if object.info.class() != ObjectClass::PublicKey {
        return refuse!(KeyMayNot, "{} is not a public key: nothing is recovered with it", object.title());
    }
    if !object.info.policy.unwrap_or_default().verify_recover {
        return refuse!(
            KeyMayNot,
            "{} may not recover what was signed: its policy (CKA_VERIFY_RECOVER) forbids it",
            object.title()
        );
    }
    restrictions::allow(&object.info, Use::Other(request.mechanism()))?;
    let is_padded = match request.mechanism() {
        Mechanism::RsaPkcs => true,
        Mechanism::RsaX509 => false,
        _ => return refuse!(MechanismDoesNotFit, "nothing is recovered from signatures of this mechanism"),
    };
    let (bytes, title) = (request.signature.len(), Arc::clone(&object));
    let work =
        move || Ok(PublicKey::from_spki(&object.info.public_key)?.recover(is_padded, &request.signature)?);
    let plaintext = context.compute(bytes, work).await.map_err(|failure| title.blame(failure))?;
    Ok(response::Result::Plaintext(Plaintext { plaintext }))
}
