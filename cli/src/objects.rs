//! Objects in the partition as an administrator thinks of them: a key is its private and its public half, or a secret
//! key.

use sha2::{Digest, Sha256};
use strongroom_protocol::v1::{
    DestroyObject, FindObjects, KeyType, ObjectClass, ObjectInfo, Role, VersionState, request::Op,
};

use crate::failure::{Exit, Failure};
use crate::session::{Session, answer};

/// More objects than this are not listed.
const MAX_OBJECTS: usize = 100_000;

/// How a command line names an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// CKA_LABEL: a plain name, or `label:NAME` if the name itself begins like one of the others.
    Label(String),
    /// CKA_ID: `id:HEX`.
    Id(Vec<u8>),
    /// The object's identity in the daemon, 16 bytes: `object:HEX`.
    Object(Vec<u8>),
}

impl Selector {
    /// Reads a selector.
    ///
    /// # Errors
    ///
    /// If what follows `id:` or `object:` is not hexadecimal.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(hex) = text.strip_prefix("id:") {
            Ok(Selector::Id(unhex(hex)?))
        } else if let Some(hex) = text.strip_prefix("object:") {
            Ok(Selector::Object(unhex(hex)?))
        } else {
            match text.strip_prefix("label:").unwrap_or(text) {
                "" => Err("the name is empty".to_owned()),
                label => Ok(Selector::Label(label.to_owned())),
            }
        }
    }

    fn find(&self, class: ObjectClass) -> FindObjects {
        let mut find = FindObjects { class: class as i32, ..FindObjects::default() };
        match self {
            Selector::Label(label) => (find.label, find.label_given) = (label.clone(), true),
            Selector::Id(id) => (find.id, find.id_given) = (id.clone(), true),
            Selector::Object(object) => find.object = object.clone(),
        }
        find
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Selector::Label(label) => write!(f, "{label:?}"),
            Selector::Id(id) => write!(f, "id:{}", hex(id)),
            Selector::Object(object) => write!(f, "object:{}", hex(object)),
        }
    }
}

/// Writes bytes in hexadecimal, lower case.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads bytes in hexadecimal; colons between them are allowed.
///
/// # Errors
///
/// If the text is not hexadecimal, empty, or longer than 255 bytes (CKA_ID's limit).
pub fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text.bytes().filter(|c| *c != b':').collect();
    let (pairs, rest) = digits.as_chunks::<2>();
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?)).collect();
    match bytes {
        Some(bytes) if rest.is_empty() && (1..=255).contains(&bytes.len()) => Ok(bytes),
        _ => Err("an id is 1 to 255 bytes in hexadecimal, as in 01ab or 01:ab".to_owned()),
    }
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// A key: the halves of it that are there and that the session may see. A secret key has no halves.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// The private half, or the secret key. Seen by crypto users only.
    pub private: Option<ObjectInfo>,
    /// A pair has one unless somebody deleted it.
    pub public: Option<ObjectInfo>,
}

impl Key {
    /// The half that stands for the key: the private one if it is seen.
    fn main(&self) -> Option<&ObjectInfo> {
        self.private.as_ref().or(self.public.as_ref())
    }

    /// Whether it is a secret key.
    pub fn is_secret(&self) -> bool {
        self.main().is_some_and(|object| object.class() == ObjectClass::SecretKey)
    }

    /// CKA_LABEL.
    pub fn label(&self) -> &str {
        self.main().map(|o| o.label.as_str()).unwrap_or_default()
    }

    /// CKA_ID.
    pub fn id(&self) -> &[u8] {
        self.main().map(|o| o.id.as_slice()).unwrap_or_default()
    }

    /// The key's type.
    pub fn key_type(&self) -> KeyType {
        self.main().map(ObjectInfo::key_type).unwrap_or_default()
    }

    /// The public key, DER SubjectPublicKeyInfo; empty of secret keys.
    pub fn public_key(&self) -> &[u8] {
        self.main().map(|o| o.public_key.as_slice()).unwrap_or_default()
    }

    /// Which version it is, of a key that was rotated.
    pub fn state(&self) -> VersionState {
        self.main().map(ObjectInfo::version_state).unwrap_or_default()
    }

    /// What the versions of a key share.
    pub fn family(&self) -> Option<&[u8]> {
        let main = self.main()?;
        Some(if main.family.is_empty() { &main.object } else { &main.family })
    }

    /// The objects that are there.
    pub fn halves(&self) -> impl Iterator<Item = &ObjectInfo> {
        self.private.iter().chain(&self.public)
    }

