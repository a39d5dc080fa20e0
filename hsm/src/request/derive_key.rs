//! DeriveKey: a key of a secret key, or of a password, which stays in the partition as the one that it comes from does.

use std::sync::Arc;

use strongroom_protocol::secret::wipe_derivation;
use strongroom_protocol::v1::{
    DeriveKey, HkdfParameters, KeyPolicy, Mechanism, ObjectClass, ObjectInfo, Pbkdf2Parameters, Permission,
    Sp800108Kind, Sp800108Parameters, Sp800108Part, response,
};
use zeroize::Zeroizing;

use super::secret_keys::{self, Origin};
use super::{Context, objects, sign, templates};
use crate::crypto::aws_lc;
use crate::crypto::derivation::{Format, Hkdf, MAX_MATERIAL, Mode, Part, Pbkdf2, Prf, Sp800108};
use crate::crypto::symmetric::{SecretKey, SecretKind};
use crate::failure::{Failure, refuse};
use crate::memory::SecretBytes;
use crate::object::Object;
use crate::partition::Partition;
use crate::restrictions::{self, Kind, Use};

/// The longest salt, password, or text that goes into a derivation, in bytes.
const MAX_INPUT: usize = 16 * 1024;

/// The most parts of the input of SP 800-108.
const MAX_PARTS: usize = 64;

pub(super) async fn derive(
    context: &Context,
    partition: &Arc<Partition>,
    request: DeriveKey,
) -> Result<response::Result, Failure> {
    let mut request = Wiped(request);
    let template = request.0.derived.take().unwrap_or_default();
    let kind = secret_keys::kind(request.0.key_type())?;
    let length = match (kind.length(), template.value_length as usize) {
        (Some(length), _) => length,
        (None, 0) => return refuse!(AttributeWrong, "how long the secret is to be is not said"),
        (None, length) => length,
    };
    if !kind.takes(length) {
        return refuse!(AttributeWrong, "a {kind} does not have {length} bytes");
    }
    let base = match request.0.mechanism() {
        Mechanism::Pbkdf2 => None,
        _ => Some(base(context, partition, &request.0.key)?),
    };
    let salt = salt(context, partition, request.0.hkdf.as_ref())?;
    for object in base.iter().chain(&salt) {
        restrictions::allow(&object.info, Use::Other(request.0.mechanism()))?;
    }
    let (of, key_type) = match &base {
        Some(object) => (Some(partition.secret_key(object)?), object.info.key_type()),
        None => (None, kind.to_wire()),
    };
    context.uses(key_type, request.0.mechanism())?;
    let salt_key = salt.as_ref().map(|object| partition.secret_key(object)).transpose()?;
    let bytes = length;
    let work = move || {
        let mut value = material(&mut request.0, of.as_deref(), salt_key.as_deref(), length)?;
        if kind == SecretKind::Des3 {
            aws_lc::set_parity(&mut value);
        }
        Ok(SecretKey::new(kind, value)?)
    };
    let made = match base {
        Some(_) => context.compute(bytes, work).await,
        None => context.service.stretch(context.origin(), bytes, work).await,
    };
    let key = made.map_err(|failure| match &base {
        Some(object) => object.blame(failure),
        None => failure,
    })?;
    let of = base.as_ref().and_then(|object| object.info.policy).unwrap_or_default();
    let origin = Origin::Derived(of);
    for object in base.iter().chain(&salt) {
        let described = templates::secret_key_info(context, template.clone(), &key, &origin)?;
        restrictions::fits(&object.info, Kind::Derive, &described)?;
    }
    secret_keys::store(context, partition, key, template, origin).await
}

/// A request whose password is wiped, also if the request is refused or nobody waits for it any more.
struct Wiped(DeriveKey);

impl Drop for Wiped {
    fn drop(&mut self) {
        wipe_derivation(&mut self.0);
    }
}

/// The key that it is made of.
fn base(context: &Context, partition: &Partition, identity: &[u8]) -> Result<Arc<Object>, Failure> {
    let object = objects::usable(&context.acting, partition, identity, &[Permission::Derive])?;
    if object.info.class() != ObjectClass::SecretKey {
        return refuse!(KeyMayNot, "{} is not a secret key: no key is made of it this way", object.title());
    }
    may_derive(&object.info)?;
    Ok(object)
}

fn may_derive(info: &ObjectInfo) -> Result<(), Failure> {
    let KeyPolicy { derive, .. } = info.policy.unwrap_or_default();
    match derive {
        true => Ok(()),
        false => refuse!(
            KeyMayNot,
            "{} may not derive: its policy (CKA_DERIVE) forbids it, as it does unless a key is made or imported for it \
             ('strongroom key generate --usage derive')",
            crate::object::title(info)
        ),
    }
}

/// The key that is HKDF's salt.
fn salt(
    context: &Context,
    partition: &Partition,
    hkdf: Option<&HkdfParameters>,
) -> Result<Option<Arc<Object>>, Failure> {
    let salt_key = hkdf.map(|hkdf| &hkdf.salt_key).filter(|salt_key| !salt_key.is_empty());
    salt_key.map(|salt_key| base(context, partition, salt_key)).transpose()
}

