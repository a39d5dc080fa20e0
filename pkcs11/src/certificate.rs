//! The parts of an X.509 certificate that are PKCS#11 attributes, as the bytes that stand in it.

use der::asn1::AnyRef;
use der::{Decode, Encode, SliceReader, Tag, TagNumber};

/// The parts, each a whole DER element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// `CKA_SERIAL_NUMBER`: an INTEGER.
    pub serial_number: Vec<u8>,
    /// `CKA_ISSUER`: a Name.
    pub issuer: Vec<u8>,
    /// `CKA_SUBJECT`: a Name.
    pub subject: Vec<u8>,
    /// `CKA_PUBLIC_KEY_INFO`: a SubjectPublicKeyInfo.
    pub public_key_info: Vec<u8>,
}

impl Certificate {
    /// Finds the parts (RFC 5280, 4.1). It reads no further than it has to: which certificates are sound is
    /// for those who verify them. `None` if `der` is not built like a certificate.
    pub fn parse(der: &[u8]) -> Option<Self> {
        let mut certificate =
            SliceReader::new(AnyRef::from_der(der).ok().filter(is_sequence)?.value()).ok()?;
        let tbs = AnyRef::decode(&mut certificate).ok().filter(is_sequence)?;
        let mut tbs = SliceReader::new(tbs.value()).ok()?;
        let mut first = AnyRef::decode(&mut tbs).ok()?;
        if first.header().tag() == (Tag::ContextSpecific { constructed: true, number: TagNumber(0) }) {
            // The version; absent in version 1.
            first = AnyRef::decode(&mut tbs).ok()?;
        }
        let serial_number = Some(first).filter(|any| any.header().tag() == Tag::Integer)?;
        let mut next = || AnyRef::decode(&mut tbs).ok().filter(is_sequence);
        let (_signature, issuer, _validity) = (next()?, next()?, next()?);
        let (subject, public_key_info) = (next()?, next()?);
        Some(Certificate {
            serial_number: serial_number.to_der().ok()?,
            issuer: issuer.to_der().ok()?,
            subject: subject.to_der().ok()?,
            public_key_info: public_key_info.to_der().ok()?,
        })
    }

    /// Whether its serial number is the one that a program names: the INTEGER in DER, as the standard has it, or the number's bytes
    /// alone, as Java's SunPKCS11 has it.
    pub fn has_serial_number(&self, given: &[u8]) -> bool {
        self.serial_number == given
            || AnyRef::from_der(&self.serial_number).is_ok_and(|integer| integer.value() == given)
    }
}

fn is_sequence(any: &AnyRef<'_>) -> bool {
    any.header().tag() == Tag::Sequence
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate's skeleton: every field in place and almost empty.
    fn skeleton(version: &[u8]) -> Vec<u8> {
        let fields: [&[u8]; 7] = [
            version,
            &[2, 1, 7],
            &[0x30, 0],
            &[0x30, 2, 5, 0],
            &[0x30, 0],
            &[0x30, 3, 2, 1, 1],
            &[0x30, 3, 2, 1, 2],
        ];
        let fields = fields.concat();
        let tbs = [&[0x30, fields.len() as u8][..], &fields].concat();
        let rest = [tbs.as_slice(), &[0x30, 0, 3, 1, 0]].concat();
        [&[0x30, rest.len() as u8][..], &rest].concat()
    }

    #[test]
    fn parts_with_and_without_a_version() {
        for version in [&[][..], &[0xa0, 3, 2, 1, 2]] {
            let certificate = Certificate::parse(&skeleton(version)).unwrap();
            assert_eq!(certificate.serial_number, [2, 1, 7]);
            assert!(certificate.has_serial_number(&[2, 1, 7]) && certificate.has_serial_number(&[7]));
            assert!(
                [&[][..], &[1, 7], &[2, 1], &[2, 1, 8], &[0, 7]]
                    .iter()
                    .all(|other| !certificate.has_serial_number(other))
            );
            assert_eq!(certificate.issuer, [0x30, 2, 5, 0]);
            assert_eq!(certificate.subject, [0x30, 3, 2, 1, 1]);
            assert_eq!(certificate.public_key_info, [0x30, 3, 2, 1, 2]);
        }
    }

    #[test]
    fn every_truncation_is_refused() {
        let whole = skeleton(&[]);
        for length in 0..whole.len() {
            assert_eq!(Certificate::parse(&whole[..length]), None, "{length}");
        }
    }
}
