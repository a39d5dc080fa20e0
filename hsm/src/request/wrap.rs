//! WrapKey, UnwrapKey and TrustKey: keys go out and come in under other keys.
//!
//! A key leaves only if it was made or brought in as extractable, never in the clear, and, where it says so, only under a
//! key that a crypto officer trusts. Whoever may take a key out could do so under a key of their own; what prevents that is
//! `wrap_with_trusted`. So that it cannot be got round, a trusted key does nothing but wrap and unwrap, is not
//! extractable itself, and what it, or a copy of it, unwraps leaves under trusted keys only: for good, whatever becomes of the
//! trust.

use std::sync::Arc;

use strongroom_protocol::v1::{
    KeyPolicy, KeyType, Mechanism, OaepParameters, ObjectClass, ObjectInfo, Permission, TrustKey, UnwrapKey,
    WrapKey, WrappedKey, response,
};

use super::secret_keys::{self, Origin};
use super::templates::{self, Half};
use super::{Context, changing, objects, private_keys, rotate};
use crate::crypto::CryptoError;
use crate::crypto::aws_lc::{Padding, PrivateKey, PublicKey};
use crate::crypto::symmetric::{SecretKey, SecretKind};
use crate::crypto::wrapping::{UnwrappingKey, Wrapping, WrappingKey};
use crate::failure::{Failure, refuse};
use crate::life;
use crate::object::{self, Object, Search};
use crate::partition::{Contents, Partition};
use crate::restrictions::{self, Kind, Use};
use crate::session::Acting;

/// The longest wrapped key, in bytes. Those that the partition keeps have less than three thousand.
const MAX_WRAPPED: usize = 16 * 1024;

/// The way that a request names, its parameters checked.
fn wrapping(
    mechanism: Mechanism,
    oaep: Option<&OaepParameters>,
    aes_bits: u32,
) -> Result<Wrapping<'_>, Failure> {
    let padding = || -> Result<Padding<'_>, Failure> { private_keys::padding(Mechanism::RsaPkcsOaep, oaep) };
    Ok(match (mechanism, aes_bits) {
        (Mechanism::AesKeyWrap, _) => Wrapping::KeyWrap,
        (Mechanism::AesKeyWrapKwp, _) => Wrapping::KeyWrapPadded,
        (Mechanism::RsaPkcsOaep, _) => Wrapping::Rsa(padding()?),
        (Mechanism::RsaPkcs, _) => Wrapping::Rsa(Padding::Pkcs1),
        (Mechanism::RsaAesKeyWrap, 128 | 192 | 256) => Wrapping::RsaAes(padding()?, aes_bits as usize / 8),
        (Mechanism::RsaAesKeyWrap, _) => {
            return refuse!(
                MechanismParameterWrong,
                "the AES key between the two has 128, 192 or 256 bits, not {aes_bits}"
            );
        }
        (Mechanism::Unspecified, _) => {
            return refuse!(Unsupported, "this strongroomd does not know the mechanism");
        }
        (Mechanism::AesCbcPad, _) => {
            return refuse!(
                MechanismDoesNotFit,
                "CKM_AES_CBC_PAD brings keys in (as PKCS#12 files have them) and takes none out, since nothing in it tells whether a key \
                 was changed: wrap with CKM_AES_KEY_WRAP_KWP"
            );
        }
        _ => return refuse!(MechanismDoesNotFit, "the mechanism does not wrap keys"),
    })
}

/// The way in which a request unwraps, its parameters checked. The size of an AES key between is the sender's choice.
fn unwrapping(request: &UnwrapKey) -> Result<Wrapping<'_>, Failure> {
    match (request.mechanism(), request.iv.len()) {
        (Mechanism::AesCbcPad, 16) => Ok(Wrapping::CbcPadded(&request.iv)),
        (Mechanism::AesCbcPad, other) => {
            refuse!(MechanismParameterWrong, "an IV of AES-CBC has 16 bytes, not {other}")
        }
        (mechanism, _) => wrapping(mechanism, request.oaep.as_ref(), 256),
    }
}

