//! Decrypt with a private key, Derive and Decapsulate.
//!
//! They are computed on a thread made for that, few at a time: RSA takes a millisecond, ECDH on the larger curves half of
//! one. Signatures are made by other threads and do not wait for them.

use std::sync::Arc;

use strongroom_protocol::v1::{
    Decapsulate, Decrypt, Derive, KeyPolicy, KeyType, Mechanism, OaepParameters, ObjectClass, ObjectInfo,
    Permission, Plaintext, SharedSecret, response,
};

use zeroize::Zeroizing;

use super::{Context, authenticate, objects, sign};
use crate::crypto::aws_lc::Padding;
use crate::failure::{Failure, refuse};
use crate::object::Object;
use crate::partition::Partition;
use crate::restrictions::{self, Kind, Use};

/// The longest label of OAEP, in bytes.
const MAX_LABEL: usize = 4_096;

/// Whether a private key decrypts this way.
pub(super) fn decrypts(request: &Decrypt) -> bool {
    matches!(request.mechanism(), Mechanism::RsaPkcs | Mechanism::RsaX509 | Mechanism::RsaPkcsOaep)
}

pub(super) async fn decrypt(
    context: &Context,
    partition: &Arc<Partition>,
    request: Decrypt,
) -> Result<response::Result, Failure> {
    let is_raw = request.mechanism() == Mechanism::RsaX509;
    let wanted = if is_raw { &[Permission::Decrypt, Permission::Sign][..] } else { &[Permission::Decrypt] };
    let object = private_key(context, partition, &request.key, wanted, |policy| policy.decrypt)?;
    restrictions::allow(&object.info, Use::Other(request.mechanism()))?;
    context.uses(object.info.key_type(), request.mechanism())?;
    let policy = object.info.policy.unwrap_or_default();
    if is_raw && !policy.sign && !policy.sign_recover {
        return refuse!(
            KeyMayNot,
            "{} may not sign, and CKM_RSA_X_509 could do that too: it takes a key that may do both \
             ('strongroom key generate --usage sign,decrypt'); decrypt with CKM_RSA_PKCS_OAEP or CKM_RSA_PKCS",
            object.title()
        );
    }
    // What is wrong with the parameters is said before the key is used.
    padding(request.mechanism(), request.oaep.as_ref())?;
    authenticate::spend(context, partition, &object, &request.ticket)?;
    let key = sign::opened(context, partition, &object).await?;
    key.check_ciphertext(request.ciphertext.len()).map_err(|error| object.blame(error.into()))?;
    let bytes = request.ciphertext.len();
    let work = move || {
        let padding = padding(request.mechanism(), request.oaep.as_ref())?;
        let (plaintext, length) = key.decrypt(padding, &request.ciphertext)?;
        Ok(secret(plaintext.get(..length).unwrap_or_default()))
    };
    let mut plaintext = context.compute(bytes, work).await.map_err(|failure| object.blame(failure))?;
    Ok(response::Result::Plaintext(Plaintext { plaintext: std::mem::take(&mut *plaintext) }))
}

/// How the request's RSA ciphertext is padded, its parameters checked.
pub(super) fn padding(mechanism: Mechanism, oaep: Option<&OaepParameters>) -> Result<Padding<'_>, Failure> {
    match (mechanism, oaep) {
        (Mechanism::RsaX509, _) => Ok(Padding::None),
        (Mechanism::RsaPkcs, _) => Ok(Padding::Pkcs1),
        (Mechanism::RsaPkcsOaep, Some(oaep)) if oaep.label.len() > MAX_LABEL => {
            refuse!(MechanismParameterWrong, "a label of OAEP has at most {MAX_LABEL} bytes")
        }
        (Mechanism::RsaPkcsOaep, Some(oaep)) => Ok(Padding::Oaep {
            hash: sign::hash(oaep.hash())?,
            mgf1_hash: sign::hash(oaep.mgf1_hash())?,
            label: &oaep.label,
        }),
        (Mechanism::RsaPkcsOaep, None) => {
            refuse!(MechanismParameterWrong, "RSA-OAEP needs its parameters: hash, mask hash, label")
        }
        _ => refuse!(MechanismDoesNotFit, "the mechanism does not decrypt with private keys"),
    }
}

