//! Signatures (provider-signature(7)): over a digest or a message, in parts or at once, made and verified.
//!
//! Only the call that makes the signature talks to the token: libcrypto sets up contexts to ask what is possible,
//! and asks for sizes.

mod context;
mod fixed;
mod parameters;
mod sign;
mod verify;

pub use context::Context;

use context::{dupctx, freectx, newctx};
use parameters::*;
use sign::*;
use verify::*;

use super::{Algorithms, MAX_LIST, algorithm, table};
use crate::bindings::*;
use crate::token::kinds::ForEach;
use crate::token::{Functions, Kind, Table};

/// The signature algorithms: those with a hash in their names, and those by the names that keymgmt's query_operation_name gives.
pub static ALGORITHMS: Algorithms<{ MAX_LIST + fixed::LIST.len() }> =
    Algorithms::of_key_types(&fixed::LIST, &ForEach::<Signature>::TABLES, OSSL_OP_SIGNATURE, PROPERTIES);

const PROPERTIES: &std::ffi::CStr = c"provider=strongroom";

struct Signature;

impl<K: Kind> Table<K> for Signature {
    const TABLE: Functions = table![
        OSSL_FUNC_SIGNATURE_NEWCTX: OSSL_FUNC_signature_newctx_fn = newctx::<K>,
        OSSL_FUNC_SIGNATURE_FREECTX: OSSL_FUNC_signature_freectx_fn = freectx,
        OSSL_FUNC_SIGNATURE_DUPCTX: OSSL_FUNC_signature_dupctx_fn = dupctx,
        OSSL_FUNC_SIGNATURE_SIGN_INIT: OSSL_FUNC_signature_sign_init_fn = sign_init,
        OSSL_FUNC_SIGNATURE_SIGN: OSSL_FUNC_signature_sign_fn = sign,
        OSSL_FUNC_SIGNATURE_SIGN_MESSAGE_INIT: OSSL_FUNC_signature_sign_message_init_fn = sign_message_init,
        OSSL_FUNC_SIGNATURE_SIGN_MESSAGE_UPDATE: OSSL_FUNC_signature_sign_message_update_fn = update,
        OSSL_FUNC_SIGNATURE_SIGN_MESSAGE_FINAL: OSSL_FUNC_signature_sign_message_final_fn = sign_message_final,
        OSSL_FUNC_SIGNATURE_VERIFY_INIT: OSSL_FUNC_signature_verify_init_fn = verify_init,
        OSSL_FUNC_SIGNATURE_VERIFY_MESSAGE_INIT: OSSL_FUNC_signature_verify_message_init_fn = verify_message_init,
        OSSL_FUNC_SIGNATURE_VERIFY_MESSAGE_UPDATE: OSSL_FUNC_signature_verify_message_update_fn = update,
        OSSL_FUNC_SIGNATURE_VERIFY_MESSAGE_FINAL: OSSL_FUNC_signature_verify_message_final_fn = verify_message_final,
        OSSL_FUNC_SIGNATURE_VERIFY: OSSL_FUNC_signature_verify_fn = verify,
        OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT: OSSL_FUNC_signature_digest_sign_init_fn = digest_sign_init,
        OSSL_FUNC_SIGNATURE_DIGEST_SIGN_UPDATE: OSSL_FUNC_signature_digest_sign_update_fn = update,
        OSSL_FUNC_SIGNATURE_DIGEST_SIGN_FINAL: OSSL_FUNC_signature_digest_sign_final_fn = digest_sign_final,
        OSSL_FUNC_SIGNATURE_DIGEST_SIGN: OSSL_FUNC_signature_digest_sign_fn = digest_sign,
        OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_INIT: OSSL_FUNC_signature_digest_verify_init_fn = digest_verify_init,
        OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_UPDATE: OSSL_FUNC_signature_digest_verify_update_fn = update,
        OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_FINAL: OSSL_FUNC_signature_digest_verify_final_fn = digest_verify_final,
        OSSL_FUNC_SIGNATURE_DIGEST_VERIFY: OSSL_FUNC_signature_digest_verify_fn = digest_verify,
        OSSL_FUNC_SIGNATURE_VERIFY_RECOVER_INIT: OSSL_FUNC_signature_verify_recover_init_fn = verify_recover_init,
        OSSL_FUNC_SIGNATURE_VERIFY_RECOVER: OSSL_FUNC_signature_verify_recover_fn = verify_recover,
        OSSL_FUNC_SIGNATURE_GET_CTX_MD_PARAMS: OSSL_FUNC_signature_get_ctx_md_params_fn = get_ctx_md_params,
        OSSL_FUNC_SIGNATURE_GETTABLE_CTX_MD_PARAMS: OSSL_FUNC_signature_gettable_ctx_md_params_fn = gettable_ctx_md_params,
        OSSL_FUNC_SIGNATURE_SET_CTX_MD_PARAMS: OSSL_FUNC_signature_set_ctx_md_params_fn = set_ctx_md_params,
        OSSL_FUNC_SIGNATURE_SETTABLE_CTX_MD_PARAMS: OSSL_FUNC_signature_settable_ctx_md_params_fn = settable_ctx_md_params,
        OSSL_FUNC_SIGNATURE_GET_CTX_PARAMS: OSSL_FUNC_signature_get_ctx_params_fn = get_ctx_params,
        OSSL_FUNC_SIGNATURE_GETTABLE_CTX_PARAMS: OSSL_FUNC_signature_gettable_ctx_params_fn = gettable_ctx_params::<K>,
        OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS: OSSL_FUNC_signature_set_ctx_params_fn = set_ctx_params,
        OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS: OSSL_FUNC_signature_settable_ctx_params_fn = settable_ctx_params::<K>,
    ];
}
