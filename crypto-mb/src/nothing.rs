//! What is left where the library was not there at build time: a [`CryptoMb`] that nobody can have.

use crate::{Absent, CryptoMb, Curve, EcdsaLane, Ed25519Lane, LANES, NonceLane, RsaLane, RsaSize};

impl CryptoMb {
    /// Says that there is no library.
    ///
    /// # Errors
    ///
    /// [`Absent::NotLinked`].
    pub fn detect() -> Result<Self, Absent> {
        Err(Absent::NotLinked)
    }

    /// Never called.
    pub fn rsa_memory(self, _: RsaSize) -> usize {
        match self.never {}
    }

    /// Never called.
    pub fn rsa_private(self, _: RsaSize, _: &mut [Option<RsaLane<'_>>; LANES], _: &mut [u8]) {
        match self.never {}
    }

    /// Never called.
    pub fn rsa_public(self, _: RsaSize, _: &mut [Option<RsaLane<'_>>; LANES], _: &mut [u8]) {
        match self.never {}
    }

    /// Never called.
    pub fn ecdsa_setup(self, _: Curve, _: &mut [Option<NonceLane<'_>>; LANES]) {
        match self.never {}
    }

    /// Never called.
    pub fn ecdsa_complete(self, _: Curve, _: &mut [Option<EcdsaLane<'_>>; LANES]) {
        match self.never {}
    }

    /// Never called.
    pub fn ed25519_sign(self, _: &mut [Option<Ed25519Lane<'_>>; LANES]) {
        match self.never {}
    }
}
