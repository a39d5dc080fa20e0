//! The key types: what libcrypto and PKCS#11 call each. One row here makes a key type known to the key management, the
//! decoders, the encoders and the lists of operations.

mod of_object;

use std::ffi::CStr;

use cryptoki_sys::*;
use der::asn1::ObjectIdentifier;

use crate::bindings::{
    OSSL_OP_ASYM_CIPHER, OSSL_OP_DECODER, OSSL_OP_ENCODER, OSSL_OP_KEM, OSSL_OP_KEYEXCH, OSSL_OP_KEYMGMT,
    OSSL_OP_SIGNATURE,
};

/// What is known of a key type.
pub struct Facts {
    /// What libcrypto calls it.
    pub names: Names,
    /// What it is, for lists of algorithms.
    pub description: &'static CStr,
    /// Its signature algorithm, if it signs.
    pub signature: Option<Names>,
    /// Its key exchange, if it derives secrets.
    pub exchange: Option<Names>,
    /// Its asymmetric cipher, if it decrypts.
    pub cipher: Option<Names>,
    /// Its key encapsulation, if it decapsulates.
    pub kem: Option<Names>,
    /// The algorithm in its SubjectPublicKeyInfo.
    pub algorithm: ObjectIdentifier,
    /// CKA_KEY_TYPE of new keys.
    pub key_type: CK_KEY_TYPE,
    /// The mechanism that makes a pair.
    pub generation: CK_MECHANISM_TYPE,
    /// What a new key may be used for, unless less is asked for.
    pub uses: &'static [Use],
    /// The one curve of the type, if it is one of a fixed curve.
    pub curve: Option<FixedCurve>,
    /// CKA_PARAMETER_SET, by which PKCS#11 3.2 tells types of one CKA_KEY_TYPE apart. The same number is another set in each.
    pub parameter_set: Option<CK_ULONG>,
}

/// What a key may be used for: a bit of a certificate's key usage (RFC 5280, 4.2.1.3), and the attributes that PKCS#11 has for it
/// (PKCS#11 3.1, table 25).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// digitalSignature: CKA_SIGN, CKA_VERIFY
    Sign,
    /// dataEncipherment: CKA_DECRYPT, CKA_ENCRYPT
    Decrypt,
    /// keyEncipherment: CKA_UNWRAP, CKA_WRAP
    Unwrap,
    /// keyAgreement: CKA_DERIVE
    Derive,
    /// keyEncipherment of ML-KEM (RFC 9935, 5): CKA_DECAPSULATE, CKA_ENCAPSULATE
    Decapsulate,
}

/// What libcrypto calls an algorithm: the names of OpenSSL's own.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    /// All of them, separated by colons.
    pub all: &'static CStr,
    /// The first of them.
    pub first: &'static CStr,
}

/// A curve that is a key type of its own in libcrypto (RFC 8410).
pub struct FixedCurve {
    /// What PKCS#11 3.1 calls it in CKA_EC_PARAMS, where that is no object identifier.
    pub name: &'static str,
    /// An object identifier from before RFC 8410 gave it the one of [`Facts::algorithm`].
    old: Option<ObjectIdentifier>,
    /// The size of a public key in bytes.
    pub point: usize,
}

