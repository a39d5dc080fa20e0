//! PKCS#11's mechanisms by their numbers, and which requests they are: for `CKA_ALLOWED_MECHANISMS`.

use crate::v1::{Hash, Mechanism};

/// A mechanism of PKCS#11 that works with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// `CKM_…`.
    pub number: u64,
    /// The request's mechanism.
    pub mechanism: Mechanism,
    /// The hash of the data, or of HMAC; [`Hash::Unspecified`]: any or none.
    pub hash: Hash,
    /// A message authentication code of any length.
    pub is_general: bool,
}

macro_rules! rows {
    ($($number:literal => $mechanism:ident $(, $hash:ident)? $(; $general:ident)?;)*) => {
        /// All of them. The numbers are in the standard's header, pkcs11t.h.
        pub const MECHANISMS: &[Row] = &[$(Row {
            number: $number,
            mechanism: Mechanism::$mechanism,
            hash: { let hash = Hash::Unspecified; $(let hash = { let _ = hash; Hash::$hash };)? hash },
            is_general: { let general = false; $(let general = { let _ = general; stringify!($general); true };)? general },
        }),*];
    };
}

rows! {
    0x0001 => RsaPkcs;
    0x0003 => RsaX509;
    0x0006 => RsaPkcs, Sha1;
    0x0009 => RsaPkcsOaep;
    0x000d => RsaPkcsPss;
    0x000e => RsaPkcsPss, Sha1;
    0x0040 => RsaPkcs, Sha256;
    0x0041 => RsaPkcs, Sha384;
    0x0042 => RsaPkcs, Sha512;
    0x0043 => RsaPkcsPss, Sha256;
    0x0044 => RsaPkcsPss, Sha384;
    0x0045 => RsaPkcsPss, Sha512;
    0x0046 => RsaPkcs, Sha224;
    0x0047 => RsaPkcsPss, Sha224;
    0x0060 => RsaPkcs, Sha3256;
    0x0061 => RsaPkcs, Sha3384;
    0x0062 => RsaPkcs, Sha3512;
    0x0063 => RsaPkcsPss, Sha3256;
    0x0064 => RsaPkcsPss, Sha3384;
    0x0065 => RsaPkcsPss, Sha3512;
    0x0066 => RsaPkcs, Sha3224;
    0x0067 => RsaPkcsPss, Sha3224;
    0x0017 => MlKem;
    0x001d => MlDsa;
    0x0132 => Des3Ecb;
    0x0133 => Des3Cbc;
    0x0136 => Des3CbcPad;
    0x0221 => Hmac, Sha1;
    0x0222 => Hmac, Sha1; general;
    0x0251 => Hmac, Sha256;
    0x0252 => Hmac, Sha256; general;
    0x0256 => Hmac, Sha224;
    0x0257 => Hmac, Sha224; general;
    0x0261 => Hmac, Sha384;
    0x0262 => Hmac, Sha384; general;
    0x0271 => Hmac, Sha512;
    0x0272 => Hmac, Sha512; general;
    0x02b1 => Hmac, Sha3256;
    0x02b2 => Hmac, Sha3256; general;
    0x02b6 => Hmac, Sha3224;
    0x02b7 => Hmac, Sha3224; general;
    0x02c1 => Hmac, Sha3384;
    0x02c2 => Hmac, Sha3384; general;
    0x02d1 => Hmac, Sha3512;
    0x02d2 => Hmac, Sha3512; general;
    0x03ac => Sp800108Counter;
    0x03ad => Sp800108Feedback;
    0x03ae => Sp800108DoublePipeline;
    0x402a => Hkdf;
    0x402b => Hkdf;
    0x1041 => Ecdsa;
    0x1042 => Ecdsa, Sha1;
    0x1043 => Ecdsa, Sha224;
    0x1044 => Ecdsa, Sha256;
    0x1045 => Ecdsa, Sha384;
    0x1046 => Ecdsa, Sha512;
    0x1047 => Ecdsa, Sha3224;
    0x1048 => Ecdsa, Sha3256;
    0x1049 => Ecdsa, Sha3384;
    0x104a => Ecdsa, Sha3512;
    0x1050 => Ecdh;
    0x1051 => Ecdh;
    0x1054 => RsaAesKeyWrap;
    0x1057 => Eddsa;
    0x1081 => AesEcb;
    0x1082 => AesCbc;
    0x1085 => AesCbcPad;
    0x1086 => AesCtr;
    0x1087 => AesGcm;
    0x1088 => AesCcm;
    0x108a => AesCmac;
    0x108b => AesCmac; general;
    0x108e => AesGmac;
    0x2109 => AesKeyWrap;
    0x210a => AesKeyWrapKwp;
    0x210b => AesKeyWrapKwp;
}

/// What stands before a digest in its DigestInfo (RFC 8017, 9.2, note 1). Empty for [`Hash::Unspecified`].
pub const fn digest_info(hash: Hash) -> &'static [u8] {
    match hash {
        Hash::Unspecified => b"",
        Hash::Sha1 => b"\x30\x21\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00\x04\x14",
        // The rest is the same for all of SHA-2 and SHA-3: the whole length, the last byte of the identifier, the digest's
        // length differ.
        Hash::Sha224 => b"\x30\x2d\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x04\x05\x00\x04\x1c",
        Hash::Sha256 => b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20",
        Hash::Sha384 => b"\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30",
        Hash::Sha512 => b"\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40",
        Hash::Sha3224 => b"\x30\x2d\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x07\x05\x00\x04\x1c",
        Hash::Sha3256 => b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x08\x05\x00\x04\x20",
        Hash::Sha3384 => b"\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x09\x05\x00\x04\x30",
        Hash::Sha3512 => b"\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x0a\x05\x00\x04\x40",
    }
}

/// The size of a digest, in bytes; 0 for [`Hash::Unspecified`].
pub const fn digest_size(hash: Hash) -> usize {
    match hash {
        Hash::Unspecified => 0,
        Hash::Sha1 => 20,
        Hash::Sha224 | Hash::Sha3224 => 28,
        Hash::Sha256 | Hash::Sha3256 => 32,
        Hash::Sha384 | Hash::Sha3384 => 48,
        Hash::Sha512 | Hash::Sha3512 => 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_stands_twice() {
        for (at, row) in MECHANISMS.iter().enumerate() {
            assert!(MECHANISMS[..at].iter().all(|other| other.number != row.number), "{:#x}", row.number);
        }
        let count = |is_general| MECHANISMS.iter().filter(|row| row.is_general == is_general).count();
        assert_eq!(count(true), 10);
    }
}
