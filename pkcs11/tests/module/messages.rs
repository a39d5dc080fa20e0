//! Message-based functions: many messages with one key, each with an IV and a tag that stand beside it.

use std::collections::HashSet;
use std::ffi::c_void;
use std::ptr::{from_mut, null_mut};

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use cryptoki_sys::*;

use crate::call;
use crate::logged_in;
use crate::support::Daemon;
use crate::support::application::{Application, TRUE, attribute, number, plain};

const KEY: [u8; 32] = [0x42; 32];
const AAD: &[u8] = b"who it is for";

struct Token {
    application: Application,
    session: CK_SESSION_HANDLE,
    key: CK_OBJECT_HANDLE,
}

fn bytes(data: &[u8]) -> (*mut CK_BYTE, CK_ULONG) {
    (data.as_ptr().cast_mut(), data.len() as CK_ULONG)
}

/// IV, tag, and how the IV is made.
struct Gcm {
    iv: [u8; 12],
    tag: [u8; 16],
    fixed: CK_ULONG,
    generator: CK_GENERATOR_FUNCTION,
}

impl Gcm {
    fn new(generator: CK_GENERATOR_FUNCTION, fixed: CK_ULONG) -> Self {
        Gcm { iv: *b"0123456789ab", tag: [0; 16], fixed, generator }
    }

    fn parameters(&mut self) -> CK_GCM_MESSAGE_PARAMS {
        CK_GCM_MESSAGE_PARAMS {
            pIv: self.iv.as_mut_ptr(),
            ulIvLen: 12,
            ulIvFixedBits: self.fixed,
            ivGenerator: self.generator,
            pTag: self.tag.as_mut_ptr(),
            ulTagBits: 128,
        }
    }
}

const SIZE: CK_ULONG = size_of::<CK_GCM_MESSAGE_PARAMS>() as CK_ULONG;

fn pointer<T>(parameters: &mut T) -> *mut c_void {
    from_mut(parameters).cast()
}

impl Token {
    fn init(&self, mechanism: CK_MECHANISM_TYPE) {
        let Token { application, session, key } = self;
        assert_eq!(call!(application, C_MessageEncryptInit, *session, &mut plain(mechanism), *key), CKR_OK);
        assert_eq!(call!(application, C_MessageDecryptInit, *session, &mut plain(mechanism), *key), CKR_OK);
    }

    fn end(&self) {
        assert_eq!(call!(self.application, C_MessageEncryptFinal, self.session), CKR_OK);
        assert_eq!(call!(self.application, C_MessageDecryptFinal, self.session), CKR_OK);
        let none = CKR_OPERATION_NOT_INITIALIZED;
        assert_eq!(call!(self.application, C_MessageEncryptFinal, self.session), none);
        assert_eq!(call!(self.application, C_MessageDecryptFinal, self.session), none);
    }

    fn encrypt(&self, gcm: &mut Gcm, data: &[u8]) -> Result<Vec<u8>, CK_RV> {
        let mut parameters = gcm.parameters();
        let ((aad, aad_size), (start, size)) = (bytes(AAD), bytes(data));
        let (mut out, mut length) = (vec![0; data.len()], data.len() as CK_ULONG);
        let code = call!(
            self.application,
            C_EncryptMessage,
            self.session,
            pointer(&mut parameters),
            SIZE,
            aad,
            aad_size,
            start,
            size,
            out.as_mut_ptr(),
            &mut length
        );
        assert!(code != CKR_OK || length == size);
        if code == CKR_OK { Ok(out) } else { Err(code) }
    }

    fn decrypt(&self, gcm: &mut Gcm, data: &[u8]) -> Result<Vec<u8>, CK_RV> {
        let mut parameters = gcm.parameters();
        let ((aad, aad_size), (start, size)) = (bytes(AAD), bytes(data));
        let (mut out, mut length) = (vec![0; data.len()], data.len() as CK_ULONG);
        let code = call!(
            self.application,
            C_DecryptMessage,
            self.session,
            pointer(&mut parameters),
            SIZE,
            aad,
            aad_size,
            start,
            size,
            out.as_mut_ptr(),
            &mut length
        );
        if code == CKR_OK { Ok(out) } else { Err(code) }
    }
}

