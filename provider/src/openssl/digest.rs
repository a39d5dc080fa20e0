//! Digests, computed by OpenSSL.

use std::ffi::CStr;
use std::ptr::NonNull;

use openssl_sys as ffi;

use super::Context;
use crate::bindings;
use crate::error::{Error, Result};
use crate::params::{Answers, Params};

/// The largest digest, in bytes.
pub const MAX_DIGEST: usize = 64;

/// The hash functions that a signature can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// MD5 and SHA-1 one after the other: RSA in TLS 1.0 and 1.1.
    Md5Sha1,
    /// SHA-1
    Sha1,
    /// SHA-224
    Sha224,
    /// SHA-256
    Sha256,
    /// SHA-384
    Sha384,
    /// SHA-512
    Sha512,
    /// SHA3-224
    Sha3_224,
    /// SHA3-256
    Sha3_256,
    /// SHA3-384
    Sha3_384,
    /// SHA3-512
    Sha3_512,
    /// SHA-512/224
    Sha512_224,
    /// SHA-512/256
    Sha512_256,
    /// RIPEMD-160
    Ripemd160,
}

impl Hash {
    /// Every hash, in the order of the enumeration.
    pub const ALL: [Hash; 13] = [
        Hash::Md5Sha1,
        Hash::Sha1,
        Hash::Sha224,
        Hash::Sha256,
        Hash::Sha384,
        Hash::Sha512,
        Hash::Sha3_224,
        Hash::Sha3_256,
        Hash::Sha3_384,
        Hash::Sha3_512,
        Hash::Sha512_224,
        Hash::Sha512_256,
        Hash::Ripemd160,
    ];

    /// OpenSSL's name.
    pub fn name(self) -> &'static CStr {
        match self {
            Hash::Md5Sha1 => c"MD5-SHA1",
            Hash::Sha1 => c"SHA1",
            Hash::Sha224 => c"SHA2-224",
            Hash::Sha256 => c"SHA2-256",
            Hash::Sha384 => c"SHA2-384",
            Hash::Sha512 => c"SHA2-512",
            Hash::Sha3_224 => c"SHA3-224",
            Hash::Sha3_256 => c"SHA3-256",
            Hash::Sha3_384 => c"SHA3-384",
            Hash::Sha3_512 => c"SHA3-512",
            Hash::Sha512_224 => c"SHA2-512/224",
            Hash::Sha512_256 => c"SHA2-512/256",
            Hash::Ripemd160 => c"RIPEMD-160",
        }
    }

    /// The hash of one of the names that OpenSSL has for it ("SHA256", "SHA2-256", "SHA-256", the OID).
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] for another hash.
    pub fn from_name(name: &str) -> Result<Self> {
        // Longer names are none of these.
        let mut plain = [0; 32];
        let mut length = 0;
        for (byte, target) in name.bytes().filter(|byte| !b"-/".contains(byte)).zip(&mut plain) {
            *target = byte.to_ascii_lowercase();
            length += 1;
        }
        Ok(match plain.get(..length).unwrap_or_default() {
            b"md5sha1" => Hash::Md5Sha1,
            b"sha1" | b"ssl3sha1" | b"1.3.14.3.2.26" => Hash::Sha1,
            b"sha224" | b"sha2224" | b"2.16.840.1.101.3.4.2.4" => Hash::Sha224,
            b"sha256" | b"sha2256" | b"2.16.840.1.101.3.4.2.1" => Hash::Sha256,
            b"sha384" | b"sha2384" | b"2.16.840.1.101.3.4.2.2" => Hash::Sha384,
            b"sha512" | b"sha2512" | b"2.16.840.1.101.3.4.2.3" => Hash::Sha512,
            b"sha3224" | b"2.16.840.1.101.3.4.2.7" => Hash::Sha3_224,
            b"sha3256" | b"2.16.840.1.101.3.4.2.8" => Hash::Sha3_256,
            b"sha3384" | b"2.16.840.1.101.3.4.2.9" => Hash::Sha3_384,
            b"sha3512" | b"2.16.840.1.101.3.4.2.10" => Hash::Sha3_512,
            b"sha512224" | b"sha2512224" | b"2.16.840.1.101.3.4.2.5" => Hash::Sha512_224,
            b"sha512256" | b"sha2512256" | b"2.16.840.1.101.3.4.2.6" => Hash::Sha512_256,
            b"ripemd160" | b"ripemd" | b"rmd160" | b"1.3.36.3.2.1" => Hash::Ripemd160,
            _ => return Err(Error::Unsupported(format!("digest \"{name}\" cannot be signed"))),
        })
    }

    /// The digest's size in bytes.
    pub fn size(self) -> usize {
        match self {
            Hash::Md5Sha1 => 36,
            Hash::Sha1 | Hash::Ripemd160 => 20,
            Hash::Sha224 | Hash::Sha3_224 | Hash::Sha512_224 => 28,
            Hash::Sha256 | Hash::Sha3_256 | Hash::Sha512_256 => 32,
            Hash::Sha384 | Hash::Sha3_384 => 48,
            Hash::Sha512 | Hash::Sha3_512 => 64,
        }
    }
}

