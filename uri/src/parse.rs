//! From text to a [`Uri`].

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use crate::{ObjectType, SCHEME, Uri, UriError};

type Result<T> = std::result::Result<T, UriError>;

/// The longest URI that is read, in bytes.
const MAX_URI: usize = 4096;

/// [`Uri::parse`].
pub fn parse(text: &str) -> Result<Uri> {
    if text.len() > MAX_URI {
        return Err(UriError(format!("it is longer than {MAX_URI} bytes")));
    }
    // Of all that is in a URI only the scheme's case does not matter (RFC 3986, section 6.2.2.1).
    let rest = match text.split_at_checked(SCHEME.len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => rest,
        _ => return Err(UriError("it does not begin with pkcs11:".into())),
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut uri = Uri::default();
    for attribute in path.split(';').filter(|attribute| !attribute.is_empty()) {
        let (name, value) = split(attribute)?;
        if !uri.path_attribute(name, value)? && !uri.query_attribute(name, value)? {
            return Err(UriError(match uri.pin_value {
                // Its name may be part of the PIN.
                Some(_) => "unknown attribute beside pin-value (a ; in a PIN is written %3B)".into(),
                None => format!("unknown attribute \"{name}\""),
            }));
        }
    }
    let mut is_unknown = false;
    for attribute in query.split('&').filter(|attribute| !attribute.is_empty()) {
        let (name, value) = split(attribute)?;
        // A vendor's attribute is a deliberate one.
        is_unknown |= !uri.query_attribute(name, value)? && !name.starts_with("x-");
    }
    if is_unknown && uri.pin_value.is_some() {
        return Err(UriError(
            "unknown query attribute beside pin-value (an & in a PIN is written %26)".into(),
        ));
    }
    Ok(uri)
}

impl Uri {
    /// Takes an attribute of the path; false if it is none.
    fn path_attribute(&mut self, name: &str, value: &str) -> Result<bool> {
        let bad = || UriError(format!("\"{name}\" has no valid value"));
        match name {
            "token" => set(&mut self.token, name, decode(name, value)?)?,
            "manufacturer" => set(&mut self.manufacturer, name, decode(name, value)?)?,
            "serial" => set(&mut self.serial, name, decode(name, value)?)?,
            "model" => set(&mut self.model, name, decode(name, value)?)?,
            "slot-id" => set(&mut self.slot_id, name, number(value).ok_or_else(bad)?)?,
            "slot-description" => set(&mut self.slot_description, name, decode(name, value)?)?,
            "slot-manufacturer" => set(&mut self.slot_manufacturer, name, decode(name, value)?)?,
            "library-manufacturer" => set(&mut self.library_manufacturer, name, decode(name, value)?)?,
            "library-description" => set(&mut self.library_description, name, decode(name, value)?)?,
            "library-version" => {
                let (major, minor) = value.split_once('.').unwrap_or((value, "0"));
                let version = number(major).zip(number(minor)).ok_or_else(bad)?;
                set(&mut self.library_version, name, version)?;
            }
            "object" => set(&mut self.object, name, decode(name, value)?)?,
            "id" => set(&mut self.id, name, decode_bytes(name, value)?)?,
            "type" | "object-type" => {
                let kind = match value {
                    "private" => ObjectType::Private,
                    "public" => ObjectType::Public,
                    "cert" => ObjectType::Certificate,
                    "secret-key" => ObjectType::SecretKey,
                    "data" => ObjectType::Data,
                    _ => return Err(bad()),
                };
                set(&mut self.kind, name, kind)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Takes an attribute of the query; false if it is none.
    fn query_attribute(&mut self, name: &str, value: &str) -> Result<bool> {
        match name {
            "pin-value" => set(&mut self.pin_value, name, Zeroizing::new(decode_bytes(name, value)?))?,
            "pin-source" => set(&mut self.pin_source, name, decode(name, value)?)?,
            "module-name" => set(&mut self.module_name, name, decode(name, value)?)?,
            "module-path" => set(&mut self.module_path, name, decode(name, value)?)?,
            _ => return Ok(false),
        }
        Ok(true)
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

/// A number of digits only: `parse` alone would take a sign.
fn number<T: std::str::FromStr>(value: &str) -> Option<T> {
    value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok())?
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

        let uri = Uri::parse(
            "pkcs11:object=my-sign-key;type=private;slot-id=327;slot-description=a;slot-manufacturer=b;\
             library-manufacturer=c;library-description=d;library-version=1.42\
             ?module-path=/mnt/libmypkcs11.so.1&module-name=mypkcs11",
        )
        .unwrap();
        assert_eq!((uri.slot_id, uri.library_version), (Some(327), Some((1, 42))));
        assert_eq!(
            (uri.slot_description.as_deref(), uri.slot_manufacturer.as_deref()),
            (Some("a"), Some("b"))
        );
        assert_eq!(uri.library_manufacturer.as_deref(), Some("c"));
        assert_eq!(uri.library_description.as_deref(), Some("d"));
        assert_eq!(uri.module_path.as_deref(), Some("/mnt/libmypkcs11.so.1"));
        assert_eq!(uri.module_name.as_deref(), Some("mypkcs11"));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "file:/etc/passwd",
            "pkcs1",
            "pkcs11:token",
            "pkcs11:token=a;token=b",
            "pkcs11:type=cert;object-type=cert",
            "pkcs11:colour=red",
            "pkcs11:x-colour=red",
            "pkcs11:Token=a",
            "pkcs11:object=%4",
            "pkcs11:object=%zz",
            "pkcs11:object=%ff",
            "pkcs11:type=key",
            "pkcs11:type=Private",
            "pkcs11:slot-id=-1",
            "pkcs11:slot-id=+1",
            "pkcs11:slot-id=",
            "pkcs11:library-version=256",
            "pkcs11:library-version=1.",
            "pkcs11:object=a;pin-value=1;2=3",
            "pkcs11:object=a?pin-value=1&2",
            "pkcs11:object=a?pin-value=1&2=3",
            "pkcs11:object=a?pin-value=1&pin-value=2",
        ] {
            assert!(Uri::parse(text).is_err(), "{text}");
        }
        assert!(Uri::parse(&format!("pkcs11:object={}", "a".repeat(5000))).is_err());
    }

    #[test]
    fn unknown_query_attributes_are_ignored_but_beside_a_pin() {
        assert!(Uri::parse("pkcs11:object=a?colour=red&x-a=1&x-a=2").is_ok());
        assert!(Uri::parse("pkcs11:object=a?pin-value=1&x-a=1").is_ok());
        assert!(Uri::parse("pkcs11:object=a?x=1&pin-value=1").is_err());
    }

    /// As libp11's and pkcs11-provider's documents write them.
    #[test]
    fn what_peers_write_is_read() {
        let uri = Uri::parse("PKCS11:object=test-key;object-type=private;pin-value=12%3B34").unwrap();
        assert_eq!(uri.kind, Some(ObjectType::Private));
        assert_eq!(uri.pin_value.unwrap().as_slice(), b"12;34");
        let uri = Uri::parse("pkcs11:token=My Token;object=Schlüssel;pin-source=file:/etc/pin").unwrap();
        assert_eq!(uri.token.as_deref(), Some("My Token"));
        assert_eq!(uri.object.as_deref(), Some("Schl\u{fc}ssel"));
        assert_eq!(uri.pin_source.as_deref(), Some("file:/etc/pin"));
    }
}
