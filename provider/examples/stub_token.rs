//! A PKCS#11 module for the provider's own tests: one token with one P-256 key, which signs nothing. Its "signature" is the
//! data twice, so that a test sees whose signature it got; it takes as long, and fails, as a test says. It takes no memory
//! and no lock on the way of a signature, so that what is counted there is the provider's.
#![allow(clippy::missing_safety_doc, missing_docs, non_snake_case)]
// The caller is the provider, whose pointers are tested elsewhere.
#![allow(clippy::undocumented_unsafe_blocks, clippy::unwrap_used, clippy::indexing_slicing)]

use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use cryptoki_sys::*;

const KEY: CK_OBJECT_HANDLE = 7;

/// prime256v1
const CURVE: [u8; 10] = [6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];

/// The curve's generator, which is the public half of the private key 1.
const POINT: [u8; 67] = [
    4, 65, 4, 0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40, 0xf2,
    0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96, 0x4f,
    0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16, 0x2b, 0xce,
    0x33, 0x57, 0x6b, 0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5,
];

static INITIALISED: AtomicU64 = AtomicU64::new(0);
static NEXT_SESSION: AtomicU64 = AtomicU64::new(1);
/// Sessions below it are gone.
static FIRST_SESSION: AtomicU64 = AtomicU64::new(1);
static LIMIT: AtomicU64 = AtomicU64::new(u64::MAX);
static OPEN: AtomicU64 = AtomicU64::new(0);
static SEARCHES: AtomicU64 = AtomicU64::new(0);
/// What is left of each session's search, by the session's number modulo this.
static LEFT: [AtomicU64; 4096] = [const { AtomicU64::new(0) }; 4096];
static DELAY: AtomicU64 = AtomicU64::new(0);
static FAILURE: AtomicU64 = AtomicU64::new(CKR_OK);
static FAILURES: AtomicU64 = AtomicU64::new(0);
static SIGNATURES: AtomicU64 = AtomicU64::new(0);
static GENERATIONS: AtomicU64 = AtomicU64::new(0);
static IN_FLIGHT: AtomicU64 = AtomicU64::new(0);
static AWAY: AtomicU64 = AtomicU64::new(0);
static FINALIZE: AtomicU64 = AtomicU64::new(0);
static MOST: AtomicU64 = AtomicU64::new(0);
/// More flags of the token than CKF_TOKEN_INITIALIZED.
static FLAGS: AtomicU64 = AtomicU64::new(0);
static LOGIN: AtomicU64 = AtomicU64::new(CKR_OK);
static LOGINS: AtomicU64 = AtomicU64::new(0);
static USER: AtomicU64 = AtomicU64::new(0);
/// 0: everybody sees the key; 1: who has logged in; 2: somebody has.
static HIDDEN: AtomicU64 = AtomicU64::new(0);

/// Each signature takes so many milliseconds from now on.
#[unsafe(no_mangle)]
pub extern "C" fn stub_delay(milliseconds: u64) {
    DELAY.store(milliseconds, SeqCst);
}

/// The next signatures, or generations, fail with `rv`.
#[unsafe(no_mangle)]
pub extern "C" fn stub_fail(rv: CK_RV, times: u64) {
    FAILURE.store(rv, SeqCst);
    FAILURES.store(times, SeqCst);
}

/// Every session ends, as when the token's service is started again.
#[unsafe(no_mangle)]
pub extern "C" fn stub_restart() {
    FIRST_SESSION.store(NEXT_SESSION.load(SeqCst), SeqCst);
    OPEN.store(0, SeqCst);
}

/// There are no more sessions than so many.
#[unsafe(no_mangle)]
pub extern "C" fn stub_limit_sessions(limit: u64) {
    LIMIT.store(limit, SeqCst);
}

/// The token is taken away (1) or put back (0). With it go its sessions.
#[unsafe(no_mangle)]
pub extern "C" fn stub_remove(away: u64) {
    if AWAY.swap(away, SeqCst) != away {
        stub_restart();
    }
}

