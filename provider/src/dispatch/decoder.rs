//! Decoders for PEM reference files (provider-decoder(7)), in two stages: from PEM to a DER structure of our own,
//! and from that to a key of each type.
//!
//! libcrypto passes every PEM block of every key file by the first stage. A block with another label is not an
//! error: it is left to the others.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::Arc;

use super::passphrase::Passphrase;
use super::store::deliver;
use super::{Algorithms, MAX_LIST, algorithm, table};
use crate::bindings::*;
use crate::error::{Error, Result};
use crate::fence::fence;
use crate::params::{self, Descriptions, END};
use crate::provider::Provider;
use crate::token::kinds::ForEach;
use crate::token::{Functions, KeyKind, Kind, Object, Table, Wanted, ambiguous};
use strongroom_uri::{ObjectType, Uri, reference};

/// The first stage, and one of the second for each key type.
pub static ALGORITHMS: Algorithms<{ MAX_LIST + 1 }> = Algorithms::of_key_types(
    &[algorithm(c"DER", c"provider=strongroom,input=pem", PEM, c"PEM references to keys in a PKCS#11 token")],
    &ForEach::<Second>::TABLES,
    OSSL_OP_DECODER,
    STRUCTURE,
);

/// What the second stage takes: the structure's name is that of pkcs11-provider's.
const STRUCTURE: &std::ffi::CStr = c"provider=strongroom,input=der,structure=pk11-uri";

static PEM: &[OSSL_DISPATCH] = table![
    OSSL_FUNC_DECODER_NEWCTX: OSSL_FUNC_decoder_newctx_fn = newctx,
    OSSL_FUNC_DECODER_FREECTX: OSSL_FUNC_decoder_freectx_fn = freectx,
    OSSL_FUNC_DECODER_GET_PARAMS: OSSL_FUNC_decoder_get_params_fn = get_params,
    OSSL_FUNC_DECODER_GETTABLE_PARAMS: OSSL_FUNC_decoder_gettable_params_fn = gettable_params,
    OSSL_FUNC_DECODER_DECODE: OSSL_FUNC_decoder_decode_fn = decode_pem,
];

struct Second;

impl<K: Kind> Table<K> for Second {
    const TABLE: Functions = table![
        OSSL_FUNC_DECODER_NEWCTX: OSSL_FUNC_decoder_newctx_fn = newctx,
        OSSL_FUNC_DECODER_FREECTX: OSSL_FUNC_decoder_freectx_fn = freectx,
        OSSL_FUNC_DECODER_GET_PARAMS: OSSL_FUNC_decoder_get_params_fn = get_params,
        OSSL_FUNC_DECODER_GETTABLE_PARAMS: OSSL_FUNC_decoder_gettable_params_fn = gettable_params,
        OSSL_FUNC_DECODER_DECODE: OSSL_FUNC_decoder_decode_fn = decode_der::<K>,
    ];
}

/// The most bytes of a PEM block that are kept.
const MAX_PEM: usize = 2 * reference::MAX_DER;

/// The most bytes before or in a PEM block of another label that are passed over.
const MAX_SKIPPED: usize = 1 << 20;

/// Decoders and encoders have no state of their own: their context is the provider.
pub(super) unsafe extern "C" fn newctx(provider: *mut c_void) -> *mut c_void {
    fence(ptr::null_mut(), || {
        // SAFETY: libcrypto's pointer to our provider.
        match unsafe { Provider::from_context(provider) } {
            Some(provider) => Arc::into_raw(provider).cast_mut().cast(),
            None => ptr::null_mut(),
        }
    })
}

pub(super) unsafe extern "C" fn freectx(context: *mut c_void) {
    fence((), || {
        if !context.is_null() {
            // SAFETY: made by Arc::into_raw in `newctx`, given back this once.
            drop(unsafe { Arc::from_raw(context.cast_const().cast::<Provider>()) });
        }
    });
}

unsafe extern "C" fn gettable_params(_provider: *mut c_void) -> *const OSSL_PARAM {
    fence(ptr::null(), || {
        static LIST: Descriptions<1> = Descriptions::new([END]);
        LIST.as_ptr()
    })
}

unsafe extern "C" fn get_params(_params: *mut OSSL_PARAM) -> c_int {
    fence(0, || 1)
}

