//! Parameters of mechanisms that encrypt and decrypt with secret keys.

use cryptoki_sys::*;
use strongroom_ffi::pointer;
use strongroom_protocol::frame::MAX_CIPHER;
use strongroom_protocol::v1::{CcmParameters, GcmParameters, Mechanism};

use crate::error::Outcome;

/// `CK_GCM_PARAMS` as PKCS#11 2.40's text has it; its header, and 3.0, have `ulIvBits` after `ulIvLen`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(non_snake_case, reason = "the standard's names")]
struct GcmParametersWithoutIvBits {
    pIv: *mut CK_BYTE,
    ulIvLen: CK_ULONG,
    pAAD: *mut CK_BYTE,
    ulAADLen: CK_ULONG,
    ulTagBits: CK_ULONG,
}

/// The longest IV that the partition takes, in bytes.
const MAX_IV: usize = 256;

/// Reads and copies the parameter of `CKM_AES_GCM`, of either layout. `ulIvBits` is not read: the standard says
/// that the length is `ulIvLen`, and applications leave the other as it comes.
///
/// # Errors
///
/// `CKR_MECHANISM_PARAM_INVALID` if it is missing or the partition cannot do it.
///
/// # Safety
///
/// `mechanism`'s parameter, if not null, has the length that stands beside it; so have the IV and the associated
/// data that it points to.
pub unsafe fn gcm_parameters(mechanism: &CK_MECHANISM) -> Outcome<GcmParameters> {
    const WITH: usize = size_of::<CK_GCM_PARAMS>();
    const WITHOUT: usize = size_of::<GcmParametersWithoutIvBits>();
    let invalid = CKR_MECHANISM_PARAM_INVALID;
    let parameter = mechanism.pParameter.cast_const();
    let given = match mechanism.ulParameterLen as usize {
        WITH => {
            // SAFETY: of this type by its length; by the contract.
            let given = unsafe { pointer::reference(parameter.cast::<CK_GCM_PARAMS>()) }.ok_or(invalid)?;
            let CK_GCM_PARAMS { pIv, ulIvLen, pAAD, ulAADLen, ulTagBits, .. } = *given;
            GcmParametersWithoutIvBits { pIv, ulIvLen, pAAD, ulAADLen, ulTagBits }
        }
        WITHOUT => {
            // SAFETY: as above.
            *unsafe { pointer::reference(parameter.cast::<GcmParametersWithoutIvBits>()) }.ok_or(invalid)?
        }
        _ => return Err(invalid),
    };
    let (iv, aad) = (given.ulIvLen as usize, given.ulAADLen as usize);
    let is_tag = (96..=128).contains(&given.ulTagBits) && given.ulTagBits.is_multiple_of(8);
    if iv == 0 || iv > MAX_IV || aad > MAX_CIPHER - iv || !is_tag {
        return Err(invalid);
    }
    // SAFETY: by the contract.
    let (iv, aad) = unsafe { (pointer::slice(given.pIv, iv), pointer::slice(given.pAAD, aad)) };
    Ok(GcmParameters {
        iv: iv.ok_or(invalid)?.to_vec(),
        aad: aad.ok_or(invalid)?.to_vec(),
        // Checked above: at most 128.
        tag_bits: given.ulTagBits as u32,
    })
}

