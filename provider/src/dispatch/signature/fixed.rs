//! Algorithms whose name says the hash too (EVP_SIGNATURE-RSA(7)): RSA-SHA256, ECDSA-SHA384. OpenSSL has them from 3.4 on, for
//! EVP_PKEY_sign_message_init(3) and its like; an older one has no function that takes them.

use std::ffi::{c_char, c_void};
use std::marker::PhantomData;
use std::ptr;

use super::context::{dupctx, freectx, make};
use super::parameters::*;
use super::sign::*;
use super::verify::*;
use super::{PROPERTIES, algorithm, table};
use crate::bindings::*;
use crate::fence::fence;
use crate::openssl::Hash;
use crate::token::{Functions, KeyKind, Kind, kinds};

/// A key type with a hash: for RSA with PKCS#1 v1.5's padding.
trait Algorithm {
    type Key: Kind;
    const HASH: Hash;
}

macro_rules! algorithms {
    ($($name:ident: $key:ident, $hash:ident, $names:literal;)*) => {
        $(enum $name {}

        impl Algorithm for $name {
            type Key = kinds::$key;
            const HASH: Hash = Hash::$hash;
        })*

        /// All of them, by OpenSSL's own names.
        pub const LIST: [OSSL_ALGORITHM; [$($names),*].len()] = [
            $(algorithm($names, PROPERTIES, Fixed::<$name>::TABLE, KeyKind::$key.facts().description)),*
        ];
    };
}

algorithms! {
    RsaRipemd160: Rsa, Ripemd160, c"RSA-RIPEMD160:ripemd160WithRSA:1.3.36.3.3.1.2";
    RsaSha1: Rsa, Sha1, c"RSA-SHA1:RSA-SHA-1:sha1WithRSAEncryption:1.2.840.113549.1.1.5";
    RsaSha224: Rsa, Sha224, c"RSA-SHA2-224:RSA-SHA224:sha224WithRSAEncryption:1.2.840.113549.1.1.14";
    RsaSha256: Rsa, Sha256, c"RSA-SHA2-256:RSA-SHA256:sha256WithRSAEncryption:1.2.840.113549.1.1.11";
    RsaSha384: Rsa, Sha384, c"RSA-SHA2-384:RSA-SHA384:sha384WithRSAEncryption:1.2.840.113549.1.1.12";
    RsaSha512: Rsa, Sha512, c"RSA-SHA2-512:RSA-SHA512:sha512WithRSAEncryption:1.2.840.113549.1.1.13";
    RsaSha512_224: Rsa, Sha512_224, c"RSA-SHA2-512/224:RSA-SHA512-224:sha512-224WithRSAEncryption:1.2.840.113549.1.1.15";
    RsaSha512_256: Rsa, Sha512_256, c"RSA-SHA2-512/256:RSA-SHA512-256:sha512-256WithRSAEncryption:1.2.840.113549.1.1.16";
    RsaSha3_224: Rsa, Sha3_224, c"RSA-SHA3-224:id-rsassa-pkcs1-v1_5-with-sha3-224:2.16.840.1.101.3.4.3.13";
    RsaSha3_256: Rsa, Sha3_256, c"RSA-SHA3-256:id-rsassa-pkcs1-v1_5-with-sha3-256:2.16.840.1.101.3.4.3.14";
    RsaSha3_384: Rsa, Sha3_384, c"RSA-SHA3-384:id-rsassa-pkcs1-v1_5-with-sha3-384:2.16.840.1.101.3.4.3.15";
    RsaSha3_512: Rsa, Sha3_512, c"RSA-SHA3-512:id-rsassa-pkcs1-v1_5-with-sha3-512:2.16.840.1.101.3.4.3.16";
    EcdsaSha1: Ec, Sha1, c"ECDSA-SHA1:ECDSA-SHA-1:ecdsa-with-SHA1:1.2.840.10045.4.1";
    EcdsaSha224: Ec, Sha224, c"ECDSA-SHA2-224:ECDSA-SHA224:ecdsa-with-SHA224:1.2.840.10045.4.3.1";
    EcdsaSha256: Ec, Sha256, c"ECDSA-SHA2-256:ECDSA-SHA256:ecdsa-with-SHA256:1.2.840.10045.4.3.2";
    EcdsaSha384: Ec, Sha384, c"ECDSA-SHA2-384:ECDSA-SHA384:ecdsa-with-SHA384:1.2.840.10045.4.3.3";
    EcdsaSha512: Ec, Sha512, c"ECDSA-SHA2-512:ECDSA-SHA512:ecdsa-with-SHA512:1.2.840.10045.4.3.4";
    EcdsaSha3_224: Ec, Sha3_224, c"ECDSA-SHA3-224:ecdsa_with_SHA3-224:id-ecdsa-with-sha3-224:2.16.840.1.101.3.4.3.9";
    EcdsaSha3_256: Ec, Sha3_256, c"ECDSA-SHA3-256:ecdsa_with_SHA3-256:id-ecdsa-with-sha3-256:2.16.840.1.101.3.4.3.10";
    EcdsaSha3_384: Ec, Sha3_384, c"ECDSA-SHA3-384:ecdsa_with_SHA3-384:id-ecdsa-with-sha3-384:2.16.840.1.101.3.4.3.11";
    EcdsaSha3_512: Ec, Sha3_512, c"ECDSA-SHA3-512:ecdsa_with_SHA3-512:id-ecdsa-with-sha3-512:2.16.840.1.101.3.4.3.12";
}

