//! TLS1-PRF: the pseudorandom function of TLS 1.2, by which its secrets, keys and Finished messages are derived.

use std::ffi::CStr;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::{Derivation, no_key};
use crate::bindings::*;
use crate::dispatch::operation::Operation;
use crate::error::{Error, Result};
use crate::openssl::Hash;
use crate::params::{Descriptions, END, Params, describe};
use crate::provider::Provider;
use crate::token::SecretKey;

/// The most that labels and seeds come to together, in bytes, as in OpenSSL.
const MAX_SEED: usize = 1024;

/// A derivation: what libcrypto's `ctx` points to.
#[derive(Clone)]
pub struct Context {
    provider: Arc<Provider>,
    hash: Option<Hash>,
    secret: Option<SecretKey>,
    /// The label and the seeds, one after the other.
    seed: Zeroizing<Vec<u8>>,
}

impl Operation for Context {
    fn provider(&self) -> &Provider {
        &self.provider
    }

    fn duplicate(&self) -> Result<Self> {
        Ok(self.clone())
    }
}

impl Derivation for Context {
    const SETTABLE: *const OSSL_PARAM = {
        static LIST: Descriptions<5> = Descriptions::new([
            describe(OSSL_KDF_PARAM_PROPERTIES, OSSL_PARAM_UTF8_STRING),
            describe(OSSL_KDF_PARAM_DIGEST, OSSL_PARAM_UTF8_STRING),
            describe(OSSL_KDF_PARAM_SECRET, OSSL_PARAM_OCTET_STRING),
            describe(OSSL_KDF_PARAM_SEED, OSSL_PARAM_OCTET_STRING),
            END,
        ]);
        LIST.as_ptr()
    };

    fn new(provider: Arc<Provider>) -> Self {
        Context { provider, hash: None, secret: None, seed: Zeroizing::default() }
    }

    fn reset(&mut self) {
        *self = Derivation::new(self.provider.clone());
    }

    /// Seeds are added to those of before.
    fn set(&mut self, params: Params) -> Result<()> {
        if let Some(name) = params.text(OSSL_KDF_PARAM_DIGEST)? {
            self.hash = Some(match Hash::from_name(name)? {
                Hash::Md5Sha1 => {
                    return Err(Error::Unsupported("the TLS1-PRF of TLS 1.1 and before, with MD5".into()));
                }
                hash => hash,
            });
        }
        if let Some(secret) = params.octets(OSSL_KDF_PARAM_SECRET)? {
            self.secret = Some(SecretKey::of_bytes(secret));
        }
        if params.has(OSSL_KDF_PARAM_SEED) {
            let more = Zeroizing::new(params.all_octets(OSSL_KDF_PARAM_SEED)?);
            if self.seed.len() + more.len() > MAX_SEED {
                return Err(Error::Unsupported(format!("TLS1-PRF with more than {MAX_SEED} bytes of seed")));
            }
            // Once: what it grew out of would not be wiped.
            let room = MAX_SEED - self.seed.len();
            self.seed.reserve_exact(room);
            self.seed.extend_from_slice(&more);
        }
        Ok(())
    }

    fn set_key(&mut self, parameter: &CStr, key: SecretKey) -> Result<()> {
        // EVP_KDF_CTX_set_SKEY(3) calls it so where nothing is said.
        if parameter != OSSL_KDF_PARAM_SECRET && parameter != OSSL_KDF_PARAM_KEY {
            return Err(no_key(parameter));
        }
        self.secret = Some(key);
        Ok(())
    }

    fn derive(&self, out: &mut [u8]) -> Result<()> {
        self.provider.tokens.are_not_in_use_here("TLS1-PRF")?;
        let missing = |what: &str| Error::Unsupported(format!("TLS1-PRF without a {what}"));
        let hash = self.hash.ok_or_else(|| missing("digest"))?;
        let secret = self.secret.as_ref().ok_or_else(|| missing("secret"))?;
        if self.seed.is_empty() {
            return Err(missing("seed"));
        }
        self.provider.tokens.tls_prf(hash, secret, &self.seed, out)
    }

    fn size(&self) -> Result<Option<usize>> {
        Ok(None)
    }
}
