//! Receivers of the audit log: Debian's rsyslogd and journald, with folders of their own.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A program that is killed when it is no longer needed.
pub struct Receiver(Child);

impl Receiver {
    /// Stops it where it is: it reads nothing from now on, and its system goes on taking what comes.
    pub fn freeze(&self) {
        let process = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(process, rustix::process::Signal::STOP).unwrap();
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// An authority, and what it vouches for: "localhost" and a client. Certificates and keys.
pub struct Certificates {
    pub authority: PathBuf,
    pub server: (PathBuf, PathBuf),
    pub client: (PathBuf, PathBuf),
}

impl Certificates {
    pub fn make(directory: &Path) -> Self {
        let pair = |name: &str, signed: &[&str]| {
            let (certificate, key) =
                (directory.join(format!("{name}.pem")), directory.join(format!("{name}.key")));
            let mut openssl = Command::new("openssl");
            openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]);
            openssl.args(["-days", "2", "-subj", &format!("/CN={name}"), "-keyout"]);
            run(openssl.arg(&key).arg("-out").arg(&certificate).args(signed));
            (certificate, key)
        };
        let authority = pair("authority", &["-addext", "keyUsage=keyCertSign"]);
        let (ca, ca_key) = (authority.0.to_str().unwrap(), authority.1.to_str().unwrap());
        let by = ["-CA", ca, "-CAkey", ca_key, "-addext", "basicConstraints=critical,CA:FALSE", "-addext"];
        let server = pair("server", &[&by[..], &["subjectAltName=DNS:localhost"]].concat());
        let client = pair("client", &[&by[..], &["subjectAltName=DNS:client"]].concat());
        Certificates { authority: authority.0, server, client }
    }
}

/// rsyslogd with a configuration of its own, on a port of its own.
pub struct Rsyslog {
    pub port: u16,
    /// The file that it writes: a message's text a line.
    pub received: PathBuf,
    configuration: PathBuf,
    process: PathBuf,
    is_udp: bool,
}

impl Rsyslog {
    pub fn udp(directory: &Path) -> Self {
        // Free a moment ago.
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let text = format!(
            "global(workDirectory=\"{directory}\" maxMessageSize=\"64k\" \
             parser.escapeControlCharactersOnReceive=\"off\")\n\
             module(load=\"imudp\")\ninput(type=\"imudp\" address=\"127.0.0.1\" port=\"{port}\")\n\
             template(name=\"text\" type=\"string\" string=\"%msg%\\n\")\n\
             if $programname == \"strongroomd\" then \
             action(type=\"omfile\" file=\"{directory}/received\" template=\"text\")\n",
            directory = directory.display()
        );
        Self::with(directory, port, &text, true)
    }

    /// As docs/audit.md shows it: whoever connects has to have a certificate of the authority.
    pub fn tls(directory: &Path, certificates: &Certificates) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let page = include_str!("../../../docs/audit.md");
        let begin = page.find("    global(maxMessageSize").unwrap();
        let lines = page[begin..].lines().take_while(|line| !line.is_empty());
        let shown: String = lines.map(|line| format!("{line}\n")).collect();
        let (certificate, key) = &certificates.server;
        let ours = [
            ("global(", format!("global(workDirectory=\"{}\" ", directory.display())),
            ("/etc/rsyslog/ca.pem", certificates.authority.display().to_string()),
            ("/etc/rsyslog/server.pem", certificate.display().to_string()),
            ("/etc/rsyslog/server.key", key.display().to_string()),
            ("port=\"6514\"", format!("address=\"127.0.0.1\" port=\"{port}\"")),
            ("/var/log/strongroom/audit", directory.join("received").display().to_string()),
        ];
        let text = ours.iter().fold(shown, |text, (theirs, ours)| {
            assert!(text.contains(theirs), "docs/audit.md: {theirs}");
            text.replace(theirs, ours)
        });
        Self::with(directory, port, &text, false)
    }

    fn with(directory: &Path, port: u16, text: &str, is_udp: bool) -> Self {
        let configuration = directory.join("rsyslog.conf");
        fs::write(&configuration, text).unwrap();
        let received = directory.join("received");
        Rsyslog { port, received, configuration, process: directory.join("rsyslog.pid"), is_udp }
    }

    /// Starts it; it receives from now on.
    pub fn start(&mut self) -> Receiver {
        // Of one that was killed.
        let _ = fs::remove_file(&self.process);
        let child = Command::new("rsyslogd")
            .arg("-n")
            .arg("-f")
            .arg(&self.configuration)
            .arg("-i")
            .arg(&self.process)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Debian's packages rsyslog and rsyslog-openssl ('demo/install tests' installs them)");
        let mut receiver = Receiver(child);
        let is_taken = || match self.is_udp {
            true => UdpSocket::bind(("127.0.0.1", self.port)).is_err(),
            false => TcpListener::bind(("127.0.0.1", self.port)).is_err(),
        };
        let until = Instant::now() + Duration::from_secs(60);
        while !is_taken() {
            assert!(
                receiver.0.try_wait().unwrap().is_none(),
                "rsyslogd ended: {}",
                self.configuration.display()
            );
            assert!(Instant::now() < until, "rsyslogd does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        receiver
    }
}

/// journald in a namespace of its own, in which /run is a folder of the test's.
pub struct Journal {
    run: PathBuf,
    pub socket: PathBuf,
}

impl Journal {
    pub fn new(directory: &Path) -> Self {
        let run = directory.join("run");
        fs::create_dir_all(run.join("systemd/journal")).unwrap();
        fs::create_dir_all(run.join("log/journal")).unwrap();
        let socket = run.join("systemd/journal/socket");
        Journal { run, socket }
    }

    /// Starts it; it receives from now on.
    pub fn start(&self) -> Receiver {
        let _ = fs::remove_file(&self.socket);
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        let script =
            "mount --make-rprivate / && mount --bind \"$1\" /run && exec /lib/systemd/systemd-journald";
        let child = command
            .args(["--mount", "sh", "-c", script, "sh"])
            .arg(&self.run)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut receiver = Receiver(child);
        let until = Instant::now() + Duration::from_secs(60);
        while UnixDatagram::unbound().unwrap().connect(&self.socket).is_err() {
            assert!(receiver.0.try_wait().unwrap().is_none(), "journald ended");
            assert!(Instant::now() < until, "journald does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        receiver
    }

    /// The texts of the daemon's messages, a line each.
    pub fn messages(&self) -> String {
        self.search(&["SYSLOG_IDENTIFIER=strongroomd"])
    }

    /// The texts of the messages that have these fields.
    pub fn search(&self, fields: &[&str]) -> String {
        let mut journalctl = Command::new("journalctl");
        let folder = self.run.join("log/journal");
        let output =
            journalctl.arg("--directory").arg(folder).args(["--quiet", "--all", "--output=cat"]).args(fields);
        let output = output.stdin(Stdio::null()).output().expect("Debian's package systemd");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Reads a socket as journald would, as long as the test runs.
pub fn drain(socket: UnixDatagram) {
    std::thread::spawn(move || {
        let mut datagram = [0; 65536];
        while socket.recv(&mut datagram).is_ok() {}
    });
}
