//! `strongroom cert put`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use strongroom_protocol::v1::{CreateObject, ObjectClass, ObjectInfo, Role, request::Op};

use crate::certificate::Certificate;
use crate::commands::cert::view::CertificateView;
use crate::commands::cert::{Stored, stored};
use crate::failure::{Exit, Failure};
use crate::objects::{Key, Selector, fingerprint};
use crate::output::{Output, Page, Report};
use crate::pem_file;
use crate::session::{Session, answer};

pub(super) const ABOUT: &str = "\
Store a key's certificate beside the key, under the key's name and id. Other certificates in the file are taken \
for its chain and stored under their own names.

  strongroom cert put web fullchain.pem

The certificate must be for this key: its public key is compared. To renew, --replace: the new one is stored, \
then those that the key had before are removed.";

/// `strongroom cert put`.
#[derive(Debug, Args)]

pub struct Put {
    /// The key that the certificate is for: its name, or id:HEX, or object:HEX
    #[arg(value_name = "KEY", value_parser = Selector::parse)]
    key: Selector,
    /// The PEM file with the certificate (- for standard input)
    file: PathBuf,
    /// Remove the certificates that the key had before
    #[arg(long)]
    replace: bool,
}

/// What was stored.
#[derive(Debug, Serialize)]
struct Outcome {
    certificate: CertificateView,
    /// Certificates of the chain that were stored now.
    chain: Vec<CertificateView>,
    /// Certificates that were removed.
    replaced: Vec<CertificateView>,
    /// False: this very certificate was there already.
    changed: bool,
}

impl Report for Outcome {
    fn text(&self, page: &mut Page) {
        let certificate = self.certificate.sentence();
        page.line(if self.changed {
            format!("Stored certificate {certificate} beside its key.")
        } else {
            format!("Certificate {certificate} is there already.")
        });
        for issuer in &self.chain {
            page.line(format!("Stored {} of its chain.", issuer.sentence()));
        }
        for old in &self.replaced {
            page.line(format!("Removed the certificate that it replaces, {}.", old.validity()));
        }
    }
}

impl Put {
    pub(super) fn run(self, session: &mut Session, output: Output) -> Result<(), Failure> {
        let given = self.read()?;
        let key = self.version(session, &given)?;
        if key.is_secret() {
            let message = format!("key {} is a secret key: it has no certificate", self.key);
            return Err(Failure::new(Exit::Failed, "no_pair", message));
        }
        let (leaf, chain) = self.leaf(given, &key)?;
        let there = stored(session)?;
        let (same, olds): (Vec<_>, Vec<_>) = there
            .iter()
            .filter(|s| s.certificate.as_ref().is_some_and(|c| c.public_key == leaf.public_key))
            .partition(|s| s.object.value == leaf.der);
        if !olds.is_empty() && !self.replace {
            let message = format!(
                "key {} has a certificate already ({}): --replace stores this one and removes that",
                self.key,
                olds.iter().map(|s| CertificateView::new(s, &[]).validity()).collect::<Vec<_>>().join("; ")
            );
            return Err(Failure::new(Exit::Exists, "exists", message));
        }
        let keys = [key];
        let view = |stored: &Stored| CertificateView::new(stored, &keys);
        let [key] = &keys;
        let changed = same.is_empty();
        let made = beside(session, key, changed.then_some(&leaf), &chain, &there)?;
        let stored_chain = made.chain.iter().map(&view).collect();
        let certificate = match (&made.leaf, same.first()) {
            (Some(made), _) => view(made),
            (None, Some(same)) => view(same),
            (None, None) => return Err(Failure::unexpected_answer()),
        };
        for old in &olds {
            session.destroy(&old.object)?;
        }
        let replaced = olds.into_iter().map(view).collect();
        output.print(&Outcome { certificate, chain: stored_chain, replaced, changed })
    }

    /// The version of the key that one of the certificates is for; the active one if none is.
    fn version(&self, session: &mut Session, given: &[Certificate]) -> Result<Key, Failure> {
        let key = session.key(&self.key)?;
        let is_for = |key: &Key| given.iter().any(|certificate| certificate.public_key == key.public_key());
        if is_for(&key) || !matches!(self.key, Selector::Label(_)) {
            return Ok(key);
        }
        Ok(session.versions(&key)?.into_iter().find(is_for).unwrap_or(key))
    }

