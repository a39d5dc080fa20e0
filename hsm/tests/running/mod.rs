//! A daemon in this process or in its own, and clients that say what they mean.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use strongroom_hsm::{Config, Daemon};
use strongroom_protocol::client::{ClientError, Connection, Deadlines};
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;
use tempfile::TempDir;
use tokio::sync::oneshot;

pub const OFFICER: &str = "admin";
pub const USER: &str = "user";
pub const PASSWORD: &str = "correct horse";
pub const WRONG: &str = "battery staple";
/// The partition that [`Running::with_partition`] makes.
pub const TLS: u32 = 1;

/// A daemon in a thread of this process, stopped on drop.
pub struct Running {
    pub directory: TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap())
    }

    pub fn start_in(directory: TempDir) -> Self {
        Self::try_start_in(directory, |_| {}).unwrap()
    }

    /// The error is what the daemon says when it does not start.
    pub fn try_start_in(directory: TempDir, configure: impl FnOnce(&mut Config)) -> Result<Self, String> {
        let mut config = Config::of_user(rustix::process::geteuid().as_raw());
        config.state_dir = directory.path().join("state");
        config.socket = directory.path().join("socket");
        config.credentials = None;
        configure(&mut config);
        let (stop, stopped) = oneshot::channel::<()>();
        let (started, ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                match Daemon::start(config, None) {
                    Ok(daemon) => {
                        started.send(Ok(())).unwrap();
                        daemon.serve(async { drop(stopped.await) }).await;
                    }
                    Err(error) => started.send(Err(error.to_string())).unwrap(),
                }
            });
        });
        ready.recv().unwrap()?;
        Ok(Self { directory, stop: Some(stop), thread: Some(thread) })
    }

    /// A daemon with a partition, its officer and one user.
    pub fn with_partition() -> Self {
        let running = Self::start();
        running.client().make_partition("tls");
        running
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    pub fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    pub fn client(&self) -> Client {
        Client::open(&self.socket()).unwrap()
    }

    /// A client that is logged in as the user.
    pub fn user(&self) -> Client {
        let mut client = self.client();
        client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
        client
    }

    /// A client that is logged in as the officer.
    pub fn officer(&self) -> Client {
        let mut client = self.client();
        client.login(Role::CryptoOfficer, OFFICER, PASSWORD).unwrap();
        client
    }

    /// Stops the daemon, answers what is in flight.
    pub fn stop(mut self) -> TempDir {
        self.end();
        std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap())
    }

    pub fn restart(self) -> Self {
        Self::start_in(self.stop())
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// The strongroomd program as a process of its own, killed on drop.
pub struct Process {
    pub child: Child,
    pub socket: PathBuf,
}

impl Process {
    pub fn command(directory: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroomd"));
        command
            .arg("--state-dir")
            .arg(directory.join("state"))
            .arg("--socket")
            .arg(directory.join("socket"))
            .env_remove("CREDENTIALS_DIRECTORY")
            .stderr(Stdio::null());
        command
    }

    pub fn start(directory: &Path) -> Self {
        Self::spawn(Self::command(directory), directory)
    }

    pub fn spawn(mut command: Command, directory: &Path) -> Self {
        let socket = directory.join("socket");
        let mut child = command.spawn().unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while Connection::open(&socket, "test", Deadlines::default()).is_err() {
            assert!(child.try_wait().unwrap().is_none(), "strongroomd ended");
            assert!(Instant::now() < until, "strongroomd does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { child, socket }
    }

    pub fn client(&self) -> Client {
        Client::open(&self.socket).unwrap()
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The password that a user is made with who changes it to `password`: somebody else has set it.
pub fn initial(password: &str) -> String {
    if password.is_empty() { String::new() } else { format!("initial {password}") }
}

/// A connection with the requests that tests make; about partition [`TLS`] unless changed.
pub struct Client {
    pub connection: Connection,
    pub partition: u32,
}

/// The daemon's refusal.
#[track_caller]
pub fn code<T: std::fmt::Debug>(result: Result<T, ClientError>) -> ErrorCode {
    result.unwrap_err().code().unwrap()
}

impl Client {
    pub fn open(socket: &Path) -> Result<Self, ClientError> {
        // Shorter than what the daemon grants one who does not read (30 s), longer than a busy machine needs for an RSA key.
        let deadlines = Deadlines { connect: Duration::from_secs(25), reply: Duration::from_secs(25) };
        Ok(Self { connection: Connection::open(socket, "test", deadlines)?, partition: TLS })
    }

    pub fn call(&mut self, op: Op) -> Result<response::Result, ClientError> {
        self.connection.call(self.partition, op)
    }

    pub fn make_partition(&mut self, label: &str) {
        let request = CreatePartition {
            label: label.into(),
            officer: OFFICER.into(),
            password: PASSWORD.into(),
            ..Default::default()
        };
        let response::Result::Partition(made) =
            self.connection.call(0, Op::CreatePartition(request)).unwrap()
        else {
            panic!()
        };
        self.partition = made.number;
        self.login(Role::CryptoOfficer, OFFICER, PASSWORD).unwrap();
        self.create_user(USER, Role::CryptoUser, PASSWORD).unwrap();
        self.call(Op::Logout(Logout {})).unwrap();
    }

    pub fn login(&mut self, role: Role, user: &str, password: &str) -> Result<LoginReply, ClientError> {
        let request =
            Login { role: role.into(), user: user.into(), password: password.into(), ..Login::default() };
        match self.call(Op::Login(request))? {
            response::Result::Login(reply) => Ok(reply),
            other => panic!("{other:?}"),
        }
    }

    pub fn create_user(&mut self, name: &str, role: Role, password: &str) -> Result<(), ClientError> {
        self.create_initial_user(name, role, &initial(password))?;
        if password.is_empty() { Ok(()) } else { self.take_over(name, password) }
    }

    /// A user whose password, an officer's choice, has to be changed at the first log-in.
    pub fn create_initial_user(&mut self, name: &str, role: Role, password: &str) -> Result<(), ClientError> {
        let request = CreateUser {
            name: name.into(),
            role: role.into(),
            password: password.into(),
            ..CreateUser::default()
        };
        self.call(Op::CreateUser(request)).map(drop)
    }

    /// The user whose password is [`initial`] changes it.
    pub fn take_over(&mut self, name: &str, password: &str) -> Result<(), ClientError> {
        let (name, old_password) = (name.to_owned(), initial(password));
        let change = ChangePassword { name, old_password, new_password: password.into() };
        self.call(Op::ChangePassword(change)).map(drop)
    }

    pub fn objects(&mut self, op: Op) -> Result<Vec<ObjectInfo>, ClientError> {
        match self.call(op)? {
            response::Result::Objects(list) => Ok(list.objects),
            other => panic!("{other:?}"),
        }
    }

    pub fn generate(&mut self, key_type: KeyType, label: &str) -> Result<Vec<ObjectInfo>, ClientError> {
        let template = KeyTemplate { label: label.into(), ..KeyTemplate::default() };
        self.objects(Op::GenerateKeyPair(GenerateKeyPair {
            key_type: key_type.into(),
            private_key: Some(template.clone()),
            public_key: Some(template),
        }))
    }

    pub fn find(&mut self, request: FindObjects) -> Result<Vec<ObjectInfo>, ClientError> {
        self.objects(Op::FindObjects(request))
    }

    pub fn sign(
        &mut self,
        key: &ObjectInfo,
        mechanism: Mechanism,
        pss: Option<PssParameters>,
        data: &[u8],
    ) -> Result<Vec<u8>, ClientError> {
        let request = Sign {
            key: key.object.clone(),
            mechanism: mechanism.into(),
            pss,
            data: data.to_vec(),
            ..Sign::default()
        };
        match self.call(Op::Sign(request))? {
            response::Result::Signature(signature) => Ok(signature.signature),
            other => panic!("{other:?}"),
        }
    }
}

/// A user, as the officer sees it.
pub fn user_info(client: &mut Client, name: &str) -> UserInfo {
    let response::Result::Users(list) = client.call(Op::ListUsers(ListUsers {})).unwrap() else { panic!() };
    list.users.into_iter().find(|user| user.name == name).unwrap()
}

/// The client's partition.
pub fn partition_info(client: &mut Client) -> PartitionInfo {
    let listed = client.call(Op::ListPartitions(ListPartitions {})).unwrap();
    let response::Result::Partitions(list) = listed else { panic!() };
    list.partitions.into_iter().find(|partition| partition.number == client.partition).unwrap()
}

/// Whether this build has keys of a type: the FIPS module's release of AWS-LC lacks Brainpool's (docs/fips.md).
pub fn has(key_type: KeyType) -> bool {
    !(cfg!(feature = "fips") && key_type.as_str_name().contains("BRAINPOOL"))
}
