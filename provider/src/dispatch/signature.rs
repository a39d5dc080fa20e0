//! Signatures (provider-signature(7)): sign and verify a digest, digest and sign in one, in parts or at once.
//!
//! Only the call that makes the signature talks to the token: libcrypto sets up contexts to ask what is possible,
//! and asks for sizes.

use std::ffi::{c_char, c_int, c_uchar, c_void};
use std::ptr;
use std::sync::Arc;

use strongroom_ffi::output::{self, Output};
use strongroom_ffi::pointer;

use super::algorithm_identifier::algorithm_identifier;
use super::scheme::{MAX_SIGNATURE, Salt, Scheme};
use super::{Algorithms, MAX_LIST, share, table};
use crate::bindings::*;
use crate::error::{Error, Result};
use crate::fence::{fence, fence_as};
use crate::key::Key;
use crate::openssl::{Digest, MAX_DIGEST};
use crate::params::{Answers, Descriptions, END, Params, describe};
use crate::provider::Provider;
use crate::short_digest::short_digest;
use crate::token::kinds::ForEach;
use crate::token::{Functions, KeyKind, Kind, Table};
use crate::trace;

/// The signature algorithms, by the names that keymgmt's query_operation_name gives.
pub static ALGORITHMS: Algorithms<MAX_LIST> =
    Algorithms::of_key_types(&[], &ForEach::<Signature>::TABLES, OSSL_OP_SIGNATURE, c"provider=strongroom");

struct Signature;

impl<K: Kind> Table<K> for Signature {
    const TABLE: Functions = table![
        OSSL_FUNC_SIGNATURE_NEWCTX: OSSL_FUNC_signature_newctx_fn = newctx::<K>,
        OSSL_FUNC_SIGNATURE_FREECTX: OSSL_FUNC_signature_freectx_fn = freectx,
        OSSL_FUNC_SIGNATURE_DUPCTX: OSSL_FUNC_signature_dupctx_fn = dupctx,
        OSSL_FUNC_SIGNATURE_SIGN_INIT: OSSL_FUNC_signature_sign_init_fn = sign_init,
        OSSL_FUNC_SIGNATURE_SIGN: OSSL_FUNC_signature_sign_fn = sign,
        OSSL_FUNC_SIGNATURE_SIGN_MESSAGE_INIT: OSSL_FUNC_signature_sign_message_init_fn = sign_message_init,
        OSSL_FUNC_SIGNATURE_VERIFY_INIT: OSSL_FUNC_signature_verify_init_fn = verify_init,
        OSSL_FUNC_SIGNATURE_VERIFY_MESSAGE_INIT: OSSL_FUNC_signature_verify_message_init_fn = verify_message_init,
        OSSL_FUNC_SIGNATURE_VERIFY: OSSL_FUNC_signature_verify_fn = verify,
        OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT: OSSL_FUNC_signature_digest_sign_init_fn = digest_sign_init,
        OSSL_FUNC_SIGNATURE_DIGEST_SIGN_UPDATE: OSSL_FUNC_signature_digest_sign_update_fn = digest_update,
        OSSL_FUNC_SIGNATURE_DIGEST_SIGN_FINAL: OSSL_FUNC_signature_digest_sign_final_fn = digest_sign_final,
        OSSL_FUNC_SIGNATURE_DIGEST_SIGN: OSSL_FUNC_signature_digest_sign_fn = digest_sign,
        OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_INIT: OSSL_FUNC_signature_digest_verify_init_fn = digest_verify_init,
        OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_UPDATE: OSSL_FUNC_signature_digest_verify_update_fn = digest_update,
        OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_FINAL: OSSL_FUNC_signature_digest_verify_final_fn = digest_verify_final,
        OSSL_FUNC_SIGNATURE_DIGEST_VERIFY: OSSL_FUNC_signature_digest_verify_fn = digest_verify,
        OSSL_FUNC_SIGNATURE_VERIFY_RECOVER_INIT: OSSL_FUNC_signature_verify_recover_init_fn = verify_recover_init,
        OSSL_FUNC_SIGNATURE_VERIFY_RECOVER: OSSL_FUNC_signature_verify_recover_fn = verify_recover,
        OSSL_FUNC_SIGNATURE_GET_CTX_MD_PARAMS: OSSL_FUNC_signature_get_ctx_md_params_fn = get_ctx_md_params,
        OSSL_FUNC_SIGNATURE_GETTABLE_CTX_MD_PARAMS: OSSL_FUNC_signature_gettable_ctx_md_params_fn = gettable_ctx_md_params,
        OSSL_FUNC_SIGNATURE_SET_CTX_MD_PARAMS: OSSL_FUNC_signature_set_ctx_md_params_fn = set_ctx_md_params,
        OSSL_FUNC_SIGNATURE_SETTABLE_CTX_MD_PARAMS: OSSL_FUNC_signature_settable_ctx_md_params_fn = settable_ctx_md_params,
        OSSL_FUNC_SIGNATURE_GET_CTX_PARAMS: OSSL_FUNC_signature_get_ctx_params_fn = get_ctx_params,
        OSSL_FUNC_SIGNATURE_GETTABLE_CTX_PARAMS: OSSL_FUNC_signature_gettable_ctx_params_fn = gettable_ctx_params::<K>,
        OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS: OSSL_FUNC_signature_set_ctx_params_fn = set_ctx_params,
        OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS: OSSL_FUNC_signature_settable_ctx_params_fn = settable_ctx_params::<K>,
    ];
}

