//! Message authentication codes (provider-mac(7)) in a token, where `strongroom-operations` in openssl.cnf says `mac`: HMAC, and
//! CMAC with AES. The key comes from the application, and is in the token while it is used.
//!
//! Data is collected up to [`COLLECTED`] bytes, as for [digests](super::digest).

use std::ffi::{c_int, c_uchar, c_void};
use std::ptr;
use std::sync::Arc;

use strongroom_ffi::pointer;
use zeroize::Zeroizing;

use super::digest::{COLLECTED, block_size};
use super::{Algorithms, LAST, algorithm, input, table};
use crate::bindings::*;
use crate::error::{Error, Result};
use crate::fence::fence;
use crate::openssl::Hash;
use crate::params::{Answers, Descriptions, END, Params, describe};
use crate::provider::Provider;
use crate::token::{Functions, Mac, MacInParts};

/// The codes.
pub static ALGORITHMS: Algorithms<3> = Algorithms([
    algorithm(c"HMAC", c"provider=strongroom", Of::<false>::TABLE, c"HMAC in a PKCS#11 token"),
    algorithm(c"CMAC", c"provider=strongroom", Of::<true>::TABLE, c"CMAC in a PKCS#11 token"),
    LAST,
]);

/// The functions of HMAC or, with `CMAC`, of CMAC.
struct Of<const CMAC: bool>;

impl<const CMAC: bool> Of<CMAC> {
    const TABLE: Functions = table![
        OSSL_FUNC_MAC_NEWCTX: OSSL_FUNC_mac_newctx_fn = newctx::<CMAC>,
        OSSL_FUNC_MAC_FREECTX: OSSL_FUNC_mac_freectx_fn = freectx,
        OSSL_FUNC_MAC_DUPCTX: OSSL_FUNC_mac_dupctx_fn = dupctx,
        OSSL_FUNC_MAC_INIT: OSSL_FUNC_mac_init_fn = init,
        OSSL_FUNC_MAC_UPDATE: OSSL_FUNC_mac_update_fn = update,
        OSSL_FUNC_MAC_FINAL: OSSL_FUNC_mac_final_fn = finish,
        OSSL_FUNC_MAC_SET_CTX_PARAMS: OSSL_FUNC_mac_set_ctx_params_fn = set_ctx_params,
        OSSL_FUNC_MAC_SETTABLE_CTX_PARAMS: OSSL_FUNC_mac_settable_ctx_params_fn = settable_ctx_params::<CMAC>,
        OSSL_FUNC_MAC_GET_CTX_PARAMS: OSSL_FUNC_mac_get_ctx_params_fn = get_ctx_params,
        OSSL_FUNC_MAC_GETTABLE_CTX_PARAMS: OSSL_FUNC_mac_gettable_ctx_params_fn = gettable_ctx_params,
    ];
}

/// A code: what libcrypto's `ctx` points to.
struct Context {
    provider: Arc<Provider>,
    cmac: bool,
    mac: Option<Mac>,
    /// The size of the key that the cipher of a CMAC has, in bytes.
    key_size: Option<usize>,
    key: Option<Zeroizing<Vec<u8>>>,
    state: State,
}

/// How far a code is.
enum State {
    /// Not begun, finished, or failed.
    Idle,
    /// All data up to now.
    Collected(Zeroizing<Vec<u8>>),
    /// In a session with the token.
    InParts(MacInParts),
}

impl Context {
    fn set(&mut self, params: Params) -> Result<()> {
        if self.cmac {
            if let Some(name) = params.text(OSSL_MAC_PARAM_CIPHER)? {
                let size = match name.to_ascii_uppercase().as_str() {
                    "AES-128-CBC" | "AES128" => 16,
                    "AES-192-CBC" | "AES192" => 24,
                    "AES-256-CBC" | "AES256" => 32,
                    _ => {
                        return Err(Error::Unsupported(format!(
                            "CMAC with \"{name}\"; it takes AES in CBC mode"
                        )));
                    }
                };
                (self.mac, self.key_size) = (Some(Mac::AesCmac), Some(size));
            }
        } else if let Some(name) = params.text(OSSL_MAC_PARAM_DIGEST)? {
            self.mac = Some(Mac::Hmac(Hash::from_name(name)?));
        }
        match params.octets(OSSL_MAC_PARAM_KEY)? {
            Some(key) => self.set_key(key),
            None => Ok(()),
        }
    }

