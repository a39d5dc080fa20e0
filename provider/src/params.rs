//! OSSL_PARAM (OSSL_PARAM(3)): reading what a caller sets, answering what it asks for, and describing both.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr;

use strongroom_ffi::pointer;

use crate::bindings::*;
pub use crate::core::END;
use crate::error::{Error, Result};

/// A static, terminated list of parameter descriptions, as `gettable` and `settable` functions return.
#[repr(transparent)]
pub struct Descriptions<const N: usize>([OSSL_PARAM; N]);

// SAFETY: the descriptions hold pointers to string literals and null only, and nobody writes them.
unsafe impl<const N: usize> Sync for Descriptions<N> {}

impl<const N: usize> Descriptions<N> {
    /// A list; the last item must be [`END`].
    pub const fn new(list: [OSSL_PARAM; N]) -> Self {
        Descriptions(list)
    }

    /// As libcrypto wants it.
    pub const fn as_ptr(&self) -> *const OSSL_PARAM {
        self.0.as_ptr()
    }
}

/// Describes a parameter of type `data_type` (one of OSSL_PARAM_INTEGER, …).
pub const fn describe(key: &'static CStr, data_type: u32) -> OSSL_PARAM {
    OSSL_PARAM { key: key.as_ptr(), data_type, data: ptr::null_mut(), data_size: 0, return_size: usize::MAX }
}

/// The parameters that a caller passed in, for the duration of its call.
#[derive(Clone, Copy)]
pub struct Params<'a>(*const OSSL_PARAM, PhantomData<&'a OSSL_PARAM>);

/// One parameter's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// An integer that fits in 64 bits.
    Integer(i64),
    /// A string.
    Text(&'a str),
    /// Bytes.
    Octets(&'a [u8]),
}

impl<'a> Params<'a> {
    /// Wraps a list from libcrypto; null is the empty list.
    ///
    /// # Safety
    ///
    /// `list` is null or a list terminated by a null key, valid and unchanged while `Params` and what is read
    /// through it is used (the duration of the C call).
    pub unsafe fn new(list: *const OSSL_PARAM) -> Self {
        Params(list, PhantomData)
    }

    /// The parameters as libcrypto has them.
    pub fn iter(self) -> impl Iterator<Item = &'a OSSL_PARAM> {
        let mut next = self.0;
        std::iter::from_fn(move || {
            // SAFETY: by the contract of `new`, entries can be read up to the one with a null key.
            let param = unsafe { pointer::reference(next) }.filter(|param| !param.key.is_null())?;
            // SAFETY: this one was not the end, so there is a next.
            next = unsafe { next.add(1) };
            Some(param)
        })
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }

    /// Whether a parameter is in the list.
    pub fn has(self, key: &CStr) -> bool {
        self.find(key).is_some()
    }

    fn find(self, key: &CStr) -> Option<&'a OSSL_PARAM> {
        // SAFETY: keys are NUL-terminated strings (OSSL_PARAM(3)).
        self.iter().find(|param| unsafe { CStr::from_ptr(param.key) } == key)
    }

    /// The value of a parameter, if it is there and of a type that we read.
    pub fn get(self, key: &CStr) -> Option<Value<'a>> {
        let param = self.find(key)?;
        // SAFETY: a parameter's data has data_size bytes of its type (OSSL_PARAM(3)); for the *_PTR types it holds
        // a pointer to such data.
        unsafe {
            match param.data_type {
                OSSL_PARAM_INTEGER => integer(param, true).map(Value::Integer),
                OSSL_PARAM_UNSIGNED_INTEGER => integer(param, false).map(Value::Integer),
                OSSL_PARAM_UTF8_STRING => text(param.data.cast(), param.data_size).map(Value::Text),
                OSSL_PARAM_UTF8_PTR => {
                    let target = pointer::reference(param.data.cast::<*const u8>())?;
                    text(*target, param.data_size).map(Value::Text)
                }
                OSSL_PARAM_OCTET_STRING => {
                    pointer::slice(param.data.cast::<u8>(), param.data_size).map(Value::Octets)
                }
                OSSL_PARAM_OCTET_PTR => {
                    let target = pointer::reference(param.data.cast::<*const u8>())?;
                    pointer::slice(*target, param.data_size).map(Value::Octets)
                }
                _ => None,
            }
        }
    }

    /// The value of a parameter that is set.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] if it cannot be read: what is not understood must not be left out.
    pub fn value(self, key: &CStr) -> Result<Option<Value<'a>>> {
        match self.get(key) {
            None if self.has(key) => Err(Error::Unsupported(format!(
                "parameter {} has a type that is not read",
                key.to_string_lossy()
            ))),
            value => Ok(value),
        }
    }

    /// The text of a parameter that is set.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] if it is none.
    pub fn text(self, key: &CStr) -> Result<Option<&'a str>> {
        match self.value(key)? {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(Error::Unsupported(format!("parameter {} is not a name", key.to_string_lossy()))),
        }
    }

    /// The bytes of a parameter that is set.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] if it is not bytes.
    pub fn octets(self, key: &CStr) -> Result<Option<&'a [u8]>> {
        match self.value(key)? {
            None => Ok(None),
            Some(Value::Octets(bytes)) => Ok(Some(bytes)),
            Some(_) => Err(Error::Unsupported(format!("parameter {} is not bytes", key.to_string_lossy()))),
        }
    }

    /// The bytes of all parameters of this name, one after the other.
    ///
    /// # Errors
    ///
    /// As [`octets`](Self::octets).
    pub fn all_octets(self, key: &CStr) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        for param in self.iter() {
            // Each entry is the beginning of a list.
            let rest = Params(param, PhantomData);
            // SAFETY: keys are NUL-terminated strings (OSSL_PARAM(3)).
            if unsafe { CStr::from_ptr(param.key) } == key {
                all.extend_from_slice(rest.octets(key)?.unwrap_or_default());
            }
        }
        Ok(all)
    }

    /// An unsigned integer of any size, the most significant byte first, without leading zeros.
    pub fn unsigned(self, key: &CStr) -> Option<Vec<u8>> {
        let param = self.find(key).filter(|param| param.data_type == OSSL_PARAM_UNSIGNED_INTEGER)?;
        // SAFETY: its data has data_size bytes, in native byte order (OSSL_PARAM(3)).
        let mut bytes = unsafe { pointer::slice(param.data.cast::<u8>(), param.data_size) }?.to_vec();
        if cfg!(target_endian = "little") {
            bytes.reverse();
        }
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Some(bytes.split_off(zeros))
    }

    /// The raw list, for functions of libcrypto.
    pub fn as_ptr(self) -> *const OSSL_PARAM {
        self.0
    }
}

