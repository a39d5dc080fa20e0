//! Key encapsulation (provider-kem(7)): ML-KEM. The private key's part, decapsulation, is done in the token; the public key's by
//! OpenSSL's own provider.

use std::ffi::{CStr, c_int, c_uchar, c_void};
use std::ptr;
use std::sync::Arc;

use strongroom_ffi::{output, pointer};
use zeroize::Zeroizing;

use super::operation::{self, Operation, with};
use super::{Algorithms, MAX_LIST, share, table};
use crate::bindings::*;
use crate::error::{Error, Result};
use crate::fence::fence;
use crate::jobs;
use crate::key::Key;
use crate::params::{self, Descriptions, END, Params, Value, describe};
use crate::provider::Provider;
use crate::token::kinds::ForEach;
use crate::token::{self, Functions, KeyKind, Kind, Table};

/// The encapsulations, by the names that keymgmt's query_operation_name gives.
pub static ALGORITHMS: Algorithms<MAX_LIST> =
    Algorithms::of_key_types(&[], &ForEach::<Encapsulation>::TABLES, OSSL_OP_KEM, c"provider=strongroom");

struct Encapsulation;

impl<K: Kind> Table<K> for Encapsulation {
    const TABLE: Functions = table![
        OSSL_FUNC_KEM_NEWCTX: OSSL_FUNC_kem_newctx_fn = newctx::<K>,
        OSSL_FUNC_KEM_FREECTX: OSSL_FUNC_kem_freectx_fn = operation::free::<Context>,
        OSSL_FUNC_KEM_DUPCTX: OSSL_FUNC_kem_dupctx_fn = operation::duplicate::<Context>,
        OSSL_FUNC_KEM_ENCAPSULATE_INIT: OSSL_FUNC_kem_encapsulate_init_fn = encapsulate_init,
        OSSL_FUNC_KEM_ENCAPSULATE: OSSL_FUNC_kem_encapsulate_fn = encapsulate,
        OSSL_FUNC_KEM_DECAPSULATE_INIT: OSSL_FUNC_kem_decapsulate_init_fn = decapsulate_init,
        OSSL_FUNC_KEM_DECAPSULATE: OSSL_FUNC_kem_decapsulate_fn = decapsulate,
        OSSL_FUNC_KEM_SET_CTX_PARAMS: OSSL_FUNC_kem_set_ctx_params_fn = set_ctx_params,
        OSSL_FUNC_KEM_SETTABLE_CTX_PARAMS: OSSL_FUNC_kem_settable_ctx_params_fn = settable_ctx_params,
    ];
}

/// What an encapsulation is made from in tests, instead of random bytes: OSSL_KEM_PARAM_IKME, since OpenSSL 3.2.
const IKME: &CStr = c"ikme";

/// The size of ML-KEM's secrets in bytes (FIPS 203, table 3).
const SECRET: usize = 32;

/// One operation: what libcrypto's `ctx` points to.
#[derive(Clone)]
struct Context {
    provider: Arc<Provider>,
    kind: KeyKind,
    key: Option<Arc<Key>>,
    ikme: Option<Zeroizing<Vec<u8>>>,
}

impl Operation for Context {
    fn provider(&self) -> &Provider {
        &self.provider
    }

    fn duplicate(&self) -> Result<Self> {
        Ok(self.clone())
    }
}

impl Context {
    fn init(&mut self, key: Option<Arc<Key>>, params: Params) -> Result<&Arc<Key>> {
        let key = key
            .or_else(|| self.key.clone())
            .ok_or_else(|| Error::Unsupported("an encapsulation without a key".into()))?;
        if key.kind != self.kind {
            return Err(Error::Unsupported("a key of another type".into()));
        }
        self.ikme = None;
        self.set(params)?;
        Ok(self.key.insert(key))
    }

    fn set(&mut self, params: Params) -> Result<()> {
        match params.value(IKME)? {
            None => {}
            Some(Value::Octets(ikme)) => self.ikme = Some(Zeroizing::new(ikme.to_vec())),
            Some(_) => return Err(Error::Unsupported("an ikme that is not bytes".into())),
        }
        Ok(())
    }

    fn key(&self) -> Result<&Arc<Key>> {
        self.key
            .as_ref()
            .ok_or_else(|| Error::Unsupported("an encapsulation that was not initialised".into()))
    }

    fn encapsulate(&self) -> Result<(Vec<u8>, Zeroizing<Vec<u8>>)> {
        let public = self.key()?.public()?;
        let mut ciphertext = vec![0; self.kind.ciphertext_size()];
        let mut secret = Zeroizing::new(vec![0; SECRET]);
        let ikme = self.ikme.as_deref().map(|ikme| params::octets(IKME, ikme));
        let list: Vec<OSSL_PARAM> = ikme.into_iter().chain([END]).collect();
        // SAFETY: a terminated list of what lives in this function and in `self`.
        let params = unsafe { Params::new(list.as_ptr()) };
        public.encapsulate(&self.provider.openssl, params, &mut ciphertext, &mut secret)?;
        Ok((ciphertext, secret))
    }

