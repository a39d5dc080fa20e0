//! SoftHSM2: a token that somebody else wrote, behind our provider.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::command;
use crate::environment::{Environment, openssl_configuration};
use crate::pki::{KeyKind, text};
use crate::programs::{Programs, system};
use crate::run_folder::is_root;

/// The user PIN of the token.
pub const PIN: &str = "1234";

const LIMIT: Duration = Duration::from_secs(60);

/// A SoftHSM2 token in a folder of its own.
#[derive(Debug)]
pub struct SoftHsm {
    folder: PathBuf,
    module: PathBuf,
    label: String,
}

impl SoftHsm {
    /// Makes a token in `folder`.
    ///
    /// # Errors
    ///
    /// When SoftHSM2 is not installed or refuses.
    pub fn create(folder: &Path, label: &str) -> Result<Self> {
        let tokens = folder.join("tokens");
        fs::create_dir_all(&tokens)?;
        fs::write(
            folder.join("softhsm2.conf"),
            format!(
                "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
                tokens.display()
            ),
        )?;
        let token = SoftHsm { folder: folder.into(), module: module()?, label: label.into() };
        let mut command = command::new(system("softhsm2-util")?);
        token.plain_environment().apply(&mut command);
        command.args(["--init-token", "--free", "--label", label, "--so-pin", "0000", "--pin", PIN]);
        command::succeed(command, LIMIT)?;
        Ok(token)
    }

    /// Makes a key pair with pkcs11-tool, which is a second client that somebody else wrote.
    ///
    /// # Errors
    ///
    /// With what pkcs11-tool said.
    pub fn generate(&self, kind: KeyKind, label: &str, id: u8) -> Result<()> {
        let kind = pkcs11_tool_type(kind);
        let id = format!("{id:02x}");
        self.pkcs11_tool(&["--keypairgen", "--key-type", kind, "--label", label, "--id", &id])?;
        self.share()
    }

    /// Stores a certificate in DER with pkcs11-tool.
    ///
    /// # Errors
    ///
    /// With what pkcs11-tool said.
    pub fn store_certificate(&self, der: &Path, label: &str, id: u8) -> Result<()> {
        let (id, der) = (format!("{id:02x}"), text(der));
        self.pkcs11_tool(&["--write-object", &der, "--type", "cert", "--label", label, "--id", &id])?;
        self.share()
    }

    /// Runs pkcs11-tool, logged in to the token, which must succeed.
    ///
    /// # Errors
    ///
    /// With what it said.
    pub fn pkcs11_tool(&self, arguments: &[&str]) -> Result<String> {
        let mut command = command::new(system("pkcs11-tool")?);
        self.plain_environment().apply(&mut command);
        command.arg("--module").arg(&self.module);
        command.args(["--token-label", &self.label, "--login", "--pin", PIN]).args(arguments);
        command::succeed(command, LIMIT)
    }

    /// Takes in a private key from a PEM file of the kind that `openssl genpkey` writes (PKCS#8).
    ///
    /// # Errors
    ///
    /// With what softhsm2-util said.
    pub fn import(&self, file: &Path, label: &str, id: u8) -> Result<()> {
        let mut command = command::new(system("softhsm2-util")?);
        self.plain_environment().apply(&mut command);
        command.arg("--import").arg(file).args(["--token", &self.label, "--pin", PIN]);
        command.args(["--label", label, "--id", &format!("{id:02x}")]);
        command::succeed(command, LIMIT)?;
        self.share()
    }

    /// Lets the web servers' workers read the token: SoftHSM2 opens its files in the process that signs.
    fn share(&self) -> Result<()> {
        if is_root() {
            let mut command = command::new(system("chown")?);
            command.args(["-R", "www-data:"]).arg(self.folder.join("tokens"));
            command::succeed(command, LIMIT)?;
        }
        Ok(())
    }

    /// The URI of a private key in it.
    pub fn uri(&self, label: &str) -> String {
        format!("pkcs11:token={};object={label};type=private", self.label)
    }

    /// What a program needs to use this token through its PKCS#11 module.
    pub fn plain_environment(&self) -> Environment {
        Environment::plain().with("SOFTHSM2_CONF", self.folder.join("softhsm2.conf"))
    }

    /// What a program needs to use this token through our provider.
    ///
    /// # Errors
    ///
    /// When OpenSSL's configuration cannot be written.
    pub fn environment(&self, programs: &Programs) -> Result<Environment> {
        self.environment_with_pin(programs, PIN, "openssl.cnf")
    }

    /// The same with another PIN, in a configuration file of its own.
    ///
    /// # Errors
    ///
    /// When OpenSSL's configuration cannot be written.
    pub fn environment_with_pin(&self, programs: &Programs, pin: &str, file: &str) -> Result<Environment> {
        let file = openssl_configuration(programs, &self.module, Some(pin), &self.folder.join(file))?;
        Ok(self.plain_environment().with("OPENSSL_CONF", file))
    }

    /// What a program needs to use this token through OpenSSL's engine `pkcs11` (libp11), which is how it was
    /// done before OpenSSL 3.
    ///
    /// # Errors
    ///
    /// When OpenSSL's configuration cannot be written.
    pub fn environment_of_engine(&self) -> Result<Environment> {
        let file = self.folder.join("engine.cnf");
        fs::write(
            &file,
            format!(
                "openssl_conf = openssl_init\n[openssl_init]\nengines = engines\n[engines]\npkcs11 = pkcs11\n\
                 [pkcs11]\nengine_id = pkcs11\nMODULE_PATH = {}\nPIN = {PIN}\ninit = 1\n",
                self.module.display()
            ),
        )?;
        Ok(self.plain_environment().with("OPENSSL_CONF", file))
    }

    /// The PKCS#11 module.
    pub fn module(&self) -> &Path {
        &self.module
    }

    /// The token's label.
    pub fn label(&self) -> &str {
        &self.label
    }
}

/// The type of key as pkcs11-tool's `--key-type` wants it.
pub fn pkcs11_tool_type(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Rsa2048 => "rsa:2048",
        KeyKind::Rsa3072 => "rsa:3072",
        KeyKind::Rsa4096 => "rsa:4096",
        KeyKind::P256 => "EC:prime256v1",
        KeyKind::P384 => "EC:secp384r1",
        KeyKind::Ed25519 => "EC:edwards25519",
    }
}

fn module() -> Result<PathBuf> {
    let candidates = ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so"];
    match candidates.iter().map(PathBuf::from).find(|file| file.exists()) {
        Some(module) => Ok(module),
        None => bail!("SoftHSM2 is not installed; 'demo/install' installs what is needed"),
    }
}