/// One signature operation: what libcrypto's `ctx` points to.
pub struct Context {
    /// None while it is a [spare](Provider::spares).
    provider: Option<Arc<Provider>>,
    kind: KeyKind,
    key: Option<Arc<Key>>,
    scheme: Scheme,
    /// The digest in the making, or one that is done and can be begun again.
    digest: Option<Digest>,
    /// The digest is in the making: it begins with the first update.
    begun: bool,
    /// What is to be signed, where the token hashes it.
    message: Option<Vec<u8>>,
}

/// The longest message that is collected for a token that hashes it, in bytes.
const MAX_MESSAGE: usize = 1 << 26;

impl Context {
    fn init(
        &mut self,
        key: Option<Arc<Key>>,
        hash: Option<&str>,
        params: Params,
        signing: bool,
    ) -> Result<()> {
        // Without a key the one of the last operation is used again (provider-signature(7)).
        let key = key
            .or_else(|| self.key.clone())
            .ok_or_else(|| Error::Unsupported("a signature without a key".into()))?;
        if key.kind != self.kind {
            return Err(Error::Unsupported("a key of another type".into()));
        }
        self.message = (signing && key.private()?.hashes_in_token).then(Vec::new);
        self.begun = false;
        self.scheme = Scheme::of(&key)?;
        self.key = Some(key);
        match hash.filter(|name| !name.is_empty()) {
            Some(name) if self.kind.signs_messages() => {
                return Err(Error::Unsupported(format!(
                    "{:?} signs the message itself, not its {name} digest",
                    self.kind.name()
                )));
            }
            Some(name) => self.scheme.set_hash(name)?,
            None => {}
        }
        self.scheme.set(self.kind, params)
    }

    fn key(&self) -> Result<&Arc<Key>> {
        self.key.as_ref().ok_or_else(|| Error::Unsupported("a signature that was not initialised".into()))
    }

    fn update(&mut self, data: &[u8]) -> Result<()> {
        if self.kind.signs_messages() {
            return Err(Error::Unsupported(format!(
                "{:?} signs the whole message in one call",
                self.kind.name()
            )));
        }
        if let Some(message) = &mut self.message {
            if message.len() + data.len() > MAX_MESSAGE {
                return Err(Error::Unsupported(format!(
                    "more than {MAX_MESSAGE} bytes for a token that hashes them"
                )));
            }
            message.extend_from_slice(data);
            return Ok(());
        }
        self.begin()?;
        match &mut self.digest {
            Some(digest) => digest.update(data),
            None => Ok(()),
        }
    }

