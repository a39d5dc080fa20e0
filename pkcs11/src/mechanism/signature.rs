//! Parameters of mechanisms that sign and verify.

use cryptoki_sys::*;
use strongroom_ffi::pointer;
use strongroom_protocol::v1::Hash::{
    self, Sha1, Sha224, Sha256, Sha384, Sha512, Sha3224, Sha3256, Sha3384, Sha3512, Unspecified,
};
use strongroom_protocol::v1::Mechanism::{self, Ecdsa, Eddsa, RsaPkcs, RsaPkcsPss, RsaX509};
use strongroom_protocol::v1::PssParameters;

use super::hash_of;
use crate::error::Outcome;
use crate::hash;

/// The hash of a mask generation function.
pub(super) fn hash_of_mask(mask: CK_RSA_PKCS_MGF_TYPE) -> Option<Hash> {
    Some(match mask {
        CKG_MGF1_SHA1 => Sha1,
        CKG_MGF1_SHA224 => Sha224,
        CKG_MGF1_SHA256 => Sha256,
        CKG_MGF1_SHA384 => Sha384,
        CKG_MGF1_SHA512 => Sha512,
        CKG_MGF1_SHA3_224 => Sha3224,
        CKG_MGF1_SHA3_256 => Sha3256,
        CKG_MGF1_SHA3_384 => Sha3384,
        CKG_MGF1_SHA3_512 => Sha3512,
        _ => return None,
    })
}

/// Reads the parameter of a signature mechanism; for PSS, what the request carries.
///
/// # Errors
///
/// `CKR_MECHANISM_PARAM_INVALID` if it is missing, not wanted, or contradicts the mechanism.
///
/// # Safety
///
/// `mechanism`'s parameter, if not null, has the length that stands beside it.
pub unsafe fn signature_parameters(
    mechanism: &CK_MECHANISM,
    wire: Mechanism,
    hash: Hash,
) -> Outcome<Option<PssParameters>> {
    let length = mechanism.ulParameterLen as usize;
    match wire {
        RsaPkcsPss if length == size_of::<CK_RSA_PKCS_PSS_PARAMS>() => {
            // SAFETY: of this type by its length; by the contract.
            let given = unsafe {
                pointer::reference(mechanism.pParameter.cast_const().cast::<CK_RSA_PKCS_PSS_PARAMS>())
            }
            .ok_or(CKR_MECHANISM_PARAM_INVALID)?;
            pss(given, hash).map(Some)
        }
        Eddsa if length == size_of::<CK_EDDSA_PARAMS>() => {
            // SAFETY: of this type by its length; by the contract.
            let given =
                unsafe { pointer::reference(mechanism.pParameter.cast_const().cast::<CK_EDDSA_PARAMS>()) }
                    .ok_or(CKR_MECHANISM_PARAM_INVALID)?;
            // Ed25519 proper only: neither Ed25519ph nor Ed25519ctx.
            if given.phFlag != CK_FALSE || given.ulContextDataLen != 0 {
                return Err(CKR_MECHANISM_PARAM_INVALID);
            }
            Ok(None)
        }
        RsaPkcsPss => Err(CKR_MECHANISM_PARAM_INVALID),
        _ if length == 0 => Ok(None),
        _ => Err(CKR_MECHANISM_PARAM_INVALID),
    }
}

fn pss(given: &CK_RSA_PKCS_PSS_PARAMS, hash: Hash) -> Outcome<PssParameters> {
    let named = hash_of(given.hashAlg).ok_or(CKR_MECHANISM_PARAM_INVALID)?;
    let mask = hash_of_mask(given.mgf).ok_or(CKR_MECHANISM_PARAM_INVALID)?;
    if hash != Unspecified && hash != named {
        return Err(CKR_MECHANISM_PARAM_INVALID);
    }
    // No key here is longer than 512 bytes; whether the salt fits this key, the partition decides.
    let salt_length =
        u32::try_from(given.sLen).ok().filter(|length| *length <= 512).ok_or(CKR_MECHANISM_PARAM_INVALID)?;
    Ok(PssParameters { hash: named.into(), mgf1_hash: mask.into(), salt_length })
}

/// The largest input of a signature without hashing, in bytes, for a key whose signatures have `signature`
/// bytes; and the exact size if there is only one.
pub fn raw_input(wire: Mechanism, pss: Option<&PssParameters>, signature: usize) -> (usize, Option<usize>) {
    match wire {
        // RFC 8017, 9.2: at least 11 bytes of padding.
        RsaPkcs => (signature.saturating_sub(11), None),
        RsaPkcsPss => {
            let size = pss.map_or(0, |pss| hash::size(pss.hash()));
            (size, Some(size))
        }
        RsaX509 => (signature, None),
        // A digest: the partition takes none that is longer than SHA-512's.
        Ecdsa => (64, None),
        _ => (512 * 1024, None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::with;
    use super::super::{Purpose, find};
    use super::*;

    fn parse(mechanism: &CK_MECHANISM) -> Outcome<Option<PssParameters>> {
        let Purpose::Sign(_, wire, hash) = find(mechanism.mechanism).unwrap().purpose else { panic!() };
        // SAFETY: the tests' parameters are locals of the length they say.
        unsafe { signature_parameters(mechanism, wire, hash) }
    }

    #[test]
    fn pss_parameters() {
        let mut given = CK_RSA_PKCS_PSS_PARAMS { hashAlg: CKM_SHA256, mgf: CKG_MGF1_SHA256, sLen: 32 };
        let size = size_of_val(&given);
        let parsed = parse(&with(CKM_SHA256_RSA_PKCS_PSS, &mut given, size)).unwrap().unwrap();
        assert_eq!((parsed.hash(), parsed.mgf1_hash(), parsed.salt_length), (Sha256, Sha256, 32));
        let wrong = Err(CKR_MECHANISM_PARAM_INVALID);
        assert_eq!(parse(&with(CKM_SHA384_RSA_PKCS_PSS, &mut given, size)), wrong);
        assert_eq!(parse(&with(CKM_RSA_PKCS_PSS, &mut given, size - 1)), wrong);
        assert_eq!(parse(&with(CKM_RSA_PKCS_PSS, &mut given, 0)), wrong);
        given.sLen = CK_ULONG::MAX;
        assert_eq!(parse(&with(CKM_RSA_PKCS_PSS, &mut given, size)), wrong);
        given.hashAlg = CKM_RSA_PKCS;
        assert_eq!(parse(&with(CKM_RSA_PKCS_PSS, &mut given, size)), wrong);
    }

    #[test]
    fn eddsa_parameters() {
        let mut given =
            CK_EDDSA_PARAMS { phFlag: CK_FALSE, ulContextDataLen: 0, pContextData: std::ptr::null_mut() };
        let size = size_of_val(&given);
        assert_eq!(parse(&with(CKM_EDDSA, &mut given, size)), Ok(None));
        assert_eq!(parse(&with(CKM_EDDSA, &mut given, 0)), Ok(None));
        given.phFlag = CK_TRUE;
        assert_eq!(parse(&with(CKM_EDDSA, &mut given, size)), Err(CKR_MECHANISM_PARAM_INVALID));
    }
}
