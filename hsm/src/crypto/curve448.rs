//! Keys on the curves of 448 bits, which AWS-LC does not have: Ed448 (RFC 8032) and X448 (RFC 7748), computed by RustCrypto's
//! `ed448-goldilocks` and `x448`, whose time does not depend on secrets.
//!
//! A key is its seed in protected memory. What is computed from it lies on a protected stack, made for one operation and wiped
//! after it; the crates allocate nothing. Signatures are verified before they leave.

use std::fmt;

use ed448_goldilocks::elliptic_curve::pkcs8::PrivateKeyInfoRef;
use ed448_goldilocks::elliptic_curve::pkcs8::der::Decode;
use ed448_goldilocks::elliptic_curve::pkcs8::der::asn1::{ObjectIdentifier, OctetStringRef};
use ed448_goldilocks::elliptic_curve::pkcs8::spki::SubjectPublicKeyInfoRef;
use ed448_goldilocks::{EdwardsScalarBytes, SigningKey, VerifyingKey};

use super::aws_lc;
use super::{CryptoError, KeyKind};
use crate::memory::{ProtectedStack, SecretBytes};

const ED448: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.113");
const X448: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.111");

/// What stands before the seed in PKCS#8, and before the public key in SubjectPublicKeyInfo (RFC 8410, 4 and 7).
const ED448_PRIVATE: &[u8] = b"\x30\x47\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x71\x04\x3b\x04\x39";
const ED448_PUBLIC: &[u8] = b"\x30\x43\x30\x05\x06\x03\x2b\x65\x71\x03\x3a\x00";
const X448_PRIVATE: &[u8] = b"\x30\x46\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x6f\x04\x3a\x04\x38";
const X448_PUBLIC: &[u8] = b"\x30\x42\x30\x05\x06\x03\x2b\x65\x6f\x03\x39\x00";

/// Sizes in bytes: of Ed448's keys, and of X448's keys and secrets.
const ED448_KEY: usize = 57;
const X448_KEY: usize = 56;

/// The size of a private or public key in bytes, and the two prefixes.
fn form(kind: KeyKind) -> (usize, &'static [u8], &'static [u8]) {
    match kind {
        KeyKind::Ed448 => (ED448_KEY, ED448_PRIVATE, ED448_PUBLIC),
        _ => (X448_KEY, X448_PRIVATE, X448_PUBLIC),
    }
}

fn kind_of(algorithm: ObjectIdentifier) -> Option<KeyKind> {
    match algorithm {
        ED448 => Some(KeyKind::Ed448),
        X448 => Some(KeyKind::X448),
        _ => None,
    }
}

fn malformed(what: &str) -> CryptoError {
    CryptoError::KeyMalformed(what.to_owned())
}

/// Runs `work` on a stack in protected memory, which is wiped.
fn protected<R>(work: impl FnOnce() -> R) -> Result<R, CryptoError> {
    let stack = ProtectedStack::map();
    let mut stack = stack.ok_or_else(|| CryptoError::Library("no memory for a protected stack".into()))?;
    Ok(stack.run(0, work))
}