/// Makes the bytes of the new key.
fn material(
    request: &mut DeriveKey,
    of: Option<&SecretKey>,
    salt: Option<&SecretKey>,
    length: usize,
) -> Result<SecretBytes, Failure> {
    match (request.mechanism(), of) {
        (Mechanism::Hkdf, Some(of)) => hkdf(request.hkdf.as_ref(), of, salt, length),
        (
            Mechanism::Sp800108Counter | Mechanism::Sp800108Feedback | Mechanism::Sp800108DoublePipeline,
            Some(of),
        ) => sp800_108(request.mechanism(), request.sp800_108.as_ref(), of, length),
        (Mechanism::Pbkdf2, None) => pbkdf2(request.pbkdf2.as_mut(), length),
        _ => refuse!(MechanismDoesNotFit, "the mechanism makes no keys of secret keys"),
    }
}

fn missing<T>(parameters: Option<T>, what: &str) -> Result<T, Failure> {
    match parameters {
        Some(parameters) => Ok(parameters),
        None => refuse!(MechanismParameterWrong, "{what} needs its parameters"),
    }
}

fn bounded<'a>(bytes: &'a [u8], what: &str) -> Result<&'a [u8], Failure> {
    match bytes.len() <= MAX_INPUT {
        true => Ok(bytes),
        false => refuse!(MechanismParameterWrong, "{what} has at most {MAX_INPUT} bytes"),
    }
}

fn hkdf(
    parameters: Option<&HkdfParameters>,
    of: &SecretKey,
    salt: Option<&SecretKey>,
    length: usize,
) -> Result<SecretBytes, Failure> {
    let given = missing(parameters, "HKDF")?;
    let hkdf = Hkdf {
        hash: sign::hash(given.hash())?,
        extract: given.extract,
        expand: given.expand,
        salt: salt.map_or(bounded(&given.salt, "HKDF's salt")?, SecretKey::value),
        info: bounded(&given.info, "HKDF's info")?,
    };
    Ok(hkdf.derive(of.value(), length)?)
}

fn sp800_108(
    mechanism: Mechanism,
    parameters: Option<&Sp800108Parameters>,
    of: &SecretKey,
    length: usize,
) -> Result<SecretBytes, Failure> {
    let given = missing(parameters, "SP 800-108")?;
    let prf = match given.prf() {
        Mechanism::Hmac => Prf::Hmac(sign::hash(given.hash())?),
        Mechanism::AesCmac => Prf::Cmac,
        _ => return refuse!(MechanismParameterWrong, "SP 800-108's function is HMAC or AES-CMAC"),
    };
    let size: usize = given.parts.iter().map(|part| part.data.len()).sum();
    if given.parts.len() > MAX_PARTS || size > MAX_INPUT {
        return refuse!(
            MechanismParameterWrong,
            "SP 800-108's input has at most {MAX_PARTS} parts and {MAX_INPUT} bytes"
        );
    }
    let parts = given.parts.iter().map(part).collect::<Result<Vec<_>, Failure>>()?;
    let mode = match mechanism {
        Mechanism::Sp800108Counter => Mode::Counter,
        Mechanism::Sp800108Feedback => Mode::Feedback(bounded(&given.iv, "SP 800-108's IV")?),
        _ => Mode::DoublePipeline,
    };
    let (offset, total) = (given.offset as usize, given.total as usize);
    let total = if total == 0 { length } else { total };
    if total > MAX_MATERIAL || offset.saturating_add(length) > total {
        return refuse!(
            MechanismParameterWrong,
            "of {total} bytes (at most {MAX_MATERIAL} are made), {length} from {offset} on are none"
        );
    }
    let material = Sp800108 { prf, mode, parts: &parts }.derive(of, total)?;
    Ok(SecretBytes::from(material.get(offset..offset + length).unwrap_or_default()))
}

fn part(given: &Sp800108Part) -> Result<Part<'_>, Failure> {
    let format = Format { bits: given.bits, little_endian: given.little_endian };
    Ok(match given.kind() {
        Sp800108Kind::Iteration => Part::Iteration((given.bits > 0).then_some(format)),
        Sp800108Kind::Counter => Part::Counter(format),
        Sp800108Kind::LengthOfKeys => Part::Length { format, of_blocks: false },
        Sp800108Kind::LengthOfBlocks => Part::Length { format, of_blocks: true },
        Sp800108Kind::Bytes => Part::Bytes(&given.data),
        Sp800108Kind::Unspecified => {
            return refuse!(
                MechanismParameterWrong,
                "this strongroomd does not know a part of SP 800-108's input"
            );
        }
    })
}

fn pbkdf2(parameters: Option<&mut Pbkdf2Parameters>, length: usize) -> Result<SecretBytes, Failure> {
    let given = missing(parameters, "PBKDF2")?;
    let password = Zeroizing::new(std::mem::take(&mut given.password));
    let pbkdf2 = Pbkdf2 {
        hash: sign::hash(given.hash())?,
        salt: bounded(&given.salt, "PBKDF2's salt")?,
        iterations: given.iterations,
    };
    Ok(pbkdf2.derive(bounded(&password, "PBKDF2's password")?, length)?)
}
