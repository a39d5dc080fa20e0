//! Frames: a length of 4 bytes, little-endian, and that many bytes of one message.

use prost::Message;

/// The largest message, in bytes, in both directions.
pub const MAX_FRAME: usize = 1 << 20;

/// The most that one Encrypt or Decrypt takes, in bytes: data and parameters together. What else stands in the
/// request and the reply fits in the rest of a frame.
pub const MAX_CIPHER: usize = MAX_FRAME - 1024;

/// The size of the length before a message, in bytes.
pub const HEADER: usize = 4;

/// Why bytes are not a frame.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FrameError {
    /// The length is 0 or above [`MAX_FRAME`].
    #[error("a frame of {0} bytes: the protocol allows 1 to {MAX_FRAME}")]
    Length(usize),
    /// The body is not a message of `strongroom.proto`.
    #[error("a frame that is not a message of the protocol: {0}")]
    Decode(#[from] prost::DecodeError),
}

/// Appends `message` as a frame to `buffer`.
///
/// # Errors
///
/// [`FrameError::Length`] if the message is empty or larger than [`MAX_FRAME`]; `buffer` is unchanged.
pub fn encode(message: &impl Message, buffer: &mut Vec<u8>) -> Result<(), FrameError> {
    let length = message.encoded_len();
    if length == 0 || length > MAX_FRAME {
        return Err(FrameError::Length(length));
    }
    buffer.reserve(HEADER + length);
    // MAX_FRAME fits in 32 bits.
    buffer.extend_from_slice(&(length as u32).to_le_bytes());
    message.encode_raw(buffer);
    Ok(())
}

/// Reads the length of the body from a frame's first [`HEADER`] bytes.
///
/// # Errors
///
/// [`FrameError::Length`] if no frame has this length: the peer does not speak this protocol.
pub fn body_length(header: [u8; HEADER]) -> Result<usize, FrameError> {
    let length = u32::from_le_bytes(header) as usize;
    if length == 0 || length > MAX_FRAME {
        return Err(FrameError::Length(length));
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{GenerateRandom, Request, request::Op};

    /// The bytes on the wire, so that an accidental change of the format shows.
    #[test]
    fn golden_frame() {
        let request = Request {
            id: 7,
            partition: 1,
            op: Some(Op::GenerateRandom(GenerateRandom { length: 16 })),
            ..Request::default()
        };
        let mut buffer = Vec::new();
        encode(&request, &mut buffer).unwrap();
        assert_eq!(buffer, [9, 0, 0, 0, 0x08, 7, 0x10, 1, 0xd2, 0x02, 2, 0x08, 16]);
        assert_eq!(body_length([9, 0, 0, 0]).unwrap(), 9);
        assert_eq!(Request::decode(&buffer[HEADER..]).unwrap(), request);
    }

    #[test]
    fn lengths_outside_the_limits_are_refused() {
        assert_eq!(body_length([0; 4]), Err(FrameError::Length(0)));
        assert_eq!(body_length([1, 0, 16, 0]), Err(FrameError::Length(MAX_FRAME + 1)));
        assert_eq!(body_length([0, 0, 16, 0]), Ok(MAX_FRAME));
    }
}
