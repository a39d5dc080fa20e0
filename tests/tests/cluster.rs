//! Three nodes that are one partition, made and kept by the commands: three strongroomd, three members of etcd, mutual TLS.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use strongroom_demo::command::{self, Finished};
use strongroom_demo::daemon::Daemon;
use strongroom_demo::environment::{Environment, openssl_configuration};
use strongroom_demo::pki::{run_openssl, text};
use strongroom_demo::process::wait_for;
use strongroom_demo::programs::{Programs, system};
use strongroom_demo::run_folder::RunFolder;
use strongroom_tests::etcd::Etcd;

const SOON: Duration = Duration::from_secs(60);

/// A partition's owner, etcd, and nodes that were told where it is.
struct Machines {
    programs: Programs,
    nodes: Vec<Daemon>,
    addresses: Vec<String>,
    etcd: Etcd,
    /// A client's certificate and settings, but for the list of nodes.
    client: Environment,
    run: RunFolder,
}

impl Machines {
    fn new(count: usize) -> Result<Self> {
        let programs = Programs::find()?;
        let run = RunFolder::new()?;
        let id = std::process::id();
        let network = format!("127.{}.{}", 192 + id / 256 % 32, id % 256);
        let etcd = Etcd::start(&run.folder("etcd")?, &network)?;
        let file = |name: &str| text(&run.path().join(name));
        let plain = Environment::plain();
        let new = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout {} -out {} -subj {}";
        run_openssl(
            &plain,
            &format!("req -x509 -days 30 {new}"),
            &[&file("PO.key"), &file("PO.crt"), "/CN=PO"],
        )?;
        let names = [file("client.key"), file("client.csr")];
        run_openssl(&plain, &format!("req -new {new}"), &[&names[0], &names[1], "/CN=web"])?;
        fs::write(file("client.ext"), "extendedKeyUsage=clientAuth\n")?;
        let openssl =
            openssl_configuration(&programs, &programs.module(), None, Path::new(&file("openssl.cnf")))?;
        let client = plain
            .with("OPENSSL_CONF", openssl)
            .with("STRONGROOM_OWNER", file("PO.crt"))
            .with("STRONGROOM_CERTIFICATE", file("client.crt"))
            .with("STRONGROOM_KEY", file("client.key"));
        let mut machines = Machines { programs, nodes: Vec::new(), addresses: Vec::new(), etcd, client, run };
        machines.sign("client", &["-extfile", &machines.file("client.ext")])?;
        for number in 0..count {
            let address = format!("{network}.{}:9820", 11 + number);
            let environment = machines.etcd.for_nodes();
            let environment = environment
                .with("STRONGROOM_TLS", &address)
                .with("STRONGROOM_TLS_CLIENT_CA", machines.file("PO.crt"));
            let folder = machines.run.folder(&format!("node{number}"))?;
            machines.nodes.push(Daemon::start_with(&machines.programs, &folder, &environment)?);
            machines.addresses.push(address);
        }
        Ok(machines)
    }

    fn file(&self, name: &str) -> String {
        text(&self.run.path().join(name))
    }

    /// The owner signs NAME.csr; the certificate is NAME.crt.
    fn sign(&self, name: &str, more: &[&str]) -> Result<()> {
        let command = format!(
            "x509 -req -days 30 -in {{}} -out {{}} -CA {{}} -CAkey {{}} -CAcreateserial{}",
            " {}".repeat(more.len())
        );
        let [csr, crt] = ["csr", "crt"].map(|end| self.file(&format!("{name}.{end}")));
        let (owner, key) = (self.file("PO.crt"), self.file("PO.key"));
        let values = [&[csr.as_str(), &crt, &owner, &key], more].concat();
        run_openssl(&Environment::plain(), &command, &values).map(drop)
    }

    /// The partition "tls" with the key "web" on the first node, which makes a cluster of itself.
    fn begin(&self) -> Result<()> {
        let first = &self.nodes[0];
        let own = rustix::process::getuid().as_raw().to_string();
        let (owner, folder) = (self.file("PO.crt"), text(self.run.path()));
        let options = ["--admit", &own, "--owner-certificate", &owner, "--generate-passwords", &folder];
        first.manage(&[&["init", "tls"], &options[..]].concat())?;
        self.make_key(0, "web")?;
        first.manage(&["node", "request", "--out", &self.file("node0.csr")])?;
        self.sign("node0", &[])?;
        first.manage(&["node", "certificate", "install", &self.file("node0.crt")])?;
        first.manage(&["cluster", "init", "--yes"]).map(drop)
    }