/// A private key of one of the two kinds.
pub struct PrivateKey {
    kind: KeyKind,
    seed: SecretBytes,
    public: Vec<u8>,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl PrivateKey {
    /// Makes a new key, of one of the two kinds.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Library`].
    pub fn generate(kind: KeyKind) -> Result<Self, CryptoError> {
        let mut seed = SecretBytes::zeroed(form(kind).0);
        aws_lc::random(&mut seed);
        Self::new(kind, seed)
    }

    fn new(kind: KeyKind, seed: SecretBytes) -> Result<Self, CryptoError> {
        let public = protected(|| match kind {
            KeyKind::Ed448 => {
                let seed = EdwardsScalarBytes::try_from(&seed[..]).ok()?;
                Some(SigningKey::from(&seed).verifying_key().to_bytes().to_vec())
            }
            _ => {
                let seed = <[u8; X448_KEY]>::try_from(&seed[..]).ok()?;
                Some(x448::x448_unchecked(seed, x448::X448_BASEPOINT_BYTES).to_vec())
            }
        })?;
        let public = public.ok_or_else(|| malformed("a key on a curve of 448 bits has 57 or 56 bytes"))?;
        Ok(Self { kind, seed, public })
    }

    /// Parses a DER PKCS#8 (RFC 5958, RFC 8410); `None` if it is of another kind. A public half that comes along has to be the key's.
    ///
    /// # Errors
    ///
    /// [`CryptoError::KeyMalformed`].
    pub fn from_pkcs8(pkcs8: &[u8]) -> Option<Result<Self, CryptoError>> {
        let info = PrivateKeyInfoRef::from_der(pkcs8).ok()?;
        let kind = kind_of(info.algorithm.oid)?;
        let seed = <&OctetStringRef>::from_der(info.private_key.as_bytes());
        let sound = |seed: &&OctetStringRef| {
            seed.as_bytes().len() == form(kind).0 && info.algorithm.parameters.is_none()
        };
        let Some(seed) = seed.ok().filter(sound) else {
            return Some(Err(malformed("not a sound private key on a curve of 448 bits")));
        };
        let key = Self::new(kind, SecretBytes::from(seed.as_bytes()));
        Some(key.and_then(|key| match info.public_key {
            Some(public) if public.as_bytes() != Some(&key.public) => {
                Err(malformed("the key's halves do not belong together"))
            }
            _ => Ok(key),
        }))
    }

    /// The key's type.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The key as DER PKCS#8 PrivateKeyInfo, in protected memory.
    pub fn to_pkcs8(&self) -> SecretBytes {
        let (_, prefix, _) = form(self.kind);
        let mut written = SecretBytes::zeroed(prefix.len() + self.seed.len());
        let (start, rest) = written.split_at_mut(prefix.len());
        start.copy_from_slice(prefix);
        rest.copy_from_slice(&self.seed);
        written
    }

    /// The public half as DER SubjectPublicKeyInfo.
    pub fn public_spki(&self) -> Vec<u8> {
        [form(self.kind).2, &self.public].concat()
    }

    /// Signs a message with Ed448 (RFC 8032, 5.2.6, without context) into a buffer of 114 bytes. Blocks for milliseconds.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Library`] if the signature is faulty, or there is no protected memory.
    pub fn sign_into(&self, message: &[u8], signature: &mut [u8]) -> Result<(), CryptoError> {
        let faulty = || CryptoError::Library("signing with an Ed448 key: the signature is faulty".to_owned());
        let made = protected(|| {
            let seed = EdwardsScalarBytes::try_from(&self.seed[..]).ok()?;
            Some(SigningKey::from(&seed).sign_raw(message).to_bytes())
        })?;
        let made = made.filter(|made| made.len() == signature.len()).ok_or_else(faulty)?;
        verify(&self.public, message, &made).map_err(|_| faulty())?;
        signature.copy_from_slice(&made);
        Ok(())
    }

    /// Agrees on a secret with X448 (RFC 7748, 6.2).
    ///
    /// # Errors
    ///
    /// [`CryptoError::ParameterWrong`] if the public key has another length or makes the secret known to all.
    pub fn derive(&self, public: &[u8]) -> Result<SecretBytes, CryptoError> {
        self.check_peer(public)?;
        let secret = protected(|| {
            let seed = <[u8; X448_KEY]>::try_from(&self.seed[..]).ok()?;
            let secret = x448::x448(seed, public.try_into().ok()?)?;
            Some(SecretBytes::from(&secret[..]))
        })?;
        // Points of small order that the crate does not know as such show in the secret (RFC 7748, 6.2).
        secret
            .filter(|secret| secret.iter().fold(0, |all, byte| all | byte) != 0)
            .ok_or_else(|| CryptoError::ParameterWrong("the public key gives no secret".to_owned()))
    }

    /// Checks the form of another's public key, and returns the size of the secret in bytes.
    ///
    /// # Errors
    ///
    /// As for [`PrivateKey::derive`], and [`CryptoError::MechanismDoesNotFit`] for Ed448.
    pub fn check_peer(&self, public: &[u8]) -> Result<usize, CryptoError> {
        match (self.kind, public.len()) {
            (KeyKind::X448, X448_KEY) => Ok(X448_KEY),
            (KeyKind::X448, _) => {
                Err(CryptoError::ParameterWrong(format!("X448's public keys have {X448_KEY} bytes")))
            }
            (kind, _) => Err(CryptoError::MechanismDoesNotFit { mechanism: "ECDH", kind }),
        }
    }
}

/// A public key of one of the two kinds.
pub struct PublicKey {
    kind: KeyKind,
    bytes: Vec<u8>,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl PublicKey {
    /// Parses a DER SubjectPublicKeyInfo; `None` if it is of another kind.
    ///
    /// # Errors
    ///
    /// [`CryptoError::KeyMalformed`], also for bytes that are no point of Ed448's curve.
    pub fn from_spki(spki: &[u8]) -> Option<Result<Self, CryptoError>> {
        let info = SubjectPublicKeyInfoRef::from_der(spki).ok()?;
        let kind = kind_of(info.algorithm.oid)?;
        let bytes = info.subject_public_key.as_bytes().unwrap_or_default();
        let fits = bytes.len() == form(kind).0 && info.algorithm.parameters.is_none();
        if !fits || (kind == KeyKind::Ed448 && verifying_key(bytes).is_none()) {
            return Some(Err(malformed("not a sound public key on a curve of 448 bits")));
        }
        Some(Ok(Self { kind, bytes: bytes.to_vec() }))
    }

    /// The key's type.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Verifies an Ed448 signature over a message.
    ///
    /// # Errors
    ///
    /// [`CryptoError::SignatureWrong`].
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        verify(&self.bytes, message, signature)
    }
}

fn verifying_key(bytes: &[u8]) -> Option<VerifyingKey> {
    VerifyingKey::from_bytes(&<[u8; ED448_KEY]>::try_from(bytes).ok().filter(is_plain)?).ok()
}

/// Whether the bits of an encoded point that are not used are zero (RFC 8032, 5.2.2): the last byte has the sign of x, and nothing
/// else. The crate does not look.
fn is_plain(point: &[u8; ED448_KEY]) -> bool {
    point.last().is_some_and(|last| last & 0x7f == 0)
}

fn verify(public: &[u8], message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
    let wrong = CryptoError::SignatureWrong;
    let key = verifying_key(public).ok_or(wrong.clone())?;
    if !signature.first_chunk().is_some_and(is_plain) {
        return Err(wrong);
    }
    let signature = ed448_goldilocks::Signature::try_from(signature).map_err(|_| wrong.clone())?;
    key.verify_raw(&signature, message).map_err(|_| wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    fn key(prefix: &[u8], seed: &str) -> PrivateKey {
        PrivateKey::from_pkcs8(&[prefix, &hex(seed)].concat()).unwrap().unwrap()
    }

    /// RFC 8032, 7.4, "1 octet".
    #[test]
    fn ed448_published_vector() {
        let key = key(
            ED448_PRIVATE,
            "c4eab05d357007c632f3dbb48489924d552b08fe0c353a0d4a1f00acda2c463afbea67c5e8d2877c5e3bc397a659949ef8021e954e0a12274e",
        );
        let public = "43ba28f430cdff456ae531545f7ecd0ac834a55d9358c0372bfa0c6c6798c0866aea01eb00742802b8438ea4cb82169c235160627b4c3a9480";
        assert_eq!(key.public, hex(public));
        let mut signature = [0; 114];
        key.sign_into(&[3], &mut signature).unwrap();
        assert_eq!(
            signature.to_vec(),
            hex(
                "26b8f91727bd62897af15e41eb43c377efb9c610d48f2335cb0bd0087810f4352541b143c4b981b7e18f62de8ccdf633fc1bf037ab7cd779805e0dbcc0aae1cbcee1afb2e027df36bc04dcecbf154336c19f0af7e0a6472905e799f1953d2a0ff3348ab21aa4adafd1d234441cf807c03a00"
            )
        );
        let verifier = PublicKey::from_spki(&key.public_spki()).unwrap().unwrap();
        verifier.verify(&[3], &signature).unwrap();
        assert_eq!(verifier.verify(&[4], &signature), Err(CryptoError::SignatureWrong));
        assert_eq!(verifier.verify(&[3], &signature[1..]), Err(CryptoError::SignatureWrong));
        // One signature has one encoding.
        signature[56] ^= 1;
        assert_eq!(verifier.verify(&[3], &signature), Err(CryptoError::SignatureWrong));
    }

    /// RFC 7748, 6.2.
    #[test]
    fn x448_published_vector() {
        let alice = key(
            X448_PRIVATE,
            "9a8f4925d1519f5775cf46b04b5800d4ee9ee8bae8bc5565d498c28dd9c9baf574a9419744897391006382a6f127ab1d9ac2d8c0a598726b",
        );
        assert_eq!(
            alice.public,
            hex(
                "9b08f7cc31b7e3e67d22d5aea121074a273bd2b83de09c63faa73d2c22c5d9bbc836647241d953d40c5b12da88120d53177f80e532c41fa0"
            )
        );
        let bob = hex(
            "3eb7a829b0cd20f5bcfc0b599b6feccf6da4627107bdb0d4f345b43027d8b972fc3e34fb4232a13ca706dcb57aec3dae07bdc1c67bf33609",
        );
        assert_eq!(
            alice.derive(&bob).unwrap().to_vec(),
            hex(
                "07fff4181ac6cc95ec1c16a94a0f74d12da232ce40a77552281d282bb60c0b56fd2464c335543936521c24403085d59a449a5037514a879d"
            )
        );
        for wrong in [&[0; 56][..], &[0; 55], &[]] {
            assert!(matches!(alice.derive(wrong), Err(CryptoError::ParameterWrong(_))));
        }
    }

    #[test]
    fn keys_there_and_back_and_malformed_ones() {
        for kind in [KeyKind::Ed448, KeyKind::X448] {
            let key = PrivateKey::generate(kind).unwrap();
            let pkcs8 = key.to_pkcs8();
            let again = PrivateKey::from_pkcs8(&pkcs8).unwrap().unwrap();
            assert_eq!((again.kind(), again.public_spki()), (kind, key.public_spki()));
            assert_eq!(PublicKey::from_spki(&key.public_spki()).unwrap().unwrap().kind(), kind);
            assert_eq!(format!("{key:?}"), format!("PrivateKey {{ kind: {kind:?}, .. }}"));
            assert!(PrivateKey::from_pkcs8(&pkcs8[1..]).is_none());
        }
        // A seed that is too short, in DER that is sound.
        let short =
            [&b"\x30\x46\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x71\x04\x3a\x04\x38"[..], &[7; 56]].concat();
        assert!(PrivateKey::from_pkcs8(&short).unwrap().is_err());
        // What is another key's is somebody else's.
        let other = aws_lc::PrivateKey::generate(KeyKind::X25519).unwrap();
        assert!(PrivateKey::from_pkcs8(&other.to_pkcs8().unwrap()).is_none());
        assert!(PublicKey::from_spki(&other.public_spki().unwrap()).is_none());
        // No point of the curve.
        assert!(PublicKey::from_spki(&[ED448_PUBLIC, &[0xff; 57]].concat()).unwrap().is_err());
    }

    #[test]
    fn a_stack_has_room_for_it() {
        let key = PrivateKey::generate(KeyKind::Ed448).unwrap();
        let mut stack = ProtectedStack::map().unwrap();
        stack.paint();
        stack.run(0, || {
            let seed = EdwardsScalarBytes::try_from(&key.seed[..]).unwrap();
            let _ = SigningKey::from(&seed).sign_raw(b"message");
        });
        assert!(stack.depth() < 128 * 1024, "{}", stack.depth());
    }
}
