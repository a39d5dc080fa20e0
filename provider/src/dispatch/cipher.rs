//! AES (provider-cipher(7)) in a token, where `strongroom-operations` in openssl.cnf says `cipher`. The key comes from the
//! application, and is in the token during each call.
//!
//! Each call is whole for the token, and what chains it to the next is kept here: so it needs no session of its own, survives forks
//! and restarts of the token, and can be copied.

use std::ffi::{CStr, c_int, c_uchar, c_void};
use std::ptr;
use std::sync::Arc;

use strongroom_ffi::pointer;
use subtle::{ConstantTimeEq, ConstantTimeLess};
use zeroize::Zeroizing;

use super::{Algorithms, LAST, algorithm, input, table};
use crate::bindings::*;
use crate::error::{Error, Result};
use crate::fence::fence;
use crate::params::{Answers, Descriptions, END, Params, Value, describe};
use crate::provider::Provider;
use crate::token::{Aes, BLOCK, Functions, Mode};

/// One cipher as OpenSSL knows it.
struct Facts {
    names: &'static CStr,
    mode: Mode,
    /// The key's size in bytes.
    key: usize,
}

const FACTS: [Facts; 15] = [
    facts(c"AES-128-ECB:2.16.840.1.101.3.4.1.1", Mode::Ecb, 16),
    facts(c"AES-128-CBC:AES128:2.16.840.1.101.3.4.1.2", Mode::Cbc, 16),
    facts(c"AES-128-OFB:2.16.840.1.101.3.4.1.3", Mode::Ofb, 16),
    facts(c"AES-128-CFB:2.16.840.1.101.3.4.1.4", Mode::Cfb, 16),
    facts(c"AES-128-CTR", Mode::Ctr, 16),
    facts(c"AES-192-ECB:2.16.840.1.101.3.4.1.21", Mode::Ecb, 24),
    facts(c"AES-192-CBC:AES192:2.16.840.1.101.3.4.1.22", Mode::Cbc, 24),
    facts(c"AES-192-OFB:2.16.840.1.101.3.4.1.23", Mode::Ofb, 24),
    facts(c"AES-192-CFB:2.16.840.1.101.3.4.1.24", Mode::Cfb, 24),
    facts(c"AES-192-CTR", Mode::Ctr, 24),
    facts(c"AES-256-ECB:2.16.840.1.101.3.4.1.41", Mode::Ecb, 32),
    facts(c"AES-256-CBC:AES256:2.16.840.1.101.3.4.1.42", Mode::Cbc, 32),
    facts(c"AES-256-OFB:2.16.840.1.101.3.4.1.43", Mode::Ofb, 32),
    facts(c"AES-256-CFB:2.16.840.1.101.3.4.1.44", Mode::Cfb, 32),
    facts(c"AES-256-CTR", Mode::Ctr, 32),
];

const fn facts(names: &'static CStr, mode: Mode, key: usize) -> Facts {
    Facts { names, mode, key }
}

impl Facts {
    /// Data is padded to whole blocks, or must be whole blocks.
    fn is_blocks(&self) -> bool {
        matches!(self.mode, Mode::Ecb | Mode::Cbc)
    }

    fn iv_size(&self) -> usize {
        if self.mode == Mode::Ecb { 0 } else { BLOCK }
    }

    /// The number of EVP_CIPH_ECB_MODE, ….
    fn number(&self) -> c_int {
        match self.mode {
            Mode::Ecb => 1,
            Mode::Cbc => 2,
            Mode::Cfb => 3,
            Mode::Ofb => 4,
            Mode::Ctr => 5,
        }
    }
}

/// The ciphers.
pub static ALGORITHMS: Algorithms<16> = Algorithms([
    entry::<0>(),
    entry::<1>(),
    entry::<2>(),
    entry::<3>(),
    entry::<4>(),
    entry::<5>(),
    entry::<6>(),
    entry::<7>(),
    entry::<8>(),
    entry::<9>(),
    entry::<10>(),
    entry::<11>(),
    entry::<12>(),
    entry::<13>(),
    entry::<14>(),
    LAST,
]);

