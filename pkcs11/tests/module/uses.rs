//! What `C_GetMechanismInfo` says against what works: every use of every mechanism is tried, in a partition that does all and in one that is
//! in FIPS state 2. What has the flag works; what lacks it is refused.

use std::ptr::null_mut;

use cryptoki_sys::*;
use strongroom_pkcs11::mechanism::{Entry, MECHANISMS, Purpose};

use crate::call;
use crate::support::application::{Application, FALSE, P256, TRUE, attribute, number, plain};
use crate::support::{Daemon, USER};

/// What a mechanism is tried with.
struct Bench {
    application: Application,
    session: CK_SESSION_HANDLE,
    slot: CK_SLOT_ID,
    rsa: Pair,
    curve: Pair,
    edwards: Pair,
    dsa: Pair,
    kem: Pair,
    aes: CK_OBJECT_HANDLE,
    generic: CK_OBJECT_HANDLE,
    des3: CK_OBJECT_HANDLE,
    /// What is wrapped.
    traveller: CK_OBJECT_HANDLE,
    /// On the curve.
    point: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Pair {
    private: CK_OBJECT_HANDLE,
    public: CK_OBJECT_HANDLE,
}

/// As long as a digest of SHA-256, and whole blocks of all ciphers.
const DATA: [u8; 32] = [7; 32];

/// What stands before a digest of SHA-256 (RFC 8017, 9.2, note 1).
const DIGEST_INFO: &[u8] = b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20";

type Tried<T = ()> = Result<T, CK_RV>;

fn ok(code: CK_RV) -> Tried {
    if code == CKR_OK { Ok(()) } else { Err(code) }
}

/// A parameter that lives as long as the test.
fn kept<T>(parameter: T) -> (*mut std::ffi::c_void, CK_ULONG) {
    (std::ptr::from_mut(Box::leak(Box::new(parameter))).cast(), size_of::<T>() as CK_ULONG)
}

fn bytes(data: &[u8]) -> (*mut CK_BYTE, CK_ULONG) {
    (data.as_ptr().cast_mut(), data.len() as CK_ULONG)
}

/// What of the standard's hash and mask functions belongs to a mechanism of PSS.
fn pss(mechanism: CK_MECHANISM_TYPE) -> CK_RSA_PKCS_PSS_PARAMS {
    let (hash, mgf) = match mechanism {
        CKM_SHA1_RSA_PKCS_PSS => (CKM_SHA_1, CKG_MGF1_SHA1),
        CKM_SHA224_RSA_PKCS_PSS => (CKM_SHA224, CKG_MGF1_SHA224),
        CKM_SHA384_RSA_PKCS_PSS => (CKM_SHA384, CKG_MGF1_SHA384),
        CKM_SHA512_RSA_PKCS_PSS => (CKM_SHA512, CKG_MGF1_SHA512),
        CKM_SHA3_224_RSA_PKCS_PSS => (CKM_SHA3_224, CKG_MGF1_SHA3_224),
        CKM_SHA3_256_RSA_PKCS_PSS => (CKM_SHA3_256, CKG_MGF1_SHA3_256),
        CKM_SHA3_384_RSA_PKCS_PSS => (CKM_SHA3_384, CKG_MGF1_SHA3_384),
        CKM_SHA3_512_RSA_PKCS_PSS => (CKM_SHA3_512, CKG_MGF1_SHA3_512),
        _ => (CKM_SHA256, CKG_MGF1_SHA256),
    };
    CK_RSA_PKCS_PSS_PARAMS { hashAlg: hash, mgf, sLen: 20 }
}

const OAEP: CK_RSA_PKCS_OAEP_PARAMS = CK_RSA_PKCS_OAEP_PARAMS {
    hashAlg: CKM_SHA256,
    mgf: CKG_MGF1_SHA256,
    source: CKZ_DATA_SPECIFIED,
    pSourceData: null_mut(),
    ulSourceDataLen: 0,
};

fn nonce() -> *mut CK_BYTE {
    Box::leak(Box::new([3; 16])).as_mut_ptr()
}

impl Bench {
    fn new(application: Application, slot: u32) -> Self {
        let session = application.open_writable(slot);
        assert_eq!(application.login(session, CKU_USER, USER.1), CKR_OK);
        let t = |kind| attribute(kind, TRUE);
        let pair = |mechanism, public: Vec<CK_ATTRIBUTE>, private: Vec<CK_ATTRIBUTE>| {
            let (private, public) =
                application.generate_from(session, mechanism, public, private).unwrap_or_default();
            Pair { private, public }
        };
        let rsa = pair(
            CKM_RSA_PKCS_KEY_PAIR_GEN,
            vec![
                attribute(CKA_MODULUS_BITS, number(2048)),
                t(CKA_ENCRYPT),
                t(CKA_WRAP),
                t(CKA_VERIFY_RECOVER),
            ],
            vec![t(CKA_SIGN), t(CKA_DECRYPT), t(CKA_UNWRAP), t(CKA_SIGN_RECOVER)],
        );
        let p256 = attribute(CKA_EC_PARAMS, P256);
        let curve = pair(CKM_EC_KEY_PAIR_GEN, vec![p256], vec![t(CKA_SIGN), t(CKA_DERIVE)]);
        let named = attribute(CKA_EC_PARAMS, b"\x13\x0cedwards25519");
        let edwards = pair(CKM_EC_EDWARDS_KEY_PAIR_GEN, vec![named], vec![]);
        let set = |set| vec![attribute(CKA_PARAMETER_SET, number(set))];
        let dsa = pair(CKM_ML_DSA_KEY_PAIR_GEN, set(CKP_ML_DSA_44), vec![]);
        let kem = pair(CKM_ML_KEM_KEY_PAIR_GEN, set(CKP_ML_KEM_512), vec![]);
        let secret = |mechanism, length, more: &[CK_ATTRIBUTE]| {
            let mut template = [&[t(CKA_SENSITIVE), attribute(CKA_VALUE_LEN, number(length))], more].concat();
            let (start, count, mut key) = (template.as_mut_ptr(), template.len() as CK_ULONG, 0);
            // Refused in FIPS state 2, some of them: then there is no such key.
            call!(application, C_GenerateKey, session, &mut plain(mechanism), start, count, &mut key);
            key
        };
        let all = [CKA_ENCRYPT, CKA_DECRYPT, CKA_SIGN, CKA_VERIFY, CKA_WRAP, CKA_UNWRAP, CKA_DERIVE].map(t);
        let aes = secret(CKM_AES_KEY_GEN, 16, &all);
        let generic = secret(CKM_GENERIC_SECRET_KEY_GEN, 32, &all[2..]);
        let des3 = secret(CKM_DES3_KEY_GEN, 24, &all[..2]);
        let traveller = secret(CKM_AES_KEY_GEN, 16, &[t(CKA_EXTRACTABLE)]);
        let point = application.get(session, curve.public, CKA_EC_POINT).unwrap();
        let slot = slot.into();
        Bench {
            application,
            session,
            slot,
            rsa,
            curve,
            edwards,
            dsa,
            kem,
            aes,
            generic,
            des3,
            traveller,
            point,
        }
    }

