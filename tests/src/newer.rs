//! Newer programs than Debian's, built once by tests/openssl-versions.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use strongroom_demo::command;
use strongroom_demo::programs::repository;

/// Building an OpenSSL on a slow machine.
const BUILD: Duration = Duration::from_secs(3600);

/// The folder of `name`: openssl-3.5, openssl-4.0, nginx-1.28 or nginx-1.28-openssl-4.0. It is built if it is not there.
///
/// # Errors
///
/// With the end of what the build said.
pub fn built(name: &str) -> Result<PathBuf> {
    let mut build = command::new(repository("tests/openssl-versions"));
    build.arg(name);
    Ok(PathBuf::from(command::succeed(build, BUILD)?.trim()))
}
