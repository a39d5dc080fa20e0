//! libcrypto's side of the interface: the functions that it gives a provider (provider-base(7), "Core
//! functions").

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

use crate::bindings::*;
use crate::error::Error;
use crate::trace;

/// The upcalls that this provider uses, and the handle that they take.
#[derive(Debug, Clone, Copy)]
pub struct Core {
    handle: *const OSSL_CORE_HANDLE,
    new_error: OSSL_FUNC_core_new_error_fn,
    vset_error: OSSL_FUNC_core_vset_error_fn,
    get_params: OSSL_FUNC_core_get_params_fn,
    bio_gets: OSSL_FUNC_BIO_gets_fn,
    bio_read_ex: OSSL_FUNC_BIO_read_ex_fn,
    bio_write_ex: OSSL_FUNC_BIO_write_ex_fn,
}

// SAFETY: the handle is an opaque token of libcrypto's, valid as long as the provider is loaded, and its upcalls
// may be called from any thread.
unsafe impl Send for Core {}
// SAFETY: as above.
unsafe impl Sync for Core {}

impl Core {
    /// Takes the upcalls that this provider knows from libcrypto's table.
    ///
    /// # Safety
    ///
    /// `handle` and `table` are what libcrypto passed to `OSSL_provider_init`: the table ends with a function id
    /// of 0, and each entry's function has the type that core_dispatch.h gives its id.
    pub unsafe fn new(handle: *const OSSL_CORE_HANDLE, table: *const OSSL_DISPATCH) -> Self {
        let mut core = Core {
            handle,
            new_error: None,
            vset_error: None,
            get_params: None,
            bio_gets: None,
            bio_read_ex: None,
            bio_write_ex: None,
        };
        let mut entry = table;
        /// As the type that core_dispatch.h gives an id.
        ///
        /// # Safety
        ///
        /// `F` is that type: an `Option` of a function pointer.
        unsafe fn cast<F>(function: Option<unsafe extern "C" fn()>) -> F {
            const { assert!(size_of::<F>() == size_of::<Option<unsafe extern "C" fn()>>()) };
            // SAFETY: by the contract; both are nullable function pointers.
            unsafe { std::mem::transmute_copy(&function) }
        }
        // SAFETY: by the contract each entry up to the one with id 0 can be read, and has the type of its id.
        unsafe {
            while !entry.is_null() && (*entry).function_id != 0 {
                let function = (*entry).function;
                match (*entry).function_id as u32 {
                    OSSL_FUNC_CORE_NEW_ERROR => core.new_error = cast(function),
                    OSSL_FUNC_CORE_VSET_ERROR => core.vset_error = cast(function),
                    OSSL_FUNC_CORE_GET_PARAMS => core.get_params = cast(function),
                    OSSL_FUNC_BIO_GETS => core.bio_gets = cast(function),
                    OSSL_FUNC_BIO_READ_EX => core.bio_read_ex = cast(function),
                    OSSL_FUNC_BIO_WRITE_EX => core.bio_write_ex = cast(function),
                    _ => {}
                }
                entry = entry.add(1);
            }
        }
        core
    }

    /// Puts an error on the calling thread's queue.
    pub fn raise(&self, error: &Error) {
        trace::error(error);
        let (Some(new_error), Some(vset_error)) = (self.new_error, self.vset_error) else { return };
        // The text becomes a printf format without conversions, so that no argument is read and the va_list can
        // be an empty one (Rust cannot make one). In every ABI of Linux a va_list parameter is passed as a
        // pointer, or as a structure behind one, of at most 32 bytes.
        let format = error.to_string().replace('%', "%%").replace('\0', " ");
        let Ok(format) = CString::new(format) else { return };
        let mut no_arguments = [0u64; 8];
        // SAFETY: the handle is libcrypto's own; the format is NUL-terminated and has no conversion, so the
        // list is never read.
        unsafe {
            new_error(self.handle);
            vset_error(self.handle, error.reason(), format.as_ptr(), no_arguments.as_mut_ptr().cast());
        }
    }

    /// Reads a setting of the provider's section in openssl.cnf, or one of libcrypto's own parameters.
    pub fn setting(&self, name: &CStr) -> Option<String> {
        let get_params = self.get_params?;
        let mut value: *const c_char = ptr::null();
        let mut request = [
            OSSL_PARAM {
                key: name.as_ptr(),
                data_type: OSSL_PARAM_UTF8_PTR,
                data: ptr::from_mut(&mut value).cast(),
                data_size: size_of::<*const c_char>(),
                return_size: usize::MAX,
            },
            END,
        ];
        // SAFETY: a terminated list of one parameter whose data is a pointer that outlives the call; what it is
        // set to belongs to libcrypto, is NUL-terminated, and is copied at once.
        unsafe {
            if get_params(self.handle, request.as_mut_ptr()) != 1 || value.is_null() {
                return None;
            }
            CStr::from_ptr(value).to_str().ok().map(str::to_owned)
        }
    }

    /// Reads a line of at most `buffer.len() - 1` bytes from a BIO, with its newline if it fitted. Returns the
    /// number of bytes, or `None` at the end of the input or when reading fails.
    pub fn read_line(&self, bio: *mut OSSL_CORE_BIO, buffer: &mut [u8]) -> Option<usize> {
        let gets = self.bio_gets?;
        let size = c_int::try_from(buffer.len()).ok()?;
        // SAFETY: the BIO is the one that libcrypto gave for the duration of this call; the buffer has `size`
        // bytes.
        let read = unsafe { gets(bio, buffer.as_mut_ptr().cast(), size) };
        usize::try_from(read).ok().filter(|read| *read > 0 && *read < buffer.len())
    }

    /// Reads up to the end of a BIO, at most `limit` bytes; `None` if there are more or reading fails.
    pub fn read_all(&self, bio: *mut OSSL_CORE_BIO, limit: usize) -> Option<Vec<u8>> {
        let read_ex = self.bio_read_ex?;
        let mut data = vec![0u8; limit + 1];
        let mut have = 0;
        while let Some(room) = data.get_mut(have..).filter(|room| !room.is_empty()) {
            let mut read = 0;
            // SAFETY: as in read_line; `read` outlives the call.
            let more = unsafe { read_ex(bio, room.as_mut_ptr().cast::<c_void>(), room.len(), &mut read) };
            if more != 1 || read == 0 {
                break;
            }
            have += read;
        }
        if have > limit {
            return None;
        }
        data.truncate(have);
        Some(data)
    }
}

impl Core {
    /// Writes all of `data` to a BIO. False if it cannot be written.
    pub fn write_all(&self, bio: *mut OSSL_CORE_BIO, mut data: &[u8]) -> bool {
        let Some(write_ex) = self.bio_write_ex else { return false };
        while !data.is_empty() {
            let mut written = 0;
            // SAFETY: the BIO is the one that libcrypto gave for the duration of this call; the data is read for its length; `written`
            // outlives the call.
            let done = unsafe { write_ex(bio, data.as_ptr().cast(), data.len(), &mut written) };
            match data.get(written..) {
                Some(rest) if done == 1 && written > 0 => data = rest,
                _ => return false,
            }
        }
        true
    }
}

/// The end of a list of parameters.
pub const END: OSSL_PARAM =
    OSSL_PARAM { key: ptr::null(), data_type: 0, data: ptr::null_mut(), data_size: 0, return_size: 0 };
