//! Data of any length go through in parts: neither the application's process nor the daemon keeps them.

use std::env;
use std::ptr::null_mut;

use cryptoki_sys::*;

use crate::call;
use crate::logged_in;
use crate::support::application::{Application, TRUE, attribute, number, plain};
use crate::support::{Daemon, peak_memory};

/// In the environment of the scenario: how many MiB go through each function.
pub const SIZE: &str = "STRONGROOM_TEST_MIB";

/// What goes in at once, in bytes.
const PART: usize = 1024 * 1024;

/// By how much either process may grow, in bytes; a less than goes through one function.
const GROWTH: u64 = 12 * 1024 * 1024;

struct Streams<'a> {
    application: &'a Application,
    session: CK_SESSION_HANDLE,
    part: Vec<u8>,
    out: Vec<u8>,
}

impl Streams<'_> {
    fn digest(&mut self, parts: usize) {
        let (application, session) = (self.application, self.session);
        assert_eq!(call!(application, C_DigestInit, session, &mut plain(CKM_SHA256)), CKR_OK);
        for _ in 0..parts {
            let part = self.part.as_mut_ptr();
            assert_eq!(call!(application, C_DigestUpdate, session, part, PART as CK_ULONG), CKR_OK);
        }
        let mut length = 64;
        let out = self.out.as_mut_ptr();
        assert_eq!(call!(application, C_DigestFinal, session, out, &mut length), CKR_OK);
    }

    fn sign(&mut self, mechanism: CK_MECHANISM_TYPE, key: CK_OBJECT_HANDLE, parts: usize) {
        let (application, session) = (self.application, self.session);
        assert_eq!(application.sign_init(session, mechanism, key), CKR_OK);
        for _ in 0..parts {
            let part = self.part.as_mut_ptr();
            assert_eq!(call!(application, C_SignUpdate, session, part, PART as CK_ULONG), CKR_OK);
        }
        let mut length = 512;
        let out = self.out.as_mut_ptr();
        assert_eq!(call!(application, C_SignFinal, session, out, &mut length), CKR_OK);
    }

    /// Encrypts, and decrypts what came out, part by part; the last part is the plaintext's.
    fn crypt(&mut self, mut mechanism: CK_MECHANISM, key: CK_OBJECT_HANDLE, parts: usize) {
        let (application, session, room) = (self.application, self.session, self.out.len() as CK_ULONG);
        let mut opened = vec![0; self.out.len()];
        assert_eq!(call!(application, C_EncryptInit, session, &mut mechanism, key), CKR_OK);
        assert_eq!(call!(application, C_DecryptInit, session, &mut mechanism, key), CKR_OK);
        let (mut taken, mut given) = (0, 0);
        for _ in 0..parts {
            let (mut made, part) = (room, self.part.as_mut_ptr());
            let out = self.out.as_mut_ptr();
            let code = call!(application, C_EncryptUpdate, session, part, PART as CK_ULONG, out, &mut made);
            assert_eq!(code, CKR_OK);
            let (mut back, to) = (room, opened.as_mut_ptr());
            assert_eq!(call!(application, C_DecryptUpdate, session, out, made, to, &mut back), CKR_OK);
            (taken, given) = (taken + PART, given + back as usize);
        }
        let (mut made, out) = (room, self.out.as_mut_ptr());
        assert_eq!(call!(application, C_EncryptFinal, session, out, &mut made), CKR_OK);
        let (mut back, to) = (room, opened.as_mut_ptr());
        assert_eq!(call!(application, C_DecryptUpdate, session, out, made, to, &mut back), CKR_OK);
        given += back as usize;
        let mut back = room;
        assert_eq!(call!(application, C_DecryptFinal, session, to, &mut back), CKR_OK);
        assert_eq!(given + back as usize, taken);
    }
}

pub fn streams(daemon: &Daemon) {
    let parts = env::var(SIZE).unwrap().parse().unwrap();
    let (application, _, session) = logged_in(daemon);
    let (curve, _) = application.generate(session, "web").unwrap();
    let public = vec![attribute(CKA_MODULUS_BITS, number(2048))];
    let (rsa, _) = application.generate_from(session, CKM_RSA_PKCS_KEY_PAIR_GEN, public, Vec::new()).unwrap();
    let secret = |generator| {
        let mut template = [attribute(CKA_VALUE_LEN, number(32)), attribute(CKA_SIGN, TRUE)];
        let (mut mechanism, mut key, template) = (plain(generator), 0, template.as_mut_ptr());
        let code = call!(application, C_GenerateKey, session, &mut mechanism, template, 2, &mut key);
        assert_eq!(code, CKR_OK);
        key
    };
    let (aes, hmac) = (secret(CKM_AES_KEY_GEN), secret(CKM_GENERIC_SECRET_KEY_GEN));
    let mut iv = [7u8; 16];
    let cbc =
        CK_MECHANISM { mechanism: CKM_AES_CBC_PAD, pParameter: iv.as_mut_ptr().cast(), ulParameterLen: 16 };
    let mut counter = CK_AES_CTR_PARAMS { ulCounterBits: 128, cb: [7; 16] };
    let ctr = CK_MECHANISM {
        mechanism: CKM_AES_CTR,
        pParameter: (&raw mut counter).cast(),
        ulParameterLen: size_of_val(&counter) as CK_ULONG,
    };
    let (part, out) = (vec![0x5a; PART], vec![0; PART + 64]);
    let mut streams = Streams { application: &application, session, part, out };
    let mut all = |parts| {
        streams.digest(parts);
        streams.sign(CKM_SHA256_RSA_PKCS, rsa, parts);
        streams.sign(CKM_ECDSA_SHA256, curve, parts);
        streams.sign(CKM_SHA256_HMAC, hmac, parts);
        streams.crypt(cbc, aes, parts);
        streams.crypt(ctr, aes, parts);
    };
    // What every message takes is there afterwards.
    all(2);
    let before = [peak_memory(std::process::id()), peak_memory(daemon.id())];
    all(parts);
    let after = [peak_memory(std::process::id()), peak_memory(daemon.id())];
    for (before, after) in before.into_iter().zip(after) {
        assert!(after - before < GROWTH, "{parts} MiB: {before} bytes before, {after} afterwards");
    }
    assert_eq!(call!(application, C_Finalize, null_mut()), CKR_OK);
}