struct Fixed<A>(PhantomData<A>);

impl<A: Algorithm> Fixed<A> {
    const TABLE: Functions = table![
        OSSL_FUNC_SIGNATURE_NEWCTX: OSSL_FUNC_signature_newctx_fn = newctx::<A>,
        OSSL_FUNC_SIGNATURE_FREECTX: OSSL_FUNC_signature_freectx_fn = freectx,
        OSSL_FUNC_SIGNATURE_DUPCTX: OSSL_FUNC_signature_dupctx_fn = dupctx,
        OSSL_FUNC_SIGNATURE_QUERY_KEY_TYPES: OSSL_FUNC_signature_query_key_types_fn = query_key_types::<A>,
        OSSL_FUNC_SIGNATURE_SIGN_INIT: OSSL_FUNC_signature_sign_init_fn = sign_init,
        OSSL_FUNC_SIGNATURE_SIGN: OSSL_FUNC_signature_sign_fn = sign,
        OSSL_FUNC_SIGNATURE_SIGN_MESSAGE_INIT: OSSL_FUNC_signature_sign_message_init_fn = sign_message_init,
        OSSL_FUNC_SIGNATURE_SIGN_MESSAGE_UPDATE: OSSL_FUNC_signature_sign_message_update_fn = update,
        OSSL_FUNC_SIGNATURE_SIGN_MESSAGE_FINAL: OSSL_FUNC_signature_sign_message_final_fn = sign_message_final,
        OSSL_FUNC_SIGNATURE_VERIFY_INIT: OSSL_FUNC_signature_verify_init_fn = verify_init,
        OSSL_FUNC_SIGNATURE_VERIFY: OSSL_FUNC_signature_verify_fn = verify,
        OSSL_FUNC_SIGNATURE_VERIFY_MESSAGE_INIT: OSSL_FUNC_signature_verify_message_init_fn = verify_message_init,
        OSSL_FUNC_SIGNATURE_VERIFY_MESSAGE_UPDATE: OSSL_FUNC_signature_verify_message_update_fn = update,
        OSSL_FUNC_SIGNATURE_VERIFY_MESSAGE_FINAL: OSSL_FUNC_signature_verify_message_final_fn = verify_message_final,
        OSSL_FUNC_SIGNATURE_VERIFY_RECOVER_INIT: OSSL_FUNC_signature_verify_recover_init_fn = verify_recover_init,
        OSSL_FUNC_SIGNATURE_VERIFY_RECOVER: OSSL_FUNC_signature_verify_recover_fn = verify_recover,
        OSSL_FUNC_SIGNATURE_GET_CTX_PARAMS: OSSL_FUNC_signature_get_ctx_params_fn = get_ctx_params,
        OSSL_FUNC_SIGNATURE_GETTABLE_CTX_PARAMS: OSSL_FUNC_signature_gettable_ctx_params_fn = gettable_ctx_params::<A::Key>,
        OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS: OSSL_FUNC_signature_set_ctx_params_fn = set_ctx_params,
        OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS: OSSL_FUNC_signature_settable_ctx_params_fn = settable_of_fixed,
    ];
}

unsafe extern "C" fn newctx<A: Algorithm>(provider: *mut c_void, _properties: *const c_char) -> *mut c_void {
    // SAFETY: libcrypto's pointer to our provider.
    fence(ptr::null_mut(), || unsafe { make(provider, A::Key::KIND, Some(A::HASH)) })
}

/// A terminated list of one key type's name.
#[repr(transparent)]
struct KeyTypes([*const c_char; 2]);

// SAFETY: pointers to string literals that nobody writes.
unsafe impl Sync for KeyTypes {}

/// The types of key that the algorithm is for.
unsafe extern "C" fn query_key_types<A: Algorithm>() -> *mut *const c_char {
    static RSA: KeyTypes = KeyTypes([KeyKind::Rsa.facts().names.first.as_ptr(), ptr::null()]);
    static EC: KeyTypes = KeyTypes([KeyKind::Ec.facts().names.first.as_ptr(), ptr::null()]);
    fence(ptr::null_mut(), || {
        let types = if A::Key::KIND.is_rsa() { &RSA } else { &EC };
        // libcrypto reads it only.
        types.0.as_ptr().cast_mut()
    })
}
