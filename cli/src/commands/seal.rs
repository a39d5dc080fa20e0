//! `strongroom seal`, `unseal`, `seal-with` and `zeroize`: the node's key in memory, on disk, and its end.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use strongroom_protocol::client::Connection;
use strongroom_protocol::v1::{
    NodeState, Quorum, Seal, SealWith as Request, ShowSeal, Status, StatusReply, Unseal as UnsealRequest,
    Unsealing, Zeroize as ZeroizeRequest, request::Op, response,
};

use crate::args::Global;
use crate::commands::{confirm, write_file};
use crate::failure::Failure;
use crate::output::{Output, Page, Report};
use crate::password::{self, Password};
use crate::quorum_file;
use crate::session::{self, answer};

/// What `strongroom seal --help` says.
pub const SEAL: &str = "\
Seal the node: wipe all keys from its memory. Until it is unsealed it answers 'strongroom status' and refuses \
everything else; web servers fail their handshakes.

For an incident, or before a machine is moved. Only root and the user that runs strongroomd may.";

/// What `strongroom unseal --help` says.
pub const UNSEAL: &str = "\
Unseal the node. What it takes was chosen with 'strongroom seal-with'; 'strongroom status' shows it. A node with a \
key file or a systemd credential unseals itself when it starts.

  strongroom unseal                                        asks for the passphrase
  strongroom unseal --passphrase-file /run/keys/passphrase
  strongroom unseal --holder-key alice.key                 alice's share; asks for her key's passphrase
  strongroom unseal --share alice.share                    a share that alice has decrypted with openssl

Shares may be given one after the other, by different people: the node keeps them until there are enough.";

/// What `strongroom seal-with --help` says.
pub const SEAL_WITH: &str = "\
Choose what unseals the node when it starts. Keys stay as they are. The old means counts until the new one is on \
the disk, and is destroyed then.

  strongroom seal-with passphrase                                      asks for it, twice
  strongroom seal-with shares --holder a.pem --holder b.pem --holder c.pem --quorum 2 --out node.shares
  strongroom seal-with file                                            the key in a file, mode 0600";

/// What `strongroom zeroize --help` says.
pub const ZEROIZE: &str = "\
Destroy the node: the keys in its memory, the key that opens its store, and the store, with every partition, key \
and user. What is left are backups and the shares of security domains. For a machine that is given away.

  strongroom status                                     shows the path of the store
  strongroom zeroize --confirm /var/lib/strongroom/store.redb";

/// `strongroom unseal`.
#[derive(Debug, Args)]
pub struct Unseal {
    /// The passphrase is the first line of this file (- for standard input)
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// A decrypted share, 33 bytes; may be repeated
    #[arg(long, value_name = "FILE")]
    share: Vec<PathBuf>,
    /// The RSA private key (PEM) of a holder, which decrypts the holder's share; may be repeated
    #[arg(long, value_name = "FILE")]
    holder_key: Vec<PathBuf>,
}

