//! Digests, computed in the application's process.

use std::ops::Deref;

use sha1::Sha1;
use sha2::{Digest as _, Sha224, Sha256, Sha384, Sha512};
use sha3::{Sha3_224, Sha3_256, Sha3_384, Sha3_512};
use strongroom_protocol::v1::Hash;
use zeroize::{Zeroize, Zeroizing};

/// The DigestInfo before a digest, at most, in bytes.
const PREFIX: usize = 19;

/// The longest digest, in bytes.
const LONGEST: usize = 64;

/// A digest in progress. It needs no memory of its own: a signature is made without allocating.
#[derive(Clone)]
pub enum Digest {
    /// SHA-1.
    Sha1(Sha1),
    /// SHA-224.
    Sha224(Sha224),
    /// SHA-256.
    Sha256(Sha256),
    /// SHA-384.
    Sha384(Sha384),
    /// SHA-512.
    Sha512(Sha512),
    /// SHA3-224.
    Sha3_224(Sha3_224),
    /// SHA3-256.
    Sha3_256(Sha3_256),
    /// SHA3-384.
    Sha3_384(Sha3_384),
    /// SHA3-512.
    Sha3_512(Sha3_512),
}

/// A digest, or its DigestInfo.
#[derive(Clone, Copy)]
pub struct Sum {
    bytes: [u8; PREFIX + LONGEST],
    length: usize,
}

impl Sum {
    fn new(parts: [&[u8]; 2]) -> Self {
        let mut sum = Sum { bytes: [0; PREFIX + LONGEST], length: 0 };
        for part in parts {
            let end = sum.length + part.len();
            if let Some(place) = sum.bytes.get_mut(sum.length..end) {
                place.copy_from_slice(part);
                sum.length = end;
            }
        }
        sum
    }

    /// A digest of at most 64 bytes that was made elsewhere.
    pub fn of(digest: &[u8]) -> Self {
        Sum::new([digest, &[]])
    }

    /// The bytes, as a value of their own.
    pub fn into_vec(self) -> Vec<u8> {
        self.to_vec()
    }
}

impl Zeroize for Sum {
    fn zeroize(&mut self) {
        self.bytes.zeroize();
    }
}

impl Deref for Sum {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Does the same with each hash.
macro_rules! each {
    ($digest:expr, $inner:ident => $what:expr) => {
        match $digest {
            Digest::Sha1($inner) => $what,
            Digest::Sha224($inner) => $what,
            Digest::Sha256($inner) => $what,
            Digest::Sha384($inner) => $what,
            Digest::Sha512($inner) => $what,
            Digest::Sha3_224($inner) => $what,
            Digest::Sha3_256($inner) => $what,
            Digest::Sha3_384($inner) => $what,
            Digest::Sha3_512($inner) => $what,
        }
    };
}

impl Digest {
    /// Takes a part of the data.
    pub fn update(&mut self, part: &[u8]) {
        each!(self, digest => digest.update(part));
    }

    /// The digest of all parts. What follows begins a new one.
    pub fn finalize(&mut self) -> Sum {
        each!(self, digest => Sum::new([&digest.finalize_reset(), &[]]))
    }

    /// As [`Digest::finalize`], of data that is secret: so is its digest.
    pub fn finalize_secret(&mut self) -> Zeroizing<Sum> {
        each!(self, digest => {
            let mut bytes = digest.finalize_reset();
            let sum = Zeroizing::new(Sum::new([&bytes, &[]]));
            bytes.as_mut_slice().zeroize();
            sum
        })
    }

