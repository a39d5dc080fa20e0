//! Where the keys under test are: in our partition, or in a token that somebody else wrote.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use strongroom_demo::command;
use strongroom_demo::environment::{Environment, openssl_configuration};
use strongroom_demo::partition::Partition;
use strongroom_demo::pki::{Authority, KeyKind, run_openssl, text};
use strongroom_demo::programs::{Programs, system};
use strongroom_demo::run_folder::RunFolder;
use strongroom_demo::softhsm::SoftHsm;

use crate::kryoptic::Kryoptic;
use crate::reference;

/// The label of the partition and of the SoftHSM2 token.
pub const TOKEN: &str = "tls";

/// How long one command may take. RSA generation varies.
const LIMIT: Duration = Duration::from_secs(60);

/// A token behind our provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Strongroom's own.
    Partition,
    /// SoftHSM2.
    SoftHsm,
    /// kryoptic, which tests/kryoptic builds.
    Kryoptic,
}

/// A partition, an authority and a folder of one test. Dropping it stops and removes all of it.
#[derive(Debug)]
pub struct Bench {
    /// The programs under test.
    pub programs: Programs,
    /// The partition.
    pub partition: Partition,
    /// Signs the test's certificates, with a key in a file.
    pub authority: Authority,
    /// Where everything lies.
    pub run: RunFolder,
}

impl Bench {
    /// Starts a daemon with an empty partition.
    ///
    /// # Errors
    ///
    /// When something is not installed, not built, or does not start.
    pub fn new() -> Result<Self> {
        let programs = Programs::find()?;
        let run = RunFolder::new()?;
        let partition = Partition::create(&programs, run.path(), TOKEN)?;
        let authority = Authority::in_file(run.path())?;
        Ok(Bench { programs, partition, authority, run })
    }

    /// Makes a second partition, which admits nobody without the PIN.
    ///
    /// # Errors
    ///
    /// When the daemon refuses.
    pub fn locked(&self) -> Result<Locked<'_>> {
        let label = "locked";
        let folder = text(self.run.path());
        self.partition.daemon.manage(&["init", label, "--generate-passwords", &folder])?;
        let password_file = self.file(&format!("{label}-user.password"));
        let password = fs::read_to_string(&password_file)?;
        let pin = format!("user:{}", password.trim());
        Ok(Locked { bench: self, label, password_file, pin })
    }

    /// Runs pkcs11-tool on our module, which must succeed.
    ///
    /// # Errors
    ///
    /// With what it said.
    pub fn pkcs11_tool(&self, arguments: &[&str]) -> Result<String> {
        let mut tool = command::new(system("pkcs11-tool")?);
        self.partition.environment().apply(&mut tool);
        tool.arg("--module").arg(self.programs.module()).args(arguments);
        command::succeed(tool, LIMIT)
    }

    /// A file in the test's folder, as text for a command line.
    pub fn file(&self, name: &str) -> String {
        text(&self.run.path().join(name))
    }

    /// What a program needs to use `place`, without a key as yet.
    ///
    /// # Errors
    ///
    /// When the token cannot be made.
    pub fn environment(&self, place: Place) -> Result<Environment> {
        match place {
            Place::Partition => Ok(self.partition.environment()),
            Place::SoftHsm => {
                SoftHsm::create(&self.run.folder("softhsm")?, TOKEN)?.environment(&self.programs)
            }
            Place::Kryoptic => {
                Kryoptic::create(&self.run.folder("kryoptic")?, TOKEN)?.environment(&self.programs)
            }
        }
    }

    /// Makes a key of each kind in `place`, named as its kind.
    ///
    /// # Errors
    ///
    /// When the token refuses.
    pub fn keys(&self, place: Place, kinds: &[KeyKind]) -> Result<Vec<Keys>> {
        let mut keys = Vec::new();
        match place {
            Place::Partition => {
                for kind in kinds {
                    self.partition.generate(*kind, kind.name())?;
                    let uri = self.partition.short_uri(kind.name());
                    keys.push(Keys::new(self, place, *kind, uri, self.partition.environment())?);
                }
            }
            Place::SoftHsm => {
                let token = SoftHsm::create(&self.run.folder("softhsm")?, TOKEN)?;
                let environment = token.environment(&self.programs)?;
                for (id, kind) in (1..).zip(kinds) {
                    token.generate(*kind, kind.name(), id)?;
                    keys.push(Keys::new(self, place, *kind, token.uri(kind.name()), environment.clone())?);
                }
            }
            Place::Kryoptic => {
                let token = Kryoptic::create(&self.run.folder("kryoptic")?, TOKEN)?;
                let environment = token.environment(&self.programs)?;
                for (id, kind) in (1..).zip(kinds) {
                    token.generate(*kind, kind.name(), id)?;
                    keys.push(Keys::new(self, place, *kind, token.uri(kind.name()), environment.clone())?);
                }
            }
        }
        Ok(keys)
    }
}

