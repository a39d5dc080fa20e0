//! Digests, computed in the application's process.

use sha1::Sha1;
use sha2::digest::DynDigest;
use sha2::{Sha224, Sha256, Sha384, Sha512};
use strongroom_protocol::v1::Hash;

/// A digest in progress.
pub type Digest = Box<dyn DynDigest + Send>;

/// Starts a digest. `None` for [`Hash::Unspecified`].
pub fn start(hash: Hash) -> Option<Digest> {
    Some(match hash {
        Hash::Unspecified => return None,
        Hash::Sha1 => Box::new(Sha1::default()),
        Hash::Sha224 => Box::new(Sha224::default()),
        Hash::Sha256 => Box::new(Sha256::default()),
        Hash::Sha384 => Box::new(Sha384::default()),
        Hash::Sha512 => Box::new(Sha512::default()),
    })
}

/// The size of a digest in bytes.
pub fn size(hash: Hash) -> usize {
    match hash {
        Hash::Unspecified => 0,
        Hash::Sha1 => 20,
        Hash::Sha224 => 28,
        Hash::Sha256 => 32,
        Hash::Sha384 => 48,
        Hash::Sha512 => 64,
    }
}

/// The DER DigestInfo of `digest`, which PKCS#1 v1.5 signs (RFC 8017, 9.2, note 1).
pub fn digest_info(hash: Hash, digest: &[u8]) -> Vec<u8> {
    // The hash's object identifier, the rest is the same for all of SHA-2: the whole length, the last byte of
    // the identifier, the digest's length.
    let sha2 = |whole, identifier, length| {
        vec![
            0x30, whole, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, identifier,
            0x05, 0x00, 0x04, length,
        ]
    };
    let mut info = match hash {
        Hash::Unspecified => Vec::new(),
        Hash::Sha1 => {
            vec![0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00, 0x04, 0x14]
        }
        Hash::Sha224 => sha2(0x2d, 0x04, 0x1c),
        Hash::Sha256 => sha2(0x31, 0x01, 0x20),
        Hash::Sha384 => sha2(0x41, 0x02, 0x30),
        Hash::Sha512 => sha2(0x51, 0x03, 0x40),
    };
    info.extend_from_slice(digest);
    info
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_have_their_size_and_a_well_formed_digest_info() {
        for hash in [Hash::Sha1, Hash::Sha224, Hash::Sha256, Hash::Sha384, Hash::Sha512] {
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
