//! Which type a key object is.

use cryptoki_sys::*;
use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode, Tag, Tagged};

use super::KeyKind;

impl KeyKind {
    /// The type of a key object with this CKA_KEY_TYPE and CKA_EC_PARAMS, if it is one of ours. An RSA key is
    /// [`Rsa`](KeyKind::Rsa) as far as these tell.
    pub fn of_object(key_type: CK_KEY_TYPE, ec_params: Option<&[u8]>) -> Option<Self> {
        match key_type {
            CKK_RSA => return Some(KeyKind::Rsa),
            CKK_EC | CKK_EC_EDWARDS | CKK_EC_MONTGOMERY => {}
            _ => return None,
        }
        // The curve decides and not the key type: SoftHSM2 has X25519 keys as CKK_EC_EDWARDS, other tokens all as CKK_EC.
        match ec_params {
            Some(params) => KeyKind::ALL.iter().copied().find(|kind| kind.has_curve(params)).or(
                // Any other named curve.
                (key_type == CKK_EC).then_some(KeyKind::Ec),
            ),
            None => match key_type {
                CKK_EC => Some(KeyKind::Ec),
                CKK_EC_EDWARDS => Some(KeyKind::Ed25519),
                _ => Some(KeyKind::X25519),
            },
        }
    }

    /// The type of a key object with this CKA_KEY_TYPE and CKA_PARAMETER_SET.
    pub fn of_parameter_set(key_type: CK_KEY_TYPE, parameter_set: CK_ULONG) -> Option<Self> {
        KeyKind::ALL.iter().copied().find(|kind| {
            kind.facts().key_type == key_type && kind.facts().parameter_set == Some(parameter_set)
        })
    }

    /// Whether CKA_EC_PARAMS names this type's fixed curve: by object identifier or by name (PKCS#11 3.1, 6.3.4).
    fn has_curve(self, ec_params: &[u8]) -> bool {
        let facts = self.facts();
        let (Some(curve), Ok(params)) = (&facts.curve, AnyRef::from_der(ec_params)) else { return false };
        match params.tag() {
            Tag::ObjectIdentifier => params
                .decode_as::<ObjectIdentifier>()
                .is_ok_and(|oid| oid == facts.algorithm || Some(oid) == curve.old),
            Tag::PrintableString | Tag::Utf8String => params.value() == curve.name.as_bytes(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_tells_the_type() {
        let named = |name: &str| [&[0x13, name.len() as u8], name.as_bytes()].concat();
        let edwards = |params: &[u8]| KeyKind::of_object(CKK_EC_EDWARDS, Some(params));
        assert_eq!(edwards(&named("edwards25519")), Some(KeyKind::Ed25519));
        assert_eq!(edwards(&named("edwards448")), Some(KeyKind::Ed448));
        assert_eq!(edwards(&[6, 3, 0x2b, 0x65, 0x71]), Some(KeyKind::Ed448));
        // GnuPG's object identifier, which OpenSC still uses.
        assert_eq!(edwards(&[6, 9, 0x2b, 6, 1, 4, 1, 0xda, 0x47, 15, 1]), Some(KeyKind::Ed25519));
        // SoftHSM2's X25519.
        assert_eq!(edwards(&[6, 3, 0x2b, 0x65, 0x6e]), Some(KeyKind::X25519));
        assert_eq!(KeyKind::of_object(CKK_EC_MONTGOMERY, Some(&named("curve448"))), Some(KeyKind::X448));
        assert_eq!(KeyKind::of_object(CKK_EC, Some(&[6, 5, 0x2b, 0x81, 4, 0, 0x22])), Some(KeyKind::Ec));
        assert_eq!(edwards(&[6, 5, 0x2b, 0x81, 4, 0, 0x22]), None);
        assert_eq!(edwards(&[1]), None);
        assert_eq!(KeyKind::of_object(CKK_DSA, None), None);
    }

    #[test]
    fn the_parameter_set_tells_the_type() {
        let slh_dsa = KeyKind::of_parameter_set(CKK_SLH_DSA, CKP_SLH_DSA_SHAKE_256F);
        assert_eq!(slh_dsa, Some(KeyKind::SlhDsaShake256f));
        assert_eq!(KeyKind::of_parameter_set(CKK_ML_DSA, CKP_ML_DSA_44), Some(KeyKind::MlDsa44));
        assert_eq!(KeyKind::of_parameter_set(CKK_SLH_DSA, 13), None);
        assert_eq!(KeyKind::of_parameter_set(CKK_RSA, CKP_ML_DSA_44), None);
    }
}
