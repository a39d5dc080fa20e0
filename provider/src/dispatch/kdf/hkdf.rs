//! HKDF (RFC 5869), and TLS 1.3's use of it (RFC 8446, 7.1).

use std::ffi::CStr;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::{Derivation, no_key};
use crate::bindings::*;
use crate::dispatch::operation::Operation;
use crate::error::{Error, Result};
use crate::openssl::{Digest, Hash};
use crate::params::{Descriptions, END, Params, Value, describe};
use crate::provider::Provider;
use crate::token::{Hkdf, SecretKey};

/// The most that `info` parameters come to together, in bytes, as in OpenSSL.
const MAX_INFO: usize = 32 << 10;

/// A derivation: what libcrypto's `ctx` points to.
#[derive(Clone)]
pub struct Context<const TLS13: bool> {
    provider: Arc<Provider>,
    parameters: Parameters,
}

/// What an application sets.
#[derive(Clone, Default)]
struct Parameters {
    mode: Option<Mode>,
    hash: Option<Hash>,
    key: Option<SecretKey>,
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
            self.key = Some(SecretKey::of_bytes(key));
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

    fn key(&self) -> Result<&SecretKey> {
        self.key.as_ref().ok_or_else(|| Error::Unsupported("HKDF without a key".into()))
    }

    /// How many bytes are derived, if that is not the application's to choose.
    fn size(&self) -> Result<Option<usize>> {
        match self.mode {
            Some(Mode::Extract) => self.hash().map(|hash| Some(hash.size())),
            _ => Ok(None),
        }
    }
}

impl<const TLS13: bool> Operation for Context<TLS13> {
    fn provider(&self) -> &Provider {
        &self.provider
    }

    fn duplicate(&self) -> Result<Self> {
        Ok(self.clone())
    }
}

impl<const TLS13: bool> Derivation for Context<TLS13> {
    const SETTABLE: *const OSSL_PARAM = {
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
    };

    fn new(provider: Arc<Provider>) -> Self {
        Context { provider, parameters: Parameters::default() }
    }

    fn reset(&mut self) {
        self.parameters = Parameters::default();
    }

    fn set(&mut self, params: Params) -> Result<()> {
        self.parameters.set(params)
    }

    fn set_key(&mut self, parameter: &CStr, key: SecretKey) -> Result<()> {
        if parameter != OSSL_KDF_PARAM_KEY {
            return Err(no_key(parameter));
        }
        self.parameters.key = Some(key);
        Ok(())
    }

    fn derive(&self, out: &mut [u8]) -> Result<()> {
        self.provider.tokens.are_not_in_use_here("HKDF")?;
        if let Some(needed) = self.parameters.size()?.filter(|needed| *needed != out.len()) {
            return Err(Error::Buffer { room: out.len(), needed });
        }
        if out.is_empty() {
            return Err(Error::Unsupported("HKDF of no bytes".into()));
        }
        match (TLS13, self.parameters.mode) {
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

    fn size(&self) -> Result<Option<usize>> {
        self.parameters.size()
    }
}

impl<const TLS13: bool> Context<TLS13> {
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
        let zeros = SecretKey::Bytes(Zeroizing::new(vec![0; hash.size()]));
        let mut derived = Zeroizing::new(Vec::new());
        if let Some(before) = salt {
            let (transcript, size) = Digest::new(&self.provider.openssl, hash)?.finish()?;
            derived = Zeroizing::new(vec![0; hash.size()]);
            let transcript = transcript.get(..size).unwrap_or_default();
            self.expand_label(&SecretKey::Bytes(before.clone()), prefix, label, transcript, &mut derived)?;
        }
        let hkdf = Hkdf { hash, extract: true, expand: false, salt: &derived, info: &[] };
        self.provider.tokens.hkdf(&hkdf, key.as_ref().unwrap_or(&zeros), out)
    }

    /// HKDF-Expand-Label (RFC 8446, 7.1).
    fn expand_label(
        &self,
        secret: &SecretKey,
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
