//! PEM reference files: a URI in place of a key, for programs that only read PEM.
//!
//! The format is the one that pkcs11-provider established: label `PKCS#11 PROVIDER URI`, and in it the DER of
//! `SEQUENCE { VisibleString "PKCS#11 Provider URI v1.0", UTF8String uri }`.

use der::asn1::{Any, Utf8StringRef};
use der::{Decode, Sequence, Tag, Tagged};

use crate::error::{Error, Result};

/// The label of the PEM block.
pub const LABEL: &str = "PKCS#11 PROVIDER URI";

/// What the first string in the structure says.
const DESCRIPTION: &[u8] = b"PKCS#11 Provider URI v1.0";

/// The largest reference, in bytes of DER.
pub const MAX_DER: usize = 8192;

#[derive(Sequence)]
struct Content<'a> {
    // A VisibleString, which the der crate does not know.
    description: Any,
    uri: Utf8StringRef<'a>,
}

/// Reads the URI from a reference's DER.
///
/// # Errors
///
/// [`Error::Reference`] if it is anything else.
pub fn uri_from_der(der: &[u8]) -> Result<String> {
    let bad = |why: String| Error::Reference(why);
    let content = Content::from_der(der).map_err(|error| bad(error.to_string()))?;
    if content.description.tag() != Tag::VisibleString || content.description.value() != DESCRIPTION {
        return Err(bad("it is of another kind or version".into()));
    }
    Ok(content.uri.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden() -> Vec<u8> {
        let mut der = vec![0x30, 0x25, 0x1a, 0x19];
        der.extend_from_slice(b"PKCS#11 Provider URI v1.0");
        der.extend_from_slice(&[0x0c, 0x08]);
        der.extend_from_slice(b"pkcs11:a");
        der
    }

    #[test]
    fn reads_the_format_of_pkcs11_provider() {
        assert_eq!(uri_from_der(&golden()).unwrap(), "pkcs11:a");
    }

    #[test]
    fn every_cut_and_every_changed_byte_of_the_frame_is_refused() {
        let der = golden();
        for end in 0..der.len() {
            assert!(uri_from_der(&der[..end]).is_err(), "cut at {end}");
        }
        for at in 0..31 {
            let mut der = der.clone();
            der[at] ^= 0x55;
            assert!(uri_from_der(&der).is_err(), "byte {at}");
        }
    }
}
