//! What nginx and Apache have in common: a site, a port, a log, a process tree.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::daemon::tail;
use crate::environment::Environment;
use crate::process::{Process, wait_for};

/// How long a server may take from its start until it accepts connections.
pub const START: Duration = Duration::from_secs(15);

/// A TLS site that is to be served.
#[derive(Debug, Clone)]
pub struct Site {
    /// The folder for configuration, logs and pages; the server's own.
    pub folder: PathBuf,
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// The private key: a PEM file with the key or with a reference to it, or a `pkcs11:` URI.
    pub key: String,
    /// What the server needs in its environment to open the key.
    pub environment: Environment,
    /// How the server's processes are started.
    pub start: Start,
    /// Other workers (nginx) or threads (Apache, HAProxy) than the configuration in the repository says.
    pub workers: Option<u32>,
    /// More directives: of nginx's `http` block, of Apache's main configuration.
    pub directives: String,
    /// Whether Apache logs why a handshake failed, and with it every connection. nginx always does.
    pub verbose: bool,
}

/// How a server starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// As a child that stays in the foreground, as in a container.
    Foreground,
    /// As a daemon, which forks once or twice after it has loaded the keys, as Debian's units do.
    Daemon,
}

impl Site {
    /// A site that starts in the foreground.
    pub fn new(folder: PathBuf, certificate: &Path, key: &str, environment: &Environment) -> Self {
        Site {
            folder,
            certificate: certificate.into(),
            key: key.into(),
            environment: environment.clone(),
            start: Start::Foreground,
            workers: None,
            directives: String::new(),
            verbose: false,
        }
    }

    /// The same site, started as a daemon.
    #[must_use]
    pub fn as_daemon(mut self) -> Self {
        self.start = Start::Daemon;
        self
    }

    /// The same site with other workers or threads than the repository's configuration has, if any are given.
    #[must_use]
    pub fn with_workers(mut self, workers: Option<u32>) -> Self {
        self.workers = workers;
        self
    }

    /// The same site with more directives.
    #[must_use]
    pub fn with_directives(mut self, directives: &str) -> Self {
        self.directives = directives.into();
        self
    }

    /// The same site, with a log that tells why a handshake failed.
    #[must_use]
    pub fn verbose(mut self) -> Self {
        self.verbose = true;
        self
    }

    /// Makes the page that the site serves.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub fn write_page(&self, text: &str) -> Result<PathBuf> {
        let pages = self.folder.join("pages");
        fs::create_dir_all(&pages).with_context(|| format!("cannot make {}", pages.display()))?;
        fs::write(pages.join("index.html"), text)?;
        Ok(pages)
    }
}

/// A running web server.
#[derive(Debug)]
pub struct Server {
    /// The process that the system's service manager would know.
    pub process: Process,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    /// Its error log.
    pub log: PathBuf,
    /// How to run the program again on the same configuration: for `-t`, `-s reload`, `-k graceful`.
    program: PathBuf,
    arguments: Vec<String>,
    environment: Environment,
}

impl Server {
    /// Starts `program` with `arguments` and waits until it accepts connections on `port`. It writes its process id to
    /// `server.pid` in the site's folder when it has loaded its configuration.
    ///
    /// # Errors
    ///
    /// When it does not start: with what it said.
    pub fn start(
        name: &str,
        program: PathBuf,
        arguments: Vec<String>,
        how: (Start, &[&str]),
        site: &Site,
        port: u16,
    ) -> Result<Self> {
        let log = site.folder.join("error.log");
        let pid_file = site.folder.join("server.pid");
        let _ = fs::remove_file(&pid_file);
        let output = fs::File::create(site.folder.join("output.log"))?;
        let mut command = command::new(&program);
        site.environment.apply(&mut command);
        command.args(&arguments).args(how.1);
        command.stdin(std::process::Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let mut process = Process::spawn(name, command)?;
        let said = || format!("{}\n{}", tail(&site.folder.join("output.log")), tail(&log)).trim().to_owned();
        // Both servers write their process id when all configuration is loaded. To listen is no sign of that:
        // Apache does it before it loads the keys.
        let loaded = || -> Result<u32> { Ok(fs::read_to_string(&pid_file)?.trim().parse()?) };
        if how.0 == Start::Daemon {
            let status = process.wait(START)?;
            if !status.success() {
                bail!("{name} does not start ({status}):\n{}", said());
            }
            // The parent has ended; what is left of its group, if anything, is not the daemon.
            process = wait_for(name, START, || Process::adopt(name, loaded()?)).with_context(said)?;
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut ended = false;
        let connected = wait_for(name, START, || {
            if !process.is_running() {
                ended = true;
                return Ok(());
            }
            loaded().context("it has not loaded its configuration")?;
            TcpStream::connect(address).map(drop).with_context(|| format!("no answer on {address}"))
        });
        if ended {
            let status = process.wait(START)?;
            bail!("{name} does not start ({status}):\n{}", said());
        }
        connected.with_context(said)?;
        Ok(Server { process, port, log, program, arguments, environment: site.environment.clone() })
    }

    /// Where it listens, as in `localhost:20001`. The certificate is for this name.
    pub fn address(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// A command for the running server: `-s reload` (nginx), `-k graceful` (Apache), or `-t`.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command::new(&self.program);
        self.environment.apply(&mut command);
        command.args(&self.arguments).args(arguments);
        command
    }

    /// Runs such a command, which must succeed.
    ///
    /// # Errors
    ///
    /// With what the server said.
    pub fn tell(&self, arguments: &[&str]) -> Result<String> {
        command::succeed(self.command(arguments), START)
    }

    /// The process ids of the server and its workers, in ascending order. The kernel begins anew when it has given the highest
    /// one: the lowest need not be the master's.
    ///
    /// # Errors
    ///
    /// When /proc cannot be read.
    pub fn processes(&self) -> Result<Vec<u32>> {
        crate::cpu::tree(self.process.id())
    }

    /// Everything that it has said so far: its output, and its error log.
    pub fn said(&self) -> String {
        let output = self.log.with_file_name("output.log");
        format!("{}{}", String::from_utf8_lossy(&fs::read(output).unwrap_or_default()), self.errors())
    }

    /// Everything in the error log so far.
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

/// A free port on 127.0.0.1. It lies below the range from which the kernel takes ports for outgoing
/// connections, so that no client occupies it before the server does.
///
/// # Errors
///
/// When none is free.
pub fn free_port() -> Result<u16> {
    const FIRST: u16 = 20_100;
    const COUNT: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Programs that run side by side (tests, a kept demo) look in different places.
    let start = u16::try_from(std::process::id().wrapping_mul(97) % u32::from(COUNT)).unwrap_or_default();
    for _ in 0..COUNT {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = FIRST + offset;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between {FIRST} and {}", FIRST + COUNT)
}
