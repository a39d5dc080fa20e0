//! Bad input, function by function: what the standard names for it, and a process that lives.

use std::collections::BTreeSet;
use std::ptr::null_mut;

use cryptoki_sys::*;
use strongroom_pkcs11::lists;

use crate::call;
use crate::support::application::{Application, FALSE, TRUE, attribute, number, plain};
use crate::support::{Daemon, USER};

/// A function, its arguments as they stand here, what it said, and what the standard says.
type Row = (&'static str, &'static str, CK_RV, CK_RV);

macro_rules! rows {
    ($application:expr, $rows:expr; $([$expected:ident] $($name:ident($($argument:expr),* $(,)?);)+)*) => {$($({
        let code = call!($application, $name $(, $argument)*);
        $rows.push((stringify!($name), stringify!($($argument),*), code, $expected));
    })+)*};
}

/// No memory is so long.
const HUGE: CK_ULONG = 1 << 63;

/// No handle is this.
const NONE: CK_ULONG = 0x0dea_d000;

fn null<T>() -> *mut T {
    null_mut()
}

/// No mechanism of anybody's.
fn unknown() -> CK_MECHANISM {
    plain(CKM_VENDOR_DEFINED | 0x1234)
}

pub fn table(daemon: &Daemon) {
    let application = Application::load();
    let mut rows = Vec::new();
    before_initialize(&application, &mut rows);
    let slot = daemon.create_partition("tls");
    let other_slot = daemon.create_partition("other");
    application.initialize();
    let session = application.open_writable(slot);
    assert_eq!(application.login(session, CKU_USER, USER.1), CKR_OK);
    let other = application.open_writable(other_slot);
    assert_eq!(application.login(other, CKU_USER, USER.1), CKR_OK);
    let reader = application.open(slot, 0).unwrap();
    general(&application, &mut rows, slot.into(), session);
    no_session(&application, &mut rows);
    nothing_under_way(&application, &mut rows, session);
    null_pointers(&application, &mut rows, session);
    unknown_mechanisms(&application, &mut rows, session);
    handles(&application, &mut rows, session, other);
    lengths(&application, &mut rows, session);
    templates(&application, &mut rows, session, reader);
    let wrong: Vec<_> = rows.iter().filter(|(.., code, expected)| code != expected).collect();
    let shown: Vec<String> = wrong
        .iter()
        .map(|(name, arguments, code, expected)| format!("{name}({arguments}): {code:#x}, not {expected:#x}"))
        .collect();
    assert!(wrong.is_empty(), "{}", shown.join("\n"));
    // Each function is here.
    let tried: BTreeSet<_> = rows.iter().map(|(name, ..)| *name).collect();
    let all: BTreeSet<_> = lists::NAMES.iter().flat_map(|(_, names)| names.iter().copied()).collect();
    let missing: Vec<_> = all.difference(&tried).collect();
    assert!(missing.is_empty(), "no bad input for {missing:?}");
    // And the module still works.
    let (key, public) = application.generate(session, "web").unwrap();
    let signature = application.sign(session, key, b"data").unwrap();
    assert_eq!(application.verify(session, public, b"data", &signature), CKR_OK);
    application.finalize();
}

fn before_initialize(a: &Application, rows: &mut Vec<Row>) {
    let mut reserved = 7u8;
    let mut arguments = CK_C_INITIALIZE_ARGS {
        CreateMutex: None,
        DestroyMutex: None,
        LockMutex: None,
        UnlockMutex: None,
        flags: CKF_OS_LOCKING_OK,
        pReserved: (&raw mut reserved).cast(),
    };
    rows! { a, rows;
        [CKR_ARGUMENTS_BAD]
            C_Initialize((&raw mut arguments).cast());
            C_Finalize((&raw mut reserved).cast());
            C_GetFunctionList(null());
            C_GetInterfaceList(null(), null());
            C_GetInterface(null(), null(), null(), 0);
        [CKR_CRYPTOKI_NOT_INITIALIZED]
            C_Finalize(null());
            C_GetInfo(null());
            C_GetSlotList(CK_TRUE, null(), null());
            C_OpenSession(1, CKF_SERIAL_SESSION, null(), None, null());
            C_Sign(1, null(), 0, null(), null());
            C_WaitForSlotEvent(0, null(), null());
            C_MessageSignFinal(1);
    }
}