/// A digest in the making (EVP_MD_CTX).
pub struct Digest {
    context: NonNull<ffi::EVP_MD_CTX>,
    /// The hash that it computes.
    pub hash: Hash,
}

// SAFETY: an EVP_MD_CTX belongs to no thread; `&mut self` keeps its uses apart.
unsafe impl Send for Digest {}

impl Digest {
    /// Begins a digest.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] if this libcrypto does not have the hash, [`Error::Libcrypto`] without memory.
    pub fn new(libctx: &Context, hash: Hash) -> Result<Self> {
        let method = libctx.digest(hash)?;
        // SAFETY: takes nothing; null is checked.
        let context =
            NonNull::new(unsafe { ffi::EVP_MD_CTX_new() }).ok_or(Error::Libcrypto("EVP_MD_CTX_new"))?;
        let digest = Digest { context, hash };
        digest.init(method.as_ptr())?;
        Ok(digest)
    }

    /// Begins another digest of the same hash, in the same memory.
    ///
    /// # Errors
    ///
    /// [`Error::Libcrypto`] if libcrypto refuses.
    pub fn restart(&mut self) -> Result<()> {
        self.init(std::ptr::null())
    }

    /// Begins with a method, or without one with the method that it has.
    fn init(&self, method: *const ffi::EVP_MD) -> Result<()> {
        // SAFETY: a valid context; null, or a method that lives as long as the library context; no engine.
        match unsafe { ffi::EVP_DigestInit_ex(self.context.as_ptr(), method, std::ptr::null_mut()) } {
            1 => Ok(()),
            _ => Err(Error::Libcrypto("EVP_DigestInit_ex")),
        }
    }

    /// Adds data.
    ///
    /// # Errors
    ///
    /// [`Error::Libcrypto`] if the digest is finished already.
    pub fn update(&mut self, data: &[u8]) -> Result<()> {
        // SAFETY: a valid context; `data` can be read for its length.
        match unsafe { ffi::EVP_DigestUpdate(self.context.as_ptr(), data.as_ptr().cast(), data.len()) } {
            1 => Ok(()),
            _ => Err(Error::Libcrypto("EVP_DigestUpdate")),
        }
    }

    /// Ends the digest; its bytes are the first [`Hash::size`] of the array.
    ///
    /// # Errors
    ///
    /// [`Error::Libcrypto`] if it was finished before.
    pub fn finish(&mut self) -> Result<([u8; MAX_DIGEST], usize)> {
        let mut digest = [0; MAX_DIGEST];
        let mut size = 0;
        // SAFETY: a valid context; the buffer has the size of the largest digest (EVP_MAX_MD_SIZE is 64).
        match unsafe { ffi::EVP_DigestFinal_ex(self.context.as_ptr(), digest.as_mut_ptr(), &mut size) } {
            1 => Ok((digest, size as usize)),
            _ => Err(Error::Libcrypto("EVP_DigestFinal_ex")),
        }
    }

