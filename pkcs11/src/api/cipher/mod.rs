//! What encrypting and decrypting share: an operation with its key and parameters, and the data on the way into it.
//!
//! AES-GCM gives out no plaintext before the tag was checked, and the daemon takes a message as a whole. So the parts
//! of a message are gathered here, `C_EncryptUpdate` and `C_DecryptUpdate` give nothing out, and the final function
//! gives all of it. So it is for AES-CCM. Of RSA keys a message is one block, whose plaintext's length is known when it is
//! decrypted. What gives out as it takes in is in [`super::stream`].
//!
//! Here is how an operation begins and what it knows. [`mod@whole`] and [`mod@parts`] have the data come in at once or bit by bit; [`mod@outcome`]
//! asks the daemon, and gives the application what comes of it.

mod outcome;
mod parts;
mod whole;

use cryptoki_sys::*;
use strongroom_protocol::frame::MAX_CIPHER;
use strongroom_protocol::v1::{CcmParameters, GcmParameters, Mechanism, OaepParameters, ObjectClass};
use zeroize::Zeroizing;

use super::argument;
use super::authentication::Ticket;
use super::signature::as_key;
use super::stream::Stream;
use crate::brief::Key;
use crate::error::{Outcome, lock};
use crate::key::{Family, KeyFacts};
use crate::mechanism::{self, Purpose};
use crate::object::ObjectId;
use crate::restrictions;
use crate::session::{Active, Session, begins};
use crate::state::Process;

pub(super) use outcome::{Request, give_out, message, overlaps, put_back, refused};
pub(super) use parts::{finish, gather, update};
pub(super) use whole::whole;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From plaintext to ciphertext and tag.
    Encrypt,
    /// Back.
    Decrypt,
}

/// A message that is being encrypted or decrypted.
pub struct Operation {
    /// The key.
    pub key: ObjectId,
    /// The key's handle, to forget it when the daemon says that the key is gone.
    pub handle: CK_OBJECT_HANDLE,
    /// As the daemon knows it.
    pub mechanism: Mechanism,
    /// Of a private key that asks for the password each time.
    pub ticket: Ticket,
    /// Whether it may go through the channel.
    has_channel: bool,
    method: Method,
    /// What was given in parts; `None` before the first.
    parts: Option<Zeroizing<Vec<u8>>>,
    /// See [`Operation::outcome`].
    kept: Option<Kept>,
}

/// A message, and what came out of it, for the log-in of this number.
struct Kept {
    of: Vec<u8>,
    made: Zeroizing<Vec<u8>>,
    epoch: u64,
}

/// What the mechanism needs beside the key.
pub enum Method {
    /// IV, associated data, length of the tag.
    Gcm(GcmParameters),
    /// Nonce, associated data, length of the tag.
    Ccm(CcmParameters),
    /// See [`super::stream`].
    Stream(Stream),
    /// One block, of an RSA key.
    Rsa {
        /// Of OAEP.
        oaep: Option<OaepParameters>,
        /// The size of the modulus, and of the ciphertext, in bytes.
        modulus: usize,
        /// The longest plaintext, in bytes.
        most: usize,
    },
}

impl Operation {
    /// One message among those of [`super::message`].
    pub(in crate::api) fn of_message(
        key: &Key,
        handle: CK_OBJECT_HANDLE,
        mechanism: Mechanism,
        method: Method,
    ) -> Self {
        let (ticket, has_channel) = (Ticket::new(false), !key.is_restricted());
        Operation { key: key.id, handle, mechanism, ticket, has_channel, method, parts: None, kept: None }
    }

