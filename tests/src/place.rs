//! Where the keys under test are: in our partition, or in a token that somebody else wrote.

use std::path::PathBuf;

use anyhow::Result;
use strongroom_demo::environment::Environment;
use strongroom_demo::partition::Partition;
use strongroom_demo::pki::{Authority, KeyKind, run_openssl, text};
use strongroom_demo::programs::Programs;
use strongroom_demo::run_folder::RunFolder;
use strongroom_demo::softhsm::SoftHsm;

/// The label of the partition and of the SoftHSM2 token.
pub const TOKEN: &str = "tls";

/// A token behind our provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Strongroom's own.
    Partition,
    /// SoftHSM2.
    SoftHsm,
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

    /// A file in the test's folder, as text for a command line.
    pub fn file(&self, name: &str) -> String {
        text(&self.run.path().join(name))
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
                    keys.push(Keys::new(self, *kind, uri, self.partition.environment())?);
                }
            }
            Place::SoftHsm => {
                let token = SoftHsm::create(&self.run.folder("softhsm")?, TOKEN)?;
                let environment = token.environment(&self.programs)?;
                for (id, kind) in (1..).zip(kinds) {
                    token.generate(*kind, kind.name(), id)?;
                    keys.push(Keys::new(self, *kind, token.uri(kind.name()), environment.clone())?);
                }
            }
        }
        Ok(keys)
    }
}

/// A key in a token, and its public half in a file.
#[derive(Debug, Clone)]
pub struct Keys {
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
    fn new(bench: &Bench, kind: KeyKind, uri: String, environment: Environment) -> Result<Self> {
        let public = bench.run.path().join(format!("{}.pub", kind.name()));
        run_openssl(&environment, "pkey -in {} -pubout -out {}", &[&uri, &text(&public)])?;
        Ok(Keys { kind, uri, environment, public })
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
