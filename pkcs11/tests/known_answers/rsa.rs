//! Encryption with RSA's public keys, which the private ones undo.

use cryptoki_sys::*;

use crate::support::application::{TRUE, attribute, number, plain};
use crate::token::{Token, Way, with};

pub fn encryption(token: &Token) {
    let public = vec![
        attribute(CKA_TOKEN, TRUE),
        attribute(CKA_MODULUS_BITS, number(2048)),
        attribute(CKA_ENCRYPT, TRUE),
    ];
    let private = vec![attribute(CKA_TOKEN, TRUE), attribute(CKA_DECRYPT, TRUE), attribute(CKA_SIGN, TRUE)];
    let made =
        token.application.generate_from(token.session, CKM_RSA_PKCS_KEY_PAIR_GEN, public, private).unwrap();
    let (private, public) = made;
    for (hash, mask) in [
        (CKM_SHA_1, CKG_MGF1_SHA1),
        (CKM_SHA256, CKG_MGF1_SHA256),
        (CKM_SHA3_256, CKG_MGF1_SHA3_256),
        (CKM_SHA3_512, CKG_MGF1_SHA3_224),
    ] {
        let mut label = *b"label";
        let parameters = CK_RSA_PKCS_OAEP_PARAMS {
            hashAlg: hash,
            mgf: mask,
            source: CKZ_DATA_SPECIFIED,
            pSourceData: label.as_mut_ptr().cast(),
            ulSourceDataLen: 5,
        };
        let mechanism = with(CKM_RSA_PKCS_OAEP, &parameters);
        let sealed = token.crypt(Way::Encrypt, mechanism, public, b"message").unwrap();
        assert_eq!(token.crypt(Way::Decrypt, mechanism, private, &sealed).unwrap(), b"message");
        let long = token.crypt(Way::Encrypt, mechanism, public, &[1; 230]);
        assert_eq!(long, Err(CKR_DATA_LEN_RANGE));
    }
    let sealed = token.crypt(Way::Encrypt, plain(CKM_RSA_PKCS), public, &[7; 245]).unwrap();
    assert_eq!(token.crypt(Way::Decrypt, plain(CKM_RSA_PKCS), private, &sealed).unwrap(), [7; 245]);
    assert_eq!(token.crypt(Way::Encrypt, plain(CKM_RSA_PKCS), public, &[7; 246]), Err(CKR_DATA_LEN_RANGE));
    // Without padding, with zeros before it.
    let raw = token.crypt(Way::Encrypt, plain(CKM_RSA_X_509), public, &[1; 200]).unwrap();
    let opened = token.crypt(Way::Decrypt, plain(CKM_RSA_X_509), private, &raw).unwrap();
    assert_eq!(opened, [vec![0; 56], vec![1; 200]].concat());
    let over = token.crypt(Way::Encrypt, plain(CKM_RSA_X_509), public, &[0xff; 256]);
    assert_eq!(over, Err(CKR_DATA_INVALID));
    // The halves do not do each other's part.
    let wrong = token.crypt(Way::Encrypt, plain(CKM_RSA_PKCS), private, b"message");
    assert_eq!(wrong, Err(CKR_KEY_TYPE_INCONSISTENT));
    let wrong = token.crypt(Way::Decrypt, plain(CKM_RSA_PKCS), public, &sealed);
    assert_eq!(wrong, Err(CKR_KEY_TYPE_INCONSISTENT));
}
