//! ML-DSA. What is signed here, RustCrypto's ml-dsa verifies, and its keys are imported.

use std::ptr::null_mut;

use cryptoki_sys::*;
use ml_dsa::{EncodedVerifyingKey, ExpandedSigningKey, MlDsa44, MlDsa65, MlDsa87, Signature, VerifyingKey};

use crate::call;
use crate::logged_in;
use crate::support::Daemon;
use crate::support::application::{Application, FALSE, TRUE, attribute, number, plain};

/// Whether another implementation takes the signature.
fn verifies(
    set: CK_ML_DSA_PARAMETER_SET_TYPE,
    public: &[u8],
    context: &[u8],
    message: &[u8],
    made: &[u8],
) -> bool {
    macro_rules! with {
        ($set:ty) => {{
            let key = EncodedVerifyingKey::<$set>::try_from(public).unwrap();
            let signature = Signature::<$set>::try_from(made).unwrap();
            VerifyingKey::<$set>::decode(&key).verify_with_context(message, context, &signature)
        }};
    }
    match set {
        CKP_ML_DSA_44 => with!(MlDsa44),
        CKP_ML_DSA_65 => with!(MlDsa65),
        _ => with!(MlDsa87),
    }
}

struct Token {
    application: Application,
    session: CK_SESSION_HANDLE,
}

fn with_context(context: &[u8], hedge: CK_HEDGE_TYPE) -> CK_SIGN_ADDITIONAL_CONTEXT {
    CK_SIGN_ADDITIONAL_CONTEXT {
        hedgeVariant: hedge,
        pContext: context.as_ptr().cast_mut(),
        ulContextLen: context.len() as CK_ULONG,
    }
}

fn mechanism(parameters: &mut CK_SIGN_ADDITIONAL_CONTEXT) -> CK_MECHANISM {
    CK_MECHANISM {
        mechanism: CKM_ML_DSA,
        pParameter: std::ptr::from_mut(parameters).cast(),
        ulParameterLen: size_of::<CK_SIGN_ADDITIONAL_CONTEXT>() as CK_ULONG,
    }
}

impl Token {
    /// Signs in parts of `step` bytes, or at once.
    fn sign(
        &self,
        mechanism: &mut CK_MECHANISM,
        key: CK_OBJECT_HANDLE,
        message: &[u8],
        step: Option<usize>,
    ) -> Result<Vec<u8>, CK_RV> {
        let ok = |code| if code == CKR_OK { Ok(()) } else { Err(code) };
        ok(call!(self.application, C_SignInit, self.session, mechanism, key))?;
        let (data, size, mut length) = (message.as_ptr().cast_mut(), message.len() as CK_ULONG, 0);
        if let Some(step) = step {
            for part in message.chunks(step) {
                let (part, size) = (part.as_ptr().cast_mut(), part.len() as CK_ULONG);
                ok(call!(self.application, C_SignUpdate, self.session, part, size))?;
            }
            ok(call!(self.application, C_SignFinal, self.session, null_mut(), &mut length))?;
            let mut made = vec![0; length as usize];
            ok(call!(self.application, C_SignFinal, self.session, made.as_mut_ptr(), &mut length))?;
            return Ok(made);
        }
        ok(call!(self.application, C_Sign, self.session, data, size, null_mut(), &mut length))?;
        let mut made = vec![0; length as usize];
        ok(call!(self.application, C_Sign, self.session, data, size, made.as_mut_ptr(), &mut length))?;
        assert_eq!(length as usize, made.len());
        Ok(made)
    }

    fn verify(
        &self,
        mechanism: &mut CK_MECHANISM,
        key: CK_OBJECT_HANDLE,
        message: &[u8],
        made: &[u8],
    ) -> CK_RV {
        assert_eq!(call!(self.application, C_VerifyInit, self.session, mechanism, key), CKR_OK);
        let (data, size) = (message.as_ptr().cast_mut(), message.len() as CK_ULONG);
        let (made, length) = (made.as_ptr().cast_mut(), made.len() as CK_ULONG);
        call!(self.application, C_Verify, self.session, data, size, made, length)
    }

    fn create(&self, attributes: &mut [CK_ATTRIBUTE]) -> Result<CK_OBJECT_HANDLE, CK_RV> {
        let (pointer, count, mut handle) = (attributes.as_mut_ptr(), attributes.len() as CK_ULONG, 0);
        match call!(self.application, C_CreateObject, self.session, pointer, count, &mut handle) {
            CKR_OK => Ok(handle),
            code => Err(code),
        }
    }
}

