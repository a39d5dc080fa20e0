//! CBC with ciphertext stealing (the addendum to NIST SP 800-38A), made of the token's CBC: so every token that has CBC has it, and in
//! all three variants.
//!
//! The last block is filled up with zeros, and what is too much is taken off the ciphertext of the block before it. As in OpenSSL,
//! the data comes in one piece.

use std::ffi::CStr;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::{Cipher, Facts, Keyed, check, whole_block, without_iv};
use crate::bindings::*;
use crate::dispatch::operation::Operation;
use crate::error::{Error, Result};
use crate::params::{Answers, Descriptions, END, Params, answered, describe};
use crate::provider::Provider;
use crate::token::{Aes, BLOCK, Mode, SecretKey};

/// Where the shortened block goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    /// Where it was.
    Cs1,
    /// To the end, if it was shortened.
    Cs2,
    /// To the end.
    Cs3,
}

impl Variant {
    fn from_name(name: &str) -> Result<Self> {
        match name.to_ascii_uppercase().as_str() {
            "CS1" => Ok(Variant::Cs1),
            "CS2" => Ok(Variant::Cs2),
            "CS3" => Ok(Variant::Cs3),
            _ => Err(Error::Unsupported(format!("cts_mode \"{name}\"; there are CS1, CS2 and CS3"))),
        }
    }

    fn name(self) -> &'static CStr {
        match self {
            Variant::Cs1 => c"CS1",
            Variant::Cs2 => c"CS2",
            Variant::Cs3 => c"CS3",
        }
    }

    /// Whether the last block of `size` bytes comes before the one that was shortened for it.
    fn swaps(self, size: usize) -> bool {
        match self {
            Variant::Cs1 => false,
            Variant::Cs2 => !size.is_multiple_of(BLOCK),
            Variant::Cs3 => size > BLOCK,
        }
    }
}

/// An encryption or decryption: what libcrypto's `ctx` points to.
#[derive(Clone)]
pub struct Context {
    keyed: Keyed,
    iv: Option<[u8; BLOCK]>,
    variant: Variant,
    /// The data came.
    is_done: bool,
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
        static LIST: Descriptions<6> = Descriptions::new([
            describe(OSSL_CIPHER_PARAM_KEYLEN, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_CIPHER_PARAM_IVLEN, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_CIPHER_PARAM_IV, OSSL_PARAM_OCTET_STRING),
            describe(OSSL_CIPHER_PARAM_UPDATED_IV, OSSL_PARAM_OCTET_STRING),
            describe(OSSL_CIPHER_PARAM_CTS_MODE, OSSL_PARAM_UTF8_STRING),
            END,
        ]);
        LIST.as_ptr()
    };
    const SETTABLE: *const OSSL_PARAM = {
        static LIST: Descriptions<3> = Descriptions::new([
            describe(OSSL_CIPHER_PARAM_KEYLEN, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_CIPHER_PARAM_CTS_MODE, OSSL_PARAM_UTF8_STRING),
            END,
        ]);
        LIST.as_ptr()
    };

    fn new(provider: Arc<Provider>, facts: &'static Facts) -> Self {
        Context { keyed: Keyed::new(provider, facts), iv: None, variant: Variant::Cs1, is_done: false }
    }

    fn init(
        &mut self,
        key: Option<SecretKey>,
        iv: Option<&[u8]>,
        params: Params,
        encrypts: bool,
    ) -> Result<()> {
        self.keyed.begin(key, encrypts)?;
        self.is_done = false;
        if let Some(iv) = iv {
            self.iv = Some(whole_block(iv)?);
        }
        self.set(params)
    }

    fn set(&mut self, params: Params) -> Result<()> {
        if let Some(name) = params.text(OSSL_CIPHER_PARAM_CTS_MODE)? {
            self.variant = Variant::from_name(name)?;
        }
        check(self.keyed.facts, params)
    }

    fn update(&mut self, data: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        if data.len() < BLOCK {
            return Err(Error::Unsupported(format!("less than {BLOCK} bytes for ciphertext stealing")));
        }
        if self.is_done {
            return Err(Error::Unsupported("ciphertext stealing takes its data in one piece".into()));
        }
        self.is_done = true;
        if self.keyed.encrypts { self.encrypt(data) } else { self.decrypt(data) }
    }

    fn finish(&mut self) -> Result<Zeroizing<Vec<u8>>> {
        Ok(Zeroizing::default())
    }

    /// The size of what comes out is asked so.
    fn without_output(&mut self, _data: &[u8]) -> Result<()> {
        Ok(())
    }

    fn answer(&self, answers: &Answers) -> Result<()> {
        let iv = self.iv.unwrap_or_default();
        answered(
            answers.integer(OSSL_CIPHER_PARAM_KEYLEN, Facts::number_of(self.keyed.facts.key))
                && answers.integer(OSSL_CIPHER_PARAM_IVLEN, Facts::number_of(BLOCK))
                && answers.octets(OSSL_CIPHER_PARAM_IV, &iv)
                && answers.octets(OSSL_CIPHER_PARAM_UPDATED_IV, &iv)
                && answers.text(OSSL_CIPHER_PARAM_CTS_MODE, self.variant.name()),
        )
    }
}