/// From PEM to DER of structure pk11-uri. Reads up to the end of one block, and not further.
unsafe extern "C" fn decode_pem(
    context: *mut c_void,
    input: *mut OSSL_CORE_BIO,
    _selection: c_int,
    callback: OSSL_CALLBACK,
    argument: *mut c_void,
    pin_callback: OSSL_PASSPHRASE_CALLBACK,
    pin_argument: *mut c_void,
) -> c_int {
    fence(0, || {
        // SAFETY: libcrypto's pointer to the provider (newctx), and its callback for this call.
        let (Some(provider), passphrase) =
            (unsafe { (Provider::from_context(context), Passphrase::new(pin_callback, pin_argument)) })
        else {
            return 0;
        };
        let Some(der) = read_reference(&provider, input) else { return 1 };
        // The key is looked up here, to tell libcrypto its type, so that it asks one decoder of the second stage
        // and not all, and once more there.
        let found = der.and_then(|der| Ok((find_key(&provider, &der, passphrase)?, der)));
        let Some((key, der)) = provider.report(found) else { return 0 };
        let Some(key_kind) = kind_of(&key) else { return 0 };
        let kind = OSSL_OBJECT_PKEY as c_int;
        let list = [
            params::int(OSSL_OBJECT_PARAM_TYPE, &kind),
            params::utf8(OSSL_OBJECT_PARAM_DATA_TYPE, key_kind.name()),
            params::utf8(OSSL_OBJECT_PARAM_DATA_STRUCTURE, c"pk11-uri"),
            params::octets(OSSL_OBJECT_PARAM_DATA, &der),
            END,
        ];
        provider.keep_found(&der, key);
        // SAFETY: libcrypto's callback with its argument; the list and what it points to live for the call.
        let done = callback.map_or(0, |callback| unsafe { callback(list.as_ptr(), argument) });
        drop(provider.take_found(&der));
        done
    })
}

/// From DER of structure pk11-uri to a key of type `K`.
unsafe extern "C" fn decode_der<K: Kind>(
    context: *mut c_void,
    input: *mut OSSL_CORE_BIO,
    _selection: c_int,
    callback: OSSL_CALLBACK,
    argument: *mut c_void,
    pin_callback: OSSL_PASSPHRASE_CALLBACK,
    pin_argument: *mut c_void,
) -> c_int {
    fence(0, || {
        // SAFETY: as in decode_pem.
        let (Some(provider), passphrase) =
            (unsafe { (Provider::from_context(context), Passphrase::new(pin_callback, pin_argument)) })
        else {
            return 0;
        };
        let Some(der) = provider.core.read_all(input, reference::MAX_DER) else { return 1 };
        if reference::uri_from_der(&der).is_err() {
            // Not ours: left to others.
            return 1;
        }
        let key = match provider.take_found(&der) {
            Some(key) => key,
            None => match provider.report(find_key(&provider, &der, passphrase)) {
                Some(key) => key,
                None => return 0,
            },
        };
        if kind_of(&key) != Some(K::KIND) {
            // For the decoder of its type, which is asked next where the first stage was not there to tell the type.
            provider.keep_found(&der, key);
            return 1;
        }
        // SAFETY: libcrypto's callback with its argument.
        unsafe { deliver(&provider, key, callback, argument) }
    })
}

/// The DER in the next PEM block if it is a reference; `None` if it is something else or there is none.
fn read_reference(provider: &Provider, input: *mut OSSL_CORE_BIO) -> Option<Result<Vec<u8>>> {
    let begin = format!("-----BEGIN {}-----", reference::LABEL);
    let mut line = [0u8; 1024];
    let mut text: Option<Vec<u8>> = None;
    let mut skipped = 0;
    loop {
        let length = provider.core.read_line(input, &mut line)?;
        let line = line.get(..length)?;
        let trimmed = line.trim_ascii_end();
        match &mut text {
            None if trimmed == begin.as_bytes() => text = Some(trimmed.to_vec()),
            // Up to the end of another block, so that the caller finds the next one after it.
            None if trimmed.starts_with(b"-----END ") => return None,
            None => {
                skipped += length;
                if skipped > MAX_SKIPPED {
                    return None;
                }
            }
            Some(text) => {
                text.push(b'\n');
                text.extend_from_slice(trimmed);
                // One that is longer than any reference is refused for want of its end.
                if trimmed.starts_with(b"-----END ") || text.len() > MAX_PEM {
                    text.push(b'\n');
                    return Some(reference::der_from_pem(text).map_err(Error::from));
                }
            }
        }
    }
}

/// The type of a key.
fn kind_of(object: &Object) -> Option<KeyKind> {
    match object {
        Object::Private(private) => Some(private.kind),
        Object::Public(kind, _) => Some(*kind),
        Object::Certificate(_) | Object::Secret(_) => None,
    }
}

/// The one key that a reference names: a private key, unless the URI asks for a public one.
fn find_key(provider: &Provider, der: &[u8], passphrase: Passphrase) -> Result<Object> {
    let uri = Uri::parse(&reference::uri_from_der(der)?)?;
    let mut prompt = || passphrase.ask();
    let public = uri.kind == Some(ObjectType::Public);
    let wanted = Wanted { private: !public, public, certificates: false, secrets: false };
    let mut found = provider.tokens.find(&provider.openssl, &uri, wanted, &mut prompt)?;
    if found.len() > 1 {
        return Err(ambiguous(&uri, &found));
    }
    found.pop().ok_or_else(|| Error::NotFound {
        uri: uri.to_string(),
        found: "a reference must name a key (type=private, type=public, or no type)".into(),
    })
}
