//! From what a client says of a new object to what the partition keeps: sizes, defaults, policies.

use std::time::{SystemTime, UNIX_EPOCH};

use strongroom_protocol::v1::{Attribute, KeyPolicy, KeyTemplate, ObjectClass, ObjectInfo};

use super::Context;
use super::secret_keys::Origin;
use crate::crypto::symmetric::{SecretKey, SecretKind};
use crate::crypto::{KeyKind, aws_lc};
use crate::failure::{Failure, refuse};
use crate::restrictions;
use crate::session::Acting;

/// The longest label and id, in bytes.
const MAX_NAME: usize = 255;
/// Stored attributes that an object may have.
const MAX_ATTRIBUTES: usize = 64;
/// All stored attributes of an object together, in bytes.
const MAX_ATTRIBUTE_BYTES: usize = 16 * 1024;

/// The half of a pair that a template describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    Private { generated: bool },
    Public { generated: bool },
}

/// Describes one half of a key pair.
pub(super) fn key_info(
    context: &Context,
    template: KeyTemplate,
    half: Half,
    kind: KeyKind,
    spki: &[u8],
) -> Result<ObjectInfo, Failure> {
    check_sizes(&template.label, &template.id, &template.attributes)?;
    restrictions::check(&template.allowed_mechanisms, template.templates.as_ref())?;
    let policy = match half {
        Half::Private { generated } => {
            // Decryption is never granted unasked: whoever may sign with a server's key need not read what was
            // recorded of its TLS connections.
            let usual = KeyPolicy {
                sign: kind.signs(),
                derive: kind.derives() && !kind.signs(),
                decapsulate: kind.decapsulates(),
                ..KeyPolicy::default()
            };
            let asked = handled(&template, template.policy.unwrap_or(usual));
            check_private(&asked, kind)?;
            KeyPolicy {
                local: generated,
                trusted: false,
                once_trusted: false,
                // Imported: it was outside, whatever its history there.
                always_sensitive: generated,
                never_extractable: generated && !asked.extractable,
                ..asked
            }
        }
        Half::Public { generated } => {
            let asked = template.policy.unwrap_or(public_policy(kind));
            check_public(&asked, kind)?;
            KeyPolicy { local: generated, ..without_history(asked) }
        }
    };
    let private = matches!(half, Half::Private { .. });
    Ok(ObjectInfo {
        object: aws_lc::random_array::<16>().to_vec(),
        class: if private { ObjectClass::PrivateKey } else { ObjectClass::PublicKey }.into(),
        label: template.label,
        id: template.id,
        key_type: kind.to_wire().into(),
        policy: Some(policy),
        public_key: spki.to_vec(),
        value: Vec::new(),
        not_modifiable: template.not_modifiable,
        not_destroyable: template.not_destroyable,
        not_copyable: template.not_copyable,
        session: template.session,
        private: private || template.private,
        owner: owner(&context.acting),
        created: now(),
        attributes: template.attributes,
        allowed_mechanisms: template.allowed_mechanisms,
        templates: template.templates,
        ..ObjectInfo::default()
    })
}

