//! A program that prints the PIN.

use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::Secret;
use super::source::{line, read_until};
use crate::error::Result;

/// How often it is looked whether the program has ended, when it has closed its output.
const GLANCE: Duration = Duration::from_millis(5);

/// Runs a program, without a shell, arguments, environment or descriptors of ours, and takes the first line that it
/// prints. It must end by `until`, and well.
///
/// # Errors
///
/// [`Error::PinSource`](crate::error::Error::PinSource) if it does not, or prints no PIN.
pub fn run(program: &Path, until: Instant) -> Result<Secret> {
    let from = format!("exec:{}", program.display());
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    // SAFETY: between fork and exec; one system call, which takes numbers. Servers leave listening sockets open for exec.
    unsafe {
        command.pre_exec(|| {
            match libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) {
                0 => Ok(()),
                // Before Linux 5.11: not with the server's sockets.
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    Secret::fill(&from, |room| {
        if !program.is_absolute() {
            return Err("give an absolute path".into());
        }
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let printed = match child.stdout.take() {
            Some(output) => read_until(output, until, room, |_| false),
            None => Err("it has no output".into()),
        };
        let ended = end(&mut child, if printed.is_ok() { until } else { Instant::now() });
        let read = printed?;
        match ended? {
            Some(status) if !status.success() => Err(format!("it failed ({status})")),
            _ => line(room, read),
        }
    })
}

/// Waits for the end, and makes one at `until`. `None` if a signal handler of the application's, such as nginx's, was
/// quicker to ask how it ended.
fn end(child: &mut Child, until: Instant) -> std::result::Result<Option<ExitStatus>, String> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(Some(status)),
            // ECHILD is not a kind of its own.
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.to_string()),
            Ok(None) if Instant::now() < until => thread::sleep(GLANCE),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err("it did not end in time".into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    fn script(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pin");
        // Another process writes it: a child of another test, forked meanwhile, would hold ours open, and a file that is
        // open for writing cannot be run.
        let mut install = Command::new("install")
            .args(["-m", "755", "/dev/stdin"])
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        write!(install.stdin.take().unwrap(), "#!/bin/sh\n{text}\n").unwrap();
        assert!(install.wait().unwrap().success());
        (folder, path)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn takes_the_first_line() {
        let (_folder, path) = script("echo 1234; echo more");
        assert_eq!(run(&path, soon()).unwrap().bytes(), b"1234");
    }

    #[test]
    fn sees_nothing_of_ours() {
        let (folder, path) =
            script("echo $(env | cut -d= -f1 | sort) $# $(ls -l /proc/$$/fd | grep -c listener)");
        let file = fs::File::create(folder.path().join("listener")).unwrap();
        // Open for exec, as a server's listening sockets are.
        rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
        let seen = run(&path, soon()).unwrap();
        assert_eq!(std::str::from_utf8(seen.bytes()).unwrap(), "PATH PWD 0 0");
    }

    /// nginx's handler of SIGCHLD asks how every child ended; who ignores the signal has the kernel do it.
    #[test]
    fn somebody_else_may_ask_how_it_ended() {
        let (_folder, path) = script("echo 1234");
        // SAFETY: the child runs a program, which allocates, as glibc allows after a fork, and calls _exit.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::signal(libc::SIGCHLD, libc::SIG_IGN);
                let pin = run(&path, soon());
                libc::_exit(i32::from(!pin.is_ok_and(|pin| pin.bytes() == b"1234")));
            }
            let mut status = -1;
            assert_eq!((libc::waitpid(child, &mut status, 0), status), (child, 0));
        }
    }

    #[test]
    fn failure_silence_noise_and_sleep_are_errors() {
        for (text, says) in [
            ("echo 1234; exit 3", "3"),
            ("exit 0", "empty"),
            ("head -c 5000 /dev/zero", "too much"),
            ("kill -9 $$", "9"),
        ] {
            let (_folder, path) = script(text);
            let error = run(&path, soon()).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("exec:/"), "{text}: {error}");
        }
        for text in ["exec sleep 600", "echo 1234; exec >&-; exec sleep 600"] {
            let (_folder, path) = script(text);
            let begun = Instant::now();
            let error = run(&path, Instant::now() + Duration::from_millis(200)).unwrap_err().to_string();
            assert!(error.contains("in time") || error.contains("nothing came"), "{text}: {error}");
            assert!(begun.elapsed() < Duration::from_secs(300));
        }
        assert!(run(Path::new("/nowhere/pin"), soon()).is_err());
        assert!(run(Path::new("pin"), soon()).is_err());
    }
}
