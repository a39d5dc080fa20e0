//! The store loader for pkcs11: URIs (provider-storemgmt(7)).

use std::collections::VecDeque;
use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::Arc;

use strongroom_ffi::pointer;

use super::passphrase::Passphrase;
use super::search::Criteria;
use super::{Algorithms, LAST, algorithm, secret_keys, table};
use crate::bindings::*;
use crate::error::{Error, Result};
use crate::fence::fence;
use crate::key::Key;
use crate::params::{self, Descriptions, END, Params, Value, describe};
use crate::provider::Provider;
use crate::token::{Object, Wanted};
use strongroom_uri::{SCHEME, Uri};

/// The loader, by the URIs' scheme.
pub static ALGORITHMS: Algorithms<2> = Algorithms([
    algorithm(
        c"pkcs11",
        c"provider=strongroom",
        TABLE,
        c"Keys and certificates in PKCS#11 tokens (RFC 7512)",
    ),
    LAST,
]);

static TABLE: &[OSSL_DISPATCH] = table![
    OSSL_FUNC_STORE_OPEN: OSSL_FUNC_store_open_fn = open,
    OSSL_FUNC_STORE_OPEN_EX: OSSL_FUNC_store_open_ex_fn = open_ex,
    OSSL_FUNC_STORE_SETTABLE_CTX_PARAMS: OSSL_FUNC_store_settable_ctx_params_fn = settable_ctx_params,
    OSSL_FUNC_STORE_SET_CTX_PARAMS: OSSL_FUNC_store_set_ctx_params_fn = set_ctx_params,
    OSSL_FUNC_STORE_LOAD: OSSL_FUNC_store_load_fn = load,
    OSSL_FUNC_STORE_EOF: OSSL_FUNC_store_eof_fn = eof,
    OSSL_FUNC_STORE_CLOSE: OSSL_FUNC_store_close_fn = close,
];

/// An open URI.
struct Loader {
    provider: Arc<Provider>,
    uri: Uri,
    wanted: Wanted,
    /// What else the objects must be.
    criteria: Criteria,
    /// What is still to be delivered; `None` until the token has been asked.
    objects: Option<VecDeque<Object>>,
}

const NOTHING: Wanted = Wanted { private: false, public: false, certificates: false, secrets: false };

/// What is delivered to those who say nothing of what they expect. Secret keys are objects of the store from OpenSSL 4.0 on: an older one
/// takes offence at them.
fn everything(provider: &Provider) -> Wanted {
    let version = provider.core.setting(c"openssl-version").unwrap_or_default();
    let major = version.split('.').next().and_then(|major| major.parse().ok());
    let secrets =
        major.is_some_and(|major: u32| major >= 4) && provider.tokens.settings.offers(OSSL_OP_SKEYMGMT);
    Wanted { private: true, public: true, certificates: true, secrets }
}

unsafe extern "C" fn open(provider: *mut c_void, uri: *const c_char) -> *mut c_void {
    fence(ptr::null_mut(), || {
        // SAFETY: libcrypto's pointer to our provider, and a C string.
        let (provider, uri) = unsafe { (Provider::from_context(provider), pointer::text(uri)) };
        let (Some(provider), Some(uri)) = (provider, uri) else { return ptr::null_mut() };
        if !uri.get(..SCHEME.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME)) {
            return ptr::null_mut();
        }
        match provider.report(Uri::parse(uri).map_err(Error::from)) {
            Some(uri) => Box::into_raw(Box::new(Loader {
                wanted: everything(&provider),
                provider,
                uri,
                criteria: Criteria::default(),
                objects: None,
            }))
            .cast(),
            None => ptr::null_mut(),
        }
    })
}

