//! PKCS#11's mechanisms by their numbers, and which requests they are: for `CKA_ALLOWED_MECHANISMS`.

use crate::v1::{Hash, Mechanism};

/// A mechanism of PKCS#11 that works with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The number of `CKM_…`.
    pub number: u64,
    /// `CKM_…`.
    pub name: &'static str,
    /// The request's mechanism.
    pub mechanism: Mechanism,
    /// The hash of the data, or of HMAC; [`Hash::Unspecified`]: any or none.
    pub hash: Hash,
    /// A message authentication code of any length.
    pub is_general: bool,
}

macro_rules! rows {
    ($($number:literal $name:ident => $mechanism:ident $(, $hash:ident)? $(; $general:ident)?;)*) => {
        /// All of them. The numbers are in the standard's header, pkcs11t.h.
        pub const MECHANISMS: &[Row] = &[$(Row {
            number: $number,
            name: stringify!($name),
            mechanism: Mechanism::$mechanism,
            hash: { let hash = Hash::Unspecified; $(let hash = { let _ = hash; Hash::$hash };)? hash },
            is_general: { let general = false; $(let general = { let _ = general; stringify!($general); true };)? general },
        }),*];
    };
}

rows! {
    0x0001 CKM_RSA_PKCS => RsaPkcs;
    0x0003 CKM_RSA_X_509 => RsaX509;
    0x0006 CKM_SHA1_RSA_PKCS => RsaPkcs, Sha1;
    0x0009 CKM_RSA_PKCS_OAEP => RsaPkcsOaep;
    0x000d CKM_RSA_PKCS_PSS => RsaPkcsPss;
    0x000e CKM_SHA1_RSA_PKCS_PSS => RsaPkcsPss, Sha1;
    0x0040 CKM_SHA256_RSA_PKCS => RsaPkcs, Sha256;
    0x0041 CKM_SHA384_RSA_PKCS => RsaPkcs, Sha384;
    0x0042 CKM_SHA512_RSA_PKCS => RsaPkcs, Sha512;
    0x0043 CKM_SHA256_RSA_PKCS_PSS => RsaPkcsPss, Sha256;
    0x0044 CKM_SHA384_RSA_PKCS_PSS => RsaPkcsPss, Sha384;
    0x0045 CKM_SHA512_RSA_PKCS_PSS => RsaPkcsPss, Sha512;
    0x0046 CKM_SHA224_RSA_PKCS => RsaPkcs, Sha224;
    0x0047 CKM_SHA224_RSA_PKCS_PSS => RsaPkcsPss, Sha224;
    0x0060 CKM_SHA3_256_RSA_PKCS => RsaPkcs, Sha3256;
    0x0061 CKM_SHA3_384_RSA_PKCS => RsaPkcs, Sha3384;
    0x0062 CKM_SHA3_512_RSA_PKCS => RsaPkcs, Sha3512;
    0x0063 CKM_SHA3_256_RSA_PKCS_PSS => RsaPkcsPss, Sha3256;
    0x0064 CKM_SHA3_384_RSA_PKCS_PSS => RsaPkcsPss, Sha3384;
    0x0065 CKM_SHA3_512_RSA_PKCS_PSS => RsaPkcsPss, Sha3512;
    0x0066 CKM_SHA3_224_RSA_PKCS => RsaPkcs, Sha3224;
    0x0067 CKM_SHA3_224_RSA_PKCS_PSS => RsaPkcsPss, Sha3224;
    0x0017 CKM_ML_KEM => MlKem;
    0x001d CKM_ML_DSA => MlDsa;
    0x0132 CKM_DES3_ECB => Des3Ecb;
    0x0133 CKM_DES3_CBC => Des3Cbc;
    0x0136 CKM_DES3_CBC_PAD => Des3CbcPad;
    0x0221 CKM_SHA_1_HMAC => Hmac, Sha1;
    0x0222 CKM_SHA_1_HMAC_GENERAL => Hmac, Sha1; general;
    0x0251 CKM_SHA256_HMAC => Hmac, Sha256;
    0x0252 CKM_SHA256_HMAC_GENERAL => Hmac, Sha256; general;
    0x0256 CKM_SHA224_HMAC => Hmac, Sha224;
    0x0257 CKM_SHA224_HMAC_GENERAL => Hmac, Sha224; general;
    0x0261 CKM_SHA384_HMAC => Hmac, Sha384;
    0x0262 CKM_SHA384_HMAC_GENERAL => Hmac, Sha384; general;
    0x0271 CKM_SHA512_HMAC => Hmac, Sha512;
    0x0272 CKM_SHA512_HMAC_GENERAL => Hmac, Sha512; general;
    0x02b1 CKM_SHA3_256_HMAC => Hmac, Sha3256;
    0x02b2 CKM_SHA3_256_HMAC_GENERAL => Hmac, Sha3256; general;
    0x02b6 CKM_SHA3_224_HMAC => Hmac, Sha3224;
    0x02b7 CKM_SHA3_224_HMAC_GENERAL => Hmac, Sha3224; general;
    0x02c1 CKM_SHA3_384_HMAC => Hmac, Sha3384;
    0x02c2 CKM_SHA3_384_HMAC_GENERAL => Hmac, Sha3384; general;
    0x02d1 CKM_SHA3_512_HMAC => Hmac, Sha3512;
    0x02d2 CKM_SHA3_512_HMAC_GENERAL => Hmac, Sha3512; general;
    0x03ac CKM_SP800_108_COUNTER_KDF => Sp800108Counter;
    0x03ad CKM_SP800_108_FEEDBACK_KDF => Sp800108Feedback;
    0x03ae CKM_SP800_108_DOUBLE_PIPELINE_KDF => Sp800108DoublePipeline;
    0x402a CKM_HKDF_DERIVE => Hkdf;
    0x402b CKM_HKDF_DATA => Hkdf;
    0x1041 CKM_ECDSA => Ecdsa;
    0x1042 CKM_ECDSA_SHA1 => Ecdsa, Sha1;
    0x1043 CKM_ECDSA_SHA224 => Ecdsa, Sha224;
    0x1044 CKM_ECDSA_SHA256 => Ecdsa, Sha256;
    0x1045 CKM_ECDSA_SHA384 => Ecdsa, Sha384;
    0x1046 CKM_ECDSA_SHA512 => Ecdsa, Sha512;
    0x1047 CKM_ECDSA_SHA3_224 => Ecdsa, Sha3224;
    0x1048 CKM_ECDSA_SHA3_256 => Ecdsa, Sha3256;
    0x1049 CKM_ECDSA_SHA3_384 => Ecdsa, Sha3384;
    0x104a CKM_ECDSA_SHA3_512 => Ecdsa, Sha3512;
    0x1050 CKM_ECDH1_DERIVE => Ecdh;
    0x1051 CKM_ECDH1_COFACTOR_DERIVE => Ecdh;
    0x1054 CKM_RSA_AES_KEY_WRAP => RsaAesKeyWrap;
    0x1057 CKM_EDDSA => Eddsa;
    0x1081 CKM_AES_ECB => AesEcb;
    0x1082 CKM_AES_CBC => AesCbc;
    0x1085 CKM_AES_CBC_PAD => AesCbcPad;
    0x1086 CKM_AES_CTR => AesCtr;
    0x1087 CKM_AES_GCM => AesGcm;
    0x1088 CKM_AES_CCM => AesCcm;
    0x108a CKM_AES_CMAC => AesCmac;
    0x108b CKM_AES_CMAC_GENERAL => AesCmac; general;
    0x108e CKM_AES_GMAC => AesGmac;
    0x2109 CKM_AES_KEY_WRAP => AesKeyWrap;
    0x210a CKM_AES_KEY_WRAP_PAD => AesKeyWrapKwp;
    0x210b CKM_AES_KEY_WRAP_KWP => AesKeyWrapKwp;
}

