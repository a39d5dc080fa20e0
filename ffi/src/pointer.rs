//! From C's pointers to references and slices.

use std::ffi::{CStr, c_char, c_ulong};
use std::slice;

/// Borrows `length` items at `pointer`. Null is an empty slice if `length` is 0 and `None` otherwise; so is a
/// length that no object can have.
///
/// # Safety
///
/// If `pointer` is not null it points to `length` initialised items that nobody writes for the lifetime `'a`,
/// which the caller chooses no longer than the C call.
pub unsafe fn slice<'a, T>(pointer: *const T, length: usize) -> Option<&'a [T]> {
    if length == 0 {
        return Some(&[]);
    }
    if pointer.is_null() || !pointer.is_aligned() || length > isize::MAX as usize / size_of::<T>().max(1) {
        return None;
    }
    // SAFETY: not null, aligned and of a possible length (above); valid and unchanging by the contract.
    Some(unsafe { slice::from_raw_parts(pointer, length) })
}

/// As [`slice()`], to write.
///
/// # Safety
///
/// If `pointer` is not null it points to `length` initialised items that only the caller uses for `'a`.
pub unsafe fn slice_mut<'a, T>(pointer: *mut T, length: usize) -> Option<&'a mut [T]> {
    if length == 0 {
        return Some(&mut []);
    }
    if pointer.is_null() || !pointer.is_aligned() || length > isize::MAX as usize / size_of::<T>().max(1) {
        return None;
    }
    // SAFETY: not null, aligned and of a possible length (above); valid and exclusive by the contract.
    Some(unsafe { slice::from_raw_parts_mut(pointer, length) })
}

/// Borrows what `pointer` points to; `None` for null.
///
/// # Safety
///
/// If not null and aligned, `pointer` points to a `T` that nobody writes for `'a`.
pub unsafe fn reference<'a, T>(pointer: *const T) -> Option<&'a T> {
    if !pointer.is_aligned() {
        return None;
    }
    // SAFETY: aligned; null becomes None; valid by the contract.
    unsafe { pointer.as_ref() }
}

/// Borrows what `pointer` points to, to write; `None` for null.
///
/// # Safety
///
/// If not null and aligned, `pointer` points to a `T` that only the caller uses for `'a`.
pub unsafe fn reference_mut<'a, T>(pointer: *mut T) -> Option<&'a mut T> {
    if !pointer.is_aligned() {
        return None;
    }
    // SAFETY: aligned; null becomes None; valid and exclusive by the contract.
    unsafe { pointer.as_mut() }
}

/// Copies the number at an address that a caller may have given for something else. The kernel reads it and says whether there is memory,
/// so any address may be asked for; `None` if there is none, or if it is not aligned.
pub fn number_at(address: usize) -> Option<c_ulong> {
    let from = std::ptr::without_provenance_mut::<c_ulong>(address);
    if !from.is_aligned() {
        return None;
    }
    let mut number: c_ulong = 0;
    let size = size_of_val(&number);
    let to = libc::iovec { iov_base: std::ptr::from_mut(&mut number).cast(), iov_len: size };
    let from = libc::iovec { iov_base: from.cast(), iov_len: size };
    // SAFETY: the kernel writes to a local number of this size, and reads of this very process what is mapped, or answers with EFAULT.
    let read = unsafe { libc::process_vm_readv(libc::getpid(), &to, 1, &from, 1, 0) };
    (usize::try_from(read) == Ok(size)).then_some(number)
}

/// Borrows a C string as UTF-8; `None` for null or for other bytes.
///
/// # Safety
///
/// If not null, `pointer` points to a NUL-terminated string that nobody writes for `'a`.
pub unsafe fn text<'a>(pointer: *const c_char) -> Option<&'a str> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: not null; NUL-terminated by the contract.
    unsafe { CStr::from_ptr(pointer) }.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_impossible_lengths_are_refused() {
        // SAFETY: null and an impossible length are what the function checks for; it reads nothing.
        unsafe {
            assert_eq!(slice::<u8>(std::ptr::null(), 0), Some(&[][..]));
            assert_eq!(slice::<u8>(std::ptr::null(), 1), None);
            assert_eq!(slice::<u32>([0u32].as_ptr(), usize::MAX / 2), None);
            assert_eq!(reference::<u64>(std::ptr::null()), None);
            assert_eq!(text(std::ptr::null()), None);
        }
    }

    #[test]
    fn valid_memory_is_borrowed() {
        let bytes = [1u8, 2, 3];
        // SAFETY: the array and the literal live longer than the borrow.
        unsafe {
            assert_eq!(slice(bytes.as_ptr(), 3), Some(&bytes[..]));
            assert_eq!(text(c"abc".as_ptr()), Some("abc"));
        }
    }
}
