//! Three real members of etcd on loopback addresses of their own, over mutual TLS among themselves and with their clients.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use strongroom_demo::command;
use strongroom_demo::environment::Environment;
use strongroom_demo::pki::{run_openssl, text};
use strongroom_demo::process::{Process, wait_for};
use strongroom_demo::programs::system;

const SOON: Duration = Duration::from_secs(60);

/// The members.
const COUNT: usize = 3;

/// The cluster of etcd. Its files lie in a folder, and outlive it.
#[derive(Debug)]
pub struct Etcd {
    folder: PathBuf,
    /// What the members' addresses begin with.
    network: String,
    members: Vec<Option<Process>>,
}

impl Etcd {
    /// Makes the certificates and starts the members, whose addresses are `network`.1 to `network`.3.
    ///
    /// # Errors
    ///
    /// When etcd is not installed, or no majority answers in time.
    pub fn start(folder: &Path, network: &str) -> Result<Self> {
        let mut etcd =
            Etcd { folder: folder.to_owned(), network: network.to_owned(), members: vec![None, None, None] };
        etcd.certify()?;
        for number in 0..COUNT {
            etcd.start_member(number)?;
        }
        wait_for("etcd", SOON, || etcd.is_healthy())?;
        Ok(etcd)
    }

    /// A file of [`Etcd::start`]'s: "ca.crt", and "node.crt" and "node.key" for a client.
    pub fn file(&self, name: &str) -> String {
        text(&self.folder.join(name))
    }

    fn address(&self, number: usize) -> String {
        format!("{}.{}", self.network, number + 1)
    }

    /// Where clients reach them, between commas.
    pub fn endpoints(&self) -> String {
        let all: Vec<_> = (0..COUNT).map(|number| format!("https://{}:2379", self.address(number))).collect();
        all.join(",")
    }

    /// What strongroomd needs in its environment to use them.
    pub fn for_nodes(&self) -> Environment {
        Environment::plain()
            .with("STRONGROOM_ETCD", self.endpoints())
            .with("STRONGROOM_ETCD_CA", self.file("ca.crt"))
            .with("STRONGROOM_ETCD_CERT", self.file("node.crt"))
            .with("STRONGROOM_ETCD_KEY", self.file("node.key"))
    }

    fn certify(&self) -> Result<()> {
        let plain = Environment::plain();
        let new = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout {} -out {} -subj {}";
        let (ca, ca_key) = (self.file("ca.crt"), self.file("ca.key"));
        run_openssl(&plain, &format!("req -x509 -days 2 {new}"), &[&ca_key, &ca, "/CN=etcd"])?;
        // From where a member connects to another is looked up in its certificate too: on one machine that is 127.0.0.1.
        let own = std::iter::once("IP:127.0.0.1".to_owned());
        let names: Vec<_> =
            own.chain((0..COUNT).map(|number| format!("IP:{}", self.address(number)))).collect();
        fs::write(
            self.folder.join("member.ext"),
            format!("subjectAltName={}\nextendedKeyUsage=serverAuth,clientAuth\n", names.join(",")),
        )?;
        fs::write(self.folder.join("node.ext"), "extendedKeyUsage=clientAuth\n")?;
        for name in ["member", "node"] {
            let file = |end: &str| self.file(&format!("{name}.{end}"));
            let subject = format!("/CN={name}");
            run_openssl(&plain, &format!("req -new {new}"), &[&file("key"), &file("csr"), &subject])?;
            let values = [&file("csr"), &file("crt"), &ca, &ca_key, &file("ext")].map(String::clone);
            let sign = "x509 -req -days 2 -in {} -out {} -CA {} -CAkey {} -CAcreateserial -extfile {}";
            run_openssl(&plain, sign, &values.each_ref().map(String::as_str))?;
        }
        Ok(())
    }

    /// Starts a member, for the first time or again.
    ///
    /// # Errors
    ///
    /// When etcd cannot be started.
    pub fn start_member(&mut self, number: usize) -> Result<()> {
        let address = self.address(number);
        let (peer, client) = (format!("https://{address}:2380"), format!("https://{address}:2379"));
        let all: Vec<_> =
            (0..COUNT).map(|number| format!("m{number}=https://{}:2380", self.address(number))).collect();
        let log = self.folder.join(format!("m{number}.log"));
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = command::new(system("etcd").context("'demo/install tests' installs etcd-server")?);
        let data = self.file(&format!("m{number}"));
        command.args(["--name", &format!("m{number}"), "--data-dir", &data]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"]);
        let (ca, certificate, key) = (self.file("ca.crt"), self.file("member.crt"), self.file("member.key"));
        command.args(["--client-cert-auth", "--trusted-ca-file", &ca]);
        command.args(["--cert-file", &certificate, "--key-file", &key]);
        command.args(["--peer-client-cert-auth", "--peer-trusted-ca-file", &ca]);
        command.args(["--peer-cert-file", &certificate, "--peer-key-file", &key]);
        // A busy machine is no reason for an election.
        command.args(["--heartbeat-interval", "300", "--election-timeout", "3000"]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let member = Process::spawn("etcd", command)?;
        if let Some(place) = self.members.get_mut(number) {
            *place = Some(member);
        }
        Ok(())
    }

    /// Kills a member.
    pub fn kill(&mut self, number: usize) {
        if let Some(mut member) = self.members.get_mut(number).and_then(Option::take) {
            member.kill();
        }
    }

    /// Sends a member a signal.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn signal(&self, number: usize, signal: Signal) -> Result<()> {
        self.members.get(number).and_then(Option::as_ref).context("the member does not run")?.signal(signal)
    }

    /// Whether a majority answers: one of those that run says so.
    ///
    /// # Errors
    ///
    /// When none does.
    pub fn is_healthy(&self) -> Result<()> {
        let running = (0..COUNT).filter(|number| self.members.get(*number).is_some_and(Option::is_some));
        let endpoints: Vec<_> =
            running.map(|number| format!("https://{}:2379", self.address(number))).collect();
        let mut etcdctl =
            command::new(system("etcdctl").context("'demo/install tests' installs etcd-client")?);
        etcdctl.env("ETCDCTL_API", "3").args(["--endpoints", &endpoints.join(",")]);
        etcdctl.args(["--cacert", &self.file("ca.crt"), "--cert", &self.file("node.crt")]);
        etcdctl.args(["--key", &self.file("node.key"), "endpoint", "health"]);
        let done = command::run(etcdctl, SOON)?;
        ensure!(done.status.success(), "{}", done.stderr);
        Ok(())
    }
}
