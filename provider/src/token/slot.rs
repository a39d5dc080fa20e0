//! One token in one process: its slot, log-in and object handles.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, RwLock};

use cryptoki_sys::*;

use super::attribute::Template;
use super::login::{LogIns, Login};
use super::module::Module;
use super::public::public_key;
use super::session::{Session, Sessions};
use super::shared::Manner;
use super::{Fingerprint, PrivateKey, TokenIdentity};
use crate::error::{Error, Result};
use crate::openssl::Context;
use crate::settings;
use strongroom_uri::Uri;

/// The most keys of one id and label among which the right one is looked for.
const MAX_CANDIDATES: usize = 64;

/// A token that is there, with what this process has with it.
pub struct Slot {
    pub(super) id: CK_SLOT_ID,
    /// The process whose it is.
    pub generation: u64,
    /// The token was there when the module was asked last.
    present: AtomicBool,
    /// Which token it is.
    pub token: TokenIdentity,
    manufacturer: String,
    model: String,
    slot_description: String,
    slot_manufacturer: String,
    /// The token shows private objects only after a log-in (CKF_LOGIN_REQUIRED).
    pub login_required: bool,
    /// Whether a log-in may show more where none is required.
    pub(super) may_log_in: bool,
    /// The token has a random generator (CKF_RNG).
    pub has_random: bool,
    /// What the token can do, once it was asked.
    mechanisms: OnceLock<Vec<CK_MECHANISM_TYPE>>,
    sessions: Sessions,
    /// What all processes know of log-ins.
    pub(super) log_ins: &'static LogIns,
    /// What this one does.
    pub(super) login: Mutex<Login>,
    /// Handles of private keys, each with the epoch of the sessions in which it is valid.
    handles: RwLock<HashMap<Fingerprint, (u64, CK_OBJECT_HANDLE)>>,
}

impl Slot {
    /// Asks the module about a slot; `None` if its token has gone or is not initialised.
    pub fn new(
        module: &Module,
        id: CK_SLOT_ID,
        manner: &Manner,
        log_ins: &'static LogIns,
        generation: u64,
    ) -> Option<Self> {
        let info = module.token_info(id).ok()?;
        if info.flags & CKF_TOKEN_INITIALIZED == 0 {
            return None;
        }
        let slot = module.slot_info(id).ok()?;
        Some(Slot {
            id,
            generation,
            present: AtomicBool::new(false),
            token: TokenIdentity { label: unpadded(&info.label), serial: unpadded(&info.serialNumber) },
            manufacturer: unpadded(&info.manufacturerID),
            model: unpadded(&info.model),
            slot_description: unpadded(&slot.slotDescription),
            slot_manufacturer: unpadded(&slot.manufacturerID),
            login_required: manner.log_in == settings::Login::Always || info.flags & CKF_LOGIN_REQUIRED != 0,
            may_log_in: manner.log_in != settings::Login::Never,
            mechanisms: OnceLock::new(),
            sessions: Sessions::new(manner.sessions),
            log_ins,
            has_random: info.flags & CKF_RNG != 0,
            login: Mutex::default(),
            handles: RwLock::default(),
        })
    }

    /// Whether both are the same token in the same slot, used in the same way.
    pub fn is_same(&self, other: &Self) -> bool {
        self.id == other.id && self.token == other.token && self.login_required == other.login_required
    }

    /// Whether the token was there when the module was asked last.
    pub fn is_present(&self) -> bool {
        self.present.load(Ordering::Relaxed)
    }

    /// Sets whether the token is there.
    pub fn set_present(&self, present: bool) {
        self.present.store(present, Ordering::Relaxed);
    }