    fn decapsulate(&self, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let mut secret = Zeroizing::new(vec![0; SECRET]);
        let made = jobs::operate(self.key()?, &token::Operation::Decapsulate, ciphertext, &mut secret)?;
        match made == SECRET {
            true => Ok(secret),
            false => Err(Error::Key(format!("decapsulated a secret of {made} bytes instead of {SECRET}"))),
        }
    }
}

/// Writes bytes where libcrypto wants them. `room` may have no length: then it has enough, as with OpenSSL's own.
///
/// # Safety
///
/// `place` can be written for `*room` bytes, or for those of `bytes` if `room` is null.
unsafe fn write(bytes: &[u8], place: *mut c_uchar, room: *mut usize) -> Result<()> {
    let mut enough = bytes.len();
    let room = if room.is_null() { ptr::from_mut(&mut enough) } else { room };
    // SAFETY: by the contract.
    match unsafe { output::write(bytes, place, room) } {
        Some(output::Output::Written) => Ok(()),
        _ => Err(Error::Buffer { room: 0, needed: bytes.len() }),
    }
}

/// Checks that `room`, if it is there, is enough for `needed` bytes.
fn has_room(room: Option<usize>, needed: usize) -> Result<()> {
    match room {
        Some(room) if room < needed => Err(Error::Buffer { room, needed }),
        _ => Ok(()),
    }
}

unsafe extern "C" fn newctx<K: Kind>(provider: *mut c_void) -> *mut c_void {
    // SAFETY: libcrypto's argument, as provider-kem(7) describes it.
    unsafe { operation::new(provider, |provider| Context { provider, kind: K::KIND, key: None, ikme: None }) }
}

unsafe extern "C" fn encapsulate_init(
    context: *mut c_void,
    key: *mut c_void,
    params: *const OSSL_PARAM,
) -> c_int {
    // SAFETY: libcrypto's arguments, as provider-kem(7) describes them.
    unsafe {
        with(context, |context: &mut Context| {
            context.init(share(key), Params::new(params))?.public().map(drop)
        })
    }
}

unsafe extern "C" fn decapsulate_init(
    context: *mut c_void,
    key: *mut c_void,
    params: *const OSSL_PARAM,
) -> c_int {
    // SAFETY: as above.
    unsafe {
        with(context, |context: &mut Context| {
            context.init(share(key), Params::new(params))?.private().map(drop)
        })
    }
}

unsafe extern "C" fn encapsulate(
    context: *mut c_void,
    ciphertext: *mut c_uchar,
    ciphertext_length: *mut usize,
    secret: *mut c_uchar,
    secret_length: *mut usize,
) -> c_int {
    // SAFETY: as above: the lengths are null or can be read and written, and the buffers, if not null, written for them.
    unsafe {
        with(context, |context: &mut Context| {
            let sizes = [(ciphertext_length, context.kind.ciphertext_size()), (secret_length, SECRET)];
            if ciphertext.is_null() {
                for (length, size) in sizes {
                    if let Some(length) = pointer::reference_mut(length) {
                        *length = size;
                    }
                }
                return Ok(());
            }
            if secret.is_null() {
                return Err(Error::Unsupported("an encapsulation without a place for the secret".into()));
            }
            for (length, size) in sizes {
                has_room(pointer::reference(length.cast_const()).copied(), size)?;
            }
            let (made, value) = context.encapsulate()?;
            write(&made, ciphertext, ciphertext_length)?;
            write(&value, secret, secret_length)
        })
    }
}

unsafe extern "C" fn decapsulate(
    context: *mut c_void,
    secret: *mut c_uchar,
    secret_length: *mut usize,
    ciphertext: *const c_uchar,
    ciphertext_length: usize,
) -> c_int {
    // SAFETY: as above; the ciphertext can be read for its length.
    unsafe {
        with(context, |context: &mut Context| {
            if secret.is_null() {
                if let Some(length) = pointer::reference_mut(secret_length) {
                    *length = SECRET;
                }
                return Ok(());
            }
            let needed = context.kind.ciphertext_size();
            let ciphertext = pointer::slice(ciphertext, ciphertext_length)
                .filter(|ciphertext| ciphertext.len() == needed)
                .ok_or_else(|| {
                    Error::Unsupported(format!(
                        "a ciphertext of {ciphertext_length} bytes; those of this key have {needed}"
                    ))
                })?;
            has_room(pointer::reference(secret_length.cast_const()).copied(), SECRET)?;
            let value = context.decapsulate(ciphertext)?;
            write(&value, secret, secret_length)
        })
    }
}

unsafe extern "C" fn set_ctx_params(context: *mut c_void, params: *const OSSL_PARAM) -> c_int {
    // SAFETY: as above.
    unsafe { with(context, |context: &mut Context| context.set(Params::new(params))) }
}

unsafe extern "C" fn settable_ctx_params(_context: *mut c_void, _provider: *mut c_void) -> *const OSSL_PARAM {
    fence(ptr::null(), || {
        static LIST: Descriptions<2> = Descriptions::new([describe(IKME, OSSL_PARAM_OCTET_STRING), END]);
        LIST.as_ptr()
    })
}
