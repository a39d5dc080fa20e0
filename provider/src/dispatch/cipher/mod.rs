//! AES (provider-cipher(7)) in a token, where `strongroom-operations` in openssl.cnf says `cipher`. The key comes from the
//! application, and is in the token during each call, or it is a secret key of a token's.

mod algorithms;
mod chained;
mod gcm;
mod stealing;

use std::ffi::{c_int, c_uchar, c_void};
use std::ptr;
use std::sync::Arc;

use zeroize::Zeroizing;

pub use self::algorithms::ALGORITHMS;
use self::algorithms::{Chaining, Facts, Of};
use super::operation::{self, Operation, give, place_for_length, with};
use super::{input, secret_keys};
use crate::bindings::*;
use crate::error::{Error, Result};
use crate::fence::fence;
use crate::params::{Answers, Descriptions, END, Params, Value, describe};
use crate::provider::Provider;
use crate::token::{BLOCK, SecretKey};

/// An encryption or decryption: what libcrypto's `ctx` points to.
pub trait Cipher: Operation {
    /// What can be asked of it.
    const GETTABLE: *const OSSL_PARAM;
    /// What can be set.
    const SETTABLE: *const OSSL_PARAM;

    /// A cipher without key and vector.
    fn new(provider: Arc<Provider>, facts: &'static Facts) -> Self;

    /// Begins; without key or vector with those of before.
    fn init(
        &mut self,
        key: Option<SecretKey>,
        iv: Option<&[u8]>,
        params: Params,
        encrypts: bool,
    ) -> Result<()>;

    /// What comes out when `data` goes in.
    fn update(&mut self, data: &[u8]) -> Result<Zeroizing<Vec<u8>>>;

    /// What is left at the end.
    fn finish(&mut self) -> Result<Zeroizing<Vec<u8>>>;

    /// All at once, without padding.
    fn at_once(&mut self, data: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        self.update(data)
    }

    /// Takes data for which there is no place where something could come out.
    fn without_output(&mut self, _data: &[u8]) -> Result<()> {
        Err(Error::Unsupported("AES without a place for the result".into()))
    }

    /// Applies what an application sets.
    fn set(&mut self, params: Params) -> Result<()>;

    /// Answers what an application asks.
    fn answer(&self, answers: &Answers) -> Result<()>;
}

/// What all of them begin with.
#[derive(Clone)]
struct Keyed {
    provider: Arc<Provider>,
    facts: &'static Facts,
    encrypts: bool,
    key: Option<SecretKey>,
}

impl Keyed {
    fn new(provider: Arc<Provider>, facts: &'static Facts) -> Self {
        Keyed { provider, facts, encrypts: true, key: None }
    }

    /// Begins, in one direction; without a key with that of before.
    fn begin(&mut self, key: Option<SecretKey>, encrypts: bool) -> Result<()> {
        self.provider.tokens.are_not_in_use_here("AES")?;
        self.encrypts = encrypts;
        if let Some(key) = key {
            key.has_size(self.facts.key)?;
            self.key = Some(key);
        }
        Ok(())
    }

