//! What the audit log is told at the daemon's start; everything has a default.

use std::path::PathBuf;

use super::sink::{Sink, Target};

/// The audit log's configuration.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where its files are; `None`: the folder `audit` in the state directory.
    pub directory: Option<PathBuf>,
    /// A file that has reached this size, in bytes, is followed by another; and each day has its own.
    pub rotate_bytes: u64,
    /// Files are deleted after so many days, when all sinks have got them; `None`: never.
    pub keep_days: Option<u32>,
    /// Where entries are sent besides.
    pub sinks: Vec<Sink>,
}

impl Default for Options {
    fn default() -> Self {
        Options { directory: None, rotate_bytes: 64 << 20, keep_days: None, sinks: Vec::new() }
    }
}

/// What sinks need of the network. The daemon gives up the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// TCP ports to which it connects.
    pub tcp: Vec<u16>,
    /// Whether it sends datagrams: to a sink, or to look up a name.
    pub udp: bool,
    /// Whether names of hosts are looked up.
    pub names: bool,
}

impl Options {
    /// What the sinks need of the network.
    pub fn network(&self) -> Network {
        let mut network = Network::default();
        for sink in &self.sinks {
            match &sink.target {
                Target::Journald(_) => {}
                Target::Udp(_) => network.udp = true,
                Target::Tls(host) => network.tcp.push(host.port),
            }
            network.names |= sink.target.host().is_some_and(super::sink::Host::is_name);
        }
        network.udp |= network.names;
        network
    }
}
