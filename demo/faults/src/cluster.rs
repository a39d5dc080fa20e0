//! Three nodes with one partition, each beside a member of etcd on a host of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use strongroom_demo::daemon::Daemon;
use strongroom_demo::environment::Environment;
use strongroom_demo::pki::{run_openssl, text};
use strongroom_demo::process::wait_for;
use strongroom_demo::programs::Programs;

use crate::etcd::{self, Certificates, Member};
use crate::inside;
use crate::link::Link;
use crate::network::{Host, Network};

/// The partition's label.
pub const PARTITION: &str = "tls";

/// How large a node's disk is, and how large a file fills it.
const DISK: &str = "256m";

/// Within how long the cluster is whole again when nothing befalls it any more.
const WHOLE: Duration = Duration::from_secs(90);

/// Between one look and the next.
const BETWEEN: Duration = Duration::from_millis(200);

/// A node: its host, its daemon and its member of etcd.
#[derive(Debug)]
pub struct Node {
    /// Its host.
    pub host: Host,
    /// Its cable.
    pub link: Link,
    /// strongroomd.
    pub daemon: Daemon,
    /// etcd.
    pub member: Member,
    /// Its disk.
    pub disk: PathBuf,
}

/// All nodes, and what belongs to the partition's owner and its clients.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes.
    pub nodes: Vec<Node>,
    folder: PathBuf,
}

impl Cluster {
    /// Makes the nodes, and a cluster of them.
    ///
    /// # Errors
    ///
    /// With what a program said.
    pub fn make(programs: &Programs, network: Network, folder: &Path) -> Result<(Self, Host)> {
        let hosts: Vec<_> = network.nodes.iter().map(|(host, _)| host.clone()).collect();
        let hosts: Vec<_> = hosts.iter().collect();
        let certificates = Certificates::make(folder, &hosts)?;
        let mut cluster = Cluster { nodes: Vec::new(), folder: folder.into() };
        cluster.make_owner()?;
        let of_etcd = Environment::plain()
            .with("STRONGROOM_ETCD", etcd::endpoints(&hosts))
            .with("STRONGROOM_ETCD_CA", certificates.file("ca.crt"))
            .with("STRONGROOM_ETCD_CERT", certificates.file("node.crt"))
            .with("STRONGROOM_ETCD_KEY", certificates.file("node.key"));
        let mut parts = Vec::new();
        for (number, (host, link)) in network.nodes.into_iter().enumerate() {
            let disk = folder.join(format!("node{}", number + 1));
            fs::create_dir_all(&disk)?;
            inside::mount(&disk, &format!("size={DISK},mode=711"))?;
            let member = Member::start(number, &disk, &hosts, &certificates)?;
            parts.push((host, link, disk, member));
        }
        for (host, link, disk, member) in parts {
            wait_for("a member of etcd", WHOLE, || member.is_healthy())?;
            let environment = Environment::plain()
                .with("STRONGROOM_TLS", format!("{}:9820", host.address))
                .with("STRONGROOM_TLS_CLIENT_CA", cluster.file("PO.crt"))
                .and(&of_etcd);
            let daemon = Daemon::start_on(Some(host.namespace()), programs, &disk, &environment)?;
            cluster.nodes.push(Node { host, link, daemon, member, disk });
        }
        cluster.found()?;
        Ok((cluster, network.client))
    }

    /// A file of the owner or of a client.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The file with the password of the officer or of the crypto user.
    pub fn password(&self, name: &str) -> PathBuf {
        self.file(&format!("{name}.password"))
    }

    /// The owner's certificate, which signs the client's too.
    fn make_owner(&self) -> Result<()> {
        let file = |name: &str| text(&self.file(name));
        let new = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout {} -out {} -subj {}";
        let plain = Environment::plain();
        run_openssl(&plain, &format!("{new} -x509 -days 30"), &[&file("PO.key"), &file("PO.crt"), "/CN=PO"])?;
        run_openssl(&plain, new, &[&file("client.key"), &file("client.csr"), "/CN=web"])?;
        fs::write(self.file("client.ext"), "basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n")?;
        self.sign("client", &["-extfile", &file("client.ext")])
    }

    /// The owner signs NAME.csr.
    fn sign(&self, name: &str, extensions: &[&str]) -> Result<()> {
        let file = |name: String| text(&self.file(&name));
        let command = format!(
            "x509 -req -days 30 -in {{}} -out {{}} -CA {{}} -CAkey {{}} -CAcreateserial{}",
            " {}".repeat(extensions.len())
        );
        let values = [
            file(format!("{name}.csr")),
            file(format!("{name}.crt")),
            file("PO.crt".into()),
            file("PO.key".into()),
        ];
        let values: Vec<_> = values.iter().map(String::as_str).chain(extensions.iter().copied()).collect();
        run_openssl(&Environment::plain(), &command, &values).map(drop)
    }

