//! Parameters of mechanisms that make message authentication codes.

use cryptoki_sys::*;
use strongroom_ffi::pointer;
use strongroom_protocol::v1::{Hash, Mechanism};

use super::Size;
use crate::error::Outcome;
use crate::hash;

/// The longest IV of GMAC that the partition takes, in bytes.
const MAX_IV: usize = 256;

/// The shortest code that the partition makes or compares, in bytes.
const SHORTEST: usize = 4;

/// What a code is made with, beside the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MacParameters {
    /// The size of the code in bytes.
    pub length: usize,
    /// Of GMAC.
    pub iv: Vec<u8>,
}

/// Reads and copies the parameter of a mechanism that makes codes.
///
/// # Errors
///
/// `CKR_MECHANISM_PARAM_INVALID` if it is missing, not wanted, or the partition cannot do it.
///
/// # Safety
///
/// `mechanism`'s parameter, if not null, has the length that stands beside it.
pub unsafe fn mac_parameters(
    mechanism: &CK_MECHANISM,
    wire: Mechanism,
    hash: Hash,
    size: Size,
) -> Outcome<MacParameters> {
    let invalid = CKR_MECHANISM_PARAM_INVALID;
    let given = usize::try_from(mechanism.ulParameterLen).map_err(|_| invalid)?;
    let whole = if wire == Mechanism::Hmac { hash::size(hash) } else { 16 };
    match (wire, size) {
        (Mechanism::AesGmac, _) => {
            if given == 0 || given > MAX_IV {
                return Err(invalid);
            }
            // SAFETY: by the contract.
            let iv = unsafe { pointer::slice(mechanism.pParameter.cast_const().cast::<u8>(), given) };
            Ok(MacParameters { length: whole, iv: iv.ok_or(invalid)?.to_vec() })
        }
        (_, Size::Whole) if given == 0 => Ok(MacParameters { length: whole, iv: Vec::new() }),
        (_, Size::General) if given == size_of::<CK_MAC_GENERAL_PARAMS>() => {
            let parameter = mechanism.pParameter.cast_const().cast::<CK_MAC_GENERAL_PARAMS>();
            // SAFETY: of this type by its length; by the contract.
            let length = *unsafe { pointer::reference(parameter) }.ok_or(invalid)?;
            let length = usize::try_from(length).ok().filter(|length| (SHORTEST..=whole).contains(length));
            Ok(MacParameters { length: length.ok_or(invalid)?, iv: Vec::new() })
        }
        _ => Err(invalid),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::with;
    use super::*;

    #[test]
    fn lengths_and_vectors() {
        let read = |mechanism: CK_MECHANISM, wire, size| {
            // SAFETY: the tests' parameters are locals of the length they say.
            unsafe { mac_parameters(&mechanism, wire, Hash::Sha256, size) }
        };
        let invalid = Err(CKR_MECHANISM_PARAM_INVALID);
        for (length, fits) in
            [(0, false), (3, false), (4, true), (32, true), (33, false), (CK_ULONG::MAX, false)]
        {
            let mut length = length;
            let read = read(with(CKM_SHA256_HMAC_GENERAL, &mut length, 8), Mechanism::Hmac, Size::General);
            match fits {
                true => assert_eq!(read.unwrap().length, length as usize),
                false => assert_eq!(read, invalid),
            }
        }
        let mut nothing = 0u8;
        assert_eq!(
            read(with(CKM_AES_CMAC, &mut nothing, 0), Mechanism::AesCmac, Size::Whole).unwrap().length,
            16
        );
        assert_eq!(read(with(CKM_AES_CMAC, &mut nothing, 1), Mechanism::AesCmac, Size::Whole), invalid);
        let mut iv = [7u8; 12];
        let of_gmac = |length, iv: &mut [u8; 12]| {
            let mechanism = with(CKM_AES_GMAC, iv, length);
            read(mechanism, Mechanism::AesGmac, Size::Whole)
        };
        assert_eq!(of_gmac(12, &mut iv).unwrap().iv, iv);
        assert_eq!(of_gmac(0, &mut iv), invalid);
        assert_eq!(of_gmac(usize::MAX, &mut iv), invalid);
    }
}