    /// Begins the digest, unless it has begun.
    fn begin(&mut self) -> Result<()> {
        if !self.begun {
            let hash =
                self.scheme.hash.ok_or_else(|| Error::Unsupported("a digest must be chosen".into()))?;
            match self.digest.as_mut().filter(|digest| digest.hash == hash) {
                Some(digest) => digest.restart()?,
                None => {
                    let provider =
                        self.provider.as_ref().ok_or(Error::Libcrypto("a context after its end"))?;
                    self.digest = Some(Digest::new(&provider.openssl, hash)?);
                }
            }
            self.begun = true;
        }
        Ok(())
    }

    /// The digest of the updates; of nothing if there was none.
    fn finish(&mut self) -> Result<([u8; MAX_DIGEST], usize)> {
        self.update(&[])?;
        self.begun = false;
        match &mut self.digest {
            Some(digest) => digest.finish(),
            None => Err(Error::Unsupported("a digest must be chosen".into())),
        }
    }

    /// Signs a digest, or EdDSA's message.
    fn sign(&self, data: &[u8], out: &mut [u8]) -> Result<usize> {
        self.scheme.sign(self.key()?, data, out)
    }

    /// Signs the digest of the updates.
    fn sign_digest(&mut self, out: &mut [u8]) -> Result<usize> {
        if let Some(message) = &mut self.message {
            let message = std::mem::take(message);
            return self.sign(&message, out);
        }
        let (digest, size) = self.finish()?;
        self.sign(digest.get(..size).unwrap_or_default(), out)
    }
}

/// Borrows libcrypto's context.
///
/// # Safety
///
/// `context` is null or was made by [`newctx`] or [`dupctx`], was not freed, and no other thread uses it now.
unsafe fn context<'a>(context: *mut c_void) -> Option<&'a mut Context> {
    // SAFETY: by the contract.
    unsafe { pointer::reference_mut(context.cast()) }
}

/// Runs `operation` on a context inside the fence, and reports its error.
///
/// # Safety
///
/// As [`context`].
unsafe fn with<F: FnOnce(&mut Context) -> Result<()>>(pointer: *mut c_void, operation: F) -> c_int {
    // SAFETY: by the contract.
    unsafe { with_as::<F>(pointer, operation) }
}

/// As [`with`], in the name of the function that the closure `Named` is in.
///
/// # Safety
///
/// As [`context`].
unsafe fn with_as<Named>(pointer: *mut c_void, operation: impl FnOnce(&mut Context) -> Result<()>) -> c_int {
    fence_as::<Named, _>(0, || {
        // SAFETY: by the contract.
        let Some(context) = (unsafe { context(pointer) }) else { return 0 };
        let result = operation(context);
        if let Some(Ok(private)) = context.key.as_ref().map(|key| key.private()) {
            trace::subject(|| private.name());
        }
        match &context.provider {
            Some(provider) => provider.status(result),
            None => 0,
        }
    })
}

/// Gives libcrypto a context.
fn hand_over(mut context: Box<Context>, provider: Arc<Provider>) -> *mut c_void {
    context.provider = Some(provider);
    Box::into_raw(context).cast()
}

unsafe extern "C" fn newctx<K: Kind>(provider: *mut c_void, _properties: *const c_char) -> *mut c_void {
    fence(ptr::null_mut(), || {
        // SAFETY: libcrypto's pointer to our provider.
        let Some(provider) = (unsafe { Provider::from_context(provider) }) else { return ptr::null_mut() };
        // libcrypto makes several contexts for each handshake, to ask what is possible.
        let mut context = provider.spares.take().unwrap_or_else(|| {
            Box::new(Context {
                provider: None,
                kind: K::KIND,
                key: None,
                scheme: Scheme::default(),
                digest: None,
                begun: false,
                message: None,
            })
        });
        context.kind = K::KIND;
        hand_over(context, provider)
    })
}

unsafe extern "C" fn freectx(context: *mut c_void) {
    fence((), || {
        if !context.is_null() {
            // SAFETY: made by `hand_over`, given back this once.
            let mut context = unsafe { Box::from_raw(context.cast::<Context>()) };
            context.key = None;
            context.scheme = Scheme::default();
            context.message = None;
            if std::mem::take(&mut context.begun) {
                // It holds the application's data.
                context.digest = None;
            }
            if let Some(provider) = context.provider.take() {
                provider.spares.keep(context);
            }
        }
    });
}

