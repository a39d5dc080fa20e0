//! Signatures over a connection, in memory that is used again: after the first one nothing is allocated.

use prost::{Message, decode_length_delimiter};

use super::{BUFFER, ClientError, Connection, KEPT, Until};
use crate::frame::{self, HEADER};
use crate::v1::{self, Mechanism, PssParameters, Request, Response, request, response};

/// Puts a request into the memory of the one before.
fn prepare(request: &mut Request, key: &[u8], mechanism: Mechanism, pss: Option<PssParameters>, data: &[u8]) {
    if !matches!(request.op, Some(request::Op::Sign(_))) {
        request.op = Some(request::Op::Sign(v1::Sign::default()));
    }
    if let Some(request::Op::Sign(sign)) = &mut request.op {
        sign.key.clear();
        sign.key.extend_from_slice(key);
        sign.set_mechanism(mechanism);
        sign.pss = pss;
        sign.data.clear();
        sign.data.extend_from_slice(data);
    }
}

/// The id and the signature in an answer that has nothing else, where they are. `None` for every other answer.
fn signature_of(body: &[u8]) -> Option<(u64, &[u8])> {
    /// The key of a field in an encoded message: its number in strongroom.proto, and its wire type.
    const fn field(number: usize, wire_type: usize) -> usize {
        number << 3 | wire_type
    }
    const NUMBER: usize = 0;
    const BYTES: usize = 2;
    // Keys, lengths and numbers are encoded alike.
    let read = |rest: &mut &[u8]| decode_length_delimiter(rest).ok();
    let rest = &mut &*body;
    if read(rest)? != field(1, NUMBER) {
        return None;
    }
    let id = read(rest)?;
    for key in [field(40, BYTES), field(1, BYTES)] {
        if read(rest)? != key || read(rest)? != rest.len() {
            return None;
        }
    }
    Some((id as u64, rest))
}

impl Connection {
    /// Signs: [`Connection::call`] with `Sign`. Writes the signature to `signature`, as far as there is room, and
    /// returns its length in bytes, which may be another.
    ///
    /// # Errors
    ///
    /// As [`Connection::call`].
    pub fn sign(
        &mut self,
        partition: u32,
        key: &[u8],
        mechanism: Mechanism,
        pss: Option<PssParameters>,
        data: &[u8],
        signature: &mut [u8],
    ) -> Result<usize, ClientError> {
        let until = Until::after(self.deadlines.reply);
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.signing.id = id;
        self.signing.partition = partition;
        prepare(&mut self.signing, key, mechanism, pss, data);
        self.buffer.clear();
        let encoded = frame::encode(&self.signing, &mut self.buffer);
        if data.len() > KEPT {
            self.signing = Request::default();
        }
        encoded?;
        self.send(until)?;
        let end = self.receive_frame(until, None)?;
        let body = self.buffer.get(HEADER..end).unwrap_or_default();
        let (answered, length) = match signature_of(body) {
            Some((answered, made)) => (answered, Ok(copy(made, signature))),
            None => {
                let response = Response::decode(body).map_err(|e| self.protocol(&e.to_string()))?;
                let length = match response.result {
                    Some(response::Result::Signature(reply)) => Ok(copy(&reply.signature, signature)),
                    Some(response::Result::Error(error)) => {
                        Err(ClientError::Refused { code: error.code(), message: error.message })
                    }
                    _ => Err(self.protocol("an answer to Sign that is no signature")),
                };
                (response.id, length)
            }
        };
        if self.buffer.capacity() > KEPT {
            self.buffer = Vec::with_capacity(BUFFER);
        }
        if answered != id {
            return Err(self.protocol("an answer to another request"));
        }
        if self.wait != self.deadlines.reply {
            self.wait_at_most(self.deadlines.reply)?;
        }
        length
    }
}

/// As far as there is room; the whole length.
fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let length = from.len().min(to.len());
    if let (Some(to), Some(from)) = (to.get_mut(..length), from.get(..length)) {
        to.copy_from_slice(from);
    }
    from.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(id: u64, result: Option<response::Result>) -> Vec<u8> {
        Response { id, result }.encode_to_vec()
    }

    fn signature(bytes: &[u8]) -> Option<response::Result> {
        Some(response::Result::Signature(v1::Signature { signature: bytes.to_vec() }))
    }

    #[test]
    fn a_signature_is_read_where_it_is() {
        for (id, length) in [(1, 64), (300, 256), (u64::from(u32::MAX) + 7, 512)] {
            let body = answer(id, signature(&vec![7; length]));
            assert_eq!(signature_of(&body), Some((id, vec![7; length].as_slice())));
        }
    }

    #[test]
    fn other_answers_are_left_to_the_decoder() {
        let done = answer(1, Some(response::Result::Done(v1::Done {})));
        let mut longer = answer(1, signature(&[7; 64]));
        longer.push(0);
        let mut shorter = answer(1, signature(&[7; 64]));
        shorter.pop();
        let without_id = answer(0, signature(&[7; 64]));
        for body in [done, longer, shorter, without_id, answer(1, None), Vec::new(), vec![0xff; 80]] {
            assert_eq!(signature_of(&body), None, "{body:?}");
        }
    }
}
