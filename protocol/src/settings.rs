//! What a client on this machine is told: its nodes, and the certificates for those that it reaches over the network.
//!
//! The environment goes before the file, and the user's file before the system's. Without either there is the one
//! daemon of this machine.

use std::env;
use std::path::{Path, PathBuf};

use crate::address;
use crate::node::{Address, AddressError, MAX_NODES, Node};
use crate::tls::{Credentials, TlsError};

/// The environment variable that lists nodes, between commas.
pub const NODES_VARIABLE: &str = "STRONGROOM_NODES";

/// The environment variables that name files: the owner's certificate, the client's own, and its key.
pub const FILE_VARIABLES: [&str; 3] = ["STRONGROOM_OWNER", "STRONGROOM_CERTIFICATE", "STRONGROOM_KEY"];

/// The system's file.
pub const SYSTEM_FILE: &str = "/etc/strongroom/client.conf";

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What reading said.
        source: std::io::Error,
    },
    /// A line that says nothing that is known.
    #[error("{}, line {number}: {why}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        number: usize,
        /// What is wrong.
        why: String,
    },
    /// A node's address, from elsewhere than a file.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// More than [`MAX_NODES`].
    #[error("{0} nodes are more than {MAX_NODES}")]
    TooMany(usize),
    /// A node over TLS, and nothing by which it is known.
    #[error(
        "node {0} needs the certificate of the partition's owner, by which it is known: name its file in STRONGROOM_OWNER, or as 'owner' in {SYSTEM_FILE}"
    )]
    NoOwner(Address),
    /// A certificate without its key, or a key without its certificate.
    #[error(
        "a client's certificate and its key are named together: STRONGROOM_CERTIFICATE and STRONGROOM_KEY, or 'certificate' and 'key' in {SYSTEM_FILE}"
    )]
    HalfAPair,
    /// The files that are named.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A client's settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Where the nodes are, in the order in which they are named.
    pub nodes: Vec<Address>,
    /// The file with the certificates of the partitions' owners.
    pub owner: Option<PathBuf>,
    /// The client's certificate.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

impl Settings {
    /// Those of a program of user id `uid`. It trusts the environment: a program that runs with more rights than its
    /// user takes [`Settings::of_system`].
    ///
    /// # Errors
    ///
    /// [`SettingsError`].
    pub fn of_user(uid: u32) -> Result<Self, SettingsError> {
        let socket = variable(address::SOCKET_VARIABLE).map(PathBuf::from);
        let mut settings = match (variable(NODES_VARIABLE), socket) {
            (Some(list), _) => {
                Settings { nodes: parse_list(&list.to_string_lossy())?, ..Self::of_files(uid)? }
            }
            // Whoever names one socket means that one.
            (None, Some(socket)) => Settings { nodes: vec![Address::Unix(socket)], ..Settings::default() },
            (None, None) => Self::of_files(uid)?,
        };
        let [owner, certificate, key] = FILE_VARIABLES.map(|name| variable(name).map(PathBuf::from));
        settings.owner = owner.or(settings.owner);
        if certificate.is_some() || key.is_some() {
            (settings.certificate, settings.key) = (certificate, key);
        }
        if settings.nodes.is_empty() {
            settings.nodes.push(Address::Unix(address::client_socket(uid)));
        }
        Ok(settings)
    }

    /// The system's, whatever the environment says.
    ///
    /// # Errors
    ///
    /// [`SettingsError`].
    pub fn of_system() -> Result<Self, SettingsError> {
        let mut settings = Self::of_file(Path::new(SYSTEM_FILE))?.unwrap_or_default();
        if settings.nodes.is_empty() {
            settings.nodes.push(Address::Unix(PathBuf::from(address::SYSTEM_SOCKET)));
        }
        Ok(settings)
    }

    fn of_files(uid: u32) -> Result<Self, SettingsError> {
        let own = match uid {
            0 => None,
            _ => user_file().map(|path| Self::of_file(&path)).transpose()?.flatten(),
        };
        match own {
            Some(settings) => Ok(settings),
            None => Ok(Self::of_file(Path::new(SYSTEM_FILE))?.unwrap_or_default()),
        }
    }

