//! A daemon with one partition that is ready for web servers.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use rustix::process::getuid;

use crate::daemon::Daemon;
use crate::environment::{Environment, openssl_configuration};
use crate::pki::{KeyKind, text};
use crate::programs::Programs;
use crate::run_folder::is_root;

/// A running daemon, its only partition, and OpenSSL's configuration for it.
#[derive(Debug)]
pub struct Partition {
    /// The daemon. It may be stopped and started again.
    pub daemon: Daemon,
    folder: PathBuf,
    label: String,
    openssl: PathBuf,
}

impl Partition {
    /// Starts a daemon in `folder` and makes a partition that admits this user. As root, the keys that it makes name
    /// the web servers' workers.
    ///
    /// # Errors
    ///
    /// When the daemon does not start or refuses.
    pub fn create(programs: &Programs, folder: &Path, label: &str) -> Result<Self> {
        Self::create_with(programs, folder, label, &Environment::plain())
    }

    /// The same, with more in the daemon's environment.
    ///
    /// # Errors
    ///
    /// As [`Partition::create`].
    pub fn create_with(
        programs: &Programs,
        folder: &Path,
        label: &str,
        of_daemon: &Environment,
    ) -> Result<Self> {
        let daemon = Daemon::start_with(programs, folder, of_daemon)?;
        let openssl = openssl_configuration(programs, &programs.module(), None, &folder.join("openssl.cnf"))?;
        let partition = Partition { daemon, folder: folder.into(), label: label.into(), openssl };
        let init = Self::init_command(label, folder);
        partition.daemon.manage(&init.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok(partition)
    }

    /// The arguments of `strongroom` that make the partition; its passwords go into files in `folder`.
    pub fn init_command(label: &str, folder: &Path) -> Vec<String> {
        let own = if is_root() { "root".to_owned() } else { getuid().as_raw().to_string() };
        let mut command: Vec<_> = ["init", label, "--admit", &own].map(str::to_owned).into();
        command.extend(["--generate-passwords".to_owned(), text(folder)]);
        command
    }

    /// The arguments of `strongroom` that let the web servers' workers use a key; none if this is not root, whose servers
    /// have workers of the same user.
    pub fn grant_command<'a>(name: &'a str, role: &'a str) -> Option<[&'a str; 7]> {
        is_root().then_some(["key", "grant", name, "--uid", "www-data", "--role", role])
    }

    /// What a program needs to use the partition's keys.
    pub fn environment(&self) -> Environment {
        self.daemon.client_environment().with("OPENSSL_CONF", self.openssl.clone())
    }

    /// Runs the administrator's command for this partition, which must succeed.
    ///
    /// # Errors
    ///
    /// With what the command said.
    pub fn manage(&self, arguments: &[&str]) -> Result<String> {
        self.daemon.manage(&[&["--partition", &self.label], arguments].concat())
    }

    /// Makes a key pair.
    ///
    /// # Errors
    ///
    /// When the daemon refuses.
    pub fn generate(&self, kind: KeyKind, name: &str) -> Result<()> {
        self.manage(&["key", "generate", name, "--type", kind.name()])?;
        self.grant(name, "tls-server")
    }

    /// Lets the web servers' workers use a key, for what a role permits.
    ///
    /// # Errors
    ///
    /// When the daemon refuses.
    pub fn grant(&self, name: &str, role: &str) -> Result<()> {
        match Self::grant_command(name, role) {
            Some(command) => self.manage(&command).map(drop),
            None => Ok(()),
        }
    }

    /// Takes in a private key from a PEM file.
    ///
    /// # Errors
    ///
    /// When the daemon refuses.
    pub fn import(&self, file: &Path, name: &str) -> Result<()> {
        self.manage(&["key", "import", name, &text(file)])?;
        self.grant(name, "tls-server")
    }

    /// The URI of a private key, as the administrator's command prints it.
    ///
    /// # Errors
    ///
    /// When there is no such key.
    pub fn uri(&self, name: &str) -> Result<String> {
        let printed = self.manage(&["key", "uri", name])?;
        match printed.trim() {
            uri if uri.starts_with("pkcs11:") => Ok(uri.into()),
            other => bail!("'strongroom key uri {name}' printed {other:?}"),
        }
    }

    /// A URI with nothing but token and label.
    pub fn short_uri(&self, name: &str) -> String {
        format!("pkcs11:token={};object={name};type=private", self.label)
    }

    /// Writes the reference file of a private key, for nginx before 1.29.
    ///
    /// # Errors
    ///
    /// When there is no such key.
    pub fn reference(&self, name: &str) -> Result<PathBuf> {
        let file = self.folder.join(format!("{name}.ref.pem"));
        self.manage(&["key", "reference", name, "--out", &text(&file), "--force"])?;
        Ok(file)
    }
}
