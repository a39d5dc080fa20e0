//! Metrics, health and the page, over HTTP: for Prometheus, for load balancers, and for people who would rather look.
//!
//! Nothing can be changed here, and nothing secret is shown. Off unless asked for (`--metrics`): a port on the loopback
//! address is open to every user and program of the machine, also to pages in their browsers ([`answer`] refuses those).

mod address;
mod answer;
mod door;
mod passes;
mod state;

pub use address::Address;
pub use door::Door;
pub use passes::Passes;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::service::Service;

/// Connections at the same time, of one address. Others wait.
const MOST_CONNECTIONS: usize = 32;

/// The longest head of a request, in bytes; none has a body.
const MOST_HEAD: usize = 8 * 1024;

/// For the head of a request, also of the next one on a connection that is kept.
const HEAD: Duration = Duration::from_secs(30);

/// A connection is closed after so long, whatever it does.
const LIFE: Duration = Duration::from_secs(600);

/// For the last answer.
const LAST: Duration = Duration::from_secs(10);

/// Who asks.
#[derive(Debug, Clone, Copy)]
struct Peer {
    /// On this machine: over a Unix socket or the loopback address.
    is_local: bool,
    /// Whether a browser may be behind it: not over a Unix socket.
    is_network: bool,
}

/// Answers what comes to a door until `stop` becomes true.
pub(crate) async fn serve(door: Door, service: Arc<Service>, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut connections = JoinSet::new();
    let name = door.to_string();
    let listener = match door.listen() {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("no metrics on {name}: {error}"),
    };
    tracing::info!("metrics and the page are on {name}");
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        tokio::select! {
            _ = stop.changed() => break,
            accepted = listener.accept() => match accepted {
                Ok(door::Accepted::Tcp(stream, from)) => {
                    let peer = Peer { is_local: from.ip().to_canonical().is_loopback(), is_network: true };
                    connections.spawn(converse(stream, peer, Arc::clone(&service), place));
                }
                Ok(door::Accepted::Unix(stream)) => {
                    let peer = Peer { is_local: true, is_network: false };
                    connections.spawn(converse(stream, peer, Arc::clone(&service), place));
                }
                Err(error) => {
                    tracing::warn!("accepting a connection on {name}: {error}");
                    sleep(Duration::from_millis(100)).await;
                }
            },
        }
        while connections.try_join_next().is_some() {}
    }
    // What is in flight is short, and nobody's key waits for it.
    connections.abort_all();
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: Peer,
    service: Arc<Service>,
    place: OwnedSemaphorePermit,
) {
    let answers = service_fn(move |request| {
        let response = answer::answer(&service, &request, peer);
        async move { Ok::<_, Infallible>(response) }
    });
    let conversation = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MOST_HEAD)
        .max_headers(64)
        .serve_connection(TokioIo::new(stream), answers);
    tokio::pin!(conversation);
    if timeout(LIFE, conversation.as_mut()).await.is_err() {
        conversation.as_mut().graceful_shutdown();
        let _ = timeout(LAST, conversation).await;
    }
    drop(place);
}