    /// Answers questions about the digest (EVP_MD_CTX_get_params(3)).
    ///
    /// # Errors
    ///
    /// [`Error::Libcrypto`] if it cannot.
    pub fn answer(&self, answers: &Answers) -> Result<()> {
        // SAFETY: a valid context and a terminated list.
        match unsafe { bindings::EVP_MD_CTX_get_params(self.context.as_ptr(), answers.as_ptr()) } {
            1 => Ok(()),
            _ => Err(Error::Libcrypto("EVP_MD_CTX_get_params")),
        }
    }

    /// Applies parameters of the digest (EVP_MD_CTX_set_params(3)).
    ///
    /// # Errors
    ///
    /// [`Error::Libcrypto`] if it does not take them.
    pub fn set(&mut self, params: Params) -> Result<()> {
        // SAFETY: as above.
        match unsafe { bindings::EVP_MD_CTX_set_params(self.context.as_ptr(), params.as_ptr()) } {
            1 => Ok(()),
            _ => Err(Error::Libcrypto("EVP_MD_CTX_set_params")),
        }
    }

    /// A copy that goes its own way from here.
    ///
    /// # Errors
    ///
    /// [`Error::Libcrypto`] without memory.
    pub fn duplicate(&self) -> Result<Self> {
        // SAFETY: takes nothing; null is checked.
        let context =
            NonNull::new(unsafe { ffi::EVP_MD_CTX_new() }).ok_or(Error::Libcrypto("EVP_MD_CTX_new"))?;
        let copy = Digest { context, hash: self.hash };
        // SAFETY: both are valid.
        match unsafe { ffi::EVP_MD_CTX_copy_ex(context.as_ptr(), self.context.as_ptr()) } {
            1 => Ok(copy),
            _ => Err(Error::Libcrypto("EVP_MD_CTX_copy_ex")),
        }
    }
}

impl Drop for Digest {
    fn drop(&mut self) {
        // SAFETY: ours, freed once.
        unsafe { ffi::EVP_MD_CTX_free(self.context.as_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_of_abc() {
        let context = Context::new().unwrap();
        let mut digest = Digest::new(&context, Hash::Sha256).unwrap();
        digest.update(b"ab").unwrap();
        let mut copy = digest.duplicate().unwrap();
        copy.update(b"c").unwrap();
        let (bytes, size) = copy.finish().unwrap();
        assert_eq!((bytes[..4].to_vec(), size), (vec![0xba, 0x78, 0x16, 0xbf], 32));
        copy.restart().unwrap();
        copy.update(b"abc").unwrap();
        assert_eq!(copy.finish().unwrap(), (bytes, size));
    }

    #[test]
    fn every_hash_is_known_by_its_own_name() {
        let context = Context::new().unwrap();
        for (position, hash) in Hash::ALL.into_iter().enumerate() {
            assert_eq!(hash as usize, position);
            assert_eq!(Hash::from_name(hash.name().to_str().unwrap()).unwrap(), hash);
            let (_, size) = Digest::new(&context, hash).unwrap().finish().unwrap();
            assert_eq!(size, hash.size());
        }
        assert_eq!(Hash::from_name("SHA256").unwrap(), Hash::Sha256);
        assert_eq!(Hash::from_name("SHA512-256").unwrap(), Hash::Sha512_256);
        assert_eq!(Hash::from_name("SHA-512/224").unwrap(), Hash::Sha512_224);
        assert_eq!(Hash::from_name("rmd160").unwrap(), Hash::Ripemd160);
        for name in ["MD5", "", "SHA-256-and-something-that-is-longer"] {
            assert!(Hash::from_name(name).is_err(), "{name}");
        }
    }
}
