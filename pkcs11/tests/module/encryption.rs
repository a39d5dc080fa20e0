//! Secret keys, encrypting and decrypting.

use std::ptr::null_mut;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use cryptoki_sys::*;

use crate::call;
use crate::logged_in;
use crate::support::Daemon;
use crate::support::application::{Application, FALSE, TRUE, attribute, number, plain};

const VECTORS: &str = include_str!("../../../hsm/tests/vectors/gcm.rsp");

/// The most that a request takes: data, IV and associated data.
const MOST: usize = (1 << 20) - 1024;

/// An application's session.
struct Token {
    application: Application,
    session: CK_SESSION_HANDLE,
}

/// A key and the parameters of one message.
#[derive(Clone, Copy)]
struct Message<'a> {
    key: CK_OBJECT_HANDLE,
    iv: &'a [u8],
    aad: &'a [u8],
    tag: usize,
}

type Init = unsafe extern "C" fn(CK_SESSION_HANDLE, *mut CK_MECHANISM, CK_OBJECT_HANDLE) -> CK_RV;
type Whole =
    unsafe extern "C" fn(CK_SESSION_HANDLE, *mut CK_BYTE, CK_ULONG, *mut CK_BYTE, *mut CK_ULONG) -> CK_RV;
type Final = unsafe extern "C" fn(CK_SESSION_HANDLE, *mut CK_BYTE, *mut CK_ULONG) -> CK_RV;

/// The functions of one direction.
#[derive(Clone, Copy)]
struct Way {
    init: Init,
    whole: Whole,
    update: Whole,
    finish: Final,
}

impl Token {
    fn ways(&self) -> [Way; 2] {
        let list = self.application.list;
        [
            Way {
                init: list.C_EncryptInit.unwrap(),
                whole: list.C_Encrypt.unwrap(),
                update: list.C_EncryptUpdate.unwrap(),
                finish: list.C_EncryptFinal.unwrap(),
            },
            Way {
                init: list.C_DecryptInit.unwrap(),
                whole: list.C_Decrypt.unwrap(),
                update: list.C_DecryptUpdate.unwrap(),
                finish: list.C_DecryptFinal.unwrap(),
            },
        ]
    }

    fn init(&self, way: Way, message: Message<'_>) -> CK_RV {
        let mut parameters = CK_GCM_PARAMS {
            pIv: message.iv.as_ptr().cast_mut(),
            ulIvLen: message.iv.len() as CK_ULONG,
            ulIvBits: message.iv.len() as CK_ULONG * 8,
            pAAD: message.aad.as_ptr().cast_mut(),
            ulAADLen: message.aad.len() as CK_ULONG,
            ulTagBits: message.tag as CK_ULONG * 8,
        };
        let mut mechanism = CK_MECHANISM {
            mechanism: CKM_AES_GCM,
            pParameter: (&raw mut parameters).cast(),
            ulParameterLen: size_of_val(&parameters) as CK_ULONG,
        };
        // SAFETY: pointers to locals with their length.
        unsafe { (way.init)(self.session, &mut mechanism, message.key) }
    }

    /// A message in one part. The buffer has the size that the function asks for, and is what it was if it fails.
    fn whole(&self, way: Way, message: Message<'_>, data: &[u8]) -> Result<Vec<u8>, CK_RV> {
        let ok = |code| if code == CKR_OK { Ok(()) } else { Err(code) };
        ok(self.init(way, message))?;
        let (data, size, mut length) = (data.as_ptr().cast_mut(), data.len() as CK_ULONG, 0);
        // SAFETY: pointers to locals with their length.
        unsafe {
            ok((way.whole)(self.session, data, size, null_mut(), &mut length))?;
            let mut out = vec![0xaa; length as usize + 1];
            if let Err(code) = ok((way.whole)(self.session, data, size, out.as_mut_ptr(), &mut length)) {
                assert!(out.iter().all(|byte| *byte == 0xaa), "nothing is written");
                return Err(code);
            }
            assert_eq!((length as usize + 1, out.pop()), (out.len() + 1, Some(0xaa)));
            Ok(out)
        }
    }

