//! Where the programs under test and the programs around them are.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The environment variable that names the folder with Strongroom's built programs and libraries.
pub const PROGRAMS_VARIABLE: &str = "STRONGROOM_PROGRAMS";

/// Strongroom's own programs and libraries, as cargo built them.
#[derive(Debug, Clone)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Finds them: in the folder named by [`PROGRAMS_VARIABLE`], else beside this program.
    ///
    /// # Errors
    ///
    /// When one is missing, with the command that builds them.
    pub fn find() -> Result<Self> {
        let folder = match env::var_os(PROGRAMS_VARIABLE) {
            Some(folder) => PathBuf::from(folder),
            None => {
                let this = env::current_exe().context("cannot tell where this program is")?;
                // Tests lie one folder deeper, in `deps`.
                let folder = this.parent().context("this program has no folder")?;
                match folder.file_name() {
                    Some(name) if name == "deps" => folder.parent().unwrap_or(folder).into(),
                    _ => folder.into(),
                }
            }
        };
        let programs = Programs { folder };
        for file in [
            programs.strongroomd(),
            programs.strongroom(),
            programs.load(),
            programs.provider(),
            programs.module(),
        ] {
            if !file.exists() {
                bail!("{} is not there; 'cargo build --release --workspace' makes it", file.display());
            }
        }
        Ok(programs)
    }

    /// The daemon.
    pub fn strongroomd(&self) -> PathBuf {
        self.folder.join("strongroomd")
    }

    /// The administrator's command.
    pub fn strongroom(&self) -> PathBuf {
        self.folder.join("strongroom")
    }

    /// The load generator.
    pub fn load(&self) -> PathBuf {
        self.folder.join("strongroom-load")
    }

    /// The PKCS#11 load generator. Only the benchmark needs it.
    pub fn token_load(&self) -> PathBuf {
        self.folder.join("strongroom-token-load")
    }

    /// The provider, which an installation calls strongroom.so.
    pub fn provider(&self) -> PathBuf {
        self.folder.join("libstrongroom_provider.so")
    }

    /// The PKCS#11 module.
    pub fn module(&self) -> PathBuf {
        self.folder.join("libstrongroom_pkcs11.so")
    }
}

/// A file of the repository, as in `nginx-conf/openssl.cnf`.
pub fn repository(file: &str) -> PathBuf {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR"));
    demo.parent().unwrap_or(demo).join(file)
}

/// A program of the system. A normal user's search path often lacks /usr/sbin, where the servers are.
///
/// # Errors
///
/// When it is not installed.
pub fn system(name: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/bin")])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .with_context(|| format!("{name} is not installed; 'demo/install' installs what is needed"))
}
