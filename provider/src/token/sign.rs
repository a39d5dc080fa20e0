//! Signing: the one operation with a private key, and its recovery when the token was away.

use cryptoki_sys::*;

use super::module::Module;
use super::process::is_stale;
use super::remembered::Found;
use super::session::Session;
use super::slot::Slot;
use super::{PrivateKey, Tokens};
use crate::error::{Error, Result};
use crate::openssl::{Context, Hash};
use crate::trace;

/// How a signature is made. One table from OpenSSL's names to these is in [`crate::dispatch::signature`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// CKM_RSA_PKCS over a DigestInfo, or over what the application gives.
    RsaPkcs,
    /// CKM_RSA_PKCS_PSS over a digest.
    RsaPss {
        /// The digest's hash.
        hash: Hash,
        /// The mask's hash.
        mgf1: Hash,
        /// The salt's length in bytes.
        salt: usize,
    },
    /// CKM_ECDSA over a digest; the signature is r and s, of equal length.
    Ecdsa,
    /// CKM_EDDSA over a message.
    Eddsa,
}

impl Tokens {
    /// Signs `data` with `key` into `signature`; returns the signature's size in bytes.
    ///
    /// Stale state is renewed and the signature tried again ([`Tokens::recovering`]). There is no other way: a key
    /// that its token does not use is not used.
    ///
    /// # Errors
    ///
    /// [`Error::Token`] with the module's own error, [`Error::NoToken`] while the token is away,
    /// [`Error::PinRefused`] and [`Error::PinMissing`] if it wants a log-in, [`Error::NotFound`] if the key is gone.
    pub fn sign(
        &self,
        context: &Context,
        key: &PrivateKey,
        mechanism: Mechanism,
        data: &[u8],
        signature: &mut [u8],
    ) -> Result<usize> {
        trace::subject(|| key.name());
        let mut is_first = true;
        self.recovering(|operation| {
            // What is remembered may be what is wrong.
            let found = key.remembered.get().filter(|found| {
                is_first && found.slot.generation == operation.generation && found.slot.is_present()
            });
            is_first = false;
            let slot = match found {
                Some(found) => found.slot,
                None => operation.slot_of(key)?,
            };
            let session = slot.session(operation.module)?;
            let handle = found.filter(|found| found.epoch == session.epoch).map(|found| found.handle);
            let attempt = Attempt { context, module: operation.module, slot, session: &session, key };
            let mut begun = false;
            let signed = attempt.sign(handle, mechanism, data, signature, &mut begun);
            if let Err(error) = &signed {
                match error.rv() {
                    Some(CKR_KEY_HANDLE_INVALID | CKR_OBJECT_HANDLE_INVALID) => {
                        key.remembered.forget();
                        slot.forget_handle(&key.fingerprint);
                        session.discard();
                    }
                    Some(rv) if is_stale(rv) => {
                        let epoch = session.epoch;
                        session.discard();
                        slot.forget(operation.module, epoch);
                    }
                    // An operation may still be active on this session.
                    _ if begun => session.discard(),
                    _ => {}
                }
            }
            signed
        })
    }
}

/// One attempt at a signature, on one session.
struct Attempt<'a> {
    context: &'a Context,
    module: &'a Module,
    slot: &'static Slot,
    session: &'a Session<'a>,
    key: &'a PrivateKey,
}

impl Attempt<'_> {
    /// Signs with the key's handle, if it is known. `begun` is set once C_SignInit has succeeded.
    fn sign(
        &self,
        handle: Option<CK_OBJECT_HANDLE>,
        mechanism: Mechanism,
        data: &[u8],
        signature: &mut [u8],
        begun: &mut bool,
    ) -> Result<usize> {
        let Attempt { module, slot, session, key, .. } = *self;
        let failed = |function| move |rv| self.missing_pin(Error::token(function, key.name(), rv));
        let handle = match handle {
            Some(handle) => handle,
            None => self.prepare()?,
        };
        let init = match mechanism {
            Mechanism::RsaPkcs => module.sign_init(session.handle, CKM_RSA_PKCS, &mut (), handle),
            Mechanism::Ecdsa => module.sign_init(session.handle, CKM_ECDSA, &mut (), handle),
            Mechanism::Eddsa => module.sign_init(session.handle, CKM_EDDSA, &mut (), handle),
            Mechanism::RsaPss { hash, mgf1, salt } => {
                let mut parameter = pss_parameter(hash, mgf1, salt)?;
                module.sign_init(session.handle, CKM_RSA_PKCS_PSS, &mut parameter, handle)
            }
        };
        init.map_err(failed("C_SignInit"))?;
        *begun = true;
        if key.always_authenticate
            && let Some(pin) = &key.pin
        {
            slot.login_for_one_use(module, session, pin)?;
        }
        module.sign(session.handle, data, signature).map_err(failed("C_Sign"))
    }

    /// Logs in where the token wants it, looks the key up, and remembers both for the life of the sessions.
    fn prepare(&self) -> Result<CK_OBJECT_HANDLE> {
        let Attempt { context, module, slot, session, key } = *self;
        if slot.login_required
            && let Some(pin) = &key.pin
        {
            slot.login(module, session, pin)?;
        }
        let handle = slot.handle(module, session, key, context).map_err(|error| self.missing_pin(error))?;
        key.remembered.set(Found { slot, epoch: session.epoch, handle });
        Ok(handle)
    }

    /// Without a PIN the application may have logged in, or the key be a public object; that neither is so shows now.
    fn missing_pin(&self, error: Error) -> Error {
        match error.rv() {
            Some(CKR_USER_NOT_LOGGED_IN) if self.key.pin.is_none() => {
                Error::PinMissing { token: self.slot.token.label.clone() }
            }
            _ => error,
        }
    }
}

fn pss_parameter(hash: Hash, mgf1: Hash, salt: usize) -> Result<CK_RSA_PKCS_PSS_PARAMS> {
    let unsupported = |hash: Hash| Error::Unsupported(format!("RSA-PSS with {hash:?} is not in PKCS#11"));
    let (mechanism, _) = pss_hash(hash).ok_or_else(|| unsupported(hash))?;
    let (_, mgf) = pss_hash(mgf1).ok_or_else(|| unsupported(mgf1))?;
    Ok(CK_RSA_PKCS_PSS_PARAMS { hashAlg: mechanism, mgf, sLen: salt as CK_ULONG })
}

/// A hash's mechanism and mask generation function.
fn pss_hash(hash: Hash) -> Option<(CK_MECHANISM_TYPE, CK_RSA_PKCS_MGF_TYPE)> {
    Some(match hash {
        Hash::Md5Sha1 => return None,
        Hash::Sha1 => (CKM_SHA_1, CKG_MGF1_SHA1),
        Hash::Sha224 => (CKM_SHA224, CKG_MGF1_SHA224),
        Hash::Sha256 => (CKM_SHA256, CKG_MGF1_SHA256),
        Hash::Sha384 => (CKM_SHA384, CKG_MGF1_SHA384),
        Hash::Sha512 => (CKM_SHA512, CKG_MGF1_SHA512),
        Hash::Sha3_224 => (CKM_SHA3_224, CKG_MGF1_SHA3_224),
        Hash::Sha3_256 => (CKM_SHA3_256, CKG_MGF1_SHA3_256),
        Hash::Sha3_384 => (CKM_SHA3_384, CKG_MGF1_SHA3_384),
        Hash::Sha3_512 => (CKM_SHA3_512, CKG_MGF1_SHA3_512),
    })
}