    /// A message in parts of `step` bytes.
    fn in_parts(&self, way: Way, message: Message<'_>, data: &[u8], step: usize) -> Result<Vec<u8>, CK_RV> {
        let ok = |code| if code == CKR_OK { Ok(()) } else { Err(code) };
        ok(self.init(way, message))?;
        let (mut out, mut length) = (vec![0xaa; data.len() + 16], 0);
        // SAFETY: pointers to locals with their length.
        unsafe {
            for part in data.chunks(step) {
                let (start, size) = (part.as_ptr().cast_mut(), part.len() as CK_ULONG);
                // Asking for the size takes nothing.
                ok((way.update)(self.session, start, size, null_mut(), &mut length))?;
                assert!(length >= size);
                ok((way.update)(self.session, start, size, out.as_mut_ptr(), &mut length))?;
                assert_eq!(length, 0, "nothing is known to be right yet");
            }
            ok((way.finish)(self.session, null_mut(), &mut length))?;
            if length > 0 {
                let mut short = length - 1;
                let code = (way.finish)(self.session, out.as_mut_ptr(), &mut short);
                assert_eq!((code, short), (CKR_BUFFER_TOO_SMALL, length));
            }
            ok((way.finish)(self.session, out.as_mut_ptr(), &mut length))?;
        }
        out.truncate(length as usize);
        Ok(out)
    }

    fn import(&self, value: &[u8]) -> Result<CK_OBJECT_HANDLE, CK_RV> {
        self.create(&[attribute(CKA_TOKEN, TRUE), attribute(CKA_VALUE, value)])
    }

    fn create(&self, more: &[CK_ATTRIBUTE]) -> Result<CK_OBJECT_HANDLE, CK_RV> {
        let aes = [attribute(CKA_CLASS, number(CKO_SECRET_KEY)), attribute(CKA_KEY_TYPE, number(CKK_AES))];
        let (mut template, mut key) = ([&aes[..], more].concat(), 0);
        let count = template.len() as CK_ULONG;
        match call!(self.application, C_CreateObject, self.session, template.as_mut_ptr(), count, &mut key) {
            CKR_OK => Ok(key),
            code => Err(code),
        }
    }

    fn generate(&self, length: CK_ULONG, more: &[CK_ATTRIBUTE]) -> Result<CK_OBJECT_HANDLE, CK_RV> {
        let common = [attribute(CKA_TOKEN, TRUE), attribute(CKA_VALUE_LEN, number(length))];
        self.generate_from(CKM_AES_KEY_GEN, [&common[..], more].concat())
    }

    fn generate_from(
        &self,
        mechanism: CK_MECHANISM_TYPE,
        mut template: Vec<CK_ATTRIBUTE>,
    ) -> Result<CK_OBJECT_HANDLE, CK_RV> {
        let (mut mechanism, mut key) = (plain(mechanism), 0);
        let (pointer, count) = (template.as_mut_ptr(), template.len() as CK_ULONG);
        match call!(self.application, C_GenerateKey, self.session, &mut mechanism, pointer, count, &mut key) {
            CKR_OK => Ok(key),
            code => Err(code),
        }
    }
}