fn general(a: &Application, rows: &mut Vec<Row>, slot: CK_SLOT_ID, session: CK_SESSION_HANDLE) {
    let (mut count, mut one, mut info) = (0, [0; 1], [0u8; 512]);
    let mut handle = 0;
    let pin = b"user-secret".as_ptr().cast_mut();
    // SAFETY: these structures are numbers and bytes, and shorter than that.
    let at = |info: &mut [u8; 512]| info.as_mut_ptr();
    rows! { a, rows;
        [CKR_CRYPTOKI_ALREADY_INITIALIZED]
            C_Initialize(null());
        [CKR_ARGUMENTS_BAD]
            C_Finalize(at(&mut info).cast());
            C_GetInfo(null());
            C_GetSlotList(CK_TRUE, null(), null());
            C_GetSlotInfo(slot, null());
            C_GetTokenInfo(slot, null());
            C_GetMechanismList(slot, null(), null());
            C_GetMechanismInfo(slot, CKM_AES_GCM, null());
            C_WaitForSlotEvent(CKF_DONT_BLOCK, null(), null());
            C_WaitForSlotEvent(CKF_DONT_BLOCK | 0x100, &mut handle, null());
            C_OpenSession(slot, CKF_SERIAL_SESSION, null(), None, null());
            C_InitToken(slot, null(), 4, null());
            C_InitToken(slot, pin, 11, null());
            C_GetSessionInfo(session, null());
            C_GetSessionValidationFlags(session, CKS_LAST_VALIDATION_OK, null());
            C_GetSessionValidationFlags(session, 77, &mut handle);
        [CKR_SLOT_ID_INVALID]
            C_GetSlotInfo(NONE, at(&mut info).cast());
            C_GetTokenInfo(NONE, at(&mut info).cast());
            C_GetMechanismList(NONE, null(), &mut count);
            C_GetMechanismInfo(HUGE, CKM_AES_GCM, at(&mut info).cast());
            C_OpenSession(NONE, CKF_SERIAL_SESSION, null(), None, &mut handle);
            C_CloseAllSessions(NONE);
            C_InitToken(NONE, pin, 11, at(&mut info));
        [CKR_BUFFER_TOO_SMALL]
            C_GetSlotList(CK_TRUE, one.as_mut_ptr(), &mut {0});
            C_GetMechanismList(slot, one.as_mut_ptr(), &mut {1});
            C_GetInterfaceList(at(&mut info).cast(), &mut {1});
        [CKR_MECHANISM_INVALID]
            C_GetMechanismInfo(slot, NONE, at(&mut info).cast());
        [CKR_SESSION_PARALLEL_NOT_SUPPORTED]
            C_OpenSession(slot, 0, null(), None, &mut handle);
        [CKR_SESSION_EXISTS]
            C_InitToken(slot, pin, 11, at(&mut info));
        [CKR_FUNCTION_NOT_PARALLEL]
            C_GetFunctionStatus(session);
            C_CancelFunction(session);
        [CKR_USER_TYPE_INVALID]
            C_Login(session, 99, pin, 11);
            C_LoginUser(session, 99, pin, 11, pin, 4);
        [CKR_USER_ALREADY_LOGGED_IN]
            C_Login(session, CKU_USER, pin, 11);
        [CKR_USER_ANOTHER_ALREADY_LOGGED_IN]
            C_Login(session, CKU_SO, pin, 11);
        [CKR_OPERATION_NOT_INITIALIZED]
            C_Login(session, CKU_CONTEXT_SPECIFIC, pin, 11);
        [CKR_USER_NOT_LOGGED_IN]
            C_InitPIN(session, pin, 11);
        [CKR_PIN_LEN_RANGE]
            C_InitPIN(session, null(), 0);
            C_SetPIN(session, pin, 11, null(), 0);
        [CKR_PIN_INCORRECT]
            C_SetPIN(session, null(), 0, pin, 11);
            C_Login(session, CKU_USER, b"\xff\xfe".as_ptr().cast_mut(), 2);
        [CKR_ARGUMENTS_BAD]
            C_Login(session, CKU_USER, null(), 4);
            C_Login(session, CKU_USER, pin, HUGE);
            C_LoginUser(session, CKU_USER, pin, 11, null(), 4);
            C_InitPIN(session, null(), 4);
            C_SetPIN(session, pin, HUGE, pin, 4);
        [CKR_RANDOM_SEED_NOT_SUPPORTED]
            C_SeedRandom(session, pin, 4);
        [CKR_FUNCTION_NOT_SUPPORTED]
            C_AsyncComplete(session, null(), null());
            C_AsyncGetID(session, null(), null());
            C_AsyncJoin(session, null(), 0, null(), 0);
            C_WrapKeyAuthenticated(session, null(), 0, 0, null(), 0, null(), null());
            C_UnwrapKeyAuthenticated(session, null(), 0, null(), 0, null(), 0, null(), 0, null());
    }
}

