//! Parameters of mechanisms that make keys of secret keys.

use cryptoki_sys::*;
use strongroom_ffi::pointer;
use strongroom_protocol::v1::Mechanism;
use strongroom_protocol::v1::{Hash, HkdfParameters, Sp800108Kind, Sp800108Parameters, Sp800108Part};

use super::{Purpose, Size, find, hash_of};
use crate::error::Outcome;

/// The longest salt, password or text that the partition takes, in bytes.
pub(super) const MAX_INPUT: usize = 16 * 1024;

/// The most parts of SP 800-108's input that the partition takes.
const MAX_PARTS: usize = 64;

/// The most keys that one derivation makes beside the first.
const MAX_KEYS: usize = 64;

/// Borrows a mechanism's parameter of type `T`.
///
/// # Safety
///
/// `mechanism`'s parameter, if not null, has the length that stands beside it.
pub(super) unsafe fn parameter<T>(mechanism: &CK_MECHANISM) -> Outcome<&T> {
    let invalid = CKR_MECHANISM_PARAM_INVALID;
    if usize::try_from(mechanism.ulParameterLen) != Ok(size_of::<T>()) {
        return Err(invalid);
    }
    // SAFETY: of this type by its length; by the contract.
    unsafe { pointer::reference(mechanism.pParameter.cast_const().cast::<T>()) }.ok_or(invalid)
}

/// Copies bytes of a parameter, of a bounded length.
///
/// # Safety
///
/// `bytes`, if not null, has this length.
pub(super) unsafe fn copied(bytes: *const CK_BYTE, length: CK_ULONG) -> Outcome<Vec<u8>> {
    let invalid = CKR_MECHANISM_PARAM_INVALID;
    let length = usize::try_from(length).ok().filter(|length| *length <= MAX_INPUT).ok_or(invalid)?;
    // SAFETY: by the contract.
    Ok(unsafe { pointer::slice(bytes, length) }.ok_or(invalid)?.to_vec())
}

/// Reads and copies the parameter of `CKM_HKDF_DERIVE` and `CKM_HKDF_DATA`; with it the key that is the salt, if one is.
///
/// # Errors
///
/// `CKR_MECHANISM_PARAM_INVALID` if it is missing, or contradicts itself.
///
/// # Safety
///
/// `mechanism`'s parameter, if not null, has the length that stands beside it; so have the things that it points to.
pub unsafe fn hkdf_parameters(
    mechanism: &CK_MECHANISM,
) -> Outcome<(HkdfParameters, Option<CK_OBJECT_HANDLE>)> {
    let invalid = CKR_MECHANISM_PARAM_INVALID;
    // SAFETY: by the contract.
    let given = unsafe { parameter::<CK_HKDF_PARAMS>(mechanism) }?;
    let flag = |given: CK_BBOOL| match given {
        CK_FALSE => Ok(false),
        CK_TRUE => Ok(true),
        _ => Err(invalid),
    };
    let (extract, expand) = (flag(given.bExtract)?, flag(given.bExpand)?);
    if !extract && !expand {
        return Err(invalid);
    }
    // The hash, or, as some applications have it, its HMAC.
    let hash = hash_of(given.prfHashMechanism).or_else(|| prf(given.prfHashMechanism).ok()?.1);
    let (salt, key) = match (extract, given.ulSaltType) {
        // Without an extraction there is no salt.
        (false, _) | (true, CKF_HKDF_SALT_NULL) => (Vec::new(), None),
        // SAFETY: by the contract.
        (true, CKF_HKDF_SALT_DATA) => (unsafe { copied(given.pSalt, given.ulSaltLen) }?, None),
        (true, CKF_HKDF_SALT_KEY) => (Vec::new(), Some(given.hSaltKey)),
        _ => return Err(invalid),
    };
    let info = match expand {
        // SAFETY: by the contract.
        true => unsafe { copied(given.pInfo, given.ulInfoLen) }?,
        false => Vec::new(),
    };
    let hash = hash.ok_or(invalid)?.into();
    Ok((HkdfParameters { hash, extract, expand, salt, salt_key: Vec::new(), info }, key))
}

/// The pseudorandom function of a `CKM_…_HMAC` or `CKM_AES_CMAC`, and HMAC's hash.
fn prf(mechanism: CK_MECHANISM_TYPE) -> Outcome<(Mechanism, Option<Hash>)> {
    match find(mechanism).map_err(|_| CKR_MECHANISM_PARAM_INVALID)?.purpose {
        Purpose::Mac(_, wire @ Mechanism::Hmac, hash, Size::Whole) => Ok((wire, Some(hash))),
        Purpose::Mac(_, wire @ Mechanism::AesCmac, _, Size::Whole) => Ok((wire, None)),
        _ => Err(CKR_MECHANISM_PARAM_INVALID),
    }
}

