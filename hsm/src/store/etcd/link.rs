//! The way to etcd: one connection to each member, and a thread for them, so that an answer may be waited for from anywhere.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Error, Identity, TlsOptions};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep, timeout};

use super::Options;
use crate::crypto::aws_lc;

/// How long one member may take for an answer, before another one is asked.
const EACH: Duration = Duration::from_secs(2);

/// Between two members, when one could not answer.
const PAUSE: Duration = Duration::from_millis(50);

/// gRPC's codes for what another member would refuse as well (grpc/status.proto).
const INVALID_ARGUMENT: i32 = 3;
const NOT_FOUND: i32 = 5;
const PERMISSION_DENIED: i32 = 7;
const RESOURCE_EXHAUSTED: i32 = 8;
const OUT_OF_RANGE: i32 = 11;
const UNAUTHENTICATED: i32 = 16;

/// Why etcd did not do it.
#[derive(Debug, Clone)]
pub(super) enum Trouble {
    /// No member could: it is not known whether it was done.
    Silent(String),
    /// It was refused: it was not done.
    Refused(String),
    /// It was refused, after a member that was asked before has said nothing: it is not known whether it was done.
    Unsure(String),
}

impl Trouble {
    pub(super) fn reason(self) -> String {
        match self {
            Trouble::Silent(reason) | Trouble::Refused(reason) | Trouble::Unsure(reason) => reason,
        }
    }
}

/// The members, and the thread.
#[derive(Debug)]
pub(super) struct Link {
    /// `None` while it is dropped.
    runtime: Option<Runtime>,
    members: Arc<Members>,
}

/// The members of the etcd cluster.
#[derive(Debug)]
pub(super) struct Members {
    first: Member,
    others: Vec<Member>,
    /// Which one is asked first: the last that has answered.
    current: AtomicUsize,
}

/// One of them.
pub(super) struct Member {
    endpoint: String,
    pub(super) client: Client,
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Member").field(&self.endpoint).finish()
    }
}

impl Link {
    /// Nothing is said to a member before it is asked something.
    pub(super) fn open(options: &Options) -> Result<Self, String> {
        // What TLS allocates is freed by the same hands.
        aws_lc::prepare();
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("etcd")
            .enable_all()
            .build()
            .map_err(|error| format!("its thread: {error}"))?;
        let connect = connect_options(options);
        let endpoints = options.endpoints.clone();
        let (answer, answered) = sync_channel(1);
        runtime.spawn(async move {
            let mut clients = Vec::new();
            for endpoint in endpoints {
                // Each member has a client of its own: one that hangs is left for another.
                match Client::connect([&endpoint], Some(connect.clone())).await {
                    Ok(client) => clients.push(Member { endpoint, client }),
                    Err(error) => return drop(answer.send(Err(format!("{endpoint}: {error}")))),
                }
            }
            drop(answer.send(Ok(clients)));
        });
        let mut others = answered.recv().map_err(|_| "its thread has ended".to_owned())??;
        if others.is_empty() {
            return Err("no member of etcd is named".to_owned());
        }
        let members = Arc::new(Members { first: others.remove(0), others, current: AtomicUsize::new(0) });
        Ok(Link { runtime: Some(runtime), members })
    }

    pub(super) fn members(&self) -> &Arc<Members> {
        &self.members
    }

