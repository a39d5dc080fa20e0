//! A partition: strongroomd in a folder of its own, and the administrator's command for it.

use std::fs::OpenOptions;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::environment::Environment;
use crate::process::{Process, wait_for};
use crate::programs::Programs;

/// How long the daemon may take to answer on its socket after its start.
const START: Duration = Duration::from_secs(60);

/// How long one administrator's command may take. RSA-4096 generation varies between one and ten seconds.
const COMMAND: Duration = Duration::from_secs(60);

/// A strongroomd with its store and socket below one folder.
#[derive(Debug)]
pub struct Daemon {
    programs: Programs,
    folder: PathBuf,
    more: Environment,
    /// The network namespace that it runs in, if it is another one than this program's.
    network: Option<PathBuf>,
    process: Option<Process>,
}

impl Daemon {
    /// Starts the daemon; its store lies in `folder`/state and outlives the daemon.
    ///
    /// # Errors
    ///
    /// When it does not answer on its socket in time: with the end of its log.
    pub fn start(programs: &Programs, folder: &Path) -> Result<Self> {
        Self::start_with(programs, folder, &Environment::plain())
    }

    /// The same, with more in the daemon's environment.
    ///
    /// # Errors
    ///
    /// As [`Daemon::start`].
    pub fn start_with(programs: &Programs, folder: &Path, more: &Environment) -> Result<Self> {
        Self::start_on(None, programs, folder, more)
    }

    /// The same in another network namespace, whose file is given.
    ///
    /// # Errors
    ///
    /// As [`Daemon::start`].
    pub fn start_on(
        network: Option<&Path>,
        programs: &Programs,
        folder: &Path,
        more: &Environment,
    ) -> Result<Self> {
        let mut daemon = Daemon {
            programs: programs.clone(),
            folder: folder.into(),
            more: more.clone(),
            network: network.map(PathBuf::from),
            process: None,
        };
        daemon.start_again()?;
        Ok(daemon)
    }

    /// Changes what is in the daemon's environment, from its next start on.
    pub fn set_environment(&mut self, more: &Environment) {
        self.more = more.clone();
    }

    /// Starts the daemon on the same store once more, after [`Daemon::stop`] or [`Daemon::kill`].
    ///
    /// # Errors
    ///
    /// As [`Daemon::start`].
    pub fn start_again(&mut self) -> Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(self.log())?;
        let mut command = command::new_on(self.network.as_deref(), self.programs.strongroomd());
        self.environment_of_daemon().apply(&mut command);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut process = Process::spawn("strongroomd", command)?;
        let socket = self.socket();
        wait_for("strongroomd's socket", START, || {
            if !process.is_running() {
                bail!("strongroomd stopped again:\n{}", tail(&self.log()));
            }
            UnixStream::connect(&socket)
                .with_context(|| format!("{}\n{}", socket.display(), tail(&self.log())))
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Stops the daemon as the system does, with SIGTERM.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop();
        }
    }

    /// Kills the daemon: no handler runs, nothing is flushed.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Leaves the daemon running at the end.
    pub fn leave(mut self) {
        if let Some(process) = self.process.take() {
            process.leave();
        }
    }

    /// The daemon's process id; none while it is stopped.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Whether its process is still there.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_running)
    }

    /// The socket on which it listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("strongroomd.sock")
    }

    /// The daemon's log.
    pub fn log(&self) -> PathBuf {
        self.folder.join("strongroomd.log")
    }

    fn environment_of_daemon(&self) -> Environment {
        let own = self.client_environment().with("STRONGROOM_STATE_DIR", self.folder.join("state"));
        own.and(&self.more)
    }

    /// What a client of this daemon needs in its environment, OpenSSL's configuration not included.
    pub fn client_environment(&self) -> Environment {
        Environment::plain().with("STRONGROOM_SOCKET", self.socket())
    }

    /// The administrator's command with `arguments`, for this daemon.
    pub fn strongroom<I, A>(&self, arguments: I) -> Command
    where
        I: IntoIterator<Item = A>,
        A: AsRef<std::ffi::OsStr>,
    {
        let mut command = command::new(self.programs.strongroom());
        self.client_environment().apply(&mut command);
        command.args(arguments);
        command
    }

    /// Runs the administrator's command, which must succeed, and returns what it prints.
    ///
    /// # Errors
    ///
    /// With what the command said.
    pub fn manage(&self, arguments: &[&str]) -> Result<String> {
        command::succeed(self.strongroom(arguments), COMMAND)
    }
}

/// The end of a log file, for an error message.
pub fn tail(file: &Path) -> String {
    let text = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let start = lines.len().saturating_sub(20);
    lines.get(start..).unwrap_or_default().join("\n")
}
