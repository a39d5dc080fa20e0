//! Accepts connections over TLS: limited before the handshake by address, afterwards by certificate.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use rustix::net::sockopt;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use strongroom_owner::Holder;
use strongroom_protocol::tls::{self, TlsError};
use strongroom_protocol::v1::ErrorCode;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::failures::Failures;
use super::identity::OfNode;
use super::{account, origin};
use crate::config::Config;
use crate::connection::{self, Stream, Tls};
use crate::crypto::aws_lc;
use crate::places::{Limits, Place, Places, Who};
use crate::service::Service;
use crate::session::Session;

/// From the connection to the end of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Connections in their handshake at the same time: all, and of one address. Further ones are closed; a client tries again.
const HANDSHAKES: [usize; 2] = [1024, 256];

/// A client that says nothing for so long is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// What is sent has to be acknowledged within so long.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// Which clients may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// Those with a certificate.
    WithCertificate,
    /// All; who has none acts by log-in only.
    All,
}

/// Where to listen, and for whom.
#[derive(Debug, Clone)]
pub struct Options {
    /// The address.
    pub address: SocketAddr,
    /// The file with the certificates (PEM) of the authorities that have signed clients' certificates.
    pub authority: PathBuf,
    /// Whether a client has to show one.
    pub clients: Clients,
}

/// Why the daemon does not listen for clients of the network.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// The file.
    #[error("--tls-client-ca: {0}")]
    File(#[from] TlsError),
    /// What is in it.
    #[error("--tls-client-ca: {} holds a certificate that is no authority's: {why}", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What the library said.
        why: String,
    },
    /// The address.
    #[error("--tls: listening on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// A socket that listens, opened before the daemon gives up sockets of the network.
#[derive(Debug)]
pub struct Listener {
    socket: std::net::TcpListener,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Listener {
    /// Reads the authorities and listens.
    ///
    /// # Errors
    ///
    /// [`OptionsError`].
    pub fn open(options: &Options) -> Result<Self, OptionsError> {
        // What TLS allocates is freed by the same hands.
        aws_lc::prepare();
        let wrong = |why: String| OptionsError::Authority { path: options.authority.clone(), why };
        let mut roots = RootCertStore::empty();
        for certificate in tls::read_certificates(&options.authority)? {
            roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(tls::provider()));
        let builder = match options.clients {
            Clients::WithCertificate => builder,
            Clients::All => builder.allow_unauthenticated(),
        };
        let verifier = builder.build().map_err(|error| wrong(error.to_string()))?;
        let failed = |source| OptionsError::Listen { address: options.address, source };
        let socket = std::net::TcpListener::bind(options.address).map_err(failed)?;
        Ok(Listener { socket, verifier })
    }

    /// Where it listens; with port 0 the system has chosen one.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn server_config(&self, service: &Service) -> Result<ServerConfig, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(tls::provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::clone(&self.verifier))
            .with_cert_resolver(Arc::new(OfNode(Arc::clone(&service.vault))));
        // Nothing is resumed: whoever had a ticket's key could be every client, and every certificate is checked anew.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(config)
    }
}

/// What all connections of one listener share.
struct Hall {
    service: Arc<Service>,
    acceptor: TlsAcceptor,
    limits: Limits,
    deadlines: connection::Deadlines,
    stopped: watch::Receiver<bool>,
    /// Those in their handshake, or about to be turned away.
    entering: Arc<Places>,
    failures: Failures,
}

