//! Random bytes from the token.

use std::cell::Cell;

use super::Tokens;
use super::process::{is_stale, listing};
use super::slot::Slot;
use crate::error::{Error, Result};

thread_local! {
    /// How many calls of the module this thread is in.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// While it lives, this thread is in the module.
pub struct Inside(());

impl Inside {
    /// Goes in.
    pub fn new() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Inside(())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

impl Tokens {
    /// Whether this thread is in the module: it is the module that asks. One that uses libcrypto itself, as SoftHSM2 does, takes
    /// its random bytes from there, and would ask itself for them.
    pub fn are_in_use_here(&self) -> bool {
        DEPTH.get() > 0
    }

    /// Checks that it is not the module that asks for `what`, which it cannot have from itself.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] if it is.
    pub fn are_not_in_use_here(&self, what: &str) -> Result<()> {
        match self.are_in_use_here() {
            true => Err(Error::Unsupported(format!(
                "{what} for the PKCS#11 module itself: do not make provider=strongroom a default property"
            ))),
            false => Ok(()),
        }
    }

    /// Fills `buffer` with random bytes of the first token that has a generator, or of the one in the slot that
    /// `pkcs11-module-default-slot-id` says.
    ///
    /// # Errors
    ///
    /// [`Error::NoToken`] if there is none now, else the module's own error.
    pub fn random(&self, buffer: &mut [u8]) -> Result<()> {
        self.recovering(|operation| {
            let slots = operation.slots(false)?;
            let wanted = |slot: &&Slot| self.settings.default_slot.is_none_or(|id| slot.id == id);
            let slot =
                slots.iter().copied().find(|slot| slot.has_random && wanted(slot)).ok_or_else(|| {
                    Error::NoToken {
                        uri: "random bytes".into(),
                        found: format!("{} without a generator", listing(&slots)),
                        away: slots.is_empty(),
                    }
                })?;
            let session = slot.session(operation.module)?;
            operation.module.generate_random(session.handle, buffer).map_err(|rv| {
                if is_stale(rv) {
                    slot.forget_with(operation.module, session);
                }
                Error::token("C_GenerateRandom", slot.name(), rv)
            })
        })
    }
}