/// What C_Finalize does: its work (0), crash (1), or not return (2).
#[unsafe(no_mangle)]
pub extern "C" fn stub_finalize(how: u64) {
    FINALIZE.store(how, SeqCst);
}

/// The signatures so far.
#[unsafe(no_mangle)]
pub extern "C" fn stub_signatures() -> u64 {
    SIGNATURES.load(SeqCst)
}

/// The generations of key pairs so far.
#[unsafe(no_mangle)]
pub extern "C" fn stub_generations() -> u64 {
    GENERATIONS.load(SeqCst)
}

/// The searches for objects so far.
#[unsafe(no_mangle)]
pub extern "C" fn stub_searches() -> u64 {
    SEARCHES.load(SeqCst)
}

/// The sessions that are open.
#[unsafe(no_mangle)]
pub extern "C" fn stub_sessions() -> u64 {
    OPEN.load(SeqCst)
}

/// The most signatures at the same time since the last call.
#[unsafe(no_mangle)]
pub extern "C" fn stub_most_in_flight() -> u64 {
    MOST.swap(0, SeqCst)
}

/// The token has these flags too, and answers log-ins with `rv`.
#[unsafe(no_mangle)]
pub extern "C" fn stub_login(flags: CK_FLAGS, rv: CK_RV) {
    FLAGS.store(flags, SeqCst);
    LOGIN.store(rv, SeqCst);
}

/// From now on, or until the call with 0, the key is found by who has logged in only.
#[unsafe(no_mangle)]
pub extern "C" fn stub_hide(hidden: u64) {
    HIDDEN.store(hidden, SeqCst);
}

/// As whom somebody logged in last.
#[unsafe(no_mangle)]
pub extern "C" fn stub_user() -> CK_USER_TYPE {
    USER.load(SeqCst)
}

/// The log-ins so far, good and bad.
#[unsafe(no_mangle)]
pub extern "C" fn stub_logins() -> u64 {
    LOGINS.load(SeqCst)
}

fn ready() -> CK_RV {
    if INITIALISED.load(SeqCst) == 1 { CKR_OK } else { CKR_CRYPTOKI_NOT_INITIALIZED }
}

fn session_is_there(session: CK_SESSION_HANDLE) -> CK_RV {
    match ready() {
        CKR_OK if session < FIRST_SESSION.load(SeqCst) => CKR_SESSION_HANDLE_INVALID,
        other => other,
    }
}

unsafe extern "C" fn initialize(_arguments: CK_VOID_PTR) -> CK_RV {
    if INITIALISED.swap(1, SeqCst) == 1 { CKR_CRYPTOKI_ALREADY_INITIALIZED } else { CKR_OK }
}

unsafe extern "C" fn finalize(_reserved: CK_VOID_PTR) -> CK_RV {
    match FINALIZE.load(SeqCst) {
        1 => std::process::abort(),
        2 => loop {
            std::thread::park();
        },
        _ => {}
    }
    assert_eq!(IN_FLIGHT.load(SeqCst), 0, "C_Finalize while a signature is made");
    stub_restart();
    if INITIALISED.swap(0, SeqCst) == 1 { CKR_OK } else { CKR_CRYPTOKI_NOT_INITIALIZED }
}

unsafe extern "C" fn get_slot_list(_present: CK_BBOOL, list: CK_SLOT_ID_PTR, count: CK_ULONG_PTR) -> CK_RV {
    unsafe {
        if !list.is_null() {
            *list = 3;
        }
        *count = 1 - AWAY.load(SeqCst);
    }
    ready()
}

unsafe extern "C" fn get_slot_info(_slot: CK_SLOT_ID, info: CK_SLOT_INFO_PTR) -> CK_RV {
    unsafe { (*info).slotDescription = [b' '; 64] };
    ready()
}

