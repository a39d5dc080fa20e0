//! Operations that a token does only where the settings name them.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use strongroom_demo::environment::Environment;

/// Writes `strongroom-operations` into the configuration of an environment.
///
/// # Errors
///
/// When it has none, or one without a module.
pub fn offer(environment: &Environment, operations: &str) -> Result<()> {
    let file = PathBuf::from(environment.value("OPENSSL_CONF").context("no configuration")?);
    let path = "\npkcs11-module-path";
    let kept = fs::read_to_string(&file)?;
    ensure!(kept.contains(path), "{kept}");
    Ok(fs::write(&file, kept.replace(path, &format!("\nstrongroom-operations = {operations}{path}")))?)
}
