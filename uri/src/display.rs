//! A [`Uri`] as text.

use std::fmt;

use crate::{ObjectType, SCHEME, Uri};

/// The URI as people should see it: the path that names the object, never the query that may hold a PIN.
impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        f.write_str(SCHEME)?;
        let mut attribute = |name: &str, value: &dyn fmt::Display| {
            write!(f, "{separator}{name}={value}")?;
            separator = ";";
            Ok(())
        };
        for (name, value) in [
            ("token", &self.token),
            ("manufacturer", &self.manufacturer),
            ("serial", &self.serial),
            ("model", &self.model),
            ("slot-description", &self.slot_description),
            ("slot-manufacturer", &self.slot_manufacturer),
            ("library-manufacturer", &self.library_manufacturer),
            ("library-description", &self.library_description),
            ("object", &self.object),
        ] {
            if let Some(value) = value {
                attribute(name, &Encoded(value.as_bytes()))?;
            }
        }
        if let Some(slot) = self.slot_id {
            attribute("slot-id", &slot)?;
        }
        if let Some((major, minor)) = self.library_version {
            attribute("library-version", &format_args!("{major}.{minor}"))?;
        }
        if let Some(id) = &self.id {
            attribute("id", &FullyEncoded(id))?;
        }
        if let Some(kind) = self.kind {
            let name = match kind {
                ObjectType::Private => "private",
                ObjectType::Public => "public",
                ObjectType::Certificate => "cert",
                ObjectType::SecretKey => "secret-key",
                ObjectType::Data => "data",
            };
            attribute("type", &name)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Bytes, percent-encoded but for RFC 3986's unreserved characters. RFC 7512 would let a few more stand, but these
/// also pass through shells and configuration files unharmed.
struct Encoded<'a>(&'a [u8]);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
                write!(f, "{}", char::from(*byte))?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

/// Bytes, all percent-encoded, as RFC 7512, 2.3, recommends for an id.
struct FullyEncoded<'a>(&'a [u8]);

impl fmt::Display for FullyEncoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "%{byte:02X}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for (token, label, id, text) in [
            (
                "The Software PKCS#11 Softtoken",
                "my-sign-key",
                &b""[..],
                "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;object=my-sign-key;type=private",
            ),
            (
                "Software PKCS#11 softtoken",
                "",
                &[0x69, 0x95, 0x3e, 0x5c],
                "pkcs11:token=Software%20PKCS%2311%20softtoken;id=%69%95%3E%5C;type=private",
            ),
            (
                "Name with a small A with acute: \u{e1}",
                "Dupin's %;",
                b"",
                "pkcs11:token=Name%20with%20a%20small%20A%20with%20acute%3A%20%C3%A1;object=Dupin%27s%20%25%3B;type=private",
            ),
        ] {
            let uri = Uri::of_private_key(token, label, id);
            assert_eq!(uri.to_string(), text);
            let again = Uri::parse(text).unwrap();
            assert_eq!((again.token, again.object.unwrap_or_default()), (Some(token.into()), label.into()));
            assert_eq!((again.id.unwrap_or_default(), again.kind), (id.to_vec(), Some(ObjectType::Private)));
        }
    }

    /// Nothing that ends an attribute, a path or a quoted word may pass unescaped.
    #[test]
    fn reserved_characters_are_escaped() {
        let uri = Uri::of_private_key("a;b?c/d&e\"f'g$h`i\\j k", "l=m%n", b"").to_string();
        let rest = uri.strip_prefix("pkcs11:token=").unwrap();
        assert_eq!(rest.matches(';').count(), 2, "{uri}");
        assert!(!rest.contains(['?', '/', '&', '"', '\'', '$', '`', '\\', ' ']), "{uri}");
    }

    #[test]
    fn a_pin_is_never_shown() {
        let uri = Uri::parse("pkcs11:token=t;object=a%3Bb?pin-value=hunter22").unwrap();
        assert_eq!(uri.to_string(), "pkcs11:token=t;object=a%3Bb");
        assert_eq!(format!("{uri:?}"), "pkcs11:token=t;object=a%3Bb");
        let Err(error) = Uri::parse("pkcs11:token=t?hunter22") else { panic!("parsed") };
        assert!(!error.to_string().contains("hunter22"));
    }
}