/// Reads the parameter of a mechanism of SP 800-108; the keys that are made beside the first are borrowed.
///
/// # Errors
///
/// `CKR_MECHANISM_PARAM_INVALID` if it is missing, or has what the partition cannot do.
///
/// # Safety
///
/// `mechanism`'s parameter, if not null, has the length that stands beside it; so have the things that it points to.
pub unsafe fn sp800_108_parameters(
    mechanism: &CK_MECHANISM,
    wire: Mechanism,
) -> Outcome<(Sp800108Parameters, &[CK_DERIVED_KEY])> {
    let invalid = CKR_MECHANISM_PARAM_INVALID;
    let (function, parts, iv, keys) = if wire == Mechanism::Sp800108Feedback {
        // SAFETY: by the contract.
        let given = unsafe { parameter::<CK_SP800_108_FEEDBACK_KDF_PARAMS>(mechanism) }?;
        // SAFETY: by the contract.
        let iv = unsafe { copied(given.pIV, given.ulIVLen) }?;
        let keys = (given.pAdditionalDerivedKeys, given.ulAdditionalDerivedKeys);
        (given.prfType, (given.pDataParams, given.ulNumberOfDataParams), iv, keys)
    } else {
        // SAFETY: by the contract.
        let given = unsafe { parameter::<CK_SP800_108_KDF_PARAMS>(mechanism) }?;
        let keys = (given.pAdditionalDerivedKeys, given.ulAdditionalDerivedKeys);
        (given.prfType, (given.pDataParams, given.ulNumberOfDataParams), Vec::new(), keys)
    };
    let counted = |count: CK_ULONG, most: usize| usize::try_from(count).ok().filter(|count| *count <= most);
    let (parts, count) = (parts.0.cast_const(), counted(parts.1, MAX_PARTS).ok_or(invalid)?);
    // SAFETY: by the contract.
    let given = unsafe { pointer::slice(parts, count) }.ok_or(invalid)?;
    let mut parts = Vec::with_capacity(count);
    for part in given {
        // SAFETY: by the contract.
        parts.push(unsafe { part_of(part, wire) }?);
    }
    if parts.iter().map(|part| part.data.len()).sum::<usize>() > MAX_INPUT {
        return Err(invalid);
    }
    let (keys, count) = (keys.0.cast_const(), counted(keys.1, MAX_KEYS).ok_or(invalid)?);
    // SAFETY: by the contract.
    let keys = unsafe { pointer::slice(keys, count) }.ok_or(invalid)?;
    let (prf, hash) = prf(function)?;
    let (prf, hash) = (prf.into(), hash.map_or(0, Into::into));
    Ok((Sp800108Parameters { prf, hash, iv, parts, offset: 0, total: 0 }, keys))
}

/// Copies a part of the input.
///
/// # Safety
///
/// Its value, if not null, has the length that stands beside it.
unsafe fn part_of(given: &CK_PRF_DATA_PARAM, mode: Mechanism) -> Outcome<Sp800108Part> {
    let invalid = CKR_MECHANISM_PARAM_INVALID;
    let length = usize::try_from(given.ulValueLen).map_err(|_| invalid)?;
    let counter = || -> Outcome<(bool, u32)> {
        if length != size_of::<CK_SP800_108_COUNTER_FORMAT>() {
            return Err(invalid);
        }
        let format = given.pValue.cast_const().cast::<CK_SP800_108_COUNTER_FORMAT>();
        // SAFETY: of this type by its length; by the contract.
        let format = unsafe { pointer::reference(format) }.ok_or(invalid)?;
        field(format.bLittleEndian, format.ulWidthInBits)
    };
    let plain = Sp800108Part::default();
    Ok(match given.type_ {
        // Only the counter mode's is a number that has a format.
        CK_SP800_108_ITERATION_VARIABLE if mode == Mechanism::Sp800108Counter => {
            let (little_endian, bits) = counter()?;
            Sp800108Part { kind: Sp800108Kind::Iteration.into(), little_endian, bits, ..plain }
        }
        CK_SP800_108_ITERATION_VARIABLE if length == 0 => {
            Sp800108Part { kind: Sp800108Kind::Iteration.into(), ..plain }
        }
        CK_SP800_108_COUNTER => {
            let (little_endian, bits) = counter()?;
            Sp800108Part { kind: Sp800108Kind::Counter.into(), little_endian, bits, ..plain }
        }
        CK_SP800_108_DKM_LENGTH => {
            if length != size_of::<CK_SP800_108_DKM_LENGTH_FORMAT>() {
                return Err(invalid);
            }
            let format = given.pValue.cast_const().cast::<CK_SP800_108_DKM_LENGTH_FORMAT>();
            // SAFETY: of this type by its length; by the contract.
            let format = unsafe { pointer::reference(format) }.ok_or(invalid)?;
            let kind = match format.dkmLengthMethod {
                CK_SP800_108_DKM_LENGTH_SUM_OF_KEYS => Sp800108Kind::LengthOfKeys,
                CK_SP800_108_DKM_LENGTH_SUM_OF_SEGMENTS => Sp800108Kind::LengthOfBlocks,
                _ => return Err(invalid),
            };
            let (little_endian, bits) = field(format.bLittleEndian, format.ulWidthInBits)?;
            Sp800108Part { kind: kind.into(), little_endian, bits, ..plain }
        }
        CK_SP800_108_BYTE_ARRAY => {
            // SAFETY: by the contract.
            let data = unsafe { copied(given.pValue.cast_const().cast(), given.ulValueLen) }?;
            Sp800108Part { kind: Sp800108Kind::Bytes.into(), data, ..plain }
        }
        _ => return Err(invalid),
    })
}

