//! From a URI to the objects that it names.

use std::sync::Arc;

use cryptoki_sys::*;

use super::attribute::{Template, boolean};
use super::library;
use super::module::Module;
use super::process::{Operation, is_stale, listing};
use super::public::{hashes_in_token, public_key};
use super::remembered::Remembered;
use super::secret_key::StoredKey;
use super::session::Session;
use super::slot::Slot;
use super::{Fingerprint, KeyKind, PrivateKey, Tokens};
use crate::error::{Error, Result};
use crate::openssl::{Context, Digest, Hash, PublicKey};
use crate::pin::{self, Prompt, Secret};
use crate::settings::Login;
use crate::trace;
use strongroom_uri::{ObjectType, Uri};

/// The most objects that one URI lists.
const MAX_LISTED: usize = 10_000;

/// Which kinds of object a caller wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Private keys.
    pub private: bool,
    /// Public keys.
    pub public: bool,
    /// Certificates.
    pub certificates: bool,
    /// Secret keys.
    pub secrets: bool,
}

impl Wanted {
    /// Narrows by the URI's `type`.
    pub fn narrowed(self, uri: &Uri) -> Self {
        let only = |kind| uri.kind.is_none_or(|wanted| wanted == kind);
        Wanted {
            private: self.private && only(ObjectType::Private),
            public: self.public && only(ObjectType::Public),
            certificates: self.certificates && only(ObjectType::Certificate),
            secrets: self.secrets && only(ObjectType::SecretKey),
        }
    }
}

/// An object that was found.
pub enum Object {
    /// A private key.
    Private(PrivateKey),
    /// A public key.
    Public(KeyKind, PublicKey),
    /// A certificate, in DER.
    Certificate(Vec<u8>),
    /// A secret key.
    Secret(Arc<StoredKey>),
}

impl Tokens {
    /// Finds the objects that `uri` names: private keys, then public keys, certificates, and secret keys. Logs in where a token
    /// shows private and secret keys only then, with the PIN of the URI, of the settings, or from `prompt`.
    ///
    /// # Errors
    ///
    /// [`Error::NoToken`], [`Error::NotFound`], an error about the PIN, or [`Error::Ambiguous`] if the URI names an
    /// object by label or id and more than one private key fits.
    pub fn find(&self, context: &Context, uri: &Uri, wanted: Wanted, prompt: Prompt) -> Result<Vec<Object>> {
        trace::subject(|| uri);
        let wanted = wanted.narrowed(uri);
        self.recovering(|operation| {
            let fitting = self.fitting(operation, uri)?;
            let mut search = Search::new(self, operation.module, context, uri, prompt, fitting.len() == 1);
            let mut objects = Vec::new();
            for slot in &fitting {
                match search.token(slot, wanted, &mut objects) {
                    // One token among several that fails does not hide the others.
                    Err(error) if !search.alone => search.left_out = Some(error),
                    other => other?,
                }
            }
            let count = private_keys(&objects).count();
            if count > 1 && uri.names_an_object() {
                return Err(ambiguous(uri, &objects));
            }
            match search.left_out {
                // Saying "not found" of what was left out would mislead.
                Some(error) if (wanted.private && count == 0) || objects.is_empty() => Err(error),
                _ if objects.is_empty() => Err(Error::NotFound {
                    uri: uri.to_string(),
                    found: format!(
                        "{} no object that fits; list them with 'openssl storeutl' or pkcs11-tool -O",
                        holders(&fitting)
                    ),
                }),
                _ => Ok(objects),
            }
        })
    }
}

impl Tokens {
    /// Finds the one secret key that `uri` names.
    ///
    /// # Errors
    ///
    /// As [`find`](Self::find); [`Error::Ambiguous`] if there are several.
    pub fn find_secret(&self, context: &Context, uri: &Uri, prompt: Prompt) -> Result<Arc<StoredKey>> {
        let wanted = Wanted { private: false, public: false, certificates: false, secrets: true };
        let mut keys: Vec<_> =
            self.find(context, uri, wanted, prompt)?.into_iter().filter_map(Object::secret).collect();
        match (keys.pop(), keys.len()) {
            (Some(key), 0) => Ok(key),
            (Some(last), before) => {
                let names: Vec<_> = keys.iter().chain([&last]).take(SHOWN).map(|key| key.name()).collect();
                Err(Error::Ambiguous { uri: uri.to_string(), count: before + 1, keys: names.join(", ") })
            }
            (None, _) => {
                Err(Error::NotFound { uri: uri.to_string(), found: "it names no secret key".into() })
            }
        }
    }
}

