//! Encrypt and Decrypt.

use std::sync::Arc;

use strongroom_protocol::v1::{
    Ciphertext, Decrypt, Encrypt, GcmParameters, Mechanism, ObjectClass, Permission, Plaintext, response,
};

use super::{Context, objects};
use crate::crypto::aes::{self, AesKey};
use crate::failure::{Failure, refuse};
use crate::metrics::Operation;
use crate::object::Object;
use crate::partition::Partition;
use crate::session::Acting;

/// What a key is to do, which its policy has to allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// CKA_ENCRYPT.
    Encrypt,
    /// CKA_DECRYPT.
    Decrypt,
}

impl Use {
    /// As it is counted.
    pub fn operation(self) -> Operation {
        match self {
            Use::Encrypt => Operation::Encrypt,
            Use::Decrypt => Operation::Decrypt,
        }
    }
}

/// Computed at once: it takes less than waking another thread would.
pub(super) fn encrypt(
    context: &Context,
    partition: &Partition,
    request: &Encrypt,
) -> Result<response::Result, Failure> {
    let (object, key) = key_to(Use::Encrypt, &context.acting, partition, &request.key)?;
    context.uses(object.info.key_type(), request.mechanism())?;
    let parameters = parameters(request.mechanism(), request.gcm.as_ref())?;
    let mut ciphertext = vec![0; request.data.len() + parameters.tag_length()];
    let length = aes::encrypt(&key, parameters, &request.data, &mut ciphertext)
        .map_err(|error| object.blame(error.into()))?;
    ciphertext.truncate(length);
    Ok(response::Result::Ciphertext(Ciphertext { ciphertext }))
}

pub(super) fn decrypt(
    context: &Context,
    partition: &Partition,
    request: &Decrypt,
) -> Result<response::Result, Failure> {
    let (object, key) = key_to(Use::Decrypt, &context.acting, partition, &request.key)?;
    context.uses(object.info.key_type(), request.mechanism())?;
    let parameters = parameters(request.mechanism(), request.gcm.as_ref())?;
    let mut plaintext = vec![0; request.ciphertext.len()];
    let length = aes::decrypt(&key, parameters, &request.ciphertext, &mut plaintext)
        .map_err(|error| object.blame(error.into()))?;
    plaintext.truncate(length);
    Ok(response::Result::Plaintext(Plaintext { plaintext }))
}

/// The secret key of this identity, if those who ask may know of it and its policy lets it do this.
///
/// # Errors
///
/// NO_SUCH_OBJECT, KEY_MAY_NOT, INTERNAL.
pub fn key_to(
    what: Use,
    acting: &Acting,
    partition: &Partition,
    identity: &[u8],
) -> Result<(Arc<Object>, Arc<AesKey>), Failure> {
    let permission = match what {
        Use::Encrypt => Permission::Encrypt,
        Use::Decrypt => Permission::Decrypt,
    };
    let object = objects::usable(acting, partition, identity, &[permission])?;
    let policy = object.info.policy.unwrap_or_default();
    let (permitted, verb, attribute) = match what {
        Use::Encrypt => (policy.encrypt, "encrypt", "CKA_ENCRYPT"),
        Use::Decrypt => (policy.decrypt, "decrypt", "CKA_DECRYPT"),
    };
    if object.info.class() == ObjectClass::SecretKey && !permitted {
        return refuse!(KeyMayNot, "{} may not {verb}: its policy ({attribute}) forbids it", object.title());
    }
    let key = partition.secret_key(&object)?;
    Ok((object, key))
}

/// The parameters of a request, checked.
pub(super) fn parameters(
    mechanism: Mechanism,
    gcm: Option<&GcmParameters>,
) -> Result<aes::GcmParameters<'_>, Failure> {
    match (mechanism, gcm) {
        (Mechanism::AesGcm, Some(gcm)) => Ok(aes::GcmParameters::new(&gcm.iv, &gcm.aad, gcm.tag_bits)?),
        (Mechanism::AesGcm, None) => {
            refuse!(
                MechanismParameterWrong,
                "AES-GCM needs its parameters: IV, associated data, length of the tag"
            )
        }
        (Mechanism::Unspecified, _) => refuse!(Unsupported, "this strongroomd does not know the mechanism"),
        _ => refuse!(MechanismDoesNotFit, "the mechanism neither encrypts nor decrypts"),
    }
}