    /// Reads a file; `None` if there is none.
    fn of_file(path: &Path) -> Result<Option<Self>, SettingsError> {
        use std::io::{ErrorKind, Read};
        let failed = |source| SettingsError::File { path: path.to_owned(), source };
        let mut text = String::new();
        let read = std::fs::File::open(path).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text));
        match read {
            Ok(_) => Self::parse(path, &text).map(Some),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Reads the text of a file: `name = value` in each line, `#` begins a remark. `path` is for errors.
    ///
    /// # Errors
    ///
    /// [`SettingsError::Line`], [`SettingsError::TooMany`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, SettingsError> {
        let mut settings = Settings::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |why: String| SettingsError::Line { path: path.to_owned(), number: index + 1, why };
            let Some((name, value)) = line.split_once('=').map(|(name, value)| (name.trim(), value.trim()))
            else {
                return Err(wrong("a line is 'name = value'".to_owned()));
            };
            if value.is_empty() {
                return Err(wrong(format!("{name} has no value")));
            }
            let place = match name {
                "node" => {
                    settings
                        .nodes
                        .push(value.parse().map_err(|error: AddressError| wrong(error.to_string()))?);
                    continue;
                }
                "owner" => &mut settings.owner,
                "certificate" => &mut settings.certificate,
                "key" => &mut settings.key,
                _ => return Err(wrong(format!("{name:?} is none of node, owner, certificate and key"))),
            };
            if place.replace(PathBuf::from(value)).is_some() {
                return Err(wrong(format!("{name} is named a second time")));
            }
        }
        check_count(settings.nodes).map(|nodes| Settings { nodes, ..settings })
    }

    /// Reads the certificates, if a node is reached over TLS.
    ///
    /// # Errors
    ///
    /// [`SettingsError`].
    pub fn credentials(&self) -> Result<Option<Credentials>, SettingsError> {
        let Some(remote) = self.nodes.iter().find(|node| matches!(node, Address::Tls { .. })) else {
            return Ok(None);
        };
        let owner = self.owner.as_deref().ok_or_else(|| SettingsError::NoOwner(remote.clone()))?;
        let client = match (self.certificate.as_deref(), self.key.as_deref()) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err(SettingsError::HalfAPair),
        };
        Ok(Some(Credentials::read(owner, client)?))
    }

    /// The nodes, with what is needed to reach them.
    ///
    /// # Errors
    ///
    /// [`SettingsError`].
    pub fn reach(&self) -> Result<Vec<Node>, SettingsError> {
        nodes(&self.nodes, self.credentials()?.as_ref())
    }
}

/// The nodes of these addresses. Each has a configuration of its own: sessions of one node are no use at another.
///
/// # Errors
///
/// [`SettingsError::Tls`].
pub fn nodes(addresses: &[Address], credentials: Option<&Credentials>) -> Result<Vec<Node>, SettingsError> {
    let node = |address: &Address| {
        let tls = match (address, credentials) {
            (Address::Tls { .. }, Some(credentials)) => Some(credentials.config()?),
            (Address::Tls { .. }, None) => return Err(SettingsError::NoOwner(address.clone())),
            (Address::Unix(_), _) => None,
        };
        Ok(Node { address: address.clone(), tls })
    };
    addresses.iter().map(node).collect()
}

/// Reads a list of addresses between commas.
///
/// # Errors
///
/// [`SettingsError::Address`], [`SettingsError::TooMany`].
pub fn parse_list(list: &str) -> Result<Vec<Address>, SettingsError> {
    let addresses = list.split(',').map(str::trim).filter(|address| !address.is_empty());
    let all: Result<Vec<Address>, AddressError> = addresses.map(str::parse).collect();
    check_count(all?)
}

fn check_count(nodes: Vec<Address>) -> Result<Vec<Address>, SettingsError> {
    match nodes.len() {
        0..=MAX_NODES => Ok(nodes),
        count => Err(SettingsError::TooMany(count)),
    }
}

/// The user's file, if the user has a directory for such files.
fn user_file() -> Option<PathBuf> {
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(base.join("strongroom/client.conf"))
}

fn variable(name: &str) -> Option<std::ffi::OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, String> {
        Settings::parse(Path::new("client.conf"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_names_nodes_and_certificates() {
        let settings = parse(
            "# of the site\nnode = /run/strongroom/strongroomd.sock\n\n node=tls://10.0.0.2 \nowner = /etc/strongroom/PO.crt\n",
        )
        .unwrap();
        assert_eq!(settings.nodes.len(), 2);
        assert_eq!(settings.owner, Some(PathBuf::from("/etc/strongroom/PO.crt")));
        assert_eq!(parse("").unwrap(), Settings::default());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, why) in [
            ("node = 10.0.0.1", "client.conf, line 1: \"10.0.0.1\" is no node's address"),
            ("\nnodes = /a", "line 2: \"nodes\" is none of"),
            ("node", "a line is 'name = value'"),
            ("key =", "key has no value"),
            ("key = a\nkey = b", "line 2: key is named a second time"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let many = "node = /a\n".repeat(MAX_NODES + 1);
        assert_eq!(parse(&many).unwrap_err(), "17 nodes are more than 16");
        assert!(parse_list(" /a, tls://b ,").unwrap().len() == 2 && parse_list("a").is_err());
    }

    #[test]
    fn a_node_over_tls_needs_an_owner() {
        let mut settings = parse("node = tls://a").unwrap();
        assert!(settings.reach().unwrap_err().to_string().contains("STRONGROOM_OWNER"));
        (settings.owner, settings.key) = (Some("PO.crt".into()), Some("a.key".into()));
        assert!(matches!(settings.reach(), Err(SettingsError::HalfAPair)));
        settings.key = None;
        assert!(settings.reach().unwrap_err().to_string().starts_with("cannot read PO.crt"));
        assert!(parse("node = /a").unwrap().reach().unwrap().iter().all(Node::is_near));
    }
}
