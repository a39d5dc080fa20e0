//! An application's session, and operations as one call each.

use std::ptr::null_mut;

use cryptoki_sys::*;

use crate::call;
use crate::support::application::{Application, FALSE, TRUE, attribute, number, plain};
use crate::support::{Daemon, USER};

/// Bytes of hexadecimal digits; blanks between them are left out.
pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// A mechanism with a parameter, which has to outlive it.
pub fn with<T: ?Sized>(mechanism: CK_MECHANISM_TYPE, parameter: &T) -> CK_MECHANISM {
    CK_MECHANISM {
        mechanism,
        pParameter: std::ptr::from_ref(parameter).cast_mut().cast(),
        ulParameterLen: size_of_val(parameter) as CK_ULONG,
    }
}

pub struct Token {
    pub application: Application,
    pub session: CK_SESSION_HANDLE,
}

/// Which functions.
#[derive(Clone, Copy)]
pub enum Way {
    Encrypt,
    Decrypt,
}

fn ok(code: CK_RV) -> Result<(), CK_RV> {
    if code == CKR_OK { Ok(()) } else { Err(code) }
}

impl Token {
    pub fn new(daemon: &Daemon) -> Self {
        let slot = daemon.create_partition("tls");
        let application = Application::load();
        application.initialize();
        let session = application.open_writable(slot);
        assert_eq!(application.login(session, CKU_USER, USER.1), CKR_OK);
        Token { application, session }
    }

    pub fn create(&self, template: &mut [CK_ATTRIBUTE]) -> Result<CK_OBJECT_HANDLE, CK_RV> {
        let (mut handle, count) = (0, template.len() as CK_ULONG);
        let code =
            call!(self.application, C_CreateObject, self.session, template.as_mut_ptr(), count, &mut handle);
        ok(code).map(|()| handle)
    }

    /// A secret key that may do everything that its type can.
    pub fn key(&self, key_type: CK_KEY_TYPE, value: &[u8]) -> Result<CK_OBJECT_HANDLE, CK_RV> {
        self.create(&mut [
            attribute(CKA_CLASS, number(CKO_SECRET_KEY)),
            attribute(CKA_KEY_TYPE, number(key_type)),
            // Of the session: there are thousands.
            attribute(CKA_TOKEN, FALSE),
            attribute(CKA_SENSITIVE, TRUE),
            attribute(CKA_VALUE, value),
            attribute(CKA_ENCRYPT, TRUE),
            attribute(CKA_DECRYPT, TRUE),
            attribute(CKA_SIGN, TRUE),
            attribute(CKA_VERIFY, TRUE),
            attribute(CKA_DERIVE, TRUE),
        ])
    }

    /// A message in one part: the size is asked for first.
    pub fn crypt(
        &self,
        way: Way,
        mut mechanism: CK_MECHANISM,
        key: CK_OBJECT_HANDLE,
        data: &[u8],
    ) -> Result<Vec<u8>, CK_RV> {
        let (list, session) = (self.application.list, self.session);
        let (init, whole) = match way {
            Way::Encrypt => (list.C_EncryptInit.unwrap(), list.C_Encrypt.unwrap()),
            Way::Decrypt => (list.C_DecryptInit.unwrap(), list.C_Decrypt.unwrap()),
        };
        let (from, size, mut length) = (data.as_ptr().cast_mut(), data.len() as CK_ULONG, 0);
        // SAFETY: pointers to locals with their length.
        unsafe {
            ok(init(session, &mut mechanism, key))?;
            ok(whole(session, from, size, null_mut(), &mut length))?;
            let mut out = vec![0xaa; length as usize];
            ok(whole(session, from, size, out.as_mut_ptr(), &mut length))?;
            out.truncate(length as usize);
            Ok(out)
        }
    }

