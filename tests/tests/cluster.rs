//! Three nodes that are one partition, made and kept by the commands: three strongroomd, three members of etcd, mutual TLS.
// A panic is a test's report.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing
)]

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use strongroom_demo::command::{self, Finished};
use strongroom_demo::daemon::{Daemon, tail};
use strongroom_demo::environment::{Environment, openssl_configuration};
use strongroom_demo::pki::{run_openssl, text};
use strongroom_demo::process::{Process, wait_for};
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
        // Of this process and this test.
        static TESTS: AtomicU32 = AtomicU32::new(0);
        let (id, test) = (std::process::id(), TESTS.fetch_add(1, Ordering::Relaxed));
        let network = format!("127.{}.{}", 192 + test % 4 * 16 + id / 256 % 16, id % 256);
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
                .with("NOTIFY_SOCKET", run_notify(&machines.run, number))
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
        self.signs_as(&self.client.clone().with("STRONGROOM_NODES", list.join(",")), key)
    }

    /// The same over the first node's socket.
    fn signs_at_home(&self, key: &str) -> Result<()> {
        let openssl = self.client.value("OPENSSL_CONF").context("no configuration")?.clone();
        self.signs_as(&self.nodes[0].client_environment().with("OPENSSL_CONF", openssl), key)
    }

    fn signs_as(&self, client: &Environment, key: &str) -> Result<()> {
        let [message, signature] = ["message", "signature"].map(|name| self.file(name));
        fs::write(&message, key)?;
        let uri = format!("pkcs11:token=tls;object={key};type=private");
        run_openssl(client, "dgst -sha256 -sign {} -out {} {}", &[&uri, &signature, &message])?;
        let public = self.file(&format!("{key}.pub"));
        let check = "dgst -sha256 -verify {} -signature {} {}";
        run_openssl(&Environment::plain(), check, &[&public, &signature, &message]).map(drop)
    }

    /// A user with three attempts, of whose password each node is told a wrong one.
    fn locks_over_nodes(&self) {
        let [officer, right, wrong] =
            ["tls-admin.password", "mail.password", "wrong.password"].map(|name| self.file(name));
        fs::write(&right, "the right one").unwrap();
        fs::write(&wrong, "a wrong one").unwrap();
        let by_officer = ["-l", "admin", "--password-file", &officer];
        let manage = |command: &[&str]| self.nodes[0].manage(&[command, &by_officer].concat()).unwrap();
        manage(&["partition", "policy", "--max-attempts", "3"]);
        manage(&["user", "create", "mail", "--new-password-file", &right]);
        let guess = |node: usize, file: &str| {
            let list = ["--json", "key", "list", "-l", "mail", "--password-file", file];
            refusal(&self.fails(node, &list)).0
        };
        for node in 0..self.nodes.len() {
            assert_eq!(guess(node, &wrong), "password_wrong");
        }
        for node in 0..self.nodes.len() {
            assert_eq!(guess(node, &right), "user_locked");
        }
        manage(&["user", "unlock", "mail"]);
        // The right one again, which its user has to change first: the officer has set it.
        assert_eq!(guess(2, &right), "password_expired");
    }

    /// Each node signs with the key, as soon as it has heard of it.
    fn each_signs(&self, key: &str) {
        for node in 0..self.nodes.len() {
            wait_for("a signature", SOON, || self.signs(&[node], key)).unwrap();
        }
    }
}