    /// The mechanism with a parameter that fits it.
    fn mechanism(&self, mechanism: CK_MECHANISM_TYPE) -> CK_MECHANISM {
        let part = |type_, value: *mut std::ffi::c_void, length| CK_PRF_DATA_PARAM {
            type_,
            pValue: value,
            ulValueLen: length,
        };
        let iterations = |format: bool| {
            let counter = CK_SP800_108_COUNTER_FORMAT { bLittleEndian: CK_FALSE, ulWidthInBits: 32 };
            let (value, length) = if format { kept(counter) } else { (null_mut(), 0) };
            let parts = [
                part(CK_SP800_108_ITERATION_VARIABLE, value, length),
                part(CK_SP800_108_BYTE_ARRAY, nonce().cast(), 8),
            ];
            Box::leak(Box::new(parts)).as_mut_ptr()
        };
        let kdf = |format| CK_SP800_108_KDF_PARAMS {
            prfType: CKM_SHA256_HMAC,
            ulNumberOfDataParams: 2,
            pDataParams: iterations(format),
            ulAdditionalDerivedKeys: 0,
            pAdditionalDerivedKeys: null_mut(),
        };
        let (parameter, length) = match mechanism {
            CKM_RSA_PKCS_PSS
            | CKM_SHA1_RSA_PKCS_PSS
            | CKM_SHA224_RSA_PKCS_PSS
            | CKM_SHA256_RSA_PKCS_PSS
            | CKM_SHA384_RSA_PKCS_PSS
            | CKM_SHA512_RSA_PKCS_PSS
            | CKM_SHA3_224_RSA_PKCS_PSS
            | CKM_SHA3_256_RSA_PKCS_PSS
            | CKM_SHA3_384_RSA_PKCS_PSS
            | CKM_SHA3_512_RSA_PKCS_PSS => kept(pss(mechanism)),
            CKM_RSA_PKCS_OAEP => kept(OAEP),
            CKM_RSA_AES_KEY_WRAP => {
                kept(CK_RSA_AES_KEY_WRAP_PARAMS { ulAESKeyBits: 256, pOAEPParams: kept(OAEP).0.cast() })
            }
            CKM_ECDH1_DERIVE | CKM_ECDH1_COFACTOR_DERIVE => {
                let (point, size) = bytes(&self.point);
                kept(CK_ECDH1_DERIVE_PARAMS {
                    kdf: CKD_NULL,
                    ulSharedDataLen: 0,
                    pSharedData: null_mut(),
                    ulPublicDataLen: size,
                    pPublicData: point,
                })
            }
            CKM_AES_CBC | CKM_AES_CBC_PAD => (nonce().cast(), 16),
            CKM_DES3_CBC | CKM_DES3_CBC_PAD => (nonce().cast(), 8),
            CKM_AES_GMAC => (nonce().cast(), 12),
            CKM_AES_CTR => kept(CK_AES_CTR_PARAMS { ulCounterBits: 32, cb: [1; 16] }),
            CKM_AES_GCM => kept(CK_GCM_PARAMS {
                pIv: nonce(),
                ulIvLen: 12,
                ulIvBits: 96,
                pAAD: null_mut(),
                ulAADLen: 0,
                ulTagBits: 128,
            }),
            CKM_AES_CCM => kept(CK_CCM_PARAMS {
                ulDataLen: DATA.len() as CK_ULONG,
                pNonce: nonce(),
                ulNonceLen: 12,
                pAAD: null_mut(),
                ulAADLen: 0,
                ulMACLen: 16,
            }),
            CKM_HKDF_DERIVE | CKM_HKDF_DATA => kept(CK_HKDF_PARAMS {
                bExtract: CK_TRUE,
                bExpand: CK_TRUE,
                prfHashMechanism: CKM_SHA256,
                ulSaltType: CKF_HKDF_SALT_NULL,
                pSalt: null_mut(),
                ulSaltLen: 0,
                hSaltKey: 0,
                pInfo: null_mut(),
                ulInfoLen: 0,
            }),
            CKM_SP800_108_COUNTER_KDF => kept(kdf(true)),
            CKM_SP800_108_DOUBLE_PIPELINE_KDF => kept(kdf(false)),
            CKM_SP800_108_FEEDBACK_KDF => kept(CK_SP800_108_FEEDBACK_KDF_PARAMS {
                prfType: CKM_SHA256_HMAC,
                ulNumberOfDataParams: 2,
                pDataParams: iterations(false),
                ulIVLen: 0,
                pIV: null_mut(),
                ulAdditionalDerivedKeys: 0,
                pAdditionalDerivedKeys: null_mut(),
            }),
            CKM_PKCS5_PBKD2 => kept(CK_PKCS5_PBKD2_PARAMS2 {
                saltSource: CKZ_SALT_SPECIFIED,
                pSaltSourceData: nonce().cast(),
                ulSaltSourceDataLen: 16,
                iterations: 1000,
                prf: CKP_PKCS5_PBKD2_HMAC_SHA256,
                pPrfData: null_mut(),
                ulPrfDataLen: 0,
                pPassword: nonce(),
                ulPasswordLen: 8,
            }),
            general if is_general(general) => kept::<CK_ULONG>(8),
            _ => (null_mut(), 0),
        };
        CK_MECHANISM { mechanism, pParameter: parameter, ulParameterLen: length }
    }