/// # Safety
///
/// `data` is null or has `size` bytes.
unsafe fn text<'a>(data: *const u8, size: usize) -> Option<&'a str> {
    // SAFETY: by the contract.
    let bytes = unsafe { pointer::slice(data, size) }?;
    // The size may or may not count the terminator.
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    std::str::from_utf8(bytes.get(..end)?).ok()
}

/// # Safety
///
/// `param.data` is null or has `param.data_size` bytes.
unsafe fn integer(param: &OSSL_PARAM, signed: bool) -> Option<i64> {
    // SAFETY: by the contract. Integers are in native byte order, of any size (OSSL_PARAM(3)).
    let bytes = unsafe { pointer::slice(param.data.cast::<u8>(), param.data_size) }?;
    // What OSSL_PARAM_allocate_from_text(3) makes of "0".
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return Some(0) };
    let highest = *if cfg!(target_endian = "little") { last } else { first };
    let fill = if signed && highest & 0x80 != 0 { 0xff } else { 0 };
    let mut wide = [fill; 16];
    // The least significant byte first.
    for at in 0..bytes.len() {
        let byte = *bytes.get(if cfg!(target_endian = "little") { at } else { bytes.len() - 1 - at })?;
        match wide.get_mut(at) {
            Some(target) => *target = byte,
            // Longer integers are read as far as they are only sign.
            None if byte != fill => return None,
            None => {}
        }
    }
    i64::try_from(i128::from_le_bytes(wide)).ok()
}

/// The parameters that a caller wants to have answered.
pub struct Answers(*mut OSSL_PARAM);

impl Answers {
    /// Wraps a list from libcrypto; null is the empty list.
    ///
    /// # Safety
    ///
    /// As [`Params::new`], and the data of each parameter can be written for its size.
    pub unsafe fn new(list: *mut OSSL_PARAM) -> Self {
        Answers(list)
    }

    // Not a borrow of `self`, which is only a pointer: each caller uses one parameter and lets it go.
    fn find<'a>(&self, key: &CStr) -> Option<&'a mut OSSL_PARAM> {
        let mut next = self.0;
        loop {
            // SAFETY: by the contract of `new`, entries can be read and written up to the one with a null key;
            // one is borrowed at a time.
            let param = unsafe { pointer::reference_mut(next) }.filter(|param| !param.key.is_null())?;
            // SAFETY: keys are NUL-terminated strings.
            if unsafe { CStr::from_ptr(param.key) } == key {
                return Some(param);
            }
            // SAFETY: this one was not the end, so there is a next.
            next = unsafe { next.add(1) };
        }
    }

