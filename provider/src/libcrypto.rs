//! The libcrypto that loaded this provider.
//!
//! A library that is linked with libcrypto.so.3 brings it along wherever it is loaded: into a program with OpenSSL 4.0, whose
//! library has another name, as a second libcrypto, whose jobs, errors and allocator are not the program's. So this library is
//! linked with none. Each function of libcrypto that it uses is a jump of its own through [`TABLE`], which
//! [`resolve`] fills from the library that the call to OSSL_provider_init came from. One build serves all versions from 3.0 on,
//! and programs that have a libcrypto in themselves, such as Node.js.
//!
//! A function that is used and not in the list below is linked as usual; tests/linkage.rs tells.

use std::ffi::{CStr, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Declares the functions: for each its name for the dynamic linker and, but in unit tests (which are linked with libcrypto), the
/// jump.
macro_rules! functions {
    ($($name:ident)*) => {
        /// The functions' names.
        static NAMES: [&CStr; COUNT] = [$(terminated(concat!(stringify!($name), "\0"))),*];
        const COUNT: usize = [$(stringify!($name)),*].len();
        functions!(@jumps 0; $($name)*);
    };
    (@jumps $at:expr; $name:ident $($rest:ident)*) => {
        #[cfg(not(test))]
        jump!($name, $at);
        functions!(@jumps $at + 1; $($rest)*);
    };
    (@jumps $at:expr;) => {};
}

#[cfg(target_arch = "x86_64")]
#[allow(unused_macros)] // in unit tests
macro_rules! jump {
    ($name:ident, $at:expr) => {
        std::arch::global_asm!(
            ".pushsection .text.strongroom_libcrypto,\"ax\",@progbits",
            concat!(".globl ", stringify!($name)),
            concat!(".hidden ", stringify!($name)),
            concat!(".type ", stringify!($name), ",@function"),
            concat!(stringify!($name), ":"),
            "jmp [rip + {table} + {offset}]",
            ".popsection",
            table = sym TABLE,
            offset = const ($at) * 8,
        );
    };
}

#[cfg(target_arch = "aarch64")]
#[allow(unused_macros)] // in unit tests
macro_rules! jump {
    ($name:ident, $at:expr) => {
        std::arch::global_asm!(
            ".pushsection .text.strongroom_libcrypto,\"ax\",@progbits",
            concat!(".globl ", stringify!($name)),
            concat!(".hidden ", stringify!($name)),
            concat!(".type ", stringify!($name), ",@function"),
            concat!(stringify!($name), ":"),
            "adrp x16, {table} + {offset}",
            "ldr x16, [x16, :lo12:{table} + {offset}]",
            "br x16",
            ".popsection",
            table = sym TABLE,
            offset = const ($at) * 8,
        );
    };
}

functions! {
    ASN1_STRING_get0_data ASN1_STRING_length
    ASYNC_WAIT_CTX_get_callback ASYNC_WAIT_CTX_get_fd ASYNC_WAIT_CTX_set_status ASYNC_WAIT_CTX_set_wait_fd
    ASYNC_get_current_job ASYNC_get_wait_ctx ASYNC_pause_job
    CRYPTO_free CRYPTO_memcmp
    EC_GROUP_free EC_GROUP_new_by_curve_name EC_curve_nist2nid
    ERR_new ERR_pop_to_mark ERR_set_debug ERR_set_error ERR_set_mark
    EVP_DigestFinal_ex EVP_DigestInit_ex EVP_DigestUpdate EVP_DigestVerify EVP_DigestVerifyInit_ex
    EVP_KDF_CTX_free EVP_KDF_CTX_new EVP_KDF_derive EVP_KDF_fetch EVP_KDF_free
    EVP_MD_CTX_copy_ex EVP_MD_CTX_free EVP_MD_CTX_get_params EVP_MD_CTX_new EVP_MD_CTX_set_params EVP_MD_fetch EVP_MD_free
    EVP_PKEY_CTX_free EVP_PKEY_CTX_new_from_name EVP_PKEY_CTX_new_from_pkey
    EVP_PKEY_encapsulate EVP_PKEY_encapsulate_init EVP_PKEY_encrypt EVP_PKEY_encrypt_init_ex EVP_PKEY_eq EVP_PKEY_free EVP_PKEY_fromdata EVP_PKEY_fromdata_init
    EVP_PKEY_get1_encoded_public_key EVP_PKEY_get_bits EVP_PKEY_get_params EVP_PKEY_get_size EVP_PKEY_is_a
    EVP_PKEY_parameters_eq EVP_PKEY_public_check EVP_PKEY_todata EVP_PKEY_up_ref EVP_PKEY_verify EVP_PKEY_verify_init_ex
    EVP_PKEY_verify_recover EVP_PKEY_verify_recover_init_ex
    EVP_Q_digest
    OBJ_nid2obj OBJ_obj2txt OBJ_sn2nid
    OPENSSL_thread_stop OSSL_ENCODER_CTX_free OSSL_ENCODER_CTX_new_for_pkey OSSL_ENCODER_to_data OSSL_LIB_CTX_free
    OSSL_LIB_CTX_new OSSL_PARAM_free
    RAND_bytes_ex RAND_priv_bytes_ex
    X509_NAME_cmp X509_NAME_free
    X509_free X509_get_issuer_name X509_get_pubkey X509_get_serialNumber X509_get_subject_name X509_new_ex
    d2i_PUBKEY_ex d2i_X509 d2i_X509_NAME i2d_PUBKEY
}

/// Where the jumps lead.
static TABLE: [AtomicPtr<c_void>; COUNT] = [const { AtomicPtr::new(unresolved as *mut c_void) }; COUNT];

/// Where they lead before: nobody comes here, because the provider is not made if a function is missing.
extern "C" fn unresolved() -> usize {
    0
}

const fn terminated(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => c"",
    }
}

