//! The hosts: a network namespace for each, and a switch.
//!
//! ```text
//! node1 ══╗               ╔══ web      this program, nginx
//! node2 ══╬══ the switch ─╣
//! node3 ══╝               ╚══ client   visitors, and who makes keys
//! ```
//!
//! Double lines on the left are [`Link`]s, which can be cut; those on the right are pairs of the kernel's.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use strongroom_demo::command;
use strongroom_demo::programs::system;

use crate::link::Link;

/// How many nodes there are.
pub const NODES: usize = 3;

/// How long a command of `ip` may take.
const LIMIT: Duration = Duration::from_secs(20);

/// Where nginx is.
pub const WEB: &str = "10.99.0.10";

/// A host.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its address.
    pub address: String,
    namespace: PathBuf,
}

impl Host {
    /// The file that stands for its network.
    pub fn namespace(&self) -> &Path {
        &self.namespace
    }

    /// A command on this host.
    ///
    /// # Errors
    ///
    /// When util-linux is not installed.
    pub fn command(&self, program: &Path) -> Result<Command> {
        Ok(command::new_on(Some(&self.namespace), program))
    }
}

/// All of them.
#[derive(Debug)]
pub struct Network {
    /// The nodes' hosts, each with its cable.
    pub nodes: Vec<(Host, Link)>,
    /// The visitors' host.
    pub client: Host,
}

fn ip(arguments: &str) -> Result<()> {
    let mut ip = command::new(system("ip")?);
    ip.args(arguments.split(' '));
    command::succeed(ip, LIMIT).map(drop)
}

impl Network {
    /// Makes them. This process is on the web server's host.
    ///
    /// # Errors
    ///
    /// When the kernel has no such devices, or this process may not make them.
    pub fn make(seed: u64) -> Result<Self> {
        ip("link set lo up")?;
        ip("netns add switch")?;
        ip("-n switch link add bridge type bridge")?;
        ip("-n switch link set bridge up")?;
        ip("link add eth0 type veth peer name web netns switch")?;
        ip(&format!("address add {WEB}/24 dev eth0"))?;
        ip("link set eth0 up")?;
        ip("-n switch link set web master bridge up")?;
        let client = host("client", "10.99.0.20")?;
        ip("-n client link add eth0 type veth peer name client netns switch")?;
        attach("client", &client)?;
        many_connections(&client)?;
        let mut nodes = Vec::new();
        for number in 1..=NODES {
            let name = format!("node{number}");
            let node = host(&name, &format!("10.99.0.{number}"))?;
            let end = format!("{name}-eth0");
            let link = Link::make(&name, &end, seed.wrapping_add(number as u64))?;
            ip(&format!("link set {name} netns switch"))?;
            ip(&format!("link set {end} netns {name}"))?;
            ip(&format!("-n {name} link set {end} name eth0"))?;
            attach(&name, &node)?;
            nodes.push((node, link));
        }
        Ok(Network { nodes, client })
    }
}

/// Tens of thousands of connections a minute come from one address. A port must not be taken for one of a connection that
/// was closed a moment ago: its SYN would not be answered, and be sent again after a second.
fn many_connections(client: &Host) -> Result<()> {
    let set =
        "echo 1024 65535 >/proc/sys/net/ipv4/ip_local_port_range; echo 1 >/proc/sys/net/ipv4/tcp_tw_reuse";
    let mut visitors = client.command(&system("sh")?)?;
    visitors.args(["-c", set]);
    command::succeed(visitors, LIMIT)?;
    std::fs::write("/proc/sys/net/ipv4/tcp_max_tw_buckets", "0")
        .context("cannot set up the web server's host")
}

fn host(name: &str, address: &str) -> Result<Host> {
    ip(&format!("netns add {name}"))?;
    ip(&format!("-n {name} link set lo up"))?;
    Ok(Host { address: address.into(), namespace: Path::new("/run/netns").join(name) })
}

/// The host's end of its cable is eth0; the switch's has its name.
fn attach(name: &str, host: &Host) -> Result<()> {
    ip(&format!("-n {name} address add {}/24 dev eth0", host.address))?;
    ip(&format!("-n {name} link set eth0 up"))?;
    ip(&format!("-n switch link set {name} master bridge up"))
}
