//! Web servers whose keys are on nodes that they reach over TLS: one that restarts, and two of which one dies or hangs.
// A panic is a test's report.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use strongroom_demo::daemon::Daemon;
use strongroom_demo::environment::{Environment, openssl_configuration};
use strongroom_demo::load::Amount;
use strongroom_demo::nginx;
use strongroom_demo::pki::{Authority, run_openssl, text};
use strongroom_demo::process::wait_for;
use strongroom_demo::programs::Programs;
use strongroom_demo::run_folder::RunFolder;
use strongroom_demo::server::{Server, Site};
use strongroom_load::Report;
use strongroom_tests::traffic::{self, Load};

const SOON: Duration = Duration::from_secs(60);

/// Nodes with the same partition "tls", its owner, and a client certificate that the key "web" names.
struct Group {
    programs: Programs,
    nodes: Vec<Node>,
    authority: Authority,
    certificate: PathBuf,
    reference: PathBuf,
    /// What a client of the nodes needs in its environment.
    client: Environment,
    run: RunFolder,
}

struct Node {
    daemon: Daemon,
    address: String,
}

impl Node {
    /// On a loopback address of its own, in a network that no other process uses.
    fn start(programs: &Programs, folder: &Path, owner: &Path) -> Result<Self> {
        static STARTED: AtomicU32 = AtomicU32::new(1);
        let (id, number) = (std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let address = format!("127.{}.{}.{number}:9820", 64 + id / 256 % 64, id % 256);
        let environment =
            Environment::plain().with("STRONGROOM_TLS", &address).with("STRONGROOM_TLS_CLIENT_CA", owner);
        Ok(Node { daemon: Daemon::start_with(programs, folder, &environment)?, address })
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.daemon.id().context("the node does not run")?;
        Ok(kill_process(Pid::from_raw(i32::try_from(id)?).context("no process")?, signal)?)
    }
}

impl Group {
    /// The first node is set up; the others are copies of it, as if restored.
    fn new(count: usize) -> Result<Self> {
        let programs = Programs::find()?;
        let run = RunFolder::new()?;
        let authority = Authority::in_file(run.path())?;
        let file = |name: &str| run.path().join(name);
        let plain = Environment::plain();
        let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 30 -keyout {} -out {} -subj {}";
        run_openssl(&plain, new, &[&text(&file("PO.key")), &text(&file("PO.crt")), "/CN=PO"])?;
        fs::write(file("client.ext"), "basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n")?;
        let new = "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout {} -out {} -subj {}";
        run_openssl(&plain, new, &[&text(&file("client.key")), &text(&file("client.csr")), "/CN=web"])?;
        let sign = |csr: &str, crt: &str, extensions: &[&str]| {
            let (csr, crt) = (text(&file(csr)), text(&file(crt)));
            let command = "x509 -req -days 30 -in {} -out {} -CA {} -CAkey {} -CAcreateserial";
            let command = format!("{command}{}", " {}".repeat(extensions.len()));
            let (owner, key) = (text(&file("PO.crt")), text(&file("PO.key")));
            let values = [&csr, &crt, &owner, &key].map(String::as_str);
            run_openssl(&plain, &command, &[&values[..], extensions].concat())
        };
        sign("client.csr", "client.crt", &["-extfile", &text(&file("client.ext"))])?;

        let folders: Vec<_> =
            (0..count).map(|number| run.folder(&format!("node{number}"))).collect::<Result<_>>()?;
        let mut first = Node::start(&programs, &folders[0], &file("PO.crt"))?;
        let manage = |arguments: &[&str]| first.daemon.manage(arguments);
        let own = rustix::process::getuid().as_raw().to_string();
        let (owner, folder) = (text(&file("PO.crt")), text(run.path()));
        manage(&[
            "init",
            "tls",
            "--admit",
            &own,
            "--owner-certificate",
            &owner,
            "--generate-passwords",
            &folder,
        ])?;
        manage(&["node", "request", "--out", &text(&file("node.csr"))])?;
        sign("node.csr", "node.crt", &[])?;
        manage(&["node", "certificate", "install", &text(&file("node.crt"))])?;
        manage(&["key", "generate", "web", "--type", "p256"])?;
        manage(&[
            "key",
            "grant",
            "web",
            "--certificate",
            &text(&file("client.crt")),
            "--role",
            "tls-server",
        ])?;
        let reference = file("web.ref.pem");
        manage(&["key", "reference", "web", "--out", &text(&reference)])?;
        let openssl = openssl_configuration(&programs, &programs.module(), None, &file("openssl.cnf"))?;
        let local = first.daemon.client_environment().with("OPENSSL_CONF", openssl.clone());
        let certificate = authority.certify(&local, "pkcs11:token=tls;object=web;type=private", "web")?;

        first.daemon.stop();
        for folder in folders.iter().skip(1) {
            let copied = Command::new("cp").arg("-a").arg(folders[0].join("state")).arg(folder).status()?;
            ensure!(copied.success());
        }
        let nodes: Vec<_> = (0..count)
            .map(|number| Node::start(&programs, &folders[number], &file("PO.crt")))
            .collect::<Result<_>>()?;
        let list: Vec<_> = nodes.iter().map(|node| format!("tls://{}", node.address)).collect();
        let client = Environment::plain()
            .with("OPENSSL_CONF", openssl)
            .with("STRONGROOM_NODES", list.join(","))
            .with("STRONGROOM_OWNER", file("PO.crt"))
            .with("STRONGROOM_CERTIFICATE", file("client.crt"))
            .with("STRONGROOM_KEY", file("client.key"));
        Ok(Group { programs, nodes, authority, certificate, reference, client, run })
    }

