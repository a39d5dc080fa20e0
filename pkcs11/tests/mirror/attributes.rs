//! The standard's attributes (PKCS#11 3.2) by name, and what the module does with each.

use std::fmt::Write as _;

use cryptoki_sys::*;
use strongroom_pkcs11::built_in::BuiltIn;
use strongroom_pkcs11::mechanism::MECHANISMS;
use strongroom_pkcs11::object::{self, Object, Value};
use strongroom_protocol::v1::{Attribute, KeyPolicy, KeyTemplates, KeyType, ObjectClass, ObjectInfo};

use crate::tests::Tests;

macro_rules! names {
    ($($name:ident)*) => { &[$((stringify!($name), $name)),*] };
}

/// In the order of the standard's chapters. Not here: what belongs to object classes that no cryptographic token of keys
/// has (one-time passwords, GOST, double ratchets, HSS, displays).
const ATTRIBUTES: &[(&str, CK_ATTRIBUTE_TYPE)] = names! {
    CKA_CLASS CKA_TOKEN CKA_PRIVATE CKA_MODIFIABLE CKA_LABEL CKA_COPYABLE CKA_DESTROYABLE CKA_UNIQUE_ID
    CKA_APPLICATION CKA_OBJECT_ID CKA_VALUE
    CKA_CERTIFICATE_TYPE CKA_TRUSTED CKA_CERTIFICATE_CATEGORY CKA_CHECK_VALUE CKA_START_DATE CKA_END_DATE
    CKA_PUBLIC_KEY_INFO CKA_SUBJECT CKA_ID CKA_ISSUER CKA_SERIAL_NUMBER CKA_URL CKA_HASH_OF_SUBJECT_PUBLIC_KEY
    CKA_HASH_OF_ISSUER_PUBLIC_KEY CKA_JAVA_MIDP_SECURITY_DOMAIN CKA_NAME_HASH_ALGORITHM CKA_OWNER CKA_AC_ISSUER
    CKA_ATTR_TYPES
    CKA_KEY_TYPE CKA_DERIVE CKA_LOCAL CKA_KEY_GEN_MECHANISM CKA_ALLOWED_MECHANISMS
    CKA_ENCRYPT CKA_DECRYPT CKA_SIGN CKA_SIGN_RECOVER CKA_VERIFY CKA_VERIFY_RECOVER CKA_WRAP CKA_UNWRAP
    CKA_ENCAPSULATE CKA_DECAPSULATE CKA_WRAP_TEMPLATE CKA_UNWRAP_TEMPLATE CKA_DERIVE_TEMPLATE
    CKA_ENCAPSULATE_TEMPLATE CKA_DECAPSULATE_TEMPLATE
    CKA_SENSITIVE CKA_EXTRACTABLE CKA_ALWAYS_SENSITIVE CKA_NEVER_EXTRACTABLE CKA_WRAP_WITH_TRUSTED
    CKA_ALWAYS_AUTHENTICATE CKA_PUBLIC_CRC64_VALUE
    CKA_MODULUS CKA_MODULUS_BITS CKA_PUBLIC_EXPONENT CKA_PRIVATE_EXPONENT CKA_PRIME_1 CKA_PRIME_2 CKA_EXPONENT_1
    CKA_EXPONENT_2 CKA_COEFFICIENT CKA_EC_PARAMS CKA_EC_POINT CKA_VALUE_LEN CKA_PARAMETER_SET CKA_SEED
    CKA_PRIME CKA_SUBPRIME CKA_BASE CKA_PRIME_BITS CKA_SUBPRIME_BITS CKA_VALUE_BITS
    CKA_OBJECT_VALIDATION_FLAGS CKA_PROFILE_ID CKA_MECHANISM_TYPE CKA_HW_FEATURE_TYPE
};

const CLASSES: [ObjectClass; 5] = [
    ObjectClass::Data,
    ObjectClass::Certificate,
    ObjectClass::PublicKey,
    ObjectClass::PrivateKey,
    ObjectClass::SecretKey,
];

/// Objects of a class, of each shape of key.
fn objects(class: ObjectClass) -> Vec<Object> {
    let key_types: &[KeyType] = match class {
        ObjectClass::PublicKey | ObjectClass::PrivateKey => {
            &[KeyType::Rsa2048, KeyType::P256, KeyType::MlDsa44]
        }
        ObjectClass::SecretKey => &[KeyType::Aes256],
        _ => &[KeyType::Unspecified],
    };
    let one = || vec![Attribute::default()];
    let templates = KeyTemplates { wrap: one(), unwrap: one(), derive: one() };
    let object = |key_type: &KeyType| {
        Object::new(ObjectInfo {
            object: vec![7; 16],
            class: class.into(),
            key_type: (*key_type).into(),
            policy: Some(KeyPolicy::default()),
            allowed_mechanisms: vec![1],
            templates: Some(templates.clone()),
            public_key: crate::keys::spki(*key_type),
            value: if class == ObjectClass::Certificate { crate::keys::certificate() } else { vec![1] },
            ..ObjectInfo::default()
        })
        .unwrap()
    };
    key_types.iter().map(object).collect()
}

/// What can be done with an attribute of a class: one letter each.
fn cell(class: ObjectClass, attribute: CK_ATTRIBUTE_TYPE) -> String {
    let of = objects(class);
    let has = |wanted: fn(&Value<'_>) -> bool| of.iter().any(|object| wanted(&object.attribute(attribute)));
    let mut cell = String::new();
    if has(|value| matches!(value, Value::Bytes(_) | Value::Template(_))) {
        cell.push('r');
    }
    if has(|value| matches!(value, Value::Sensitive)) {
        cell.push('x');
    }
    if object::may_be_given(class, attribute).is_ok() {
        cell.push('c');
    }
    if object::may_be_changed(class, attribute) {
        cell.push('s');
    }
    cell
}

/// The table, and the attributes that lack a test.
pub fn table(tests: &Tests) -> (String, Vec<&'static str>) {
    let mut table = String::from(
        "| attribute | data | certificate | public key | private key | secret key | profile | mechanism | tests |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    let mut untested = Vec::new();
    for (name, attribute) in ATTRIBUTES {
        let cells = CLASSES.map(|class| cell(class, *attribute));
        let found = tests.naming(name);
        // Also that one is not there is tested.
        if found.is_empty() {
            untested.push(*name);
        }
        let built_in = [BuiltIn::Profile(CKP_BASELINE_PROVIDER), BuiltIn::Mechanism(&MECHANISMS[0])];
        let built_in = built_in.map(|one| if one.attribute(*attribute) == Value::Absent { "" } else { "r" });
        let (cells, built_in) = (cells.join(" | "), built_in.join(" | "));
        writeln!(table, "| `{name}` | {cells} | {built_in} | {} |", found.join(", ")).unwrap();
    }
    (table, untested)
}
