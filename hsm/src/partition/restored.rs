//! Objects that come back from the backup of a key.

use std::sync::Arc;

use prost::Message;
use strongroom_protocol::v1::{ErrorCode, ObjectInfo, VersionState};

use super::{Contents, Partition, not_parsed, parse};
use crate::access::{self, Access};
use crate::crypto::KeyKind;
use crate::failure::{Failure, refuse};
use crate::memory::SecretBytes;
use crate::object::{self, Key};
use crate::records::{self, GrantRecord, UserRecord};
use crate::request::rotate;
use crate::users::Users;

/// What the backup of a key has at most, in bytes: its versions, their public halves and certificates.
pub const MOST_OF_A_KEY: usize = 32 << 20;

/// What was read of the backup of a key.
#[derive(Default)]
pub struct Gathered {
    objects: Vec<SecretBytes>,
    /// Users whom the key names, by their identities.
    users: Vec<(u64, String)>,
    bytes: usize,
}

/// Into which partition a key comes back, and by whose hand.
pub struct Target {
    /// The partition.
    pub partition: Arc<Partition>,
    /// It is the one that the backup was made of.
    pub is_its_own: bool,
}

/// A record of a backup that was read.
struct Read {
    info: ObjectInfo,
    access: Vec<GrantRecord>,
    key: Option<Key>,
}

fn wrong(what: &str) -> Failure {
    Failure::new(ErrorCode::BackupWrong, what.to_owned())
}

impl Gathered {
    /// Takes a record in: its name behind the partition's prefix, and its content.
    ///
    /// # Errors
    ///
    /// LIMIT if there is more than any key has, BACKUP_WRONG.
    pub fn take(&mut self, suffix: &str, plain: SecretBytes) -> Result<(), Failure> {
        self.bytes += plain.len();
        if self.bytes > MOST_OF_A_KEY {
            return refuse!(Limit, "the backup of a key has more than {MOST_OF_A_KEY} bytes");
        }
        if suffix.starts_with("user/") {
            let user = UserRecord::decode(&*plain).map_err(|_| wrong("the backup has a user who is none"))?;
            self.users.push((user.identity, user.name));
        } else {
            self.objects.push(plain);
        }
        Ok(())
    }

    fn read(&self) -> Result<Vec<Read>, Failure> {
        let read = |plain: &SecretBytes| {
            let (record, bytes) = records::split_object(plain)
                .ok_or_else(|| wrong("the backup has an object of another form"))?;
            let info = record.info.ok_or_else(|| wrong("the backup has an object without description"))?;
            let key = match object::holds_key(info.class()) {
                true => Some(
                    parse(&info, bytes)
                        .map_err(|error| not_parsed(error, wrong("the backup has a key that is none")))?,
                ),
                false => None,
            };
            Ok(Read { info, access: record.access, key })
        };
        self.objects.iter().map(read).collect()
    }

    /// Whom an object named, as far as they are the same here; and who is left out, for people.
    fn access(&self, read: &Read, contents: &Contents, target: &Target, left: &mut Vec<String>) -> Access {
        let mut kept = Vec::new();
        for grant in &read.access {
            let user = grant.user.map(|identity| {
                let known = self.users.iter().find(|(other, _)| *other == identity);
                (identity, known.map_or("a user who is gone", |(_, name)| name.as_str()))
            });
            let is_here = match user {
                None => true,
                // Of another partition it is somebody else, whatever the name.
                Some((identity, name)) => {
                    let here = contents.users.get(name).is_some_and(|user| user.identity == identity);
                    target.is_its_own && here
                }
            };
            // As for users: a role of this name may permit something else here.
            let role = if target.is_its_own {
                contents.roles.get(&grant.role).is_some()
            } else {
                access::built_in().any(|role| role.name == grant.role)
            };
            if is_here && role {
                kept.push(grant.clone());
                continue;
            }
            let who = match (user, grant.uid) {
                (Some((_, name)), _) => format!("user \"{name}\""),
                (None, Some(uid)) => format!("user id {uid}"),
                (None, None) => "a certificate".to_owned(),
            };
            left.push(format!(
                "{} named {who} as \"{}\", which is not known in this partition: name whom it should with 'strongroom key \
                 grant'",
                object::title(&read.info),
                grant.role
            ));
        }
        Access::from_records(&kept, &contents.roles).unwrap_or_default()
    }
}

