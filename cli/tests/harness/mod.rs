//! A real strongroomd with a state directory and a socket of its own, and the command run against it.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test's panic is its report"
)]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use strongroom_protocol::client::{Connection, Deadlines};
use tempfile::TempDir;

pub const OFFICER_PASSWORD: &str = "officer's secret";
pub const USER_PASSWORD: &str = "user's secret";

/// The command under test.
pub fn strongroom() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    for variable in ["SOCKET", "STATE_DIR", "NODES", "OWNER", "CERTIFICATE", "KEY"] {
        command.env_remove(format!("STRONGROOM_{variable}"));
    }
    command.stdin(Stdio::null());
    command
}

/// Builds the daemon, once in each test program: cargo builds only the binaries of the tested package.
fn strongroomd() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let here = Path::new(env!("CARGO_BIN_EXE_strongroom")).parent().unwrap();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "-p", "strongroom-hsm", "--bin", "strongroomd"]);
        if here.ends_with("release") {
            build.arg("--release");
        }
        build.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap());
        assert!(build.status().unwrap().success(), "cargo cannot build strongroomd: {build:?}");
        let path = here.join("strongroomd");
        assert!(path.exists(), "no {}", path.display());
        path
    })
}

/// A running daemon; it ends, and its files go, when this is dropped.
pub struct Daemon {
    pub directory: TempDir,
    /// What it is told besides, from the next start on.
    pub environment: Vec<(&'static str, String)>,
    child: Option<Child>,
}

impl Daemon {
    /// Starts a daemon without partitions.
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut daemon = Daemon { directory, environment: Vec::new(), child: None };
        daemon.restart();
        daemon
    }

    /// Starts a daemon with the partition "tls": officer `admin`, user `user`, both with a password, and this
    /// process's user id admitted as `user`.
    pub fn with_partition() -> Self {
        let daemon = Daemon::start();
        let uid = rustix::process::getuid().as_raw().to_string();
        daemon.init("tls", &["--admit", &uid]).succeeds();
        daemon
    }

    /// `strongroom init` with both passwords and further options.
    pub fn init(&self, label: &str, options: &[&str]) -> Run {
        let officer = self.secret("officer.txt", OFFICER_PASSWORD);
        let user = self.secret("user.txt", USER_PASSWORD);
        let mut arguments =
            vec!["init", label, "--officer-password-file", &officer, "--user-password-file", &user];
        arguments.extend_from_slice(options);
        self.run(&arguments)
    }

    pub fn restart(&mut self) {
        self.stop();
        let log = File::create(self.path("strongroomd.log")).unwrap();
        let child = Command::new(strongroomd())
            .env("STRONGROOM_SOCKET", self.socket())
            .env("STRONGROOM_STATE_DIR", self.path("state"))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let until = Instant::now() + Duration::from_secs(60);
        while self.run(&["status"]).code != 0 {
            assert!(Instant::now() < until, "strongroomd does not answer:\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = kill_process(Pid::from_child(&child), Signal::TERM);
            let until = Instant::now() + Duration::from_secs(60);
            while child.try_wait().unwrap().is_none() {
                if Instant::now() > until {
                    child.kill().unwrap();
                }
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// A connection of this process, as other programs have one.
    pub fn connect(&self) -> Connection {
        Connection::open(&self.socket(), "test", Deadlines::default()).unwrap()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("strongroomd.log")).unwrap_or_default()
    }

    pub fn socket(&self) -> PathBuf {
        self.path("strongroomd.sock")
    }

    /// A path in the daemon's temporary directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a private file with a password and gives its path.
    pub fn secret(&self, name: &str, password: &str) -> String {
        let path = self.path(name);
        fs::write(&path, format!("{password}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Runs the command in the temporary directory.
    pub fn run(&self, arguments: &[&str]) -> Run {
        Run::of(self.command(arguments))
    }

    /// Runs the command with `input` on its standard input.
    pub fn run_with_input(&self, arguments: &[&str], input: &str) -> Run {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Run::from(child.wait_with_output().unwrap())
    }

    /// Runs the command as the crypto officer.
    pub fn as_officer(&self, arguments: &[&str]) -> Run {
        let file = self.secret("officer.txt", OFFICER_PASSWORD);
        self.run(&[arguments, &["--login", "admin", "--password-file", &file]].concat())
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = strongroom();
        command.arg("--socket").arg(self.socket()).args(arguments).current_dir(self.directory.path());
        command
    }

    /// Runs the command at a terminal and types `lines`, each when the one before was asked for.
    pub fn at_terminal(&self, arguments: &[&str], lines: &[&str]) -> Run {
        let words: Vec<_> = arguments.iter().map(|a| format!("'{a}'")).collect();
        let line = format!(
            "'{}' --socket '{}' {}",
            env!("CARGO_BIN_EXE_strongroom"),
            self.socket().display(),
            words.join(" ")
        );
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--echo", "never", "--command", &line, "/dev/null"])
            .env("TERM", "xterm")
            .current_dir(self.directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program script(1) of Debian's bsdutils makes the terminal");
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut shown = String::new();
        for line in lines {
            // A prompt ends with a colon or a question mark's choice and a blank.
            read_until(&mut stdout, &mut shown, &[": ", "[y/N] "]);
            stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
        }
        stdout.read_to_string(&mut shown).unwrap();
        Run { code: child.wait().unwrap().code().unwrap(), stdout: shown, stderr: String::new() }
    }
}

fn read_until(from: &mut impl Read, shown: &mut String, ends: &[&str]) {
    let mut byte = [0];
    loop {
        assert_eq!(from.read(&mut byte).unwrap(), 1, "the command ended, having shown:\n{shown}");
        shown.push(char::from(byte[0]));
        if ends.iter().any(|end| shown.ends_with(end)) {
            return;
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
        if thread::panicking() {
            eprintln!("strongroomd's log:\n{}", self.log());
        }
    }
}

/// What a command printed, and its exit code.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Run {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Run {
    pub fn of(mut command: Command) -> Self {
        Run::from(command.output().unwrap())
    }

    /// The standard output of a command that succeeded and complained of nothing.
    #[track_caller]
    pub fn succeeds(self) -> String {
        assert!(self.code == 0 && self.stderr.is_empty(), "{self:#?}");
        self.stdout
    }

    /// The JSON of a command that succeeded.
    #[track_caller]
    pub fn json(self) -> Value {
        serde_json::from_str(&self.succeeds()).unwrap()
    }

    /// What a command with this exit code complained of.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert!(self.code == code && self.stdout.is_empty(), "wanted exit code {code}: {self:#?}");
        assert!(self.stderr.starts_with("strongroom: "), "{self:#?}");
        self.stderr
    }

    /// The `error` object of a command that failed with `--json`.
    #[track_caller]
    pub fn json_error(self) -> Value {
        assert!(self.code != 0 && self.stdout.is_empty(), "{self:#?}");
        let mut error: Value = serde_json::from_str(&self.stderr).unwrap();
        assert_eq!(error["error"]["exit"], self.code);
        error["error"].take()
    }
}

/// The names of an object's fields, sorted: the JSON that programs rely on.
#[track_caller]
pub fn fields(value: &Value) -> Vec<&str> {
    let mut names: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// Writes bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Runs openssl and gives its standard output.
#[track_caller]
pub fn openssl(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
