//! A signature in preparation: key, scheme, and what was said of the message.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::Arc;

use strongroom_ffi::pointer;

use super::super::scheme::{Padding, Scheme};
use super::super::share;
use crate::bindings::*;
use crate::error::{Error, Result};
use crate::fence::{fence, fence_as};
use crate::key::Key;
use crate::openssl::{Digest, Hash, MAX_DIGEST};
use crate::params::Params;
use crate::provider::Provider;
use crate::short_digest::short_digest;
use crate::token::{KeyKind, Kind};
use crate::trace;

/// One signature operation: what libcrypto's `ctx` points to.
pub struct Context {
    /// None while it is a [spare](Provider::spares).
    provider: Option<Arc<Provider>>,
    pub(super) kind: KeyKind,
    /// The hash in the algorithm's name, and so the whole scheme. None if the application chooses.
    fixed: Option<Hash>,
    key: Option<Arc<Key>>,
    pub(super) scheme: Scheme,
    /// What `sign` and `verify` are given.
    pub(super) over: Over,
    /// The digest in the making, or one that is done and can be begun again.
    pub(super) digest: Option<Digest>,
    /// The digest is in the making: it begins with the first update.
    begun: bool,
    /// What is to be signed, where the token hashes it; what is to be signed or verified, where it comes in parts that are not hashed.
    message: Option<Vec<u8>>,
    /// What is to be verified after the last part.
    signature: Vec<u8>,
}

/// What an operation was begun on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Over {
    /// A digest, unless the key's type signs messages.
    #[default]
    Digest,
    /// A message (EVP_PKEY_sign_message_init(3)).
    Message,
}

/// What begins an operation.
pub struct Begin<'a> {
    /// Without a key the one of the last operation is used again (provider-signature(7)).
    pub key: Option<Arc<Key>>,
    /// The hash's name.
    pub hash: Option<&'a str>,
    /// What it is on.
    pub over: Over,
    /// It signs, or else verifies.
    pub signing: bool,
}

/// The longest message that is collected, in bytes.
const MAX_MESSAGE: usize = 1 << 26;

/// The parameter with which a signature comes that is verified after the last part. Its name is not in 3.0's headers.
pub const SIGNATURE: &std::ffi::CStr = c"signature";

impl Context {
    fn new(kind: KeyKind) -> Self {
        Context {
            provider: None,
            kind,
            fixed: None,
            key: None,
            scheme: Scheme::default(),
            over: Over::default(),
            digest: None,
            begun: false,
            message: None,
            signature: Vec::new(),
        }
    }

    /// Begins an operation.
    pub fn init(&mut self, begin: Begin, params: Params) -> Result<()> {
        let key = begin
            .key
            .or_else(|| self.key.clone())
            .ok_or_else(|| Error::Unsupported("a signature without a key".into()))?;
        if key.kind != self.kind {
            return Err(Error::Unsupported("a key of another type".into()));
        }
        let in_parts = begin.over == Over::Message && self.kind.signs_messages();
        let is_collected = if begin.signing { key.private()?.hashes_in_token || in_parts } else { in_parts };
        self.message = is_collected.then(Vec::new);
        self.signature.clear();
        self.over = begin.over;
        self.begun = false;
        self.scheme = Scheme::of(&key)?;
        self.scheme.hash = self.fixed.or(self.scheme.hash);
        self.key = Some(key);
        match begin.hash.filter(|name| !name.is_empty()) {
            Some(name) if self.kind.signs_messages() => {
                return Err(Error::Unsupported(format!(
                    "{:?} signs the message itself, not its {name} digest",
                    self.kind.name()
                )));
            }
            Some(name) => self.scheme.set_hash(name)?,
            None => {}
        }
        self.set(params)
    }

