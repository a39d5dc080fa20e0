//! How ML-DSA and SLH-DSA sign a message (FIPS 204, section 5.2; FIPS 205, section 10.2).

use std::fmt;
use std::sync::Arc;

/// The longest context, in bytes.
const MAX_CONTEXT: usize = 255;

/// What goes into a signature beside the message. Without a context it takes no memory; it is small, because it lies on the
/// small stacks of ASYNC jobs.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct MessageOptions {
    context: Option<Arc<[u8]>>,
    /// The same signature each time, instead of one with the token's random bytes in it.
    pub deterministic: bool,
}

impl MessageOptions {
    /// Sets the context: a name for the use of the signature, which the verifier must know. False if it has more than 255
    /// bytes.
    pub fn set_context(&mut self, context: &[u8]) -> bool {
        let fits = context.len() <= MAX_CONTEXT;
        if fits {
            self.context = (!context.is_empty()).then(|| context.into());
        }
        fits
    }

    /// The context; empty if none was set.
    pub fn context(&self) -> &[u8] {
        self.context.as_deref().unwrap_or_default()
    }
}

impl fmt::Debug for MessageOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "(context of {} bytes, deterministic: {})", self.context().len(), self.deterministic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_has_up_to_255_bytes() {
        let mut options = MessageOptions::default();
        assert_eq!(options.context(), b"");
        assert!(options.set_context(&[7; 255]));
        assert_eq!(options.context(), [7; 255]);
        assert!(!options.set_context(&[7; 256]));
        assert!(options.set_context(b"ab"));
        assert_eq!(options.context(), b"ab");
        assert!(options.set_context(b""));
        assert_eq!(options, MessageOptions::default());
    }
}
