//! The PKCS#11 functions that a load needs, with pointers and lengths taken care of. The one place with unsafe code.

use std::ffi::c_void;
use std::path::Path;
use std::ptr;

use anyhow::{Context as _, Result, bail};
use cryptoki_sys::*;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

/// A loaded and initialised module. It is never unloaded.
#[derive(Clone, Copy)]
pub struct Module {
    functions: &'static CK_FUNCTION_LIST,
}

// SAFETY: C_Initialize is called with CKF_OS_LOCKING_OK, so that any thread may call.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

/// An attribute of a template: its type and its value.
pub type Attribute<'a> = (CK_ATTRIBUTE_TYPE, &'a [u8]);

/// Calls a function of the list and names it in the error.
macro_rules! call {
    ($module:expr, $function:ident $(, $argument:expr)*) => {
        match $module.functions.$function {
            Some(function) => match function($($argument),*) {
                CKR_OK => Ok(()),
                rv => Err(anyhow::anyhow!("{}: CKR {rv:#x}", stringify!($function))),
            },
            None => Err(anyhow::anyhow!("the module has no {}", stringify!($function))),
        }
    };
}

impl Module {
    /// Loads the module and initialises it for several threads.
    ///
    /// # Errors
    ///
    /// When it is no PKCS#11 module, or does not work.
    pub fn load(path: &Path) -> Result<Self> {
        // SAFETY: runs the module's initialisers. That it is a sound module is for the user to say.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }
            .with_context(|| format!("cannot load {}", path.display()))?;
        let mut list: *mut CK_FUNCTION_LIST = ptr::null_mut();
        // SAFETY: the symbol has this type in every PKCS#11 module (2.40, section 5.4).
        let rv = unsafe {
            let get = library
                .get::<unsafe extern "C" fn(*mut *mut CK_FUNCTION_LIST) -> CK_RV>(
                    c"C_GetFunctionList".to_bytes_with_nul(),
                )
                .with_context(|| format!("{} is no PKCS#11 module", path.display()))?;
            get(&mut list)
        };
        // SAFETY: on success it points to a list that lives as long as the library, which stays loaded.
        let functions = match unsafe { list.as_ref() } {
            Some(functions) if rv == CKR_OK => functions,
            _ => bail!("C_GetFunctionList: CKR {rv:#x}"),
        };
        std::mem::forget(library);
        let module = Module { functions };
        let mut arguments = CK_C_INITIALIZE_ARGS {
            CreateMutex: None,
            DestroyMutex: None,
            LockMutex: None,
            UnlockMutex: None,
            flags: CKF_OS_LOCKING_OK,
            pReserved: ptr::null_mut(),
        };
        // SAFETY: the arguments live for the call.
        unsafe { call!(module, C_Initialize, ptr::from_mut(&mut arguments).cast()) }?;
        Ok(module)
    }