/// Takes the functions from the library that `function`, one of the core's, is in. In a process with two libcryptos that both
/// load the provider, the first one's stay: nothing that these functions make goes to the other.
///
/// # Errors
///
/// The name of a function that is not there.
pub fn resolve(function: Option<unsafe extern "C" fn()>) -> Result<(), &'static CStr> {
    let Some(last) = TABLE.last() else { return Ok(()) };
    if cfg!(test) || last.load(Ordering::Acquire) != unresolved as *mut c_void {
        return Ok(());
    }
    let own = library_of(function);
    loop {
        // Of several threads that come here at the same time, all take the functions from the same library.
        let chosen = match CHOSEN.compare_exchange(ptr::null_mut(), own, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => own,
            Err(other) => other,
        };
        match functions_of(chosen) {
            // All or none, the last one last. Who comes second writes the same again, so that nobody waits for anybody.
            Ok(found) => {
                for (place, found) in TABLE.iter().zip(found) {
                    place.store(found, Ordering::Release);
                }
                return Ok(());
            }
            Err(name) => {
                let _ = CHOSEN.compare_exchange(chosen, ptr::null_mut(), Ordering::AcqRel, Ordering::Acquire);
                if chosen == own {
                    return Err(name);
                }
            }
        }
    }
}

/// The library that the functions are from, or will be.
static CHOSEN: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// All functions, or the name of one that is not there.
fn functions_of(library: *mut c_void) -> Result<[*mut c_void; COUNT], &'static CStr> {
    let mut found = [ptr::null_mut(); COUNT];
    for (name, found) in NAMES.iter().zip(&mut found) {
        // SAFETY: a handle of dlopen's that is never closed, and a NUL-terminated name.
        *found = unsafe { libc::dlsym(library, name.as_ptr()) };
        if found.is_null() {
            return Err(name);
        }
    }
    Ok(found)
}

/// A handle of the library that a function is in, if that has libcrypto's functions, and else of the whole program.
fn library_of(function: Option<unsafe extern "C" fn()>) -> *mut c_void {
    let has = |library: *mut c_void| {
        // SAFETY: as in `resolve`.
        !library.is_null() && !unsafe { libc::dlsym(library, c"OSSL_LIB_CTX_new".as_ptr()) }.is_null()
    };
    let address = function.map_or(ptr::null(), |function| function as *const c_void);
    let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: the function fills in `info`, of which zeros are a valid value; the file's name is the dynamic linker's. What is
    // opened is loaded already, or a library of the system's, and stays.
    unsafe {
        let known = libc::dladdr(address, info.as_mut_ptr());
        let info = info.assume_init();
        if known != 0 && !info.dli_fname.is_null() {
            let library = libc::dlopen(info.dli_fname, libc::RTLD_LAZY | libc::RTLD_NOLOAD);
            if has(library) {
                return library;
            }
        }
        // libcrypto is in the program itself, or the core is not libcrypto's.
        let program = libc::dlopen(ptr::null(), libc::RTLD_LAZY);
        if has(program) {
            return program;
        }
        // A program that has it and does not show it.
        let other = libc::dlopen(c"libcrypto.so.3".as_ptr(), libc::RTLD_LAZY);
        if has(other) { other } else { libc::dlopen(c"libcrypto.so.4".as_ptr(), libc::RTLD_LAZY) }
    }
}
