//! GCM (NIST SP 800-38D), by the token's own.
//!
//! OpenSSL gives out what was deciphered before the tag is known to be right, and tokens do not. So a token always encrypts here: what
//! it makes of a ciphertext is the message, and what it makes of that is the ciphertext again, with the tag that must be the
//! one that came with it. Up to [`COLLECTED`] bytes go in one call each time, with all that came before them: so it needs no session of its
//! own, survives forks and restarts of the token, and can be copied. More has a session, or two.

use std::sync::Arc;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Cipher, Facts, Keyed, check, without_iv, wrong_iv};
use crate::bindings::*;
use crate::dispatch::collected::{COLLECTED, with_added};
use crate::dispatch::operation::Operation;
use crate::error::{Error, Result};
use crate::params::{Answers, Descriptions, END, Params, Value, answered, describe};
use crate::provider::Provider;
use crate::token::{Gcm, GcmInParts, SecretKey, TAG};

/// The size of the initialisation vector unless another is set, in bytes.
pub const IV: usize = 12;

/// The longest initialisation vector, in bytes, as in OpenSSL.
const MAX_IV: usize = 128;

/// The most data that is only authenticated, in bytes.
const MAX_AAD: usize = 1 << 20;

/// An encryption or decryption: what libcrypto's `ctx` points to.
pub struct Context {
    keyed: Keyed,
    /// The initialisation vector's size in bytes.
    iv_size: usize,
    iv: Option<Vec<u8>>,
    /// Data that is only authenticated.
    aad: Vec<u8>,
    /// The tag: that was made, or that was set to be compared.
    tag: Option<Vec<u8>>,
    state: State,
}

/// How far it is.
enum State {
    /// All that came up to now, and what the token made of it, with the tag of an encryption.
    Whole { data: Zeroizing<Vec<u8>>, made: Zeroizing<Vec<u8>> },
    /// In sessions of its own: what goes in is encrypted, and what came out of a ciphertext once more.
    InParts { stream: GcmInParts, check: Option<GcmInParts> },
    /// Finished or failed: it needs another initialisation vector.
    Ended,
}

impl State {
    fn begun() -> Self {
        State::Whole { data: Zeroizing::default(), made: Zeroizing::default() }
    }
}

impl Operation for Context {
    fn provider(&self) -> &Provider {
        &self.keyed.provider
    }

    fn duplicate(&self) -> Result<Self> {
        let state = match &self.state {
            State::Whole { data, made } => State::Whole { data: data.clone(), made: made.clone() },
            State::InParts { .. } => {
                return Err(Error::Unsupported(
                    "a copy of GCM that has begun in the token, being long".into(),
                ));
            }
            State::Ended => State::Ended,
        };
        Ok(Context {
            keyed: self.keyed.clone(),
            iv_size: self.iv_size,
            iv: self.iv.clone(),
            aad: self.aad.clone(),
            tag: self.tag.clone(),
            state,
        })
    }
}

impl Cipher for Context {
    const GETTABLE: *const OSSL_PARAM = {
        static LIST: Descriptions<7> = Descriptions::new([
            describe(OSSL_CIPHER_PARAM_KEYLEN, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_CIPHER_PARAM_IVLEN, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_CIPHER_PARAM_AEAD_TAGLEN, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_CIPHER_PARAM_IV, OSSL_PARAM_OCTET_STRING),
            describe(OSSL_CIPHER_PARAM_UPDATED_IV, OSSL_PARAM_OCTET_STRING),
            describe(OSSL_CIPHER_PARAM_AEAD_TAG, OSSL_PARAM_OCTET_STRING),
            END,
        ]);
        LIST.as_ptr()
    };
    const SETTABLE: *const OSSL_PARAM = {
        static LIST: Descriptions<4> = Descriptions::new([
            describe(OSSL_CIPHER_PARAM_KEYLEN, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_CIPHER_PARAM_AEAD_IVLEN, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_CIPHER_PARAM_AEAD_TAG, OSSL_PARAM_OCTET_STRING),
            END,
        ]);
        LIST.as_ptr()
    };

