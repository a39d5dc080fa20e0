//! What was acknowledged survives kill -9 and a full disk.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod running;

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use running::{Client, OFFICER, PASSWORD, Process, Running, USER, code};
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

fn user(process: &Process) -> Client {
    let mut client = process.client();
    client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    client
}

#[test]
fn acknowledged_keys_survive_kill_minus_nine() {
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(directory.path());
    let mut officer = process.client();
    officer.make_partition("tls");
    officer.login(Role::CryptoOfficer, OFFICER, PASSWORD).unwrap();
    // So that no round spends its time on a log-in.
    let uid = rustix::process::geteuid().as_raw();
    officer.call(Op::AdmitUid(AdmitUid { name: USER.into(), uid, withdraw: false })).unwrap();
    process.kill();
    let mut acknowledged: Vec<ObjectInfo> = Vec::new();
    let mut destroyed: Vec<ObjectInfo> = Vec::new();
    let mut made_so_far = 0;
    // More rounds where the disk is slow, until there is enough to be lost.
    for round in 0..400u64 {
        if round >= 20 && acknowledged.len() >= 20 {
            break;
        }
        let process = Process::start(directory.path());
        let id = rustix::process::Pid::from_raw(process.child.id() as i32).unwrap();
        let mut client = process.client();
        let killer = std::thread::spawn(move || {
            // At any moment of what follows, another one each round.
            std::thread::sleep(Duration::from_micros(5_000 + 9_838 * (round * round % 17)));
            rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
        });
        // Errors are the kill.
        while let Ok(made) = client.generate(KeyType::P256, &format!("round {round}")) {
            acknowledged.push(made[0].clone());
            made_so_far += 1;
            if made_so_far % 5 == 0 {
                let gone = acknowledged.swap_remove(0);
                match client.call(Op::DestroyObject(DestroyObject { object: gone.object.clone() })) {
                    Ok(_) => destroyed.push(gone),
                    // It may or may not be gone.
                    Err(_) => break,
                }
            }
        }
        killer.join().unwrap();
        drop(process);
    }
    assert!(acknowledged.len() >= 20, "{} keys in 400 rounds", acknowledged.len());
    let process = Process::start(directory.path());
    let mut client = user(&process);
    for key in &acknowledged {
        client.sign(key, Mechanism::Ecdsa, None, &[1; 32]).unwrap();
    }
    for key in &destroyed {
        assert_eq!(code(client.sign(key, Mechanism::Ecdsa, None, &[1; 32])), ErrorCode::NoSuchObject);
    }
    // Both halves of a pair, or none.
    let mut private = HashSet::new();
    let mut public = HashSet::new();
    let mut after = Vec::new();
    loop {
        let page = client.find(FindObjects { after, ..FindObjects::default() }).unwrap();
        let Some(last) = page.last() else { break };
        after = last.object.clone();
        for object in page {
            let half = if object.class() == ObjectClass::PrivateKey { &mut private } else { &mut public };
            half.insert(object.public_key);
        }
    }
    assert!(private.is_subset(&public));
}

/// Killing the daemon while it checks a password must not give another try.
#[test]
fn an_attempt_is_counted_before_the_password_is_checked() {
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(directory.path());
    process.client().make_partition("tls");
    process.kill();
    let mut locked_after = None;
    for round in 0..60 {
        let process = Process::start(directory.path());
        let mut client = process.client();
        if round % 5 == 4 {
            // An honest look; while the user is not locked it counts as one try and is told.
            let answer = client.login(Role::CryptoUser, USER, "wrong password");
            if code(answer) == ErrorCode::UserLocked {
                locked_after = Some(round);
                break;
            }
            continue;
        }
        let login =
            std::thread::spawn(move || client.login(Role::CryptoUser, USER, "wrong password").is_err());
        // Long enough for the count to reach the disk, mostly; shorter than the check of the password.
        std::thread::sleep(Duration::from_millis(12));
        process.kill();
        assert!(login.join().unwrap());
    }
    // Only the honest looks: they alone would lock after 50 rounds.
    let locked_after = locked_after.unwrap();
    assert!(locked_after < 40, "locked after {locked_after} rounds: a try that was cut off did not count");
}

/// A file system of its own that is soon full; unmounted on drop.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=3m,mode=755", "strongroom-test"])
            .arg(directory.path())
            .status()
            .unwrap();
        assert!(mounted.success());
        Self(directory)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// Generates keys until the daemon says that the disk is full.
