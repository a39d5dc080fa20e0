//! Signatures over a connection, in memory that is used again: after the first one nothing is allocated.

use prost::Message;

use super::{ClientError, Connection, Until};
use crate::frame::{self, HEADER};
use crate::v1::{self, Mechanism, PssParameters, Request, Response, request, response};

/// The messages of the signature before. Neither has a secret.
#[derive(Debug, Default)]
pub(super) struct Messages {
    request: Request,
    response: Response,
}

impl Messages {
    fn prepare(&mut self, key: &[u8], mechanism: Mechanism, pss: Option<PssParameters>, data: &[u8]) {
        if !matches!(self.request.op, Some(request::Op::Sign(_))) {
            self.request.op = Some(request::Op::Sign(v1::Sign::default()));
        }
        if let Some(request::Op::Sign(sign)) = &mut self.request.op {
            sign.key.clear();
            sign.key.extend_from_slice(key);
            sign.set_mechanism(mechanism);
            sign.pss = pss;
            sign.data.clear();
            sign.data.extend_from_slice(data);
        }
        // What an answer does not say would stay as it was.
        self.response.id = 0;
        match &mut self.response.result {
            Some(response::Result::Signature(reply)) => reply.signature.clear(),
            result => *result = None,
        }
    }
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
        let mut messages = std::mem::take(&mut self.signing);
        messages.prepare(key, mechanism, pss, data);
        messages.request.partition = partition;
        let outcome = self.exchange_again(&mut messages).map(|()| match &messages.response.result {
            Some(response::Result::Signature(reply)) => {
                for (place, byte) in signature.iter_mut().zip(&reply.signature) {
                    *place = *byte;
                }
                reply.signature.len()
            }
            // No signature is as short.
            _ => 0,
        });
        if data.len() <= super::KEPT {
            self.signing = messages;
        }
        outcome
    }

    fn exchange_again(&mut self, messages: &mut Messages) -> Result<(), ClientError> {
        let until = Until::after(self.deadlines.reply);
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        messages.request.id = id;
        self.buffer.clear();
        frame::encode(&messages.request, &mut self.buffer)?;
        self.send(until)?;
        let end = self.receive_frame(until, None)?;
        let body = self.buffer.get(HEADER..end).unwrap_or_default();
        messages.response.merge(body).map_err(|e| self.protocol(&e.to_string()))?;
        if self.buffer.capacity() > super::KEPT {
            self.buffer = Vec::with_capacity(super::BUFFER);
        }
        if messages.response.id != id {
            return Err(self.protocol("an answer to another request"));
        }
        if self.wait != self.deadlines.reply {
            self.wait_at_most(self.deadlines.reply)?;
        }
        match messages.response.result.take() {
            Some(response::Result::Error(error)) => {
                Err(ClientError::Refused { code: error.code(), message: error.message })
            }
            result => {
                messages.response.result = result;
                Ok(())
            }
        }
    }
}