    /// Applies what an application sets.
    pub fn set(&mut self, params: Params) -> Result<()> {
        if params.is_empty() {
            return Ok(());
        }
        if self.begun && params.has(OSSL_SIGNATURE_PARAM_DIGEST) {
            return Err(Error::Unsupported("another digest after the first data".into()));
        }
        self.scheme.set(self.kind, params)?;
        if self.fixed.is_some() && (self.scheme.hash != self.fixed || self.scheme.padding != Padding::Pkcs1) {
            return Err(Error::Unsupported(format!(
                "another hash or padding than those of the algorithm ({:?}): choose by EVP_PKEY_sign_init what it leaves open",
                self.fixed
            )));
        }
        if let Some(signature) = params.octets(SIGNATURE)? {
            let most = self.key()?.public()?.signature_size();
            if signature.len() > most {
                return Err(Error::Unsupported(format!(
                    "a signature of {} bytes; those of this key have {most}",
                    signature.len()
                )));
            }
            self.signature = signature.to_vec();
        }
        Ok(())
    }

    /// The key, once an operation has begun.
    pub fn key(&self) -> Result<&Arc<Key>> {
        self.key.as_ref().ok_or_else(|| Error::Unsupported("a signature that was not initialised".into()))
    }

    /// Takes the next part of the message.
    pub fn update(&mut self, data: &[u8]) -> Result<()> {
        if let Some(message) = &mut self.message {
            if message.len() + data.len() > MAX_MESSAGE {
                return Err(Error::Unsupported(format!(
                    "more than {MAX_MESSAGE} bytes that are not hashed here: the token takes them in one piece"
                )));
            }
            message.extend_from_slice(data);
            return Ok(());
        }
        if self.kind.signs_messages() {
            return Err(Error::Unsupported(format!(
                "{:?} signs the whole message in one call",
                self.kind.name()
            )));
        }
        self.begin()?;
        match &mut self.digest {
            Some(digest) => digest.update(data),
            None => Ok(()),
        }
    }

