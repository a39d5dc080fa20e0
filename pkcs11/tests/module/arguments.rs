//! Null pointers and impossible arguments: an error, never a crash.

use std::mem::offset_of;
use std::ptr::null_mut;

use cryptoki_sys::*;

use crate::call;
use crate::support::application::{Application, plain};
use crate::support::{Daemon, USER};

type AnyFunction =
    unsafe extern "C" fn(usize, usize, usize, usize, usize, usize, usize, usize, usize) -> CK_RV;

/// Calls each function of the list with `first` and zeros, but for those at the offsets in `except`.
fn call_all(application: &Application, first: CK_ULONG, except: &[usize]) {
    let list = std::ptr::from_ref(application.list).cast::<usize>();
    let words = size_of::<CK_FUNCTION_LIST_3_0>() / size_of::<usize>();
    for word in 1..words {
        if except.contains(&(word * size_of::<usize>())) {
            continue;
        }
        // SAFETY: after the version the list consists of function pointers. Each is called with at least as
        // many arguments as it has, all passed as words, as the C calling conventions of Linux allow.
        let code = unsafe {
            let function = std::mem::transmute::<usize, AnyFunction>(*list.add(word));
            function(first as usize, 0, 0, 0, 0, 0, 0, 0, 0)
        };
        assert_ne!(code, CKR_OK, "function {word} of the list with {first:#x} and nulls");
        assert_ne!(code, CKR_GENERAL_ERROR, "function {word} of the list panicked");
    }
}

macro_rules! offsets {
    ($($function:ident),*) => { [$(offset_of!(CK_FUNCTION_LIST_3_0, $function)),*] };
}

pub fn null_pointers(daemon: &Daemon) {
    let application = Application::load();
    call_all(&application, 0, &offsets!(C_Initialize));
    let slot = daemon.create_partition("tls");
    application.initialize();
    call_all(&application, 0, &offsets!(C_Initialize, C_Finalize));
    // With a session or slot that exists, everything that needs more than that.
    let session = application.open_writable(slot);
    assert_eq!(application.login(session, CKU_USER, USER.1), CKR_OK);
    // These need no more, or take nothing for an answer (an empty template finds all), or take a pointer first.
    let complete = offsets!(
        C_Initialize,
        C_Finalize,
        C_GetInfo,
        C_GetFunctionList,
        C_GetInterfaceList,
        C_GetInterface,
        C_CloseSession,
        C_CloseAllSessions,
        C_Logout,
        C_SessionCancel,
        C_FindObjectsInit,
        C_FindObjectsFinal
    );
    call_all(&application, session, &complete);
    call_all(&application, slot.into(), &complete);
    call_all(&application, CK_ULONG::MAX, &offsets!(C_Initialize, C_Finalize));

    // Operations that are under way.
    let (private, public) = application.generate(session, "web").unwrap();
    assert_eq!(application.sign_init(session, CKM_ECDSA, private), CKR_OK);
    assert_eq!(call!(application, C_Sign, session, null_mut(), 4, null_mut(), null_mut()), CKR_ARGUMENTS_BAD);
    assert_eq!(application.sign_init(session, CKM_ECDSA, private), CKR_OK, "an error ends the operation");
    assert_eq!(call!(application, C_SignUpdate, session, null_mut(), 4), CKR_ARGUMENTS_BAD);
    assert_eq!(call!(application, C_VerifyInit, session, &mut plain(CKM_ECDSA), public), CKR_OK);
    assert_eq!(call!(application, C_Verify, session, null_mut(), 4, null_mut(), 64), CKR_ARGUMENTS_BAD);
    assert_eq!(call!(application, C_DigestInit, session, &mut plain(CKM_SHA256)), CKR_OK);
    assert_eq!(call!(application, C_DigestFinal, session, null_mut(), null_mut()), CKR_ARGUMENTS_BAD);
    assert_eq!(call!(application, C_FindObjectsInit, session, null_mut(), 0), CKR_OK);
    assert_eq!(call!(application, C_FindObjects, session, null_mut(), 1, null_mut()), CKR_ARGUMENTS_BAD);
    let mut count = 0;
    assert_eq!(call!(application, C_FindObjects, session, null_mut(), 1, &mut count), CKR_ARGUMENTS_BAD);
    application.finalize();
}
