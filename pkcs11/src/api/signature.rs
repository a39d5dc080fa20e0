//! What signing and verifying share: an operation with its key, and the data on the way into it.

use std::ops::Deref;

use cryptoki_sys::*;
use strongroom_protocol::v1::{Hash, Mechanism, ObjectClass, PssParameters};

use super::argument;
use super::authentication::Ticket;
use super::mac::Code;
use crate::brief::Key;
use crate::error::Outcome;
use crate::hash::{self, Digest, Sum};
use crate::key::{Family, PublicKey};
use crate::mechanism::{self, MacParameters, Purpose};
use crate::ml_dsa;
use crate::object::ObjectId;
use crate::restrictions;
use crate::session::Session;
use crate::state::Process;

/// The most room, in bytes, that a session keeps for the data of the next signature.
const KEPT: usize = 16 * 1024;

/// What a key is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// `CKA_SIGN`.
    Sign,
    /// `CKA_SIGN_RECOVER`.
    SignRecover,
    /// `CKA_VERIFY`.
    Verify,
}

/// A signature that is being made or verified.
#[derive(Clone)]
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
    /// Whether it may go through the channel.
    pub has_channel: bool,
    /// Of a key that asks for the password each time.
    pub ticket: Ticket,
    /// Data were given in parts.
    pub is_begun: bool,
    hash: Hash,
    input: Input,
}

/// The data of the parts so far.
#[derive(Clone)]
enum Input {
    /// They are hashed here.
    Hashed(Digest),
    /// So are ML-DSA's, in its own way.
    Represented(ml_dsa::Message),
    /// They go to the daemon, a bounded number at a time.
    Code(Code),
    /// They go to the daemon as they are: `given` bytes at most `max`.
    Raw { given: Vec<u8>, max: usize, exact: Option<usize> },
}

/// What the daemon signs.
pub enum Message<'a> {
    /// The application's data, where they are.
    Data(&'a [u8]),
    /// Their digest.
    Sum(Sum),
}

impl Deref for Message<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Message::Data(data) => data,
            Message::Sum(sum) => sum,
        }
    }
}

