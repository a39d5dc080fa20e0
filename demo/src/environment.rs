//! What a program's environment must have so that OpenSSL finds the keys.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::configuration::Configuration;
use crate::programs::{Programs, repository};

/// Environment variables of one token: OpenSSL's configuration, and where the token is.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: Vec<(String, OsString)>,
}

impl Environment {
    /// No token: OpenSSL as the system has it.
    pub fn plain() -> Self {
        Environment::default()
    }

    /// Adds a variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Adds all variables of another.
    #[must_use]
    pub fn and(mut self, other: &Environment) -> Self {
        self.variables.extend_from_slice(&other.variables);
        self
    }

    /// Gives the variables to a command.
    pub fn apply(&self, command: &mut Command) {
        for name in [
            "OPENSSL_CONF",
            "OPENSSL_ENGINES",
            "STRONGROOM_SOCKET",
            "STRONGROOM_NODES",
            "STRONGROOM_STATE_DIR",
            "SOFTHSM2_CONF",
        ] {
            command.env_remove(name);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
    }

    /// The names of the variables.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(|(name, _)| name.as_str())
    }

    /// A variable's value; the last one that was given.
    pub fn value(&self, name: &str) -> Option<&OsString> {
        self.variables.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The variables as the words of a shell command, to be typed by a person.
    pub fn as_shell(&self) -> String {
        let words: Vec<String> = self
            .variables
            .iter()
            .map(|(name, value)| format!("{name}={}", value.to_string_lossy()))
            .collect();
        words.join(" ")
    }
}

/// Writes nginx-conf/openssl.cnf to `target`, with the provider that was built here and with the PKCS#11
/// module `module`; `pin` where the token needs one.
///
/// # Errors
///
/// When the file cannot be read or written, or lacks a text that is replaced.
pub fn openssl_configuration(
    programs: &Programs,
    module: &Path,
    pin: Option<&str>,
    target: &Path,
) -> Result<PathBuf> {
    let mut configuration = Configuration::read(&repository("nginx-conf/openssl.cnf"))?
        .replace_path("/usr/lib/x86_64-linux-gnu/ossl-modules/strongroom.so", &programs.provider())?
        .replace_path("/usr/lib/x86_64-linux-gnu/pkcs11/libstrongroom_pkcs11.so", module)?;
    if let Some(pin) = pin {
        configuration = configuration.replace(
            "#pkcs11-module-token-pin = file:/etc/strongroom/pin",
            &format!("pkcs11-module-token-pin = {pin}"),
        )?;
    }
    configuration.write(target)?;
    Ok(target.into())
}