    /// Its size in bytes.
    pub fn output_size(&self) -> usize {
        match self {
            Digest::Sha1(_) => 20,
            Digest::Sha224(_) | Digest::Sha3_224(_) => 28,
            Digest::Sha256(_) | Digest::Sha3_256(_) => 32,
            Digest::Sha384(_) | Digest::Sha3_384(_) => 48,
            Digest::Sha512(_) | Digest::Sha3_512(_) => 64,
        }
    }
}

/// Starts a digest. `None` for [`Hash::Unspecified`].
pub fn start(hash: Hash) -> Option<Digest> {
    Some(match hash {
        Hash::Unspecified => return None,
        Hash::Sha1 => Digest::Sha1(Sha1::default()),
        Hash::Sha224 => Digest::Sha224(Sha224::default()),
        Hash::Sha256 => Digest::Sha256(Sha256::default()),
        Hash::Sha384 => Digest::Sha384(Sha384::default()),
        Hash::Sha512 => Digest::Sha512(Sha512::default()),
        Hash::Sha3224 => Digest::Sha3_224(Sha3_224::default()),
        Hash::Sha3256 => Digest::Sha3_256(Sha3_256::default()),
        Hash::Sha3384 => Digest::Sha3_384(Sha3_384::default()),
        Hash::Sha3512 => Digest::Sha3_512(Sha3_512::default()),
    })
}

/// The size of a digest in bytes.
pub fn size(hash: Hash) -> usize {
    match hash {
        Hash::Unspecified => 0,
        Hash::Sha1 => 20,
        Hash::Sha224 | Hash::Sha3224 => 28,
        Hash::Sha256 | Hash::Sha3256 => 32,
        Hash::Sha384 | Hash::Sha3384 => 48,
        Hash::Sha512 | Hash::Sha3512 => 64,
    }
}

/// The DER DigestInfo of `digest`, which PKCS#1 v1.5 signs (RFC 8017, 9.2, note 1).
pub fn digest_info(hash: Hash, digest: &[u8]) -> Sum {
    // The hash's object identifier, the rest is the same for all of SHA-2 and SHA-3: the whole length, the last byte of
    // the identifier, the digest's length.
    let nist = |whole, identifier, length| {
        [
            0x30, whole, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, identifier,
            0x05, 0x00, 0x04, length,
        ]
    };
    let sha1 = [0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00, 0x04, 0x14];
    match hash {
        Hash::Unspecified => Sum::new([digest, &[]]),
        Hash::Sha1 => Sum::new([&sha1, digest]),
        Hash::Sha224 => Sum::new([&nist(0x2d, 0x04, 0x1c), digest]),
        Hash::Sha256 => Sum::new([&nist(0x31, 0x01, 0x20), digest]),
        Hash::Sha384 => Sum::new([&nist(0x41, 0x02, 0x30), digest]),
        Hash::Sha512 => Sum::new([&nist(0x51, 0x03, 0x40), digest]),
        Hash::Sha3224 => Sum::new([&nist(0x2d, 0x07, 0x1c), digest]),
        Hash::Sha3256 => Sum::new([&nist(0x31, 0x08, 0x20), digest]),
        Hash::Sha3384 => Sum::new([&nist(0x41, 0x09, 0x30), digest]),
        Hash::Sha3512 => Sum::new([&nist(0x51, 0x0a, 0x40), digest]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_have_their_size_and_a_well_formed_digest_info() {
        for hash in (1..=9).map(|number| Hash::try_from(number).unwrap()) {
            let mut digest = start(hash).unwrap();
            digest.update(b"abc");
            let digest = digest.finalize();
            assert_eq!(digest.len(), size(hash));
            let info = digest_info(hash, &digest);
            // SEQUENCE of the rest, and an OCTET STRING of the digest at its end.
            assert_eq!(usize::from(info[1]), info.len() - 2);
            assert_eq!(info[info.len() - digest.len() - 2..][..2], [4, digest.len() as u8]);
        }
        assert!(start(Hash::Unspecified).is_none());
    }

    /// FIPS 180-4's example "abc".
    #[test]
    fn known_digest() {
        let mut digest = start(Hash::Sha256).unwrap();
        digest.update(b"abc");
        assert_eq!(digest.finalize()[..4], [0xba, 0x78, 0x16, 0xbf]);
    }
}
