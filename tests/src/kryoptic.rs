//! kryoptic: a second token that somebody else wrote, which tests/kryoptic builds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use strongroom_demo::command;
use strongroom_demo::environment::{Environment, openssl_configuration};
use strongroom_demo::pki::KeyKind;
use strongroom_demo::programs::{Programs, system};
use strongroom_demo::run_folder::is_root;
use strongroom_demo::softhsm::pkcs11_tool_type;

use crate::servers::give_to_workers;

/// The user PIN of the token.
const PIN: &str = "1234";

const SO_PIN: &str = "12345678";

const LIMIT: Duration = Duration::from_secs(60);

/// A token of kryoptic's in a folder of its own.
#[derive(Debug)]
pub struct Kryoptic {
    folder: PathBuf,
    module: PathBuf,
    label: String,
    /// The folder of the libcrypto that it needs, where that is not the system's.
    libraries: Option<PathBuf>,
}

impl Kryoptic {
    /// Makes a token in `folder`.
    ///
    /// # Errors
    ///
    /// When kryoptic is not built, or refuses.
    pub fn create(folder: &Path, label: &str) -> Result<Self> {
        Kryoptic::of_module(folder, label, module()?, None)
    }

    /// Makes a token of `module`, which needs the libcrypto in the folder `libraries`.
    ///
    /// # Errors
    ///
    /// When it refuses.
    pub fn of_module(
        folder: &Path,
        label: &str,
        module: PathBuf,
        libraries: Option<PathBuf>,
    ) -> Result<Self> {
        let token = Kryoptic { folder: folder.into(), module, label: label.into(), libraries };
        let database = folder.join("token.sql");
        fs::write(
            token.configuration(),
            format!("[[slots]]\nslot = 1\ndbtype = \"sqlite\"\ndbargs = \"{}\"\n", database.display()),
        )?;
        token.tool(&["--init-token", "--slot", "1", "--label", label, "--so-pin", SO_PIN])?;
        let init_pin = ["--login", "--login-type", "so", "--so-pin", SO_PIN, "--init-pin", "--pin", PIN];
        token.tool(&[&["--token-label", label], &init_pin[..]].concat())?;
        Ok(token)
    }

    /// Makes a key pair.
    ///
    /// # Errors
    ///
    /// With what pkcs11-tool said.
    pub fn generate(&self, kind: KeyKind, label: &str, id: u8) -> Result<()> {
        let log_in = ["--token-label", &self.label, "--login", "--pin", PIN];
        let pair = ["--keypairgen", "--key-type", pkcs11_tool_type(kind), "--label", label, "--id"];
        self.tool(&[&log_in[..], &pair[..], &[&format!("{id:02x}")]].concat())?;
        // The workers open the database, and write its journal beside it.
        if is_root() { give_to_workers(&self.folder) } else { Ok(()) }
    }

    /// The URI of a private key in it.
    pub fn uri(&self, label: &str) -> String {
        format!("pkcs11:token={};object={label};type=private", self.label)
    }

    /// What a program needs to use this token through our provider. The module is told by its arguments where its token is,
    /// so nothing is needed in the workers' environment.
    ///
    /// # Errors
    ///
    /// When OpenSSL's configuration cannot be written.
    pub fn environment(&self, programs: &Programs) -> Result<Environment> {
        let file = self.folder.join("openssl.cnf");
        openssl_configuration(programs, &self.module, Some(PIN), &file)?;
        let arguments =
            format!("pkcs11-module-init-args = kryoptic_conf={}\n", self.configuration().display());
        let text = fs::read_to_string(&file)?;
        let path = "pkcs11-module-path";
        ensure!(text.contains(&format!("\n{path}")), "openssl.cnf names no module");
        fs::write(&file, text.replace(&format!("\n{path}"), &format!("\n{arguments}{path}")))?;
        Ok(Environment::plain().with("OPENSSL_CONF", file))
    }

    fn configuration(&self) -> PathBuf {
        self.folder.join("token.conf")
    }

    fn tool(&self, arguments: &[&str]) -> Result<String> {
        let mut tool: Command = command::new(system("pkcs11-tool")?);
        let mut environment = Environment::plain().with("KRYOPTIC_CONF", self.configuration());
        if let Some(folder) = &self.libraries {
            environment = environment.with("LD_LIBRARY_PATH", folder);
        }
        environment.apply(&mut tool);
        tool.arg("--module").arg(&self.module).args(arguments);
        command::succeed(tool, LIMIT)
    }
}

/// Where tests/kryoptic puts it: beside the folder in which cargo built this program.
fn module() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let target = this.ancestors().nth(3).context("this program is not in cargo's target folder")?;
    let module = target.join("tools/kryoptic/libkryoptic_pkcs11.so");
    ensure!(module.exists(), "{} is not there; 'tests/kryoptic' builds it", module.display());
    Ok(module)
}
