//! Key derivation (PKCS#11 3.0, 5.18.5): ECDH, X25519 and X448.

use cryptoki_sys::*;
use strongroom_ffi::output::Length;
use strongroom_ffi::pointer;
use strongroom_protocol::v1::{
    Derive, Hash, ImportKey, Mechanism, ObjectClass, ObjectInfo, request::Op, response,
};
use zeroize::Zeroizing;

use super::object::first_handle;
use super::signature::{as_key, refused};
use super::{argument, derivation, place};
use crate::call::{Access, Repeat};
use crate::error::Outcome;
use crate::hash;
use crate::key::{self, KeyFacts};
use crate::mechanism::{self, Purpose};
use crate::object;
use crate::restrictions;
use crate::session::Session;
use crate::session_keys::template_of;
use crate::state::Process;
use crate::template::{self, Template};

/// The most that is shared beside the secret, in bytes.
const MAX_SHARED: usize = 4096;

/// The longest secret that a derivation function makes, in bytes.
const MAX_SECRET: usize = 1024;

/// `C_DeriveKey`: a secret key; unless the template says otherwise, one of the session, which the application can read.
pub unsafe fn derive_key(
    process: &'static Process,
    handle: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    base: CK_OBJECT_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    derived: *mut CK_OBJECT_HANDLE,
) -> Outcome {
    // SAFETY: by the module's contract.
    let (mechanism, mut template, derived) =
        unsafe { (argument(mechanism)?, Template::read(template, count)?, place(derived)?) };
    let session = process.sessions.get(handle)?;
    match mechanism::find(mechanism.mechanism)?.purpose {
        Purpose::Derive => {}
        Purpose::DeriveKey(wire) => {
            // SAFETY: by the module's contract.
            *derived = unsafe { derivation::derive(process, &session, wire, mechanism, base, template) }?;
            return Ok(());
        }
        _ => return Err(CKR_MECHANISM_INVALID),
    }
    let key = process.key(&session.token, base).map_err(as_key)?;
    if key.class != ObjectClass::PrivateKey {
        return Err(match key.class {
            ObjectClass::PublicKey | ObjectClass::SecretKey => CKR_KEY_TYPE_INCONSISTENT,
            _ => CKR_KEY_HANDLE_INVALID,
        });
    }
    let facts = key.facts.filter(|facts| facts.family.derives()).ok_or(CKR_KEY_TYPE_INCONSISTENT)?;
    if !key.may_derive {
        return Err(CKR_KEY_FUNCTION_NOT_PERMITTED);
    }
    restrictions::check(process, &session.token, &key, base, mechanism.mechanism)?;
    let object = process.object(&session.token, base).map_err(as_key)?;
    template.complete(restrictions::derived(&object))?;
    // SAFETY: by the module's contract.
    let parameters = unsafe { Parameters::read(mechanism, facts) }?;
    let info = template::derived(&template)?;
    session.may_make(info.session)?;
    let length = template.number(CKA_VALUE_LEN)?;
    let length = length.map(|length| usize::try_from(length).map_err(|_| CKR_KEY_SIZE_RANGE)).transpose()?;
    parameters.check(length)?;

    let derivation = Derivation::begin(process, &session);
    let derive = || {
        Op::Derive(Derive {
            key: key.id.to_vec(),
            mechanism: Mechanism::Ecdh.into(),
            public_key: parameters.public.to_vec(),
        })
    };
    let reply = process.call(Access::of(&session.token), Repeat::Safe, derive);
    let reply = reply.map_err(|code| refused(process, base, code))?;
    let response::Result::SharedSecret(reply) = reply else { return Err(CKR_DEVICE_ERROR) };
    let secret = Zeroizing::new(reply.secret);
    if secret.len() != facts.scalar() {
        return Err(CKR_DEVICE_ERROR);
    }
    let value = Zeroizing::new(parameters.value(&secret, length)?);
    *derived = derivation.keep(info, &value)?;
    Ok(())
}

/// The making of a secret that was derived, and the log-in under which it began.
pub(super) struct Derivation<'a> {
    process: &'static Process,
    session: &'a Session,
    epoch: u64,
}

impl<'a> Derivation<'a> {
    /// Notes the log-in, before the daemon is asked for the secret.
    pub(super) fn begin(process: &'static Process, session: &'a Session) -> Self {
        Derivation { process, session, epoch: session.token.login.epoch() }
    }

    /// Keeps the secret as the object that `info` describes: by [`template::derived`]. What can be read stays in this process; the daemon gets
    /// the rest.
    ///
    /// # Errors
    ///
    /// `CKR_KEY_SIZE_RANGE` if a key of that type has another length, `CKR_SESSION_CLOSED` if the session or the log-in has ended
    /// meanwhile, `CKR_HOST_MEMORY`, and what [`Process::call`] says.
    pub(super) fn keep(&self, mut info: ObjectInfo, value: &[u8]) -> Outcome<CK_OBJECT_HANDLE> {
        let (process, token) = (self.process, &self.session.token);
        let family = key::facts(info.key_type()).ok_or(CKR_FUNCTION_FAILED)?.family;
        let facts = key::secret(family, value.len()).ok_or(CKR_KEY_SIZE_RANGE)?;
        info.key_type = facts.key_type.into();
        if !info.session || !object::is_readable(&info) {
            let import = || {
                // This copy is wiped by the client when it has been sent.
                let (value, key) = (value.to_vec(), Some(template_of(&info)));
                Op::ImportKey(ImportKey { key_type: info.key_type, value, key })
            };
            let reply = process.call(Access::of(token), Repeat::Never, import)?;
            return first_handle(process, self.session, reply);
        }
        info.value = value.to_vec();
        // At most some thousands.
        info.value_length = value.len() as u32;
        let made = process.keep_local(self.session, info)?;
        if token.login.epoch() != self.epoch {
            process.session_objects.destroy(made);
            return Err(CKR_SESSION_CLOSED);
        }
        Ok(made)
    }
}

