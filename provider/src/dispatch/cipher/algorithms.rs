//! The ciphers by OpenSSL's names, and what libcrypto is told of each.

use std::ffi::{CStr, c_int};

use super::{Cipher, chained, gcm, stealing};
use super::{cipher, decrypt_init, decrypt_skey_init, encrypt_init, encrypt_skey_init, finish};
use super::{get_ctx_params, get_params, gettable_ctx_params};
use super::{gettable_params, newctx, set_ctx_params, settable_ctx_params, update};
use crate::bindings::*;
use crate::dispatch::{Algorithms, LAST, algorithm, operation, table};
use crate::token::{BLOCK, Functions, Mode};

/// One cipher as OpenSSL knows it.
pub struct Facts {
    /// How the token chains blocks; of the modes that are not made of one call of the token's, what they are made of.
    pub mode: Mode,
    /// EVP_CIPH_ECB_MODE, ….
    pub number: u32,
    /// The key's size in bytes.
    pub key: usize,
    /// The size of the initialisation vector in bytes, unless another is set.
    pub iv: usize,
    /// The size of what goes in at once, in bytes; 1 for streams.
    pub block: usize,
    /// It authenticates too.
    pub is_aead: bool,
    /// It steals ciphertext.
    pub is_cts: bool,
}

/// A mode, and the contexts that do it.
pub trait Chaining {
    /// The context.
    type Context: Cipher;
    /// What is true of it with any key.
    const FACTS: Facts;
}

/// Those of most modes.
const STREAM: Facts =
    Facts { mode: Mode::Ctr, number: 0, key: 0, iv: BLOCK, block: 1, is_aead: false, is_cts: false };

macro_rules! modes {
    ($($name:ident: $context:ty = $facts:expr),* $(,)?) => {
        $(struct $name;

        impl Chaining for $name {
            type Context = $context;
            const FACTS: Facts = $facts;
        })*
    };
}

modes![
    Ecb: chained::Context = Facts { mode: Mode::Ecb, number: EVP_CIPH_ECB_MODE, iv: 0, block: BLOCK, ..STREAM },
    Cbc: chained::Context = Facts { mode: Mode::Cbc, number: EVP_CIPH_CBC_MODE, block: BLOCK, ..STREAM },
    Ofb: chained::Context = Facts { mode: Mode::Ofb, number: EVP_CIPH_OFB_MODE, ..STREAM },
    Cfb: chained::Context = Facts { mode: Mode::Cfb, number: EVP_CIPH_CFB_MODE, ..STREAM },
    Cfb8: chained::Context = Facts { mode: Mode::Cfb8, number: EVP_CIPH_CFB_MODE, ..STREAM },
    Cfb1: chained::Context = Facts { mode: Mode::Cfb1, number: EVP_CIPH_CFB_MODE, ..STREAM },
    Ctr: chained::Context = Facts { mode: Mode::Ctr, number: EVP_CIPH_CTR_MODE, ..STREAM },
    Cts: stealing::Context = Facts { is_cts: true, ..Cbc::FACTS },
    Gcm: gcm::Context = Facts { number: EVP_CIPH_GCM_MODE, iv: gcm::IV, is_aead: true, ..STREAM },
];

/// The ciphers.
pub static ALGORITHMS: Algorithms<28> = Algorithms([
    aes::<Ecb, 16>(c"AES-128-ECB:2.16.840.1.101.3.4.1.1"),
    aes::<Ecb, 24>(c"AES-192-ECB:2.16.840.1.101.3.4.1.21"),
    aes::<Ecb, 32>(c"AES-256-ECB:2.16.840.1.101.3.4.1.41"),
    aes::<Cbc, 16>(c"AES-128-CBC:AES128:2.16.840.1.101.3.4.1.2"),
    aes::<Cbc, 24>(c"AES-192-CBC:AES192:2.16.840.1.101.3.4.1.22"),
    aes::<Cbc, 32>(c"AES-256-CBC:AES256:2.16.840.1.101.3.4.1.42"),
    aes::<Ofb, 16>(c"AES-128-OFB:2.16.840.1.101.3.4.1.3"),
    aes::<Ofb, 24>(c"AES-192-OFB:2.16.840.1.101.3.4.1.23"),
    aes::<Ofb, 32>(c"AES-256-OFB:2.16.840.1.101.3.4.1.43"),
    aes::<Cfb, 16>(c"AES-128-CFB:2.16.840.1.101.3.4.1.4"),
    aes::<Cfb, 24>(c"AES-192-CFB:2.16.840.1.101.3.4.1.24"),
    aes::<Cfb, 32>(c"AES-256-CFB:2.16.840.1.101.3.4.1.44"),
    aes::<Cfb8, 16>(c"AES-128-CFB8"),
    aes::<Cfb8, 24>(c"AES-192-CFB8"),
    aes::<Cfb8, 32>(c"AES-256-CFB8"),
    aes::<Cfb1, 16>(c"AES-128-CFB1"),
    aes::<Cfb1, 24>(c"AES-192-CFB1"),
    aes::<Cfb1, 32>(c"AES-256-CFB1"),
    aes::<Ctr, 16>(c"AES-128-CTR"),
    aes::<Ctr, 24>(c"AES-192-CTR"),
    aes::<Ctr, 32>(c"AES-256-CTR"),
    aes::<Cts, 16>(c"AES-128-CBC-CTS"),
    aes::<Cts, 24>(c"AES-192-CBC-CTS"),
    aes::<Cts, 32>(c"AES-256-CBC-CTS"),
    aes::<Gcm, 16>(c"AES-128-GCM:id-aes128-GCM:2.16.840.1.101.3.4.1.6"),
    aes::<Gcm, 24>(c"AES-192-GCM:id-aes192-GCM:2.16.840.1.101.3.4.1.26"),
    aes::<Gcm, 32>(c"AES-256-GCM:id-aes256-GCM:2.16.840.1.101.3.4.1.46"),
    LAST,
]);