impl Object {
    /// The secret key, if it is one.
    pub fn secret(self) -> Option<Arc<StoredKey>> {
        match self {
            Object::Secret(key) => Some(key),
            _ => None,
        }
    }
}

impl Tokens {
    /// The slots whose tokens fit the URI: one at least.
    ///
    /// # Errors
    ///
    /// [`Error::NoToken`] if there is none.
    pub(super) fn fitting(&self, operation: &Operation, uri: &Uri) -> Result<Vec<&'static Slot>> {
        library::check(operation.module, uri)?;
        let mut slots = operation.slots(false)?;
        if !slots.iter().any(|slot| slot.fits(uri)) {
            slots = operation.slots(true)?;
        }
        let fitting: Vec<_> = slots.iter().filter(|slot| slot.fits(uri)).copied().collect();
        if fitting.is_empty() {
            let away = slots.is_empty();
            return Err(Error::NoToken { uri: uri.to_string(), found: listing(&slots), away });
        }
        Ok(fitting)
    }
}

fn private_keys(objects: &[Object]) -> impl Iterator<Item = &PrivateKey> {
    objects.iter().filter_map(|object| match object {
        Object::Private(key) => Some(key),
        _ => None,
    })
}

/// How many keys an error names.
const SHOWN: usize = 8;

/// The error of a URI that names several private keys, with the names that tell them apart.
pub fn ambiguous(uri: &Uri, objects: &[Object]) -> Error {
    let mut names: Vec<_> = private_keys(objects).take(SHOWN).map(PrivateKey::name).collect();
    let count = private_keys(objects).count();
    if count > SHOWN {
        names.push("…".into());
    }
    Error::Ambiguous { uri: uri.to_string(), count, keys: names.join(", ") }
}

fn holders(slots: &[&Slot]) -> String {
    match slots {
        [slot] => format!("{} has", slot.name()),
        _ => format!("{} tokens have", slots.len()),
    }
}

/// A search for what a URI names.
pub(super) struct Search<'a> {
    tokens: &'a Tokens,
    module: &'a Module,
    context: &'a Context,
    uri: &'a Uri,
    prompt: &'a mut dyn FnMut() -> Option<Secret>,
    /// Only one token fits: the PIN is meant for it.
    alone: bool,
    /// Why something was left out: a log-in that was not made, a key that cannot be used. An error only if nothing
    /// else is found.
    pub(super) left_out: Option<Error>,
}

impl<'a> Search<'a> {
    /// A search in the tokens of `module`; `alone` if only one fits.
    pub(super) fn new(
        tokens: &'a Tokens,
        module: &'a Module,
        context: &'a Context,
        uri: &'a Uri,
        prompt: &'a mut dyn FnMut() -> Option<Secret>,
        alone: bool,
    ) -> Self {
        Search { tokens, module, context, uri, prompt, alone, left_out: None }
    }

    fn token(&mut self, slot: &Slot, wanted: Wanted, objects: &mut Vec<Object>) -> Result<()> {
        let session = slot.session(self.module)?;
        let before = objects.len();
        let found = self.objects(slot, &session, wanted, objects);
        if let Err(error) = &found {
            objects.truncate(before);
            if error.rv().is_some_and(is_stale) {
                slot.forget_with(self.module, session);
            }
        }
        found
    }

    fn objects(
        &mut self,
        slot: &Slot,
        session: &Session,
        wanted: Wanted,
        objects: &mut Vec<Object>,
    ) -> Result<()> {
        let log_in_first = wanted.private || wanted.secrets || self.tokens.settings.login == Login::Always;
        let mut pin = if log_in_first { self.log_in(slot, session)? } else { None };
        let before = objects.len();
        self.visible(slot, session, wanted, pin.clone(), objects)?;
        if objects.len() > before {
            return Ok(());
        }
        if !slot.login_required {
            return self.with_offered_pin(slot, session, wanted, objects);
        }
        if !wanted.public && !wanted.certificates {
            return Ok(());
        }
        // Not seen without a log-in: with one more may be.
        if !log_in_first && self.tokens.settings.login == Login::Auto {
            pin = self.log_in(slot, session)?;
            self.visible(slot, session, wanted, pin.clone(), objects)?;
        }
        Ok(())
    }