/// What somebody else's AES-GCM opens.
fn opened(gcm: &Gcm, sealed: &[u8]) -> Vec<u8> {
    let msg = [sealed, &gcm.tag].concat();
    let payload = Payload { msg: &msg, aad: AAD };
    Aes256Gcm::new(&KEY.into()).decrypt(&gcm.iv.into(), payload).expect("a right tag")
}

pub fn messages(daemon: &Daemon) {
    let (application, _, session) = logged_in(daemon);
    let mut template = [
        attribute(CKA_CLASS, number(CKO_SECRET_KEY)),
        attribute(CKA_KEY_TYPE, number(CKK_AES)),
        attribute(CKA_TOKEN, TRUE),
        attribute(CKA_VALUE, &KEY),
    ];
    let mut key = 0;
    assert_eq!(call!(application, C_CreateObject, session, template.as_mut_ptr(), 4, &mut key), CKR_OK);
    let token = Token { application, session, key };
    let code = call!(token.application, C_MessageEncryptInit, session, &mut plain(CKM_AES_CBC), key);
    assert_eq!(code, CKR_MECHANISM_INVALID);
    ivs(&token);
    refusals(&token);
    parts(&token);
    ccm(&token);
    signatures(&token);
    token.application.finalize();
}

fn ivs(token: &Token) {
    token.init(CKM_AES_GCM);
    let mut own = Gcm::new(CKG_NO_GENERATE, 0);
    let sealed = token.encrypt(&mut own, b"the first").unwrap();
    assert_eq!((&own.iv, opened(&own, &sealed).as_slice()), (b"0123456789ab", b"the first".as_slice()));
    assert_eq!(token.decrypt(&mut own, &sealed).unwrap(), b"the first");
    assert_eq!(token.encrypt(&mut own, b"").unwrap(), b"");

    let mut seen = HashSet::new();
    for generator in [CKG_GENERATE, CKG_GENERATE_RANDOM, CKG_GENERATE_COUNTER] {
        let mut gcm = Gcm::new(generator, 32);
        let mut before = None;
        for number in 0..20 {
            let data = format!("message {number}");
            let sealed = token.encrypt(&mut gcm, data.as_bytes()).unwrap();
            assert_eq!(opened(&gcm, &sealed), data.as_bytes());
            assert_eq!(token.decrypt(&mut gcm, &sealed).unwrap(), data.as_bytes());
            assert_eq!(gcm.iv[..4], *b"0123", "the fixed bits stay");
            assert!(seen.insert(gcm.iv), "an IV twice");
            let count = u64::from_be_bytes(gcm.iv[4..].try_into().unwrap());
            if let Some(before) = before.replace(count).filter(|_| generator == CKG_GENERATE_COUNTER) {
                assert_eq!(count, u64::wrapping_add(before, 1));
            }
        }
    }
    token.end();
    // As TLS 1.3 makes its nonces (RFC 8446, 5.3).
    token.init(CKM_AES_GCM);
    let mut xor = Gcm::new(CKG_GENERATE_COUNTER_XOR, 32);
    for number in 0..5u8 {
        let sealed = token.encrypt(&mut xor, b"a record").unwrap();
        let mut expected = *b"0123456789ab";
        expected[11] ^= number;
        assert_eq!((xor.iv, opened(&xor, &sealed).as_slice()), (expected, b"a record".as_slice()));
    }
    token.end();
    // Anew it is counted from elsewhere: nobody remembers where it ended.
    let first = |generator| {
        token.init(CKM_AES_GCM);
        let mut gcm = Gcm::new(generator, 32);
        token.encrypt(&mut gcm, b"data").unwrap();
        token.end();
        gcm.iv
    };
    assert_ne!(first(CKG_GENERATE_COUNTER), first(CKG_GENERATE_COUNTER));
    // Whatever the messages before: what is counted by exclusive or is another count.
    let second = || {
        token.init(CKM_AES_GCM);
        let mut xor = Gcm::new(CKG_GENERATE_COUNTER_XOR, 32);
        token.encrypt(&mut xor, b"data").unwrap();
        let mut gcm = Gcm::new(CKG_GENERATE_COUNTER, 32);
        token.encrypt(&mut gcm, b"data").unwrap();
        xor = Gcm::new(CKG_GENERATE_COUNTER_XOR, 32);
        token.encrypt(&mut xor, b"data").unwrap();
        assert_eq!(xor.iv[11], b'b' ^ 1);
        token.end();
        gcm.iv
    };
    assert_ne!(second(), second());
}

