//! Encryption, digests, and signatures in several parts (PKCS#11 2.40, sections 5.8, 5.10 and 5.11), and the state of what is done in several parts (5.6).

use std::ptr;

use cryptoki_sys::*;

use super::{Module, Rv, Template, with_parameter};
use crate::trace;

/// The largest state of an operation that is taken from a module, in bytes.
const MAX_STATE: usize = 1 << 16;

impl Module {
    /// C_GetMechanismList.
    pub fn mechanisms(&self, slot: CK_SLOT_ID) -> Rv<Vec<CK_MECHANISM_TYPE>> {
        /// More than there are.
        const MOST: usize = 4096;
        let mut count = 0;
        // SAFETY: null asks for the number.
        unsafe { call!(self, C_GetMechanismList, slot, ptr::null_mut(), &mut count) }?;
        let mut list = vec![0; (count as usize).min(MOST)];
        let mut count = list.len() as CK_ULONG;
        // SAFETY: the vector has `count` items.
        unsafe { call!(self, C_GetMechanismList, slot, list.as_mut_ptr(), &mut count) }?;
        list.truncate(count as usize);
        Ok(list)
    }

    /// C_DigestInit, for a mechanism without a parameter.
    pub fn digest_init(&self, session: CK_SESSION_HANDLE, mechanism: CK_MECHANISM_TYPE) -> Rv<()> {
        let mut nothing = ();
        let mut mechanism = with_parameter(mechanism, &mut nothing);
        // SAFETY: the mechanism lives for the call.
        unsafe { call!(self, C_DigestInit, session, &mut mechanism) }
    }

    /// C_Digest into `digest`; returns its size in bytes.
    pub fn digest(&self, session: CK_SESSION_HANDLE, data: &[u8], digest: &mut [u8]) -> Rv<usize> {
        let (length, mut size) = (data.len() as CK_ULONG, digest.len() as CK_ULONG);
        // SAFETY: the module reads the data for its length only, though the parameter is not const, and writes at
        // most `size` bytes.
        unsafe { call!(self, C_Digest, session, readable(data), length, digest.as_mut_ptr(), &mut size) }?;
        Ok((size as usize).min(digest.len()))
    }

    /// C_DigestUpdate.
    pub fn digest_update(&self, session: CK_SESSION_HANDLE, data: &[u8]) -> Rv<()> {
        // SAFETY: the module reads the data for its length only.
        unsafe { call!(self, C_DigestUpdate, session, readable(data), data.len() as CK_ULONG) }
    }

    /// C_DigestFinal into `digest`; returns its size in bytes.
    pub fn digest_final(&self, session: CK_SESSION_HANDLE, digest: &mut [u8]) -> Rv<usize> {
        let mut size = digest.len() as CK_ULONG;
        // SAFETY: the module writes at most `size` bytes.
        unsafe { call!(self, C_DigestFinal, session, digest.as_mut_ptr(), &mut size) }?;
        Ok((size as usize).min(digest.len()))
    }

    /// C_EncryptInit; `parameter` as for [`sign_init`](Self::sign_init).
    pub fn encrypt_init<P>(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        parameter: &mut P,
        key: CK_OBJECT_HANDLE,
    ) -> Rv<()> {
        let mut mechanism = with_parameter(mechanism, parameter);
        // SAFETY: the mechanism and its parameter live for the call, which copies what it keeps.
        unsafe { call!(self, C_EncryptInit, session, &mut mechanism, key) }
    }

    /// C_Encrypt into `encrypted`; returns the size of that in bytes.
    pub fn encrypt(&self, session: CK_SESSION_HANDLE, data: &[u8], encrypted: &mut [u8]) -> Rv<usize> {
        let (length, mut size) = (data.len() as CK_ULONG, encrypted.len() as CK_ULONG);
        // SAFETY: the module reads the data for its length only, and writes at most `size` bytes.
        unsafe {
            call!(self, C_Encrypt, session, readable(data), length, encrypted.as_mut_ptr(), &mut size)
        }?;
        Ok((size as usize).min(encrypted.len()))
    }