fn no_session(a: &Application, rows: &mut Vec<Row>) {
    let (mut m, mut length, mut handle, mut info) = (plain(CKM_SHA256), 64, 0, [0u8; 512]);
    let mut template = [attribute(CKA_LABEL, b"web"), attribute(CKA_CLASS, number(CKO_DATA))];
    let t = template.as_mut_ptr();
    let data = info.as_mut_ptr();
    for s in [0, NONE, HUGE, CK_ULONG::MAX] {
        rows! { a, rows; [CKR_SESSION_HANDLE_INVALID]
            C_CloseSession(s); C_GetSessionInfo(s, data.cast()); C_SessionCancel(s, 0); C_Logout(s);
            C_Login(s, CKU_USER, data, 4); C_LoginUser(s, CKU_USER, data, 4, data, 4);
            C_InitPIN(s, b"long enough".as_ptr().cast_mut(), 11); C_SetPIN(s, b"old".as_ptr().cast_mut(), 3, b"new".as_ptr().cast_mut(), 3);
            C_GetOperationState(s, data, &mut length); C_SetOperationState(s, data, 4, 0, 0);
            C_GetSessionValidationFlags(s, CKS_LAST_VALIDATION_OK, &mut length);
            C_CreateObject(s, t, 2, &mut handle); C_CopyObject(s, 1, t, 1, &mut handle); C_DestroyObject(s, 1);
            C_GetObjectSize(s, 1, &mut length); C_GetAttributeValue(s, 1, t, 1); C_SetAttributeValue(s, 1, t, 1);
            C_FindObjectsInit(s, t, 1); C_FindObjects(s, &mut handle, 1, &mut length); C_FindObjectsFinal(s);
            C_EncryptInit(s, &mut m, 1); C_Encrypt(s, data, 4, data, &mut length);
            C_EncryptUpdate(s, data, 4, data, &mut length); C_EncryptFinal(s, data, &mut length);
            C_DecryptInit(s, &mut m, 1); C_Decrypt(s, data, 4, data, &mut length);
            C_DecryptUpdate(s, data, 4, data, &mut length); C_DecryptFinal(s, data, &mut length);
            C_DigestInit(s, &mut m); C_Digest(s, data, 4, data, &mut length); C_DigestUpdate(s, data, 4);
            C_DigestKey(s, 1); C_DigestFinal(s, data, &mut length);
            C_SignInit(s, &mut m, 1); C_Sign(s, data, 4, data, &mut length); C_SignUpdate(s, data, 4);
            C_SignFinal(s, data, &mut length); C_SignRecoverInit(s, &mut m, 1); C_SignRecover(s, data, 4, data, &mut length);
            C_VerifyInit(s, &mut m, 1); C_Verify(s, data, 4, data, 4); C_VerifyUpdate(s, data, 4); C_VerifyFinal(s, data, 4);
            C_VerifyRecoverInit(s, &mut m, 1); C_VerifyRecover(s, data, 4, data, &mut length);
            C_DigestEncryptUpdate(s, data, 4, data, &mut length); C_DecryptDigestUpdate(s, data, 4, data, &mut length);
            C_SignEncryptUpdate(s, data, 4, data, &mut length); C_DecryptVerifyUpdate(s, data, 4, data, &mut length);
            C_GenerateKey(s, &mut m, t, 1, &mut handle);
            C_GenerateKeyPair(s, &mut m, t, 1, t, 1, &mut handle, &mut {0});
            C_WrapKey(s, &mut m, 1, 1, data, &mut length); C_UnwrapKey(s, &mut m, 1, data, 4, t, 1, &mut handle);
            C_DeriveKey(s, &mut m, 1, t, 1, &mut handle); C_SeedRandom(s, data, 4); C_GenerateRandom(s, data, 4);
            C_EncapsulateKey(s, &mut m, 1, t, 1, data, &mut length, &mut handle);
            C_DecapsulateKey(s, &mut m, 1, t, 1, data, 4, &mut handle);
            C_MessageEncryptInit(s, &mut m, 1); C_EncryptMessage(s, null(), 0, null(), 0, data, 4, data, &mut length);
            C_EncryptMessageBegin(s, null(), 0, null(), 0);
            C_EncryptMessageNext(s, null(), 0, data, 4, data, &mut length, 0); C_MessageEncryptFinal(s);
            C_MessageDecryptInit(s, &mut m, 1); C_DecryptMessage(s, null(), 0, null(), 0, data, 4, data, &mut length);
            C_DecryptMessageBegin(s, null(), 0, null(), 0);
            C_DecryptMessageNext(s, null(), 0, data, 4, data, &mut length, 0); C_MessageDecryptFinal(s);
            C_MessageSignInit(s, &mut m, 1); C_SignMessage(s, null(), 0, data, 4, data, &mut length);
            C_SignMessageBegin(s, null(), 0); C_SignMessageNext(s, null(), 0, data, 4, data, &mut length);
            C_MessageSignFinal(s);
            C_MessageVerifyInit(s, &mut m, 1); C_VerifyMessage(s, null(), 0, data, 4, data, 4);
            C_VerifyMessageBegin(s, null(), 0); C_VerifyMessageNext(s, null(), 0, data, 4, data, 4);
            C_MessageVerifyFinal(s);
            C_VerifySignatureInit(s, &mut m, 1, data, 4); C_VerifySignature(s, data, 4);
            C_VerifySignatureUpdate(s, data, 4); C_VerifySignatureFinal(s);
        }
    }
}