fn refusals(token: &Token) {
    let Token { application, session, key } = token;
    assert_eq!(token.encrypt(&mut Gcm::new(CKG_GENERATE, 0), b"data"), Err(CKR_OPERATION_NOT_INITIALIZED));
    token.init(CKM_AES_GCM);
    let code = call!(application, C_MessageEncryptInit, *session, &mut plain(CKM_AES_GCM), *key);
    assert_eq!(code, CKR_OPERATION_ACTIVE);
    let invalid = Err(CKR_MECHANISM_PARAM_INVALID);
    assert_eq!(token.encrypt(&mut Gcm::new(CKG_GENERATE, 40), b"data"), invalid, "too few bits to draw");
    assert_eq!(token.encrypt(&mut Gcm::new(9, 0), b"data"), invalid);
    let mut gcm = Gcm::new(CKG_GENERATE, 0);
    // Asked for the size, and a buffer that is too small: no IV is made.
    let (mut parameters, (start, size)) = (gcm.parameters(), bytes(b"data"));
    let mut length = 0;
    for (buffer, expected) in [(null_mut(), CKR_OK), ([0; 3].as_mut_ptr(), CKR_BUFFER_TOO_SMALL)] {
        let parameters = pointer(&mut parameters);
        let code = call!(
            application,
            C_EncryptMessage,
            *session,
            parameters,
            SIZE,
            null_mut(),
            0,
            start,
            size,
            buffer,
            &mut length
        );
        assert_eq!((code, length, &gcm.iv), (expected, 4, b"0123456789ab"));
        length = 3;
    }
    let sealed = token.encrypt(&mut gcm, b"data").unwrap();
    gcm.tag[3] ^= 1;
    assert_eq!(token.decrypt(&mut gcm, &sealed), Err(CKR_AEAD_DECRYPT_FAILED));
    // A failure ends one message: the next is decrypted.
    gcm.tag[3] ^= 1;
    assert_eq!(token.decrypt(&mut gcm, &sealed).unwrap(), b"data");
    // A message that no memory holds.
    let (mut parameters, mut length) = (gcm.parameters(), 1 << 62);
    let (huge, mut out) = (length, [0; 16]);
    let code = call!(
        application,
        C_DecryptMessage,
        *session,
        pointer(&mut parameters),
        SIZE,
        null_mut(),
        0,
        start,
        huge,
        out.as_mut_ptr(),
        &mut length
    );
    assert_eq!(code, CKR_ENCRYPTED_DATA_LEN_RANGE);
    let flags = CKF_MESSAGE_ENCRYPT | CKF_MESSAGE_DECRYPT;
    assert_eq!(call!(application, C_SessionCancel, *session, flags), CKR_OK);
    assert_eq!(token.decrypt(&mut gcm, &sealed), Err(CKR_OPERATION_NOT_INITIALIZED));
}

fn parts(token: &Token) {
    let Token { application, session, .. } = token;
    token.init(CKM_AES_GCM);
    let data: Vec<u8> = (0..1000).map(|number| number as u8).collect();
    let mut gcm = Gcm::new(CKG_GENERATE, 0);
    let mut parameters = gcm.parameters();
    let (aad, aad_size) = bytes(AAD);
    let code =
        call!(application, C_EncryptMessageBegin, *session, pointer(&mut parameters), SIZE, aad, aad_size);
    assert_eq!(code, CKR_OK);
    assert_eq!(token.encrypt(&mut Gcm::new(CKG_GENERATE, 0), b"data"), Err(CKR_OPERATION_ACTIVE));
    let (mut out, chunks) = (vec![0; data.len()], data.chunks(300).count());
    for (at, part) in data.chunks(300).enumerate() {
        let (start, size) = bytes(part);
        let flags = if at + 1 == chunks { CKF_END_OF_MESSAGE } else { 0 };
        let mut length = 10;
        let next = |length: &mut CK_ULONG, out: &mut Vec<u8>| {
            let mut parameters = parameters;
            call!(
                application,
                C_EncryptMessageNext,
                *session,
                pointer(&mut parameters),
                SIZE,
                start,
                size,
                out.as_mut_ptr(),
                length,
                flags
            )
        };
        if flags != 0 {
            assert_eq!((next(&mut length, &mut out), length), (CKR_BUFFER_TOO_SMALL, 1000));
        }
        assert_eq!(next(&mut length, &mut out), CKR_OK);
        assert_eq!(length, if flags == 0 { 0 } else { 1000 });
    }
    assert_eq!(opened(&gcm, &out), data);
    // Back, with a wrong tag and with the right one.
    for wrong in [1, 0] {
        gcm.tag[0] ^= wrong;
        let mut parameters = gcm.parameters();
        let parameters = pointer(&mut parameters);
        let code = call!(application, C_DecryptMessageBegin, *session, parameters, SIZE, aad, aad_size);
        assert_eq!(code, CKR_OK);
        let (mut plain, mut length) = (vec![0; 1000], 1000);
        let (head, tail) = out.split_at(999);
        let mut codes = Vec::new();
        for (part, flags) in [(head, 0), (tail, CKF_END_OF_MESSAGE)] {
            let (start, size) = bytes(part);
            length = 1000;
            codes.push(call!(
                application,
                C_DecryptMessageNext,
                *session,
                parameters,
                SIZE,
                start,
                size,
                plain.as_mut_ptr(),
                &mut length,
                flags
            ));
        }
        gcm.tag[0] ^= wrong;
        match wrong {
            0 => assert_eq!((codes, length, plain), (vec![CKR_OK; 2], 1000, data.clone())),
            _ => assert_eq!((codes, plain), (vec![CKR_OK, CKR_AEAD_DECRYPT_FAILED], vec![0; 1000])),
        }
    }
    token.end();
}

