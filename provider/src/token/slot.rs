//! One token in one process: its slot, log-in and object handles.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use cryptoki_sys::*;

use super::attribute::Template;
use super::module::Module;
use super::session::{Session, Sessions};
use super::{PrivateKey, TokenIdentity};
use crate::error::{Error, Result, Rv};
use crate::pin::Secret;
use crate::uri::Uri;

/// A token that is there, with what this process has with it.
pub struct Slot {
    id: CK_SLOT_ID,
    /// Which token it is.
    pub token: TokenIdentity,
    manufacturer: String,
    model: String,
    slot_description: String,
    slot_manufacturer: String,
    /// The token shows private objects only after a log-in (CKF_LOGIN_REQUIRED).
    pub login_required: bool,
    sessions: Sessions,
    login: Mutex<Login>,
    /// Handles of private keys, by [`PrivateKey::number`].
    handles: RwLock<HashMap<u64, CK_OBJECT_HANDLE>>,
}

#[derive(Default)]
struct Login {
    done: bool,
    /// A PIN that the token refused, and how. It is not tried again in this process.
    refused: Option<(Secret, CK_RV)>,
}

impl Slot {
    /// Asks the module about a slot; `None` if its token has gone or is not initialised.
    pub fn new(module: &Module, id: CK_SLOT_ID, always_log_in: bool) -> Option<Self> {
        let info = module.token_info(id).ok()?;
        if info.flags & CKF_TOKEN_INITIALIZED == 0 {
            return None;
        }
        let slot = module.slot_info(id).ok()?;
        Some(Slot {
            id,
            token: TokenIdentity { label: unpadded(&info.label), serial: unpadded(&info.serialNumber) },
            manufacturer: unpadded(&info.manufacturerID),
            model: unpadded(&info.model),
            slot_description: unpadded(&slot.slotDescription),
            slot_manufacturer: unpadded(&slot.manufacturerID),
            login_required: always_log_in || info.flags & CKF_LOGIN_REQUIRED != 0,
            sessions: Sessions::default(),
            login: Mutex::default(),
            handles: RwLock::default(),
        })
    }

    /// The slot.
    pub fn id(&self) -> CK_SLOT_ID {
        self.id
    }

    /// Whether the token is one that the URI allows.
    pub fn fits(&self, uri: &Uri) -> bool {
        let fits = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        fits(&uri.token, &self.token.label)
            && fits(&uri.serial, &self.token.serial)
            && fits(&uri.manufacturer, &self.manufacturer)
            && fits(&uri.model, &self.model)
            && fits(&uri.slot_description, &self.slot_description)
            && fits(&uri.slot_manufacturer, &self.slot_manufacturer)
            && uri.slot_id.is_none_or(|wanted| wanted == self.id)
    }

    /// Takes a session with the token.
    pub fn session<'a>(&'a self, module: &'a Module) -> Result<Session<'a>> {
        self.sessions.take(module, self.id).map_err(|rv| Error::token("C_OpenSession", self.name(), rv))
    }

    /// Logs in, unless this process has done so.
    ///
    /// # Errors
    ///
    /// [`Error::PinRefused`] for a wrong PIN, and for the same PIN without asking the token again.
    pub fn login(&self, module: &Module, session: &Session, pin: &Secret) -> Result<()> {
        let mut login = self.lock_login();
        if login.done {
            return Ok(());
        }
        let refused = |rv| Error::PinRefused { token: self.token.label.clone(), why: Rv(rv).to_string() };
        if let Some((refused_pin, rv)) = &login.refused
            && refused_pin.bytes() == pin.bytes()
        {
            return Err(refused(*rv));
        }
        match module.login(session.handle, CKU_USER, pin.bytes()) {
            Ok(()) | Err(CKR_USER_ALREADY_LOGGED_IN) => {
                login.done = true;
                Ok(())
            }
            Err(
                rv @ (CKR_PIN_INCORRECT
                | CKR_PIN_INVALID
                | CKR_PIN_LEN_RANGE
                | CKR_PIN_EXPIRED
                | CKR_PIN_LOCKED
                | CKR_USER_PIN_NOT_INITIALIZED),
            ) => {
                login.refused = Some((pin.clone(), rv));
                Err(refused(rv))
            }
            Err(rv) => Err(Error::token("C_Login", self.name(), rv)),
        }
    }

    /// The handle of a key, looked up once in this process.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the key is no longer there, [`Error::Ambiguous`] if there are several now.
    pub fn handle(&self, module: &Module, session: &Session, key: &PrivateKey) -> Result<CK_OBJECT_HANDLE> {
        let known = self.handles.read().unwrap_or_else(PoisonError::into_inner).get(&key.number).copied();
        if let Some(handle) = known {
            return Ok(handle);
        }
        let mut template = Template::class(CKO_PRIVATE_KEY);
        if !key.id.is_empty() {
            template = template.and(CKA_ID, &key.id);
        }
        if !key.label.is_empty() {
            template = template.and(CKA_LABEL, &key.label);
        }
        let found = module
            .find(session.handle, &template, 2)
            .map_err(|rv| Error::token("C_FindObjects", key.name(), rv))?;
        match *found {
            [handle] => {
                self.handles.write().unwrap_or_else(PoisonError::into_inner).insert(key.number, handle);
                Ok(handle)
            }
            [] => Err(Error::NotFound {
                uri: key.name(),
                found: "it was there when it was loaded, and is gone".into(),
            }),
            _ => Err(Error::Ambiguous { uri: key.name(), count: found.len() }),
        }
    }

    /// Forgets a key's handle: the key object is gone.
    pub fn forget_handle(&self, number: u64) {
        self.handles.write().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }

    /// Forgets sessions, handles and log-in: they ended with the token's restart. `epoch` is that of the session on
    /// which this showed; another thread may have forgotten them already.
    pub fn forget(&self, module: &Module, epoch: u64) {
        if self.sessions.forget(module, epoch) {
            self.lock_login().done = false;
            self.handles.write().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// The token for people.
    pub fn name(&self) -> String {
        format!("token \"{}\"", self.token.label)
    }

    fn lock_login(&self) -> MutexGuard<'_, Login> {
        self.login.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A blank-padded field as text.
fn unpadded(field: &[u8]) -> String {
    String::from_utf8_lossy(field).trim_end_matches([' ', '\0']).to_owned()
}