    /// The objects of a token that asks for no log-in, and may have more for who logs in: a partition that admits this process's
    /// user id to some keys. Nobody is asked for a PIN, and one that is refused hides nothing.
    fn with_offered_pin(
        &mut self,
        slot: &Slot,
        session: &Session,
        wanted: Wanted,
        objects: &mut Vec<Object>,
    ) -> Result<()> {
        if self.tokens.settings.login == Login::Never {
            return Ok(());
        }
        let Some(pin) = self.offered_pin(slot)? else { return Ok(()) };
        match slot.login(self.module, session, &pin) {
            Ok(()) => self.visible(slot, session, wanted, Some(slot.kept(pin)), objects),
            Err(error) => {
                self.left_out = Some(error);
                Ok(())
            }
        }
    }

    /// The objects that the token shows now.
    fn visible(
        &mut self,
        slot: &Slot,
        session: &Session,
        wanted: Wanted,
        pin: Option<Secret>,
        objects: &mut Vec<Object>,
    ) -> Result<()> {
        if wanted.private {
            for handle in self.handles(session, CKO_PRIVATE_KEY)? {
                match self.private_key(slot, session, handle, pin.clone(), None) {
                    Ok(key) => objects.push(Object::Private(key)),
                    Err(error) if error.rv().is_some() => return Err(error),
                    // A key of a type that is not ours does not hide the others.
                    Err(error) => self.left_out = Some(error),
                }
            }
        }
        if wanted.public {
            let mut handles = self.handles(session, CKO_PUBLIC_KEY)?;
            if handles.is_empty() && !wanted.private && self.uri.kind.is_none() {
                // A public key without an object of its own is that of the private key.
                handles = self.handles(session, CKO_PRIVATE_KEY)?;
            }
            for handle in handles {
                // A key of a type that is not ours is not listed.
                if let Ok((kind, key)) = public_key(self.module, session, handle, self.context, None) {
                    objects.push(Object::Public(kind, key));
                }
            }
        }
        if wanted.secrets {
            for handle in self.handles(session, CKO_SECRET_KEY)? {
                objects.push(Object::Secret(self.secret_key(slot, session, handle, pin.clone())?));
            }
        }
        if wanted.certificates {
            for handle in self.handles(session, CKO_CERTIFICATE)? {
                let value = self.attributes(session, handle, &[CKA_VALUE])?.pop().flatten();
                objects.extend(value.filter(|der| !der.is_empty()).map(Object::Certificate));
            }
        }
        Ok(())
    }

    /// The objects of a class that the URI names.
    pub(super) fn handles(&self, session: &Session, class: CK_OBJECT_CLASS) -> Result<Vec<CK_OBJECT_HANDLE>> {
        let mut template = Template::class(class);
        if let Some(label) = &self.uri.object {
            template = template.and(CKA_LABEL, label.as_bytes());
        }
        if let Some(id) = &self.uri.id {
            template = template.and(CKA_ID, id);
        }
        self.module
            .find(session.handle, &template, MAX_LISTED)
            .map_err(|rv| Error::token("C_FindObjects", self.uri.to_string(), rv))
    }

    fn attributes(
        &self,
        session: &Session,
        handle: CK_OBJECT_HANDLE,
        types: &[CK_ATTRIBUTE_TYPE],
    ) -> Result<Vec<Option<Vec<u8>>>> {
        self.module
            .attributes(session.handle, handle, types)
            .map_err(|rv| Error::token("C_GetAttributeValue", self.uri.to_string(), rv))
    }

    /// What is known of a secret key.
    pub(super) fn secret_key(
        &self,
        slot: &Slot,
        session: &Session,
        handle: CK_OBJECT_HANDLE,
        pin: Option<Secret>,
    ) -> Result<Arc<StoredKey>> {
        StoredKey::read(self.module, slot, session, handle, pin).map(Arc::new)
    }

