//! The functions that libcrypto calls (provider-base(7) and its sisters), a file for each operation.
//!
//! Each is `unsafe extern "C"`, runs inside the [`fence`](strongroom_ffi::fence()), and does no more than turn C's
//! arguments into Rust's and an error into an entry on the queue and the failure value.

pub mod decoder;
pub mod keymgmt;
pub mod provider;
pub mod signature;
pub mod store;

mod algorithm_identifier;
mod passphrase;
mod scheme;

use std::ffi::{CStr, c_void};
use std::sync::Arc;

use crate::bindings::OSSL_ALGORITHM;
use crate::key::Key;
use crate::token::KeyKind;

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
    /// As libcrypto wants it.
    pub const fn as_ptr(&self) -> *const OSSL_ALGORITHM {
        self.0.as_ptr()
    }
}

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

/// A key type as a type, so that one function can be written for all and made for each: libcrypto calls
/// `new` of the RSA keymgmt without saying that it wants RSA.
pub trait Kind {
    /// The type.
    const KIND: KeyKind;
}

/// RSA
pub enum Rsa {}
/// EC
pub enum Ec {}
/// Ed25519
pub enum Ed25519 {}

impl Kind for Rsa {
    const KIND: KeyKind = KeyKind::Rsa;
}
impl Kind for Ec {
    const KIND: KeyKind = KeyKind::Ec;
}
impl Kind for Ed25519 {
    const KIND: KeyKind = KeyKind::Ed25519;
}

impl KeyKind {
    /// The key type's name in libcrypto, as its keymgmt has it.
    pub fn name(self) -> &'static CStr {
        match self {
            KeyKind::Rsa => c"RSA",
            KeyKind::Ec => c"EC",
            KeyKind::Ed25519 => c"ED25519",
        }
    }

    /// The name of its signature algorithm.
    pub fn signature_name(self) -> &'static CStr {
        match self {
            KeyKind::Rsa => c"RSA",
            KeyKind::Ec => c"ECDSA",
            KeyKind::Ed25519 => c"ED25519",
        }
    }
}

/// Borrows a key from libcrypto's pointer to it.
///
/// # Safety
///
/// `keydata` is null or a pointer that a keymgmt of ours returned and that was not freed.
unsafe fn key<'a>(keydata: *const c_void) -> Option<&'a Key> {
    // SAFETY: by the contract it is null or a live Key.
    unsafe { strongroom_ffi::pointer::reference(keydata.cast::<Key>()) }
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
