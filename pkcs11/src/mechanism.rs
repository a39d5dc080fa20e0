//! The table of mechanisms, and the parameters that come with them.

use cryptoki_sys::*;
use strongroom_ffi::pointer;
use strongroom_protocol::frame::MAX_CIPHER;
use strongroom_protocol::v1::{GcmParameters, Hash, Mechanism, OaepParameters, PssParameters};

use crate::error::Outcome;
use crate::hash;
use crate::key::Family;

/// What a mechanism does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Makes key pairs, or secret keys, of a family.
    Generate(Family),
    /// Signs with keys of a family: as a request of the protocol over data that has been hashed here, or, of
    /// [`Hash::Unspecified`], over the application's data as they are.
    Sign(Family, Mechanism, Hash),
    /// Encrypts and decrypts with keys of a family.
    Cipher(Family, Mechanism),
    /// Decrypts with private keys of a family, and nothing else. What also signs is a [`Purpose::Sign`], see
    /// [`decryption`].
    Decrypt(Family, Mechanism),
    /// Agrees on secrets with keys on curves.
    Derive,
    /// Encapsulates and decapsulates secrets with keys of a family.
    Encapsulate(Family),
    /// Wraps and unwraps keys with keys of a family, and does nothing else. So does OAEP, which also decrypts.
    Wrap(Family, Mechanism),
    /// Hashes, in the application's process.
    Digest(Hash),
}

/// A row of the table.
#[derive(Debug)]
pub struct Entry {
    /// PKCS#11's name.
    pub mechanism: CK_MECHANISM_TYPE,
    /// What it does.
    pub purpose: Purpose,
}

macro_rules! table {
    ($($mechanism:ident => $purpose:expr,)*) => {
        /// All mechanisms, in the order in which `C_GetMechanismList` gives them.
        pub static MECHANISMS: &[Entry] = &[$(Entry { mechanism: $mechanism, purpose: $purpose }),*];
    };
}

use Family::{Aes, Ec, Edwards, MlDsa, MlKem, Montgomery, Rsa};
use Hash::{Sha1, Sha224, Sha256, Sha384, Sha512, Unspecified};
use Mechanism::{
    AesGcm, AesKeyWrap, AesKeyWrapKwp, Ecdsa, Eddsa, RsaAesKeyWrap, RsaPkcs, RsaPkcsOaep, RsaPkcsPss, RsaX509,
};
use Purpose::{Cipher, Decrypt, Derive, Digest, Encapsulate, Generate, Sign, Wrap};

