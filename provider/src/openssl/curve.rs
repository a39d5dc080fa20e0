//! Named curves.

use std::ffi::{CString, c_char, c_int};

use der::Encode;
use der::asn1::ObjectIdentifier;
use openssl_sys as ffi;

use crate::bindings;
use crate::error::{Error, Result};

/// The longest object identifier in text that is read.
const MAX_OID: usize = 128;

/// The DER of a curve's object identifier, as CKA_EC_PARAMS has it. The name is one of OpenSSL's (`prime256v1`) or NIST's (`P-256`).
///
/// # Errors
///
/// [`Error::Unsupported`] if this libcrypto has no such curve: it could not use the key.
pub fn curve_parameters(name: &str) -> Result<Vec<u8>> {
    let unknown =
        || Error::Unsupported(format!("no curve \"{name}\"; 'openssl ecparam -list_curves' shows them"));
    let text = CString::new(name).map_err(|_| unknown())?;
    let mut oid = [0u8; MAX_OID];
    // SAFETY: C strings; the group is ours and freed; the object is libcrypto's own of a known number; what is written has at most the
    // buffer's length and ends with NUL.
    let length = unsafe {
        let nid = match bindings::EC_curve_nist2nid(text.as_ptr()) {
            0 => ffi::OBJ_sn2nid(text.as_ptr()),
            nid => nid,
        };
        let group = ffi::EC_GROUP_new_by_curve_name(nid);
        if nid == 0 || group.is_null() {
            return Err(unknown());
        }
        ffi::EC_GROUP_free(group);
        ffi::OBJ_obj2txt(oid.as_mut_ptr().cast::<c_char>(), MAX_OID as c_int, ffi::OBJ_nid2obj(nid), 1)
    };
    usize::try_from(length)
        .ok()
        .and_then(|length| std::str::from_utf8(oid.get(..length)?).ok())
        .and_then(|text| ObjectIdentifier::new(text).ok()?.to_der().ok())
        .ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_by_openssls_and_nists_names() {
        let p256 = [6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
        assert_eq!(curve_parameters("prime256v1").unwrap(), p256);
        assert_eq!(curve_parameters("P-256").unwrap(), p256);
        assert_eq!(curve_parameters("brainpoolP512r1").unwrap(), [6, 9, 0x2b, 0x24, 3, 3, 2, 8, 1, 1, 0x0d]);
        for name in ["", "P-257", "RSA", "prime256v1\0"] {
            assert!(curve_parameters(name).is_err(), "{name}");
        }
    }
}
