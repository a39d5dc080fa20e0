//! PINs: where they come from and how they are kept.

mod memory;
mod program;
mod source;

use std::fmt;
use std::sync::Arc;

use memory::Page;
pub use source::{Configured, Sources};

use crate::error::{Error, Result};
use strongroom_uri::Uri;

/// The longest PIN, in bytes.
pub const MAX_PIN: usize = 1024;

/// A PIN: in locked memory, wiped when the last owner drops it, never printed.
#[derive(Clone)]
pub struct Secret(Arc<Kept>);

/// A page with so many bytes of a PIN.
struct Kept {
    page: Page,
    length: usize,
}

impl Secret {
    /// Copies the bytes; the caller's are the caller's to wipe.
    ///
    /// # Errors
    ///
    /// [`Error::PinSource`] if there are more than 1,024 of them, or no memory.
    pub fn new(bytes: &[u8]) -> Result<Self> {
        Self::fill("the PIN", |room| match room.get_mut(..bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                Ok(bytes.len())
            }
            None => Err(format!("it is longer than {MAX_PIN} bytes")),
        })
    }

    /// Has `fill` write at most 1,024 bytes, and say how many, so that they are nowhere else. `from` is where they come
    /// from, for the error.
    ///
    /// # Errors
    ///
    /// [`Error::PinSource`] with what `fill` said, or without memory.
    pub fn fill(
        from: &str,
        fill: impl FnOnce(&mut [u8]) -> std::result::Result<usize, String>,
    ) -> Result<Self> {
        let failed = |why: String| Error::PinSource { from: from.to_owned(), why };
        let mut page = Page::new().ok_or_else(|| failed("no memory to keep it in".into()))?;
        let room = page.bytes_mut().get_mut(..MAX_PIN).unwrap_or_default();
        let length = fill(room).map_err(failed)?.min(MAX_PIN);
        Ok(Secret(Arc::new(Kept { page, length })))
    }

    /// A copy that can be written, in memory of the same kind; `None` without memory.
    pub fn copy(&self) -> Option<Copy> {
        let mut page = Page::new()?;
        let length = self.bytes().len();
        page.bytes_mut().get_mut(..length)?.copy_from_slice(self.bytes());
        Some(Copy(Kept { page, length }))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.0.page.bytes().get(..self.0.length).unwrap_or_default()
    }
}

/// A copy of a PIN, for who may write into it.
pub struct Copy(Kept);

impl Copy {
    /// The bytes.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.page.bytes_mut().get_mut(..self.0.length).unwrap_or_default()
    }
}

/// Takes as long for any two PINs of one length.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        let (one, other) = (self.bytes(), other.bytes());
        // SAFETY: both have that many bytes.
        one.len() == other.len()
            && unsafe {
                openssl_sys::CRYPTO_memcmp(one.as_ptr().cast(), other.as_ptr().cast(), one.len()) == 0
            }
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Asks the application for a PIN: nginx's ssl_password_file, Apache's SSLPassPhraseDialog, a prompt.
pub type Prompt<'a> = &'a mut dyn FnMut() -> Option<Secret>;

/// The PIN that the URI gives, if it gives one: `pin-value`, or what `pin-source` names. A program is run again for one that
/// `is_refused`.
///
/// # Errors
///
/// [`Error::PinSource`] if it cannot be had or is no PIN.
pub fn from_uri(
    uri: &Uri,
    sources: &Sources,
    is_refused: impl Fn(&Secret) -> bool,
) -> Result<Option<Secret>> {
    match (&uri.pin_value, &uri.pin_source) {
        (Some(pin), _) => Secret::new(pin).map(Some),
        (None, Some(source)) => sources.fetch_for_uri(source, is_refused).map(Some),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_its_bytes_and_not_shown() {
        let secret = Secret::new(b"1234").unwrap();
        assert_eq!(secret.bytes(), b"1234");
        assert_eq!(format!("{secret:?}"), "(secret)");
        assert_eq!(secret, Secret::new(b"1234").unwrap());
        assert_ne!(secret, Secret::new(b"1235").unwrap());
        assert_ne!(secret, Secret::new(b"12345").unwrap());
        assert!(Secret::new(&[1; MAX_PIN]).is_ok() && Secret::new(&[1; MAX_PIN + 1]).is_err());
    }
}