    /// Whether the token is one that the URI allows.
    pub fn fits(&self, uri: &Uri) -> bool {
        let fits = |wanted: &Option<String>, is: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted.trim_end_matches(' ') == is)
        };
        fits(&uri.token, &self.token.label)
            && fits(&uri.serial, &self.token.serial)
            && fits(&uri.manufacturer, &self.manufacturer)
            && fits(&uri.model, &self.model)
            && fits(&uri.slot_description, &self.slot_description)
            && fits(&uri.slot_manufacturer, &self.slot_manufacturer)
            && uri.slot_id.is_none_or(|wanted| wanted == self.id)
    }

    /// Whether the token has a mechanism.
    ///
    /// # Errors
    ///
    /// That of C_GetMechanismList.
    pub fn has_mechanism(&self, module: &Module, mechanism: CK_MECHANISM_TYPE) -> Result<bool> {
        let mechanisms = match self.mechanisms.get() {
            Some(known) => known,
            None => {
                let list = module
                    .mechanisms(self.id)
                    .map_err(|rv| Error::token("C_GetMechanismList", self.name(), rv))?;
                self.mechanisms.get_or_init(|| list)
            }
        };
        Ok(mechanisms.contains(&mechanism))
    }

    /// Takes a session with the token.
    pub fn session<'a>(&'a self, module: &'a Module) -> Result<Session<'a>> {
        self.sessions.take(module, self.id).map_err(|rv| Error::token("C_OpenSession", self.name(), rv))
    }

    /// Runs `operation` in a session of its own that may change the token.
    pub fn in_writable_session<T>(
        &self,
        module: &Module,
        operation: impl FnOnce(CK_SESSION_HANDLE) -> Result<T>,
    ) -> Result<T> {
        let session = module
            .open_session(self.id, true)
            .map_err(|rv| Error::token("C_OpenSession", self.name(), rv))?;
        let done = operation(session);
        module.close_session(session);
        done
    }

    /// The handle of a key, looked up once for each life of the sessions. What is found must have the public half
    /// that the key was loaded with: a key that was replaced under the same name is another key.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the key is no longer there.
    pub fn handle(
        &self,
        module: &Module,
        session: &Session,
        key: &PrivateKey,
        context: &Context,
    ) -> Result<CK_OBJECT_HANDLE> {
        let known =
            self.handles.read().unwrap_or_else(PoisonError::into_inner).get(&key.fingerprint).copied();
        if let Some((epoch, handle)) = known
            && epoch == session.epoch
        {
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
            .find(session.handle, &template, MAX_CANDIDATES)
            .map_err(|rv| Error::token("C_FindObjects", key.name(), rv))?;
        let replaced = !found.is_empty();
        for handle in found {
            match public_key(module, session, handle, context, Some(key.kind)) {
                Ok((kind, public)) if kind == key.kind && public.equals(&key.public) => {
                    let mut handles = self.handles.write().unwrap_or_else(PoisonError::into_inner);
                    handles.insert(key.fingerprint, (session.epoch, handle));
                    return Ok(handle);
                }
                Err(error) if error.rv().is_some() => return Err(error),
                _ => {}
            }
        }
        let what = if replaced {
            "it was replaced by another key of this name since it was loaded; load it again (reload the server) with the new key's certificate"
        } else {
            "it was there when it was loaded, and is gone"
        };
        Err(Error::NotFound { uri: key.name(), found: what.into() })
    }

    /// Forgets a key's handle: the key object is gone.
    pub fn forget_handle(&self, fingerprint: &Fingerprint) {
        self.handles.write().unwrap_or_else(PoisonError::into_inner).remove(fingerprint);
    }

    /// Forgets the sessions of `epoch`, and with them handles and log-in, which are known by their epoch: they ended
    /// with the token's restart.
    pub fn forget(&self, module: &Module, epoch: u64) {
        self.sessions.forget(module, epoch);
    }

    /// As [`forget`](Self::forget), on what was seen in `session`, which goes too.
    pub fn forget_with(&self, module: &Module, session: Session) {
        let epoch = session.epoch;
        session.discard();
        self.forget(module, epoch);
    }

    /// Forgets sessions, handles and log-in after C_Finalize; the caller knows that none is in use.
    pub fn ended(&self) {
        self.sessions.ended();
    }

    /// The token for people.
    pub fn name(&self) -> String {
        format!("token \"{}\"", self.token.label)
    }
}

/// A blank-padded field as text.
pub fn unpadded(field: &[u8]) -> String {
    String::from_utf8_lossy(field).trim_end_matches([' ', '\0']).to_owned()
}