const fn entry<const N: usize>() -> OSSL_ALGORITHM {
    algorithm(Of::<N>::FACTS.names, c"provider=strongroom", Of::<N>::TABLE, c"AES in a PKCS#11 token")
}

/// The functions of the cipher in line `N` of [`FACTS`].
struct Of<const N: usize>;

impl<const N: usize> Of<N> {
    // In a constant: out of bounds would not compile.
    #[allow(clippy::indexing_slicing)]
    const FACTS: &'static Facts = &FACTS[N];

    const TABLE: Functions = table![
        OSSL_FUNC_CIPHER_NEWCTX: OSSL_FUNC_cipher_newctx_fn = newctx::<N>,
        OSSL_FUNC_CIPHER_FREECTX: OSSL_FUNC_cipher_freectx_fn = freectx,
        OSSL_FUNC_CIPHER_DUPCTX: OSSL_FUNC_cipher_dupctx_fn = dupctx,
        OSSL_FUNC_CIPHER_ENCRYPT_INIT: OSSL_FUNC_cipher_encrypt_init_fn = encrypt_init,
        OSSL_FUNC_CIPHER_DECRYPT_INIT: OSSL_FUNC_cipher_decrypt_init_fn = decrypt_init,
        OSSL_FUNC_CIPHER_UPDATE: OSSL_FUNC_cipher_update_fn = update,
        OSSL_FUNC_CIPHER_FINAL: OSSL_FUNC_cipher_final_fn = finish,
        OSSL_FUNC_CIPHER_CIPHER: OSSL_FUNC_cipher_cipher_fn = cipher,
        OSSL_FUNC_CIPHER_GET_PARAMS: OSSL_FUNC_cipher_get_params_fn = get_params::<N>,
        OSSL_FUNC_CIPHER_GETTABLE_PARAMS: OSSL_FUNC_cipher_gettable_params_fn = gettable_params,
        OSSL_FUNC_CIPHER_GET_CTX_PARAMS: OSSL_FUNC_cipher_get_ctx_params_fn = get_ctx_params,
        OSSL_FUNC_CIPHER_GETTABLE_CTX_PARAMS: OSSL_FUNC_cipher_gettable_ctx_params_fn = gettable_ctx_params,
        OSSL_FUNC_CIPHER_SET_CTX_PARAMS: OSSL_FUNC_cipher_set_ctx_params_fn = set_ctx_params,
        OSSL_FUNC_CIPHER_SETTABLE_CTX_PARAMS: OSSL_FUNC_cipher_settable_ctx_params_fn = settable_ctx_params,
    ];
}

/// An encryption or decryption: what libcrypto's `ctx` points to.
#[derive(Clone)]
struct Context {
    provider: Arc<Provider>,
    facts: &'static Facts,
    encrypts: bool,
    key: Option<Zeroizing<Vec<u8>>>,
    /// The initialisation vector that was set.
    iv: Option<[u8; BLOCK]>,
    /// That of the next block.
    register: [u8; BLOCK],
    /// Data of the block that is not whole yet. In the modes of a stream its output was given already.
    rest: Zeroizing<Vec<u8>>,
    pads: bool,
}

