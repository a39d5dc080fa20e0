//! Asymmetric ciphers (provider-asym_cipher(7)): decryption with RSA keys in the token; TLS 1.2's RSA key exchange is one.
//!
//! Encryption takes the public half, and is OpenSSL's.

use std::ffi::{CStr, c_int, c_uchar, c_void};
use std::ptr;
use std::sync::Arc;

use super::operation::{self, Operation, give, place_for_length, with};
use super::rsa_decryption::{Padding, decrypt};
use super::{Algorithms, MAX_LIST, input, share, table};
use crate::bindings::*;
use crate::error::{Error, Result};
use crate::fence::fence;
use crate::key::Key;
use crate::openssl::Hash;
use crate::params::{self, Answers, Descriptions, END, Params, Value, answered, describe};
use crate::provider::Provider;
use crate::rsa_padding::PREMASTER;
use crate::token::kinds::ForEach;
use crate::token::{Functions, KeyKind, Kind, Table};

/// The ciphers.
pub static ALGORITHMS: Algorithms<MAX_LIST> =
    Algorithms::of_key_types(&[], &ForEach::<Cipher>::TABLES, OSSL_OP_ASYM_CIPHER, c"provider=strongroom");

struct Cipher;

impl<K: Kind> Table<K> for Cipher {
    const TABLE: Functions = table![
        OSSL_FUNC_ASYM_CIPHER_NEWCTX: OSSL_FUNC_asym_cipher_newctx_fn = newctx,
        OSSL_FUNC_ASYM_CIPHER_FREECTX: OSSL_FUNC_asym_cipher_freectx_fn = operation::free::<Context>,
        OSSL_FUNC_ASYM_CIPHER_DUPCTX: OSSL_FUNC_asym_cipher_dupctx_fn = operation::duplicate::<Context>,
        OSSL_FUNC_ASYM_CIPHER_ENCRYPT_INIT: OSSL_FUNC_asym_cipher_encrypt_init_fn = encrypt_init,
        OSSL_FUNC_ASYM_CIPHER_ENCRYPT: OSSL_FUNC_asym_cipher_encrypt_fn = encrypt,
        OSSL_FUNC_ASYM_CIPHER_DECRYPT_INIT: OSSL_FUNC_asym_cipher_decrypt_init_fn = decrypt_init,
        OSSL_FUNC_ASYM_CIPHER_DECRYPT: OSSL_FUNC_asym_cipher_decrypt_fn = decrypt_data,
        OSSL_FUNC_ASYM_CIPHER_GET_CTX_PARAMS: OSSL_FUNC_asym_cipher_get_ctx_params_fn = get_ctx_params,
        OSSL_FUNC_ASYM_CIPHER_GETTABLE_CTX_PARAMS: OSSL_FUNC_asym_cipher_gettable_ctx_params_fn = gettable_ctx_params,
        OSSL_FUNC_ASYM_CIPHER_SET_CTX_PARAMS: OSSL_FUNC_asym_cipher_set_ctx_params_fn = set_ctx_params,
        OSSL_FUNC_ASYM_CIPHER_SETTABLE_CTX_PARAMS: OSSL_FUNC_asym_cipher_settable_ctx_params_fn = settable_ctx_params,
    ];
}

/// OSSL_ASYM_CIPHER_PARAM_IMPLICIT_REJECTION, which 3.0's headers do not have.
const IMPLICIT_REJECTION: &CStr = c"implicit-rejection";

/// One operation: what libcrypto's `ctx` points to.
#[derive(Clone)]
struct Context {
    provider: Arc<Provider>,
    key: Option<Arc<Key>>,
    parameters: Parameters,
}

/// What an application may set.
#[derive(Debug, Clone)]
pub struct Parameters {
    /// The padding.
    pub padding: Padding,
    /// OAEP's hash; SHA-1 if none is set.
    pub hash: Option<Hash>,
    /// OAEP's mask hash, if it is another.
    pub mgf1: Option<Hash>,
    /// OAEP's label.
    pub label: Arc<[u8]>,
    /// The version that a TLS client offered, and the one that was agreed on, if a client may send that too.
    pub versions: [Option<u16>; 2],
    /// A PKCS#1 v1.5 padding that is wrong is answered with a message that is made up.
    pub rejects_implicitly: bool,
}

impl Default for Parameters {
    fn default() -> Self {
        Parameters {
            padding: Padding::Pkcs1,
            hash: None,
            mgf1: None,
            label: Arc::default(),
            versions: [None; 2],
            rejects_implicitly: true,
        }
    }
}

