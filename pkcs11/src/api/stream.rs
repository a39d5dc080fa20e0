//! Encryption that gives out as it takes in: block ciphers in modes without integrity. Of a message of any length a bounded part
//! is in memory here, and at the daemon. (Not so what is encrypted in its own place, and what is unpadded as a whole: see
//! [`super::flow`].)
//!
//! The daemon takes whole blocks and knows nothing of what was before. What follows from the blocks before (the chained
//! block, the counter) is known here, as the ciphertext is; so is the padding, of which only the plaintext's end tells.

use cryptoki_sys::*;
use strongroom_ffi::pointer;
use strongroom_protocol::v1::Mechanism;
use zeroize::Zeroizing;

use super::cipher::Way;
use crate::error::Outcome;
use crate::mechanism::Counter;

/// The most that goes to the daemon at once, in bytes; a multiple of all blocks.
const PIECE: usize = 256 * 1024;

const CTR_BLOCK: usize = 16;

/// The longest block, in bytes.
const LONGEST_BLOCK: usize = 16;

/// Has the daemon encrypt or decrypt whole blocks with an IV.
pub trait Blocks {
    /// As many bytes as `data` has.
    ///
    /// # Errors
    ///
    /// What the daemon says.
    fn run(&self, iv: &[u8], data: &[u8]) -> Outcome<Zeroizing<Vec<u8>>>;
}

/// Where what comes out goes, in order.
pub trait Sink {
    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// `CKR_FUNCTION_FAILED` if they are more than was said.
    fn put(&mut self, bytes: &[u8]) -> Outcome;
}

