//! Operations in parts: who asks for a size goes on, the function for a whole message ends none in parts, and no length that an
//! application says ends its process.

use std::ptr::null_mut;

use cryptoki_sys::*;

use crate::call;
use crate::logged_in;
use crate::support::Daemon;
use crate::support::application::{Application, TRUE, attribute, number, plain};

/// No memory is so long.
const HUGE: CK_ULONG = 1 << 62;

const NONE: Result<Vec<u8>, CK_RV> = Err(CKR_OPERATION_NOT_INITIALIZED);

struct Token {
    application: Application,
    session: CK_SESSION_HANDLE,
    key: CK_OBJECT_HANDLE,
}

/// What a function with an output gives, in a buffer of 100 bytes.
macro_rules! out {
    ($token:expr, $function:ident $(, $argument:expr)*) => {{
        let (mut buffer, mut length) = (vec![0u8; 100], 100);
        match call!($token.application, $function, $token.session $(, $argument)*, buffer.as_mut_ptr(), &mut length) {
            CKR_OK => {
                buffer.truncate(length as usize);
                Ok(buffer)
            }
            code => Err(code),
        }
    }};
}

fn cbc(mechanism: CK_MECHANISM_TYPE, iv: &mut [u8; 16]) -> CK_MECHANISM {
    CK_MECHANISM { mechanism, pParameter: iv.as_mut_ptr().cast(), ulParameterLen: 16 }
}

impl Token {
    fn init(&self, is_encryption: bool, mechanism: CK_MECHANISM_TYPE) {
        let mut iv = [7; 16];
        let mut mechanism = cbc(mechanism, &mut iv);
        let code = match is_encryption {
            true => call!(self.application, C_EncryptInit, self.session, &mut mechanism, self.key),
            false => call!(self.application, C_DecryptInit, self.session, &mut mechanism, self.key),
        };
        assert_eq!(code, CKR_OK);
    }

    /// Encrypts or decrypts the parts, and asks for the size of the end after each.
    fn asking(
        &self,
        is_encryption: bool,
        mechanism: CK_MECHANISM_TYPE,
        parts: &[&[u8]],
    ) -> Result<Vec<u8>, CK_RV> {
        self.init(is_encryption, mechanism);
        let mut made = Vec::new();
        for part in parts {
            let (start, size) = bytes(part);
            made.extend(match is_encryption {
                true => out!(self, C_EncryptUpdate, start, size)?,
                false => out!(self, C_DecryptUpdate, start, size)?,
            });
            let mut length = 0;
            let code = match is_encryption {
                true => call!(self.application, C_EncryptFinal, self.session, null_mut(), &mut length),
                false => call!(self.application, C_DecryptFinal, self.session, null_mut(), &mut length),
            };
            if code != CKR_OK {
                return Err(code);
            }
        }
        made.extend(match is_encryption {
            true => out!(self, C_EncryptFinal)?,
            false => out!(self, C_DecryptFinal)?,
        });
        Ok(made)
    }
}

fn bytes(data: &[u8]) -> (*mut CK_BYTE, CK_ULONG) {
    (data.as_ptr().cast_mut(), data.len() as CK_ULONG)
}

pub fn in_parts(daemon: &Daemon) {
    let (application, _, session) = logged_in(daemon);
    let mut template = [attribute(CKA_TOKEN, TRUE), attribute(CKA_VALUE_LEN, number(16))];
    let (mut mechanism, mut key) = (plain(CKM_AES_KEY_GEN), 0);
    let code = call!(application, C_GenerateKey, session, &mut mechanism, template.as_mut_ptr(), 2, &mut key);
    assert_eq!(code, CKR_OK);
    let token = Token { application, session, key };
    sizes_of_the_end(&token);
    whole_messages(&token);
    dual(&token);
    lengths(&token);
    token.application.finalize();
}

/// Who asks how much will come out at the end has not ended the message.
fn sizes_of_the_end(token: &Token) {
    let data: Vec<u8> = (0..37).collect();
    for mechanism in [CKM_AES_CBC_PAD, CKM_AES_CBC] {
        let data = if mechanism == CKM_AES_CBC { &data[..32] } else { &data };
        token.init(true, mechanism);
        let (start, size) = bytes(data);
        let sealed = out!(token, C_Encrypt, start, size).unwrap();
        // With padding the size is known anywhere in the message; without it at the end of a block.
        let first = if mechanism == CKM_AES_CBC { 16 } else { 10 };
        let parts = [&data[..first], &data[first..]];
        assert_eq!(token.asking(true, mechanism, &parts).as_ref(), Ok(&sealed));
        let parts = [&sealed[..16], &sealed[16..]];
        // What is padded elsewhere is padding in the middle only by accident, and this is none.
        let opened = token.asking(false, mechanism, &parts);
        match mechanism {
            CKM_AES_CBC => assert_eq!(opened, Ok(data.to_vec())),
            _ => assert_eq!(opened, Err(CKR_ENCRYPTED_DATA_INVALID)),
        }
    }
    // Not a whole block: nothing is lost without a word.
    assert_eq!(token.asking(true, CKM_AES_CBC, &[&data[..16], &data[..5]]), Err(CKR_DATA_LEN_RANGE));
    token.init(true, CKM_AES_CBC);
    let (start, size) = bytes(&data[..16]);
    out!(token, C_EncryptUpdate, start, size).unwrap();
    let mut length = 9;
    assert_eq!(call!(token.application, C_EncryptFinal, token.session, null_mut(), &mut length), CKR_OK);
    assert_eq!(length, 0);
    let (start, size) = bytes(&data[..5]);
    assert_eq!(out!(token, C_EncryptUpdate, start, size), Ok(Vec::new()));
    assert_eq!(out!(token, C_EncryptFinal), Err(CKR_DATA_LEN_RANGE));
}

