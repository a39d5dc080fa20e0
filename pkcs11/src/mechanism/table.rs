//! The table: what each mechanism does, with which keys.

use cryptoki_sys::*;
use strongroom_protocol::v1::{Hash, Mechanism};

use crate::error::Outcome;
use crate::key::{Family, MAX_SECRET};

/// What a mechanism does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Makes key pairs, or secret keys, of a family.
    Generate(Family),
    /// Signs with keys of a family: as a request of the protocol over data that has been hashed here, or, of
    /// [`Hash::Unspecified`], over the application's data as they are.
    Sign(Family, Mechanism, Hash),
    /// Encrypts and decrypts with secret keys of a family.
    Cipher(Family, Mechanism),
    /// Makes and checks message authentication codes with secret keys of a family, with a hash if it is HMAC.
    Mac(Family, Mechanism, Hash, Size),
    /// Encrypts with public keys of a family, decrypts with private ones, and wraps. What also signs is a [`Purpose::Sign`],
    /// see [`decryption`].
    Decrypt(Family, Mechanism),
    /// Agrees on secrets with keys on curves.
    Derive,
    /// Makes secret keys of secret keys.
    DeriveKey(Mechanism),
    /// Makes secret keys of passwords.
    Password,
    /// Encapsulates and decapsulates secrets with keys of a family.
    Encapsulate(Family),
    /// Wraps and unwraps keys with keys of a family, and does nothing else. So does OAEP, which also decrypts.
    Wrap(Family, Mechanism),
    /// Hashes, in the application's process.
    Digest(Hash),
}

/// How long a message authentication code is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// All of it.
    Whole,
    /// As the mechanism's parameter says (`CK_MAC_GENERAL_PARAMS`).
    General,
}

/// A row of the table.
#[derive(Debug)]
pub struct Entry {
    /// PKCS#11's number for it.
    pub mechanism: CK_MECHANISM_TYPE,
    /// PKCS#11's name.
    pub name: &'static str,
    /// What it does.
    pub purpose: Purpose,
}

macro_rules! table {
    ($($mechanism:ident => $purpose:expr,)*) => {
        /// All mechanisms, in the order in which `C_GetMechanismList` gives them.
        pub static MECHANISMS: &[Entry] =
            &[$(Entry { mechanism: $mechanism, name: stringify!($mechanism), purpose: $purpose }),*];
    };
}

use Family::{Aes, Des3, Ec, Edwards, Generic, MlDsa, MlKem, Montgomery, Rsa};
use Hash::{Sha1, Sha224, Sha256, Sha384, Sha512, Sha3224, Sha3256, Sha3384, Sha3512, Unspecified};
use Mechanism::{
    AesCbc, AesCbcPad, AesCcm, AesCmac, AesCtr, AesEcb, AesGcm, AesGmac, AesKeyWrap, AesKeyWrapKwp, Des3Cbc,
    Des3CbcPad, Des3Ecb, Ecdsa, Eddsa, Hkdf, Hmac, RsaAesKeyWrap, RsaPkcs, RsaPkcsOaep, RsaPkcsPss, RsaX509,
    Sp800108Counter, Sp800108DoublePipeline, Sp800108Feedback,
};
use Purpose::{Cipher, Decrypt, Derive, DeriveKey, Digest, Encapsulate, Generate, Mac, Password, Sign, Wrap};
use Size::{General, Whole};