/// Refuses a key whose policy allows less than the mechanism gives away: what answers whether a padding was right can be asked until
/// it has decrypted anything (Bleichenbacher, 1998, for RSA; Vaudenay, 2002, for CBC).
fn decrypts_anyway(with: &Object, mechanism: Mechanism) -> Result<(), Failure> {
    let (padding, name, better) = match mechanism {
        Mechanism::RsaPkcs => ("PKCS#1's", "CKM_RSA_PKCS", "CKM_RSA_PKCS_OAEP"),
        Mechanism::AesCbcPad => ("CBC's", "CKM_AES_CBC_PAD", "CKM_AES_KEY_WRAP_KWP"),
        _ => return Ok(()),
    };
    if policy(with).decrypt {
        return Ok(());
    }
    refuse!(
        KeyMayNot,
        "{} may not decrypt, and whoever learns whether {padding} padding was right can do that too: {name} unwraps with a key \
         that may do both ('strongroom key generate --usage decrypt,unwrap'); wrap with {better}",
        with.title()
    )
}

fn policy(object: &Object) -> KeyPolicy {
    object.info.policy.unwrap_or_default()
}

/// Refuses a key whose policy lacks the permission.
fn require(object: &Object, permitted: bool, verb: &str) -> Result<(), Failure> {
    if permitted {
        return Ok(());
    }
    let (title, attribute) = (object.title(), verb.to_uppercase());
    refuse!(
        KeyMayNot,
        "{title} may not {verb} keys: its policy (CKA_{attribute}) forbids it, as it does unless a key is made or imported \
         for it ('strongroom key generate --usage {verb}')"
    )
}

/// The parameters' fault, or the ciphertext's.
fn blamed(object: &Object, error: CryptoError) -> Failure {
    match error {
        CryptoError::CiphertextWrong => wrong(object),
        other => object.blame(other.into()),
    }
}

fn wrong(object: &Object) -> Failure {
    Failure::new(
        strongroom_protocol::v1::ErrorCode::WrappedKeyWrong,
        format!(
            "the wrapped key was changed, or was not wrapped for {} in this way (mechanism, hash)",
            object.title()
        ),
    )
}

pub(super) async fn wrap(
    context: &Context,
    partition: &Arc<Partition>,
    request: WrapKey,
) -> Result<response::Result, Failure> {
    let (object, with) = to_wrap(&context.acting, partition, &request)?;
    context.uses(object.info.key_type(), request.mechanism())?;
    // What is wrong with the parameters is said before keys are opened.
    wrapping(request.mechanism(), request.oaep.as_ref(), request.aes_bits)?;
    let (place, asker) = (Arc::clone(partition), context.asker());
    let work = move || {
        // By now another client may have been told that the key stays.
        let acting = asker.still_may(&place, &place.contents().users)?;
        let (key, by) = to_wrap(&acting, &place, &request)?;
        let way = wrapping(request.mechanism(), request.oaep.as_ref(), request.aes_bits)?;
        let wrapping_key = match by.info.class() {
            ObjectClass::SecretKey => WrappingKey::Secret(place.secret_key(&by)?),
            _ => WrappingKey::Public(PublicKey::from_spki(&by.info.public_key)?),
        };
        let wrapped = match key.info.class() {
            ObjectClass::SecretKey => wrapping_key.wrap(way, place.secret_key(&key)?.value()),
            _ => wrapping_key.wrap(way, &place.private_key(&key)?.to_pkcs8()?),
        };
        wrapped.map_err(|error| key.blame(error.into()))
    };
    let wrapped = context.compute(0, work).await?;
    let (uid, by) = (context.session.uid, context.asker().by);
    let (object, with) = (object.title(), with.title());
    tracing::info!(uid, by, partition = partition.label(), object, with, "key taken out, wrapped");
    Ok(response::Result::WrappedKey(WrappedKey { wrapped }))
}

