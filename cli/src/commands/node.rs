//! `strongroom node`: this node's certificate, and whether the daemon is the owner's.

use std::path::PathBuf;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use pem_rfc7468::LineEnding;
use rustix::rand::{GetRandomFlags, getrandom};
use serde::Serialize;
use strongroom_owner::{Certificate, node};
use strongroom_protocol::v1::{InstallNodeCertificate, ProveNode, RequestNodeCertificate, Role, request::Op};

use crate::args::Global;
use crate::commands::{moment, owner, write_file};
use crate::failure::{Exit, Failure};
use crate::objects::hex;
use crate::output::{Output, Page, Report};
use crate::session::{self, Session, answer};

const REQUEST: &str = "\
Write the node's certificate request, for the partition's owner to sign.

The node makes a key of its own for it, which never leaves the daemon. The owner signs with openssl, and an officer \
or root installs what comes out:

  strongroom node request --out node.csr
  openssl x509 -req -in node.csr -CA PO.crt -CAkey PO.key -days 825 -out node.crt
  strongroom node certificate install node.crt

A node that is to join a cluster needs no partition for it: see 'strongroom cluster --help'.";

const VERIFY: &str = "\
Check that the running daemon is a node of the partition's owner.

The command sends random bytes. The daemon signs them with the node's key, and the command checks the signature, that \
the owner has signed the node's certificate, and its dates. Exit code 0: it is. 1: it is not.

  strongroom node verify --owner PO.crt";

/// `strongroom node`.
#[derive(Debug, Subcommand)]
pub enum Node {
    /// Write the node's certificate request, for the partition's owner to sign
    #[command(long_about = REQUEST)]
    Request(Request),
    /// Install the certificate that the owner has signed
    #[command(subcommand)]
    Certificate(NodeCertificate),
    /// Check that the running daemon is a node of the partition's owner
    #[command(long_about = VERIFY)]
    Verify(Verify),
}

/// `strongroom node request`.
#[derive(Debug, Args)]
pub struct Request {
    /// Where to write the request (PEM)
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
}

/// `strongroom node certificate`.
#[derive(Debug, Subcommand)]
pub enum NodeCertificate {
    /// Install the certificate that the owner has signed (as root or as a crypto officer)
    Install(Install),
}

/// `strongroom node certificate install`.
#[derive(Debug, Args)]
pub struct Install {
    /// The certificate (PEM)
    file: PathBuf,
}

/// `strongroom node verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// The owner's certificate (PEM), from a place that you trust: not from this node
    #[arg(long, value_name = "FILE")]
    owner: PathBuf,
}

#[derive(Debug, Serialize)]
struct Written {
    /// `null`: the node has no partition yet, or several.
    partition: Option<String>,
    request: PathBuf,
}

impl Report for Written {
    fn text(&self, page: &mut Page) {
        let file = self.request.display();
        let owner = match &self.partition {
            Some(partition) => format!("The owner of partition {partition:?} signs it"),
            None => "The owner of each partition signs it".to_owned(),
        };
        page.line(format!("Wrote {file}. {owner}:"));
        page.line(format!("  openssl x509 -req -in {file} -CA PO.crt -CAkey PO.key -days 825 -out node.crt"));
        match &self.partition {
            Some(_) => page.line("  strongroom node certificate install node.crt"),
            None => page.line(
                "  strongroom cluster admit node.crt     on a node of the cluster that this one is to join",
            ),
        }
    }
}

#[derive(Debug, Serialize)]
struct Shown {
    #[serde(skip)]
    what: &'static str,
    partition: String,
    subject: String,
    /// SHA-256 of the node's certificate.
    fingerprint: String,
    expires: String,
}

impl Shown {
    fn of(what: &'static str, session: &Session, certificate: &Certificate) -> Self {
        let expires = certificate.not_after.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Shown {
            what,
            partition: session.partition().label.clone(),
            subject: certificate.subject.clone(),
            fingerprint: hex(&certificate.fingerprint()),
            expires: moment(expires.as_secs()),
        }
    }
}

impl Report for Shown {
    fn text(&self, page: &mut Page) {
        page.line(self.what.replace("{}", &format!("{:?}", self.partition)));
        page.fields([
            ("node", self.subject.as_str().into()),
            ("fingerprint", format!("SHA256 {}", self.fingerprint).into()),
            ("expires", self.expires.as_str().into()),
        ]);
    }
}

impl Node {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Why it failed.
    pub fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        match self {
            Node::Request(request) => request.run(global, output),
            Node::Certificate(NodeCertificate::Install(install)) => install.run(global, output),
            Node::Verify(verify) => verify.run(global, output),
        }
    }
}

impl Request {
    fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        let mut connection = session::connect(global)?;
        let mut partitions = session::partitions(&mut connection)?;
        // It is the same request for each of them, and for a node that has none.
        let partition = match (&global.partition, partitions.len()) {
            (None, 1) => partitions.pop(),
            (None, _) => None,
            (Some(_), _) => Some(Session::open_without_log_in(global)?.partition().clone()),
        };
        let number = partition.as_ref().map_or(0, |partition| partition.number);
        let op = Op::RequestNodeCertificate(RequestNodeCertificate {});
        let der = answer!(connection.call(number, op), NodeRequest)?.request;
        let pem = pem_rfc7468::encode_string("CERTIFICATE REQUEST", LineEnding::LF, &der)
            .map_err(|e| Failure::new(Exit::Failed, "pem", format!("cannot write the request: {e}")))?;
        write_file(&self.out, &pem, self.force)?;
        output.print(&Written { partition: partition.map(|partition| partition.label), request: self.out })
    }
}

impl Install {
    fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        let certificate = owner::read_signed(&self.file)?;
        let mut session = Session::open(global, output, Role::CryptoOfficer)?;
        let op =
            || Op::InstallNodeCertificate(InstallNodeCertificate { certificate: certificate.der().to_vec() });
        answer!(session.call(Role::CryptoOfficer, op), Done)?;
        output.print(&Shown::of("Installed the node's certificate for partition {}.", &session, &certificate))
    }
}

impl Verify {
    fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        let owner = owner::read_owner(&self.owner)?;
        let mut session = Session::open_without_log_in(global)?;
        let nonce = nonce()?;
        let op = Op::ProveNode(ProveNode { nonce: nonce.to_vec() });
        let proof = answer!(session.try_call(op), NodeProof)?;
        let message = node::proof(&session.partition().serial, &nonce);
        let wrong = |error| {
            let message = format!(
                "this daemon is not a node of the owner in {}: its certificate {error}",
                self.owner.display()
            );
            Failure::new(Exit::Failed, "node_not_verified", message)
        };
        let certificate = Certificate::parse(&proof.certificate).map_err(wrong)?;
        node::check_proof(&owner, &certificate, SystemTime::now(), &message, &proof.signature)
            .map_err(wrong)?;
        output.print(&Shown::of(
            "This daemon is a node of the owner of partition {}.",
            &session,
            &certificate,
        ))
    }
}

fn nonce() -> Result<[u8; node::NONCE], Failure> {
    let mut nonce = [0; node::NONCE];
    match getrandom(&mut nonce, GetRandomFlags::empty()) {
        Ok(node::NONCE) => Ok(nonce),
        Ok(_) => Err(Failure::new(Exit::Failed, "file", "the kernel gave too few random bytes")),
        Err(error) => Err(Failure::file("read", "random bytes".as_ref(), &error.into())),
    }
}