table! {
    CKM_RSA_PKCS_KEY_PAIR_GEN => Generate(Rsa),
    CKM_RSA_PKCS => Sign(Rsa, RsaPkcs, Unspecified),
    CKM_SHA1_RSA_PKCS => Sign(Rsa, RsaPkcs, Sha1),
    CKM_SHA224_RSA_PKCS => Sign(Rsa, RsaPkcs, Sha224),
    CKM_SHA256_RSA_PKCS => Sign(Rsa, RsaPkcs, Sha256),
    CKM_SHA384_RSA_PKCS => Sign(Rsa, RsaPkcs, Sha384),
    CKM_SHA512_RSA_PKCS => Sign(Rsa, RsaPkcs, Sha512),
    CKM_SHA3_224_RSA_PKCS => Sign(Rsa, RsaPkcs, Sha3224),
    CKM_SHA3_256_RSA_PKCS => Sign(Rsa, RsaPkcs, Sha3256),
    CKM_SHA3_384_RSA_PKCS => Sign(Rsa, RsaPkcs, Sha3384),
    CKM_SHA3_512_RSA_PKCS => Sign(Rsa, RsaPkcs, Sha3512),
    CKM_RSA_PKCS_PSS => Sign(Rsa, RsaPkcsPss, Unspecified),
    CKM_SHA1_RSA_PKCS_PSS => Sign(Rsa, RsaPkcsPss, Sha1),
    CKM_SHA224_RSA_PKCS_PSS => Sign(Rsa, RsaPkcsPss, Sha224),
    CKM_SHA256_RSA_PKCS_PSS => Sign(Rsa, RsaPkcsPss, Sha256),
    CKM_SHA384_RSA_PKCS_PSS => Sign(Rsa, RsaPkcsPss, Sha384),
    CKM_SHA512_RSA_PKCS_PSS => Sign(Rsa, RsaPkcsPss, Sha512),
    CKM_SHA3_224_RSA_PKCS_PSS => Sign(Rsa, RsaPkcsPss, Sha3224),
    CKM_SHA3_256_RSA_PKCS_PSS => Sign(Rsa, RsaPkcsPss, Sha3256),
    CKM_SHA3_384_RSA_PKCS_PSS => Sign(Rsa, RsaPkcsPss, Sha3384),
    CKM_SHA3_512_RSA_PKCS_PSS => Sign(Rsa, RsaPkcsPss, Sha3512),
    CKM_RSA_PKCS_OAEP => Decrypt(Rsa, RsaPkcsOaep),
    CKM_RSA_X_509 => Sign(Rsa, RsaX509, Unspecified),
    CKM_EC_KEY_PAIR_GEN => Generate(Ec),
    CKM_ECDSA => Sign(Ec, Ecdsa, Unspecified),
    CKM_ECDSA_SHA1 => Sign(Ec, Ecdsa, Sha1),
    CKM_ECDSA_SHA224 => Sign(Ec, Ecdsa, Sha224),
    CKM_ECDSA_SHA256 => Sign(Ec, Ecdsa, Sha256),
    CKM_ECDSA_SHA384 => Sign(Ec, Ecdsa, Sha384),
    CKM_ECDSA_SHA512 => Sign(Ec, Ecdsa, Sha512),
    CKM_ECDSA_SHA3_224 => Sign(Ec, Ecdsa, Sha3224),
    CKM_ECDSA_SHA3_256 => Sign(Ec, Ecdsa, Sha3256),
    CKM_ECDSA_SHA3_384 => Sign(Ec, Ecdsa, Sha3384),
    CKM_ECDSA_SHA3_512 => Sign(Ec, Ecdsa, Sha3512),
    CKM_EC_EDWARDS_KEY_PAIR_GEN => Generate(Edwards),
    CKM_EDDSA => Sign(Edwards, Eddsa, Unspecified),
    CKM_EC_MONTGOMERY_KEY_PAIR_GEN => Generate(Montgomery),
    CKM_ECDH1_DERIVE => Derive,
    // The cofactor of all curves here that have one of their own is 1; X25519 takes care of its own.
    CKM_ECDH1_COFACTOR_DERIVE => Derive,
    CKM_ML_DSA_KEY_PAIR_GEN => Generate(MlDsa),
    CKM_ML_DSA => Sign(MlDsa, Mechanism::MlDsa, Unspecified),
    CKM_ML_KEM_KEY_PAIR_GEN => Generate(MlKem),
    CKM_ML_KEM => Encapsulate(MlKem),
    CKM_AES_KEY_GEN => Generate(Aes),
    CKM_AES_ECB => Cipher(Aes, AesEcb),
    CKM_AES_CBC => Cipher(Aes, AesCbc),
    CKM_AES_CBC_PAD => Cipher(Aes, AesCbcPad),
    CKM_AES_CTR => Cipher(Aes, AesCtr),
    CKM_AES_GCM => Cipher(Aes, AesGcm),
    CKM_AES_CCM => Cipher(Aes, AesCcm),
    CKM_AES_CMAC => Mac(Aes, AesCmac, Unspecified, Whole),
    CKM_AES_CMAC_GENERAL => Mac(Aes, AesCmac, Unspecified, General),
    CKM_AES_GMAC => Mac(Aes, AesGmac, Unspecified, Whole),
    CKM_AES_KEY_WRAP => Wrap(Aes, AesKeyWrap),
    CKM_AES_KEY_WRAP_KWP => Wrap(Aes, AesKeyWrapKwp),
    // PKCS#11 2.40's name, which SoftHSM and others have for the same.
    CKM_AES_KEY_WRAP_PAD => Wrap(Aes, AesKeyWrapKwp),
    CKM_RSA_AES_KEY_WRAP => Wrap(Rsa, RsaAesKeyWrap),
    CKM_DES3_KEY_GEN => Generate(Des3),
    CKM_DES3_ECB => Cipher(Des3, Des3Ecb),
    CKM_DES3_CBC => Cipher(Des3, Des3Cbc),
    CKM_DES3_CBC_PAD => Cipher(Des3, Des3CbcPad),
    CKM_GENERIC_SECRET_KEY_GEN => Generate(Generic),
    CKM_SHA_1_KEY_GEN => Generate(Generic),
    CKM_SHA224_KEY_GEN => Generate(Generic),
    CKM_SHA256_KEY_GEN => Generate(Generic),
    CKM_SHA384_KEY_GEN => Generate(Generic),
    CKM_SHA512_KEY_GEN => Generate(Generic),
    CKM_SHA3_224_KEY_GEN => Generate(Generic),
    CKM_SHA3_256_KEY_GEN => Generate(Generic),
    CKM_SHA3_384_KEY_GEN => Generate(Generic),
    CKM_SHA3_512_KEY_GEN => Generate(Generic),
    CKM_HKDF_KEY_GEN => Generate(Generic),
    CKM_HKDF_DERIVE => DeriveKey(Hkdf),
    CKM_HKDF_DATA => DeriveKey(Hkdf),
    CKM_SP800_108_COUNTER_KDF => DeriveKey(Sp800108Counter),
    CKM_SP800_108_FEEDBACK_KDF => DeriveKey(Sp800108Feedback),
    CKM_SP800_108_DOUBLE_PIPELINE_KDF => DeriveKey(Sp800108DoublePipeline),
    CKM_PKCS5_PBKD2 => Password,
    CKM_SHA_1_HMAC => Mac(Generic, Hmac, Sha1, Whole),
    CKM_SHA_1_HMAC_GENERAL => Mac(Generic, Hmac, Sha1, General),
    CKM_SHA224_HMAC => Mac(Generic, Hmac, Sha224, Whole),
    CKM_SHA224_HMAC_GENERAL => Mac(Generic, Hmac, Sha224, General),
    CKM_SHA256_HMAC => Mac(Generic, Hmac, Sha256, Whole),
    CKM_SHA256_HMAC_GENERAL => Mac(Generic, Hmac, Sha256, General),
    CKM_SHA384_HMAC => Mac(Generic, Hmac, Sha384, Whole),
    CKM_SHA384_HMAC_GENERAL => Mac(Generic, Hmac, Sha384, General),
    CKM_SHA512_HMAC => Mac(Generic, Hmac, Sha512, Whole),
    CKM_SHA512_HMAC_GENERAL => Mac(Generic, Hmac, Sha512, General),
    CKM_SHA3_224_HMAC => Mac(Generic, Hmac, Sha3224, Whole),
    CKM_SHA3_224_HMAC_GENERAL => Mac(Generic, Hmac, Sha3224, General),
    CKM_SHA3_256_HMAC => Mac(Generic, Hmac, Sha3256, Whole),
    CKM_SHA3_256_HMAC_GENERAL => Mac(Generic, Hmac, Sha3256, General),
    CKM_SHA3_384_HMAC => Mac(Generic, Hmac, Sha3384, Whole),
    CKM_SHA3_384_HMAC_GENERAL => Mac(Generic, Hmac, Sha3384, General),
    CKM_SHA3_512_HMAC => Mac(Generic, Hmac, Sha3512, Whole),
    CKM_SHA3_512_HMAC_GENERAL => Mac(Generic, Hmac, Sha3512, General),
    CKM_SHA_1 => Digest(Sha1),
    CKM_SHA224 => Digest(Sha224),
    CKM_SHA256 => Digest(Sha256),
    CKM_SHA384 => Digest(Sha384),
    CKM_SHA512 => Digest(Sha512),
    CKM_SHA3_224 => Digest(Sha3224),
    CKM_SHA3_256 => Digest(Sha3256),
    CKM_SHA3_384 => Digest(Sha3384),
    CKM_SHA3_512 => Digest(Sha3512),
}

