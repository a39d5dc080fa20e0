//! A real daemon with one partition, for as long as the fuzzer runs.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs, process, thread};

use strongroom_protocol::client::{Connection, Deadlines};
use strongroom_protocol::v1::{
    AdmitUid, ChangePassword, CreatePartition, CreateUser, Login, Role, SetLife, request::Op, response,
};

pub const OFFICER: &str = "admin:officer-secret";
pub const USER: &str = "user:user-secret";
const INITIAL: &str = "an initial secret";

/// Starts strongroomd (`STRONGROOMD` names it) and makes a partition; its number.
pub fn start() -> u32 {
    let program = env::var_os("STRONGROOMD").expect("STRONGROOMD names the daemon; fuzz/run sets it");
    let directory = PathBuf::from(format!("{}/strongroom-fuzz-{}", env::temp_dir().display(), process::id()));
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    let socket = directory.join("socket");
    let mut command = Command::new(program);
    command.arg("--state-dir").arg(directory.join("state")).arg("--socket").arg(&socket);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(directory.join("log")).unwrap());
    // SAFETY: prctl is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            Ok(())
        });
    }
    command.spawn().expect("strongroomd starts");
    // SAFETY: before any other thread is there.
    unsafe { env::set_var("STRONGROOM_SOCKET", &socket) };
    let mut connection = loop {
        match Connection::open(&socket, "fuzz", Deadlines::default()) {
            Ok(connection) => break connection,
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    };
    partition(&mut connection)
}

fn partition(connection: &mut Connection) -> u32 {
    let (officer, password) = OFFICER.split_once(':').unwrap();
    let create = CreatePartition {
        label: "fuzz".into(),
        officer: officer.into(),
        password: password.into(),
        ..CreatePartition::default()
    };
    let Ok(response::Result::Partition(made)) = connection.call(0, Op::CreatePartition(create)) else {
        panic!("CreatePartition's answer")
    };
    let login = |role: Role, user: &str, password: &str| {
        Op::Login(Login { role: role.into(), user: user.into(), password: password.into(), ticket: Vec::new() })
    };
    connection.call(made.number, login(Role::CryptoOfficer, officer, password)).unwrap();
    // What the inputs leave behind goes at once.
    let life = SetLife { destroy_at_once: Some(true), ..SetLife::default() };
    connection.call(made.number, Op::SetLife(life)).unwrap();
    let (user, secret) = USER.split_once(':').unwrap();
    let create = CreateUser {
        name: user.into(),
        role: Role::CryptoUser.into(),
        password: INITIAL.into(),
        ..CreateUser::default()
    };
    connection.call(made.number, Op::CreateUser(create)).unwrap();
    // A log-in takes as long as thousand calls: most inputs go without.
    let uid = rustix::process::getuid().as_raw();
    connection.call(made.number, Op::AdmitUid(AdmitUid { name: user.into(), uid, withdraw: false })).unwrap();
    let change =
        ChangePassword { name: user.into(), old_password: INITIAL.into(), new_password: secret.into() };
    connection.call(made.number, Op::ChangePassword(change)).unwrap();
    made.number
}