fn nothing_under_way(a: &Application, rows: &mut Vec<Row>, s: CK_SESSION_HANDLE) {
    let (mut length, mut handle, mut info) = (64, 0, [0u8; 512]);
    let data = info.as_mut_ptr();
    rows! { a, rows; [CKR_OPERATION_NOT_INITIALIZED]
        C_FindObjects(s, &mut handle, 1, &mut length); C_FindObjectsFinal(s);
        C_Encrypt(s, data, 4, data, &mut length); C_EncryptUpdate(s, data, 4, data, &mut length);
        C_EncryptFinal(s, data, &mut length); C_Decrypt(s, data, 4, data, &mut length);
        C_DecryptUpdate(s, data, 4, data, &mut length); C_DecryptFinal(s, data, &mut length);
        C_Digest(s, data, 4, data, &mut length); C_DigestUpdate(s, data, 4); C_DigestKey(s, 1);
        C_DigestFinal(s, data, &mut length); C_Sign(s, data, 4, data, &mut length); C_SignUpdate(s, data, 4);
        C_SignFinal(s, data, &mut length); C_SignRecover(s, data, 4, data, &mut length);
        C_Verify(s, data, 4, data, 4); C_VerifyUpdate(s, data, 4); C_VerifyFinal(s, data, 4);
        C_VerifyRecover(s, data, 4, data, &mut length); C_GetOperationState(s, data, &mut length);
        C_DigestEncryptUpdate(s, data, 4, data, &mut length); C_DecryptDigestUpdate(s, data, 4, data, &mut length);
        C_SignEncryptUpdate(s, data, 4, data, &mut length); C_DecryptVerifyUpdate(s, data, 4, data, &mut length);
        C_EncryptMessage(s, null(), 0, null(), 0, data, 4, data, &mut length); C_EncryptMessageBegin(s, null(), 0, null(), 0);
        C_EncryptMessageNext(s, null(), 0, data, 4, data, &mut length, 0); C_MessageEncryptFinal(s);
        C_DecryptMessage(s, null(), 0, null(), 0, data, 4, data, &mut length); C_DecryptMessageBegin(s, null(), 0, null(), 0);
        C_DecryptMessageNext(s, null(), 0, data, 4, data, &mut length, 0); C_MessageDecryptFinal(s);
        C_SignMessage(s, null(), 0, data, 4, data, &mut length); C_SignMessageBegin(s, null(), 0);
        C_SignMessageNext(s, null(), 0, data, 4, data, &mut length); C_MessageSignFinal(s);
        C_VerifyMessage(s, null(), 0, data, 4, data, 4); C_VerifyMessageBegin(s, null(), 0);
        C_VerifyMessageNext(s, null(), 0, data, 4, data, 4); C_MessageVerifyFinal(s);
        C_VerifySignature(s, data, 4); C_VerifySignatureUpdate(s, data, 4); C_VerifySignatureFinal(s);
    }
    rows! { a, rows; [CKR_SAVED_STATE_INVALID] C_SetOperationState(s, data, 4, 0, 0); C_SetOperationState(s, data, 0, 0, 0); }
}

fn null_pointers(a: &Application, rows: &mut Vec<Row>, s: CK_SESSION_HANDLE) {
    let (mut m, mut length, mut info) = (plain(CKM_SHA256), 64, [0u8; 512]);
    let data = info.as_mut_ptr();
    rows! { a, rows; [CKR_ARGUMENTS_BAD]
        C_CreateObject(s, null(), 1, null()); C_CopyObject(s, 1, null(), 1, null()); C_GetObjectSize(s, 1, null());
        C_GetAttributeValue(s, 1, null(), 1); C_SetAttributeValue(s, 1, null(), 1); C_FindObjectsInit(s, null(), 1);
        C_EncryptInit(s, null(), 1); C_DecryptInit(s, null(), 1); C_DigestInit(s, null()); C_SignInit(s, null(), 1);
        C_VerifyInit(s, null(), 1); C_SignRecoverInit(s, null(), 1); C_VerifyRecoverInit(s, null(), 1);
        C_MessageEncryptInit(s, null(), 1); C_MessageDecryptInit(s, null(), 1); C_MessageSignInit(s, null(), 1);
        C_MessageVerifyInit(s, null(), 1); C_VerifySignatureInit(s, null(), 1, data, 4);
        C_GenerateKey(s, null(), null(), 0, null()); C_GenerateKeyPair(s, null(), null(), 0, null(), 0, null(), null());
        C_WrapKey(s, null(), 1, 1, data, &mut length); C_WrapKey(s, &mut m, 1, 1, data, null());
        C_UnwrapKey(s, null(), 1, data, 4, null(), 0, null()); C_DeriveKey(s, null(), 1, null(), 0, null());
        C_EncapsulateKey(s, null(), 1, null(), 0, data, &mut length, null());
        C_DecapsulateKey(s, null(), 1, null(), 0, data, 4, null());
        C_GenerateRandom(s, null(), 4); C_SeedRandom(s, null(), 4); C_SetOperationState(s, null(), 4, 0, 0);
    }
    // Operations that are under way, one after the other: a failure ends each.
    let mut digest = plain(CKM_SHA256);
    let begin = |digest: &mut CK_MECHANISM| assert_eq!(call!(a, C_DigestInit, s, digest), CKR_OK);
    begin(&mut digest);
    rows! { a, rows; [CKR_ARGUMENTS_BAD] C_DigestUpdate(s, null(), 4); }
    begin(&mut digest);
    rows! { a, rows; [CKR_ARGUMENTS_BAD] C_Digest(s, null(), 4, data, &mut length); }
    begin(&mut digest);
    rows! { a, rows; [CKR_ARGUMENTS_BAD] C_DigestFinal(s, data, null()); }
    begin(&mut digest);
    rows! { a, rows; [CKR_OPERATION_ACTIVE] C_DigestInit(s, &mut digest); }
    rows! { a, rows; [CKR_ARGUMENTS_BAD] C_GetOperationState(s, data, null()); }
    rows! { a, rows; [CKR_BUFFER_TOO_SMALL] C_DigestFinal(s, data, &mut {31}); C_GetOperationState(s, data, &mut {1}); }
    assert_eq!(call!(a, C_SessionCancel, s, CKF_DIGEST), CKR_OK);
}

