//! The three modes of NIST SP 800-108, with the input put together as PKCS#11 3.0 has it: in any order, with numbers of
//! any size.

use super::MAX_MATERIAL;
use crate::crypto::symmetric::{Mac, SecretKey};
use crate::crypto::{CryptoError, Hash};
use crate::memory::SecretBytes;

/// The pseudorandom function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prf {
    /// HMAC.
    Hmac(Hash),
    /// AES-CMAC, with an AES key.
    Cmac,
}

impl Prf {
    fn mac(self) -> Mac<'static> {
        match self {
            Prf::Hmac(hash) => Mac::Hmac(hash),
            Prf::Cmac => Mac::Cmac,
        }
    }
}

/// What follows from what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode<'a> {
    /// 4.1: the blocks are numbered.
    Counter,
    /// 4.2: each block goes into the next; this before the first.
    Feedback(&'a [u8]),
    /// 4.3: beside the blocks there is a chain, which begins with all that is fixed.
    DoublePipeline,
}

/// How a number is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// 8, 16, 24, … 64.
    pub bits: u32,
    /// The lowest byte first.
    pub little_endian: bool,
}

impl Format {
    /// The number, unless it is too large.
    fn write(self, number: u64, out: &mut Vec<u8>) -> Result<(), CryptoError> {
        let bytes = self.bits as usize / 8;
        let fits = self.bits == 64 || number >> self.bits.min(63) == 0;
        if !(1..=8).contains(&bytes) || !self.bits.is_multiple_of(8) || !fits {
            return Err(CryptoError::ParameterWrong(format!(
                "SP 800-108: {number} does not fit a field of {} bits",
                self.bits
            )));
        }
        let (big, little) = (number.to_be_bytes(), number.to_le_bytes());
        let written = if self.little_endian { little.get(..bytes) } else { big.get(8 - bytes..) };
        out.extend_from_slice(written.unwrap_or_default());
        Ok(())
    }
}

/// A part of what goes into the function for each block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// What differs from block to block: the number (in the mode that numbers them), the last block, or the chain's link.
    Iteration(Option<Format>),
    /// The block's number, where it is no more than that.
    Counter(Format),
    /// How many bits of key material are made: as many as are wanted, or as all blocks have.
    Length {
        /// How it is written.
        format: Format,
        /// All blocks' bits.
        of_blocks: bool,
    },
    /// Label, context, and what else is fixed.
    Bytes(&'a [u8]),
}

/// A derivation.
#[derive(Debug)]
pub struct Sp800108<'a> {
    /// The pseudorandom function.
    pub prf: Prf,
    /// The mode.
    pub mode: Mode<'a>,
    /// What goes into the function, in this order.
    pub parts: &'a [Part<'a>],
}

