//! The standard's object classes (PKCS#11 3.2) by name, and what the module does with each.

use std::fmt::Write as _;

use cryptoki_sys::*;
use strongroom_pkcs11::object;

use crate::tests::Tests;

macro_rules! rows {
    ($($name:ident: $what:literal;)*) => { &[$((stringify!($name), $name, $what)),*] };
}

/// What is to be said beside the attributes' table. That no more can be made than it says is compared with the code.
const CLASSES: &[(&str, CK_OBJECT_CLASS, &str)] = rows! {
    CKO_DATA: "in the token and of sessions, private or not";
    CKO_CERTIFICATE: "X.509 (`CKC_X_509`); other types are `CKR_ATTRIBUTE_VALUE_INVALID`";
    CKO_PUBLIC_KEY: "RSA, EC, Edwards, Montgomery, ML-DSA, ML-KEM";
    CKO_PRIVATE_KEY: "the same; always private and sensitive";
    CKO_SECRET_KEY: "AES, 3DES, generic secrets and those for one HMAC or HKDF";
    CKO_PROFILE: "`CKP_BASELINE_PROVIDER` and `CKP_EXTENDED_PROVIDER`, found by this class only; nobody makes, changes or destroys them";
    CKO_MECHANISM: "one for each mechanism of the token, found by this class only, as the standard has it";
    CKO_HW_FEATURE: "none: a partition has no clock but its machine's, and no counter that a restored backup would not set back";
    CKO_DOMAIN_PARAMETERS: "none: curves and parameter sets have names; there is no DSA and no Diffie-Hellman with numbers";
    CKO_OTP_KEY: "none: one-time passwords are HMAC with a generic secret";
    CKO_VALIDATION: "none: Strongroom has no certificate of a validation (docs/fips.md)";
    CKO_TRUST: "none: whom to trust is for a program's own store; the p11-kit module file says `trust-policy: no`";
};

/// The table, and the classes that lack a test.
pub fn table(tests: &Tests) -> (String, Vec<&'static str>) {
    let mut table = String::from("| class | made | what there is | tests |\n|---|---|---|---|\n");
    let mut untested = Vec::new();
    for (name, class, what) in CLASSES {
        let made = if object::class_from(*class).is_ok() { "yes" } else { "" };
        let found = tests.naming(name);
        if found.is_empty() {
            untested.push(*name);
        }
        writeln!(table, "| `{name}` | {made} | {what} | {} |", found.join(", ")).unwrap();
    }
    (table, untested)
}