unsafe extern "C" fn dupctx(pointer: *mut c_void) -> *mut c_void {
    fence(ptr::null_mut(), || {
        // SAFETY: libcrypto's pointer to a context of ours.
        let Some(context) = (unsafe { context(pointer) }) else { return ptr::null_mut() };
        let Some(provider) = &context.provider else { return ptr::null_mut() };
        let digest = context.digest.as_ref().filter(|_| context.begun).map(Digest::duplicate).transpose();
        let Some(digest) = provider.report(digest) else { return ptr::null_mut() };
        let copy = Context {
            provider: None,
            kind: context.kind,
            key: context.key.clone(),
            scheme: context.scheme.clone(),
            begun: digest.is_some(),
            digest,
            message: context.message.clone(),
        };
        hand_over(Box::new(copy), provider.clone())
    })
}

/// Begins any of the operations.
///
/// # Safety
///
/// `pointer` as [`context`], `key` as [`share`], `hash` null or a C string, `params` null or terminated.
unsafe fn init(
    pointer: *mut c_void,
    hash: *const c_char,
    key: *mut c_void,
    params: *const OSSL_PARAM,
    signing: bool,
) -> c_int {
    // SAFETY: by the contract, for each.
    unsafe {
        with(pointer, |context| context.init(share(key), pointer::text(hash), Params::new(params), signing))
    }
}

unsafe extern "C" fn sign_init(context: *mut c_void, key: *mut c_void, params: *const OSSL_PARAM) -> c_int {
    // SAFETY: libcrypto's arguments, as provider-signature(7) describes them.
    unsafe { init(context, ptr::null(), key, params, true) }
}

unsafe extern "C" fn verify_init(context: *mut c_void, key: *mut c_void, params: *const OSSL_PARAM) -> c_int {
    // SAFETY: as above.
    unsafe { init(context, ptr::null(), key, params, false) }
}

/// EVP_PKEY_sign_message_init(3): for key types that sign the message itself. Others sign a digest here, and which one is said by
/// the algorithm's name, such as RSA-SHA256, in OpenSSL's own provider.
unsafe extern "C" fn sign_message_init(
    context: *mut c_void,
    key: *mut c_void,
    params: *const OSSL_PARAM,
) -> c_int {
    // SAFETY: as above.
    unsafe { init_message(context, key, params, true) }
}

unsafe extern "C" fn verify_message_init(
    context: *mut c_void,
    key: *mut c_void,
    params: *const OSSL_PARAM,
) -> c_int {
    // SAFETY: as above.
    unsafe { init_message(context, key, params, false) }
}

/// Begins an operation on a message.
///
/// # Safety
///
/// As [`init`].
unsafe fn init_message(
    pointer: *mut c_void,
    key: *mut c_void,
    params: *const OSSL_PARAM,
    signing: bool,
) -> c_int {
    // SAFETY: by the contract, for each.
    unsafe {
        with(pointer, |context| {
            if !context.kind.signs_messages() {
                return Err(Error::Unsupported(format!(
                    "{:?} signs digests: use EVP_DigestSign",
                    context.kind.name()
                )));
            }
            context.init(share(key), None, Params::new(params), signing)
        })
    }
}

unsafe extern "C" fn digest_sign_init(
    context: *mut c_void,
    hash: *const c_char,
    key: *mut c_void,
    params: *const OSSL_PARAM,
) -> c_int {
    // SAFETY: as above.
    unsafe { init(context, hash, key, params, true) }
}

unsafe extern "C" fn digest_verify_init(
    context: *mut c_void,
    hash: *const c_char,
    key: *mut c_void,
    params: *const OSSL_PARAM,
) -> c_int {
    // SAFETY: as above.
    unsafe { init(context, hash, key, params, false) }
}