table! {
    CKM_RSA_PKCS_KEY_PAIR_GEN => Generate(Rsa),
    CKM_RSA_PKCS => Sign(Rsa, RsaPkcs, Unspecified),
    CKM_SHA1_RSA_PKCS => Sign(Rsa, RsaPkcs, Sha1),
    CKM_SHA224_RSA_PKCS => Sign(Rsa, RsaPkcs, Sha224),
    CKM_SHA256_RSA_PKCS => Sign(Rsa, RsaPkcs, Sha256),
    CKM_SHA384_RSA_PKCS => Sign(Rsa, RsaPkcs, Sha384),
    CKM_SHA512_RSA_PKCS => Sign(Rsa, RsaPkcs, Sha512),
    CKM_RSA_PKCS_PSS => Sign(Rsa, RsaPkcsPss, Unspecified),
    CKM_SHA1_RSA_PKCS_PSS => Sign(Rsa, RsaPkcsPss, Sha1),
    CKM_SHA224_RSA_PKCS_PSS => Sign(Rsa, RsaPkcsPss, Sha224),
    CKM_SHA256_RSA_PKCS_PSS => Sign(Rsa, RsaPkcsPss, Sha256),
    CKM_SHA384_RSA_PKCS_PSS => Sign(Rsa, RsaPkcsPss, Sha384),
    CKM_SHA512_RSA_PKCS_PSS => Sign(Rsa, RsaPkcsPss, Sha512),
    CKM_RSA_PKCS_OAEP => Decrypt(Rsa, RsaPkcsOaep),
    CKM_RSA_X_509 => Sign(Rsa, RsaX509, Unspecified),
    CKM_EC_KEY_PAIR_GEN => Generate(Ec),
    CKM_ECDSA => Sign(Ec, Ecdsa, Unspecified),
    CKM_ECDSA_SHA1 => Sign(Ec, Ecdsa, Sha1),
    CKM_ECDSA_SHA224 => Sign(Ec, Ecdsa, Sha224),
    CKM_ECDSA_SHA256 => Sign(Ec, Ecdsa, Sha256),
    CKM_ECDSA_SHA384 => Sign(Ec, Ecdsa, Sha384),
    CKM_ECDSA_SHA512 => Sign(Ec, Ecdsa, Sha512),
    CKM_EC_EDWARDS_KEY_PAIR_GEN => Generate(Edwards),
    CKM_EDDSA => Sign(Edwards, Eddsa, Unspecified),
    CKM_EC_MONTGOMERY_KEY_PAIR_GEN => Generate(Montgomery),
    CKM_ECDH1_DERIVE => Derive,
    // The cofactor of all curves here that have one of their own is 1; X25519 takes care of its own.
    CKM_ECDH1_COFACTOR_DERIVE => Derive,
    CKM_ML_DSA_KEY_PAIR_GEN => Generate(MlDsa),
    CKM_ML_DSA => Sign(MlDsa, Mechanism::MlDsa, Unspecified),
    CKM_ML_KEM_KEY_PAIR_GEN => Generate(MlKem),
    CKM_ML_KEM => Encapsulate(MlKem),
    CKM_AES_KEY_GEN => Generate(Aes),
    CKM_AES_GCM => Cipher(Aes, AesGcm),
    CKM_AES_KEY_WRAP => Wrap(Aes, AesKeyWrap),
    CKM_AES_KEY_WRAP_KWP => Wrap(Aes, AesKeyWrapKwp),
    // PKCS#11 2.40's name, which SoftHSM and others have for the same.
    CKM_AES_KEY_WRAP_PAD => Wrap(Aes, AesKeyWrapKwp),
    CKM_RSA_AES_KEY_WRAP => Wrap(Rsa, RsaAesKeyWrap),
    CKM_SHA_1 => Digest(Sha1),
    CKM_SHA224 => Digest(Sha224),
    CKM_SHA256 => Digest(Sha256),
    CKM_SHA384 => Digest(Sha384),
    CKM_SHA512 => Digest(Sha512),
}

/// The row of a mechanism.
///
/// # Errors
///
/// `CKR_MECHANISM_INVALID` if there is none.
pub fn find(mechanism: CK_MECHANISM_TYPE) -> Outcome<&'static Entry> {
    MECHANISMS.iter().find(|entry| entry.mechanism == mechanism).ok_or(CKR_MECHANISM_INVALID)
}

impl Entry {
    /// What `C_GetMechanismInfo` says.
    pub fn info(&self) -> CK_MECHANISM_INFO {
        let sizes = |family| match family {
            Rsa => (2048, 4096, 0),
            Ec => (256, 521, CKF_EC_F_P | CKF_EC_OID | CKF_EC_UNCOMPRESS),
            Edwards | Montgomery => (255, 255, CKF_EC_F_P | CKF_EC_OID | CKF_EC_CURVENAME),
            // The public key, in bytes.
            MlDsa => (1312, 2592, 0),
            MlKem => (800, 1568, 0),
            // In bytes, as the standard has it for AES.
            Aes => (16, 32, 0),
        };
        let ((min, max, curve), flags) = match self.purpose {
            // CKF_HW: the partition does it, not the application's process.
            Generate(family) if family.is_pair() => (sizes(family), CKF_HW | CKF_GENERATE_KEY_PAIR),
            Generate(family) => (sizes(family), CKF_HW | CKF_GENERATE),
            Cipher(family, _) => (sizes(family), CKF_HW | CKF_ENCRYPT | CKF_DECRYPT),
            Decrypt(family, _) => (sizes(family), CKF_HW | CKF_DECRYPT | CKF_WRAP | CKF_UNWRAP),
            Wrap(family, _) => (sizes(family), CKF_HW | CKF_WRAP | CKF_UNWRAP),
            Sign(Rsa, RsaPkcs | RsaX509, Unspecified) => {
                (sizes(Rsa), CKF_HW | CKF_SIGN | CKF_VERIFY | CKF_DECRYPT)
            }
            Sign(family, ..) => (sizes(family), CKF_HW | CKF_SIGN | CKF_VERIFY),
            Derive => ((255, 521, CKF_EC_F_P | CKF_EC_OID | CKF_EC_UNCOMPRESS), CKF_HW | CKF_DERIVE),
            Encapsulate(family) => (sizes(family), CKF_HW | CKF_ENCAPSULATE | CKF_DECAPSULATE),
            Digest(_) => ((0, 0, 0), CKF_DIGEST),
        };
        CK_MECHANISM_INFO { ulMinKeySize: min, ulMaxKeySize: max, flags: flags | curve }
    }
}

