//! Key exchange (provider-keyexch(7)): ECDH, X25519 and X448 with the private key in the token.
//!
//! OpenSSL's key derivation (X9.63) over the secret is done here, by OpenSSL: it takes no private key.

use std::ffi::{CStr, CString, c_int, c_uchar, c_void};
use std::ptr;
use std::sync::Arc;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::operation::{self, Operation, give, place_for_length, with};
use super::{Algorithms, MAX_LIST, share, table};
use crate::bindings::*;
use crate::error::{Error, Result};
use crate::fence::fence;
use crate::jobs;
use crate::key::Key;
use crate::openssl::{Hash, x963_kdf};
use crate::params::{Answers, Descriptions, END, Params, Value, answered, describe};
use crate::provider::Provider;
use crate::token::kinds::ForEach;
use crate::token::{self, Agreement, Functions, KeyKind, Kind, Table};

/// The key exchanges, by the names that keymgmt's query_operation_name gives.
pub static ALGORITHMS: Algorithms<MAX_LIST> =
    Algorithms::of_key_types(&[], &ForEach::<Exchange>::TABLES, OSSL_OP_KEYEXCH, c"provider=strongroom");

struct Exchange;

impl<K: Kind> Table<K> for Exchange {
    const TABLE: Functions = table![
        OSSL_FUNC_KEYEXCH_NEWCTX: OSSL_FUNC_keyexch_newctx_fn = newctx::<K>,
        OSSL_FUNC_KEYEXCH_FREECTX: OSSL_FUNC_keyexch_freectx_fn = operation::free::<Context>,
        OSSL_FUNC_KEYEXCH_DUPCTX: OSSL_FUNC_keyexch_dupctx_fn = operation::duplicate::<Context>,
        OSSL_FUNC_KEYEXCH_INIT: OSSL_FUNC_keyexch_init_fn = init,
        OSSL_FUNC_KEYEXCH_SET_PEER: OSSL_FUNC_keyexch_set_peer_fn = set_peer,
        OSSL_FUNC_KEYEXCH_DERIVE: OSSL_FUNC_keyexch_derive_fn = derive,
        OSSL_FUNC_KEYEXCH_GET_CTX_PARAMS: OSSL_FUNC_keyexch_get_ctx_params_fn = get_ctx_params,
        OSSL_FUNC_KEYEXCH_GETTABLE_CTX_PARAMS: OSSL_FUNC_keyexch_gettable_ctx_params_fn = gettable_ctx_params::<K>,
        OSSL_FUNC_KEYEXCH_SET_CTX_PARAMS: OSSL_FUNC_keyexch_set_ctx_params_fn = set_ctx_params,
        OSSL_FUNC_KEYEXCH_SETTABLE_CTX_PARAMS: OSSL_FUNC_keyexch_settable_ctx_params_fn = settable_ctx_params::<K>,
    ];
}

/// OpenSSL's name for the key derivation of ANSI X9.63.
const X963: &CStr = c"X963KDF";

/// The longest key that is derived from a secret, in bytes.
const MAX_DERIVED: usize = 1 << 20;

/// The longest secret that is agreed on, in bytes: a field of 571 bits.
const MAX_SECRET: usize = 72;

/// One operation: what libcrypto's `ctx` points to.
#[derive(Clone)]
struct Context {
    provider: Arc<Provider>,
    kind: KeyKind,
    key: Option<Arc<Key>>,
    /// The peer's public key, as the token wants it.
    peer: Option<Arc<[u8]>>,
    parameters: Parameters,
}

/// What an application may set for ECDH.
#[derive(Debug, Clone, Default)]
struct Parameters {
    /// -1, as set for the key: without; 0: without; 1: with the curve's cofactor.
    cofactor_mode: Option<bool>,
    /// A key derivation follows.
    kdf: Option<Kdf>,
    /// The derivation's hash, and where libcrypto is to take it from.
    hash: Option<Hash>,
    properties: Option<CString>,
    /// How many bytes it makes.
    size: usize,
    /// Shared data that goes into it.
    ukm: Option<Arc<[u8]>>,
}

/// A key derivation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kdf {
    X963,
}

