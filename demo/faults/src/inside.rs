//! The program, once more, in namespaces of its own: of processes (they end with it), of mounts (so do they) and of the
//! network.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Error, Result, bail};
use strongroom_demo::command;
use strongroom_demo::programs::system;

/// Says that this is the second time.
const INSIDE: &str = "STRONGROOM_FAULTS_INSIDE";

/// Where all of a run lies: memory, which ends with the namespace.
pub const FOLDER: &str = "/run/strongroom-faults";

/// Whether this process is in its own namespaces.
pub fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Runs this program again, inside. It only returns if that is not possible.
pub fn enter() -> Error {
    let run = || -> Result<Command> {
        let mut again = Command::new(system("unshare")?);
        again.args(["--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child", "--"]);
        again.arg(env::current_exe().context("cannot tell where this program is")?);
        again.args(env::args_os().skip(1)).env(INSIDE, "1");
        Ok(again)
    };
    match run() {
        Ok(mut again) => Error::from(again.exec()).context("cannot run unshare"),
        Err(error) => error,
    }
}

/// Makes [`FOLDER`], which nobody else sees.
///
/// # Errors
///
/// When the system does not let this process mount.
pub fn make_folder() -> Result<()> {
    mount(Path::new("/run"), "mode=755")?;
    std::fs::create_dir_all(FOLDER).context(FOLDER)
}

/// Mounts memory.
///
/// # Errors
///
/// As [`make_folder`].
pub fn mount(at: &Path, options: &str) -> Result<()> {
    let mut mount = command::new(system("mount")?);
    mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at);
    let done = command::run(mount, std::time::Duration::from_secs(10))?;
    if !done.status.success() {
        bail!("cannot mount memory at {}: {}", at.display(), done.stderr.trim());
    }
    Ok(())
}