fn unknown_mechanisms(a: &Application, rows: &mut Vec<Row>, s: CK_SESSION_HANDLE) {
    let (mut length, mut handle, mut info, mut m) = (64, 0, [0u8; 512], unknown());
    let data = info.as_mut_ptr();
    let mut template = [attribute(CKA_LABEL, b"web")];
    let t = template.as_mut_ptr();
    rows! { a, rows; [CKR_MECHANISM_INVALID]
        C_EncryptInit(s, &mut m, 1); C_DecryptInit(s, &mut m, 1); C_DigestInit(s, &mut m); C_SignInit(s, &mut m, 1);
        C_VerifyInit(s, &mut m, 1); C_SignRecoverInit(s, &mut m, 1); C_VerifyRecoverInit(s, &mut m, 1);
        C_MessageEncryptInit(s, &mut m, 1); C_MessageDecryptInit(s, &mut m, 1); C_MessageSignInit(s, &mut m, 1);
        C_MessageVerifyInit(s, &mut m, 1); C_VerifySignatureInit(s, &mut m, 1, data, 4);
        C_GenerateKey(s, &mut m, t, 1, &mut handle); C_GenerateKeyPair(s, &mut m, t, 1, t, 1, &mut handle, &mut {0});
        C_WrapKey(s, &mut m, 1, 1, data, &mut length); C_UnwrapKey(s, &mut m, 1, data, 4, t, 1, &mut handle);
        C_DeriveKey(s, &mut m, 1, t, 1, &mut handle); C_EncapsulateKey(s, &mut m, 1, t, 1, data, &mut length, &mut handle);
        C_DecapsulateKey(s, &mut m, 1, t, 1, data, 4, &mut handle);
        // Known, and for something else.
        C_EncryptInit(s, &mut plain(CKM_SHA256), 1); C_DigestInit(s, &mut plain(CKM_AES_GCM));
        C_SignInit(s, &mut plain(CKM_AES_KEY_GEN), 1); C_GenerateKey(s, &mut plain(CKM_RSA_PKCS_KEY_PAIR_GEN), t, 1, &mut handle);
        C_GenerateKeyPair(s, &mut plain(CKM_AES_KEY_GEN), t, 1, t, 1, &mut handle, &mut {0});
        C_WrapKey(s, &mut plain(CKM_SHA256), 1, 1, data, &mut length);
        C_DeriveKey(s, &mut plain(CKM_RSA_PKCS), 1, t, 1, &mut handle);
    }
    // Parameters that are not there, or that nobody wants.
    let wrong = |mechanism, parameter: *mut CK_BYTE, length| CK_MECHANISM {
        mechanism,
        pParameter: parameter.cast(),
        ulParameterLen: length,
    };
    rows! { a, rows; [CKR_MECHANISM_PARAM_INVALID]
        C_EncryptInit(s, &mut wrong(CKM_AES_GCM, null(), 0), 1);
        C_EncryptInit(s, &mut wrong(CKM_AES_GCM, data, HUGE), 1);
        C_EncryptInit(s, &mut wrong(CKM_AES_GCM, null(), size_of::<CK_GCM_PARAMS>() as CK_ULONG), 1);
        C_DecryptInit(s, &mut wrong(CKM_AES_CBC, data, 15), 1);
        C_DigestInit(s, &mut wrong(CKM_SHA256, data, 1));
        C_SignInit(s, &mut wrong(CKM_RSA_PKCS_PSS, data, 1), 1);
        C_SignInit(s, &mut wrong(CKM_ECDSA_SHA256, data, 7), 1);
    }
}

