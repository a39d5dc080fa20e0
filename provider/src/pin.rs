//! PINs: where they come from and how they are kept.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::error::{Error, Result};
use strongroom_uri::Uri;

/// The longest PIN, in bytes.
const MAX_PIN: usize = 1024;

/// Bytes that are wiped when the last owner drops them and never printed.
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<Vec<u8>>>);

impl Secret {
    /// Takes the bytes; the caller's other copies are the caller's to wipe.
    pub fn new(bytes: Vec<u8>) -> Self {
        Secret(Arc::new(Zeroizing::new(bytes)))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Asks the application for a PIN: nginx's ssl_password_file, Apache's SSLPassPhraseDialog, a prompt.
pub type Prompt<'a> = &'a mut dyn FnMut() -> Option<Secret>;

/// The PIN that the URI gives, if it gives one: `pin-value`, or the first line of the file in `pin-source`.
///
/// # Errors
///
/// [`Error::PinSource`] if the file cannot be read or is no PIN.
pub fn from_uri(uri: &Uri) -> Result<Option<Secret>> {
    if let Some(pin) = &uri.pin_value {
        return Ok(Some(Secret::new(pin.to_vec())));
    }
    uri.pin_source.as_deref().map(from_source).transpose()
}

/// The first line of a file, named by a path or a file: URI.
///
/// # Errors
///
/// [`Error::PinSource`] if the file cannot be read or its first line is longer than 1,024 bytes.
pub fn from_source(source: &str) -> Result<Secret> {
    let path = source.strip_prefix("file:").unwrap_or(source);
    let path = path.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(path);
    if !path.starts_with('/') {
        // It may be the PIN itself: it is not repeated.
        return Err(Error::PinSource {
            from: "(a relative path)".into(),
            why: "give an absolute path".into(),
        });
    }
    let failed = |why: String| Error::PinSource { from: path.to_owned(), why };
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_PIN + 1));
    File::open(path)
        .and_then(|file| file.take(MAX_PIN as u64 + 1).read_to_end(&mut text))
        .map_err(|error| failed(error.to_string()))?;
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() || line.len() > MAX_PIN {
        return Err(failed(format!("its first line is empty or longer than {MAX_PIN} bytes")));
    }
    Ok(Secret::new(line.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_the_first_line_of_a_file() {
        let path = std::env::temp_dir().join(format!("strongroom-pin-{}", std::process::id()));
        std::fs::write(&path, "user:secret\r\nmore").unwrap();
        for source in [
            path.display().to_string(),
            format!("file:{}", path.display()),
            format!("file://{}", path.display()),
        ] {
            assert_eq!(from_source(&source).unwrap().bytes(), b"user:secret");
        }
        std::fs::write(&path, "").unwrap();
        assert!(from_source(&path.display().to_string()).is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(from_source(&path.display().to_string()).is_err());
        assert_eq!(format!("{:?}", Secret::new(vec![1])), "(secret)");
    }
}