/// Describes a secret key. Without an id of the client's it is found by its identity.
pub(super) fn secret_key_info(
    context: &Context,
    template: KeyTemplate,
    key: &SecretKey,
    origin: &Origin,
) -> Result<ObjectInfo, Failure> {
    check_sizes(&template.label, &template.id, &template.attributes)?;
    restrictions::check(&template.allowed_mechanisms, template.templates.as_ref())?;
    let kind = key.kind();
    let usual = KeyPolicy {
        encrypt: kind.encrypts(),
        decrypt: kind.encrypts(),
        sign: !kind.encrypts(),
        verify: !kind.encrypts(),
        ..KeyPolicy::default()
    };
    let asked = handled(&template, template.policy.unwrap_or(usual));
    check_secret(&asked, kind)?;
    // As of private keys; of what is derived, if it was so of the key that it is made of (PKCS#11 3.1, 6.42).
    let (local, sensitive, inside) = match origin {
        Origin::Generated => (true, true, true),
        Origin::Imported | Origin::Unwrapped { .. } => (false, false, false),
        Origin::Derived(of) => (false, of.always_sensitive, of.never_extractable),
    };
    let policy = KeyPolicy {
        local,
        trusted: false,
        once_trusted: false,
        always_sensitive: sensitive && !asked.not_sensitive,
        never_extractable: inside && !asked.extractable,
        ..asked
    };
    let object = aws_lc::random_array::<16>().to_vec();
    Ok(ObjectInfo {
        class: ObjectClass::SecretKey.into(),
        label: template.label,
        id: if template.id.is_empty() && !template.session { object.clone() } else { template.id },
        object,
        key_type: kind.to_wire().into(),
        // Of the others the type says it.
        value_length: if kind.length().is_none() { key.value().len() as u32 } else { 0 },
        policy: Some(policy),
        not_modifiable: template.not_modifiable,
        not_destroyable: template.not_destroyable,
        not_copyable: template.not_copyable,
        session: template.session,
        private: true,
        owner: owner(&context.acting),
        created: now(),
        attributes: template.attributes,
        allowed_mechanisms: template.allowed_mechanisms,
        templates: template.templates,
        ..ObjectInfo::default()
    })
}

/// Describes an object that comes without private key: what the client says, checked and completed.
pub(super) fn object_info(
    context: &Context,
    asked: ObjectInfo,
    kind: Option<KeyKind>,
) -> Result<ObjectInfo, Failure> {
    check_sizes(&asked.label, &asked.id, &asked.attributes)?;
    restrictions::check(&asked.allowed_mechanisms, asked.templates.as_ref())?;
    let policy = match kind {
        Some(kind) => {
            let asked = asked.policy.unwrap_or(public_policy(kind));
            check_public(&asked, kind)?;
            Some(without_history(asked))
        }
        None => None,
    };
    Ok(ObjectInfo {
        object: aws_lc::random_array::<16>().to_vec(),
        key_type: kind.map_or(0, |kind| kind.to_wire().into()),
        policy,
        owner: owner(&context.acting),
        created: now(),
        deleted_at: 0,
        purge_at: 0,
        purge_due: 0,
        version: 0,
        version_state: 0,
        family: Vec::new(),
        copy_of: Vec::new(),
        rotate_every: 0,
        rotation_due: 0,
        value_length: 0,
        allowed_mechanisms: if kind.is_some() { asked.allowed_mechanisms } else { Vec::new() },
        templates: asked.templates.filter(|_| kind.is_some()),
        ..asked
    })
}

/// A policy with what the template says of how the key is handled.
fn handled(template: &KeyTemplate, asked: KeyPolicy) -> KeyPolicy {
    KeyPolicy {
        extractable: asked.extractable || template.extractable,
        wrap_with_trusted: asked.wrap_with_trusted || template.wrap_with_trusted,
        always_authenticate: asked.always_authenticate || template.always_authenticate,
        not_sensitive: asked.not_sensitive || template.not_sensitive,
        ..asked
    }
}

/// A public key's policy without what only the daemon sets, or private keys only have.
fn without_history(asked: KeyPolicy) -> KeyPolicy {
    KeyPolicy {
        local: false,
        always_sensitive: false,
        never_extractable: false,
        trusted: false,
        once_trusted: false,
        wrap_with_trusted: false,
        not_sensitive: false,
        ..asked
    }
}

/// Takes from a key the right to leave the partition, or to leave it under a key that is not trusted.
///
/// # Errors
///
/// ATTRIBUTE_WRONG if the object is no private or secret key.
pub(super) fn restrict(
    info: &mut ObjectInfo,
    not_extractable: bool,
    wrap_with_trusted: bool,
) -> Result<(), Failure> {
    if !not_extractable && !wrap_with_trusted {
        return Ok(());
    }
    match (crate::object::holds_key(info.class()), &mut info.policy) {
        (true, Some(policy)) => {
            policy.extractable &= !not_extractable;
            policy.wrap_with_trusted |= wrap_with_trusted;
            Ok(())
        }
        _ => refuse!(AttributeWrong, "{} is not a key that could be extracted", crate::object::title(info)),
    }
}

