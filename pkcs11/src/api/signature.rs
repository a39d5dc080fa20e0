//! What signing and verifying share: an operation with its key, and the data on the way into it.

use std::sync::Arc;

use cryptoki_sys::*;
use strongroom_protocol::v1::{Hash, Mechanism, ObjectClass, PssParameters};

use super::argument;
use crate::error::Outcome;
use crate::hash::{self, Digest};
use crate::mechanism::{self, Purpose};
use crate::object::{Object, ObjectId};
use crate::session::Session;
use crate::state::Process;

/// A signature that is being made or verified.
pub struct Operation {
    /// The key.
    pub key: ObjectId,
    /// The key's handle, to forget it when the daemon says that the key is gone.
    pub handle: CK_OBJECT_HANDLE,
    /// As the daemon knows it.
    pub mechanism: Mechanism,
    /// Of PSS.
    pub pss: Option<PssParameters>,
    /// The size of the signature in bytes.
    pub size: usize,
    hash: Hash,
    input: Input,
}

/// The data of the parts so far.
enum Input {
    /// They are hashed here.
    Hashed(Digest),
    /// They go to the daemon as they are: `given` bytes at most `max`.
    Raw { given: Vec<u8>, max: usize, exact: Option<usize> },
}

impl Operation {
    /// Checks the mechanism against the key, with what is known here: the daemon is asked only if nothing is
    /// known of the key.
    ///
    /// # Errors
    ///
    /// `CKR_KEY_HANDLE_INVALID`, `CKR_KEY_TYPE_INCONSISTENT`, `CKR_KEY_FUNCTION_NOT_PERMITTED`, and what is
    /// wrong with the mechanism.
    ///
    /// # Safety
    ///
    /// As all functions of [`crate::api`].
    pub unsafe fn start(
        process: &'static Process,
        session: &Session,
        mechanism: *const CK_MECHANISM,
        handle: CK_OBJECT_HANDLE,
        class: ObjectClass,
    ) -> Outcome<Self> {
        // SAFETY: by the module's contract.
        let mechanism = unsafe { argument(mechanism) }?;
        let Purpose::Sign(family, wire, hash) = mechanism::find(mechanism.mechanism)?.purpose else {
            return Err(CKR_MECHANISM_INVALID);
        };
        // SAFETY: by the module's contract.
        let pss = unsafe { mechanism::signature_parameters(mechanism, wire, hash) }?;
        let object = process.object(&session.token, handle).map_err(as_key)?;
        check(&object, class)?;
        let facts = object.key.filter(|facts| facts.family == family).ok_or(CKR_KEY_TYPE_INCONSISTENT)?;
        let input = match hash::start(hash) {
            Some(digest) => Input::Hashed(digest),
            None => {
                let (max, exact) = mechanism::raw_input(wire, pss.as_ref(), facts.signature);
                Input::Raw { given: Vec::new(), max, exact }
            }
        };
        Ok(Operation { key: object.id, handle, mechanism: wire, pss, size: facts.signature, hash, input })
    }

    /// Takes a part of the data.
    ///
    /// # Errors
    ///
    /// `CKR_DATA_LEN_RANGE` if it is more than the mechanism can take.
    pub fn update(&mut self, part: &[u8]) -> Outcome {
        match &mut self.input {
            Input::Hashed(digest) => digest.update(part),
            Input::Raw { given, max, .. } => {
                if part.len() > max.saturating_sub(given.len()) {
                    return Err(CKR_DATA_LEN_RANGE);
                }
                given.extend_from_slice(part);
            }
        }
        Ok(())
    }

    /// What the daemon signs.
    ///
    /// # Errors
    ///
    /// `CKR_DATA_LEN_RANGE` if it is not of the only size that the mechanism takes.
    pub fn finish(&mut self) -> Outcome<Vec<u8>> {
        match &mut self.input {
            Input::Hashed(digest) => {
                let digest = digest.finalize_reset();
                Ok(match self.mechanism {
                    Mechanism::RsaPkcs => hash::digest_info(self.hash, &digest),
                    _ => digest.into_vec(),
                })
            }
            Input::Raw { given, exact, .. } => {
                if exact.is_some_and(|exact| exact != given.len()) {
                    return Err(CKR_DATA_LEN_RANGE);
                }
                Ok(std::mem::take(given))
            }
        }
    }
}

fn check(object: &Arc<Object>, class: ObjectClass) -> Outcome {
    let actual = object.info.class();
    if actual != class {
        // The other half of a pair, or no key at all.
        return Err(match actual {
            ObjectClass::PrivateKey | ObjectClass::PublicKey => CKR_KEY_TYPE_INCONSISTENT,
            _ => CKR_KEY_HANDLE_INVALID,
        });
    }
    let policy = object.policy();
    let permitted = if class == ObjectClass::PrivateKey { policy.sign } else { policy.verify };
    if permitted { Ok(()) } else { Err(CKR_KEY_FUNCTION_NOT_PERMITTED) }
}

/// In functions that use a key an invalid object handle is an invalid key handle.
pub fn as_key(code: CK_RV) -> CK_RV {
    if code == CKR_OBJECT_HANDLE_INVALID { CKR_KEY_HANDLE_INVALID } else { code }
}
