//! Parameters of mechanisms that decrypt with RSA keys.

use cryptoki_sys::*;
use strongroom_ffi::pointer;
use strongroom_protocol::v1::Mechanism::{self, RsaPkcsOaep, RsaX509};
use strongroom_protocol::v1::OaepParameters;

use super::hash_of;
use super::signature::hash_of_mask;
use crate::error::Outcome;
use crate::hash;

/// The longest label of OAEP, in bytes.
const MAX_LABEL: usize = 4096;

/// Reads and copies the parameter of a mechanism that decrypts with RSA keys: OAEP has one.
///
/// # Errors
///
/// `CKR_MECHANISM_PARAM_INVALID` if it is missing, not wanted, or the partition cannot do it.
///
/// # Safety
///
/// `mechanism`'s parameter, if not null, has the length that stands beside it; so has the label that it points to.
pub unsafe fn oaep_parameters(mechanism: &CK_MECHANISM, wire: Mechanism) -> Outcome<Option<OaepParameters>> {
    let invalid = CKR_MECHANISM_PARAM_INVALID;
    match (wire, mechanism.ulParameterLen as usize) {
        (RsaPkcsOaep, length) if length == size_of::<CK_RSA_PKCS_OAEP_PARAMS>() => {}
        (RsaPkcsOaep, _) => return Err(invalid),
        (_, 0) => return Ok(None),
        _ => return Err(invalid),
    }
    let parameter = mechanism.pParameter.cast_const().cast::<CK_RSA_PKCS_OAEP_PARAMS>();
    // SAFETY: of this type by its length; by the contract.
    let given = unsafe { pointer::reference(parameter) }.ok_or(invalid)?;
    // SAFETY: by the contract.
    unsafe { oaep(given) }.map(Some)
}

/// Copies OAEP's parameters.
///
/// # Safety
///
/// The label that they point to has the length that stands beside it.
pub(super) unsafe fn oaep(given: &CK_RSA_PKCS_OAEP_PARAMS) -> Outcome<OaepParameters> {
    let invalid = CKR_MECHANISM_PARAM_INVALID;
    let hash = hash_of(given.hashAlg).ok_or(invalid)?;
    let mask = hash_of_mask(given.mgf).ok_or(invalid)?;
    let length = usize::try_from(given.ulSourceDataLen).map_err(|_| invalid)?;
    // Without a label, applications leave its source open.
    let is_specified = given.source == CKZ_DATA_SPECIFIED || (given.source == 0 && length == 0);
    if !is_specified || length > MAX_LABEL {
        return Err(invalid);
    }
    // SAFETY: by the contract.
    let label = unsafe { pointer::slice(given.pSourceData.cast_const().cast::<u8>(), length) };
    let label = label.ok_or(invalid)?.to_vec();
    Ok(OaepParameters { hash: hash.into(), mgf1_hash: mask.into(), label })
}

/// The most bytes that come out when an RSA key whose modulus has `modulus` bytes decrypts.
///
/// # Errors
///
/// `CKR_MECHANISM_PARAM_INVALID` if OAEP's hash is too long for the key.
pub fn largest_plaintext(wire: Mechanism, oaep: Option<&OaepParameters>, modulus: usize) -> Outcome<usize> {
    let taken = match (wire, oaep) {
        (RsaX509, _) => 0,
        // RFC 8017, 7.1.1 and 7.2.1.
        (_, Some(oaep)) => 2 * hash::size(oaep.hash()) + 2,
        _ => 11,
    };
    modulus.checked_sub(taken).ok_or(CKR_MECHANISM_PARAM_INVALID)
}

#[cfg(test)]
mod tests {
    use strongroom_protocol::v1::Hash::{Sha1, Sha256};

    use super::super::tests::with;
    use super::*;

    #[test]
    fn oaep_parameters_with_and_without_a_label() {
        let mut label = [7u8; 3];
        let mut given = CK_RSA_PKCS_OAEP_PARAMS {
            hashAlg: CKM_SHA256,
            mgf: CKG_MGF1_SHA1,
            source: CKZ_DATA_SPECIFIED,
            pSourceData: label.as_mut_ptr().cast(),
            ulSourceDataLen: 3,
        };
        // SAFETY: the tests' parameters are locals of the length they say.
        let read = |mechanism: CK_MECHANISM| unsafe { oaep_parameters(&mechanism, RsaPkcsOaep) };
        let size = size_of_val(&given);
        let parsed = read(with(CKM_RSA_PKCS_OAEP, &mut given, size)).unwrap().unwrap();
        assert_eq!((parsed.hash(), parsed.mgf1_hash(), parsed.label), (Sha256, Sha1, vec![7; 3]));
        let wrong = Err(CKR_MECHANISM_PARAM_INVALID);
        assert_eq!(read(with(CKM_RSA_PKCS_OAEP, &mut given, 0)), wrong);
        assert_eq!(read(with(CKM_RSA_PKCS_OAEP, &mut given, size - 1)), wrong);
        for change in [
            |p: &mut CK_RSA_PKCS_OAEP_PARAMS| p.hashAlg = CKM_RSA_PKCS,
            |p: &mut CK_RSA_PKCS_OAEP_PARAMS| p.mgf = 99,
            |p: &mut CK_RSA_PKCS_OAEP_PARAMS| p.source = 0,
            |p: &mut CK_RSA_PKCS_OAEP_PARAMS| p.pSourceData = std::ptr::null_mut(),
            |p: &mut CK_RSA_PKCS_OAEP_PARAMS| p.ulSourceDataLen = CK_ULONG::MAX,
            |p: &mut CK_RSA_PKCS_OAEP_PARAMS| p.ulSourceDataLen = 4097,
        ] {
            let mut changed = given;
            change(&mut changed);
            assert_eq!(read(with(CKM_RSA_PKCS_OAEP, &mut changed, size)), wrong, "{changed:?}");
        }
        let mut bare = CK_RSA_PKCS_OAEP_PARAMS {
            source: 0,
            pSourceData: std::ptr::null_mut(),
            ulSourceDataLen: 0,
            ..given
        };
        assert!(read(with(CKM_RSA_PKCS_OAEP, &mut bare, size)).unwrap().unwrap().label.is_empty());
        // SAFETY: as above.
        let raw = |mechanism: CK_MECHANISM| unsafe { oaep_parameters(&mechanism, RsaX509) };
        assert_eq!(raw(with(CKM_RSA_X_509, &mut given, size)), wrong);
        assert_eq!(raw(with(CKM_RSA_X_509, &mut given, 0)), Ok(None));
    }
}
