//! What the daemon is told at its start; everything has a default.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use strongroom_protocol::address;

use crate::audit::{self, Network};
use crate::connection::Deadlines;
use crate::life::Clocks;
use crate::places::Limits;
use crate::store::etcd;
use crate::vault::Cluster;

/// The daemon's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the store and the node key are. Made with mode 0700 if it is missing.
    pub state_dir: PathBuf,
    /// Where to listen. Its directory is made if it is missing.
    pub socket: PathBuf,
    /// Permissions of the socket.
    pub socket_mode: u32,
    /// systemd's $CREDENTIALS_DIRECTORY.
    pub credentials: Option<PathBuf>,
    /// Connections at the same time. Fewer if the process may not have as many file descriptors.
    pub connections: Limits,
    /// The clocks by which deleted keys go and keys are rotated.
    pub clocks: Clocks,
    /// How often is looked whether one is due.
    pub keeping: Duration,
    /// How long a connection may keep the daemon waiting.
    pub deadlines: Deadlines,
    /// How often the store is compared with what the daemon remembers.
    pub store_check: Duration,
    /// The audit log.
    pub audit: audit::Options,
    /// Where etcd is, for a node of a cluster.
    pub cluster: Option<Cluster>,
}

impl Config {
    /// The defaults of user id `uid`: the system's directories and a socket for everybody for root, private
    /// ones for others. Reads the environment, see [`address`].
    pub fn of_user(uid: u32) -> Self {
        Self {
            state_dir: address::state_directory(uid),
            socket: address::listen_socket(uid),
            socket_mode: if uid == 0 { 0o666 } else { 0o600 },
            credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            connections: Limits { all: 4096, of_one: 2048, strangers: 1024, strangers_of_one: 256 },
            clocks: Clocks::System,
            keeping: Duration::from_secs(60),
            deadlines: Deadlines::default(),
            store_check: Duration::from_secs(3600),
            audit: audit::Options::default(),
            cluster: None,
        }
    }

    /// Where the audit log is.
    pub fn audit_directory(&self) -> PathBuf {
        self.audit.directory.clone().unwrap_or_else(|| self.state_dir.join("audit"))
    }

    /// What the daemon needs of the network, beside what it has open before it is confined.
    pub fn network(&self) -> Network {
        let mut network = self.audit.network();
        let members = self.cluster.iter().flat_map(|cluster| &cluster.etcd.endpoints);
        for (host, port) in members.filter_map(|endpoint| etcd::host_and_port(endpoint)) {
            network.tcp.push(port);
            let is_name = host.trim_matches(['[', ']']).parse::<IpAddr>().is_err();
            network.names |= is_name;
            network.udp |= is_name;
        }
        network.tcp.sort_unstable();
        network.tcp.dedup();
        network
    }

    /// Whether users other than the daemon's may connect.
    pub fn is_public(&self) -> bool {
        self.socket_mode & 0o006 != 0
    }
}