    /// What comes out of a whole message. With a key that asks for the password each time it is kept for who has too small a
    /// buffer for it: the password is given for one use, which was this one.
    fn outcome(
        &mut self,
        request: Request,
        process: &'static Process,
        session: &Session,
        data: &[u8],
    ) -> Outcome<Zeroizing<Vec<u8>>> {
        let epoch = session.token.login.epoch();
        if let Some(kept) = self.kept.as_ref().filter(|kept| kept.of == data && kept.epoch == epoch) {
            return Ok(kept.made.clone());
        }
        let made = request(process, session, self, &[], data)?;
        if self.ticket.is_needed() {
            self.kept = Some(Kept { of: data.to_vec(), made: made.clone(), epoch });
        }
        Ok(made)
    }

    /// Wipes what was kept: the log-in for which it was made is over.
    pub fn forget(&mut self) {
        self.kept = None;
    }

    /// The parameters of AES-GCM.
    pub fn gcm(&self) -> Option<&GcmParameters> {
        match &self.method {
            Method::Gcm(gcm) => Some(gcm),
            _ => None,
        }
    }

    /// The parameters of RSA-OAEP.
    pub fn oaep(&self) -> Option<&OaepParameters> {
        match &self.method {
            Method::Rsa { oaep, .. } => oaep.as_ref(),
            _ => None,
        }
    }

    /// The parameters of AES-CCM.
    pub fn ccm(&self) -> Option<&CcmParameters> {
        match &self.method {
            Method::Ccm(ccm) => Some(ccm),
            _ => None,
        }
    }

    /// What gives out as it takes in.
    pub(in crate::api) fn stream(&mut self) -> Option<&mut Stream> {
        match &mut self.method {
            Method::Stream(stream) => Some(stream),
            _ => None,
        }
    }

    /// Puts a stream back that was taken out of the operation.
    pub(in crate::api) fn set_stream(&mut self, stream: Stream) {
        self.method = Method::Stream(stream);
    }

    /// The shortest ciphertext, in bytes.
    fn shortest(&self) -> usize {
        match &self.method {
            Method::Gcm(GcmParameters { tag_bits, .. }) | Method::Ccm(CcmParameters { tag_bits, .. }) => {
                *tag_bits as usize / 8
            }
            Method::Rsa { modulus, .. } => *modulus,
            Method::Stream(_) => 0,
        }
    }

    /// The size of what comes out if `length` bytes go in, all parts together; of RSA keys the largest.
    ///
    /// # Errors
    ///
    /// `CKR_DATA_LEN_RANGE` or `CKR_ENCRYPTED_DATA_LEN_RANGE` if that is more than a request takes, or less than a
    /// tag, or not the size of an RSA key.
    pub fn size(&self, way: Way, length: usize) -> Outcome<usize> {
        let parameters = match &self.method {
            Method::Gcm(gcm) => gcm.iv.len() + gcm.aad.len(),
            Method::Ccm(ccm) => ccm.nonce.len() + ccm.aad.len(),
            Method::Rsa { modulus, most, .. } => {
                return match way {
                    Way::Encrypt if length <= *most => Ok(*modulus),
                    Way::Encrypt => Err(CKR_DATA_LEN_RANGE),
                    Way::Decrypt if length == *modulus => Ok(*most),
                    Way::Decrypt => Err(CKR_ENCRYPTED_DATA_LEN_RANGE),
                };
            }
            Method::Stream(stream) => return Ok(stream.whole_size(length)),
        };
        let most = MAX_CIPHER.saturating_sub(parameters);
        match way {
            Way::Encrypt if length <= most => Ok(length + self.shortest()),
            Way::Encrypt => Err(CKR_DATA_LEN_RANGE),
            Way::Decrypt if length > most => Err(CKR_ENCRYPTED_DATA_LEN_RANGE),
            Way::Decrypt => length.checked_sub(self.shortest()).ok_or(CKR_ENCRYPTED_DATA_LEN_RANGE),
        }
    }

    /// Whether [`size`](Self::size) says the largest that may come out, and how much it is shows when it is there.
    fn is_bound(&self, way: Way) -> bool {
        matches!(self.method, Method::Rsa { .. }) && way == Way::Decrypt
    }