/// Of what signs and verifies: one message, or many one after the other.
const SIGNS: CK_FLAGS = CKF_SIGN | CKF_VERIFY | CKF_MESSAGE_SIGN | CKF_MESSAGE_VERIFY;

/// Of signatures that what was signed comes out of.
const RECOVERS: CK_FLAGS = CKF_SIGN_RECOVER | CKF_VERIFY_RECOVER;

/// The row of a mechanism.
///
/// # Errors
///
/// `CKR_MECHANISM_INVALID` if there is none.
pub fn find(mechanism: CK_MECHANISM_TYPE) -> Outcome<&'static Entry> {
    MECHANISMS.iter().find(|entry| entry.mechanism == mechanism).ok_or(CKR_MECHANISM_INVALID)
}

impl Entry {
    /// What `C_GetMechanismInfo` says.
    pub fn info(&self) -> CK_MECHANISM_INFO {
        let sizes = |family| match family {
            Rsa => (2048, 4096, 0),
            Ec => (224, 521, CKF_EC_F_P | CKF_EC_OID | CKF_EC_CURVENAME | CKF_EC_UNCOMPRESS),
            Edwards | Montgomery => (255, 448, CKF_EC_F_P | CKF_EC_OID | CKF_EC_CURVENAME),
            // The public key, in bytes.
            MlDsa => (1312, 2592, 0),
            MlKem => (800, 1568, 0),
            // In bytes, as the standard has it for AES; it leaves open what the others are in.
            Aes => (16, 32, 0),
            Des3 => (24, 24, 0),
            Generic => (1, MAX_SECRET as CK_ULONG, 0),
        };
        let ((min, max, curve), flags) = match self.purpose {
            // CKF_HW: the partition does it, not the application's process.
            Generate(family) if family.is_pair() => (sizes(family), CKF_HW | CKF_GENERATE_KEY_PAIR),
            Generate(family) => (sizes(family), CKF_HW | CKF_GENERATE),
            Cipher(family, AesGcm | AesCcm) => (
                sizes(family),
                CKF_HW | CKF_ENCRYPT | CKF_DECRYPT | CKF_MESSAGE_ENCRYPT | CKF_MESSAGE_DECRYPT,
            ),
            Cipher(family, AesCbcPad) => (sizes(family), CKF_HW | CKF_ENCRYPT | CKF_DECRYPT | CKF_UNWRAP),
            Cipher(family, _) => (sizes(family), CKF_HW | CKF_ENCRYPT | CKF_DECRYPT),
            Mac(family, ..) => (sizes(family), CKF_HW | SIGNS),
            Decrypt(family, _) => (sizes(family), CKF_HW | CKF_ENCRYPT | CKF_DECRYPT | CKF_WRAP | CKF_UNWRAP),
            Wrap(family, _) => (sizes(family), CKF_HW | CKF_WRAP | CKF_UNWRAP),
            Sign(Rsa, wire @ (RsaPkcs | RsaX509), Unspecified) => {
                let wraps = if wire == RsaPkcs { CKF_WRAP | CKF_UNWRAP } else { 0 };
                (sizes(Rsa), CKF_HW | SIGNS | RECOVERS | CKF_ENCRYPT | CKF_DECRYPT | wraps)
            }
            Sign(family, ..) => (sizes(family), CKF_HW | SIGNS),
            Derive => (sizes(Ec), CKF_HW | CKF_DERIVE),
            DeriveKey(_) => (sizes(Generic), CKF_HW | CKF_DERIVE),
            Password => (sizes(Generic), CKF_HW | CKF_GENERATE),
            Encapsulate(family) => (sizes(family), CKF_HW | CKF_ENCAPSULATE | CKF_DECAPSULATE),
            Digest(_) => ((0, 0, 0), CKF_DIGEST),
        };
        CK_MECHANISM_INFO { ulMinKeySize: min, ulMaxKeySize: max, flags: flags | curve }
    }
}