/// The key that is to be wrapped, and the one that is to wrap it, if that may be.
fn to_wrap(
    acting: &Acting,
    partition: &Partition,
    request: &WrapKey,
) -> Result<(Arc<Object>, Arc<Object>), Failure> {
    let object = objects::usable(acting, partition, &request.key, &[Permission::Wrap])?;
    let with = objects::visible(acting, partition, &request.wrapping_key)?;
    if object::holds_key(with.info.class()) {
        objects::usable(acting, partition, &with.id, &[Permission::Wrap])?;
    }
    may_wrap(&with, &object)?;
    restrictions::allow(&with.info, Use::Other(request.mechanism()))?;
    restrictions::fits(&with.info, Kind::Wrap, &object.info)?;
    Ok((object, with))
}

/// Whether one key may be wrapped with the other.
fn may_wrap(with: &Object, object: &Object) -> Result<(), Failure> {
    if !matches!(with.info.class(), ObjectClass::SecretKey | ObjectClass::PublicKey) {
        return refuse!(KeyMayNot, "{} does not wrap: secret and public keys do", with.title());
    }
    require(with, policy(with).wrap, "wrap")?;
    let title = object.title();
    if !object::holds_key(object.info.class()) {
        return refuse!(KeyMayNot, "{title} is neither a private nor a secret key: there is nothing to wrap");
    }
    if !policy(object).extractable {
        return refuse!(
            KeyNotExtractable,
            "{title} is not extractable (CKA_EXTRACTABLE): it was made to stay in the partition, for good"
        );
    }
    if policy(object).wrap_with_trusted && !policy(with).trusted {
        return refuse!(
            WrappingKeyNotTrusted,
            "{title} leaves the partition under a trusted key only (CKA_WRAP_WITH_TRUSTED), and {} is not: a crypto \
             officer trusts a key with 'strongroom key trust'",
            with.title()
        );
    }
    Ok(())
}

pub(super) async fn unwrap(
    context: &Context,
    partition: &Arc<Partition>,
    request: UnwrapKey,
) -> Result<response::Result, Failure> {
    let with = objects::visible(&context.acting, partition, &request.unwrapping_key)?;
    context.uses(with.info.key_type(), request.mechanism())?;
    if !object::holds_key(with.info.class()) {
        return refuse!(KeyMayNot, "{} does not unwrap: secret and private keys do", with.title());
    }
    require(&with, policy(&with).unwrap, "unwrap")?;
    decrypts_anyway(&with, request.mechanism())?;
    restrictions::allow(&with.info, Use::Other(request.mechanism()))?;
    if request.wrapped.len() > MAX_WRAPPED {
        return refuse!(
            Limit,
            "a wrapped key has at most {MAX_WRAPPED} bytes, not {}",
            request.wrapped.len()
        );
    }
    unwrapping(&request)?;
    let class = request.class();
    let was_binding = binds(&partition.contents(), &with.info);
    let origin = Origin::Unwrapped { by: with.id, was_binding };
    let template = request.key.clone().unwrap_or_default();
    let public = (!request.private_only).then(|| request.public_key.clone().unwrap_or_default());
    for template in std::iter::once(&template).chain(&public) {
        templates::check_sizes(&template.label, &template.id, &template.attributes)?;
    }
    let place = Arc::clone(partition);
    let by = Arc::clone(&with);
    let bytes = request.wrapped.len();
    let key = move || unwrapped(&place, &by, &request);
    let key = context.compute(bytes, key).await?;
    let described = match &key {
        Unwrapped::Private(key) => {
            let half = Half::Private { generated: false };
            templates::key_info(context, template.clone(), half, key.kind(), &[])?
        }
        Unwrapped::Secret(key) => {
            templates::secret_key_info(context, template.clone(), key, &Origin::Imported)?
        }
    };
    restrictions::fits(&with.info, Kind::Unwrap, &described)?;
    let reply = match key {
        Unwrapped::Private(key) => {
            objects::store_pair(context, partition, key, template, public, origin).await?
        }
        Unwrapped::Secret(key) => secret_keys::store(context, partition, key, template, origin).await?,
    };
    let (uid, by, with) = (context.session.uid, context.asker().by, with.title());
    tracing::info!(
        uid,
        by,
        partition = partition.label(),
        with,
        class = class.as_str_name(),
        "key unwrapped"
    );
    Ok(reply)
}

