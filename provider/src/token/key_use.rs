//! One use of a private key: the session and the handle that it takes, and its recovery when the token was away.

use std::cell::Cell;

use cryptoki_sys::*;

use super::module::{Module, Rv};
use super::process::is_stale;
use super::remembered::Found;
use super::session::Session;
use super::slot::Slot;
use super::{PrivateKey, Tokens};
use crate::error::{Error, Result};
use crate::openssl::Context;
use crate::trace;

/// What an operation with a private key needs, for one attempt.
pub struct KeyUse<'a> {
    /// The module's functions.
    pub module: &'a Module,
    /// A session that nobody else uses now.
    pub session: CK_SESSION_HANDLE,
    /// The key in it.
    pub handle: CK_OBJECT_HANDLE,
    attempt: &'a Attempt<'a>,
    begun: &'a Cell<bool>,
}

impl Tokens {
    /// Does `operation` with a private key: the one way in which keys are used.
    ///
    /// Stale state is renewed and the operation done again ([`Tokens::recovering`]). There is no other way: a key
    /// that its token does not use is not used.
    ///
    /// # Errors
    ///
    /// [`Error::Token`] with the module's own error, [`Error::NoToken`] while the token is away,
    /// [`Error::PinRefused`] and [`Error::PinMissing`] if it wants a log-in, [`Error::NotFound`] if the key is gone; and
    /// what `operation` says.
    pub(super) fn with_key<T>(
        &self,
        context: &Context,
        key: &PrivateKey,
        mut operation: impl FnMut(&KeyUse) -> Result<T>,
    ) -> Result<T> {
        trace::subject(|| key.name());
        let mut is_first = true;
        self.recovering(|current| {
            // What is remembered may be what is wrong.
            let found = key.remembered.get().filter(|found| {
                is_first && found.slot.generation == current.generation && found.slot.is_present()
            });
            is_first = false;
            let slot = match found {
                Some(found) => found.slot,
                None => current.slot_of(&key.token, || key.name())?,
            };
            let session = slot.session(current.module)?;
            let handle = found.filter(|found| found.epoch == session.epoch).map(|found| found.handle);
            let attempt = Attempt { context, module: current.module, slot, session: &session, key };
            let begun = Cell::new(false);
            let done = handle.map_or_else(|| attempt.prepare(), Ok).and_then(|handle| {
                operation(&KeyUse {
                    module: current.module,
                    session: session.handle,
                    handle,
                    attempt: &attempt,
                    begun: &begun,
                })
            });
            if let Err(error) = &done {
                match error.rv() {
                    Some(CKR_KEY_HANDLE_INVALID | CKR_OBJECT_HANDLE_INVALID) => {
                        key.remembered.forget();
                        slot.forget_handle(&key.fingerprint);
                        session.discard();
                    }
                    Some(rv) if is_stale(rv) => slot.forget_with(current.module, session),
                    // The operation is over, and closing the session would show from outside that the padding was wrong.
                    _ if matches!(error, Error::Undecryptable) => {}
                    // An operation may still be active on this session.
                    _ if begun.get() => session.discard(),
                    _ => {}
                }
            }
            done
        })
    }
}

impl KeyUse<'_> {
    /// Begins an operation by `init` (C_SignInit, C_DecryptInit), and logs in for this one use where the key wants that.
    ///
    /// # Errors
    ///
    /// What `init` says, or the log-in.
    pub fn begin(&self, function: &'static str, init: impl FnOnce() -> Result<Rv<()>>) -> Result<()> {
        init()?.map_err(|rv| self.failed(function, rv))?;
        self.begun.set(true);
        let Attempt { module, slot, session, key, .. } = *self.attempt;
        if !key.always_authenticate {
            return Ok(());
        }
        match slot.pin_of(key.pin.as_ref()) {
            Some(pin) => slot.login_for_one_use(module, session, &pin),
            _ => Ok(()),
        }
    }

    /// The error of a function that failed on this key.
    pub fn failed(&self, function: &'static str, rv: CK_RV) -> Error {
        self.attempt.missing_pin(Error::token(function, self.attempt.key.name(), rv))
    }
}

/// One attempt at an operation, on one session.
struct Attempt<'a> {
    context: &'a Context,
    module: &'a Module,
    slot: &'static Slot,
    session: &'a Session<'a>,
    key: &'a PrivateKey,
}

impl Attempt<'_> {
    /// Logs in where the token wants it, looks the key up, and remembers both for the life of the sessions.
    fn prepare(&self) -> Result<CK_OBJECT_HANDLE> {
        let Attempt { context, module, slot, session, key } = *self;
        let handle = slot
            .logged_in(module, session, key.pin.as_ref(), || slot.handle(module, session, key, context))
            .map_err(|error| self.missing_pin(error))?;
        key.remembered.set(Found { slot, epoch: session.epoch, handle });
        Ok(handle)
    }

    /// Without a PIN the application may have logged in, or the key be a public object; that neither is so shows now.
    fn missing_pin(&self, error: Error) -> Error {
        match error.rv() {
            Some(CKR_USER_NOT_LOGGED_IN) if self.slot.pin_of(self.key.pin.as_ref()).is_none() => {
                Error::PinMissing { token: self.slot.token.label.clone() }
            }
            _ => error,
        }
    }
}
