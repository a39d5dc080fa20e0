//! Key management functions (PKCS#11 3.0, 5.15).

use std::time::Duration;

use cryptoki_sys::*;
use strongroom_protocol::client::Deadlines;
use strongroom_protocol::v1::{Attribute, GenerateKey, GenerateKeyPair, KeyPolicy, ObjectClass, request::Op};

use super::{argument, derivation, object, place};
use crate::call::{Access, Repeat};
use crate::curve;
use crate::error::Outcome;
use crate::key::{self, Family, KeyFacts};
use crate::mechanism::{self, Purpose};
use crate::parameter_set;
use crate::pool::RETIRED;
use crate::state::Process;
use crate::template::{self, Template};

/// How long the partition may take to make a pair: primes are found by chance.
const DEADLINE: Duration = Duration::from_secs(120);

/// The only public exponent: 65537.
const EXPONENT: [u8; 3] = [1, 0, 1];

/// `C_GenerateKey`.
pub unsafe fn generate_key(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    handle: *mut CK_OBJECT_HANDLE,
) -> Outcome {
    // SAFETY: by the module's contract.
    let (mechanism, template, handle) =
        unsafe { (argument(mechanism)?, Template::read(template, count)?, place(handle)?) };
    let session = process.sessions.get(session)?;
    let family = match mechanism::find(mechanism.mechanism)?.purpose {
        Purpose::Generate(family) => family,
        Purpose::Password => {
            // SAFETY: by the module's contract.
            *handle = unsafe { derivation::from_password(process, &session, mechanism, &template) }?;
            return Ok(());
        }
        _ => return Err(CKR_MECHANISM_INVALID),
    };
    if family.is_pair() {
        return Err(CKR_MECHANISM_INVALID);
    }
    if mechanism.ulParameterLen != 0 {
        return Err(CKR_MECHANISM_PARAM_INVALID);
    }
    template::check(ObjectClass::SecretKey, &template)?;
    template.only(CKA_CLASS, &CKO_SECRET_KEY.to_ne_bytes())?;
    let key_type = template.number(CKA_KEY_TYPE)?;
    if key_type.is_some_and(|key_type| Family::of_key_type(key_type) != Some(family)) {
        return Err(CKR_TEMPLATE_INCONSISTENT);
    }
    if template.bytes(CKA_VALUE).is_some() {
        return Err(CKR_TEMPLATE_INCONSISTENT);
    }
    let length = match (template.number(CKA_VALUE_LEN)?, family) {
        (Some(length), _) => usize::try_from(length).map_err(|_| CKR_ATTRIBUTE_VALUE_INVALID)?,
        // There is only one.
        (None, Family::Des3) => 24,
        (None, _) => return Err(CKR_TEMPLATE_INCOMPLETE),
    };
    let facts = key::secret(family, length).ok_or(CKR_ATTRIBUTE_VALUE_INVALID)?;
    let mut key = template::secret_key(family, &template)?;
    if family == Family::Generic {
        // At most 1,024.
        key.value_length = length as u32;
    }
    if let Some(use_) = key::made_for_one_use(mechanism.mechanism) {
        let value = use_.to_ne_bytes();
        template.only(CKA_KEY_TYPE, &value)?;
        if key_type.is_none() {
            key.attributes.push(Attribute { r#type: CKA_KEY_TYPE, value: value.to_vec() });
        }
        if use_ == CKK_HKDF && template.bytes(CKA_DERIVE).is_none() {
            key.policy = key.policy.map(|policy| KeyPolicy { derive: true, ..policy });
        }
    }
    session.may_make(key.session)?;
    let generate =
        || Op::GenerateKey(GenerateKey { key_type: facts.key_type.into(), key: Some(key.clone()) });
    let reply = process.call(Access::of(&session.token), Repeat::Never, generate)?;
    *handle = object::first_handle(process, &session, reply)?;
    Ok(())
}

/// `C_GenerateKeyPair`.
#[allow(clippy::too_many_arguments, reason = "the C function's")]
pub unsafe fn generate_key_pair(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    public: *mut CK_ATTRIBUTE,
    public_count: CK_ULONG,
    private: *mut CK_ATTRIBUTE,
    private_count: CK_ULONG,
    public_handle: *mut CK_OBJECT_HANDLE,
    private_handle: *mut CK_OBJECT_HANDLE,
) -> Outcome {
    // SAFETY: by the module's contract.
    let (mechanism, public, private, public_handle, private_handle) = unsafe {
        (
            argument(mechanism)?,
            Template::read(public, public_count)?,
            Template::read(private, private_count)?,
            place(public_handle)?,
            place(private_handle)?,
        )
    };
    let session = process.sessions.get(session)?;
    let Purpose::Generate(family) = mechanism::find(mechanism.mechanism)?.purpose else {
        return Err(CKR_MECHANISM_INVALID);
    };
    if !family.is_pair() {
        return Err(CKR_MECHANISM_INVALID);
    }
    if mechanism.ulParameterLen != 0 {
        return Err(CKR_MECHANISM_PARAM_INVALID);
    }
    let halves = [
        (&public, ObjectClass::PublicKey, CKO_PUBLIC_KEY),
        (&private, ObjectClass::PrivateKey, CKO_PRIVATE_KEY),
    ];
    for (template, class, number) in halves {
        template::check(class, template)?;
        template.only(CKA_CLASS, &number.to_ne_bytes())?;
        template.only(CKA_KEY_TYPE, &family.key_type().to_ne_bytes())?;
    }
    let facts = key_type(family, &public)?;
    let (private, public) =
        (template::private_key(family, &private)?, template::public_key(family, &public)?);
    session.may_make(private.session && public.session)?;
    let generate = || {
        Op::GenerateKeyPair(GenerateKeyPair {
            key_type: facts.key_type.into(),
            private_key: Some(private.clone()),
            public_key: Some(public.clone()),
        })
    };
    let token = &session.token;
    let repeat = Repeat::of(&generate());
    let reply = process.on_connection(Access::of(token), repeat, |pooled| {
        pooled.connection.set_reply_deadline(DEADLINE)?;
        let reply = repeat.send(&mut pooled.connection, token.partition, generate());
        if pooled.connection.set_reply_deadline(Deadlines::DEFAULT.reply).is_err() {
            pooled.epoch = RETIRED;
        }
        reply
    })?;
    let [private, public] = object::remember_all(process, &session, reply)?[..] else {
        return Err(CKR_DEVICE_ERROR);
    };
    (*private_handle, *public_handle) = (private, public);
    Ok(())
}

fn key_type(family: Family, public: &Template<'_>) -> Outcome<&'static KeyFacts> {
    if family.seed().is_some() {
        let set = public.number(CKA_PARAMETER_SET)?.ok_or(CKR_TEMPLATE_INCOMPLETE)?;
        return parameter_set::of_parameter_set(family, set);
    }
    if family != Family::Rsa {
        return curve::of_parameters(family, public.required(CKA_EC_PARAMS)?);
    }
    if let Some(exponent) = public.bytes(CKA_PUBLIC_EXPONENT) {
        let significant = exponent.iter().position(|byte| *byte != 0).unwrap_or(exponent.len());
        if exponent.get(significant..) != Some(&EXPONENT) {
            return Err(CKR_ATTRIBUTE_VALUE_INVALID);
        }
    }
    let bits = public.number(CKA_MODULUS_BITS)?.ok_or(CKR_TEMPLATE_INCOMPLETE)?;
    usize::try_from(bits).ok().and_then(key::rsa).ok_or(CKR_ATTRIBUTE_VALUE_INVALID)
}