impl Operation {
    /// Checks the mechanism against the key, with what is known here: the daemon is asked only if nothing is
    /// known of the key. `room` is memory for the data, what is in it does not matter.
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
        what: What,
        room: Vec<u8>,
    ) -> Outcome<Self> {
        // SAFETY: by the module's contract.
        let mechanism = unsafe { argument(mechanism) }?;
        let (family, wire, hash) = match mechanism::find(mechanism.mechanism)?.purpose {
            Purpose::Sign(family, wire, hash) => (family, wire, hash),
            Purpose::Mac(family, wire, hash, size) => {
                // SAFETY: by the module's contract.
                let parameters = unsafe { mechanism::mac_parameters(mechanism, wire, hash, size) }?;
                if what == What::SignRecover {
                    return Err(CKR_MECHANISM_INVALID);
                }
                let verify = what == What::Verify;
                let code = Self::of_code(process, session, handle, family, (wire, hash), parameters, verify)?;
                let key = process.key(&session.token, handle).map_err(as_key)?;
                restrictions::check(process, &session.token, &key, handle, mechanism.mechanism)?;
                return Ok(code);
            }
            _ => return Err(CKR_MECHANISM_INVALID),
        };
        if what == What::SignRecover && !mechanism::recovers(mechanism.mechanism) {
            return Err(CKR_MECHANISM_INVALID);
        }
        let of_ml_dsa = wire == Mechanism::MlDsa;
        let (pss, context) = match of_ml_dsa {
            // SAFETY: by the module's contract.
            true => (None, unsafe { ml_dsa::context(mechanism, what != What::Verify) }?),
            // SAFETY: by the module's contract.
            false => (unsafe { mechanism::signature_parameters(mechanism, wire, hash) }?, Vec::new()),
        };
        let key = process.key(&session.token, handle).map_err(as_key)?;
        check(&key, what)?;
        // To sign without padding is to decrypt.
        if wire == Mechanism::RsaX509 && what != What::Verify && !key.may_decrypt {
            return Err(CKR_KEY_FUNCTION_NOT_PERMITTED);
        }
        let facts = key.facts.filter(|facts| facts.family == family).ok_or(CKR_KEY_TYPE_INCONSISTENT)?;
        restrictions::check(process, &session.token, &key, handle, mechanism.mechanism)?;
        let input = match hash::start(hash) {
            Some(digest) => Input::Hashed(digest),
            None if of_ml_dsa => {
                let object = process.object(&session.token, handle).map_err(as_key)?;
                let Some(PublicKey::Lattice(public)) = object.public() else { return Err(CKR_DEVICE_ERROR) };
                Input::Represented(ml_dsa::Message::new(public, &context))
            }
            None => {
                let (max, exact) = mechanism::raw_input(wire, pss.as_ref(), facts.signature);
                let mut given = room;
                given.clear();
                Input::Raw { given, max, exact }
            }
        };
        let (size, has_channel) = (facts.signature, facts.has_channel() && !key.is_restricted());
        let ticket = Ticket::new(key.always_authenticate && what != What::Verify);
        Ok(Operation {
            key: key.id,
            handle,
            mechanism: wire,
            pss,
            size,
            has_channel,
            ticket,
            is_begun: false,
            hash,
            input,
        })
    }

    /// A code with a secret key.
    fn of_code(
        process: &'static Process,
        session: &Session,
        handle: CK_OBJECT_HANDLE,
        family: Family,
        (wire, hash): (Mechanism, Hash),
        parameters: MacParameters,
        verify: bool,
    ) -> Outcome<Self> {
        let key = process.key(&session.token, handle).map_err(as_key)?;
        match key.class {
            ObjectClass::SecretKey => {}
            ObjectClass::PrivateKey | ObjectClass::PublicKey => return Err(CKR_KEY_TYPE_INCONSISTENT),
            _ => return Err(CKR_KEY_HANDLE_INVALID),
        }
        key.facts.filter(|facts| facts.family == family).ok_or(CKR_KEY_TYPE_INCONSISTENT)?;
        if !(if verify { key.may_verify } else { key.may_sign }) {
            return Err(CKR_KEY_FUNCTION_NOT_PERMITTED);
        }
        let code = Code::new(key.id, (wire, hash), parameters, verify);
        let (size, input) = (code.size(), Input::Code(code));
        Ok(Operation {
            key: key.id,
            handle,
            mechanism: wire,
            pss: None,
            size,
            has_channel: false,
            ticket: Ticket::default(),
            is_begun: false,
            hash,
            input,
        })
    }

    /// Checks that the function for a whole message does not end one in parts (PKCS#11 3.0, 5.13.2 and 5.15.2), or this does.
    ///
    /// # Errors
    ///
    /// `CKR_OPERATION_NOT_INITIALIZED`, as of `C_Encrypt`.
    pub fn check_end(&self, ends_parts: bool) -> Outcome {
        if self.is_begun && !ends_parts { Err(CKR_OPERATION_NOT_INITIALIZED) } else { Ok(()) }
    }

    /// The code, if it is one.
    pub fn code(&mut self) -> Option<&mut Code> {
        match &mut self.input {
            Input::Code(code) => Some(code),
            _ => None,
        }
    }

    /// Takes a part of the data, of a code's too.
    ///
    /// # Errors
    ///
    /// As for [`Operation::update`], and what the daemon says.
    pub fn take(&mut self, process: &'static Process, session: &Session, part: &[u8]) -> Outcome {
        self.is_begun = true;
        match &mut self.input {
            Input::Code(code) => code.update(process, session, part).map_err(as_key),
            _ => self.update(part),
        }
    }

    /// Takes a part of the data.
    ///
    /// # Errors
    ///
    /// `CKR_DATA_LEN_RANGE` if it is more than the mechanism can take.
    fn update(&mut self, part: &[u8]) -> Outcome {
        match &mut self.input {
            Input::Hashed(digest) => digest.update(part),
            Input::Represented(message) => message.update(part),
            Input::Code(_) => return Err(CKR_FUNCTION_FAILED),
            Input::Raw { given, max, .. } => {
                if part.len() > max.saturating_sub(given.len()) {
                    return Err(CKR_DATA_LEN_RANGE);
                }
                given.extend_from_slice(part);
            }
        }
        Ok(())
    }

    /// What the daemon signs: all parts, and `last`, which is not copied if it is the only one.
    ///
    /// # Errors
    ///
    /// `CKR_DATA_LEN_RANGE` if it is more than the mechanism can take, or not of the only size that it takes.
    pub fn finish<'a>(&'a mut self, last: &'a [u8]) -> Outcome<Message<'a>> {
        let is_only = matches!(&self.input, Input::Raw { given, .. } if given.is_empty());
        if !is_only {
            self.update(last)?;
        }
        match &mut self.input {
            Input::Hashed(digest) => {
                let digest = digest.finalize();
                Ok(Message::Sum(match self.mechanism {
                    Mechanism::RsaPkcs => hash::digest_info(self.hash, &digest),
                    _ => digest,
                }))
            }
            Input::Represented(message) => Ok(Message::Sum(Sum::of(&message.finalize()))),
            Input::Code(_) => Err(CKR_FUNCTION_FAILED),
            Input::Raw { given, max, exact } => {
                let data = if is_only { last } else { given };
                if data.len() > *max || exact.is_some_and(|exact| exact != data.len()) {
                    return Err(CKR_DATA_LEN_RANGE);
                }
                Ok(Message::Data(data))
            }
        }
    }

    /// The room that the data took, for the next operation.
    pub fn into_room(self) -> Vec<u8> {
        match self.input {
            Input::Raw { given, .. } if given.capacity() <= KEPT => given,
            _ => Vec::new(),
        }
    }
}

fn check(key: &Key, what: What) -> Outcome {
    let class = if what == What::Verify { ObjectClass::PublicKey } else { ObjectClass::PrivateKey };
    if key.class != class {
        // The other half of a pair, or no key at all.
        return Err(match key.class {
            ObjectClass::PrivateKey | ObjectClass::PublicKey | ObjectClass::SecretKey => {
                CKR_KEY_TYPE_INCONSISTENT
            }
            _ => CKR_KEY_HANDLE_INVALID,
        });
    }
    let permitted = match what {
        What::Sign => key.may_sign,
        What::SignRecover => key.may_sign_recover,
        What::Verify => key.may_verify,
    };
    if permitted { Ok(()) } else { Err(CKR_KEY_FUNCTION_NOT_PERMITTED) }
}

/// What the application is told of a refusal by the daemon.
pub fn refused(process: &'static Process, handle: CK_OBJECT_HANDLE, code: CK_RV) -> CK_RV {
    if code == CKR_OBJECT_HANDLE_INVALID {
        process.handles.forget(handle);
    }
    as_key(code)
}

/// In functions that use a key an invalid object handle is an invalid key handle.
pub fn as_key(code: CK_RV) -> CK_RV {
    if code == CKR_OBJECT_HANDLE_INVALID { CKR_KEY_HANDLE_INVALID } else { code }
}
