//! Keys that ask for the password each time: which operation it is for.

use cryptoki_sys::*;

use crate::call;
use crate::logged_in;
use crate::support::application::{TRUE, attribute, number, plain};
use crate::support::{Daemon, USER};

pub fn several_operations(daemon: &Daemon) {
    let (application, _, session) = logged_in(daemon);
    let public = vec![attribute(CKA_MODULUS_BITS, number(2048)), attribute(CKA_ENCRYPT, TRUE)];
    let private = [CKA_ALWAYS_AUTHENTICATE, CKA_SIGN, CKA_DECRYPT].map(|kind| attribute(kind, TRUE)).to_vec();
    let made = application.generate_from(session, CKM_RSA_PKCS_KEY_PAIR_GEN, public, private);
    let (key, public) = made.unwrap();
    let (data, mut sealed, mut length) = (b"secret".as_ptr().cast_mut(), [0; 256], 256);
    assert_eq!(call!(application, C_EncryptInit, session, &mut plain(CKM_RSA_PKCS), public), CKR_OK);
    let code = call!(application, C_Encrypt, session, data, 6, sealed.as_mut_ptr(), &mut length);
    assert_eq!(code, CKR_OK);

    let begin_signature = || assert_eq!(application.sign_init(session, CKM_SHA256_RSA_PKCS, key), CKR_OK);
    let begin_decryption =
        || assert_eq!(call!(application, C_DecryptInit, session, &mut plain(CKM_RSA_PKCS), key), CKR_OK);
    let password = || assert_eq!(application.login(session, CKU_CONTEXT_SPECIFIC, USER.1), CKR_OK);
    let sign = || {
        let (mut out, mut length) = ([0; 256], 256);
        call!(application, C_Sign, session, data, 6, out.as_mut_ptr(), &mut length)
    };
    let decrypt = || {
        let (mut out, mut length, mut sealed) = ([0; 256], 256, sealed);
        call!(application, C_Decrypt, session, sealed.as_mut_ptr(), 256, out.as_mut_ptr(), &mut length)
    };
    // Each operation has its own.
    begin_signature();
    password();
    begin_decryption();
    password();
    assert_eq!((sign(), decrypt()), (CKR_OK, CKR_OK));
    // It is for the operation that was begun last, then for the other.
    for both in [false, true] {
        begin_signature();
        begin_decryption();
        password();
        if both {
            password();
        }
        let expected = if both { CKR_OK } else { CKR_USER_NOT_LOGGED_IN };
        assert_eq!((sign(), decrypt()), (expected, CKR_OK));
        begin_decryption();
        begin_signature();
        password();
        if both {
            password();
        }
        assert_eq!((sign(), decrypt()), (CKR_OK, expected));
    }
    application.finalize();
}
