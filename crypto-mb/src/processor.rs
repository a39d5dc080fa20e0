//! Whether library and processor fit.

use std::sync::OnceLock;

use crate::{Absent, CryptoMb, declarations as c};

/// The version that the declarations were written for; a later minor version keeps the interface.
const VERSION: (i32, i32) = (2, 3);

impl CryptoMb {
    /// Looks for the library and for AVX-512 IFMA. The library's other code, for AVX-IFMA with four lanes, is
    /// left alone: no machine that it was tested on here has that without AVX-512.
    ///
    /// The processor is asked once. The library asks it anew in each call, by an instruction that a virtual machine's host
    /// answers: that costs half a millisecond, and every key that is opened wants to know.
    ///
    /// # Errors
    ///
    /// [`Absent`].
    pub fn detect() -> Result<Self, Absent> {
        static FOUND: OnceLock<Result<CryptoMb, Absent>> = OnceLock::new();
        *FOUND.get_or_init(Self::ask)
    }

    fn ask() -> Result<Self, Absent> {
        // SAFETY: these functions take and change nothing but the library's own record of the processor, which the
        // loader's constructor has filled; mbx_getversion returns a pointer to a constant.
        let (version, algorithms) = unsafe {
            (c::mbx_getversion().as_ref(), c::ALGORITHMS.map(|algorithm| c::mbx_get_algo_info(algorithm)))
        };
        let fits = |version: &c::Version| version.major == VERSION.0 && version.minor >= VERSION.1;
        if !version.is_some_and(fits) {
            return Err(Absent::Version);
        }
        // SAFETY: as above; 0 asks about this processor.
        let applicable = unsafe { c::mbx_is_crypto_mb_applicable(0) != 0 };
        let processor = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512ifma")
            && is_x86_feature_detected!("avx512vbmi2");
        match applicable && processor && algorithms.iter().all(|widths| widths & c::WIDTH_8 != 0) {
            true => Ok(Self { _private: () }),
            false => Err(Absent::Processor),
        }
    }
}