impl Context {
    fn cbc(&self, iv: [u8; BLOCK], data: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let key = self.keyed.key()?;
        let mut out = Zeroizing::new(vec![0; data.len()]);
        self.keyed.provider.tokens.aes(
            &Aes { mode: Mode::Cbc, encrypts: self.keyed.encrypts, iv },
            key,
            data,
            &mut out,
        )?;
        Ok(out)
    }

    fn iv(&self) -> Result<[u8; BLOCK]> {
        self.iv.ok_or_else(without_iv)
    }

    fn encrypt(&self, data: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let mut whole = Zeroizing::new(Vec::with_capacity(data.len().next_multiple_of(BLOCK)));
        whole.extend_from_slice(data);
        whole.resize(data.len().next_multiple_of(BLOCK), 0);
        let mut out = self.cbc(self.iv()?, &whole)?;
        let Parts { shortened, last, .. } = Parts::of(data.len());
        // What is too much goes off the end of the block before the last.
        out.drain(shortened..whole.len() - BLOCK);
        if self.variant.swaps(data.len()) {
            let (_, end) = out.split_at_mut(shortened - last);
            end.rotate_left(last);
        }
        Ok(out)
    }

    fn decrypt(&self, data: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let Parts { shortened, last } = Parts::of(data.len());
        let mut blocks = Zeroizing::new(Vec::with_capacity(data.len().next_multiple_of(BLOCK)));
        blocks.extend_from_slice(data);
        if self.variant.swaps(data.len()) {
            let (_, end) = blocks.split_at_mut(shortened - last);
            end.rotate_right(last);
        }
        if last < BLOCK {
            // Under what was taken off the block before the last there were zeros in the last: it is how that deciphers.
            let final_block = blocks.split_off(shortened);
            let stolen = self.cbc([0; BLOCK], &final_block)?;
            blocks.extend_from_slice(stolen.get(last..).unwrap_or_default());
            blocks.extend_from_slice(&final_block);
        }
        let mut out = self.cbc(self.iv()?, &blocks)?;
        out.truncate(data.len());
        Ok(out)
    }
}

/// How ciphertext of a size is made up.
struct Parts {
    /// Where the last whole block begins: after the block that was shortened, if there is one.
    shortened: usize,
    /// How many bytes the shortened block has: as many as the last block of the data.
    last: usize,
}

impl Parts {
    /// Of at least one block.
    fn of(size: usize) -> Self {
        let last = match size % BLOCK {
            0 => BLOCK,
            rest => rest,
        };
        Parts { shortened: size - BLOCK, last }
    }
}
