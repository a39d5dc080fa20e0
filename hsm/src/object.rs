//! Objects of a partition, and the indexes that find them.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::{Arc, OnceLock};

use prost::Message;
use strongroom_protocol::v1::{ObjectClass, ObjectInfo};

use crate::access::{Access, Grantee, Named};
use crate::crypto::aws_lc::PrivateKey;
use crate::crypto::symmetric::SecretKey;
use crate::crypto::{CryptoError, KeyKind};
use crate::failure::Failure;
use crate::memory::SecretBytes;
use crate::records;
use crate::seal::Element;

/// An object's identity: 16 random bytes.
pub type ObjectId = [u8; 16];

/// What the indexes take for one object, about, in bytes: an estimate.
const FOUND_BY: usize = 400;

/// What a secret key takes once it was used, in bytes, rounded up: as measured.
const SECRET_KEY: usize = 512;

/// One object. A change makes a new one in its place.
#[derive(Debug)]
pub struct Object {
    /// Its identity.
    pub id: ObjectId,
    /// Its place in the order of creation.
    pub sequence: u64,
    /// What clients see.
    pub info: ObjectInfo,
    /// Whom it names, of private and secret keys.
    pub access: Access,
    /// Of private and public keys.
    pub kind: Option<KeyKind>,
    /// The sealed record, of private and secret keys: the key is opened when it is first used.
    pub sealed: Option<Vec<u8>>,
    /// The private or secret key, once opened.
    pub key: OnceLock<Key>,
    /// The record's part of the partition's set hash.
    pub element: Element,
}

impl Object {
    /// How messages and the log name it: `private key "web" (object 0123…)`.
    pub fn title(&self) -> String {
        title(&self.info)
    }

    /// How much memory it takes with all that finds it, in bytes; of a key: once it was used. As near as an estimate comes,
    /// and the same for as long as the object is.
    pub fn size(&self) -> usize {
        let sealed = self.sealed.as_ref().map_or(0, Vec::len);
        let opened = match self.kind {
            // A deleted key may come back: its place is kept. A session object has no record and its key.
            _ if sealed == 0 && self.key.get().is_none() => 0,
            Some(kind) => kind.opened_size(),
            None => SECRET_KEY,
        };
        let described = self.info.encoded_len() + size_of_val(self.access.grants());
        size_of::<Object>() + described + sealed + opened + FOUND_BY
    }

    /// Says in a failure's message that it is about this object.
    pub fn blame(&self, failure: Failure) -> Failure {
        Failure::new(failure.code, format!("{}: {}", self.title(), failure.message))
    }
}

/// A key that never leaves the partition, opened.
#[derive(Debug, Clone)]
pub enum Key {
    /// Of an object of class PRIVATE_KEY.
    Private(Arc<PrivateKey>),
    /// Of an object of class SECRET_KEY.
    Secret(Arc<SecretKey>),
}

impl Key {
    /// The key as it stands in its record, see [`crate::records`].
    ///
    /// # Errors
    ///
    /// [`CryptoError::Library`].
    pub fn to_bytes(&self) -> Result<SecretBytes, CryptoError> {
        match self {
            Key::Private(key) => key.to_pkcs8(),
            Key::Secret(key) => Ok(SecretBytes::from(key.value())),
        }
    }
}

/// Whether objects of this class hold a key that never leaves the partition.
pub fn holds_key(class: ObjectClass) -> bool {
    matches!(class, ObjectClass::PrivateKey | ObjectClass::SecretKey)
}

/// Whether objects of this class are keys, or halves of one.
pub fn is_key(class: ObjectClass) -> bool {
    holds_key(class) || class == ObjectClass::PublicKey
}

/// How messages and the log name an object.
pub fn title(info: &ObjectInfo) -> String {
    let class = match info.class() {
        ObjectClass::PrivateKey => "private key",
        ObjectClass::PublicKey => "public key",
        ObjectClass::SecretKey => "secret key",
        ObjectClass::Certificate => "certificate",
        _ => "object",
    };
    format!("{class} \"{}\" (object {})", info.label, records::hex(&info.object))
}

/// All objects of a partition: found by identity, label, id or class without looking at the others.
#[derive(Debug, Default)]
pub struct Objects {
    by_sequence: BTreeMap<u64, Arc<Object>>,
    by_identity: HashMap<ObjectId, u64>,
    by_label: HashMap<String, BTreeSet<u64>>,
    by_id: HashMap<Vec<u8>, BTreeSet<u64>>,
    by_scope: HashMap<Scope, BTreeSet<u64>>,
    by_grantee: HashMap<Grantee, BTreeSet<u64>>,
    /// Those that wait for a moment of the partition's time, the earliest first: moment and sequence number.
    by_due: BTreeSet<(u64, u64)>,
    /// Of all objects together.
    bytes: usize,
}