/// Serves connections until `stopped` becomes true, and then what they have asked.
pub(crate) async fn serve(
    listener: Listener,
    service: Arc<Service>,
    config: &Config,
    mut stopped: watch::Receiver<bool>,
) {
    let started = listener.server_config(&service).map_err(io::Error::other).and_then(|server| {
        listener.socket.set_nonblocking(true)?;
        let address = listener.address()?;
        Ok((server, address, tokio::net::TcpListener::from_std(listener.socket)?))
    });
    let (server, address, listener) = match started {
        Ok(started) => started,
        Err(error) => return tracing::error!("no clients of the network: {error}"),
    };
    let hall = Arc::new(Hall {
        service,
        acceptor: TlsAcceptor::from(Arc::new(server)),
        limits: config.connections,
        deadlines: config.deadlines,
        stopped: stopped.clone(),
        entering: Arc::default(),
        failures: Failures::default(),
    });
    tracing::info!("clients of the network are served on {address}, over TLS");
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = stopped.changed() => break,
            accepted = listener.accept() => match accepted {
                Ok((socket, from)) => {
                    if let Some(place) = hall.enter(from) {
                        connections.spawn(Arc::clone(&hall).meet(socket, from, place));
                    }
                }
                Err(error) => {
                    tracing::error!("accepting a connection of the network: {error}");
                    sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

impl Hall {
    /// A place for the handshake.
    fn enter(&self, from: SocketAddr) -> Option<Place> {
        let [all, of_one] = HANDSHAKES.map(|most| most.min(self.limits.all / 4).max(1));
        let limits = Limits { all, of_one, strangers: all, strangers_of_one: of_one };
        let origin = origin(from.ip());
        let place = match self.failures.are_few(&origin, Instant::now()) {
            true => self.entering.take(account(origin.as_bytes()), Who::Stranger, limits).ok(),
            false => None,
        };
        if place.is_none() {
            self.service.counters.turned_away.fetch_add(1, Ordering::Relaxed);
            self.service.audit.refused_stranger(None, self.failures.name(origin), ErrorCode::Limit);
        }
        place
    }

    /// After a handshake that came to nothing.
    fn failed(&self, origin: String, why: &str) {
        tracing::info!(address = origin, "a TLS handshake failed: {why}");
        let known = self.failures.add(origin, Instant::now());
        self.service.audit.refused_stranger(None, known, ErrorCode::Malformed);
    }

    async fn meet(self: Arc<Self>, socket: TcpStream, from: SocketAddr, entering: Place) {
        let origin = origin(from.ip());
        prepare(&socket);
        let handshake = timeout(HANDSHAKE, self.acceptor.accept(socket)).await;
        let (socket, session) = match handshake {
            Ok(Ok(stream)) => stream.into_inner(),
            Ok(Err(error)) => return self.failed(origin, &error.to_string()),
            Err(_) => return self.failed(origin, &format!("it took longer than {HANDSHAKE:?}")),
        };
        let shown = session.peer_certificates().and_then(<[CertificateDer<'_>]>::first);
        let holder = match shown.map(|der| Holder::parse(der)).transpose() {
            Ok(holder) => holder,
            Err(error) => return self.failed(origin, &format!("the client's certificate {error}")),
        };
        let left = holder.as_ref().map(|holder| holder.not_after.duration_since(SystemTime::now()));
        let left = match left.transpose() {
            Ok(left) => left.unwrap_or(Duration::MAX),
            Err(_) => return self.failed(origin, "the client's certificate has expired"),
        };
        let key = holder.as_ref().map(|holder| holder.key);
        let (account, who) = match &key {
            Some(key) => (account(key), Who::Admitted),
            None => (account(origin.as_bytes()), Who::Stranger),
        };
        let subject = holder.map(|holder| holder.subject).unwrap_or_default();
        let session_of = Session::of_network(account, origin, key);
        let place = match self.service.counters.connections.take(account, who, self.limits) {
            Ok(place) => place,
            Err(failure) => {
                self.service.counters.turned_away.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(address = %from, subject, "a connection was turned away: {failure}");
                self.service.audit.refused_connection(&session_of, failure.code);
                let stream = Stream::Tls(Box::new(Tls::new(socket, session)));
                return connection::turn_away(stream, failure).await;
            }
        };
        drop(entering);
        tracing::debug!(address = %from, subject, "a client of the network");
        let stream = Stream::Tls(Box::new(Tls::new(socket, session)));
        let serve = connection::serve(
            Arc::clone(&self.service),
            Arc::new(session_of),
            stream,
            self.deadlines,
            self.stopped.clone(),
        );
        if timeout(left, serve).await.is_err() {
            tracing::info!(address = %from, subject, "a connection was ended: its certificate has expired");
        }
        drop(place);
    }
}

/// Small answers leave at once; a client whose machine is gone does not keep its place.
fn prepare(socket: &TcpStream) {
    let set = || -> Result<(), rustix::io::Errno> {
        sockopt::set_tcp_nodelay(socket, true)?;
        sockopt::set_socket_keepalive(socket, true)?;
        sockopt::set_tcp_keepidle(socket, KEEPALIVE)?;
        sockopt::set_tcp_keepintvl(socket, KEEPALIVE / 4)?;
        sockopt::set_tcp_user_timeout(socket, UNACKNOWLEDGED.as_millis() as u32)
    };
    if let Err(error) = set() {
        tracing::debug!("a socket's options: {error}");
    }
}
