//! General-purpose functions (PKCS#11 3.0, 5.4) and those for parallel calls (5.17).

use std::ffi::c_void;

use cryptoki_sys::*;
use strongroom_ffi::pointer;

use super::{padded, place};
use crate::error::Outcome;
use crate::state::{self, Process};

/// Who made the module and the tokens.
pub const MANUFACTURER: &str = "Strongroom";

/// This release, as PKCS#11's two numbers.
pub const VERSION: CK_VERSION = CK_VERSION { major: 0, minor: 1 };

/// `C_Initialize`.
pub unsafe fn initialize(arguments: *mut c_void) -> Outcome {
    // Here the environment is still the one that the program was started with.
    state::settle();
    // SAFETY: null, or this structure by the standard.
    if let Some(arguments) = unsafe { pointer::reference(arguments.cast::<CK_C_INITIALIZE_ARGS>()) } {
        check(arguments)?;
    } else if !arguments.is_null() {
        return Err(CKR_ARGUMENTS_BAD);
    }
    state::initialize()
}

/// We lock with the operating system's means and start no thread. That serves an application that says
/// nothing, or that allows it; not one that insists on its own mutexes.
fn check(arguments: &CK_C_INITIALIZE_ARGS) -> Outcome {
    let callbacks = [
        arguments.CreateMutex.is_some(),
        arguments.DestroyMutex.is_some(),
        arguments.LockMutex.is_some(),
        arguments.UnlockMutex.is_some(),
    ];
    let all = callbacks.iter().all(|given| *given);
    let some = callbacks.iter().any(|given| *given);
    if !arguments.pReserved.is_null() || (some && !all) {
        return Err(CKR_ARGUMENTS_BAD);
    }
    if all && arguments.flags & CKF_OS_LOCKING_OK == 0 {
        return Err(CKR_CANT_LOCK);
    }
    Ok(())
}

/// `C_Finalize`.
pub unsafe fn finalize(reserved: *mut c_void) -> Outcome {
    if !reserved.is_null() {
        return Err(CKR_ARGUMENTS_BAD);
    }
    state::finalize()
}

/// `C_GetInfo`.
pub unsafe fn get_info(_process: &'static Process, info: *mut CK_INFO) -> Outcome {
    // SAFETY: by the module's contract.
    let info = unsafe { place(info) }?;
    *info = CK_INFO {
        cryptokiVersion: CK_VERSION { major: 3, minor: 2 },
        manufacturerID: padded(MANUFACTURER),
        flags: 0,
        libraryDescription: padded("Strongroom partition"),
        libraryVersion: VERSION,
    };
    Ok(())
}

/// `C_GetFunctionStatus` and `C_CancelFunction`, which the standard keeps for old programs.
pub unsafe fn not_parallel(_process: &'static Process, _session: CK_SESSION_HANDLE) -> Outcome {
    Err(CKR_FUNCTION_NOT_PARALLEL)
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" fn create(_: *mut *mut c_void) -> CK_RV {
        CKR_OK
    }
    unsafe extern "C" fn mutex(_: *mut c_void) -> CK_RV {
        CKR_OK
    }

    #[test]
    fn locking_is_agreed_on_as_the_standard_says() {
        let none = CK_C_INITIALIZE_ARGS {
            CreateMutex: None,
            DestroyMutex: None,
            LockMutex: None,
            UnlockMutex: None,
            flags: 0,
            pReserved: std::ptr::null_mut(),
        };
        let own = CK_C_INITIALIZE_ARGS {
            CreateMutex: Some(create),
            DestroyMutex: Some(mutex),
            LockMutex: Some(mutex),
            UnlockMutex: Some(mutex),
            ..none
        };
        assert_eq!(check(&none), Ok(()));
        assert_eq!(check(&CK_C_INITIALIZE_ARGS { flags: CKF_OS_LOCKING_OK, ..none }), Ok(()));
        assert_eq!(check(&CK_C_INITIALIZE_ARGS { flags: CKF_OS_LOCKING_OK, ..own }), Ok(()));
        assert_eq!(check(&own), Err(CKR_CANT_LOCK));
        assert_eq!(check(&CK_C_INITIALIZE_ARGS { LockMutex: None, ..own }), Err(CKR_ARGUMENTS_BAD));
        let reserved = CK_C_INITIALIZE_ARGS { pReserved: std::ptr::dangling_mut(), ..none };
        assert_eq!(check(&reserved), Err(CKR_ARGUMENTS_BAD));
    }
}
