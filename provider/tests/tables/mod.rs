//! The provider without libcrypto around it: loaded by its one symbol, with a core of the test's, and its tables walked.
// Each test program uses a part of it.
#![allow(dead_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::Mutex;
use std::{mem, ptr};

use crate::libcrypto::built;

/// OSSL_DISPATCH
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Dispatch {
    pub id: c_int,
    pub function: *const c_void,
}

/// OSSL_ALGORITHM
#[repr(C)]
struct Algorithm {
    names: *const c_char,
    properties: *const c_char,
    implementation: *const Dispatch,
    description: *const c_char,
}

/// OSSL_PARAM
#[repr(C)]
struct Param {
    key: *const c_char,
    data_type: u32,
    data: *mut c_void,
    data_size: usize,
    return_size: usize,
}

/// A function in one of the tables.
pub struct Entry {
    /// Which: the operation's number in core_dispatch.h, the algorithm's names, the function's number.
    pub name: String,
    pub function: *const c_void,
}

/// A function of the provider, called with up to eight words: in the C ABIs of Linux what is too much is not looked at.
pub type Call = unsafe extern "C" fn(usize, usize, usize, usize, usize, usize, usize, usize) -> usize;

/// The provider.
pub struct Tables {
    library: *mut c_void,
    table: *const Dispatch,
    pub context: *mut c_void,
}

unsafe impl Send for Tables {}
unsafe impl Sync for Tables {}

static MODULE: Mutex<Option<CString>> = Mutex::new(None);

/// The core's way to a setting: the module, and all operations.
unsafe extern "C" fn setting(_core: *const c_void, list: *mut Param) -> c_int {
    unsafe {
        if CStr::from_ptr((*list).key) == c"pkcs11-module-path"
            && let Some(module) = &*MODULE.lock().unwrap()
        {
            *(*list).data.cast::<*const c_char>() = module.as_ptr();
        }
        if CStr::from_ptr((*list).key) == c"strongroom-operations" {
            *(*list).data.cast::<*const c_char>() = c"digest kdf mac cipher".as_ptr();
        }
    }
    1
}

impl Tables {
    /// Loads the provider on `module`.
    pub fn load(module: &str) -> Self {
        *MODULE.lock().unwrap() = Some(CString::new(module).unwrap());
        let file = CString::new(built("libstrongroom_provider.so").to_str().unwrap()).unwrap();
        // OSSL_FUNC_CORE_GET_PARAMS
        let core = [
            Dispatch { id: 2, function: setting as *const c_void },
            Dispatch { id: 0, function: ptr::null() },
        ];
        let mut table = ptr::null();
        let mut context = ptr::null_mut();
        type Init = unsafe extern "C" fn(
            *const c_void,
            *const Dispatch,
            *mut *const Dispatch,
            *mut *mut c_void,
        ) -> c_int;
        unsafe {
            let library = libc::dlopen(file.as_ptr(), libc::RTLD_NOW);
            assert!(!library.is_null());
            let tables = Tables { library, table: ptr::null(), context };
            let init: Init = tables.symbol(c"OSSL_provider_init");
            assert_eq!(init(ptr::null(), core.as_ptr(), &mut table, &mut context), 1);
            Tables { table, context, ..tables }
        }
    }

    /// A symbol of the library.
    pub fn symbol<F: Copy>(&self, name: &CStr) -> F {
        assert_eq!(size_of::<F>(), size_of::<*mut c_void>());
        let symbol = unsafe { libc::dlsym(self.library, name.as_ptr()) };
        assert!(!symbol.is_null(), "{name:?}");
        unsafe { mem::transmute_copy(&symbol) }
    }

    /// The provider's own function of this number.
    pub fn own(&self, id: c_int) -> Call {
        let found = unsafe { entries(self.table) }.into_iter().find(|entry| entry.id == id).unwrap();
        unsafe { mem::transmute(found.function) }
    }

    /// Every function of every table.
    pub fn all(&self) -> Vec<Entry> {
        let mut all = Vec::new();
        let mut add = |of: &str, table| {
            for entry in unsafe { entries(table) } {
                all.push(Entry { name: format!("{of} {}", entry.id), function: entry.function });
            }
        };
        add("provider", self.table);
        // OSSL_FUNC_PROVIDER_QUERY_OPERATION; the operations' numbers end with OSSL_OP__HIGHEST.
        let query = self.own(1027);
        for operation in 1..64 {
            let mut no_cache: c_int = 0;
            let list =
                unsafe { query(self.context as usize, operation, &raw mut no_cache as usize, 0, 0, 0, 0, 0) };
            let mut algorithm = list as *const Algorithm;
            while !algorithm.is_null() {
                let current = unsafe { &*algorithm };
                if current.names.is_null() {
                    break;
                }
                let names = unsafe { CStr::from_ptr(current.names) }.to_string_lossy();
                add(&format!("{operation} {names}"), current.implementation);
                algorithm = unsafe { algorithm.add(1) };
            }
        }
        all
    }
}

unsafe fn entries(mut table: *const Dispatch) -> Vec<Dispatch> {
    let mut entries = Vec::new();
    unsafe {
        while (*table).id != 0 {
            entries.push(*table);
            table = table.add(1);
        }
    }
    entries
}