    fn key(&self) -> Result<&SecretKey> {
        self.key.as_ref().ok_or_else(|| Error::Unsupported("AES without a key".into()))
    }
}

/// An initialisation vector as long as a block.
fn whole_block(iv: &[u8]) -> Result<[u8; BLOCK]> {
    iv.try_into().map_err(|_| wrong_iv(iv.len()))
}

fn wrong_iv(size: usize) -> Error {
    Error::Unsupported(format!("an initialisation vector of {size} bytes"))
}

fn without_iv() -> Error {
    Error::Unsupported("AES without an initialisation vector".into())
}

/// Checks what is set that changes nothing here: it must be what it is already, or nobody must count on it.
fn check(facts: &Facts, params: Params) -> Result<()> {
    match params.value(OSSL_CIPHER_PARAM_KEYLEN)? {
        Some(Value::Integer(size)) if usize::try_from(size) == Ok(facts.key) => {}
        None => {}
        Some(_) => return Err(Error::Unsupported("an AES key of another size".into())),
    }
    for name in [
        OSSL_CIPHER_PARAM_TLS_VERSION,
        OSSL_CIPHER_PARAM_TLS_MAC_SIZE,
        OSSL_CIPHER_PARAM_AEAD_TLS1_AAD,
        OSSL_CIPHER_PARAM_AEAD_TLS1_IV_FIXED,
        OSSL_CIPHER_PARAM_AEAD_TLS1_SET_IV_INV,
    ] {
        if params.has(name) {
            return Err(Error::Unsupported(
                "the records of TLS 1.2 and before are not encrypted in a token: do not make provider=strongroom a default property"
                    .into(),
            ));
        }
    }
    match params.value(OSSL_CIPHER_PARAM_USE_BITS)? {
        None | Some(Value::Integer(0)) => Ok(()),
        Some(_) => Err(Error::Unsupported("AES of single bits; a token takes bytes".into())),
    }
}

pub unsafe extern "C" fn newctx<M: Chaining, const KEY: usize>(provider: *mut c_void) -> *mut c_void {
    // SAFETY: libcrypto's argument, as provider-cipher(7) describes it.
    unsafe { operation::new(provider, |provider| M::Context::new(provider, Of::<M, KEY>::FACTS)) }
}

/// # Safety
///
/// `data` is null or can be read for `length` bytes during this call.
unsafe fn optional<'a>(data: *const c_uchar, length: usize) -> Result<Option<&'a [u8]>> {
    // SAFETY: by the contract.
    if data.is_null() { Ok(None) } else { unsafe { input(data, length) }.map(Some) }
}

pub unsafe extern "C" fn encrypt_init<C: Cipher>(
    context: *mut c_void,
    key: *const c_uchar,
    key_length: usize,
    iv: *const c_uchar,
    iv_length: usize,
    params: *const OSSL_PARAM,
) -> c_int {
    // SAFETY: libcrypto's arguments, as provider-cipher(7) describes them.
    unsafe {
        with(context, |context: &mut C| {
            let key = optional(key, key_length)?.map(SecretKey::of_bytes);
            context.init(key, optional(iv, iv_length)?, Params::new(params), true)
        })
    }
}

pub unsafe extern "C" fn decrypt_init<C: Cipher>(
    context: *mut c_void,
    key: *const c_uchar,
    key_length: usize,
    iv: *const c_uchar,
    iv_length: usize,
    params: *const OSSL_PARAM,
) -> c_int {
    // SAFETY: as above.
    unsafe {
        with(context, |context: &mut C| {
            let key = optional(key, key_length)?.map(SecretKey::of_bytes);
            context.init(key, optional(iv, iv_length)?, Params::new(params), false)
        })
    }
}

/// As [`encrypt_init`], with a key of the key management for secret keys.
pub unsafe extern "C" fn encrypt_skey_init<C: Cipher>(
    context: *mut c_void,
    key: *mut c_void,
    iv: *const c_uchar,
    iv_length: usize,
    params: *const OSSL_PARAM,
) -> c_int {
    // SAFETY: as above: the key is null or one of ours.
    unsafe {
        with(context, |context: &mut C| {
            context.init(secret_keys::of(key), optional(iv, iv_length)?, Params::new(params), true)
        })
    }
}

/// As [`decrypt_init`], with a key of the key management for secret keys.
pub unsafe extern "C" fn decrypt_skey_init<C: Cipher>(
    context: *mut c_void,
    key: *mut c_void,
    iv: *const c_uchar,
    iv_length: usize,
    params: *const OSSL_PARAM,
) -> c_int {
    // SAFETY: as above.
    unsafe {
        with(context, |context: &mut C| {
            context.init(secret_keys::of(key), optional(iv, iv_length)?, Params::new(params), false)
        })
    }
}

/// The result may be written over the data.
pub unsafe extern "C" fn update<C: Cipher>(
    context: *mut c_void,
    out: *mut c_uchar,
    length: *mut usize,
    size: usize,
    data: *const c_uchar,
    data_length: usize,
) -> c_int {
    // SAFETY: as above; the data is not looked at any more when the result is written.
    unsafe {
        with(context, |context: &mut C| {
            let data = input(data, data_length)?;
            if out.is_null() {
                context.without_output(data)?;
                *place_for_length(length)? = data_length;
                return Ok(());
            }
            let result = context.update(data)?;
            give(&result, out, length, size)
        })
    }
}

/// As [`update`]; of those that authenticate, no data is the end.
pub unsafe extern "C" fn cipher<C: Cipher>(
    context: *mut c_void,
    out: *mut c_uchar,
    length: *mut usize,
    size: usize,
    data: *const c_uchar,
    data_length: usize,
) -> c_int {
    // SAFETY: as for `update`.
    unsafe {
        with(context, |context: &mut C| {
            if data.is_null() {
                let result = context.finish()?;
                return give(&result, out, length, size);
            }
            let data = input(data, data_length)?;
            if out.is_null() {
                context.without_output(data)?;
                *place_for_length(length)? = data_length;
                return Ok(());
            }
            let result = context.at_once(data)?;
            give(&result, out, length, size)
        })
    }
}

pub unsafe extern "C" fn finish<C: Cipher>(
    context: *mut c_void,
    out: *mut c_uchar,
    length: *mut usize,
    size: usize,
) -> c_int {
    // SAFETY: as above.
    unsafe {
        with(context, |context: &mut C| {
            let result = context.finish()?;
            give(&result, out, length, size)
        })
    }
}

pub unsafe extern "C" fn get_params<M: Chaining, const KEY: usize>(params: *mut OSSL_PARAM) -> c_int {
    fence(0, || {
        // SAFETY: a terminated list from libcrypto.
        let answers = unsafe { Answers::new(params) };
        let Facts { number, key, iv, block, is_aead, is_cts, .. } = Of::<M, KEY>::FACTS;
        let numbers = [
            (OSSL_CIPHER_PARAM_MODE, *number as c_int),
            (OSSL_CIPHER_PARAM_KEYLEN, Facts::number_of(*key)),
            (OSSL_CIPHER_PARAM_IVLEN, Facts::number_of(*iv)),
            (OSSL_CIPHER_PARAM_BLOCK_SIZE, Facts::number_of(*block)),
            (OSSL_CIPHER_PARAM_AEAD, c_int::from(*is_aead)),
            (OSSL_CIPHER_PARAM_CUSTOM_IV, c_int::from(*is_aead)),
            (OSSL_CIPHER_PARAM_CTS, c_int::from(*is_cts)),
            (OSSL_CIPHER_PARAM_TLS1_MULTIBLOCK, 0),
            (OSSL_CIPHER_PARAM_HAS_RAND_KEY, 0),
        ];
        c_int::from(numbers.iter().all(|(name, number)| answers.integer(name, *number)))
    })
}

pub unsafe extern "C" fn gettable_params(_provider: *mut c_void) -> *const OSSL_PARAM {
    fence(ptr::null(), || {
        static LIST: Descriptions<10> = Descriptions::new([
            describe(OSSL_CIPHER_PARAM_MODE, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_CIPHER_PARAM_KEYLEN, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_CIPHER_PARAM_IVLEN, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_CIPHER_PARAM_BLOCK_SIZE, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_CIPHER_PARAM_AEAD, OSSL_PARAM_INTEGER),
            describe(OSSL_CIPHER_PARAM_CUSTOM_IV, OSSL_PARAM_INTEGER),
            describe(OSSL_CIPHER_PARAM_CTS, OSSL_PARAM_INTEGER),
            describe(OSSL_CIPHER_PARAM_TLS1_MULTIBLOCK, OSSL_PARAM_INTEGER),
            describe(OSSL_CIPHER_PARAM_HAS_RAND_KEY, OSSL_PARAM_INTEGER),
            END,
        ]);
        LIST.as_ptr()
    })
}

pub unsafe extern "C" fn get_ctx_params<C: Cipher>(context: *mut c_void, params: *mut OSSL_PARAM) -> c_int {
    // SAFETY: as above.
    unsafe { with(context, |context: &mut C| context.answer(&Answers::new(params))) }
}

pub unsafe extern "C" fn gettable_ctx_params<C: Cipher>(
    _context: *mut c_void,
    _provider: *mut c_void,
) -> *const OSSL_PARAM {
    fence(ptr::null(), || C::GETTABLE)
}

pub unsafe extern "C" fn set_ctx_params<C: Cipher>(context: *mut c_void, params: *const OSSL_PARAM) -> c_int {
    // SAFETY: as above.
    unsafe { with(context, |context: &mut C| context.set(Params::new(params))) }
}

pub unsafe extern "C" fn settable_ctx_params<C: Cipher>(
    _context: *mut c_void,
    _provider: *mut c_void,
) -> *const OSSL_PARAM {
    fence(ptr::null(), || C::SETTABLE)
}