    /// How many bytes were given in parts.
    fn given(&self) -> usize {
        self.parts.as_ref().map_or(0, |parts| parts.len())
    }

    /// Takes a part of the data. Nothing of it stays behind where it was when it needs more room.
    fn update(&mut self, way: Way, part: &[u8]) -> Outcome {
        let whole = self.given().saturating_add(part.len());
        match self.size(way, whole) {
            // Of a ciphertext the rest may still come.
            Err(_) if way == Way::Decrypt && whole < self.shortest() => {}
            outcome => drop(outcome?),
        }
        gather(self.parts.get_or_insert_default(), part);
        Ok(())
    }
}

/// Where a session has the operation.
fn slot(way: Way, active: &mut Active) -> &mut Option<Operation> {
    match way {
        Way::Encrypt => &mut active.encrypt,
        Way::Decrypt => &mut active.decrypt,
    }
}

/// `C_EncryptInit` and `C_DecryptInit`. A null mechanism ends an operation (PKCS#11 3.0).
pub(in crate::api) unsafe fn init(
    way: Way,
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    handle: CK_OBJECT_HANDLE,
) -> Outcome {
    let session = process.sessions.get(session)?;
    if !begins(&session, mechanism, |active| slot(way, active))? {
        return Ok(());
    }
    // SAFETY: by the module's contract.
    let mechanism = unsafe { argument(mechanism) }?;
    let of_key = |family: Family, class: ObjectClass| -> Outcome<(Key, &KeyFacts)> {
        let key = process.key(&session.token, handle).map_err(as_key)?;
        check(&key, class, way)?;
        // Without padding a decryption could be a signature.
        if mechanism.mechanism == CKM_RSA_X_509 && way == Way::Decrypt && !key.may_sign {
            return Err(CKR_KEY_FUNCTION_NOT_PERMITTED);
        }
        let facts = key.facts.filter(|facts| facts.family == family).ok_or(CKR_KEY_TYPE_INCONSISTENT)?;
        restrictions::check(process, &session.token, &key, handle, mechanism.mechanism)?;
        Ok((key, facts))
    };
    let (mechanism, (key, _), method) = match mechanism::find(mechanism.mechanism)?.purpose {
        Purpose::Cipher(family, wire) => {
            // SAFETY: by the module's contract.
            let method = unsafe { method(mechanism, wire, way) }?;
            (wire, of_key(family, ObjectClass::SecretKey)?, method)
        }
        _ => {
            let (family, wire) = mechanism::decryption(mechanism.mechanism)?;
            // SAFETY: by the module's contract.
            let oaep = unsafe { mechanism::oaep_parameters(mechanism, wire) }?;
            let class = if way == Way::Encrypt { ObjectClass::PublicKey } else { ObjectClass::PrivateKey };
            let key = of_key(family, class)?;
            // A signature is as long as the modulus.
            let modulus = key.1.signature;
            let most = mechanism::largest_plaintext(wire, oaep.as_ref(), modulus)?;
            (wire, key, Method::Rsa { oaep, modulus, most })
        }
    };
    let operation = Operation {
        key: key.id,
        handle,
        mechanism,
        ticket: Ticket::new(key.always_authenticate && way == Way::Decrypt),
        has_channel: !key.is_restricted(),
        method,
        parts: None,
        kept: None,
    };
    *slot(way, &mut lock(&session.active)) = Some(operation);
    Ok(())
}

