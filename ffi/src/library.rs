//! Where this code was loaded from.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The directory of the shared library (or program) that contains this function, by dladdr(3).
pub fn library_directory() -> Option<PathBuf> {
    // SAFETY: Dl_info is plain C data for which zeros are valid.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    let here: fn() -> Option<PathBuf> = library_directory;
    // SAFETY: the address is that of a function of ours; `info` is written on success.
    let found = unsafe { libc::dladdr(here as *const libc::c_void, &mut info) };
    if found == 0 || info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: a NUL-terminated string of the dynamic linker's, which lives as long as the library.
    let file = unsafe { CStr::from_ptr(info.dli_fname) };
    Path::new(OsStr::from_bytes(file.to_bytes())).parent().map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    #[test]
    fn is_where_this_test_is() {
        let program = std::env::current_exe().unwrap();
        assert_eq!(super::library_directory().unwrap().file_name(), program.parent().unwrap().file_name());
    }
}
