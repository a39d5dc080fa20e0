//! Newer programs than Debian's, built once by tests/openssl-versions.

// A panic is a test's report.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;
use strongroom_demo::command;
use strongroom_demo::environment::Environment;
use strongroom_demo::pki::text;
use strongroom_demo::programs::repository;

use crate::Bench;
use crate::kryoptic::Kryoptic;
use crate::place::TOKEN;
use crate::program;

/// Building an OpenSSL on a slow machine.
const BUILD: Duration = Duration::from_secs(3600);

/// One call of the openssl program.
const LIMIT: Duration = Duration::from_secs(30);

/// The folder of `name`: openssl-3.5, openssl-4.0, nginx-1.28, nginx-1.28-openssl-4.0 or kryoptic-openssl-3.5. It is built if it is not there.
///
/// # Errors
///
/// With the end of what the build said.
pub fn built(name: &str) -> Result<PathBuf> {
    let mut build = command::new(repository("tests/openssl-versions"));
    build.arg(name);
    Ok(PathBuf::from(command::succeed(build, BUILD)?.trim()))
}

/// A newer openssl program, and a partition.
pub struct OpenSsl {
    folder: PathBuf,
    /// The partition, and where files go.
    pub bench: Bench,
}

impl OpenSsl {
    /// That of [`built`], and a new partition.
    ///
    /// # Errors
    ///
    /// When it cannot be built, or the daemon does not start.
    pub fn new(name: &str) -> Result<Self> {
        Ok(OpenSsl { folder: built(name)?, bench: Bench::new()? })
    }

    /// A token of kryoptic with post-quantum signatures, for the program of 3.5.
    ///
    /// # Errors
    ///
    /// When it cannot be built, or refuses.
    pub fn kryoptic(&self) -> Result<Kryoptic> {
        let module = built("kryoptic-openssl-3.5")?.join("libkryoptic_pkcs11.so");
        let folder = self.bench.run.folder("kryoptic")?;
        Kryoptic::of_module(&folder, TOKEN, module, Some(self.folder.join("lib")))
    }

    /// An environment in which programs are linked with it.
    pub fn environment(&self, environment: &Environment) -> Environment {
        environment.clone().with("LD_LIBRARY_PATH", self.folder.join("lib"))
    }

    /// Builds a program of tests/programs/ with its headers and libraries.
    ///
    /// # Errors
    ///
    /// With what the compiler said.
    pub fn build(&self, name: &str) -> Result<PathBuf> {
        let folder = |name: &str| text(&self.folder.join(name));
        let options = [format!("-I{}", folder("include")), format!("-L{}", folder("lib"))];
        program::build_with(name, self.bench.run.path(), &options)
    }

    /// The program with these arguments.
    pub fn command(&self, environment: &Environment, arguments: &[&str]) -> Command {
        let mut command = command::new(self.folder.join("bin/openssl"));
        self.environment(environment).apply(&mut command);
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs it with the provider and the partition.
    ///
    /// # Errors
    ///
    /// With what it says.
    pub fn with_partition(&self, arguments: &[&str]) -> Result<String> {
        command::succeed(self.command(&self.bench.partition.environment(), arguments), LIMIT)
    }

    /// As [`with_partition`](Self::with_partition), when it must succeed.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn ours(&self, arguments: &[&str]) -> String {
        self.with_partition(arguments).unwrap()
    }

    /// Runs it without the provider.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn plain(&self, arguments: &[&str]) -> String {
        command::succeed(self.command(&Environment::plain(), arguments), LIMIT).unwrap()
    }

    /// Runs the administrator's command.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn manage(&self, arguments: &[&str]) -> String {
        self.bench.partition.manage(arguments).unwrap()
    }
}