    /// A message in parts of `step` bytes, from and to the same buffer, as far as the parts go.
    pub fn crypt_in_parts(
        &self,
        way: Way,
        mut mechanism: CK_MECHANISM,
        key: CK_OBJECT_HANDLE,
        data: &[u8],
        step: usize,
    ) -> Result<Vec<u8>, CK_RV> {
        let (list, session) = (self.application.list, self.session);
        let (init, update, finish) = match way {
            Way::Encrypt => {
                (list.C_EncryptInit.unwrap(), list.C_EncryptUpdate.unwrap(), list.C_EncryptFinal.unwrap())
            }
            Way::Decrypt => {
                (list.C_DecryptInit.unwrap(), list.C_DecryptUpdate.unwrap(), list.C_DecryptFinal.unwrap())
            }
        };
        let mut out = Vec::new();
        let mut place = vec![0u8; step + 32];
        // SAFETY: pointers to locals with their length.
        unsafe {
            ok(init(session, &mut mechanism, key))?;
            for part in data.chunks(step) {
                place[..part.len()].copy_from_slice(part);
                let (start, size, mut length) = (place.as_mut_ptr(), part.len() as CK_ULONG, 0);
                ok(update(session, start, size, null_mut(), &mut length))?;
                let asked = length;
                ok(update(session, start, size, start, &mut length))?;
                assert_eq!(length, asked, "the size that was said");
                out.extend_from_slice(&place[..length as usize]);
            }
            let mut length = 0;
            ok(finish(session, null_mut(), &mut length))?;
            if length > 0 {
                let mut short = length - 1;
                assert_eq!(finish(session, place.as_mut_ptr(), &mut short), CKR_BUFFER_TOO_SMALL);
            }
            ok(finish(session, place.as_mut_ptr(), &mut length))?;
            out.extend_from_slice(&place[..length as usize]);
            Ok(out)
        }
    }

    /// Signs in one part.
    pub fn sign(
        &self,
        mut mechanism: CK_MECHANISM,
        key: CK_OBJECT_HANDLE,
        data: &[u8],
    ) -> Result<Vec<u8>, CK_RV> {
        ok(call!(self.application, C_SignInit, self.session, &mut mechanism, key))?;
        let (data, size) = (data.as_ptr().cast_mut(), data.len() as CK_ULONG);
        let (mut signature, mut length) = (vec![0; 5000], 5000);
        ok(call!(self.application, C_Sign, self.session, data, size, signature.as_mut_ptr(), &mut length))?;
        signature.truncate(length as usize);
        Ok(signature)
    }

    /// Signs in parts.
    pub fn sign_in_parts(
        &self,
        mut mechanism: CK_MECHANISM,
        key: CK_OBJECT_HANDLE,
        data: &[u8],
        step: usize,
    ) -> Result<Vec<u8>, CK_RV> {
        ok(call!(self.application, C_SignInit, self.session, &mut mechanism, key))?;
        for part in data.chunks(step) {
            let (start, size) = (part.as_ptr().cast_mut(), part.len() as CK_ULONG);
            ok(call!(self.application, C_SignUpdate, self.session, start, size))?;
        }
        let (mut signature, mut length) = (vec![0; 5000], 5000);
        ok(call!(self.application, C_SignFinal, self.session, signature.as_mut_ptr(), &mut length))?;
        signature.truncate(length as usize);
        Ok(signature)
    }

    /// Verifies in one part.
    pub fn verify(
        &self,
        mut mechanism: CK_MECHANISM,
        key: CK_OBJECT_HANDLE,
        data: &[u8],
        signature: &[u8],
    ) -> Result<(), CK_RV> {
        ok(call!(self.application, C_VerifyInit, self.session, &mut mechanism, key))?;
        let (data, size) = (data.as_ptr().cast_mut(), data.len() as CK_ULONG);
        let (signature, length) = (signature.as_ptr().cast_mut(), signature.len() as CK_ULONG);
        ok(call!(self.application, C_Verify, self.session, data, size, signature, length))
    }

