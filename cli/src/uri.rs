//! `pkcs11:` URIs (RFC 7512): the name of a key for every program outside.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// All but RFC 3986's unreserved characters. RFC 7512 would let a few more stand, but this set also
/// passes through shells and configuration files unharmed.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Names the private key `label` with CKA_ID `id` in the token (partition) `token`. An empty label or id is
/// left out.
pub fn private_key(token: &str, label: &str, id: &[u8]) -> String {
    let mut uri = format!("pkcs11:token={}", percent_encode(token.as_bytes(), ESCAPED));
    if !label.is_empty() {
        uri.push_str(&format!(";object={}", percent_encode(label.as_bytes(), ESCAPED)));
    }
    if !id.is_empty() {
        uri.push_str(";id=");
        // RFC 7512, 2.3: the whole id should be percent-encoded, printable bytes too.
        for byte in id {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri.push_str(";type=private");
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The encodings of RFC 7512, section 3: "Software PKCS#11 softtoken", "my-certificate"-like labels,
    /// `id=%69%95%3E%5C%F4%BD%EC%91`, and the label of an apple pie.
    #[test]
    fn vectors_of_rfc_7512() {
        assert_eq!(
            private_key("The Software PKCS#11 Softtoken", "my-sign-key", b""),
            "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;object=my-sign-key;type=private"
        );
        assert_eq!(
            private_key("Software PKCS#11 softtoken", "", &[0x69, 0x95, 0x3e, 0x5c, 0xf4, 0xbd, 0xec, 0x91]),
            "pkcs11:token=Software%20PKCS%2311%20softtoken;id=%69%95%3E%5C%F4%BD%EC%91;type=private"
        );
        assert_eq!(
            private_key("A name with a substring %;", "Dupin's Moral", b""),
            "pkcs11:token=A%20name%20with%20a%20substring%20%25%3B;object=Dupin%27s%20Moral;type=private"
        );
        assert_eq!(
            private_key("Name with a small A with acute: \u{e1}", "x", b""),
            "pkcs11:token=Name%20with%20a%20small%20A%20with%20acute%3A%20%C3%A1;object=x;type=private"
        );
    }

    /// Nothing that ends an attribute, a path or a quoted word may pass unescaped.
    #[test]
    fn reserved_characters_are_escaped() {
        let uri = private_key("a;b?c/d&e\"f'g$h`i\\j k", "l=m%n", b"");
        let rest = uri.strip_prefix("pkcs11:token=").unwrap();
        assert_eq!(rest.matches(';').count(), 2, "{uri}");
        assert!(!rest.contains(['?', '/', '&', '"', '\'', '$', '`', '\\', ' ']), "{uri}");
    }
}
