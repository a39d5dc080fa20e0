//! The types of key pairs that a partition keeps.

use std::fmt;

use strongroom_protocol::v1::KeyType;

/// The type and size of a key pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyKind {
    /// RSA with a modulus of 2048 bits.
    Rsa2048,
    /// RSA with a modulus of 3072 bits.
    Rsa3072,
    /// RSA with a modulus of 4096 bits.
    Rsa4096,
    /// ECDSA on NIST P-256.
    P256,
    /// ECDSA on NIST P-384.
    P384,
    /// ECDSA on NIST P-521.
    P521,
    /// Ed25519 (RFC 8032).
    Ed25519,
    /// X25519 (RFC 7748).
    X25519,
    /// ML-DSA-44 (FIPS 204).
    MlDsa44,
    /// ML-DSA-65.
    MlDsa65,
    /// ML-DSA-87.
    MlDsa87,
    /// ECDSA on secp256k1 (SEC 2, 2.4.1).
    Secp256k1,
    /// ML-KEM-512 (FIPS 203).
    MlKem512,
    /// ML-KEM-768.
    MlKem768,
    /// ML-KEM-1024.
    MlKem1024,
}

impl KeyKind {
    /// Every kind.
    pub const ALL: [KeyKind; 15] = [
        KeyKind::Rsa2048,
        KeyKind::Rsa3072,
        KeyKind::Rsa4096,
        KeyKind::P256,
        KeyKind::P384,
        KeyKind::P521,
        KeyKind::Ed25519,
        KeyKind::X25519,
        KeyKind::MlDsa44,
        KeyKind::MlDsa65,
        KeyKind::MlDsa87,
        KeyKind::Secp256k1,
        KeyKind::MlKem512,
        KeyKind::MlKem768,
        KeyKind::MlKem1024,
    ];

    /// The kinds whose signatures are computed in batches by the engine, the first of all: what is counted by kind
    /// there is found by `kind as usize`. Their signatures have at most 512 bytes.
    pub const BATCHED: [KeyKind; 7] = [
        KeyKind::Rsa2048,
        KeyKind::Rsa3072,
        KeyKind::Rsa4096,
        KeyKind::P256,
        KeyKind::P384,
        KeyKind::P521,
        KeyKind::Ed25519,
    ];

    /// The kind that a message names; `None` if it names no type of key pairs that this release knows.
    pub fn from_wire(key_type: KeyType) -> Option<Self> {
        Some(match key_type {
            KeyType::Unspecified
            | KeyType::Aes128
            | KeyType::Aes192
            | KeyType::Aes256
            | KeyType::GenericSecret
            | KeyType::Des3 => return None,
            KeyType::Rsa2048 => KeyKind::Rsa2048,
            KeyType::Rsa3072 => KeyKind::Rsa3072,
            KeyType::Rsa4096 => KeyKind::Rsa4096,
            KeyType::P256 => KeyKind::P256,
            KeyType::P384 => KeyKind::P384,
            KeyType::P521 => KeyKind::P521,
            KeyType::Ed25519 => KeyKind::Ed25519,
            KeyType::X25519 => KeyKind::X25519,
            KeyType::MlDsa44 => KeyKind::MlDsa44,
            KeyType::MlDsa65 => KeyKind::MlDsa65,
            KeyType::MlDsa87 => KeyKind::MlDsa87,
            KeyType::Secp256k1 => KeyKind::Secp256k1,
            KeyType::MlKem512 => KeyKind::MlKem512,
            KeyType::MlKem768 => KeyKind::MlKem768,
            KeyType::MlKem1024 => KeyKind::MlKem1024,
        })
    }

    /// The kind as messages name it.
    pub fn to_wire(self) -> KeyType {
        match self {
            KeyKind::Rsa2048 => KeyType::Rsa2048,
            KeyKind::Rsa3072 => KeyType::Rsa3072,
            KeyKind::Rsa4096 => KeyType::Rsa4096,
            KeyKind::P256 => KeyType::P256,
            KeyKind::P384 => KeyType::P384,
            KeyKind::P521 => KeyType::P521,
            KeyKind::Ed25519 => KeyType::Ed25519,
            KeyKind::X25519 => KeyType::X25519,
            KeyKind::MlDsa44 => KeyType::MlDsa44,
            KeyKind::MlDsa65 => KeyType::MlDsa65,
            KeyKind::MlDsa87 => KeyType::MlDsa87,
            KeyKind::Secp256k1 => KeyType::Secp256k1,
            KeyKind::MlKem512 => KeyType::MlKem512,
            KeyKind::MlKem768 => KeyType::MlKem768,
            KeyKind::MlKem1024 => KeyType::MlKem1024,
        }
    }

