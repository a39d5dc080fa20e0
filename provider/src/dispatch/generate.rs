//! Key generation (provider-keymgmt(7)): `openssl genpkey`, EVP_PKEY_generate(3). The pair is made in the token that the parameter
//! `pkcs11_uri` names, and stays there.
//!
//! Without that parameter nothing is made. libcrypto makes the one-time keys of every handshake with whichever provider it finds
//! first: a token must not fill with those because an application lists its providers in another order.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::Arc;

use strongroom_ffi::pointer;
use strongroom_uri::Uri;

use crate::bindings::*;
use crate::error::{Error, Result};
use crate::fence::fence;
use crate::key::Key;
use crate::openssl::{Hash, curve_parameters};
use crate::params::{self, Descriptions, END, Params, Value, describe};
use crate::provider::Provider;
use crate::token::{KeyKind, Kind, NewPair, Use};

/// The URI of the new pair: its token, label and id. The name is pkcs11-provider's.
pub const URI: &CStr = c"pkcs11_uri";

/// What the new key may be used for: names of certificates' key usages, separated by blanks. The name is pkcs11-provider's.
pub const USAGE: &CStr = c"pkcs11_key_usage";

/// The largest RSA key whose signatures this provider returns, in bits.
const MAX_BITS: i64 = 8192;

/// A generation in preparation: what libcrypto's `genctx` points to.
pub struct Generation {
    provider: Arc<Provider>,
    kind: KeyKind,
    uri: Option<Uri>,
    uses: Vec<Use>,
    bits: i64,
    exponent: Vec<u8>,
    hash: Option<Hash>,
    curve: Option<Vec<u8>>,
}

impl Generation {
    fn new(provider: Arc<Provider>, kind: KeyKind) -> Self {
        // As OpenSSL's own genpkey: 2048 bits, exponent 65,537.
        let (uses, exponent) = (kind.facts().uses.to_vec(), vec![1, 0, 1]);
        Generation { provider, kind, uri: None, uses, bits: 2048, exponent, hash: None, curve: None }
    }

    fn set(&mut self, params: Params) -> Result<()> {
        if let Some(uri) = params.text(URI)? {
            self.uri = Some(Uri::parse(uri)?);
        }
        if let Some(names) = params.text(USAGE)? {
            self.uses = self.uses_of(names)?;
        }
        if self.kind.is_rsa() {
            self.set_rsa(params)?;
        } else if self.kind == KeyKind::Ec {
            self.set_curve(params)?;
        }
        Ok(())
    }

    fn uses_of(&self, names: &str) -> Result<Vec<Use>> {
        let possible = self.kind.possible_uses();
        let uses = names.split_ascii_whitespace().map(|name| {
            Use::of_key_usage(name, self.kind).filter(|usage| possible.contains(usage)).ok_or_else(|| {
                Error::Unsupported(format!(
                    "key usage \"{name}\" of a {} key; there are digitalSignature, dataEncipherment, keyEncipherment and keyAgreement",
                    self.kind.name().to_string_lossy()
                ))
            })
        });
        let uses: Vec<Use> = uses.collect::<Result<_>>()?;
        if uses.is_empty() {
            return Err(Error::Unsupported("a key without any usage".into()));
        }
        Ok(uses)
    }

    fn set_rsa(&mut self, params: Params) -> Result<()> {
        if let Some(bits) = params.value(OSSL_PKEY_PARAM_RSA_BITS)? {
            self.bits = match bits {
                Value::Integer(bits) if (1..=MAX_BITS).contains(&bits) => bits,
                _ => return Err(Error::Unsupported(format!("an RSA key of more than {MAX_BITS} bits"))),
            };
        }
        if let Some(exponent) = params.value(OSSL_PKEY_PARAM_RSA_E)? {
            let Value::Integer(exponent @ 3..) = exponent else {
                return Err(Error::Unsupported("an RSA exponent that is no number of 64 bits from 3".into()));
            };
            let bytes = exponent.to_be_bytes();
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            self.exponent = bytes.get(zeros..).unwrap_or_default().to_vec();
        }
        match params.value(OSSL_PKEY_PARAM_RSA_PRIMES)? {
            None | Some(Value::Integer(2)) => {}
            Some(_) => return Err(Error::Unsupported("an RSA key of more than two primes".into())),
        }
        if self.kind == KeyKind::RsaPss { self.set_restriction(params) } else { Ok(()) }
    }

