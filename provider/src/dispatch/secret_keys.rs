//! Secret keys (provider-skeymgmt(7), from OpenSSL 3.5 on), where `strongroom-operations` in openssl.cnf names an operation that is done
//! with them: a token's own, by URI, or an application's bytes. EVP_CipherInit_SKEY(3) and its like take them.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::Arc;

use cryptoki_sys::*;
use strongroom_ffi::pointer;
use strongroom_uri::Uri;

use super::generate::{URI, USAGE};
use super::{Algorithms, LAST, algorithm, table};
use crate::bindings::*;
use crate::error::{Error, Result};
use crate::fence::fence;
use crate::params::{self, Descriptions, END, Params, Value, describe};
use crate::provider::Provider;
use crate::token::{Functions, NewSecret, Object, SecretKey, SecretUse, StoredKey};

/// The types, by OpenSSL's names.
pub static ALGORITHMS: Algorithms<3> = Algorithms([
    algorithm(AES, c"provider=strongroom", Of::<true>::TABLE, c"AES keys in a PKCS#11 token"),
    algorithm(GENERIC, c"provider=strongroom", Of::<false>::TABLE, c"Secret keys in a PKCS#11 token"),
    LAST,
]);

const AES: &CStr = c"AES";
const GENERIC: &CStr = c"GENERIC-SECRET";

/// OSSL_SKEY_PARAM_RAW_BYTES
const RAW_BYTES: &CStr = c"raw-bytes";

/// OSSL_SKEY_PARAM_KEY_LENGTH
const KEY_LENGTH: &CStr = c"key-length";

/// The most bytes of a key of the application's, and of a new one that is not AES's.
const MAX_SIZE: usize = 4096;

/// The size of a new key, unless another is asked for, in bytes. It is pkcs11-provider's too.
const SIZE: usize = 32;

/// The functions for AES keys or, without `IS_AES`, for others.
struct Of<const IS_AES: bool>;

impl<const IS_AES: bool> Of<IS_AES> {
    const TABLE: Functions = table![
        OSSL_FUNC_SKEYMGMT_FREE: OSSL_FUNC_skeymgmt_free_fn = free,
        OSSL_FUNC_SKEYMGMT_IMPORT: OSSL_FUNC_skeymgmt_import_fn = import::<IS_AES>,
        OSSL_FUNC_SKEYMGMT_EXPORT: OSSL_FUNC_skeymgmt_export_fn = export,
        OSSL_FUNC_SKEYMGMT_GENERATE: OSSL_FUNC_skeymgmt_generate_fn = generate::<IS_AES>,
        OSSL_FUNC_SKEYMGMT_GET_KEY_ID: OSSL_FUNC_skeymgmt_get_key_id_fn = get_key_id,
        OSSL_FUNC_SKEYMGMT_IMP_SETTABLE_PARAMS: OSSL_FUNC_skeymgmt_imp_settable_params_fn = imp_settable_params,
        OSSL_FUNC_SKEYMGMT_GEN_SETTABLE_PARAMS: OSSL_FUNC_skeymgmt_gen_settable_params_fn = gen_settable_params,
    ];
}

/// A secret key: what libcrypto's `keydata` points to.
struct Managed {
    provider: Arc<Provider>,
    key: SecretKey,
    /// Its URI, if it is a token's.
    name: CString,
}

impl Managed {
    fn new(provider: &Arc<Provider>, key: SecretKey) -> Self {
        let name = match &key {
            SecretKey::Bytes(_) => CString::default(),
            SecretKey::InToken(key) => CString::new(key.name()).unwrap_or_default(),
        };
        Managed { provider: provider.clone(), key, name }
    }

    fn of_token(provider: &Arc<Provider>, key: Arc<StoredKey>, is_aes: bool) -> Result<Self> {
        if (key.kind == CKK_AES) == is_aes {
            return Ok(Managed::new(provider, SecretKey::InToken(key)));
        }
        let (is, asked) = if is_aes { ("no AES key", AES) } else { ("an AES key", GENERIC) };
        Err(Error::Key(format!(
            "{} is {is}: key management {} has others",
            key.name(),
            asked.to_string_lossy()
        )))
    }

