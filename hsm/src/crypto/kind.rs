//! The types of key pairs that a partition keeps: one row for each.

use std::fmt;

use strongroom_protocol::v1::KeyType;

/// What keys of a kind compute, and its sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA with a modulus of this many bits.
    Rsa(u32),
    /// ECDSA and ECDH on a curve over a prime field whose elements, and numbers below its order, have this many bytes.
    Ec(usize),
    /// Ed25519 (RFC 8032).
    Ed25519,
    /// X25519 (RFC 7748).
    X25519,
    /// Ed448 (RFC 8032).
    Ed448,
    /// X448 (RFC 7748).
    X448,
    /// ML-DSA (FIPS 204) with signatures of this many bytes.
    MlDsa(usize),
    /// ML-KEM (FIPS 203) with ciphertexts of this many bytes.
    MlKem(usize),
}

use Algorithm::{Ec, Ed448, Ed25519, MlDsa, MlKem, Rsa, X448, X25519};

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal, $algorithm:expr, $opened:literal;)*) => {
        /// The type and size of a key pair.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum KeyKind { $($(#[$doc])* $kind,)* }

        impl KeyKind {
            /// Every kind.
            pub const ALL: [KeyKind; [$($opened as usize),*].len()] = [$(KeyKind::$kind),*];

            /// The kind as messages name it.
            pub fn to_wire(self) -> KeyType {
                match self { $(KeyKind::$kind => KeyType::$kind),* }
            }

            /// What such keys compute.
            pub fn algorithm(self) -> Algorithm {
                match self { $(KeyKind::$kind => $algorithm),* }
            }

            /// Memory that such a private key takes once it was used, in bytes, rounded up: as measured.
            pub fn opened_size(self) -> usize {
                match self { $(KeyKind::$kind => $opened),* }
            }

            fn name(self) -> &'static str {
                match self { $(KeyKind::$kind => $name),* }
            }
        }
    };
}

// The kinds of KeyKind::BATCHED come first, in its order.
kinds! {
    /// RSA with a modulus of 2048 bits.
    Rsa2048 = "RSA-2048", Rsa(2048), 8_192;
    /// RSA with a modulus of 3072 bits.
    Rsa3072 = "RSA-3072", Rsa(3072), 10_240;
    /// RSA with a modulus of 4096 bits.
    Rsa4096 = "RSA-4096", Rsa(4096), 14_336;
    /// ECDSA on NIST P-256.
    P256 = "P-256", Ec(32), 1_024;
    /// ECDSA on NIST P-384.
    P384 = "P-384", Ec(48), 1_024;
    /// ECDSA on NIST P-521.
    P521 = "P-521", Ec(66), 1_024;
    /// Ed25519 (RFC 8032).
    Ed25519 = "Ed25519", Ed25519, 512;
    /// X25519 (RFC 7748).
    X25519 = "X25519", X25519, 512;
    // FIPS 204, table 2.
    /// ML-DSA-44 (FIPS 204).
    MlDsa44 = "ML-DSA-44", MlDsa(2420), 5_120;
    /// ML-DSA-65.
    MlDsa65 = "ML-DSA-65", MlDsa(3309), 7_168;
    /// ML-DSA-87.
    MlDsa87 = "ML-DSA-87", MlDsa(4627), 10_240;
    /// ECDSA on secp256k1 (SEC 2, 2.4.1).
    Secp256k1 = "secp256k1", Ec(32), 1_024;
    // FIPS 203, table 3.
    /// ML-KEM-512 (FIPS 203).
    MlKem512 = "ML-KEM-512", MlKem(768), 4_096;
    /// ML-KEM-768.
    MlKem768 = "ML-KEM-768", MlKem(1088), 5_120;
    /// ML-KEM-1024.
    MlKem1024 = "ML-KEM-1024", MlKem(1568), 7_168;
    /// ECDSA on NIST P-224.
    P224 = "P-224", Ec(28), 1_024;
    /// ECDSA on brainpoolP256r1 (RFC 5639, 3.4).
    BrainpoolP256r1 = "brainpoolP256r1", Ec(32), 1_024;
    /// ECDSA on brainpoolP320r1 (RFC 5639, 3.5).
    BrainpoolP320r1 = "brainpoolP320r1", Ec(40), 1_024;
    /// ECDSA on brainpoolP384r1 (RFC 5639, 3.6).
    BrainpoolP384r1 = "brainpoolP384r1", Ec(48), 1_024;
    /// ECDSA on brainpoolP512r1 (RFC 5639, 3.7).
    BrainpoolP512r1 = "brainpoolP512r1", Ec(64), 1_024;
    /// Ed448 (RFC 8032).
    Ed448 = "Ed448", Ed448, 512;
    /// X448 (RFC 7748).
    X448 = "X448", X448, 512;
}

impl KeyKind {
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
        Self::ALL.into_iter().find(|kind| kind.to_wire() == key_type)
    }

    /// The modulus's size in bits, of RSA kinds.
    pub fn rsa_bits(self) -> Option<u32> {
        match self.algorithm() {
            Rsa(bits) => Some(bits),
            _ => None,
        }
    }

    /// The size of one of ECDSA's two numbers, in bytes, of kinds that have two.
    pub fn ec_scalar(self) -> Option<usize> {
        match self.algorithm() {
            Ec(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// Whether the engine computes such signatures in batches.
    pub fn is_batched(self) -> bool {
        KeyKind::BATCHED.contains(&self)
    }

    /// Whether such keys sign.
    pub fn signs(self) -> bool {
        self.signature_length() > 0
    }

    /// Whether one of their signatures is verified in less time than a thread takes to be woken for it.
    pub fn verifies_at_once(self) -> bool {
        matches!(self.algorithm(), Rsa(_) | Ed25519) || self == KeyKind::P256
    }

    /// Whether such keys agree on secrets.
    pub fn derives(self) -> bool {
        matches!(self.algorithm(), Ec(_) | X25519 | X448)
    }

    /// Whether such keys decapsulate secrets.
    pub fn decapsulates(self) -> bool {
        self.ciphertext_length() > 0
    }

    /// The size of an encapsulated secret, in bytes; 0 where there is none.
    pub fn ciphertext_length(self) -> usize {
        match self.algorithm() {
            MlKem(ciphertext) => ciphertext,
            _ => 0,
        }
    }

    /// The size of a signature, in bytes; 0 where there is none.
    pub fn signature_length(self) -> usize {
        match self.algorithm() {
            Rsa(bits) => bits as usize / 8,
            Ec(scalar) => 2 * scalar,
            Ed25519 => 64,
            Ed448 => 114,
            MlDsa(signature) => signature,
            X25519 | X448 | MlKem(_) => 0,
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batched_kinds_come_first() {
        for (index, kind) in KeyKind::BATCHED.into_iter().enumerate() {
            assert!(kind as usize == index && kind.is_batched() && kind.signature_length() <= 512);
        }
    }

    #[test]
    fn messages_name_every_kind() {
        for kind in KeyKind::ALL {
            assert_eq!(KeyKind::from_wire(kind.to_wire()), Some(kind));
        }
        assert_eq!(KeyKind::from_wire(KeyType::Aes128), None);
    }
}
