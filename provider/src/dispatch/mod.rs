//! The functions that libcrypto calls (provider-base(7) and its sisters), a file for each operation.
//!
//! Each is `unsafe extern "C"`, runs inside the [`fence`](crate::fence::fence), and does no more than turn C's
//! arguments into Rust's and an error into an entry on the queue and the failure value.

pub mod asym_cipher;
pub mod cipher;
pub mod decoder;
pub mod digest;
pub mod encapsulation;
pub mod encoder;
pub mod kdf;
pub mod key_exchange;
pub mod keymgmt;
pub mod mac;
pub mod provider;
pub mod random;
pub mod rsa_decryption;
pub mod scheme;
pub mod secret_keys;
pub mod signature;
pub mod store;

mod algorithm_identifier;
mod collected;
mod generate;
mod operation;
mod passphrase;
pub mod properties;
mod search;

use std::ffi::{CStr, c_uchar, c_void};
use std::sync::Arc;

use crate::bindings::OSSL_ALGORITHM;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::token::{Functions, KeyKind};

/// Makes a dispatch table: function id, its type in core_dispatch.h, our function. The type is checked.
macro_rules! table {
    ($($id:ident: $kind:ident = $function:expr),* $(,)?) => {
        &[
            $($crate::bindings::OSSL_DISPATCH {
                function_id: $crate::bindings::$id as std::ffi::c_int,
                // SAFETY: from one function pointer type to another; libcrypto casts it back by its id.
                function: unsafe {
                    std::mem::transmute::<$crate::bindings::$kind, Option<unsafe extern "C" fn()>>(Some($function))
                },
            },)*
            $crate::bindings::OSSL_DISPATCH { function_id: 0, function: None },
        ]
    };
}
use table;

/// A terminated list of algorithms.
#[repr(transparent)]
pub struct Algorithms<const N: usize>([OSSL_ALGORITHM; N]);

// SAFETY: it holds pointers to statics only, and nobody writes them.
unsafe impl<const N: usize> Sync for Algorithms<N> {}

impl<const N: usize> Algorithms<N> {
    /// A list with one entry for each key type that has the operation (OSSL_OP_SIGNATURE, …). `first` stands before them, and `N` is
    /// large enough for all and the end.
    const fn of_key_types(
        first: &[OSSL_ALGORITHM],
        tables: &[(KeyKind, Functions)],
        operation: u32,
        properties: &'static CStr,
    ) -> Self {
        let mut list = [const { LAST }; N];
        let (mut from, mut to) = (0, 0);
        // In a constant, where iterators cannot be used, and out of bounds would not compile.
        #[allow(clippy::indexing_slicing)]
        {
            while to < first.len() {
                list[to] = first[to];
                to += 1;
            }
            while from < tables.len() {
                let (kind, table) = tables[from];
                let facts = kind.facts();
                if let Some(names) = facts.of_operation(operation) {
                    list[to] = algorithm(names.all, properties, table, facts.description);
                    to += 1;
                }
                from += 1;
            }
        }
        assert!(to < N, "there is room for the end of the list");
        Algorithms(list)
    }

    /// As libcrypto wants it.
    pub const fn as_ptr(&self) -> *const OSSL_ALGORITHM {
        self.0.as_ptr()
    }
}

/// How long a list with an entry for each key type is at most, with its end.
const MAX_LIST: usize = KeyKind::ALL.len() + 1;

/// An entry of [`Algorithms`].
const fn algorithm(
    names: &'static CStr,
    properties: &'static CStr,
    table: &'static [crate::bindings::OSSL_DISPATCH],
    description: &'static CStr,
) -> OSSL_ALGORITHM {
    OSSL_ALGORITHM {
        algorithm_names: names.as_ptr(),
        property_definition: properties.as_ptr(),
        implementation: table.as_ptr(),
        algorithm_description: description.as_ptr(),
    }
}

/// The end of [`Algorithms`].
const LAST: OSSL_ALGORITHM = OSSL_ALGORITHM {
    algorithm_names: std::ptr::null(),
    property_definition: std::ptr::null(),
    implementation: std::ptr::null(),
    algorithm_description: std::ptr::null(),
};

/// Borrows a key from libcrypto's pointer to it.
///
/// # Safety
///
/// `keydata` is null or a pointer that a keymgmt of ours returned and that was not freed.
unsafe fn key<'a>(keydata: *const c_void) -> Option<&'a Key> {
    // SAFETY: by the contract it is null or a live Key.
    unsafe { strongroom_ffi::pointer::reference(keydata.cast::<Key>()) }
}

/// Data that libcrypto passes; null is an error unless there is none.
///
/// # Safety
///
/// `data` is null or can be read for `length` bytes during this call.
unsafe fn input<'a>(data: *const c_uchar, length: usize) -> Result<&'a [u8]> {
    // SAFETY: by the contract.
    unsafe { strongroom_ffi::pointer::slice(data, length) }
        .ok_or_else(|| Error::Unsupported("data at a null pointer".into()))
}

/// Shares a key that libcrypto holds.
///
/// # Safety
///
/// As [`key`].
unsafe fn share(keydata: *const c_void) -> Option<Arc<Key>> {
    let pointer = keydata.cast::<Key>();
    if pointer.is_null() {
        return None;
    }
    // SAFETY: made by Arc::into_raw, alive by the contract; the reference that is added is the one that is returned.
    unsafe {
        Arc::increment_strong_count(pointer);
        Some(Arc::from_raw(pointer))
    }
}