unsafe extern "C" fn get_token_info(_slot: CK_SLOT_ID, info: CK_TOKEN_INFO_PTR) -> CK_RV {
    unsafe {
        (*info).label = [b' '; 32];
        (&mut (*info).label)[..4].copy_from_slice(b"stub");
        (*info).flags = CKF_TOKEN_INITIALIZED | FLAGS.load(SeqCst);
    }
    ready()
}

unsafe extern "C" fn login(
    session: CK_SESSION_HANDLE,
    user: CK_USER_TYPE,
    _pin: CK_UTF8CHAR_PTR,
    _length: CK_ULONG,
) -> CK_RV {
    LOGINS.fetch_add(1, SeqCst);
    USER.store(user, SeqCst);
    let answer = match session_is_there(session) {
        CKR_OK => LOGIN.load(SeqCst),
        gone => gone,
    };
    if answer == CKR_OK {
        let _ = HIDDEN.compare_exchange(1, 2, SeqCst, SeqCst);
    }
    answer
}

unsafe extern "C" fn logout(session: CK_SESSION_HANDLE) -> CK_RV {
    session_is_there(session)
}

unsafe extern "C" fn open_session(
    _slot: CK_SLOT_ID,
    _flags: CK_FLAGS,
    _application: CK_VOID_PTR,
    _notify: CK_NOTIFY,
    session: CK_SESSION_HANDLE_PTR,
) -> CK_RV {
    if AWAY.load(SeqCst) == 1 {
        return CKR_TOKEN_NOT_PRESENT;
    }
    if OPEN.fetch_add(1, SeqCst) >= LIMIT.load(SeqCst) {
        OPEN.fetch_sub(1, SeqCst);
        return CKR_SESSION_COUNT;
    }
    unsafe { *session = NEXT_SESSION.fetch_add(1, SeqCst) };
    ready()
}

unsafe extern "C" fn close_session(session: CK_SESSION_HANDLE) -> CK_RV {
    let there = session_is_there(session);
    if there == CKR_OK {
        OPEN.fetch_sub(1, SeqCst);
    }
    there
}

fn left(session: CK_SESSION_HANDLE) -> &'static AtomicU64 {
    &LEFT[session as usize % LEFT.len()]
}

/// Everything that is looked for is found once: the key. (Certificates are not.)
unsafe extern "C" fn find_objects_init(
    session: CK_SESSION_HANDLE,
    template: CK_ATTRIBUTE_PTR,
    count: CK_ULONG,
) -> CK_RV {
    SEARCHES.fetch_add(1, SeqCst);
    let template = unsafe { std::slice::from_raw_parts(template, count as usize) };
    let class = template.iter().find(|attribute| attribute.type_ == CKA_CLASS);
    let class = class.map(|attribute| unsafe { *attribute.pValue.cast::<CK_OBJECT_CLASS>() });
    let is_shown = class != Some(CKO_CERTIFICATE) && HIDDEN.load(SeqCst) != 1;
    left(session).store(u64::from(is_shown), SeqCst);
    session_is_there(session)
}

unsafe extern "C" fn find_objects(
    session: CK_SESSION_HANDLE,
    objects: CK_OBJECT_HANDLE_PTR,
    _most: CK_ULONG,
    count: CK_ULONG_PTR,
) -> CK_RV {
    unsafe {
        *objects = KEY;
        *count = left(session).swap(0, SeqCst);
    }
    session_is_there(session)
}

unsafe extern "C" fn find_objects_final(session: CK_SESSION_HANDLE) -> CK_RV {
    session_is_there(session)
}

