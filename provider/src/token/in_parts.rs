//! Operations without a key pair: in which token they are done, and the session that one keeps from its first part to
//! its last.

use cryptoki_sys::*;

use super::Tokens;
use super::module::{Module, Rv};
use super::process::{Operation, is_stale, listing};
use super::random::Inside;
use super::secret_key::StoredKey;
use super::session::Session;
use super::shared::Shared;
use super::slot::Slot;
use crate::error::{self, Error, Result};

/// A session in which an operation has begun that goes on in later calls. It is in no pool, and is closed at the end.
///
/// Between the calls nothing is held: the process may fork (the child's copy of it is void), and the module may be initialised again
/// (which voids it too).
pub struct InParts {
    shared: &'static Shared,
    slot: &'static Slot,
    session: CK_SESSION_HANDLE,
    generation: u64,
    times: u64,
}

/// Where an operation is done.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    /// In the first token that has a mechanism, or the one in the slot that `pkcs11-module-default-slot-id` says. With the mechanism's
    /// name for people.
    With(CK_MECHANISM_TYPE, &'a str),
    /// Where a key is.
    Of(&'a StoredKey),
}

/// An operation over data that comes in parts.
pub trait Parts: Sized {
    /// Adds data.
    ///
    /// # Errors
    ///
    /// [`Error::Token`]; the operation cannot be continued then.
    fn update(&mut self, data: &[u8]) -> Result<()>;

    /// Ends it, in `out`; returns the result's size in bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Token`].
    fn finish(self, out: &mut [u8]) -> Result<usize>;

    /// A copy that goes its own way from here.
    ///
    /// # Errors
    ///
    /// [`Error::Token`] if the token cannot copy an operation (C_GetOperationState).
    fn duplicate(&self) -> Result<Self>;
}

impl Tokens {
    /// Does `operation` in a session with the first token that has `mechanism`, or with the one in the slot that
    /// `pkcs11-module-default-slot-id` says. `what` is the mechanism for people.
    ///
    /// # Errors
    ///
    /// [`Error::NoToken`] if there is none now, [`Error::Unsupported`] if none has the mechanism, else what `operation` says.
    pub(super) fn with_mechanism<T>(
        &self,
        mechanism: CK_MECHANISM_TYPE,
        what: &str,
        mut operation: impl FnMut(&Module, CK_SESSION_HANDLE, &Slot) -> Result<T>,
    ) -> Result<T> {
        let place = Place::With(mechanism, what);
        self.in_session(
            place,
            |module, session, slot, _| operation(module, session, slot),
            |done, _, _, _| done,
        )
    }

    /// As [`with_mechanism`](Self::with_mechanism); what `init` begins goes on in the session that is returned.
    pub(super) fn begin_in_parts(
        &self,
        mechanism: CK_MECHANISM_TYPE,
        what: &str,
        mut init: impl FnMut(&Module, CK_SESSION_HANDLE, &Slot) -> Result<()>,
    ) -> Result<InParts> {
        let place = Place::With(mechanism, what);
        self.in_session(place, |module, session, slot, _| init(module, session, slot), InParts::of)
    }

    /// Does `operation` in a session at a place, with the handle of the key there, if the place is a key's; `end` has the session then.
    pub(super) fn in_session<T, U>(
        &self,
        place: Place,
        mut operation: impl FnMut(&Module, CK_SESSION_HANDLE, &Slot, CK_OBJECT_HANDLE) -> Result<T>,
        end: impl Fn(T, &Operation, &'static Slot, Session) -> U,
    ) -> Result<U> {
        self.recovering(|current| {
            let slot = match place {
                Place::With(mechanism, what) => self.slot_with(current, mechanism, what)?,
                Place::Of(key) => key.slot(current)?,
            };
            let session = slot.session(current.module)?;
            let key = match place {
                Place::With(..) => Ok(CK_INVALID_HANDLE),
                Place::Of(key) => key.prepare(current.module, slot, &session),
            };
            match key.and_then(|key| operation(current.module, session.handle, slot, key)) {
                Ok(done) => Ok(end(done, current, slot, session)),
                Err(error) => {
                    match (error.rv(), place) {
                        (Some(CKR_KEY_HANDLE_INVALID | CKR_OBJECT_HANDLE_INVALID), Place::Of(key)) => {
                            key.forget();
                            session.discard();
                        }
                        (Some(rv), _) if is_stale(rv) => slot.forget_with(current.module, session),
                        // An operation may still be active on it.
                        _ => session.discard(),
                    }
                    Err(error)
                }
            }
        })
    }

    fn slot_with(
        &self,
        current: &Operation,
        mechanism: CK_MECHANISM_TYPE,
        what: &str,
    ) -> Result<&'static Slot> {
        for refresh in [false, true] {
            for slot in current.slots(refresh)? {
                if self.settings.default_slot.is_none_or(|id| slot.id == id)
                    && slot.has_mechanism(current.module, mechanism)?
                {
                    return Ok(slot);
                }
            }
        }
        let slots = current.slots(false)?;
        if slots.is_empty() {
            return Err(Error::NoToken { uri: what.into(), found: listing(&slots), away: true });
        }
        Err(Error::Unsupported(format!(
            "{what}: no token has mechanism {mechanism:#x} ({}); use OpenSSL's own with the property provider=default",
            listing(&slots)
        )))
    }
}

impl InParts {
    /// What has begun in a session.
    pub(super) fn of((): (), current: &Operation, slot: &'static Slot, session: Session) -> Self {
        InParts {
            shared: current.shared,
            slot,
            session: session.take_away(),
            generation: current.generation,
            times: current.times,
        }
    }

    /// Does the next part, by `function`.
    ///
    /// # Errors
    ///
    /// What the function says. [`Error::Token`] also if the session ended with a fork or with the module's state.
    pub fn next<T>(
        &self,
        function: &'static str,
        part: impl FnOnce(&Module, CK_SESSION_HANDLE) -> Rv<T>,
    ) -> Result<T> {
        let _inside = Inside::new();
        let current = self.current().ok_or_else(|| Error::Token {
            function,
            object: self.slot.name(),
            rv: error::Rv(CKR_SESSION_CLOSED),
            remedy: "; the process forked or the token was restarted since the operation's first part: begin it again",
        })?;
        part(current.module, self.session).map_err(|rv| Error::token(function, self.slot.name(), rv))
    }

    /// Begins a copy of the operation as it is now, in a session of its own.
    ///
    /// # Errors
    ///
    /// [`Error::Token`] if the token does not hand out the state of operations.
    pub fn duplicate(&self) -> Result<Self> {
        let state = self.next("C_GetOperationState", |module, session| module.operation_state(session))?;
        let session = self.next("C_OpenSession", |module, _| module.open_session(self.slot.id, false))?;
        let copy = InParts { session, ..*self };
        copy.next("C_SetOperationState", |module, session| module.set_operation_state(session, &state))?;
        Ok(copy)
    }

    /// The module, if the session is still one.
    fn current(&self) -> Option<Operation> {
        let is_same =
            |current: &Operation| current.generation == self.generation && current.times == self.times;
        self.shared.current().filter(is_same)
    }
}

impl Drop for InParts {
    fn drop(&mut self) {
        let _inside = Inside::new();
        if let Some(current) = self.current() {
            current.module.close_session(self.session);
        }
    }
}