/// As [`open`], with parameters. A PIN is asked for where it is needed, which is later.
unsafe extern "C" fn open_ex(
    provider: *mut c_void,
    uri: *const c_char,
    params: *const OSSL_PARAM,
    _pin_callback: OSSL_PASSPHRASE_CALLBACK,
    _pin_argument: *mut c_void,
) -> *mut c_void {
    fence(ptr::null_mut(), || {
        // SAFETY: libcrypto's arguments, as for each of these functions; what was opened is closed if it cannot be given away.
        unsafe {
            let opened = open(provider, uri);
            if opened.is_null() || set_ctx_params(opened, params) == 1 {
                return opened;
            }
            close(opened);
            ptr::null_mut()
        }
    })
}

/// Borrows libcrypto's loader context.
///
/// # Safety
///
/// `pointer` is null or was made by [`open`], was not closed, and no other thread uses it now.
unsafe fn loader<'a>(pointer: *mut c_void) -> Option<&'a mut Loader> {
    // SAFETY: by the contract.
    unsafe { pointer::reference_mut(pointer.cast()) }
}

unsafe extern "C" fn settable_ctx_params(_provider: *mut c_void) -> *const OSSL_PARAM {
    fence(ptr::null(), || {
        static LIST: Descriptions<8> = Descriptions::new([
            describe(OSSL_STORE_PARAM_EXPECT, OSSL_PARAM_INTEGER),
            describe(OSSL_STORE_PARAM_SUBJECT, OSSL_PARAM_OCTET_STRING),
            describe(OSSL_STORE_PARAM_ISSUER, OSSL_PARAM_OCTET_STRING),
            describe(OSSL_STORE_PARAM_SERIAL, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_STORE_PARAM_DIGEST, OSSL_PARAM_UTF8_STRING),
            describe(OSSL_STORE_PARAM_FINGERPRINT, OSSL_PARAM_OCTET_STRING),
            describe(OSSL_STORE_PARAM_ALIAS, OSSL_PARAM_UTF8_STRING),
            END,
        ]);
        LIST.as_ptr()
    })
}

unsafe extern "C" fn set_ctx_params(context: *mut c_void, params: *const OSSL_PARAM) -> c_int {
    fence(0, || {
        // SAFETY: libcrypto's pointer to a loader of ours, and a terminated list.
        let (Some(loader), params) = (unsafe { (loader(context), Params::new(params)) }) else { return 0 };
        if let Some(Value::Integer(expected)) = params.get(OSSL_STORE_PARAM_EXPECT) {
            loader.wanted = match u32::try_from(expected).unwrap_or(0) {
                0 => everything(&loader.provider),
                OSSL_STORE_INFO_SKEY => Wanted { secrets: true, ..NOTHING },
                OSSL_STORE_INFO_PKEY => Wanted { private: true, ..NOTHING },
                OSSL_STORE_INFO_PUBKEY => Wanted { public: true, ..NOTHING },
                OSSL_STORE_INFO_CERT => Wanted { certificates: true, ..NOTHING },
                _ => NOTHING,
            };
        }
        loader.provider.status(loader.criteria.set(params))
    })
}

/// Delivers the next object. After a failure nothing is left, so that [`eof`] ends the caller's loop: nginx's
/// would otherwise spin for ever.
unsafe extern "C" fn load(
    context: *mut c_void,
    callback: OSSL_CALLBACK,
    argument: *mut c_void,
    pin_callback: OSSL_PASSPHRASE_CALLBACK,
    pin_argument: *mut c_void,
) -> c_int {
    fence(0, || {
        // SAFETY: libcrypto's pointer to a loader of ours, and its callback for this call.
        let (Some(loader), passphrase) =
            (unsafe { (loader(context), Passphrase::new(pin_callback, pin_argument)) })
        else {
            return 0;
        };
        let provider = loader.provider.clone();
        if loader.objects.is_none() {
            // Empty from here on, whatever happens.
            loader.objects = Some(VecDeque::new());
            let found = loader.find(passphrase);
            match provider.report(found) {
                Some(found) => loader.objects = Some(found.into()),
                None => return 0,
            }
        }
        match loader.objects.as_mut().and_then(VecDeque::pop_front) {
            // SAFETY: libcrypto's callback with its argument.
            Some(object) => unsafe { deliver(&provider, object, callback, argument) },
            None => 0,
        }
    })
}