    /// The size of the caller's buffer for a parameter, in bytes, if it was asked for.
    pub fn room(&self, key: &CStr) -> Option<usize> {
        self.find(key).map(|param| param.data_size)
    }

    /// Answers with bytes, if this was asked for; for who asks for a pointer to them, they must live as long as what was
    /// asked. False if the caller's buffer is too small.
    pub fn octets(&self, key: &CStr, value: &[u8]) -> bool {
        let Some(param) = self.find(key) else { return true };
        param.return_size = value.len();
        match param.data_type {
            // SAFETY: data has data_size bytes by the contract of `new`.
            OSSL_PARAM_OCTET_STRING => unsafe { copy(value, param) },
            OSSL_PARAM_OCTET_PTR => {
                // SAFETY: data of this type is a pointer that can be written.
                if let Some(target) = unsafe { pointer::reference_mut(param.data.cast::<*const u8>()) } {
                    *target = value.as_ptr();
                }
                true
            }
            _ => false,
        }
    }

    /// Answers with a static string, if this was asked for. False if the caller's buffer is too small.
    pub fn text(&self, key: &CStr, value: &'static CStr) -> bool {
        let Some(param) = self.find(key) else { return true };
        param.return_size = value.count_bytes();
        match param.data_type {
            OSSL_PARAM_UTF8_PTR => {
                // SAFETY: data of this type is a pointer that can be written; ours is static.
                match unsafe { pointer::reference_mut(param.data.cast::<*const c_char>()) } {
                    Some(target) => {
                        *target = value.as_ptr();
                        true
                    }
                    None => true,
                }
            }
            // SAFETY: data has data_size bytes by the contract of `new`.
            OSSL_PARAM_UTF8_STRING => unsafe {
                // The terminator is written where there is room for it, as OSSL_PARAM_set_utf8_string(3) does.
                if param.data_size > value.count_bytes() {
                    copy(value.to_bytes_with_nul(), param)
                } else {
                    copy(value.to_bytes(), param)
                }
            },
            _ => false,
        }
    }

    /// Answers with an integer, if this was asked for.
    pub fn integer(&self, key: &CStr, value: c_int) -> bool {
        let Some(param) = self.find(key) else { return true };
        if !matches!(param.data_type, OSSL_PARAM_INTEGER | OSSL_PARAM_UNSIGNED_INTEGER) {
            return false;
        }
        param.return_size = size_of::<c_int>();
        // SAFETY: data has data_size bytes by the contract of `new`.
        unsafe {
            match param.data_size {
                8 => copy(&i64::from(value).to_ne_bytes(), param),
                _ => copy(&value.to_ne_bytes(), param),
            }
        }
    }

    /// Answers with a size, if this was asked for.
    pub fn size(&self, key: &CStr, value: usize) -> bool {
        let Some(param) = self.find(key).filter(|param| param.data_type == OSSL_PARAM_UNSIGNED_INTEGER)
        else {
            return self.find(key).is_none();
        };
        param.return_size = size_of::<usize>();
        // SAFETY: data has data_size bytes by the contract of `new`.
        unsafe { copy(&value.to_ne_bytes(), param) }
    }

    /// Answers with a string or, to who asks for an integer, with a number.
    pub fn choice(&self, key: &CStr, name: &'static CStr, number: c_int) -> bool {
        match self.find(key).map(|param| param.data_type) {
            Some(OSSL_PARAM_INTEGER | OSSL_PARAM_UNSIGNED_INTEGER) => self.integer(key, number),
            _ => self.text(key, name),
        }
    }

    /// The raw list, for functions of libcrypto.
    pub fn as_ptr(&self) -> *mut OSSL_PARAM {
        self.0
    }
}

/// What a function says whose answers were all given, or not.
///
/// # Errors
///
/// [`Error::Unsupported`] if they were not.
pub fn answered(all: bool) -> Result<()> {
    match all {
        true => Ok(()),
        false => Err(Error::Unsupported("a parameter's buffer is too small, or of another type".into())),
    }
}

/// Copies `value` to the parameter's data; true without copying if the caller asks for the size only.
///
/// # Safety
///
/// `param.data` is null or has `param.data_size` bytes that can be written.
unsafe fn copy(value: &[u8], param: &mut OSSL_PARAM) -> bool {
    if param.data.is_null() {
        return true;
    }
    // SAFETY: by the contract.
    let Some(buffer) = (unsafe { pointer::slice_mut(param.data.cast::<u8>(), param.data_size) }) else {
        return false;
    };
    match buffer.get_mut(..value.len()) {
        Some(room) => {
            room.copy_from_slice(value);
            true
        }
        None => false,
    }
}