    /// Finds the slot whose token has this label.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn slot(&self, label: &str) -> Result<CK_SLOT_ID> {
        let mut count = 0;
        // SAFETY: null asks for the number.
        unsafe { call!(self, C_GetSlotList, CK_TRUE, ptr::null_mut(), &mut count) }?;
        let mut slots = vec![0; usize::try_from(count)?.min(4096)];
        count = slots.len().try_into()?;
        // SAFETY: the vector has `count` places.
        unsafe { call!(self, C_GetSlotList, CK_TRUE, slots.as_mut_ptr(), &mut count) }?;
        slots.truncate(usize::try_from(count)?);
        for slot in slots {
            // SAFETY: plain C data, for which zeros are valid.
            let mut info: CK_TOKEN_INFO = unsafe { std::mem::zeroed() };
            // SAFETY: writes one CK_TOKEN_INFO.
            unsafe { call!(self, C_GetTokenInfo, slot, &mut info) }?;
            if String::from_utf8_lossy(&info.label).trim_end() == label {
                return Ok(slot);
            }
        }
        bail!("no token has the label {label:?}")
    }

    /// C_OpenSession, for reading and writing.
    ///
    /// # Errors
    ///
    /// What the module says.
    pub fn open_session(&self, slot: CK_SLOT_ID) -> Result<CK_SESSION_HANDLE> {
        let mut session = 0;
        let flags = CKF_SERIAL_SESSION | CKF_RW_SESSION;
        // SAFETY: no notification; writes one handle.
        unsafe { call!(self, C_OpenSession, slot, flags, ptr::null_mut(), None, &mut session) }?;
        Ok(session)
    }

    /// C_Login as the token's user.
    ///
    /// # Errors
    ///
    /// What the module says.
    pub fn login(&self, session: CK_SESSION_HANDLE, pin: &str) -> Result<()> {
        let mut pin = pin.as_bytes().to_vec();
        // SAFETY: the PIN has that many bytes.
        unsafe { call!(self, C_Login, session, CKU_USER, pin.as_mut_ptr(), pin.len().try_into()?) }
    }

    /// The objects that have these attributes, `most` of them at most.
    ///
    /// # Errors
    ///
    /// What the module says. That there is no such object is no error.
    pub fn find(
        &self,
        session: CK_SESSION_HANDLE,
        template: &[Attribute<'_>],
        most: usize,
    ) -> Result<Vec<CK_OBJECT_HANDLE>> {
        let mut attributes = pointers(template);
        let length = attributes.len().try_into()?;
        // SAFETY: the attributes point into the template, which lives for the call.
        unsafe { call!(self, C_FindObjectsInit, session, attributes.as_mut_ptr(), length) }?;
        let mut objects = vec![0; most];
        let (room, mut count) = (objects.len().try_into()?, 0);
        // SAFETY: the vector has `room` places.
        let found = unsafe { call!(self, C_FindObjects, session, objects.as_mut_ptr(), room, &mut count) };
        // SAFETY: takes a handle.
        unsafe { call!(self, C_FindObjectsFinal, session) }?;
        found?;
        objects.truncate(usize::try_from(count)?);
        Ok(objects)
    }

    /// C_CreateObject.
    ///
    /// # Errors
    ///
    /// What the module says.
    pub fn create(&self, session: CK_SESSION_HANDLE, template: &[Attribute<'_>]) -> Result<()> {
        let mut attributes = pointers(template);
        let (length, mut object) = (attributes.len().try_into()?, 0);
        // SAFETY: the attributes point into the template, which lives for the call; writes one handle.
        unsafe { call!(self, C_CreateObject, session, attributes.as_mut_ptr(), length, &mut object) }
    }

    /// C_GenerateKeyPair.
    ///
    /// # Errors
    ///
    /// What the module says.
    pub fn generate_pair(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        public: &[Attribute<'_>],
        private: &[Attribute<'_>],
    ) -> Result<()> {
        let (mut public, mut private) = (pointers(public), pointers(private));
        let lengths = (public.len().try_into()?, private.len().try_into()?);
        let mut mechanism = plain(mechanism);
        let mut handles = (0, 0);
        // SAFETY: mechanism and attributes live for the call; writes two handles.
        unsafe {
            call!(
                self,
                C_GenerateKeyPair,
                session,
                &mut mechanism,
                public.as_mut_ptr(),
                lengths.0,
                private.as_mut_ptr(),
                lengths.1,
                &mut handles.0,
                &mut handles.1
            )
        }
    }

    /// C_GenerateKey.
    ///
    /// # Errors
    ///
    /// What the module says.
    pub fn generate(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        template: &[Attribute<'_>],
    ) -> Result<()> {
        let mut attributes = pointers(template);
        let (length, mut mechanism, mut key) = (attributes.len().try_into()?, plain(mechanism), 0);
        // SAFETY: mechanism and attributes live for the call; writes one handle.
        unsafe {
            call!(self, C_GenerateKey, session, &mut mechanism, attributes.as_mut_ptr(), length, &mut key)
        }
    }

    /// C_SignInit and C_Sign. Returns the signature's length.
    ///
    /// # Errors
    ///
    /// What the module says.
    pub fn sign(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        key: CK_OBJECT_HANDLE,
        data: &mut [u8],
        signature: &mut [u8],
    ) -> Result<usize> {
        let mut mechanism = plain(mechanism);
        let mut length = signature.len().try_into()?;
        // SAFETY: mechanism, data and signature live for the calls and have the lengths that are given.
        unsafe {
            call!(self, C_SignInit, session, &mut mechanism, key)?;
            call!(
                self,
                C_Sign,
                session,
                data.as_mut_ptr(),
                data.len().try_into()?,
                signature.as_mut_ptr(),
                &mut length
            )?;
        }
        Ok(length.try_into()?)
    }

    /// C_EncryptInit and C_Encrypt with AES-GCM, a tag of 16 bytes and no additional data. Returns the length of
    /// what was written.
    ///
    /// # Errors
    ///
    /// What the module says.
    pub fn encrypt_gcm(
        &self,
        session: CK_SESSION_HANDLE,
        key: CK_OBJECT_HANDLE,
        iv: &mut [u8; 12],
        data: &mut [u8],
        output: &mut [u8],
    ) -> Result<usize> {
        let mut parameters = CK_GCM_PARAMS {
            pIv: iv.as_mut_ptr(),
            ulIvLen: 12,
            ulIvBits: 96,
            pAAD: ptr::null_mut(),
            ulAADLen: 0,
            ulTagBits: 128,
        };
        let mut mechanism = CK_MECHANISM {
            mechanism: CKM_AES_GCM,
            pParameter: ptr::from_mut(&mut parameters).cast::<c_void>(),
            ulParameterLen: size_of::<CK_GCM_PARAMS>().try_into()?,
        };
        let mut length = output.len().try_into()?;
        // SAFETY: mechanism, parameters, data and output live for the calls and have the lengths that are given.
        unsafe {
            call!(self, C_EncryptInit, session, &mut mechanism, key)?;
            call!(
                self,
                C_Encrypt,
                session,
                data.as_mut_ptr(),
                data.len().try_into()?,
                output.as_mut_ptr(),
                &mut length
            )?;
        }
        Ok(length.try_into()?)
    }

    /// C_Finalize, when no other thread calls any more.
    pub fn finalize(self) {
        // SAFETY: takes nothing but null. That it fails changes nothing for anybody.
        let _ = unsafe { call!(self, C_Finalize, ptr::null_mut()) };
    }
}

fn plain(mechanism: CK_MECHANISM_TYPE) -> CK_MECHANISM {
    CK_MECHANISM { mechanism, pParameter: ptr::null_mut(), ulParameterLen: 0 }
}

/// The template as PKCS#11 has it. Modules do not write through the pointers of these calls.
fn pointers(template: &[Attribute<'_>]) -> Vec<CK_ATTRIBUTE> {
    template
        .iter()
        .map(|(kind, value)| CK_ATTRIBUTE {
            type_: *kind,
            pValue: value.as_ptr().cast_mut().cast(),
            ulValueLen: CK_ULONG::try_from(value.len()).unwrap_or(CK_ULONG::MAX),
        })
        .collect()
}
