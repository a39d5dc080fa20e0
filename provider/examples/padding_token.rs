//! A PKCS#11 module for the provider's own tests: SoftHSM2 without its bare RSA operation, as tokens that always take the padding
//! away themselves.
#![allow(clippy::missing_safety_doc, missing_docs, non_snake_case)]
// The caller is the provider, whose pointers are tested elsewhere.
#![allow(clippy::undocumented_unsafe_blocks, clippy::unwrap_used)]

use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use cryptoki_sys::*;
use libloading::os::unix::Library;

static SESSIONS: AtomicU64 = AtomicU64::new(0);

/// SoftHSM2's functions.
struct Functions(&'static CK_FUNCTION_LIST);

unsafe impl Send for Functions {}
unsafe impl Sync for Functions {}

fn softhsm() -> &'static CK_FUNCTION_LIST {
    static FUNCTIONS: OnceLock<Functions> = OnceLock::new();
    let functions = FUNCTIONS.get_or_init(|| unsafe {
        let library = Library::new("/usr/lib/softhsm/libsofthsm2.so").unwrap();
        type Get = unsafe extern "C" fn(*mut *mut CK_FUNCTION_LIST) -> CK_RV;
        let mut list: *mut CK_FUNCTION_LIST = ptr::null_mut();
        assert_eq!(library.get::<Get>(b"C_GetFunctionList\0").unwrap()(&mut list), CKR_OK);
        std::mem::forget(library);
        Functions(&*list)
    });
    functions.0
}

unsafe extern "C" fn decrypt_init(
    session: CK_SESSION_HANDLE,
    mechanism: CK_MECHANISM_PTR,
    key: CK_OBJECT_HANDLE,
) -> CK_RV {
    unsafe {
        if (*mechanism).mechanism == CKM_RSA_X_509 {
            return CKR_MECHANISM_INVALID;
        }
        softhsm().C_DecryptInit.unwrap()(session, mechanism, key)
    }
}

unsafe extern "C" fn open_session(
    slot: CK_SLOT_ID,
    flags: CK_FLAGS,
    application: CK_VOID_PTR,
    notify: CK_NOTIFY,
    session: CK_SESSION_HANDLE_PTR,
) -> CK_RV {
    SESSIONS.fetch_add(1, SeqCst);
    unsafe { softhsm().C_OpenSession.unwrap()(slot, flags, application, notify, session) }
}

/// How many sessions were opened so far.
#[unsafe(no_mangle)]
pub extern "C" fn padding_token_sessions() -> u64 {
    SESSIONS.load(SeqCst)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    let functions = CK_FUNCTION_LIST {
        C_DecryptInit: Some(decrypt_init),
        C_OpenSession: Some(open_session),
        ..*softhsm()
    };
    unsafe { *list = Box::into_raw(Box::new(functions)) };
    CKR_OK
}
