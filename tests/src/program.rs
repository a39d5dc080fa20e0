//! The C programs in tests/programs/, built with the system's compiler and OpenSSL's headers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use strongroom_demo::command;
use strongroom_demo::environment::Environment;
use strongroom_demo::pki::text;
use strongroom_demo::programs::{repository, system};

/// Builds `name`.c into `folder`.
///
/// # Errors
///
/// With what the compiler said.
pub fn build(name: &str, folder: &Path) -> Result<PathBuf> {
    build_with(name, folder, &[])
}

/// As [`build`], with more of the compiler's options: those of another OpenSSL.
///
/// # Errors
///
/// With what the compiler said.
pub fn build_with(name: &str, folder: &Path, options: &[String]) -> Result<PathBuf> {
    let program = folder.join(name);
    let mut compiler = command::new(system("cc")?);
    compiler.args(["-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"]).arg(&program).args(options);
    compiler.arg(repository(&format!("tests/programs/{name}.c"))).arg("-lcrypto");
    command::succeed(compiler, Duration::from_secs(60))?;
    Ok(program)
}

/// The program with `arguments`, in an environment.
pub fn command(program: &Path, environment: &Environment, arguments: &[&str]) -> Command {
    let mut command = command::new(program);
    environment.apply(&mut command);
    command.args(arguments);
    command
}

/// What a running program has: its open descriptors, by what they are.
///
/// # Errors
///
/// When /proc cannot be read.
pub fn descriptors(process: u32) -> Result<Vec<String>> {
    let open = fs::read_dir(format!("/proc/{process}/fd"))?.flatten();
    Ok(open.flat_map(|entry| fs::read_link(entry.path())).map(|target| text(&target)).collect())
}
