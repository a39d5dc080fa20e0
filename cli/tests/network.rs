//! Nodes over the network: TLS 1.3 with certificates on both sides, with the real openssl on either side.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test's panic is its report"
)]

mod harness;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use harness::{Daemon, Run, openssl, strongroom};
use strongroom_protocol::client::{Connection, Deadlines};
use strongroom_protocol::node::Address;
use strongroom_protocol::settings::Settings;
use strongroom_protocol::v1::{FindObjects, ObjectClass, request::Op, response};

const OWN: &[&str] = &["-l", "admin", "--password-file", "officer.txt"];
const LIMIT: Duration = Duration::from_secs(60);

/// A daemon that serves the network, with the partition "tls" of an owner, an authority "ca" for clients, the client
/// "web" and the keys "web" and "other".
struct Site {
    daemon: Daemon,
    port: u16,
}

/// A self-signed certificate NAME.crt with the key NAME.key.
fn authority(daemon: &Daemon, name: &str) {
    let (key, crt, subject) = (format!("{name}.key"), format!("{name}.crt"), format!("/CN={name}"));
    let new = ["req", "-x509", "-noenc", "-days", "30", "-keyout", &key, "-out", &crt, "-subj", &subject];
    let algorithm = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    openssl(daemon.directory.path(), &[&new[..], &algorithm].concat());
}

/// A certificate NAME.crt with the key NAME.key, signed by `authority`. `dates` are openssl's for its beginning and end.
fn client(daemon: &Daemon, name: &str, authority: &str, dates: [&str; 2]) {
    let at = daemon.directory.path();
    let (key, csr) = (format!("{name}.key"), format!("{name}.csr"));
    openssl(at, &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &key]);
    // One that would be a node has a node's name.
    let subject = match name.contains("node") {
        true => {
            openssl(at, &["pkey", "-in", &key, "-pubout", "-outform", "DER", "-out", "spki.der"]);
            strongroom_owner::node::subject(&fs::read(daemon.path("spki.der")).unwrap())
        }
        false => format!("CN={name}"),
    };
    openssl(at, &["req", "-new", "-key", &key, "-out", &csr, "-subj", &format!("/{subject}")]);
    issue(daemon, &csr, &format!("{name}.crt"), authority, dates);
}

/// Signs a request as an authority does that keeps a list: openssl-x509 takes no dates.
fn issue(daemon: &Daemon, csr: &str, crt: &str, authority: &str, [start, end]: [&str; 2]) {
    let settings = "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nrand_serial=yes\ndefault_md=sha256\nnew_certs_dir=.\n\
                    policy=p\nunique_subject=no\nx509_extensions=x\n[p]\ncommonName=supplied\n[x]\n\
                    basicConstraints=CA:FALSE\n";
    fs::write(daemon.path("ca.cnf"), settings).unwrap();
    fs::write(daemon.path("index.txt"), "").unwrap();
    let (cert, key) = (format!("{authority}.crt"), format!("{authority}.key"));
    let sign =
        ["ca", "-batch", "-config", "ca.cnf", "-cert", &cert, "-keyfile", &key, "-in", csr, "-out", crt];
    openssl(
        daemon.directory.path(),
        &[&sign[..], &["-notext", "-startdate", start, "-enddate", end]].concat(),
    );
}

const VALID: [&str; 2] = ["20200101000000Z", "20991231000000Z"];
const EXPIRED: [&str; 2] = ["20200101000000Z", "20210101000000Z"];

impl Site {
    fn new() -> Self {
        Self::with("required")
    }

    fn with(certificates: &str) -> Self {
        let mut daemon = Daemon::start();
        for name in ["PO", "ca", "stranger"] {
            authority(&daemon, name);
        }
        let root = rustix::process::getuid().as_raw().to_string();
        daemon.init("tls", &["--owner-certificate", "PO.crt", "--admit", &root]).succeeds();
        client(&daemon, "web", "ca", VALID);
        for key in ["web", "other"] {
            daemon.run(&["key", "generate", key, "--type", "p256"]).succeeds();
        }
        let ca = daemon.path("ca.crt").to_str().unwrap().to_owned();
        daemon.environment = vec![
            ("STRONGROOM_TLS", "127.0.0.1:0".to_owned()),
            ("STRONGROOM_TLS_CLIENT_CA", ca),
            ("STRONGROOM_TLS_CERTIFICATES", certificates.to_owned()),
        ];
        let mut site = Site { daemon, port: 0 };
        site.restart();
        site
    }

