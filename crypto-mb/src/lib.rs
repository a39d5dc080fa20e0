//! Intel's multi-buffer crypto library (crypto_mb, of the Cryptography Primitives Library) behind safe types:
//! up to eight signatures at once, one in each lane of the processor's 512-bit registers.
//!
//! This crate is the only code that calls its C functions. It links nothing where the library was not there at
//! build time (see build.rs), and nothing works but [`CryptoMb::detect`], which says so. [`CryptoMb`] is the proof
//! that library and processor are there; every function is one of its methods.
//!
//! What the library does and does not do, as far as its users have to know:
//!
//! - **Time**: Intel promises "constant-time execution for secret processing functions" (README.md of the
//!   Cryptography Primitives Library), and its source bears that out: exponents and nonces choose table entries by a
//!   pass over the whole table with masks (`extract_multiplier_mb8`, `extract_point_affine_mb8`), and no branch
//!   depends on them. There is no blinding, of base or of exponent.
//! - **Checks**: none on the result. A fault of the processor or the memory gives a wrong signature, which for RSA
//!   with CRT reveals the key; whoever calls [`CryptoMb::rsa_private`] has to verify before anything leaves.
//! - **Traces**: exponents, nonces and scalars are overwritten at the end of each function (`zero_mb8`), other
//!   intermediate values on the stack are not (for Ed25519 the expanded key among them), and the working memory of
//!   RSA is left full: primes, exponents, results. Callers give RSA its working memory and wipe that, and call all
//!   of it on a stack that is protected or wiped.
//! - **Lanes**: a lane that is not used may have null pointers and gets a status of its own; the others are computed.
//!
//! The declarations are written by hand, a dozen functions over integers and pointers: bindgen would need the
//! headers and clang for every build, and a build without them would need the hand-written ones all the same.
//! [`CryptoMb::detect`] compares the library's version with the one they were written for.

#[cfg(crypto_mb)]
mod declarations;
#[cfg(crypto_mb)]
mod ecdsa;
#[cfg(crypto_mb)]
mod ed25519;
mod lanes;
#[cfg(not(crypto_mb))]
mod nothing;
#[cfg(crypto_mb)]
mod processor;
#[cfg(crypto_mb)]
mod rsa;

pub use lanes::{Curve, EcdsaLane, Ed25519Lane, NonceLane, RsaLane, RsaSize};

/// How many signatures are computed at once.
pub const LANES: usize = 8;

/// The library, linked, and a processor that it works on.
#[derive(Debug, Clone, Copy)]
pub struct CryptoMb {
    #[cfg(crypto_mb)]
    _private: (),
    #[cfg(not(crypto_mb))]
    never: std::convert::Infallible,
}

/// Why the library is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// It was not there when this program was built, or the program is for another architecture.
    NotLinked,
    /// The program does without it: it computes with a FIPS module, which this is not.
    NotWanted,
    /// The processor lacks AVX-512 IFMA, or the system does not let programs use it.
    Processor,
    /// The linked library has another interface than the declarations here.
    Version,
}

impl std::fmt::Display for Absent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Absent::NotLinked => "crypto_mb was not there when this program was built",
            Absent::NotWanted => "crypto_mb is no FIPS module",
            Absent::Processor => "the processor has no AVX-512 IFMA, which crypto_mb needs",
            Absent::Version => "the linked crypto_mb has another version than this program was written for",
        })
    }
}

impl std::error::Error for Absent {}