/// What [`Objects::find`] looks for. `None`: any.
#[derive(Debug, Default, Clone, Copy)]
pub struct Search<'a> {
    /// CKA_LABEL.
    pub label: Option<&'a str>,
    /// CKA_ID.
    pub id: Option<&'a [u8]>,
    /// CKA_CLASS.
    pub class: Option<i32>,
    /// Leaves private objects out.
    pub public: bool,
    /// Only objects made after the one with this sequence number.
    pub after: Option<u64>,
}

impl Objects {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_sequence.len()
    }

    /// How many of them are private and secret keys.
    pub fn keys(&self) -> usize {
        let of =
            |class: ObjectClass| self.by_scope.get(&(Some(class.into()), false)).map_or(0, BTreeSet::len);
        of(ObjectClass::PrivateKey) + of(ObjectClass::SecretKey)
    }

    /// What all of them take together, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_sequence.is_empty()
    }

    /// The object with this identity.
    pub fn get(&self, identity: &[u8]) -> Option<&Arc<Object>> {
        let identity: &ObjectId = identity.try_into().ok()?;
        self.by_sequence.get(self.by_identity.get(identity)?)
    }

    /// Adds an object, in place of the one with the same identity.
    pub fn put(&mut self, object: Arc<Object>) {
        self.remove(&object.id);
        let sequence = object.sequence;
        self.by_identity.insert(object.id, sequence);
        self.by_label.entry(object.info.label.clone()).or_default().insert(sequence);
        self.by_id.entry(object.info.id.clone()).or_default().insert(sequence);
        for scope in scopes(&object.info) {
            self.by_scope.entry(scope).or_default().insert(sequence);
        }
        for grant in object.access.grants() {
            self.by_grantee.entry(grant.grantee).or_default().insert(sequence);
        }
        self.by_due.extend(due(&object.info).map(|due| (due, sequence)));
        self.bytes += object.size();
        self.by_sequence.insert(sequence, object);
    }

    /// Takes an object out.
    pub fn remove(&mut self, identity: &ObjectId) -> Option<Arc<Object>> {
        let sequence = self.by_identity.remove(identity)?;
        let object = self.by_sequence.remove(&sequence)?;
        let info = &object.info;
        take_out(&mut self.by_label, &info.label, sequence);
        take_out(&mut self.by_id, &info.id, sequence);
        for scope in scopes(info) {
            take_out(&mut self.by_scope, &scope, sequence);
        }
        for grant in object.access.grants() {
            take_out(&mut self.by_grantee, &grant.grantee, sequence);
        }
        if let Some(due) = due(info) {
            self.by_due.remove(&(due, sequence));
        }
        self.bytes -= object.size();
        Some(object)
    }

    /// Whether some key names this connection.
    pub fn names(&self, named: &Named) -> bool {
        named.grantees().any(|grantee| self.by_grantee.contains_key(&grantee))
    }

    /// Whether this is a key that names the connection, or a public object of one: with the same CKA_ID.
    pub fn shows(&self, named: &Named, object: &Object) -> bool {
        if object.info.private || object.info.id.is_empty() {
            return object.access.names(named);
        }
        let same_id = self.by_id.get(&object.info.id).into_iter().flatten();
        same_id.filter_map(|s| self.by_sequence.get(s)).any(|other| other.access.names(named))
    }

    /// All that [`Objects::shows`] holds for, in the order of creation.
    pub fn shown(&self, named: &Named) -> impl Iterator<Item = &Arc<Object>> {
        let keys = named.grantees().filter_map(|grantee| self.by_grantee.get(&grantee)).flatten();
        let keys: Vec<_> = keys.filter_map(|key| self.by_sequence.get(key)).collect();
        // Each id once: many keys may have the same.
        let ids: BTreeSet<&Vec<u8>> =
            keys.iter().map(|key| &key.info.id).filter(|id| !id.is_empty()).collect();
        let same_ids = ids.into_iter().filter_map(|id| self.by_id.get(id)).flatten().copied();
        let all: BTreeSet<u64> = same_ids.chain(keys.iter().map(|key| key.sequence)).collect();
        let objects = all.into_iter().filter_map(|sequence| self.by_sequence.get(&sequence));
        let named = *named;
        // A public object is here because a key of its id names the connection.
        objects.filter(move |object| {
            !object.info.private && !object.info.id.is_empty() || object.access.names(&named)
        })
    }

    /// Whether some key gives this role.
    pub fn give(&self, role: &str) -> bool {
        let keys = self.by_grantee.values().flatten().filter_map(|key| self.by_sequence.get(key));
        keys.flat_map(|key| key.access.grants()).any(|grant| grant.role.name == role)
    }

    /// All of this label, and all that share a CKA_ID with one of them: each once.
    pub fn related(&self, label: &str) -> BTreeSet<ObjectId> {
        let of_label = || self.find(Search { label: Some(label), ..Search::default() });
        let ids: BTreeSet<&[u8]> =
            of_label().map(|object| &*object.info.id).filter(|id| !id.is_empty()).collect();
        let same_ids = ids.into_iter().flat_map(|id| self.find(Search { id: Some(id), ..Search::default() }));
        of_label().chain(same_ids).map(|object| object.id).collect()
    }

    /// Those whose moment ([`due`]) is not after `until`, the earliest first.
    pub fn due(&self, until: u64) -> impl Iterator<Item = &Arc<Object>> {
        self.by_due.range(..=(until, u64::MAX)).filter_map(|(_, sequence)| self.by_sequence.get(sequence))
    }

    /// Objects that fit, in the order of creation.
    pub fn find<'a>(&'a self, search: Search<'a>) -> Box<dyn Iterator<Item = &'a Arc<Object>> + 'a> {
        let from = search.after.map_or(0, |after| after.saturating_add(1));
        let fits = move |object: &&Arc<Object>| {
            let info = &object.info;
            search.label.is_none_or(|label| label == info.label)
                && search.id.is_none_or(|id| id == info.id)
                && search.class.is_none_or(|class| class == info.class)
                && !(search.public && info.private)
        };
        match self.fewest(search) {
            Some(None) => Box::new(std::iter::empty()),
            Some(Some(fewest)) => {
                Box::new(fewest.range(from..).filter_map(|s| self.by_sequence.get(s)).filter(fits))
            }
            None => Box::new(self.by_sequence.range(from..).map(|(_, object)| object)),
        }
    }

    /// Among which objects a search looks: those of the shortest index that it names. `None`: all; `Some(None)`: there are none.
    fn fewest(&self, search: Search<'_>) -> Option<Option<&BTreeSet<u64>>> {
        let scope = (search.class, search.public);
        let indexes = [
            search.label.map(|label| self.by_label.get(label)),
            search.id.map(|id| self.by_id.get(id)),
            (scope != (None, false)).then(|| self.by_scope.get(&scope)),
        ];
        indexes.into_iter().flatten().min_by_key(|index| index.map_or(0, BTreeSet::len))
    }
}