pub(super) async fn derive(
    context: &Context,
    partition: &Arc<Partition>,
    request: Derive,
) -> Result<response::Result, Failure> {
    let object =
        private_key(context, partition, &request.key, &[Permission::Derive], |policy| policy.derive)?;
    restrictions::allow(&object.info, Use::Other(request.mechanism()))?;
    restrictions::fits(&object.info, Kind::Derive, &shared_secret())?;
    context.uses(object.info.key_type(), request.mechanism())?;
    if request.mechanism() != Mechanism::Ecdh {
        return refuse!(MechanismDoesNotFit, "the mechanism derives nothing");
    }
    let key = sign::opened(context, partition, &object).await?;
    key.check_peer(&request.public_key).map_err(|error| object.blame(error.into()))?;
    let bytes = request.public_key.len();
    let work = move || Ok(secret(&key.derive(&request.public_key)?));
    let mut derived = context.compute(bytes, work).await.map_err(|failure| object.blame(failure))?;
    Ok(response::Result::SharedSecret(SharedSecret { secret: std::mem::take(&mut *derived) }))
}

pub(super) async fn decapsulate(
    context: &Context,
    partition: &Arc<Partition>,
    request: Decapsulate,
) -> Result<response::Result, Failure> {
    let object = private_key(context, partition, &request.key, &[Permission::Decapsulate], |policy| {
        policy.decapsulate
    })?;
    restrictions::allow(&object.info, Use::Other(request.mechanism()))?;
    context.uses(object.info.key_type(), request.mechanism())?;
    if request.mechanism() != Mechanism::MlKem {
        return refuse!(MechanismDoesNotFit, "the mechanism decapsulates nothing");
    }
    let key = sign::opened(context, partition, &object).await?;
    key.check_encapsulated(request.ciphertext.len()).map_err(|error| object.blame(error.into()))?;
    let bytes = request.ciphertext.len();
    let work = move || Ok(secret(&key.decapsulate(&request.ciphertext)?));
    let mut shared = context.compute(bytes, work).await.map_err(|failure| object.blame(failure))?;
    Ok(response::Result::SharedSecret(SharedSecret { secret: std::mem::take(&mut *shared) }))
}

/// What a derived secret is that goes to whoever asked: nothing of the partition's.
fn shared_secret() -> ObjectInfo {
    ObjectInfo {
        class: ObjectClass::SecretKey.into(),
        key_type: KeyType::GenericSecret.into(),
        policy: Some(KeyPolicy { extractable: true, not_sensitive: true, ..KeyPolicy::default() }),
        session: true,
        ..ObjectInfo::default()
    }
}

/// A copy for the reply, which is wiped when it is sent; or here, if whoever asked has gone.
fn secret(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(bytes.to_vec())
}

/// The private key of this identity, if those who ask may do `wanted` with it and its policy permits the first of that.
fn private_key(
    context: &Context,
    partition: &Partition,
    identity: &[u8],
    wanted: &[Permission],
    permits: fn(&KeyPolicy) -> bool,
) -> Result<Arc<Object>, Failure> {
    let object = objects::usable(&context.acting, partition, identity, wanted)?;
    let verb = wanted.first().map_or("", |permission| strongroom_protocol::names::permission(*permission));
    let permitted = permits(&object.info.policy.unwrap_or_default());
    if object.info.class() != ObjectClass::PrivateKey {
        return refuse!(KeyMayNot, "{} is not a private key: it cannot {verb} this way", object.title());
    }
    if !permitted {
        let (title, attribute) = (object.title(), verb.to_uppercase());
        return refuse!(
            KeyMayNot,
            "{title} may not {verb}: its policy (CKA_{attribute}) forbids it, as it does unless a key is made or \
             imported for it ('strongroom key generate --usage {verb}')"
        );
    }
    Ok(object)
}