/// Whether what a key unwraps leaves under trusted keys only: the key was trusted, or what it is a copy of. Of a copy of what is
/// not there any more nobody knows.
pub(super) fn binds(contents: &Contents, unwrapping_key: &ObjectInfo) -> bool {
    let of = unwrapping_key.copy_of.as_slice();
    let origin = (!of.is_empty()).then(|| contents.objects.get(of).or_else(|| contents.deleted.get(of)));
    unwrapping_key.policy.is_some_and(|policy| policy.once_trusted)
        || origin.is_some_and(|origin| origin.is_none_or(|origin| policy(origin).once_trusted))
}

/// A key that came out of its wrapping, and is sound.
enum Unwrapped {
    Private(PrivateKey),
    Secret(SecretKey),
}

fn unwrapped(partition: &Partition, with: &Object, request: &UnwrapKey) -> Result<Unwrapped, Failure> {
    let way = unwrapping(request)?;
    let unwrapping_key = match with.info.class() {
        ObjectClass::SecretKey => UnwrappingKey::Secret(partition.secret_key(with)?),
        _ => UnwrappingKey::Private(partition.private_key(with)?),
    };
    let plain = unwrapping_key.unwrap(way, &request.wrapped).map_err(|error| blamed(with, error))?;
    let (key, key_type) = match request.class() {
        ObjectClass::PrivateKey => {
            let key = PrivateKey::import(&plain)?;
            let key_type = key.kind().to_wire();
            (Unwrapped::Private(key), key_type)
        }
        ObjectClass::SecretKey => {
            let kind = wanted_kind(request, plain.len());
            let Some(kind) = kind else {
                return refuse!(
                    KeyMalformed,
                    "what is wrapped has {} bytes, which is no length of a key of the wanted type: is it a private key?",
                    plain.len()
                );
            };
            (Unwrapped::Secret(SecretKey::new(kind, plain)?), kind.to_wire())
        }
        _ => return refuse!(AttributeWrong, "private keys and secret keys are unwrapped"),
    };
    let mut wanted = request.key_types.iter().filter_map(|wanted| KeyType::try_from(*wanted).ok());
    if !request.key_types.is_empty() && !wanted.any(|wanted| wanted == key_type) {
        return refuse!(
            KeyMalformed,
            "what is wrapped is a key of type {}, which is not what was asked for",
            key_type.as_str_name()
        );
    }
    Ok(key)
}

/// The kind of secret key that so many bytes are: one that was asked for, or AES.
fn wanted_kind(request: &UnwrapKey, length: usize) -> Option<SecretKind> {
    let fits = |kind: &SecretKind| match request.key_types.is_empty() {
        true => kind.length() == Some(length) && kind.wraps(),
        false => kind.takes(length) && request.key_types.contains(&kind.to_wire().into()),
    };
    SecretKind::ALL.into_iter().find(fits)
}

pub(super) async fn trust(
    context: &Context,
    partition: &Arc<Partition>,
    request: TrustKey,
) -> Result<response::Result, Failure> {
    let (partition, asker) = (Arc::clone(partition), context.asker());
    changing(context, move || {
        let changed = partition.change(|change| {
            asker.still_may(&partition, &change.before().users)?;
            let halves = to_trust(change.before(), &request)?;
            let mut changed = Vec::new();
            for half in &halves {
                let was = policy(half);
                let once_trusted = was.once_trusted || !request.distrust;
                let policy = KeyPolicy { trusted: !request.distrust, once_trusted, ..was };
                let info = ObjectInfo { policy: Some(policy), ..half.info.clone() };
                changed.push(change.replace_object(half, info)?);
            }
            // Who has another copy opens with it what this one wraps.
            for origin in origins(change.before(), &halves)? {
                let policy = KeyPolicy { once_trusted: true, ..policy(&origin) };
                change.replace_object(&origin, ObjectInfo { policy: Some(policy), ..origin.info.clone() })?;
            }
            Ok(changed)
        })?;
        let (uid, by) = (asker.session.uid, &asker.by);
        let object = changed.first().map(|object| object.title());
        let what = if request.distrust { "key no longer trusted" } else { "key trusted" };
        tracing::info!(uid, by, partition = partition.label(), object, "{what}");
        Ok(objects::listed(&changed))
    })
    .await
}

