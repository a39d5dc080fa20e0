//! Key derivation (provider-kdf(7)) in a token, where `strongroom-operations` in openssl.cnf says `kdf`: HKDF, and TLS 1.3's
//! use of it.
//!
//! The secret comes from the application, and so goes what is derived to it; in between the token does the work.

use std::ffi::{CStr, c_int, c_uchar, c_void};
use std::ptr;
use std::sync::Arc;

use strongroom_ffi::pointer;
use zeroize::Zeroizing;

use super::operation::{self, Operation, with};
use super::{Algorithms, LAST, algorithm, table};
use crate::bindings::*;
use crate::error::{Error, Result};
use crate::fence::fence;
use crate::openssl::{Digest, Hash};
use crate::params::{Answers, Descriptions, END, Params, Value, answered, describe};
use crate::provider::Provider;
use crate::token::{Functions, Hkdf};

/// The derivations.
pub static ALGORITHMS: Algorithms<3> = Algorithms([
    algorithm(c"HKDF", c"provider=strongroom", Of::<false>::TABLE, c"HKDF in a PKCS#11 token"),
    algorithm(c"TLS13-KDF", c"provider=strongroom", Of::<true>::TABLE, c"TLS 1.3's HKDF in a PKCS#11 token"),
    LAST,
]);

/// The functions of HKDF or, with `TLS13`, of TLS 1.3's.
struct Of<const TLS13: bool>;

impl<const TLS13: bool> Of<TLS13> {
    const TABLE: Functions = table![
        OSSL_FUNC_KDF_NEWCTX: OSSL_FUNC_kdf_newctx_fn = newctx::<TLS13>,
        OSSL_FUNC_KDF_FREECTX: OSSL_FUNC_kdf_freectx_fn = operation::free::<Context>,
        OSSL_FUNC_KDF_DUPCTX: OSSL_FUNC_kdf_dupctx_fn = operation::duplicate::<Context>,
        OSSL_FUNC_KDF_RESET: OSSL_FUNC_kdf_reset_fn = reset,
        OSSL_FUNC_KDF_DERIVE: OSSL_FUNC_kdf_derive_fn = derive,
        OSSL_FUNC_KDF_SET_CTX_PARAMS: OSSL_FUNC_kdf_set_ctx_params_fn = set_ctx_params,
        OSSL_FUNC_KDF_SETTABLE_CTX_PARAMS: OSSL_FUNC_kdf_settable_ctx_params_fn = settable_ctx_params::<TLS13>,
        OSSL_FUNC_KDF_GET_CTX_PARAMS: OSSL_FUNC_kdf_get_ctx_params_fn = get_ctx_params,
        OSSL_FUNC_KDF_GETTABLE_CTX_PARAMS: OSSL_FUNC_kdf_gettable_ctx_params_fn = gettable_ctx_params,
    ];
}

/// The most that `info` parameters come to together, in bytes, as in OpenSSL.
const MAX_INFO: usize = 32 << 10;

/// A derivation: what libcrypto's `ctx` points to.
#[derive(Clone)]
struct Context {
    provider: Arc<Provider>,
    tls13: bool,
    parameters: Parameters,
}

/// What an application sets.
#[derive(Clone, Default)]
struct Parameters {
    mode: Option<Mode>,
    hash: Option<Hash>,
    key: Option<Zeroizing<Vec<u8>>>,
    salt: Option<Zeroizing<Vec<u8>>>,
    info: Zeroizing<Vec<u8>>,
    /// TLS 1.3's.
    prefix: Vec<u8>,
    label: Vec<u8>,
    data: Vec<u8>,
}

/// The steps that are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Both,
    Extract,
    Expand,
}

impl Parameters {
    fn set(&mut self, params: Params) -> Result<()> {
        match params.value(OSSL_KDF_PARAM_MODE)? {
            None => {}
            Some(Value::Text("EXTRACT_AND_EXPAND") | Value::Integer(0)) => self.mode = Some(Mode::Both),
            Some(Value::Text("EXTRACT_ONLY") | Value::Integer(1)) => self.mode = Some(Mode::Extract),
            Some(Value::Text("EXPAND_ONLY") | Value::Integer(2)) => self.mode = Some(Mode::Expand),
            Some(_) => return Err(Error::Unsupported("a mode that HKDF does not have".into())),
        }
        if let Some(name) = params.text(OSSL_KDF_PARAM_DIGEST)? {
            self.hash = Some(Hash::from_name(name)?);
        }
        if let Some(key) = params.octets(OSSL_KDF_PARAM_KEY)? {
            self.key = Some(Zeroizing::new(key.to_vec()));
        }
        if let Some(salt) = params.octets(OSSL_KDF_PARAM_SALT)? {
            self.salt = (!salt.is_empty()).then(|| Zeroizing::new(salt.to_vec()));
        }
        if params.has(OSSL_KDF_PARAM_INFO) {
            let info = params.all_octets(OSSL_KDF_PARAM_INFO)?;
            if info.len() > MAX_INFO {
                return Err(Error::Unsupported(format!("HKDF with more than {MAX_INFO} bytes of info")));
            }
            self.info = Zeroizing::new(info);
        }
        let texts = [
            (OSSL_KDF_PARAM_PREFIX, &mut self.prefix),
            (OSSL_KDF_PARAM_LABEL, &mut self.label),
            (OSSL_KDF_PARAM_DATA, &mut self.data),
        ];
        for (name, target) in texts {
            if let Some(value) = params.octets(name)? {
                *target = value.to_vec();
            }
        }
        Ok(())
    }

