//! ML-KEM. What RustCrypto's ml-kem encapsulates is decapsulated here, and the other way round.

use std::ptr::null_mut;

use cryptoki_sys::*;
use ml_kem::{
    Decapsulate, DecapsulationKey, EncapsulationKey, KeyExport, MlKem512, MlKem768, MlKem1024, Seed,
};

use crate::call;
use crate::logged_in;
use crate::support::Daemon;
use crate::support::application::{Application, FALSE, TRUE, attribute, number, plain};

/// Another implementation's ciphertext and secret for a public key.
fn encapsulated(set: CK_ML_KEM_PARAMETER_SET_TYPE, public: &[u8]) -> (Vec<u8>, Vec<u8>) {
    macro_rules! with {
        ($set:ty) => {{
            let key = EncapsulationKey::<$set>::new(&public.try_into().unwrap()).unwrap();
            let (ciphertext, secret) = key.encapsulate_deterministic(&[0x3c; 32].into());
            (ciphertext.to_vec(), secret.to_vec())
        }};
    }
    match set {
        CKP_ML_KEM_512 => with!(MlKem512),
        CKP_ML_KEM_768 => with!(MlKem768),
        _ => with!(MlKem1024),
    }
}

struct Token {
    application: Application,
    session: CK_SESSION_HANDLE,
}

/// A secret that the application may read.
fn readable() -> Vec<CK_ATTRIBUTE> {
    vec![
        attribute(CKA_CLASS, number(CKO_SECRET_KEY)),
        attribute(CKA_KEY_TYPE, number(CKK_GENERIC_SECRET)),
        attribute(CKA_TOKEN, FALSE),
        attribute(CKA_SENSITIVE, FALSE),
        attribute(CKA_EXTRACTABLE, TRUE),
    ]
}

impl Token {
    fn decapsulate(
        &self,
        mut mechanism: CK_MECHANISM,
        key: CK_OBJECT_HANDLE,
        mut template: Vec<CK_ATTRIBUTE>,
        ciphertext: &[u8],
    ) -> Result<CK_OBJECT_HANDLE, CK_RV> {
        let (pointer, length) = (ciphertext.as_ptr().cast_mut(), ciphertext.len() as CK_ULONG);
        let mut secret = 0;
        match call!(
            self.application,
            C_DecapsulateKey,
            self.session,
            &mut mechanism,
            key,
            template.as_mut_ptr(),
            template.len() as CK_ULONG,
            pointer,
            length,
            &mut secret
        ) {
            CKR_OK => Ok(secret),
            code => Err(code),
        }
    }

    fn encapsulate(&self, key: CK_OBJECT_HANDLE, room: usize) -> Result<(Vec<u8>, CK_OBJECT_HANDLE), CK_RV> {
        let mut ciphertext = vec![0u8; room];
        let (mut length, mut secret) = (room as CK_ULONG, 0);
        let mut template = readable();
        match call!(
            self.application,
            C_EncapsulateKey,
            self.session,
            &mut plain(CKM_ML_KEM),
            key,
            template.as_mut_ptr(),
            template.len() as CK_ULONG,
            if room == 0 { null_mut() } else { ciphertext.as_mut_ptr() },
            &mut length,
            &mut secret
        ) {
            CKR_OK if room == 0 => {
                assert_eq!(secret, 0, "asked for the size, nothing is made");
                Ok((vec![0; length as usize], 0))
            }
            CKR_OK => {
                ciphertext.truncate(length as usize);
                Ok((ciphertext, secret))
            }
            code => Err(code),
        }
    }

    fn value(&self, secret: CK_OBJECT_HANDLE) -> Vec<u8> {
        self.application.get(self.session, secret, CKA_VALUE).unwrap()
    }

