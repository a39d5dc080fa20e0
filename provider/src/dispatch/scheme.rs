//! How a signature is to be made: padding, hash, salt. From OpenSSL's parameters to a mechanism, and from the
//! token's bytes to OpenSSL's.

use std::ffi::{CStr, CString, c_int};
use std::sync::Arc;

use der::asn1::UintRef;
use der::{Encode, Sequence};

use crate::bindings::*;
use crate::error::{Error, Result};
use crate::jobs;
use crate::key::Key;
use crate::openssl::{Hash, Verification};
use crate::params::{self, Params, Value};
use crate::rsa_padding;
use crate::token::{KeyKind, Mechanism, MessageOptions, Operation, is_not_offered};

/// The largest signature but of ML-DSA and SLH-DSA, in bytes: RSA with 8,192 bits.
pub const MAX_SIGNATURE: usize = 1024;

/// The largest ECDSA signature as r || s, in bytes: a curve of 571 bits.
const MAX_ECDSA: usize = 144;

/// Padding of RSA (EVP_PKEY_CTX_set_rsa_padding(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// RSASSA-PKCS1-v1_5
    Pkcs1,
    /// RSASSA-PSS
    Pss,
    /// None: the application has padded.
    None,
}

impl Padding {
    /// Its name and number in libcrypto.
    pub fn name_and_number(self) -> (&'static CStr, c_int) {
        match self {
            Padding::Pkcs1 => (c"pkcs1", 1),
            Padding::None => (c"none", 3),
            Padding::Pss => (c"pss", 6),
        }
    }
}

/// What an RSA-PSS key is restricted to (RFC 4055, 3.1): its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restriction {
    hash: Hash,
    mgf1: Hash,
    /// The least salt in bytes.
    salt: usize,
}

/// Length of PSS's salt (EVP_PKEY_CTX_set_rsa_pss_saltlen(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Salt {
    /// As long as the digest.
    Digest,
    /// As long as possible when signing, whatever it is when verifying.
    Auto,
    /// As long as possible.
    Max,
    /// As long as possible, but not longer than the digest.
    AutoDigestMax,
    /// This many bytes.
    Bytes(usize),
}

/// The parameters of one signature operation.
#[derive(Debug, Clone)]
pub struct Scheme {
    /// The hash of the data, once it is known. Without one, RSA signs what it is given.
    pub hash: Option<Hash>,
    /// RSA's padding.
    pub padding: Padding,
    /// PSS's mask hash, if it is another than `hash`.
    pub mgf1: Option<Hash>,
    /// PSS's salt.
    pub salt: Salt,
    /// What the key allows, if not everything.
    pub restriction: Option<Restriction>,
    /// What goes into a signature of ML-DSA or SLH-DSA beside the message.
    pub message: MessageOptions,
}

impl Default for Scheme {
    fn default() -> Self {
        Scheme {
            hash: None,
            padding: Padding::Pkcs1,
            mgf1: None,
            salt: Salt::Auto,
            restriction: None,
            message: MessageOptions::default(),
        }
    }
}

impl Scheme {
    /// Where a signature with `key` begins.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] if the key is restricted to what is not known here.
    pub fn of(key: &Key) -> Result<Self> {
        if key.kind != KeyKind::RsaPss {
            return Ok(Scheme::default());
        }
        let restriction = match key.public()?.pss_restriction()? {
            None => None,
            Some((hash, mgf1, salt)) => {
                Some(Restriction { hash: Hash::from_name(&hash)?, mgf1: Hash::from_name(&mgf1)?, salt })
            }
        };
        Ok(Scheme {
            padding: Padding::Pss,
            hash: restriction.map(|only| only.hash),
            mgf1: restriction.map(|only| only.mgf1),
            salt: restriction.map_or(Salt::Auto, |only| Salt::Bytes(only.salt)),
            restriction,
            message: MessageOptions::default(),
        })
    }