/// The family whose public keys encrypt, and whose private keys decrypt, with a mechanism; and what the daemon calls that.
///
/// # Errors
///
/// `CKR_MECHANISM_INVALID` if none do.
pub fn decryption(mechanism: CK_MECHANISM_TYPE) -> Outcome<(Family, Mechanism)> {
    match find(mechanism)?.purpose {
        Decrypt(family, wire) => Ok((family, wire)),
        Sign(Rsa, wire @ (RsaPkcs | RsaX509), Unspecified) => Ok((Rsa, wire)),
        _ => Err(CKR_MECHANISM_INVALID),
    }
}

/// Whether what was signed comes out of a signature with this mechanism.
pub fn recovers(mechanism: CK_MECHANISM_TYPE) -> bool {
    find(mechanism).is_ok_and(|entry| entry.info().flags & RECOVERS != 0)
}

/// The hash that a digest mechanism computes.
pub fn hash_of(mechanism: CK_MECHANISM_TYPE) -> Option<Hash> {
    match find(mechanism).ok()?.purpose {
        Digest(hash) => Some(hash),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the daemon takes a mechanism of `CKA_ALLOWED_MECHANISMS` for.
    #[test]
    fn the_protocols_table_says_the_same() {
        for entry in MECHANISMS {
            let row =
                strongroom_protocol::pkcs11::MECHANISMS.iter().find(|row| row.number == entry.mechanism);
            let found = row.map(|row| (row.mechanism, row.hash, row.is_general));
            assert!(row.is_none_or(|row| row.name == entry.name), "{} has another name there", entry.name);
            let expected = match entry.purpose {
                Generate(_) | Digest(_) | Password => None,
                DeriveKey(wire) => Some((wire, Unspecified, false)),
                Sign(_, wire, hash) => Some((wire, hash, false)),
                Cipher(_, wire) | Decrypt(_, wire) | Wrap(_, wire) => Some((wire, Unspecified, false)),
                Mac(_, wire, hash, size) => Some((wire, hash, size == General)),
                Derive => Some((Mechanism::Ecdh, Unspecified, false)),
                Encapsulate(_) => Some((Mechanism::MlKem, Unspecified, false)),
            };
            assert_eq!(found, expected, "{}", entry.name);
        }
    }

    #[test]
    fn no_mechanism_stands_twice() {
        for (index, entry) in MECHANISMS.iter().enumerate() {
            assert!(MECHANISMS[..index].iter().all(|other| other.mechanism != entry.mechanism));
        }
    }
}
