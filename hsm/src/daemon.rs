//! The daemon: started on its directory and socket, serving until it is told to stop.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::audit::Audit;
use crate::config::Config;
use crate::connection::{self, Stream};
use crate::engine::Engine;
use crate::life;
use crate::memory::arena;
use crate::network;
use crate::places::Who;
use crate::service::Service;
use crate::session::Session;
use crate::transfers;
use crate::vault::{self, Slot, Vault, VaultError};
use crate::web::{self, Door};

/// How long requests in flight may take when the daemon stops.
const STOP: Duration = Duration::from_secs(10);

/// Connections above the limit that are told so at the same time; others are just closed.
const TURNING_AWAY: usize = 64;

/// File descriptors that are not connections being served: the store, the audit logs, the runtime, and
/// [`TURNING_AWAY`].
const OTHER_DESCRIPTORS: usize = 192 + TURNING_AWAY;

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another daemon works on the same state.
    #[error("another strongroomd works in {}: stop it first, or choose another directory with --state-dir", .0.display())]
    Busy(PathBuf),
    /// Somebody listens on the socket.
    #[error("another daemon listens on {}: stop it first, or choose another socket with --socket", .0.display())]
    SocketBusy(PathBuf),
    /// The socket's path is something else.
    #[error("{} is there and is not a socket: remove it, or choose another socket with --socket", .0.display())]
    NotASocket(PathBuf),
    /// Others may enter the state directory.
    #[error("{} is open to other users (mode {mode:o}): 'chmod 700' it", path.display())]
    Exposed {
        /// The state directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The state directory is somebody else's.
    #[error(
        "{} belongs to user id {owner}, and strongroomd runs as {own}: 'chown -R {own}' it, or choose another directory with --state-dir",
        path.display()
    )]
    NotOurs {
        /// The state directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// As whom the daemon runs.
        own: u32,
    },
    /// Opening the store.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A system call.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, on which file.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

/// How many connections fit into the files that the process may have open; strongroomd has raised that limit
/// as far as it may. Each may have a channel, whose bell is a file too.
fn room_for_connections() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let files = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    files.saturating_sub(OTHER_DESCRIPTORS).max(files / 4) / 2
}

fn io_error(what: String) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::Io { what, source }
}

/// A daemon that listens.
#[derive(Debug)]
pub struct Daemon {
    config: Config,
    service: Arc<Service>,
    listener: UnixListener,
    own_uid: u32,
    /// The socket that the daemon made and has to remove: its device and inode.
    made_socket: Option<(u64, u64)>,
    /// Where metrics and the page are to be had.
    doors: Vec<Door>,
    /// Where clients of the network are served.
    network: Vec<network::Listener>,
    /// Locked as long as the daemon runs.
    _lock: File,
}