    fn hash(&self) -> Result<Hash> {
        self.hash.ok_or_else(|| Error::Unsupported("HKDF without a digest".into()))
    }

    fn key(&self) -> Result<&[u8]> {
        let key = self.key.as_deref().map(Vec::as_slice);
        key.ok_or_else(|| Error::Unsupported("HKDF without a key".into()))
    }

    /// How many bytes are derived, if that is not the application's to choose.
    fn size(&self) -> Result<Option<usize>> {
        match self.mode {
            Some(Mode::Extract) => self.hash().map(|hash| Some(hash.size())),
            _ => Ok(None),
        }
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
    fn derive(&self, out: &mut [u8]) -> Result<()> {
        self.provider.tokens.are_not_in_use_here("HKDF")?;
        if let Some(needed) = self.parameters.size()?.filter(|needed| *needed != out.len()) {
            return Err(Error::Buffer { room: out.len(), needed });
        }
        if out.is_empty() {
            return Err(Error::Unsupported("HKDF of no bytes".into()));
        }
        match (self.tls13, self.parameters.mode) {
            (false, mode) => self.plain(mode.unwrap_or(Mode::Both), out),
            (true, Some(Mode::Extract)) => self.tls13_extract(out),
            (true, Some(Mode::Expand)) => {
                let Parameters { prefix, label, data, .. } = &self.parameters;
                self.expand_label(self.parameters.key()?, prefix, label, data, out)
            }
            (true, _) => {
                Err(Error::Unsupported("TLS13-KDF has the modes EXTRACT_ONLY and EXPAND_ONLY".into()))
            }
        }
    }

    fn plain(&self, mode: Mode, out: &mut [u8]) -> Result<()> {
        let parameters = &self.parameters;
        let hkdf = Hkdf {
            hash: parameters.hash()?,
            extract: mode != Mode::Expand,
            expand: mode != Mode::Extract,
            salt: parameters.salt.as_deref().map(Vec::as_slice).unwrap_or_default(),
            info: &parameters.info,
        };
        self.provider.tokens.hkdf(&hkdf, parameters.key()?, out)
    }

    /// A stage of TLS 1.3's key schedule (RFC 8446, 7.1): HKDF-Extract of the key, or of zeros, with what Derive-Secret makes of the
    /// salt, which is the stage's before.
    fn tls13_extract(&self, out: &mut [u8]) -> Result<()> {
        let Parameters { prefix, label, key, salt, .. } = &self.parameters;
        let hash = self.parameters.hash()?;
        let zeros = Zeroizing::new(vec![0; hash.size()]);
        let mut derived = Zeroizing::new(Vec::new());
        if let Some(before) = salt {
            let (transcript, size) = Digest::new(&self.provider.openssl, hash)?.finish()?;
            derived = Zeroizing::new(vec![0; hash.size()]);
            let transcript = transcript.get(..size).unwrap_or_default();
            self.expand_label(before, prefix, label, transcript, &mut derived)?;
        }
        let hkdf = Hkdf { hash, extract: true, expand: false, salt: &derived, info: &[] };
        self.provider.tokens.hkdf(&hkdf, key.as_ref().unwrap_or(&zeros), out)
    }

    /// HKDF-Expand-Label (RFC 8446, 7.1).
    fn expand_label(
        &self,
        secret: &[u8],
        prefix: &[u8],
        label: &[u8],
        data: &[u8],
        out: &mut [u8],
    ) -> Result<()> {
        let too_long = |_| Error::Unsupported("a label, data or output that is too long for TLS 1.3".into());
        let mut info = u16::try_from(out.len()).map_err(too_long)?.to_be_bytes().to_vec();
        info.push(u8::try_from(prefix.len() + label.len()).map_err(too_long)?);
        info.extend_from_slice(prefix);
        info.extend_from_slice(label);
        info.push(u8::try_from(data.len()).map_err(too_long)?);
        info.extend_from_slice(data);
        let hkdf =
            Hkdf { hash: self.parameters.hash()?, extract: false, expand: true, salt: &[], info: &info };
        self.provider.tokens.hkdf(&hkdf, secret, out)
    }
}

unsafe extern "C" fn newctx<const TLS13: bool>(provider: *mut c_void) -> *mut c_void {
    // SAFETY: libcrypto's argument, as provider-kdf(7) describes it.
    unsafe {
        operation::new(provider, |provider| Context {
            provider,
            tls13: TLS13,
            parameters: Parameters::default(),
        })
    }
}

unsafe extern "C" fn reset(context: *mut c_void) {
    fence((), || {
        // SAFETY: libcrypto's pointer to a context of ours, which nobody else uses now.
        if let Some(context) = unsafe { pointer::reference_mut(context.cast::<Context>()) } {
            context.parameters = Parameters::default();
        }
    });
}

unsafe extern "C" fn derive(
    context: *mut c_void,
    out: *mut c_uchar,
    length: usize,
    params: *const OSSL_PARAM,
) -> c_int {
    // SAFETY: libcrypto's arguments, as provider-kdf(7) describes them: `out` can be written for `length` bytes.
    unsafe {
        with(context, |context: &mut Context| {
            context.parameters.set(Params::new(params))?;
            let out = pointer::slice_mut(out, length);
            context.derive(out.ok_or_else(|| Error::Unsupported("HKDF to a null pointer".into()))?)
        })
    }
}

unsafe extern "C" fn set_ctx_params(context: *mut c_void, params: *const OSSL_PARAM) -> c_int {
    // SAFETY: as above.
    unsafe { with(context, |context: &mut Context| context.parameters.set(Params::new(params))) }
}

unsafe extern "C" fn settable_ctx_params<const TLS13: bool>(
    _context: *mut c_void,
    _provider: *mut c_void,
) -> *const OSSL_PARAM {
    fence(ptr::null(), || {
        const MODE: OSSL_PARAM = describe(OSSL_KDF_PARAM_MODE, OSSL_PARAM_UTF8_STRING);
        const MODE_NUMBER: OSSL_PARAM = describe(OSSL_KDF_PARAM_MODE, OSSL_PARAM_INTEGER);
        const PROPERTIES: OSSL_PARAM = describe(OSSL_KDF_PARAM_PROPERTIES, OSSL_PARAM_UTF8_STRING);
        const DIGEST: OSSL_PARAM = describe(OSSL_KDF_PARAM_DIGEST, OSSL_PARAM_UTF8_STRING);
        const fn bytes(name: &'static CStr) -> OSSL_PARAM {
            describe(name, OSSL_PARAM_OCTET_STRING)
        }
        const KEY: OSSL_PARAM = bytes(OSSL_KDF_PARAM_KEY);
        const SALT: OSSL_PARAM = bytes(OSSL_KDF_PARAM_SALT);
        static HKDF: Descriptions<8> = Descriptions::new([
            MODE,
            MODE_NUMBER,
            PROPERTIES,
            DIGEST,
            KEY,
            SALT,
            bytes(OSSL_KDF_PARAM_INFO),
            END,
        ]);
        static TLS: Descriptions<10> = Descriptions::new([
            MODE,
            MODE_NUMBER,
            PROPERTIES,
            DIGEST,
            KEY,
            SALT,
            bytes(OSSL_KDF_PARAM_PREFIX),
            bytes(OSSL_KDF_PARAM_LABEL),
            bytes(OSSL_KDF_PARAM_DATA),
            END,
        ]);
        if TLS13 { TLS.as_ptr() } else { HKDF.as_ptr() }
    })
}

unsafe extern "C" fn get_ctx_params(context: *mut c_void, params: *mut OSSL_PARAM) -> c_int {
    // SAFETY: as above.
    unsafe {
        with(context, |context: &mut Context| {
            let size = context.parameters.size()?;
            answered(Answers::new(params).size(OSSL_KDF_PARAM_SIZE, size.unwrap_or(usize::MAX)))
        })
    }
}

unsafe extern "C" fn gettable_ctx_params(_context: *mut c_void, _provider: *mut c_void) -> *const OSSL_PARAM {
    fence(ptr::null(), || {
        static LIST: Descriptions<2> =
            Descriptions::new([describe(OSSL_KDF_PARAM_SIZE, OSSL_PARAM_UNSIGNED_INTEGER), END]);
        LIST.as_ptr()
    })
}
