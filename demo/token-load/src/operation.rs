//! The operations: what goes into the token, and what comes out.

use anyhow::{Result, ensure};
use cryptoki_sys::*;

use crate::module::Module;
use crate::options::Operation;

/// The DER in front of a SHA-256 digest in PKCS#1 v1.5 (RFC 8017, 9.2).
const DIGEST_INFO: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00,
    0x04, 0x20,
];

/// What is encrypted.
pub const BULK: usize = 4096;

/// The class of the key.
pub fn class(operation: Operation) -> CK_OBJECT_CLASS {
    match operation {
        Operation::AesGcm => CKO_SECRET_KEY,
        _ => CKO_PRIVATE_KEY,
    }
}

/// The type of the key.
pub fn key_type(operation: Operation) -> CK_KEY_TYPE {
    match operation {
        Operation::Rsa2048 => CKK_RSA,
        Operation::P256 => CKK_EC,
        Operation::Ed25519 => CKK_EC_EDWARDS,
        Operation::AesGcm => CKK_AES,
    }
}

/// One thread's input and output.
#[derive(Debug)]
pub struct Work {
    operation: Operation,
    data: Vec<u8>,
    output: Vec<u8>,
    /// A prefix of the thread's own, and a count: no nonce is used twice with one key.
    iv: [u8; 12],
    count: u64,
}

impl Work {
    /// The work of the thread with the number `thread`, of this process.
    pub fn new(operation: Operation, thread: u32) -> Self {
        let digest = [0x5a; 32];
        let data = match operation {
            Operation::Rsa2048 => [&DIGEST_INFO[..], &digest].concat(),
            Operation::P256 | Operation::Ed25519 => digest.to_vec(),
            Operation::AesGcm => vec![0x5a; BULK],
        };
        let mut iv = [0; 12];
        let owner = std::process::id().rotate_left(16) ^ thread;
        for (place, byte) in iv.iter_mut().zip(owner.to_be_bytes()) {
            *place = byte;
        }
        Work { operation, data, output: vec![0; BULK + 64], iv, count: 0 }
    }

    /// Does it once in the token.
    ///
    /// # Errors
    ///
    /// What the module says, and a result of a wrong length.
    pub fn once(&mut self, module: &Module, session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE) -> Result<()> {
        self.count += 1;
        // Another message each time: nothing can be answered from memory.
        if let Some(last) = self.data.last_chunk_mut::<8>() {
            *last = self.count.to_be_bytes();
        }
        let (mechanism, length) = match self.operation {
            Operation::Rsa2048 => (CKM_RSA_PKCS, 256),
            Operation::P256 => (CKM_ECDSA, 64),
            Operation::Ed25519 => (CKM_EDDSA, 64),
            Operation::AesGcm => {
                if let Some(counter) = self.iv.last_chunk_mut::<8>() {
                    *counter = self.count.to_be_bytes();
                }
                let written =
                    module.encrypt_gcm(session, key, &mut self.iv, &mut self.data, &mut self.output)?;
                ensure!(written == BULK + 16, "{written} bytes of ciphertext");
                return Ok(());
            }
        };
        let written = module.sign(session, mechanism, key, &mut self.data, &mut self.output)?;
        ensure!(written == length, "a signature of {written} bytes");
        Ok(())
    }

    /// The bytes to sign or encrypt.
    pub fn data(&self) -> &[u8] {
        &self.data
    }
}