impl Parameters {
    /// Applies what an application sets.
    fn set(&mut self, params: Params) -> Result<()> {
        if let Some(value) = params.value(OSSL_ASYM_CIPHER_PARAM_PAD_MODE)? {
            self.padding = Padding::from_value(&value)?;
        }
        if let Some(name) = params.text(OSSL_ASYM_CIPHER_PARAM_OAEP_DIGEST)? {
            self.hash = Some(Hash::from_name(name)?);
        }
        if let Some(name) = params.text(OSSL_ASYM_CIPHER_PARAM_MGF1_DIGEST)? {
            self.mgf1 = Some(Hash::from_name(name)?);
        }
        match params.value(OSSL_ASYM_CIPHER_PARAM_OAEP_LABEL)? {
            None => {}
            Some(Value::Octets(label)) => self.label = label.into(),
            Some(_) => return Err(Error::Unsupported("an OAEP label that is not bytes".into())),
        }
        let names =
            [OSSL_ASYM_CIPHER_PARAM_TLS_CLIENT_VERSION, OSSL_ASYM_CIPHER_PARAM_TLS_NEGOTIATED_VERSION];
        for (version, name) in self.versions.iter_mut().zip(names) {
            match params.value(name)? {
                None => {}
                // 0 stands for none.
                Some(Value::Integer(0)) => *version = None,
                Some(Value::Integer(number)) if u16::try_from(number).is_ok() => {
                    *version = Some(number as u16)
                }
                Some(_) => return Err(Error::Unsupported("a TLS version that is none".into())),
            }
        }
        match params.value(IMPLICIT_REJECTION)? {
            None => {}
            Some(Value::Integer(number)) => self.rejects_implicitly = number != 0,
            Some(_) => return Err(Error::Unsupported("implicit-rejection is neither 0 nor 1".into())),
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
    fn init(&mut self, key: Option<Arc<Key>>, params: Params, decrypts: bool) -> Result<()> {
        // Without a key the one of the last operation is used again.
        let key = key
            .or_else(|| self.key.clone())
            .ok_or_else(|| Error::Unsupported("a decryption without a key".into()))?;
        if key.kind != KeyKind::Rsa {
            return Err(Error::Unsupported("only RSA keys decrypt".into()));
        }
        if decrypts {
            key.private()?;
        }
        self.key = Some(key);
        self.parameters = Parameters::default();
        self.parameters.set(params)
    }

    fn key(&self) -> Result<&Arc<Key>> {
        self.key.as_ref().ok_or_else(|| Error::Unsupported("a decryption that was not initialised".into()))
    }

    /// Encrypts with OpenSSL's own provider.
    fn encrypt(&self, message: &[u8], out: &mut [u8]) -> Result<usize> {
        let public = self.key()?.public()?;
        let mut list = vec![params::utf8(OSSL_ASYM_CIPHER_PARAM_PAD_MODE, self.parameters.padding.name()?)];
        if self.parameters.padding == Padding::Oaep {
            list.extend(
                self.parameters
                    .hash
                    .map(|hash| params::utf8(OSSL_ASYM_CIPHER_PARAM_OAEP_DIGEST, hash.name())),
            );
            list.extend(
                self.parameters
                    .mgf1
                    .map(|hash| params::utf8(OSSL_ASYM_CIPHER_PARAM_MGF1_DIGEST, hash.name())),
            );
            if !self.parameters.label.is_empty() {
                list.push(params::octets(OSSL_ASYM_CIPHER_PARAM_OAEP_LABEL, &self.parameters.label));
            }
        }
        list.push(END);
        // SAFETY: terminated, and alive for the call, as is what it points to.
        let params = unsafe { Params::new(list.as_ptr()) };
        public.encrypt(&self.provider.openssl, params, message, out)
    }
}

unsafe extern "C" fn newctx(provider: *mut c_void) -> *mut c_void {
    // SAFETY: libcrypto's argument, as provider-asym_cipher(7) describes it.
    unsafe {
        operation::new(provider, |provider| Context {
            provider,
            key: None,
            parameters: Parameters::default(),
        })
    }
}

unsafe extern "C" fn encrypt_init(
    context: *mut c_void,
    key: *mut c_void,
    params: *const OSSL_PARAM,
) -> c_int {
    // SAFETY: libcrypto's arguments, as provider-asym_cipher(7) describes them.
    unsafe { with(context, |context: &mut Context| context.init(share(key), Params::new(params), false)) }
}

unsafe extern "C" fn decrypt_init(
    context: *mut c_void,
    key: *mut c_void,
    params: *const OSSL_PARAM,
) -> c_int {
    // SAFETY: as above.
    unsafe { with(context, |context: &mut Context| context.init(share(key), Params::new(params), true)) }
}

unsafe extern "C" fn encrypt(
    context: *mut c_void,
    out: *mut c_uchar,
    length: *mut usize,
    size: usize,
    data: *const c_uchar,
    data_length: usize,
) -> c_int {
    // SAFETY: as above: `length` can be written, `out` is null or can be written for `size` bytes, the data be read.
    unsafe {
        with(context, |context: &mut Context| {
            let length = place_for_length(length)?;
            let needed = context.key()?.public()?.signature_size();
            if out.is_null() {
                *length = needed;
                return Ok(());
            }
            let data = input(data, data_length)?;
            // Not into the caller's buffer: it may be the one that the data are in.
            let mut ciphertext = vec![0; needed];
            let made = context.encrypt(data, &mut ciphertext)?;
            give(ciphertext.get(..made).unwrap_or_default(), out, length, size)
        })
    }
}

unsafe extern "C" fn decrypt_data(
    context: *mut c_void,
    out: *mut c_uchar,
    length: *mut usize,
    size: usize,
    data: *const c_uchar,
    data_length: usize,
) -> c_int {
    // SAFETY: as for `encrypt`.
    unsafe {
        with(context, |context: &mut Context| {
            let length = place_for_length(length)?;
            let key = context.key()?;
            // The same for every ciphertext: the message's own size is not for the error that a small buffer makes.
            let needed = match context.parameters.padding {
                Padding::Tls => PREMASTER,
                _ => key.public()?.signature_size(),
            };
            if out.is_null() {
                *length = needed;
                return Ok(());
            }
            if size < needed {
                return Err(Error::Buffer { room: size, needed });
            }
            let message = decrypt(key, &context.parameters, input(data, data_length)?)?;
            give(&message, out, length, size)
        })
    }
}

unsafe extern "C" fn set_ctx_params(context: *mut c_void, params: *const OSSL_PARAM) -> c_int {
    // SAFETY: as above.
    unsafe { with(context, |context: &mut Context| context.parameters.set(Params::new(params))) }
}

unsafe extern "C" fn settable_ctx_params(_context: *mut c_void, _provider: *mut c_void) -> *const OSSL_PARAM {
    fence(ptr::null(), || {
        static LIST: Descriptions<8> = Descriptions::new([
            describe(OSSL_ASYM_CIPHER_PARAM_PAD_MODE, OSSL_PARAM_UTF8_STRING),
            describe(OSSL_ASYM_CIPHER_PARAM_OAEP_DIGEST, OSSL_PARAM_UTF8_STRING),
            describe(OSSL_ASYM_CIPHER_PARAM_MGF1_DIGEST, OSSL_PARAM_UTF8_STRING),
            describe(OSSL_ASYM_CIPHER_PARAM_OAEP_LABEL, OSSL_PARAM_OCTET_STRING),
            describe(OSSL_ASYM_CIPHER_PARAM_TLS_CLIENT_VERSION, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_ASYM_CIPHER_PARAM_TLS_NEGOTIATED_VERSION, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(IMPLICIT_REJECTION, OSSL_PARAM_UNSIGNED_INTEGER),
            END,
        ]);
        LIST.as_ptr()
    })
}

unsafe extern "C" fn get_ctx_params(context: *mut c_void, params: *mut OSSL_PARAM) -> c_int {
    // SAFETY: as above.
    unsafe {
        with(context, |context: &mut Context| {
            let Parameters { padding, hash, mgf1, label, versions, rejects_implicitly } = &context.parameters;
            let answers = Answers::new(params);
            let (name, number) = padding.name_and_number();
            let hash = hash.unwrap_or(Hash::Sha1);
            let [client, negotiated] = versions.map(|version| c_int::from(version.unwrap_or(0)));
            answered(
                answers.choice(OSSL_ASYM_CIPHER_PARAM_PAD_MODE, name, number)
                    && answers.text(OSSL_ASYM_CIPHER_PARAM_OAEP_DIGEST, hash.name())
                    && answers.text(OSSL_ASYM_CIPHER_PARAM_MGF1_DIGEST, mgf1.unwrap_or(hash).name())
                    && answers.octets(OSSL_ASYM_CIPHER_PARAM_OAEP_LABEL, label)
                    && answers.integer(OSSL_ASYM_CIPHER_PARAM_TLS_CLIENT_VERSION, client)
                    && answers.integer(OSSL_ASYM_CIPHER_PARAM_TLS_NEGOTIATED_VERSION, negotiated)
                    && answers.integer(IMPLICIT_REJECTION, c_int::from(*rejects_implicitly)),
            )
        })
    }
}

unsafe extern "C" fn gettable_ctx_params(_context: *mut c_void, _provider: *mut c_void) -> *const OSSL_PARAM {
    fence(ptr::null(), || {
        static LIST: Descriptions<8> = Descriptions::new([
            describe(OSSL_ASYM_CIPHER_PARAM_PAD_MODE, OSSL_PARAM_UTF8_STRING),
            describe(OSSL_ASYM_CIPHER_PARAM_OAEP_DIGEST, OSSL_PARAM_UTF8_STRING),
            describe(OSSL_ASYM_CIPHER_PARAM_MGF1_DIGEST, OSSL_PARAM_UTF8_STRING),
            describe(OSSL_ASYM_CIPHER_PARAM_OAEP_LABEL, OSSL_PARAM_OCTET_PTR),
            describe(OSSL_ASYM_CIPHER_PARAM_TLS_CLIENT_VERSION, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_ASYM_CIPHER_PARAM_TLS_NEGOTIATED_VERSION, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(IMPLICIT_REJECTION, OSSL_PARAM_UNSIGNED_INTEGER),
            END,
        ]);
        LIST.as_ptr()
    })
}
