//! Templates of other keys as people write them: `extractable=no,type=aes`. Of the attributes that a partition knows in
//! CKA_WRAP_TEMPLATE, CKA_UNWRAP_TEMPLATE and CKA_DERIVE_TEMPLATE (see `KeyTemplates`).

use crate::v1::Attribute;

/// What an attribute's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `yes` or `no`.
    Boolean,
    /// A number of bytes.
    Length,
    /// One of these, by name.
    Named(&'static [(&'static str, u64)]),
    Text,
    /// Hexadecimal.
    Bytes,
}

const CLASSES: &[(&str, u64)] = &[("public", 2), ("private", 3), ("secret", 4)];

/// By the values of CKK_….
const TYPES: &[(&str, u64)] = &[
    ("rsa", 0x00),
    ("ec", 0x03),
    ("generic-secret", 0x10),
    ("3des", 0x15),
    ("aes", 0x1f),
    ("edwards", 0x40),
    ("montgomery", 0x41),
    ("ml-kem", 0x49),
    ("ml-dsa", 0x4a),
];

/// By the numbers of CKA_….
const ATTRIBUTES: &[(u64, &str, Kind)] = &[
    (0x000, "class", Kind::Named(CLASSES)),
    (0x100, "type", Kind::Named(TYPES)),
    (0x003, "label", Kind::Text),
    (0x102, "id", Kind::Bytes),
    (0x161, "length", Kind::Length),
    (0x001, "token", Kind::Boolean),
    (0x002, "private", Kind::Boolean),
    (0x103, "sensitive", Kind::Boolean),
    (0x162, "extractable", Kind::Boolean),
    (0x210, "wrap-with-trusted", Kind::Boolean),
    (0x202, "always-authenticate", Kind::Boolean),
    (0x104, "encrypt", Kind::Boolean),
    (0x105, "decrypt", Kind::Boolean),
    (0x106, "wrap", Kind::Boolean),
    (0x107, "unwrap", Kind::Boolean),
    (0x108, "sign", Kind::Boolean),
    (0x109, "sign-recover", Kind::Boolean),
    (0x10a, "verify", Kind::Boolean),
    (0x10b, "verify-recover", Kind::Boolean),
    (0x10c, "derive", Kind::Boolean),
    (0x633, "encapsulate", Kind::Boolean),
    (0x634, "decapsulate", Kind::Boolean),
    (0x170, "modifiable", Kind::Boolean),
    (0x171, "copyable", Kind::Boolean),
    (0x172, "destroyable", Kind::Boolean),
    (0x086, "trusted", Kind::Boolean),
    (0x163, "local", Kind::Boolean),
    (0x164, "never-extractable", Kind::Boolean),
    (0x165, "always-sensitive", Kind::Boolean),
];

/// The numbers of the attributes that have a name here.
pub fn numbers() -> impl Iterator<Item = u64> {
    ATTRIBUTES.iter().map(|(number, ..)| *number)
}

/// Reads `NAME=VALUE`.
///
/// # Errors
///
/// What is wrong, and what can stand there, for people.
pub fn parse(text: &str) -> Result<Attribute, String> {
    let names = || ATTRIBUTES.iter().map(|(_, name, _)| *name).collect::<Vec<_>>().join(", ");
    let Some((name, value)) = text.split_once('=') else {
        return Err(format!("{text:?} is not ATTRIBUTE=VALUE, as in extractable=no"));
    };
    let Some((number, _, kind)) = ATTRIBUTES.iter().find(|(_, known, _)| *known == name) else {
        return Err(format!("a template of other keys has no attribute {name:?}; it can have {}", names()));
    };
    let wrong = |what: &str| format!("{name}={value}: {what}");
    let value = match kind {
        Kind::Boolean => match value {
            "yes" | "true" => vec![1],
            "no" | "false" => vec![0],
            _ => return Err(wrong("it is yes or no")),
        },
        Kind::Length => {
            value.parse::<u64>().map_err(|_| wrong("it is a number of bytes"))?.to_le_bytes().to_vec()
        }
        Kind::Named(all) => {
            let Some((_, number)) = all.iter().find(|(known, _)| *known == value) else {
                let known: Vec<_> = all.iter().map(|(known, _)| *known).collect();
                return Err(wrong(&format!("it is one of {}", known.join(", "))));
            };
            number.to_le_bytes().to_vec()
        }
        Kind::Text => value.as_bytes().to_vec(),
        Kind::Bytes => bytes(value).ok_or_else(|| wrong("it is bytes in hexadecimal, as in 01ab"))?,
    };
    Ok(Attribute { r#type: *number, value })
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    let byte = |[high, low]: &[u8; 2]| u8::try_from(nibble(*high)? << 4 | nibble(*low)?).ok();
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

/// Writes an attribute as [`parse`] reads it; one without a name by its number.
pub fn show(attribute: &Attribute) -> String {
    let value = &attribute.value;
    let hexadecimal = || value.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let number = || value.as_slice().try_into().ok().map(u64::from_le_bytes);
    let Some((_, name, kind)) = ATTRIBUTES.iter().find(|(number, ..)| *number == attribute.r#type) else {
        return format!("{:#x}={}", attribute.r#type, hexadecimal());
    };
    let shown = match kind {
        Kind::Boolean => match value.as_slice() {
            [1] => Some("yes".to_owned()),
            [0] => Some("no".to_owned()),
            _ => None,
        },
        Kind::Length => number().map(|length| length.to_string()),
        Kind::Named(all) => {
            let named = |wanted| all.iter().find(|(_, number)| *number == wanted);
            number().and_then(named).map(|(known, _)| (*known).to_owned())
        }
        Kind::Text => std::str::from_utf8(value).ok().map(str::to_owned),
        Kind::Bytes => None,
    };
    format!("{name}={}", shown.unwrap_or_else(hexadecimal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for text in [
            "class=secret",
            "type=aes",
            "type=generic-secret",
            "label=came in",
            "label=",
            "id=01ab",
            "length=32",
            "extractable=no",
            "wrap-with-trusted=yes",
        ] {
            assert_eq!(show(&parse(text).unwrap()), text);
        }
        assert_eq!(parse("extractable=false"), parse("extractable=no"));
        assert_eq!(parse("length=16").unwrap().value, [16, 0, 0, 0, 0, 0, 0, 0], "little-endian, 8 bytes");
        assert_eq!(show(&Attribute { r#type: 0x9999, value: vec![7] }), "0x9999=07");
        assert_eq!(show(&Attribute { r#type: 0x162, value: vec![7] }), "extractable=07");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, said) in [
            ("extractable", "not ATTRIBUTE=VALUE"),
            ("extractable=maybe", "yes or no"),
            ("subject=x", "has no attribute"),
            ("class=certificate", "public, private, secret"),
            ("length=-1", "a number of bytes"),
            ("id=1", "hexadecimal"),
            ("id=zz", "hexadecimal"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn no_name_and_no_number_stands_twice() {
        for (at, (number, name, _)) in ATTRIBUTES.iter().enumerate() {
            assert!(
                ATTRIBUTES[..at].iter().all(|(other, known, _)| other != number && known != name),
                "{name}"
            );
        }
    }
}
