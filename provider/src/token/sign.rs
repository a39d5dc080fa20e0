//! Signing in the token.

use cryptoki_sys::*;

use super::key_use::KeyUse;
use super::module::Rv;
use super::public::PSS;
use super::{MessageOptions, PrivateKey, Tokens};
use crate::error::{Error, Result};
use crate::openssl::{Context, Hash};

/// How a signature is made. One table from OpenSSL's names to these is in [`crate::dispatch::signature`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mechanism {
    /// CKM_RSA_PKCS over a DigestInfo, or over what the application gives.
    RsaPkcs,
    /// CKM_RSA_PKCS_PSS over a digest.
    RsaPss {
        /// The digest's hash.
        hash: Hash,
        /// The mask's hash.
        mgf1: Hash,
        /// The salt's length in bytes.
        salt: usize,
    },
    /// CKM_SHA256_RSA_PKCS_PSS and its like over a message.
    RsaPssMessage {
        /// The hash of the message.
        hash: Hash,
        /// The mask's hash.
        mgf1: Hash,
        /// The salt's length in bytes.
        salt: usize,
    },
    /// CKM_ECDSA over a digest; the signature is r and s, of equal length.
    Ecdsa,
    /// CKM_RSA_X_509: the bare operation, over as many bytes as the modulus has.
    RsaRaw,
    /// CKM_EDDSA over a message, by Ed25519.
    Ed25519,
    /// CKM_EDDSA over a message, by Ed448, which has a parameter.
    Ed448,
    /// CKM_ML_DSA over a message.
    MlDsa(MessageOptions),
    /// CKM_SLH_DSA over a message.
    SlhDsa(MessageOptions),
}

impl Tokens {
    /// Signs `data` with `key` into `signature`; returns the signature's size in bytes.
    ///
    /// # Errors
    ///
    /// As [`with_key`](Self::with_key).
    pub fn sign(
        &self,
        context: &Context,
        key: &PrivateKey,
        mechanism: &Mechanism,
        data: &[u8],
        signature: &mut [u8],
    ) -> Result<usize> {
        self.with_key(context, key, |using| {
            let (module, session, handle) = (using.module, using.session, using.handle);
            using.begin("C_SignInit", || match mechanism {
                Mechanism::RsaPkcs => Ok(module.sign_init(session, CKM_RSA_PKCS, &mut (), handle)),
                Mechanism::Ecdsa => Ok(module.sign_init(session, CKM_ECDSA, &mut (), handle)),
                Mechanism::RsaRaw => Ok(module.sign_init(session, CKM_RSA_X_509, &mut (), handle)),
                Mechanism::Ed25519 => Ok(module.sign_init(session, CKM_EDDSA, &mut (), handle)),
                Mechanism::Ed448 => {
                    let mut parameter = CK_EDDSA_PARAMS {
                        phFlag: CK_FALSE,
                        ulContextDataLen: 0,
                        pContextData: std::ptr::null_mut(),
                    };
                    Ok(module.sign_init(session, CKM_EDDSA, &mut parameter, handle))
                }
                Mechanism::MlDsa(options) => Ok(using.sign_init_with(CKM_ML_DSA, options)),
                Mechanism::SlhDsa(options) => Ok(using.sign_init_with(CKM_SLH_DSA, options)),
                Mechanism::RsaPss { hash, mgf1, salt } => {
                    let mut parameter = pss_parameter(*hash, *mgf1, *salt)?;
                    Ok(module.sign_init(session, CKM_RSA_PKCS_PSS, &mut parameter, handle))
                }
                Mechanism::RsaPssMessage { hash, mgf1, salt } => {
                    let mut parameter = pss_parameter(*hash, *mgf1, *salt)?;
                    let hashing = PSS.iter().find(|(_, hashes)| *hashes == Some(*hash));
                    let (mechanism, _) = hashing.ok_or_else(|| {
                        Error::Unsupported(format!("RSA-PSS with {hash:?} is not in PKCS#11"))
                    })?;
                    Ok(module.sign_init(session, *mechanism, &mut parameter, handle))
                }
            })?;
            module.sign(session, data, signature).map_err(|rv| using.failed("C_Sign", rv))
        })
    }
}

impl KeyUse<'_> {
    /// C_SignInit by a mechanism that takes options.
    fn sign_init_with(&self, mechanism: CK_MECHANISM_TYPE, options: &MessageOptions) -> Rv<()> {
        // Without a parameter, which says the same as this one, for tokens that do not know it.
        if *options == MessageOptions::default() {
            return self.module.sign_init(self.session, mechanism, &mut (), self.handle);
        }
        let context = options.context();
        let mut parameter = CK_SIGN_ADDITIONAL_CONTEXT {
            hedgeVariant: if options.deterministic {
                CKH_DETERMINISTIC_REQUIRED
            } else {
                CKH_HEDGE_PREFERRED
            },
            pContext: context.as_ptr().cast_mut(),
            ulContextLen: context.len() as CK_ULONG,
        };
        self.module.sign_init(self.session, mechanism, &mut parameter, self.handle)
    }
}

fn pss_parameter(hash: Hash, mgf1: Hash, salt: usize) -> Result<CK_RSA_PKCS_PSS_PARAMS> {
    let unsupported = |hash: Hash| Error::Unsupported(format!("RSA-PSS with {hash:?} is not in PKCS#11"));
    let (mechanism, _) = masked_hash(hash).ok_or_else(|| unsupported(hash))?;
    let (_, mgf) = masked_hash(mgf1).ok_or_else(|| unsupported(mgf1))?;
    Ok(CK_RSA_PKCS_PSS_PARAMS { hashAlg: mechanism, mgf, sLen: salt as CK_ULONG })
}

/// A hash's mechanism and mask generation function, for PSS and OAEP.
pub(super) fn masked_hash(hash: Hash) -> Option<(CK_MECHANISM_TYPE, CK_RSA_PKCS_MGF_TYPE)> {
    Some(match hash {
        Hash::Md5Sha1 | Hash::Sha512_224 | Hash::Sha512_256 | Hash::Ripemd160 => return None,
        Hash::Sha1 => (CKM_SHA_1, CKG_MGF1_SHA1),
        Hash::Sha224 => (CKM_SHA224, CKG_MGF1_SHA224),
        Hash::Sha256 => (CKM_SHA256, CKG_MGF1_SHA256),
        Hash::Sha384 => (CKM_SHA384, CKG_MGF1_SHA384),
        Hash::Sha512 => (CKM_SHA512, CKG_MGF1_SHA512),
        Hash::Sha3_224 => (CKM_SHA3_224, CKG_MGF1_SHA3_224),
        Hash::Sha3_256 => (CKM_SHA3_256, CKG_MGF1_SHA3_256),
        Hash::Sha3_384 => (CKM_SHA3_384, CKG_MGF1_SHA3_384),
        Hash::Sha3_512 => (CKM_SHA3_512, CKG_MGF1_SHA3_512),
    })
}