/// A number's format: the lowest byte first, and its size in bits.
fn field(little_endian: CK_BBOOL, bits: CK_ULONG) -> Outcome<(bool, u32)> {
    match (little_endian, bits) {
        (CK_FALSE | CK_TRUE, 8 | 16 | 24 | 32 | 40 | 48 | 56 | 64) => {
            Ok((little_endian == CK_TRUE, bits as u32))
        }
        _ => Err(CKR_MECHANISM_PARAM_INVALID),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::with;
    use super::*;

    const INVALID: CK_RV = CKR_MECHANISM_PARAM_INVALID;

    #[test]
    fn hkdf_parameters_that_contradict_themselves() {
        let (mut salt, mut info) = ([1u8; 4], [2u8; 3]);
        let given = CK_HKDF_PARAMS {
            bExtract: CK_TRUE,
            bExpand: CK_TRUE,
            prfHashMechanism: CKM_SHA256,
            ulSaltType: CKF_HKDF_SALT_DATA,
            pSalt: salt.as_mut_ptr(),
            ulSaltLen: 4,
            hSaltKey: 9,
            pInfo: info.as_mut_ptr(),
            ulInfoLen: 3,
        };
        let read = |mut given: CK_HKDF_PARAMS| {
            let size = size_of_val(&given);
            // SAFETY: the tests' parameters are locals of the length they say.
            unsafe { hkdf_parameters(&with(CKM_HKDF_DERIVE, &mut given, size)) }
        };
        let (both, key) = read(given).unwrap();
        assert_eq!((both.hash(), both.salt, both.info, key), (Hash::Sha256, vec![1; 4], vec![2; 3], None));
        let (named, _) = read(CK_HKDF_PARAMS { prfHashMechanism: CKM_SHA512_HMAC, ..given }).unwrap();
        assert_eq!(named.hash(), Hash::Sha512);
        let (keyed, key) = read(CK_HKDF_PARAMS { ulSaltType: CKF_HKDF_SALT_KEY, ..given }).unwrap();
        assert!(keyed.salt.is_empty() && key == Some(9));
        let (expanded, _) = read(CK_HKDF_PARAMS { bExtract: CK_FALSE, ulSaltType: 0, ..given }).unwrap();
        assert!(expanded.salt.is_empty() && !expanded.extract);
        for wrong in [
            CK_HKDF_PARAMS { bExtract: CK_FALSE, bExpand: CK_FALSE, ..given },
            CK_HKDF_PARAMS { bExtract: 2, ..given },
            CK_HKDF_PARAMS { prfHashMechanism: CKM_AES_CMAC, ..given },
            CK_HKDF_PARAMS { prfHashMechanism: CKM_RSA_PKCS, ..given },
            CK_HKDF_PARAMS { ulSaltType: 3, ..given },
            CK_HKDF_PARAMS { pSalt: std::ptr::null_mut(), ..given },
            CK_HKDF_PARAMS { ulSaltLen: CK_ULONG::MAX, ..given },
            CK_HKDF_PARAMS { ulInfoLen: MAX_INPUT as CK_ULONG + 1, ..given },
        ] {
            assert_eq!(read(wrong).unwrap_err(), INVALID, "{wrong:?}");
        }
    }

    #[test]
    fn parts_of_the_input() {
        let mut counter = CK_SP800_108_COUNTER_FORMAT { bLittleEndian: CK_FALSE, ulWidthInBits: 32 };
        let mut length = CK_SP800_108_DKM_LENGTH_FORMAT {
            dkmLengthMethod: CK_SP800_108_DKM_LENGTH_SUM_OF_SEGMENTS,
            bLittleEndian: CK_TRUE,
            ulWidthInBits: 16,
        };
        let mut label = *b"label";
        fn part<T>(type_: CK_ULONG, value: &mut T) -> CK_PRF_DATA_PARAM {
            let (value, length) = (std::ptr::from_mut(value).cast(), size_of::<T>() as CK_ULONG);
            CK_PRF_DATA_PARAM { type_, pValue: value, ulValueLen: length }
        }
        let counter = part(CK_SP800_108_ITERATION_VARIABLE, &mut counter);
        let mut parts =
            [counter, part(CK_SP800_108_BYTE_ARRAY, &mut label), part(CK_SP800_108_DKM_LENGTH, &mut length)];
        let given = CK_SP800_108_KDF_PARAMS {
            prfType: CKM_SHA384_HMAC,
            ulNumberOfDataParams: 3,
            pDataParams: parts.as_mut_ptr(),
            ulAdditionalDerivedKeys: 0,
            pAdditionalDerivedKeys: std::ptr::null_mut(),
        };
        let read = |mut given: CK_SP800_108_KDF_PARAMS, wire| {
            let size = size_of_val(&given);
            let mechanism = with(CKM_SP800_108_COUNTER_KDF, &mut given, size);
            // SAFETY: the tests' parameters are locals of the length they say.
            unsafe { sp800_108_parameters(&mechanism, wire) }.map(|(read, _)| read)
        };
        let parsed = read(given, Mechanism::Sp800108Counter).unwrap();
        assert_eq!((parsed.prf(), parsed.hash()), (Mechanism::Hmac, Hash::Sha384));
        let kinds = [Sp800108Kind::Iteration, Sp800108Kind::Bytes, Sp800108Kind::LengthOfBlocks];
        assert_eq!(parsed.parts.iter().map(Sp800108Part::kind).collect::<Vec<_>>(), kinds);
        assert_eq!((parsed.parts[0].bits, &parsed.parts[1].data[..]), (32, &b"label"[..]));
        assert!(parsed.parts[2].little_endian && parsed.parts[2].bits == 16);
        // Elsewhere the iteration variable is no number.
        assert_eq!(read(given, Mechanism::Sp800108DoublePipeline).unwrap_err(), INVALID);
        for wrong in [
            CK_SP800_108_KDF_PARAMS { prfType: CKM_SHA384, ..given },
            CK_SP800_108_KDF_PARAMS { ulNumberOfDataParams: CK_ULONG::MAX, ..given },
            CK_SP800_108_KDF_PARAMS { pDataParams: std::ptr::null_mut(), ..given },
            CK_SP800_108_KDF_PARAMS { ulAdditionalDerivedKeys: CK_ULONG::MAX, ..given },
            CK_SP800_108_KDF_PARAMS { ulAdditionalDerivedKeys: 1, ..given },
        ] {
            assert_eq!(read(wrong, Mechanism::Sp800108Counter).unwrap_err(), INVALID, "{wrong:?}");
        }
        for wrong in [
            CK_PRF_DATA_PARAM { ulValueLen: 3, ..counter },
            CK_PRF_DATA_PARAM { pValue: std::ptr::null_mut(), ..counter },
            CK_PRF_DATA_PARAM { type_: CK_SP800_108_KEY_HANDLE, ..counter },
            CK_PRF_DATA_PARAM { type_: CK_SP800_108_DKM_LENGTH, ..counter },
            CK_PRF_DATA_PARAM { type_: CK_SP800_108_BYTE_ARRAY, ulValueLen: CK_ULONG::MAX, ..counter },
        ] {
            let mut parts = [wrong];
            let given =
                CK_SP800_108_KDF_PARAMS { pDataParams: parts.as_mut_ptr(), ulNumberOfDataParams: 1, ..given };
            assert_eq!(read(given, Mechanism::Sp800108Counter).unwrap_err(), INVALID, "{wrong:?}");
        }
        assert_eq!(field(CK_FALSE, 12), Err(INVALID));
        assert_eq!(field(2, 8), Err(INVALID));
    }
}
