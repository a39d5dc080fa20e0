//! Message authentication codes (provider-mac(7)) in a token, where `strongroom-operations` in openssl.cnf says `mac`: HMAC, and
//! CMAC with AES. The key comes from the application, and is in the token while it is used, or it is a secret key of a token's.

use std::ffi::{c_int, c_uchar, c_void};
use std::ptr;
use std::sync::Arc;

use super::collected::Collected;
use super::digest::block_size;
use super::operation::{self, Operation, place_for, place_for_length, with};
use super::{Algorithms, LAST, algorithm, input, secret_keys, table};
use crate::bindings::*;
use crate::error::{Error, Result};
use crate::fence::fence;
use crate::openssl::Hash;
use crate::params::{Answers, Descriptions, END, Params, answered, describe};
use crate::provider::Provider;
use crate::token::{Functions, Mac, MacInParts, SecretKey};

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
        OSSL_FUNC_MAC_FREECTX: OSSL_FUNC_mac_freectx_fn = operation::free::<Context>,
        OSSL_FUNC_MAC_DUPCTX: OSSL_FUNC_mac_dupctx_fn = operation::duplicate::<Context>,
        OSSL_FUNC_MAC_INIT: OSSL_FUNC_mac_init_fn = init,
        OSSL_FUNC_MAC_INIT_SKEY: OSSL_FUNC_mac_init_skey_fn = init_skey,
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
    key: Option<SecretKey>,
    data: Collected<MacInParts>,
}

impl Operation for Context {
    fn provider(&self) -> &Provider {
        &self.provider
    }

    fn duplicate(&self) -> Result<Self> {
        let Context { provider, cmac, mac, key_size, key, data } = self;
        Ok(Context {
            provider: provider.clone(),
            cmac: *cmac,
            mac: *mac,
            key_size: *key_size,
            key: key.clone(),
            data: data.duplicate()?,
        })
    }
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
            Some(key) => self.set_key(SecretKey::of_bytes(key)),
            None => Ok(()),
        }
    }

    fn set_key(&mut self, key: SecretKey) -> Result<()> {
        self.key_size.map_or(Ok(()), |size| key.has_size(size))?;
        self.key = Some(key);
        Ok(())
    }

    fn init(&mut self, key: Option<SecretKey>, params: Params) -> Result<()> {
        self.provider.tokens.are_not_in_use_here("a MAC")?;
        self.set(params)?;
        if let Some(key) = key {
            self.set_key(key)?;
        }
        // What is missing is said now.
        used(self.mac, &self.key)?;
        self.data = Collected::begun();
        Ok(())
    }

    fn update(&mut self, data: &[u8]) -> Result<()> {
        let Context { provider, mac, key, data: collected, .. } = self;
        collected.update(data, |before| {
            let (mac, key) = used(*mac, key)?;
            provider.tokens.mac_in_parts(mac, key, before)
        })
    }

    fn finish(&mut self, out: &mut [u8]) -> Result<usize> {
        let Context { provider, mac, key, data, .. } = self;
        data.finish(out, |data, out| {
            let (mac, key) = used(*mac, key)?;
            provider.tokens.mac(mac, key, data, out)
        })
    }
}

/// What a code is made with, of what was set.
fn used(mac: Option<Mac>, key: &Option<SecretKey>) -> Result<(Mac, &SecretKey)> {
    match (mac, key) {
        (Some(mac), Some(key)) => Ok((mac, key)),
        (None, _) => Err(Error::Unsupported("a MAC without a digest or cipher".into())),
        (_, None) => Err(Error::Unsupported("a MAC without a key".into())),
    }
}

unsafe extern "C" fn newctx<const CMAC: bool>(provider: *mut c_void) -> *mut c_void {
    // SAFETY: libcrypto's argument, as provider-mac(7) describes it.
    unsafe {
        operation::new(provider, |provider| Context {
            provider,
            cmac: CMAC,
            mac: None,
            key_size: None,
            key: None,
            data: Collected::Idle,
        })
    }
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
        with(context, |context: &mut Context| {
            let key = if key.is_null() { None } else { Some(SecretKey::of_bytes(input(key, length)?)) };
            context.init(key, Params::new(params))
        })
    }
}

/// As [`init`], with a key of the key management for secret keys.
unsafe extern "C" fn init_skey(context: *mut c_void, key: *mut c_void, params: *const OSSL_PARAM) -> c_int {
    // SAFETY: as above: the key is null or one of ours.
    unsafe { with(context, |context: &mut Context| context.init(secret_keys::of(key), Params::new(params))) }
}

unsafe extern "C" fn update(context: *mut c_void, data: *const c_uchar, length: usize) -> c_int {
    // SAFETY: as above: the data can be read for its length during the call.
    unsafe { with(context, |context: &mut Context| context.update(input(data, length)?)) }
}

unsafe extern "C" fn finish(
    context: *mut c_void,
    out: *mut c_uchar,
    length: *mut usize,
    size: usize,
) -> c_int {
    // SAFETY: as above: `out` is null or can be written for `size` bytes, and `length` can be written.
    unsafe {
        with(context, |context: &mut Context| {
            let needed = used(context.mac, &context.key)?.0.size();
            let length = place_for_length(length)?;
            if out.is_null() {
                *length = needed;
                return Ok(());
            }
            *length = context.finish(place_for(needed, out, size)?)?;
            Ok(())
        })
    }
}

unsafe extern "C" fn set_ctx_params(context: *mut c_void, params: *const OSSL_PARAM) -> c_int {
    // SAFETY: as above.
    unsafe { with(context, |context: &mut Context| context.set(Params::new(params))) }
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
        with(context, |context: &mut Context| {
            let answers = Answers::new(params);
            let size = context.mac.map_or(0, Mac::size);
            let block = match context.mac {
                Some(Mac::Hmac(hash)) => block_size(hash).unwrap_or(0),
                Some(Mac::AesCmac) => 16,
                None => 0,
            };
            answered(
                answers.size(OSSL_MAC_PARAM_SIZE, size) && answers.size(OSSL_MAC_PARAM_BLOCK_SIZE, block),
            )
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