const fn aes<M: Chaining, const KEY: usize>(names: &'static CStr) -> OSSL_ALGORITHM {
    algorithm(names, c"provider=strongroom", Of::<M, KEY>::TABLE, c"AES in a PKCS#11 token")
}

/// A mode with a size of key, in bytes.
pub struct Of<M, const KEY: usize>(M);

impl<M: Chaining, const KEY: usize> Of<M, KEY> {
    /// What libcrypto is told.
    pub const FACTS: &'static Facts = &Facts { key: KEY, ..M::FACTS };

    const TABLE: Functions = table![
        OSSL_FUNC_CIPHER_NEWCTX: OSSL_FUNC_cipher_newctx_fn = newctx::<M, KEY>,
        OSSL_FUNC_CIPHER_FREECTX: OSSL_FUNC_cipher_freectx_fn = operation::free::<M::Context>,
        OSSL_FUNC_CIPHER_DUPCTX: OSSL_FUNC_cipher_dupctx_fn = operation::duplicate::<M::Context>,
        OSSL_FUNC_CIPHER_ENCRYPT_INIT: OSSL_FUNC_cipher_encrypt_init_fn = encrypt_init::<M::Context>,
        OSSL_FUNC_CIPHER_DECRYPT_INIT: OSSL_FUNC_cipher_decrypt_init_fn = decrypt_init::<M::Context>,
        OSSL_FUNC_CIPHER_ENCRYPT_SKEY_INIT: OSSL_FUNC_cipher_encrypt_skey_init_fn = encrypt_skey_init::<M::Context>,
        OSSL_FUNC_CIPHER_DECRYPT_SKEY_INIT: OSSL_FUNC_cipher_decrypt_skey_init_fn = decrypt_skey_init::<M::Context>,
        OSSL_FUNC_CIPHER_UPDATE: OSSL_FUNC_cipher_update_fn = update::<M::Context>,
        OSSL_FUNC_CIPHER_FINAL: OSSL_FUNC_cipher_final_fn = finish::<M::Context>,
        OSSL_FUNC_CIPHER_CIPHER: OSSL_FUNC_cipher_cipher_fn = cipher::<M::Context>,
        OSSL_FUNC_CIPHER_GET_PARAMS: OSSL_FUNC_cipher_get_params_fn = get_params::<M, KEY>,
        OSSL_FUNC_CIPHER_GETTABLE_PARAMS: OSSL_FUNC_cipher_gettable_params_fn = gettable_params,
        OSSL_FUNC_CIPHER_GET_CTX_PARAMS: OSSL_FUNC_cipher_get_ctx_params_fn = get_ctx_params::<M::Context>,
        OSSL_FUNC_CIPHER_GETTABLE_CTX_PARAMS: OSSL_FUNC_cipher_gettable_ctx_params_fn = gettable_ctx_params::<M::Context>,
        OSSL_FUNC_CIPHER_SET_CTX_PARAMS: OSSL_FUNC_cipher_set_ctx_params_fn = set_ctx_params::<M::Context>,
        OSSL_FUNC_CIPHER_SETTABLE_CTX_PARAMS: OSSL_FUNC_cipher_settable_ctx_params_fn = settable_ctx_params::<M::Context>,
    ];
}

impl Facts {
    /// Data is padded to whole blocks, or must be whole blocks.
    pub fn is_blocks(&self) -> bool {
        self.block > 1
    }

    /// A size as libcrypto takes it.
    pub fn number_of(size: usize) -> c_int {
        c_int::try_from(size).unwrap_or(c_int::MAX)
    }
}
