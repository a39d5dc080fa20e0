//! A client as the desk sees it: what it has posted, and what is answered at once.

use std::sync::Arc;
use std::time::Instant;

use strongroom_channel::Incoming;
use strongroom_channel::layout::{self, MAX_PAYLOAD};
use strongroom_protocol::v1::Mechanism;
use zeroize::Zeroize;

use super::job::{Answer, Data, INLINE, Job};
use super::seat::{self, Known, Seat};
use crate::crypto::symmetric::{self, GcmParameters};
use crate::failure::{Failure, refuse};
use crate::metrics::{Operation, Outcome};
use crate::request::encrypt::Use;
use crate::rounds::Origin;

/// A seat, and what only the desk knows of it.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) seat: Arc<Seat>,
    /// Looked after unasked.
    pub(super) is_active: bool,
    /// When it posted last.
    pub(super) last: Instant,
    /// Posted and not yet taken in: a bit for each slot. No more are looked for before these are done.
    posted: u128,
    known: Known,
}

/// Where data is encrypted and decrypted: not where the client could change it meanwhile, or see a plaintext whose
/// tag was not checked yet.
#[derive(Debug)]
pub(super) struct Cipher {
    input: [u8; MAX_PAYLOAD],
    output: [u8; MAX_PAYLOAD],
}

impl Cipher {
    pub(super) fn new() -> Box<Self> {
        Box::new(Cipher { input: [0; MAX_PAYLOAD], output: [0; MAX_PAYLOAD] })
    }
}

impl Watch {
    pub(super) fn new(seat: Arc<Seat>, now: Instant) -> Self {
        Watch { seat, is_active: false, last: now, posted: 0, known: Known::default() }
    }

    /// The slot of the next request, if there is one.
    pub(super) fn next_posted(&mut self) -> Option<usize> {
        if self.posted == 0 {
            self.posted = self.seat.region.take_posted();
        }
        let number = self.posted.trailing_zeros() as usize;
        self.posted &= self.posted.wrapping_sub(1);
        (number < u128::BITS as usize).then_some(number)
    }

    /// Whether there is a next request.
    pub(super) fn has_posted(&self) -> bool {
        self.posted != 0 || self.seat.region.has_posted()
    }

    /// Takes a request in. A signature becomes a job; encryption and decryption are done and answered at once.
    pub(super) fn begin(
        &mut self,
        number: usize,
        now: Instant,
        cipher: &mut Cipher,
    ) -> Result<Option<Job>, Failure> {
        let Some(incoming) = self.seat.region.read(number) else {
            return refuse!(Malformed, "a request whose length is not one");
        };
        let (operation, begun) = match incoming.operation {
            layout::SIGN => (Operation::Sign, self.sign(number, &incoming, now).map(Some)),
            layout::ENCRYPT => {
                let done = self.cipher(number, &incoming, Use::Encrypt, cipher, now);
                (Operation::Encrypt, done.map(|()| None))
            }
            layout::DECRYPT => {
                let done = self.cipher(number, &incoming, Use::Decrypt, cipher, now);
                (Operation::Decrypt, done.map(|()| None))
            }
            other => return refuse!(Unsupported, "this strongroomd does not know the operation {other}"),
        };
        if let Err(failure) = &begun {
            self.seat.count_refusal(&incoming, operation, failure, now.elapsed());
        }
        begun
    }

    fn sign(&mut self, number: usize, incoming: &Incoming, now: Instant) -> Result<Job, Failure> {
        let mechanism = seat::mechanism(incoming)?;
        let (key, counters) = self.seat.signing_key(&mut self.known, incoming.partition, incoming.key)?;
        counters.meter.limits.admit()?;
        mechanism.check(key.kind(), incoming.length)?;
        if !key.kind().is_batched() {
            return refuse!(Unsupported, "signatures of {} keys are made over the connection", key.kind());
        }
        let mut data = match incoming.length {
            0..=INLINE => Data::Inline { bytes: [0; INLINE], length: incoming.length },
            length => Data::Long(vec![0; length]),
        };
        let place = match &mut data {
            Data::Inline { bytes, length } => bytes.get_mut(..*length).unwrap_or_default(),
            Data::Long(bytes) => bytes,
        };
        if !self.seat.region.read_payload(number, place) {
            return refuse!(Malformed, "a request whose length is not one");
        }
        counters.meter.limits.approve_signature(mechanism, data.bytes())?;
        let answer = Answer::Slot { seat: Arc::clone(&self.seat), number, counters };
        let origin = Origin { partition: incoming.partition, uid: self.seat.session.uid };
        Ok(Job { origin, key, mechanism, data, arrived: now, answer })
    }

    fn cipher(
        &mut self,
        number: usize,
        incoming: &Incoming,
        what: Use,
        cipher: &mut Cipher,
        now: Instant,
    ) -> Result<(), Failure> {
        let (key, counters) =
            self.seat.secret_key(&mut self.known, what, incoming.partition, incoming.key)?;
        counters.meter.limits.admit()?;
        let Cipher { input, output } = cipher;
        let [iv_length, aad_length, tag_bits] = incoming.numbers;
        let parts = input
            .get_mut(..incoming.length)
            .and_then(|payload| self.seat.region.read_payload(number, payload).then_some(&*payload))
            .and_then(|payload| payload.split_at_checked(iv_length as usize))
            .and_then(|(iv, rest)| Some((iv, rest.split_at_checked(aad_length as usize)?)));
        let Some((iv, (aad, data))) = parts else {
            return refuse!(Malformed, "a request whose lengths do not fit each other");
        };
        let done = GcmParameters::new(iv, aad, tag_bits).and_then(|parameters| match what {
            Use::Encrypt => symmetric::encrypt(&key, parameters, data, output),
            Use::Decrypt => symmetric::decrypt(&key, parameters, data, output),
        });
        if let Ok(length) = done {
            let (operation, key_type) = (what.operation(), key.kind().to_wire());
            counters.meter.count(operation, key_type, Mechanism::AesGcm, Outcome::Success, now.elapsed());
            counters.uses.done(None);
            self.seat.region.reply(number, output.get(..length).unwrap_or_default());
        }
        // What was secret of it is not kept: the plaintext, on whichever side it was.
        match what {
            Use::Encrypt => input.get_mut(..incoming.length).unwrap_or_default().zeroize(),
            Use::Decrypt => output.get_mut(..incoming.length).unwrap_or_default().zeroize(),
        }
        done.map(|_| ()).map_err(Failure::from)
    }
}