    /// Does something beside.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            drop(runtime.spawn(work));
        }
    }

    /// Asks one member after the other until one answers, within `limit`. Blocks.
    pub(super) fn ask<T, A>(
        &self,
        limit: Duration,
        ask: impl Fn(Client) -> A + Send + Sync + 'static,
    ) -> Result<T, Trouble>
    where
        T: Send + 'static,
        A: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let members = Arc::clone(&self.members);
        let (answer, answered) = sync_channel(1);
        self.spawn(async move { drop(answer.send(members.ask(limit, &ask).await)) });
        answered
            .recv()
            .unwrap_or_else(|_| Err(Trouble::Silent("the connection to etcd has ended".to_owned())))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // A thread that must not wait may be the last to let go of the store.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Members {
    /// As [`Link::ask`].
    pub(super) async fn ask<T, A>(
        &self,
        limit: Duration,
        ask: &(impl Fn(Client) -> A + Sync),
    ) -> Result<T, Trouble>
    where
        A: Future<Output = Result<T, Error>>,
    {
        let until = Instant::now() + limit;
        let mut was_silent = false;
        loop {
            let (number, member) = self.current();
            let each = EACH.min(until.saturating_duration_since(Instant::now()));
            let why = match timeout(each, ask(member.client.clone())).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) if is_final(&error) && was_silent => {
                    return Err(Trouble::Unsure(error.to_string()));
                }
                Ok(Err(error)) if is_final(&error) => return Err(Trouble::Refused(error.to_string())),
                Ok(Err(error)) => format!("{}: {error}", member.endpoint),
                Err(_) => format!("{} does not answer", member.endpoint),
            };
            was_silent = true;
            self.leave(number);
            if Instant::now() + PAUSE >= until {
                return Err(Trouble::Silent(why));
            }
            sleep(PAUSE).await;
        }
    }

    /// The member to ask, and its number for [`Members::leave`].
    pub(super) fn current(&self) -> (usize, &Member) {
        let number = self.current.load(Ordering::Relaxed);
        let at = number % (self.others.len() + 1);
        let other = at.checked_sub(1).and_then(|at| self.others.get(at));
        (number, other.unwrap_or(&self.first))
    }

    /// Asks another one from now on, unless somebody has said so already.
    pub(super) fn leave(&self, number: usize) {
        let next = number.wrapping_add(1);
        let _ = self.current.compare_exchange(number, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

fn connect_options(options: &Options) -> ConnectOptions {
    let mut connect = ConnectOptions::new()
        .with_connect_timeout(EACH)
        .with_keep_alive(Duration::from_secs(2), EACH)
        .with_keep_alive_while_idle(true)
        // A member that is cut off from the others says so, and does not answer from what it knew.
        .with_require_leader(true);
    if let Some(tls) = &options.tls {
        let mut config = TlsOptions::new().ca_certificate(Certificate::from_pem(&tls.authority));
        if let Some((certificate, key)) = &tls.client {
            config = config.identity(Identity::from_pem(certificate, key.as_slice()));
        }
        connect = connect.with_tls(config);
    }
    connect
}

/// Whether every member would say so.
fn is_final(error: &Error) -> bool {
    match error {
        Error::GRpcStatus(status) => matches!(
            status.code() as i32,
            INVALID_ARGUMENT
                | NOT_FOUND
                | PERMISSION_DENIED
                | RESOURCE_EXHAUSTED
                | OUT_OF_RANGE
                | UNAUTHENTICATED
        ),
        Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::Utf8Error(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// What is said of something that is asked of two members, of whom the first says `first`, and the other one refuses.
    fn refused_after(first: Option<&'static str>) -> Trouble {
        let endpoints = ["http://127.0.0.1:1", "http://127.0.0.1:2"].map(str::to_owned).to_vec();
        let options =
            Options { endpoints, cluster: String::new(), tls: None, patience: Duration::from_secs(60) };
        let link = Link::open(&options).unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let ask = move |_: Client| {
            let silent = first.filter(|_| asked.fetch_add(1, Ordering::Relaxed) == 0);
            async move {
                match silent {
                    Some(reason) => Err(Error::WatchError(reason.to_owned())),
                    None => Err::<(), _>(Error::InvalidArgs("no room".to_owned())),
                }
            }
        };
        link.ask(Duration::from_secs(60), ask).unwrap_err()
    }

    #[test]
    fn what_is_refused_after_silence_may_have_been_done() {
        assert!(matches!(refused_after(None), Trouble::Refused(reason) if reason.contains("no room")));
        assert!(
            matches!(refused_after(Some("broken")), Trouble::Unsure(reason) if reason.contains("no room"))
        );
    }
}
