//! Sign, Verify, GenerateRandom.

use std::sync::Arc;

use strongroom_protocol::v1::{
    self, GenerateRandom, ObjectClass, Permission, PssParameters, Random, Sign, Signature, Verify, response,
};

use super::{Context, authenticate, done, objects};
use crate::crypto::aws_lc::{self, PrivateKey, PublicKey};
use crate::crypto::{CryptoError, Hash, KeyKind, Mechanism};
use crate::failure::{Failure, refuse};
use crate::object::{Key, Object};
use crate::partition::Partition;
use crate::restrictions::{self, Use};
use crate::session::Acting;

/// Random bytes that one request may ask for.
const MAX_RANDOM: usize = 65_536;
/// Messages above this many bytes are not verified on an I/O thread.
const LONG: usize = 16 * 1024;

pub(super) async fn sign(
    context: &Context,
    partition: &Arc<Partition>,
    request: Sign,
) -> Result<response::Result, Failure> {
    let object = object_to_sign(&context.acting, partition, &request.key, request.mechanism())?;
    let mechanism = mechanism(request.mechanism(), request.pss.as_ref())?;
    restrictions::allow(&object.info, Use::Sign(request.mechanism(), request.pss.as_ref(), &request.data))?;
    context.uses(object.info.key_type(), request.mechanism())?;
    authenticate::spend(context, partition, &object, &request.ticket)?;
    let key = opened(context, partition, &object).await?;
    let engine = &context.service.engine;
    let signature = match key.kind().is_batched() {
        true => {
            let made = engine.sign(context.origin(), key, mechanism, request.data).await;
            made.map_err(Failure::from)
        }
        false => {
            // What is wrong is said before anything waits.
            mechanism.check(key.kind(), request.data.len()).map_err(|error| object.blame(error.into()))?;
            let bytes = request.data.len();
            let sign = move || Ok(key.sign(mechanism, &request.data)?);
            let made = context.compute(bytes, sign).await;
            engine.count(made.is_ok());
            made
        }
    };
    let signature = signature.map_err(|failure| object.blame(failure))?;
    Ok(response::Result::Signature(Signature { signature }))
}

/// The private key of an object; opening it at its first use does not hold an I/O thread up.
pub(super) async fn opened(
    context: &Context,
    partition: &Arc<Partition>,
    object: &Arc<Object>,
) -> Result<Arc<PrivateKey>, Failure> {
    match object.key.get() {
        Some(Key::Private(key)) => Ok(Arc::clone(key)),
        _ => {
            let (partition, object) = (Arc::clone(partition), Arc::clone(object));
            context.compute(0, move || partition.private_key(&object)).await
        }
    }
}

/// The object of this identity, if those who ask may know of it and its policy lets it sign.
///
/// # Errors
///
/// NO_SUCH_OBJECT, KEY_MAY_NOT.
pub fn object_to_sign(
    acting: &Acting,
    partition: &Partition,
    identity: &[u8],
    mechanism: v1::Mechanism,
) -> Result<Arc<Object>, Failure> {
    let object = objects::usable(acting, partition, identity, &[Permission::Sign])?;
    let may_sign =
        policy(&object).sign || (policy(&object).sign_recover && mechanism == v1::Mechanism::RsaPkcs);
    if object.info.class() == ObjectClass::PrivateKey && !may_sign {
        return refuse!(KeyMayNot, "{} may not sign: its policy (CKA_SIGN) forbids it", object.title());
    }
    Ok(object)
}