    /// The keys that a mechanism is for: the private, or the only one, and the public one.
    fn keys(&self, entry: &Entry) -> Pair {
        use strongroom_pkcs11::key::Family;
        let same = |key| Pair { private: key, public: key };
        match entry.purpose {
            Purpose::Derive => self.curve,
            Purpose::DeriveKey(_) | Purpose::Password | Purpose::Digest(_) => same(self.generic),
            Purpose::Generate(family)
            | Purpose::Sign(family, ..)
            | Purpose::Cipher(family, _)
            | Purpose::Mac(family, ..)
            | Purpose::Decrypt(family, _)
            | Purpose::Encapsulate(family)
            | Purpose::Wrap(family, _) => match family {
                Family::Rsa => self.rsa,
                Family::Ec | Family::Montgomery => self.curve,
                Family::Edwards => self.edwards,
                Family::MlDsa => self.dsa,
                Family::MlKem => self.kem,
                Family::Aes => same(self.aes),
                Family::Generic => same(self.generic),
                Family::Des3 => same(self.des3),
            },
        }
    }

    /// Uses a mechanism in one way, from its first function to what comes out.
    /// A key of sixteen bytes, encrypted.
    fn sealed(&self, number: CK_MECHANISM_TYPE, key: CK_OBJECT_HANDLE) -> Result<Vec<u8>, CK_RV> {
        let (a, s, mut mechanism) = (&self.application, self.session, self.mechanism(number));
        ok(call!(a, C_EncryptInit, s, &mut mechanism, key))?;
        let (mut data, mut out, mut length) = ([9; 16], vec![0; 32], 32);
        let (from, to) = (data.as_mut_ptr(), out.as_mut_ptr());
        ok(call!(a, C_Encrypt, s, from, 16, to, &mut length)).map(|()| out)
    }

