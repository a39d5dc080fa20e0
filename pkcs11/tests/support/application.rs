//! A C application, as far as the tests need one: the functions of the loaded module, made easy to call.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::ptr::{from_mut, null_mut};

use cryptoki_sys::*;
use libloading::Library;

/// The module, loaded as an application loads it.
pub struct Application {
    /// The 3.2 function list.
    pub list: &'static CK_FUNCTION_LIST_3_2,
}

/// A template's attribute.
pub fn attribute(kind: CK_ATTRIBUTE_TYPE, value: &[u8]) -> CK_ATTRIBUTE {
    CK_ATTRIBUTE {
        type_: kind,
        pValue: value.as_ptr().cast_mut().cast(),
        ulValueLen: value.len() as CK_ULONG,
    }
}

/// The bytes of a `CK_ULONG`.
pub fn number(value: CK_ULONG) -> &'static [u8] {
    Box::leak(Box::new(value.to_ne_bytes()))
}

pub const TRUE: &[u8] = &[CK_TRUE];
pub const FALSE: &[u8] = &[CK_FALSE];

/// The identifier of P-256.
pub const P256: &[u8] = &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];

/// The identifier of secp256k1.
pub const SECP256K1: &[u8] = &[6, 5, 0x2b, 0x81, 4, 0, 0x0a];

/// The parameter of ECDH with the owner of a point, without a derivation function.
pub fn ecdh_with(point: &[u8]) -> CK_ECDH1_DERIVE_PARAMS {
    CK_ECDH1_DERIVE_PARAMS {
        kdf: CKD_NULL,
        ulSharedDataLen: 0,
        pSharedData: null_mut(),
        ulPublicDataLen: point.len() as CK_ULONG,
        pPublicData: point.as_ptr().cast_mut(),
    }
}

/// A mechanism with its parameter.
pub fn with<P>(mechanism: CK_MECHANISM_TYPE, parameter: &mut P) -> CK_MECHANISM {
    CK_MECHANISM {
        mechanism,
        ulParameterLen: size_of_val(parameter) as CK_ULONG,
        pParameter: from_mut(parameter).cast(),
    }
}

/// Calls a function of the list; its `CKR_` code.
#[macro_export]
macro_rules! call {
    ($application:expr, $function:ident $(, $argument:expr)*) => {
        // SAFETY: the tests pass null, or pointers to locals with their length.
        unsafe { $application.list.$function.expect("no function is null")($($argument),*) }
    };
}

impl Application {
    /// Loads the module and takes its 3.2 interface.
    pub fn load() -> Self {
        // SAFETY: our own library; what is taken out of it has the standard's type.
        unsafe {
            let library = Library::new(super::module()).unwrap();
            let get_interface = library.get::<CK_C_GetInterface>("C_GetInterface").unwrap().unwrap();
            let mut interface = null_mut();
            let mut version = CK_VERSION { major: 3, minor: 2 };
            let name = c"PKCS 11".as_ptr().cast_mut().cast();
            assert_eq!(get_interface(name, &mut version, &mut interface, 0), CKR_OK);
            let list = &*(*interface).pFunctionList.cast::<CK_FUNCTION_LIST_3_2>();
            assert_eq!((list.version.major, list.version.minor), (3, 2));
            // Never unloaded.
            std::mem::forget(library);
            Application { list }
        }
    }

    pub fn initialize(&self) {
        assert_eq!(call!(self, C_Initialize, null_mut()), CKR_OK);
    }

    pub fn finalize(&self) {
        assert_eq!(call!(self, C_Finalize, null_mut()), CKR_OK);
    }

    /// Opens a session, read-write, and returns the function's code or the handle.
    pub fn open(&self, slot: u32, flags: CK_FLAGS) -> Result<CK_SESSION_HANDLE, CK_RV> {
        let mut session = 0;
        let flags = CKF_SERIAL_SESSION | flags;
        match call!(self, C_OpenSession, slot.into(), flags, null_mut(), None, &mut session) {
            CKR_OK => Ok(session),
            code => Err(code),
        }
    }

    pub fn open_writable(&self, slot: u32) -> CK_SESSION_HANDLE {
        self.open(slot, CKF_RW_SESSION).unwrap()
    }

    pub fn login(&self, session: CK_SESSION_HANDLE, user_type: CK_USER_TYPE, pin: &str) -> CK_RV {
        call!(self, C_Login, session, user_type, pin.as_ptr().cast_mut(), pin.len() as CK_ULONG)
    }

