//! The C functions, as in the headers of crypto_mb 2.3 (interface 13.3): `crypto_mb/rsa.h`, `ec_nistp*.h`,
//! `ed25519.h`, `cpu_features.h`, `version.h`.
//!
//! `mbx_status` is `int32u`: four bits for each lane, lane 0 lowest, 0 for success. Arrays of eight pointers are
//! `T *const pa[8]` in C, a pointer to the first of eight.

use std::ffi::{c_char, c_int};

pub(crate) type Status = u32;

/// `mbx_RSA_Method`: which kernels to call.
#[repr(C)]
pub(crate) struct RsaMethod {
    _opaque: [u8; 0],
}

/// `mbxVersion`.
#[repr(C)]
pub(crate) struct Version {
    pub(crate) major: c_int,
    pub(crate) minor: c_int,
    pub(crate) patch: c_int,
    pub(crate) target_cpu: [c_char; 4],
    pub(crate) name: *const c_char,
    pub(crate) build_date: *const c_char,
    pub(crate) text: *const c_char,
}

/// `enum MBX_ALGO`, those that are used here.
pub(crate) const ALGORITHMS: [c_int; 7] = [
    1,  // MBX_ALGO_RSA_2K
    2,  // MBX_ALGO_RSA_3K
    3,  // MBX_ALGO_RSA_4K
    5,  // MBX_ALGO_EC_NIST_P256
    6,  // MBX_ALGO_EC_NIST_P384
    7,  // MBX_ALGO_EC_NIST_P521
    14, // MBX_ALGO_ED25519
];

/// `MBX_WIDTH_MB8`, the answer of [`mbx_get_algo_info`] for eight lanes.
pub(crate) const WIDTH_8: u64 = 8;

/// `mbx_nistp*_ecdsa_sign_setup_mb8`.
pub(crate) type Setup = unsafe extern "C" fn(
    inverse: *const *mut u64,
    r: *const *mut u64,
    nonce: *const *const u64,
    buffer: *mut u8,
) -> Status;

/// `mbx_nistp*_ecdsa_sign_complete_mb8`.
pub(crate) type Complete = unsafe extern "C" fn(
    sign_r: *const *mut u8,
    sign_s: *const *mut u8,
    message: *const *const u8,
    r: *const *const u64,
    inverse: *const *const u64,
    key: *const *const u64,
    buffer: *mut u8,
) -> Status;

unsafe extern "C" {
    pub(crate) fn mbx_getversion() -> *const Version;
    pub(crate) fn mbx_is_crypto_mb_applicable(cpu_features: u64) -> c_int;
    pub(crate) fn mbx_get_algo_info(algorithm: c_int) -> u64;

    pub(crate) fn mbx_RSA_pub65537_Method(bits: c_int) -> *const RsaMethod;
    pub(crate) fn mbx_RSA_private_crt_Method(bits: c_int) -> *const RsaMethod;
    pub(crate) fn mbx_RSA_Method_BufSize(method: *const RsaMethod) -> c_int;
    pub(crate) fn mbx_rsa_public_mb8(
        from: *const *const u8,
        to: *const *mut u8,
        n: *const *const u64,
        bits: c_int,
        method: *const RsaMethod,
        buffer: *mut u8,
    ) -> Status;
    pub(crate) fn mbx_rsa_private_crt_mb8(
        from: *const *const u8,
        to: *const *mut u8,
        p: *const *const u64,
        q: *const *const u64,
        dp: *const *const u64,
        dq: *const *const u64,
        iq: *const *const u64,
        bits: c_int,
        method: *const RsaMethod,
        buffer: *mut u8,
    ) -> Status;

    pub(crate) fn mbx_nistp256_ecdsa_sign_setup_mb8(
        inverse: *const *mut u64,
        r: *const *mut u64,
        nonce: *const *const u64,
        buffer: *mut u8,
    ) -> Status;
    pub(crate) fn mbx_nistp384_ecdsa_sign_setup_mb8(
        inverse: *const *mut u64,
        r: *const *mut u64,
        nonce: *const *const u64,
        buffer: *mut u8,
    ) -> Status;
    pub(crate) fn mbx_nistp521_ecdsa_sign_setup_mb8(
        inverse: *const *mut u64,
        r: *const *mut u64,
        nonce: *const *const u64,
        buffer: *mut u8,
    ) -> Status;
    pub(crate) fn mbx_nistp256_ecdsa_sign_complete_mb8(
        sign_r: *const *mut u8,
        sign_s: *const *mut u8,
        message: *const *const u8,
        r: *const *const u64,
        inverse: *const *const u64,
        key: *const *const u64,
        buffer: *mut u8,
    ) -> Status;
    pub(crate) fn mbx_nistp384_ecdsa_sign_complete_mb8(
        sign_r: *const *mut u8,
        sign_s: *const *mut u8,
        message: *const *const u8,
        r: *const *const u64,
        inverse: *const *const u64,
        key: *const *const u64,
        buffer: *mut u8,
    ) -> Status;
    pub(crate) fn mbx_nistp521_ecdsa_sign_complete_mb8(
        sign_r: *const *mut u8,
        sign_s: *const *mut u8,
        message: *const *const u8,
        r: *const *const u64,
        inverse: *const *const u64,
        key: *const *const u64,
        buffer: *mut u8,
    ) -> Status;

    pub(crate) fn mbx_ed25519_sign_mb8(
        sign_r: *const *mut [u8; 32],
        sign_s: *const *mut [u8; 32],
        message: *const *const u8,
        length: *const u32,
        seed: *const *const [u8; 32],
        public: *const *const [u8; 32],
    ) -> Status;
}

/// Whether the library computed this lane (`MBX_GET_STS`).
pub(crate) fn lane_is_done(status: Status, lane: usize) -> bool {
    (status >> (4 * lane)) & 0xf == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A C compiler says of the headers: sizeof(mbxVersion) is 40, of mbx_status 4, of enum MBX_ALGO 4.
    #[test]
    fn sizes_are_those_of_the_headers() {
        assert_eq!(size_of::<Version>(), 40);
        assert_eq!(size_of::<Status>(), 4);
        assert_eq!(size_of::<c_int>(), 4);
    }

    #[test]
    fn each_lane_has_its_four_bits() {
        assert!((0..8).all(|lane| lane_is_done(0, lane)));
        assert!(!lane_is_done(0x2000_0000, 7) && lane_is_done(0x2000_0000, 6));
        assert!(!lane_is_done(0x0000_0008, 0) && lane_is_done(0x0000_0008, 1));
    }
}
