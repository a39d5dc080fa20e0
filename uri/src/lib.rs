//! pkcs11: URIs (RFC 7512), the names of keys for every program outside, and the PEM files that carry them.
#![forbid(unsafe_code)]

pub mod reference;

use std::fmt;

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

/// Why a text is not a URI that is understood. It says nothing of a PIN in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a pkcs11: URI: {0}")]
pub struct UriError(String);

type Result<T> = std::result::Result<T, UriError>;

/// The scheme, with its colon.
pub const SCHEME: &str = "pkcs11:";

/// The longest URI that is read, in bytes.
const MAX_URI: usize = 4096;

/// What a URI's `type` attribute asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectType {
    /// `type=private`
    Private,
    /// `type=public`
    Public,
    /// `type=cert`
    Certificate,
    /// `type=secret-key`
    SecretKey,
    /// `type=data`
    Data,
}

/// A parsed URI. An attribute that is `None` fits everything.
#[derive(Clone, Default)]
pub struct Uri {
    /// The token's label, `token`.
    pub token: Option<String>,
    /// The token's `manufacturer`.
    pub manufacturer: Option<String>,
    /// The token's `serial` number.
    pub serial: Option<String>,
    /// The token's `model`.
    pub model: Option<String>,
    /// The `slot-id`.
    pub slot_id: Option<u64>,
    /// The `slot-description`.
    pub slot_description: Option<String>,
    /// The `slot-manufacturer`.
    pub slot_manufacturer: Option<String>,
    /// The `library-manufacturer`.
    pub library_manufacturer: Option<String>,
    /// The `library-description`.
    pub library_description: Option<String>,
    /// The `library-version`, major and minor.
    pub library_version: Option<(u8, u8)>,
    /// The object's label (CKA_LABEL), `object`.
    pub object: Option<String>,
    /// The object's `id` (CKA_ID).
    pub id: Option<Vec<u8>>,
    /// The object's class, `type`.
    pub kind: Option<ObjectType>,
    /// `pin-value`
    pub pin_value: Option<Zeroizing<Vec<u8>>>,
    /// `pin-source`: a path or file: URI.
    pub pin_source: Option<String>,
}

impl Uri {
    /// The URI of a private key in the token (partition) `token`, by its label (CKA_LABEL) and CKA_ID. An empty one
    /// is left out.
    pub fn of_private_key(token: &str, label: &str, id: &[u8]) -> Self {
        Uri {
            token: Some(token.to_owned()),
            object: Some(label.to_owned()).filter(|label| !label.is_empty()),
            id: Some(id.to_vec()).filter(|id| !id.is_empty()),
            kind: Some(ObjectType::Private),
            ..Default::default()
        }
    }