    /// Sets the hash, by a name that the application gave.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] if it is not known, or the key does not allow it.
    pub fn set_hash(&mut self, name: &str) -> Result<()> {
        self.hash = Some(Hash::from_name(name)?);
        self.check()
    }

    /// Whether the key's restriction allows this.
    fn check(&self) -> Result<()> {
        let Some(only) = self.restriction else { return Ok(()) };
        let salt = match self.salt {
            Salt::Bytes(bytes) => bytes,
            // The others are at least as long as the digest, or checked when they are known.
            _ => only.salt.max(only.hash.size()),
        };
        if self.hash == Some(only.hash) && self.mgf1.or(self.hash) == Some(only.mgf1) && salt >= only.salt {
            return Ok(());
        }
        Err(Error::Unsupported(format!(
            "the RSA-PSS key is restricted to {:?}, MGF1 with {:?} and a salt of at least {} bytes",
            only.hash, only.mgf1, only.salt
        )))
    }

    /// Applies what an application sets for a key of type `kind`.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] for a padding, hash, salt length or variant that is not offered, or a value that
    /// cannot be read: what is not understood must not be left out of a signature.
    pub fn set(&mut self, kind: KeyKind, params: Params) -> Result<()> {
        if params.is_empty() {
            return Ok(());
        }
        if let Some(name) = params.text(OSSL_SIGNATURE_PARAM_DIGEST)? {
            self.hash = Some(Hash::from_name(name)?);
        }
        if let Some(name) = params.text(OSSL_SIGNATURE_PARAM_MGF1_DIGEST)? {
            self.mgf1 = Some(Hash::from_name(name)?);
        }
        if let Some(value) = params.value(OSSL_SIGNATURE_PARAM_PAD_MODE)? {
            self.padding = match value {
                Value::Integer(1) | Value::Text("pkcs1") if kind != KeyKind::RsaPss => Padding::Pkcs1,
                Value::Integer(6) | Value::Text("pss") => Padding::Pss,
                Value::Integer(3) | Value::Text("none") if kind != KeyKind::RsaPss => Padding::None,
                other => {
                    return Err(Error::Unsupported(format!(
                        "RSA padding {other:?}; pss is offered and, but for RSA-PSS keys, pkcs1 and none"
                    )));
                }
            };
        }
        if let Some(value) = params.value(OSSL_SIGNATURE_PARAM_PSS_SALTLEN)? {
            let bad = || {
                Error::Unsupported(
                    "a salt length that is none of digest, max, auto or a number of bytes".into(),
                )
            };
            self.salt = match value {
                Value::Integer(-1) | Value::Text("digest" | "-1") => Salt::Digest,
                Value::Integer(-2) | Value::Text("auto" | "-2") => Salt::Auto,
                Value::Integer(-3) | Value::Text("max" | "-3") => Salt::Max,
                Value::Integer(-4) | Value::Text("auto-digestmax" | "-4") => Salt::AutoDigestMax,
                Value::Integer(bytes) => Salt::Bytes(usize::try_from(bytes).map_err(|_| bad())?),
                Value::Text(text) => Salt::Bytes(text.parse().map_err(|_| bad())?),
                Value::Octets(_) => return Err(bad()),
            };
        }
        // Variants that newer libcryptos know; their names are not in 3.0's headers.
        match params.value(c"instance")? {
            None => {}
            Some(Value::Text(name))
                if kind.signs_messages() && name.as_bytes().eq_ignore_ascii_case(kind.name().to_bytes()) => {}
            Some(_) => {
                return Err(Error::Unsupported(
                    "a variant of the algorithm (instance) that tokens do not have".into(),
                ));
            }
        }
        match params.value(c"context-string")? {
            Some(Value::Octets(context)) if kind.takes_context() => {
                if !self.message.set_context(context) {
                    return Err(Error::Unsupported("a context string of more than 255 bytes".into()));
                }
            }
            None | Some(Value::Octets([])) => {}
            Some(_) => return Err(Error::Unsupported("a context string".into())),
        }
        if kind.takes_context() {
            self.set_options(params)?;
        }
        match params.value(c"nonce-type")? {
            None | Some(Value::Integer(0)) => {}
            Some(_) => {
                return Err(Error::Unsupported("deterministic nonces: the token chooses its nonces".into()));
            }
        }
        self.check()
    }

