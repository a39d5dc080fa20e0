//! C's output buffers: asked with null for the size, then called again with a buffer.

/// What became of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// The bytes are in the caller's buffer.
    Written,
    /// The caller asked for the size only (its buffer is null).
    SizeOnly,
    /// The caller's buffer is too small; the size that is needed was reported.
    TooSmall,
}

/// Copies `data` to `buffer`, of `*length` bytes, and sets `*length` to the size of `data`. `None` if `length`
/// is null. `N` is the C API's type for lengths (`CK_ULONG` in PKCS#11, `size_t` in OpenSSL; both are 64 bits
/// where we run).
///
/// # Safety
///
/// `length`, if not null, can be read and written; `buffer`, if not null, can be written for `*length` bytes.
pub unsafe fn write<N: Length>(data: &[u8], buffer: *mut u8, length: *mut N) -> Option<Output> {
    // SAFETY: by the contract.
    let length = unsafe { crate::pointer::reference_mut(length) }?;
    let room = length.to_usize();
    *length = N::from_usize(data.len());
    if buffer.is_null() {
        return Some(Output::SizeOnly);
    }
    if room < data.len() {
        return Some(Output::TooSmall);
    }
    // SAFETY: `buffer` has `room` bytes by the contract, which is enough; `data` is ours and cannot overlap it.
    unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), buffer, data.len()) };
    Some(Output::Written)
}

/// A C API's type for lengths.
pub trait Length: Copy {
    /// As Rust's.
    fn to_usize(self) -> usize;
    /// From Rust's.
    fn from_usize(length: usize) -> Self;
}

impl Length for u64 {
    fn to_usize(self) -> usize {
        usize::try_from(self).unwrap_or(usize::MAX)
    }
    fn from_usize(length: usize) -> Self {
        length as u64
    }
}

impl Length for usize {
    fn to_usize(self) -> usize {
        self
    }
    fn from_usize(length: usize) -> Self {
        length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_query_then_buffer() {
        let data = [1u8, 2, 3];
        let mut length = 99usize;
        let mut buffer = [0u8; 4];
        // SAFETY: pointers to locals; `length` never exceeds the buffer's size when a buffer is given.
        unsafe {
            assert_eq!(write(&data, std::ptr::null_mut(), &mut length), Some(Output::SizeOnly));
            assert_eq!(length, 3);
            length = 2;
            assert_eq!(write(&data, buffer.as_mut_ptr(), &mut length), Some(Output::TooSmall));
            assert_eq!((length, buffer), (3, [0; 4]));
            length = 4;
            assert_eq!(write(&data, buffer.as_mut_ptr(), &mut length), Some(Output::Written));
            assert_eq!((length, buffer), (3, [1, 2, 3, 0]));
            assert_eq!(write::<usize>(&data, buffer.as_mut_ptr(), std::ptr::null_mut()), None);
        }
    }
}