    /// As `new`, with the node's certificate installed.
    fn certified() -> Self {
        let site = Self::new();
        site.certify(VALID);
        site
    }

    fn restart(&mut self) {
        self.daemon.restart();
        let until = Instant::now() + LIMIT;
        self.port = loop {
            let log = self.daemon.log();
            let told = log.split("served on 127.0.0.1:").nth(1);
            if let Some(port) = told.and_then(|rest| rest.split(',').next()?.parse().ok()) {
                break port;
            }
            assert!(Instant::now() < until, "{log}");
            thread::sleep(Duration::from_millis(10));
        };
    }

    fn certify(&self, dates: [&str; 2]) {
        self.daemon.run(&["node", "request", "--out", "node.csr", "--force"]).succeeds();
        issue(&self.daemon, "node.csr", "node.crt", "PO", dates);
        let install = ["node", "certificate", "install", "node.crt"];
        self.daemon.run(&[&install[..], OWN].concat()).succeeds();
    }

    fn node(&self) -> String {
        format!("tls://127.0.0.1:{}", self.port)
    }

    /// The command on another machine: it has files, and no socket.
    fn remote(&self, owner: &str, client: Option<&str>, arguments: &[&str]) -> Run {
        let mut command = strongroom();
        command.arg("--nodes").arg(self.node()).args(arguments).current_dir(self.daemon.directory.path());
        command.env("STRONGROOM_OWNER", owner);
        if let Some(client) = client {
            command.env("STRONGROOM_CERTIFICATE", format!("{client}.crt"));
            command.env("STRONGROOM_KEY", format!("{client}.key"));
        }
        Run::of(command)
    }

    fn as_web(&self, arguments: &[&str]) -> Run {
        self.remote("PO.crt", Some("web"), arguments)
    }

    /// What openssl s_client says of a connection; `certificate` is a client's, with its key.
    fn s_client(&self, certificate: Option<&str>, options: &[&str]) -> String {
        let output = self.s_client_command(certificate, options).output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    fn s_client_command(&self, certificate: Option<&str>, options: &[&str]) -> Command {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &format!("127.0.0.1:{}", self.port), "-CAfile", "PO.crt"]);
        if let Some(name) = certificate {
            command.args(["-cert", &format!("{name}.crt"), "-key", &format!("{name}.key")]);
        }
        command.args(options).current_dir(self.daemon.directory.path()).stdin(Stdio::null());
        command
    }

    fn settings(&self) -> Settings {
        let path = |name| Some(self.daemon.path(name));
        Settings {
            nodes: vec![self.node().parse::<Address>().unwrap()],
            owner: path("PO.crt"),
            certificate: path("web.crt"),
            key: path("web.key"),
        }
    }
}