/// `strongroom seal-with`.
#[derive(Debug, Subcommand)]
pub enum SealWith {
    /// A passphrase, asked for at each start
    Passphrase {
        /// The passphrase is the first line of this file (- for standard input)
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// Shares, of which a quorum of their holders is needed at each start
    Shares(Shares),
    /// The key in a file that only the daemon can read: it unseals itself
    File,
}

/// `strongroom seal-with shares`.
#[derive(Debug, Args)]
pub struct Shares {
    /// A holder: a PEM file with an RSA public key or a certificate; one for each
    #[arg(long, value_name = "FILE", required_unless_present = "again")]
    holder: Vec<PathBuf>,
    /// How many holders are needed
    #[arg(long, value_name = "NUMBER", required_unless_present = "again")]
    quorum: Option<u32>,
    /// Write the encrypted shares to this file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Change nothing: write the file of the present shares once more
    #[arg(long, conflicts_with_all = ["holder", "quorum"])]
    again: bool,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
}

/// `strongroom zeroize`.
#[derive(Debug, Args)]
pub struct Zeroize {
    /// The path of the node's store, as 'strongroom status' shows it
    #[arg(long, value_name = "PATH")]
    confirm: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// The name of a node's state, for people and for programs.
pub fn state_name(state: NodeState) -> &'static str {
    match state {
        NodeState::Open | NodeState::Unspecified => "open",
        NodeState::Waiting => "waiting",
        NodeState::Sealed => "sealed",
        NodeState::Tampered => "tampered",
        NodeState::Zeroized => "zeroized",
    }
}

/// What lies there and opens the store besides what unseals the node, and what to do about it.
pub fn left_behind(what: &str) -> (&'static str, &'static str) {
    match what {
        "credential" => (
            "systemd still gives strongroomd the credential strongroom-node-key",
            "take it out of the unit ('systemctl edit strongroomd'), and 'shred -u' the file that it is made of",
        ),
        _ => (
            "the key still lies in node.key in the state directory",
            "when what unseals the node has been tried, 'shred -u' that file",
        ),
    }
}

#[derive(Debug, Serialize)]
struct Changed {
    state: &'static str,
    /// Shares that are there, of those needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    shares: Option<(u32, u32)>,
    /// What opens the store besides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    also_opened_by: Vec<String>,
    #[serde(skip)]
    sentence: String,
}

impl Changed {
    fn to(state: &'static str, sentence: impl Into<String>) -> Self {
        Changed { state, shares: None, also_opened_by: Vec::new(), sentence: sentence.into() }
    }
}

impl Report for Changed {
    fn text(&self, page: &mut Page) {
        page.line(&self.sentence);
        for what in &self.also_opened_by {
            let (title, remedy) = left_behind(what);
            page.line(format!("But {title}, and opens the store, too: {remedy}."));
        }
    }
}

/// Seals the node.
///
/// # Errors
///
/// The daemon's refusal.
pub fn seal(global: &Global, output: Output) -> Result<(), Failure> {
    let mut connection = session::connect(global)?;
    answer!(connection.call(0, Op::Seal(Seal {})), Done)?;
    output.print(&Changed::to("sealed", "The node is sealed. 'strongroom unseal' unseals it."))
}

/// Asks the daemon how it is.
///
/// # Errors
///
/// If it does not answer.
pub fn node(connection: &mut Connection) -> Result<StatusReply, Failure> {
    answer!(connection.call(0, Op::Status(Status {})), Status)
}

/// Tells how far unsealing has come.
///
/// # Errors
///
/// If it cannot be printed.
pub fn print_progress(unsealing: &Unsealing, output: Output) -> Result<(), Failure> {
    let (given, needed) = (unsealing.given, unsealing.needed);
    let is_open = unsealing.state() == NodeState::Open;
    let sentence = match is_open {
        true => "The node is unsealed.".to_owned(),
        false => {
            format!("{given} of {needed} shares are there: {} more are needed.", needed.saturating_sub(given))
        }
    };
    let shares = (!is_open).then_some((given, needed));
    output.print(&Changed { shares, ..Changed::to(state_name(unsealing.state()), sentence) })
}

impl Unseal {
    /// From options of another command.
    pub fn of(passphrase_file: Option<PathBuf>, share: Vec<PathBuf>, holder_key: Vec<PathBuf>) -> Self {
        Unseal { passphrase_file, share, holder_key }
    }

    /// Unseals the node.
    ///
    /// # Errors
    ///
    /// If the passphrase or a share is wrong, or nobody is there to be asked.
    pub fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        let mut connection = session::connect(global)?;
        let node = node(&mut connection)?;
        let request = match node.state() {
            NodeState::Sealed => self.request(&mut connection, &node.sealed_with, output)?,
            // What it says is the daemon's.
            _ => UnsealRequest::default(),
        };
        session::be_patient(&mut connection)?;
        let unsealing = answer!(connection.call(0, Op::Unseal(request)), Unsealing)?;
        print_progress(&unsealing, output)
    }

    /// What the node's means asks for.
    ///
    /// # Errors
    ///
    /// If it was not given, or cannot be read.
    pub fn request(
        &self,
        connection: &mut Connection,
        means: &str,
        output: Output,
    ) -> Result<UnsealRequest, Failure> {
        match means {
            "passphrase" => {
                let passphrase = match &self.passphrase_file {
                    Some(path) => password::from_file(path, output)?,
                    None if password::interactive() => password::ask("Passphrase of the node")?,
                    None => {
                        return Err(Failure::usage(
                            "there is no terminal to ask for the node's passphrase at; give --passphrase-file FILE, or \
                             - for standard input",
                        ));
                    }
                };
                Ok(UnsealRequest { passphrase: passphrase.to_string(), shares: Vec::new() })
            }
            "shares" => {
                if self.share.is_empty() && self.holder_key.is_empty() {
                    return Err(Failure::usage(
                        "this node is unsealed by shares: give --holder-key FILE or --share FILE",
                    ));
                }
                let quorum = answer!(connection.call(0, Op::ShowSeal(ShowSeal {})), Quorum)?;
                let shares = quorum_file::shares(Some(&quorum), &self.share, &self.holder_key)?;
                Ok(UnsealRequest { passphrase: String::new(), shares })
            }
            _ => Ok(UnsealRequest::default()),
        }
    }
}