impl Sp800108<'_> {
    /// Makes `length` bytes.
    ///
    /// # Errors
    ///
    /// [`CryptoError::ParameterWrong`] for parts that do not fit the mode, or numbers that do not fit their fields;
    /// [`CryptoError::SecretKeyDoesNotFit`]; [`CryptoError::Library`].
    pub fn derive(&self, key: &SecretKey, length: usize) -> Result<SecretBytes, CryptoError> {
        self.check(length)?;
        let block = self.prf.mac().length();
        let blocks = length.div_ceil(block);
        let mut chain = match self.mode {
            Mode::Counter => SecretBytes::zeroed(0),
            Mode::Feedback(before) => SecretBytes::from(before),
            // A(0): all that is fixed.
            Mode::DoublePipeline => self.input(None, &[], length, blocks)?,
        };
        let mut material = SecretBytes::zeroed(length);
        for (number, place) in (1u64..).zip(material.chunks_mut(block)) {
            if self.mode == Mode::DoublePipeline {
                chain = self.prf.mac().finish(key, None, &chain)?;
            }
            let input = self.input(Some(number), &chain, length, blocks)?;
            let made = self.prf.mac().finish(key, None, &input)?;
            place.copy_from_slice(made.get(..place.len()).unwrap_or_default());
            if let Mode::Feedback(_) = self.mode {
                chain = made;
            }
        }
        Ok(material)
    }

    fn check(&self, length: usize) -> Result<(), CryptoError> {
        let wrong = |what: &str| Err(CryptoError::ParameterWrong(format!("SP 800-108: {what}")));
        if length == 0 || length > MAX_MATERIAL {
            return wrong(&format!("1 to {MAX_MATERIAL} bytes are made, not {length}"));
        }
        let mut iterations = self.parts.iter().filter_map(|part| match part {
            Part::Iteration(format) => Some(format.is_some()),
            _ => None,
        });
        let numbers = self.mode == Mode::Counter;
        match (iterations.next(), iterations.next()) {
            (Some(numbered), None) if numbered == numbers => {}
            (Some(_), None) if numbers => return wrong("the counter needs a format"),
            (Some(_), None) => return wrong("only the counter mode's iteration variable has a format"),
            _ => return wrong("the iteration variable goes in once"),
        }
        let count = |wanted: fn(&Part<'_>) -> bool| self.parts.iter().filter(|part| wanted(part)).count();
        let counters = count(|part| matches!(part, Part::Counter(_)));
        let lengths = count(|part| matches!(part, Part::Length { .. }));
        if counters > 1 || lengths > 1 || (numbers && counters > 0) {
            return wrong("there is one counter, and one length, at most");
        }
        Ok(())
    }

    /// What goes into the function for a block; without a number what is fixed of it.
    fn input(
        &self,
        number: Option<u64>,
        chain: &[u8],
        length: usize,
        blocks: usize,
    ) -> Result<SecretBytes, CryptoError> {
        let bits = |of_blocks| match of_blocks {
            true => 8 * (blocks * self.prf.mac().length()) as u64,
            false => 8 * length as u64,
        };
        // The chain is secret: what stands before and after it is put together around it.
        let (mut before, mut after, mut has_chain) = (Vec::new(), Vec::new(), false);
        for part in self.parts {
            let out = if has_chain { &mut after } else { &mut before };
            match (*part, number) {
                (Part::Iteration(Some(format)) | Part::Counter(format), Some(number)) => {
                    format.write(number, out)?;
                }
                (Part::Iteration(None), Some(_)) => has_chain = true,
                (Part::Iteration(_) | Part::Counter(_), None) => {}
                (Part::Length { format, of_blocks }, _) => format.write(bits(of_blocks), out)?,
                (Part::Bytes(bytes), _) => out.extend_from_slice(bytes),
            }
        }
        let middle = if has_chain { chain } else { &[] };
        let mut input = SecretBytes::zeroed(before.len() + middle.len() + after.len());
        let mut rest = &mut input[..];
        for part in [&before[..], middle, &after] {
            let Some((place, remaining)) = rest.split_at_mut_checked(part.len()) else { break };
            place.copy_from_slice(part);
            rest = remaining;
        }
        Ok(input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::symmetric::SecretKind;

    const R32: Format = Format { bits: 32, little_endian: false };

    fn key() -> SecretKey {
        SecretKey::new(SecretKind::Generic, SecretBytes::from(&[7u8; 32][..])).unwrap()
    }

    fn of<'a>(mode: Mode<'a>, parts: &'a [Part<'a>]) -> Sp800108<'a> {
        Sp800108 { prf: Prf::Hmac(Hash::Sha256), mode, parts }
    }

    #[test]
    fn parts_fit_the_mode() {
        let (chain, counter) = (Part::Iteration(None), Part::Iteration(Some(R32)));
        let length = Part::Length { format: R32, of_blocks: false };
        for (mode, parts, fits) in [
            (Mode::Counter, &[counter][..], true),
            (Mode::Counter, &[Part::Bytes(b"label"), counter, length], true),
            (Mode::Counter, &[chain], false),
            (Mode::Counter, &[counter, counter], false),
            (Mode::Counter, &[counter, Part::Counter(R32)], false),
            (Mode::Counter, &[], false),
            (Mode::Feedback(b""), &[chain, Part::Counter(R32)], true),
            (Mode::Feedback(b""), &[counter], false),
            (Mode::DoublePipeline, &[chain, length], true),
            (Mode::DoublePipeline, &[chain, length, length], false),
        ] {
            assert_eq!(of(mode, parts).derive(&key(), 40).is_ok(), fits, "{mode:?} {parts:?}");
        }
        for length in [0, MAX_MATERIAL + 1, usize::MAX] {
            assert!(of(Mode::Counter, &[counter]).derive(&key(), length).is_err());
        }
    }

    #[test]
    fn numbers_fit_their_fields() {
        let eight = Format { bits: 8, little_endian: false };
        let counter = [Part::Iteration(Some(eight))];
        assert!(of(Mode::Counter, &counter).derive(&key(), 255 * 32).is_ok());
        assert!(of(Mode::Counter, &counter).derive(&key(), 255 * 32 + 1).is_err());
        for bits in [0, 4, 12, 72, u32::MAX] {
            let parts = [Part::Iteration(Some(Format { bits, little_endian: true }))];
            assert!(of(Mode::Counter, &parts).derive(&key(), 32).is_err(), "{bits}");
        }
        let mut written = Vec::new();
        Format { bits: 24, little_endian: false }.write(0x01_0203, &mut written).unwrap();
        Format { bits: 24, little_endian: true }.write(0x01_0203, &mut written).unwrap();
        Format { bits: 64, little_endian: false }.write(u64::MAX, &mut written).unwrap();
        assert_eq!(written, [&[1, 2, 3, 3, 2, 1][..], &[0xff; 8]].concat());
    }
}