    /// A key with which the client's certificate may sign; its public half is NAME.pub.
    fn make_key(&self, node: usize, name: &str) -> Result<()> {
        let node = &self.nodes[node];
        node.manage(&["key", "generate", name, "--type", "p256"])?;
        let certificate = self.file("client.crt");
        node.manage(&["key", "grant", name, "--certificate", &certificate, "--role", "tls-server"])?;
        fs::write(self.file(&format!("{name}.pub")), node.manage(&["key", "public", name])?)?;
        Ok(())
    }

    fn admit(&self, node: usize) -> Result<()> {
        let name = format!("node{node}");
        self.nodes[node].manage(&["node", "request", "--out", &self.file(&format!("{name}.csr"))])?;
        self.sign(&name, &[])?;
        self.nodes[0].manage(&["cluster", "admit", &self.file(&format!("{name}.crt"))]).map(drop)
    }

    fn join(&self, node: usize) -> Result<()> {
        self.nodes[node].manage(&["cluster", "join", "--owner", &self.file("PO.crt")]).map(drop)
    }

    /// What a command says that fails.
    fn fails(&self, node: usize, arguments: &[&str]) -> Finished {
        let done = command::run(self.nodes[node].strongroom(arguments), 2 * SOON).unwrap();
        assert!(!done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stdout));
        done
    }

    /// `strongroom cluster status --json`, and its exit code.
    fn status(&self, node: usize) -> Result<(Value, Option<i32>)> {
        let done = command::run(self.nodes[node].strongroom(["cluster", "status", "--json"]), SOON)?;
        let status = serde_json::from_slice(&done.stdout).with_context(|| done.stderr.clone())?;
        Ok((status, done.status.code()))
    }

    /// openssl signs by the nodes with these numbers, over TLS, and checks the signature.
    fn signs(&self, nodes: &[usize], key: &str) -> Result<()> {
        let list: Vec<_> = nodes.iter().map(|node| format!("tls://{}", self.addresses[*node])).collect();
        let client = self.client.clone().with("STRONGROOM_NODES", list.join(","));
        let [message, signature] = ["message", "signature"].map(|name| self.file(name));
        fs::write(&message, format!("{nodes:?} {key}"))?;
        let uri = format!("pkcs11:token=tls;object={key};type=private");
        run_openssl(&client, "dgst -sha256 -sign {} -out {} {}", &[&uri, &signature, &message])?;
        let public = self.file(&format!("{key}.pub"));
        let check = "dgst -sha256 -verify {} -signature {} {}";
        run_openssl(&Environment::plain(), check, &[&public, &signature, &message]).map(drop)
    }

    /// Each node signs with the key, as soon as it has heard of it.
    fn each_signs(&self, key: &str) {
        for node in 0..self.nodes.len() {
            wait_for("a signature", SOON, || self.signs(&[node], key)).unwrap();
        }
    }
}

/// How a command fails: the error's name, and the exit code.
fn refusal(done: &Finished) -> (String, i32) {
    let error: Value = serde_json::from_str(done.stderr.lines().last().unwrap()).unwrap();
    (error["error"]["code"].as_str().unwrap().to_owned(), done.status.code().unwrap())
}

fn named(code: &str, exit: i32) -> (String, i32) {
    (code.to_owned(), exit)
}

