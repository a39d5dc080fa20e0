//! The command line: what holds for every command, and the tree of commands. Each command's own options
//! stand in its file under `commands/`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand};

use strongroom_protocol::node::Address;

use crate::commands::{
    audit, backup, cert, cluster, doctor, init, key, node, page, partition, role, seal, security_domain,
    share, shell, status, tamper, user,
};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const ABOUT: &str = "\
Administers a Strongroom partition: TLS private keys that web servers use and never hold.

First steps, as root, with strongroomd running:

  strongroom init tls --admit root                    make a partition
  strongroom key generate web --type p256             make a key in it (or: key import web web.key)
  strongroom key grant web --uid www-data --role tls-server    let the web server sign with it
  strongroom key uri web                              its name for nginx, Apache and openssl
  strongroom key reference web --out web.ref.pem      the same as a file, for nginx before 1.29
  strongroom cert put web web.crt                     keep the certificate beside the key

You act as the partition's user that admits your user id. Without one, the command asks for the password at \
the terminal, or takes --login NAME and --password-file FILE. A password is never taken from the command line \
or the environment.";

const AFTER: &str = "\
Exit codes:
  0  done
  1  failed
  2  the command line is wrong, or leaves open what is meant
  3  strongroomd is not running or does not answer
  4  not logged in, wrong password, or not permitted
  5  no such partition, user, key or certificate
  6  it exists already

Environment:
  STRONGROOM_SOCKET       the daemon's socket, where neither --socket nor --nodes is given
  STRONGROOM_NODES        nodes, between commas, where neither is given
  STRONGROOM_OWNER        the certificate (PEM) of the partition's owner, by which nodes over TLS are known
  STRONGROOM_CERTIFICATE  your certificate (PEM) for nodes over TLS, …
  STRONGROOM_KEY          … and its private key (PEM, without a passphrase)
  NO_COLOR                no colours, if not empty

Files:
  ~/.config/strongroom/client.conf, /etc/strongroom/client.conf
                          the same, for programs without those variables: lines 'node = …', 'owner = FILE',
                          'certificate = FILE', 'key = FILE'";

/// Administers a Strongroom partition.
#[derive(Debug, Parser)]
#[command(
    name = "strongroom",
    version,
    about = "Administers a Strongroom partition: TLS private keys that web servers use and never hold",
    long_about = ABOUT,
    after_long_help = AFTER,
    styles = STYLES,
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The partition; needless when there is only one
    #[arg(long, short = 'p', global = true, value_name = "LABEL|NUMBER")]
    pub partition: Option<String>,

    /// Log in as this user instead of acting by your user id; asks for the password
    #[arg(long, short = 'l', global = true, value_name = "NAME")]
    pub login: Option<String>,

    /// Log in with the password in the first line of this file (- for standard input)
    #[arg(long, global = true, value_name = "FILE")]
    pub password_file: Option<PathBuf>,

    /// Print JSON, for programs; errors too, on standard error
    #[arg(long, global = true)]
    pub json: bool,

    /// The daemon's socket
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,

    /// Nodes, between commas: tls://HOST or tls://HOST:PORT, or the path of a socket. The first that answers serves
    #[arg(long, global = true, value_name = "NODE,…", value_delimiter = ',', conflicts_with = "socket")]
    pub nodes: Vec<Address>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a partition with its crypto officer and first crypto user
    #[command(long_about = init::ABOUT)]
    Init(init::Init),
    /// Show whether the daemon runs, how it keeps keys, and what it has done
    #[command(long_about = status::ABOUT)]
    Status(status::Asked),
    /// Find the usual mistakes between a server and its key, and say the remedy
    #[command(long_about = doctor::ABOUT)]
    Doctor(doctor::Doctor),
    /// Print a link to the daemon's page, which shows what you may see
    #[command(long_about = page::ABOUT)]
    Page,
    /// List or delete partitions
    #[command(subcommand)]
    Partition(partition::Partition),
    /// Prove which node the daemon is: its certificate, signed by the partition's owner
    #[command(subcommand)]
    Node(node::Node),
    /// Make several nodes one: they hold the same keys
    #[command(subcommand, long_about = cluster::ABOUT)]
    Cluster(cluster::Cluster),
    /// Manage the partition's users (as its crypto officer)
    #[command(subcommand)]
    User(user::User),
    /// Make, import, list and name keys (as a crypto user)
    #[command(subcommand)]
    Key(key::Key),
    /// Say what those may do whom a key names
    #[command(subcommand, long_about = role::ABOUT)]
    Role(role::Role),
    /// Keep certificates beside the keys
    #[command(subcommand)]
    Cert(cert::Cert),
    /// Make, show, verify and restore backups
    #[command(subcommand)]
    Backup(backup::Backup),
    /// Split the key of a partition's backups among holders
    #[command(subcommand)]
    SecurityDomain(security_domain::SecurityDomain),
    /// Seal the node: wipe all keys from its memory (as root)
    #[command(long_about = seal::SEAL)]
    Seal,
    /// Unseal the node: with its passphrase, or with shares
    #[command(long_about = seal::UNSEAL)]
    Unseal(seal::Unseal),
    /// Decrypt a holder's share, on any machine
    #[command(long_about = share::ABOUT)]
    Share(share::Share),
    /// Choose what unseals the node: a passphrase, shares, or its key file
    #[command(subcommand, long_about = seal::SEAL_WITH)]
    SealWith(seal::SealWith),
    /// See what was found in a store that was tampered with, and decide
    #[command(subcommand)]
    Tamper(tamper::Tamper),
    /// Destroy the node: its key, its store, and all keys in memory
    #[command(long_about = seal::ZEROIZE)]
    Zeroize(seal::Zeroize),
    /// Show the audit log, take it away, and verify it
    #[command(subcommand, long_about = audit::ABOUT)]
    Audit(audit::Audit),
    /// Print the completion script for a shell
    #[command(long_about = shell::COMPLETIONS)]
    Completions(shell::Completions),
    /// Write the manual pages into a directory
    #[command(long_about = shell::MAN)]
    Man(shell::Man),
}

/// Why a command line is refused that has an empty value in it: no option and no argument takes one. (A variable of a script's that
/// is not set becomes one, and would be a name that nothing has.)
pub fn empty_value(arguments: impl Iterator<Item = OsString>) -> Option<String> {
    let arguments: Vec<String> = arguments.map(|argument| argument.to_string_lossy().into_owned()).collect();
    let empty_after =
        arguments.iter().find_map(|argument| argument.strip_suffix('=').filter(|o| o.starts_with("--")));
    if let Some(option) = empty_after {
        return Some(format!("the value of {option} is empty"));
    }
    let at = arguments.iter().position(String::is_empty)?;
    Some(match at.checked_sub(1).and_then(|before| arguments.get(before)) {
        Some(option) if option.starts_with('-') => format!("the value of {option} is empty"),
        Some(word) => format!("the argument after {word:?} is empty"),
        None => "an argument is empty".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// clap's own checks: no two options of one name, no argument without help.
    #[test]
    fn the_command_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_empty_value_is_named() {
        let found = |line: &[&str]| empty_value(line.iter().map(OsString::from));
        for (line, said) in [
            (&["strongroom", "init", "--user="][..], Some("the value of --user is empty")),
            (&["strongroom", "init", "--user", ""], Some("the value of --user is empty")),
            (&["strongroom", "key", "show", ""], Some("the argument after \"show\" is empty")),
            (&["strongroom", "key", "show", "a="], None),
        ] {
            assert_eq!(found(line).as_deref(), said);
        }
    }
}