/// Where a node tells systemd how it is.
fn run_notify(run: &RunFolder, node: usize) -> PathBuf {
    run.path().join(format!("notify{node}"))
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
    // Those that were there before hear of the last one.
    let whole = |node| {
        wait_for("three members", SOON, || {
            let (status, exit) = machines.status(node)?;
            let members = status["members"].as_array().context("no members")?.len();
            ensure!(members == 3 && status["majority"] == true, "{status}");
            Ok((status, exit))
        })
    };
    let statuses: Vec<_> = (0..3).map(|node| whole(node).unwrap()).collect();
    for (status, exit) in &statuses {
        assert_eq!((status["cluster"].as_str(), *exit), (statuses[0].0["cluster"].as_str(), Some(0)));
        let members = status["members"].as_array().unwrap();
        let own: Vec<_> = members.iter().filter(|member| member["this"] == true).collect();
        assert!(members.len() == 3 && own.len() == 1 && own[0]["name"] == status["node"], "{status}");
        assert!(status["majority"] == true && status["lease_left_seconds"] == 900, "{status}");
    }
    let own = (statuses[2].0["cluster"].clone(), statuses[2].0["node"].clone());
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

    // Who guesses on several nodes has as many attempts as on one.
    machines.locks_over_nodes();

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
    // A node that is started now has no keys yet, says why, and can be stopped; the others sign.
    machines.nodes[2].stop();
    let systemd = UnixDatagram::bind(run_notify(&machines.run, 2)).unwrap();
    systemd.set_nonblocking(true).unwrap();
    for _ in 0..2 {
        machines.nodes[2].start_again().unwrap();
        let status: Value =
            serde_json::from_str(&machines.nodes[2].manage(&["status", "--json"]).unwrap()).unwrap();
        assert_eq!(status["state"], "waiting");
        let (shown, exit) = machines.status(2).unwrap();
        assert_eq!((&shown["cluster"], &shown["node"], exit), (&own.0, &own.1, Some(3)));
        assert_eq!(refusal(&machines.fails(2, &["--json", "key", "list"])), named("no_quorum", 3));
        machines.signs(&[2, 1, 0], "fourth").unwrap();
        machines.nodes[2].stop();
        let told = told(&systemd);
        assert!(told.contains("STATUS=waits") && !told.contains("READY=1"), "{told}");
    }
    machines.nodes[2].start_again().unwrap();
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
    wait_for("READY", SOON, || {
        let told = told(&systemd);
        ensure!(told.contains("READY=1"), "{told}");
        Ok(())
    })
    .unwrap();
}

/// What a node has told systemd since the last look.
fn told(systemd: &UnixDatagram) -> String {
    let (mut all, mut message) = (String::new(), [0; 4096]);
    while let Ok(length) = systemd.recv(&mut message) {
        all.push_str(&String::from_utf8_lossy(&message[..length]));
        all.push('\n');
    }
    all
}

/// Keys that are moved.
const KEYS: usize = 24;

/// A number below `end`, another one each time.
fn random(end: u64) -> u64 {
    RandomState::new().build_hasher().finish() % end.max(1)
}

/// kill -9 of the node while its partitions move to etcd, `times` times: then it is single, or of the cluster, with all keys.
fn killed_while_they_move(times: usize) {
    let mut machines = Machines::new(1).unwrap();
    let own = rustix::process::getuid().as_raw().to_string();
    let folder = text(machines.run.path());
    machines.nodes[0].manage(&["init", "tls", "--admit", &own, "--generate-passwords", &folder]).unwrap();
    for number in 0..KEYS {
        machines.nodes[0].manage(&["key", "generate", &format!("key{number}"), "--type", "p256"]).unwrap();
    }
    let list = |machines: &Machines| -> Result<Value> {
        let keys = machines.nodes[0].manage(&["key", "list", "--json"])?;
        Ok(serde_json::from_str(&keys)?)
    };
    let keys = list(&machines).unwrap();
    machines.nodes[0].stop();
    let (state, before) = (machines.run.path().join("node0/state"), machines.run.path().join("before"));
    fs::rename(&state, &before).unwrap();
    let mut took = Duration::ZERO;
    let mut clusters = 0;
    for number in 0..=times {
        let _ = fs::remove_dir_all(&state);
        let copied = std::process::Command::new("cp").arg("-a").args([&before, &state]).status().unwrap();
        assert!(copied.success());
        machines.nodes[0].start_again().unwrap();
        let mut init = machines.nodes[0].strongroom(["cluster", "init", "--yes"]);
        init.stdout(Stdio::null()).stderr(Stdio::null());
        let begun = Instant::now();
        let mut init = Process::spawn("strongroom", init).unwrap();
        if number == 0 {
            // To know how long it takes.
            assert!(init.wait(SOON).unwrap().success());
            took = begun.elapsed();
        } else {
            let moment = random(took.as_micros() as u64 * 5 / 4);
            std::thread::sleep(Duration::from_micros(moment));
            machines.nodes[0].kill();
            init.wait(SOON).unwrap();
            machines.nodes[0].start_again().unwrap();
        }
        let log = machines.nodes[0].log();
        let after = wait_for("the keys", SOON, || list(&machines));
        let after = after.unwrap_or_else(|error| panic!("{error:#}\n{}", tail(&log)));
        assert_eq!(after, keys, "killed for the time {number}");
        let (status, _) = machines.status(0).unwrap();
        if status["cluster"].is_null() {
            machines.nodes[0].manage(&["cluster", "init", "--yes"]).unwrap();
            assert_eq!(list(&machines).unwrap(), keys);
        } else {
            clusters += 1;
        }
        fs::write(machines.file("key0.pub"), machines.nodes[0].manage(&["key", "public", "key0"]).unwrap())
            .unwrap();
        machines.signs_at_home("key0").unwrap();
        machines.nodes[0].stop();
    }
    println!("killed {times} times within {took:?}: {} of {times} were of the cluster", clusters - 1);
}

