//! How a key is used: the mechanism, its parameters, and what it accepts.

use strongroom_protocol::v1;

use super::{Algorithm, CryptoError, KeyKind};

/// Hash functions that parameters may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// SHA-1, for peers that still ask for it.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
    /// SHA3-224.
    Sha3_224,
    /// SHA3-256.
    Sha3_256,
    /// SHA3-384.
    Sha3_384,
    /// SHA3-512.
    Sha3_512,
}

impl Hash {
    /// The digest's size, in bytes.
    pub fn length(self) -> usize {
        match self {
            Hash::Sha1 => 20,
            Hash::Sha224 | Hash::Sha3_224 => 28,
            Hash::Sha256 | Hash::Sha3_256 => 32,
            Hash::Sha384 | Hash::Sha3_384 => 48,
            Hash::Sha512 | Hash::Sha3_512 => 64,
        }
    }
}

/// A way to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// RSASSA-PKCS1-v1_5 (RFC 8017, 8.2) over a DigestInfo that the caller has made.
    RsaPkcs,
    /// RSASSA-PSS (RFC 8017, 8.1) over a digest.
    RsaPss {
        /// Hash of the message.
        hash: Hash,
        /// Hash of the mask generation function.
        mgf1_hash: Hash,
        /// Length of the salt, in bytes.
        salt_length: usize,
    },
    /// ECDSA (FIPS 186-5, 6.4) over a digest; the signature is r || s.
    Ecdsa,
    /// Ed25519 or Ed448 (RFC 8032) over a message.
    EdDsa,
    /// ML-DSA (FIPS 204) over the message representative.
    MlDsa,
}

/// The longest message that Ed25519 and Ed448 sign here, in bytes.
const MAX_MESSAGE: usize = 512 * 1024;

/// The longest digest given to ECDSA, in bytes.
const MAX_DIGEST: usize = 64;

/// ML-DSA's message representative, in bytes (FIPS 204, algorithm 7).
pub const REPRESENTATIVE: usize = 64;

impl Mechanism {
    /// The mechanism as messages name it.
    pub fn to_wire(self) -> v1::Mechanism {
        match self {
            Mechanism::RsaPkcs => v1::Mechanism::RsaPkcs,
            Mechanism::RsaPss { .. } => v1::Mechanism::RsaPkcsPss,
            Mechanism::Ecdsa => v1::Mechanism::Ecdsa,
            Mechanism::EdDsa => v1::Mechanism::Eddsa,
            Mechanism::MlDsa => v1::Mechanism::MlDsa,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Mechanism::RsaPkcs => "RSA PKCS#1 v1.5",
            Mechanism::RsaPss { .. } => "RSA-PSS",
            Mechanism::Ecdsa => "ECDSA",
            Mechanism::EdDsa => "EdDSA",
            Mechanism::MlDsa => "ML-DSA",
        }
    }

    /// Checks that a key of this kind can sign `length` bytes this way.
    ///
    /// # Errors
    ///
    /// Which of the three does not fit the others.
    pub fn check(self, kind: KeyKind, length: usize) -> Result<(), CryptoError> {
        let wrong_length =
            |expected: String| Err(CryptoError::DataLength { mechanism: self.name(), expected, got: length });
        match (self, kind.rsa_bits(), kind.ec_scalar()) {
            (Mechanism::RsaPkcs, Some(bits), _) => {
                let most = bits as usize / 8 - 11;
                if length > most { wrong_length(format!("at most {most}")) } else { Ok(()) }
            }
            (Mechanism::RsaPss { hash, salt_length, .. }, Some(bits), _) => {
                // RFC 8017, 9.1.1 step 3; the encoded message has as many bytes as the modulus for these sizes.
                let most = bits as usize / 8 - hash.length() - 2;
                if salt_length > most {
                    return Err(CryptoError::ParameterWrong(format!(
                        "a salt of {salt_length} bytes does not fit a key of type {kind}: at most {most}"
                    )));
                }
                if length != hash.length() { wrong_length(hash.length().to_string()) } else { Ok(()) }
            }
            (Mechanism::Ecdsa, _, Some(_)) => {
                if length == 0 || length > MAX_DIGEST {
                    return wrong_length(format!("1 to {MAX_DIGEST}"));
                }
                Ok(())
            }
            (Mechanism::EdDsa, ..) if matches!(kind, KeyKind::Ed25519 | KeyKind::Ed448) => {
                if length > MAX_MESSAGE { wrong_length(format!("at most {MAX_MESSAGE}")) } else { Ok(()) }
            }
            (Mechanism::MlDsa, ..) if matches!(kind.algorithm(), Algorithm::MlDsa(_)) => {
                if length != REPRESENTATIVE { wrong_length(REPRESENTATIVE.to_string()) } else { Ok(()) }
            }
            _ => Err(CryptoError::MechanismDoesNotFit { mechanism: self.name(), kind }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PSS: Mechanism = Mechanism::RsaPss { hash: Hash::Sha256, mgf1_hash: Hash::Sha256, salt_length: 32 };

    const PSS512: Mechanism =
        Mechanism::RsaPss { hash: Hash::Sha512, mgf1_hash: Hash::Sha512, salt_length: 64 };

    #[test]
    fn a_mechanism_fits_its_keys_only() {
        let of = |kind: KeyKind| match kind.algorithm() {
            Algorithm::Rsa(_) => vec![Mechanism::RsaPkcs, PSS512],
            Algorithm::Ec(_) => vec![Mechanism::Ecdsa],
            Algorithm::Ed25519 | Algorithm::Ed448 => vec![Mechanism::EdDsa],
            Algorithm::X25519 | Algorithm::X448 | Algorithm::MlKem(_) => Vec::new(),
            Algorithm::MlDsa(_) => vec![Mechanism::MlDsa],
        };
        for kind in KeyKind::ALL {
            assert_eq!(kind.signs(), !of(kind).is_empty());
            for mechanism in
                [Mechanism::RsaPkcs, PSS512, Mechanism::Ecdsa, Mechanism::EdDsa, Mechanism::MlDsa]
            {
                assert_eq!(
                    mechanism.check(kind, 64).is_ok(),
                    of(kind).contains(&mechanism),
                    "{kind} {mechanism:?}"
                );
            }
        }
    }

    #[test]
    fn lengths_are_bounded() {
        assert!(Mechanism::RsaPkcs.check(KeyKind::Rsa2048, 245).is_ok());
        assert!(Mechanism::RsaPkcs.check(KeyKind::Rsa2048, 246).is_err());
        assert!(PSS.check(KeyKind::Rsa2048, 31).is_err());
        let salt =
            |salt_length| Mechanism::RsaPss { hash: Hash::Sha512, mgf1_hash: Hash::Sha512, salt_length };
        assert!(salt(190).check(KeyKind::Rsa2048, 64).is_ok());
        assert!(salt(191).check(KeyKind::Rsa2048, 64).is_err());
        assert!(Mechanism::Ecdsa.check(KeyKind::P256, 0).is_err());
        assert!(Mechanism::Ecdsa.check(KeyKind::P256, 64).is_ok());
        assert!(Mechanism::Ecdsa.check(KeyKind::P256, 65).is_err());
        assert!(Mechanism::MlDsa.check(KeyKind::MlDsa65, 63).is_err());
        assert!(Mechanism::EdDsa.check(KeyKind::Ed25519, MAX_MESSAGE).is_ok());
        assert!(Mechanism::EdDsa.check(KeyKind::Ed25519, MAX_MESSAGE + 1).is_err());
    }
}