    /// Makes a key of what an application gives: its bytes, or a URI.
    fn import(provider: &Arc<Provider>, params: Params, is_aes: bool) -> Result<Self> {
        let reference = params.octets(OSSL_OBJECT_PARAM_REFERENCE)?;
        if let Some(bytes) = params.octets(RAW_BYTES)? {
            let fits = if is_aes { is_aes_size(bytes.len()) } else { (1..=MAX_SIZE).contains(&bytes.len()) };
            if !fits {
                return Err(Error::Unsupported(format!("a secret key of {} bytes", bytes.len())));
            }
            return Ok(Managed::new(provider, SecretKey::of_bytes(bytes)));
        }
        // What the store delivers is found already.
        if let Some(found) =
            reference.and_then(|reference| provider.take_found(reference)).and_then(Object::secret)
        {
            return Managed::of_token(provider, found, is_aes);
        }
        let uri = match reference {
            Some(reference) => Some(std::str::from_utf8(reference).map_err(|_| no_key())?),
            None => params.text(URI)?,
        };
        let uri = Uri::parse(uri.ok_or_else(no_key)?)?;
        let found = provider.tokens.find_secret(&provider.openssl, &uri, &mut || None)?;
        Managed::of_token(provider, found, is_aes)
    }

    /// Makes a new key in a token.
    fn generate(provider: &Arc<Provider>, params: Params, is_aes: bool) -> Result<Self> {
        let uri = params.text(URI)?.ok_or_else(|| {
            Error::Unsupported(
                "a new secret key needs -skeyopt \"pkcs11_uri:pkcs11:token=…;object=…\"".into(),
            )
        })?;
        let size = match params.value(KEY_LENGTH)? {
            None => Some(SIZE),
            Some(Value::Integer(size)) => usize::try_from(size).ok(),
            Some(_) => None,
        };
        let fits = |size: &usize| if is_aes { is_aes_size(*size) } else { (1..=MAX_SIZE).contains(size) };
        let size = size
            .filter(fits)
            .ok_or_else(|| Error::Unsupported("a secret key of that size (key-length, in bytes)".into()))?;
        let uses = match params.text(USAGE)? {
            None if is_aes => vec![SecretUse::Encrypt],
            None => vec![SecretUse::Mac, SecretUse::Derive],
            Some(names) => {
                let uses = names.split_ascii_whitespace().map(|name| {
                    SecretUse::of_name(name).ok_or_else(|| {
                        Error::Unsupported(format!(
                            "use \"{name}\" of a secret key; there are encrypt, mac, wrap and derive"
                        ))
                    })
                });
                uses.collect::<Result<_>>()?
            }
        };
        let (kind, generation) = match is_aes {
            true => (CKK_AES, CKM_AES_KEY_GEN),
            false => (CKK_GENERIC_SECRET, CKM_GENERIC_SECRET_KEY_GEN),
        };
        let new = NewSecret { kind, generation, uri: Uri::parse(uri)?, size, uses };
        let key = provider.tokens.generate_secret(&provider.openssl, &new)?;
        Managed::of_token(provider, key, is_aes)
    }
}

fn no_key() -> Error {
    Error::Unsupported("a secret key without its bytes (raw-bytes) or URI (pkcs11_uri)".into())
}

fn is_aes_size(size: usize) -> bool {
    matches!(size, 16 | 24 | 32)
}

/// The key that libcrypto means, for an operation; `None` for null.
///
/// # Safety
///
/// `keydata` is null or was made by a function of this file, and was not freed.
pub unsafe fn of(keydata: *const c_void) -> Option<SecretKey> {
    // SAFETY: by the contract.
    unsafe { pointer::reference(keydata.cast::<Managed>()) }.map(|managed| managed.key.clone())
}

/// Hands a secret key of the store's to libcrypto's callback: its URI, by which [`import`] has it. The key itself waits there.
///
/// # Safety
///
/// `callback` may be called with `argument` and a list of parameters that lives for the call.
pub unsafe fn deliver(
    provider: &Arc<Provider>,
    key: Arc<StoredKey>,
    callback: unsafe extern "C" fn(*const OSSL_PARAM, *mut c_void) -> c_int,
    argument: *mut c_void,
) -> c_int {
    let kind = OSSL_OBJECT_SKEY as c_int;
    let name = key.name();
    let list = [
        params::int(OSSL_OBJECT_PARAM_TYPE, &kind),
        params::utf8(OSSL_OBJECT_PARAM_DATA_TYPE, if key.kind == CKK_AES { AES } else { GENERIC }),
        params::octets(OSSL_OBJECT_PARAM_REFERENCE, name.as_bytes()),
        END,
    ];
    provider.keep_found(name.as_bytes(), Object::Secret(key));
    // SAFETY: by the contract; the list and what it points to live for the call.
    let done = unsafe { callback(list.as_ptr(), argument) };
    drop(provider.take_found(name.as_bytes()));
    done
}