pub fn signatures(daemon: &Daemon) {
    let (application, _, session) = logged_in(daemon);
    let token = Token { application, session };
    let application = &token.application;
    for (set, public_size, size) in
        [(CKP_ML_DSA_44, 1312, 2420), (CKP_ML_DSA_65, 1952, 3309), (CKP_ML_DSA_87, 2592, 4627)]
    {
        let public = vec![attribute(CKA_TOKEN, TRUE), attribute(CKA_PARAMETER_SET, number(set))];
        let private = vec![attribute(CKA_TOKEN, TRUE), attribute(CKA_SIGN, TRUE)];
        let (key, public) =
            application.generate_from(session, CKM_ML_DSA_KEY_PAIR_GEN, public, private).unwrap();
        for handle in [key, public] {
            assert_eq!(application.get(session, handle, CKA_KEY_TYPE).unwrap(), number(CKK_ML_DSA));
            assert_eq!(application.get(session, handle, CKA_PARAMETER_SET).unwrap(), number(set));
        }
        for secret in [CKA_VALUE, CKA_SEED] {
            assert_eq!(application.get(session, key, secret), Err(CKR_ATTRIBUTE_SENSITIVE));
        }
        assert_eq!(application.get(session, public, CKA_EC_POINT), Err(CKR_ATTRIBUTE_TYPE_INVALID));
        let value = application.get(session, public, CKA_VALUE).unwrap();
        assert_eq!(value.len(), public_size);

        let long = vec![0x5a; 100_000];
        for (context, message) in
            [(&b""[..], &b""[..]), (b"", b"a message"), (b"a context", b"a message"), (&[7; 255], &long)]
        {
            let mut parameters = with_context(context, CKH_HEDGE_REQUIRED);
            let made = token.sign(&mut mechanism(&mut parameters), key, message, None).unwrap();
            assert_eq!(made.len(), size);
            assert!(verifies(set, &value, context, message, &made));
            assert!(!verifies(set, &value, b"another context", message, &made));
            assert_eq!(token.verify(&mut mechanism(&mut parameters), public, message, &made), CKR_OK);
            let wrong = token.verify(&mut plain(CKM_ML_DSA), public, b"another", &made);
            assert_eq!(wrong, CKR_SIGNATURE_INVALID);
            let in_parts = token.sign(&mut mechanism(&mut parameters), key, message, Some(30_000)).unwrap();
            assert!(verifies(set, &value, context, message, &in_parts));
            assert_ne!(made, in_parts, "signatures are hedged");
        }
        let made = token.sign(&mut plain(CKM_ML_DSA), key, b"without parameter", None).unwrap();
        assert!(verifies(set, &value, b"", b"without parameter", &made));
        let mut deterministic = with_context(b"", CKH_DETERMINISTIC_REQUIRED);
        let refused = token.sign(&mut mechanism(&mut deterministic), key, b"", None);
        assert_eq!(refused, Err(CKR_MECHANISM_PARAM_INVALID));
    }
    let unknown = vec![attribute(CKA_TOKEN, TRUE), attribute(CKA_PARAMETER_SET, number(9))];
    let private = vec![attribute(CKA_TOKEN, TRUE)];
    let refused = application.generate_from(session, CKM_ML_DSA_KEY_PAIR_GEN, unknown, private.clone());
    assert_eq!(refused, Err(CKR_PARAMETER_SET_NOT_SUPPORTED));
    let refused = application.generate_from(session, CKM_ML_DSA_KEY_PAIR_GEN, private.clone(), private);
    assert_eq!(refused, Err(CKR_TEMPLATE_INCOMPLETE));
    import(&token);
}

/// Another implementation's keys: from the seed, and from seed and expanded key.
fn import(token: &Token) {
    let seed: [u8; 32] = std::array::from_fn(|at| at as u8);
    let theirs = ExpandedSigningKey::<MlDsa65>::from_seed(&seed.into());
    #[expect(deprecated, reason = "the form that is tested")]
    let expanded = theirs.to_expanded();
    let public = theirs.verifying_key().encode();
    let common = [
        attribute(CKA_CLASS, number(CKO_PRIVATE_KEY)),
        attribute(CKA_KEY_TYPE, number(CKK_ML_DSA)),
        attribute(CKA_TOKEN, TRUE),
        attribute(CKA_SENSITIVE, TRUE),
        attribute(CKA_EXTRACTABLE, FALSE),
        attribute(CKA_PARAMETER_SET, number(CKP_ML_DSA_65)),
    ];
    let with = |more: &[CK_ATTRIBUTE]| token.create(&mut [&common[..], more].concat());
    let (seed, value) = (attribute(CKA_SEED, &seed), attribute(CKA_VALUE, &expanded));
    for key in [with(&[seed]).unwrap(), with(&[seed, value]).unwrap()] {
        let made = token.sign(&mut plain(CKM_ML_DSA), key, b"imported", None).unwrap();
        assert!(verifies(CKP_ML_DSA_65, &public, b"", b"imported", &made));
    }
    // The partition keeps the seed; and both have to be of the same key.
    assert_eq!(with(&[value]), Err(CKR_TEMPLATE_INCOMPLETE));
    assert_eq!(with(&[attribute(CKA_SEED, &[1; 32]), value]), Err(CKR_ATTRIBUTE_VALUE_INVALID));
    assert_eq!(with(&[attribute(CKA_SEED, &[1; 31])]), Err(CKR_ATTRIBUTE_VALUE_INVALID));

    let mut template = [
        attribute(CKA_CLASS, number(CKO_PUBLIC_KEY)),
        attribute(CKA_KEY_TYPE, number(CKK_ML_DSA)),
        attribute(CKA_TOKEN, TRUE),
        attribute(CKA_PARAMETER_SET, number(CKP_ML_DSA_65)),
        attribute(CKA_VALUE, &public),
    ];
    let key = token.create(&mut template).unwrap();
    let made = theirs.sign_deterministic(b"theirs", b"context").unwrap().encode();
    let mut parameters = with_context(b"context", CKH_DETERMINISTIC_REQUIRED);
    // On verification the variant does not matter.
    assert_eq!(token.verify(&mut mechanism(&mut parameters), key, b"theirs", &made), CKR_OK);
}