macro_rules! key_kinds {
    ($($(#[$doc:meta])* $kind:ident { $($facts:tt)* })*) => {
        /// The types of private key that this provider uses.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum KeyKind { $($(#[$doc])* $kind,)* }

        impl KeyKind {
            /// All of them.
            pub const ALL: &'static [KeyKind] = &[$(KeyKind::$kind,)*];

            /// What is known of it.
            pub const fn facts(self) -> &'static Facts {
                match self { $(KeyKind::$kind => const { &Facts { $($facts)* } },)* }
            }
        }

        /// A key type as a type, so that one function can be written for all and made for each: libcrypto calls
        /// `new` of the RSA keymgmt without saying that it wants RSA.
        pub mod kinds {
            use super::{Kind, KeyKind};
            $($(#[$doc])* pub enum $kind {} impl Kind for $kind { const KIND: KeyKind = KeyKind::$kind; })*

            /// The dispatch tables that `T` has for each key type.
            pub struct ForEach<T>(std::marker::PhantomData<T>);

            impl<T> ForEach<T> where $(T: super::Table<$kind>,)* {
                /// A table for each, in the order of [`KeyKind::ALL`].
                pub const TABLES: [(KeyKind, super::Functions); KeyKind::ALL.len()] =
                    [$((KeyKind::$kind, <T as super::Table<$kind>>::TABLE),)*];
            }
        }
    };
}

/// [`Names`] of literals.
macro_rules! names {
    ($first:literal $($more:literal)*) => {
        Names { first: terminated(concat!($first, "\0")), all: terminated(concat!($first, $(":", $more,)* "\0")) }
    };
}

const fn terminated(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => c"",
    }
}

impl Facts {
    /// The names for one of libcrypto's operations (OSSL_OP_SIGNATURE, …), if the key type has it.
    pub const fn of_operation(&self, operation: u32) -> Option<Names> {
        match operation {
            OSSL_OP_SIGNATURE => self.signature,
            OSSL_OP_KEYEXCH => self.exchange,
            OSSL_OP_ASYM_CIPHER => self.cipher,
            OSSL_OP_KEM => self.kem,
            OSSL_OP_KEYMGMT | OSSL_OP_DECODER | OSSL_OP_ENCODER => Some(self.names),
            _ => None,
        }
    }
}

/// See [`kinds`].
pub trait Kind {
    /// The type.
    const KIND: KeyKind;
}

/// A dispatch table.
pub type Functions = &'static [crate::bindings::OSSL_DISPATCH];

/// Has a dispatch table for keys of type `K`.
pub trait Table<K> {
    /// The table.
    const TABLE: Functions;
}

/// What the types of CKK_ML_DSA have in common (FIPS 204). Names, algorithm and parameter set come from `of_set!`.
const ML_DSA: Facts = Facts {
    names: names!(""),
    description: c"",
    signature: None,
    exchange: None,
    cipher: None,
    kem: None,
    algorithm: ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3"),
    key_type: CKK_ML_DSA,
    generation: CKM_ML_DSA_KEY_PAIR_GEN,
    uses: &[Use::Sign],
    curve: None,
    parameter_set: None,
};

/// As [`ML_DSA`], of CKK_SLH_DSA (FIPS 205).
const SLH_DSA: Facts = Facts { key_type: CKK_SLH_DSA, generation: CKM_SLH_DSA_KEY_PAIR_GEN, ..ML_DSA };

/// As [`ML_DSA`], of CKK_ML_KEM (FIPS 203).
const ML_KEM: Facts =
    Facts { key_type: CKK_ML_KEM, generation: CKM_ML_KEM_KEY_PAIR_GEN, uses: &[Use::Decapsulate], ..ML_DSA };

/// One parameter set of a family: its number, the operation that it has, its object identifier, and its other names, OpenSSL's first.
macro_rules! of_set {
    ($family:ident, $set:ident, $operation:ident, $oid:literal, $name:literal $($more:literal)*) => {
        Facts {
            names: names!($name $($more)* $oid),
            description: terminated(concat!($name, " in a PKCS#11 token\0")),
            $operation: Some(names!($name $($more)* $oid)),
            algorithm: ObjectIdentifier::new_unwrap($oid),
            parameter_set: Some($set),
            ..$family
        }
    };
}

key_kinds! {
    /// CKK_RSA
    Rsa {
        names: names!("RSA" "rsaEncryption" "1.2.840.113549.1.1.1"),
        description: c"RSA in a PKCS#11 token",
        signature: Some(names!("RSA" "rsaEncryption" "1.2.840.113549.1.1.1")),
        exchange: None,
        cipher: Some(names!("RSA" "rsaEncryption" "1.2.840.113549.1.1.1")),
        kem: None,
        algorithm: ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1"),
        key_type: CKK_RSA,
        generation: CKM_RSA_PKCS_KEY_PAIR_GEN,
        uses: &[Use::Sign, Use::Decrypt],
        curve: None,
        parameter_set: None,
    }
    /// CKK_RSA, for PSS signatures only (RFC 4055). PKCS#11 has no such type: the certificate beside the key, or
    /// CKA_ALLOWED_MECHANISMS, says that it is one.
    RsaPss {
        names: names!("RSA-PSS" "RSASSA-PSS" "1.2.840.113549.1.1.10"),
        description: c"RSA-PSS in a PKCS#11 token",
        signature: Some(names!("RSA-PSS" "RSASSA-PSS" "1.2.840.113549.1.1.10")),
        exchange: None,
        cipher: None,
        kem: None,
        algorithm: ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10"),
        key_type: CKK_RSA,
        generation: CKM_RSA_PKCS_KEY_PAIR_GEN,
        uses: &[Use::Sign],
        curve: None,
        parameter_set: None,
    }
    /// CKK_EC, on whichever named curve token and libcrypto have
    Ec {
        names: names!("EC" "id-ecPublicKey" "1.2.840.10045.2.1"),
        description: c"EC in a PKCS#11 token",
        signature: Some(names!("ECDSA")),
        exchange: Some(names!("ECDH")),
        cipher: None,
        kem: None,
        algorithm: ObjectIdentifier::new_unwrap("1.2.840.10045.2.1"),
        key_type: CKK_EC,
        generation: CKM_EC_KEY_PAIR_GEN,
        uses: &[Use::Sign, Use::Derive],
        curve: None,
        parameter_set: None,
    }
    /// CKK_EC_EDWARDS with edwards25519
    Ed25519 {
        names: names!("ED25519" "1.3.101.112"),
        description: c"Ed25519 in a PKCS#11 token",
        signature: Some(names!("ED25519" "1.3.101.112")),
        exchange: None,
        cipher: None,
        kem: None,
        algorithm: ObjectIdentifier::new_unwrap("1.3.101.112"),
        key_type: CKK_EC_EDWARDS,
        generation: CKM_EC_EDWARDS_KEY_PAIR_GEN,
        uses: &[Use::Sign],
        curve: Some(FixedCurve {
            name: "edwards25519",
            old: Some(ObjectIdentifier::new_unwrap("1.3.6.1.4.1.11591.15.1")),
            point: 32,
        }),
        parameter_set: None,
    }
    /// CKK_EC_EDWARDS with edwards448
    Ed448 {
        names: names!("ED448" "1.3.101.113"),
        description: c"Ed448 in a PKCS#11 token",
        signature: Some(names!("ED448" "1.3.101.113")),
        exchange: None,
        cipher: None,
        kem: None,
        algorithm: ObjectIdentifier::new_unwrap("1.3.101.113"),
        key_type: CKK_EC_EDWARDS,
        generation: CKM_EC_EDWARDS_KEY_PAIR_GEN,
        uses: &[Use::Sign],
        curve: Some(FixedCurve { name: "edwards448", old: None, point: 57 }),
        parameter_set: None,
    }
    /// CKK_EC_MONTGOMERY with curve25519
    X25519 {
        names: names!("X25519" "1.3.101.110"),
        description: c"X25519 in a PKCS#11 token",
        signature: None,
        exchange: Some(names!("X25519" "1.3.101.110")),
        cipher: None,
        kem: None,
        algorithm: ObjectIdentifier::new_unwrap("1.3.101.110"),
        key_type: CKK_EC_MONTGOMERY,
        generation: CKM_EC_MONTGOMERY_KEY_PAIR_GEN,
        uses: &[Use::Derive],
        curve: Some(FixedCurve {
            name: "curve25519",
            old: Some(ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3029.1.5.1")),
            point: 32,
        }),
        parameter_set: None,
    }
    /// CKK_EC_MONTGOMERY with curve448
    X448 {
        names: names!("X448" "1.3.101.111"),
        description: c"X448 in a PKCS#11 token",
        signature: None,
        exchange: Some(names!("X448" "1.3.101.111")),
        cipher: None,
        kem: None,
        algorithm: ObjectIdentifier::new_unwrap("1.3.101.111"),
        key_type: CKK_EC_MONTGOMERY,
        generation: CKM_EC_MONTGOMERY_KEY_PAIR_GEN,
        uses: &[Use::Derive],
        curve: Some(FixedCurve { name: "curve448", old: None, point: 56 }),
        parameter_set: None,
    }
    /// CKK_ML_DSA with CKP_ML_DSA_44. Only OpenSSL from 3.5 on knows such keys; with an older one they cannot be loaded.
    MlDsa44 {
        ..of_set!(ML_DSA, CKP_ML_DSA_44, signature, "2.16.840.1.101.3.4.3.17", "ML-DSA-44" "MLDSA44" "id-ml-dsa-44")
    }
    /// CKK_ML_DSA with CKP_ML_DSA_65. Only OpenSSL from 3.5 on knows such keys; with an older one they cannot be loaded.
    MlDsa65 {
        ..of_set!(ML_DSA, CKP_ML_DSA_65, signature, "2.16.840.1.101.3.4.3.18", "ML-DSA-65" "MLDSA65" "id-ml-dsa-65")
    }
    /// CKK_ML_DSA with CKP_ML_DSA_87. Only OpenSSL from 3.5 on knows such keys; with an older one they cannot be loaded.
    MlDsa87 {
        ..of_set!(ML_DSA, CKP_ML_DSA_87, signature, "2.16.840.1.101.3.4.3.19", "ML-DSA-87" "MLDSA87" "id-ml-dsa-87")
    }
    /// CKK_ML_KEM with CKP_ML_KEM_512. As with ML-DSA, from OpenSSL 3.5 on.
    MlKem512 {
        ..of_set!(ML_KEM, CKP_ML_KEM_512, kem, "2.16.840.1.101.3.4.4.1", "ML-KEM-512" "MLKEM512" "id-alg-ml-kem-512")
    }
    /// CKK_ML_KEM with CKP_ML_KEM_768. As with ML-DSA, from OpenSSL 3.5 on.
    MlKem768 {
        ..of_set!(ML_KEM, CKP_ML_KEM_768, kem, "2.16.840.1.101.3.4.4.2", "ML-KEM-768" "MLKEM768" "id-alg-ml-kem-768")
    }
    /// CKK_ML_KEM with CKP_ML_KEM_1024. As with ML-DSA, from OpenSSL 3.5 on.
    MlKem1024 {
        ..of_set!(ML_KEM, CKP_ML_KEM_1024, kem, "2.16.840.1.101.3.4.4.3", "ML-KEM-1024" "MLKEM1024" "id-alg-ml-kem-1024")
    }
    /// CKK_SLH_DSA with CKP_SLH_DSA_SHA2_128S. As with ML-DSA, from OpenSSL 3.5 on.
    SlhDsaSha2_128s {
        ..of_set!(SLH_DSA, CKP_SLH_DSA_SHA2_128S, signature, "2.16.840.1.101.3.4.3.20", "SLH-DSA-SHA2-128s" "id-slh-dsa-sha2-128s")
    }
    /// CKK_SLH_DSA with CKP_SLH_DSA_SHA2_128F. As with ML-DSA, from OpenSSL 3.5 on.
    SlhDsaSha2_128f {
        ..of_set!(SLH_DSA, CKP_SLH_DSA_SHA2_128F, signature, "2.16.840.1.101.3.4.3.21", "SLH-DSA-SHA2-128f" "id-slh-dsa-sha2-128f")
    }
    /// CKK_SLH_DSA with CKP_SLH_DSA_SHA2_192S. As with ML-DSA, from OpenSSL 3.5 on.
    SlhDsaSha2_192s {
        ..of_set!(SLH_DSA, CKP_SLH_DSA_SHA2_192S, signature, "2.16.840.1.101.3.4.3.22", "SLH-DSA-SHA2-192s" "id-slh-dsa-sha2-192s")
    }
    /// CKK_SLH_DSA with CKP_SLH_DSA_SHA2_192F. As with ML-DSA, from OpenSSL 3.5 on.
    SlhDsaSha2_192f {
        ..of_set!(SLH_DSA, CKP_SLH_DSA_SHA2_192F, signature, "2.16.840.1.101.3.4.3.23", "SLH-DSA-SHA2-192f" "id-slh-dsa-sha2-192f")
    }
    /// CKK_SLH_DSA with CKP_SLH_DSA_SHA2_256S. As with ML-DSA, from OpenSSL 3.5 on.
    SlhDsaSha2_256s {
        ..of_set!(SLH_DSA, CKP_SLH_DSA_SHA2_256S, signature, "2.16.840.1.101.3.4.3.24", "SLH-DSA-SHA2-256s" "id-slh-dsa-sha2-256s")
    }
    /// CKK_SLH_DSA with CKP_SLH_DSA_SHA2_256F. As with ML-DSA, from OpenSSL 3.5 on.
    SlhDsaSha2_256f {
        ..of_set!(SLH_DSA, CKP_SLH_DSA_SHA2_256F, signature, "2.16.840.1.101.3.4.3.25", "SLH-DSA-SHA2-256f" "id-slh-dsa-sha2-256f")
    }
    /// CKK_SLH_DSA with CKP_SLH_DSA_SHAKE_128S. As with ML-DSA, from OpenSSL 3.5 on.
    SlhDsaShake128s {
        ..of_set!(SLH_DSA, CKP_SLH_DSA_SHAKE_128S, signature, "2.16.840.1.101.3.4.3.26", "SLH-DSA-SHAKE-128s" "id-slh-dsa-shake-128s")
    }
    /// CKK_SLH_DSA with CKP_SLH_DSA_SHAKE_128F. As with ML-DSA, from OpenSSL 3.5 on.
    SlhDsaShake128f {
        ..of_set!(SLH_DSA, CKP_SLH_DSA_SHAKE_128F, signature, "2.16.840.1.101.3.4.3.27", "SLH-DSA-SHAKE-128f" "id-slh-dsa-shake-128f")
    }
    /// CKK_SLH_DSA with CKP_SLH_DSA_SHAKE_192S. As with ML-DSA, from OpenSSL 3.5 on.
    SlhDsaShake192s {
        ..of_set!(SLH_DSA, CKP_SLH_DSA_SHAKE_192S, signature, "2.16.840.1.101.3.4.3.28", "SLH-DSA-SHAKE-192s" "id-slh-dsa-shake-192s")
    }
    /// CKK_SLH_DSA with CKP_SLH_DSA_SHAKE_192F. As with ML-DSA, from OpenSSL 3.5 on.
    SlhDsaShake192f {
        ..of_set!(SLH_DSA, CKP_SLH_DSA_SHAKE_192F, signature, "2.16.840.1.101.3.4.3.29", "SLH-DSA-SHAKE-192f" "id-slh-dsa-shake-192f")
    }
    /// CKK_SLH_DSA with CKP_SLH_DSA_SHAKE_256S. As with ML-DSA, from OpenSSL 3.5 on.
    SlhDsaShake256s {
        ..of_set!(SLH_DSA, CKP_SLH_DSA_SHAKE_256S, signature, "2.16.840.1.101.3.4.3.30", "SLH-DSA-SHAKE-256s" "id-slh-dsa-shake-256s")
    }
    /// CKK_SLH_DSA with CKP_SLH_DSA_SHAKE_256F. As with ML-DSA, from OpenSSL 3.5 on.
    SlhDsaShake256f {
        ..of_set!(SLH_DSA, CKP_SLH_DSA_SHAKE_256F, signature, "2.16.840.1.101.3.4.3.31", "SLH-DSA-SHAKE-256f" "id-slh-dsa-shake-256f")
    }
}

impl KeyKind {
    /// The key type's name in libcrypto.
    pub fn name(self) -> &'static CStr {
        self.facts().names.first
    }

    /// Whether the key is an RSA key, with whatever padding it may be used.
    pub fn is_rsa(self) -> bool {
        self.facts().key_type == CKK_RSA
    }

    /// Whether its signatures are made over the message and not over its digest: EdDSA, ML-DSA and SLH-DSA.
    pub fn signs_messages(self) -> bool {
        matches!(self, KeyKind::Ed25519 | KeyKind::Ed448) || self.takes_context()
    }

    /// Whether a context string may go into its signatures, and they may be made without random bytes: ML-DSA and SLH-DSA
    /// (FIPS 204, 5.2; FIPS 205, 10.2).
    pub fn takes_context(self) -> bool {
        matches!(self.facts().key_type, CKK_ML_DSA | CKK_SLH_DSA)
    }

    /// The size of an encapsulated secret in bytes (FIPS 203, table 3); 0 of types that have none.
    pub fn ciphertext_size(self) -> usize {
        match self {
            KeyKind::MlKem512 => 768,
            KeyKind::MlKem768 => 1088,
            KeyKind::MlKem1024 => 1568,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x509_code_finds_a_type_by_its_object_identifier() {
        for kind in KeyKind::ALL {
            let (names, oid) = (kind.facts().names, kind.facts().algorithm.to_string());
            assert!(names.all.to_str().unwrap().split(':').any(|name| name == oid), "{names:?}");
        }
    }
}