fn handles(a: &Application, rows: &mut Vec<Row>, s: CK_SESSION_HANDLE, other: CK_SESSION_HANDLE) {
    let (mut length, mut handle, mut info) = (64, 0, [0u8; 512]);
    let data = info.as_mut_ptr();
    let mut template = [attribute(CKA_LABEL, b"web")];
    let t = template.as_mut_ptr();
    let (private, _) = a.generate(s, "web").unwrap();
    let mut ecdsa = plain(CKM_ECDSA_SHA256);
    // No handle, and one of another token's session.
    for (s, key) in [(s, 0), (s, NONE), (s, HUGE), (s, CK_ULONG::MAX), (other, private)] {
        rows! { a, rows;
            [CKR_OBJECT_HANDLE_INVALID]
                C_DestroyObject(s, key); C_GetObjectSize(s, key, &mut length); C_GetAttributeValue(s, key, t, 1);
                C_SetAttributeValue(s, key, t, 1); C_CopyObject(s, key, t, 1, &mut handle);
            [CKR_KEY_HANDLE_INVALID]
                C_SignInit(s, &mut ecdsa, key); C_VerifyInit(s, &mut ecdsa, key); C_MessageSignInit(s, &mut ecdsa, key);
                C_MessageVerifyInit(s, &mut ecdsa, key); C_VerifySignatureInit(s, &mut ecdsa, key, data, 64);
                C_EncryptInit(s, &mut plain(CKM_AES_ECB), key); C_DecryptInit(s, &mut plain(CKM_AES_ECB), key);
                C_MessageEncryptInit(s, &mut plain(CKM_AES_GCM), key); C_MessageDecryptInit(s, &mut plain(CKM_AES_CCM), key);
                C_SignRecoverInit(s, &mut plain(CKM_RSA_PKCS), key); C_VerifyRecoverInit(s, &mut plain(CKM_RSA_PKCS), key);
                C_DeriveKey(s, &mut plain(CKM_ECDH1_DERIVE), key, null(), 0, &mut handle);
                C_DecapsulateKey(s, &mut plain(CKM_ML_KEM), key, null(), 0, data, 4, &mut handle);
            [CKR_WRAPPING_KEY_HANDLE_INVALID]
                C_WrapKey(s, &mut plain(CKM_AES_KEY_WRAP_KWP), key, key, data, &mut length);
            [CKR_UNWRAPPING_KEY_HANDLE_INVALID]
                C_UnwrapKey(s, &mut plain(CKM_AES_KEY_WRAP_KWP), key, data, 4, t, 1, &mut handle);
        }
        assert_eq!(call!(a, C_DigestInit, s, &mut plain(CKM_SHA256)), CKR_OK);
        rows! { a, rows; [CKR_KEY_HANDLE_INVALID] C_DigestKey(s, key); }
    }
    // A session that was closed meanwhile.
    let mut slot = CK_SESSION_INFO { slotID: 0, state: 0, flags: 0, ulDeviceError: 0 };
    assert_eq!(call!(a, C_GetSessionInfo, s, &mut slot), CKR_OK);
    let gone = a.open_writable(slot.slotID as u32);
    assert_eq!(a.sign_init(gone, CKM_ECDSA_SHA256, private), CKR_OK);
    assert_eq!(call!(a, C_CloseSession, gone), CKR_OK);
    rows! { a, rows; [CKR_SESSION_HANDLE_INVALID] C_Sign(gone, data, 4, data, &mut length); C_CloseSession(gone); }
    assert_eq!(call!(a, C_DestroyObject, s, private), CKR_OK);
    rows! { a, rows; [CKR_KEY_HANDLE_INVALID] C_SignInit(s, &mut ecdsa, private); }
}

