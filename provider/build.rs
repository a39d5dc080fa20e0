//! Generates bindings of OpenSSL's provider interface from the headers that are installed, so that newer
//! functions appear where the headers have them.

use std::env;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=src/bindings.h");
    // Code of ours may still be on a stack, or registered with libcrypto, when somebody calls dlclose.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    // openssl-sys tells where it found the headers; without it they are where the compiler looks anyway.
    let include = env::var_os("DEP_OPENSSL_INCLUDE").map(|path| format!("-I{}", path.display()));

    bindgen::Builder::default()
        .header("src/bindings.h")
        .clang_args(include)
        .allowlist_type("OSSL_(FUNC|CALLBACK|PASSPHRASE|DISPATCH|ALGORITHM|PARAM|CORE|ITEM|INOUT).*")
        .allowlist_var("OSSL_(FUNC|OP|PARAM|OBJECT|KEYMGMT|PKEY|SIGNATURE|ASYM_CIPHER|EXCHANGE|KDF|RAND|STORE|PROV|ALG|DECODER|DIGEST|MAC|CIPHER|PASSPHRASE|GEN)_.*")
        .allowlist_var("RSA_PSS_SALTLEN_.*|RSA_PKCS1_.*PADDING")
        // What openssl-sys does not declare.
        .allowlist_function("EVP_PKEY_CTX_new_from_pkey|EVP_PKEY_verify_init_ex|EVP_DigestVerifyInit_ex")
        .allowlist_function("EVP_MD_get0_name|EVP_MD_is_a|EVP_PKEY_public_check|d2i_PUBKEY_ex")
        .allowlist_function("EVP_PKEY_encrypt_init_ex|EVP_PKEY_get1_encoded_public_key|EVP_PKEY_verify_recover(_init_ex)?|RAND_priv_bytes_ex")
        .allowlist_function("EVP_PKEY_encapsulate(_init)?")
        .allowlist_function("EVP_KDF_(fetch|free|derive|CTX_new|CTX_free)")
        .allowlist_function("EVP_MD_CTX_[gs]et_params|ERR_set_mark|ERR_pop_to_mark")
        .allowlist_function("X509_new_ex|d2i_X509_NAME|OPENSSL_thread_stop|EC_curve_nist2nid")
        .allowlist_function("OSSL_ENCODER_(CTX_new_for_pkey|CTX_free|to_data)")
        .allowlist_function("ASYNC_(get_current_job|get_wait_ctx|pause_job)|ASYNC_WAIT_CTX_(set_wait_fd|get_fd|get_callback|set_status)")
        .allowlist_var("ASYNC_STATUS_OK|EVP_RAND_STATE_.*|EVP_CIPH_(ECB|CBC|CFB|OFB|CTR|GCM)_MODE")
        // Types that both know come from openssl-sys.
        .blocklist_type("(evp_pkey_st|EVP_PKEY|evp_pkey_ctx_st|EVP_PKEY_CTX|evp_md_st|EVP_MD|evp_md_ctx_st|EVP_MD_CTX|ossl_lib_ctx_st|OSSL_LIB_CTX|engine_st|ENGINE|X509_st|X509|X509_name_st|X509_NAME)")
        .generate_cstr(true)
        .derive_default(false)
        .layout_tests(true)
        .generate()?
        .write_to_file(PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR")?).join("bindings.rs"))?;
    Ok(())
}