    fn create(&self, attributes: &[CK_ATTRIBUTE]) -> Result<CK_OBJECT_HANDLE, CK_RV> {
        let (mut attributes, mut handle) = (attributes.to_vec(), 0);
        let (pointer, count) = (attributes.as_mut_ptr(), attributes.len() as CK_ULONG);
        match call!(self.application, C_CreateObject, self.session, pointer, count, &mut handle) {
            CKR_OK => Ok(handle),
            code => Err(code),
        }
    }
}

pub fn secrets(daemon: &Daemon) {
    let (application, _, session) = logged_in(daemon);
    let token = Token { application, session };
    let application = &token.application;
    for (set, public_size, size) in
        [(CKP_ML_KEM_512, 800, 768), (CKP_ML_KEM_768, 1184, 1088), (CKP_ML_KEM_1024, 1568, 1568)]
    {
        let public = vec![attribute(CKA_TOKEN, TRUE), attribute(CKA_PARAMETER_SET, number(set))];
        let private = vec![attribute(CKA_TOKEN, TRUE), attribute(CKA_DECAPSULATE, TRUE)];
        let (key, public) =
            application.generate_from(session, CKM_ML_KEM_KEY_PAIR_GEN, public, private).unwrap();
        for handle in [key, public] {
            assert_eq!(application.get(session, handle, CKA_KEY_TYPE).unwrap(), number(CKK_ML_KEM));
            assert_eq!(application.get(session, handle, CKA_PARAMETER_SET).unwrap(), number(set));
        }
        for secret in [CKA_VALUE, CKA_SEED] {
            assert_eq!(application.get(session, key, secret), Err(CKR_ATTRIBUTE_SENSITIVE));
        }
        for (attribute, value) in [(CKA_DECAPSULATE, TRUE), (CKA_SIGN, FALSE), (CKA_DERIVE, FALSE)] {
            assert_eq!(application.get(session, key, attribute).unwrap(), value);
        }
        assert_eq!(application.get(session, public, CKA_ENCAPSULATE).unwrap(), TRUE);
        let value = application.get(session, public, CKA_VALUE).unwrap();
        assert_eq!(value.len(), public_size);

        let (ciphertext, theirs) = encapsulated(set, &value);
        let secret = token.decapsulate(plain(CKM_ML_KEM), key, readable(), &ciphertext).unwrap();
        assert_eq!(token.value(secret), theirs);
        // Of a ciphertext that was changed another secret comes out.
        let changed = [&[ciphertext[0] ^ 1], &ciphertext[1..]].concat();
        let other = token.decapsulate(plain(CKM_ML_KEM), key, readable(), &changed).unwrap();
        assert_ne!(token.value(other), theirs);

        let (sized, _) = token.encapsulate(public, 0).unwrap();
        assert_eq!(sized.len(), size);
        assert_eq!(token.encapsulate(public, size - 1), Err(CKR_BUFFER_TOO_SMALL));
        let (ciphertext, ours) = token.encapsulate(public, size + 100).unwrap();
        assert_eq!(ciphertext.len(), size);
        let again = token.decapsulate(plain(CKM_ML_KEM), key, readable(), &ciphertext).unwrap();
        assert_eq!(token.value(again), token.value(ours));

        let wrong = |ciphertext: &[u8]| token.decapsulate(plain(CKM_ML_KEM), key, readable(), ciphertext);
        assert_eq!(wrong(&ciphertext[1..]), Err(CKR_ENCRYPTED_DATA_LEN_RANGE));
        assert_eq!(wrong(&[]), Err(CKR_ENCRYPTED_DATA_LEN_RANGE));
        assert_eq!(token.encapsulate(key, size), Err(CKR_KEY_TYPE_INCONSISTENT));
        let swapped = token.decapsulate(plain(CKM_ML_KEM), public, readable(), &ciphertext);
        assert_eq!(swapped, Err(CKR_KEY_TYPE_INCONSISTENT));
        let mechanism = token.decapsulate(plain(CKM_ECDH1_DERIVE), key, readable(), &ciphertext);
        assert_eq!(mechanism, Err(CKR_MECHANISM_INVALID));
        for refused in [attribute(CKA_VALUE_LEN, number(16)), attribute(CKA_LABEL, &[0xff])] {
            let template = [readable(), vec![refused]].concat();
            assert!(token.decapsulate(plain(CKM_ML_KEM), key, template, &ciphertext).is_err());
        }
        assert_eq!(application.sign_init(session, CKM_ML_DSA, key), CKR_KEY_FUNCTION_NOT_PERMITTED);
    }
    let sealed = vec![attribute(CKA_TOKEN, TRUE), attribute(CKA_DECAPSULATE, FALSE)];
    let public = vec![attribute(CKA_TOKEN, TRUE), attribute(CKA_PARAMETER_SET, number(CKP_ML_KEM_512))];
    let (key, _) = application.generate_from(session, CKM_ML_KEM_KEY_PAIR_GEN, public, sealed).unwrap();
    let refused = token.decapsulate(plain(CKM_ML_KEM), key, readable(), &[1; 768]);
    assert_eq!(refused, Err(CKR_KEY_FUNCTION_NOT_PERMITTED));
    import(&token);
}