    fn set_key(&mut self, key: &[u8]) -> Result<()> {
        match self.key_size {
            Some(size) if size != key.len() => {
                return Err(Error::Unsupported(format!(
                    "a key of {} bytes where the cipher has {size}",
                    key.len()
                )));
            }
            _ => {}
        }
        self.key = Some(Zeroizing::new(key.to_vec()));
        Ok(())
    }

    fn init(&mut self, key: Option<&[u8]>, params: Params) -> Result<()> {
        if self.provider.tokens.are_in_use_here() {
            return Err(Error::Unsupported(
                "a MAC for the PKCS#11 module itself: do not make provider=strongroom a default property"
                    .into(),
            ));
        }
        self.set(params)?;
        if let Some(key) = key {
            self.set_key(key)?;
        }
        // What is missing is said now.
        self.used()?;
        self.state = State::Collected(Zeroizing::new(Vec::new()));
        Ok(())
    }

    fn used(&self) -> Result<(Mac, &[u8])> {
        match (self.mac, &self.key) {
            (Some(mac), Some(key)) => Ok((mac, key)),
            (None, _) => Err(Error::Unsupported("a MAC without a digest or cipher".into())),
            (_, None) => Err(Error::Unsupported("a MAC without a key".into())),
        }
    }

    fn update(&mut self, data: &[u8]) -> Result<()> {
        // What fails is not continued.
        self.state = match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle => return Err(not_begun()),
            State::Collected(mut collected) if collected.len() + data.len() <= COLLECTED => {
                collected.extend_from_slice(data);
                State::Collected(collected)
            }
            State::Collected(collected) => {
                let (mac, key) = self.used()?;
                let parts = self.provider.tokens.mac_in_parts(mac, key, &collected)?;
                parts.update(data)?;
                State::InParts(parts)
            }
            State::InParts(parts) => {
                parts.update(data)?;
                State::InParts(parts)
            }
        };
        Ok(())
    }

    fn finish(&mut self, out: &mut [u8]) -> Result<usize> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle => Err(not_begun()),
            State::Collected(data) => {
                let (mac, key) = self.used()?;
                self.provider.tokens.mac(mac, key, &data, out)
            }
            State::InParts(parts) => parts.finish(out),
        }
    }

    fn duplicate(&self) -> Result<Self> {
        let state = match &self.state {
            State::Idle => State::Idle,
            State::Collected(data) => State::Collected(data.clone()),
            State::InParts(_) => {
                return Err(Error::Unsupported(format!(
                    "a copy of a MAC that has begun in the token, after more than {COLLECTED} bytes"
                )));
            }
        };
        let Context { provider, cmac, mac, key_size, key, .. } = self;
        Ok(Context {
            provider: provider.clone(),
            cmac: *cmac,
            mac: *mac,
            key_size: *key_size,
            key: key.clone(),
            state,
        })
    }
}