impl Context {
    fn init(&mut self, key: Option<&[u8]>, iv: Option<&[u8]>, params: Params, encrypts: bool) -> Result<()> {
        if self.provider.tokens.are_in_use_here() {
            return Err(Error::Unsupported(
                "AES for the PKCS#11 module itself: do not make provider=strongroom a default property"
                    .into(),
            ));
        }
        self.encrypts = encrypts;
        if let Some(key) = key {
            if key.len() != self.facts.key {
                return Err(Error::Unsupported(format!("an AES key of {} bytes", key.len())));
            }
            self.key = Some(Zeroizing::new(key.to_vec()));
        }
        if let Some(iv) = iv.filter(|_| self.facts.iv_size() > 0) {
            let wrong = |_| Error::Unsupported(format!("an initialisation vector of {} bytes", iv.len()));
            self.iv = Some(iv.try_into().map_err(wrong)?);
        }
        // Without another vector a counter goes on, as in OpenSSL.
        self.register = match (self.facts.mode, iv) {
            (Mode::Ctr, None) => self.updated_iv(),
            _ => self.iv.unwrap_or_default(),
        };
        self.rest.clear();
        self.set(params)
    }

    fn set(&mut self, params: Params) -> Result<()> {
        match params.value(OSSL_CIPHER_PARAM_PADDING)? {
            None => {}
            Some(Value::Integer(number)) => self.pads = number != 0,
            Some(_) => return Err(Error::Unsupported("a padding that is not a number".into())),
        }
        match params.value(OSSL_CIPHER_PARAM_KEYLEN)? {
            Some(Value::Integer(size)) if usize::try_from(size) == Ok(self.facts.key) => Ok(()),
            None => Ok(()),
            Some(_) => Err(Error::Unsupported("an AES key of another size".into())),
        }
    }

    /// The vector after the data up to now; of CFB and OFB only after whole blocks.
    fn updated_iv(&self) -> [u8; BLOCK] {
        match self.facts.mode {
            Mode::Ctr if !self.rest.is_empty() => {
                u128::from_be_bytes(self.register).wrapping_add(1).to_be_bytes()
            }
            _ => self.register,
        }
    }

    /// What the token makes of `data`, with which the register goes on.
    fn crypt(&mut self, data: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let key = self.key.as_ref().ok_or_else(|| Error::Unsupported("AES without a key".into()))?;
        if self.iv.is_none() && self.facts.iv_size() > 0 {
            return Err(Error::Unsupported("AES without an initialisation vector".into()));
        }
        let mut out = Zeroizing::new(vec![0; data.len()]);
        if data.is_empty() {
            return Ok(out);
        }
        if let Some((before, after)) = self.at_overflow(data) {
            out.clear();
            out.extend_from_slice(&self.crypt(before)?);
            out.extend_from_slice(&self.crypt(after)?);
            return Ok(out);
        }
        let aes = Aes { mode: self.facts.mode, encrypts: self.encrypts, iv: self.register };
        self.provider.tokens.aes(&aes, key, data, &mut out)?;
        let blocks = data.len() / BLOCK;
        let last = |bytes: &[u8]| -> Option<[u8; BLOCK]> {
            bytes.get((blocks.checked_sub(1)?) * BLOCK..blocks * BLOCK)?.try_into().ok()
        };
        if let (Some(before), Some(after)) = (last(data), last(&out)) {
            self.register = match self.facts.mode {
                Mode::Ecb => self.register,
                Mode::Cbc | Mode::Cfb if self.encrypts => after,
                Mode::Cbc | Mode::Cfb => before,
                Mode::Ofb => (u128::from_ne_bytes(before) ^ u128::from_ne_bytes(after)).to_ne_bytes(),
                Mode::Ctr => u128::from_be_bytes(self.register).wrapping_add(blocks as u128).to_be_bytes(),
            };
        }
        Ok(out)
    }