/// A parameter that points to bytes of ours, to pass to a callback or to libcrypto during one call.
pub fn octets(key: &'static CStr, value: &[u8]) -> OSSL_PARAM {
    filled(key, OSSL_PARAM_OCTET_STRING, value.as_ptr().cast(), value.len())
}

/// As [`octets`], a string.
pub fn utf8(key: &'static CStr, value: &CStr) -> OSSL_PARAM {
    filled(key, OSSL_PARAM_UTF8_STRING, value.as_ptr().cast(), value.count_bytes())
}

/// As [`octets`], an integer.
pub fn int(key: &'static CStr, value: &c_int) -> OSSL_PARAM {
    filled(key, OSSL_PARAM_INTEGER, ptr::from_ref(value).cast(), size_of::<c_int>())
}

/// A question for an unsigned integer, which is written into `room`, in native byte order.
pub fn unsigned(key: &'static CStr, room: &mut [u8]) -> OSSL_PARAM {
    filled(key, OSSL_PARAM_UNSIGNED_INTEGER, room.as_mut_ptr().cast_const().cast(), room.len())
}

/// A question for a text, which is written into `room` with its terminator.
pub fn room_for_text(key: &'static CStr, room: &mut [u8]) -> OSSL_PARAM {
    filled(key, OSSL_PARAM_UTF8_STRING, room.as_mut_ptr().cast_const().cast(), room.len())
}

/// A question for an integer, which is written into `room`.
pub fn room_for_integer(key: &'static CStr, room: &mut c_int) -> OSSL_PARAM {
    filled(key, OSSL_PARAM_INTEGER, ptr::from_mut(room).cast_const().cast(), size_of::<c_int>())
}

fn filled(key: &'static CStr, data_type: u32, data: *const c_void, data_size: usize) -> OSSL_PARAM {
    OSSL_PARAM { key: key.as_ptr(), data_type, data: data.cast_mut(), data_size, return_size: usize::MAX }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_was_filled_in() {
        let number: c_int = -1;
        let list = [utf8(c"digest", c"SHA256"), int(c"saltlen", &number), octets(c"bytes", &[1, 2]), END];
        // SAFETY: a terminated list of locals.
        let params = unsafe { Params::new(list.as_ptr()) };
        assert_eq!(params.get(c"digest"), Some(Value::Text("SHA256")));
        assert_eq!(params.get(c"saltlen"), Some(Value::Integer(-1)));
        assert_eq!(params.get(c"bytes"), Some(Value::Octets(&[1, 2])));
        assert_eq!(params.get(c"other"), None);
        // SAFETY: null is the empty list.
        assert!(!unsafe { Params::new(ptr::null()) }.has(c"digest"));
    }

    #[test]
    fn integers_of_every_size() {
        for (bytes, signed, value) in [
            (&[6u8][..], true, Some(6)),
            (&[0xff], true, Some(-1)),
            (&[0xff], false, Some(255)),
            (&[0xfe, 0xff], true, Some(-2)),
            (&[0xff; 8], false, None),
            (&[0xff; 8], true, Some(-1)),
            (&[7, 0, 0, 0, 0, 0, 0, 0, 0], false, Some(7)),
            (&[0xff; 20], true, Some(-1)),
            (&[], true, Some(0)),
        ] {
            let param = OSSL_PARAM { data_size: bytes.len(), data: bytes.as_ptr().cast_mut().cast(), ..END };
            // SAFETY: the data has its size.
            assert_eq!(unsafe { integer(&param, signed) }, value, "{bytes:?} {signed}");
        }
    }

    #[test]
    fn large_integers_are_bytes() {
        let mut bytes = [0u8; 20];
        bytes[0] = 1;
        bytes[9] = 2;
        let mut list = [octets(c"serial", &bytes), END];
        list[0].data_type = OSSL_PARAM_UNSIGNED_INTEGER;
        // SAFETY: a terminated list of locals.
        let params = unsafe { Params::new(list.as_ptr()) };
        assert_eq!(params.unsigned(c"serial").unwrap(), [2, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(params.unsigned(c"other"), None);
    }

    #[test]
    fn answers_respect_the_size() {
        let mut buffer = [0u8; 4];
        let mut list = [octets(c"id", &[]), END];
        list[0].data = buffer.as_mut_ptr().cast();
        list[0].data_size = 4;
        // SAFETY: a terminated list of locals with the right sizes.
        let answers = unsafe { Answers::new(list.as_mut_ptr()) };
        assert!(answers.octets(c"id", &[1, 2, 3]));
        assert!(!answers.octets(c"id", &[0; 5]));
        assert!(answers.octets(c"not asked", &[0; 5]));
        assert_eq!((buffer, list[0].return_size), ([1, 2, 3, 0], 5));
    }
}