    /// SHA-256 of the SubjectPublicKeyInfo in hexadecimal.
    pub fn fingerprint(&self) -> String {
        fingerprint(self.public_key())
    }
}

/// SHA-256 of a DER SubjectPublicKeyInfo in hexadecimal: what
/// `openssl pkey -pubin -outform DER | sha256sum` prints.
pub fn fingerprint(public_key: &[u8]) -> String {
    hex(&Sha256::digest(public_key))
}

/// Puts halves together: same public key and same CKA_ID.
pub fn pair(objects: Vec<ObjectInfo>) -> Vec<Key> {
    let (privates, publics): (Vec<_>, Vec<_>) =
        objects.into_iter().partition(|o| o.class() != ObjectClass::PublicKey);
    let mut keys: Vec<_> =
        privates.into_iter().map(|private| Key { private: Some(private), public: None }).collect();
    for public in publics {
        let other = keys.iter_mut().find(|key| {
            key.public.is_none()
                && key
                    .private
                    .as_ref()
                    .is_some_and(|p| p.id == public.id && p.public_key == public.public_key)
        });
        match other {
            Some(key) => key.public = Some(public),
            None => keys.push(Key { private: None, public: Some(public) }),
        }
    }
    keys
}

impl Session {
    /// Finds all objects that fit `find`, page by page, in the order in which they were made.
    ///
    /// # Errors
    ///
    /// The daemon's refusal; more than 100,000 objects.
    pub fn find(&mut self, mut find: FindObjects) -> Result<Vec<ObjectInfo>, Failure> {
        let mut objects: Vec<ObjectInfo> = Vec::new();
        loop {
            let page = answer!(self.call(Role::CryptoUser, || Op::FindObjects(find.clone())), Objects)?;
            let more = page.more && !page.objects.is_empty();
            objects.extend(page.objects);
            match objects.last() {
                Some(last) if more => find.after.clone_from(&last.object),
                _ => return Ok(objects),
            }
            if objects.len() > MAX_OBJECTS {
                let message = format!("more than {MAX_OBJECTS} objects: name one");
                return Err(Failure::new(Exit::Failed, "limit", message));
            }
        }
    }

    /// Finds all keys that the session may see.
    ///
    /// # Errors
    ///
    /// As [`Session::find`].
    pub fn keys(&mut self) -> Result<Vec<Key>, Failure> {
        let mut objects = self.find(of_class(ObjectClass::PrivateKey))?;
        objects.extend(self.find(of_class(ObjectClass::PublicKey))?);
        objects.extend(self.find(of_class(ObjectClass::SecretKey))?);
        Ok(pair(objects))
    }

    /// Finds all certificates.
    ///
    /// # Errors
    ///
    /// As [`Session::find`].
    pub fn certificates(&mut self) -> Result<Vec<ObjectInfo>, Failure> {
        self.find(of_class(ObjectClass::Certificate))
    }

    /// Finds the certificates that `selector` names.
    ///
    /// # Errors
    ///
    /// As [`Session::find`].
    pub fn certificates_of(&mut self, selector: &Selector) -> Result<Vec<ObjectInfo>, Failure> {
        self.find(selector.find(ObjectClass::Certificate))
    }

    /// Finds the keys that `selector` names, each with its other half, whatever that one's label is.
    ///
    /// # Errors
    ///
    /// As [`Session::find`].
    pub fn keys_of(&mut self, selector: &Selector) -> Result<Vec<Key>, Failure> {
        let mut objects = self.find(selector.find(ObjectClass::PrivateKey))?;
        objects.extend(self.find(selector.find(ObjectClass::PublicKey))?);
        objects.extend(self.find(selector.find(ObjectClass::SecretKey))?);
        let mut keys = pair(objects);
        for key in &mut keys {
            let missing = match (&key.private, &key.public) {
                (Some(private), None) if private.class() == ObjectClass::PrivateKey => ObjectClass::PublicKey,
                (None, Some(_)) => ObjectClass::PrivateKey,
                _ => continue,
            };
            let find = FindObjects { id: key.id().to_vec(), id_given: true, ..of_class(missing) };
            let other = self.find(find)?.into_iter().find(|o| o.public_key == key.public_key());
            match missing {
                ObjectClass::PublicKey => key.public = other,
                _ => key.private = other,
            }
        }
        Ok(keys)
    }