impl Parameters {
    fn set(&mut self, kind: KeyKind, params: Params) -> Result<()> {
        if kind != KeyKind::Ec {
            // X25519 and X448 have none, in OpenSSL too.
            return Ok(());
        }
        match params.value(OSSL_EXCHANGE_PARAM_EC_ECDH_COFACTOR_MODE)? {
            None => {}
            Some(Value::Integer(-1)) => self.cofactor_mode = None,
            Some(Value::Integer(0)) => self.cofactor_mode = Some(false),
            Some(Value::Integer(1)) => self.cofactor_mode = Some(true),
            Some(_) => return Err(Error::Unsupported("a cofactor mode other than -1, 0 and 1".into())),
        }
        match params.text(OSSL_EXCHANGE_PARAM_KDF_TYPE)? {
            None => {}
            Some("") => self.kdf = None,
            Some(name) if name.as_bytes() == X963.to_bytes() => self.kdf = Some(Kdf::X963),
            Some(name) => {
                return Err(Error::Unsupported(format!("key derivation \"{name}\"; X963KDF is offered")));
            }
        }
        if let Some(name) = params.text(OSSL_EXCHANGE_PARAM_KDF_DIGEST)? {
            self.hash = Some(Hash::from_name(name)?);
        }
        if let Some(properties) = params.text(OSSL_EXCHANGE_PARAM_KDF_DIGEST_PROPS)? {
            self.properties = CString::new(properties).ok().filter(|text| !text.is_empty());
        }
        match params.value(OSSL_EXCHANGE_PARAM_KDF_OUTLEN)? {
            None => {}
            Some(Value::Integer(size)) => {
                let possible = usize::try_from(size).ok().filter(|size| *size <= MAX_DERIVED);
                let bad = || Error::Unsupported(format!("a derived key of {size} bytes"));
                self.size = possible.ok_or_else(bad)?;
            }
            Some(_) => return Err(Error::Unsupported("a derived key's size that is no number".into())),
        }
        match params.value(OSSL_EXCHANGE_PARAM_KDF_UKM)? {
            None => {}
            Some(Value::Octets(ukm)) => self.ukm = Some(ukm.into()),
            Some(_) => return Err(Error::Unsupported("shared data that is not bytes".into())),
        }
        Ok(())
    }
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
    fn init(&mut self, key: Option<Arc<Key>>, params: Params) -> Result<()> {
        let key = key
            .or_else(|| self.key.clone())
            .ok_or_else(|| Error::Unsupported("a key exchange without a key".into()))?;
        if key.kind != self.kind {
            return Err(Error::Unsupported("a key of another type".into()));
        }
        key.private()?;
        self.key = Some(key);
        self.peer = None;
        self.parameters = Parameters::default();
        self.parameters.set(self.kind, params)
    }

    fn key(&self) -> Result<&Arc<Key>> {
        self.key.as_ref().ok_or_else(|| Error::Unsupported("a key exchange that was not initialised".into()))
    }

    /// Takes the peer's key, if it is one on our key's curve: with a point elsewhere the secret would tell of our key.
    fn set_peer(&mut self, peer: Option<Arc<Key>>) -> Result<()> {
        let own = self.key()?.public()?;
        let peer = peer.ok_or_else(|| Error::Unsupported("a key exchange without the peer's key".into()))?;
        let public = peer.public()?;
        if peer.kind != self.kind || !own.has_parameters_of(public) {
            return Err(Error::Unsupported("the peer's key is of another type or curve".into()));
        }
        if !public.is_valid(&self.provider.openssl)? {
            return Err(Error::Unsupported("the peer's key is not a point of its curve".into()));
        }
        self.peer = Some(public.point()?.into());
        Ok(())
    }

    /// The size of the shared secret, without a derivation.
    fn secret_size(&self) -> Result<usize> {
        let point = self.key()?.public()?.point()?;
        Ok(match self.kind {
            KeyKind::Ec => point.len().saturating_sub(1) / 2,
            _ => point.len(),
        })
    }

    /// The shared secret.
    fn agree(&self) -> Result<Zeroizing<Vec<u8>>> {
        let key = self.key()?;
        let peer = self
            .peer
            .as_ref()
            .ok_or_else(|| Error::Unsupported("a key exchange without the peer's key".into()))?;
        let size = self.secret_size()?;
        let cofactor = self.parameters.cofactor_mode == Some(true) && !key.public()?.has_cofactor_one();
        let mut secret = Zeroizing::new(vec![0; size.max(MAX_SECRET)]);
        let made =
            jobs::operate(key, &token::Operation::Derive(Agreement { cofactor, size }), peer, &mut secret)?;
        if made != size {
            return Err(Error::Key(format!("agreed on a secret of {made} bytes instead of {size}")));
        }
        secret.truncate(size);
        // RFC 7748, 6: a peer that sends a point of small order contributes nothing.
        if self.kind != KeyKind::Ec && bool::from(secret.as_slice().ct_eq(&vec![0; size])) {
            return Err(Error::Unsupported("the peer's key is a point of small order".into()));
        }
        Ok(secret)
    }

    /// What the application gets: the secret, or what is derived from it.
    fn derive(&self) -> Result<Zeroizing<Vec<u8>>> {
        let secret = self.agree()?;
        let Parameters { kdf, hash, properties, size, ukm, .. } = &self.parameters;
        match kdf {
            None => Ok(secret),
            Some(Kdf::X963) => {
                let hash = hash.ok_or_else(|| Error::Unsupported("X963KDF needs a digest".into()))?;
                let mut key = Zeroizing::new(vec![0; *size]);
                let ukm = ukm.as_deref().unwrap_or_default();
                x963_kdf(&self.provider.openssl, hash, properties.as_deref(), &secret, ukm, &mut key)?;
                Ok(key)
            }
        }
    }
}

unsafe extern "C" fn newctx<K: Kind>(provider: *mut c_void) -> *mut c_void {
    // SAFETY: libcrypto's argument, as provider-keyexch(7) describes it.
    unsafe {
        operation::new(provider, |provider| Context {
            provider,
            kind: K::KIND,
            key: None,
            peer: None,
            parameters: Parameters::default(),
        })
    }
}

