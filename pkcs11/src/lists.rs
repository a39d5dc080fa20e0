//! The function lists and interfaces by which an application reaches the C functions.

use std::ffi::CStr;

use cryptoki_sys::*;
use strongroom_ffi::pointer;

use crate::entry;
use crate::error::Outcome;
use crate::state;

/// Makes the lists of the same functions. A function that is missing does not compile, so none is null.
macro_rules! lists {
    (2.40: $($old:ident,)* 3.0: $($new:ident,)* 3.2: $($newest:ident,)*) => {
        /// The names of the functions, with the version of the standard that brought them.
        pub const NAMES: [(&str, &[&str]); 3] = [
            ("2.40", &[$(stringify!($old)),*]),
            ("3.0", &[$(stringify!($new)),*]),
            ("3.2", &[$(stringify!($newest)),*]),
        ];
        static LIST_2_40: CK_FUNCTION_LIST = CK_FUNCTION_LIST {
            version: CK_VERSION { major: 2, minor: 40 },
            $($old: Some(entry::$old),)*
        };
        static LIST_3_0: CK_FUNCTION_LIST_3_0 = CK_FUNCTION_LIST_3_0 {
            version: CK_VERSION { major: 3, minor: 0 },
            $($old: Some(entry::$old),)*
            $($new: Some(entry::$new),)*
        };
        static LIST_3_2: CK_FUNCTION_LIST_3_2 = CK_FUNCTION_LIST_3_2 {
            version: CK_VERSION { major: 3, minor: 2 },
            $($old: Some(entry::$old),)*
            $($new: Some(entry::$new),)*
            $($newest: Some(entry::$newest),)*
        };
    };
}

lists! {
    2.40:
        C_Initialize, C_Finalize, C_GetInfo, C_GetFunctionList, C_GetSlotList, C_GetSlotInfo,
        C_GetTokenInfo, C_GetMechanismList, C_GetMechanismInfo, C_InitToken, C_InitPIN, C_SetPIN,
        C_OpenSession, C_CloseSession, C_CloseAllSessions, C_GetSessionInfo, C_GetOperationState,
        C_SetOperationState, C_Login, C_Logout, C_CreateObject, C_CopyObject, C_DestroyObject,
        C_GetObjectSize, C_GetAttributeValue, C_SetAttributeValue, C_FindObjectsInit, C_FindObjects,
        C_FindObjectsFinal, C_EncryptInit, C_Encrypt, C_EncryptUpdate, C_EncryptFinal, C_DecryptInit,
        C_Decrypt, C_DecryptUpdate, C_DecryptFinal, C_DigestInit, C_Digest, C_DigestUpdate, C_DigestKey,
        C_DigestFinal, C_SignInit, C_Sign, C_SignUpdate, C_SignFinal, C_SignRecoverInit, C_SignRecover,
        C_VerifyInit, C_Verify, C_VerifyUpdate, C_VerifyFinal, C_VerifyRecoverInit, C_VerifyRecover,
        C_DigestEncryptUpdate, C_DecryptDigestUpdate, C_SignEncryptUpdate, C_DecryptVerifyUpdate,
        C_GenerateKey, C_GenerateKeyPair, C_WrapKey, C_UnwrapKey, C_DeriveKey, C_SeedRandom,
        C_GenerateRandom, C_GetFunctionStatus, C_CancelFunction, C_WaitForSlotEvent,
    3.0:
        C_GetInterfaceList, C_GetInterface, C_LoginUser, C_SessionCancel, C_MessageEncryptInit,
        C_EncryptMessage, C_EncryptMessageBegin, C_EncryptMessageNext, C_MessageEncryptFinal,
        C_MessageDecryptInit, C_DecryptMessage, C_DecryptMessageBegin, C_DecryptMessageNext,
        C_MessageDecryptFinal, C_MessageSignInit, C_SignMessage, C_SignMessageBegin, C_SignMessageNext,
        C_MessageSignFinal, C_MessageVerifyInit, C_VerifyMessage, C_VerifyMessageBegin, C_VerifyMessageNext,
        C_MessageVerifyFinal,
    3.2:
        C_EncapsulateKey, C_DecapsulateKey, C_VerifySignatureInit, C_VerifySignature, C_VerifySignatureUpdate,
        C_VerifySignatureFinal, C_GetSessionValidationFlags, C_AsyncComplete, C_AsyncGetID, C_AsyncJoin,
        C_WrapKeyAuthenticated, C_UnwrapKeyAuthenticated,
}

/// `CK_INTERFACE`s, which the standard's types make mutable and which nobody changes.
struct Interfaces([CK_INTERFACE; 3]);

// SAFETY: pointers to statics that are only read.
unsafe impl Sync for Interfaces {}

const NAME: &CStr = c"PKCS 11";

/// The default first. None is fork safe in the standard's sense: a child calls `C_Initialize`.
static INTERFACES: Interfaces = Interfaces([
    CK_INTERFACE {
        pInterfaceName: NAME.as_ptr().cast_mut().cast(),
        pFunctionList: (&raw const LIST_3_2).cast_mut().cast(),
        flags: 0,
    },
    CK_INTERFACE {
        pInterfaceName: NAME.as_ptr().cast_mut().cast(),
        pFunctionList: (&raw const LIST_3_0).cast_mut().cast(),
        flags: 0,
    },
    CK_INTERFACE {
        pInterfaceName: NAME.as_ptr().cast_mut().cast(),
        pFunctionList: (&raw const LIST_2_40).cast_mut().cast(),
        flags: 0,
    },
]);

