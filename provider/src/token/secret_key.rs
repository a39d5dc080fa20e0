//! Secret keys: an application's, which is in a token only while it is used, and a token's own, which stays there.

use std::sync::{Arc, OnceLock};

use cryptoki_sys::*;
use strongroom_uri::{ObjectType, Uri};
use zeroize::Zeroizing;

use super::attribute::{Template, boolean, ulong};
use super::in_parts::{InParts, Place};
use super::module::Module;
use super::process::Operation;
use super::remembered::{Found, Remembered};
use super::session::Session;
use super::slot::Slot;
use super::{TokenIdentity, Tokens};
use crate::error::{Error, Result};
use crate::pin::Secret;

/// The most keys of one id and label among which the right one is looked for.
const MAX_CANDIDATES: usize = 64;

/// A secret key that an operation is done with.
#[derive(Clone)]
pub enum SecretKey {
    /// The application's.
    Bytes(Zeroizing<Vec<u8>>),
    /// A token's own.
    InToken(Arc<StoredKey>),
}

/// A secret key in a token.
pub struct StoredKey {
    /// CKA_KEY_TYPE
    pub kind: CK_KEY_TYPE,
    token: TokenIdentity,
    id: Vec<u8>,
    label: Vec<u8>,
    /// CKA_VALUE_LEN, if the token tells.
    size: Option<usize>,
    /// CKA_CHECK_VALUE, if the token has it: a few bytes by which another key of the same name is told from this one.
    check_value: Option<Vec<u8>>,
    /// The token shows the key to those who ask.
    is_readable: bool,
    /// The PIN with which it was found, for the log-in of other processes.
    pin: Option<Secret>,
    remembered: Remembered,
    /// What was read of it, which libcrypto borrows for as long as the key lives.
    value: OnceLock<Zeroizing<Vec<u8>>>,
}

/// What a secret of the application's becomes in the token meanwhile.
pub(super) struct Purpose {
    /// CKA_KEY_TYPE
    pub kind: CK_KEY_TYPE,
    /// What it is used for: CKA_ENCRYPT, ….
    pub uses: &'static [CK_ATTRIBUTE_TYPE],
}

impl SecretKey {
    /// A key of the application's.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        SecretKey::Bytes(Zeroizing::new(bytes.to_vec()))
    }

    /// Its size in bytes, if the token tells.
    pub fn size(&self) -> Option<usize> {
        match self {
            SecretKey::Bytes(bytes) => Some(bytes.len()),
            SecretKey::InToken(key) => key.size,
        }
    }

    /// Checks that it has `size` bytes, as far as the token tells.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] if it has not.
    pub fn has_size(&self, size: usize) -> Result<()> {
        match self.size() {
            Some(other) if other != size => {
                Err(Error::Unsupported(format!("a key of {other} bytes where the cipher has {size}")))
            }
            _ => Ok(()),
        }
    }
}

impl StoredKey {
    /// Reads what is known of a key object.
    pub(super) fn read(
        module: &Module,
        slot: &Slot,
        session: &Session,
        object: CK_OBJECT_HANDLE,
        pin: Option<Secret>,
    ) -> Result<Self> {
        let types =
            [CKA_KEY_TYPE, CKA_ID, CKA_LABEL, CKA_VALUE_LEN, CKA_CHECK_VALUE, CKA_SENSITIVE, CKA_EXTRACTABLE];
        let values = module
            .attributes(session.handle, object, &types)
            .map_err(|rv| Error::token("C_GetAttributeValue", slot.name(), rv))?;
        let mut values = values.into_iter();
        let mut next = || values.next().flatten().filter(|value| !value.is_empty());
        let kind = ulong(next().as_ref())
            .ok_or_else(|| Error::Key(format!("{}: a secret key without a type", slot.name())))?;
        let (id, label) = (next().unwrap_or_default(), next().unwrap_or_default());
        let size = ulong(next().as_ref()).and_then(|size| usize::try_from(size).ok());
        let check_value = next();
        let (sensitive, extractable) = (boolean(next().as_ref()), boolean(next().as_ref()));
        Ok(StoredKey {
            kind,
            token: slot.token.clone(),
            id,
            label,
            size,
            check_value,
            is_readable: sensitive == Some(false) && extractable == Some(true),
            pin,
            remembered: Remembered::default(),
            value: OnceLock::new(),
        })
    }

    /// The key for people, and the URI by which it is found again.
    pub fn name(&self) -> String {
        // A label that is not UTF-8 cannot be in a URI: the id must do.
        let label = std::str::from_utf8(&self.label).unwrap_or_default();
        let uri = Uri::of_private_key(&self.token.label, label, &self.id);
        Uri { kind: Some(ObjectType::SecretKey), ..uri }.to_string()
    }

