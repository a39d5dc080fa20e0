//! The daemon restarts in the middle of what an application does in several calls: nothing of it is lost but time.

use std::ptr::null_mut;

use cryptoki_sys::*;

use crate::call;
use crate::logged_in;
use crate::support::Daemon;
use crate::support::application::{Application, TRUE, attribute, number, plain, with};

const FIRST: &[u8] = b"what comes before, and is longer than a block; ";
const SECOND: &[u8] = b"what comes after";

/// What goes in: its place and length.
fn part(data: &[u8]) -> (*mut CK_BYTE, CK_ULONG) {
    (data.as_ptr().cast_mut(), data.len() as CK_ULONG)
}

struct Middle {
    application: Application,
    session: CK_SESSION_HANDLE,
}

impl Middle {
    fn secret(&self, generator: CK_MECHANISM_TYPE) -> CK_OBJECT_HANDLE {
        let mut template = [
            attribute(CKA_VALUE_LEN, number(32)),
            attribute(CKA_TOKEN, TRUE),
            attribute(CKA_SIGN, TRUE),
            attribute(CKA_LABEL, b"secret"),
        ];
        let (mut mechanism, mut key, template) = (plain(generator), 0, template.as_mut_ptr());
        let code =
            call!(self.application, C_GenerateKey, self.session, &mut mechanism, template, 4, &mut key);
        assert_eq!(code, CKR_OK);
        key
    }

    /// Opens a session: each operation has its own.
    fn open(&self, slot: u32) -> CK_SESSION_HANDLE {
        self.application.open(slot, 0).unwrap()
    }

    fn sign_begin(&self, session: CK_SESSION_HANDLE, mechanism: CK_MECHANISM_TYPE, key: CK_OBJECT_HANDLE) {
        assert_eq!(self.application.sign_init(session, mechanism, key), CKR_OK);
        let (data, length) = part(FIRST);
        assert_eq!(call!(self.application, C_SignUpdate, session, data, length), CKR_OK);
    }

    fn sign_end(&self, session: CK_SESSION_HANDLE) -> Vec<u8> {
        let (data, length) = part(SECOND);
        assert_eq!(call!(self.application, C_SignUpdate, session, data, length), CKR_OK);
        let (mut out, mut length) = (vec![0; 512], 512);
        assert_eq!(call!(self.application, C_SignFinal, session, out.as_mut_ptr(), &mut length), CKR_OK);
        out.truncate(length as usize);
        out
    }

    /// What comes out of the first part.
    fn encrypt_begin(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: &mut CK_MECHANISM,
        key: CK_OBJECT_HANDLE,
    ) -> Vec<u8> {
        assert_eq!(call!(self.application, C_EncryptInit, session, mechanism, key), CKR_OK);
        self.encrypt_part(session, FIRST)
    }

    fn encrypt_part(&self, session: CK_SESSION_HANDLE, data: &[u8]) -> Vec<u8> {
        let (mut out, mut length, (data, size)) = (vec![0; 512], 512, part(data));
        let place = out.as_mut_ptr();
        assert_eq!(call!(self.application, C_EncryptUpdate, session, data, size, place, &mut length), CKR_OK);
        out.truncate(length as usize);
        out
    }

    fn encrypt_end(&self, session: CK_SESSION_HANDLE) -> Vec<u8> {
        let mut whole = self.encrypt_part(session, SECOND);
        let (mut out, mut length) = (vec![0; 512], 512);
        assert_eq!(call!(self.application, C_EncryptFinal, session, out.as_mut_ptr(), &mut length), CKR_OK);
        whole.extend_from_slice(&out[..length as usize]);
        whole
    }

    fn decrypted(&self, mechanism: &mut CK_MECHANISM, key: CK_OBJECT_HANDLE, sealed: &[u8]) -> Vec<u8> {
        let Middle { application, session } = self;
        assert_eq!(call!(application, C_DecryptInit, *session, mechanism, key), CKR_OK);
        let (mut out, mut length, (data, size)) = (vec![0; 512], 512, part(sealed));
        let code = call!(application, C_Decrypt, *session, data, size, out.as_mut_ptr(), &mut length);
        assert_eq!(code, CKR_OK);
        out.truncate(length as usize);
        out
    }