    /// What only ML-DSA and SLH-DSA have. Their names are not in 3.0's headers.
    fn set_options(&mut self, params: Params) -> Result<()> {
        match params.value(c"deterministic")? {
            None => {}
            Some(Value::Integer(number)) => self.message.deterministic = number != 0,
            Some(_) => return Err(Error::Unsupported("parameter deterministic is not a number".into())),
        }
        // That the message comes as it is, and not as FIPS 204 and 205 encode it.
        match params.value(c"message-encoding")? {
            None | Some(Value::Integer(1)) => {}
            Some(_) => return Err(Error::Unsupported("a message that is encoded already".into())),
        }
        match params.value(c"mu")? {
            None | Some(Value::Integer(0)) => Ok(()),
            Some(_) => {
                Err(Error::Unsupported("a message representative: PKCS#11 has no mechanism for it".into()))
            }
        }
    }

    /// The salt's length in bytes for a key of `bits` bits.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] if the key is too small for the hash and salt.
    pub fn salt_bytes(&self, hash: Hash, bits: usize) -> Result<usize> {
        // RFC 8017, 9.1.1: emLen >= hLen + sLen + 2, with emBits = modBits - 1.
        let encoded = bits.saturating_sub(1).div_ceil(8);
        let too_small =
            || Error::Unsupported(format!("a key of {bits} bits is too small for RSA-PSS with {hash:?}"));
        let most = encoded.checked_sub(hash.size() + 2).ok_or_else(too_small)?;
        let salt = match self.salt {
            Salt::Digest => hash.size(),
            Salt::Auto | Salt::Max => most,
            Salt::AutoDigestMax => most.min(hash.size()),
            Salt::Bytes(bytes) => bytes,
        };
        if salt < self.restriction.map_or(0, |only| only.salt) {
            return Err(Error::Unsupported(format!("a salt of {salt} bytes is less than the key allows")));
        }
        if salt > most { Err(too_small()) } else { Ok(salt) }
    }

