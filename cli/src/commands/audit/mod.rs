//! `strongroom audit`: who did what, to which key, and what came of it.

mod filter;
mod show;
mod status;
mod uses;
mod verify;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use strongroom_audit::PublicKey;
use strongroom_protocol::client::Connection;
use strongroom_protocol::v1::{AuditDescription, AuditPage, DescribeAudit, ReadAudit, Role, request::Op};

use crate::args::Global;
use crate::failure::{Exit, Failure};
use crate::output::{Output, Page, Report};
use crate::session::{self, Session, answer};

use filter::When;

pub const ABOUT: &str = "\
Show the audit log, take it away, and verify it.

Every management action and every use of a key is in it: when, who (the partition's user; the kernel's user id and \
process), what, on which key, and whether it succeeded. Each partition has its own log, which its crypto officers \
read; the daemon has one, too ('--node'), which root reads.

  strongroom audit show                          the last entries
  strongroom audit show --key web --since 1h     what was done with a key in the last hour
  strongroom audit show --outcome failure        what was refused
  strongroom audit tail                          as it happens
  strongroom audit export --out tls.jsonl        the whole log, to keep elsewhere
  strongroom audit key --out audit.pem           the public key that it is verified with
  strongroom audit verify tls.jsonl --key audit.pem
  strongroom audit status                        whether it is written, and sent

Verifying needs no daemon. Keep the public key where whoever may change the log cannot change it.";

/// `strongroom audit`.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Show entries (as the partition's crypto officer; --node as root)
    Show(show::Show),
    /// Show the last entries, and further ones as they come
    Tail(show::Tail),
    /// Write the log as it stands, one JSON object a line, signed to its end
    Export(Export),
    /// Verify exported or original files, without the daemon
    #[command(long_about = verify::ABOUT)]
    Verify(verify::Verify),
    /// Print the public key that logs are verified with
    Key(Key),
    /// Show or say whether each use of a key has an entry, or there are sums
    #[command(long_about = uses::ABOUT)]
    Uses(uses::Uses),
    /// Show whether the log gets to the disk, and how far sinks are behind
    #[command(long_about = status::ABOUT)]
    Status(status::Status),
}

/// Which log.
#[derive(Debug, Args)]
pub struct Which {
    /// The daemon's own log, not a partition's
    #[arg(long)]
    node: bool,
}

/// `strongroom audit export`.
#[derive(Debug, Args)]
pub struct Export {
    #[command(flatten)]
    which: Which,
    /// Begin with the first entry from then on: 2h, 7d, 2026-11-23 or 2026-11-23T06:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    since: Option<When>,
    /// Write it here instead of to standard output
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// `strongroom audit key`.
#[derive(Debug, Args)]
pub struct Key {
    /// Write it here instead of to standard output
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

impl Audit {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Why it failed.
    pub fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        match self {
            Audit::Show(show) => show.run(global, output),
            Audit::Tail(tail) => tail.run(global, output),
            Audit::Export(export) => export.run(global, output),
            Audit::Verify(verify) => verify.run(output),
            Audit::Key(key) => key.run(global, output),
            Audit::Uses(uses) => uses.run(global, output),
            Audit::Status(status) => status.run(global, output),
        }
    }
}

/// A log that is read page by page.
struct Reader {
    from: Source,
    request: ReadAudit,
}

enum Source {
    Partition(Box<Session>),
    Node(Box<Connection>),
}

impl Reader {
    /// Opens a log. `request` says where to begin.
    fn open(which: &Which, global: &Global, output: Output, request: ReadAudit) -> Result<Self, Failure> {
        let from = match which.node {
            true => Source::Node(Box::new(session::connect(global)?)),
            false => {
                Source::Partition(Box::new(Session::open_in_own_role(global, output, Role::CryptoOfficer)?))
            }
        };
        Ok(Reader { from, request })
    }

    /// The next lines, and whether there are more now.
    fn page(&mut self) -> Result<(Vec<String>, bool), Failure> {
        let op = || Op::ReadAudit(self.request.clone());
        let page: AuditPage = match &mut self.from {
            Source::Partition(session) => answer!(session.call(Role::CryptoOfficer, op), AuditPage)?,
            Source::Node(connection) => answer!(connection.call(0, op()), AuditPage)?,
        };
        self.request = ReadAudit { cursor: page.cursor, ..ReadAudit::default() };
        Ok((page.lines, page.more))
    }
}

impl Export {
    fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        let since_micros = self.since.map_or(0, |when| when.0);
        let request = ReadAudit { since_micros, checkpoint: true, ..ReadAudit::default() };
        let mut reader = Reader::open(&self.which, global, output, request)?;
        match &self.out {
            None => {
                let mut stdout = BufWriter::new(io::stdout().lock());
                copy(&mut reader, &mut stdout, "standard output".as_ref()).map(drop)
            }
            Some(path) => {
                let file = File::options().write(true).create_new(true).open(path);
                let file = file.map_err(|error| Failure::file("make", path, &error))?;
                let mut writer = BufWriter::new(file);
                let entries = copy(&mut reader, &mut writer, path)?;
                let synced =
                    writer.into_inner().map_err(|error| error.into_error()).and_then(|file| file.sync_all());
                synced.map_err(|error| Failure::file("write", path, &error))?;
                output.print(&Exported { file: path.clone(), entries })
            }
        }
    }
}

fn copy(reader: &mut Reader, writer: &mut impl Write, path: &Path) -> Result<u64, Failure> {
    let mut count = 0;
    loop {
        let (lines, more) = reader.page()?;
        for line in &lines {
            match writeln!(writer, "{line}") {
                // A reader that has gone away (`| head`) is no failure.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(count),
                written => written.map_err(|error| Failure::file("write", path, &error))?,
            }
            count += 1;
        }
        if !more {
            writer.flush().map_err(|error| Failure::file("write", path, &error))?;
            return Ok(count);
        }
    }
}

#[derive(Debug, Serialize)]
struct Exported {
    file: PathBuf,
    entries: u64,
}

impl Report for Exported {
    fn text(&self, page: &mut Page) {
        page.line(format!("Wrote {} entries to {}.", self.entries, self.file.display()));
        page.line(format!(
            "Verify them anywhere: strongroom audit verify {} --key audit.pem",
            self.file.display()
        ));
    }
}

#[derive(Debug, Serialize)]
struct KeyView {
    public_key: String,
    fingerprint: String,
    /// Where the log's files are, on the daemon's machine.
    directory: String,
    /// Entries get to the disk.
    healthy: bool,
    #[serde(skip)]
    written: Option<PathBuf>,
}

impl Report for KeyView {
    fn text(&self, page: &mut Page) {
        match &self.written {
            Some(path) => {
                page.line(format!("Wrote the audit log's public key to {}.", path.display()));
                page.line(format!("  SHA-256 {}", self.fingerprint));
            }
            None => page.block(&self.public_key),
        }
    }
}

impl Key {
    fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        let mut connection = session::connect(global)?;
        let said: AuditDescription =
            answer!(connection.call(0, Op::DescribeAudit(DescribeAudit {})), AuditDescription)?;
        let key = PublicKey::from_spki(&said.public_key).map_err(|_| {
            Failure::new(
                Exit::Failed,
                "no_audit_key",
                "the daemon signs no audit log: it is sealed, or not yet started",
            )
        })?;
        let pem = key.to_pem();
        if let Some(path) = &self.out {
            super::write_file(path, &pem, self.force)?;
        }
        output.print(&KeyView {
            public_key: pem,
            fingerprint: key.fingerprint(),
            directory: said.directory,
            healthy: said.healthy,
            written: self.out,
        })
    }
}