/// The family whose private keys decrypt with a mechanism, and what the daemon calls that.
///
/// # Errors
///
/// `CKR_MECHANISM_INVALID` if none do.
pub fn decryption(mechanism: CK_MECHANISM_TYPE) -> Outcome<(Family, Mechanism)> {
    match find(mechanism)?.purpose {
        Decrypt(family, wire) => Ok((family, wire)),
        Sign(Rsa, wire @ (RsaPkcs | RsaX509), Unspecified) => Ok((Rsa, wire)),
        _ => Err(CKR_MECHANISM_INVALID),
    }
}

/// The hash that a digest mechanism computes.
pub fn hash_of(mechanism: CK_MECHANISM_TYPE) -> Option<Hash> {
    match find(mechanism).ok()?.purpose {
        Digest(hash) => Some(hash),
        _ => None,
    }
}

fn hash_of_mask(mask: CK_RSA_PKCS_MGF_TYPE) -> Option<Hash> {
    Some(match mask {
        CKG_MGF1_SHA1 => Sha1,
        CKG_MGF1_SHA224 => Sha224,
        CKG_MGF1_SHA256 => Sha256,
        CKG_MGF1_SHA384 => Sha384,
        CKG_MGF1_SHA512 => Sha512,
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
unsafe fn oaep(given: &CK_RSA_PKCS_OAEP_PARAMS) -> Outcome<OaepParameters> {
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

/// What a request to wrap or unwrap says of its mechanism.
#[derive(Debug)]
pub struct Wrapping {
    /// Of the mechanisms of RSA.
    pub oaep: Option<OaepParameters>,
    /// The size of the AES key between, of `CKM_RSA_AES_KEY_WRAP`.
    pub aes_bits: u32,
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
        _ => {
            // SAFETY: by the contract.
            let oaep = unsafe { oaep_parameters(mechanism, wire) }?;
            return Ok(Wrapping { oaep, aes_bits: 0 });
        }
    };
    if length > initial.len() {
        return Err(invalid);
    }
    // SAFETY: by the contract.
    let given = unsafe { pointer::slice(mechanism.pParameter.cast_const().cast::<u8>(), length) };
    match given {
        Some(given) if given.is_empty() || given == initial => Ok(Wrapping { oaep: None, aes_bits: 0 }),
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
    Ok(Wrapping { oaep: Some(oaep), aes_bits: given.ulAESKeyBits as u32 })
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
    use super::*;

    fn with<T>(mechanism: CK_MECHANISM_TYPE, parameter: &mut T, length: usize) -> CK_MECHANISM {
        CK_MECHANISM {
            mechanism,
            pParameter: std::ptr::from_mut(parameter).cast(),
            ulParameterLen: length as CK_ULONG,
        }
    }

    fn parse(mechanism: &CK_MECHANISM) -> Outcome<Option<PssParameters>> {
        let Sign(_, wire, hash) = find(mechanism.mechanism).unwrap().purpose else { panic!() };
        // SAFETY: the tests' parameters are locals of the length they say.
        unsafe { signature_parameters(mechanism, wire, hash) }
    }

    #[test]
    fn no_mechanism_stands_twice() {
        for (index, entry) in MECHANISMS.iter().enumerate() {
            assert!(MECHANISMS[..index].iter().all(|other| other.mechanism != entry.mechanism));
        }
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
        assert_eq!(read(self::with(CKM_AES_GCM, &mut with, 0)), wrong);
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