/// What keys that are to be trusted are copies of, but for themselves.
///
/// # Errors
///
/// KEY_MAY_NOT if one of them is not stored: nobody could tell its other copies by it.
fn origins(contents: &Contents, halves: &[Arc<Object>]) -> Result<Vec<Arc<Object>>, Failure> {
    let mut origins: Vec<Arc<Object>> = Vec::new();
    for half in halves.iter().filter(|half| !half.info.copy_of.is_empty()) {
        let Some(origin) = contents.objects.get(half.info.copy_of.as_slice()) else {
            return refuse!(
                KeyMayNot,
                "{} is a copy of a key that was a session object or was deleted, and there may be more copies: trust a key that \
                 was made in the partition's store",
                half.title()
            );
        };
        if halves.iter().chain(&origins).all(|other| other.id != origin.id) {
            origins.push(Arc::clone(origin));
        }
    }
    Ok(origins)
}

fn are_versions(key: &Object, others: &[&Arc<Object>]) -> bool {
    others.iter().all(|other| rotate::is_version(&other.info, &key.info))
}

/// The objects that are trusted together: the wrapping key, and the private half of a public one. A label means the active version
/// of a key, as everywhere; if none is to be trusted any more, all that are.
fn to_trust(contents: &Contents, request: &TrustKey) -> Result<Vec<Arc<Object>>, Failure> {
    let named: Vec<_> = match request.object.is_empty() {
        false => contents.objects.get(&request.object).into_iter().collect(),
        true => contents
            .objects
            .find(Search { label: Some(&request.label), ..Search::default() })
            .filter(|object| policy(object).wrap)
            .filter(|object| if request.distrust { policy(object).trusted } else { life::is_active(object) })
            .collect(),
    };
    let (key, others) = match named.as_slice() {
        [key] if policy(key).wrap => (Arc::clone(key), &[][..]),
        [key, others @ ..] if request.distrust && are_versions(key, others) => (Arc::clone(key), others),
        [key] => {
            return refuse!(KeyMayNot, "{} wraps no keys (CKA_WRAP): there is nothing to trust", key.title());
        }
        [] if request.object.is_empty() && request.distrust => {
            return refuse!(NoSuchObject, "no key with the label \"{}\" is trusted", request.label);
        }
        [] if request.object.is_empty() => {
            return refuse!(
                NoSuchObject,
                "no key with the label \"{}\" wraps keys; one that does is made with '--usage wrap,unwrap'",
                request.label
            );
        }
        [] => return refuse!(NoSuchObject, "there is no such key"),
        several => {
            return refuse!(
                AttributeWrong,
                "{} keys with the label \"{}\" wrap keys: name one by its identity",
                several.len(),
                request.label
            );
        }
    };
    let mut halves = Vec::new();
    for key in std::iter::once(&key).chain(others.iter().copied()) {
        halves.push(Arc::clone(key));
        if key.info.class() == ObjectClass::PublicKey {
            let others = contents.objects.find(Search::default());
            let is_half =
                |other: &&Arc<Object>| other.info.public_key == key.info.public_key && other.id != key.id;
            halves.extend(others.filter(is_half).map(Arc::clone));
        }
    }
    if !request.distrust {
        for half in &halves {
            let policy = policy(half);
            let title = half.title();
            if object::holds_key(half.info.class()) && policy.extractable {
                return refuse!(KeyMayNot, "{title} is extractable: what it wraps would be as safe as it is");
            }
            if policy.sign || policy.decrypt || policy.encrypt || policy.derive {
                return refuse!(
                    KeyMayNot,
                    "{title} may do more than wrap and unwrap: a trusted key does nothing else, so that nobody opens \
                     with it what it has wrapped"
                );
            }
        }
    }
    Ok(halves)
}