    /// The modulus's size in bits, of RSA kinds.
    pub fn rsa_bits(self) -> Option<u32> {
        match self {
            KeyKind::Rsa2048 => Some(2048),
            KeyKind::Rsa3072 => Some(3072),
            KeyKind::Rsa4096 => Some(4096),
            _ => None,
        }
    }

    /// The size of one of ECDSA's two numbers, in bytes, of kinds that have two.
    pub fn ec_scalar(self) -> Option<usize> {
        match self {
            KeyKind::P256 | KeyKind::Secp256k1 => Some(32),
            KeyKind::P384 => Some(48),
            KeyKind::P521 => Some(66),
            _ => None,
        }
    }

    /// Whether the engine computes such signatures in batches.
    pub fn is_batched(self) -> bool {
        KeyKind::BATCHED.contains(&self)
    }

    /// Whether such keys sign.
    pub fn signs(self) -> bool {
        self != KeyKind::X25519 && !self.decapsulates()
    }

    /// Whether such keys agree on secrets.
    pub fn derives(self) -> bool {
        self.ec_scalar().is_some() || self == KeyKind::X25519
    }

    /// Whether such keys decapsulate secrets.
    pub fn decapsulates(self) -> bool {
        self.ciphertext_length() > 0
    }

    /// The size of an encapsulated secret, in bytes; 0 where there is none.
    pub fn ciphertext_length(self) -> usize {
        match self {
            // FIPS 203, table 3.
            KeyKind::MlKem512 => 768,
            KeyKind::MlKem768 => 1088,
            KeyKind::MlKem1024 => 1568,
            _ => 0,
        }
    }

    /// Memory that such a private key takes once it was used, in bytes, rounded up: as measured.
    pub fn opened_size(self) -> usize {
        match self {
            KeyKind::Rsa2048 => 8_192,
            KeyKind::Rsa3072 => 10_240,
            KeyKind::Rsa4096 => 14_336,
            KeyKind::P256 | KeyKind::P384 | KeyKind::P521 | KeyKind::Secp256k1 => 1_024,
            KeyKind::Ed25519 | KeyKind::X25519 => 512,
            KeyKind::MlDsa44 => 5_120,
            KeyKind::MlDsa65 => 7_168,
            KeyKind::MlDsa87 => 10_240,
            KeyKind::MlKem512 => 4_096,
            KeyKind::MlKem768 => 5_120,
            KeyKind::MlKem1024 => 7_168,
        }
    }

    /// The size of a signature, in bytes; 0 where there is none.
    pub fn signature_length(self) -> usize {
        match self {
            KeyKind::Rsa2048 => 256,
            KeyKind::Rsa3072 => 384,
            KeyKind::Rsa4096 => 512,
            KeyKind::P256 | KeyKind::Ed25519 | KeyKind::Secp256k1 => 64,
            KeyKind::P384 => 96,
            KeyKind::P521 => 132,
            KeyKind::X25519 | KeyKind::MlKem512 | KeyKind::MlKem768 | KeyKind::MlKem1024 => 0,
            // FIPS 204, table 2.
            KeyKind::MlDsa44 => 2420,
            KeyKind::MlDsa65 => 3309,
            KeyKind::MlDsa87 => 4627,
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyKind::Rsa2048 => "RSA-2048",
            KeyKind::Rsa3072 => "RSA-3072",
            KeyKind::Rsa4096 => "RSA-4096",
            KeyKind::P256 => "P-256",
            KeyKind::P384 => "P-384",
            KeyKind::P521 => "P-521",
            KeyKind::Ed25519 => "Ed25519",
            KeyKind::X25519 => "X25519",
            KeyKind::MlDsa44 => "ML-DSA-44",
            KeyKind::MlDsa65 => "ML-DSA-65",
            KeyKind::MlDsa87 => "ML-DSA-87",
            KeyKind::Secp256k1 => "secp256k1",
            KeyKind::MlKem512 => "ML-KEM-512",
            KeyKind::MlKem768 => "ML-KEM-768",
            KeyKind::MlKem1024 => "ML-KEM-1024",
        })
    }
}
