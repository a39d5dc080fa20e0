//! Encrypt and Decrypt.

use std::sync::Arc;

use strongroom_protocol::v1::{
    self, Ciphertext, Decrypt, Encrypt, Mechanism, ObjectClass, Permission, Plaintext, response,
};

use super::{Context, objects};
use crate::crypto::CryptoError;
use crate::crypto::aws_lc::Direction;
use crate::crypto::symmetric::{self, BlockMode, CcmParameters, GcmParameters, SecretKey};
use crate::failure::{Failure, refuse};
use crate::metrics::Operation;
use crate::object::Object;
use crate::partition::Partition;
use crate::restrictions;
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
    restrictions::allow(&object.info, restrictions::Use::Other(request.mechanism()))?;
    context.uses(object.info.key_type(), request.mechanism())?;
    let way = way(request.mechanism(), request.gcm.as_ref(), request.ccm.as_ref())?;
    let ciphertext =
        way.encrypt(&key, &request.iv, &request.data).map_err(|error| object.blame(error.into()))?;
    Ok(response::Result::Ciphertext(Ciphertext { ciphertext }))
}

pub(super) fn decrypt(
    context: &Context,
    partition: &Partition,
    request: &Decrypt,
) -> Result<response::Result, Failure> {
    let (object, key) = key_to(Use::Decrypt, &context.acting, partition, &request.key)?;
    restrictions::allow(&object.info, restrictions::Use::Other(request.mechanism()))?;
    context.uses(object.info.key_type(), request.mechanism())?;
    let way = way(request.mechanism(), request.gcm.as_ref(), request.ccm.as_ref())?;
    let plaintext =
        way.decrypt(&key, &request.iv, &request.ciphertext).map_err(|error| object.blame(error.into()))?;
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
) -> Result<(Arc<Object>, Arc<SecretKey>), Failure> {
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

/// A way to encrypt with a secret key, with its parameters.
enum Way<'a> {
    Gcm(GcmParameters<'a>),
    Ccm(CcmParameters<'a>),
    Blocks(BlockMode),
}

impl Way<'_> {
    fn encrypt(&self, key: &SecretKey, iv: &[u8], data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        match self {
            Way::Gcm(parameters) => {
                let mut ciphertext = vec![0; data.len() + parameters.tag_length()];
                let length = symmetric::encrypt(key, *parameters, data, &mut ciphertext)?;
                ciphertext.truncate(length);
                Ok(ciphertext)
            }
            Way::Ccm(parameters) => parameters.encrypt(key, data),
            Way::Blocks(mode) => {
                let mut ciphertext = vec![0; data.len()];
                mode.run(key, Direction::Encrypt, iv, data, &mut ciphertext)?;
                Ok(ciphertext)
            }
        }
    }

    fn decrypt(&self, key: &SecretKey, iv: &[u8], data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        match self {
            Way::Gcm(parameters) => {
                let mut plaintext = vec![0; data.len()];
                let length = symmetric::decrypt(key, *parameters, data, &mut plaintext)?;
                plaintext.truncate(length);
                Ok(plaintext)
            }
            Way::Ccm(parameters) => parameters.decrypt(key, data),
            Way::Blocks(mode) => {
                let mut plaintext = vec![0; data.len()];
                mode.run(key, Direction::Decrypt, iv, data, &mut plaintext)?;
                Ok(plaintext)
            }
        }
    }
}

/// The way that a request names, its parameters checked.
fn way<'a>(
    mechanism: Mechanism,
    gcm: Option<&'a v1::GcmParameters>,
    ccm: Option<&'a v1::CcmParameters>,
) -> Result<Way<'a>, Failure> {
    Ok(match (mechanism, gcm, ccm) {
        (Mechanism::AesGcm, Some(gcm), _) => Way::Gcm(GcmParameters::new(&gcm.iv, &gcm.aad, gcm.tag_bits)?),
        (Mechanism::AesCcm, _, Some(ccm)) => {
            Way::Ccm(CcmParameters::new(&ccm.nonce, &ccm.aad, ccm.tag_bits)?)
        }
        (Mechanism::AesGcm | Mechanism::AesCcm, ..) => {
            return refuse!(
                MechanismParameterWrong,
                "AES-GCM and AES-CCM need their parameters: IV, associated data, length of the tag"
            );
        }
        (Mechanism::AesEcb, ..) => Way::Blocks(BlockMode::AesEcb),
        (Mechanism::AesCbc | Mechanism::AesCbcPad, ..) => Way::Blocks(BlockMode::AesCbc),
        (Mechanism::AesCtr, ..) => Way::Blocks(BlockMode::AesCtr),
        (Mechanism::Des3Ecb, ..) => Way::Blocks(BlockMode::Des3Ecb),
        (Mechanism::Des3Cbc | Mechanism::Des3CbcPad, ..) => Way::Blocks(BlockMode::Des3Cbc),
        (Mechanism::Unspecified, ..) => {
            return refuse!(Unsupported, "this strongroomd does not know the mechanism");
        }
        _ => return refuse!(MechanismDoesNotFit, "the mechanism neither encrypts nor decrypts"),
    })
}
