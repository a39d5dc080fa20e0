//! A PKCS#11 module's functions (PKCS#11 2.40, section 5), with pointers and lengths taken care of.

use std::ffi::{CString, c_void};
use std::path::{Path, PathBuf};
use std::ptr;

use cryptoki_sys::*;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use strongroom_ffi::pointer;

use super::attribute::Template;
use crate::error::{Error, Result};
use crate::pin::Secret;
use crate::trace;

/// The result of one PKCS#11 function: the value, or its CK_RV.
pub type Rv<T> = std::result::Result<T, CK_RV>;

/// The most slots, objects per search, and bytes per attribute that are taken from a module.
const MAX_SLOTS: usize = 4096;
const MAX_OBJECTS: usize = 100_000;
const MAX_ATTRIBUTE: usize = 1 << 20;

/// A loaded module. It is never unloaded: its threads and exit handlers may outlive every key.
pub struct Module {
    /// The file that it was loaded from, as it was named.
    pub path: PathBuf,
    /// Whether it may be asked for CKA_ALLOWED_MECHANISMS.
    pub has_allowed_mechanisms: bool,
    functions: &'static CK_FUNCTION_LIST,
    /// The list of PKCS#11 3.2, if the module has one: for what it added.
    newest: Option<&'static CK_FUNCTION_LIST_3_2>,
}

// SAFETY: the functions may be called from any thread, because C_Initialize is called with CKF_OS_LOCKING_OK.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

/// Calls a function of the list; one that the module leaves out is CKR_FUNCTION_NOT_SUPPORTED.
macro_rules! call {
    ($module:expr, $function:ident $(, $argument:expr)*) => {
        call!(@list Some($module.functions), $function $(, $argument)*)
    };
    (@list $list:expr, $function:ident $(, $argument:expr)*) => {
        match $list.and_then(|list| list.$function) {
            Some(function) => match trace::pkcs11(stringify!($function), || function($($argument),*)) {
                CKR_OK => Ok(()),
                rv => Err(rv),
            },
            None => Err(CKR_FUNCTION_NOT_SUPPORTED),
        }
    };
}

mod parts;

impl Module {
    /// Loads the first module that can be. `has_allowed_mechanisms` is false for one that takes offence at
    /// CKA_ALLOWED_MECHANISMS.
    ///
    /// # Errors
    ///
    /// That of the first one.
    pub fn load_first(paths: &[PathBuf], has_allowed_mechanisms: bool) -> Result<Self> {
        let mut failed = Error::Module { module: "(none)".into(), why: "no module is named".into() };
        for (at, path) in paths.iter().enumerate() {
            match Self::load(path) {
                Err(error) if at == 0 => failed = error,
                Err(_) => {}
                loaded => return loaded.map(|module| Module { has_allowed_mechanisms, ..module }),
            }
        }
        Err(failed)
    }

