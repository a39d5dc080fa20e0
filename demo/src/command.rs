//! Commands that run to their end: with no input, with a deadline, and with their output in the error.

use std::ffi::OsStr;
use std::io::{Read, Seek};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{self, Process};

/// A command whose process ends with this program, even if this program is killed (unless
/// [`process::keep_children`] was called before).
pub fn new(program: impl AsRef<Path>) -> Command {
    if process::children_are_kept() {
        return Command::new(program.as_ref());
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(program.as_ref());
    command
}

/// The same in another network namespace, whose file is given; in this one if none is.
pub fn new_on(network: Option<&Path>, program: impl AsRef<Path>) -> Command {
    let Some(network) = network else { return new(program) };
    let mut command = new("nsenter");
    command.arg(format!("--net={}", network.display())).arg("--").arg(program.as_ref());
    command
}

/// What a command left when it had ended.
#[derive(Debug)]
pub struct Finished {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// What it wrote to its output.
    pub stdout: Vec<u8>,
    /// What it wrote to its error output.
    pub stderr: String,
}

/// Runs a command (made by [`new`]) to its end, at most for `limit`, with no input.
///
/// # Errors
///
/// When it cannot be started or does not end in time. A failure of the command itself is not an error here.
pub fn run(mut command: Command, limit: Duration) -> Result<Finished> {
    let name = describe(&command);
    let mut stdout = tempfile::tempfile().context("no temporary file for a command's output")?;
    let mut stderr = tempfile::tempfile().context("no temporary file for a command's output")?;
    command.stdin(Stdio::null()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    let mut process = Process::spawn(&name, command)?;
    let waited = process.wait(limit);
    process.stop();
    let mut finished =
        Finished { status: ExitStatus::from_raw(0), stdout: Vec::new(), stderr: String::new() };
    stdout.rewind()?;
    stdout.read_to_end(&mut finished.stdout)?;
    stderr.rewind()?;
    let mut errors = Vec::new();
    stderr.read_to_end(&mut errors)?;
    finished.stderr = String::from_utf8_lossy(&errors).into_owned();
    finished.status = waited.with_context(|| finished.stderr.clone())?;
    Ok(finished)
}

/// Runs a command that must succeed and returns its output as text.
///
/// # Errors
///
/// As [`run`], and when the command fails: with what it wrote to its error output.
pub fn succeed(command: Command, limit: Duration) -> Result<String> {
    let name = describe(&command);
    let finished = run(command, limit)?;
    if !finished.status.success() {
        let said = if finished.stderr.trim().is_empty() {
            String::from_utf8_lossy(&finished.stdout).into_owned()
        } else {
            finished.stderr
        };
        bail!("{name}: {}\n{}", finished.status, said.trim_end());
    }
    Ok(String::from_utf8_lossy(&finished.stdout).into_owned())
}

/// The command line as a person would type it, without the wrapper that [`new`] puts around it.
pub fn describe(command: &Command) -> String {
    let mut words: Vec<String> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(quote).collect();
    if words.first().is_some_and(|first| first == "setpriv") {
        words.drain(..words.len().min(4));
    }
    if let Some(first) = words.first_mut()
        && let Some(name) = Path::new(first.as_str()).file_name()
    {
        *first = name.to_string_lossy().into_owned();
    }
    words.join(" ")
}

fn quote(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.into_owned() } else { format!("'{word}'") }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut shell = new("sh");
        shell.args(["-c", script]);
        shell
    }

    #[test]
    fn a_command_that_hangs_is_killed_with_its_children() {
        let mut script = shell("sleep 1000 & echo $!; wait");
        script.env("MARK", "hangs");
        let started = Instant::now();
        let error = run(script, Duration::from_millis(200)).unwrap_err();
        assert!(format!("{error:#}").contains("did not end within"), "{error:#}");
        assert!(started.elapsed() < Duration::from_secs(8));
    }

    #[test]
    fn a_failure_tells_what_the_command_said() {
        let error = succeed(shell("echo because >&2; exit 3"), Duration::from_secs(5)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("exit status: 3") && text.contains("because"), "{text}");
    }

    #[test]
    fn a_command_is_described_as_typed() {
        let mut openssl = new("/usr/bin/openssl");
        openssl.args(["dgst", "-sign", "pkcs11:token=a;object=b"]);
        assert_eq!(describe(&openssl), "openssl dgst -sign 'pkcs11:token=a;object=b'");
    }
}