/// "C_Sign cannot be used to terminate a multi-part operation", nor `C_Verify`, nor `C_Digest`; and what was tried is over.
fn whole_messages(token: &Token) {
    let Token { application, session, .. } = token;
    let (private, public) = application.generate(*session, "web").unwrap();
    let signature = application.sign(*session, private, b"data").unwrap();
    let (start, size) = bytes(b"data");
    let (mark, mark_size) = bytes(&signature);
    assert_eq!(application.sign_init(*session, CKM_ECDSA_SHA256, private), CKR_OK);
    assert_eq!(call!(application, C_SignUpdate, *session, start, size), CKR_OK);
    assert_eq!(out!(token, C_Sign, start, size), NONE);
    assert_eq!(out!(token, C_SignFinal), NONE);

    let mut ecdsa = plain(CKM_ECDSA_SHA256);
    assert_eq!(call!(application, C_VerifyInit, *session, &mut ecdsa, public), CKR_OK);
    assert_eq!(call!(application, C_VerifyUpdate, *session, start, size), CKR_OK);
    let code = call!(application, C_Verify, *session, null_mut(), 0, mark, mark_size);
    assert_eq!(code, CKR_OPERATION_NOT_INITIALIZED);
    let code = call!(application, C_VerifyFinal, *session, mark, mark_size);
    assert_eq!(code, CKR_OPERATION_NOT_INITIALIZED);

    let code = call!(application, C_VerifySignatureInit, *session, &mut ecdsa, public, mark, mark_size);
    assert_eq!(code, CKR_OK);
    assert_eq!(call!(application, C_VerifySignatureUpdate, *session, start, size), CKR_OK);
    let code = call!(application, C_VerifySignature, *session, null_mut(), 0);
    assert_eq!(code, CKR_OPERATION_NOT_INITIALIZED);

    // A digest that was saved is in parts if it had any data.
    let digest = |has_part: bool, is_restored: bool| {
        assert_eq!(call!(application, C_DigestInit, *session, &mut plain(CKM_SHA256)), CKR_OK);
        if has_part {
            assert_eq!(call!(application, C_DigestUpdate, *session, start, size), CKR_OK);
        }
        if is_restored {
            let mut state = [0; 500];
            let mut length = 500;
            let place = state.as_mut_ptr();
            assert_eq!(call!(application, C_GetOperationState, *session, place, &mut length), CKR_OK);
            assert_eq!(call!(application, C_SetOperationState, *session, place, length, 0, 0), CKR_OK);
        }
        let made = out!(token, C_Digest, start, size);
        assert_eq!(out!(token, C_DigestFinal), NONE, "it is over");
        made.map(|made| made.len())
    };
    for is_restored in [false, true] {
        assert_eq!(digest(false, is_restored), Ok(32));
        assert_eq!(digest(true, is_restored), Err(CKR_OPERATION_NOT_INITIALIZED));
    }
}

/// A bad argument ends both operations, as it ends one.
fn dual(token: &Token) {
    let Token { application, session, .. } = token;
    let mut out = [0; 64];
    let place = out.as_mut_ptr();
    for is_length in [true, false] {
        token.init(true, CKM_AES_CBC_PAD);
        assert_eq!(call!(application, C_DigestInit, *session, &mut plain(CKM_SHA256)), CKR_OK);
        let mut length = 64;
        let code = match is_length {
            true => call!(application, C_DigestEncryptUpdate, *session, place, 16, place, null_mut()),
            false => {
                call!(application, C_DigestEncryptUpdate, *session, null_mut(), 16, place, &mut length)
            }
        };
        assert_eq!(code, CKR_ARGUMENTS_BAD);
        assert_eq!(out!(token, C_EncryptFinal), NONE);
        assert_eq!(out!(token, C_DigestFinal), NONE);
    }
}

/// A message that no memory holds is refused, and ends nothing but its operation.
fn lengths(token: &Token) {
    let Token { application, session, .. } = token;
    let (mut data, mut out) = ([0; 64], [0; 64]);
    let (start, elsewhere) = (data.as_mut_ptr(), out.as_mut_ptr());
    let mut length = HUGE;
    // Unpadded as a whole, in a buffer of any size.
    token.init(false, CKM_AES_CBC_PAD);
    let code = call!(application, C_Decrypt, *session, start, HUGE, elsewhere, &mut length);
    assert_eq!(code, CKR_HOST_MEMORY);
    // In its own place.
    token.init(true, CKM_AES_CBC);
    let code = call!(application, C_Encrypt, *session, start, HUGE, start, &mut length);
    assert_eq!(code, CKR_HOST_MEMORY);
    token.init(true, CKM_AES_CBC);
    let code = call!(application, C_EncryptUpdate, *session, start, HUGE, start, &mut length);
    assert_eq!(code, CKR_HOST_MEMORY);
    token.init(true, CKM_AES_CBC);
    assert_eq!(call!(application, C_DigestInit, *session, &mut plain(CKM_SHA256)), CKR_OK);
    let code = call!(application, C_DigestEncryptUpdate, *session, start, HUGE, start, &mut length);
    assert_eq!(code, CKR_HOST_MEMORY);
    for code in [out!(token, C_EncryptFinal), out!(token, C_DigestFinal)] {
        assert_eq!(code, NONE);
    }
}