    /// Reads a URI.
    ///
    /// # Errors
    ///
    /// [`UriError`] if it is not a pkcs11: URI, is longer than 4,096 bytes, or has an unknown, repeated or
    /// malformed attribute. A URI that says more than we understand must not match by what is left of it.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |what: String| UriError(what);
        if text.len() > MAX_URI {
            return Err(bad(format!("it is longer than {MAX_URI} bytes")));
        }
        let Some((scheme, rest)) = text.split_at_checked(SCHEME.len()) else {
            return Err(bad("it does not begin with pkcs11:".into()));
        };
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(bad("it does not begin with pkcs11:".into()));
        }
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut uri = Uri::default();
        for attribute in path.split(';').filter(|attribute| !attribute.is_empty()) {
            let (name, value) = split(attribute)?;
            uri.path_attribute(name, value)?;
        }
        for attribute in query.split('&').filter(|attribute| !attribute.is_empty()) {
            let (name, value) = split(attribute)?;
            match name {
                "pin-value" => set(&mut uri.pin_value, name, Zeroizing::new(decode_bytes(name, value)?))?,
                "pin-source" => set(&mut uri.pin_source, name, decode(name, value)?)?,
                // Which module is used is openssl.cnf's to say: a URI must not load code.
                "module-name" | "module-path" => {}
                _ if name.starts_with("x-") => {}
                // Its name may be part of a PIN with an unescaped "&".
                _ => return Err(bad("unknown query attribute (an & in a PIN is written %26)".into())),
            }
        }
        Ok(uri)
    }

    fn path_attribute(&mut self, name: &str, value: &str) -> Result<()> {
        let bad = || UriError(format!("\"{name}\" has no valid value"));
        match name {
            "token" => set(&mut self.token, name, decode(name, value)?),
            "manufacturer" => set(&mut self.manufacturer, name, decode(name, value)?),
            "serial" => set(&mut self.serial, name, decode(name, value)?),
            "model" => set(&mut self.model, name, decode(name, value)?),
            "slot-id" => set(&mut self.slot_id, name, value.parse().map_err(|_| bad())?),
            "slot-description" => set(&mut self.slot_description, name, decode(name, value)?),
            "slot-manufacturer" => set(&mut self.slot_manufacturer, name, decode(name, value)?),
            "library-manufacturer" => set(&mut self.library_manufacturer, name, decode(name, value)?),
            "library-description" => set(&mut self.library_description, name, decode(name, value)?),
            "library-version" => {
                let (major, minor) = value.split_once('.').unwrap_or((value, "0"));
                let version = (major.parse().map_err(|_| bad())?, minor.parse().map_err(|_| bad())?);
                set(&mut self.library_version, name, version)
            }
            "object" => set(&mut self.object, name, decode(name, value)?),
            "id" => set(&mut self.id, name, decode_bytes(name, value)?),
            "type" => {
                let kind = match value {
                    "private" => ObjectType::Private,
                    "public" => ObjectType::Public,
                    "cert" => ObjectType::Certificate,
                    "secret-key" => ObjectType::SecretKey,
                    "data" => ObjectType::Data,
                    _ => return Err(bad()),
                };
                set(&mut self.kind, name, kind)
            }
            _ if name.starts_with("x-") => Ok(()),
            _ => Err(UriError(format!("unknown attribute \"{name}\""))),
        }
    }
}

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
            ("object", &self.object),
        ] {
            if let Some(value) = value {
                attribute(name, &Encoded(value.as_bytes()))?;
            }
        }
        if let Some(slot) = self.slot_id {
            attribute("slot-id", &slot)?;
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

fn split(attribute: &str) -> Result<(&str, &str)> {
    // The attribute may be a PIN: its text stays out of the message.
    attribute.split_once('=').ok_or_else(|| UriError("an attribute without \"=\"".into()))
}

fn set<T>(slot: &mut Option<T>, name: &str, value: T) -> Result<()> {
    if slot.is_some() {
        return Err(UriError(format!("\"{name}\" is there twice")));
    }
    *slot = Some(value);
    Ok(())
}

fn decode(name: &str, value: &str) -> Result<String> {
    String::from_utf8(decode_bytes(name, value)?).map_err(|_| UriError(format!("\"{name}\" is not UTF-8")))
}

fn decode_bytes(name: &str, value: &str) -> Result<Vec<u8>> {
    // percent_decode_str passes a bad escape through as it is; RFC 3986 has no such thing.
    let mut rest = value.as_bytes();
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        match rest.get(at + 1..at + 3) {
            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => {}
            _ => return Err(UriError(format!("\"{name}\" has a % without two hexadecimal digits"))),
        }
        rest = rest.get(at + 3..).unwrap_or_default();
    }
    Ok(percent_decode_str(value).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_7512() {
        let uri = Uri::parse(
            "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;model=1.0;\
             object=my-certificate;type=cert;id=%69%95%3E%5C%F4%BD%EC%91;serial=?pin-source=file:/etc/token_pin",
        )
        .unwrap();
        assert_eq!(uri.token.as_deref(), Some("The Software PKCS#11 Softtoken"));
        assert_eq!(uri.manufacturer.as_deref(), Some("Snake Oil, Inc."));
        assert_eq!(uri.kind, Some(ObjectType::Certificate));
        assert_eq!(uri.id.as_deref(), Some(&[0x69, 0x95, 0x3e, 0x5c, 0xf4, 0xbd, 0xec, 0x91][..]));
        assert_eq!(uri.serial.as_deref(), Some(""));
        assert_eq!(uri.pin_source.as_deref(), Some("file:/etc/token_pin"));
        assert!(Uri::parse("pkcs11:").is_ok());
        assert_eq!(Uri::parse("pkcs11:library-version=3").unwrap().library_version, Some((3, 0)));
    }

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

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "file:/etc/passwd",
            "pkcs1",
            "pkcs11:token",
            "pkcs11:token=a;token=b",
            "pkcs11:colour=red",
            "pkcs11:object=%4",
            "pkcs11:object=%zz",
            "pkcs11:object=%ff",
            "pkcs11:type=key",
            "pkcs11:slot-id=-1",
            "pkcs11:object=a?pin=1",
        ] {
            assert!(Uri::parse(text).is_err(), "{text}");
        }
        assert!(Uri::parse(&format!("pkcs11:object={}", "a".repeat(5000))).is_err());
    }
}