fn not_begun() -> Error {
    Error::Unsupported("a MAC that was not begun, or failed before".into())
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

unsafe extern "C" fn newctx<const CMAC: bool>(provider: *mut c_void) -> *mut c_void {
    fence(ptr::null_mut(), || {
        // SAFETY: libcrypto's pointer to our provider.
        let Some(provider) = (unsafe { Provider::from_context(provider) }) else { return ptr::null_mut() };
        let context =
            Context { provider, cmac: CMAC, mac: None, key_size: None, key: None, state: State::Idle };
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
        let Some(context) = (unsafe { pointer::reference(context.cast::<Context>()) }) else {
            return ptr::null_mut();
        };
        match context.provider.report(context.duplicate()) {
            Some(copy) => Box::into_raw(Box::new(copy)).cast(),
            None => ptr::null_mut(),
        }
    })
}

/// Without a key the one that was set before is used again.
unsafe extern "C" fn init(
    context: *mut c_void,
    key: *const c_uchar,
    length: usize,
    params: *const OSSL_PARAM,
) -> c_int {
    // SAFETY: libcrypto's arguments, as provider-mac(7) describes them: the key is null or can be read for its length.
    unsafe {
        with(context, |context| {
            let key = if key.is_null() { None } else { Some(input(key, length)?) };
            context.init(key, Params::new(params))
        })
    }
}

unsafe extern "C" fn update(context: *mut c_void, data: *const c_uchar, length: usize) -> c_int {
    // SAFETY: as above: the data can be read for its length during the call.
    unsafe { with(context, |context| context.update(input(data, length)?)) }
}

unsafe extern "C" fn finish(
    context: *mut c_void,
    out: *mut c_uchar,
    length: *mut usize,
    size: usize,
) -> c_int {
    // SAFETY: as above: `out` is null or can be written for `size` bytes, and `length` can be written.
    unsafe {
        with(context, |context| {
            let needed = context.used()?.0.size();
            let length = pointer::reference_mut(length)
                .ok_or_else(|| Error::Unsupported("a MAC without a place for its length".into()))?;
            if out.is_null() {
                *length = needed;
                return Ok(());
            }
            let out = pointer::slice_mut(out, size).and_then(|out| out.get_mut(..needed));
            *length = context.finish(out.ok_or(Error::Buffer { room: size, needed })?)?;
            Ok(())
        })
    }
}

unsafe extern "C" fn set_ctx_params(context: *mut c_void, params: *const OSSL_PARAM) -> c_int {
    // SAFETY: as above.
    unsafe { with(context, |context| context.set(Params::new(params))) }
}

unsafe extern "C" fn settable_ctx_params<const CMAC: bool>(
    _context: *mut c_void,
    _provider: *mut c_void,
) -> *const OSSL_PARAM {
    fence(ptr::null(), || {
        const PROPERTIES: OSSL_PARAM = describe(OSSL_MAC_PARAM_PROPERTIES, OSSL_PARAM_UTF8_STRING);
        const KEY: OSSL_PARAM = describe(OSSL_MAC_PARAM_KEY, OSSL_PARAM_OCTET_STRING);
        static HMAC: Descriptions<4> = Descriptions::new([
            describe(OSSL_MAC_PARAM_DIGEST, OSSL_PARAM_UTF8_STRING),
            PROPERTIES,
            KEY,
            END,
        ]);
        static CMACS: Descriptions<4> = Descriptions::new([
            describe(OSSL_MAC_PARAM_CIPHER, OSSL_PARAM_UTF8_STRING),
            PROPERTIES,
            KEY,
            END,
        ]);
        if CMAC { CMACS.as_ptr() } else { HMAC.as_ptr() }
    })
}

/// Before a digest or cipher is set the sizes are 0.
unsafe extern "C" fn get_ctx_params(context: *mut c_void, params: *mut OSSL_PARAM) -> c_int {
    // SAFETY: as above.
    unsafe {
        with(context, |context| {
            let answers = Answers::new(params);
            let size = context.mac.map_or(0, Mac::size);
            let block = match context.mac {
                Some(Mac::Hmac(hash)) => block_size(hash).unwrap_or(0),
                Some(Mac::AesCmac) => 16,
                None => 0,
            };
            if answers.size(OSSL_MAC_PARAM_SIZE, size) && answers.size(OSSL_MAC_PARAM_BLOCK_SIZE, block) {
                Ok(())
            } else {
                Err(Error::Unsupported("a parameter's buffer is too small".into()))
            }
        })
    }
}

unsafe extern "C" fn gettable_ctx_params(_context: *mut c_void, _provider: *mut c_void) -> *const OSSL_PARAM {
    fence(ptr::null(), || {
        static LIST: Descriptions<3> = Descriptions::new([
            describe(OSSL_MAC_PARAM_SIZE, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_MAC_PARAM_BLOCK_SIZE, OSSL_PARAM_UNSIGNED_INTEGER),
            END,
        ]);
        LIST.as_ptr()
    })
}