    fn attempt(&self, entry: &Entry, use_: CK_FLAGS) -> Tried {
        let keys = self.keys(entry);
        let number = entry.mechanism;
        match use_ {
            CKF_ENCRYPT => self.encrypt(number, keys.public).map(|_| ()),
            CKF_DECRYPT => {
                let sealed = self.encrypt(number, keys.public).unwrap_or_else(|_| vec![1; 256]);
                let (mut out, mut length) = ([0; 512], 512);
                let (a, s, (start, size)) = (&self.application, self.session, bytes(&sealed));
                ok(call!(a, C_DecryptInit, s, &mut self.mechanism(number), keys.private))?;
                ok(call!(a, C_Decrypt, s, start, size, out.as_mut_ptr(), &mut length))?;
                assert_eq!(out[..length as usize], plaintext(number), "{}", entry.name);
                Ok(())
            }
            CKF_DIGEST => {
                let (a, s, (start, size)) = (&self.application, self.session, bytes(&DATA));
                ok(call!(a, C_DigestInit, s, &mut self.mechanism(number)))?;
                ok(call!(a, C_Digest, s, start, size, [0; 64].as_mut_ptr(), &mut { 64 }))
            }
            CKF_SIGN => self.sign(number, keys.private).map(|_| ()),
            CKF_VERIFY => self.checked(self.sign(number, keys.private), |(start, size)| {
                let (a, s, data) = (&self.application, self.session, signed(number));
                ok(call!(a, C_VerifyInit, s, &mut self.mechanism(number), keys.public))?;
                let (data, length) = bytes(&data);
                ok(call!(a, C_Verify, s, data, length, start, size))
            }),
            CKF_SIGN_RECOVER => self.sign_recover(number, keys.private).map(|_| ()),
            CKF_VERIFY_RECOVER => self.checked(self.sign_recover(number, keys.private), |(start, size)| {
                let (a, s) = (&self.application, self.session);
                ok(call!(a, C_VerifyRecoverInit, s, &mut self.mechanism(number), keys.public))?;
                ok(call!(a, C_VerifyRecover, s, start, size, [0; 512].as_mut_ptr(), &mut { 512 }))
            }),
            CKF_MESSAGE_SIGN => self.sign_message(number, keys.private).map(|_| ()),
            CKF_MESSAGE_VERIFY => self.checked(self.sign_message(number, keys.private), |(start, size)| {
                let (a, s, data) = (&self.application, self.session, signed(number));
                ok(call!(a, C_MessageVerifyInit, s, &mut self.mechanism(number), keys.public))?;
                let (data, length) = bytes(&data);
                let verified = call!(a, C_VerifyMessage, s, null_mut(), 0, data, length, start, size);
                ok(call!(a, C_MessageVerifyFinal, s)).and(ok(verified))
            }),
            CKF_MESSAGE_ENCRYPT | CKF_MESSAGE_DECRYPT => self.messages(number, keys.private, use_),
            CKF_GENERATE => self.generate(entry).map(|_| ()),
            CKF_GENERATE_KEY_PAIR => {
                let attribute = match number {
                    CKM_RSA_PKCS_KEY_PAIR_GEN => attribute(CKA_MODULUS_BITS, crate::uses::number(2048)),
                    CKM_EC_EDWARDS_KEY_PAIR_GEN => attribute(CKA_EC_PARAMS, b"\x13\x0cedwards25519"),
                    CKM_EC_MONTGOMERY_KEY_PAIR_GEN => attribute(CKA_EC_PARAMS, b"\x13\x0acurve25519"),
                    CKM_ML_DSA_KEY_PAIR_GEN => {
                        attribute(CKA_PARAMETER_SET, crate::uses::number(CKP_ML_DSA_44))
                    }
                    CKM_ML_KEM_KEY_PAIR_GEN => {
                        attribute(CKA_PARAMETER_SET, crate::uses::number(CKP_ML_KEM_512))
                    }
                    _ => attribute(CKA_EC_PARAMS, P256),
                };
                self.application.generate_from(self.session, number, vec![attribute], vec![]).map(|_| ())
            }
            CKF_WRAP => self.wrap(number, keys.public).map(|_| ()),
            CKF_UNWRAP => {
                let wrapped = match number {
                    // It does not wrap: others do, by encrypting.
                    CKM_AES_CBC_PAD => self.sealed(number, keys.private)?,
                    _ => self.wrap(number, keys.public).unwrap_or_else(|_| vec![1; 256]),
                };
                let (a, s, (start, size)) = (&self.application, self.session, bytes(&wrapped));
                let mut template = [
                    attribute(CKA_CLASS, crate::uses::number(CKO_SECRET_KEY)),
                    attribute(CKA_KEY_TYPE, crate::uses::number(CKK_AES)),
                    attribute(CKA_SENSITIVE, TRUE),
                ];
                let (t, mut key) = (template.as_mut_ptr(), 0);
                let mut mechanism = self.mechanism(number);
                ok(call!(a, C_UnwrapKey, s, &mut mechanism, keys.private, start, size, t, 3, &mut key))
            }
            CKF_DERIVE => {
                let mut template =
                    [attribute(CKA_TOKEN, FALSE), attribute(CKA_VALUE_LEN, crate::uses::number(16))];
                let (a, s, t, mut key) = (&self.application, self.session, template.as_mut_ptr(), 0);
                ok(call!(a, C_DeriveKey, s, &mut self.mechanism(number), keys.private, t, 2, &mut key))
            }
            CKF_ENCAPSULATE => self.encapsulate(number, keys.public).map(|_| ()),
            CKF_DECAPSULATE => {
                let sealed = self.encapsulate(number, keys.public).unwrap_or_else(|_| vec![1; 768]);
                let (a, s, (start, size), mut key) = (&self.application, self.session, bytes(&sealed), 0);
                let mut mechanism = self.mechanism(number);
                ok(call!(
                    a,
                    C_DecapsulateKey,
                    s,
                    &mut mechanism,
                    keys.private,
                    null_mut(),
                    0,
                    start,
                    size,
                    &mut key
                ))
            }
            other => panic!("{other:#x}"),
        }
    }