/// A key in a token, and its public half in a file.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Where it is.
    pub place: Place,
    /// What it is.
    pub kind: KeyKind,
    /// Its URI.
    pub uri: String,
    /// With which a program finds it.
    pub environment: Environment,
    /// Its public key, PEM.
    pub public: PathBuf,
}

impl Keys {
    /// Describes the key `uri`, whose name is that of its kind.
    ///
    /// # Errors
    ///
    /// When openssl cannot read its public half.
    pub fn new(
        bench: &Bench,
        place: Place,
        kind: KeyKind,
        uri: String,
        environment: Environment,
    ) -> Result<Self> {
        let public = bench.run.path().join(format!("{}.pub", kind.name()));
        run_openssl(&environment, "pkey -in {} -pubout -out {}", &[&uri, &text(&public)])?;
        Ok(Keys { place, kind, uri, environment, public })
    }

    /// A reference file for it: by our own command, or, for somebody else's token, written by the test.
    ///
    /// # Errors
    ///
    /// When the command refuses, or the file cannot be written.
    pub fn reference(&self, bench: &Bench) -> Result<PathBuf> {
        match self.place {
            Place::Partition => bench.partition.reference(self.kind.name()),
            _ => reference::write(&self.uri, &self.public.with_extension("ref.pem")),
        }
    }

    /// Makes a certificate for it.
    ///
    /// # Errors
    ///
    /// When openssl refuses.
    pub fn certify(&self, bench: &Bench) -> Result<PathBuf> {
        bench.authority.certify(&self.environment, &self.uri, self.kind.name())
    }
}

/// A partition with a crypto user whose password the test knows.
#[derive(Debug)]
pub struct Locked<'a> {
    bench: &'a Bench,
    /// The partition's label.
    pub label: &'static str,
    password_file: String,
    /// What logs in through PKCS#11.
    pub pin: String,
}

impl Locked<'_> {
    /// Makes a key and returns its URI.
    ///
    /// # Errors
    ///
    /// When the daemon refuses.
    pub fn generate(&self, kind: KeyKind, name: &str) -> Result<String> {
        let login = ["--partition", self.label, "--login", "user", "--password-file", &self.password_file];
        let generate = ["key", "generate", name, "--type", kind.name()];
        self.bench.partition.daemon.manage(&[&login[..], &generate[..]].concat())?;
        Ok(format!("pkcs11:token={};object={name};type=private", self.label))
    }

    /// What a program needs to use the keys, with `pin` in openssl.cnf.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn environment(&self, pin: &str, file: &str) -> Result<Environment> {
        let programs = &self.bench.programs;
        let file = self.bench.run.path().join(file);
        openssl_configuration(programs, &programs.module(), Some(pin), &file)?;
        Ok(self.bench.partition.daemon.client_environment().with("OPENSSL_CONF", file))
    }

    /// Runs pkcs11-tool, logged in, which must succeed.
    ///
    /// # Errors
    ///
    /// With what it said.
    pub fn pkcs11_tool(&self, arguments: &[&str]) -> Result<String> {
        let login = ["--token-label", self.label, "--login", "--pin", &self.pin];
        self.bench.pkcs11_tool(&[&login[..], arguments].concat())
    }
}
