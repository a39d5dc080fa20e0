//! ML-DSA as PKCS#11 3.2 has it (chapter "ML-DSA"): the mechanism's parameter, and the message representative, which is made here so that the message itself never travels.

use cryptoki_sys::*;
use shake::{ExtendableOutput, Shake256, Update};
use strongroom_ffi::pointer;

use crate::error::Outcome;

/// The size of the message representative, in bytes (FIPS 204, algorithm 7).
const REPRESENTATIVE: usize = 64;

/// The longest context, in bytes (FIPS 204, 5.2).
const MAX_CONTEXT: usize = 255;

/// Reads and copies the context in the parameter of `CKM_ML_DSA`, to sign or to verify; empty without parameter.
///
/// # Errors
///
/// `CKR_MECHANISM_PARAM_INVALID` if it is malformed, or wants to sign deterministically: the partition's signatures are
/// hedged.
///
/// # Safety
///
/// `mechanism`'s parameter, if not null, has the length that stands beside it; so has the context that it points to.
pub unsafe fn context(mechanism: &CK_MECHANISM, signs: bool) -> Outcome<Vec<u8>> {
    let invalid = CKR_MECHANISM_PARAM_INVALID;
    match mechanism.ulParameterLen as usize {
        0 => return Ok(Vec::new()),
        length if length == size_of::<CK_SIGN_ADDITIONAL_CONTEXT>() => {}
        _ => return Err(invalid),
    }
    let parameter = mechanism.pParameter.cast_const().cast::<CK_SIGN_ADDITIONAL_CONTEXT>();
    // SAFETY: of this type by its length; by the contract.
    let given = unsafe { pointer::reference(parameter) }.ok_or(invalid)?;
    let length = usize::try_from(given.ulContextLen).map_err(|_| invalid)?;
    let can = match given.hedgeVariant {
        CKH_HEDGE_PREFERRED | CKH_HEDGE_REQUIRED => true,
        CKH_DETERMINISTIC_REQUIRED => !signs,
        _ => false,
    };
    if !can || length > MAX_CONTEXT {
        return Err(invalid);
    }
    // SAFETY: by the contract.
    let context = unsafe { pointer::slice(given.pContext.cast_const(), length) }.ok_or(invalid)?;
    Ok(context.to_vec())
}

/// A message on its way into its representative.
#[derive(Clone)]
pub struct Message(Shake256);

impl Message {
    /// Begins (FIPS 204, algorithms 2, line 10, and 7, line 6). `public_key` is `CKA_VALUE`; `context` has at most 255
    /// bytes, see [`context`].
    pub fn new(public_key: &[u8], context: &[u8]) -> Self {
        let mut state = Shake256::default();
        state.update(&digest(Shake256::default().chain(public_key)));
        // Pure ML-DSA, not HashML-DSA.
        state.update(&[0, context.len() as u8]);
        state.update(context);
        Message(state)
    }

    /// Takes a part of the message.
    pub fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    /// The representative of all parts.
    pub fn finalize(&self) -> [u8; REPRESENTATIVE] {
        digest(self.0.clone())
    }
}

fn digest(state: Shake256) -> [u8; REPRESENTATIVE] {
    let mut digest = [0; REPRESENTATIVE];
    state.finalize_xof_into(&mut digest);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(given: &mut CK_SIGN_ADDITIONAL_CONTEXT, length: usize) -> Outcome<Vec<u8>> {
        let mechanism = CK_MECHANISM {
            mechanism: CKM_ML_DSA,
            pParameter: std::ptr::from_mut(given).cast(),
            ulParameterLen: length as CK_ULONG,
        };
        // SAFETY: a local of the length that is said.
        unsafe { context(&mechanism, true) }
    }

    #[test]
    fn contexts_are_read_and_deterministic_signatures_refused() {
        let mut bytes = [7u8; 256];
        let size = size_of::<CK_SIGN_ADDITIONAL_CONTEXT>();
        let given = CK_SIGN_ADDITIONAL_CONTEXT {
            hedgeVariant: CKH_HEDGE_REQUIRED,
            pContext: bytes.as_mut_ptr(),
            ulContextLen: 255,
        };
        assert_eq!(with(&mut given.clone(), size), Ok(vec![7; 255]));
        assert_eq!(with(&mut given.clone(), 0), Ok(Vec::new()));
        let wrong = Err(CKR_MECHANISM_PARAM_INVALID);
        assert_eq!(with(&mut given.clone(), size - 1), wrong);
        for change in [
            |p: &mut CK_SIGN_ADDITIONAL_CONTEXT| p.hedgeVariant = CKH_DETERMINISTIC_REQUIRED,
            |p: &mut CK_SIGN_ADDITIONAL_CONTEXT| p.hedgeVariant = 3,
            |p: &mut CK_SIGN_ADDITIONAL_CONTEXT| p.ulContextLen = 256,
            |p: &mut CK_SIGN_ADDITIONAL_CONTEXT| p.ulContextLen = CK_ULONG::MAX,
            |p: &mut CK_SIGN_ADDITIONAL_CONTEXT| p.pContext = std::ptr::null_mut(),
        ] {
            let mut changed = given;
            change(&mut changed);
            assert_eq!(with(&mut changed, size), wrong, "{changed:?}");
        }
    }

    #[test]
    fn parts_make_the_same_as_the_whole() {
        let mut whole = Message::new(&[1; 1312], b"context");
        whole.update(b"a message");
        let mut parts = Message::new(&[1; 1312], b"context");
        parts.update(b"a mes");
        parts.update(b"sage");
        assert_eq!(whole.finalize(), parts.finalize());
        let mut other = Message::new(&[1; 1312], b"contex");
        other.update(b"ta message");
        assert_ne!(whole.finalize(), other.finalize());
    }
}