fn lengths(a: &Application, rows: &mut Vec<Row>, s: CK_SESSION_HANDLE) {
    let (private, public) = a.generate(s, "lengths").unwrap();
    let mut template = [attribute(CKA_TOKEN, TRUE), attribute(CKA_VALUE_LEN, number(16))];
    let (mut aes, mut generate, mut length, mut info) = (0, plain(CKM_AES_KEY_GEN), 64, [0u8; 512]);
    assert_eq!(call!(a, C_GenerateKey, s, &mut generate, template.as_mut_ptr(), 2, &mut aes), CKR_OK);
    let data = info.as_mut_ptr();
    let t = template.as_mut_ptr();
    rows! { a, rows; [CKR_ARGUMENTS_BAD]
        C_CreateObject(s, t, HUGE, &mut aes); C_CreateObject(s, t, CK_ULONG::MAX, &mut aes);
        C_FindObjectsInit(s, t, HUGE); C_GetAttributeValue(s, private, t, HUGE); C_SetAttributeValue(s, private, t, HUGE);
        C_GenerateKey(s, &mut generate, t, HUGE, &mut aes); C_GenerateRandom(s, data, HUGE); C_SeedRandom(s, data, HUGE);
        C_SetOperationState(s, data, HUGE, 0, 0);
    }
    macro_rules! each {
        ($init:expr; $([$expected:ident] $($name:ident($($argument:expr),*);)+)*) => {$($(
            assert_eq!($init, CKR_OK);
            rows! { a, rows; [$expected] $name($($argument),*); }
        )+)*};
    }
    let mut ecb = plain(CKM_AES_ECB);
    each! { a.sign_init(s, CKM_ECDSA, private);
        [CKR_ARGUMENTS_BAD] C_Sign(s, data, HUGE, data, &mut length); C_SignUpdate(s, data, HUGE); C_SignUpdate(s, data, CK_ULONG::MAX);
        [CKR_DATA_LEN_RANGE] C_Sign(s, data, 65, data, &mut length); C_SignUpdate(s, data, 65);
    }
    each! { call!(a, C_VerifyInit, s, &mut plain(CKM_ECDSA_SHA256), public);
        [CKR_ARGUMENTS_BAD] C_Verify(s, data, HUGE, data, 64); C_Verify(s, data, 4, data, HUGE); C_VerifyUpdate(s, data, HUGE);
        [CKR_SIGNATURE_LEN_RANGE] C_Verify(s, data, 4, data, 0); C_Verify(s, data, 4, data, 63); C_VerifyFinal(s, data, 65);
        [CKR_SIGNATURE_INVALID] C_Verify(s, data, 0, data, 64);
    }
    each! { call!(a, C_EncryptInit, s, &mut ecb, aes);
        [CKR_ARGUMENTS_BAD] C_Encrypt(s, data, HUGE, data, &mut length); C_EncryptUpdate(s, data, HUGE, data, &mut length);
            C_EncryptUpdate(s, data, 16, data, null());
        [CKR_DATA_LEN_RANGE] C_Encrypt(s, data, 15, data, &mut length);
    }
    each! { call!(a, C_DecryptInit, s, &mut ecb, aes);
        [CKR_ARGUMENTS_BAD] C_Decrypt(s, data, HUGE, data, &mut length); C_DecryptUpdate(s, null(), 16, data, &mut length);
        [CKR_ENCRYPTED_DATA_LEN_RANGE] C_Decrypt(s, data, 15, data, &mut length);
    }
    each! { call!(a, C_DigestInit, s, &mut plain(CKM_SHA256));
        [CKR_ARGUMENTS_BAD] C_Digest(s, data, HUGE, data, &mut length); C_DigestUpdate(s, data, HUGE);
    }
    assert_eq!(call!(a, C_MessageSignInit, s, &mut plain(CKM_ECDSA_SHA256), private), CKR_OK);
    assert_eq!(call!(a, C_MessageVerifyInit, s, &mut plain(CKM_ECDSA_SHA256), public), CKR_OK);
    assert_eq!(call!(a, C_MessageEncryptInit, s, &mut plain(CKM_AES_GCM), aes), CKR_OK);
    assert_eq!(call!(a, C_MessageDecryptInit, s, &mut plain(CKM_AES_GCM), aes), CKR_OK);
    rows! { a, rows;
        [CKR_ARGUMENTS_BAD]
            C_SignMessage(s, null(), 0, data, HUGE, data, &mut length); C_VerifyMessage(s, null(), 0, data, 4, data, HUGE);
            C_SignMessage(s, null(), 0, data, 4, data, null());
        [CKR_SIGNATURE_LEN_RANGE]
            C_VerifyMessage(s, null(), 0, data, 4, data, 1);
        [CKR_MECHANISM_PARAM_INVALID]
            C_SignMessage(s, data.cast(), 4, data, 4, data, &mut length); C_SignMessageBegin(s, data.cast(), 4);
            C_EncryptMessage(s, null(), 0, null(), 0, data, 4, data, &mut length);
            C_EncryptMessage(s, data.cast(), HUGE, null(), 0, data, 4, data, &mut length);
            C_EncryptMessage(s, data.cast(), size_of::<CK_GCM_MESSAGE_PARAMS>() as CK_ULONG, null(), 0, data, 4, data, &mut length);
            C_DecryptMessageBegin(s, null(), 0, null(), 0);
    }
    let all = CKF_MESSAGE_SIGN | CKF_MESSAGE_VERIFY | CKF_MESSAGE_ENCRYPT | CKF_MESSAGE_DECRYPT;
    assert_eq!(call!(a, C_SessionCancel, s, all), CKR_OK);
}