fn token(daemon: &Daemon) -> Token {
    let (application, _, session) = logged_in(daemon);
    Token { application, session }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

pub fn vectors(daemon: &Daemon) {
    let token = token(daemon);
    let [encrypt, decrypt] = token.ways();
    let mut count = 0;
    for block in VECTORS.split("\n\n").skip(1) {
        let field = |name: &str| {
            let found =
                block.lines().filter_map(|line| line.split_once(" =")).find(|(field, _)| *field == name);
            found.map(|(_, value)| hex(value.trim()))
        };
        let [key, iv, aad, ciphertext, tag] =
            ["Key", "IV", "AAD", "CT", "Tag"].map(|name| field(name).unwrap());
        let sealed = [ciphertext, tag.clone()].concat();
        let key = token.import(&key).unwrap();
        let message = Message { key, iv: &iv, aad: &aad, tag: tag.len() };
        match field("PT") {
            Some(data) => {
                assert_eq!(token.whole(encrypt, message, &data).as_ref(), Ok(&sealed));
                assert_eq!(token.in_parts(encrypt, message, &data, 7), Ok(sealed.clone()));
                assert_eq!(token.whole(decrypt, message, &sealed).as_ref(), Ok(&data));
                assert_eq!(token.in_parts(decrypt, message, &sealed, 7), Ok(data));
            }
            None => {
                assert_eq!(token.whole(decrypt, message, &sealed), Err(CKR_ENCRYPTED_DATA_INVALID));
                assert_eq!(token.in_parts(decrypt, message, &sealed, 7), Err(CKR_ENCRYPTED_DATA_INVALID));
            }
        }
        count += 1;
    }
    assert_eq!(count, 39);
}

pub fn encryption(daemon: &Daemon) {
    let token = token(daemon);
    let [encrypt, decrypt] = token.ways();
    let value = [0x5a; 32];
    let key = token.import(&value).unwrap();
    let message = Message { key, iv: &[1; 12], aad: b"header", tag: 16 };

    // Another implementation opens what this one sealed, and the other way round.
    let other = Aes256Gcm::new(&value.into());
    for size in [0, 1, 15, 16, 17, 4096, 65536, MOST - 18] {
        let data: Vec<u8> = (0..size).map(|index| (index * 7 + index / 251) as u8).collect();
        let sealed = token.whole(encrypt, message, &data).unwrap();
        let theirs = other.encrypt(&[1; 12].into(), Payload { msg: &data, aad: b"header" }).unwrap();
        assert!(sealed == theirs, "{size} bytes");
        if size + 16 <= MOST - 18 {
            assert!(token.whole(decrypt, message, &theirs).unwrap() == data, "{size} bytes");
        }
    }
    let large = vec![0; MOST - 17];
    assert_eq!(token.whole(encrypt, message, &large), Err(CKR_DATA_LEN_RANGE));
    assert_eq!(token.in_parts(encrypt, message, &large, 100_000), Err(CKR_DATA_LEN_RANGE));
    assert_eq!(token.whole(decrypt, message, &large), Err(CKR_ENCRYPTED_DATA_LEN_RANGE));
    assert_eq!(token.whole(decrypt, message, &[0; 15]), Err(CKR_ENCRYPTED_DATA_LEN_RANGE));
    assert_eq!(token.in_parts(decrypt, message, &[0; 15], 4), Err(CKR_ENCRYPTED_DATA_LEN_RANGE));

    // Nothing that was changed is opened, and nothing of it is given out.
    let data = b"what nobody may change".as_slice();
    let sealed = token.whole(encrypt, message, data).unwrap();
    for at in [0, data.len() - 1, data.len(), sealed.len() - 1] {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert_eq!(token.whole(decrypt, message, &changed), Err(CKR_ENCRYPTED_DATA_INVALID));
        assert_eq!(token.in_parts(decrypt, message, &changed, 5), Err(CKR_ENCRYPTED_DATA_INVALID));
    }
    for wrong in [
        Message { iv: &[2; 12], ..message },
        Message { aad: b"", ..message },
        Message { tag: 15, ..message },
        Message { key: token.import(&[1; 32]).unwrap(), ..message },
    ] {
        assert_eq!(token.whole(decrypt, wrong, &sealed), Err(CKR_ENCRYPTED_DATA_INVALID));
    }

    // In place, as the standard allows.
    let mut place = [data, &[0; 16]].concat();
    let (start, mut length) = (place.as_mut_ptr(), place.len() as CK_ULONG);
    assert_eq!(token.init(encrypt, message), CKR_OK);
    assert_eq!(
        call!(token.application, C_Encrypt, token.session, start, data.len() as CK_ULONG, start, &mut length),
        CKR_OK
    );
    assert_eq!(place, sealed);
    assert_eq!(token.init(decrypt, message), CKR_OK);
    assert_eq!(call!(token.application, C_Decrypt, token.session, start, length, start, &mut length), CKR_OK);
    assert_eq!(&place[..length as usize], data);

    conventions(&token, message, data);
    policies(&token);

    // One operation, one round trip.
    let before = daemon.requests();
    for _ in 0..10 {
        token.whole(encrypt, message, data).unwrap();
    }
    assert_eq!(daemon.requests() - before, 10 + Daemon::OWN_REQUESTS);
}

/// What ends an operation, and what does not.
fn conventions(token: &Token, message: Message<'_>, data: &[u8]) {
    let (application, session) = (&token.application, token.session);
    let [encrypt, decrypt] = token.ways();
    let (start, size) = (data.as_ptr().cast_mut(), data.len() as CK_ULONG);
    let (mut out, mut length) = ([0; 100], 3);
    assert_eq!(token.init(encrypt, message), CKR_OK);
    assert_eq!(token.init(encrypt, message), CKR_OPERATION_ACTIVE);
    assert_eq!(token.init(decrypt, message), CKR_OK, "side by side");
    let code = call!(application, C_Encrypt, session, start, size, out.as_mut_ptr(), &mut length);
    assert_eq!((code, length), (CKR_BUFFER_TOO_SMALL, size + 16));
    assert_eq!(call!(application, C_Encrypt, session, start, size, out.as_mut_ptr(), &mut length), CKR_OK);
    let code = call!(application, C_Encrypt, session, start, size, out.as_mut_ptr(), &mut length);
    assert_eq!(code, CKR_OPERATION_NOT_INITIALIZED);
    assert_eq!(call!(application, C_SessionCancel, session, CKF_DECRYPT), CKR_OK);
    let code = call!(application, C_DecryptFinal, session, out.as_mut_ptr(), &mut length);
    assert_eq!(code, CKR_OPERATION_NOT_INITIALIZED);

    // C_Encrypt does not end what was begun in parts.
    assert_eq!(token.init(encrypt, message), CKR_OK);
    assert_eq!(
        call!(application, C_EncryptUpdate, session, start, size, out.as_mut_ptr(), &mut length),
        CKR_OK
    );
    length = 100;
    let code = call!(application, C_Encrypt, session, start, size, out.as_mut_ptr(), &mut length);
    assert_eq!(code, CKR_OPERATION_NOT_INITIALIZED);
    assert_eq!(token.init(encrypt, message), CKR_OK, "it is over");
    assert_eq!(call!(application, C_EncryptInit, session, null_mut(), 0), CKR_OK, "cancelled");

    // Null pointers end an operation, with an error.
    assert_eq!(token.init(encrypt, message), CKR_OK);
    assert_eq!(
        call!(application, C_Encrypt, session, null_mut(), 4, null_mut(), null_mut()),
        CKR_ARGUMENTS_BAD
    );
    assert_eq!(token.init(encrypt, message), CKR_OK);
    assert_eq!(
        call!(application, C_EncryptUpdate, session, start, size, out.as_mut_ptr(), null_mut()),
        CKR_ARGUMENTS_BAD
    );
    assert_eq!(token.init(encrypt, Message { iv: &[], ..message }), CKR_MECHANISM_PARAM_INVALID);
    assert_eq!(token.init(encrypt, Message { tag: 8, ..message }), CKR_MECHANISM_PARAM_INVALID);
    assert_eq!(token.init(encrypt, Message { key: 4711, ..message }), CKR_KEY_HANDLE_INVALID);
    let code = call!(application, C_EncryptInit, session, &mut plain(CKM_ECDSA), message.key);
    assert_eq!(code, CKR_MECHANISM_INVALID);
    let (private, public) = application.generate(session, "pair").unwrap();
    for key in [private, public] {
        assert_eq!(token.init(encrypt, Message { key, ..message }), CKR_KEY_TYPE_INCONSISTENT);
    }
    assert_eq!(application.sign_init(session, CKM_ECDSA, message.key), CKR_KEY_TYPE_INCONSISTENT);
}

fn policies(token: &Token) {
    let (application, session) = (&token.application, token.session);
    let [encrypt, decrypt] = token.ways();
    let of = |key| Message { key, iv: &[1; 12], aad: b"", tag: 16 };
    let key = token.generate(32, &[attribute(CKA_LABEL, b"backups"), attribute(CKA_DECRYPT, FALSE)]).unwrap();
    assert_eq!(token.init(decrypt, of(key)), CKR_KEY_FUNCTION_NOT_PERMITTED);
    assert!(token.whole(encrypt, of(key), b"data").is_ok());
    let template =
        [attribute(CKA_TOKEN, TRUE), attribute(CKA_ENCRYPT, FALSE), attribute(CKA_VALUE, &[7; 16])];
    let imported = token.create(&template).unwrap();
    assert_eq!(token.init(encrypt, of(imported)), CKR_KEY_FUNCTION_NOT_PERMITTED);

    // What a key says of itself.
    let get = |key, kind| application.get(session, key, kind);
    for (kind, generated, other) in [
        (CKA_CLASS, number(CKO_SECRET_KEY), number(CKO_SECRET_KEY)),
        (CKA_KEY_TYPE, number(CKK_AES), number(CKK_AES)),
        (CKA_VALUE_LEN, number(32), number(16)),
        (CKA_LOCAL, TRUE, FALSE),
        (CKA_KEY_GEN_MECHANISM, number(CKM_AES_KEY_GEN), number(CK_UNAVAILABLE_INFORMATION)),
        (CKA_SENSITIVE, TRUE, TRUE),
        (CKA_ALWAYS_SENSITIVE, TRUE, FALSE),
        (CKA_EXTRACTABLE, FALSE, FALSE),
        (CKA_NEVER_EXTRACTABLE, TRUE, FALSE),
        (CKA_PRIVATE, TRUE, TRUE),
        (CKA_ENCRYPT, TRUE, FALSE),
        (CKA_DECRYPT, FALSE, TRUE),
        (CKA_SIGN, FALSE, FALSE),
        (CKA_WRAP, FALSE, FALSE),
    ] {
        assert_eq!(get(key, kind).as_deref(), Ok(generated), "{kind:#x}");
        assert_eq!(get(imported, kind).as_deref(), Ok(other), "{kind:#x}");
    }
    assert_eq!(get(key, CKA_VALUE), Err(CKR_ATTRIBUTE_SENSITIVE));
    for absent in [CKA_MODULUS, CKA_PUBLIC_KEY_INFO, CKA_EC_POINT, CKA_SUBJECT] {
        assert_eq!(get(key, absent), Err(CKR_ATTRIBUTE_TYPE_INVALID));
    }
    let mut labelled = [attribute(CKA_CLASS, number(CKO_SECRET_KEY)), attribute(CKA_LABEL, b"backups")];
    assert_eq!(application.find(session, &mut labelled), [key]);
    let mut renamed = attribute(CKA_LABEL, b"archive");
    assert_eq!(call!(application, C_SetAttributeValue, session, key, &mut renamed, 1), CKR_OK);
    assert_eq!(application.find(session, &mut labelled), [0; 0]);
    assert!(token.whole(encrypt, of(key), b"data").is_ok());

    // What cannot be made.
    let refused = |more: &[CK_ATTRIBUTE]| token.generate(16, more).unwrap_err();
    assert_eq!(refused(&[attribute(CKA_SENSITIVE, &[7])]), CKR_ATTRIBUTE_VALUE_INVALID);
    assert_eq!(refused(&[attribute(CKA_PRIVATE, FALSE)]), CKR_TEMPLATE_INCONSISTENT);
    assert_eq!(refused(&[attribute(CKA_VALUE, &[1; 16])]), CKR_TEMPLATE_INCONSISTENT);
    assert_eq!(refused(&[attribute(CKA_KEY_TYPE, number(CKK_DES3))]), CKR_TEMPLATE_INCONSISTENT);
    assert_eq!(refused(&[attribute(CKA_LOCAL, TRUE)]), CKR_ATTRIBUTE_READ_ONLY);
    assert_eq!(refused(&[attribute(CKA_MODULUS_BITS, number(2048))]), CKR_ATTRIBUTE_TYPE_INVALID);
    assert_eq!(token.generate(17, &[]), Err(CKR_ATTRIBUTE_VALUE_INVALID));
    let incomplete = vec![attribute(CKA_TOKEN, TRUE)];
    assert_eq!(token.generate_from(CKM_AES_KEY_GEN, incomplete.clone()), Err(CKR_TEMPLATE_INCOMPLETE));
    assert_eq!(token.generate_from(CKM_EC_KEY_PAIR_GEN, incomplete.clone()), Err(CKR_MECHANISM_INVALID));
    let pair = application.generate_from(session, CKM_AES_KEY_GEN, incomplete.clone(), incomplete);
    assert_eq!(pair, Err(CKR_MECHANISM_INVALID));
    assert_eq!(token.import(&[1; 20]), Err(CKR_ATTRIBUTE_VALUE_INVALID));
    assert_eq!(token.create(&[attribute(CKA_TOKEN, TRUE)]), Err(CKR_TEMPLATE_INCOMPLETE));

    // A key that is gone.
    assert_eq!(token.init(encrypt, of(key)), CKR_OK);
    assert_eq!(call!(application, C_DestroyObject, session, key), CKR_OK);
    let (mut out, mut length) = ([0; 20], 20);
    let data = [1; 4].as_mut_ptr();
    let code = call!(application, C_Encrypt, session, data, 4, out.as_mut_ptr(), &mut length);
    assert_eq!(code, CKR_KEY_HANDLE_INVALID);
}
