//! What the fuzz targets (fuzz/targets) reach of the provider: what its callers and its tokens hand to it. Only built for them.

use std::cell::RefCell;
use std::ffi::{CStr, c_int};
use std::ptr;
use std::sync::OnceLock;

use cryptoki_sys::*;

use crate::bindings::*;
use crate::dispatch::scheme::Scheme;
use crate::openssl::Context;
use crate::params::{Answers, END, Params};
use crate::token::KeyKind;
use crate::token::fuzz::public_half;

/// The names that are looked for, and one that is not.
const KEYS: [&CStr; 14] = [
    c"digest",
    c"mgf1-digest",
    c"pad-mode",
    c"saltlen",
    c"instance",
    c"context-string",
    c"nonce-type",
    c"deterministic",
    c"message-encoding",
    c"mu",
    c"bits",
    c"group",
    c"pub",
    c"unknown",
];

const GUARD: u8 = 0xa5;

/// Parameters as an application may set them, and as it may ask for them: `data` says types, sizes and contents.
pub fn params(data: &[u8]) {
    let mut rest = data;
    // Each value has memory of its own, exactly as long as it says.
    let mut values: Vec<Box<[u8]>> = Vec::new();
    let mut pointers: Vec<Box<*mut u8>> = Vec::new();
    let mut list = Vec::new();
    while let Some((&[key, kind, size, null], after)) = rest.split_first_chunk() {
        let (value, after) = after.split_at(usize::from(size).min(after.len()));
        rest = after;
        let mut value: Box<[u8]> = value.into();
        let data_type = u32::from(kind % 9);
        let pointer = if null == 0 { ptr::null_mut() } else { value.as_mut_ptr() };
        let mut holder = Box::new(pointer);
        let is_indirect = matches!(data_type, OSSL_PARAM_UTF8_PTR | OSSL_PARAM_OCTET_PTR);
        list.push(OSSL_PARAM {
            key: KEYS.get(usize::from(key) % KEYS.len()).unwrap_or(&c"").as_ptr(),
            data_type,
            data: if is_indirect { ptr::from_mut(&mut *holder).cast() } else { pointer.cast() },
            data_size: value.len(),
            return_size: usize::MAX,
        });
        values.push(value);
        pointers.push(holder);
    }
    list.push(END);
    // SAFETY: terminated; each parameter has memory of its own of the size that it says.
    let (params, answers) = unsafe { (Params::new(list.as_ptr()), Answers::new(list.as_mut_ptr())) };
    for key in KEYS {
        let _ = (params.get(key), params.text(key), params.value(key), params.unsigned(key));
    }
    for kind in KeyKind::ALL {
        let _ = Scheme::default().set(*kind, params);
    }
    for (at, key) in KEYS.into_iter().enumerate() {
        match at % 4 {
            0 => drop(answers.octets(key, data.get(..data.len().min(200)).unwrap_or_default())),
            1 => drop(answers.text(key, c"a text")),
            2 => drop(answers.integer(key, c_int::MIN)),
            _ => drop(answers.choice(key, c"a choice", 6)),
        }
    }
    drop((list, values, pointers));
}

thread_local! {
    /// What the token of the fuzzer answers from.
    static ANSWERS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A byte of the answers.
fn answer() -> Option<u8> {
    ANSWERS.with_borrow_mut(Vec::pop)
}

/// Attributes of a token that lies: about sizes, types, what is there, and with any content.
pub fn attributes(data: &[u8]) {
    static CONTEXT: OnceLock<Context> = OnceLock::new();
    let Ok(()) = crate::libcrypto::resolve(None) else { return };
    #[allow(clippy::expect_used)] // only here
    let context = CONTEXT.get_or_init(|| Context::new().expect("memory"));
    ANSWERS.set(data.iter().rev().copied().collect());
    public_half(&FUNCTIONS, context);
}

static FUNCTIONS: CK_FUNCTION_LIST = CK_FUNCTION_LIST {
    version: CK_VERSION { major: 2, minor: 40 },
    C_GetAttributeValue: Some(get_attribute_value),
    C_FindObjectsInit: Some(find_objects_init),
    C_FindObjects: Some(find_objects),
    C_FindObjectsFinal: Some(find_objects_final),
    C_OpenSession: Some(open_session),
    C_CloseSession: Some(find_objects_final),
    // SAFETY: the other functions are null.
    ..unsafe { std::mem::zeroed() }
};

unsafe extern "C" fn get_attribute_value(
    _session: CK_SESSION_HANDLE,
    _object: CK_OBJECT_HANDLE,
    query: CK_ATTRIBUTE_PTR,
    count: CK_ULONG,
) -> CK_RV {
    // SAFETY: the provider's own list, which is what is tested: that each value has the room that it says.
    let query = unsafe { std::slice::from_raw_parts_mut(query, count as usize) };
    for attribute in query {
        let (Some(how), Some(size)) = (answer(), answer()) else { return CKR_OK };
        let room = if attribute.pValue.is_null() { 0 } else { attribute.ulValueLen as usize };
        for at in 0..room {
            // SAFETY: within the room.
            unsafe { attribute.pValue.cast::<u8>().add(at).write(answer().unwrap_or(GUARD)) };
        }
        attribute.ulValueLen = match how % 8 {
            0 => CK_UNAVAILABLE_INFORMATION,
            1 => CK_ULONG::MAX / 2,
            // More than is taken.
            2 => (1 << 20) + 1,
            3 => 8,
            _ => CK_ULONG::from(size),
        };
    }
    match answer() {
        Some(0) => CKR_ATTRIBUTE_SENSITIVE,
        Some(1) => CKR_ATTRIBUTE_TYPE_INVALID,
        Some(2) => CKR_BUFFER_TOO_SMALL,
        Some(3) => CKR_SESSION_HANDLE_INVALID,
        _ => CKR_OK,
    }
}

unsafe extern "C" fn find_objects_init(
    _session: CK_SESSION_HANDLE,
    _template: CK_ATTRIBUTE_PTR,
    _count: CK_ULONG,
) -> CK_RV {
    CKR_OK
}

unsafe extern "C" fn find_objects(
    _session: CK_SESSION_HANDLE,
    objects: CK_OBJECT_HANDLE_PTR,
    most: CK_ULONG,
    count: CK_ULONG_PTR,
) -> CK_RV {
    // SAFETY: room for `most` handles, and for their number, by PKCS#11.
    unsafe {
        for at in 0..most as usize {
            objects.add(at).write(CK_ULONG::from(answer().unwrap_or(0)));
        }
        *count = match answer() {
            Some(0xff) => CK_ULONG::MAX,
            Some(found) => CK_ULONG::from(found % 4),
            None => 0,
        };
    }
    CKR_OK
}

unsafe extern "C" fn find_objects_final(_session: CK_SESSION_HANDLE) -> CK_RV {
    CKR_OK
}

unsafe extern "C" fn open_session(
    _slot: CK_SLOT_ID,
    _flags: CK_FLAGS,
    _application: CK_VOID_PTR,
    _notify: CK_NOTIFY,
    session: CK_SESSION_HANDLE_PTR,
) -> CK_RV {
    // SAFETY: room for one handle, by PKCS#11.
    unsafe { *session = 1 };
    CKR_OK
}
