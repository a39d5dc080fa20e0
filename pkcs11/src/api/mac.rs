//! Message authentication codes: what signing and verifying with secret keys is.
//!
//! A message goes to the daemon as it is. A long one goes in pieces; between them the daemon's state is kept here, sealed.

use cryptoki_sys::*;
use strongroom_protocol::frame::MAX_CIPHER;
use strongroom_protocol::v1::{Hash, Mac, MacReply, Mechanism, request::Op, response};
use zeroize::Zeroizing;

use super::cipher::gather;
use crate::call::{Access, Repeat};
use crate::error::Outcome;
use crate::mechanism::MacParameters;
use crate::object::ObjectId;
use crate::session::Session;
use crate::state::Process;

/// The most of a message that goes to the daemon at once, in bytes; a multiple of all blocks.
const PIECE: usize = 128 * 1024;

/// A code that is being made or checked.
#[derive(Clone)]
pub struct Code {
    key: ObjectId,
    mechanism: Mechanism,
    hash: Hash,
    parameters: MacParameters,
    verify: bool,
    given: Zeroizing<Vec<u8>>,
    state: Vec<u8>,
}

impl Code {
    /// Before the first part of the message.
    pub fn new(
        key: ObjectId,
        (mechanism, hash): (Mechanism, Hash),
        parameters: MacParameters,
        verify: bool,
    ) -> Self {
        Code { key, mechanism, hash, parameters, verify, given: Zeroizing::default(), state: Vec::new() }
    }

    /// The size of the code in bytes.
    pub fn size(&self) -> usize {
        self.parameters.length
    }

    /// The most that is gathered, in bytes. What the daemon takes as a whole only is bounded by a request.
    fn most(&self) -> usize {
        let in_parts = match self.mechanism {
            Mechanism::AesCmac => true,
            Mechanism::Hmac => {
                matches!(self.hash, Hash::Sha1 | Hash::Sha224 | Hash::Sha256 | Hash::Sha384 | Hash::Sha512)
            }
            _ => false,
        };
        if in_parts { PIECE } else { MAX_CIPHER - self.parameters.iv.len() }
    }

    /// Takes a part of the message. The last piece is kept, however long it is.
    ///
    /// # Errors
    ///
    /// `CKR_DATA_LEN_RANGE` for a message that is too long, and what the daemon says.
    pub fn update(&mut self, process: &'static Process, session: &Session, part: &[u8]) -> Outcome {
        let most = self.most();
        let mut rest = part;
        while rest.len() > most - self.given.len() {
            if most != PIECE {
                return Err(CKR_DATA_LEN_RANGE);
            }
            let (now, later) = rest.split_at_checked(most - self.given.len()).unwrap_or_default();
            gather(&mut self.given, now);
            self.state = self.request(process, session, true, &[])?.state;
            self.given.clear();
            rest = later;
        }
        gather(&mut self.given, rest);
        Ok(())
    }

    /// The code of the message that ends with `last`.
    ///
    /// # Errors
    ///
    /// As for [`Code::update`].
    pub fn make(
        &mut self,
        process: &'static Process,
        session: &Session,
        last: &[u8],
        code: &mut [u8],
    ) -> Outcome<usize> {
        self.update(process, session, last)?;
        let made = Zeroizing::new(self.request(process, session, false, &[])?.mac);
        code.get_mut(..made.len()).ok_or(CKR_DEVICE_ERROR)?.copy_from_slice(&made);
        Ok(made.len())
    }

    /// Compares the code of the message that ends with `last`.
    ///
    /// # Errors
    ///
    /// `CKR_SIGNATURE_INVALID`, and as for [`Code::update`].
    pub fn check(
        &mut self,
        process: &'static Process,
        session: &Session,
        last: &[u8],
        code: &[u8],
    ) -> Outcome {
        self.update(process, session, last)?;
        self.request(process, session, false, code).map(|_| ())
    }

    fn request(
        &self,
        process: &'static Process,
        session: &Session,
        more: bool,
        code: &[u8],
    ) -> Outcome<MacReply> {
        let mac = || {
            Op::Mac(Mac {
                key: self.key.to_vec(),
                mechanism: self.mechanism.into(),
                hash: self.hash.into(),
                iv: self.parameters.iv.clone(),
                // This copy is wiped by the client when it has been sent.
                data: self.given.to_vec(),
                more,
                state: self.state.clone(),
                // At most a digest's.
                length: self.parameters.length as u32,
                mac: code.to_vec(),
                verify: self.verify,
            })
        };
        match process.call(Access::of(&session.token), Repeat::Safe, mac)? {
            response::Result::Mac(reply) => Ok(reply),
            _ => Err(CKR_DEVICE_ERROR),
        }
    }
}
