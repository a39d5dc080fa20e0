//! The same operations in this process, with aws-lc, whose code the daemon signs with too.

use anyhow::{Result, anyhow};
use aws_lc_rs::digest::{Digest, SHA256};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256};
use aws_lc_rs::{aead, rsa};

use crate::load;
use crate::operation::{BULK, Work};
use crate::options::{Load, Operation};
use crate::report::Report;

/// Repeats `operation` in this process.
///
/// # Errors
///
/// When a key cannot be made.
pub fn run(operation: Operation, load: &Load) -> Result<Report> {
    let random = SystemRandom::new();
    match operation {
        Operation::Rsa2048 => {
            let key = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).map_err(|_| anyhow!("no RSA key"))?;
            load::run(load, |number| {
                let (key, random) = (&key, &random);
                let mut message = Message::new(number);
                let mut signature = vec![0; key.public_modulus_len()];
                Ok(move || {
                    key.sign(&RSA_PKCS1_SHA256, random, message.next(), &mut signature)
                        .map_err(|_| anyhow!("RSA failed"))
                })
            })
        }
        Operation::P256 => {
            let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
                .map_err(|_| anyhow!("no P-256 key"))?;
            load::run(load, |number| {
                let key = &key;
                let mut message = Message::new(number);
                Ok(move || {
                    let digest = Digest::import_less_safe(message.next(), &SHA256)
                        .map_err(|_| anyhow!("no digest"))?;
                    key.sign_digest(&digest).map(drop).map_err(|_| anyhow!("ECDSA failed"))
                })
            })
        }
        Operation::Ed25519 => {
            let key = Ed25519KeyPair::generate().map_err(|_| anyhow!("no Ed25519 key"))?;
            load::run(load, |number| {
                let key = &key;
                let mut message = Message::new(number);
                Ok(move || {
                    std::hint::black_box(key.sign(message.next()));
                    Ok(())
                })
            })
        }
        Operation::AesGcm => {
            let key = aead::UnboundKey::new(&aead::AES_256_GCM, &[7; 32]).map_err(|_| anyhow!("no key"))?;
            let key = aead::LessSafeKey::new(key);
            load::run(load, |number| {
                let key = &key;
                let data = Work::new(operation, number).data().to_vec();
                let mut message = Message::new(number);
                let mut output = Vec::with_capacity(BULK + 16);
                Ok(move || {
                    output.clear();
                    output.extend_from_slice(&data);
                    let nonce = message.next().first_chunk::<12>().copied().unwrap_or_default();
                    key.seal_in_place_append_tag(
                        aead::Nonce::assume_unique_for_key(nonce),
                        aead::Aad::empty(),
                        &mut output,
                    )
                    .map_err(|_| anyhow!("AES-GCM failed"))
                })
            })
        }
    }
}

/// Messages of 32 bytes, all different.
struct Message {
    bytes: [u8; 32],
    count: u64,
}

impl Message {
    fn new(thread: u32) -> Self {
        let mut bytes = [0x5a; 32];
        for (place, byte) in bytes.iter_mut().zip(thread.to_be_bytes()) {
            *place = byte;
        }
        Message { bytes, count: 0 }
    }

    fn next(&mut self) -> &[u8] {
        self.count += 1;
        for (place, byte) in self.bytes.iter_mut().skip(4).zip(self.count.to_be_bytes()) {
            *place = byte;
        }
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_differ() {
        let (mut one, mut other) = (Message::new(1), Message::new(2));
        let first = one.next().to_vec();
        assert_ne!(first, one.next());
        assert_ne!(first, other.next());
    }
}