fn templates(a: &Application, rows: &mut Vec<Row>, s: CK_SESSION_HANDLE, reader: CK_SESSION_HANDLE) {
    let mut create = |expected: CK_RV, what: &'static str, session, template: &[CK_ATTRIBUTE]| {
        let (mut template, mut handle) = (template.to_vec(), 0);
        let count = template.len() as CK_ULONG;
        let code = call!(a, C_CreateObject, session, template.as_mut_ptr(), count, &mut handle);
        rows.push(("C_CreateObject", what, code, expected));
    };
    let data = attribute(CKA_CLASS, number(CKO_DATA));
    let key = attribute(CKA_CLASS, number(CKO_SECRET_KEY));
    let aes = attribute(CKA_KEY_TYPE, number(CKK_AES));
    let (token, value) = (attribute(CKA_TOKEN, TRUE), attribute(CKA_VALUE, &[7; 16]));
    create(CKR_TEMPLATE_INCOMPLETE, "nothing", s, &[]);
    create(CKR_TEMPLATE_INCOMPLETE, "no key type", s, &[key, token, value]);
    create(CKR_TEMPLATE_INCOMPLETE, "no value", s, &[key, aes, token]);
    create(CKR_ATTRIBUTE_VALUE_INVALID, "no such class", s, &[attribute(CKA_CLASS, number(NONE)), token]);
    create(CKR_ATTRIBUTE_VALUE_INVALID, "a class of 3 bytes", s, &[attribute(CKA_CLASS, &[1; 3]), token]);
    create(
        CKR_ATTRIBUTE_VALUE_INVALID,
        "no such key type",
        s,
        &[key, attribute(CKA_KEY_TYPE, number(NONE)), token, value],
    );
    create(CKR_ATTRIBUTE_VALUE_INVALID, "17 bytes", s, &[key, aes, token, attribute(CKA_VALUE, &[7; 17])]);
    create(
        CKR_ATTRIBUTE_VALUE_INVALID,
        "a boolean of 2",
        s,
        &[key, aes, token, value, attribute(CKA_ENCRYPT, &[2])],
    );
    create(
        CKR_ATTRIBUTE_VALUE_INVALID,
        "a label that is no text",
        s,
        &[data, token, attribute(CKA_LABEL, b"\xff")],
    );
    create(CKR_ATTRIBUTE_TYPE_INVALID, "unknown", s, &[data, token, attribute(0x8000_1234, TRUE)]);
    create(CKR_ATTRIBUTE_TYPE_INVALID, "another class's", s, &[data, token, attribute(CKA_MODULUS, TRUE)]);
    create(
        CKR_ATTRIBUTE_READ_ONLY,
        "the partition's",
        s,
        &[key, aes, token, value, attribute(CKA_LOCAL, TRUE)],
    );
    create(CKR_TEMPLATE_INCONSISTENT, "twice, differently", s, &[data, token, attribute(CKA_TOKEN, FALSE)]);
    create(
        CKR_TEMPLATE_INCONSISTENT,
        "not of this length",
        s,
        &[key, aes, token, value, attribute(CKA_VALUE_LEN, number(32))],
    );
    create(
        CKR_TEMPLATE_INCONSISTENT,
        "trusted by whoever makes it",
        s,
        &[key, aes, token, value, attribute(CKA_TRUSTED, TRUE)],
    );
    create(CKR_SESSION_READ_ONLY, "a session that reads", reader, &[data, token]);
    let long = CK_ATTRIBUTE { ulValueLen: HUGE, ..value };
    create(CKR_ATTRIBUTE_VALUE_INVALID, "a value of 2^63 bytes", s, &[key, aes, token, long]);
    let lost = CK_ATTRIBUTE { pValue: null_mut(), ..value };
    create(CKR_ARGUMENTS_BAD, "a value that is null", s, &[key, aes, token, lost]);
    let mut handle = 0;
    let mut two = [token, attribute(CKA_VALUE_LEN, number(17))];
    let mut bits = [token, attribute(CKA_MODULUS_BITS, number(1000))];
    let mut curve = [token, attribute(CKA_EC_PARAMS, b"junk")];
    let (generate, mut private) = (plain(CKM_AES_KEY_GEN), [token]);
    rows! { a, rows;
        [CKR_TEMPLATE_INCOMPLETE]
            C_GenerateKey(s, &mut {generate}, two.as_mut_ptr(), 1, &mut handle);
            C_GenerateKeyPair(s, &mut plain(CKM_RSA_PKCS_KEY_PAIR_GEN), bits.as_mut_ptr(), 1, private.as_mut_ptr(), 1, &mut handle, &mut {0});
        [CKR_ATTRIBUTE_VALUE_INVALID]
            C_GenerateKeyPair(s, &mut plain(CKM_RSA_PKCS_KEY_PAIR_GEN), bits.as_mut_ptr(), 2, private.as_mut_ptr(), 1, &mut handle, &mut {0});
        [CKR_DOMAIN_PARAMS_INVALID]
            C_GenerateKeyPair(s, &mut plain(CKM_EC_KEY_PAIR_GEN), curve.as_mut_ptr(), 2, private.as_mut_ptr(), 1, &mut handle, &mut {0});
    }
}
