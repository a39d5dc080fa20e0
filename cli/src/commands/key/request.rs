//! `strongroom key request`: a certificate request for a key.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use pem_rfc7468::LineEnding;
use serde::Serialize;
use strongroom_protocol::v1::{Role, Sign, request::Op};
use x509_cert::name::Name;

use super::Named;
use super::rotate::pending;
use super::wrapping::private;
use crate::certificate_request::{self, Signing, Subject};
use crate::commands::key::To;
use crate::failure::{Exit, Failure};
use crate::key_type;
use crate::objects::Selector;
use crate::output::{Output, Page, Report};
use crate::session::{Session, answer};

pub(super) const ABOUT: &str = "\
Make a certificate request (PKCS#10) for a key: what a certificate authority asks for. The key signs it in the partition; neither \
openssl nor the provider is needed.

  strongroom key request web --host www.example.org --host example.org --out web.csr
  openssl req -in web.csr -noout -verify -text          what it says, and that the key has signed it
  strongroom cert put web web.crt                       what the authority has made of it

Of a key that was rotated the version that waits for its certificate is meant, if there is one; id:HEX names another. \
RSA keys sign with SHA-256, keys on a curve with the hash of their size, Ed25519, Ed448 and ML-DSA keys the request itself (openssl \
reads ML-DSA from 3.5 on). For extensions other than host names and addresses: openssl req, with the provider and the key's URI.";

/// `strongroom key request`.
#[derive(Debug, Args)]
pub struct Request {
    #[command(flatten)]
    named: Named,
    /// The subject, RFC 4514: CN=www.example.org,O=Example,C=DE [default: CN= the first --host]
    #[arg(long, value_name = "NAME", value_parser = Subject::parse_name, required_unless_present = "host")]
    subject: Option<Name>,
    /// A host name that the certificate is to be for; may be given several times
    #[arg(long, value_name = "HOST", value_parser = Subject::parse_host)]
    host: Vec<String>,
    /// An address that the certificate is to be for; may be given several times
    #[arg(long, value_name = "ADDRESS")]
    ip: Vec<IpAddr>,
    #[command(flatten)]
    to: To,
}

#[derive(Debug, Serialize)]
struct Made {
    name: String,
    version: Option<u32>,
    id: String,
    subject: String,
    hosts: Vec<String>,
    addresses: Vec<IpAddr>,
    pem: String,
    /// The file it was written to.
    file: Option<PathBuf>,
}

impl Report for Made {
    fn text(&self, page: &mut Page) {
        let Some(file) = &self.file else { return page.block(&self.pem) };
        let version = self.version.map(|version| format!("version {version} of ")).unwrap_or_default();
        page.line(format!("Wrote {}: {}, for {version}key {:?}.", file.display(), self.subject, self.name));
        page.line("\nNext: give it to the authority, and store what comes back");
        page.line(format!("  strongroom cert put {} certificate.pem", self.name));
    }
}

impl Request {
    pub(super) fn run(self, session: &mut Session, output: Output) -> Result<(), Failure> {
        let name = match (self.subject, self.host.first()) {
            (Some(name), _) => name,
            (None, Some(host)) => Subject::parse_name(&format!("CN={host}")).map_err(Failure::usage)?,
            (None, None) => return Err(Failure::usage("a request has a --subject or a --host")),
        };
        let subject = Subject { name, hosts: self.host, addresses: self.ip };
        session.require_crypto_user()?;
        let mut key = session.key(&self.named.name)?;
        if matches!(self.named.name, Selector::Label(_)) {
            key = pending(session, &key)?.unwrap_or(key);
        }
        let object = private(&key)?;
        let Some(signing) = Signing::of(key.key_type()) else {
            let message = format!(
                "key {} is of type {}, which signs nothing: a certificate for it is requested by another way, which the \
                 authority names",
                self.named.name,
                key_type::title(key.key_type())
            );
            return Err(Failure::new(Exit::Failed, "unsupported", message));
        };
        let encoding = |error| {
            let message = format!("no request can be made for key {}: {error}", self.named.name);
            Failure::new(Exit::Failed, "encoding", message)
        };
        let der = certificate_request::make(key.public_key(), &subject, signing, encoding, |data| {
            let (mechanism, key) = (signing.mechanism.into(), object.object.clone());
            let op = || Op::Sign(Sign { key: key.clone(), mechanism, data: data.clone(), ..Sign::default() });
            Ok(answer!(session.call(Role::CryptoUser, op), Signature)?.signature)
        })?;
        let pem = pem_rfc7468::encode_string("CERTIFICATE REQUEST", LineEnding::LF, &der)
            .map_err(|error| Failure::new(Exit::Failed, "encoding", error.to_string()))?;
        let file = self.to.save(&pem)?;
        output.print(&Made {
            name: key.label().to_owned(),
            version: Some(object.version).filter(|version| *version > 0),
            id: crate::objects::hex(key.id()),
            subject: subject.name.to_string(),
            hosts: subject.hosts,
            addresses: subject.addresses,
            pem,
            file,
        })
    }
}