fn fill(client: &mut Client) -> Vec<ObjectInfo> {
    let mut made = Vec::new();
    loop {
        let template = KeyTemplate {
            attributes: vec![Attribute { r#type: 0x8000_0001, value: vec![7; 8000] }],
            ..KeyTemplate::default()
        };
        let request =
            GenerateKeyPair { key_type: KeyType::P256.into(), private_key: Some(template), public_key: None };
        match client.objects(Op::GenerateKeyPair(request)) {
            Ok(pair) => made.push(pair[0].clone()),
            Err(error) => {
                assert_eq!(error.code(), Some(ErrorCode::Store), "{error}");
                assert!(error.to_string().contains("store.redb"), "{error}");
                return made;
            }
        }
        assert!(made.len() < 10_000, "the disk does not fill up");
    }
}

#[test]
fn a_full_disk_refuses_changes_and_goes_on_signing() {
    let is_root = rustix::process::geteuid().is_root();
    let small = is_root.then(Small::mount);
    let elsewhere = tempfile::tempdir().unwrap();
    let directory: &Path = small.as_ref().map_or(elsewhere.path(), |small| small.0.path());
    let mut command = Process::command(directory);
    if !is_root {
        // Without the right to mount: a limit on the size of files, which fails writes as a full disk does.
        command = Command::new("sh");
        command
            .args([
                "-c",
                "trap '' XFSZ; ulimit -f 3072; exec \"$@\"",
                "sh",
                env!("CARGO_BIN_EXE_strongroomd"),
            ])
            .arg("--state-dir")
            .arg(directory.join("state"))
            .arg("--socket")
            .arg(directory.join("socket"));
    }
    let process = Process::spawn(command, directory);
    process.client().make_partition("tls");
    let mut client = user(&process);
    let made = fill(&mut client);
    assert!(!made.is_empty());
    for key in &made {
        client.sign(key, Mechanism::Ecdsa, None, &[1; 32]).unwrap();
    }
    // Nothing of the refused pair is there, then or after a restart; deleting makes room again.
    let count = |client: &mut Client| {
        let response::Result::Status(status) = client.call(Op::Status(Status {})).unwrap() else { panic!() };
        status.objects
    };
    assert_eq!(count(&mut client), 2 * made.len() as u64);
    for key in made.iter().take(made.len() / 2) {
        // A deletion may need room itself.
        let _ = client.call(Op::DestroyObject(DestroyObject { object: key.object.clone() }));
    }
    let left = count(&mut client);
    process.kill();
    if small.is_some() {
        let bigger = Command::new("mount").args(["-o", "remount,size=64m"]).arg(directory).status().unwrap();
        assert!(bigger.success());
    }
    let process = Process::start(directory);
    let mut client = user(&process);
    assert_eq!(count(&mut client), left);
    client.generate(KeyType::P256, "again").unwrap();
    for key in made.iter().skip(made.len() / 2) {
        client.sign(key, Mechanism::Ecdsa, None, &[1; 32]).unwrap();
    }
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused() {
    let running = Running::with_partition();
    let output = Command::new(env!("CARGO_BIN_EXE_strongroomd"))
        .arg("--state-dir")
        .arg(running.state())
        .env("STRONGROOM_SOCKET", running.directory.path().join("other"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("another strongroomd works in"), "{text}");
    running.user();
}

#[test]
fn a_socket_in_use_is_not_taken_and_a_stale_one_is() {
    let running = Running::with_partition();
    let socket = running.socket();
    let other = Running::try_start_in(tempfile::tempdir().unwrap(), |config| config.socket = socket.clone());
    assert!(other.err().unwrap().contains("another daemon listens on"));
    let socket = running.directory.path().join("file");
    std::fs::write(&socket, "").unwrap();
    let other = Running::try_start_in(tempfile::tempdir().unwrap(), |config| config.socket = socket.clone());
    assert!(other.err().unwrap().contains("is not a socket"));

    let directory = tempfile::tempdir().unwrap();
    Process::start(directory.path()).kill();
    assert!(directory.path().join("socket").exists());
    Process::start(directory.path());
}

#[test]
fn a_state_directory_open_to_others_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o750)).unwrap();
    let error = Running::try_start_in(directory, |_| {}).err().unwrap();
    assert!(error.contains("chmod 700"), "{error}");
}

#[test]
fn sigterm_ends_it_with_success_and_removes_the_socket() {
    let directory = tempfile::tempdir().unwrap();
    let mut process = Process::start(directory.path());
    process.client().make_partition("tls");
    let mut idle = process.client();
    let id = rustix::process::Pid::from_raw(process.child.id() as i32).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert!(process.child.wait().unwrap().success());
    assert!(!process.socket.exists());
    assert!(idle.call(Op::Status(Status {})).is_err());
}

#[test]
fn the_service_manager_is_told_when_it_is_ready_and_when_it_stops() {
    let directory = tempfile::tempdir().unwrap();
    let manager = std::os::unix::net::UnixDatagram::bind(directory.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut command = Process::command(directory.path());
    command.env("NOTIFY_SOCKET", directory.path().join("notify"));
    let mut process = Process::spawn(command, directory.path());
    let mut message = [0; 64];
    let length = manager.recv(&mut message).unwrap();
    assert!(message[..length].starts_with(b"READY=1"));
    let id = rustix::process::Pid::from_raw(process.child.id() as i32).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    let length = manager.recv(&mut message).unwrap();
    assert!(message[..length].starts_with(b"STOPPING=1"));
    assert!(process.child.wait().unwrap().success());
}

#[test]
fn a_socket_that_somebody_else_has_made_meanwhile_stays() {
    let running = Running::start();
    std::fs::remove_file(running.socket()).unwrap();
    let other = std::os::unix::net::UnixListener::bind(running.socket()).unwrap();
    let directory = running.stop();
    assert!(std::os::unix::net::UnixStream::connect(directory.path().join("socket")).is_ok());
    drop(other);
}

#[test]
fn a_directory_of_somebody_else_is_not_taken() {
    use std::os::unix::fs::PermissionsExt;

    if !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(&state, Some(65_534), None).unwrap();
    let error = Running::try_start_in(directory, |_| {}).err().unwrap();
    assert!(error.contains("belongs to user id 65534"), "{error}");
}