    /// Finds all versions of a key, as a crypto user.
    ///
    /// # Errors
    ///
    /// As [`Session::find`].
    pub fn versions(&mut self, key: &Key) -> Result<Vec<Key>, Failure> {
        let mut objects = Vec::new();
        for class in [ObjectClass::PrivateKey, ObjectClass::PublicKey, ObjectClass::SecretKey] {
            let label = key.label().to_owned();
            objects.extend(self.find(FindObjects {
                label,
                label_given: true,
                all_versions: true,
                ..of_class(class)
            })?);
        }
        Ok(pair(objects).into_iter().filter(|version| version.family() == key.family()).collect())
    }

    /// Finds the one key that `selector` names. A crypto user's log-in is asked for only if nothing public
    /// fits.
    ///
    /// # Errors
    ///
    /// If no key fits or several do.
    pub fn key(&mut self, selector: &Selector) -> Result<Key, Failure> {
        let mut keys = self.keys_of(selector)?;
        if keys.is_empty() && !self.is_crypto_user() {
            self.require_crypto_user()
                .map_err(|e| e.with_remedy(&format!("no public key is named {selector}")))?;
            keys = self.keys_of(selector)?;
        }
        if keys.len() > 1 {
            let ids: Vec<_> = keys.iter().map(how_to_name).collect();
            let message =
                format!("{} keys are named {selector}; name one by {}", ids.len(), ids.join(" or "));
            return Err(Failure::new(Exit::Usage, "ambiguous", message));
        }
        match keys.pop() {
            Some(key) => Ok(key),
            None => Err(self.no_such_key(selector)),
        }
    }

    fn no_such_key(&mut self, selector: &Selector) -> Failure {
        let partition = self.partition().label.clone();
        let there = match self.keys().as_deref() {
            Ok([]) => "it has no keys; make one with 'strongroom key generate'".to_owned(),
            Ok([_]) => "it has 1 key; 'strongroom key list' names it".to_owned(),
            Ok(keys) => format!("it has {} keys; list them with 'strongroom key list'", keys.len()),
            Err(_) => "list its keys with 'strongroom key list'".to_owned(),
        };
        let message = format!("key {selector} not found in partition {partition:?}: {there}");
        Failure::new(Exit::NotFound, "no_such_object", message)
    }

    /// Destroys an object.
    ///
    /// # Errors
    ///
    /// The daemon's refusal.
    pub fn destroy(&mut self, object: &ObjectInfo) -> Result<(), Failure> {
        let op = || Op::DestroyObject(DestroyObject { object: object.object.clone() });
        answer!(self.call(Role::CryptoUser, op), Done).map(drop)
    }
}

fn of_class(class: ObjectClass) -> FindObjects {
    FindObjects { class: class as i32, ..FindObjects::default() }
}

/// How to name a key that shares its label: by its id, or if it has none by its identity.
fn how_to_name(key: &Key) -> String {
    match (key.id(), key.main()) {
        ([], Some(object)) => format!("object:{}", hex(&object.object)),
        (id, _) => format!("id:{}", hex(id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(class: ObjectClass, id: u8, public_key: u8) -> ObjectInfo {
        ObjectInfo {
            object: vec![class as u8, id, public_key],
            class: class as i32,
            id: vec![id],
            public_key: vec![public_key],
            ..ObjectInfo::default()
        }
    }

    #[test]
    fn halves_are_paired_by_id_and_public_key() {
        use ObjectClass::{PrivateKey, PublicKey, SecretKey};
        let keys = pair(vec![
            object(PublicKey, 1, 1),
            object(PrivateKey, 1, 1),
            object(PrivateKey, 2, 2),
            object(PublicKey, 2, 3),
            object(SecretKey, 3, 0),
        ]);
        assert_eq!(keys.len(), 4);
        assert!(keys[0].private.is_some() && keys[0].public.is_some());
        assert!(keys[1].private.is_some() && keys[1].public.is_none());
        assert!(keys[2].is_secret() && keys[2].public.is_none());
        assert!(keys[3].private.is_none() && keys[3].public.is_some());
    }

    #[test]
    fn selectors() {
        assert_eq!(Selector::parse("web"), Ok(Selector::Label("web".into())));
        assert_eq!(Selector::parse("id:01:aB"), Ok(Selector::Id(vec![1, 0xab])));
        assert_eq!(Selector::parse("label:id:01"), Ok(Selector::Label("id:01".into())));
        for wrong in ["id:", "id:0", "id:xy", "id:+1", "object:", "", "label:"] {
            assert!(Selector::parse(wrong).is_err(), "{wrong}");
        }
    }
}