/// Makes a key by `make`, for libcrypto.
///
/// # Safety
///
/// `provider` is null or libcrypto's pointer to our provider; `params` is null or a terminated list.
unsafe fn made(
    provider: *mut c_void,
    params: *const OSSL_PARAM,
    make: impl FnOnce(&Arc<Provider>, Params) -> Result<Managed>,
) -> *mut c_void {
    // SAFETY: by the contract.
    let (Some(provider), params) = (unsafe { (Provider::from_context(provider), Params::new(params)) })
    else {
        return ptr::null_mut();
    };
    match provider.report(make(&provider, params)) {
        Some(key) => Box::into_raw(Box::new(key)).cast(),
        None => ptr::null_mut(),
    }
}

unsafe extern "C" fn import<const IS_AES: bool>(
    provider: *mut c_void,
    selection: c_int,
    params: *const OSSL_PARAM,
) -> *mut c_void {
    fence(ptr::null_mut(), || {
        if selection as u32 & OSSL_SKEYMGMT_SELECT_SECRET_KEY == 0 {
            return ptr::null_mut();
        }
        // SAFETY: libcrypto's arguments, as provider-skeymgmt(7) describes them.
        unsafe { made(provider, params, |provider, params| Managed::import(provider, params, IS_AES)) }
    })
}

unsafe extern "C" fn generate<const IS_AES: bool>(
    provider: *mut c_void,
    params: *const OSSL_PARAM,
) -> *mut c_void {
    fence(ptr::null_mut(), || {
        // SAFETY: as above.
        unsafe { made(provider, params, |provider, params| Managed::generate(provider, params, IS_AES)) }
    })
}

unsafe extern "C" fn free(keydata: *mut c_void) {
    fence((), || {
        if !keydata.is_null() {
            // SAFETY: made by Box::into_raw in `made`, given back this once.
            drop(unsafe { Box::from_raw(keydata.cast::<Managed>()) });
        }
    });
}

/// The bytes of an application's key, and of a token's that shows them.
unsafe extern "C" fn export(
    keydata: *mut c_void,
    selection: c_int,
    callback: OSSL_CALLBACK,
    argument: *mut c_void,
) -> c_int {
    fence(0, || {
        // SAFETY: libcrypto's pointer to a key of ours.
        let managed = unsafe { pointer::reference(keydata.cast_const().cast::<Managed>()) };
        let (Some(Managed { provider, key, .. }), Some(callback)) = (managed, callback) else { return 0 };
        if selection as u32 & OSSL_SKEYMGMT_SELECT_SECRET_KEY == 0 {
            return 0;
        }
        let bytes = match key {
            SecretKey::Bytes(bytes) => Ok(bytes.as_slice()),
            SecretKey::InToken(key) => provider.tokens.value_of(key),
        };
        let Some(bytes) = provider.report(bytes) else { return 0 };
        let list = [params::octets(RAW_BYTES, bytes), END];
        // SAFETY: libcrypto's callback with its argument; the list lives for the call, and the bytes as long as the key.
        unsafe { callback(list.as_ptr(), argument) }
    })
}

/// The key's URI; null of an application's key.
unsafe extern "C" fn get_key_id(keydata: *mut c_void) -> *const c_char {
    fence(ptr::null(), || {
        // SAFETY: libcrypto's pointer to a key of ours.
        match unsafe { pointer::reference(keydata.cast_const().cast::<Managed>()) } {
            Some(managed) if !managed.name.is_empty() => managed.name.as_ptr(),
            _ => ptr::null(),
        }
    })
}

unsafe extern "C" fn imp_settable_params(_provider: *mut c_void) -> *const OSSL_PARAM {
    fence(ptr::null(), || {
        static LIST: Descriptions<3> = Descriptions::new([
            describe(RAW_BYTES, OSSL_PARAM_OCTET_STRING),
            describe(URI, OSSL_PARAM_UTF8_STRING),
            END,
        ]);
        LIST.as_ptr()
    })
}

unsafe extern "C" fn gen_settable_params(_provider: *mut c_void) -> *const OSSL_PARAM {
    fence(ptr::null(), || {
        static LIST: Descriptions<4> = Descriptions::new([
            describe(URI, OSSL_PARAM_UTF8_STRING),
            describe(USAGE, OSSL_PARAM_UTF8_STRING),
            describe(KEY_LENGTH, OSSL_PARAM_UNSIGNED_INTEGER),
            END,
        ]);
        LIST.as_ptr()
    })
}