    /// Signs a digest (or, for EdDSA and where the token hashes, the message) with the key in its token, into `signature` as OpenSSL wants it.
    /// Returns its size in bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] for a digest of the wrong length, and whatever the token says.
    pub fn sign(&self, key: &Arc<Key>, data: &[u8], signature: &mut [u8]) -> Result<usize> {
        let private = key.private()?;
        if let Some(hash) = self.hash
            && !key.kind.signs_messages()
            && !private.hashes_in_token
            && data.len() != hash.size()
        {
            return Err(Error::Unsupported(format!("{} bytes are not a digest by {hash:?}", data.len())));
        }
        let sign = |mechanism, data: &[u8], out: &mut [u8]| {
            jobs::operate(key, &Operation::Sign(mechanism), data, out)
        };
        match (key.kind, self.padding) {
            (KeyKind::Rsa, Padding::Pkcs1) => {
                let mut info = [0; 96];
                let data = match self.hash.map(digest_info_prefix) {
                    None | Some([]) => data,
                    Some(prefix) => concatenate(&mut info, prefix, data)?,
                };
                sign(Mechanism::RsaPkcs, data, signature)
            }
            (KeyKind::Rsa, Padding::None) => {
                let size = private.public.signature_size();
                if self.hash.is_some() || data.len() != size {
                    return Err(Error::Unsupported(format!(
                        "RSA without padding signs {size} bytes without a digest, and these are {}",
                        data.len()
                    )));
                }
                sign(Mechanism::RsaRaw, data, signature)
            }
            (KeyKind::Rsa | KeyKind::RsaPss, Padding::Pss) => {
                let hash = self.hash.ok_or_else(|| Error::Unsupported("RSA-PSS needs a digest".into()))?;
                let salt = self.salt_bytes(hash, private.public.bits())?;
                let mgf1 = self.mgf1.unwrap_or(hash);
                if private.hashes_in_token {
                    return sign(Mechanism::RsaPssMessage { hash, mgf1, salt }, data, signature);
                }
                match sign(Mechanism::RsaPss { hash, mgf1, salt }, data, signature) {
                    // SoftHSM2 has PSS with SHA-1 and SHA-2 alone, and PKCS#11 not with every hash.
                    Err(error) if is_not_offered(&error) => {
                        let context = &key.provider.openssl;
                        let encoded =
                            rsa_padding::pss(context, data, hash, mgf1, salt, private.public.bits())?;
                        match sign(Mechanism::RsaRaw, &encoded, signature) {
                            Err(other) if is_not_offered(&other) => Err(error),
                            done => done,
                        }
                    }
                    done => done,
                }
            }
            (KeyKind::Ec, _) => {
                // FIPS 186-5, 6.4.1: the leftmost bits of the digest. Some tokens refuse a longer one.
                let order = private.public.bits().div_ceil(8);
                let data = data.get(..order).unwrap_or(data);
                let mut raw = [0; MAX_ECDSA];
                let size = sign(Mechanism::Ecdsa, data, &mut raw)?;
                ecdsa_der(raw.get(..size).unwrap_or_default(), signature)
            }
            (KeyKind::Ed25519, _) => sign(Mechanism::Ed25519, data, signature),
            (KeyKind::Ed448, _) => sign(Mechanism::Ed448, data, signature),
            (KeyKind::MlDsa44 | KeyKind::MlDsa65 | KeyKind::MlDsa87, _) => {
                sign(Mechanism::MlDsa(self.message.clone()), data, signature)
            }
            (kind, _) if kind.takes_context() => {
                sign(Mechanism::SlhDsa(self.message.clone()), data, signature)
            }
            (kind, _) => Err(Error::Unsupported(format!("{:?} keys do not sign like this", kind.name()))),
        }
    }

    /// What was signed, out of an RSA signature with PKCS#1 v1.5's padding or none: by OpenSSL's own provider, into `out`,
    /// which has room for as many bytes as the modulus. Returns the size in bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Libcrypto`] if the signature is not valid, [`Error::Unsupported`] for another key or padding.
    pub fn recover(&self, key: &Key, signature: &[u8], out: &mut [u8]) -> Result<usize> {
        if key.kind != KeyKind::Rsa || self.padding == Padding::Pss {
            return Err(Error::Unsupported("only RSA signatures without PSS tell what was signed".into()));
        }
        let mut list = Vec::with_capacity(3);
        list.extend(self.hash.map(|hash| params::utf8(OSSL_SIGNATURE_PARAM_DIGEST, hash.name())));
        list.push(params::utf8(OSSL_SIGNATURE_PARAM_PAD_MODE, self.padding.name_and_number().0));
        list.push(params::END);
        // SAFETY: terminated, and alive for the call, as is what it points to.
        let params = unsafe { Params::new(list.as_ptr()) };
        key.public()?.verify_recover(&key.provider.openssl, params, signature, out)
    }

