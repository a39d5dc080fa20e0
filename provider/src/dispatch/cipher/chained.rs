//! The modes that chain blocks or make a stream.
//!
//! Each call is whole for the token, and what chains it to the next is kept here: so it needs no session of its own, survives forks
//! and restarts of the token, and can be copied.

use std::ffi::c_int;
use std::sync::Arc;

use subtle::{ConstantTimeEq, ConstantTimeLess};
use zeroize::Zeroizing;

use super::{Cipher, Facts, Keyed, check, whole_block, without_iv};
use crate::bindings::*;
use crate::dispatch::operation::Operation;
use crate::error::{Error, Result};
use crate::params::{Answers, Descriptions, END, Params, Value, answered, describe};
use crate::provider::Provider;
use crate::token::{Aes, BLOCK, Mode, SecretKey};

/// An encryption or decryption: what libcrypto's `ctx` points to.
#[derive(Clone)]
pub struct Context {
    keyed: Keyed,
    /// The initialisation vector that was set.
    iv: Option<[u8; BLOCK]>,
    /// That of the next block.
    register: [u8; BLOCK],
    /// Data of the block that is not whole yet. In the modes of a stream its output was given already.
    rest: Zeroizing<Vec<u8>>,
    pads: bool,
}

impl Operation for Context {
    fn provider(&self) -> &Provider {
        &self.keyed.provider
    }

    fn duplicate(&self) -> Result<Self> {
        Ok(self.clone())
    }
}

impl Cipher for Context {
    const GETTABLE: *const OSSL_PARAM = {
        static LIST: Descriptions<7> = Descriptions::new([
            describe(OSSL_CIPHER_PARAM_KEYLEN, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_CIPHER_PARAM_IVLEN, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_CIPHER_PARAM_PADDING, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_CIPHER_PARAM_NUM, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_CIPHER_PARAM_IV, OSSL_PARAM_OCTET_STRING),
            describe(OSSL_CIPHER_PARAM_UPDATED_IV, OSSL_PARAM_OCTET_STRING),
            END,
        ]);
        LIST.as_ptr()
    };
    const SETTABLE: *const OSSL_PARAM = {
        static LIST: Descriptions<3> = Descriptions::new([
            describe(OSSL_CIPHER_PARAM_KEYLEN, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_CIPHER_PARAM_PADDING, OSSL_PARAM_UNSIGNED_INTEGER),
            END,
        ]);
        LIST.as_ptr()
    };

    fn new(provider: Arc<Provider>, facts: &'static Facts) -> Self {
        Context {
            keyed: Keyed::new(provider, facts),
            iv: None,
            register: [0; BLOCK],
            rest: Zeroizing::default(),
            pads: true,
        }
    }

    fn init(
        &mut self,
        key: Option<SecretKey>,
        iv: Option<&[u8]>,
        params: Params,
        encrypts: bool,
    ) -> Result<()> {
        self.keyed.begin(key, encrypts)?;
        if let Some(iv) = iv.filter(|_| self.keyed.facts.iv > 0) {
            self.iv = Some(whole_block(iv)?);
        }
        // Without another vector a counter goes on, as in OpenSSL.
        self.register = match (self.keyed.facts.mode, iv) {
            (Mode::Ctr, None) => self.updated_iv(),
            _ => self.iv.unwrap_or_default(),
        };
        self.rest.clear();
        self.set(params)
    }

    fn update(&mut self, data: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let given = if self.keyed.facts.is_blocks() { 0 } else { self.rest.len() };
        let mut all = Zeroizing::new(Vec::with_capacity(self.rest.len() + data.len()));
        all.extend_from_slice(&self.rest);
        all.extend_from_slice(data);
        let mut whole = match self.keyed.facts.mode {
            // What goes back is shorter than a block.
            Mode::Cfb8 | Mode::Cfb1 => all.len(),
            _ => all.len() / BLOCK * BLOCK,
        };
        if self.keyed.facts.is_blocks() && self.pads && !self.keyed.encrypts && whole == all.len() {
            // The last block is that with the padding, if nothing follows.
            whole = whole.saturating_sub(BLOCK);
        }
        let now = if self.keyed.facts.is_blocks() { whole } else { all.len() };
        let mut out = self.crypt(all.get(..now).unwrap_or_default())?;
        self.rest = Zeroizing::new(all.get(whole..).unwrap_or_default().to_vec());
        out.drain(..given);
        Ok(out)
    }

    fn at_once(&mut self, data: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        match self.keyed.facts.is_blocks() {
            false => self.update(data),
            true if data.len().is_multiple_of(BLOCK) => self.crypt(data),
            true => Err(partial()),
        }
    }

    fn finish(&mut self) -> Result<Zeroizing<Vec<u8>>> {
        if !self.keyed.facts.is_blocks() {
            return Ok(Zeroizing::default());
        }
        let rest = std::mem::take(&mut self.rest);
        match (self.pads, self.keyed.encrypts) {
            (false, _) if rest.is_empty() => Ok(Zeroizing::default()),
            (true, true) => {
                let missing = BLOCK - rest.len() % BLOCK;
                let mut padded = Zeroizing::new(Vec::with_capacity(BLOCK));
                padded.extend_from_slice(&rest);
                padded.resize(rest.len() + missing, missing as u8);
                self.crypt(&padded)
            }
            (true, false) if rest.len() == BLOCK => {
                let mut out = self.crypt(&rest)?;
                let count = out.last().copied().unwrap_or(0);
                let mut fits = !count.ct_eq(&0) & count.ct_lt(&(BLOCK as u8 + 1));
                for (at, byte) in (0u8..).zip(out.iter().rev()) {
                    fits &= !at.ct_lt(&count) | byte.ct_eq(&count);
                }
                if !bool::from(fits) {
                    return Err(Error::Undecryptable);
                }
                out.truncate(BLOCK - usize::from(count));
                Ok(out)
            }
            _ => Err(partial()),
        }
    }

