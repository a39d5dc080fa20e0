//! What the daemon and this process tell each other of session objects: see [`crate::session_objects`].

use cryptoki_sys::*;
use strongroom_protocol::client::{ClientError, Connection};
use strongroom_protocol::v1::{
    CreateObject, ErrorCode, ForgetSessionObjects, ImportKey, KeyTemplate, ObjectClass, ObjectInfo,
    ObjectList, RestoreSessionObjects, RevealKey, request::Op, response,
};
use zeroize::Zeroizing;

use crate::brief::Key;
use crate::call::{Access, Repeat};
use crate::error::Outcome;
use crate::object::{Object, ObjectId};
use crate::pool::Pooled;
use crate::session::{LOGOUT, Session};
use crate::state::Process;
use crate::token::Token;

/// Objects that are forgotten with one request.
const AT_ONCE: usize = 1024;

/// The keys that a request names.
pub fn named(op: &Op) -> impl Iterator<Item = &[u8]> {
    let [one, other]: [&[u8]; 2] = match op {
        Op::Sign(m) => [&m.key, &[]],
        Op::Verify(m) => [&m.key, &[]],
        Op::Encrypt(m) => [&m.key, &[]],
        Op::Decrypt(m) => [&m.key, &[]],
        Op::Mac(m) => [&m.key, &[]],
        Op::Recover(m) => [&m.key, &[]],
        Op::AuthenticateUse(m) => [&m.key, &[]],
        Op::Derive(m) => [&m.key, &[]],
        Op::DeriveKey(m) => [&m.key, m.hkdf.as_ref().map_or(&[], |hkdf| &hkdf.salt_key)],
        Op::Encapsulate(m) => [&m.key, &[]],
        Op::Decapsulate(m) => [&m.key, &[]],
        Op::WrapKey(m) => [&m.key, &m.wrapping_key],
        Op::UnwrapKey(m) => [&m.unwrapping_key, &[]],
        Op::RevealKey(m) => [&m.key, &[]],
        Op::CopyObject(m) => [&m.object, &[]],
        Op::SetAttributes(m) => [&m.object, &[]],
        _ => [&[], &[]],
    };
    [one, other].into_iter().filter(|identity| !identity.is_empty())
}

impl Process {
    /// Keeps an object that the daemon described as long as the session that it was made in.
    ///
    /// # Errors
    ///
    /// `CKR_SESSION_CLOSED` if the session or the log-in has ended meanwhile, `CKR_HOST_MEMORY`. The daemon forgets the object then.
    pub fn keep_for_session(
        &'static self,
        session: &Session,
        object: Object,
        sealed: Vec<u8>,
    ) -> Outcome<CK_OBJECT_HANDLE> {
        let (id, private) = (object.id, object.info.private);
        let kept = self.session_objects.keep(session.handle(), session.token.partition, object, sealed);
        let made = kept.and_then(|handle| self.unless_over(session, handle, private));
        if made.is_err() {
            self.forget_session_objects(&session.token, &[id]);
        }
        made
    }

    /// Keeps an object that no daemon knows as long as a session.
    ///
    /// # Errors
    ///
    /// `CKR_USER_NOT_LOGGED_IN` for a private one, `CKR_SESSION_CLOSED` as above, `CKR_HOST_MEMORY`.
    pub fn keep_local(&'static self, session: &Session, info: ObjectInfo) -> Outcome<CK_OBJECT_HANDLE> {
        let private = info.private;
        if private && !session.token.has_user() {
            return Err(CKR_USER_NOT_LOGGED_IN);
        }
        let made = self.session_objects.keep_local(session.handle(), session.token.partition, info)?;
        self.unless_over(session, made, private)
    }

    /// Whoever closed the session, or logged out, before the object was there to be destroyed has left it to us.
    fn unless_over(
        &self,
        session: &Session,
        made: CK_OBJECT_HANDLE,
        private: bool,
    ) -> Outcome<CK_OBJECT_HANDLE> {
        if self.sessions.get(session.handle()).is_ok() && (!private || session.token.has_user()) {
            return Ok(made);
        }
        self.session_objects.destroy(made);
        Err(CKR_SESSION_CLOSED)
    }