/// Answers a size query, or has the signature made by `make` and hands it over.
///
/// # Safety
///
/// `pointer` as [`context`]; `length` can be written; `buffer` is null or can be written for `size` bytes.
unsafe fn produce<M: FnOnce(&mut Context, &mut [u8]) -> Result<usize>>(
    pointer: *mut c_void,
    buffer: *mut c_uchar,
    length: *mut usize,
    size: usize,
    make: M,
) -> c_int {
    // SAFETY: by the contract, for each.
    unsafe {
        with_as::<M>(pointer, |context| {
            let Some(length) = pointer::reference_mut(length) else {
                return Err(Error::Unsupported("a signature without a place for its length".into()));
            };
            let most = context.key()?.public()?.signature_size();
            if buffer.is_null() {
                *length = most;
                return Ok(());
            }
            // Only ECDSA's signatures vary in size: the others need not be made to know that they do not fit.
            if size < most && context.kind != KeyKind::Ec {
                return Err(Error::Buffer { room: size, needed: most });
            }
            // Not in the caller's buffer, which may be where the data is, and not on the stack if it is large: a job's is small.
            let mut small = [0; MAX_SIGNATURE];
            let mut large = Vec::new();
            let signature: &mut [u8] = if most <= MAX_SIGNATURE {
                &mut small
            } else {
                large.resize(most, 0);
                &mut large
            };
            let made = make(context, signature)?;
            *length = size;
            match output::write(signature.get(..made).unwrap_or_default(), buffer, length) {
                Some(Output::Written) => Ok(()),
                _ => Err(Error::Buffer { room: size, needed: made }),
            }
        })
    }
}

/// Bytes that libcrypto passed.
///
/// # Safety
///
/// `data` is null or can be read for `length` bytes during this call.
unsafe fn bytes<'a>(data: *const c_uchar, length: usize) -> Result<&'a [u8]> {
    // SAFETY: by the contract.
    unsafe { pointer::slice(data, length) }.ok_or_else(|| Error::Unsupported("data at a null pointer".into()))
}

unsafe extern "C" fn sign(
    context: *mut c_void,
    signature: *mut c_uchar,
    length: *mut usize,
    size: usize,
    data: *const c_uchar,
    data_length: usize,
) -> c_int {
    // SAFETY: libcrypto's arguments, as provider-signature(7) describes them.
    unsafe {
        produce(context, signature, length, size, |context, out| {
            if context.message.is_some() {
                return Err(Error::Unsupported(
                    "a signature over a digest: the token hashes what this key signs, so sign the message"
                        .into(),
                ));
            }
            context.sign(bytes(data, data_length)?, out)
        })
    }
}

unsafe extern "C" fn digest_update(context: *mut c_void, data: *const c_uchar, length: usize) -> c_int {
    // SAFETY: as above.
    unsafe { with(context, |context| context.update(bytes(data, length)?)) }
}

unsafe extern "C" fn digest_sign_final(
    context: *mut c_void,
    signature: *mut c_uchar,
    length: *mut usize,
    size: usize,
) -> c_int {
    // SAFETY: as above.
    unsafe { produce(context, signature, length, size, |context, out| context.sign_digest(out)) }
}

unsafe extern "C" fn digest_sign(
    context: *mut c_void,
    signature: *mut c_uchar,
    length: *mut usize,
    size: usize,
    data: *const c_uchar,
    data_length: usize,
) -> c_int {
    // SAFETY: as above.
    unsafe {
        produce(context, signature, length, size, |context, out| {
            let data = bytes(data, data_length)?;
            if context.kind.signs_messages() {
                return context.sign(data, out);
            }
            if !context.begun
                && context.message.is_none()
                && let Some(hash) = context.scheme.hash
                && let Some((digest, size)) = short_digest(hash, data)
            {
                return context.sign(digest.get(..size).unwrap_or_default(), out);
            }
            context.update(data)?;
            context.sign_digest(out)
        })
    }
}

