//! A certificate in reports.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::commands::cert::Stored;
use crate::commands::moment;
use crate::objects::{Key, fingerprint, hex};
use crate::output::{Cell, Page, Report, Tone};

/// Expiry is pointed out from this many seconds before it: 30 days.
const SOON: u64 = 30 * 24 * 3600;

/// A certificate's facts: the JSON of every command about certificates.
#[derive(Debug, Serialize)]
pub struct CertificateView {
    /// CKA_LABEL.
    name: String,
    /// CKA_ID in hexadecimal.
    id: String,
    subject: String,
    issuer: String,
    /// Hexadecimal.
    serial: String,
    not_before: String,
    not_after: String,
    expired: bool,
    #[serde(skip)]
    expires_soon: bool,
    /// Host names and addresses that it is for.
    names: Vec<String>,
    /// The key in the partition with this public key.
    key: Option<String>,
    /// SHA-256 of the public key in hexadecimal, as of keys.
    public_key_fingerprint: String,
    pem: String,
    /// The object's identity in hexadecimal.
    object: String,
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map(|d| d.as_secs()).unwrap_or_default()
}

impl CertificateView {
    /// Gathers a certificate's facts; `keys` are those in the partition that are seen.
    pub fn new(stored: &Stored, keys: &[Key]) -> Self {
        let object = &stored.object;
        let mut view = CertificateView {
            name: object.label.clone(),
            id: hex(&object.id),
            subject: "not an X.509 certificate".to_owned(),
            issuer: String::new(),
            serial: String::new(),
            not_before: String::new(),
            not_after: String::new(),
            expired: false,
            expires_soon: false,
            names: Vec::new(),
            key: None,
            public_key_fingerprint: String::new(),
            pem: super::pem(&object.value),
            object: hex(&object.object),
        };
        if let Some(certificate) = &stored.certificate {
            let (now, end) = (seconds(SystemTime::now()), seconds(certificate.not_after));
            view.subject.clone_from(&certificate.subject);
            view.issuer.clone_from(&certificate.issuer);
            view.serial.clone_from(&certificate.serial);
            view.not_before = moment(seconds(certificate.not_before));
            view.not_after = moment(end);
            view.expired = end < now;
            view.expires_soon = end < now + SOON;
            view.names.clone_from(&certificate.names);
            view.key =
                keys.iter().find(|k| k.public_key() == certificate.public_key).map(|k| k.label().to_owned());
            view.public_key_fingerprint = fingerprint(&certificate.public_key);
        }
        view
    }

    /// The certificate's name and subject: `"web" (CN=www.example.org)`.
    pub fn sentence(&self) -> String {
        format!("{:?} ({})", self.name, self.subject)
    }

    /// Tells two certificates of one name apart: `serial 01ab, valid until …`.
    pub fn validity(&self) -> String {
        format!("serial {}, valid until {}", self.serial, self.not_after)
    }

    /// The headings for [`CertificateView::row`].
    pub const HEADINGS: [&str; 5] = ["CERTIFICATE", "KEY", "SUBJECT", "EXPIRES", "ID"];

    /// A line of the list.
    pub fn row(&self) -> Vec<Cell> {
        vec![
            self.name.as_str().into(),
            self.key.as_deref().unwrap_or("-").into(),
            self.subject.as_str().into(),
            self.expiry(),
            self.id.as_str().into(),
        ]
    }

    fn expiry(&self) -> Cell {
        match (self.expired, self.expires_soon) {
            (true, _) => Cell::toned(format!("{} (expired)", self.not_after), Tone::Bad),
            (false, true) => Cell::toned(format!("{} (soon)", self.not_after), Tone::Doubtful),
            (false, false) => self.not_after.as_str().into(),
        }
    }
}

impl Report for CertificateView {
    fn text(&self, page: &mut Page) {
        page.fields([
            ("certificate", self.name.as_str().into()),
            ("id", self.id.as_str().into()),
            ("subject", self.subject.as_str().into()),
            ("issuer", self.issuer.as_str().into()),
            ("serial", self.serial.as_str().into()),
            ("valid from", self.not_before.as_str().into()),
            ("valid until", self.expiry()),
            ("for", self.names.join(", ").into()),
            ("key", self.key.as_deref().unwrap_or("none in this partition").into()),
            ("public key", format!("SHA256 {}", self.public_key_fingerprint).into()),
        ]);
        page.block(&self.pem);
    }
}
