//! The commands: one file each.

pub mod audit;
pub mod backup;
pub mod cert;
pub mod cluster;
pub mod doctor;
pub mod init;
pub mod key;
pub mod node;
pub mod owner;
pub mod page;
pub mod partition;
pub mod role;
pub mod seal;
pub mod security_domain;
pub mod share;
pub mod shell;
pub mod status;
pub mod tamper;
pub mod user;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use crate::args::{Command, Global};
use crate::failure::Failure;
use crate::output::Output;
use crate::password;

/// Runs a command.
///
/// # Errors
///
/// Why it failed.
pub fn run(command: Command, global: &Global, output: Output) -> Result<(), Failure> {
    match command {
        Command::Init(init) => init.run(global, output),
        Command::Status(status) => status.run(global, output),
        Command::Doctor(doctor) => doctor.run(global, output),
        Command::Page => page::run(global, output),
        Command::Partition(partition) => partition.run(global, output),
        Command::Node(node) => node.run(global, output),
        Command::Cluster(cluster) => cluster.run(global, output),
        Command::User(user) => user.run(global, output),
        Command::Key(key) => key.run(global, output),
        Command::Role(role) => role.run(global, output),
        Command::Cert(cert) => cert.run(global, output),
        Command::Backup(backup) => backup.run(global, output),
        Command::SecurityDomain(domain) => domain.run(global, output),
        Command::Seal => seal::seal(global, output),
        Command::Unseal(unseal) => unseal.run(global, output),
        Command::Share(share) => share.run(output),
        Command::SealWith(with) => with.run(global, output),
        Command::Tamper(tamper) => tamper.run(global, output),
        Command::Zeroize(zeroize) => zeroize.run(global, output),
        Command::Audit(audit) => audit.run(global, output),
        Command::Completions(completions) => completions.run(),
        Command::Man(man) => man.run(output),
    }
}

/// Asks whether to go on with something that cannot be undone. `yes` is the answer given on the command line.
///
/// # Errors
///
/// If the answer is no, or nobody is there to give one.
fn confirm(yes: bool, question: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !password::interactive() {
        return Err(Failure::usage(format!(
            "there is no terminal to ask at; give --yes if the answer is yes: {question}"
        )));
    }
    let asked = || {
        write!(io::stderr(), "{} [y/N] ", crate::output::printable(question))?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(answer)
    };
    let answer = asked().map_err(|e| Failure::file("ask at", "the terminal".as_ref(), &e))?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Failure::new(crate::failure::Exit::Failed, "not_confirmed", "nothing was done"))
    }
}

/// Writes a file for other programs. An existing one is replaced only if `force`, and then at once: a server
/// that reloads meanwhile reads the old or the new one.
///
/// # Errors
///
/// If the file exists, or cannot be written.
fn write_file(path: &Path, content: impl AsRef<[u8]>, force: bool) -> Result<(), Failure> {
    let content = content.as_ref();
    let written = if force { replace_file(path, content) } else { new_file(path, content) };
    written.map_err(|e| {
        let failure = Failure::file("write", path, &e);
        match e.kind() {
            io::ErrorKind::AlreadyExists => {
                failure.with_remedy("--force replaces it, if it is not your only copy of a key")
            }
            _ => failure,
        }
    })
}

fn new_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let next = path.with_file_name(name);
    let replaced = new_file(&next, content).and_then(|()| fs::rename(&next, path));
    if replaced.is_err() {
        let _ = fs::remove_file(&next);
    }
    replaced
}

/// Writes a moment as RFC 3339, UTC, to the second.
fn moment(seconds: u64) -> String {
    // humantime writes years up to 9999.
    let seconds = seconds.min(253_402_300_799);
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds))
        .to_string()
}
