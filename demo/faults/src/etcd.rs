//! Members of etcd, one on each node's host, with certificates on all sides.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use strongroom_demo::command;
use strongroom_demo::environment::Environment;
use strongroom_demo::pki::{run_openssl, text};
use strongroom_demo::process::Process;
use strongroom_demo::programs::system;

use crate::network::Host;

/// How long etcdctl may take.
const LIMIT: Duration = Duration::from_secs(20);

/// Certificates for members and nodes, and who signs them.
#[derive(Debug, Clone)]
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Makes them for hosts.
    ///
    /// # Errors
    ///
    /// With what openssl said.
    pub fn make(folder: &Path, hosts: &[&Host]) -> Result<Self> {
        let made = Certificates { folder: folder.into() };
        let file = |name: &str| text(&folder.join(name));
        let plain = Environment::plain();
        let new = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout {} -out {} -subj {}";
        run_openssl(
            &plain,
            &format!("{new} -x509 -days 30"),
            &[&file("ca.key"), &file("ca.crt"), "/CN=etcd"],
        )?;
        let names: Vec<_> = hosts.iter().map(|host| format!("IP:{}", host.address)).collect();
        fs::write(folder.join("names"), format!("subjectAltName={},IP:127.0.0.1\n", names.join(",")))?;
        for name in ["member", "node"] {
            let [key, request, certificate] =
                ["key", "csr", "crt"].map(|ending| file(&format!("{name}.{ending}")));
            run_openssl(&plain, new, &[&key, &request, &format!("/CN={name}")])?;
            run_openssl(
                &plain,
                "x509 -req -days 30 -in {} -CA {} -CAkey {} -CAcreateserial -extfile {} -out {}",
                &[&request, &file("ca.crt"), &file("ca.key"), &file("names"), &certificate],
            )?;
        }
        Ok(made)
    }

    /// One of the files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// What a node is told of the members: all of them, and how they are reached.
pub fn endpoints(hosts: &[&Host]) -> String {
    let all: Vec<_> = hosts.iter().map(|host| format!("https://{}:2379", host.address)).collect();
    all.join(",")
}

/// A member.
#[derive(Debug)]
pub struct Member {
    host: Host,
    folder: PathBuf,
    certificates: Certificates,
    /// All members, as etcd wants to know them.
    cluster: String,
    name: String,
    process: Option<Process>,
}

impl Member {
    /// Starts the member with this number.
    ///
    /// # Errors
    ///
    /// When etcd is not installed.
    pub fn start(number: usize, folder: &Path, hosts: &[&Host], certificates: &Certificates) -> Result<Self> {
        let name = |number: usize| format!("member{}", number + 1);
        let cluster: Vec<_> = hosts
            .iter()
            .enumerate()
            .map(|(number, host)| format!("{}=https://{}:2380", name(number), host.address))
            .collect();
        let mut member = Member {
            host: (*hosts.get(number).context("no such host")?).clone(),
            folder: folder.into(),
            certificates: certificates.clone(),
            cluster: cluster.join(","),
            name: name(number),
            process: None,
        };
        member.start_again()?;
        Ok(member)
    }

    /// Starts it once more if it does not run, as the system's service manager would.
    ///
    /// # Errors
    ///
    /// As [`Member::start`].
    pub fn start_again(&mut self) -> Result<()> {
        if self.process.as_mut().is_some_and(Process::is_running) {
            return Ok(());
        }
        // Not on the node's disk, which may be full.
        let log = OpenOptions::new().create(true).append(true).open(self.log())?;
        let (host, file) = (&self.host.address, |name: &str| text(&self.certificates.file(name)));
        let mut etcd = self.host.command(&system("etcd")?)?;
        etcd.args(["--name", &self.name, "--data-dir"]).arg(self.folder.join("etcd"));
        let (peers, clients) = (format!("https://{host}:2380"), format!("https://{host}:2379"));
        etcd.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        etcd.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        etcd.args(["--initial-cluster", &self.cluster, "--initial-cluster-state", "new"]);
        for side in ["", "peer-"] {
            etcd.args([
                format!("--{side}client-cert-auth"),
                format!("--{side}trusted-ca-file"),
                file("ca.crt"),
            ]);
            etcd.args([format!("--{side}cert-file"), file("member.crt")]);
            etcd.args([format!("--{side}key-file"), file("member.key")]);
        }
        // The processors are busy with handshakes: that is no reason for an election.
        etcd.args(["--heartbeat-interval", "200", "--election-timeout", "2000"]);
        etcd.current_dir(&self.folder).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.process = Some(Process::spawn("etcd", etcd)?);
        Ok(())
    }

    /// Where it says what it does.
    pub fn log(&self) -> PathBuf {
        self.certificates.file(&format!("{}.log", self.name))
    }

    /// Its process, while it was not ended.
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Stops it, as the system does.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop();
        }
    }

    /// Kills it.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Whether it is one of a majority.
    ///
    /// # Errors
    ///
    /// With what etcdctl said.
    pub fn is_healthy(&self) -> Result<()> {
        let mut etcdctl = command::new(system("etcdctl")?);
        etcdctl.env("ETCDCTL_API", "3").args(["--command-timeout", "2s", "endpoint", "health"]);
        etcdctl.args(["--endpoints", &format!("https://{}:2379", self.host.address)]);
        for (option, name) in [("--cacert", "ca.crt"), ("--cert", "node.crt"), ("--key", "node.key")] {
            etcdctl.arg(option).arg(self.certificates.file(name));
        }
        command::succeed(etcdctl, LIMIT).map(drop)
    }
}