    /// A private key with its public half and identity; `known` is its type, if it is known.
    pub(super) fn private_key(
        &self,
        slot: &Slot,
        session: &Session,
        handle: CK_OBJECT_HANDLE,
        pin: Option<Secret>,
        known: Option<KeyKind>,
    ) -> Result<PrivateKey> {
        let (kind, public) = public_key(self.module, session, handle, self.context, known)?;
        let values = self.attributes(session, handle, &[CKA_ID, CKA_LABEL, CKA_ALWAYS_AUTHENTICATE])?;
        let [id, label, always_authenticate] = values.as_slice() else {
            return Err(Error::Key(format!("{}: the token gave too few attributes", self.uri)));
        };
        let (id, label) = (id.clone().unwrap_or_default(), label.clone().unwrap_or_default());
        let allowed = match kind {
            KeyKind::RsaPss => self.attributes(session, handle, &[CKA_ALLOWED_MECHANISMS])?.pop().flatten(),
            _ => None,
        };
        Ok(PrivateKey {
            fingerprint: self.fingerprint(kind, &id, &label, &public)?,
            token: slot.token.clone(),
            id,
            label,
            kind,
            always_authenticate: boolean(always_authenticate.as_ref()).unwrap_or(false),
            hashes_in_token: hashes_in_token(allowed.as_deref().unwrap_or_default()),
            pin,
            public,
            remembered: Remembered::default(),
        })
    }

    fn fingerprint(&self, kind: KeyKind, id: &[u8], label: &[u8], public: &PublicKey) -> Result<Fingerprint> {
        let mut digest = Digest::new(self.context, Hash::Sha256)?;
        let public = public.to_der()?;
        for part in [kind.name().to_bytes(), id, label, &public] {
            digest.update(&part.len().to_le_bytes())?;
            digest.update(part)?;
        }
        let (bytes, _) = digest.finish()?;
        bytes.first_chunk().copied().ok_or(Error::Libcrypto("SHA-256"))
    }

    /// Logs in where the token wants it. Returns the PIN that other processes will need, if there is one.
    pub(super) fn log_in(&mut self, slot: &Slot, session: &Session) -> Result<Option<Secret>> {
        if !slot.login_required {
            return pin::from_uri(self.uri, &self.tokens.settings.sources, |_| false);
        }
        let Some(pin) = self.pin(slot)? else {
            let token = if self.alone {
                slot.token.label.clone()
            } else {
                "that the URI means: several fit, add token=".into()
            };
            self.left_out = Some(Error::PinMissing { token });
            return Ok(None);
        };
        slot.login(self.module, session, &pin)?;
        Ok(Some(slot.kept(pin)))
    }

    /// The PIN to log in with, of the first source that has one; the last is to ask.
    fn pin(&mut self, slot: &Slot) -> Result<Option<Secret>> {
        let offered = self.offered_pin(slot)?;
        Ok(if offered.is_none() && self.alone { (self.prompt)() } else { offered })
    }

    /// The PIN of the first source that has one without asking anybody.
    fn offered_pin(&self, slot: &Slot) -> Result<Option<Secret>> {
        let settings = &self.tokens.settings;
        let sources = &settings.sources;
        let known = slot.known_pin();
        if !self.alone {
            // A PIN that is meant for one token must not count as a wrong one on the others: only what is of this one.
            return match sources.credential_of(&slot.token.label)? {
                Some(pin) => Ok(Some(pin)),
                None => Ok(known),
            };
        }
        let is_refused = |pin: &Secret| slot.log_ins.is_refused(&slot.token, pin);
        if let Some(pin) = pin::from_uri(self.uri, sources, is_refused)? {
            return Ok(Some(pin));
        }
        // Those that may have been changed come before what was right once.
        let given = match settings.pin.pin(is_refused)? {
            Some(pin) => Some(pin),
            None => sources.credential_for(&slot.token.label)?,
        };
        Ok(match (given, known) {
            (Some(given), Some(known)) if is_refused(&given) => Some(known),
            (Some(given), _) => Some(given),
            (None, known) => known,
        })
    }
}