/// `C_GetFunctionList`.
///
/// # Safety
///
/// `list` is null or can be written.
pub unsafe fn get_function_list(list: *mut *mut CK_FUNCTION_LIST) -> Outcome {
    // Found now, while the environment is still the one that the program was started with.
    state::settle();
    // SAFETY: by the contract.
    *unsafe { pointer::reference_mut(list) }.ok_or(CKR_ARGUMENTS_BAD)? = (&raw const LIST_2_40).cast_mut();
    Ok(())
}

/// `C_GetInterfaceList`.
///
/// # Safety
///
/// `count` is null or can be read and written; `list` is null or can be written for `*count` items.
pub unsafe fn get_interface_list(list: *mut CK_INTERFACE, count: *mut CK_ULONG) -> Outcome {
    state::settle();
    let interfaces = &INTERFACES.0;
    // SAFETY: by the contract.
    let count = unsafe { pointer::reference_mut(count) }.ok_or(CKR_ARGUMENTS_BAD)?;
    let room = *count;
    *count = interfaces.len() as CK_ULONG;
    if list.is_null() {
        return Ok(());
    }
    if room < *count {
        return Err(CKR_BUFFER_TOO_SMALL);
    }
    // SAFETY: by the contract, for `room` items, which are enough.
    let list = unsafe { pointer::slice_mut(list, interfaces.len()) }.ok_or(CKR_ARGUMENTS_BAD)?;
    list.copy_from_slice(interfaces);
    Ok(())
}

/// `C_GetInterface`: the first that fits, of "PKCS 11" 3.2, 3.0 and 2.40.
///
/// # Safety
///
/// `name` is null or a NUL-terminated string; `version` is null or can be read; `interface` is null or can be
/// written.
pub unsafe fn get_interface(
    name: *mut CK_UTF8CHAR,
    version: *mut CK_VERSION,
    interface: *mut *mut CK_INTERFACE,
    flags: CK_FLAGS,
) -> Outcome {
    state::settle();
    // SAFETY: by the contract.
    let (version, place) = unsafe { (pointer::reference(version), pointer::reference_mut(interface)) };
    let place = place.ok_or(CKR_ARGUMENTS_BAD)?;
    // SAFETY: by the contract.
    let is_ours = name.is_null() || unsafe { pointer::text(name.cast()) } == Some("PKCS 11");
    let fits = |offered: &CK_INTERFACE| {
        // SAFETY: both lists begin with their version.
        let own = unsafe { &*offered.pFunctionList.cast::<CK_VERSION>() };
        let same = version.is_none_or(|wanted| (wanted.major, wanted.minor) == (own.major, own.minor));
        is_ours && same && offered.flags & flags == flags
    };
    let found = INTERFACES.0.iter().find(|offered| fits(offered)).ok_or(CKR_ARGUMENTS_BAD)?;
    *place = std::ptr::from_ref(found).cast_mut();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list is a version and pointers; each pointer is set.
    fn all_set<T>(list: &T) {
        let words = size_of::<T>() / size_of::<usize>();
        // SAFETY: a list consists of words: its version, padded to one, and function pointers.
        let words = unsafe { std::slice::from_raw_parts(std::ptr::from_ref(list).cast::<usize>(), words) };
        assert!(words[1..].iter().all(|pointer| *pointer != 0));
    }

    #[test]
    fn no_function_is_null() {
        all_set(&LIST_2_40);
        all_set(&LIST_3_0);
        all_set(&LIST_3_2);
    }

    fn interface(name: *const u8, version: Option<(u8, u8)>, flags: CK_FLAGS) -> Option<CK_VERSION> {
        let mut version = version.map(|(major, minor)| CK_VERSION { major, minor });
        let mut found = std::ptr::null_mut();
        let wanted = version.as_mut().map_or(std::ptr::null_mut(), std::ptr::from_mut);
        // SAFETY: locals and static strings.
        unsafe {
            get_interface(name.cast_mut(), wanted, &mut found, flags).ok()?;
            Some(*(*found).pFunctionList.cast::<CK_VERSION>())
        }
    }

    #[test]
    fn interfaces_by_name_and_version() {
        let null = std::ptr::null();
        let numbers = |version: Option<CK_VERSION>| version.map(|v| (v.major, v.minor));
        assert_eq!(numbers(interface(null, None, 0)), Some((3, 2)));
        assert_eq!(numbers(interface(null, Some((3, 0)), 0)), Some((3, 0)));
        assert_eq!(numbers(interface(c"PKCS 11".as_ptr().cast(), Some((2, 40)), 0)), Some((2, 40)));
        assert_eq!(numbers(interface(null, Some((3, 1)), 0)), None);
        assert_eq!(numbers(interface(c"Vendor".as_ptr().cast(), None, 0)), None);
        assert_eq!(numbers(interface(null, None, CKF_INTERFACE_FORK_SAFE)), None);
    }
}