    /// A signature is verified. Where none is made, another is told from a right one, which takes the same.
    fn checked(&self, made: Tried<Vec<u8>>, verify: impl Fn((*mut CK_BYTE, CK_ULONG)) -> Tried) -> Tried {
        match made {
            Ok(signature) => verify(bytes(&signature)),
            Err(_) => match verify(bytes(&[1; 256])) {
                Err(CKR_SIGNATURE_INVALID | CKR_SIGNATURE_LEN_RANGE) => Ok(()),
                other => other,
            },
        }
    }

    fn encrypt(&self, number: CK_MECHANISM_TYPE, key: CK_OBJECT_HANDLE) -> Tried<Vec<u8>> {
        let (a, s, data) = (&self.application, self.session, plaintext(number));
        let ((start, size), mut out, mut length) = (bytes(&data), vec![0; 512], 512);
        ok(call!(a, C_EncryptInit, s, &mut self.mechanism(number), key))?;
        ok(call!(a, C_Encrypt, s, start, size, out.as_mut_ptr(), &mut length))?;
        out.truncate(length as usize);
        Ok(out)
    }

    fn sign(&self, number: CK_MECHANISM_TYPE, key: CK_OBJECT_HANDLE) -> Tried<Vec<u8>> {
        let (a, s, data) = (&self.application, self.session, signed(number));
        let ((start, size), mut out, mut length) = (bytes(&data), vec![0; 5000], 5000);
        ok(call!(a, C_SignInit, s, &mut self.mechanism(number), key))?;
        ok(call!(a, C_Sign, s, start, size, out.as_mut_ptr(), &mut length))?;
        out.truncate(length as usize);
        Ok(out)
    }