impl Daemon {
    /// Opens the store and listens. `inherited` is a listening socket from the service manager. Needs a tokio
    /// runtime.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub fn start(
        mut config: Config,
        inherited: Option<std::os::unix::net::UnixListener>,
    ) -> Result<Self, StartError> {
        crate::crypto::aws_lc::prepare();
        config.connections = config.connections.within(room_for_connections());
        make_directories(&config)?;
        let lock = lock(&config.state_dir)?;
        let directory = config.audit_directory();
        let instance = crate::crypto::aws_lc::random_array();
        let audit = Audit::start(&directory, &config.audit, instance)
            .map_err(io_error(format!("opening the audit log in {}", directory.display())))?;
        let audit = Arc::new(audit);
        let vault =
            Arc::new(Vault::start(&config.state_dir, config.credentials.as_deref(), config.cluster.clone())?);
        vault.keep_up()?;
        vault.use_clocks(&config.clocks);
        audit.watch(&vault);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let engine = Engine::start(cores).map_err(io_error("starting signing threads".to_owned()))?;
        let service = Arc::new(Service::new(vault, engine, audit, instance, cores));
        vault::watch(&service.vault, config.store_check);
        let (listener, made_socket) = match inherited {
            Some(listener) => (listener, None),
            None => (listen(&config.socket, config.socket_mode)?, identity(&config.socket)),
        };
        let listener = listener
            .set_nonblocking(true)
            .and_then(|()| UnixListener::from_std(listener))
            .map_err(io_error(format!("listening on {}", config.socket.display())))?;
        let own_uid = rustix::process::geteuid().as_raw();
        let slots = service.vault.slots();
        for slot in &slots {
            if let Slot::Damaged { record, why } = slot {
                service.audit.alarm(Some((record.number, &record.label)), "partition_damaged", why);
            }
        }
        let damaged = slots.iter().filter(|slot| matches!(slot, Slot::Damaged { .. })).count();
        tracing::info!(
            socket = %config.socket.display(),
            state = %config.state_dir.display(),
            partitions = slots.len(),
            damaged,
            state_of_node = service.vault.node_state().as_str_name().trim_start_matches("NODE_STATE_"),
            memory = arena::protection().name(),
            "strongroomd {} is ready",
            env!("CARGO_PKG_VERSION")
        );
        Ok(Self {
            config,
            service,
            listener,
            own_uid,
            made_socket,
            doors: Vec::new(),
            network: Vec::new(),
            _lock: lock,
        })
    }

    /// The partitions, for who looks at their state.
    pub fn vault(&self) -> Weak<Vault> {
        Arc::downgrade(&self.service.vault)
    }

    /// Has metrics and the page answered here, too.
    #[must_use]
    pub fn with_doors(mut self, doors: impl IntoIterator<Item = Door>) -> Self {
        self.doors.extend(doors);
        self
    }

    /// Has clients of the network served, too.
    #[must_use]
    pub fn with_network(mut self, listeners: impl IntoIterator<Item = network::Listener>) -> Self {
        self.network.extend(listeners);
        if !self.network.is_empty() {
            // Those in their handshake have descriptors of their own.
            self.config.connections = self.config.connections.within(room_for_connections() / 4 * 3);
        }
        self
    }

    /// Serves connections until `shutdown` is ready, then answers what is in flight and removes the socket.
    pub async fn serve(mut self, shutdown: impl Future<Output = ()>) {
        let (stop, stopped) = watch::channel(false);
        let _ = self.service.pages.set(self.doors.iter().filter_map(Door::page).collect());
        for door in self.doors.drain(..) {
            tokio::spawn(web::serve(door, Arc::clone(&self.service), stopped.clone()));
        }
        let turning_away = Arc::new(Semaphore::new(TURNING_AWAY));
        let mut connections = JoinSet::new();
        for listener in self.network.drain(..) {
            let (service, config, stopped) =
                (Arc::clone(&self.service), self.config.clone(), stopped.clone());
            connections.spawn(async move { network::serve(listener, service, &config, stopped).await });
        }
        tokio::pin!(shutdown);
        let keeper = tokio::spawn(life::keep(Arc::clone(&self.service), self.config.keeping));
        tokio::spawn(transfers::watch(Arc::downgrade(&self.service.vault)));
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => self.take(stream, &mut connections, &stopped, &turning_away),
                    Err(error) => {
                        // Mostly: no file descriptor left. Connections that end give some back.
                        tracing::error!("accepting a connection: {error}");
                        sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
            }
        }
        if self.made_socket.is_some() && self.made_socket == identity(&self.config.socket) {
            // Before the last answers: who comes now is told at once that nobody listens. A socket that somebody
            // else has put there meanwhile stays.
            let _ = fs::remove_file(&self.config.socket);
        }
        drop(self.listener);
        let _ = stop.send(true);
        keeper.abort();
        let all = async { while connections.join_next().await.is_some() {} };
        if timeout(STOP, all).await.is_err() {
            tracing::warn!(
                "{} connections were cut: they took longer than {STOP:?} to stop",
                connections.len()
            );
        }
        let audit = Arc::clone(&self.service.audit);
        // It waits for the disk, and nothing else is left to do.
        let _ = tokio::task::spawn_blocking(move || audit.stop()).await;
        tracing::info!("strongroomd has stopped");
    }

    fn take(
        &self,
        stream: UnixStream,
        connections: &mut JoinSet<()>,
        stopped: &watch::Receiver<bool>,
        turning_away: &Arc<Semaphore>,
    ) {
        let (uid, pid) = match stream.peer_cred() {
            Ok(credentials) => (credentials.uid(), credentials.pid()),
            Err(error) => return tracing::warn!("a connection without credentials was closed: {error}"),
        };
        let owner = uid == 0 || uid == self.own_uid;
        let who = match owner {
            true => Who::Owner,
            false if self.service.vault.admits(uid) => Who::Admitted,
            false => Who::Stranger,
        };
        let place = match self.service.counters.connections.take(uid, who, self.config.connections) {
            Ok(place) => place,
            Err(failure) => {
                self.service.counters.turned_away.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(uid, "a connection was turned away: {failure}");
                self.service.audit.refused_stranger(Some(uid), String::new(), failure.code);
                if let Ok(permit) = Arc::clone(turning_away).try_acquire_owned() {
                    tokio::spawn(async move {
                        connection::turn_away(Stream::Unix(stream), failure).await;
                        drop(permit);
                    });
                }
                return;
            }
        };
        let session = Arc::new(Session::new(uid, owner, pid));
        let (service, deadlines, stopped) =
            (Arc::clone(&self.service), self.config.deadlines, stopped.clone());
        connections.spawn(async move {
            connection::serve(service, session, Stream::Unix(stream), deadlines, stopped).await;
            drop(place);
        });
    }
}

