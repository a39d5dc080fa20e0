//! Known answers: before an engine signs anything, it has to sign what others have signed, the same way.
//!
//! - ECDSA: RFC 6979, A.2.5 to A.2.7, message "sample", each curve with the hash of its size. crypto_mb is given the
//!   RFC's nonce; aws-lc, which chooses nonces itself, has to accept the RFC's signature and its own.
//! - Ed25519: RFC 8032, 7.1, test 2.
//! - RSA: PKCS#1 v1.5 over SHA-256 of "sample", with keys and signatures that the openssl command made.
//!
//! The keys are published with this source; they protect nothing, and the measurement of both engines uses them.

use strongroom_crypto_mb::{CryptoMb, Curve, EcdsaLane, LANES, NonceLane};

use super::nonces::Moment;
use super::workshop::Workshop;
use super::{Order, Signature};
use crate::crypto::aws_lc::{Parts, PrivateKey, PublicKey};
use crate::crypto::{CryptoError, KeyKind, Mechanism};
use crate::memory::SecretWords;

/// A key, what it signs, and what comes of it.
#[derive(Debug)]
pub(super) struct KnownAnswer {
    pub(super) key: PrivateKey,
    pub(super) mechanism: Mechanism,
    pub(super) data: &'static [u8],
    signature: &'static [u8],
    /// ECDSA's nonce, the most significant byte first.
    nonce: Option<&'static [u8]>,
}

macro_rules! file {
    ($name:literal) => {
        include_bytes!(concat!("../known_answers/", $name))
    };
}

impl KnownAnswer {
    /// The known answer of a kind.
    ///
    /// # Errors
    ///
    /// If the key does not parse.
    pub(super) fn of(kind: KeyKind) -> Result<Self, CryptoError> {
        let (pkcs8, data, signature): (&[u8], &[u8], &[u8]) = match kind {
            KeyKind::Rsa2048 => (file!("rsa2048.der"), file!("rsa.digest-info"), file!("rsa2048.signature")),
            KeyKind::Rsa3072 => (file!("rsa3072.der"), file!("rsa.digest-info"), file!("rsa3072.signature")),
            KeyKind::Rsa4096 => (file!("rsa4096.der"), file!("rsa.digest-info"), file!("rsa4096.signature")),
            KeyKind::P256 => (file!("p256.der"), file!("p256.digest"), file!("p256.signature")),
            KeyKind::P384 => (file!("p384.der"), file!("p384.digest"), file!("p384.signature")),
            KeyKind::P521 => (file!("p521.der"), file!("p521.digest"), file!("p521.signature")),
            KeyKind::Ed25519 => (file!("ed25519.der"), &[0x72], file!("ed25519.signature")),
            _ => {
                return Err(CryptoError::Library(format!("no known answer of {kind}, which is not batched")));
            }
        };
        let (mechanism, nonce): (Mechanism, Option<&[u8]>) = match kind {
            KeyKind::Rsa2048 | KeyKind::Rsa3072 | KeyKind::Rsa4096 => (Mechanism::RsaPkcs, None),
            KeyKind::P256 => (Mechanism::Ecdsa, Some(file!("p256.nonce"))),
            KeyKind::P384 => (Mechanism::Ecdsa, Some(file!("p384.nonce"))),
            KeyKind::P521 => (Mechanism::Ecdsa, Some(file!("p521.nonce"))),
            _ => (Mechanism::EdDsa, None),
        };
        Ok(Self { key: PrivateKey::from_pkcs8(pkcs8)?, mechanism, data, signature, nonce })
    }

    /// Whether aws-lc gives the known answer, or accepts it where signatures are random.
    ///
    /// # Errors
    ///
    /// The library's.
    pub(super) fn holds_for_aws_lc(&self) -> Result<bool, CryptoError> {
        let made = self.key.sign(self.mechanism, self.data)?;
        if self.nonce.is_none() {
            return Ok(made == self.signature);
        }
        let public = PublicKey::from_spki(&self.key.public_spki()?)?;
        let accepts = |signature: &[u8]| match public.verify(self.mechanism, self.data, signature) {
            Ok(()) => Ok(true),
            Err(CryptoError::SignatureWrong) => Ok(false),
            Err(error) => Err(error),
        };
        let mut wrong = self.signature.to_vec();
        if let Some(byte) = wrong.last_mut() {
            *byte ^= 1;
        }
        Ok(accepts(self.signature)? && accepts(&made)? && !accepts(&wrong)?)
    }

    /// Whether crypto_mb gives the known answer in every lane.
    pub(super) fn holds_for_crypto_mb(&self, library: CryptoMb, workshop: &mut Workshop) -> bool {
        if let (Some(nonce), Some(Parts::Ecdsa { curve, key })) = (self.nonce, self.key.parts()) {
            return self.ecdsa_holds(library, *curve, key, nonce);
        }
        let mut signatures = [const { Signature::empty() }; LANES];
        let mut orders = signatures.each_mut().map(|signature| self.order(signature));
        let mut lanes = orders.each_mut().map(Some);
        workshop.sign_together(self.key.kind(), &mut lanes, Moment::now(), 0);
        let done = lanes.iter().all(Option::is_none) && orders.iter().all(|order| order.outcome.is_ok());
        done && signatures.iter().all(|signature| signature.bytes() == self.signature)
    }

    /// The same with another message, so that the answer is wrong.
    #[cfg(test)]
    pub(super) fn changed(mut self) -> Self {
        let mut data = self.data.to_vec();
        *data.last_mut().unwrap() ^= 1;
        self.data = data.leak();
        self
    }

    /// An order to sign what the answer is known of.
    pub(super) fn order<'a>(&'a self, signature: &'a mut Signature) -> Order<'a> {
        Order { key: &self.key, mechanism: self.mechanism, data: self.data, signature, outcome: Ok(()) }
    }

    fn ecdsa_holds(&self, library: CryptoMb, curve: Curve, key: &[u64], nonce: &[u8]) -> bool {
        let words = curve.words();
        let mut k = SecretWords::zeroed(words);
        for (word, bytes) in k.iter_mut().zip(nonce.rchunks(8)) {
            *word = bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        }
        // The digests of the known answers are as long as the order, but P-521's.
        let mut digest = vec![0; curve.bytes().saturating_sub(self.data.len())];
        digest.extend_from_slice(self.data);
        let mut prepared = vec![0; LANES * 2 * words];
        let mut lanes = [const { None }; LANES];
        for (lane, out) in lanes.iter_mut().zip(prepared.chunks_exact_mut(2 * words)) {
            let (inverse, r) = out.split_at_mut(words);
            *lane = Some(NonceLane { nonce: &k, inverse, r, done: false });
        }
        library.ecdsa_setup(curve, &mut lanes);
        let mut done = lanes.iter().flatten().all(|lane| lane.done);
        let mut signatures = vec![0; LANES * self.signature.len()];
        let mut lanes = [const { None }; LANES];
        let parts = prepared.chunks_exact(2 * words).zip(signatures.chunks_exact_mut(self.signature.len()));
        for (lane, (prepared, signature)) in lanes.iter_mut().zip(parts) {
            let (inverse, r) = prepared.split_at(words);
            *lane = Some(EcdsaLane { key, inverse, r, digest: &digest, signature, done: false });
        }
        library.ecdsa_complete(curve, &mut lanes);
        done &= lanes.iter().flatten().all(|lane| lane.done);
        done && signatures.chunks_exact(self.signature.len()).all(|signature| signature == self.signature)
    }
}