fn ccm(token: &Token) {
    let Token { application, session, .. } = token;
    token.init(CKM_AES_CCM);
    let (mut nonce, mut mac) = ([9; 13], [0; 8]);
    let mut parameters = CK_CCM_MESSAGE_PARAMS {
        ulDataLen: 4,
        pNonce: nonce.as_mut_ptr(),
        ulNonceLen: 13,
        ulNonceFixedBits: 0,
        nonceGenerator: CKG_GENERATE_RANDOM,
        pMAC: mac.as_mut_ptr(),
        ulMACLen: 8,
    };
    let size = size_of_val(&parameters) as CK_ULONG;
    let (mut sealed, mut length) = ([0; 4], 4);
    let ((aad, aad_size), (start, data_size)) = (bytes(AAD), bytes(b"data"));
    let parameters = pointer(&mut parameters);
    let code = call!(
        application,
        C_EncryptMessage,
        *session,
        parameters,
        size,
        aad,
        aad_size,
        start,
        data_size,
        sealed.as_mut_ptr(),
        &mut length
    );
    assert_eq!((code, length), (CKR_OK, 4));
    assert_ne!((nonce, mac), ([9; 13], [0; 8]));
    // The same message through the functions of 2.40, which known answers check.
    let mut old = CK_CCM_PARAMS {
        ulDataLen: 4,
        pNonce: nonce.as_mut_ptr(),
        ulNonceLen: 13,
        pAAD: aad,
        ulAADLen: aad_size,
        ulMACLen: 8,
    };
    let old_size = size_of_val(&old) as CK_ULONG;
    let mut mechanism =
        CK_MECHANISM { mechanism: CKM_AES_CCM, pParameter: pointer(&mut old), ulParameterLen: old_size };
    assert_eq!(call!(application, C_DecryptInit, *session, &mut mechanism, token.key), CKR_OK);
    let whole = [sealed.as_slice(), &mac].concat();
    let (start, whole_size) = bytes(&whole);
    let (mut plain, mut length) = ([0; 12], 12);
    let code = call!(application, C_Decrypt, *session, start, whole_size, plain.as_mut_ptr(), &mut length);
    assert_eq!((code, &plain[..length as usize]), (CKR_OK, b"data".as_slice()));
    token.end();
}

