//! What goes into a lane, and what comes out.

/// The sizes of RSA moduli that the library knows and Strongroom uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RsaSize {
    /// 2048 bits.
    Bits2048,
    /// 3072 bits.
    Bits3072,
    /// 4096 bits.
    Bits4096,
}

impl RsaSize {
    /// The modulus's size, in bits.
    pub fn bits(self) -> usize {
        match self {
            RsaSize::Bits2048 => 2048,
            RsaSize::Bits3072 => 3072,
            RsaSize::Bits4096 => 4096,
        }
    }

    /// The modulus's size, and a block's and a signature's, in bytes.
    pub fn bytes(self) -> usize {
        self.bits() / 8
    }

    /// The modulus's size, in 64-bit words. A prime has half as many.
    pub fn words(self) -> usize {
        self.bits() / 64
    }
}

/// One RSA operation. Numbers are arrays of 64-bit words, the least first; blocks are bytes, the most significant
/// first.
#[derive(Debug)]
pub struct RsaLane<'a> {
    /// What the operation takes of the key. Private: p, q, d mod (p-1), d mod (q-1), q^-1 mod p, one after the
    /// other, each of half the modulus's size. Public: the modulus.
    pub key: &'a [u64],
    /// The block, as long as the modulus and smaller than it.
    pub from: &'a [u8],
    /// Where the result goes, as long as the modulus.
    pub to: &'a mut [u8],
    /// Whether the library computed it; set by the operation. It does not say that the result is right.
    pub done: bool,
}

/// The curves that the library knows and Strongroom uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
    /// NIST P-521.
    P521,
}

impl Curve {
    /// The size of numbers modulo the curve's order, in bytes: of the digest, of r and of s.
    pub fn bytes(self) -> usize {
        match self {
            Curve::P256 => 32,
            Curve::P384 => 48,
            Curve::P521 => 66,
        }
    }

    /// The size of numbers modulo the curve's order, in 64-bit words: of keys and of what belongs to nonces.
    pub fn words(self) -> usize {
        self.bytes().div_ceil(8)
    }
}

/// What of an ECDSA signature is computed before the message is known. Numbers are arrays of 64-bit words, the
/// least first, as many as [`Curve::words`].
#[derive(Debug)]
pub struct NonceLane<'a> {
    /// The nonce k, 0 < k < n.
    pub nonce: &'a [u64],
    /// Where k^-1 mod n goes.
    pub inverse: &'a mut [u64],
    /// Where r goes, the x coordinate of k·G, mod n.
    pub r: &'a mut [u64],
    /// Whether the library computed both; set by the operation.
    pub done: bool,
}

/// One ECDSA signature with a nonce that was prepared. Words as in [`NonceLane`].
#[derive(Debug)]
pub struct EcdsaLane<'a> {
    /// The private key.
    pub key: &'a [u64],
    /// What [`NonceLane`] gave: k^-1 mod n.
    pub inverse: &'a [u64],
    /// What [`NonceLane`] gave: r.
    pub r: &'a [u64],
    /// The digest, cut or padded to [`Curve::bytes`] bytes, the most significant first.
    pub digest: &'a [u8],
    /// Where the signature r || s goes, twice [`Curve::bytes`].
    pub signature: &'a mut [u8],
    /// Whether the library computed it; set by the operation. False also for digests that are zero or not below the
    /// curve's order, which the library refuses, and if s is zero.
    pub done: bool,
}

/// One Ed25519 signature (RFC 8032, without context).
#[derive(Debug)]
pub struct Ed25519Lane<'a> {
    /// The private key: the seed.
    pub seed: &'a [u8; 32],
    /// The public key that belongs to it. With another one, the signature reveals the private key.
    pub public: &'a [u8; 32],
    /// The message, less than 2 GiB.
    pub message: &'a [u8],
    /// Where the signature goes.
    pub signature: &'a mut [u8; 64],
    /// Whether the library computed it; set by the operation.
    pub done: bool,
}