    fn sign_recover(&self, number: CK_MECHANISM_TYPE, key: CK_OBJECT_HANDLE) -> Tried<Vec<u8>> {
        let (a, s, data) = (&self.application, self.session, signed(number));
        let ((start, size), mut out, mut length) = (bytes(&data), vec![0; 512], 512);
        ok(call!(a, C_SignRecoverInit, s, &mut self.mechanism(number), key))?;
        ok(call!(a, C_SignRecover, s, start, size, out.as_mut_ptr(), &mut length))?;
        out.truncate(length as usize);
        Ok(out)
    }

    fn sign_message(&self, number: CK_MECHANISM_TYPE, key: CK_OBJECT_HANDLE) -> Tried<Vec<u8>> {
        let (a, s, data) = (&self.application, self.session, signed(number));
        let ((start, size), mut out, mut length) = (bytes(&data), vec![0; 5000], 5000);
        ok(call!(a, C_MessageSignInit, s, &mut self.mechanism(number), key))?;
        let out_at = out.as_mut_ptr();
        let made = call!(a, C_SignMessage, s, null_mut(), 0, start, size, out_at, &mut length);
        ok(call!(a, C_MessageSignFinal, s)).and(ok(made))?;
        out.truncate(length as usize);
        Ok(out)
    }

    /// A message there, and, to decrypt, back.
    fn messages(&self, number: CK_MECHANISM_TYPE, key: CK_OBJECT_HANDLE, use_: CK_FLAGS) -> Tried {
        let (a, s) = (&self.application, self.session);
        let (parameter, size) = match number {
            CKM_AES_CCM => kept(CK_CCM_MESSAGE_PARAMS {
                ulDataLen: DATA.len() as CK_ULONG,
                pNonce: nonce(),
                ulNonceLen: 12,
                ulNonceFixedBits: 0,
                nonceGenerator: CKG_NO_GENERATE,
                pMAC: nonce(),
                ulMACLen: 16,
            }),
            _ => kept(CK_GCM_MESSAGE_PARAMS {
                pIv: nonce(),
                ulIvLen: 12,
                ulIvFixedBits: 0,
                ivGenerator: CKG_NO_GENERATE,
                pTag: nonce(),
                ulTagBits: 128,
            }),
        };
        let ((start, length), mut sealed, mut out) = (bytes(&DATA), [0; 64], [0; 64]);
        let place = sealed.as_mut_ptr();
        let encrypt = || -> Tried {
            ok(call!(a, C_MessageEncryptInit, s, &mut plain(number), key))?;
            let done =
                call!(a, C_EncryptMessage, s, parameter, size, null_mut(), 0, start, length, place, &mut {
                    64
                });
            ok(call!(a, C_MessageEncryptFinal, s)).and(ok(done))
        };
        let encrypted = encrypt();
        if use_ == CKF_MESSAGE_ENCRYPT {
            return encrypted;
        }
        ok(call!(a, C_MessageDecryptInit, s, &mut plain(number), key))?;
        let back = out.as_mut_ptr();
        let done =
            call!(a, C_DecryptMessage, s, parameter, size, null_mut(), 0, place, length, back, &mut { 64 });
        ok(call!(a, C_MessageDecryptFinal, s)).and(ok(done))?;
        assert_eq!(out[..32], DATA);
        Ok(())
    }

