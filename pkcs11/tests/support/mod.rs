//! A strongroomd of a test's own, and the module that was built with the test.

// Each test program uses a part of it.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod application;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use strongroom_protocol::client::{ClientError, Connection, Deadlines};
use strongroom_protocol::v1::{
    AdmitUid, ChangePassword, CreatePartition, CreateUser, Login, Role, Status, StatusReply, request::Op,
    response,
};
use tempfile::TempDir;

/// The crypto officer of every partition, and the password.
/// The password that somebody else sets, and that its user changes.
const INITIAL: &str = "an initial secret";
pub const OFFICER: (&str, &str) = ("admin", "officer-secret");
/// The crypto user of every partition, and the password.
pub const USER: (&str, &str) = ("user", "user-secret");

/// `target/<profile>`.
fn build_directory() -> PathBuf {
    // The test program lies in target/<profile>/deps.
    env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
}

/// The C library that was built together with the test program.
pub fn module() -> PathBuf {
    let module = build_directory().join("deps/libstrongroom_pkcs11.so");
    assert!(module.exists(), "{} is not built", module.display());
    module
}

/// strongroomd, built if it is not there. It is not a dependency of these tests that cargo could know.
fn program() -> PathBuf {
    static BUILT: Once = Once::new();
    let directory = build_directory();
    BUILT.call_once(|| {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "-p", "strongroom-hsm", "--bin", "strongroomd"]);
        if directory.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "cargo build -p strongroom-hsm failed");
    });
    directory.join("strongroomd")
}

/// A daemon with its state in a temporary directory. Stopped when it is dropped.
pub struct Daemon {
    directory: PathBuf,
    program: PathBuf,
    child: Option<Child>,
    _temporary: Option<TempDir>,
}

impl Daemon {
    /// Starts one with an empty store.
    pub fn start() -> Self {
        let mut daemon = Daemon::stopped();
        daemon.run();
        daemon
    }