    fn next_found(&self, session: CK_SESSION_HANDLE) -> Vec<CK_OBJECT_HANDLE> {
        let (mut found, mut count) = ([0; 1], 0);
        assert_eq!(
            call!(self.application, C_FindObjects, session, found.as_mut_ptr(), 1, &mut count),
            CKR_OK
        );
        found[..count as usize].to_vec()
    }
}

pub fn restart(mut daemon: Daemon) {
    let (application, slot, session) = logged_in(&daemon);
    let (key, public) = application.generate(session, "web").unwrap();
    let middle = Middle { application, session };
    let (aes, hmac) = (middle.secret(CKM_AES_KEY_GEN), middle.secret(CKM_GENERIC_SECRET_KEY_GEN));
    let (mut block, mut nonce) = ([7u8; 16], [3u8; 12]);
    let mut cbc = with(CKM_AES_CBC_PAD, &mut block);
    let mut parameters = CK_GCM_PARAMS {
        pIv: nonce.as_mut_ptr(),
        ulIvLen: 12,
        ulIvBits: 96,
        pAAD: null_mut(),
        ulAADLen: 0,
        ulTagBits: 128,
    };
    let mut gcm = with(CKM_AES_GCM, &mut parameters);
    let data = [FIRST, SECOND].concat();
    let [signing, coding, verifying, hashing, chaining, sealing, finding] =
        [(); 7].map(|()| middle.open(slot));
    let application = &middle.application;

    middle.sign_begin(signing, CKM_ECDSA_SHA256, key);
    middle.sign_begin(coding, CKM_SHA256_HMAC, hmac);
    let chained = middle.encrypt_begin(chaining, &mut cbc, aes);
    let sealed = middle.encrypt_begin(sealing, &mut gcm, aes);
    assert_eq!(chained.len(), FIRST.len() / 16 * 16);
    let signature = application.sign(session, key, &data).unwrap();
    let mut ecdsa = plain(CKM_ECDSA_SHA256);
    assert_eq!(call!(application, C_VerifyInit, verifying, &mut ecdsa, public), CKR_OK);
    let (first, length) = part(FIRST);
    assert_eq!(call!(application, C_VerifyUpdate, verifying, first, length), CKR_OK);
    assert_eq!(call!(application, C_DigestInit, hashing, &mut plain(CKM_SHA256)), CKR_OK);
    assert_eq!(call!(application, C_DigestUpdate, hashing, first, length), CKR_OK);
    let mut by_label = [attribute(CKA_LABEL, b"secret")];
    assert_eq!(call!(application, C_FindObjectsInit, finding, by_label.as_mut_ptr(), 1), CKR_OK);
    let mut found = middle.next_found(finding);

    daemon.kill();
    daemon.run();

    found.extend(middle.next_found(finding));
    assert!(middle.next_found(finding).is_empty());
    found.sort_unstable();
    assert_eq!(found, [aes, hmac], "a search goes on, and its handles are those from before");
    let made = middle.sign_end(signing);
    assert_eq!(application.verify(session, public, &data, &made), CKR_OK);
    let (second, length) = part(SECOND);
    assert_eq!(call!(application, C_VerifyUpdate, verifying, second, length), CKR_OK);
    let (given, size) = part(&signature);
    assert_eq!(call!(application, C_VerifyFinal, verifying, given, size), CKR_OK);
    let code = middle.sign_end(coding);
    middle.sign_begin(coding, CKM_SHA256_HMAC, hmac);
    assert_eq!(middle.sign_end(coding), code);
    let chained = [chained, middle.encrypt_end(chaining)].concat();
    assert_eq!(middle.decrypted(&mut cbc, aes, &chained), data);
    let sealed = [sealed, middle.encrypt_end(sealing)].concat();
    assert_eq!(middle.decrypted(&mut gcm, aes, &sealed), data);
    assert_eq!(call!(application, C_DigestUpdate, hashing, second, length), CKR_OK);
    let (mut digest, mut length) = ([0; 32], 32);
    assert_eq!(call!(application, C_DigestFinal, hashing, digest.as_mut_ptr(), &mut length), CKR_OK);
    assert_eq!(digest, aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &data).as_ref());
    assert_eq!(application.state(session), CKS_RW_USER_FUNCTIONS);
}