    /// C_EncryptUpdate into `encrypted`; returns the size of what came out in bytes.
    pub fn encrypt_update(&self, session: CK_SESSION_HANDLE, data: &[u8], encrypted: &mut [u8]) -> Rv<usize> {
        let (length, mut size) = (data.len() as CK_ULONG, encrypted.len() as CK_ULONG);
        // SAFETY: the module reads the data for its length only, and writes at most `size` bytes.
        unsafe {
            call!(self, C_EncryptUpdate, session, readable(data), length, encrypted.as_mut_ptr(), &mut size)
        }?;
        Ok((size as usize).min(encrypted.len()))
    }

    /// C_EncryptFinal into `encrypted`; returns the size of what was left in bytes.
    pub fn encrypt_final(&self, session: CK_SESSION_HANDLE, encrypted: &mut [u8]) -> Rv<usize> {
        let mut size = encrypted.len() as CK_ULONG;
        // SAFETY: the module writes at most `size` bytes.
        unsafe { call!(self, C_EncryptFinal, session, encrypted.as_mut_ptr(), &mut size) }?;
        Ok((size as usize).min(encrypted.len()))
    }

    /// C_GenerateKey, by a mechanism without a parameter.
    pub fn generate_key(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        template: &Template,
    ) -> Rv<CK_OBJECT_HANDLE> {
        let mut mechanism = CK_MECHANISM { mechanism, pParameter: ptr::null_mut(), ulParameterLen: 0 };
        let mut attributes = template.attributes();
        let (length, mut key) = (attributes.len() as CK_ULONG, 0);
        // SAFETY: the attributes point into the template, which lives for the call; writes one handle.
        unsafe {
            call!(self, C_GenerateKey, session, &mut mechanism, attributes.as_mut_ptr(), length, &mut key)
        }?;
        Ok(key)
    }

    /// C_SignUpdate.
    pub fn sign_update(&self, session: CK_SESSION_HANDLE, data: &[u8]) -> Rv<()> {
        // SAFETY: the module reads the data for its length only.
        unsafe { call!(self, C_SignUpdate, session, readable(data), data.len() as CK_ULONG) }
    }

    /// C_SignFinal into `signature`; returns its size in bytes.
    pub fn sign_final(&self, session: CK_SESSION_HANDLE, signature: &mut [u8]) -> Rv<usize> {
        let mut size = signature.len() as CK_ULONG;
        // SAFETY: the module writes at most `size` bytes.
        unsafe { call!(self, C_SignFinal, session, signature.as_mut_ptr(), &mut size) }?;
        Ok((size as usize).min(signature.len()))
    }

    /// C_GetOperationState.
    pub fn operation_state(&self, session: CK_SESSION_HANDLE) -> Rv<Vec<u8>> {
        let mut size = 0;
        // SAFETY: null asks for the size.
        unsafe { call!(self, C_GetOperationState, session, ptr::null_mut(), &mut size) }?;
        let mut state = vec![0; (size as usize).min(MAX_STATE)];
        let mut size = state.len() as CK_ULONG;
        // SAFETY: the vector has `size` bytes.
        unsafe { call!(self, C_GetOperationState, session, state.as_mut_ptr(), &mut size) }?;
        state.truncate(size as usize);
        Ok(state)
    }

    /// C_SetOperationState, of an operation without keys.
    pub fn set_operation_state(&self, session: CK_SESSION_HANDLE, state: &[u8]) -> Rv<()> {
        // SAFETY: the module reads the state for its length only.
        unsafe { call!(self, C_SetOperationState, session, readable(state), state.len() as CK_ULONG, 0, 0) }
    }
}

/// Data for a function that only reads it, though its parameter is not const. Some modules refuse null without data, so this
/// is not null.
fn readable(data: &[u8]) -> *mut u8 {
    data.as_ptr().cast_mut()
}