    fn server(&self) -> Result<Server> {
        let folder = self.run.folder("site")?;
        nginx::start(&Site::new(folder, &self.certificate, &text(&self.reference), &self.client).as_daemon())
    }

    fn load(&self, server: &Server, amount: Amount) -> Result<Load> {
        Load::start(&self.programs, server, &self.authority.certificate(), amount, &[])
    }

    /// Waits until a handshake succeeds.
    fn serves(&self, server: &Server) -> Result<()> {
        wait_for("a handshake", SOON, || {
            let done = traffic::handshake(server.port, "-tls1_3", &self.authority.certificate())?;
            ensure!(done.status.success(), "{}\n{}", done.stderr, server.said());
            Ok(())
        })
    }
}

fn no_error(report: &Report, server: &Server) {
    println!(
        "{} handshakes, {:.0} a second, longest gap {:.0} ms, latency {:?}",
        report.handshakes, report.rate_per_s, report.longest_gap_ms, report.latency_us
    );
    assert_eq!(report.error_count(), 0, "{:?} {}", report.error_messages, server.errors());
    assert!(report.handshakes > 0);
}

#[test]
fn a_web_server_signs_over_tls_and_goes_on_when_its_node_is_back() {
    let mut group = Group::new(1).unwrap();
    let server = group.server().unwrap();
    group.serves(&server).unwrap();
    no_error(&group.load(&server, Amount::Time(Duration::from_secs(2))).unwrap().finish().unwrap(), &server);
    group.nodes[0].daemon.stop();
    group.nodes[0].daemon.start_again().unwrap();
    // How long a start takes is the machine's to say: nginx waits for two seconds.
    group.serves(&server).unwrap();
    no_error(&group.load(&server, Amount::Time(Duration::from_secs(2))).unwrap().finish().unwrap(), &server);
    // The node says who it was: the certificate, and no user id.
    let log = ["audit", "show", "--json", "--action", "sign", "--login", "admin", "--password-file"];
    let password = text(&group.run.path().join("tls-admin.password"));
    let uses = group.nodes[0].daemon.manage(&[&log[..], &[&password]].concat()).unwrap();
    assert!(uses.contains("client_certificate") && uses.contains("\"address\": \"127."), "{uses}");
}

#[test]
fn a_node_that_dies_and_one_that_hangs_fail_no_handshake() {
    let mut group = Group::new(2).unwrap();
    let server = group.server().unwrap();
    group.serves(&server).unwrap();
    let load = group.load(&server, Amount::Time(Duration::from_secs(9))).unwrap();
    let pause = || std::thread::sleep(Duration::from_millis(1500));
    pause();
    group.nodes[0].daemon.kill();
    pause();
    group.nodes[0].daemon.start_again().unwrap();
    pause();
    group.nodes[1].signal(Signal::STOP).unwrap();
    pause();
    group.nodes[1].signal(Signal::CONT).unwrap();
    no_error(&load.finish().unwrap(), &server);
    group.serves(&server).unwrap();
}
