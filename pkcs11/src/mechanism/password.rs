//! The parameter of the mechanism that makes keys of passwords.

use cryptoki_sys::*;
use strongroom_ffi::pointer;
use strongroom_protocol::v1::{Hash, Pbkdf2Parameters};

use super::derivation::{MAX_INPUT, copied, parameter};
use crate::error::Outcome;

/// Reads and copies the parameter of `CKM_PKCS5_PBKD2`, `CK_PKCS5_PBKD2_PARAMS2` or `CK_PKCS5_PBKD2_PARAMS`. See
/// [`password_length`] for what tells them apart.
///
/// # Errors
///
/// `CKR_MECHANISM_PARAM_INVALID` if it is missing, or has what the partition cannot do.
///
/// # Safety
///
/// `mechanism`'s parameter, if not null, has the length that stands beside it; so have salt and password.
pub unsafe fn pbkdf2_parameters(mechanism: &CK_MECHANISM) -> Outcome<Pbkdf2Parameters> {
    let invalid = CKR_MECHANISM_PARAM_INVALID;
    // SAFETY: by the contract.
    let given = unsafe { parameter::<CK_PKCS5_PBKD2_PARAMS2>(mechanism) }?;
    let hash = match given.prf {
        CKP_PKCS5_PBKD2_HMAC_SHA1 => Hash::Sha1,
        CKP_PKCS5_PBKD2_HMAC_SHA224 => Hash::Sha224,
        CKP_PKCS5_PBKD2_HMAC_SHA256 => Hash::Sha256,
        CKP_PKCS5_PBKD2_HMAC_SHA384 => Hash::Sha384,
        CKP_PKCS5_PBKD2_HMAC_SHA512 => Hash::Sha512,
        _ => return Err(invalid),
    };
    let iterations = u32::try_from(given.iterations).map_err(|_| invalid)?;
    if given.saltSource != CKZ_SALT_SPECIFIED || given.ulPrfDataLen != 0 || iterations == 0 {
        return Err(invalid);
    }
    let length = password_length(given.ulPasswordLen).ok_or(invalid)?;
    // SAFETY: by the contract.
    let (salt, password) = unsafe {
        (
            copied(given.pSaltSourceData.cast_const().cast(), given.ulSaltSourceDataLen)?,
            copied(given.pPassword.cast_const(), length)?,
        )
    };
    Ok(Pbkdf2Parameters { hash: hash.into(), password, salt, iterations })
}

/// The password's length. PKCS#11 2.40's first text has a pointer to it (`CK_PKCS5_PBKD2_PARAMS`, which NSS gives), its errata and
/// 3.0 the length itself (`CK_PKCS5_PBKD2_PARAMS2`), in structures of one size. What is longer than any password that the partition
/// takes is a pointer, since no system maps the first pages; the kernel reads what it points to, so that a length which is merely wrong
/// is no access to memory that is not there.
fn password_length(given: CK_ULONG) -> Option<CK_ULONG> {
    match usize::try_from(given).ok()? {
        length if length <= MAX_INPUT => Some(given),
        address => pointer::number_at(address).filter(|length| *length <= MAX_INPUT as CK_ULONG),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::with;
    use super::*;

    fn read(mut given: CK_PKCS5_PBKD2_PARAMS2) -> Outcome<Pbkdf2Parameters> {
        let size = size_of_val(&given);
        // SAFETY: the tests' parameters are locals of the length they say.
        unsafe { pbkdf2_parameters(&with(CKM_PKCS5_PBKD2, &mut given, size)) }
    }

    fn given(salt: &mut [u8], password: &mut [u8]) -> CK_PKCS5_PBKD2_PARAMS2 {
        CK_PKCS5_PBKD2_PARAMS2 {
            saltSource: CKZ_SALT_SPECIFIED,
            pSaltSourceData: salt.as_mut_ptr().cast(),
            ulSaltSourceDataLen: salt.len() as CK_ULONG,
            iterations: 1000,
            prf: CKP_PKCS5_PBKD2_HMAC_SHA256,
            pPrfData: std::ptr::null_mut(),
            ulPrfDataLen: 0,
            pPassword: password.as_mut_ptr(),
            ulPasswordLen: password.len() as CK_ULONG,
        }
    }

    #[test]
    fn passwords_and_salts_are_bounded() {
        let (mut salt, mut password) = ([1u8; 8], *b"password");
        let given = given(&mut salt, &mut password);
        let parsed = read(given).unwrap();
        assert_eq!((parsed.hash(), parsed.iterations, parsed.salt), (Hash::Sha256, 1000, vec![1; 8]));
        assert_eq!(parsed.password, b"password");
        for wrong in [
            CK_PKCS5_PBKD2_PARAMS2 { saltSource: 0, ..given },
            CK_PKCS5_PBKD2_PARAMS2 { iterations: 0, ..given },
            CK_PKCS5_PBKD2_PARAMS2 { iterations: CK_ULONG::MAX, ..given },
            CK_PKCS5_PBKD2_PARAMS2 { prf: CKP_PKCS5_PBKD2_HMAC_GOSTR3411, ..given },
            CK_PKCS5_PBKD2_PARAMS2 { ulPrfDataLen: 1, ..given },
            CK_PKCS5_PBKD2_PARAMS2 { pPassword: std::ptr::null_mut(), ..given },
            CK_PKCS5_PBKD2_PARAMS2 { ulSaltSourceDataLen: CK_ULONG::MAX, ..given },
        ] {
            assert_eq!(read(wrong).unwrap_err(), CKR_MECHANISM_PARAM_INVALID, "{wrong:?}");
        }
    }

    #[test]
    fn the_passwords_length_or_a_pointer_to_it() {
        let (mut salt, mut password) = ([1u8; 8], *b"password and more");
        let given = given(&mut salt, &mut password);
        let with_length = |length| read(CK_PKCS5_PBKD2_PARAMS2 { ulPasswordLen: length, ..given });
        let address = |length: &CK_ULONG| std::ptr::from_ref(length) as CK_ULONG;
        assert_eq!(with_length(8).unwrap().password, b"password");
        assert_eq!(with_length(address(&8)).unwrap().password, b"password");
        let most = MAX_INPUT as CK_ULONG;
        // Memory that is not there, that is the kernel's, that is not aligned; and lengths that are none.
        for wrong in [most + 1, 4096 * 5, 1 << 63, CK_ULONG::MAX, 0xffff_ffff_8000_0000, address(&8) + 1] {
            assert_eq!(with_length(wrong).unwrap_err(), CKR_MECHANISM_PARAM_INVALID, "{wrong:#x}");
        }
        for wrong in [most + 1, CK_ULONG::MAX, address(&8)] {
            assert_eq!(with_length(address(&wrong)).unwrap_err(), CKR_MECHANISM_PARAM_INVALID, "{wrong:#x}");
        }
    }
}