    /// Hashes in one part, and in parts.
    pub fn digest(&self, mechanism: CK_MECHANISM_TYPE, data: &[u8]) -> Vec<u8> {
        let (mut digest, mut length) = (vec![0; 64], 64);
        let (start, size) = (data.as_ptr().cast_mut(), data.len() as CK_ULONG);
        let init =
            || assert_eq!(call!(self.application, C_DigestInit, self.session, &mut plain(mechanism)), CKR_OK);
        init();
        assert_eq!(
            call!(self.application, C_Digest, self.session, start, size, digest.as_mut_ptr(), &mut length),
            CKR_OK
        );
        digest.truncate(length as usize);
        let mut again = digest.clone();
        init();
        for part in data.chunks(3) {
            let (start, size) = (part.as_ptr().cast_mut(), part.len() as CK_ULONG);
            assert_eq!(call!(self.application, C_DigestUpdate, self.session, start, size), CKR_OK);
        }
        assert_eq!(
            call!(self.application, C_DigestFinal, self.session, again.as_mut_ptr(), &mut length),
            CKR_OK
        );
        assert_eq!(digest, again);
        digest
    }

    /// Derives a key.
    pub fn derive(
        &self,
        mut mechanism: CK_MECHANISM,
        key: CK_OBJECT_HANDLE,
        mut template: Vec<CK_ATTRIBUTE>,
    ) -> Result<CK_OBJECT_HANDLE, CK_RV> {
        let (template, count, mut made) = (template.as_mut_ptr(), template.len() as CK_ULONG, 0);
        let session = self.session;
        ok(call!(self.application, C_DeriveKey, session, &mut mechanism, key, template, count, &mut made))?;
        Ok(made)
    }

    /// Decapsulates a secret of ML-KEM.
    pub fn decapsulate(
        &self,
        key: CK_OBJECT_HANDLE,
        mut template: Vec<CK_ATTRIBUTE>,
        ciphertext: &[u8],
    ) -> Result<CK_OBJECT_HANDLE, CK_RV> {
        let (template, count, mut made) = (template.as_mut_ptr(), template.len() as CK_ULONG, 0);
        let (bytes, length) = (ciphertext.as_ptr().cast_mut(), ciphertext.len() as CK_ULONG);
        ok(call!(
            self.application,
            C_DecapsulateKey,
            self.session,
            &mut plain(CKM_ML_KEM),
            key,
            template,
            count,
            bytes,
            length,
            &mut made
        ))?;
        Ok(made)
    }

    /// A secret key out of the token, wrapped.
    pub fn wrap(
        &self,
        mut mechanism: CK_MECHANISM,
        with: CK_OBJECT_HANDLE,
        key: CK_OBJECT_HANDLE,
    ) -> Result<Vec<u8>, CK_RV> {
        let (mut wrapped, mut length) = (vec![0; 5000], 5000);
        let (session, out) = (self.session, wrapped.as_mut_ptr());
        ok(call!(self.application, C_WrapKey, session, &mut mechanism, with, key, out, &mut length))?;
        wrapped.truncate(length as usize);
        Ok(wrapped)
    }

    /// A wrapped secret key, which may sign and leave again, into the token.
    pub fn unwrap(
        &self,
        mut mechanism: CK_MECHANISM,
        with: CK_OBJECT_HANDLE,
        wrapped: &[u8],
        key_type: CK_KEY_TYPE,
    ) -> Result<CK_OBJECT_HANDLE, CK_RV> {
        let mut template = [
            attribute(CKA_CLASS, number(CKO_SECRET_KEY)),
            attribute(CKA_KEY_TYPE, number(key_type)),
            attribute(CKA_TOKEN, FALSE),
            attribute(CKA_SIGN, TRUE),
            attribute(CKA_EXTRACTABLE, TRUE),
        ];
        let (template, count, mut made) = (template.as_mut_ptr(), template.len() as CK_ULONG, 0);
        let (bytes, length) = (wrapped.as_ptr().cast_mut(), wrapped.len() as CK_ULONG);
        ok(call!(
            self.application,
            C_UnwrapKey,
            self.session,
            &mut mechanism,
            with,
            bytes,
            length,
            template,
            count,
            &mut made
        ))?;
        Ok(made)
    }

    pub fn destroy(&self, object: CK_OBJECT_HANDLE) {
        assert_eq!(call!(self.application, C_DestroyObject, self.session, object), CKR_OK);
    }
}
