//! SHA-2 of a short message, computed here.
//!
//! OpenSSL's EVP interface takes and frees memory for each digest, and does more around it than the digest of what TLS signs
//! takes, which is two or three blocks. Everything longer, and every other hash, is left to [`crate::openssl`].

use sha2::{Digest, Sha256, Sha384, Sha512};

use crate::openssl::{Hash, MAX_DIGEST};

/// The longest message, in bytes. What TLS signs is shorter; where more is hashed, OpenSSL's code for the processor at hand
/// is worth its way.
const SHORT: usize = 1024;

/// The digest, in the first bytes of the array, and its size in bytes. `None` for a hash or length that is not made here.
pub fn short_digest(hash: Hash, message: &[u8]) -> Option<([u8; MAX_DIGEST], usize)> {
    if message.len() > SHORT {
        return None;
    }
    let mut digest = [0; MAX_DIGEST];
    let target = digest.get_mut(..hash.size())?;
    match hash {
        Hash::Sha256 => target.copy_from_slice(&Sha256::digest(message)),
        Hash::Sha384 => target.copy_from_slice(&Sha384::digest(message)),
        Hash::Sha512 => target.copy_from_slice(&Sha512::digest(message)),
        _ => return None,
    }
    Some((digest, hash.size()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openssl::{self, Context};

    #[test]
    fn is_what_openssl_computes() {
        let context = Context::new().unwrap();
        let message: Vec<u8> = (0..SHORT + 1).map(|at| at as u8).collect();
        let mut here = 0;
        for hash in Hash::ALL {
            for length in [0, 1, 55, 56, 63, 64, 111, 112, 127, 128, 130, 146, SHORT, SHORT + 1] {
                let message = &message[..length];
                let Some(digest) = short_digest(hash, message) else { continue };
                let mut theirs = openssl::Digest::new(&context, hash).unwrap();
                theirs.update(message).unwrap();
                assert_eq!(digest, theirs.finish().unwrap(), "{hash:?} {length}");
                here += 1;
            }
        }
        assert_eq!(here, 3 * 13);
    }
}