    /// Verifies with OpenSSL's own provider.
    ///
    /// # Errors
    ///
    /// [`Error::Libcrypto`] if the signature is not valid.
    pub fn verify(&self, key: &Key, data: &[u8], signature: &[u8]) -> Result<()> {
        let public = key.public()?;
        let context = &key.provider.openssl;
        let mut list = Vec::with_capacity(5);
        let pss = key.kind.is_rsa() && self.padding == Padding::Pss;
        if let Some(hash) = self.hash.filter(|_| !key.kind.signs_messages()) {
            list.push(params::utf8(OSSL_SIGNATURE_PARAM_DIGEST, hash.name()));
        }
        if key.kind.is_rsa() {
            list.push(params::utf8(OSSL_SIGNATURE_PARAM_PAD_MODE, self.padding.name_and_number().0));
        }
        let salt = match self.salt {
            Salt::Digest => c"digest".to_owned(),
            Salt::Auto | Salt::AutoDigestMax => c"auto".to_owned(),
            Salt::Max => c"max".to_owned(),
            Salt::Bytes(bytes) => CString::new(bytes.to_string()).unwrap_or_default(),
        };
        if pss {
            list.push(params::utf8(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, &salt));
            if let Some(hash) = self.mgf1 {
                list.push(params::utf8(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, hash.name()));
            }
        }
        if !self.message.context().is_empty() {
            list.push(params::octets(c"context-string", self.message.context()));
        }
        list.push(params::END);
        // SAFETY: terminated, and alive for the call, as is what it points to.
        let params = unsafe { Params::new(list.as_ptr()) };
        let over =
            if key.kind.signs_messages() { Verification::Message(data) } else { Verification::Digest(data) };
        public.verify(context, params, over, signature)
    }
}

/// What precedes a digest in PKCS#1 v1.5 (RFC 8017, 9.2, note 1): the DER of a DigestInfo up to the digest.
/// TLS 1.0's MD5-SHA1 has none.
fn digest_info_prefix(hash: Hash) -> &'static [u8] {
    macro_rules! nist {
        ($arc:literal, $size:literal) => {
            &[0x30, 17 + $size, 0x30, 13, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, $arc, 5, 0, 4, $size]
        };
    }
    match hash {
        Hash::Md5Sha1 => &[],
        Hash::Sha1 => &[0x30, 0x21, 0x30, 9, 6, 5, 0x2b, 0x0e, 3, 2, 0x1a, 5, 0, 4, 20],
        Hash::Sha224 => nist!(4, 28),
        Hash::Sha256 => nist!(1, 32),
        Hash::Sha384 => nist!(2, 48),
        Hash::Sha512 => nist!(3, 64),
        Hash::Sha3_224 => nist!(7, 28),
        Hash::Sha3_256 => nist!(8, 32),
        Hash::Sha3_384 => nist!(9, 48),
        Hash::Sha3_512 => nist!(10, 64),
        Hash::Sha512_224 => nist!(5, 28),
        Hash::Sha512_256 => nist!(6, 32),
        Hash::Ripemd160 => &[0x30, 0x21, 0x30, 9, 6, 5, 0x2b, 0x24, 3, 2, 1, 5, 0, 4, 20],
    }
}

fn concatenate<'a>(buffer: &'a mut [u8], first: &[u8], second: &[u8]) -> Result<&'a [u8]> {
    let length = first.len() + second.len();
    let target =
        buffer.get_mut(..length).ok_or_else(|| Error::Unsupported("a digest of that length".into()))?;
    for (to, from) in target.iter_mut().zip(first.iter().chain(second)) {
        *to = *from;
    }
    Ok(target)
}

#[derive(Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

