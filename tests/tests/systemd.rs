//! The units of hsm/ under a real systemd, which is the first process of namespaces of its own: the service with all its
//! hardening, metrics on a socket that systemd opens, restart after a crash, and the backup that the timer starts.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use strongroom_demo::command;
use strongroom_demo::pki::text;
use strongroom_demo::process::wait_for;
use strongroom_demo::programs::{Programs, repository, system};
use strongroom_demo::run_folder::{RunFolder, is_root};

const SOON: Duration = Duration::from_secs(60);

/// What stands in the place of the machine's folders, see boot.sh.
const FOLDERS: [&str; 5] = ["usr-local-bin", "run", "var-lib", "var-backups", "units"];

/// Targets that every unit knows without naming them.
const TARGETS: [&str; 7] = ["sysinit", "basic", "shutdown", "sockets", "timers", "multi-user", "time-sync"];

/// The control groups that systemd makes in each hierarchy, where there are none of another systemd's.
fn control_groups() -> BTreeSet<PathBuf> {
    let hierarchies =
        fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    let found = hierarchies
        .chain(["/sys/fs/cgroup".into()])
        .flat_map(|hierarchy: PathBuf| ["init.scope", "system.slice"].map(|name| hierarchy.join(name)));
    found.filter(|group| group.is_dir()).collect()
}

/// Removes a control group and those in it, as far as no process is in them.
fn remove_group(group: &Path) {
    for inside in fs::read_dir(group).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if inside.is_dir() {
            remove_group(&inside);
        }
    }
    let _ = fs::remove_dir(group);
}

/// A running systemd. It and all that it has started end when this is dropped.
struct Machine {
    unshare: Child,
    folder: RunFolder,
    control_groups: BTreeSet<PathBuf>,
}

impl Machine {
    fn boot(programs: &Programs) -> Result<Self> {
        let folder = RunFolder::new()?;
        for name in FOLDERS {
            folder.folder(name)?;
        }
        let at = folder.path();
        fs::set_permissions(at, fs::Permissions::from_mode(0o755))?;
        for program in [programs.strongroomd(), programs.strongroom()] {
            fs::copy(&program, at.join("usr-local-bin").join(program.file_name().context("no name")?))?;
        }
        for unit in [
            "strongroomd.service",
            "strongroomd-metrics.socket",
            "strongroom-backup@.service",
            "strongroom-backup@.timer",
        ] {
            fs::copy(repository("hsm").join(unit), at.join("units").join(unit))?;
        }
        for target in TARGETS {
            fs::write(at.join(format!("units/{target}.target")), "[Unit]\nDefaultDependencies=no\n")?;
        }
        let wants = "Wants=strongroomd-metrics.socket strongroomd.service strongroom-backup@tls.timer\n";
        fs::write(at.join("units/test.target"), format!("[Unit]\nDefaultDependencies=no\n{wants}"))?;
        let said = fs::File::create(at.join("systemd.log"))?;
        let control_groups = control_groups();
        let unshare = Command::new(system("unshare")?)
            .args([
                "--pid",
                "--fork",
                "--kill-child=KILL",
                "--mount",
                "--mount-proc",
                "--uts",
                "--ipc",
                "--net",
                "--cgroup",
            ])
            .arg(repository("tests/programs/boot.sh"))
            .arg(at)
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said)
            .spawn()?;
        Ok(Machine { unshare, folder, control_groups })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn said(&self) -> String {
        fs::read_to_string(self.file("systemd.log")).unwrap_or_default()
    }

    /// The process id of systemd, seen from here.
    fn id(&self) -> Result<String> {
        let children = format!("/proc/{0}/task/{0}/children", self.unshare.id());
        let child = fs::read_to_string(children)?;
        child.split_whitespace().next().map(str::to_owned).context("no systemd")
    }

    /// Runs a command on the machine, which must succeed.
    fn run(&self, words: &[&str]) -> Result<String> {
        let mut command = command::new(system("nsenter")?);
        command
            .args(["--target", &self.id()?, "--mount", "--pid", "--net", "--uts", "--ipc", "--"])
            .args(words);
        command.env("STRONGROOM_SOCKET", "/run/strongroom/strongroomd.sock");
        command::succeed(command, SOON)
    }

    fn strongroom(&self, words: &[&str]) -> Result<String> {
        self.run(&[&["/usr/local/bin/strongroom"], words].concat())
    }

    fn property(&self, unit: &str, name: &str) -> Result<String> {
        let shown = self.run(&["systemctl", "show", "--value", "--property", name, unit])?;
        Ok(shown.trim().to_owned())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("systemd said:\n{}", self.said());
        }
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        // The kernel takes the last processes away a moment later.
        let _ = wait_for("empty control groups", SOON, || {
            let left: Vec<_> = control_groups().difference(&self.control_groups).cloned().collect();
            left.iter().for_each(|group| remove_group(group));
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        });
    }
}

