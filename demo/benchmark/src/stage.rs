//! The tokens, keys and certificates of a run, and the sites that use them.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Result;
use strongroom_demo::daemon::Daemon;
use strongroom_demo::environment::Environment;
use strongroom_demo::partition::Partition;
use strongroom_demo::pki::{Authority, key_file, text};
use strongroom_demo::programs::Programs;
use strongroom_demo::run_folder::RunFolder;
use strongroom_demo::server::{Server, Site};
use strongroom_demo::softhsm::{PIN, SoftHsm};
use strongroom_demo::{apache, haproxy, nginx};

use crate::options::{Key, Program, Source};

/// The name of the partition and of SoftHSM2's token.
const LABEL: &str = "bench";

/// Everything that is measured, but for the servers.
///
/// A key is made once, in a file, and taken in by both tokens: so all sources have the same key and the same
/// certificate, and nothing differs but the place where the signature is made.
#[derive(Debug)]
pub struct Stage {
    /// The programs that were built.
    pub programs: Programs,
    /// Our partition.
    pub partition: Partition,
    softhsm: RefCell<Vec<(Key, Rc<SoftHsm>)>>,
    authority: Authority,
    made: RefCell<Vec<Made>>,
    // Declared after the processes that use it: they are stopped first.
    folder: RunFolder,
}

/// A key that was made, and where.
#[derive(Debug, Clone)]
struct Made {
    key: Key,
    file: PathBuf,
    certificate: PathBuf,
    reference: PathBuf,
}

impl Stage {
    /// Starts the daemon and makes both tokens and an authority.
    ///
    /// # Errors
    ///
    /// At the first thing that does not work.
    pub fn prepare() -> Result<Self> {
        Self::prepare_with(&Environment::plain())
    }

    /// The same, with more in the daemon's environment.
    ///
    /// # Errors
    ///
    /// As [`Stage::prepare`].
    pub fn prepare_with(of_daemon: &Environment) -> Result<Self> {
        let programs = Programs::find()?;
        let folder = RunFolder::in_memory()?;
        let authority = Authority::in_file(&folder.folder("authority")?)?;
        let partition = Partition::create_with(&programs, &folder.folder("partition")?, LABEL, of_daemon)?;
        let (softhsm, made) = (RefCell::default(), RefCell::default());
        Ok(Stage { programs, partition, softhsm, authority, made, folder })
    }

    /// The certificate that clients trust.
    pub fn ca(&self) -> PathBuf {
        self.authority.certificate()
    }

    /// The daemon that serves the partition.
    pub fn daemon(&self) -> &Daemon {
        &self.partition.daemon
    }

    /// A folder of the run's, made if it is not there.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        self.folder.folder(name)
    }

    fn key(&self, key: Key) -> Result<Made> {
        if let Some(made) = self.made.borrow().iter().find(|made| made.key == key) {
            return Ok(made.clone());
        }
        let name = key.kind().name();
        let folder = self.folder.folder("keys")?;
        let file = folder.join(format!("{name}.key"));
        key_file(key.kind(), &file)?;
        let certificate = self.authority.certify(&Environment::plain(), &text(&file), name)?;
        self.partition.import(&file, name)?;
        let reference = self.partition.reference(name)?;
        let made = Made { key, file, certificate, reference };
        self.made.borrow_mut().push(made.clone());
        Ok(made)
    }

    /// The site of `program` with the key `key` in `source`.
    ///
    /// # Errors
    ///
    /// When the key cannot be made or the token refuses it.
    pub fn site(&self, program: Program, key: Key, source: Source) -> Result<Site> {
        self.site_at(program, key, source, None)
    }

    /// The same with the daemon at another socket, as that of a proxy.
    ///
    /// # Errors
    ///
    /// As [`Stage::site`].
    pub fn site_at(&self, program: Program, key: Key, source: Source, socket: Option<&Path>) -> Result<Site> {
        let made = self.key(key)?;
        let name = key.kind().name();
        let takes_uris = program == Program::Apache;
        let (named, environment) = match source {
            Source::File => (text(&made.file), Environment::plain()),
            Source::Partition if takes_uris => (self.partition.short_uri(name), self.partition.environment()),
            Source::Partition => (text(&made.reference), self.partition.environment()),
            Source::Softhsm => {
                let token = self.in_softhsm(&made, name)?;
                let uri = token.uri(name);
                let named = if takes_uris { uri } else { text(&self.reference_to_softhsm(&uri, name)?) };
                (named, token.environment(&self.programs)?)
            }
            Source::Engine => {
                let token = self.in_softhsm(&made, name)?;
                // nginx takes the PIN from OpenSSL's configuration, Apache from the URI.
                let named = format!("engine:pkcs11:{}?pin-value={PIN}", token.uri(name));
                (named, token.environment_of_engine()?)
            }
        };
        let mut folder = format!("{}-{name}-{source:?}", program.title()).to_lowercase();
        let mut environment = environment;
        if let Some(socket) = socket {
            environment = environment.with("STRONGROOM_SOCKET", socket);
            folder.push_str(&format!("-{}", socket.file_name().unwrap_or_default().to_string_lossy()));
        }
        Ok(Site::new(self.folder.folder(&folder)?, &made.certificate, &named, &environment))
    }

    /// Takes the key into a token of SoftHSM2's of its own, unless it is there. libp11's engine finds no key at all
    /// in a token that also has an Ed25519 key.
    fn in_softhsm(&self, made: &Made, name: &str) -> Result<Rc<SoftHsm>> {
        let mut tokens = self.softhsm.borrow_mut();
        if let Some((_, token)) = tokens.iter().find(|(key, _)| *key == made.key) {
            return Ok(Rc::clone(token));
        }
        let token = SoftHsm::create(&self.folder.folder(&format!("softhsm-{name}"))?, LABEL)?;
        token.import(&made.file, name, 1)?;
        let token = Rc::new(token);
        tokens.push((made.key, Rc::clone(&token)));
        Ok(token)
    }

    fn reference_to_softhsm(&self, uri: &str, name: &str) -> Result<PathBuf> {
        let file = self.folder.path().join(format!("softhsm-{name}/key.ref.pem"));
        fs::write(&file, strongroom_uri::reference::pem_from_uri(uri)?)?;
        Ok(file)
    }
}

impl Program {
    /// Starts it for a site.
    ///
    /// # Errors
    ///
    /// When it does not start: with what it said.
    pub fn start(self, site: &Site) -> Result<Server> {
        match self {
            Program::Nginx => nginx::start(site),
            Program::Apache => apache::start(site),
            Program::Haproxy => haproxy::start(site),
        }
    }
}
