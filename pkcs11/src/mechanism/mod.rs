//! The table of mechanisms, and the parameters that come with them.
//!
//! What `C_GetMechanismList` and `C_GetMechanismInfo` say, what the functions check, and the table in docs/mechanisms.md come
//! from [`table`]; the other files read the parameters of one kind of operation each.

mod approval;
mod cipher;
mod derivation;
mod mac;
mod oaep;
mod password;
mod signature;
mod table;
mod wrapping;

pub use cipher::{Counter, ccm_parameters, counter, gcm_parameters, initial_vector};
pub use derivation::{hkdf_parameters, sp800_108_parameters};
pub use mac::{MacParameters, mac_parameters};
pub use oaep::{largest_plaintext, oaep_parameters};
pub use password::pbkdf2_parameters;
pub use signature::{raw_input, signature_parameters};
pub use table::{Entry, MECHANISMS, Purpose, Size, decryption, find, hash_of, recovers};
pub use wrapping::{Wrapping, wrapping_parameters};

#[cfg(test)]
mod tests {
    use cryptoki_sys::{CK_MECHANISM, CK_MECHANISM_TYPE, CK_ULONG};

    /// A mechanism with a parameter that says it has this length.
    pub(super) fn with<T>(mechanism: CK_MECHANISM_TYPE, parameter: &mut T, length: usize) -> CK_MECHANISM {
        CK_MECHANISM {
            mechanism,
            pParameter: std::ptr::from_mut(parameter).cast(),
            ulParameterLen: length as CK_ULONG,
        }
    }
}
