//! The PEM reference file: a key's URI in a form that a program loads where it expects a key.
//!
//! The format is pkcs11-provider's, so that either provider reads the other's files: the PEM label
//! [`LABEL`] around DER `SEQUENCE { VisibleString "PKCS#11 Provider URI v1.0", UTF8String uri }`.
//! The file holds no secret.

use der::asn1::AnyRef;
use der::{Encode, Tag};
use pem_rfc7468::LineEnding;

use crate::failure::{Exit, Failure};

/// The PEM label of a reference file.
pub const LABEL: &str = "PKCS#11 PROVIDER URI";

/// The text by which a reader knows the DER inside.
const VERSION: &str = "PKCS#11 Provider URI v1.0";

/// Makes the reference file for a key's URI.
///
/// # Errors
///
/// If the URI is too long for DER's lengths, which no label and id of the protocol can make it.
pub fn pem(uri: &str) -> Result<String, Failure> {
    let unfit =
        |what: String| Failure::new(Exit::Failed, "reference", format!("no reference for {uri}: {what}"));
    let der = der(uri).map_err(|e| unfit(e.to_string()))?;
    pem_rfc7468::encode_string(LABEL, LineEnding::LF, &der).map_err(|e| unfit(e.to_string()))
}

fn der(uri: &str) -> der::Result<Vec<u8>> {
    let mut fields = AnyRef::new(Tag::VisibleString, VERSION.as_bytes())?.to_der()?;
    AnyRef::new(Tag::Utf8String, uri.as_bytes())?.encode_to_vec(&mut fields)?;
    AnyRef::new(Tag::Sequence, &fields)?.to_der()
}

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &str = "pkcs11:token=tls;object=web;id=%01%02;type=private";

    /// The bytes of the file, so that an accidental change of the format shows. Checked with
    /// `openssl asn1parse` in tests/keys.rs.
    #[test]
    fn golden_reference() {
        let mut expected = vec![0x30, 0x4f, 0x1a, 0x19];
        expected.extend_from_slice(b"PKCS#11 Provider URI v1.0");
        expected.extend_from_slice(&[0x0c, 0x32]);
        expected.extend_from_slice(URI.as_bytes());
        assert_eq!(der(URI).unwrap(), expected);
        assert_eq!(
            pem(URI).unwrap(),
            "-----BEGIN PKCS#11 PROVIDER URI-----\n\
             ME8aGVBLQ1MjMTEgUHJvdmlkZXIgVVJJIHYxLjAMMnBrY3MxMTp0b2tlbj10bHM7\n\
             b2JqZWN0PXdlYjtpZD0lMDElMDI7dHlwZT1wcml2YXRl\n\
             -----END PKCS#11 PROVIDER URI-----\n"
        );
    }

    /// Lengths above 127 bytes take DER's long form.
    #[test]
    fn long_uris_are_der_too() {
        let uri = format!("pkcs11:object={}", "x".repeat(300));
        let der = der(&uri).unwrap();
        assert_eq!(der[..4], [0x30, 0x82, 0x01, 0x59]);
        assert_eq!(der.len(), 4 + 0x159);
    }
}