    /// Loads the module at `path` and takes its function list.
    ///
    /// # Errors
    ///
    /// [`Error::Module`] if it cannot be loaded or is no PKCS#11 module of version 2 or 3 (whose list begins like 2's).
    pub fn load(path: &Path) -> Result<Self> {
        let failed = |why: String| Error::Module { module: path.display().to_string(), why };
        // SAFETY: loading runs the module's initialisers. That the file is a sound module is for the owner of
        // openssl.cnf to say, who could as well name another provider there.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map_err(|error| {
            // The dynamic linker's words are in the source of libloading's error.
            failed(std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string))
        })?;
        let mut list: *mut CK_FUNCTION_LIST = ptr::null_mut();
        // SAFETY: the symbol has this type in every PKCS#11 module (section 5.4), and sets the pointer to a list
        // that lives as long as the library, which is leaked below.
        let functions = unsafe {
            let get = library
                .get::<unsafe extern "C" fn(*mut *mut CK_FUNCTION_LIST) -> CK_RV>(
                    c"C_GetFunctionList".to_bytes_with_nul(),
                )
                .map_err(|_| failed("it has no C_GetFunctionList".into()))?;
            match get(&mut list) {
                CKR_OK => pointer::reference(list.cast_const()),
                rv => return Err(failed(format!("C_GetFunctionList: {}", crate::error::Rv(rv)))),
            }
        };
        // SAFETY: as above.
        let newest = unsafe { newest(&library) };
        std::mem::forget(library);
        match functions {
            Some(functions) if matches!(functions.version.major, 2 | 3) => {
                Ok(Module { path: path.to_owned(), has_allowed_mechanisms: true, functions, newest })
            }
            _ => Err(failed("its function list is of another version than 2 or 3".into())),
        }
    }

    /// A module that is in the program already.
    #[cfg(feature = "fuzz")]
    pub fn of(functions: &'static CK_FUNCTION_LIST) -> Self {
        Module { path: PathBuf::new(), has_allowed_mechanisms: true, functions, newest: None }
    }

    /// Whether it is the same library, however it was named.
    pub fn is(&self, other: &Module) -> bool {
        std::ptr::eq(self.functions, other.functions)
    }

    /// C_Initialize, for use by several threads. `reserved` is for modules that want arguments.
    pub fn initialize(&self, reserved: Option<&str>) -> Rv<()> {
        let reserved = reserved.and_then(|text| CString::new(text).ok());
        let mut arguments = CK_C_INITIALIZE_ARGS {
            CreateMutex: None,
            DestroyMutex: None,
            LockMutex: None,
            UnlockMutex: None,
            flags: CKF_OS_LOCKING_OK,
            pReserved: reserved.as_ref().map_or(ptr::null_mut(), |text| text.as_ptr().cast_mut().cast()),
        };
        // SAFETY: the arguments live for the call.
        unsafe { call!(self, C_Initialize, ptr::from_mut(&mut arguments).cast()) }
    }

    /// C_Finalize. The caller knows that no other call is running.
    pub fn finalize(&self) -> Rv<()> {
        // SAFETY: takes nothing but null.
        unsafe { call!(self, C_Finalize, ptr::null_mut()) }
    }

    /// C_GetInfo.
    pub fn info(&self) -> Rv<CK_INFO> {
        let mut info = CK_INFO::default();
        // SAFETY: writes one CK_INFO.
        unsafe { call!(self, C_GetInfo, &mut info) }.map(|()| info)
    }

    /// C_GetSlotList: the slots that have a token.
    pub fn slots(&self) -> Rv<Vec<CK_SLOT_ID>> {
        loop {
            let mut count = 0;
            // SAFETY: null asks for the number.
            unsafe { call!(self, C_GetSlotList, CK_TRUE, ptr::null_mut(), &mut count) }?;
            let mut slots = vec![0; (count as usize).min(MAX_SLOTS)];
            let mut count = slots.len() as CK_ULONG;
            if slots.is_empty() {
                return Ok(slots);
            }
            // SAFETY: the vector has `count` items.
            match unsafe { call!(self, C_GetSlotList, CK_TRUE, slots.as_mut_ptr(), &mut count) } {
                Ok(()) => {
                    slots.truncate(count as usize);
                    return Ok(slots);
                }
                // A token came in between.
                Err(CKR_BUFFER_TOO_SMALL) if slots.len() < MAX_SLOTS => {}
                Err(rv) => return Err(rv),
            }
        }
    }

    /// C_GetSlotInfo.
    pub fn slot_info(&self, slot: CK_SLOT_ID) -> Rv<CK_SLOT_INFO> {
        // SAFETY: plain C data, for which zeros are valid.
        let mut info: CK_SLOT_INFO = unsafe { std::mem::zeroed() };
        // SAFETY: writes one CK_SLOT_INFO.
        unsafe { call!(self, C_GetSlotInfo, slot, &mut info) }.map(|()| info)
    }

    /// C_GetTokenInfo.
    pub fn token_info(&self, slot: CK_SLOT_ID) -> Rv<CK_TOKEN_INFO> {
        // SAFETY: plain C data, for which zeros are valid.
        let mut info: CK_TOKEN_INFO = unsafe { std::mem::zeroed() };
        // SAFETY: writes one CK_TOKEN_INFO.
        unsafe { call!(self, C_GetTokenInfo, slot, &mut info) }.map(|()| info)
    }

    /// C_OpenSession, read-only unless `writable`.
    pub fn open_session(&self, slot: CK_SLOT_ID, writable: bool) -> Rv<CK_SESSION_HANDLE> {
        let flags = CKF_SERIAL_SESSION | if writable { CKF_RW_SESSION } else { 0 };
        let mut session = 0;
        // SAFETY: no notification; writes one handle.
        unsafe { call!(self, C_OpenSession, slot, flags, ptr::null_mut(), None, &mut session) }?;
        Ok(session)
    }

    /// C_CloseSession; that it is gone already is no error.
    pub fn close_session(&self, session: CK_SESSION_HANDLE) {
        // SAFETY: takes a handle.
        let _ = unsafe { call!(self, C_CloseSession, session) };
    }

    /// C_GetSessionInfo: whether the user is logged in, as far as the module says.
    pub fn is_logged_in(&self, session: CK_SESSION_HANDLE) -> Option<bool> {
        // SAFETY: plain C data, for which zeros are valid.
        let mut info: CK_SESSION_INFO = unsafe { std::mem::zeroed() };
        // SAFETY: writes one CK_SESSION_INFO.
        unsafe { call!(self, C_GetSessionInfo, session, &mut info) }.ok()?;
        Some(matches!(info.state, CKS_RO_USER_FUNCTIONS | CKS_RW_USER_FUNCTIONS))
    }

    /// C_Login as `user` (CKU_USER, CKU_CONTEXT_SPECIFIC).
    pub fn login(&self, session: CK_SESSION_HANDLE, user: CK_USER_TYPE, pin: &Secret) -> Rv<()> {
        // A copy, because the function takes a pointer that it might write through.
        let mut copy = pin.copy().ok_or(CKR_HOST_MEMORY)?;
        let pin = copy.bytes_mut();
        // SAFETY: the pin has that many bytes.
        unsafe { call!(self, C_Login, session, user, pin.as_mut_ptr(), pin.len() as CK_ULONG) }
    }

    /// C_Logout.
    pub fn logout(&self, session: CK_SESSION_HANDLE) -> Rv<()> {
        // SAFETY: takes a handle.
        unsafe { call!(self, C_Logout, session) }
    }

    /// C_FindObjectsInit, C_FindObjects and C_FindObjectsFinal: at most `limit` handles of objects that fit.
    pub fn find(
        &self,
        session: CK_SESSION_HANDLE,
        template: &Template,
        limit: usize,
    ) -> Rv<Vec<CK_OBJECT_HANDLE>> {
        let limit = limit.min(MAX_OBJECTS);
        let mut attributes = template.attributes();
        let length = attributes.len() as CK_ULONG;
        // SAFETY: the attributes point into the template, which lives for the call.
        unsafe { call!(self, C_FindObjectsInit, session, attributes.as_mut_ptr(), length) }?;
        let mut found = Vec::new();
        let mut result = Ok(());
        while found.len() < limit {
            let mut page: [CK_OBJECT_HANDLE; 64] = [0; 64];
            let mut count = 0;
            let most = page.len().min(limit - found.len());
            // SAFETY: the page has room for at least `most` handles.
            result = unsafe {
                call!(self, C_FindObjects, session, page.as_mut_ptr(), most as CK_ULONG, &mut count)
            };
            found.extend_from_slice(page.get(..(count as usize).min(most)).unwrap_or_default());
            if result.is_err() || count == 0 {
                break;
            }
        }
        // SAFETY: takes a handle.
        let ended = unsafe { call!(self, C_FindObjectsFinal, session) };
        result.and(ended).map(|()| found)
    }

    /// C_GetAttributeValue: the values of `types`; `None` for those that the object does not have or not show.
    pub fn attributes(
        &self,
        session: CK_SESSION_HANDLE,
        object: CK_OBJECT_HANDLE,
        types: &[CK_ATTRIBUTE_TYPE],
    ) -> Rv<Vec<Option<Vec<u8>>>> {
        let mut query: Vec<CK_ATTRIBUTE> = types
            .iter()
            .map(|kind| CK_ATTRIBUTE { type_: *kind, pValue: ptr::null_mut(), ulValueLen: 0 })
            .collect();
        self.get_attribute_value(session, object, &mut query)?;
        let mut values: Vec<Option<Vec<u8>>> = query
            .iter()
            .map(|attribute| {
                let length = attribute.ulValueLen;
                (length != CK_UNAVAILABLE_INFORMATION && length as usize <= MAX_ATTRIBUTE)
                    .then(|| vec![0; length as usize])
            })
            .collect();
        // Ask again for those that are there, with buffers.
        let mut query: Vec<CK_ATTRIBUTE> = types
            .iter()
            .zip(&mut values)
            .filter_map(|(kind, value)| {
                let value = value.as_mut()?;
                let length = value.len() as CK_ULONG;
                Some(CK_ATTRIBUTE {
                    type_: *kind,
                    pValue: value.as_mut_ptr().cast::<c_void>(),
                    ulValueLen: length,
                })
            })
            .collect();
        self.get_attribute_value(session, object, &mut query)?;
        let mut lengths = query.iter().map(|attribute| attribute.ulValueLen);
        for value in &mut values {
            if let Some(bytes) = value {
                match lengths.next() {
                    Some(length) if length as usize <= bytes.len() => bytes.truncate(length as usize),
                    _ => *value = None,
                }
            }
        }
        Ok(values)
    }

    fn get_attribute_value(
        &self,
        session: CK_SESSION_HANDLE,
        object: CK_OBJECT_HANDLE,
        query: &mut [CK_ATTRIBUTE],
    ) -> Rv<()> {
        if query.is_empty() {
            return Ok(());
        }
        // SAFETY: each attribute's value is null or has the length that it says.
        match unsafe {
            call!(self, C_GetAttributeValue, session, object, query.as_mut_ptr(), query.len() as CK_ULONG)
        } {
            // Not failures of the call (section 5.7.5): all attributes have been processed.
            Err(CKR_ATTRIBUTE_TYPE_INVALID | CKR_ATTRIBUTE_SENSITIVE | CKR_BUFFER_TOO_SMALL) => Ok(()),
            other => other,
        }
    }

    /// C_SignInit. `parameter` is the mechanism's parameter structure, or `()` of size 0 for none.
    pub fn sign_init<P>(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        parameter: &mut P,
        key: CK_OBJECT_HANDLE,
    ) -> Rv<()> {
        let mut mechanism = with_parameter(mechanism, parameter);
        // SAFETY: the mechanism and its parameter live for the call, which copies what it keeps.
        unsafe { call!(self, C_SignInit, session, &mut mechanism, key) }
    }

    /// C_DecryptInit; `parameter` as for [`sign_init`](Self::sign_init).
    pub fn decrypt_init<P>(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        parameter: &mut P,
        key: CK_OBJECT_HANDLE,
    ) -> Rv<()> {
        let mut mechanism = with_parameter(mechanism, parameter);
        // SAFETY: as for `sign_init`.
        unsafe { call!(self, C_DecryptInit, session, &mut mechanism, key) }
    }

    /// C_Decrypt into `message`; returns the message's size in bytes.
    pub fn decrypt(&self, session: CK_SESSION_HANDLE, data: &[u8], message: &mut [u8]) -> Rv<usize> {
        let mut size = message.len() as CK_ULONG;
        // SAFETY: the module reads the data for its length only, though the parameter is not const, and writes at
        // most `size` bytes.
        unsafe {
            let data_length = data.len() as CK_ULONG;
            call!(
                self,
                C_Decrypt,
                session,
                data.as_ptr().cast_mut(),
                data_length,
                message.as_mut_ptr(),
                &mut size
            )
        }?;
        Ok((size as usize).min(message.len()))
    }

    /// C_DeriveKey; `parameter` as for [`sign_init`](Self::sign_init). Returns the new object.
    pub fn derive_key<P>(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        parameter: &mut P,
        key: CK_OBJECT_HANDLE,
        template: &Template,
    ) -> Rv<CK_OBJECT_HANDLE> {
        let mut mechanism = with_parameter(mechanism, parameter);
        let mut attributes = template.attributes();
        let length = attributes.len() as CK_ULONG;
        let mut object = 0;
        // SAFETY: the mechanism, its parameter and the template, into which the attributes point, live for the call; it
        // writes one handle.
        unsafe {
            call!(
                self,
                C_DeriveKey,
                session,
                &mut mechanism,
                key,
                attributes.as_mut_ptr(),
                length,
                &mut object
            )
        }?;
        Ok(object)
    }

    /// C_CreateObject.
    pub fn create_object(&self, session: CK_SESSION_HANDLE, template: &Template) -> Rv<CK_OBJECT_HANDLE> {
        let mut attributes = template.attributes();
        let length = attributes.len() as CK_ULONG;
        let mut object = 0;
        // SAFETY: the attributes point into the template, which lives for the call; it writes one handle.
        unsafe { call!(self, C_CreateObject, session, attributes.as_mut_ptr(), length, &mut object) }?;
        Ok(object)
    }

    /// C_DecapsulateKey, by a mechanism without a parameter. Returns the new object. CKR_FUNCTION_NOT_SUPPORTED by modules
    /// that do not have PKCS#11 3.2's interface.
    pub fn decapsulate_key(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        key: CK_OBJECT_HANDLE,
        template: &Template,
        ciphertext: &[u8],
    ) -> Rv<CK_OBJECT_HANDLE> {
        let mut mechanism = with_parameter(mechanism, &mut ());
        let mut attributes = template.attributes();
        let length = attributes.len() as CK_ULONG;
        let mut object = 0;
        // SAFETY: the mechanism and the template, into which the attributes point, live for the call; the module reads the
        // ciphertext for its length only, though the parameter is not const, and writes one handle.
        unsafe {
            call!(
                @list self.newest,
                C_DecapsulateKey,
                session,
                &mut mechanism,
                key,
                attributes.as_mut_ptr(),
                length,
                ciphertext.as_ptr().cast_mut(),
                ciphertext.len() as CK_ULONG,
                &mut object
            )
        }?;
        Ok(object)
    }

    /// C_DestroyObject; that it is gone already is no error.
    pub fn destroy_object(&self, session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE) {
        // SAFETY: takes handles.
        let _ = unsafe { call!(self, C_DestroyObject, session, object) };
    }

    /// C_GenerateRandom: fills `buffer`.
    pub fn generate_random(&self, session: CK_SESSION_HANDLE, buffer: &mut [u8]) -> Rv<()> {
        // SAFETY: the buffer has that many bytes.
        unsafe { call!(self, C_GenerateRandom, session, buffer.as_mut_ptr(), buffer.len() as CK_ULONG) }
    }

    /// C_Sign into `signature`; returns the signature's size in bytes.
    pub fn sign(&self, session: CK_SESSION_HANDLE, data: &[u8], signature: &mut [u8]) -> Rv<usize> {
        let mut size = signature.len() as CK_ULONG;
        // SAFETY: the module reads the data for its length only, though the parameter is not const, and writes at
        // most `size` bytes.
        unsafe {
            let data_length = data.len() as CK_ULONG;
            call!(
                self,
                C_Sign,
                session,
                data.as_ptr().cast_mut(),
                data_length,
                signature.as_mut_ptr(),
                &mut size
            )
        }?;
        Ok((size as usize).min(signature.len()))
    }

    /// C_GenerateKeyPair, by a mechanism without a parameter. Returns the private key's handle.
    pub fn generate_key_pair(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        public: &Template,
        private: &Template,
    ) -> Rv<CK_OBJECT_HANDLE> {
        let mut mechanism = CK_MECHANISM { mechanism, pParameter: ptr::null_mut(), ulParameterLen: 0 };
        let (mut public, mut private) = (public.attributes(), private.attributes());
        let (public_length, private_length) = (public.len() as CK_ULONG, private.len() as CK_ULONG);
        let (mut public_key, mut private_key) = (0, 0);
        // SAFETY: the attributes point into the templates, which live for the call; writes two handles.
        unsafe {
            call!(
                self,
                C_GenerateKeyPair,
                session,
                &mut mechanism,
                public.as_mut_ptr(),
                public_length,
                private.as_mut_ptr(),
                private_length,
                &mut public_key,
                &mut private_key
            )
        }?;
        Ok(private_key)
    }
}

