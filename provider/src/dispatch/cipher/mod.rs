//! AES (provider-cipher(7)) in a token, where `strongroom-operations` in openssl.cnf says `cipher`. The key comes from the
//! application, and is in the token during each call.

mod chained;
mod functions;

use std::ffi::{CStr, c_int};

use chained::Context;
use functions::*;

use super::{Algorithms, LAST, algorithm, operation, table};
use crate::bindings::*;
use crate::token::{BLOCK, Functions, Mode};

/// One cipher as OpenSSL knows it.
pub struct Facts {
    names: &'static CStr,
    mode: Mode,
    /// The key's size in bytes.
    key: usize,
}

const FACTS: [Facts; 15] = [
    facts(c"AES-128-ECB:2.16.840.1.101.3.4.1.1", Mode::Ecb, 16),
    facts(c"AES-128-CBC:AES128:2.16.840.1.101.3.4.1.2", Mode::Cbc, 16),
    facts(c"AES-128-OFB:2.16.840.1.101.3.4.1.3", Mode::Ofb, 16),
    facts(c"AES-128-CFB:2.16.840.1.101.3.4.1.4", Mode::Cfb, 16),
    facts(c"AES-128-CTR", Mode::Ctr, 16),
    facts(c"AES-192-ECB:2.16.840.1.101.3.4.1.21", Mode::Ecb, 24),
    facts(c"AES-192-CBC:AES192:2.16.840.1.101.3.4.1.22", Mode::Cbc, 24),
    facts(c"AES-192-OFB:2.16.840.1.101.3.4.1.23", Mode::Ofb, 24),
    facts(c"AES-192-CFB:2.16.840.1.101.3.4.1.24", Mode::Cfb, 24),
    facts(c"AES-192-CTR", Mode::Ctr, 24),
    facts(c"AES-256-ECB:2.16.840.1.101.3.4.1.41", Mode::Ecb, 32),
    facts(c"AES-256-CBC:AES256:2.16.840.1.101.3.4.1.42", Mode::Cbc, 32),
    facts(c"AES-256-OFB:2.16.840.1.101.3.4.1.43", Mode::Ofb, 32),
    facts(c"AES-256-CFB:2.16.840.1.101.3.4.1.44", Mode::Cfb, 32),
    facts(c"AES-256-CTR", Mode::Ctr, 32),
];

const fn facts(names: &'static CStr, mode: Mode, key: usize) -> Facts {
    Facts { names, mode, key }
}

impl Facts {
    /// Data is padded to whole blocks, or must be whole blocks.
    fn is_blocks(&self) -> bool {
        matches!(self.mode, Mode::Ecb | Mode::Cbc)
    }

    fn iv_size(&self) -> usize {
        if self.mode == Mode::Ecb { 0 } else { BLOCK }
    }

    /// The number of EVP_CIPH_ECB_MODE, ….
    fn number(&self) -> c_int {
        match self.mode {
            Mode::Ecb => 1,
            Mode::Cbc => 2,
            Mode::Cfb => 3,
            Mode::Ofb => 4,
            Mode::Ctr => 5,
        }
    }
}

/// The ciphers.
pub static ALGORITHMS: Algorithms<16> = Algorithms([
    entry::<0>(),
    entry::<1>(),
    entry::<2>(),
    entry::<3>(),
    entry::<4>(),
    entry::<5>(),
    entry::<6>(),
    entry::<7>(),
    entry::<8>(),
    entry::<9>(),
    entry::<10>(),
    entry::<11>(),
    entry::<12>(),
    entry::<13>(),
    entry::<14>(),
    LAST,
]);

const fn entry<const N: usize>() -> OSSL_ALGORITHM {
    algorithm(Of::<N>::FACTS.names, c"provider=strongroom", Of::<N>::TABLE, c"AES in a PKCS#11 token")
}

/// The functions of the cipher in line `N` of [`FACTS`].
struct Of<const N: usize>;

impl<const N: usize> Of<N> {
    // In a constant: out of bounds would not compile.
    #[allow(clippy::indexing_slicing)]
    const FACTS: &'static Facts = &FACTS[N];

    const TABLE: Functions = table![
        OSSL_FUNC_CIPHER_NEWCTX: OSSL_FUNC_cipher_newctx_fn = newctx::<N>,
        OSSL_FUNC_CIPHER_FREECTX: OSSL_FUNC_cipher_freectx_fn = operation::free::<Context>,
        OSSL_FUNC_CIPHER_DUPCTX: OSSL_FUNC_cipher_dupctx_fn = operation::duplicate::<Context>,
        OSSL_FUNC_CIPHER_ENCRYPT_INIT: OSSL_FUNC_cipher_encrypt_init_fn = encrypt_init,
        OSSL_FUNC_CIPHER_DECRYPT_INIT: OSSL_FUNC_cipher_decrypt_init_fn = decrypt_init,
        OSSL_FUNC_CIPHER_UPDATE: OSSL_FUNC_cipher_update_fn = update,
        OSSL_FUNC_CIPHER_FINAL: OSSL_FUNC_cipher_final_fn = finish,
        OSSL_FUNC_CIPHER_CIPHER: OSSL_FUNC_cipher_cipher_fn = cipher,
        OSSL_FUNC_CIPHER_GET_PARAMS: OSSL_FUNC_cipher_get_params_fn = get_params::<N>,
        OSSL_FUNC_CIPHER_GETTABLE_PARAMS: OSSL_FUNC_cipher_gettable_params_fn = gettable_params,
        OSSL_FUNC_CIPHER_GET_CTX_PARAMS: OSSL_FUNC_cipher_get_ctx_params_fn = get_ctx_params,
        OSSL_FUNC_CIPHER_GETTABLE_CTX_PARAMS: OSSL_FUNC_cipher_gettable_ctx_params_fn = gettable_ctx_params,
        OSSL_FUNC_CIPHER_SET_CTX_PARAMS: OSSL_FUNC_cipher_set_ctx_params_fn = set_ctx_params,
        OSSL_FUNC_CIPHER_SETTABLE_CTX_PARAMS: OSSL_FUNC_cipher_settable_ctx_params_fn = settable_ctx_params,
    ];
}