unsafe extern "C" fn verify(
    context: *mut c_void,
    signature: *const c_uchar,
    length: usize,
    data: *const c_uchar,
    data_length: usize,
) -> c_int {
    // SAFETY: as above.
    unsafe {
        with(context, |context| {
            context.scheme.verify(context.key()?, bytes(data, data_length)?, bytes(signature, length)?)
        })
    }
}

unsafe extern "C" fn digest_verify_final(
    context: *mut c_void,
    signature: *const c_uchar,
    length: usize,
) -> c_int {
    // SAFETY: as above.
    unsafe {
        with(context, |context| {
            let (digest, size) = context.finish()?;
            context.scheme.verify(
                context.key()?,
                digest.get(..size).unwrap_or_default(),
                bytes(signature, length)?,
            )
        })
    }
}

unsafe extern "C" fn digest_verify(
    context: *mut c_void,
    signature: *const c_uchar,
    length: usize,
    data: *const c_uchar,
    data_length: usize,
) -> c_int {
    // SAFETY: as above.
    unsafe {
        with(context, |context| {
            let data = bytes(data, data_length)?;
            let signature = bytes(signature, length)?;
            if context.kind.signs_messages() {
                return context.scheme.verify(context.key()?, data, signature);
            }
            context.update(data)?;
            let (digest, size) = context.finish()?;
            context.scheme.verify(context.key()?, digest.get(..size).unwrap_or_default(), signature)
        })
    }
}

unsafe extern "C" fn verify_recover_init(
    context: *mut c_void,
    key: *mut c_void,
    params: *const OSSL_PARAM,
) -> c_int {
    // SAFETY: as above.
    unsafe { init(context, ptr::null(), key, params, false) }
}

unsafe extern "C" fn verify_recover(
    context: *mut c_void,
    out: *mut c_uchar,
    length: *mut usize,
    size: usize,
    signature: *const c_uchar,
    signature_length: usize,
) -> c_int {
    // SAFETY: as above.
    unsafe {
        produce(context, out, length, size, |context, recovered| {
            context.scheme.recover(context.key()?, bytes(signature, signature_length)?, recovered)
        })
    }
}

unsafe extern "C" fn get_ctx_md_params(context: *mut c_void, params: *mut OSSL_PARAM) -> c_int {
    // SAFETY: as above.
    unsafe {
        with(context, |context| {
            context.begin()?;
            match &context.digest {
                Some(digest) => digest.answer(&Answers::new(params)),
                None => Ok(()),
            }
        })
    }
}

unsafe extern "C" fn set_ctx_md_params(context: *mut c_void, params: *const OSSL_PARAM) -> c_int {
    // SAFETY: as above.
    unsafe {
        with(context, |context| {
            context.begin()?;
            match &mut context.digest {
                Some(digest) => digest.set(Params::new(params)),
                None => Ok(()),
            }
        })
    }
}

/// None of the hashes has parameters of its own.
static NO_PARAMS: Descriptions<1> = Descriptions::new([END]);

unsafe extern "C" fn gettable_ctx_md_params(_context: *mut c_void) -> *const OSSL_PARAM {
    fence(ptr::null(), || NO_PARAMS.as_ptr())
}

unsafe extern "C" fn settable_ctx_md_params(_context: *mut c_void) -> *const OSSL_PARAM {
    fence(ptr::null(), || NO_PARAMS.as_ptr())
}

unsafe extern "C" fn set_ctx_params(context: *mut c_void, params: *const OSSL_PARAM) -> c_int {
    // SAFETY: as above.
    unsafe {
        with(context, |context| {
            if context.begun && Params::new(params).has(OSSL_SIGNATURE_PARAM_DIGEST) {
                return Err(Error::Unsupported("another digest after the first data".into()));
            }
            context.scheme.set(context.kind, Params::new(params))
        })
    }
}