    /// Begins the digest, unless it has begun.
    pub fn begin(&mut self) -> Result<()> {
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

    /// Whether the message itself is signed, and comes in one piece.
    fn is_whole(&self) -> bool {
        self.kind.signs_messages() && self.message.as_ref().is_none_or(Vec::is_empty)
    }

    /// Signs what `sign` is given.
    pub fn sign(&mut self, data: &[u8], out: &mut [u8]) -> Result<usize> {
        if self.over == Over::Message {
            return self.sign_message(data, out);
        }
        if self.message.is_some() {
            return Err(Error::Unsupported(
                "a signature over a digest: the token hashes what this key signs, so sign the message".into(),
            ));
        }
        self.scheme.sign(self.key()?, data, out)
    }

    /// Signs the message of the updates and, at its end, `last`.
    pub fn sign_message(&mut self, last: &[u8], out: &mut [u8]) -> Result<usize> {
        if self.is_whole() {
            return self.scheme.sign(self.key()?, last, out);
        }
        if !self.begun
            && self.message.is_none()
            && let Some(hash) = self.scheme.hash
            && let Some((digest, size)) = short_digest(hash, last)
        {
            return self.scheme.sign(self.key()?, digest.get(..size).unwrap_or_default(), out);
        }
        self.update(last)?;
        self.sign_updates(out)
    }

    /// Signs the message of the updates.
    pub fn sign_updates(&mut self, out: &mut [u8]) -> Result<usize> {
        if let Some(message) = &mut self.message {
            let message = std::mem::take(message);
            return self.scheme.sign(self.key()?, &message, out);
        }
        let (digest, size) = self.finish()?;
        self.scheme.sign(self.key()?, digest.get(..size).unwrap_or_default(), out)
    }

    /// Verifies a signature over what `verify` is given.
    pub fn verify(&mut self, data: &[u8], signature: &[u8]) -> Result<()> {
        if self.over == Over::Message {
            return self.verify_message(data, signature);
        }
        self.scheme.verify(self.key()?, data, signature)
    }

    /// Verifies a signature over the message of the updates and, at its end, `last`.
    pub fn verify_message(&mut self, last: &[u8], signature: &[u8]) -> Result<()> {
        if self.is_whole() {
            return self.scheme.verify(self.key()?, last, signature);
        }
        self.update(last)?;
        self.verify_updates(signature)
    }

    /// Verifies a signature over the message of the updates.
    pub fn verify_updates(&mut self, signature: &[u8]) -> Result<()> {
        if let Some(message) = &mut self.message {
            let message = std::mem::take(message);
            return self.scheme.verify(self.key()?, &message, signature);
        }
        let (digest, size) = self.finish()?;
        self.scheme.verify(self.key()?, digest.get(..size).unwrap_or_default(), signature)
    }

    /// As [`verify_updates`](Self::verify_updates), of the signature that was [set](Self::set).
    pub fn verify_set(&mut self) -> Result<()> {
        let signature = std::mem::take(&mut self.signature);
        if signature.is_empty() {
            return Err(Error::Unsupported(
                "no signature to verify: EVP_PKEY_CTX_set_signature sets it".into(),
            ));
        }
        self.verify_updates(&signature)
    }

    /// Forgets the key and all that came with the operation.
    fn clear(&mut self) {
        self.key = None;
        self.scheme = Scheme::default();
        self.message = None;
        self.signature = Vec::new();
        self.over = Over::default();
        if std::mem::take(&mut self.begun) {
            // It holds the application's data.
            self.digest = None;
        }
    }

    fn duplicate(&self) -> Result<Self> {
        let digest = self.digest.as_ref().filter(|_| self.begun).map(Digest::duplicate).transpose()?;
        Ok(Context {
            provider: None,
            kind: self.kind,
            fixed: self.fixed,
            key: self.key.clone(),
            scheme: self.scheme.clone(),
            over: self.over,
            begun: digest.is_some(),
            digest,
            message: self.message.clone(),
            signature: self.signature.clone(),
        })
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
pub unsafe fn with<F: FnOnce(&mut Context) -> Result<()>>(pointer: *mut c_void, operation: F) -> c_int {
    // SAFETY: by the contract.
    unsafe { with_as::<F>(pointer, operation) }
}

/// As [`with`], in the name of the function that the closure `Named` is in.
///
/// # Safety
///
/// As [`context`].
pub unsafe fn with_as<Named>(
    pointer: *mut c_void,
    operation: impl FnOnce(&mut Context) -> Result<()>,
) -> c_int {
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

pub unsafe extern "C" fn newctx<K: Kind>(provider: *mut c_void, _properties: *const c_char) -> *mut c_void {
    // SAFETY: libcrypto's pointer to our provider.
    fence(ptr::null_mut(), || unsafe { make(provider, K::KIND, None) })
}

/// Makes a context.
///
/// # Safety
///
/// `provider` is libcrypto's pointer to our provider, or null.
pub unsafe fn make(provider: *mut c_void, kind: KeyKind, fixed: Option<Hash>) -> *mut c_void {
    // SAFETY: by the contract.
    let Some(provider) = (unsafe { Provider::from_context(provider) }) else { return ptr::null_mut() };
    // libcrypto makes several contexts for each handshake, to ask what is possible.
    let mut context = provider.spares.take().unwrap_or_else(|| Box::new(Context::new(kind)));
    context.kind = kind;
    context.fixed = fixed;
    hand_over(context, provider)
}

pub unsafe extern "C" fn freectx(context: *mut c_void) {
    fence((), || {
        if !context.is_null() {
            // SAFETY: made by `hand_over`, given back this once.
            let mut context = unsafe { Box::from_raw(context.cast::<Context>()) };
            context.clear();
            if let Some(provider) = context.provider.take() {
                provider.spares.keep(context);
            }
        }
    });
}

pub unsafe extern "C" fn dupctx(pointer: *mut c_void) -> *mut c_void {
    fence(ptr::null_mut(), || {
        // SAFETY: libcrypto's pointer to a context of ours.
        let Some(context) = (unsafe { context(pointer) }) else { return ptr::null_mut() };
        let Some(provider) = &context.provider else { return ptr::null_mut() };
        match provider.report(context.duplicate()) {
            Some(copy) => hand_over(Box::new(copy), provider.clone()),
            None => ptr::null_mut(),
        }
    })
}

/// Begins any of the operations.
///
/// # Safety
///
/// `pointer` as [`context`], `key` as [`share`], `hash` null or a C string, `params` null or terminated.
pub unsafe fn init(
    pointer: *mut c_void,
    hash: *const c_char,
    key: *mut c_void,
    params: *const OSSL_PARAM,
    over: Over,
    signing: bool,
) -> c_int {
    // SAFETY: by the contract, for each.
    unsafe {
        with(pointer, |context| {
            let begin = Begin { key: share(key), hash: pointer::text(hash), over, signing };
            context.init(begin, Params::new(params))
        })
    }
}
