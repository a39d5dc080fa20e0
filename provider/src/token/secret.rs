//! Secrets that are in a token only while one operation needs them: session objects that nobody else sees.

use cryptoki_sys::*;
use zeroize::Zeroizing;

use super::PrivateKey;
use super::attribute::Template;
use super::key_use::KeyUse;
use super::module::{Module, Rv};
use super::slot::Slot;
use crate::error::{Error, Result};

/// A template for a secret of `size` bytes that is derived, and read by the application that asked for it.
pub fn readable(size: usize) -> Template {
    readable_whole().and_number(CKA_VALUE_LEN, size as CK_ULONG)
}

/// As [`readable`], of the one size that the mechanism makes.
pub fn readable_whole() -> Template {
    session_object(CKK_GENERIC_SECRET).and_flag(CKA_SENSITIVE, false).and_flag(CKA_EXTRACTABLE, true)
}

fn session_object(kind: CK_KEY_TYPE) -> Template {
    Template::class(CKO_SECRET_KEY).and_number(CKA_KEY_TYPE, kind).and_flag(CKA_TOKEN, false)
}

impl Module {
    /// Reads the secret in a session object, and destroys that; empty if the token does not show it.
    pub fn take_secret(
        &self,
        session: CK_SESSION_HANDLE,
        object: CK_OBJECT_HANDLE,
    ) -> Rv<Zeroizing<Vec<u8>>> {
        let values = self.attributes(session, object, &[CKA_VALUE]);
        self.destroy_object(session, object);
        Ok(Zeroizing::new(values?.pop().flatten().unwrap_or_default()))
    }

    /// Runs `operation` with the bytes of a secret as a session object of type `kind`, for the `uses` that it is allowed (CKA_DERIVE, …).
    /// It is not private, so that tokens which want a log-in for private objects want none.
    ///
    /// # Errors
    ///
    /// [`Error::Token`] if the token does not take the secret, else what `operation` says.
    pub fn with_secret<T>(
        &self,
        session: CK_SESSION_HANDLE,
        slot: &Slot,
        kind: CK_KEY_TYPE,
        uses: &[CK_ATTRIBUTE_TYPE],
        secret: &[u8],
        operation: impl FnOnce(CK_OBJECT_HANDLE) -> Result<T>,
    ) -> Result<T> {
        let object = self.secret(session, slot, kind, uses, secret)?;
        let done = operation(object);
        self.destroy_object(session, object);
        done
    }

    /// Makes the session object for [`with_secret`](Self::with_secret), which goes with the session.
    ///
    /// # Errors
    ///
    /// [`Error::Token`] if the token does not take the secret.
    pub fn secret(
        &self,
        session: CK_SESSION_HANDLE,
        slot: &Slot,
        kind: CK_KEY_TYPE,
        uses: &[CK_ATTRIBUTE_TYPE],
        secret: &[u8],
    ) -> Result<CK_OBJECT_HANDLE> {
        let mut template = session_object(kind).and_flag(CKA_PRIVATE, false).and(CKA_VALUE, secret);
        for usage in uses {
            template = template.and_flag(*usage, true);
        }
        self.create_object(session, &template).map_err(|rv| Error::token("C_CreateObject", slot.name(), rv))
    }
}

impl KeyUse<'_> {
    /// Reads the secret in a session object into `out`, and destroys the object; returns the secret's size in bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Key`] if the token does not show it, or it is longer than `out`; [`Error::Token`].
    pub(super) fn read_secret(
        &self,
        key: &PrivateKey,
        object: CK_OBJECT_HANDLE,
        out: &mut [u8],
    ) -> Result<usize> {
        let value = self
            .module
            .take_secret(self.session, object)
            .map_err(|rv| self.failed("C_GetAttributeValue", rv))?;
        let target = out.get_mut(..value.len()).filter(|target| !target.is_empty()).ok_or_else(|| {
            Error::Key(format!("{}: the token does not show the secret that it derived", key.name()))
        })?;
        target.copy_from_slice(&value);
        Ok(target.len())
    }
}