pub(super) async fn verify(
    context: &Context,
    partition: &Partition,
    request: Verify,
) -> Result<response::Result, Failure> {
    let object = objects::visible(&context.acting, partition, &request.key)?;
    context.uses(object.info.key_type(), request.mechanism())?;
    restrictions::allow(&object.info, Use::Sign(request.mechanism(), request.pss.as_ref(), &request.data))?;
    // Without padding only a public key is used: it is no decryption here.
    let mechanism = match request.mechanism() {
        v1::Mechanism::RsaX509 => None,
        other => Some(mechanism(other, request.pss.as_ref())?),
    };
    if object.info.class() == ObjectClass::PublicKey && !policy(&object).verify {
        return refuse!(KeyMayNot, "{} may not verify: its policy (CKA_VERIFY) forbids it", object.title());
    }
    if object.info.public_key.is_empty() {
        return refuse!(KeyMayNot, "{} is not a key: it cannot verify", object.title());
    }
    let is_short = object.kind.is_some_and(KeyKind::verifies_at_once) && request.data.len() <= LONG;
    // What is wrong is said before anything waits.
    if let (Some(kind), Some(mechanism)) = (object.kind, mechanism) {
        mechanism.check(kind, request.data.len())?;
    }
    let longest = object.kind.map_or(0, KeyKind::signature_length);
    let fills = if mechanism.is_none() { request.data.len() } else { 0 };
    if request.signature.len().max(fills) > longest {
        return Err(CryptoError::SignatureWrong.into());
    }
    let bytes = request.data.len() + request.signature.len();
    let work = move || {
        let key = PublicKey::from_spki(&object.info.public_key)?;
        match mechanism {
            Some(mechanism) => key.verify(mechanism, &request.data, &request.signature)?,
            None => key.verify_without_padding(&request.data, &request.signature)?,
        }
        Ok(())
    };
    // As for signatures: what takes no longer than waking another thread is done at once.
    if is_short {
        work()?
    } else {
        context.compute(bytes, work).await?
    }
    Ok(done())
}

pub(super) fn random(request: &GenerateRandom) -> Result<response::Result, Failure> {
    let length = request.length as usize;
    if length == 0 || length > MAX_RANDOM {
        return refuse!(Limit, "1 to {MAX_RANDOM} random bytes can be asked for, not {length}");
    }
    let mut random = vec![0; length];
    aws_lc::random(&mut random);
    Ok(response::Result::Random(Random { random }))
}

fn policy(object: &Object) -> v1::KeyPolicy {
    object.info.policy.unwrap_or_default()
}

/// The mechanism that a request names, with its parameters.
///
/// # Errors
///
/// UNSUPPORTED, MECHANISM_DOES_NOT_FIT, MECHANISM_PARAMETER_WRONG.
pub fn mechanism(mechanism: v1::Mechanism, pss: Option<&PssParameters>) -> Result<Mechanism, Failure> {
    Ok(match (mechanism, pss) {
        (v1::Mechanism::RsaPkcs, _) => Mechanism::RsaPkcs,
        (v1::Mechanism::Ecdsa, _) => Mechanism::Ecdsa,
        (v1::Mechanism::Eddsa, _) => Mechanism::EdDsa,
        (v1::Mechanism::MlDsa, _) => Mechanism::MlDsa,
        (v1::Mechanism::RsaPkcsPss, Some(pss)) => Mechanism::RsaPss {
            hash: hash(pss.hash())?,
            mgf1_hash: hash(pss.mgf1_hash())?,
            salt_length: pss.salt_length as usize,
        },
        (v1::Mechanism::RsaPkcsPss, None) => {
            return refuse!(
                MechanismParameterWrong,
                "RSA-PSS needs its parameters: hash, mask hash, salt length"
            );
        }
        (v1::Mechanism::Unspecified, _) => {
            return refuse!(Unsupported, "this strongroomd does not know the mechanism");
        }
        _ => return refuse!(MechanismDoesNotFit, "the mechanism does not sign with private keys"),
    })
}

/// The hash that a request names.
///
/// # Errors
///
/// MECHANISM_PARAMETER_WRONG.
pub(super) fn hash(hash: v1::Hash) -> Result<Hash, Failure> {
    Ok(match hash {
        v1::Hash::Sha1 => Hash::Sha1,
        v1::Hash::Sha224 => Hash::Sha224,
        v1::Hash::Sha256 => Hash::Sha256,
        v1::Hash::Sha384 => Hash::Sha384,
        v1::Hash::Sha512 => Hash::Sha512,
        v1::Hash::Sha3224 => Hash::Sha3_224,
        v1::Hash::Sha3256 => Hash::Sha3_256,
        v1::Hash::Sha3384 => Hash::Sha3_384,
        v1::Hash::Sha3512 => Hash::Sha3_512,
        v1::Hash::Unspecified => {
            return refuse!(MechanismParameterWrong, "this strongroomd does not know the hash");
        }
    })
}