/// From PKCS#11's r || s to X9.62's DER.
fn ecdsa_der(raw: &[u8], out: &mut [u8]) -> Result<usize> {
    let bad = || Error::Key("gave an ECDSA signature that is not r and s".into());
    let (r, s) = raw
        .split_at_checked(raw.len() / 2)
        .filter(|(r, s)| r.len() == s.len() && !r.is_empty())
        .ok_or_else(bad)?;
    let signature =
        EcdsaSignature { r: UintRef::new(r).map_err(|_| bad())?, s: UintRef::new(s).map_err(|_| bad())? };
    signature.encode_to_slice(out).map(<[u8]>::len).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ecdsa_signatures_become_der() {
        let mut out = [0; 64];
        let size = ecdsa_der(&[0, 0x80, 0, 1], &mut out).unwrap();
        assert_eq!(out[..size], [0x30, 7, 2, 2, 0, 0x80, 2, 1, 1]);
        assert!(ecdsa_der(&[1, 2, 3], &mut out).is_err());
        assert!(ecdsa_der(&[], &mut out).is_err());
    }

    #[test]
    fn salt_lengths() {
        let scheme = |salt| Scheme { salt, ..Scheme::default() };
        assert_eq!(scheme(Salt::Digest).salt_bytes(Hash::Sha256, 2048).unwrap(), 32);
        assert_eq!(scheme(Salt::Max).salt_bytes(Hash::Sha256, 2048).unwrap(), 222);
        assert_eq!(scheme(Salt::AutoDigestMax).salt_bytes(Hash::Sha512, 1024).unwrap(), 62);
        assert!(scheme(Salt::Bytes(223)).salt_bytes(Hash::Sha256, 2048).is_err());
        assert!(scheme(Salt::Digest).salt_bytes(Hash::Sha512, 512).is_err());
    }

    #[test]
    fn parameters_as_text_and_as_numbers() {
        let minus_one = -1;
        let list = [
            params::utf8(OSSL_SIGNATURE_PARAM_DIGEST, c"SHA2-384"),
            params::utf8(OSSL_SIGNATURE_PARAM_PAD_MODE, c"pss"),
            params::int(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, &minus_one),
            params::END,
        ];
        let mut scheme = Scheme::default();
        // SAFETY: a terminated list of locals.
        scheme.set(KeyKind::Rsa, unsafe { Params::new(list.as_ptr()) }).unwrap();
        assert_eq!(
            (scheme.hash, scheme.padding, scheme.salt),
            (Some(Hash::Sha384), Padding::Pss, Salt::Digest)
        );
        let x931 = 5;
        let list = [params::int(OSSL_SIGNATURE_PARAM_PAD_MODE, &x931), params::END];
        // SAFETY: as above.
        assert!(scheme.set(KeyKind::Rsa, unsafe { Params::new(list.as_ptr()) }).is_err());
    }

    #[test]
    fn a_restricted_key_stays_so() {
        let only = Restriction { hash: Hash::Sha256, mgf1: Hash::Sha256, salt: 32 };
        let start = Scheme {
            hash: Some(Hash::Sha256),
            mgf1: Some(Hash::Sha256),
            padding: Padding::Pss,
            salt: Salt::Bytes(32),
            restriction: Some(only),
            message: MessageOptions::default(),
        };
        let set = |parameter| {
            let list = [parameter, params::END];
            // SAFETY: a terminated list of locals.
            let params = unsafe { Params::new(list.as_ptr()) };
            let mut scheme = start.clone();
            scheme.set(KeyKind::RsaPss, params).and_then(|()| scheme.salt_bytes(Hash::Sha256, 2048))
        };
        assert_eq!(set(params::utf8(OSSL_SIGNATURE_PARAM_DIGEST, c"SHA256")).unwrap(), 32);
        assert_eq!(set(params::utf8(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, c"40")).unwrap(), 40);
        assert_eq!(set(params::utf8(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, c"digest")).unwrap(), 32);
        for refused in [
            params::utf8(OSSL_SIGNATURE_PARAM_DIGEST, c"SHA384"),
            params::utf8(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, c"SHA1"),
            params::utf8(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, c"31"),
            params::utf8(OSSL_SIGNATURE_PARAM_PAD_MODE, c"pkcs1"),
            params::utf8(OSSL_SIGNATURE_PARAM_PAD_MODE, c"none"),
        ] {
            assert!(set(refused).is_err());
        }
        assert!(Scheme { ..start.clone() }.set_hash("SHA1").is_err());
    }

    #[test]
    fn digest_infos_have_the_right_lengths() {
        for hash in Hash::ALL.into_iter().filter(|hash| *hash != Hash::Md5Sha1) {
            let prefix = digest_info_prefix(hash);
            assert_eq!(usize::from(prefix[1]), prefix.len() - 2 + hash.size());
            assert_eq!(usize::from(prefix[prefix.len() - 1]), hash.size());
        }
    }
}
