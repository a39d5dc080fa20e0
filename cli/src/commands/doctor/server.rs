//! A server's configuration: its certificates and keys, and whether they belong together.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use strongroom_protocol::v1::{FindObjects, ObjectClass, ObjectInfo, Role, request::Op};
use strongroom_uri::{Uri, reference};

use super::Findings;
use super::daemon::Node;
use super::files::Person;
use crate::certificate::Certificate;
use crate::pem_file;
use crate::session::answer;

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// Words before a certificate's and a key's file, and before the user: those of nginx, Apache, HAProxy, stunnel, lighttpd and
/// PostgreSQL.
const CERTIFICATE: [&str; 6] =
    ["ssl_certificate", "sslcertificatefile", "cert", "ssl.pemfile", "ssl_cert_file", "crt"];
const KEY: [&str; 5] = ["ssl_certificate_key", "sslcertificatekeyfile", "key", "ssl.privkey", "ssl_key_file"];
const USER: [&str; 2] = ["user", "setuid"];

/// What a server's file says.
pub(super) struct Site {
    path: PathBuf,
    certificates: Vec<String>,
    keys: Vec<String>,
    /// As whom it runs.
    pub(super) user: Option<String>,
}

impl Site {
    /// Reads a server's file; what is wrong with it is a finding.
    pub(super) fn read(path: &Path, findings: &mut Findings) -> Option<Self> {
        let small = fs::metadata(path).map(|metadata| metadata.len() <= MAX_FILE);
        let text = match small {
            Ok(true) => fs::read_to_string(path).map_err(|error| error.to_string()),
            Ok(false) => Err("is larger than 4 MiB".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        let text = match text {
            Ok(text) => text,
            Err(error) => {
                findings.problem(
                    "server_file_unreadable",
                    path.display(),
                    error,
                    "name a server's configuration file",
                );
                return None;
            }
        };
        let mut site = Site { path: path.to_owned(), certificates: vec![], keys: vec![], user: None };
        for line in text.lines() {
            site.take(line.trim());
        }
        if site.certificates.is_empty() && site.keys.is_empty() {
            let message = "names no certificate and no key";
            findings.warn(
                "server_file_without_keys",
                path.display(),
                message,
                "name the file of the virtual host",
            );
        }
        Some(site)
    }

    fn take(&mut self, line: &str) {
        let Some((name, value)) = line.split_once(|c: char| c.is_whitespace() || c == '=') else { return };
        let value = value.trim().trim_start_matches('=').trim().trim_end_matches(';').trim();
        let value = value.trim_matches(|c| c == '"' || c == '\'').to_owned();
        let name = name.to_ascii_lowercase();
        // Variables are the server's to fill in.
        if value.is_empty() || value.contains('$') {
            return;
        }
        if CERTIFICATE.contains(&name.as_str()) {
            self.certificates.push(value);
        } else if KEY.contains(&name.as_str()) {
            self.keys.push(value);
        } else if USER.contains(&name.as_str()) && self.user.is_none() {
            self.user = value.split_whitespace().next().map(str::to_owned);
        }
    }

    /// Looks at each certificate with its key, in the order in which they stand.
    pub(super) fn look(&self, mut node: Option<&mut Node>, person: Option<&Person>, findings: &mut Findings) {
        for (at, key) in self.keys.iter().enumerate() {
            let certificate = self.certificates.get(at).and_then(|path| self.certificate(path, findings));
            let Some(uri) = self.uri(key, person, findings) else { continue };
            let Some(node) = node.as_deref_mut() else { continue };
            let Some(object) = self.find(&uri, node, findings) else { continue };
            let Some(certificate) = certificate else { continue };
            if certificate.public_key == object.public_key {
                let message = format!(
                    "the key {:?} belongs to the certificate {:?}",
                    object.label,
                    certificate.title()
                );
                findings.ok("certificate_fits", self.path.display(), message);
            } else {
                findings.problem(
                    "certificate_mismatch",
                    self.path.display(),
                    format!(
                        "the certificate {:?} is for another key than {:?}",
                        certificate.title(),
                        object.label
                    ),
                    "'strongroom key list' shows the keys, 'strongroom cert list' the certificates that fit",
                );
            }
        }
    }

    fn resolve(&self, value: &str) -> PathBuf {
        self.path.parent().unwrap_or(&self.path).join(value)
    }

    fn certificate(&self, value: &str, findings: &mut Findings) -> Option<Certificate> {
        let path = self.resolve(value);
        let missing = |findings: &mut Findings, message: String| {
            findings.problem(
                "certificate_unreadable",
                path.display(),
                message,
                "name a PEM file with the certificate",
            );
            None
        };
        let blocks = match pem_file::read(&path) {
            Ok(blocks) => blocks,
            Err(failure) => return missing(findings, failure.to_string()),
        };
        let first = blocks.into_iter().find(|block| block.label == "CERTIFICATE").map(|block| block.content);
        let Some(Ok(der)) = first else { return missing(findings, "holds no certificate".to_owned()) };
        let Ok(certificate) = Certificate::parse(&der) else {
            return missing(findings, "holds a certificate that cannot be read".to_owned());
        };
        let now = SystemTime::now();
        if certificate.not_after < now || certificate.not_before > now {
            findings.problem(
                "certificate_not_valid",
                path.display(),
                format!("the certificate {:?} is expired, or not valid yet", certificate.title()),
                "get a new one: 'openssl req -new -key ...' makes the request with the same key",
            );
        }
        Some(certificate)
    }

    /// The URI that a key's setting is, or that the file holds that it names.
    fn uri(&self, value: &str, person: Option<&Person>, findings: &mut Findings) -> Option<Uri> {
        let text = value.strip_prefix("store:").unwrap_or(value);
        if text.starts_with(strongroom_uri::SCHEME) {
            return match Uri::parse(text) {
                Ok(uri) => Some(uri),
                Err(error) => {
                    findings.problem(
                        "uri_wrong",
                        self.path.display(),
                        error.to_string(),
                        "'strongroom key uri NAME'",
                    );
                    None
                }
            };
        }
        let path = self.resolve(value);
        if let Some((person, place)) = person.and_then(|person| Some((person, person.kept_out_by(&path)?))) {
            findings.warn(
                "reference_unreadable",
                path.display(),
                format!("{} may not read it: {} forbids it", person.name, place.display()),
                "well if the server reads it as root; else chmod 644: a reference file holds no secret",
            );
        }
        let blocks = match pem_file::read(&path) {
            Ok(blocks) => blocks,
            Err(failure) => {
                let remedy = "'strongroom key reference NAME --out FILE' writes it";
                findings.problem("reference_missing", path.display(), failure.to_string(), remedy);
                return None;
            }
        };
        if blocks.iter().any(|block| block.label.ends_with("PRIVATE KEY")) {
            findings.warn(
                "private_key_in_file",
                path.display(),
                "holds a private key: the server does not use the partition",
                "'strongroom key import NAME FILE', then 'strongroom key reference NAME' in its place",
            );
            return None;
        }
        let block = blocks.into_iter().find(|block| block.label == reference::LABEL);
        let uri = block.and_then(|block| reference::uri_from_der(&block.content.ok()?).ok());
        let uri = uri.and_then(|text| Uri::parse(&text).ok());
        if uri.is_none() {
            let remedy = "write it anew: 'strongroom key reference NAME --out FILE'";
            findings.problem("reference_damaged", path.display(), "is no reference to a key", remedy);
        }
        uri
    }

    /// The key in the partition.
    fn find(&self, uri: &Uri, node: &mut Node, findings: &mut Findings) -> Option<ObjectInfo> {
        let subject = self.path.display();
        let fits = |label: &str| uri.token.as_deref().is_none_or(|token| token == label);
        let Some(partition) = node.partitions.iter().find(|partition| fits(&partition.label)) else {
            let token = uri.token.as_deref().unwrap_or_default();
            findings.problem(
                "partition_not_found",
                subject,
                format!("the key is in the token {token:?}, and strongroomd has no partition of this name"),
                "'strongroom partition list'; or it is another HSM's, which this command does not look into",
            );
            return None;
        };
        for class in [ObjectClass::PrivateKey, ObjectClass::PublicKey] {
            let request = FindObjects {
                label: uri.object.clone().unwrap_or_default(),
                label_given: uri.object.is_some(),
                id: uri.id.clone().unwrap_or_default(),
                id_given: uri.id.is_some(),
                class: class.into(),
                ..FindObjects::default()
            };
            let found = answer!(node.connection.call(partition.number, Op::FindObjects(request)), Objects);
            if let Some(object) = found.ok().and_then(|list| list.objects.into_iter().next()) {
                return Some(object);
            }
        }
        let name = uri.object.clone().unwrap_or_else(|| "without a label".to_owned());
        match partition.acting_role() {
            Role::CryptoUser => findings.problem(
                "key_not_found",
                subject,
                format!("partition {:?} has no key {name:?}", partition.label),
                "'strongroom key list' shows what there is",
            ),
            _ => findings.warn(
                "key_not_visible",
                subject,
                format!("whether partition {:?} has the key {name:?} is not for you to see", partition.label),
                "run this as the server's user, or as one whom a user of the partition admits",
            ),
        }
        None
    }
}