/// Makes a secret key one that cannot be read.
pub(super) fn hide(info: &mut ObjectInfo, sensitive: bool) {
    if let Some(policy) = &mut info.policy {
        policy.not_sensitive &= !sensitive;
    }
}

/// Checks the parts of an object whose sizes the client chooses.
pub(super) fn check_sizes(label: &str, id: &[u8], attributes: &[Attribute]) -> Result<(), Failure> {
    if label.len() > MAX_NAME || id.len() > MAX_NAME {
        return refuse!(AttributeWrong, "an object's label and id have at most {MAX_NAME} bytes each");
    }
    let bytes: usize = attributes.iter().map(|attribute| attribute.value.len()).sum();
    if attributes.len() > MAX_ATTRIBUTES || bytes > MAX_ATTRIBUTE_BYTES {
        return refuse!(
            Limit,
            "an object stores {MAX_ATTRIBUTES} attributes of {MAX_ATTRIBUTE_BYTES} bytes together"
        );
    }
    Ok(())
}

/// What a public key may if the client does not say.
fn public_policy(kind: KeyKind) -> KeyPolicy {
    KeyPolicy { verify: kind.signs(), encapsulate: kind.decapsulates(), ..KeyPolicy::default() }
}

fn check_private(policy: &KeyPolicy, kind: KeyKind) -> Result<(), Failure> {
    let contradicts = policy.verify
        || policy.not_sensitive
        || policy.encrypt
        || policy.wrap
        || (!kind.signs() && policy.sign)
        || (kind.rsa_bits().is_none() && (policy.decrypt || policy.unwrap))
        || (!kind.derives() && policy.derive)
        || policy.encapsulate
        || (!kind.decapsulates() && policy.decapsulate)
        || policy.verify_recover
        || (kind.rsa_bits().is_none() && policy.sign_recover);
    if policy.always_authenticate && (policy.unwrap || policy.derive || policy.decapsulate) {
        return refuse!(
            AttributeWrong,
            "a key that asks for the password before each use (CKA_ALWAYS_AUTHENTICATE) signs or decrypts, and does nothing else: \
             of other operations PKCS#11 has no place for a password"
        );
    }
    if contradicts {
        return refuse!(AttributeWrong, "a private key of type {kind} cannot do what its policy allows");
    }
    Ok(())
}

fn check_secret(policy: &KeyPolicy, kind: SecretKind) -> Result<(), Failure> {
    let contradicts = (!kind.encrypts() && (policy.encrypt || policy.decrypt))
        || (!kind.wraps() && (policy.wrap || policy.unwrap))
        || policy.encapsulate
        || policy.decapsulate
        || policy.sign_recover
        || policy.verify_recover
        || policy.always_authenticate;
    if contradicts {
        return refuse!(AttributeWrong, "a secret key of type {kind} cannot do what its policy allows");
    }
    Ok(())
}

fn check_public(policy: &KeyPolicy, kind: KeyKind) -> Result<(), Failure> {
    let contradicts = policy.sign
        || (!kind.signs() && policy.verify)
        || policy.decrypt
        || policy.unwrap
        || policy.derive
        || policy.decapsulate
        || (!kind.decapsulates() && policy.encapsulate)
        || policy.sign_recover
        || policy.always_authenticate
        || (kind.rsa_bits().is_none() && (policy.encrypt || policy.wrap || policy.verify_recover));
    if contradicts {
        return refuse!(AttributeWrong, "a public key of type {kind} cannot do what its policy allows");
    }
    Ok(())
}

pub(super) fn owner(acting: &Acting) -> String {
    acting.crypto_user.as_ref().map(|user| user.name.clone()).unwrap_or_default()
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