    fn new(provider: Arc<Provider>, facts: &'static Facts) -> Self {
        Context {
            keyed: Keyed::new(provider, facts),
            iv_size: IV,
            iv: None,
            aad: Vec::new(),
            tag: None,
            state: State::begun(),
        }
    }

    fn init(
        &mut self,
        key: Option<SecretKey>,
        iv: Option<&[u8]>,
        params: Params,
        encrypts: bool,
    ) -> Result<()> {
        // A tag to compare may have been set already.
        if encrypts || self.keyed.encrypts {
            self.tag = None;
        }
        let is_new = key.is_some() || iv.is_some();
        self.keyed.begin(key, encrypts)?;
        if let Some(iv) = iv {
            if !(1..=MAX_IV).contains(&iv.len()) {
                return Err(wrong_iv(iv.len()));
            }
            self.iv_size = iv.len();
            self.iv = Some(iv.to_vec());
        }
        if is_new {
            self.aad.clear();
            // One vector is not used twice.
            self.state = match (&self.state, iv) {
                (State::Ended, None) => State::Ended,
                _ => State::begun(),
            };
        }
        self.set(params)
    }

    fn set(&mut self, params: Params) -> Result<()> {
        match params.value(OSSL_CIPHER_PARAM_AEAD_IVLEN)? {
            None => {}
            Some(Value::Integer(size)) => {
                let possible = usize::try_from(size).ok().filter(|size| (1..=MAX_IV).contains(size));
                let size = possible
                    .ok_or_else(|| Error::Unsupported(format!("an initialisation vector of {size} bytes")))?;
                if size != self.iv_size {
                    self.iv = None;
                }
                self.iv_size = size;
            }
            Some(_) => return Err(Error::Unsupported("a vector's size that is no number".into())),
        }
        if let Some(tag) = params.octets(OSSL_CIPHER_PARAM_AEAD_TAG)? {
            if self.keyed.encrypts || !(1..=TAG).contains(&tag.len()) {
                return Err(Error::Unsupported(format!("a tag of {} bytes, or to encrypt", tag.len())));
            }
            self.tag = Some(tag.to_vec());
        }
        check(self.keyed.facts, params)
    }

    fn update(&mut self, data: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        if data.is_empty() {
            return Ok(Zeroizing::default());
        }
        self.begin()?;
        // What fails is not continued.
        let (state, out) = match std::mem::replace(&mut self.state, State::Ended) {
            State::Ended => return Err(ended()),
            State::Whole { data: before, .. } if before.len() + data.len() <= COLLECTED => {
                let at = before.len();
                let all = with_added(before, data);
                let made = self.encrypt(&all)?;
                let out = Zeroizing::new(made.get(at..all.len()).unwrap_or_default().to_vec());
                (State::Whole { data: all, made }, out)
            }
            State::Whole { data: before, .. } => {
                let mut parts = self.in_parts()?;
                self.pass(&mut parts, &before)?;
                let out = self.pass(&mut parts, data)?;
                (State::InParts { stream: parts.0, check: parts.1 }, out)
            }
            State::InParts { stream, check } => {
                let mut parts = (stream, check);
                let out = self.pass(&mut parts, data)?;
                (State::InParts { stream: parts.0, check: parts.1 }, out)
            }
        };
        self.state = state;
        Ok(out)
    }

    fn finish(&mut self) -> Result<Zeroizing<Vec<u8>>> {
        self.begin()?;
        let tag = match std::mem::replace(&mut self.state, State::Ended) {
            State::Ended => return Err(ended()),
            State::Whole { data, made } if self.keyed.encrypts && !made.is_empty() => {
                tag_in(&made, data.len())
            }
            State::Whole { made, data } => {
                let message = made.get(..data.len()).unwrap_or_default();
                tag_in(&self.encrypt(message)?, message.len())
            }
            State::InParts { stream, check } => check.unwrap_or(stream).finish()?.to_vec(),
        };
        if self.keyed.encrypts {
            self.tag = Some(tag);
            return Ok(Zeroizing::default());
        }
        let expected =
            self.tag.take().ok_or_else(|| Error::Unsupported("GCM without the tag to compare".into()))?;
        let same = tag.get(..expected.len()).is_some_and(|tag| bool::from(tag.ct_eq(&expected)));
        if same { Ok(Zeroizing::default()) } else { Err(Error::Undecryptable) }
    }