#[test]
fn a_node_that_is_killed_while_it_founds_a_cluster_keeps_all_keys() {
    killed_while_they_move(3);
}

#[test]
#[ignore = "20 times at random moments: two minutes"]
fn a_node_that_is_killed_20_times_while_it_founds_a_cluster_keeps_all_keys() {
    killed_while_they_move(20);
}

#[test]
fn nodes_leave_and_are_expelled() {
    let mut machines = Machines::new(3).unwrap();
    machines.begin().unwrap();
    for node in [1, 2] {
        machines.admit(node).unwrap();
        machines.join(node).unwrap();
    }
    machines.each_signs("web");
    let name_of = |machines: &Machines, node| {
        let (status, _) = machines.status(node).unwrap();
        status["node"].as_str().unwrap().to_owned()
    };
    let names: Vec<_> = (0..3).map(|node| name_of(&machines, node)).collect();
    // One leaves, and is a node without partitions.
    machines.nodes[2].manage(&["cluster", "leave", "--yes"]).unwrap();
    let (status, exit) = machines.status(2).unwrap();
    assert!(status["cluster"].is_null() && status["expelled"].is_null() && exit == Some(1), "{status}");
    assert!(machines.signs(&[2], "web").is_err());
    let leave = ["--json", "cluster", "leave", "--yes"];
    assert_eq!(refusal(&machines.fails(2, &leave)), named("not_a_member", 1));
    machines.make_key(1, "second").unwrap();
    for node in [0, 1] {
        wait_for("a signature", SOON, || machines.signs(&[node], "second")).unwrap();
    }
    // One is expelled while it is away, and finds out.
    machines.nodes[1].kill();
    let refused = |node: &str| refusal(&machines.fails(0, &["--json", "cluster", "expel", node, "--yes"]));
    assert_eq!(refused(&names[2]), named("no_such_object", 5));
    assert_eq!(refused(&names[0]), named("attribute_wrong", 1));
    machines.nodes[0].manage(&["cluster", "expel", &names[1], "--yes"]).unwrap();
    machines.make_key(0, "third").unwrap();
    machines.nodes[1].start_again().unwrap();
    let (status, exit) = machines.status(1).unwrap();
    assert!(status["cluster"].is_null() && exit == Some(1), "{status}");
    assert_eq!(status["expelled"]["by"].as_str(), Some(names[0].as_str()));
    assert!(machines.signs(&[1], "web").is_err());
    machines.signs(&[0, 1, 2], "third").unwrap();
    machines.signs(&[1, 0, 2], "web").unwrap();
    // The last cannot go; both others come back.
    let refused = machines.fails(0, &leave);
    assert_eq!(refusal(&refused), named("last_member", 1));
    assert!(refused.stderr.contains("backup"), "{}", refused.stderr);
    for node in [1, 2] {
        fs::remove_file(machines.file(&format!("node{node}.csr"))).unwrap();
        machines.admit(node).unwrap();
        machines.join(node).unwrap();
    }
    machines.each_signs("third");
}