    /// Makes a secret key; of the lengths that the mechanism names, the shortest and the longest, and none beyond.
    fn generate(&self, entry: &Entry) -> Tried {
        let (a, s, info) = (&self.application, self.session, entry.info());
        let of = |length: CK_ULONG| {
            let mut template = [
                attribute(CKA_TOKEN, FALSE),
                attribute(CKA_SENSITIVE, TRUE),
                attribute(CKA_VALUE_LEN, number(length)),
            ];
            let (t, mut key) = (template.as_mut_ptr(), 0);
            ok(call!(a, C_GenerateKey, s, &mut self.mechanism(entry.mechanism), t, 3, &mut key))
        };
        of(info.ulMaxKeySize)?;
        of(info.ulMinKeySize)?;
        for beyond in [info.ulMinKeySize - 1, info.ulMaxKeySize + 1] {
            let refused = of(beyond).unwrap_err();
            let expected = [CKR_ATTRIBUTE_VALUE_INVALID, CKR_KEY_SIZE_RANGE];
            assert!(expected.contains(&refused), "{} of {beyond}: {refused:#x}", entry.name);
        }
        Ok(())
    }

    fn wrap(&self, number: CK_MECHANISM_TYPE, key: CK_OBJECT_HANDLE) -> Tried<Vec<u8>> {
        let (a, s, mut out, mut length) = (&self.application, self.session, vec![0; 512], 512);
        let (mut mechanism, place) = (self.mechanism(number), out.as_mut_ptr());
        ok(call!(a, C_WrapKey, s, &mut mechanism, key, self.traveller, place, &mut length))?;
        out.truncate(length as usize);
        Ok(out)
    }