    /// The data parted where the counter begins again at 0, if it does within: some tokens do not go on there.
    fn at_overflow<'a>(&self, data: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let blocks = usize::try_from(u128::from_be_bytes(self.register).wrapping_neg()).ok()?;
        let at = blocks.checked_mul(BLOCK).filter(|at| *at > 0 && *at < data.len())?;
        if self.facts.mode == Mode::Ctr { data.split_at_checked(at) } else { None }
    }

    fn update(&mut self, data: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let given = if self.facts.is_blocks() { 0 } else { self.rest.len() };
        let mut all = Zeroizing::new(Vec::with_capacity(self.rest.len() + data.len()));
        all.extend_from_slice(&self.rest);
        all.extend_from_slice(data);
        let mut whole = all.len() / BLOCK * BLOCK;
        if self.facts.is_blocks() && self.pads && !self.encrypts && whole == all.len() {
            // The last block is that with the padding, if nothing follows.
            whole = whole.saturating_sub(BLOCK);
        }
        let now = if self.facts.is_blocks() { whole } else { all.len() };
        let mut out = self.crypt(all.get(..now).unwrap_or_default())?;
        self.rest = Zeroizing::new(all.get(whole..).unwrap_or_default().to_vec());
        out.drain(..given);
        Ok(out)
    }

    /// All at once, without padding.
    fn at_once(&mut self, data: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        match self.facts.is_blocks() {
            false => self.update(data),
            true if data.len().is_multiple_of(BLOCK) => self.crypt(data),
            true => Err(partial()),
        }
    }

    fn finish(&mut self) -> Result<Zeroizing<Vec<u8>>> {
        if !self.facts.is_blocks() {
            return Ok(Zeroizing::default());
        }
        let rest = std::mem::take(&mut self.rest);
        match (self.pads, self.encrypts) {
            (false, _) if rest.is_empty() => Ok(Zeroizing::default()),
            (true, true) => {
                let missing = BLOCK - rest.len() % BLOCK;
                let mut padded = Zeroizing::new(Vec::with_capacity(BLOCK));
                padded.extend_from_slice(&rest);
                padded.resize(rest.len() + missing, missing as u8);
                self.crypt(&padded)
            }
            (true, false) if rest.len() == BLOCK => {
                let mut out = self.crypt(&rest)?;
                let count = out.last().copied().unwrap_or(0);
                let mut fits = !count.ct_eq(&0) & count.ct_lt(&(BLOCK as u8 + 1));
                for (at, byte) in (0u8..).zip(out.iter().rev()) {
                    fits &= !at.ct_lt(&count) | byte.ct_eq(&count);
                }
                if !bool::from(fits) {
                    return Err(Error::Undecryptable);
                }
                out.truncate(BLOCK - usize::from(count));
                Ok(out)
            }
            _ => Err(partial()),
        }
    }
}

fn partial() -> Error {
    Error::Unsupported("AES of data that is not whole blocks, without padding".into())
}

/// Gives a result to libcrypto.
///
/// # Safety
///
/// `out` is null or can be written for `size` bytes, `length` is null or can be written.
unsafe fn give(result: &[u8], out: *mut c_uchar, length: *mut usize, size: usize) -> Result<()> {
    // SAFETY: by the contract. No other slice of this memory is alive.
    let (out, length) = unsafe { (pointer::slice_mut(out, size), pointer::reference_mut(length)) };
    let needed = result.len();
    let length =
        length.ok_or_else(|| Error::Unsupported("a result without a place for its length".into()))?;
    *length = needed;
    if needed > 0 {
        let out = out.and_then(|out| out.get_mut(..needed)).ok_or(Error::Buffer { room: size, needed })?;
        out.copy_from_slice(result);
    }
    Ok(())
}

/// Runs `operation` on a context inside the fence, and reports its error.
///
/// # Safety
///
/// `context` is null or was made by [`newctx`] or [`dupctx`], was not freed, and no other thread uses it now.
unsafe fn with(context: *mut c_void, operation: impl FnOnce(&mut Context) -> Result<()>) -> c_int {
    fence(0, || {
        // SAFETY: by the contract.
        let Some(context) = (unsafe { pointer::reference_mut(context.cast::<Context>()) }) else { return 0 };
        let result = operation(context);
        context.provider.status(result)
    })
}

