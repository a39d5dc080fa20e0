//! Signing, verifying, random bytes.

use std::ptr::null_mut;

use cryptoki_sys::*;

use crate::call;
use crate::logged_in;
use crate::support::Daemon;
use crate::support::application::{FALSE, P256, TRUE, attribute, number};

pub fn signatures(daemon: &Daemon) {
    let (application, _, session) = logged_in(daemon);
    let (private, public) = application.generate(session, "web").unwrap();

    // Sizes are answered without ending the operation.
    assert_eq!(application.sign_init(session, CKM_ECDSA_SHA256, private), CKR_OK);
    assert_eq!(application.sign_init(session, CKM_ECDSA_SHA256, private), CKR_OPERATION_ACTIVE);
    let mut data = *b"the data";
    let (mut signature, mut length) = ([0; 64], 0);
    let sign = |signature: *mut u8, length: &mut CK_ULONG, data: &mut [u8]| {
        call!(application, C_Sign, session, data.as_mut_ptr(), data.len() as CK_ULONG, signature, length)
    };
    assert_eq!(sign(null_mut(), &mut length, &mut data), CKR_OK);
    assert_eq!(length, 64);
    length = 63;
    assert_eq!(sign(signature.as_mut_ptr(), &mut length, &mut data), CKR_BUFFER_TOO_SMALL);
    assert_eq!(length, 64);
    assert_eq!(sign(signature.as_mut_ptr(), &mut length, &mut data), CKR_OK);
    assert_eq!(sign(signature.as_mut_ptr(), &mut length, &mut data), CKR_OPERATION_NOT_INITIALIZED);
    assert_eq!(application.verify(session, public, &data, &signature), CKR_OK);
    assert_eq!(application.verify(session, public, b"other data", &signature), CKR_SIGNATURE_INVALID);
    assert_eq!(application.verify(session, public, &data, &signature[..63]), CKR_SIGNATURE_LEN_RANGE);
    assert_eq!(application.verify(session, private, &data, &signature), CKR_KEY_TYPE_INCONSISTENT);

    // A signature is one round trip.
    let before = daemon.requests();
    for _ in 0..10 {
        assert!(application.sign(session, private, &data).is_ok());
    }
    assert_eq!(daemon.requests() - before, 10 + Daemon::OWN_REQUESTS);

    // In parts.
    assert_eq!(application.sign_init(session, CKM_ECDSA_SHA256, private), CKR_OK);
    for part in data.chunks_mut(3) {
        assert_eq!(
            call!(application, C_SignUpdate, session, part.as_mut_ptr(), part.len() as CK_ULONG),
            CKR_OK
        );
    }
    assert_eq!(call!(application, C_SignFinal, session, null_mut(), &mut length), CKR_OK);
    assert_eq!(call!(application, C_SignFinal, session, signature.as_mut_ptr(), &mut length), CKR_OK);
    assert_eq!(application.verify(session, public, &data, &signature), CKR_OK);

    // What does not fit.
    assert_eq!(application.sign_init(session, CKM_SHA256_RSA_PKCS, private), CKR_KEY_TYPE_INCONSISTENT);
    assert_eq!(application.sign_init(session, CKM_AES_CBC, private), CKR_MECHANISM_INVALID);
    assert_eq!(application.sign_init(session, CKM_ECDSA, public), CKR_KEY_TYPE_INCONSISTENT);
    assert_eq!(application.sign_init(session, CKM_ECDSA, 4711), CKR_KEY_HANDLE_INVALID);
    let mut cancel = application.sign_init(session, CKM_ECDSA, private);
    assert_eq!(cancel, CKR_OK);
    cancel = call!(application, C_SessionCancel, session, CKF_SIGN);
    assert_eq!(cancel, CKR_OK);

    // A key that may not sign.
    let common = [attribute(CKA_TOKEN, TRUE)];
    let public = [&common[..], &[attribute(CKA_EC_PARAMS, P256)]].concat();
    let private = [&common[..], &[attribute(CKA_SIGN, FALSE), attribute(CKA_DERIVE, TRUE)]].concat();
    let (private, _) = application.generate_from(session, CKM_EC_KEY_PAIR_GEN, public, private).unwrap();
    assert_eq!(application.sign_init(session, CKM_ECDSA, private), CKR_KEY_FUNCTION_NOT_PERMITTED);

    // RSA: the padding leaves room for 245 bytes.
    let public = vec![attribute(CKA_TOKEN, TRUE), attribute(CKA_MODULUS_BITS, number(2048))];
    let private = vec![attribute(CKA_TOKEN, TRUE)];
    let (private, _) =
        application.generate_from(session, CKM_RSA_PKCS_KEY_PAIR_GEN, public, private).unwrap();
    for (size, code) in [(245, CKR_OK), (246, CKR_DATA_LEN_RANGE)] {
        assert_eq!(application.sign_init(session, CKM_RSA_PKCS, private), CKR_OK);
        let (mut data, mut signature, mut length) = (vec![1; size], [0; 256], 256);
        assert_eq!(sign(signature.as_mut_ptr(), &mut length, &mut data), code);
    }
    let mut random = [0; 100_000];
    assert_eq!(call!(application, C_GenerateRandom, session, random.as_mut_ptr(), 100_000), CKR_OK);
    assert!(random.rchunks(16).all(|chunk| chunk != [0; 16]));
}