impl Loader {
    /// Asks the token for what fits.
    fn find(&self, passphrase: Passphrase) -> Result<Vec<Object>> {
        let Loader { provider, criteria, .. } = self;
        let uri = criteria.narrow(&self.uri)?;
        let wanted = criteria.wanted(self.wanted);
        if wanted.narrowed(&uri) == NOTHING {
            return Err(Error::NotFound {
                uri: uri.to_string(),
                found: "its type is not the one that is wanted".into(),
            });
        }
        let mut found = provider.tokens.find(&provider.openssl, &uri, wanted, &mut || passphrase.ask())?;
        found.retain(|object| criteria.fit(&provider.openssl, object));
        if found.is_empty() {
            return Err(Error::NotFound {
                uri: uri.to_string(),
                found: "no object has what is searched for".into(),
            });
        }
        Ok(found)
    }
}

/// Hands an object to libcrypto's callback. A key goes by reference: the address of a pointer to it, which our
/// keymgmt's `load` takes over (and sets to null).
///
/// # Safety
///
/// `callback` may be called with `argument` and a list of parameters that lives for the call.
pub unsafe fn deliver(
    provider: &Arc<Provider>,
    object: Object,
    callback: OSSL_CALLBACK,
    argument: *mut c_void,
) -> c_int {
    let Some(callback) = callback else { return 0 };
    let key = match object {
        Object::Certificate(der) => {
            let kind = OSSL_OBJECT_CERT as c_int;
            let list = [
                params::int(OSSL_OBJECT_PARAM_TYPE, &kind),
                params::octets(OSSL_OBJECT_PARAM_DATA, &der),
                END,
            ];
            // SAFETY: by the contract; the list and what it points to live for the call.
            return unsafe { callback(list.as_ptr(), argument) };
        }
        // SAFETY: by the contract.
        Object::Secret(key) => return unsafe { secret_keys::deliver(provider, key, callback, argument) },
        Object::Private(private) => Key::from_token(provider.clone(), private),
        Object::Public(kind, public) => Key::from_public(provider.clone(), kind, public),
    };
    let kind = OSSL_OBJECT_PKEY as c_int;
    let name = key.kind.name();
    let mut reference: *const Key = Arc::into_raw(Arc::new(key));
    let address: *const *const Key = &raw mut reference;
    let list = [
        params::int(OSSL_OBJECT_PARAM_TYPE, &kind),
        params::utf8(OSSL_OBJECT_PARAM_DATA_TYPE, name),
        OSSL_PARAM {
            key: OSSL_OBJECT_PARAM_REFERENCE.as_ptr(),
            data_type: OSSL_PARAM_OCTET_STRING,
            data: address.cast_mut().cast(),
            data_size: size_of::<*const Key>(),
            return_size: usize::MAX,
        },
        END,
    ];
    // SAFETY: by the contract; the list and what it points to live for the call. A reference that nobody took is still
    // ours, and given back.
    unsafe {
        let done = callback(list.as_ptr(), argument);
        let left = ptr::read(address);
        if !left.is_null() {
            drop(Arc::from_raw(left));
        }
        done
    }
}

/// Whether there is nothing more.
unsafe extern "C" fn eof(context: *mut c_void) -> c_int {
    fence(1, || {
        // SAFETY: libcrypto's pointer to a loader of ours.
        match unsafe { loader(context) } {
            Some(Loader { objects: Some(objects), .. }) => c_int::from(objects.is_empty()),
            Some(_) => 0,
            None => 1,
        }
    })
}

unsafe extern "C" fn close(context: *mut c_void) -> c_int {
    fence(0, || {
        if !context.is_null() {
            // SAFETY: made by Box::into_raw in `open`, closed this once.
            drop(unsafe { Box::from_raw(context.cast::<Loader>()) });
        }
        1
    })
}
