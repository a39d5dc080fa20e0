//! AES in a token.

use cryptoki_sys::*;

use super::Tokens;
use super::secret_key::{Purpose, SecretKey};
use crate::error::{Error, Result};

/// AES's block, in bytes.
pub const BLOCK: usize = 16;

/// How blocks are chained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Not at all.
    Ecb,
    /// Cipher block chaining.
    Cbc,
    /// Cipher feedback, of whole blocks.
    Cfb,
    /// Cipher feedback, of bytes.
    Cfb8,
    /// Cipher feedback, of bits.
    Cfb1,
    /// Output feedback.
    Ofb,
    /// Counter.
    Ctr,
}

/// One call of AES.
#[derive(Debug)]
pub struct Aes {
    /// The mode.
    pub mode: Mode,
    /// It encrypts, or else decrypts.
    pub encrypts: bool,
    /// The initialisation vector, or the counter; ECB has none.
    pub iv: [u8; BLOCK],
}

impl Aes {
    fn mechanism(&self) -> CK_MECHANISM_TYPE {
        match self.mode {
            Mode::Ecb => CKM_AES_ECB,
            Mode::Cbc => CKM_AES_CBC,
            Mode::Cfb => CKM_AES_CFB128,
            Mode::Cfb8 => CKM_AES_CFB8,
            Mode::Cfb1 => CKM_AES_CFB1,
            Mode::Ofb => CKM_AES_OFB,
            Mode::Ctr => CKM_AES_CTR,
        }
    }
}

impl Tokens {
    /// Encrypts or decrypts `data` into `out`, which is as long; in ECB and CBC both are whole blocks. An application's key is in
    /// the token meanwhile, as a session object.
    ///
    /// # Errors
    ///
    /// As [`with_secret_key`](Self::with_secret_key), with the token's own.
    pub fn aes(&self, aes: &Aes, key: &SecretKey, data: &[u8], out: &mut [u8]) -> Result<()> {
        let mechanism = aes.mechanism();
        let name = format!("AES in mode {:?} in a token", aes.mode);
        let purpose = Purpose { kind: CKK_AES, uses: &[CKA_ENCRYPT, CKA_DECRYPT] };
        self.with_secret_key(mechanism, &name, key, &purpose, |module, session, slot, object| {
            let failed = |function| move |rv| Error::token(function, slot.name(), rv);
            let mut crypt = || {
                let mut iv = aes.iv;
                let mut counter = CK_AES_CTR_PARAMS { ulCounterBits: 128, cb: aes.iv };
                // In the other modes decryption is another function.
                if aes.encrypts || matches!(aes.mode, Mode::Ofb | Mode::Ctr) {
                    match aes.mode {
                        Mode::Ecb => module.encrypt_init(session, mechanism, &mut (), object),
                        Mode::Ctr => module.encrypt_init(session, mechanism, &mut counter, object),
                        _ => module.encrypt_init(session, mechanism, &mut iv, object),
                    }
                    .map_err(failed("C_EncryptInit"))?;
                    return module.encrypt(session, data, out).map_err(failed("C_Encrypt"));
                }
                match aes.mode {
                    Mode::Ecb => module.decrypt_init(session, mechanism, &mut (), object),
                    _ => module.decrypt_init(session, mechanism, &mut iv, object),
                }
                .map_err(failed("C_DecryptInit"))?;
                module.decrypt(session, data, out).map_err(failed("C_Decrypt"))
            };
            let made = crypt()?;
            if made == data.len() {
                return Ok(());
            }
            Err(Error::Key(format!("{}: AES made {made} bytes of {}", slot.name(), data.len())))
        })
    }
}