/// The function list of PKCS#11 3.2, if the module has that interface.
///
/// # Safety
///
/// The library is a PKCS#11 module, and stays loaded.
unsafe fn newest(library: &Library) -> Option<&'static CK_FUNCTION_LIST_3_2> {
    let (mut interface, mut version) = (ptr::null_mut(), CK_VERSION { major: 3, minor: 2 });
    let name = c"PKCS 11".as_ptr().cast_mut().cast();
    // SAFETY: the symbol has the standard's type. What it writes is static, and a list of version 3.2 is as long as that.
    unsafe {
        let get = library.get::<CK_C_GetInterface>(c"C_GetInterface".to_bytes_with_nul()).ok()?;
        if (*get)?(name, &mut version, &mut interface, 0) != CKR_OK {
            return None;
        }
        let list = pointer::reference(interface.cast_const())?.pFunctionList.cast_const();
        let version = pointer::reference(list.cast::<CK_VERSION>())?;
        if (version.major, version.minor) < (3, 2) {
            return None;
        }
        pointer::reference(list.cast::<CK_FUNCTION_LIST_3_2>())
    }
}

/// A mechanism with its parameter structure, or without one if its type has no size. It points to `parameter`.
fn with_parameter<P>(mechanism: CK_MECHANISM_TYPE, parameter: &mut P) -> CK_MECHANISM {
    let size = size_of::<P>();
    CK_MECHANISM {
        mechanism,
        pParameter: if size == 0 { ptr::null_mut() } else { ptr::from_mut(parameter).cast() },
        ulParameterLen: size as CK_ULONG,
    }
}