    /// The slot that has it now.
    pub(super) fn slot(&self, current: &Operation) -> Result<&'static Slot> {
        current.slot_of(&self.token, || self.name())
    }

    /// Logs in where the token wants it, and looks the key up, once for each life of the sessions.
    pub(super) fn prepare(
        &self,
        module: &Module,
        slot: &'static Slot,
        session: &Session,
    ) -> Result<CK_OBJECT_HANDLE> {
        let found = self.remembered.get();
        if let Some(found) =
            found.filter(|found| std::ptr::eq(found.slot, slot) && found.epoch == session.epoch)
        {
            return Ok(found.handle);
        }
        let handle = slot.logged_in(module, session, self.pin.as_ref(), || self.find(module, session))?;
        self.remembered.set(Found { slot, epoch: session.epoch, handle });
        Ok(handle)
    }

    fn find(&self, module: &Module, session: &Session) -> Result<CK_OBJECT_HANDLE> {
        let mut template = Template::class(CKO_SECRET_KEY).and_number(CKA_KEY_TYPE, self.kind);
        if !self.id.is_empty() {
            template = template.and(CKA_ID, &self.id);
        }
        if !self.label.is_empty() {
            template = template.and(CKA_LABEL, &self.label);
        }
        let found = module
            .find(session.handle, &template, MAX_CANDIDATES)
            .map_err(|rv| Error::token("C_FindObjects", self.name(), rv))?;
        let replaced = !found.is_empty();
        for handle in found {
            let values = module
                .attributes(session.handle, handle, &[CKA_CHECK_VALUE])
                .map_err(|rv| Error::token("C_GetAttributeValue", self.name(), rv))?;
            let check_value = values.into_iter().next().flatten().filter(|value| !value.is_empty());
            if check_value == self.check_value {
                return Ok(handle);
            }
        }
        let what = if replaced {
            "it was replaced by another key of this name since it was loaded; load it again"
        } else {
            "it was there when it was loaded, and is gone"
        };
        Err(Error::NotFound { uri: self.name(), found: what.into() })
    }

    /// Forgets its handle: the key object is gone.
    pub(super) fn forget(&self) {
        self.remembered.forget();
    }
}

impl Tokens {
    /// Does `operation` with a secret key: with the application's in the first token that has `mechanism`, where it is a session object
    /// meanwhile, and with a token's own there. `what` is the mechanism for people.
    ///
    /// # Errors
    ///
    /// As [`with_mechanism`](Self::with_mechanism), or those of the token's log-in; [`Error::NotFound`] if a token's key is gone.
    pub(super) fn with_secret_key<T>(
        &self,
        mechanism: CK_MECHANISM_TYPE,
        what: &str,
        key: &SecretKey,
        purpose: &Purpose,
        mut operation: impl FnMut(&Module, CK_SESSION_HANDLE, &Slot, CK_OBJECT_HANDLE) -> Result<T>,
    ) -> Result<T> {
        match key {
            SecretKey::Bytes(bytes) => self.with_mechanism(mechanism, what, |module, session, slot| {
                module.with_secret(session, slot, purpose.kind, purpose.uses, bytes, |object| {
                    operation(module, session, slot, object)
                })
            }),
            SecretKey::InToken(key) => self.in_session(Place::Of(key), operation, |done, _, _, _| done),
        }
    }

    /// As [`with_secret_key`](Self::with_secret_key); what `init` begins goes on in the session that is returned.
    pub(super) fn begin_with_secret_key(
        &self,
        mechanism: CK_MECHANISM_TYPE,
        what: &str,
        key: &SecretKey,
        purpose: &Purpose,
        mut init: impl FnMut(&Module, CK_SESSION_HANDLE, &Slot, CK_OBJECT_HANDLE) -> Result<()>,
    ) -> Result<InParts> {
        match key {
            SecretKey::Bytes(bytes) => self.begin_in_parts(mechanism, what, |module, session, slot| {
                // The object goes with the session: tokens need not remember a key that is destroyed.
                let object = module.secret(session, slot, purpose.kind, purpose.uses, bytes)?;
                init(module, session, slot, object)
            }),
            SecretKey::InToken(key) => self.in_session(Place::Of(key), init, InParts::of),
        }
    }

    /// The bytes of a token's own key, where the token shows them.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] if it does not, else as [`with_secret_key`](Self::with_secret_key).
    pub fn value_of<'a>(&self, key: &'a StoredKey) -> Result<&'a [u8]> {
        if !key.is_readable {
            return Err(Error::Unsupported(format!("{} does not leave its token", key.name())));
        }
        if let Some(value) = key.value.get() {
            return Ok(value);
        }
        let value = self.in_session(
            Place::Of(key),
            |module, session, slot, object| {
                let values = module
                    .attributes(session, object, &[CKA_VALUE])
                    .map_err(|rv| Error::token("C_GetAttributeValue", slot.name(), rv))?;
                let value = values.into_iter().next().flatten().map(Zeroizing::new);
                value.ok_or_else(|| Error::Key(format!("{}: the token does not show it", key.name())))
            },
            |value, _, _, _| value,
        )?;
        Ok(key.value.get_or_init(|| value))
    }
}