/// The description with which an object comes back; what is not as it was is said in `left`.
fn described(
    read: &Read,
    family: Option<&[u8]>,
    target: &Target,
    by_officer: bool,
    left: &mut Vec<String>,
) -> ObjectInfo {
    let mut info = read.info.clone();
    if let Some(policy) = info.policy.as_mut().filter(|policy| policy.trusted && !by_officer) {
        policy.trusted = false;
        left.push(format!(
            "{} was trusted, which is for a crypto officer to say: 'strongroom key trust'",
            object::title(&read.info)
        ));
    }
    // The partition's clock may be another one, or have been put back.
    if info.rotation_due != 0 {
        let now = target.partition.age().now();
        info.rotation_due = info.rotation_due.min(now.saturating_add(info.rotate_every));
    }
    if let Some(family) = family {
        info.version = info.version.max(1);
        info.version_state = VersionState::Retired.into();
        info.family = family.to_vec();
        (info.rotate_every, info.rotation_due) = (0, 0);
        if read.key.is_some() {
            left.push(format!(
                "{} comes back as version {}, retired: the key has another active version by now",
                object::title(&read.info),
                info.version
            ));
        }
    }
    info
}

/// Of the objects that were active versions and of which there is another one by now: what its versions share.
fn superseded<'a>(read: &'a [Read], info: &ObjectInfo, contents: &Contents) -> Option<&'a [u8]> {
    let is_half = |other: &&Read| {
        other.key.is_some()
            && (other.info.object == info.object
                || other.info.public_key == info.public_key && !info.public_key.is_empty())
    };
    let key = &read.iter().find(is_half)?.info;
    let is_active = info.version_state() == VersionState::Active;
    let other = rotate::versions(contents, key).iter().any(|other| crate::life::is_active(other));
    (is_active && other).then(|| rotate::family(key))
}

/// Adds what was read to a partition, all or none. `by_officer` says whether one of its crypto officers does it: what only an
/// officer decides stays as it was then. The answer says what is not as it was, for people. Blocks.
///
/// # Errors
///
/// Those of `by_officer`. EXISTS if one of the objects is there, BACKUP_WRONG if one makes no sense, LIMIT, STORE.
pub fn add_objects(
    target: &Target,
    gathered: &Gathered,
    by_officer: impl Fn(&Partition, &Users) -> Result<bool, Failure>,
) -> Result<Vec<String>, Failure> {
    let (partition, all) = (&target.partition, gathered.read()?);
    partition.change(|change| {
        let by_officer = by_officer(partition, &change.before().users)?;
        let mut left = Vec::new();
        let brings_a_key = all.iter().any(|read| read.key.is_some());
        for read in &all {
            let info = &read.info;
            let there = change.before().objects.get(&info.object);
            // What holds no key stays when its key is deleted. (Where the key is there too, nothing is restored.)
            if let Some(there) = there.filter(|_| read.key.is_none() && brings_a_key) {
                if there.info != *info {
                    left.push(format!("{} was not gone, and stays as it is", object::title(info)));
                }
                continue;
            }
            if there.is_some() {
                return refuse!(
                    Exists,
                    "{} is in partition \"{}\" already: nothing was restored",
                    object::title(info),
                    partition.label()
                );
            }
            if change.before().deleted.get(&info.object).is_some() {
                return refuse!(
                    Exists,
                    "{} was deleted from partition \"{}\" and can be recovered: 'strongroom key recover'; nothing was \
                     restored",
                    object::title(info),
                    partition.label()
                );
            }
            let access = gathered.access(read, change.before(), target, &mut left);
            let family = superseded(&all, info, change.before());
            let described = described(read, family, target, by_officer, &mut left);
            let kind = KeyKind::from_wire(info.key_type());
            change.add_named(described, access, kind, read.key.as_ref())?;
        }
        Ok(left)
    })
}