    pub fn find(&self, session: CK_SESSION_HANDLE, template: &mut [CK_ATTRIBUTE]) -> Vec<CK_OBJECT_HANDLE> {
        let (pointer, length) = (template.as_mut_ptr(), template.len() as CK_ULONG);
        assert_eq!(call!(self, C_FindObjectsInit, session, pointer, length), CKR_OK);
        let (mut found, mut page, mut count) = (Vec::new(), [0; 2], 0);
        loop {
            assert_eq!(call!(self, C_FindObjects, session, page.as_mut_ptr(), 2, &mut count), CKR_OK);
            found.extend_from_slice(&page[..count as usize]);
            if count == 0 {
                break;
            }
        }
        assert_eq!(call!(self, C_FindObjectsFinal, session), CKR_OK);
        found
    }

    /// Makes a pair on P-256; the private key's handle first.
    pub fn generate(
        &self,
        session: CK_SESSION_HANDLE,
        label: &str,
    ) -> Result<(CK_OBJECT_HANDLE, CK_OBJECT_HANDLE), CK_RV> {
        let common = [attribute(CKA_TOKEN, TRUE), attribute(CKA_LABEL, label.as_bytes())];
        let public = [&common[..], &[attribute(CKA_EC_PARAMS, P256)]].concat();
        self.generate_from(session, CKM_EC_KEY_PAIR_GEN, public, common.to_vec())
    }

    pub fn generate_from(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        mut public: Vec<CK_ATTRIBUTE>,
        mut private: Vec<CK_ATTRIBUTE>,
    ) -> Result<(CK_OBJECT_HANDLE, CK_OBJECT_HANDLE), CK_RV> {
        let (mut private_key, mut public_key) = (0, 0);
        let code = call!(
            self,
            C_GenerateKeyPair,
            session,
            &mut plain(mechanism),
            public.as_mut_ptr(),
            public.len() as CK_ULONG,
            private.as_mut_ptr(),
            private.len() as CK_ULONG,
            &mut public_key,
            &mut private_key
        );
        if code == CKR_OK { Ok((private_key, public_key)) } else { Err(code) }
    }

    pub fn sign_init(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        key: CK_OBJECT_HANDLE,
    ) -> CK_RV {
        call!(self, C_SignInit, session, &mut plain(mechanism), key)
    }

    /// Signs with CKM_ECDSA_SHA256.
    pub fn sign(
        &self,
        session: CK_SESSION_HANDLE,
        key: CK_OBJECT_HANDLE,
        data: &[u8],
    ) -> Result<Vec<u8>, CK_RV> {
        match self.sign_init(session, CKM_ECDSA_SHA256, key) {
            CKR_OK => {}
            code => return Err(code),
        }
        let (mut signature, mut length) = (vec![0; 512], 512);
        let data = (data.as_ptr().cast_mut(), data.len() as CK_ULONG);
        match call!(self, C_Sign, session, data.0, data.1, signature.as_mut_ptr(), &mut length) {
            CKR_OK => {
                signature.truncate(length as usize);
                Ok(signature)
            }
            code => Err(code),
        }
    }

    /// Verifies with CKM_ECDSA_SHA256.
    pub fn verify(
        &self,
        session: CK_SESSION_HANDLE,
        key: CK_OBJECT_HANDLE,
        data: &[u8],
        signature: &[u8],
    ) -> CK_RV {
        let code = call!(self, C_VerifyInit, session, &mut plain(CKM_ECDSA_SHA256), key);
        if code != CKR_OK {
            return code;
        }
        let (data, length) = (data.as_ptr().cast_mut(), data.len() as CK_ULONG);
        let (signature, size) = (signature.as_ptr().cast_mut(), signature.len() as CK_ULONG);
        call!(self, C_Verify, session, data, length, signature, size)
    }

    pub fn get(
        &self,
        session: CK_SESSION_HANDLE,
        object: CK_OBJECT_HANDLE,
        kind: CK_ATTRIBUTE_TYPE,
    ) -> Result<Vec<u8>, CK_RV> {
        let mut value = vec![0; 4096];
        let mut attribute = CK_ATTRIBUTE {
            type_: kind,
            pValue: value.as_mut_ptr().cast(),
            ulValueLen: value.len() as CK_ULONG,
        };
        match call!(self, C_GetAttributeValue, session, object, from_mut(&mut attribute), 1) {
            CKR_OK => {
                value.truncate(attribute.ulValueLen as usize);
                Ok(value)
            }
            code => Err(code),
        }
    }

    pub fn state(&self, session: CK_SESSION_HANDLE) -> CK_STATE {
        let mut info = CK_SESSION_INFO { slotID: 0, state: 99, flags: 0, ulDeviceError: 0 };
        assert_eq!(call!(self, C_GetSessionInfo, session, &mut info), CKR_OK);
        info.state
    }
}

/// A mechanism without parameter.
pub fn plain(mechanism: CK_MECHANISM_TYPE) -> CK_MECHANISM {
    CK_MECHANISM { mechanism, pParameter: null_mut(), ulParameterLen: 0 }
}
