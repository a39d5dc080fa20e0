//! BIND of a version that takes keys from providers, which tests/bind unpacks.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use strongroom_demo::command;
use strongroom_demo::programs::repository;

/// How long it may take to fetch it.
const FETCH: Duration = Duration::from_secs(300);

/// The folder with BIND's programs.
///
/// # Errors
///
/// When Debian's mirror does not give them: with what apt-get said.
pub fn programs() -> Result<PathBuf> {
    let printed = command::succeed(command::new(repository("tests/bind")), FETCH)?;
    Ok(PathBuf::from(printed.trim_end()))
}