/// Why this machine cannot have a systemd in namespaces; nothing if it can.
fn obstacle() -> Option<String> {
    if !is_root() {
        return Some("only root can".to_owned());
    }
    if !Path::new("/lib/systemd/systemd").exists() {
        return Some("there is no /lib/systemd/systemd".to_owned());
    }
    let mut unshare = command::new(system("unshare").ok()?);
    unshare.args([
        "--pid",
        "--fork",
        "--mount",
        "--mount-proc",
        "--uts",
        "--ipc",
        "--net",
        "--cgroup",
        "mount",
        "--make-rprivate",
        "/",
    ]);
    command::succeed(unshare, SOON).err().map(|error| format!("{error:#}"))
}

#[test]
fn the_units_work_under_systemd() {
    if let Some(why) = obstacle() {
        eprintln!("not run, no systemd can be started in namespaces of its own: {why}");
        return;
    }
    let programs = Programs::find().unwrap();
    let machine = Machine::boot(&programs).unwrap();
    wait_for("the service", SOON, || {
        ensure!(machine.property("strongroomd.service", "ActiveState")? == "active", "{}", machine.said());
        Ok(())
    })
    .unwrap();
    // It said itself that it is ready (Type=notify), so it answers.
    machine
        .strongroom(&["init", "tls", "--admit", "root", "--generate-passwords", "/run/passwords"])
        .unwrap();
    machine.strongroom(&["key", "generate", "web", "--type", "p256"]).unwrap();
    let request = ["key", "request", "web", "--host", "localhost", "--out", "/run/web.csr"];
    machine.strongroom(&request).unwrap();
    let mut verify = command::new(system("openssl").unwrap());
    verify.args(["req", "-noout", "-verify", "-in"]).arg(machine.file("run/web.csr"));
    command::succeed(verify, SOON).unwrap();

    // As a user of its own, who owns the store, with keys in memory that is never swapped.
    let daemon = machine.property("strongroomd.service", "MainPID").unwrap();
    let owner = fs::metadata(machine.file("var-lib/private/strongroom/store.redb")).unwrap().uid();
    assert_ne!(owner, 0);
    let status = machine.run(&["cat", &format!("/proc/{daemon}/status")]).unwrap();
    for line in
        [&format!("Uid:\t{owner}\t{owner}"), "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"]
    {
        assert!(status.contains(line), "{line}: {status}");
    }
    let status = machine.strongroom(&["status", "--json"]).unwrap();
    assert!(!status.contains("\"unlocked\""), "{status}");

    // The daemon has no network: systemd has opened the port and handed it over.
    let metrics = machine.run(&["curl", "--silent", "--fail", "http://127.0.0.1:9823/metrics"]).unwrap();
    assert!(metrics.contains("strongroom_objects{partition=\"tls\"} 2"), "{metrics}");
    let network = |process: &str| machine.run(&["readlink", &format!("/proc/{process}/ns/net")]).unwrap();
    assert_ne!(network(&daemon), network("1"));

    // What ends by a signal is started again, and has its keys.
    machine.run(&["kill", "-KILL", &daemon]).unwrap();
    wait_for("the restart", SOON, || {
        let now = machine.property("strongroomd.service", "MainPID")?;
        ensure!(
            now != daemon && machine.property("strongroomd.service", "ActiveState")? == "active",
            "{now}"
        );
        Ok(())
    })
    .unwrap();
    machine.strongroom(&["key", "show", "web"]).unwrap();
    assert_eq!(machine.property("strongroomd.service", "NRestarts").unwrap(), "1");

    // The timer waits for the night; what it starts makes a backup now.
    assert_eq!(machine.property("strongroom-backup@tls.timer", "ActiveState").unwrap(), "active");
    let officer = ["--login", "admin", "--password-file", "/run/passwords/tls-admin.password"];
    let create = ["user", "create", "backup", "--role", "au", "--admit", "root"];
    machine.strongroom(&[&create[..], &officer].concat()).unwrap();
    machine.run(&["systemctl", "start", "strongroom-backup@tls.service"]).unwrap();
    let made: Vec<_> = fs::read_dir(machine.file("var-backups/strongroom")).unwrap().collect();
    assert_eq!(made.len(), 1, "{made:?}");
    let made = text(&made.into_iter().next().unwrap().unwrap().path());
    let backup = made.replace(&text(&machine.file("var-backups")), "/var/backups");
    machine.strongroom(&["backup", "verify", &backup]).unwrap();

    // It stops when it is told to, and says so.
    machine.run(&["systemctl", "stop", "strongroomd.service"]).unwrap();
    assert_eq!(machine.property("strongroomd.service", "Result").unwrap(), "success");
    let id: i32 = machine.id().unwrap().parse().unwrap();
    kill_process(Pid::from_raw(id).unwrap(), Signal::KILL).unwrap();
}
