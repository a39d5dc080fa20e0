//! `strongroom cert`: certificates beside the keys that they are for.

mod put;
mod view;

use clap::{Args, Subcommand};
use pem_rfc7468::LineEnding;
use serde::Serialize;
use strongroom_protocol::v1::{ObjectInfo, Role};

use crate::args::Global;
use crate::certificate::Certificate;
use crate::commands::confirm;
use crate::commands::key::To;
use crate::failure::{Exit, Failure};
use crate::objects::{Key, Selector, hex};
use crate::output::{Output, Page, Report};
use crate::session::Session;

pub use put::{beside, key_id};
use view::CertificateView;

/// `strongroom cert`.
#[derive(Debug, Subcommand)]
pub enum Cert {
    /// Store a key's certificate, and its chain, beside the key
    #[command(long_about = put::ABOUT)]
    Put(put::Put),
    /// List the certificates
    List,
    /// Show a certificate: subject, issuer, validity, the key that it is for
    Show(Named),
    /// Print a certificate (PEM)
    Get(Get),
    /// Delete a certificate
    Delete(Delete),
}

/// The certificate that a command is about.
#[derive(Debug, Args)]
pub struct Named {
    /// The certificate: its name (a leaf has its key's), or id:HEX, or object:HEX
    #[arg(value_parser = Selector::parse)]
    name: Selector,
}

/// `strongroom cert get`.
#[derive(Debug, Args)]
pub struct Get {
    #[command(flatten)]
    named: Named,
    /// The chain too, leaf first, as far as it is stored: what servers want
    #[arg(long)]
    chain: bool,
    #[command(flatten)]
    to: To,
}

/// `strongroom cert delete`.
#[derive(Debug, Args)]
pub struct Delete {
    #[command(flatten)]
    named: Named,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// A certificate in the partition.
#[derive(Debug)]
pub struct Stored {
    /// The object.
    pub object: ObjectInfo,
    /// What it says; none if other programs stored something that is no X.509 certificate.
    pub certificate: Option<Certificate>,
}

impl From<ObjectInfo> for Stored {
    fn from(object: ObjectInfo) -> Self {
        let certificate = Certificate::parse(&object.value).ok();
        Stored { object, certificate }
    }
}

/// All certificates in the partition.
///
/// # Errors
///
/// The daemon's refusal.
pub fn stored(session: &mut Session) -> Result<Vec<Stored>, Failure> {
    Ok(session.certificates()?.into_iter().map(Stored::from).collect())
}

/// The titles of the certificates with a key's public key.
pub fn titles_of(certificates: &[Stored], key: &Key) -> Vec<String> {
    let its = certificates.iter().filter_map(|stored| stored.certificate.as_ref());
    its.filter(|c| c.public_key == key.public_key()).map(Certificate::title).collect()
}

/// The certificate for a public key that was stored last.
pub fn newest_of<'a>(certificates: &'a [Stored], public_key: &[u8]) -> Option<&'a Certificate> {
    certificates.iter().rev().filter_map(|s| s.certificate.as_ref()).find(|c| c.public_key == public_key)
}

/// A certificate and its issuers, as far as they are stored, as PEM.
pub fn chain_pem(leaf: &Certificate, certificates: &[Stored]) -> String {
    let all: Vec<_> = certificates.iter().filter_map(|s| s.certificate.clone()).collect();
    leaf.chain(&all).into_iter().map(|certificate| pem(&certificate.der)).collect()
}

fn pem(der: &[u8]) -> String {
    // Fails only for lengths beyond the address space.
    pem_rfc7468::encode_string("CERTIFICATE", LineEnding::LF, der).unwrap_or_default()
}

impl Session {
    /// Finds the one certificate that `selector` names.
    ///
    /// # Errors
    ///
    /// If no certificate fits or several do.
    fn certificate(&mut self, selector: &Selector) -> Result<Stored, Failure> {
        let mut found = self.certificates_of(selector)?;
        if found.len() > 1 {
            let names: Vec<_> = found.iter().map(|o| format!("object:{}", hex(&o.object))).collect();
            let message = format!(
                "{} certificates are named {selector}; name one by {}",
                found.len(),
                names.join(" or ")
            );
            return Err(Failure::new(Exit::Usage, "ambiguous", message));
        }
        match found.pop() {
            Some(object) => Ok(Stored::from(object)),
            None => {
                let message = format!(
                    "certificate {selector} not found in partition {:?}: list them with 'strongroom cert list'",
                    self.partition().label
                );
                Err(Failure::new(Exit::NotFound, "no_such_object", message))
            }
        }
    }
}

#[derive(Debug, Serialize)]
struct List {
    partition: String,
    certificates: Vec<CertificateView>,
}

impl Report for List {
    fn text(&self, page: &mut Page) {
        if self.certificates.is_empty() {
            page.line(format!(
                "No certificate in partition {:?} yet: store one with 'strongroom cert put KEY FILE'.",
                self.partition
            ));
        } else {
            let rows = self.certificates.iter().map(CertificateView::row).collect();
            page.table(&CertificateView::HEADINGS, rows);
        }
    }
}

#[derive(Debug, Serialize)]
struct Deleted {
    deleted: CertificateView,
}

impl Report for Deleted {
    fn text(&self, page: &mut Page) {
        page.line(format!("Deleted certificate {}.", self.deleted.sentence()));
    }
}

impl Cert {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Why it failed.
    pub fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        let mut session = Session::open(global, output, Role::CryptoUser)?;
        match self {
            Cert::Put(put) => put.run(&mut session, output),
            Cert::List => {
                let keys = session.keys()?;
                let certificates = stored(&mut session)?;
                let certificates = certificates.iter().map(|s| CertificateView::new(s, &keys)).collect();
                output.print(&List { partition: session.partition().label.clone(), certificates })
            }
            Cert::Show(Named { name }) => {
                let keys = session.keys()?;
                let stored = session.certificate(&name)?;
                output.print(&CertificateView::new(&stored, &keys))
            }
            Cert::Get(get) => get.run(&mut session, output),
            Cert::Delete(delete) => delete.run(&mut session, output),
        }
    }
}

impl Get {
    fn run(self, session: &mut Session, output: Output) -> Result<(), Failure> {
        let found = session.certificate(&self.named.name)?;
        let pem = match &found.certificate {
            Some(leaf) if self.chain => chain_pem(leaf, &stored(session)?),
            _ => pem(&found.object.value),
        };
        self.to.write(&found.object.label, None, pem, output)
    }
}

impl Delete {
    fn run(self, session: &mut Session, output: Output) -> Result<(), Failure> {
        let found = session.certificate(&self.named.name)?;
        let view = CertificateView::new(&found, &session.keys()?);
        confirm(self.yes, &format!("Delete certificate {}?", view.sentence()))?;
        session.destroy(&found.object)?;
        output.print(&Deleted { deleted: view })
    }
}
