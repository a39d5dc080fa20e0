//! Sessions to resume, shared by all connections.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

/// Tickets kept at most. A server sends more than are used: two for each full handshake.
const MOST_TICKETS: usize = 16 * 1024;

/// The sessions of one server.
///
/// rustls's own cache keeps eight TLS 1.3 tickets, and each serves once: with more connections than that in
/// flight it would run dry, and handshakes meant to be resumed would be full ones. A TLS 1.2 session serves
/// any number of connections.
#[derive(Debug, Default)]
pub struct Sessions {
    kept: Mutex<Kept>,
    handing_out: AtomicBool,
}

#[derive(Debug, Default)]
struct Kept {
    tickets: VecDeque<Tls13ClientSessionValue>,
    session: Option<Tls12ClientSessionValue>,
}

impl Sessions {
    /// Begins to hand sessions out. Until then they are only collected, by full handshakes.
    pub fn hand_out(&self) {
        self.handing_out.store(true, Ordering::Relaxed);
    }

    fn handing_out(&self) -> bool {
        self.handing_out.load(Ordering::Relaxed)
    }

    /// Tells how many handshakes could be resumed now.
    pub fn available(&self) -> usize {
        let kept = self.lock();
        if kept.session.is_some() { usize::MAX } else { kept.tickets.len() }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All connections ask for one name, so names are ignored.
impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    /// Only one group is ever offered.
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.lock().session = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        if self.handing_out() { self.lock().session.clone() } else { None }
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.lock().session = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        let mut kept = self.lock();
        if kept.tickets.len() == MOST_TICKETS {
            kept.tickets.pop_front();
        }
        kept.tickets.push_back(value);
    }

    /// Hands out the newest: the older ones serve when connections have failed and taken tickets with them.
    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        if self.handing_out() { self.lock().tickets.pop_back() } else { None }
    }
}
