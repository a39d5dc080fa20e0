//! `C_Login` with `CKU_CONTEXT_SPECIFIC`: the password for one use of a key with `CKA_ALWAYS_AUTHENTICATE`, after the operation was
//! begun. The daemon checks it, gives a ticket for this use, and takes no use without.

use std::sync::atomic::{AtomicU64, Ordering};

use cryptoki_sys::*;
use strongroom_protocol::v1::{AuthenticateUse, request::Op, response};
use zeroize::Zeroizing;

use super::pin::Pin;
use crate::call::{Access, Repeat};
use crate::error::{Outcome, lock};
use crate::object::ObjectId;
use crate::session::{Active, Held, Session};
use crate::state::Process;
use crate::token::Token;

/// How many operations of this process were begun with keys that ask.
static BEGUN: AtomicU64 = AtomicU64::new(0);

/// What an operation needs to use a key that asks for the password each time.
#[derive(Clone, Default)]
pub struct Ticket {
    is_needed: bool,
    ticket: Zeroizing<Vec<u8>>,
    /// Who gave it, and knows it.
    node: usize,
    /// The operation's number among those with keys that ask.
    number: u64,
}

impl Ticket {
    /// Of a key that asks, or of one that does not.
    pub fn new(is_needed: bool) -> Self {
        let number = if is_needed { BEGUN.fetch_add(1, Ordering::Relaxed) } else { 0 };
        Ticket { is_needed, number, ..Ticket::default() }
    }

    /// Whether the key asks.
    pub fn is_needed(&self) -> bool {
        self.is_needed
    }

    /// What the request carries; nothing, of a key that does not ask.
    ///
    /// # Errors
    ///
    /// `CKR_USER_NOT_LOGGED_IN` if nobody has given the password.
    pub fn spend(&mut self) -> Outcome<Vec<u8>> {
        if self.is_needed && self.ticket.is_empty() {
            return Err(CKR_USER_NOT_LOGGED_IN);
        }
        Ok(std::mem::take(&mut *self.ticket))
    }

    /// For the next of several uses: the password is given for one.
    pub fn hand_over(&mut self) -> Self {
        Ticket { ticket: std::mem::take(&mut self.ticket), ..*self }
    }

    /// As who, where, and how often the key is used: once, on the node that knows the ticket, if the key asks for one.
    pub fn access<'a>(&self, token: &'a Token) -> (Access<'a>, Repeat) {
        match self.is_needed {
            true => (Access::of(token).on_node(self.node), Repeat::Never),
            false => (Access::of(token), Repeat::Safe),
        }
    }
}

/// The operations with keys that ask for the password.
fn asking(active: &mut Active) -> impl Iterator<Item = (ObjectId, &mut Ticket)> {
    let Active { sign, sign_recover, message_sign, decrypt, .. } = active;
    let signatures = sign.iter_mut().chain(sign_recover);
    let messages = message_sign.iter_mut().filter_map(Held::here).map(|messages| messages.in_hand());
    let ciphers = decrypt.iter_mut().map(|operation| (operation.key, &mut operation.ticket));
    signatures
        .chain(messages)
        .map(|operation| (operation.key, &mut operation.ticket))
        .chain(ciphers)
        .filter(|(_, ticket)| ticket.is_needed)
}

/// The key, and the number, of the operation that a password is for: of those that have none the one that was begun last.
fn waiting(active: &mut Active) -> Option<(ObjectId, u64)> {
    let last = asking(active).max_by_key(|(_, ticket)| (ticket.ticket.is_empty(), ticket.number));
    last.map(|(key, ticket)| (key, ticket.number))
}

/// Has the daemon check the password.
pub(super) fn log_in_for_use(process: &'static Process, session: &Session, pin: Pin<'_>) -> Outcome {
    let token = &session.token;
    let (key, number) = waiting(&mut lock(&session.active)).ok_or(CKR_OPERATION_NOT_INITIALIZED)?;
    // It is the password of who is logged in: that of a user id that somebody admits is that user's.
    let user = token.login.user();
    if pin.password.is_empty() || user.is_some_and(|user| !pin.user.is_empty() && pin.user != user) {
        return Err(CKR_PIN_INCORRECT);
    }
    let authenticate = || {
        // This copy is wiped by the client when it has been sent.
        Op::AuthenticateUse(AuthenticateUse { key: key.to_vec(), password: pin.password.to_owned() })
    };
    // Not repeated: each time may count as another wrong password.
    let (reply, node) = process.call_of_node(Access::of(token), Repeat::Never, authenticate)?;
    let response::Result::UseTicket(reply) = reply else { return Err(CKR_DEVICE_ERROR) };
    let given = Zeroizing::new(reply.ticket);
    // Meanwhile another thread may have ended it, and begun another.
    let mut active = lock(&session.active);
    let mut still = asking(&mut active).filter(|(_, ticket)| ticket.number == number);
    let (_, ticket) = still.next().ok_or(CKR_OPERATION_NOT_INITIALIZED)?;
    ticket.ticket = given;
    ticket.node = node;
    Ok(())
}