impl SealWith {
    /// Changes what unseals the node.
    ///
    /// # Errors
    ///
    /// The daemon's refusal; or if a file cannot be read or written.
    pub fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        let mut connection = session::connect(global)?;
        session::be_patient(&mut connection)?;
        let sentence = match self {
            SealWith::Passphrase { passphrase_file } => {
                let passphrase: Password = match &passphrase_file {
                    Some(path) => password::from_file(path, output)?,
                    None => password::ask_new("New passphrase of the node")?,
                };
                let request = Request { passphrase: passphrase.to_string(), ..Request::default() };
                answer!(connection.call(0, Op::SealWith(request)), Done)?;
                match node(&mut connection)?.also_opened_by.is_empty() {
                    true => {
                        "From its next start on the node is unsealed by this passphrase: 'strongroom unseal'. Nothing else \
                         opens its store: keep it where you will find it."
                    }
                    false => {
                        "From its next start on the node is unsealed by this passphrase: 'strongroom unseal'. Keep it where \
                         you will find it."
                    }
                }
                .to_owned()
            }
            SealWith::File => {
                answer!(connection.call(0, Op::SealWith(Request::default())), Done)?;
                match node(&mut connection)?.sealed_with.as_str() {
                    "credential" => {
                        "The node unseals itself, with the credential strongroom-node-key of systemd."
                            .to_owned()
                    }
                    _ => {
                        "The node unseals itself, with the key in node.key in its state directory.".to_owned()
                    }
                }
            }
            SealWith::Shares(shares) => shares.run(&mut connection)?,
        };
        let also_opened_by = node(&mut connection)?.also_opened_by;
        output.print(&Changed { also_opened_by, ..Changed::to("open", sentence) })
    }
}

impl Shares {
    fn run(&self, connection: &mut Connection) -> Result<String, Failure> {
        if self.out.exists() && !self.force {
            let exists = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
            return Err(Failure::file("write", &self.out, &exists).with_remedy("--force replaces it"));
        }
        let quorum: Quorum = if self.again {
            answer!(connection.call(0, Op::ShowSeal(ShowSeal {})), Quorum)?
        } else {
            let holders =
                self.holder.iter().map(|path| quorum_file::holder_key(path)).collect::<Result<_, _>>()?;
            let needed = self.quorum.unwrap_or_default();
            let request = Request { holders, needed, ..Request::default() };
            answer!(connection.call(0, Op::SealWith(request)), Quorum)?
        };
        let (needed, count) = (quorum.needed, quorum.holders.len());
        write_file(&self.out, &quorum_file::text(&quorum)?, self.force).map_err(|failure| {
            failure.with_remedy(
                "the shares are made: write them again with 'strongroom seal-with shares --again --out FILE'",
            )
        })?;
        Ok(format!(
            "From its next start on the node is unsealed by {needed} of {count} holders. Wrote their encrypted shares to \
             {}: give each holder a copy.",
            self.out.display()
        ))
    }
}

impl Zeroize {
    /// Destroys the node.
    ///
    /// # Errors
    ///
    /// If the path is another node's, or not everything could be destroyed.
    pub fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        let mut connection = session::connect(global)?;
        let node = node(&mut connection)?;
        if node.store_path != self.confirm {
            return Err(Failure::usage(format!(
                "this node's store is {}, not {}: nothing was destroyed",
                node.store_path, self.confirm
            )));
        }
        let question = format!("Destroy {}, with every partition and key in it, for ever?", node.store_path);
        confirm(self.yes, &question)?;
        session::be_patient(&mut connection)?;
        let request = Op::Zeroize(ZeroizeRequest { store_path: self.confirm });
        match connection.call(0, request)? {
            response::Result::Done(_) => {}
            _ => return Err(Failure::unexpected_answer()),
        }
        let sentence =
            "The node is zeroized: its key, its store and all keys in memory are gone. A restart of \
                        strongroomd begins anew."
                .to_owned();
        output.print(&Changed::to("zeroized", sentence))
    }
}