    /// Reads the certificates in the file.
    fn read(&self) -> Result<Vec<Certificate>, Failure> {
        let path = self.file.display();
        let malformed =
            |what: String| Failure::new(Exit::Failed, "certificate_malformed", format!("{path} {what}"));
        let mut certificates = Vec::new();
        for (block, number) in pem_file::read(&self.file)?.into_iter().zip(1..) {
            // "X509" and "TRUSTED" are OpenSSL's older names; the latter has more after the certificate.
            if !matches!(block.label.as_str(), "CERTIFICATE" | "X509 CERTIFICATE") {
                continue;
            }
            let der = block.content.map_err(|e| malformed(format!("block {number} {e}")))?;
            let certificate = Certificate::parse(&der)
                .map_err(|e| malformed(format!("block {number} is not an X.509 certificate: {e}")))?;
            certificates.push(certificate);
        }
        if certificates.is_empty() {
            return Err(malformed("holds no certificate".to_owned()));
        }
        Ok(certificates)
    }

    /// Takes the key's certificate out of those in the file; the others are its chain.
    fn leaf(&self, given: Vec<Certificate>, key: &Key) -> Result<(Certificate, Vec<Certificate>), Failure> {
        let first = given.first().map(|c| (c.title(), fingerprint(&c.public_key))).unwrap_or_default();
        let (mut its, chain): (Vec<_>, Vec<_>) =
            given.into_iter().partition(|c| c.public_key == key.public_key());
        match its.pop() {
            Some(leaf) if its.is_empty() => Ok((leaf, chain)),
            Some(_) => {
                let message =
                    format!("{} holds several certificates for key {}", self.file.display(), self.key);
                Err(Failure::new(Exit::Usage, "ambiguous", message))
            }
            None => {
                let (title, theirs) = first;
                let message = format!(
                    "the certificate {title:?} in {} is not for key {}: its public key has SHA-256 {theirs}, the key's {}; 'strongroom key list' shows the keys",
                    self.file.display(),
                    self.key,
                    key.fingerprint()
                );
                Err(Failure::new(Exit::Failed, "certificate_does_not_match", message))
            }
        }
    }
}

/// Certificates that were stored now.
pub struct Beside {
    /// The key's own.
    pub leaf: Option<Stored>,
    /// Its issuers'.
    pub chain: Vec<Stored>,
}

/// Stores a key's certificate beside it, and those of the chain that are not among the `there`. The chain first: whoever
/// finds the new leaf finds its issuers too.
///
/// # Errors
///
/// The daemon's refusal.
pub fn beside(
    session: &mut Session,
    key: &Key,
    leaf: Option<&Certificate>,
    chain: &[Certificate],
    there: &[Stored],
) -> Result<Beside, Failure> {
    let mut made = Beside { leaf: None, chain: Vec::new() };
    for issuer in chain {
        if there.iter().all(|s| s.object.value != issuer.der) {
            made.chain.push(store(session, issuer, &issuer.title(), key_id(&issuer.public_key))?);
        }
    }
    if let Some(leaf) = leaf {
        made.leaf = Some(store(session, leaf, key.label(), key.id().to_vec())?);
    }
    Ok(made)
}

/// The CKA_ID of a certificate that has no key here, made as the daemon makes a key's: it stays the same for the same key.
pub fn key_id(public_key: &[u8]) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    Sha256::digest(public_key).iter().take(20).copied().collect()
}

fn store(
    session: &mut Session,
    certificate: &Certificate,
    label: &str,
    id: Vec<u8>,
) -> Result<Stored, Failure> {
    // CKA_LABEL's limit.
    let label = label.get(..label.floor_char_boundary(255)).unwrap_or_default();
    let object = ObjectInfo {
        class: ObjectClass::Certificate as i32,
        label: label.to_owned(),
        id,
        value: certificate.der.clone(),
        ..ObjectInfo::default()
    };
    let op = || Op::CreateObject(CreateObject { object: Some(object.clone()) });
    let made = answer!(session.call(Role::CryptoUser, op), Objects)?.objects;
    made.into_iter().next().map(Stored::from).ok_or_else(Failure::unexpected_answer)
}
