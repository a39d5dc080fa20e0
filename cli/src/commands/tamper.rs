//! `strongroom tamper`: what was found in a store that is not what it was, and what its owner decides.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use strongroom_protocol::v1::{CheckStore, ClearTampering, ShowTampering, Tampering, request::Op};

use crate::args::Global;
use crate::commands::seal::{self, Unseal};
use crate::commands::{confirm, moment};
use crate::failure::Failure;
use crate::output::{Output, Page, Report};
use crate::session::{self, answer};

const CLEAR: &str = "\
End the state TAMPERED: the node goes on with the partitions that are sound. The others stay out of use until they \
are restored ('strongroom backup restore FILE --replace'), unless you say what shall be with them:

  strongroom tamper clear --use-as-is tls       it was put back to an earlier time as a whole; go on with that
  strongroom tamper clear --accept-loss tls     give it up, with all its keys

Find out first how it came about. Who can change the store once can do it again.";

/// `strongroom tamper`.
#[derive(Debug, Subcommand)]
pub enum Tamper {
    /// Show what was found
    Show,
    /// Compare the store with what the node remembers, now
    Check,
    /// Decide, and go on
    #[command(long_about = CLEAR)]
    Clear(Clear),
}

/// `strongroom tamper clear`.
#[derive(Debug, Args)]
pub struct Clear {
    /// Use a partition that was put back to an earlier time as it is now; may be repeated
    #[arg(long, value_name = "LABEL")]
    use_as_is: Vec<String>,
    /// Destroy what is left of a damaged partition; may be repeated
    #[arg(long, value_name = "LABEL")]
    accept_loss: Vec<String>,
    /// The node's passphrase is the first line of this file (- for standard input)
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// A decrypted share of the node's seal; may be repeated
    #[arg(long, value_name = "FILE")]
    share: Vec<PathBuf>,
    /// The RSA private key of a holder of such a share; may be repeated
    #[arg(long, value_name = "FILE")]
    holder_key: Vec<PathBuf>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

#[derive(Debug, Serialize)]
struct Found {
    tampered: bool,
    /// RFC 3339.
    found: Option<String>,
    findings: Vec<FindingView>,
}

#[derive(Debug, Serialize)]
struct FindingView {
    /// `null`: the store as a whole.
    partition: Option<String>,
    what: String,
    put_back: bool,
}

impl From<Tampering> for Found {
    fn from(tampering: Tampering) -> Self {
        let findings = tampering.findings.into_iter().map(|finding| FindingView {
            partition: Some(finding.partition).filter(|label| !label.is_empty()),
            what: finding.what,
            put_back: finding.put_back,
        });
        let findings: Vec<_> = findings.collect();
        Found {
            tampered: !findings.is_empty(),
            found: (!findings.is_empty()).then(|| moment(tampering.found)),
            findings,
        }
    }
}

impl Report for Found {
    fn text(&self, page: &mut Page) {
        let Some(found) = &self.found else {
            return page.line("The store is what the node has written. Nothing was found.");
        };
        page.line(format!("TAMPERED, found {found}:"));
        for finding in &self.findings {
            page.line(format!("  {}", finding.what));
        }
        page.line(
            "\nThe keys are wiped from memory and nothing is served. See 'strongroom tamper clear --help'.",
        );
    }
}

impl Tamper {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// The daemon's refusal.
    pub fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        let mut connection = session::connect(global)?;
        session::be_patient(&mut connection)?;
        let found: Tampering = match self {
            Tamper::Show => answer!(connection.call(0, Op::ShowTampering(ShowTampering {})), Tampering)?,
            Tamper::Check => answer!(connection.call(0, Op::CheckStore(CheckStore {})), Tampering)?,
            Tamper::Clear(clear) => return clear.run(&mut connection, output),
        };
        output.print(&Found::from(found))
    }
}

impl Clear {
    fn run(
        self,
        connection: &mut strongroom_protocol::client::Connection,
        output: Output,
    ) -> Result<(), Failure> {
        if !self.accept_loss.is_empty() {
            let labels = self.accept_loss.join(", ");
            confirm(self.yes, &format!("Give up {labels}, with all keys that are in it, for ever?"))?;
        }
        let node = seal::node(connection)?;
        let unseal = Unseal::of(self.passphrase_file, self.share, self.holder_key);
        let unseal = match node.state() {
            strongroom_protocol::v1::NodeState::Tampered => {
                Some(unseal.request(connection, &node.sealed_with, output)?)
            }
            _ => None,
        };
        let request = ClearTampering { unseal, use_as_is: self.use_as_is, accept_loss: self.accept_loss };
        let unsealing = answer!(connection.call(0, Op::ClearTampering(request)), Unsealing)?;
        seal::print_progress(&unsealing, output)
    }
}