/// Starts a daemon and serves until `shutdown` is ready.
///
/// # Errors
///
/// [`StartError`].
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), StartError> {
    Daemon::start(config, None)?.serve(shutdown).await;
    Ok(())
}

/// Makes the directories of the store and of the socket where they are missing.
///
/// # Errors
///
/// If one cannot be made, or the store's is open to others.
pub fn make_directories(config: &Config) -> Result<(), StartError> {
    private_directory(&config.state_dir)?;
    make_directory(&config.audit_directory(), 0o700)?;
    match config.socket.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        Some(directory) => make_directory(directory, if config.is_public() { 0o755 } else { 0o700 }),
        None => Ok(()),
    }
}

fn private_directory(path: &Path) -> Result<(), StartError> {
    let new: Vec<&Path> = path.ancestors().take_while(|directory| !directory.exists()).collect();
    make_directory(path, 0o700)?;
    // The store syncs what is in the directory; this makes the directory itself last.
    for above in new.into_iter().filter_map(Path::parent) {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        File::open(above)
            .and_then(|directory| directory.sync_all())
            .map_err(io_error(format!("syncing the directory {}", above.display())))?;
    }
    let metadata = fs::metadata(path).map_err(io_error(format!("looking at {}", path.display())))?;
    let mode = metadata.permissions().mode() & 0o777;
    let (owner, own) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != own {
        return Err(StartError::NotOurs { path: path.to_owned(), owner, own });
    }
    if mode & 0o077 != 0 {
        return Err(StartError::Exposed { path: path.to_owned(), mode });
    }
    Ok(())
}

fn make_directory(path: &Path, mode: u32) -> Result<(), StartError> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        // Whatever the umask says: others may have to reach the socket.
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .map_err(io_error(format!("making the directory {}", path.display())))
}

fn lock(directory: &Path) -> Result<File, StartError> {
    let path = directory.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io_error(format!("opening {}", path.display())))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StartError::Busy(directory.to_owned())),
        Err(fs::TryLockError::Error(source)) => {
            Err(StartError::Io { what: format!("locking {}", path.display()), source })
        }
    }
}

/// Device and inode of a file.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Listens on a Unix socket, in the place of one that a daemon has left behind.
pub(crate) fn listen(path: &Path, mode: u32) -> Result<std::os::unix::net::UnixListener, StartError> {
    let failed = || io_error(format!("listening on {}", path.display()));
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(StartError::NotASocket(path.to_owned()));
        }
        Ok(_) => match StdStream::connect(path) {
            // A daemon that was killed leaves its socket behind.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(failed())?;
            }
            _ => return Err(StartError::SocketBusy(path.to_owned())),
        },
        Err(_) => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(path).map_err(failed())?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed())?;
    Ok(listener)
}
