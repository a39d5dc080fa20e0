//! Parameters of mechanisms that wrap keys.

use cryptoki_sys::*;
use strongroom_ffi::pointer;
use strongroom_protocol::v1::Mechanism::{self, AesCbcPad, AesKeyWrap, AesKeyWrapKwp, RsaAesKeyWrap};
use strongroom_protocol::v1::OaepParameters;

use super::cipher::initial_vector;
use super::oaep::{oaep, oaep_parameters};
use crate::error::Outcome;

/// What a request to wrap or unwrap says of its mechanism.
#[derive(Debug, Default)]
pub struct Wrapping {
    /// Of the mechanisms of RSA.
    pub oaep: Option<OaepParameters>,
    /// The size of the AES key between, of `CKM_RSA_AES_KEY_WRAP`.
    pub aes_bits: u32,
    /// The block before the first, of `CKM_AES_CBC_PAD`.
    pub iv: Vec<u8>,
}

/// Reads and copies the parameter of a mechanism that wraps keys. AES key wrap has an initial value as its parameter, for
/// which the partition takes the standards' only, given or not.
///
/// # Errors
///
/// `CKR_MECHANISM_PARAM_INVALID` if it is missing, not wanted, or the partition cannot do it.
///
/// # Safety
///
/// `mechanism`'s parameter, if not null, has the length that stands beside it; so have the things that it points to.
pub unsafe fn wrapping_parameters(mechanism: &CK_MECHANISM, wire: Mechanism) -> Outcome<Wrapping> {
    let invalid = CKR_MECHANISM_PARAM_INVALID;
    let length = usize::try_from(mechanism.ulParameterLen).map_err(|_| invalid)?;
    // RFC 3394, 2.2.3.1, and RFC 5649, 3.
    let initial: &[u8] = match wire {
        AesKeyWrap => &[0xa6; 8],
        AesKeyWrapKwp => &[0xa6, 0x59, 0x59, 0xa6],
        // SAFETY: by the contract.
        RsaAesKeyWrap => return unsafe { rsa_aes_parameters(mechanism, length) },
        AesCbcPad => {
            // SAFETY: by the contract.
            let iv = unsafe { initial_vector(mechanism, wire) }?;
            return Ok(Wrapping { iv, ..Wrapping::default() });
        }
        _ => {
            // SAFETY: by the contract.
            let oaep = unsafe { oaep_parameters(mechanism, wire) }?;
            return Ok(Wrapping { oaep, ..Wrapping::default() });
        }
    };
    if length > initial.len() {
        return Err(invalid);
    }
    // SAFETY: by the contract.
    let given = unsafe { pointer::slice(mechanism.pParameter.cast_const().cast::<u8>(), length) };
    match given {
        Some(given) if given.is_empty() || given == initial => Ok(Wrapping::default()),
        _ => Err(invalid),
    }
}

/// Reads and copies `CK_RSA_AES_KEY_WRAP_PARAMS` of this length.
///
/// # Safety
///
/// As [`wrapping_parameters`].
unsafe fn rsa_aes_parameters(mechanism: &CK_MECHANISM, length: usize) -> Outcome<Wrapping> {
    let invalid = CKR_MECHANISM_PARAM_INVALID;
    if length != size_of::<CK_RSA_AES_KEY_WRAP_PARAMS>() {
        return Err(invalid);
    }
    let parameter = mechanism.pParameter.cast_const().cast::<CK_RSA_AES_KEY_WRAP_PARAMS>();
    // SAFETY: of this type by its length; by the contract.
    let given = unsafe { pointer::reference(parameter) }.ok_or(invalid)?;
    if !matches!(given.ulAESKeyBits, 128 | 192 | 256) {
        return Err(invalid);
    }
    // SAFETY: by the contract, if it is not null.
    let parameters = unsafe { pointer::reference(given.pOAEPParams.cast_const()) }.ok_or(invalid)?;
    // SAFETY: by the contract.
    let oaep = unsafe { oaep(parameters) }?;
    // Checked above: at most 256.
    Ok(Wrapping { oaep: Some(oaep), aes_bits: given.ulAESKeyBits as u32, iv: Vec::new() })
}
