//! What an X.509 certificate says, as far as an administrator wants to know it.

use std::time::SystemTime;

use der::{Decode, Encode};
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, SubjectAltName, SubjectKeyIdentifier};

/// A certificate that was read.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The whole certificate.
    pub der: Vec<u8>,
    /// The subject as text, RFC 4514.
    pub subject: String,
    /// The issuer as text, RFC 4514.
    pub issuer: String,
    /// The subject's common name, if it has one.
    pub common_name: Option<String>,
    /// The serial number in hexadecimal.
    pub serial: String,
    /// When it becomes valid.
    pub not_before: SystemTime,
    /// When it stops being valid.
    pub not_after: SystemTime,
    /// Host names and addresses that it is for.
    pub names: Vec<String>,
    /// The public key, DER SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
    subject_der: Vec<u8>,
    issuer_der: Vec<u8>,
    subject_key_id: Option<Vec<u8>>,
    issuer_key_id: Option<Vec<u8>>,
}

impl Certificate {
    /// Reads a DER certificate.
    ///
    /// # Errors
    ///
    /// If it is not one, or breaks X.509's encoding so far that its parts cannot be told.
    pub fn parse(der: &[u8]) -> der::Result<Self> {
        // Raw: RFC 5280's rules for serial numbers and times are the issuer's concern.
        let parsed = CertificateInner::<Raw>::from_der(der)?;
        let tbs = parsed.tbs_certificate();
        let names = match tbs.get_extension::<SubjectAltName>() {
            Ok(Some((_, names))) => names.0.iter().filter_map(general_name).collect(),
            _ => Vec::new(),
        };
        let subject_key_id = match tbs.get_extension::<SubjectKeyIdentifier>() {
            Ok(Some((_, id))) => Some(id.0.as_bytes().to_vec()),
            _ => None,
        };
        let issuer_key_id = match tbs.get_extension::<AuthorityKeyIdentifier>() {
            Ok(Some((_, id))) => id.key_identifier.map(|id| id.as_bytes().to_vec()),
            _ => None,
        };
        Ok(Certificate {
            der: der.to_vec(),
            subject: tbs.subject().to_string(),
            issuer: tbs.issuer().to_string(),
            common_name: tbs.subject().common_name().ok().flatten().map(|name| name.value().into_owned()),
            serial: crate::objects::hex(tbs.serial_number().as_bytes()),
            not_before: tbs.validity().not_before.to_system_time(),
            not_after: tbs.validity().not_after.to_system_time(),
            names,
            public_key: tbs.subject_public_key_info().to_der()?,
            subject_der: tbs.subject().to_der()?,
            issuer_der: tbs.issuer().to_der()?,
            subject_key_id,
            issuer_key_id,
        })
    }

    /// Names the certificate for people: the common name, or else the whole subject, or the first host.
    pub fn title(&self) -> String {
        let name = self.common_name.clone().filter(|name| !name.is_empty());
        name.or_else(|| self.names.first().cloned()).unwrap_or_else(|| self.subject.clone())
    }

    fn is_self_signed(&self) -> bool {
        self.subject_der == self.issuer_der
    }

    /// Whether `other` can have signed this one, by names and key identifiers.
    fn is_issued_by(&self, other: &Certificate) -> bool {
        let by_id = match (&self.issuer_key_id, &other.subject_key_id) {
            (Some(wanted), Some(has)) => wanted == has,
            _ => true,
        };
        self.issuer_der == other.subject_der && by_id
    }

    /// Follows the issuers of this certificate among `others`, up to a root or to where they end.
    pub fn chain<'a>(&'a self, others: &'a [Certificate]) -> Vec<&'a Certificate> {
        let mut chain = vec![self];
        let mut last = self;
        while !last.is_self_signed() {
            let next =
                others.iter().find(|c| last.is_issued_by(c) && chain.iter().all(|seen| seen.der != c.der));
            let Some(next) = next else { break };
            chain.push(next);
            last = next;
        }
        chain
    }
}

fn general_name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(host) => Some(host.to_string()),
        GeneralName::IpAddress(bytes) => match *bytes.as_bytes() {
            [a, b, c, d] => Some(std::net::Ipv4Addr::new(a, b, c, d).to_string()),
            ref long => <[u8; 16]>::try_from(long).ok().map(|ip| std::net::Ipv6Addr::from(ip).to_string()),
        },
        _ => None,
    }
}