    /// One that is still to be started, with an empty store.
    pub fn stopped() -> Self {
        let temporary = TempDir::new().unwrap();
        let directory = temporary.path().to_owned();
        Daemon { directory, program: program(), child: None, _temporary: Some(temporary) }
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    /// A file in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Starts it again after [`Daemon::kill`].
    pub fn run(&mut self) {
        self.run_at(&self.socket());
    }

    /// The same, where nobody looks for it until [`Daemon::appear`].
    pub fn run_aside(&mut self) {
        self.run_at(&self.path("aside"));
    }

    /// Puts it in its place, at once.
    pub fn appear(&self) {
        fs::rename(self.path("aside"), self.socket()).unwrap();
    }

    fn run_at(&mut self, socket: &Path) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = Command::new(&self.program);
        command
            .arg("--state-dir")
            .arg(self.path("state"))
            .arg("--socket")
            .arg(socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        // SAFETY: prctl is async-signal-safe. If the test is killed, so is the daemon.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        self.child = Some(command.spawn().unwrap());
        let until = Instant::now() + Duration::from_secs(60);
        while Connection::open(socket, "test", Deadlines::default()).is_err() {
            assert!(Instant::now() < until, "no daemon: {}", fs::read_to_string(self.path("log")).unwrap());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Makes the second node of [`with_two_nodes`], with a copy of this one's state, as if restored. Both run then.
    pub fn second_node(&mut self) -> Daemon {
        self.kill();
        let directory = PathBuf::from(env::var_os(SECOND).unwrap());
        let copied = Command::new("cp").arg("-a").arg(self.path("state")).arg(&directory).status().unwrap();
        assert!(copied.success());
        let mut second = Daemon { directory, program: self.program.clone(), child: None, _temporary: None };
        self.run();
        second.run();
        second
    }

    /// All that its audit log has on the disk.
    pub fn audit_log(&self) -> String {
        let files = fs::read_dir(self.path("state/audit")).unwrap();
        files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap_or_default()).collect()
    }

    /// Whether it does not run, after [`Daemon::kill`].
    pub fn is_stopped(&self) -> bool {
        self.child.is_none()
    }

    /// Stops it in its tracks: it keeps its connections and answers nobody.
    pub fn pause(&self) {
        self.signal(libc::SIGSTOP);
        let id = self.child.as_ref().unwrap().id() as libc::pid_t;
        let mut status = 0;
        // SAFETY: our own child; waits until all of its threads have stopped.
        assert_eq!(unsafe { libc::waitpid(id, &mut status, libc::WUNTRACED) }, id);
        assert!(libc::WIFSTOPPED(status));
    }

    /// Lets it go on after [`Daemon::pause`].
    pub fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    /// The process that runs.
    pub fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    fn signal(&self, signal: libc::c_int) {
        let id = self.child.as_ref().unwrap().id();
        // SAFETY: our own child, which has not been waited for.
        assert_eq!(unsafe { libc::kill(id as libc::pid_t, signal) }, 0);
    }

    /// Makes a partition with [`OFFICER`] and [`USER`]; returns its number.
    pub fn create_partition(&self, label: &str) -> u32 {
        self.create_partition_in(label, 0)
    }

    /// As [`Daemon::create_partition`], in FIPS state 2.
    pub fn create_fips_partition(&self, label: &str) -> u32 {
        self.create_partition_in(label, 2)
    }

    fn create_partition_in(&self, label: &str, fips_state: u32) -> u32 {
        let mut connection = self.connect();
        let create = CreatePartition {
            label: label.into(),
            officer: OFFICER.0.into(),
            password: OFFICER.1.into(),
            fips_state,
            ..Default::default()
        };
        let response::Result::Partition(partition) = connection.call(0, Op::CreatePartition(create)).unwrap()
        else {
            panic!("CreatePartition's answer");
        };
        self.create_user(partition.number, USER);
        partition.number
    }

    /// Makes a further crypto user.
    pub fn create_user(&self, partition: u32, (name, password): (&str, &str)) {
        let user = CreateUser {
            name: name.into(),
            role: Role::CryptoUser.into(),
            password: INITIAL.into(),
            ..CreateUser::default()
        };
        self.as_officer(partition, Op::CreateUser(user));
        take_over(&mut self.connect(), partition, (name, password));
    }

    /// Lets the user id of this process act as [`USER`].
    pub fn admit(&self, partition: u32) {
        let uid = rustix::process::getuid().as_raw();
        self.as_officer(partition, Op::AdmitUid(AdmitUid { name: USER.0.into(), uid, withdraw: false }));
    }

    /// Sets [`USER`]'s password.
    pub fn set_password(&self, partition: u32, password: &str) {
        let change =
            ChangePassword { name: USER.0.into(), old_password: String::new(), new_password: INITIAL.into() };
        self.as_officer(partition, Op::ChangePassword(change));
        take_over(&mut self.connect(), partition, (USER.0, password));
    }

    /// What [`Daemon::requests`] itself adds to its next result: Hello and Status.
    pub const OWN_REQUESTS: u64 = 2;

    /// How many requests the daemon has answered.
    pub fn requests(&self) -> u64 {
        // Those of a channel are counted when all that came together have been looked at.
        thread::sleep(Duration::from_millis(50));
        self.status().requests
    }

    /// How many connections it has, this question's among them.
    pub fn connections(&self) -> u32 {
        self.status().connections
    }

    fn status(&self) -> StatusReply {
        match self.connect().call(0, Op::Status(Status {})).unwrap() {
            response::Result::Status(status) => status,
            other => panic!("Status's answer: {other:?}"),
        }
    }

    /// Carries out a request as the crypto officer.
    pub fn as_officer(&self, partition: u32, op: Op) -> response::Result {
        let mut connection = self.connect();
        let login = Login {
            role: Role::CryptoOfficer.into(),
            user: OFFICER.0.into(),
            password: OFFICER.1.into(),
            ticket: Vec::new(),
        };
        connection.call(partition, Op::Login(login)).unwrap();
        connection.call(partition, op).unwrap()
    }

    /// Carries out a request as [`USER`].
    pub fn as_user(&self, partition: u32, op: Op) -> Result<response::Result, ClientError> {
        let mut connection = self.connect();
        let login = Login {
            role: Role::CryptoUser.into(),
            user: USER.0.into(),
            password: USER.1.into(),
            ticket: Vec::new(),
        };
        connection.call(partition, Op::Login(login))?;
        connection.call(partition, op)
    }

    /// Carries out a request as who runs the daemon.
    pub fn as_owner(&self, op: Op) -> response::Result {
        self.connect().call(0, op).unwrap()
    }

    fn connect(&self) -> Connection {
        Connection::open(&self.socket(), "test", Deadlines::default()).unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How many sockets this process has open.
pub fn open_sockets() -> usize {
    let links =
        fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
}

/// The most memory that a process has had so far, in bytes.
pub fn peak_memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kilobytes * 1024
}

/// How many bells of channels this process has open.
pub fn open_bells() -> usize {
    let links =
        fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links.filter(|link| link.to_string_lossy().contains("[eventfd]")).count()
}

/// The path as text, for a command line.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Names the scenario in the environment of its process.
const SCENARIO: &str = "STRONGROOM_TEST_SCENARIO";

/// Runs a scenario in a process of its own: this test program again, with only the test "scenario". The module
/// looks its socket up once in a process, and only a process with one thread can fork as a web server does.
pub fn in_own_process(scenario: &str) {
    in_process_with(scenario, &[]);
}

/// As [`in_own_process`], with more in the environment.
pub fn in_process_with(scenario: &str, environment: &[(&str, &str)]) {
    // The scenario's process starts it, and stops it when it likes.
    run_scenario(scenario, &Daemon::stopped(), environment);
}

/// As [`in_own_process`], with two nodes: the scenario has the second made with [`Daemon::second_node`].
pub fn with_two_nodes(scenario: &str) {
    let (first, second) = (Daemon::stopped(), Daemon::stopped());
    let nodes = format!("{},{}", text(&first.socket()), text(&second.socket()));
    let environment = [("STRONGROOM_NODES", nodes.as_str()), (SECOND, text(&second.directory))];
    run_scenario(scenario, &first, &environment);
}

fn run_scenario(scenario: &str, daemon: &Daemon, environment: &[(&str, &str)]) {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "scenario", "--ignored", "--nocapture", "--test-threads=1"])
        .envs(environment.iter().copied())
        .env(SCENARIO, scenario)
        .env("STRONGROOM_SOCKET", daemon.socket())
        .env(DIRECTORY, &daemon.directory)
        .output()
        .unwrap();
    let printed =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && printed.contains("1 passed"), "{scenario}: {printed}");
}

/// The second node's directory, for the scenario's process.
const SECOND: &str = "STRONGROOM_TEST_SECOND";

/// The daemon's directory, for the scenario's process.
const DIRECTORY: &str = "STRONGROOM_TEST_DIRECTORY";

/// In a scenario's process: which, and the daemon that was started for it, now this process's to control.
pub fn scenario() -> Option<(String, Daemon)> {
    let scenario = env::var(SCENARIO).ok()?;
    let directory = PathBuf::from(env::var_os(DIRECTORY)?);
    let mut daemon =
        Daemon { directory, program: build_directory().join("strongroomd"), child: None, _temporary: None };
    // SAFETY: no other thread reads the environment of this process.
    unsafe { env::remove_var(SCENARIO) };
    daemon.run();
    Some((scenario, daemon))
}

/// The user changes the password that somebody else has set.
fn take_over(connection: &mut Connection, partition: u32, (name, password): (&str, &str)) {
    let change =
        ChangePassword { name: name.into(), old_password: INITIAL.into(), new_password: password.into() };
    connection.call(partition, Op::ChangePassword(change)).unwrap();
}