    fn set(&mut self, params: Params) -> Result<()> {
        match params.value(OSSL_CIPHER_PARAM_PADDING)? {
            None => {}
            Some(Value::Integer(number)) => self.pads = number != 0,
            Some(_) => return Err(Error::Unsupported("a padding that is not a number".into())),
        }
        check(self.keyed.facts, params)
    }

    fn answer(&self, answers: &Answers) -> Result<()> {
        let updated = self.updated_iv();
        let Context { keyed: Keyed { facts, .. }, iv, rest, pads, .. } = self;
        let used = if facts.is_blocks() { 0 } else { rest.len() };
        let size = facts.iv;
        let iv = iv.as_ref().and_then(|iv| iv.get(..size)).unwrap_or_default();
        answered(
            answers.integer(OSSL_CIPHER_PARAM_KEYLEN, Facts::number_of(facts.key))
                && answers.integer(OSSL_CIPHER_PARAM_IVLEN, Facts::number_of(size))
                && answers.integer(OSSL_CIPHER_PARAM_PADDING, c_int::from(*pads))
                && answers.integer(OSSL_CIPHER_PARAM_NUM, Facts::number_of(used))
                && answers.octets(OSSL_CIPHER_PARAM_IV, iv)
                && answers.octets(OSSL_CIPHER_PARAM_UPDATED_IV, updated.get(..size).unwrap_or_default()),
        )
    }
}

impl Context {
    /// The vector after the data up to now; of CFB and OFB only after whole blocks.
    fn updated_iv(&self) -> [u8; BLOCK] {
        match self.keyed.facts.mode {
            Mode::Ctr if !self.rest.is_empty() => {
                u128::from_be_bytes(self.register).wrapping_add(1).to_be_bytes()
            }
            _ => self.register,
        }
    }

    /// What the token makes of `data`, with which the register goes on.
    fn crypt(&mut self, data: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let key = self.keyed.key()?;
        if self.iv.is_none() && self.keyed.facts.iv > 0 {
            return Err(without_iv());
        }
        let mut out = Zeroizing::new(vec![0; data.len()]);
        if data.is_empty() {
            return Ok(out);
        }
        if let Some((before, after)) = self.at_overflow(data) {
            out.clear();
            out.extend_from_slice(&self.crypt(before)?);
            out.extend_from_slice(&self.crypt(after)?);
            return Ok(out);
        }
        let aes = Aes { mode: self.keyed.facts.mode, encrypts: self.keyed.encrypts, iv: self.register };
        self.keyed.provider.tokens.aes(&aes, key, data, &mut out)?;
        self.register = self.after(data, &out);
        Ok(out)
    }

    /// The register after `data` went in and `out` came out.
    fn after(&self, data: &[u8], out: &[u8]) -> [u8; BLOCK] {
        let blocks = data.len() / BLOCK;
        let whole = |bytes: &[u8]| shifted(self.register, bytes.get(..blocks * BLOCK).unwrap_or_default());
        let (before, after) = (whole(data), whole(out));
        match self.keyed.facts.mode {
            Mode::Ecb => self.register,
            Mode::Cbc | Mode::Cfb if self.keyed.encrypts => after,
            Mode::Cbc | Mode::Cfb => before,
            Mode::Cfb8 | Mode::Cfb1 => shifted(self.register, if self.keyed.encrypts { out } else { data }),
            Mode::Ofb if blocks == 0 => self.register,
            Mode::Ofb => (u128::from_ne_bytes(before) ^ u128::from_ne_bytes(after)).to_ne_bytes(),
            Mode::Ctr => u128::from_be_bytes(self.register).wrapping_add(blocks as u128).to_be_bytes(),
        }
    }

    /// The data parted where the counter begins again at 0, if it does within: some tokens do not go on there.
    fn at_overflow<'a>(&self, data: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let blocks = usize::try_from(u128::from_be_bytes(self.register).wrapping_neg()).ok()?;
        let at = blocks.checked_mul(BLOCK).filter(|at| *at > 0 && *at < data.len())?;
        if self.keyed.facts.mode == Mode::Ctr { data.split_at_checked(at) } else { None }
    }
}

/// A register into which bytes are moved from the right.
fn shifted(mut register: [u8; BLOCK], bytes: &[u8]) -> [u8; BLOCK] {
    match bytes.last_chunk() {
        Some(last) => *last,
        None => {
            register.rotate_left(bytes.len());
            if let Some(end) = register.get_mut(BLOCK - bytes.len()..) {
                end.copy_from_slice(bytes);
            }
            register
        }
    }
}

fn partial() -> Error {
    Error::Unsupported("AES of data that is not whole blocks, without padding".into())
}