unsafe extern "C" fn newctx<const N: usize>(provider: *mut c_void) -> *mut c_void {
    fence(ptr::null_mut(), || {
        // SAFETY: libcrypto's pointer to our provider.
        let Some(provider) = (unsafe { Provider::from_context(provider) }) else { return ptr::null_mut() };
        let context = Context {
            provider,
            facts: Of::<N>::FACTS,
            encrypts: true,
            key: None,
            iv: None,
            register: [0; BLOCK],
            rest: Zeroizing::default(),
            pads: true,
        };
        Box::into_raw(Box::new(context)).cast()
    })
}

unsafe extern "C" fn freectx(context: *mut c_void) {
    fence((), || {
        if !context.is_null() {
            // SAFETY: made by `newctx` or `dupctx`, given back this once.
            drop(unsafe { Box::from_raw(context.cast::<Context>()) });
        }
    });
}

unsafe extern "C" fn dupctx(context: *mut c_void) -> *mut c_void {
    fence(ptr::null_mut(), || {
        // SAFETY: libcrypto's pointer to a context of ours.
        match unsafe { pointer::reference(context.cast::<Context>()) } {
            Some(context) => Box::into_raw(Box::new(context.clone())).cast(),
            None => ptr::null_mut(),
        }
    })
}

/// # Safety
///
/// `data` is null or can be read for `length` bytes during this call.
unsafe fn optional<'a>(data: *const c_uchar, length: usize) -> Result<Option<&'a [u8]>> {
    // SAFETY: by the contract.
    if data.is_null() { Ok(None) } else { unsafe { input(data, length) }.map(Some) }
}

unsafe extern "C" fn encrypt_init(
    context: *mut c_void,
    key: *const c_uchar,
    key_length: usize,
    iv: *const c_uchar,
    iv_length: usize,
    params: *const OSSL_PARAM,
) -> c_int {
    // SAFETY: libcrypto's arguments, as provider-cipher(7) describes them.
    unsafe {
        with(context, |context| {
            context.init(optional(key, key_length)?, optional(iv, iv_length)?, Params::new(params), true)
        })
    }
}

unsafe extern "C" fn decrypt_init(
    context: *mut c_void,
    key: *const c_uchar,
    key_length: usize,
    iv: *const c_uchar,
    iv_length: usize,
    params: *const OSSL_PARAM,
) -> c_int {
    // SAFETY: as above.
    unsafe {
        with(context, |context| {
            context.init(optional(key, key_length)?, optional(iv, iv_length)?, Params::new(params), false)
        })
    }
}

/// The result may be written over the data.
unsafe extern "C" fn update(
    context: *mut c_void,
    out: *mut c_uchar,
    length: *mut usize,
    size: usize,
    data: *const c_uchar,
    data_length: usize,
) -> c_int {
    // SAFETY: as above; the data is not looked at any more when the result is written.
    unsafe {
        with(context, |context| {
            let result = context.update(input(data, data_length)?)?;
            give(&result, out, length, size)
        })
    }
}

/// As [`update`].
unsafe extern "C" fn cipher(
    context: *mut c_void,
    out: *mut c_uchar,
    length: *mut usize,
    size: usize,
    data: *const c_uchar,
    data_length: usize,
) -> c_int {
    // SAFETY: as for `update`.
    unsafe {
        with(context, |context| {
            let result = context.at_once(input(data, data_length)?)?;
            give(&result, out, length, size)
        })
    }
}

unsafe extern "C" fn finish(
    context: *mut c_void,
    out: *mut c_uchar,
    length: *mut usize,
    size: usize,
) -> c_int {
    // SAFETY: as above.
    unsafe {
        with(context, |context| {
            let result = context.finish()?;
            give(&result, out, length, size)
        })
    }
}

