//! What is left of the mechanisms in a partition that is in FIPS state 2: what `C_GetMechanismList` and `C_GetMechanismInfo` say there.
//! The daemon decides each use (docs/fips.md); a program that asks first is not led to what is refused in every case.

use cryptoki_sys::*;
use strongroom_protocol::v1::Hash;
use strongroom_protocol::v1::Mechanism::{AesCbcPad, RsaPkcs, RsaX509};

use super::table::{Entry, Purpose};
use crate::key::Family;

/// The state in which what is not approved is refused.
const APPROVED_ONLY: u32 = 2;

/// What encrypts, and what carries keys.
const TRANSPORT: CK_FLAGS = CKF_ENCRYPT | CKF_DECRYPT | CKF_WRAP | CKF_UNWRAP;

/// What makes signatures. That they are verified is never refused.
const SIGNING: CK_FLAGS = CKF_SIGN | CKF_SIGN_RECOVER | CKF_MESSAGE_SIGN;

/// All that a mechanism can be used for.
const USES: CK_FLAGS = TRANSPORT
    | SIGNING
    | CKF_VERIFY
    | CKF_VERIFY_RECOVER
    | CKF_MESSAGE_VERIFY
    | CKF_MESSAGE_ENCRYPT
    | CKF_MESSAGE_DECRYPT
    | CKF_DIGEST
    | CKF_GENERATE
    | CKF_GENERATE_KEY_PAIR
    | CKF_DERIVE
    | CKF_ENCAPSULATE
    | CKF_DECAPSULATE;

impl Entry {
    /// What `C_GetMechanismInfo` says in a partition in this FIPS state. `None`: nothing is left of the mechanism.
    pub fn info_in(&self, fips_state: u32) -> Option<CK_MECHANISM_INFO> {
        let mut info = self.info();
        if fips_state == APPROVED_ONLY {
            info.flags &= !self.refused();
        }
        (info.flags & USES != 0).then_some(info)
    }

    /// The uses that are refused with every key and parameter.
    fn refused(&self) -> CK_FLAGS {
        match self.purpose {
            Purpose::Generate(Family::Des3 | Family::Montgomery) | Purpose::Cipher(Family::Des3, _) => USES,
            Purpose::Cipher(_, AesCbcPad) => CKF_UNWRAP,
            Purpose::Sign(_, RsaX509, _) => TRANSPORT | SIGNING,
            Purpose::Sign(_, RsaPkcs, Hash::Unspecified) => TRANSPORT,
            Purpose::Sign(_, _, Hash::Sha1) => SIGNING,
            _ => 0,
        }
    }
}