    /// What an RSA-PSS key is restricted to: one hash, as far as PKCS#11 can say it.
    fn set_restriction(&mut self, params: Params) -> Result<()> {
        if let Some(name) = params.text(OSSL_PKEY_PARAM_RSA_DIGEST)? {
            self.hash = Some(Hash::from_name(name)?);
        }
        if let Some(name) = params.text(OSSL_PKEY_PARAM_RSA_MGF1_DIGEST)?
            && Some(Hash::from_name(name)?) != self.hash
        {
            return Err(Error::Unsupported(
                "an RSA-PSS key whose mask has another hash than its digest".into(),
            ));
        }
        match params.value(OSSL_PKEY_PARAM_RSA_PSS_SALTLEN)? {
            None | Some(Value::Integer(..=20)) => Ok(()),
            Some(_) => {
                Err(Error::Unsupported("an RSA-PSS key restricted to salts of more than 20 bytes".into()))
            }
        }
    }

    fn set_curve(&mut self, params: Params) -> Result<()> {
        if let Some(name) = params.text(OSSL_PKEY_PARAM_GROUP_NAME)? {
            self.curve = Some(curve_parameters(name)?);
        }
        match params.text(OSSL_PKEY_PARAM_EC_ENCODING)? {
            None | Some("named_curve") => Ok(()),
            Some(_) => Err(Error::Unsupported("a curve by explicit parameters: choose a named one".into())),
        }
    }

    fn generate(&self) -> Result<Key> {
        let uri = self.uri.clone().ok_or_else(|| {
            Error::Unsupported(
                "a new key needs -pkeyopt \"pkcs11_uri:pkcs11:token=…;object=…\"; for one that is not meant for a token, name provider                  default before strongroom in openssl.cnf"
                    .into(),
            )
        })?;
        let curve = match &self.curve {
            Some(curve) => curve.clone(),
            // As pkcs11-provider.
            None if self.kind == KeyKind::Ec => curve_parameters("P-256")?,
            None => Vec::new(),
        };
        let pair = NewPair {
            kind: self.kind,
            uri,
            uses: self.uses.clone(),
            bits: u64::try_from(self.bits).unwrap_or(0),
            exponent: self.exponent.clone(),
            hash: self.hash,
            curve,
        };
        let private = self.provider.tokens.generate(&self.provider.openssl, &pair)?;
        Ok(Key::from_token(self.provider.clone(), private))
    }
}

/// Borrows libcrypto's generation.
///
/// # Safety
///
/// `pointer` is null or was made by [`gen_init`], was not cleaned up, and no other thread uses it now.
unsafe fn generation<'a>(pointer: *mut c_void) -> Option<&'a mut Generation> {
    // SAFETY: by the contract.
    unsafe { pointer::reference_mut(pointer.cast()) }
}

/// Begins. Only key pairs are made: curve parameters alone are OpenSSL's own provider's to make.
pub unsafe extern "C" fn gen_init<K: Kind>(
    provider: *mut c_void,
    selection: c_int,
    params: *const OSSL_PARAM,
) -> *mut c_void {
    fence(ptr::null_mut(), || {
        // SAFETY: libcrypto's pointer to our provider.
        let Some(provider) = (unsafe { Provider::from_context(provider) }) else { return ptr::null_mut() };
        if selection as u32 & OSSL_KEYMGMT_SELECT_KEYPAIR != OSSL_KEYMGMT_SELECT_KEYPAIR {
            let why = "parameters without a key pair: OpenSSL's own provider makes them".into();
            provider.core.raise(&Error::Unsupported(why));
            return ptr::null_mut();
        }
        let mut generation = Generation::new(provider.clone(), K::KIND);
        // SAFETY: null or a terminated list from libcrypto.
        match provider.report(generation.set(unsafe { Params::new(params) })) {
            Some(()) => Box::into_raw(Box::new(generation)).cast(),
            None => ptr::null_mut(),
        }
    })
}