unsafe extern "C" fn get_params<const N: usize>(params: *mut OSSL_PARAM) -> c_int {
    fence(0, || {
        // SAFETY: a terminated list from libcrypto.
        let answers = unsafe { Answers::new(params) };
        let facts = Of::<N>::FACTS;
        c_int::from(
            answers.integer(OSSL_CIPHER_PARAM_MODE, facts.number())
                && answers.integer(OSSL_CIPHER_PARAM_KEYLEN, facts.key as c_int)
                && answers.integer(OSSL_CIPHER_PARAM_IVLEN, facts.iv_size() as c_int)
                && answers.integer(
                    OSSL_CIPHER_PARAM_BLOCK_SIZE,
                    if facts.is_blocks() { BLOCK as c_int } else { 1 },
                )
                && [
                    OSSL_CIPHER_PARAM_AEAD,
                    OSSL_CIPHER_PARAM_CUSTOM_IV,
                    OSSL_CIPHER_PARAM_CTS,
                    OSSL_CIPHER_PARAM_TLS1_MULTIBLOCK,
                    OSSL_CIPHER_PARAM_HAS_RAND_KEY,
                ]
                .iter()
                .all(|name| answers.integer(name, 0)),
        )
    })
}

unsafe extern "C" fn gettable_params(_provider: *mut c_void) -> *const OSSL_PARAM {
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

unsafe extern "C" fn get_ctx_params(context: *mut c_void, params: *mut OSSL_PARAM) -> c_int {
    // SAFETY: as above.
    unsafe {
        with(context, |context| {
            let answers = Answers::new(params);
            let updated = context.updated_iv();
            let Context { facts, iv, rest, pads, .. } = context;
            let used = if facts.is_blocks() { 0 } else { rest.len() };
            let size = facts.iv_size();
            let iv = iv.as_ref().and_then(|iv| iv.get(..size)).unwrap_or_default();
            let answered = answers.integer(OSSL_CIPHER_PARAM_KEYLEN, facts.key as c_int)
                && answers.integer(OSSL_CIPHER_PARAM_IVLEN, size as c_int)
                && answers.integer(OSSL_CIPHER_PARAM_PADDING, c_int::from(*pads))
                && answers.integer(OSSL_CIPHER_PARAM_NUM, used as c_int)
                && answers.octets(OSSL_CIPHER_PARAM_IV, iv)
                && answers.octets(OSSL_CIPHER_PARAM_UPDATED_IV, updated.get(..size).unwrap_or_default());
            if answered {
                Ok(())
            } else {
                Err(Error::Unsupported("a parameter's buffer is too small".into()))
            }
        })
    }
}

unsafe extern "C" fn gettable_ctx_params(_context: *mut c_void, _provider: *mut c_void) -> *const OSSL_PARAM {
    fence(ptr::null(), || {
        static LIST: Descriptions<7> = Descriptions::new([
            describe(OSSL_CIPHER_PARAM_KEYLEN, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_CIPHER_PARAM_IVLEN, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_CIPHER_PARAM_PADDING, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_CIPHER_PARAM_NUM, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_CIPHER_PARAM_IV, OSSL_PARAM_OCTET_STRING),
            describe(OSSL_CIPHER_PARAM_UPDATED_IV, OSSL_PARAM_OCTET_STRING),
            END,
        ]);
        LIST.as_ptr()
    })
}

unsafe extern "C" fn set_ctx_params(context: *mut c_void, params: *const OSSL_PARAM) -> c_int {
    // SAFETY: as above.
    unsafe { with(context, |context| context.set(Params::new(params))) }
}

unsafe extern "C" fn settable_ctx_params(_context: *mut c_void, _provider: *mut c_void) -> *const OSSL_PARAM {
    fence(ptr::null(), || {
        static LIST: Descriptions<3> = Descriptions::new([
            describe(OSSL_CIPHER_PARAM_KEYLEN, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_CIPHER_PARAM_PADDING, OSSL_PARAM_UNSIGNED_INTEGER),
            END,
        ]);
        LIST.as_ptr()
    })
}
