//! Searching, attributes, and the templates of new objects.

use std::ptr::null_mut;

use cryptoki_sys::*;

use crate::call;
use crate::logged_in;
use crate::support::Daemon;
use crate::support::application::{FALSE, P256, TRUE, attribute, number};

pub fn objects(daemon: &Daemon) {
    let (application, slot, session) = logged_in(daemon);
    let (private, public) = application.generate(session, "web").unwrap();
    let (other, _) = application.generate(session, "mail").unwrap();

    let class = attribute(CKA_CLASS, number(CKO_PRIVATE_KEY));
    assert_eq!(application.find(session, &mut [class]), [private, other]);
    assert_eq!(application.find(session, &mut [class, attribute(CKA_LABEL, b"web")]), [private]);
    assert_eq!(application.find(session, &mut [attribute(CKA_LABEL, b"web")]).len(), 2);
    assert_eq!(application.find(session, &mut [class, attribute(CKA_LABEL, b"we")]), []);
    assert_eq!(application.find(session, &mut [class, attribute(CKA_LABEL, &[0xff])]), []);
    assert_eq!(application.find(session, &mut [class, attribute(CKA_KEY_TYPE, number(CKK_RSA))]), []);
    assert_eq!(application.find(session, &mut [class, attribute(CKA_DECRYPT, TRUE)]), []);
    assert_eq!(application.find(session, &mut [class, attribute(CKA_TOKEN, FALSE)]), []);
    assert_eq!(application.find(session, &mut [attribute(CKA_CLASS, number(CKO_SECRET_KEY))]), []);
    let point = application.get(session, public, CKA_EC_POINT).unwrap();
    assert_eq!(application.find(session, &mut [class, attribute(CKA_EC_POINT, &point)]), [private]);
    assert_eq!(application.find(session, &mut []).len(), 4);

    // Many objects take several pages of the daemon's answers.
    let mut template = [
        attribute(CKA_CLASS, number(CKO_DATA)),
        attribute(CKA_TOKEN, TRUE),
        attribute(CKA_VALUE, b"value"),
        attribute(CKA_APPLICATION, b"test"),
    ];
    let mut data = 0;
    for _ in 0..300 {
        assert_eq!(call!(application, C_CreateObject, session, template.as_mut_ptr(), 4, &mut data), CKR_OK);
    }
    let mut found = application.find(session, &mut template[..1]);
    assert_eq!((found.len(), found.last()), (300, Some(&data)));
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), 300);

    // All attributes are answered, whatever the others are.
    let (mut label, mut id) = ([0; 2], [0; 64]);
    let mut attributes = [
        CK_ATTRIBUTE { type_: CKA_VALUE, pValue: null_mut(), ulValueLen: 0 },
        CK_ATTRIBUTE { type_: CKA_MODULUS, pValue: null_mut(), ulValueLen: 0 },
        CK_ATTRIBUTE { type_: CKA_LABEL, pValue: label.as_mut_ptr().cast(), ulValueLen: 2 },
        CK_ATTRIBUTE { type_: CKA_ID, pValue: id.as_mut_ptr().cast(), ulValueLen: 64 },
        CK_ATTRIBUTE { type_: CKA_EC_POINT, pValue: null_mut(), ulValueLen: 0 },
    ];
    let code = call!(application, C_GetAttributeValue, session, private, attributes.as_mut_ptr(), 5);
    assert!([CKR_ATTRIBUTE_SENSITIVE, CKR_ATTRIBUTE_TYPE_INVALID, CKR_BUFFER_TOO_SMALL].contains(&code));
    let lengths = attributes.map(|attribute| attribute.ulValueLen);
    let none = CK_UNAVAILABLE_INFORMATION;
    assert_eq!(lengths, [none, none, none, 20, 67], "the id is chosen by the daemon");
    assert_eq!(application.get(session, private, CKA_VALUE), Err(CKR_ATTRIBUTE_SENSITIVE));
    assert_eq!(application.get(session, private, CKA_MODULUS), Err(CKR_ATTRIBUTE_TYPE_INVALID));
    assert_eq!(application.get(session, private, CKA_LOCAL).unwrap(), TRUE);
    assert_eq!(application.get(session, 9999, CKA_LABEL), Err(CKR_OBJECT_HANDLE_INVALID));

    // What may be changed, and what not.
    let mut new = [attribute(CKA_LABEL, b"new"), attribute(CKA_ID, b"\x01")];
    let reader = application.open(slot, 0).unwrap();
    assert_eq!(
        call!(application, C_SetAttributeValue, reader, private, new.as_mut_ptr(), 2),
        CKR_SESSION_READ_ONLY
    );
    assert_eq!(call!(application, C_SetAttributeValue, session, private, new.as_mut_ptr(), 2), CKR_OK);
    assert_eq!(application.get(session, private, CKA_LABEL).unwrap(), b"new");
    assert_eq!(application.get(session, private, CKA_ID).unwrap(), b"\x01");
    let mut extractable = attribute(CKA_EXTRACTABLE, TRUE);
    assert_eq!(
        call!(application, C_SetAttributeValue, session, private, &mut extractable, 1),
        CKR_ATTRIBUTE_READ_ONLY
    );

    assert_eq!(call!(application, C_DestroyObject, reader, private), CKR_SESSION_READ_ONLY);
    assert_eq!(call!(application, C_DestroyObject, session, private), CKR_OK);
    assert_eq!(call!(application, C_DestroyObject, session, private), CKR_OBJECT_HANDLE_INVALID);
    assert_eq!(application.sign(session, private, b"data"), Err(CKR_KEY_HANDLE_INVALID));
}