/// What an object waits for, in seconds of the partition's age: a key that was deleted softly for its end, another for its
/// next version. `None`: for nothing.
fn due(info: &ObjectInfo) -> Option<u64> {
    let due = if info.deleted_at == 0 { info.rotation_due } else { info.purge_due };
    (due != 0 || info.deleted_at != 0).then_some(due)
}

/// A class or all of them, and whether only public objects count.
type Scope = (Option<i32>, bool);

/// The scopes that an object is in; that of all objects needs no index.
fn scopes(info: &ObjectInfo) -> impl Iterator<Item = Scope> + use<> {
    let public = (!info.private).then_some([(None, true), (Some(info.class), true)]);
    public.into_iter().flatten().chain([(Some(info.class), false)])
}

/// Takes a sequence number out of an index, and leaves no empty set behind.
fn take_out<Q, K>(index: &mut HashMap<K, BTreeSet<u64>>, of: &Q, sequence: u64)
where
    K: Borrow<Q> + Eq + Hash,
    Q: Eq + Hash + ?Sized,
{
    if let Some(same) = index.get_mut(of) {
        same.remove(&sequence);
        if same.is_empty() {
            index.remove(of);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::aws_lc;
    use crate::seal::SealingKey;

    #[test]
    fn a_key_shows_itself_and_its_public_half_to_those_it_names() {
        let mut objects = Objects::default();
        let role = Arc::clone(crate::access::built_in().next().unwrap());
        let access = Access::default().with(crate::access::Grant { grantee: Grantee::Uid(33), role });
        for (sequence, private, id, named) in [
            (1, true, &b"1"[..], true),
            (2, false, b"1", false),
            (3, true, b"1", false),
            (4, true, b"2", false),
            (5, false, b"2", false),
            (6, true, b"", true),
            (7, false, b"", false),
        ] {
            let mut one = Arc::into_inner(object(sequence, "a", id)).unwrap();
            one.info.private = private;
            one.access = if named { access.clone() } else { Access::default() };
            objects.put(Arc::new(one));
        }
        let shown = |uid| {
            let named = Named { uid: Some(uid), ..Named::default() };
            objects.shown(&named).map(|object| object.sequence).collect::<Vec<_>>()
        };
        assert_eq!(shown(33), [1, 2, 6]);
        assert_eq!(shown(34), [0u64; 0]);
        assert!(objects.give("tls-server") && !objects.give("decrypter"));
    }

    fn object(sequence: u64, label: &str, id: &[u8]) -> Arc<Object> {
        let set = SealingKey::new(SecretBytes::zeroed(32)).unwrap().set_key().unwrap();
        Arc::new(Object {
            id: aws_lc::random_array(),
            sequence,
            info: ObjectInfo { label: label.into(), id: id.to_vec(), ..ObjectInfo::default() },
            access: Access::default(),
            kind: None,
            sealed: None,
            key: OnceLock::new(),
            element: set.element("", b""),
        })
    }

    fn found(objects: &Objects, search: Search<'_>) -> Vec<u64> {
        objects.find(search).map(|object| object.sequence).collect()
    }

    #[test]
    fn finds_by_label_and_id_in_the_order_of_creation() {
        let mut objects = Objects::default();
        let all = [object(3, "a", b"1"), object(1, "a", b"2"), object(2, "b", b"1"), object(4, "a", b"1")];
        for one in &all {
            objects.put(Arc::clone(one));
        }
        let any = Search::default();
        assert_eq!(found(&objects, any), [1, 2, 3, 4]);
        assert_eq!(found(&objects, Search { label: Some("a"), ..any }), [1, 3, 4]);
        assert_eq!(found(&objects, Search { id: Some(b"1"), ..any }), [2, 3, 4]);
        assert_eq!(found(&objects, Search { label: Some("a"), id: Some(b"1"), ..any }), [3, 4]);
        assert_eq!(found(&objects, Search { label: Some("a"), after: Some(1), ..any }), [3, 4]);
        assert_eq!(found(&objects, Search { label: Some("c"), ..any }), [0u64; 0]);
        assert_eq!(found(&objects, Search { after: Some(4), ..any }), [0u64; 0]);
        assert!(objects.get(&all[0].id).is_some() && objects.get(b"short").is_none());
    }

    /// How many objects a search looks at, found or not.
    fn looked_at(objects: &Objects, search: Search<'_>) -> usize {
        match objects.fewest(search) {
            Some(index) => index.map_or(0, BTreeSet::len),
            None => objects.len(),
        }
    }

    /// docs/capacity.md: the time does not depend on how many keys there are.
    #[test]
    fn a_search_by_label_or_id_looks_at_nothing_else() {
        let mut objects = Objects::default();
        let any = Search::default();
        for number in 0..20_000u64 {
            let mut one =
                Arc::into_inner(object(number, &format!("key {}", number / 2), &number.to_be_bytes()))
                    .unwrap();
            one.info.class = 1 + number as i32 % 2;
            objects.put(Arc::new(one));
        }
        assert_eq!(looked_at(&objects, any), 20_000);
        for class in [None, Some(1)] {
            let label = Some("key 7777");
            assert_eq!(looked_at(&objects, Search { label, class, ..any }), 2);
            assert_eq!(looked_at(&objects, Search { label: Some("none"), class, ..any }), 0);
            let id = 15_555u64.to_be_bytes();
            assert_eq!(looked_at(&objects, Search { id: Some(&id), class, ..any }), 1);
        }
        // A page begins where the one before ended, and the first is not longer to come by than the last.
        let page = Search { class: Some(1), after: Some(19_000), ..any };
        assert_eq!(found(&objects, page).len(), 499);
    }

    #[test]
    fn what_is_due_is_found_without_looking_at_the_others() {
        let mut objects = Objects::default();
        for (sequence, rotation_due, deleted_at, purge_due) in
            [(1, 0, 0, 0), (2, 50, 0, 0), (3, 40, 0, 0), (4, 0, 7, 45), (5, 1, 7, 60), (6, 0, 7, 0)]
        {
            let mut one = Arc::into_inner(object(sequence, "a", b"1")).unwrap();
            one.info = ObjectInfo { rotation_due, deleted_at, purge_due, ..one.info };
            objects.put(Arc::new(one));
        }
        let due = |objects: &Objects, until| objects.due(until).map(|o| o.sequence).collect::<Vec<_>>();
        assert_eq!(due(&objects, 39), [6]);
        assert_eq!(due(&objects, 50), [6, 3, 4, 2]);
        assert_eq!(due(&objects, u64::MAX), [6, 3, 4, 2, 5]);
        // A key that is put off is due later only, and one that is gone never.
        let second = Arc::clone(&objects.by_sequence[&2]);
        let put_off = ObjectInfo { rotation_due: 90, ..second.info.clone() };
        let mut later = Arc::into_inner(object(2, "a", b"1")).unwrap();
        (later.id, later.info) = (second.id, put_off);
        objects.put(Arc::new(later));
        let third = objects.by_sequence[&3].id;
        objects.remove(&third);
        assert_eq!(due(&objects, u64::MAX), [6, 4, 5, 2]);
    }

    #[test]
    fn what_belongs_together_is_named_once() {
        let mut objects = Objects::default();
        let same: Vec<_> = (0..5_000).map(|sequence| object(sequence, "a", b"1")).collect();
        let others = [object(5_000, "b", b"1"), object(5_001, "a", b""), object(5_002, "b", b"")];
        for one in same.iter().chain(&others) {
            objects.put(Arc::clone(one));
        }
        let related = objects.related("a");
        assert_eq!(related.len(), 5_002);
        assert!(!related.contains(&others[2].id) && objects.related("c").is_empty());
    }

    /// Ten thousand keys of one id are as many steps, and not their square.
    #[test]
    fn many_keys_of_one_id_are_shown_once() {
        let mut objects = Objects::default();
        let role = Arc::clone(crate::access::built_in().next().unwrap());
        let access = Access::default().with(crate::access::Grant { grantee: Grantee::Uid(33), role });
        for sequence in 0..10_000 {
            let mut one = Arc::into_inner(object(sequence, "a", b"1")).unwrap();
            (one.info.private, one.access) = (sequence % 2 == 0, access.clone());
            objects.put(Arc::new(one));
        }
        let named = Named { uid: Some(33), ..Named::default() };
        assert_eq!(objects.shown(&named).count(), 10_000);
    }

    #[test]
    fn finds_by_class_and_for_everybody() {
        let mut objects = Objects::default();
        for (sequence, class, private) in [(1, 1, true), (2, 2, false), (3, 3, false), (4, 2, true)] {
            let mut one = Arc::into_inner(object(sequence, "a", b"1")).unwrap();
            (one.info.class, one.info.private) = (class, private);
            objects.put(Arc::new(one));
        }
        let (any, public) = (Search::default(), Search { public: true, ..Search::default() });
        assert_eq!(found(&objects, public), [2, 3]);
        assert_eq!(found(&objects, Search { class: Some(2), ..any }), [2, 4]);
        assert_eq!(found(&objects, Search { class: Some(2), ..public }), [2]);
        assert_eq!(found(&objects, Search { class: Some(1), ..public }), [0u64; 0]);
        assert_eq!(found(&objects, Search { label: Some("a"), ..public }), [2, 3]);
        assert_eq!(found(&objects, Search { label: Some("a"), class: Some(2), after: Some(2), ..any }), [4]);
        // What nobody else may see is not looked at for them.
        assert!(!objects.by_scope.contains_key(&(Some(1), true)));
    }

    #[test]
    fn a_changed_object_is_no_longer_found_by_its_old_label() {
        let mut objects = Objects::default();
        let one = object(1, "old", b"1");
        objects.put(Arc::clone(&one));
        let renamed = Object {
            id: one.id,
            sequence: 1,
            info: ObjectInfo { label: "new".into(), ..one.info.clone() },
            access: Access::default(),
            kind: None,
            sealed: None,
            key: OnceLock::new(),
            element: one.element,
        };
        objects.put(Arc::new(renamed));
        assert_eq!(objects.len(), 1);
        assert_eq!(found(&objects, Search { label: Some("old"), ..Search::default() }), [0u64; 0]);
        assert_eq!(found(&objects, Search { label: Some("new"), ..Search::default() }), [1]);
        assert!(objects.remove(&one.id).is_some());
        assert!(objects.is_empty() && objects.by_label.is_empty() && objects.by_id.is_empty());
        assert!(objects.by_scope.is_empty() && objects.by_grantee.is_empty() && objects.by_due.is_empty());
        assert_eq!(objects.bytes(), 0);
    }
}
