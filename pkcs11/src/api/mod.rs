//! What the C functions do, in the order of the standard's chapters.
//!
//! Each function here has the name and the parameters of a C function, gets the process's state in front, and
//! returns the `CKR_` code as an error. [`crate::entry`] holds the table that makes C functions of them.
//!
//! # Safety
//!
//! All of them read and write through the application's pointers, which the standard obliges it to get right:
//! a pointer that is not null is valid for the length that stands beside it, for the duration of the call.
//! Null is checked here.

// The contract is the same for all, and stands above.
#![allow(clippy::missing_safety_doc)]

pub mod authentication;
pub mod cipher;
pub mod copy;
pub mod decrypt;
mod derivation;
pub mod derive;
pub mod digest;
pub mod dual;
pub mod encapsulation;
pub mod encrypt;
pub mod events;
pub mod find;
pub mod flow;
pub mod general;
pub mod init_token;
pub mod keys;
pub mod mac;
pub mod message;
pub mod message_signature;
pub mod nonce;
pub mod object;
pub mod operation_state;
pub mod pin;
pub mod random;
pub mod recover;
pub mod session;
pub mod sign;
pub mod signature;
pub mod slot;
pub mod stream;
pub mod verify;
pub mod verify_signature;
pub mod wrap;

use cryptoki_sys::*;
use strongroom_ffi::output::{self, Length, Output};
use strongroom_ffi::pointer;
use zeroize::Zeroizing;

use crate::error::Outcome;

/// Borrows the application's bytes.
unsafe fn input<'a>(pointer: *const CK_BYTE, length: CK_ULONG) -> Outcome<&'a [u8]> {
    // SAFETY: by the module's contract.
    unsafe { pointer::slice(pointer, length.to_usize()) }.ok_or(CKR_ARGUMENTS_BAD)
}

/// Borrows what the application wants written.
unsafe fn place<'a, T>(pointer: *mut T) -> Outcome<&'a mut T> {
    // SAFETY: by the module's contract.
    unsafe { pointer::reference_mut(pointer) }.ok_or(CKR_ARGUMENTS_BAD)
}

/// Borrows what the application passes by pointer.
unsafe fn argument<'a, T>(pointer: *const T) -> Outcome<&'a T> {
    // SAFETY: by the module's contract.
    unsafe { pointer::reference(pointer) }.ok_or(CKR_ARGUMENTS_BAD)
}

/// Room for bytes that are wiped, as many as the application says.
///
/// # Errors
///
/// `CKR_HOST_MEMORY` if there is not so much memory.
fn room(size: usize) -> Outcome<Zeroizing<Vec<u8>>> {
    let mut room = Zeroizing::new(Vec::new());
    room.try_reserve_exact(size).map_err(|_| CKR_HOST_MEMORY)?;
    Ok(room)
}

/// A copy of the application's bytes, which is wiped; its errors are those of [`room`].
fn copied(bytes: &[u8]) -> Outcome<Zeroizing<Vec<u8>>> {
    let mut copy = room(bytes.len())?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// Writes bytes to the application's buffer. True if they are there, false if only the size was asked for.
unsafe fn write(bytes: &[u8], buffer: *mut CK_BYTE, length: *mut CK_ULONG) -> Outcome<bool> {
    // SAFETY: by the module's contract.
    match unsafe { output::write(bytes, buffer, length) } {
        Some(Output::Written) => Ok(true),
        Some(Output::SizeOnly) => Ok(false),
        Some(Output::TooSmall) => Err(CKR_BUFFER_TOO_SMALL),
        None => Err(CKR_ARGUMENTS_BAD),
    }
}

/// Whether the application's buffer takes `size` bytes, before anything is done to fill it. False if only the
/// size was asked for; it is then written, as it is with an error.
unsafe fn has_room(size: usize, buffer: *mut CK_BYTE, length: *mut CK_ULONG) -> Outcome<bool> {
    // SAFETY: by the module's contract.
    let length = unsafe { place(length) }?;
    let room = length.to_usize();
    if !buffer.is_null() && room >= size {
        return Ok(true);
    }
    *length = CK_ULONG::from_usize(size);
    if buffer.is_null() { Ok(false) } else { Err(CKR_BUFFER_TOO_SMALL) }
}

/// Writes numbers to the application's array, as [`write()`] does bytes; `count` is in items.
unsafe fn write_list(items: &[CK_ULONG], array: *mut CK_ULONG, count: *mut CK_ULONG) -> Outcome {
    // SAFETY: by the module's contract.
    let count = unsafe { place(count) }?;
    let room = count.to_usize();
    *count = CK_ULONG::from_usize(items.len());
    if array.is_null() {
        return Ok(());
    }
    if room < items.len() {
        return Err(CKR_BUFFER_TOO_SMALL);
    }
    // SAFETY: by the module's contract, for `room` items, which are enough.
    let array = unsafe { pointer::slice_mut(array, items.len()) }.ok_or(CKR_ARGUMENTS_BAD)?;
    array.copy_from_slice(items);
    Ok(())
}

/// A fixed field of text, padded with blanks, cut at a character's boundary.
fn padded<const SIZE: usize>(text: &str) -> [CK_UTF8CHAR; SIZE] {
    let mut field = [b' '; SIZE];
    let text = text.get(..text.floor_char_boundary(SIZE)).unwrap_or_default();
    for (place, byte) in field.iter_mut().zip(text.bytes()) {
        *place = byte;
    }
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_padded_and_cut_between_characters() {
        assert_eq!(&padded::<5>("ab"), b"ab   ");
        assert_eq!(&padded::<2>("abc"), b"ab");
        assert_eq!(&padded::<2>("aé"), b"a ");
    }

    #[test]
    fn lists_follow_the_size_convention() {
        let mut count = 9;
        let mut array = [0; 2];
        // SAFETY: locals, and a null array.
        unsafe {
            assert_eq!(write_list(&[1, 2], std::ptr::null_mut(), &mut count), Ok(()));
            assert_eq!(count, 2);
            count = 1;
            assert_eq!(write_list(&[1, 2], array.as_mut_ptr(), &mut count), Err(CKR_BUFFER_TOO_SMALL));
            assert_eq!((count, array), (2, [0, 0]));
            assert_eq!(write_list(&[1, 2], array.as_mut_ptr(), &mut count), Ok(()));
            assert_eq!(array, [1, 2]);
        }
    }
}