    /// Data that is only authenticated.
    fn without_output(&mut self, data: &[u8]) -> Result<()> {
        let has_data = match &self.state {
            State::Whole { data, .. } => !data.is_empty(),
            _ => true,
        };
        if has_data {
            return Err(Error::Unsupported("additional data of GCM after the other".into()));
        }
        if self.aad.len() + data.len() > MAX_AAD {
            return Err(Error::Unsupported(format!("more than {MAX_AAD} bytes of additional data")));
        }
        self.aad.extend_from_slice(data);
        Ok(())
    }

    fn answer(&self, answers: &Answers) -> Result<()> {
        let missing = |what: &str| Error::Unsupported(format!("{what} that is not known yet"));
        for name in [OSSL_CIPHER_PARAM_IV, OSSL_CIPHER_PARAM_UPDATED_IV] {
            if answers.room(name).is_some() {
                let iv = self.iv.as_ref().ok_or_else(|| missing("an initialisation vector"))?;
                answered(answers.octets(name, iv))?;
            }
        }
        if let Some(room) = answers.room(OSSL_CIPHER_PARAM_AEAD_TAG) {
            let tag = self.tag.as_ref().filter(|_| self.keyed.encrypts).ok_or_else(|| missing("a tag"))?;
            let size = room.min(tag.len());
            answered(answers.octets(OSSL_CIPHER_PARAM_AEAD_TAG, tag.get(..size).unwrap_or_default()))?;
        }
        // What TLS 1.2 asks for, after it was refused.
        if answers.room(OSSL_CIPHER_PARAM_AEAD_TLS1_GET_IV_GEN).is_some() {
            return Err(missing("TLS 1.2's initialisation vector"));
        }
        let tag_size = self.tag.as_ref().map_or(TAG, Vec::len);
        answered(
            answers.integer(OSSL_CIPHER_PARAM_KEYLEN, Facts::number_of(self.keyed.facts.key))
                && answers.integer(OSSL_CIPHER_PARAM_IVLEN, Facts::number_of(self.iv_size))
                && answers.integer(OSSL_CIPHER_PARAM_AEAD_TAGLEN, Facts::number_of(tag_size)),
        )
    }
}

impl Context {
    /// Sees to an initialisation vector: to who encrypts without one OpenSSL gives a random one, and so does the token here.
    fn begin(&mut self) -> Result<()> {
        if self.iv.is_none() {
            if !self.keyed.encrypts || self.iv_size < IV {
                return Err(without_iv());
            }
            let mut iv = vec![0; self.iv_size];
            self.keyed.provider.tokens.random(&mut iv)?;
            self.iv = Some(iv);
        }
        Ok(())
    }

    fn used(&self) -> Result<(Gcm<'_>, &SecretKey)> {
        let key = self.keyed.key()?;
        let iv = self.iv.as_deref().unwrap_or_default();
        Ok((Gcm { iv, aad: &self.aad }, key))
    }

    /// What the token makes of all of `data`, with the tag.
    fn encrypt(&self, data: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let (gcm, key) = self.used()?;
        self.keyed.provider.tokens.gcm(&gcm, key, data)
    }

    /// A session for what goes in and, to decrypt, one for what comes out.
    fn in_parts(&self) -> Result<(GcmInParts, Option<GcmInParts>)> {
        let (gcm, key) = self.used()?;
        let begin = || self.keyed.provider.tokens.gcm_in_parts(&gcm, key);
        Ok((begin()?, if self.keyed.encrypts { None } else { Some(begin()?) }))
    }

    fn pass(
        &self,
        (stream, check): &mut (GcmInParts, Option<GcmInParts>),
        data: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>> {
        let out = stream.update(data)?;
        if let Some(check) = check {
            check.update(&out)?;
        }
        Ok(out)
    }
}

/// The tag after so many bytes of ciphertext.
fn tag_in(made: &[u8], size: usize) -> Vec<u8> {
    made.get(size..).unwrap_or_default().to_vec()
}

fn ended() -> Error {
    Error::Unsupported("GCM goes on with a new initialisation vector only".into())
}