    fn encapsulate(&self, number: CK_MECHANISM_TYPE, key: CK_OBJECT_HANDLE) -> Tried<Vec<u8>> {
        let (a, s, mut out, mut length) = (&self.application, self.session, vec![0; 2000], 2000);
        let (mut mechanism, place, mut secret) = (self.mechanism(number), out.as_mut_ptr(), 0);
        ok(call!(
            a,
            C_EncapsulateKey,
            s,
            &mut mechanism,
            key,
            null_mut(),
            0,
            place,
            &mut length,
            &mut secret
        ))?;
        out.truncate(length as usize);
        Ok(out)
    }
}

/// Whether a mechanism's parameter is the length of what comes out.
fn is_general(mechanism: CK_MECHANISM_TYPE) -> bool {
    let entry = MECHANISMS.iter().find(|entry| entry.mechanism == mechanism).unwrap();
    entry.name.ends_with("_GENERAL")
}

/// What a mechanism encrypts: of RSA without padding, a number as long as the modulus, and less.
fn plaintext(mechanism: CK_MECHANISM_TYPE) -> Vec<u8> {
    match mechanism {
        CKM_RSA_X_509 => [&[0; 224][..], &DATA].concat(),
        _ => DATA.to_vec(),
    }
}

/// What a mechanism signs. FIPS state 2 looks at what RSA signs.
fn signed(mechanism: CK_MECHANISM_TYPE) -> Vec<u8> {
    match mechanism {
        CKM_RSA_PKCS => [DIGEST_INFO, &DATA].concat(),
        other => plaintext(other),
    }
}

const USES: [CK_FLAGS; 18] = [
    CKF_ENCRYPT,
    CKF_DECRYPT,
    CKF_DIGEST,
    CKF_SIGN,
    CKF_SIGN_RECOVER,
    CKF_VERIFY,
    CKF_VERIFY_RECOVER,
    CKF_GENERATE,
    CKF_GENERATE_KEY_PAIR,
    CKF_WRAP,
    CKF_UNWRAP,
    CKF_DERIVE,
    CKF_ENCAPSULATE,
    CKF_DECAPSULATE,
    CKF_MESSAGE_ENCRYPT,
    CKF_MESSAGE_DECRYPT,
    CKF_MESSAGE_SIGN,
    CKF_MESSAGE_VERIFY,
];

/// Every use of every mechanism; the flags that a partition names.
fn tried(bench: &Bench, refusals: &[CK_RV]) -> Vec<(&'static str, CK_FLAGS)> {
    let (a, mut wrong, mut named) = (&bench.application, Vec::new(), Vec::new());
    for entry in MECHANISMS {
        let mut info = CK_MECHANISM_INFO { ulMinKeySize: 0, ulMaxKeySize: 0, flags: 0 };
        let code = call!(a, C_GetMechanismInfo, bench.slot, entry.mechanism, &mut info);
        let is_listed = listed(bench).contains(&entry.mechanism);
        assert_eq!(code, if is_listed { CKR_OK } else { CKR_MECHANISM_INVALID }, "{}", entry.name);
        named.push((entry.name, info.flags));
        for use_ in USES {
            let outcome = bench.attempt(entry, use_);
            let is_right = match info.flags & use_ {
                0 => outcome.is_err_and(|code| refusals.contains(&code)),
                _ => outcome.is_ok(),
            };
            if !is_right {
                wrong.push(format!("{} {use_:#x}: {outcome:x?}", entry.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    named
}

fn listed(bench: &Bench) -> Vec<CK_MECHANISM_TYPE> {
    let (a, mut count) = (&bench.application, 0);
    assert_eq!(call!(a, C_GetMechanismList, bench.slot, null_mut(), &mut count), CKR_OK);
    let mut list = vec![0; count as usize];
    assert_eq!(call!(a, C_GetMechanismList, bench.slot, list.as_mut_ptr(), &mut count), CKR_OK);
    list
}

pub fn uses(daemon: &Daemon) {
    let (slot, approved) = (daemon.create_partition("tls"), daemon.create_fips_partition("fips"));
    let application = Application::load();
    application.initialize();
    let bench = Bench::new(application, slot);
    let all = tried(&bench, &[CKR_MECHANISM_INVALID]);
    assert!(all.iter().all(|(_, flags)| *flags != 0), "everything is there");
    // What state 2 refuses of a mechanism that it has is refused for the key, or not asked of the daemon for want of such a key.
    let Bench { application, .. } = bench;
    let bench = Bench::new(application, approved);
    let refusals = [CKR_MECHANISM_INVALID, CKR_KEY_FUNCTION_NOT_PERMITTED, CKR_KEY_HANDLE_INVALID];
    let left = tried(&bench, &refusals);
    let flags = |name| left.iter().find(|(found, _)| *found == name).unwrap().1 & !CKF_HW;
    for gone in ["CKM_DES3_KEY_GEN", "CKM_DES3_ECB", "CKM_DES3_CBC_PAD", "CKM_EC_MONTGOMERY_KEY_PAIR_GEN"] {
        assert_eq!(flags(gone), 0, "{gone}");
    }
    assert_eq!(flags("CKM_SHA1_RSA_PKCS"), CKF_VERIFY | CKF_MESSAGE_VERIFY);
    assert_eq!(flags("CKM_RSA_X_509"), CKF_VERIFY | CKF_VERIFY_RECOVER | CKF_MESSAGE_VERIFY);
    assert_eq!(flags("CKM_RSA_PKCS") & (CKF_SIGN | CKF_DECRYPT | CKF_UNWRAP), CKF_SIGN);
    bench.application.finalize();
}