#[test]
fn three_nodes_are_one_partition() {
    let mut machines = Machines::new(3).unwrap();
    let owner = machines.file("PO.crt");
    let (status, exit) = machines.status(0).unwrap();
    assert!(status["cluster"].is_null() && exit == Some(1), "{status}");
    assert_eq!(refusal(&machines.fails(1, &["--json", "cluster", "admit", &owner])), named("unsupported", 1));
    machines.begin().unwrap();
    machines.signs(&[0], "web").unwrap();
    assert_eq!(refusal(&machines.fails(0, &["--json", "cluster", "init", "--yes"])), named("exists", 6));

    // Who was not admitted does not join, nor who has partitions of its own.
    let join = ["--json", "cluster", "join", "--owner", &owner];
    assert_eq!(refusal(&machines.fails(1, &join)), named("no_such_object", 5));
    machines.admit(1).unwrap();
    let folder = text(machines.run.path());
    machines.nodes[1].manage(&["init", "own", "--generate-passwords", &folder]).unwrap();
    let refused = machines.fails(1, &join);
    assert_eq!(refusal(&refused), named("exists", 6));
    assert!(refused.stderr.contains("strongroom partition delete"), "{}", refused.stderr);
    let password = machines.file("own-admin.password");
    let delete = ["partition", "delete", "own", "--yes", "--login", "admin", "--password-file", &password];
    machines.nodes[1].manage(&delete).unwrap();
    machines.join(1).unwrap();
    machines.admit(2).unwrap();
    machines.join(2).unwrap();
    let statuses: Vec<_> = (0..3).map(|node| machines.status(node).unwrap()).collect();
    for (status, exit) in &statuses {
        assert_eq!((status["cluster"].as_str(), *exit), (statuses[0].0["cluster"].as_str(), Some(0)));
        let members = status["members"].as_array().unwrap();
        let own: Vec<_> = members.iter().filter(|member| member["this"] == true).collect();
        assert!(members.len() == 3 && own.len() == 1 && own[0]["name"] == status["node"], "{status}");
        assert!(status["majority"] == true && status["lease_left_seconds"] == 900, "{status}");
    }
    // Each daemon is confined as always.
    for node in &machines.nodes {
        let process = format!("/proc/{}/status", node.id().unwrap());
        assert!(fs::read_to_string(process).unwrap().contains("Seccomp:\t2"));
    }

    // A key that was made on one signs on each: by openssl over TLS, and by pkcs11-tool on the socket.
    machines.make_key(1, "second").unwrap();
    machines.each_signs("web");
    machines.each_signs("second");
    let mut tool = command::new(system("pkcs11-tool").unwrap());
    machines.nodes[2].client_environment().apply(&mut tool);
    tool.arg("--module").arg(machines.programs.module()).args(["--list-objects", "--type", "pubkey"]);
    let listed = command::succeed(tool, SOON).unwrap();
    assert!(listed.contains("web") && listed.contains("second"), "{listed}");

    // A node that is started again, and one that dies.
    machines.nodes[1].stop();
    machines.signs(&[1, 0, 2], "web").unwrap();
    machines.nodes[1].start_again().unwrap();
    machines.nodes[0].kill();
    machines.signs(&[0, 1, 2], "second").unwrap();
    machines.make_key(2, "third").unwrap();
    machines.nodes[0].start_again().unwrap();
    machines.each_signs("third");

    // One member of etcd dies: all goes on.
    machines.etcd.kill(0);
    wait_for("two members", SOON, || machines.etcd.is_healthy()).unwrap();
    machines.make_key(0, "fourth").unwrap();
    machines.each_signs("fourth");
    // And another one: keys are used, and nothing is changed.
    machines.etcd.kill(1);
    for node in 0..3 {
        wait_for("the node knows", SOON, || {
            let (status, exit) = machines.status(node)?;
            ensure!(status["majority"] == false && exit == Some(3), "{status}");
            assert!(status["lease_left_seconds"].as_u64().unwrap() > 0, "{status}");
            Ok(())
        })
        .unwrap();
        machines.signs(&[node], "web").unwrap();
    }
    let generate = ["--json", "key", "generate", "none", "--type", "p256"];
    assert_eq!(refusal(&machines.fails(0, &generate)), named("no_quorum", 3));
    machines.signs(&[0, 1, 2], "fourth").unwrap();
    machines.etcd.start_member(0).unwrap();
    machines.etcd.start_member(1).unwrap();
    for node in 0..3 {
        wait_for("a majority", SOON, || {
            let (status, exit) = machines.status(node)?;
            ensure!(status["majority"] == true && exit == Some(0), "{status}");
            Ok(())
        })
        .unwrap();
    }
    // (Which member is asked, and who leads, settles within moments.)
    wait_for("a change", SOON, || machines.make_key(2, "fifth")).unwrap();
    machines.each_signs("fifth");
}
