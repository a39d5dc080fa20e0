//! Child processes that never outlive their purpose.
//!
//! Every child is the leader of its own process group. It is stopped when its [`Process`] is dropped (also
//! by a panic), when this program receives SIGINT, SIGTERM or SIGHUP, and, by the kernel, when this program
//! is killed. Children that become daemons are adopted: this program is their reaper.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{
    Pid, Signal, WaitOptions, getpgid, getsid, kill_process, kill_process_group, set_child_subreaper,
    test_kill_process, test_kill_process_group, waitpgid, waitpid,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::stat;

/// How long a child may take to stop before it is killed.
const PATIENCE: Duration = Duration::from_secs(8);

/// How often a condition is looked at while waiting for it.
const GLANCE: Duration = Duration::from_millis(10);

static REGISTER: Mutex<Register> = Mutex::new(Register { groups: BTreeSet::new(), folders: BTreeSet::new() });
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static KEEP: AtomicBool = AtomicBool::new(false);

/// What has to go when the program is interrupted.
struct Register {
    groups: BTreeSet<i32>,
    folders: BTreeSet<PathBuf>,
}

fn with_register<T>(action: impl FnOnce(&mut Register) -> T) -> T {
    action(&mut REGISTER.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Makes the children of later [`crate::command::new`]s survive this program, if [`Process::leave`] lets them go.
pub fn keep_children() {
    KEEP.store(true, Ordering::Relaxed);
}

/// Whether [`keep_children`] was called.
pub fn children_are_kept() -> bool {
    KEEP.load(Ordering::Relaxed)
}

/// Removes `folder` when a signal ends this program.
pub fn remove_on_signal(folder: &Path) {
    with_register(|register| register.folders.insert(folder.to_path_buf()));
}

/// Forgets what [`remove_on_signal`] was told.
pub fn keep_on_signal(folder: &Path) {
    with_register(|register| register.folders.remove(folder));
}

/// Stops all children, removes the folders and ends the program when it receives SIGINT, SIGTERM or SIGHUP.
///
/// # Errors
///
/// When the kernel refuses the signal handlers or the thread.
pub fn stop_on_signals() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot catch signals")?;
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            if let Some(signal) = signals.forever().next() {
                stop_all();
                std::process::exit(128 + signal);
            }
        })
        .context("cannot start the thread for signals")?;
    Ok(())
}

/// Whether a signal is ending this program: errors are its consequence then.
pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Stops every registered child and removes every registered folder. No child can be started afterwards.
fn stop_all() {
    let (groups, folders) = with_register(|register| {
        INTERRUPTED.store(true, Ordering::SeqCst);
        (register.groups.clone(), register.folders.clone())
    });
    let groups: Vec<Pid> = groups.into_iter().filter_map(Pid::from_raw).collect();
    for group in &groups {
        let _ = kill_process_group(*group, Signal::TERM);
    }
    for group in groups {
        end_group(group);
    }
    for folder in folders {
        let _ = fs::remove_dir_all(folder);
    }
}

/// Waits until no process of the group is left; kills what is there after [`PATIENCE`].
fn end_group(group: Pid) {
    let started = Instant::now();
    while group_lives(group) && started.elapsed() < 2 * PATIENCE {
        if started.elapsed() > PATIENCE {
            let _ = kill_process_group(group, Signal::KILL);
        }
        thread::sleep(GLANCE);
    }
}

/// Reaps what has ended of the group and tells whether any of it is still there. What has ended and waits
/// for another parent to reap it is not. A child of ours is there until it can be reaped: a thread of it that waits for the
/// disk keeps its files open, locks among them, although the kernel calls the process ended.
fn group_lives(group: Pid) -> bool {
    loop {
        match waitpgid(group, WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(_) => break,
        }
    }
    let group_id = group.as_raw_nonzero().get();
    test_kill_process_group(group).is_ok()
        && stat::all().is_ok_and(|all| all.values().any(|stat| stat.group == group_id && !stat.ended))
}

/// A running child with all its own children.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: Pid,
    /// The process group, with all its own children.
    group: Pid,
    status: Option<ExitStatus>,
    mine: bool,
}

impl Process {
    /// Starts `command` (made by [`crate::command::new`]) as the leader of its own process group.
    ///
    /// # Errors
    ///
    /// When it cannot be started, or the program is being interrupted.
    pub fn spawn(name: &str, mut command: Command) -> Result<Self> {
        become_reaper();
        command.process_group(0);
        let pid = with_register(|register| {
            if INTERRUPTED.load(Ordering::SeqCst) {
                bail!("interrupted");
            }
            let child = spawn_from_lasting_thread(command)
                .with_context(|| format!("cannot start {name}; is it installed?"))?;
            let pid = Pid::from_child(&child);
            register.groups.insert(pid.as_raw_nonzero().get());
            Ok(pid)
        })?;
        Ok(Process { name: name.into(), pid, group: pid, status: None, mine: true })
    }