pub fn templates(daemon: &Daemon) {
    let (application, _, session) = logged_in(daemon);
    let token = attribute(CKA_TOKEN, TRUE);
    let curve = attribute(CKA_EC_PARAMS, P256);
    let ec = |public: &[CK_ATTRIBUTE], private: &[CK_ATTRIBUTE]| {
        application.generate_from(session, CKM_EC_KEY_PAIR_GEN, public.to_vec(), private.to_vec()).err()
    };
    assert_eq!(ec(&[token], &[token]), Some(CKR_TEMPLATE_INCOMPLETE), "no curve");
    let p192 = attribute(CKA_EC_PARAMS, &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 1]);
    assert_eq!(ec(&[token, p192], &[token]), Some(CKR_CURVE_NOT_SUPPORTED));
    assert_eq!(ec(&[token, attribute(CKA_EC_PARAMS, b"junk")], &[token]), Some(CKR_DOMAIN_PARAMS_INVALID));
    for kind in [CKA_PRIVATE, CKA_SENSITIVE] {
        assert_eq!(ec(&[token, curve], &[token, attribute(kind, FALSE)]), Some(CKR_TEMPLATE_INCONSISTENT));
    }
    assert_eq!(ec(&[token, curve], &[token, attribute(CKA_SIGN, &[7])]), Some(CKR_ATTRIBUTE_VALUE_INVALID));
    let owner = attribute(CKA_OWNER, b"somebody");
    assert_eq!(ec(&[token, curve], &[token, owner]), Some(CKR_ATTRIBUTE_TYPE_INVALID));
    assert_eq!(ec(&[token, curve], &[token, attribute(CKA_LOCAL, FALSE)]), Some(CKR_ATTRIBUTE_READ_ONLY));
    let wrong_type = attribute(CKA_KEY_TYPE, number(CKK_RSA));
    assert_eq!(ec(&[token, curve], &[token, wrong_type]), Some(CKR_TEMPLATE_INCONSISTENT));

    let rsa = |public: &[CK_ATTRIBUTE]| {
        application.generate_from(session, CKM_RSA_PKCS_KEY_PAIR_GEN, public.to_vec(), vec![token]).err()
    };
    assert_eq!(rsa(&[token]), Some(CKR_TEMPLATE_INCOMPLETE), "no size");
    let bits = |bits| attribute(CKA_MODULUS_BITS, number(bits));
    assert_eq!(rsa(&[token, bits(1024)]), Some(CKR_ATTRIBUTE_VALUE_INVALID));
    let exponent = attribute(CKA_PUBLIC_EXPONENT, &[3]);
    assert_eq!(rsa(&[token, bits(2048), exponent]), Some(CKR_ATTRIBUTE_VALUE_INVALID));
    assert_eq!(
        application.generate_from(session, CKM_ECDSA, vec![token, curve], vec![token]).err(),
        Some(CKR_MECHANISM_INVALID)
    );

    let create = |template: &[CK_ATTRIBUTE]| {
        let (mut template, mut handle) = (template.to_vec(), 0);
        let count = template.len() as CK_ULONG;
        call!(application, C_CreateObject, session, template.as_mut_ptr(), count, &mut handle)
    };
    let class = |class| attribute(CKA_CLASS, number(class));
    assert_eq!(create(&[token]), CKR_TEMPLATE_INCOMPLETE);
    assert_eq!(create(&[token, class(CKO_DOMAIN_PARAMETERS)]), CKR_ATTRIBUTE_VALUE_INVALID);
    assert_eq!(create(&[token, class(CKO_CERTIFICATE)]), CKR_TEMPLATE_INCOMPLETE);
    let junk = attribute(CKA_VALUE, b"junk");
    assert_eq!(create(&[token, class(CKO_CERTIFICATE), junk]), CKR_ATTRIBUTE_VALUE_INVALID);
    let key_type = attribute(CKA_KEY_TYPE, number(CKK_EC));
    assert_eq!(create(&[token, class(CKO_PRIVATE_KEY), key_type]), CKR_TEMPLATE_INCOMPLETE);
    // A scalar above the curve's order is no key.
    let scalar = attribute(CKA_VALUE, &[0xff; 32]);
    let code = create(&[token, class(CKO_PRIVATE_KEY), key_type, curve, scalar]);
    assert_eq!(code, CKR_ATTRIBUTE_VALUE_INVALID);
    let scalar = attribute(CKA_VALUE, &[7]);
    assert_eq!(create(&[token, class(CKO_PRIVATE_KEY), key_type, curve, scalar]), CKR_OK);
    // An Ed25519 seed, which pkcs11-tool 0.23 cannot hand in.
    let edwards = attribute(CKA_KEY_TYPE, number(CKK_EC_EDWARDS));
    let named = attribute(CKA_EC_PARAMS, b"\x13\x0cedwards25519");
    let seed = attribute(CKA_VALUE, &[9; 32]);
    assert_eq!(create(&[token, class(CKO_PRIVATE_KEY), edwards, named, seed]), CKR_OK);
}
