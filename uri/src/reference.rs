//! PEM reference files: a URI in place of a key, for programs that only read PEM. They hold no secret.
//!
//! The format is the one that pkcs11-provider established: label `PKCS#11 PROVIDER URI`, and in it the DER of
//! `SEQUENCE { VisibleString "PKCS#11 Provider URI v1.0", UTF8String uri }`.

use der::asn1::{AnyRef, Utf8StringRef};
use der::{Decode, Encode, Sequence, Tag, Tagged};
use pem_rfc7468::LineEnding;

/// The label of the PEM block.
pub const LABEL: &str = "PKCS#11 PROVIDER URI";

/// What the first string in the structure says.
const DESCRIPTION: &[u8] = b"PKCS#11 Provider URI v1.0";

/// The largest reference, in bytes of DER.
pub const MAX_DER: usize = 8192;

/// Why something is not a reference, or cannot become one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReferenceError(String);

#[derive(Sequence)]
struct Content<'a> {
    // A VisibleString, which the der crate does not know.
    description: AnyRef<'a>,
    uri: Utf8StringRef<'a>,
}

/// Reads the URI from a reference's PEM, with or without text around it.
///
/// # Errors
///
/// [`ReferenceError`] if it is anything else.
pub fn der_from_pem(pem: &[u8]) -> Result<Vec<u8>, ReferenceError> {
    let (label, der) = pem_rfc7468::decode_vec(pem).map_err(|error| ReferenceError(error.to_string()))?;
    if label != LABEL {
        return Err(ReferenceError("it is a PEM block of another kind".into()));
    }
    Ok(der)
}

/// Reads the URI from a reference's DER.
///
/// # Errors
///
/// [`ReferenceError`] if it is anything else, or longer than [`MAX_DER`].
pub fn uri_from_der(der: &[u8]) -> Result<String, ReferenceError> {
    if der.len() > MAX_DER {
        return Err(ReferenceError(format!("it is longer than {MAX_DER} bytes")));
    }
    let content = Content::from_der(der).map_err(|error| ReferenceError(error.to_string()))?;
    if content.description.tag() != Tag::VisibleString || content.description.value() != DESCRIPTION {
        return Err(ReferenceError("it is of another kind or version".into()));
    }
    Ok(content.uri.as_str().to_owned())
}

/// Makes the reference file for a URI.
///
/// # Errors
///
/// [`ReferenceError`] if the result would be longer than [`MAX_DER`].
pub fn pem_from_uri(uri: &str) -> Result<String, ReferenceError> {
    let der = der_from_uri(uri)?;
    pem_rfc7468::encode_string(LABEL, LineEnding::LF, &der).map_err(|error| ReferenceError(error.to_string()))
}

/// Makes a reference's DER for a URI.
///
/// # Errors
///
/// As [`pem_from_uri`].
pub fn der_from_uri(uri: &str) -> Result<Vec<u8>, ReferenceError> {
    let failed = |error: der::Error| ReferenceError(error.to_string());
    let content = Content {
        description: AnyRef::new(Tag::VisibleString, DESCRIPTION).map_err(failed)?,
        uri: Utf8StringRef::new(uri).map_err(failed)?,
    };
    let der = content.to_der().map_err(failed)?;
    if der.len() > MAX_DER {
        return Err(ReferenceError(format!("it is longer than {MAX_DER} bytes")));
    }
    Ok(der)
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

    /// The bytes of the file, so that an accidental change of the format shows.
    #[test]
    fn golden_file() {
        let uri = "pkcs11:token=tls;object=web;id=%01%02;type=private";
        let pem = pem_from_uri(uri).unwrap();
        assert_eq!(
            pem,
            "-----BEGIN PKCS#11 PROVIDER URI-----\n\
             ME8aGVBLQ1MjMTEgUHJvdmlkZXIgVVJJIHYxLjAMMnBrY3MxMTp0b2tlbj10bHM7\n\
             b2JqZWN0PXdlYjtpZD0lMDElMDI7dHlwZT1wcml2YXRl\n\
             -----END PKCS#11 PROVIDER URI-----\n"
        );
        assert_eq!(uri_from_der(&der_from_pem(pem.as_bytes()).unwrap()).unwrap(), uri);
        assert!(der_from_pem(pem.replace("PROVIDER", "OTHER").as_bytes()).is_err());
    }

    /// Lengths above 127 bytes take DER's long form; there is an end to it.
    #[test]
    fn long_uris() {
        let uri = format!("pkcs11:object={}", "x".repeat(300));
        let pem = pem_from_uri(&uri).unwrap();
        assert_eq!(uri_from_der(&der_from_pem(pem.as_bytes()).unwrap()).unwrap(), uri);
        assert!(pem_from_uri(&"x".repeat(MAX_DER)).is_err());
    }
}