    /// Takes charge of a process that a child of this program left behind, and that leads a group or has begun a session.
    ///
    /// # Errors
    ///
    /// When there is no such process.
    pub fn adopt(name: &str, pid: u32) -> Result<Self> {
        let pid = i32::try_from(pid)
            .ok()
            .and_then(Pid::from_raw)
            .with_context(|| format!("{pid} is not a process id ({name})"))?;
        test_kill_process(pid).with_context(|| format!("{name} (process {pid:?}) is not running"))?;
        let group = getpgid(Some(pid))?;
        if group != pid && getsid(Some(pid))? != group {
            // What the group of the one that left it behind gets would reach it. (Who leads the group may have ended: lighttpd
            // forks once more after setsid.)
            bail!("{name} (process {pid:?}) neither leads a group nor has begun a session of its own");
        }
        with_register(|register| register.groups.insert(group.as_raw_nonzero().get()));
        Ok(Process { name: name.into(), pid, group, status: None, mine: true })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Whether the process itself is still there.
    pub fn is_running(&mut self) -> bool {
        self.look().is_none() && test_kill_process(self.pid).is_ok()
    }

    fn look(&mut self) -> Option<ExitStatus> {
        if self.status.is_none()
            && let Ok(Some((_, status))) = waitpid(Some(self.pid), WaitOptions::NOHANG)
        {
            self.status = Some(ExitStatus::from_raw(status.as_raw()));
        }
        self.status
    }

    /// Sends a signal to the process itself, not to its children.
    ///
    /// # Errors
    ///
    /// When the process is no longer there.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.pid, signal).with_context(|| format!("{} is no longer running", self.name))
    }

    /// Waits until the process ends by itself, at most for `limit`.
    ///
    /// # Errors
    ///
    /// When it is still running then.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.look() {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} did not end within {limit:?}", self.name);
            }
            thread::sleep(GLANCE);
        }
    }

    /// Stops the process and all its children with SIGTERM, and with SIGKILL what does not listen.
    pub fn stop(&mut self) {
        if self.mine {
            let _ = kill_process_group(self.group, Signal::TERM);
            end_group(self.group);
            self.forget();
        }
    }

    /// Kills the process and all its children with SIGKILL.
    pub fn kill(&mut self) {
        if self.mine {
            let _ = kill_process_group(self.group, Signal::KILL);
            end_group(self.group);
            self.forget();
        }
    }

    /// Leaves the process running. It needs [`keep_children`] before its start.
    pub fn leave(mut self) {
        self.forget();
    }

    fn forget(&mut self) {
        self.mine = false;
        with_register(|register| register.groups.remove(&self.group.as_raw_nonzero().get()));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Waits until `condition` yields something, at most for `limit`.
///
/// # Errors
///
/// The last error of the condition, when the time is over.
pub fn wait_for<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match condition() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("{what}: not within {limit:?}")));
            }
            Err(_) => thread::sleep(GLANCE),
        }
    }
}

/// Makes this program the parent of daemons that its children leave behind, so that it can wait for them.
fn become_reaper() {
    static ONCE: OnceLock<()> = OnceLock::new();
    // Without it a daemon is still stopped by its process group; it only cannot be waited for.
    ONCE.get_or_init(|| {
        let _ = set_child_subreaper(Pid::from_raw(1));
    });
}

type Order = (Command, mpsc::Sender<io::Result<Child>>);

/// Starts the command from a thread that lives as long as the program. The kernel sends the death signal
/// when the starting *thread* ends, and the threads of tests do.
fn spawn_from_lasting_thread(command: Command) -> Result<Child> {
    static ORDERS: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (sender, receiver) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, reply) in receiver {
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let (reply, answer) = mpsc::channel();
    orders
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, reply))
        .map_err(|_| anyhow!("the thread that starts processes has ended"))?;
    Ok(answer.recv()??)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut shell = crate::command::new("sh");
        shell.args(["-c", script]);
        shell
    }

    #[test]
    fn dropping_a_process_stops_its_group() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let process =
            Process::spawn("sleeper", shell(&format!("sleep 1000 & echo $! > {}; wait", file.display())))
                .unwrap();
        let sleeper = wait_for("the pid", Duration::from_secs(5), || {
            Ok(fs::read_to_string(&file)?.trim().parse::<i32>()?)
        })
        .unwrap();
        let sleeper = Pid::from_raw(sleeper).unwrap();
        assert!(test_kill_process(sleeper).is_ok());
        drop(process);
        let id = sleeper.as_raw_nonzero().get().unsigned_abs();
        assert!(stat::of(id).is_none_or(|stat| stat.ended));
    }

    #[test]
    fn a_daemon_is_adopted_and_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("setsid --fork sh -c 'echo $$ > {}; exec sleep 1000'", file.display());
        crate::command::succeed(shell(&script), Duration::from_secs(5)).unwrap();
        let id: u32 =
            wait_for("the pid", Duration::from_secs(5), || Ok(fs::read_to_string(&file)?.trim().parse()?))
                .unwrap();
        let mut process = Process::adopt("daemon", id).unwrap();
        assert!(process.is_running());
        process.stop();
        assert!(!process.is_running());
    }
}