/// Reads and copies the parameter of `CKM_AES_CCM`. `ulDataLen` is not read: the partition has the data as a whole, and
/// applications do not agree on whether the tag counts among those to decrypt.
///
/// # Errors
///
/// `CKR_MECHANISM_PARAM_INVALID` if it is missing or the partition cannot do it.
///
/// # Safety
///
/// `mechanism`'s parameter, if not null, has the length that stands beside it; so have the nonce and the associated
/// data that it points to.
pub unsafe fn ccm_parameters(mechanism: &CK_MECHANISM) -> Outcome<CcmParameters> {
    let invalid = CKR_MECHANISM_PARAM_INVALID;
    if mechanism.ulParameterLen as usize != size_of::<CK_CCM_PARAMS>() {
        return Err(invalid);
    }
    let parameter = mechanism.pParameter.cast_const().cast::<CK_CCM_PARAMS>();
    // SAFETY: of this type by its length; by the contract.
    let given = unsafe { pointer::reference(parameter) }.ok_or(invalid)?;
    let (nonce, aad) = (given.ulNonceLen as usize, given.ulAADLen as usize);
    let is_tag = (4..=16).contains(&given.ulMACLen) && given.ulMACLen.is_multiple_of(2);
    if !(7..=13).contains(&nonce) || aad > MAX_CIPHER - nonce || !is_tag {
        return Err(invalid);
    }
    // SAFETY: by the contract.
    let (nonce, aad) = unsafe { (pointer::slice(given.pNonce, nonce), pointer::slice(given.pAAD, aad)) };
    Ok(CcmParameters {
        nonce: nonce.ok_or(invalid)?.to_vec(),
        aad: aad.ok_or(invalid)?.to_vec(),
        // Checked above: at most 16.
        tag_bits: given.ulMACLen as u32 * 8,
    })
}

/// Reads and copies the parameter of a mechanism that chains blocks: the block before the first, or, of ECB, nothing.
///
/// # Errors
///
/// `CKR_MECHANISM_PARAM_INVALID` if it has another length.
///
/// # Safety
///
/// `mechanism`'s parameter, if not null, has the length that stands beside it.
pub unsafe fn initial_vector(mechanism: &CK_MECHANISM, wire: Mechanism) -> Outcome<Vec<u8>> {
    let wanted = match wire {
        Mechanism::AesEcb | Mechanism::Des3Ecb => 0,
        Mechanism::Des3Cbc | Mechanism::Des3CbcPad => 8,
        _ => 16,
    };
    if mechanism.ulParameterLen as usize != wanted {
        return Err(CKR_MECHANISM_PARAM_INVALID);
    }
    // SAFETY: by the contract.
    let iv = unsafe { pointer::slice(mechanism.pParameter.cast_const().cast::<u8>(), wanted) };
    Ok(iv.ok_or(CKR_MECHANISM_PARAM_INVALID)?.to_vec())
}

/// The counter of `CKM_AES_CTR`: a block, of which some of the last bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    /// The next block.
    pub block: u128,
    /// How many more blocks there are before the bits that count are used up.
    pub left: u128,
}

/// Reads the parameter of `CKM_AES_CTR`.
///
/// # Errors
///
/// `CKR_MECHANISM_PARAM_INVALID` if it is missing, or more bits count than there are, or none.
///
/// # Safety
///
/// `mechanism`'s parameter, if not null, has the length that stands beside it.
pub unsafe fn counter(mechanism: &CK_MECHANISM) -> Outcome<Counter> {
    let invalid = CKR_MECHANISM_PARAM_INVALID;
    if mechanism.ulParameterLen as usize != size_of::<CK_AES_CTR_PARAMS>() {
        return Err(invalid);
    }
    let parameter = mechanism.pParameter.cast_const().cast::<CK_AES_CTR_PARAMS>();
    // SAFETY: of this type by its length; by the contract.
    let given = unsafe { pointer::reference(parameter) }.ok_or(invalid)?;
    let block = u128::from_be_bytes(given.cb);
    let unused = match given.ulCounterBits {
        bits @ 1..=128 => 128 - bits as u32,
        _ => return Err(invalid),
    };
    // Of 2^128 blocks one more would be left than can be said.
    let left = (!block << unused >> unused).saturating_add(1);
    Ok(Counter { block, left })
}

#[cfg(test)]
mod tests {
    use super::super::tests::with;
    use super::*;