fn signatures(token: &Token) {
    let Token { application, session, .. } = token;
    let (private, public) = application.generate(*session, "web").unwrap();
    let mut mechanism = plain(CKM_ECDSA_SHA256);
    assert_eq!(call!(application, C_MessageSignInit, *session, &mut mechanism, private), CKR_OK);
    assert_eq!(call!(application, C_MessageVerifyInit, *session, &mut mechanism, public), CKR_OK);
    let none = null_mut();
    for number in 0..5 {
        let data = format!("the message with the number {number}");
        let ((start, size), mut signature, mut length) = (bytes(data.as_bytes()), [0; 64], 64);
        let place = signature.as_mut_ptr();
        let code = call!(application, C_SignMessage, *session, none, 0, start, size, place, &mut length);
        assert_eq!((code, length), (CKR_OK, 64));
        assert_eq!(application.verify(*session, public, data.as_bytes(), &signature), CKR_OK);
        let verify = |size| call!(application, C_VerifyMessage, *session, none, 0, start, size, place, 64);
        assert_eq!([verify(size), verify(size - 1)], [CKR_OK, CKR_SIGNATURE_INVALID]);

        // In parts.
        assert_eq!(call!(application, C_SignMessageBegin, *session, none, 0), CKR_OK);
        assert_eq!(call!(application, C_VerifyMessageBegin, *session, none, 0), CKR_OK);
        let sign = |at: usize, length: usize, place, place_length: *mut CK_ULONG| {
            let start = start.wrapping_add(at);
            let size = length as CK_ULONG;
            call!(application, C_SignMessageNext, *session, none, 0, start, size, place, place_length)
        };
        assert_eq!(sign(0, 7, none.cast(), null_mut()), CKR_OK);
        let mut length = 63;
        assert_eq!((sign(7, size as usize - 7, place, &mut length), length), (CKR_BUFFER_TOO_SMALL, 64));
        assert_eq!(sign(7, size as usize - 7, place, &mut length), CKR_OK);
        assert_eq!(application.verify(*session, public, data.as_bytes(), &signature), CKR_OK);
        let verify = |at: usize, length: CK_ULONG, place, place_length| {
            let start = start.wrapping_add(at);
            call!(application, C_VerifyMessageNext, *session, none, 0, start, length, place, place_length)
        };
        assert_eq!(verify(0, 9, none.cast(), 0), CKR_OK);
        assert_eq!(verify(9, size - 9, place, 64), CKR_OK);
    }
    let mut parameter = 0u8;
    let (start, size) = bytes(b"data");
    let code = call!(
        application,
        C_SignMessage,
        *session,
        pointer(&mut parameter),
        1,
        start,
        size,
        none.cast(),
        null_mut()
    );
    assert_eq!(code, CKR_MECHANISM_PARAM_INVALID);
    assert_eq!(call!(application, C_MessageSignFinal, *session), CKR_OK);
    assert_eq!(call!(application, C_MessageVerifyFinal, *session), CKR_OK);
    let code = call!(application, C_SignMessageBegin, *session, none, 0);
    assert_eq!(code, CKR_OPERATION_NOT_INITIALIZED);
}

/// C_SessionCancel while another thread's call waits for the daemon: the messages end, and do not come back with the call.
pub fn canceled_in_hand(daemon: &Daemon) {
    let (application, _, session) = logged_in(daemon);
    let mut template = [attribute(CKA_VALUE_LEN, number(32))];
    let (mut key, mut generator) = (0, plain(CKM_AES_KEY_GEN));
    let code = call!(application, C_GenerateKey, session, &mut generator, template.as_mut_ptr(), 1, &mut key);
    assert_eq!(code, CKR_OK);
    let token = Token { application, session, key };
    let none = Err(CKR_OPERATION_NOT_INITIALIZED);
    let encrypt = || token.encrypt(&mut Gcm::new(CKG_NO_GENERATE, 0), b"message");
    token.init(CKM_AES_GCM);
    assert!(encrypt().is_ok());
    daemon.pause();
    std::thread::scope(|scope| {
        // The other thread may have them in hand for an instant, to refuse what it is asked.
        let waiting = scope.spawn(|| {
            loop {
                match encrypt() {
                    Err(CKR_OPERATION_NOT_INITIALIZED) => {}
                    done => return done,
                }
            }
        });
        let in_hand = || {
            let application = &token.application;
            let (none, mut length) = (null_mut(), 0);
            let code = call!(
                application,
                C_EncryptMessage,
                session,
                none,
                0,
                null_mut(),
                0,
                null_mut(),
                0,
                null_mut(),
                &mut length
            );
            code == CKR_OPERATION_NOT_INITIALIZED
        };
        while !in_hand() {
            std::thread::yield_now();
        }
        assert_eq!(call!(token.application, C_SessionCancel, session, CKF_MESSAGE_ENCRYPT), CKR_OK);
        daemon.resume();
        assert!(waiting.join().unwrap().is_ok());
    });
    assert_eq!(encrypt(), none);
    // Those of the other kind go on.
    assert_eq!(call!(token.application, C_MessageDecryptFinal, session), CKR_OK);
    token.application.finalize();
}