/// A mechanism by its name, with or without `CKM_`, small or large, with hyphens or not, or by its number (`0x1044`).
pub fn mechanism(name: &str) -> Option<&'static Row> {
    if let Some(digits) = name.strip_prefix("0x") {
        let number = u64::from_str_radix(digits, 16).ok()?;
        return MECHANISMS.iter().find(|row| row.number == number);
    }
    let name = name.to_ascii_uppercase().replace('-', "_");
    let name = name.strip_prefix("CKM_").unwrap_or(&name);
    MECHANISMS.iter().find(|row| row.name.strip_prefix("CKM_") == Some(name))
}

/// The name of a mechanism, or its number if it is none of these.
pub fn mechanism_name(number: u64) -> String {
    let row = MECHANISMS.iter().find(|row| row.number == number);
    row.map_or_else(|| format!("{number:#x}"), |row| row.name.to_owned())
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
    fn mechanisms_by_name() {
        for name in ["CKM_ECDSA_SHA256", "ecdsa-sha256", "ECDSA_SHA256", "0x1044"] {
            assert_eq!(mechanism(name).map(|row| row.number), Some(0x1044), "{name}");
        }
        for name in ["", "0x", "CKM_", "ECDSA-SHA257", "0xffff"] {
            assert_eq!(mechanism(name), None, "{name}");
        }
        assert_eq!(
            (mechanism_name(0x251).as_str(), mechanism_name(0x7777).as_str()),
            ("CKM_SHA256_HMAC", "0x7777")
        );
    }

    #[test]
    fn no_number_stands_twice() {
        for (at, row) in MECHANISMS.iter().enumerate() {
            assert!(MECHANISMS[..at].iter().all(|other| other.number != row.number), "{:#x}", row.number);
        }
        let count = |is_general| MECHANISMS.iter().filter(|row| row.is_general == is_general).count();
        assert_eq!(count(true), 10);
    }
}
