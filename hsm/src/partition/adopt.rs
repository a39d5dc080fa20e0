//! What another node has changed in a partition, taken into this one's memory.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use super::load::{LoadError, Record, open_header, open_record};
use super::{Header, Partition};
use crate::access::Roles;
use crate::object::{Object, ObjectId};
use crate::users::User;

/// A record that goes, or comes.
enum Edit {
    Put(Record),
    DeleteUser(String),
    DeleteObject(ObjectId),
}

impl Partition {
    /// Takes in one change that another node has made: the records of this partition, by name; `None`: deleted. They are opened, and
    /// the set of them is compared with the header, before any is used.
    ///
    /// # Errors
    ///
    /// Which record is wrong, and how. Nothing was taken in then.
    pub fn adopt(&self, records: BTreeMap<String, Option<Vec<u8>>>) -> Result<(), LoadError> {
        let mut header = self.header.lock().unwrap_or_else(PoisonError::into_inner);
        let (name, keys) = (self.names.header(), self.keys());
        let (after, age) =
            open_header(&self.names, &keys.sealing, records.get(&name).and_then(Option::as_deref))?;
        let mut roles = Roles::default();
        roles.set(&after.settings.roles);
        let mut set_hash = header.set_hash;
        let mut edits = Vec::new();
        let others = records.into_iter().filter(|(other, _)| *other != name && *other != self.names.key());
        for (name, record) in others {
            if let Some(known) = self.known_record(&name)? {
                set_hash.toggle(known.element());
                if record.is_none() {
                    edits.push(known.deletion());
                }
            }
            if let Some(bytes) = record {
                let record = open_record(&self.names, &keys, &roles, &name, bytes)?;
                set_hash.toggle(record.element());
                edits.push(Edit::Put(record));
            }
        }
        if set_hash != after.set_hash {
            return Err(LoadError::Set(edits.len()));
        }
        let revision = header.revision.max(after.revision);
        *header = Header { revision, ..after };
        self.age.adopt(age.written());
        let mut contents = self.contents.write().unwrap_or_else(PoisonError::into_inner);
        contents.roles = roles;
        contents.settings = Arc::clone(&header.settings);
        contents.life = header.life;
        self.meter.limits.set(&header.settings);
        for edit in edits {
            match edit {
                Edit::Put(Record::User(user)) => contents.users.put(user),
                Edit::Put(Record::Object { object, stale, once }) => {
                    if let Some(once) = once {
                        contents.once.note(once, object.id);
                    }
                    contents.stale.remove(&object.id);
                    if stale {
                        contents.stale.insert(object.id);
                    }
                    drop(contents.objects.remove(&object.id));
                    drop(contents.deleted.remove(&object.id));
                    let to = if object.info.deleted_at == 0 {
                        &mut contents.objects
                    } else {
                        &mut contents.deleted
                    };
                    to.put(object);
                }
                Edit::DeleteUser(name) => {
                    if let Some(user) = contents.users.remove(&name) {
                        contents.session.remove_owner(user.identity);
                    }
                }
                Edit::DeleteObject(id) => {
                    drop(contents.objects.remove(&id));
                    drop(contents.deleted.remove(&id));
                }
            }
        }
        Ok(())
    }

    /// What memory has under a record's name.
    fn known_record(&self, name: &str) -> Result<Option<Known>, LoadError> {
        let contents = self.contents();
        if let Some(user) = name.strip_prefix(&self.names.user("")) {
            return Ok(contents.users.get(user).map(|user| Known::User(Arc::clone(user))));
        }
        let hexadecimal = name.strip_prefix(&self.names.object(&[]));
        let id = hexadecimal.and_then(object_id).ok_or_else(|| LoadError::Form(name.to_owned()))?;
        Ok(contents.known(&id).map(Known::Object))
    }
}

enum Known {
    User(Arc<User>),
    Object(Arc<Object>),
}

impl Known {
    fn element(&self) -> crate::seal::Element {
        match self {
            Known::User(user) => user.element,
            Known::Object(object) => object.element,
        }
    }

    fn deletion(&self) -> Edit {
        match self {
            Known::User(user) => Edit::DeleteUser(user.name.clone()),
            Known::Object(object) => Edit::DeleteObject(object.id),
        }
    }
}

fn object_id(hexadecimal: &str) -> Option<ObjectId> {
    let mut id = ObjectId::default();
    if hexadecimal.len() != 2 * id.len() {
        return None;
    }
    for (byte, at) in id.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(hexadecimal.get(at..at + 2)?, 16).ok()?;
    }
    Some(id)
}