unsafe extern "C" fn settable_ctx_params<K: Kind>(
    _context: *mut c_void,
    _provider: *mut c_void,
) -> *const OSSL_PARAM {
    fence(ptr::null(), || {
        static RSA: Descriptions<5> = Descriptions::new([
            describe(OSSL_SIGNATURE_PARAM_DIGEST, OSSL_PARAM_UTF8_STRING),
            describe(OSSL_SIGNATURE_PARAM_PAD_MODE, OSSL_PARAM_UTF8_STRING),
            describe(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, OSSL_PARAM_UTF8_STRING),
            describe(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, OSSL_PARAM_UTF8_STRING),
            END,
        ]);
        static EC: Descriptions<2> =
            Descriptions::new([describe(OSSL_SIGNATURE_PARAM_DIGEST, OSSL_PARAM_UTF8_STRING), END]);
        // Their names are not in 3.0's headers.
        static ML_DSA: Descriptions<4> = Descriptions::new([
            describe(c"context-string", OSSL_PARAM_OCTET_STRING),
            describe(c"message-encoding", OSSL_PARAM_INTEGER),
            describe(c"deterministic", OSSL_PARAM_INTEGER),
            END,
        ]);
        static MESSAGES: Descriptions<1> = Descriptions::new([END]);
        match K::KIND {
            kind if kind.is_rsa() => RSA.as_ptr(),
            kind if kind.is_ml_dsa() => ML_DSA.as_ptr(),
            kind if kind.signs_messages() => MESSAGES.as_ptr(),
            _ => EC.as_ptr(),
        }
    })
}

unsafe extern "C" fn get_ctx_params(context: *mut c_void, params: *mut OSSL_PARAM) -> c_int {
    // SAFETY: as above.
    unsafe {
        with(context, |context| {
            let scheme = &context.scheme;
            let answers = Answers::new(params);
            let too_small = || Error::Unsupported("a parameter's buffer is too small".into());
            if Params::new(params).has(OSSL_SIGNATURE_PARAM_ALGORITHM_ID) {
                let der = algorithm_identifier(context.key()?, scheme)?;
                if !answers.octets(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, &der) {
                    return Err(too_small());
                }
            }
            let mut answered = true;
            if let Some(hash) = scheme.hash {
                answered &= answers.text(OSSL_SIGNATURE_PARAM_DIGEST, hash.name());
            }
            if context.kind.is_rsa() {
                let (name, number) = scheme.padding.name_and_number();
                answered &= answers.choice(OSSL_SIGNATURE_PARAM_PAD_MODE, name, number);
                if let Some(hash) = scheme.mgf1.or(scheme.hash) {
                    answered &= answers.text(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, hash.name());
                }
                answered &= match scheme.salt {
                    Salt::Digest => answers.choice(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, c"digest", -1),
                    Salt::Auto => answers.choice(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, c"auto", -2),
                    Salt::Max => answers.choice(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, c"max", -3),
                    Salt::AutoDigestMax => {
                        answers.choice(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, c"auto-digestmax", -4)
                    }
                    Salt::Bytes(bytes) => answers.integer(
                        OSSL_SIGNATURE_PARAM_PSS_SALTLEN,
                        c_int::try_from(bytes).unwrap_or(c_int::MAX),
                    ),
                };
            }
            if answered { Ok(()) } else { Err(too_small()) }
        })
    }
}

unsafe extern "C" fn gettable_ctx_params<K: Kind>(
    _context: *mut c_void,
    _provider: *mut c_void,
) -> *const OSSL_PARAM {
    fence(ptr::null(), || {
        static RSA: Descriptions<6> = Descriptions::new([
            describe(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, OSSL_PARAM_OCTET_STRING),
            describe(OSSL_SIGNATURE_PARAM_DIGEST, OSSL_PARAM_UTF8_STRING),
            describe(OSSL_SIGNATURE_PARAM_PAD_MODE, OSSL_PARAM_UTF8_STRING),
            describe(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, OSSL_PARAM_UTF8_STRING),
            describe(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, OSSL_PARAM_UTF8_STRING),
            END,
        ]);
        static OTHER: Descriptions<3> = Descriptions::new([
            describe(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, OSSL_PARAM_OCTET_STRING),
            describe(OSSL_SIGNATURE_PARAM_DIGEST, OSSL_PARAM_UTF8_STRING),
            END,
        ]);
        if K::KIND.is_rsa() { RSA.as_ptr() } else { OTHER.as_ptr() }
    })
}
