//! What everybody may know of a key: `strongroom key show`, `public`, `uri` and `reference`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::commands::key::{KeyView, Named};
use crate::commands::{cert, write_file};
use crate::failure::{Exit, Failure};
use crate::objects::Key;
use crate::output::{Output, Page, Report};
use crate::session::Session;
use strongroom_uri::reference;

pub(super) const REFERENCE: &str = "\
Write the PEM reference file: the key's URI in a file that a program loads where it expects a key. It holds no \
secret. For nginx before 1.29, HAProxy, stunnel, PostgreSQL and others that open no URI:

  strongroom key reference web --out /etc/nginx/web.ref.pem
  ssl_certificate_key /etc/nginx/web.ref.pem;

With --cert the certificates stored for the key follow, leaf first: HAProxy's crt bundle.";

/// `strongroom key uri`.
#[derive(Debug, Args)]
pub struct UriOf {
    #[command(flatten)]
    named: Named,
    /// Without the id: a server then has the new version of the key when it reloads ('strongroom key rotate')
    #[arg(long)]
    by_name: bool,
}

/// `strongroom key public`.
#[derive(Debug, Args)]
pub struct Public {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    to: To,
}

/// `strongroom key reference`.
#[derive(Debug, Args)]

pub struct Reference {
    #[command(flatten)]
    named: Named,
    /// Without the id: a server then has the new version of the key when it reloads ('strongroom key rotate')
    #[arg(long)]
    by_name: bool,
    /// Add the certificates that are stored for the key
    #[arg(long)]
    cert: bool,
    #[command(flatten)]
    to: To,
}

/// Where PEM goes.
#[derive(Debug, Args)]
pub struct To {
    /// Write to this file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long, requires = "out")]
    force: bool,
}

/// PEM that was printed or written to a file.
#[derive(Debug, Serialize)]
struct Pem {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    pem: String,
    /// The file it was written to.
    file: Option<PathBuf>,
}

impl Report for Pem {
    fn text(&self, page: &mut Page) {
        match &self.file {
            Some(path) => page.line(format!("Wrote {}.", path.display())),
            None => page.block(&self.pem),
        }
    }
}

impl To {
    /// Writes `pem` to the file that was asked for, or prints it.
    ///
    /// # Errors
    ///
    /// If the file exists (without `--force`) or cannot be written.
    pub fn write(self, name: &str, uri: Option<String>, pem: String, output: Output) -> Result<(), Failure> {
        let file = self.save(&pem)?;
        output.print(&Pem { name: name.to_owned(), uri, pem, file })
    }

    /// Writes `pem` to the file that was asked for, if one was; which one.
    ///
    /// # Errors
    ///
    /// As [`To::write`].
    pub fn save(self, pem: &str) -> Result<Option<PathBuf>, Failure> {
        if let Some(path) = &self.out {
            write_file(path, pem, self.force)?;
        }
        Ok(self.out)
    }
}

fn uri_of(session: &Session, key: &Key, by_name: bool) -> String {
    super::view::uri(&session.partition().label, key, by_name)
}

/// The key pair of that name.
fn pair(named: &Named, session: &mut Session) -> Result<Key, Failure> {
    let key = session.key(&named.name)?;
    match key.is_secret() {
        false => Ok(key),
        true => {
            let message =
                format!("key {} is a secret key: it has no public half, and no certificate", named.name);
            Err(Failure::new(Exit::Failed, "no_pair", message))
        }
    }
}

/// `strongroom key show`.
pub(super) fn show(named: &Named, session: &mut Session, output: Output) -> Result<(), Failure> {
    let key = session.key(&named.name)?;
    let certificates = cert::stored(session)?;
    let titles = cert::titles_of(&certificates, &key);
    output.print(&KeyView::new(&session.partition().label, &key, titles, session.is_crypto_user()))
}

#[derive(Debug, Serialize)]
struct Uri {
    name: String,
    uri: String,
}

impl Report for Uri {
    fn text(&self, page: &mut Page) {
        page.line(&self.uri);
    }
}

impl UriOf {
    pub(super) fn run(self, session: &mut Session, output: Output) -> Result<(), Failure> {
        let key = session.key(&self.named.name)?;
        output.print(&Uri { name: key.label().to_owned(), uri: uri_of(session, &key, self.by_name) })
    }
}

impl Public {
    pub(super) fn run(self, session: &mut Session, output: Output) -> Result<(), Failure> {
        let key = pair(&self.named, session)?;
        self.to.write(key.label(), None, super::view::public_pem(key.public_key()), output)
    }
}

impl Reference {
    pub(super) fn run(self, session: &mut Session, output: Output) -> Result<(), Failure> {
        let key = pair(&self.named, session)?;
        let uri = uri_of(session, &key, self.by_name);
        let mut pem = reference::pem_from_uri(&uri)
            .map_err(|e| Failure::new(Exit::Failed, "reference", format!("no reference for {uri}: {e}")))?;
        if self.cert {
            let certificates = cert::stored(session)?;
            let Some(leaf) = cert::newest_of(&certificates, key.public_key()) else {
                let message = format!(
                    "no certificate is stored for key {}: store it with 'strongroom cert put'",
                    self.named.name
                );
                return Err(Failure::new(Exit::NotFound, "no_such_object", message));
            };
            pem.push_str(&cert::chain_pem(leaf, &certificates));
        }
        self.to.write(key.label(), Some(uri), pem, output)
    }
}
