//! Signatures over SHA-3 digests, each checked as what it is: a signature over a digest that was made before; and keys of the
//! kinds that only secret keys have.

use cryptoki_sys::*;

use crate::call;
use crate::support::application::{TRUE, attribute, number, plain};
use crate::token::{Token, Way, with};

const MESSAGE: &[u8] = b"signed over SHA-3";

pub fn signatures(token: &Token) {
    let bits = [attribute(CKA_TOKEN, TRUE), attribute(CKA_MODULUS_BITS, number(2048))];
    let own = || vec![attribute(CKA_TOKEN, TRUE)];
    let made =
        token.application.generate_from(token.session, CKM_RSA_PKCS_KEY_PAIR_GEN, bits.to_vec(), own());
    let (rsa, rsa_public) = made.unwrap();
    let (ec, ec_public) = token.application.generate(token.session, "pair").unwrap();
    let other = token.digest(CKM_SHA3_256, b"something else");
    for (hash, pss, mask, ecdsa) in [
        (CKM_SHA3_224, CKM_SHA3_224_RSA_PKCS_PSS, CKG_MGF1_SHA3_224, CKM_ECDSA_SHA3_224),
        (CKM_SHA3_256, CKM_SHA3_256_RSA_PKCS_PSS, CKG_MGF1_SHA3_256, CKM_ECDSA_SHA3_256),
        (CKM_SHA3_384, CKM_SHA3_384_RSA_PKCS_PSS, CKG_MGF1_SHA3_384, CKM_ECDSA_SHA3_384),
        (CKM_SHA3_512, CKM_SHA3_512_RSA_PKCS_PSS, CKG_MGF1_SHA3_512, CKM_ECDSA_SHA3_512),
    ] {
        let digest = token.digest(hash, MESSAGE);
        let signature = token.sign(plain(ecdsa), ec, MESSAGE).unwrap();
        assert_eq!(token.verify(plain(ecdsa), ec_public, MESSAGE, &signature), Ok(()));
        assert_eq!(token.verify(plain(CKM_ECDSA), ec_public, &digest, &signature), Ok(()));
        assert!(token.verify(plain(CKM_ECDSA), ec_public, &other, &signature).is_err());

        let parameters = CK_RSA_PKCS_PSS_PARAMS { hashAlg: hash, mgf: mask, sLen: digest.len() as CK_ULONG };
        let signature = token.sign(with(pss, &parameters), rsa, MESSAGE).unwrap();
        assert_eq!(token.verify(with(pss, &parameters), rsa_public, MESSAGE, &signature), Ok(()));
        let raw = with(CKM_RSA_PKCS_PSS, &parameters);
        assert_eq!(token.verify(raw, rsa_public, &digest, &signature), Ok(()));
        let wrong = token.verify(with(pss, &parameters), rsa_public, b"something else", &signature);
        assert_eq!(wrong, Err(CKR_SIGNATURE_INVALID));
    }
}

pub fn generated(token: &Token) {
    let generate = |mechanism, more: &[CK_ATTRIBUTE]| {
        let mut template = [
            &[
                attribute(CKA_TOKEN, TRUE),
                attribute(CKA_ENCRYPT, TRUE),
                attribute(CKA_DECRYPT, TRUE),
                attribute(CKA_SIGN, TRUE),
                attribute(CKA_VERIFY, TRUE),
            ],
            more,
        ]
        .concat();
        let (mut key, count, session) = (0, template.len() as CK_ULONG, token.session);
        let mut mechanism = plain(mechanism);
        let list = &token.application;
        let code =
            call!(list, C_GenerateKey, session, &mut mechanism, template.as_mut_ptr(), count, &mut key);
        if code == CKR_OK { Ok(key) } else { Err(code) }
    };
    let old = generate(CKM_DES3_KEY_GEN, &[]).unwrap();
    let iv = [3u8; 8];
    let sealed = token.crypt(Way::Encrypt, with(CKM_DES3_CBC_PAD, &iv), old, MESSAGE).unwrap();
    assert_eq!(sealed.len(), 24);
    assert_eq!(token.crypt(Way::Decrypt, with(CKM_DES3_CBC_PAD, &iv), old, &sealed).unwrap(), MESSAGE);
    for length in [16, 64] {
        let size = number(length);
        let secret = generate(CKM_GENERIC_SECRET_KEY_GEN, &[attribute(CKA_VALUE_LEN, size)]).unwrap();
        let shown = token.application.get(token.session, secret, CKA_VALUE_LEN).unwrap();
        assert_eq!(shown, length.to_ne_bytes());
        let code = token.sign(plain(CKM_SHA256_HMAC), secret, MESSAGE).unwrap();
        assert_eq!(token.verify(plain(CKM_SHA256_HMAC), secret, MESSAGE, &code), Ok(()));
        assert_eq!(code.len(), 32);
    }
}