/// `CK_ECDH1_DERIVE_PARAMS`.
struct Parameters<'a> {
    /// Of ANSI X9.63's derivation function; none: the secret as it is.
    hash: Option<Hash>,
    shared: &'a [u8],
    public: &'a [u8],
    /// The size of the secret, in bytes.
    size: usize,
}

impl<'a> Parameters<'a> {
    /// Borrows the parameter of a mechanism.
    unsafe fn read(mechanism: &'a CK_MECHANISM, facts: &KeyFacts) -> Outcome<Self> {
        let invalid = CKR_MECHANISM_PARAM_INVALID;
        if mechanism.ulParameterLen as usize != size_of::<CK_ECDH1_DERIVE_PARAMS>() {
            return Err(invalid);
        }
        let parameter = mechanism.pParameter.cast_const().cast::<CK_ECDH1_DERIVE_PARAMS>();
        // SAFETY: of this type by its length; by the module's contract.
        let given = unsafe { pointer::reference(parameter) }.ok_or(invalid)?;
        let hash = match given.kdf {
            CKD_NULL => None,
            CKD_SHA1_KDF => Some(Hash::Sha1),
            CKD_SHA224_KDF => Some(Hash::Sha224),
            CKD_SHA256_KDF => Some(Hash::Sha256),
            CKD_SHA384_KDF => Some(Hash::Sha384),
            CKD_SHA512_KDF => Some(Hash::Sha512),
            _ => return Err(invalid),
        };
        let shared = given.ulSharedDataLen.to_usize();
        // A point of the largest curve in an OCTET STRING has 137 bytes.
        let public = given.ulPublicDataLen.to_usize();
        if shared > MAX_SHARED || public > 256 || (hash.is_none() && shared > 0) {
            return Err(invalid);
        }
        // SAFETY: by the module's contract.
        let (shared, public) =
            unsafe { (pointer::slice(given.pSharedData, shared), pointer::slice(given.pPublicData, public)) };
        let public = public.and_then(|public| key::bare_point(facts, public)).ok_or(invalid)?;
        Ok(Parameters { hash, shared: shared.ok_or(invalid)?, public, size: facts.scalar() })
    }

    /// Checks that a secret of this length can be made; what is made without one is never too long.
    fn check(&self, length: Option<usize>) -> Outcome {
        let most = if self.hash.is_some() { MAX_SECRET } else { self.size };
        match length {
            Some(length) if length == 0 || length > most => Err(CKR_KEY_SIZE_RANGE),
            _ => Ok(()),
        }
    }

    /// The value of the derived key.
    fn value(&self, secret: &[u8], length: Option<usize>) -> Outcome<Vec<u8>> {
        let Some(hash) = self.hash else {
            // "The truncation removes bytes from the leading end of the secret value."
            let from = secret.len() - length.unwrap_or(secret.len()).min(secret.len());
            return Ok(secret.get(from..).unwrap_or_default().to_vec());
        };
        let length = length.unwrap_or_else(|| hash::size(hash));
        // Of its final size from the start, so that no copy of a part stays behind.
        let mut value = Zeroizing::new(Vec::with_capacity(length));
        let mut counter = 0u32;
        // ANSI X9.63, 5.6.3 (SEC 1, 3.6.1).
        while value.len() < length {
            counter += 1;
            let mut digest = hash::start(hash).ok_or(CKR_MECHANISM_PARAM_INVALID)?;
            digest.update(secret);
            digest.update(&counter.to_be_bytes());
            digest.update(self.shared);
            let block = digest.finalize_secret();
            let wanted = block.len().min(length - value.len());
            value.extend_from_slice(block.get(..wanted).unwrap_or_default());
        }
        Ok(std::mem::take(&mut *value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(hash: Option<Hash>, shared: &[u8]) -> Parameters<'_> {
        Parameters { hash, shared, public: &[], size: 32 }
    }

    /// NIST CAVP, ANSI X9.63 KDF (SHA-256, 192 bits of secret, 128 bits of key), the first one.
    #[test]
    fn x963_published_vector() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        let secret = hex("96c05619d56c328ab95fe84b18264b08725b85e33fd34f08");
        let made = parameters(Some(Hash::Sha256), b"").value(&secret, Some(16)).unwrap();
        assert_eq!(made, hex("443024c3dae66b95e6f5670601558f71"));
    }

    #[test]
    fn without_derivation_function_the_end_of_the_secret_is_taken() {
        let secret: Vec<u8> = (0..32).collect();
        let null = parameters(None, b"");
        assert_eq!(null.value(&secret, None).unwrap(), secret);
        assert_eq!(null.value(&secret, Some(4)).unwrap(), [28, 29, 30, 31]);
        assert!(null.check(Some(32)).is_ok() && null.check(None).is_ok());
        for length in [0, 33, usize::MAX] {
            assert_eq!(null.check(Some(length)), Err(CKR_KEY_SIZE_RANGE));
        }
        let sha1 = parameters(Some(Hash::Sha1), b"x");
        assert_eq!(sha1.value(&secret, None).unwrap().len(), 20);
        let long = sha1.value(&secret, Some(50)).unwrap();
        assert_eq!((long.len(), &long[..20]), (50, &sha1.value(&secret, None).unwrap()[..]));
        assert_eq!(sha1.check(Some(MAX_SECRET + 1)), Err(CKR_KEY_SIZE_RANGE));
    }
}
