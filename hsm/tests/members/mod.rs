//! A real cluster of etcd: three members on loopback addresses of this test, over TLS with certificates on both sides.

#![allow(dead_code)]

pub mod contents;
pub mod nodes;
mod way;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions, Txn, TxnOp};
use rustix::process::{Pid, Signal, kill_process};
use strongroom_hsm::store::EtcdStore;
use strongroom_hsm::store::etcd::{Options, Tls};
use strongroom_hsm::vault::Cluster;
use tempfile::TempDir;

pub use way::Way;

pub const SOON: Duration = Duration::from_secs(60);

/// Waits until `is_so`.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub struct Members {
    folder: TempDir,
    /// Those of one test have the first three numbers of their addresses in common.
    network: String,
    members: Vec<Child>,
}

pub fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Members {
    pub fn start() -> Self {
        static TESTS: AtomicU8 = AtomicU8::new(0);
        let id = std::process::id();
        let test = TESTS.fetch_add(10, Ordering::Relaxed);
        let network = format!("127.{}.{}.{}", 128 + id / 256 % 64, id % 256, test / 10);
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc";
        openssl(at, &format!("req -x509 {key} -days 2 -keyout ca.key -out ca.crt -subj /CN=etcd"));
        let addresses: Vec<_> =
            (0..3).map(|number| format!("IP:127.0.0.1,IP:{}", address(&network, number))).collect();
        fs::write(at.join("names"), format!("subjectAltName={}\n", addresses.join(","))).unwrap();
        for name in ["member", "node"] {
            openssl(at, &format!("req -new {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
            openssl(
                at,
                &format!(
                    "x509 -req -days 2 -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -extfile names -out {name}.crt"
                ),
            );
        }
        let members = (0..3).map(|number| spawn(at, &network, number)).collect();
        let members = Members { folder, network, members };
        until("three members", || members.etcdctl(&["endpoint", "health"]).is_some());
        members
    }

    /// What etcdctl prints, if it succeeds.
    pub fn etcdctl(&self, arguments: &[&str]) -> Option<Vec<u8>> {
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--cacert", "ca.crt", "--cert", "node.crt", "--key", "node.key", "--endpoints"])
            .arg(self.endpoints().join(","))
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .expect("Debian's package etcd-client ('demo/install tests' installs it)");
        output.status.success().then_some(output.stdout)
    }

    fn endpoints(&self) -> Vec<String> {
        (0..3).map(|number| format!("https://{}:2379", address(&self.network, number))).collect()
    }

    fn file(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.path().join(name)).unwrap()
    }

    fn options(&self, patience: Duration) -> Options {
        Options {
            endpoints: self.endpoints(),
            cluster: "00112233445566778899aabbccddeeff".to_owned(),
            tls: Some(Tls {
                authority: self.file("ca.crt"),
                client: Some((self.file("node.crt"), self.file("node.key").into())),
            }),
            patience,
        }
    }

    /// For a node that is to be of a cluster.
    pub fn cluster(&self, patience: Duration) -> Cluster {
        Cluster {
            etcd: Options { cluster: String::new(), ..self.options(patience) },
            lease: Duration::from_secs(3600),
        }
    }

    /// With patience enough for a machine that does much else.
    pub fn store(&self) -> EtcdStore {
        EtcdStore::new(&self.options(SOON)).unwrap()
    }

    /// Which soon says that there is no majority.
    pub fn impatient_store(&self) -> EtcdStore {
        EtcdStore::new(&self.options(Duration::from_secs(5))).unwrap()
    }

    /// A way to the members that can be cut, and a store that is reached by it.
    pub fn store_by_a_way(&self) -> (Way, EtcdStore) {
        let way = Way::to(&format!("{}:2379", address(&self.network, 0)));
        let options = Options { endpoints: vec![way.endpoint()], ..self.options(SOON) };
        (way, EtcdStore::new(&options).unwrap())
    }

    /// Makes etcd forget what its keys were before.
    pub fn compact(&self) {
        let revision = self.administrator().revision().to_string();
        self.etcdctl(&["compaction", &revision]).unwrap();
    }

    /// Where a new node may note what it has seen.
    pub fn new_mark(&self) -> PathBuf {
        static NODES: AtomicU8 = AtomicU8::new(0);
        self.folder.path().join(format!("mark{}", NODES.fetch_add(1, Ordering::Relaxed)))
    }

    pub fn signal(&self, number: usize, signal: Signal) {
        let id = i32::try_from(self.members[number].id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    pub fn kill(&mut self, number: usize) {
        self.members[number].kill().unwrap();
        self.members[number].wait().unwrap();
    }

    pub fn start_again(&mut self, number: usize) {
        self.members[number] = spawn(self.folder.path(), &self.network, number);
    }

    /// An administrator of etcd.
    pub fn administrator(&self) -> Administrator {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let tls = TlsOptions::new()
            .ca_certificate(Certificate::from_pem(self.file("ca.crt")))
            .identity(Identity::from_pem(self.file("node.crt"), self.file("node.key")));
        let options = ConnectOptions::new().with_tls(tls);
        let client = runtime.block_on(Client::connect(self.endpoints(), Some(options))).unwrap();
        Administrator { runtime, client }
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

fn address(network: &str, number: usize) -> String {
    // 127.x.y.z: z has the test's number in its tens.
    let (front, test) = network.rsplit_once('.').unwrap();
    format!("{front}.{}", test.parse::<usize>().unwrap() * 10 + number + 1)
}

fn spawn(folder: &Path, network: &str, number: usize) -> Child {
    let peer = |number| format!("http://{}:2380", address(network, number));
    let client = format!("https://{}:2379", address(network, number));
    let cluster: Vec<_> = (0..3).map(|number| format!("m{number}={}", peer(number))).collect();
    let log =
        fs::OpenOptions::new().create(true).append(true).open(folder.join(format!("m{number}.log"))).unwrap();
    let mut command = Command::new("etcd");
    command.args(["--name", &format!("m{number}"), "--data-dir", &format!("m{number}")]);
    command.args(["--listen-peer-urls", &peer(number), "--initial-advertise-peer-urls", &peer(number)]);
    command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
    command.args(["--initial-cluster", &cluster.join(","), "--initial-cluster-state", "new"]);
    command.args(["--client-cert-auth", "--trusted-ca-file", "ca.crt"]);
    command.args(["--cert-file", "member.crt", "--key-file", "member.key"]);
    // A busy machine is no reason for an election.
    command.args(["--heartbeat-interval", "300", "--election-timeout", "3000"]);
    command.current_dir(folder).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().expect("Debian's package etcd-server ('demo/install tests' installs it)")
}

/// Can read and write all that is in etcd.
pub struct Administrator {
    runtime: tokio::runtime::Runtime,
    client: Client,
}

impl Administrator {
    /// All keys and values.
    pub fn all(&mut self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let options = etcd_client::GetOptions::new().with_all_keys();
        let mut answer = self.runtime.block_on(self.client.get("", Some(options))).unwrap();
        answer.take_kvs().into_iter().map(|found| found.into_key_value()).collect()
    }

    pub fn revision(&mut self) -> i64 {
        self.runtime.block_on(self.client.get("any", None)).unwrap().header().unwrap().revision()
    }

    /// Makes everything what it was, in one transaction.
    pub fn put_back(&mut self, earlier: &[(Vec<u8>, Vec<u8>)]) {
        let was = |key: &[u8]| earlier.iter().any(|(found, _)| found == key);
        let since = self.all().into_iter().map(|(key, _)| key).filter(|key| !was(key));
        let mut all: Vec<_> = since.map(|key| TxnOp::delete(key, None)).collect();
        all.extend(earlier.iter().map(|(key, value)| TxnOp::put(key.clone(), value.clone(), None)));
        let answer = self.runtime.block_on(self.client.txn(Txn::new().and_then(all))).unwrap();
        assert!(answer.succeeded());
    }

    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.runtime.block_on(self.client.put(key, value, None)).unwrap();
    }

    pub fn delete(&mut self, key: &[u8]) {
        self.runtime.block_on(self.client.delete(key, None)).unwrap();
    }

    /// Writes something that goes by itself after some seconds.
    pub fn put_for(&mut self, key: &[u8], value: &[u8], seconds: i64) {
        let client = &mut self.client;
        self.runtime.block_on(async {
            let lease = client.lease_grant(seconds, None).await.unwrap().id();
            let options = etcd_client::PutOptions::new().with_lease(lease);
            client.put(key, value, Some(options)).await.unwrap();
        });
    }
}