impl Sink for Zeroizing<Vec<u8>> {
    fn put(&mut self, bytes: &[u8]) -> Outcome {
        if bytes.len() > self.capacity() - self.len() {
            return Err(CKR_FUNCTION_FAILED);
        }
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// The application's buffer.
pub struct Buffer {
    start: *mut CK_BYTE,
    room: usize,
    used: usize,
}

impl Buffer {
    /// # Safety
    ///
    /// `start` is valid for writing `room` bytes as long as this value is used, and no reference to them lives.
    pub unsafe fn new(start: *mut CK_BYTE, room: usize) -> Self {
        Buffer { start, room, used: 0 }
    }

    /// How many bytes were written.
    pub fn used(&self) -> usize {
        self.used
    }
}

impl Sink for Buffer {
    fn put(&mut self, bytes: &[u8]) -> Outcome {
        if bytes.len() > self.room - self.used {
            return Err(CKR_FUNCTION_FAILED);
        }
        // SAFETY: by the promise of `new`; the range lies inside.
        let place = unsafe { pointer::slice_mut(self.start.wrapping_add(self.used), bytes.len()) };
        place.ok_or(CKR_ARGUMENTS_BAD)?.copy_from_slice(bytes);
        self.used += bytes.len();
        Ok(())
    }
}

/// A message on its way.
pub struct Stream {
    way: Way,
    mode: Mode,
    /// Less than a block; where the padding is to be taken away, up to one. It has room for one from the start: nothing stays behind
    /// where it was.
    pending: Zeroizing<Vec<u8>>,
    /// What comes out if nothing more goes in, for who asked for its size only.
    end: Option<Zeroizing<Vec<u8>>>,
    begun: bool,
}

impl Clone for Stream {
    fn clone(&self) -> Self {
        let mut copy =
            Stream { end: self.end.clone(), begun: self.begun, ..Self::new(self.way, self.mode.clone()) };
        copy.pending.extend_from_slice(&self.pending);
        copy
    }
}

#[derive(Clone)]
enum Mode {
    /// The IV is empty for ECB, and otherwise the block that the next is chained to.
    Blocks { iv: Vec<u8>, block: usize, pads: bool },
    /// The bytes of the next block that were used up already.
    Counter { counter: Counter, used: usize },
}

impl Stream {
    /// Blocks that are chained to an IV, or, if that is empty, to nothing.
    pub fn blocks(way: Way, wire: Mechanism, iv: Vec<u8>) -> Self {
        let is_des = matches!(wire, Mechanism::Des3Ecb | Mechanism::Des3Cbc | Mechanism::Des3CbcPad);
        let pads = matches!(wire, Mechanism::AesCbcPad | Mechanism::Des3CbcPad);
        Self::new(way, Mode::Blocks { iv, block: if is_des { 8 } else { 16 }, pads })
    }

    /// A key stream.
    pub fn counter(way: Way, counter: Counter) -> Self {
        Self::new(way, Mode::Counter { counter, used: 0 })
    }

    fn new(way: Way, mode: Mode) -> Self {
        Stream {
            way,
            mode,
            pending: Zeroizing::new(Vec::with_capacity(LONGEST_BLOCK)),
            end: None,
            begun: false,
        }
    }

    /// Whether parts were given.
    pub fn is_begun(&self) -> bool {
        self.begun
    }

    /// How many bytes come out of the next part.
    pub fn size(&self, part: usize) -> usize {
        let all = self.pending.len().saturating_add(part);
        match &self.mode {
            Mode::Counter { .. } => part,
            Mode::Blocks { block, pads: true, .. } if self.way == Way::Decrypt => {
                all.saturating_sub(1) / block * block
            }
            Mode::Blocks { block, .. } => all / block * block,
        }
    }

    /// How many bytes at most come out of a whole message that goes in at once.
    pub fn whole_size(&self, length: usize) -> usize {
        match &self.mode {
            Mode::Blocks { block, pads: true, .. } if self.way == Way::Encrypt => {
                (length / block).saturating_add(1).saturating_mul(*block)
            }
            _ => length,
        }
    }

    /// Whether that many come out exactly.
    pub fn is_exact(&self) -> bool {
        !(self.way == Way::Decrypt && matches!(self.mode, Mode::Blocks { pads: true, .. }))
    }

    /// Takes a part, and gives out [`Stream::size`] bytes.
    ///
    /// # Errors
    ///
    /// `CKR_DATA_LEN_RANGE` if a counter has no more blocks, and what the daemon says. The message has ended then.
    pub fn update(&mut self, blocks: &impl Blocks, part: &[u8], sink: &mut impl Sink) -> Outcome {
        self.begun = true;
        // Who has asked for the end's size has not ended the message.
        self.end = None;
        if matches!(self.mode, Mode::Counter { .. }) {
            return part.chunks(PIECE).try_for_each(|piece| self.count(blocks, piece, sink));
        }
        let mut left = self.size(part.len());
        let mut rest = part;
        while left > 0 {
            let now = left.min(PIECE);
            let (fresh, later) =
                rest.split_at_checked(now - self.pending.len()).ok_or(CKR_FUNCTION_FAILED)?;
            let made = match self.pending.is_empty() {
                true => self.chain(blocks, fresh)?,
                false => {
                    let mut data = Zeroizing::new(Vec::with_capacity(now));
                    data.extend_from_slice(&self.pending);
                    data.extend_from_slice(fresh);
                    self.pending.clear();
                    self.chain(blocks, &data)?
                }
            };
            sink.put(&made)?;
            (rest, left) = (later, left - now);
        }
        self.pending.extend_from_slice(rest);
        Ok(())
    }

    /// Whole blocks, chained to those before.
    fn chain(&mut self, blocks: &impl Blocks, data: &[u8]) -> Outcome<Zeroizing<Vec<u8>>> {
        let made = self.run(blocks, data)?;
        let Mode::Blocks { iv, .. } = &mut self.mode else { return Err(CKR_FUNCTION_FAILED) };
        let ciphertext = if self.way == Way::Encrypt { &made } else { data };
        if let Some(from) = ciphertext.len().checked_sub(iv.len()) {
            iv.copy_from_slice(ciphertext.get(from..).unwrap_or_default());
        }
        Ok(made)
    }

    /// Whole blocks, that follow those before.
    fn run(&self, blocks: &impl Blocks, data: &[u8]) -> Outcome<Zeroizing<Vec<u8>>> {
        let Mode::Blocks { iv, .. } = &self.mode else { return Err(CKR_FUNCTION_FAILED) };
        let made = blocks.run(iv, data)?;
        if made.len() == data.len() { Ok(made) } else { Err(CKR_DEVICE_ERROR) }
    }

    /// Bytes of a key stream, from the middle of a block on.
    fn count(&mut self, blocks: &impl Blocks, piece: &[u8], sink: &mut impl Sink) -> Outcome {
        let Mode::Counter { counter, used } = &mut self.mode else { return Err(CKR_FUNCTION_FAILED) };
        let end = *used + piece.len();
        if end.div_ceil(CTR_BLOCK) as u128 > counter.left {
            return Err(CKR_DATA_LEN_RANGE);
        }
        let mut data = Zeroizing::new(Vec::with_capacity(end));
        data.resize(*used, 0);
        data.extend_from_slice(piece);
        let made = blocks.run(&counter.block.to_be_bytes(), &data)?;
        if made.len() != data.len() {
            return Err(CKR_DEVICE_ERROR);
        }
        sink.put(made.get(*used..).unwrap_or_default())?;
        let whole = (end / CTR_BLOCK) as u128;
        counter.block = counter.block.wrapping_add(whole);
        counter.left -= whole;
        *used = end % CTR_BLOCK;
        Ok(())
    }

    /// What comes out at the end: the padded block, or the last one without its padding. Another part may still follow.
    ///
    /// # Errors
    ///
    /// `CKR_DATA_LEN_RANGE` or `CKR_ENCRYPTED_DATA_LEN_RANGE` for a message that does not end with a block,
    /// `CKR_ENCRYPTED_DATA_INVALID` for padding that is none.
    pub fn finish(&mut self, blocks: &impl Blocks) -> Outcome<&[u8]> {
        self.begun = true;
        if self.end.is_none() {
            self.end = Some(self.last(blocks)?);
        }
        Ok(self.end.as_ref().map_or(&[], |end| end.as_slice()))
    }

    fn last(&self, blocks: &impl Blocks) -> Outcome<Zeroizing<Vec<u8>>> {
        let (block, pads) = match &self.mode {
            Mode::Counter { .. } => return Ok(Zeroizing::default()),
            Mode::Blocks { block, pads, .. } => (*block, *pads),
        };
        let pending = &self.pending;
        match (self.way, pads) {
            (_, false) if pending.is_empty() => Ok(Zeroizing::default()),
            (Way::Encrypt, false) => Err(CKR_DATA_LEN_RANGE),
            (Way::Decrypt, false) => Err(CKR_ENCRYPTED_DATA_LEN_RANGE),
            (Way::Encrypt, true) => {
                let padding = block - pending.len();
                // At most 16; PKCS #7 (RFC 5652, 6.3).
                let mut data = Zeroizing::new(vec![padding as u8; block]);
                data.get_mut(..pending.len()).ok_or(CKR_FUNCTION_FAILED)?.copy_from_slice(pending);
                self.run(blocks, &data)
            }
            (Way::Decrypt, true) if pending.len() != block => Err(CKR_ENCRYPTED_DATA_LEN_RANGE),
            (Way::Decrypt, true) => {
                let mut last = self.run(blocks, pending)?;
                let length = unpadded(&last).ok_or(CKR_ENCRYPTED_DATA_INVALID)?;
                last.truncate(length);
                Ok(last)
            }
        }
    }
}

/// How many bytes of a block are before its padding. All of the block is looked at, whatever is in it.
fn unpadded(block: &[u8]) -> Option<usize> {
    let padding = *block.last()?;
    let kept = block.len().checked_sub(padding.into())?;
    let mut wrong = u8::from(padding == 0);
    for (at, byte) in block.iter().enumerate() {
        let counts = u8::from(at >= kept).wrapping_neg();
        wrong |= (byte ^ padding) & counts;
    }
    (wrong == 0).then_some(kept)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Adds the IV, or for a counter the block's number, to each block: enough to see what is chained to what.
    #[derive(Default)]
    struct Adding(RefCell<Vec<(Vec<u8>, usize)>>);

    impl Blocks for Adding {
        fn run(&self, iv: &[u8], data: &[u8]) -> Outcome<Zeroizing<Vec<u8>>> {
            self.0.borrow_mut().push((iv.to_vec(), data.len()));
            Ok(Zeroizing::new(data.iter().map(|byte| byte ^ 0x55).collect()))
        }
    }

    fn all(mut stream: Stream, data: &[u8], step: usize) -> Outcome<Vec<u8>> {
        let (blocks, mut out) = (Adding::default(), Zeroizing::new(Vec::with_capacity(data.len() + 32)));
        for part in data.chunks(step.max(1)) {
            let (before, size) = (out.len(), stream.size(part.len()));
            stream.update(&blocks, part, &mut out)?;
            assert_eq!(out.len() - before, size);
        }
        let end = stream.finish(&blocks)?.to_vec();
        assert_eq!(stream.finish(&blocks)?, end, "asked again");
        out.extend_from_slice(&end);
        Ok(out.to_vec())
    }

    #[test]
    fn padding_comes_and_goes_whatever_the_parts() {
        for (wire, block) in [(Mechanism::AesCbcPad, 16), (Mechanism::Des3CbcPad, 8)] {
            for length in [0, 1, 7, 8, 15, 16, 17, 48, 1000] {
                let data: Vec<u8> = (0..length).map(|number| number as u8).collect();
                for step in [1, 5, 16, 33, 1000] {
                    let stream = |way| Stream::blocks(way, wire, vec![0; block]);
                    let sealed = all(stream(Way::Encrypt), &data, step).unwrap();
                    assert_eq!(sealed.len(), stream(Way::Encrypt).whole_size(length));
                    assert_eq!(all(stream(Way::Decrypt), &sealed, step).unwrap(), data);
                    let cut = &sealed[..sealed.len() - 1];
                    assert!(all(stream(Way::Decrypt), cut, step).is_err());
                }
            }
        }
        assert_eq!(unpadded(&[1, 2, 3, 4, 4, 4, 4, 4]), Some(4));
        assert_eq!(unpadded(&[8; 8]), Some(0));
        for wrong in [[0; 8], [9; 8], [1, 2, 3, 4, 4, 4, 5, 4], [1, 1, 1, 1, 1, 1, 1, 2]] {
            assert_eq!(unpadded(&wrong), None);
        }
    }

    #[test]
    fn blocks_are_chained_and_messages_end_with_one() {
        let (blocks, mut out) = (Adding::default(), Zeroizing::new(Vec::with_capacity(2 * PIECE)));
        let mut stream = Stream::blocks(Way::Encrypt, Mechanism::AesCbc, vec![9; 16]);
        stream.update(&blocks, &[1; 10], &mut out).unwrap();
        stream.update(&blocks, &vec![1; PIECE + 6], &mut out).unwrap();
        assert!(stream.finish(&blocks).unwrap().is_empty());
        let asked = blocks.0.borrow();
        // The first block of the second piece follows the last one of the first.
        assert_eq!(*asked, [(vec![9; 16], PIECE), (vec![1 ^ 0x55; 16], 16)]);
        assert_eq!(out.len(), PIECE + 16);
        let short = |way, wire| all(Stream::blocks(way, wire, Vec::new()), &[0; 17], 4);
        assert_eq!(short(Way::Encrypt, Mechanism::AesEcb), Err(CKR_DATA_LEN_RANGE));
        assert_eq!(short(Way::Decrypt, Mechanism::Des3Ecb), Err(CKR_ENCRYPTED_DATA_LEN_RANGE));
    }

    #[test]
    fn a_copy_has_room_for_a_block() {
        for wire in [Mechanism::AesCbcPad, Mechanism::Des3Cbc] {
            let (blocks, mut out) = (Adding::default(), Zeroizing::new(Vec::new()));
            let mut stream = Stream::blocks(Way::Decrypt, wire, vec![0; 8]);
            stream.update(&blocks, &[1; 3], &mut out).unwrap();
            let mut copy = stream.clone();
            let place = copy.pending.as_ptr();
            copy.update(&blocks, &[1; 4], &mut out).unwrap();
            assert_eq!((copy.pending.as_ptr(), copy.pending.as_slice()), (place, &[1; 7][..]));
        }
    }

    #[test]
    fn a_counter_goes_on_in_the_middle_of_a_block_and_ends() {
        let (blocks, mut out) = (Adding::default(), Zeroizing::new(Vec::with_capacity(100)));
        let mut stream = Stream::counter(Way::Encrypt, Counter { block: 7, left: 3 });
        for length in [5, 20, 7] {
            stream.update(&blocks, &vec![0; length], &mut out).unwrap();
        }
        let numbers: Vec<_> = blocks.0.borrow().iter().map(|(iv, length)| (iv[15], *length)).collect();
        assert_eq!(numbers, [(7, 5), (7, 25), (8, 16)]);
        stream.update(&blocks, &[0; 16], &mut out).unwrap();
        assert_eq!(stream.update(&blocks, &[0], &mut out), Err(CKR_DATA_LEN_RANGE));
    }
}