unsafe extern "C" fn init(context: *mut c_void, key: *mut c_void, params: *const OSSL_PARAM) -> c_int {
    // SAFETY: libcrypto's arguments, as provider-keyexch(7) describes them.
    unsafe { with(context, |context: &mut Context| context.init(share(key), Params::new(params))) }
}

unsafe extern "C" fn set_peer(context: *mut c_void, peer: *mut c_void) -> c_int {
    // SAFETY: as above.
    unsafe { with(context, |context: &mut Context| context.set_peer(share(peer))) }
}

unsafe extern "C" fn derive(
    context: *mut c_void,
    secret: *mut c_uchar,
    length: *mut usize,
    room: usize,
) -> c_int {
    // SAFETY: as above: `length` can be written, `secret` is null or can be written for `room` bytes.
    unsafe {
        with(context, |context: &mut Context| {
            let length = place_for_length(length)?;
            let size = match context.parameters.kdf {
                None => context.secret_size()?,
                Some(Kdf::X963) => context.parameters.size,
            };
            if secret.is_null() {
                *length = size;
                return Ok(());
            }
            // As in OpenSSL: ECDH's secret may be cut off at its end, and nothing else may.
            let may_be_cut = context.kind == KeyKind::Ec && context.parameters.kdf.is_none();
            if room < size && !may_be_cut {
                return Err(Error::Buffer { room, needed: size });
            }
            let made = context.derive()?;
            give(made.get(..size.min(room)).unwrap_or_default(), secret, length, room)
        })
    }
}

unsafe extern "C" fn set_ctx_params(context: *mut c_void, params: *const OSSL_PARAM) -> c_int {
    // SAFETY: as above.
    unsafe {
        with(context, |context: &mut Context| context.parameters.set(context.kind, Params::new(params)))
    }
}

/// What can be set and asked; of the last, bytes to set and a pointer to ask.
const fn descriptions(ukm: u32) -> Descriptions<7> {
    Descriptions::new([
        describe(OSSL_EXCHANGE_PARAM_EC_ECDH_COFACTOR_MODE, OSSL_PARAM_INTEGER),
        describe(OSSL_EXCHANGE_PARAM_KDF_TYPE, OSSL_PARAM_UTF8_STRING),
        describe(OSSL_EXCHANGE_PARAM_KDF_DIGEST, OSSL_PARAM_UTF8_STRING),
        describe(OSSL_EXCHANGE_PARAM_KDF_DIGEST_PROPS, OSSL_PARAM_UTF8_STRING),
        describe(OSSL_EXCHANGE_PARAM_KDF_OUTLEN, OSSL_PARAM_UNSIGNED_INTEGER),
        describe(OSSL_EXCHANGE_PARAM_KDF_UKM, ukm),
        END,
    ])
}

static NONE: Descriptions<1> = Descriptions::new([END]);

unsafe extern "C" fn settable_ctx_params<K: Kind>(
    _context: *mut c_void,
    _provider: *mut c_void,
) -> *const OSSL_PARAM {
    fence(ptr::null(), || {
        static LIST: Descriptions<7> = descriptions(OSSL_PARAM_OCTET_STRING);
        if K::KIND == KeyKind::Ec { LIST.as_ptr() } else { NONE.as_ptr() }
    })
}

unsafe extern "C" fn gettable_ctx_params<K: Kind>(
    _context: *mut c_void,
    _provider: *mut c_void,
) -> *const OSSL_PARAM {
    fence(ptr::null(), || {
        static LIST: Descriptions<7> = descriptions(OSSL_PARAM_OCTET_PTR);
        if K::KIND == KeyKind::Ec { LIST.as_ptr() } else { NONE.as_ptr() }
    })
}

unsafe extern "C" fn get_ctx_params(context: *mut c_void, params: *mut OSSL_PARAM) -> c_int {
    // SAFETY: as above.
    unsafe {
        with(context, |context: &mut Context| {
            if context.kind != KeyKind::Ec {
                return Ok(());
            }
            let Parameters { cofactor_mode, kdf, hash, size, ukm, .. } = &context.parameters;
            let answers = Answers::new(params);
            answered(
                answers.integer(
                    OSSL_EXCHANGE_PARAM_EC_ECDH_COFACTOR_MODE,
                    c_int::from(cofactor_mode.unwrap_or(false)),
                ) && answers.text(OSSL_EXCHANGE_PARAM_KDF_TYPE, kdf.map_or(c"", |_| X963))
                    && answers.text(OSSL_EXCHANGE_PARAM_KDF_DIGEST, hash.map_or(c"", Hash::name))
                    && answers.integer(
                        OSSL_EXCHANGE_PARAM_KDF_OUTLEN,
                        c_int::try_from(*size).unwrap_or(c_int::MAX),
                    )
                    && answers.octets(OSSL_EXCHANGE_PARAM_KDF_UKM, ukm.as_deref().unwrap_or_default()),
            )
        })
    }
}