    /// What an operation needs to know of a session object's key. One that the daemon does not know is given to it.
    ///
    /// # Errors
    ///
    /// `CKR_OBJECT_HANDLE_INVALID`, and what [`Process::call`] says.
    pub fn session_key(&'static self, token: &Token, handle: CK_OBJECT_HANDLE) -> Outcome<Key> {
        if let Some(key) = self.session_objects.brief(token.partition, handle) {
            return Ok(key);
        }
        let object = self.session_objects.get(token.partition, handle)?;
        if !object.is_local() {
            return Ok(Key::of(&object));
        }
        if !matches!(object.info.class(), ObjectClass::SecretKey | ObjectClass::PublicKey) {
            return Ok(Key::of(&object));
        }
        let give = || match object.info.class() {
            ObjectClass::SecretKey => Op::ImportKey(ImportKey {
                key_type: object.info.key_type,
                // This copy is wiped by the client when it has been sent.
                value: object.info.value.clone(),
                key: Some(template_of(&object.info)),
            }),
            _ => Op::CreateObject(CreateObject { object: Some(object.info.clone()) }),
        };
        let reply = self.call(Access::of(token), Repeat::Safe, give)?;
        let response::Result::Objects(ObjectList { objects, sealed, .. }) = reply else {
            return Err(CKR_DEVICE_ERROR);
        };
        let known = objects.into_iter().next().and_then(Object::new).ok_or(CKR_DEVICE_ERROR)?;
        let id = known.id;
        let sealed = sealed.into_iter().next().ok_or(CKR_DEVICE_ERROR)?;
        if !self.session_objects.is_known(handle, known, sealed) {
            // Another thread was first, or it is gone.
            self.forget_session_objects(token, &[id]);
        }
        self.session_objects.get(token.partition, handle).map(|object| Key::of(&object))
    }

    /// The value of a secret key that can be read.
    ///
    /// # Errors
    ///
    /// `CKR_KEY_UNEXTRACTABLE` if it cannot be read, and what [`Process::call`] says.
    pub fn value_of(&'static self, token: &Token, object: &Object) -> Outcome<Zeroizing<Vec<u8>>> {
        if !object.is_readable() {
            return Err(CKR_KEY_UNEXTRACTABLE);
        }
        if object.is_local() {
            return Ok(Zeroizing::new(object.info.value.clone()));
        }
        let reveal = || Op::RevealKey(RevealKey { key: object.id.to_vec() });
        match self.call(Access::of(token), Repeat::Safe, reveal)? {
            response::Result::SharedSecret(reply) => Ok(Zeroizing::new(reply.secret)),
            _ => Err(CKR_DEVICE_ERROR),
        }
    }

    /// Has the daemon wipe session objects that are over, if a connection is at hand to say it on. One that is away has done so, and nobody
    /// waits long for one that hangs.
    pub fn forget_session_objects(&'static self, token: &Token, identities: &[ObjectId]) {
        if identities.is_empty() {
            return;
        }
        // Best effort: nobody can bring them back, and they do not stay for ever.
        let epoch = token.login.epoch();
        for mut lease in self.nodes.members().iter().filter_map(|member| member.pool.lease_idle(epoch)) {
            let is_told = lease.pooled().is_some_and(|pooled| {
                let is_set = pooled.connection.set_reply_deadline(LOGOUT).is_ok();
                is_set && forget_on(&mut pooled.connection, token.partition, identities)
            });
            if is_told {
                lease.keep(|idle| idle == token.login.epoch());
            }
        }
    }
}

/// Asks on a connection. If the daemon there has a session object no more, it is given back (`sealed`) and the daemon asked again.
///
/// # Errors
///
/// What the daemon says to the question, and what befalls the connection.
pub fn ask<T>(
    pooled: &mut Pooled,
    partition: u32,
    sealed: impl Fn() -> Vec<Vec<u8>>,
    mut question: impl FnMut(&mut Connection) -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let error = match question(&mut pooled.connection) {
        Err(error) if error.code() == Some(ErrorCode::NoSuchObject) => error,
        outcome => return outcome,
    };
    let sealed = sealed();
    if sealed.is_empty() {
        return Err(error);
    }
    let restore = Op::RestoreSessionObjects(RestoreSessionObjects { sealed });
    match pooled.connection.call(partition, restore) {
        Ok(_) => question(&mut pooled.connection),
        // It is another user's, or of another partition.
        Err(refused) if refused.code().is_some() => Err(error),
        Err(broken) => Err(broken),
    }
}

/// The same on one connection; whether the daemon answered.
pub fn forget_on(connection: &mut Connection, partition: u32, identities: &[ObjectId]) -> bool {
    identities.chunks(AT_ONCE).all(|some| connection.call(partition, forget(some)).is_ok())
}

fn forget(identities: &[ObjectId]) -> Op {
    let objects = identities.iter().map(|identity| identity.to_vec()).collect();
    Op::ForgetSessionObjects(ForgetSessionObjects { objects })
}

/// What the daemon is told of a key that it is to keep, from the description of one.
pub fn template_of(info: &ObjectInfo) -> KeyTemplate {
    KeyTemplate {
        label: info.label.clone(),
        id: info.id.clone(),
        policy: info.policy,
        not_modifiable: info.not_modifiable,
        not_destroyable: info.not_destroyable,
        not_copyable: info.not_copyable,
        session: info.session,
        private: info.private,
        attributes: info.attributes.clone(),
        allowed_mechanisms: info.allowed_mechanisms.clone(),
        templates: info.templates.clone(),
        ..KeyTemplate::default()
    }
}