pub unsafe extern "C" fn gen_set_params(context: *mut c_void, params: *const OSSL_PARAM) -> c_int {
    fence(0, || {
        // SAFETY: libcrypto's pointer to a generation of ours, and a terminated list.
        let (Some(generation), params) = (unsafe { (generation(context), Params::new(params)) }) else {
            return 0;
        };
        let done = generation.set(params);
        generation.provider.status(done)
    })
}

pub unsafe extern "C" fn gen_settable_params<K: Kind>(
    _context: *mut c_void,
    _provider: *mut c_void,
) -> *const OSSL_PARAM {
    static RSA: Descriptions<6> = Descriptions::new([
        describe(URI, OSSL_PARAM_UTF8_STRING),
        describe(USAGE, OSSL_PARAM_UTF8_STRING),
        describe(OSSL_PKEY_PARAM_RSA_BITS, OSSL_PARAM_UNSIGNED_INTEGER),
        describe(OSSL_PKEY_PARAM_RSA_PRIMES, OSSL_PARAM_UNSIGNED_INTEGER),
        describe(OSSL_PKEY_PARAM_RSA_E, OSSL_PARAM_UNSIGNED_INTEGER),
        END,
    ]);
    static RSA_PSS: Descriptions<9> = Descriptions::new([
        describe(URI, OSSL_PARAM_UTF8_STRING),
        describe(USAGE, OSSL_PARAM_UTF8_STRING),
        describe(OSSL_PKEY_PARAM_RSA_BITS, OSSL_PARAM_UNSIGNED_INTEGER),
        describe(OSSL_PKEY_PARAM_RSA_PRIMES, OSSL_PARAM_UNSIGNED_INTEGER),
        describe(OSSL_PKEY_PARAM_RSA_E, OSSL_PARAM_UNSIGNED_INTEGER),
        describe(OSSL_PKEY_PARAM_RSA_DIGEST, OSSL_PARAM_UTF8_STRING),
        describe(OSSL_PKEY_PARAM_RSA_MGF1_DIGEST, OSSL_PARAM_UTF8_STRING),
        describe(OSSL_PKEY_PARAM_RSA_PSS_SALTLEN, OSSL_PARAM_INTEGER),
        END,
    ]);
    static EC: Descriptions<5> = Descriptions::new([
        describe(URI, OSSL_PARAM_UTF8_STRING),
        describe(USAGE, OSSL_PARAM_UTF8_STRING),
        describe(OSSL_PKEY_PARAM_GROUP_NAME, OSSL_PARAM_UTF8_STRING),
        describe(OSSL_PKEY_PARAM_EC_ENCODING, OSSL_PARAM_UTF8_STRING),
        END,
    ]);
    static OTHER: Descriptions<3> = Descriptions::new([
        describe(URI, OSSL_PARAM_UTF8_STRING),
        describe(USAGE, OSSL_PARAM_UTF8_STRING),
        END,
    ]);
    fence(ptr::null(), || match K::KIND {
        KeyKind::RsaPss => RSA_PSS.as_ptr(),
        kind if kind.is_rsa() => RSA.as_ptr(),
        KeyKind::Ec => EC.as_ptr(),
        _ => OTHER.as_ptr(),
    })
}

/// Makes the pair. The callback hears of it once, before, and may stop it.
pub unsafe extern "C" fn r#gen(
    context: *mut c_void,
    callback: OSSL_CALLBACK,
    argument: *mut c_void,
) -> *mut c_void {
    fence(ptr::null_mut(), || {
        // SAFETY: libcrypto's pointer to a generation of ours.
        let Some(generation) = (unsafe { generation(context) }) else { return ptr::null_mut() };
        let (potential, iteration) = (0, 0);
        let progress = [
            params::int(OSSL_GEN_PARAM_POTENTIAL, &potential),
            params::int(OSSL_GEN_PARAM_ITERATION, &iteration),
            END,
        ];
        // SAFETY: libcrypto's callback with its argument; the list and what it points to live for the call.
        if callback.is_some_and(|callback| unsafe { callback(progress.as_ptr(), argument) } != 1) {
            return ptr::null_mut();
        }
        match generation.provider.report(generation.generate()) {
            Some(key) => Arc::into_raw(Arc::new(key)).cast_mut().cast(),
            None => ptr::null_mut(),
        }
    })
}