unsafe extern "C" fn get_attribute_value(
    session: CK_SESSION_HANDLE,
    _object: CK_OBJECT_HANDLE,
    template: CK_ATTRIBUTE_PTR,
    count: CK_ULONG,
) -> CK_RV {
    let template = unsafe { std::slice::from_raw_parts_mut(template, count as usize) };
    for attribute in template {
        let value: &[u8] = match attribute.type_ {
            CKA_KEY_TYPE => &CKK_EC.to_ne_bytes(),
            CKA_EC_PARAMS => &CURVE,
            CKA_EC_POINT => &POINT,
            CKA_ID => b"1",
            CKA_LABEL => b"key",
            _ => {
                attribute.ulValueLen = CK_UNAVAILABLE_INFORMATION;
                continue;
            }
        };
        if !attribute.pValue.is_null() && attribute.ulValueLen as usize >= value.len() {
            unsafe { ptr::copy_nonoverlapping(value.as_ptr(), attribute.pValue.cast(), value.len()) };
        }
        attribute.ulValueLen = value.len() as CK_ULONG;
    }
    session_is_there(session)
}

unsafe extern "C" fn sign_init(
    session: CK_SESSION_HANDLE,
    _mechanism: CK_MECHANISM_PTR,
    key: CK_OBJECT_HANDLE,
) -> CK_RV {
    if key != KEY {
        return CKR_KEY_HANDLE_INVALID;
    }
    session_is_there(session)
}

unsafe extern "C" fn sign(
    session: CK_SESSION_HANDLE,
    data: CK_BYTE_PTR,
    length: CK_ULONG,
    signature: CK_BYTE_PTR,
    size: CK_ULONG_PTR,
) -> CK_RV {
    let there = session_is_there(session);
    if there != CKR_OK {
        return there;
    }
    MOST.fetch_max(IN_FLIGHT.fetch_add(1, SeqCst) + 1, SeqCst);
    let delay = DELAY.load(SeqCst);
    if delay != 0 {
        std::thread::sleep(Duration::from_millis(delay));
    }
    SIGNATURES.fetch_add(1, SeqCst);
    let fails = FAILURES.try_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
    unsafe {
        for half in 0..2 {
            ptr::copy_nonoverlapping(data, signature.add(half * length as usize), length as usize);
        }
        *size = 2 * length;
    }
    IN_FLIGHT.fetch_sub(1, SeqCst);
    if fails { FAILURE.load(SeqCst) } else { CKR_OK }
}

/// Makes nothing: the new key is the key.
unsafe extern "C" fn generate_key_pair(
    session: CK_SESSION_HANDLE,
    _mechanism: CK_MECHANISM_PTR,
    _public: CK_ATTRIBUTE_PTR,
    _public_count: CK_ULONG,
    _private: CK_ATTRIBUTE_PTR,
    _private_count: CK_ULONG,
    public_key: CK_OBJECT_HANDLE_PTR,
    private_key: CK_OBJECT_HANDLE_PTR,
) -> CK_RV {
    GENERATIONS.fetch_add(1, SeqCst);
    if FAILURES.try_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
        return FAILURE.load(SeqCst);
    }
    unsafe {
        *public_key = KEY;
        *private_key = KEY;
    }
    session_is_there(session)
}

/// The module's functions; those that the provider does not call are left out.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    let functions = CK_FUNCTION_LIST {
        version: CK_VERSION { major: 2, minor: 40 },
        C_Initialize: Some(initialize),
        C_Finalize: Some(finalize),
        C_GetSlotList: Some(get_slot_list),
        C_GetSlotInfo: Some(get_slot_info),
        C_GetTokenInfo: Some(get_token_info),
        C_OpenSession: Some(open_session),
        C_CloseSession: Some(close_session),
        C_Login: Some(login),
        C_Logout: Some(logout),
        C_FindObjectsInit: Some(find_objects_init),
        C_FindObjects: Some(find_objects),
        C_FindObjectsFinal: Some(find_objects_final),
        C_GetAttributeValue: Some(get_attribute_value),
        C_SignInit: Some(sign_init),
        C_Sign: Some(sign),
        C_GenerateKeyPair: Some(generate_key_pair),
        ..unsafe { std::mem::zeroed() }
    };
    unsafe { *list = Box::into_raw(Box::new(functions)) };
    CKR_OK
}