/// Reads what a mechanism of secret keys needs.
unsafe fn method(mechanism: &CK_MECHANISM, wire: Mechanism, way: Way) -> Outcome<Method> {
    Ok(match wire {
        // SAFETY: by the module's contract.
        Mechanism::AesGcm => Method::Gcm(unsafe { mechanism::gcm_parameters(mechanism) }?),
        // SAFETY: by the module's contract.
        Mechanism::AesCcm => Method::Ccm(unsafe { mechanism::ccm_parameters(mechanism) }?),
        Mechanism::AesCtr => {
            // SAFETY: by the module's contract.
            Method::Stream(Stream::counter(way, unsafe { mechanism::counter(mechanism) }?))
        }
        _ => {
            // SAFETY: by the module's contract.
            let iv = unsafe { mechanism::initial_vector(mechanism, wire) }?;
            Method::Stream(Stream::blocks(way, wire, iv))
        }
    })
}

/// Whether a key may do it.
pub(in crate::api) fn check(key: &Key, class: ObjectClass, way: Way) -> Outcome {
    match key.class {
        own if own == class => {}
        ObjectClass::SecretKey => return Err(CKR_KEY_TYPE_INCONSISTENT),
        ObjectClass::PrivateKey | ObjectClass::PublicKey => return Err(CKR_KEY_TYPE_INCONSISTENT),
        _ => return Err(CKR_KEY_HANDLE_INVALID),
    }
    let permitted = match way {
        Way::Encrypt => key.may_encrypt,
        Way::Decrypt => key.may_decrypt,
    };
    if permitted { Ok(()) } else { Err(CKR_KEY_FUNCTION_NOT_PERMITTED) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made_of(mechanism: Mechanism, method: Method) -> Operation {
        let ticket = Ticket::new(false);
        Operation {
            key: [0; 16],
            handle: 1,
            mechanism,
            ticket,
            has_channel: true,
            method,
            parts: None,
            kept: None,
        }
    }

    fn operation(aad: usize) -> Operation {
        let gcm = GcmParameters { iv: vec![1; 12], aad: vec![2; aad], tag_bits: 96 };
        let method = Method::Gcm(gcm);
        made_of(Mechanism::AesGcm, method)
    }

    #[test]
    fn of_rsa_one_block_goes_in() {
        let method = Method::Rsa { oaep: None, modulus: 256, most: 245 };
        let mut rsa = made_of(Mechanism::RsaPkcs, method);
        assert_eq!(rsa.size(Way::Decrypt, 256), Ok(245));
        for length in [0, 255, 257, usize::MAX] {
            assert_eq!(rsa.size(Way::Decrypt, length), Err(CKR_ENCRYPTED_DATA_LEN_RANGE));
        }
        rsa.update(Way::Decrypt, &[0; 100]).unwrap();
        rsa.update(Way::Decrypt, &[0; 156]).unwrap();
        assert!(rsa.update(Way::Decrypt, &[0]).is_err());
    }

    #[test]
    fn sizes_with_the_tag_and_within_a_request() {
        let short = operation(0);
        assert_eq!(short.size(Way::Encrypt, 0), Ok(12));
        assert_eq!(short.size(Way::Decrypt, 12), Ok(0));
        assert_eq!(short.size(Way::Decrypt, 11), Err(CKR_ENCRYPTED_DATA_LEN_RANGE));
        let most = MAX_CIPHER - 12 - 5;
        assert_eq!(operation(5).size(Way::Encrypt, most), Ok(most + 12));
        assert_eq!(operation(5).size(Way::Encrypt, most + 1), Err(CKR_DATA_LEN_RANGE));
        assert_eq!(operation(5).size(Way::Decrypt, most + 1), Err(CKR_ENCRYPTED_DATA_LEN_RANGE));
    }

    #[test]
    fn parts_are_gathered_up_to_a_bound() {
        for way in [Way::Encrypt, Way::Decrypt] {
            let mut operation = operation(0);
            for part in [&b"ab"[..], b"", b"c"] {
                operation.update(way, part).unwrap();
            }
            assert_eq!(operation.parts.as_ref().unwrap().as_slice(), b"abc");
            operation.update(way, &vec![0; MAX_CIPHER - 12 - 3]).unwrap();
            assert!(operation.update(way, &[0]).is_err());
        }
    }
}