    #[test]
    fn gcm_parameters_of_both_layouts() {
        let (mut iv, mut aad) = ([7; 12], [8; 3]);
        let mut with = CK_GCM_PARAMS {
            pIv: iv.as_mut_ptr(),
            ulIvLen: 12,
            ulIvBits: 0,
            pAAD: aad.as_mut_ptr(),
            ulAADLen: 3,
            ulTagBits: 120,
        };
        let mut without = GcmParametersWithoutIvBits {
            pIv: iv.as_mut_ptr(),
            ulIvLen: 12,
            pAAD: aad.as_mut_ptr(),
            ulAADLen: 3,
            ulTagBits: 120,
        };
        // SAFETY: the tests' parameters are locals of the length they say.
        let read = |mechanism: CK_MECHANISM| unsafe { gcm_parameters(&mechanism) };
        let expected = Ok(GcmParameters { iv: vec![7; 12], aad: vec![8; 3], tag_bits: 120 });
        assert_eq!(read(with_size(&mut with)), expected);
        assert_eq!(read(with_size(&mut without)), expected);
        let wrong = Err(CKR_MECHANISM_PARAM_INVALID);
        assert_eq!(read(super::super::tests::with(CKM_AES_GCM, &mut with, 0)), wrong);
        for change in [
            |p: &mut CK_GCM_PARAMS| p.ulIvLen = 0,
            |p: &mut CK_GCM_PARAMS| p.ulIvLen = 257,
            |p: &mut CK_GCM_PARAMS| p.pIv = std::ptr::null_mut(),
            |p: &mut CK_GCM_PARAMS| p.pAAD = std::ptr::null_mut(),
            |p: &mut CK_GCM_PARAMS| p.ulAADLen = CK_ULONG::MAX,
            |p: &mut CK_GCM_PARAMS| p.ulAADLen = MAX_CIPHER as CK_ULONG,
            |p: &mut CK_GCM_PARAMS| p.ulTagBits = 64,
            |p: &mut CK_GCM_PARAMS| p.ulTagBits = 97,
            |p: &mut CK_GCM_PARAMS| p.ulTagBits = 136,
        ] {
            let mut changed = with;
            change(&mut changed);
            assert_eq!(read(with_size(&mut changed)), wrong, "{changed:?}");
        }
    }

    fn with_size<T>(parameter: &mut T) -> CK_MECHANISM {
        let size = size_of_val(parameter);
        with(CKM_AES_GCM, parameter, size)
    }

    #[test]
    fn counters_end_with_the_bits_that_count() {
        let read = |bits, last: u8| {
            let mut given = CK_AES_CTR_PARAMS { ulCounterBits: bits, cb: [0; 16] };
            given.cb[15] = last;
            let size = size_of_val(&given);
            // SAFETY: the tests' parameters are locals of the length they say.
            unsafe { counter(&with(CKM_AES_CTR, &mut given, size)) }
        };
        assert_eq!(read(8, 0xfe), Ok(Counter { block: 0xfe, left: 2 }));
        assert_eq!(read(32, 0).unwrap().left, 1 << 32);
        assert_eq!(read(128, 0).unwrap().left, u128::MAX);
        assert_eq!(read(128, 1).unwrap().left, u128::MAX);
        for wrong in [0, 129, CK_ULONG::MAX] {
            assert_eq!(read(wrong, 0), Err(CKR_MECHANISM_PARAM_INVALID));
        }
    }

    #[test]
    fn vectors_of_a_block() {
        let mut iv = [3u8; 16];
        let mut read = |wire, length| {
            let mechanism = with(CKM_AES_CBC, &mut iv, length);
            // SAFETY: as above.
            unsafe { initial_vector(&mechanism, wire) }.map(|iv| iv.len())
        };
        assert_eq!(read(Mechanism::AesCbc, 16), Ok(16));
        assert_eq!(read(Mechanism::Des3CbcPad, 8), Ok(8));
        assert_eq!(read(Mechanism::AesEcb, 0), Ok(0));
        for (wire, length) in [
            (Mechanism::AesCbc, 8),
            (Mechanism::AesCbcPad, 0),
            (Mechanism::AesEcb, 16),
            (Mechanism::Des3Cbc, 16),
        ] {
            assert_eq!(read(wire, length), Err(CKR_MECHANISM_PARAM_INVALID));
        }
    }
}