/// Another implementation's keys: from the seed, and from seed and expanded key.
fn import(token: &Token) {
    let seed: [u8; 64] = std::array::from_fn(|at| at as u8);
    let theirs = DecapsulationKey::<MlKem768>::from_seed(Seed::from(seed));
    #[expect(deprecated, reason = "the form that is tested")]
    let expanded = ml_kem::ExpandedKeyEncoding::to_expanded_bytes(&theirs);
    let public = theirs.encapsulation_key().to_bytes();
    let common = [
        attribute(CKA_CLASS, number(CKO_PRIVATE_KEY)),
        attribute(CKA_KEY_TYPE, number(CKK_ML_KEM)),
        attribute(CKA_TOKEN, TRUE),
        attribute(CKA_SENSITIVE, TRUE),
        attribute(CKA_EXTRACTABLE, FALSE),
        attribute(CKA_PARAMETER_SET, number(CKP_ML_KEM_768)),
    ];
    let with = |more: &[CK_ATTRIBUTE]| token.create(&[&common[..], more].concat());
    let (ciphertext, secret) = encapsulated(CKP_ML_KEM_768, &public);
    let (seed, value) = (attribute(CKA_SEED, &seed), attribute(CKA_VALUE, &expanded));
    for key in [with(&[seed]).unwrap(), with(&[seed, value]).unwrap()] {
        let ours = token.decapsulate(plain(CKM_ML_KEM), key, readable(), &ciphertext).unwrap();
        assert_eq!(token.value(ours), secret);
    }
    // The partition keeps the seed; and both have to be of the same key.
    assert_eq!(with(&[value]), Err(CKR_TEMPLATE_INCOMPLETE));
    assert_eq!(with(&[attribute(CKA_SEED, &[1; 64]), value]), Err(CKR_ATTRIBUTE_VALUE_INVALID));
    assert_eq!(with(&[attribute(CKA_SEED, &[1; 32])]), Err(CKR_ATTRIBUTE_VALUE_INVALID));

    let template = [
        attribute(CKA_CLASS, number(CKO_PUBLIC_KEY)),
        attribute(CKA_KEY_TYPE, number(CKK_ML_KEM)),
        attribute(CKA_TOKEN, TRUE),
        attribute(CKA_PARAMETER_SET, number(CKP_ML_KEM_768)),
        attribute(CKA_VALUE, &public),
    ];
    let key = token.create(&template).unwrap();
    let (ciphertext, ours) = token.encapsulate(key, 1088).unwrap();
    let ciphertext = ciphertext.as_slice().try_into().unwrap();
    assert_eq!(theirs.decapsulate(&ciphertext).to_vec(), token.value(ours));
}