    /// The first node gets the partition; its cluster takes the others in.
    fn found(&self) -> Result<()> {
        let [first, others @ ..] = &*self.nodes else { bail!("no node") };
        let owner = text(&self.file("PO.crt"));
        let passwords = ["officer", "user"].map(|name| text(&self.password(name)));
        for file in &passwords {
            run_openssl(&Environment::plain(), "rand -hex -out {} 16", &[file])?;
        }
        let [officer, user] = &passwords;
        let init = ["init", PARTITION, "--admit", "root", "--owner-certificate", &owner];
        let with = ["--officer-password-file", officer, "--user-password-file", user];
        first.daemon.manage(&[&init[..], &with].concat())?;
        for (number, node) in self.nodes.iter().enumerate() {
            let name = format!("node{}", number + 1);
            let request = text(&self.file(&format!("{name}.csr")));
            node.daemon.manage(&["node", "request", "--out", &request])?;
            self.sign(&name, &[])?;
        }
        let certificate = |number: usize| text(&self.file(&format!("node{number}.crt")));
        let install = |node: &Node, number: usize| {
            node.daemon.manage(&["node", "certificate", "install", &certificate(number)])
        };
        install(first, 1)?;
        first.daemon.manage(&["cluster", "init", "--yes"])?;
        for (number, node) in others.iter().enumerate() {
            let number = number + 2;
            first.daemon.manage(&["cluster", "admit", &certificate(number)])?;
            node.daemon.manage(&["cluster", "join", "--owner", &owner])?;
            wait_for("the node's certificate", WHOLE, || install(node, number))?;
        }
        Ok(())
    }

    /// What a client of the nodes needs in its environment.
    pub fn client_environment(&self) -> Environment {
        let nodes: Vec<_> =
            self.nodes.iter().map(|node| format!("tls://{}:9820", node.host.address)).collect();
        Environment::plain()
            .with("STRONGROOM_NODES", nodes.join(","))
            .with("STRONGROOM_OWNER", self.file("PO.crt"))
            .with("STRONGROOM_CERTIFICATE", self.file("client.crt"))
            .with("STRONGROOM_KEY", self.file("client.key"))
    }

    /// Makes the web server's key, which its certificate may use.
    ///
    /// # Errors
    ///
    /// With what the command said.
    pub fn make_web_key(&self, kind: &str) -> Result<PathBuf> {
        let first = self.nodes.first().context("no node")?;
        let manage = |arguments: &[&str]| first.daemon.manage(arguments);
        manage(&["key", "generate", "web", "--type", kind])?;
        let client = text(&self.file("client.crt"));
        manage(&["key", "grant", "web", "--certificate", &client, "--role", "tls-server"])?;
        let reference = self.file("web.ref.pem");
        manage(&["key", "reference", "web", "--out", &text(&reference)])?;
        Ok(reference)
    }

    /// Starts what does not run, as a service manager would, and waits until each node does all that it should.
    ///
    /// # Errors
    ///
    /// When that takes too long: with what the one that fails says.
    pub fn make_whole(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            let attempt = || {
                // Under load a command is dear.
                node.make_whole().inspect_err(|_| thread::sleep(BETWEEN))
            };
            wait_for("a node that is whole", WHOLE, attempt)
                .with_context(|| format!("the node at {}", node.host.address))?;
        }
        Ok(())
    }

    /// How often each label is on each node.
    ///
    /// # Errors
    ///
    /// When a node does not say.
    pub fn labels(&self) -> Result<Vec<BTreeMap<String, u64>>> {
        self.nodes.iter().map(Node::labels).collect()
    }
}

impl Node {
    /// Sends strongroomd a signal.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.daemon.id().context("the node does not run")?;
        Ok(kill_process(Pid::from_raw(i32::try_from(id)?).context("no process")?, signal)?)
    }

    fn make_whole(&mut self) -> Result<()> {
        self.member.start_again()?;
        self.member.is_healthy()?;
        if !self.daemon.is_running() {
            self.daemon.start_again()?;
        }
        // A change needs all that a node has: etcd's majority, its disk, the audit log.
        self.daemon.manage(&["key", "grant", "web", "--uid", "www-data", "--role", "tls-server"]).map(drop)
    }

    fn labels(&self) -> Result<BTreeMap<String, u64>> {
        #[derive(serde::Deserialize)]
        struct Key {
            name: String,
        }
        #[derive(serde::Deserialize)]
        struct List {
            keys: Vec<Key>,
        }
        let printed = self.daemon.manage(&["--json", "key", "list"])?;
        let List { keys } = serde_json::from_str(&printed).context("'strongroom key list --json'")?;
        let mut labels = BTreeMap::new();
        for key in keys {
            *labels.entry(key.name).or_default() += 1;
        }
        Ok(labels)
    }

    /// Fills its disk to the last byte.
    ///
    /// # Errors
    ///
    /// When there is no disk.
    pub fn fill_disk(&self) -> Result<()> {
        use std::io::Write as _;
        let mut file = fs::File::create(self.filler())?;
        let mut piece = vec![1; 1 << 20];
        // In ever smaller pieces.
        while !piece.is_empty() {
            while file.write_all(&piece).is_ok() {}
            piece.truncate(piece.len() / 16);
        }
        Ok(())
    }

    /// Takes away what has filled it.
    ///
    /// # Errors
    ///
    /// When it was not there.
    pub fn empty_disk(&self) -> Result<()> {
        fs::remove_file(self.filler()).context("what fills the disk")
    }

    fn filler(&self) -> PathBuf {
        self.disk.join("filler")
    }
}
