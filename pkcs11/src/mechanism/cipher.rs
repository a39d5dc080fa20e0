//! Parameters of mechanisms that encrypt and decrypt with secret keys.

use cryptoki_sys::*;
use strongroom_ffi::pointer;
use strongroom_protocol::frame::MAX_CIPHER;
use strongroom_protocol::v1::GcmParameters;

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
}