/// The names of the private keys that a connection sees.
fn private_keys(connection: &mut Connection) -> Vec<String> {
    match connection.call(1, Op::FindObjects(FindObjects::default())).unwrap() {
        response::Result::Objects(list) => {
            let private = list.objects.into_iter().filter(|object| object.class() == ObjectClass::PrivateKey);
            private.map(|object| object.label).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_uses_the_keys_that_name_its_certificate_and_is_named_in_the_log() {
    let site = Site::certified();
    let nodes = site.settings().reach().unwrap();
    let mut web = Connection::open_node(&nodes[0], "test", Deadlines::default()).unwrap();
    assert_eq!(private_keys(&mut web), Vec::<String>::new());
    let grant = ["key", "grant", "web", "--certificate", "web.crt", "--role", "tls-server"];
    site.daemon.run(&grant).succeeds();
    // On the connection that is open already.
    assert_eq!(private_keys(&mut web), ["web"]);
    // Whoever is root there is nobody here.
    let refused = site.as_web(&["init", "mine", "--generate-passwords", "."]).fails(4);
    assert!(refused.contains("root"), "{refused}");
    // A log-in takes the place of the certificate.
    let users = site.as_web(&[&["user", "list"][..], OWN].concat()).succeeds();
    assert!(users.contains("admin"), "{users}");
    let entries =
        site.daemon.run(&[&["audit", "show", "--json", "--action", "login"][..], OWN].concat()).succeeds();
    let spki = openssl(site.daemon.directory.path(), &["x509", "-in", "web.crt", "-noout", "-pubkey"]);
    fs::write(site.daemon.path("web.pub"), spki).unwrap();
    openssl(
        site.daemon.directory.path(),
        &["pkey", "-pubin", "-in", "web.pub", "-outform", "DER", "-out", "web.der"],
    );
    let hash = openssl(site.daemon.directory.path(), &["dgst", "-sha256", "-r", "web.der"]);
    let key = hash.split(' ').next().unwrap();
    assert!(entries.contains(key) && entries.contains("127.0.0.1"), "{entries}");
}

#[test]
fn openssl_is_refused_without_the_right_certificate_and_version() {
    let site = Site::certified();
    client(&site.daemon, "late", "ca", EXPIRED);
    client(&site.daemon, "other", "stranger", VALID);
    let welcome = site.s_client(Some("web"), &[]);
    assert!(welcome.contains("TLSv1.3") && welcome.contains("Verification: OK"), "{welcome}");
    for (certificate, options, alert) in [
        (None, &["-quiet"][..], "certificate required"),
        (Some("other"), &["-quiet"], "alert"),
        (Some("late"), &["-quiet"], "certificate expired"),
        (Some("web"), &["-tls1_2"], "alert protocol version"),
    ] {
        let said = site.s_client(certificate, options);
        assert!(said.contains(alert), "{certificate:?} {options:?}: {said}");
    }
    // Sums are written once a second.
    let until = Instant::now() + LIMIT;
    let refusals = ["audit", "show", "--node", "--json", "--action", "connect"];
    while !site.daemon.run(&refusals).succeeds().contains("127.0.0.1") {
        assert!(Instant::now() < until, "{}", site.daemon.log());
    }
    site.as_web(&["partition", "list"]).succeeds();
}

#[test]
fn a_client_takes_the_owners_nodes_only() {
    let site = Site::new();
    // A node that has no certificate yet cannot prove itself.
    let error = site.as_web(&["partition", "list"]).fails(3);
    assert!(error.contains("no TLS connection to the node tls://127.0.0.1"), "{error}");
    site.certify(VALID);
    site.as_web(&["partition", "list"]).succeeds();
    let error = site.remote("stranger.crt", Some("web"), &["partition", "list"]).fails(3);
    assert!(error.contains("no TLS connection"), "{error}");
    let error = site.remote("PO.crt", None, &["partition", "list"]).fails(3);
    assert!(error.contains("CertificateRequired"), "{error}");
}

/// Somebody with a certificate that the owner has signed for something else plays a node.
struct Impostor(Child, u16);

impl Impostor {
    fn new(site: &Site, certificate: &str, options: &[&str]) -> Self {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", "127.0.0.1:0", "-cert", &format!("{certificate}.crt")]);
        command.args(["-key", &format!("{certificate}.key")]).args(options);
        command.current_dir(site.daemon.directory.path());
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        // ACCEPT 127.0.0.1:PORT
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        while !line.starts_with("ACCEPT 127") {
            line.clear();
            assert!(output.read_line(&mut line).unwrap() > 0, "openssl s_server has ended");
        }
        // It goes on printing.
        thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        Impostor(child, line.trim().rsplit(':').next().unwrap().parse().unwrap())
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_certificate_of_the_owner_for_something_else_makes_no_node() {
    let mut site = Site::certified();
    client(&site.daemon, "clients", "PO", VALID);
    let impostor = Impostor::new(&site, "clients", &[]);
    let real = std::mem::replace(&mut site.port, impostor.1);
    let error = site.as_web(&["partition", "list"]).fails(3);
    assert!(error.contains("NotANode") || error.contains("is not a node's"), "{error}");
    client(&site.daemon, "late-node", "PO", EXPIRED);
    let late = Impostor::new(&site, "late-node", &[]);
    site.port = late.1;
    let error = site.as_web(&["partition", "list"]).fails(3);
    assert!(error.contains("Expired"), "{error}");
    let old = Impostor::new(&site, "clients", &["-tls1_2"]);
    site.port = old.1;
    site.as_web(&["partition", "list"]).fails(3);
    site.port = real;
    site.as_web(&["partition", "list"]).succeeds();
}

/// Every connection shows its certificate: a session that was taken from a client's memory opens nothing.
#[test]
fn no_session_is_resumed() {
    let site = Site::certified();
    let mut command = site.s_client_command(Some("web"), &["-sess_out", "session.pem"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // No Hello: the node answers that this is not the protocol, after whatever TLS has to say, and closes.
    child.stdin.take().unwrap().write_all(&[0, 0, 0, 1, 0]).unwrap();
    let said = String::from_utf8_lossy(&child.wait_with_output().unwrap().stdout).into_owned();
    assert!(said.contains("Verification: OK"), "{said}");
    assert!(!said.contains("New Session Ticket arrived"), "{said}");
    assert!(!site.daemon.path("session.pem").exists());
}

/// Handshakes that fail are counted by address, and the address is left alone after a second.
#[test]
fn who_floods_the_node_with_handshakes_is_not_answered_for_a_while() {
    let site = Site::certified();
    let until = Instant::now() + LIMIT;
    let refusals = ["audit", "show", "--node", "--json", "--action", "connect"];
    while !site.daemon.run(&refusals).succeeds().contains("\"limit\"") {
        assert!(Instant::now() < until, "{}", site.daemon.log());
        // All of them begin, and then all of them fail within a moment.
        let begun: Vec<_> = (0..200).map(|_| TcpStream::connect(("127.0.0.1", site.port)).unwrap()).collect();
        begun.iter().for_each(|mut stream| drop(stream.write_all(b"GET / HTTP/1.1\r\n\r\n")));
        begun.iter().for_each(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
        // One more of the same second.
        drop(TcpStream::connect(("127.0.0.1", site.port)));
    }
    while site.as_web(&["partition", "list"]).code != 0 {
        assert!(Instant::now() < until, "{}", site.daemon.log());
    }
}

#[test]
fn who_has_no_certificate_may_log_in_where_the_node_says_so() {
    let site = Site::with("optional");
    site.certify(VALID);
    let listed = site.remote("PO.crt", None, &["key", "list", "-l", "user", "--password-file", "user.txt"]);
    assert!(listed.succeeds().contains("web"));
    site.remote("PO.crt", None, &["key", "generate", "mine", "--type", "p256"]).fails(4);
}

/// Neither garbage nor silence keeps others out for long.
#[test]
fn garbage_and_silence_do_not_keep_others_out() {
    let site = Site::certified();
    let connect = || TcpStream::connect(("127.0.0.1", site.port)).unwrap();
    let hello = [&[22, 3, 1, 0xff, 0xff][..], &[1; 2000]].concat();
    for bytes in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 70_000], &hello, &[22, 3, 3, 0, 4, 1, 0xff, 0xff, 0xff]]
    {
        let mut stream = connect();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        // An alert perhaps, and the end.
        let _ = stream.read_to_end(&mut Vec::new());
    }
    let silent: Vec<_> = (0..300).map(|_| connect()).collect();
    let until = Instant::now() + LIMIT;
    while site.as_web(&["partition", "list"]).code != 0 {
        assert!(Instant::now() < until);
    }
    drop(silent);
    let turned_away =
        || site.daemon.run(&["audit", "show", "--node", "--json", "--action", "connect"]).succeeds();
    while !turned_away().contains("\"limit\"") {
        assert!(Instant::now() < until, "{}", turned_away());
    }
}

#[test]
fn a_file_names_nodes_and_the_first_that_answers_serves() {
    let site = Site::certified();
    let configuration: PathBuf = site.daemon.path("config");
    fs::create_dir_all(configuration.join("strongroom")).unwrap();
    let path = |name: &str| site.daemon.path(name).display().to_string();
    let text = format!(
        "# Two nodes, the first is gone.\nnode = {}\nnode = {}\nowner = {}\ncertificate = {}\nkey = {}\n",
        path("gone.sock"),
        site.node(),
        path("PO.crt"),
        path("web.crt"),
        path("web.key"),
    );
    fs::write(configuration.join("strongroom/client.conf"), &text).unwrap();
    // Root has the system's file only; the list between commas has the same two.
    let mut command = strongroom();
    command.arg("status").env("STRONGROOM_NODES", format!("{},{}", path("gone.sock"), site.node()));
    command.env("STRONGROOM_OWNER", path("PO.crt"));
    command.env("STRONGROOM_CERTIFICATE", path("web.crt")).env("STRONGROOM_KEY", path("web.key"));
    let status = Run::of(command).succeeds();
    assert!(status.contains(&site.node()), "{status}");
    let settings = Settings::parse("client.conf".as_ref(), &text).unwrap();
    assert_eq!(settings.nodes.len(), 2);
    let mut wrong = strongroom();
    wrong.arg("status").env("STRONGROOM_NODES", "hsm1");
    assert!(Run::of(wrong).fails(2).contains("tls://HOST"));
}
