//! Access by key: whom a key names, and what they may do with it.
//!
//! A crypto user of the partition uses all of its keys. A key can name others besides: local user ids, *limited* crypto users,
//! and client certificates, each with roles that say for what. They see that key and its public half, and nothing else.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};

use strongroom_protocol::v1::Permission;

use crate::records::GrantRecord;

/// Entries that one key has at most.
pub const MAX_GRANTS: usize = 64;
/// Roles of a partition's own.
pub const MAX_ROLES: usize = 64;

/// Whom a key names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grantee {
    /// A local user id.
    Uid(u32),
    /// A limited crypto user, by [`crate::users::User::identity`]: another one of the same name is somebody else.
    User(u64),
    /// The SHA-256 of a client certificate's public key.
    Certificate([u8; 32]),
}

/// As whom a connection can be named by a key.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// Its user id, unless it has logged in.
    pub uid: Option<u32>,
    /// The limited user as whom it acts.
    pub user: Option<u64>,
    /// Its client certificate.
    pub certificate: Option<[u8; 32]>,
}

impl Named {
    /// Whether no key can name it.
    pub fn is_empty(&self) -> bool {
        *self == Named::default()
    }

    /// All that a key may call it.
    pub fn grantees(&self) -> impl Iterator<Item = Grantee> + use<> {
        let certificate = self.certificate.map(Grantee::Certificate);
        [self.uid.map(Grantee::Uid), self.user.map(Grantee::User), certificate].into_iter().flatten()
    }

    fn is(&self, grantee: &Grantee) -> bool {
        match grantee {
            Grantee::Uid(uid) => self.uid == Some(*uid),
            Grantee::User(user) => self.user == Some(*user),
            Grantee::Certificate(hash) => self.certificate == Some(*hash),
        }
    }
}

/// A set of [`Permission`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permissions(u32);

impl Permissions {
    /// Of whom a key names at all.
    pub const VIEW: Self = Self::of(&[]);

    /// These, and to see the key.
    pub const fn of(permissions: &[Permission]) -> Self {
        let mut bits = bit(Permission::View);
        let mut rest = permissions;
        while let [first, others @ ..] = rest {
            bits |= bit(*first);
            rest = others;
        }
        Permissions(bits)
    }

    /// As the protocol lists them.
    pub fn to_wire(self) -> Vec<i32> {
        let all = (1..).map_while(|number| Permission::try_from(number).ok());
        all.filter(|permission| self.contains(Self(bit(*permission)))).map(Into::into).collect()
    }

    /// From the protocol's list; `None` if it has one that this release does not know.
    pub fn from_wire(list: &[i32]) -> Option<Self> {
        list.iter().try_fold(Self::VIEW, |all, number| match Permission::try_from(*number).ok()? {
            Permission::Unspecified => None,
            permission => Some(Self(all.0 | bit(permission))),
        })
    }

    /// The bits, as records have them.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// From a record; `None` if this release does not know all of them.
    pub fn from_bits(bits: u32) -> Option<Self> {
        let known = Self::from_wire(&Self(u32::MAX).to_wire())?;
        (bits & !known.0 == 0).then_some(Self(bits | Self::VIEW.0))
    }

    fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

const fn bit(permission: Permission) -> u32 {
    1 << permission as u32
}

/// A role that keys give, with what it permits now: a change of it holds for all keys at once.
#[derive(Debug)]
pub struct Role {
    /// The name, unique in the partition.
    pub name: String,
    permissions: AtomicU32,
}

impl Role {
    fn new(name: &str, permissions: Permissions) -> Arc<Self> {
        Arc::new(Role { name: name.to_owned(), permissions: AtomicU32::new(permissions.0) })
    }

    /// What it permits.
    pub fn permissions(&self) -> Permissions {
        Permissions(self.permissions.load(Ordering::Acquire))
    }
}

/// The roles that every partition has, in the order in which they are listed.
const BUILT_IN: [(&str, Permissions); 8] = {
    use Permission::{Decapsulate, Decrypt, Derive, Encrypt, Sign, Wrap};
    [
        ("tls-server", Permissions::of(&[Sign])),
        ("tls-server-rsa", Permissions::of(&[Sign, Decrypt])),
        ("decrypter", Permissions::of(&[Decrypt])),
        ("encrypter", Permissions::of(&[Encrypt, Decrypt])),
        ("key-agreement", Permissions::of(&[Derive, Decapsulate])),
        ("wrapper", Permissions::of(&[Wrap])),
        ("crypto-user", Permissions::of(&[Sign, Decrypt, Encrypt, Derive, Decapsulate, Wrap])),
        ("crypto-auditor", Permissions::VIEW),
    ]
};

static BUILT_IN_ROLES: LazyLock<Vec<Arc<Role>>> =
    LazyLock::new(|| BUILT_IN.iter().map(|(name, permissions)| Role::new(name, *permissions)).collect());

/// A partition's roles: those that every partition has, and its own.
#[derive(Debug, Default)]
pub struct Roles {
    own: BTreeMap<String, Arc<Role>>,
}

impl Roles {
    /// The role of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Role>> {
        built_in().find(|role| role.name == name).or_else(|| self.own.get(name))
    }

    /// The partition's own, in the order of names.
    pub fn own(&self) -> impl Iterator<Item = &Arc<Role>> {
        self.own.values()
    }

    /// Makes the partition's own roles these. A role that is there already stays the one that keys refer to.
    pub fn set(&mut self, own: &BTreeMap<String, Permissions>) {
        self.own.retain(|name, _| own.contains_key(name));
        for (name, permissions) in own {
            match self.own.get(name) {
                Some(role) => role.permissions.store(permissions.0, Ordering::Release),
                None => drop(self.own.insert(name.clone(), Role::new(name, *permissions))),
            }
        }
    }
}

/// The roles that every partition has.
pub fn built_in() -> impl Iterator<Item = &'static Arc<Role>> {
    BUILT_IN_ROLES.iter()
}

/// Somebody with a role.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Who.
    pub grantee: Grantee,
    /// As what.
    pub role: Arc<Role>,
}

/// Whom a key names.
#[derive(Debug, Default, Clone)]
pub struct Access(Box<[Grant]>);

impl Access {
    /// The list.
    pub fn grants(&self) -> &[Grant] {
        &self.0
    }

    /// Whether it names somebody.
    pub fn names(&self, named: &Named) -> bool {
        self.0.iter().any(|grant| named.is(&grant.grantee))
    }

    /// Whether it lets somebody do all of this. Neither allocates nor compares a string: it is asked for every signature that
    /// comes over a socket.
    pub fn permits(&self, named: &Named, wanted: Permissions) -> bool {
        let own = self.0.iter().filter(|grant| named.is(&grant.grantee));
        let all = own.fold(0, |all, grant| all | grant.role.permissions().0);
        Permissions(all).contains(wanted)
    }

    /// With one more.
    #[must_use]
    pub fn with(&self, grant: Grant) -> Self {
        Access(self.0.iter().cloned().chain([grant]).collect())
    }

    /// Without somebody, or without one role of theirs.
    #[must_use]
    pub fn without(&self, grantee: Grantee, role: Option<&str>) -> Self {
        let goes =
            |grant: &&Grant| grant.grantee == grantee && role.is_none_or(|role| role == grant.role.name);
        Access(self.0.iter().filter(|grant| !goes(grant)).cloned().collect())
    }

    /// Without users who are gone: they are listed nowhere, and nobody could revoke them.
    #[must_use]
    pub fn without_the_gone(&self, is_there: impl Fn(u64) -> bool) -> Self {
        let stays = |grant: &&Grant| !matches!(grant.grantee, Grantee::User(user) if !is_there(user));
        Access(self.0.iter().filter(stays).cloned().collect())
    }

    /// What lies in the store.
    pub fn to_records(&self) -> Vec<GrantRecord> {
        let record = |grant: &Grant| {
            let mut record = GrantRecord { role: grant.role.name.clone(), ..GrantRecord::default() };
            match grant.grantee {
                Grantee::Uid(uid) => record.uid = Some(uid),
                Grantee::User(user) => record.user = Some(user),
                Grantee::Certificate(hash) => record.certificate = Some(hash.to_vec()),
            }
            record
        };
        self.0.iter().map(record).collect()
    }

    /// From what lies in the store, without whom it gives a role that there is not; `None` if it makes no sense.
    pub fn from_records(records: &[GrantRecord], roles: &Roles) -> Option<Self> {
        let grant = |record: &GrantRecord| {
            let grantee = match (record.uid, record.user, &record.certificate) {
                (Some(uid), None, None) => Grantee::Uid(uid),
                (None, Some(user), None) => Grantee::User(user),
                (None, None, Some(hash)) => Grantee::Certificate(hash.as_slice().try_into().ok()?),
                _ => return None,
            };
            Some(roles.get(&record.role).map(|role| Grant { grantee, role: Arc::clone(role) }))
        };
        let all: Vec<Option<Grant>> = records.iter().map(grant).collect::<Option<_>>()?;
        Some(Access(all.into_iter().flatten().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn www() -> Named {
        Named { uid: Some(33), ..Named::default() }
    }

    fn grant(roles: &Roles, grantee: Grantee, role: &str) -> Grant {
        Grant { grantee, role: Arc::clone(roles.get(role).unwrap()) }
    }

    #[test]
    fn a_key_permits_what_the_roles_of_those_it_names_permit_together() {
        let roles = Roles::default();
        let access = Access::default().with(grant(&roles, Grantee::Uid(33), "tls-server")).with(grant(
            &roles,
            Grantee::User(33),
            "decrypter",
        ));
        let (sign, decrypt) = (Permissions::of(&[Permission::Sign]), Permissions::of(&[Permission::Decrypt]));
        assert!(access.permits(&www(), sign) && !access.permits(&www(), decrypt));
        // A user whose identity is the same number is somebody else.
        let both = Named { user: Some(33), ..www() };
        assert!(access.permits(&both, Permissions(sign.0 | decrypt.0)));
        let other = Named { uid: Some(34), certificate: Some([33; 32]), user: None };
        assert!(!access.names(&other) && !access.permits(&other, Permissions::VIEW));
        assert!(!Access::default().permits(&Named::default(), Permissions::VIEW));
        let less = access.without(Grantee::Uid(33), Some("tls-server"));
        assert!(!less.names(&www()) && less.names(&both));
        assert!(access.without(Grantee::Uid(33), Some("decrypter")).names(&www()));
    }

    #[test]
    fn users_who_are_gone_take_no_place() {
        let roles = Roles::default();
        let all = [Grantee::User(7), Grantee::Uid(8), Grantee::User(8), Grantee::Certificate([8; 32])];
        let access =
            all.iter().fold(Access::default(), |access, who| access.with(grant(&roles, *who, "wrapper")));
        let left = access.without_the_gone(|user| user == 7);
        assert!(left.grants().iter().map(|grant| grant.grantee).eq([all[0], all[1], all[3]]));
    }

    #[test]
    fn a_changed_role_holds_for_keys_that_have_it_already() {
        let mut roles = Roles::default();
        let own = |permission| BTreeMap::from([("deploy".to_owned(), Permissions::of(&[permission]))]);
        roles.set(&own(Permission::Sign));
        let access = Access::default().with(grant(&roles, Grantee::Uid(33), "deploy"));
        assert!(access.permits(&www(), Permissions::of(&[Permission::Sign])));
        roles.set(&own(Permission::Derive));
        assert!(!access.permits(&www(), Permissions::of(&[Permission::Sign])));
        assert!(access.permits(&www(), Permissions::of(&[Permission::Derive])));
    }

    #[test]
    fn what_is_stored_is_what_was_granted() {
        let roles = Roles::default();
        let access = Access::default()
            .with(grant(&roles, Grantee::Uid(0), "crypto-auditor"))
            .with(grant(&roles, Grantee::User(7), "crypto-user"))
            .with(grant(&roles, Grantee::Certificate([9; 32]), "tls-server"));
        let records = access.to_records();
        let again = Access::from_records(&records, &roles).unwrap();
        assert_eq!(again.to_records(), records);
        assert!(again.names(&Named { certificate: Some([9; 32]), ..Named::default() }));
        for wrong in [
            GrantRecord { role: "tls-server".into(), ..GrantRecord::default() },
            GrantRecord { role: "tls-server".into(), uid: Some(1), user: Some(1), ..GrantRecord::default() },
            GrantRecord { role: "tls-server".into(), certificate: Some(vec![1]), ..GrantRecord::default() },
        ] {
            assert!(Access::from_records(std::slice::from_ref(&wrong), &roles).is_none(), "{wrong:?}");
        }
        // A role that is gone costs what it gave, and not the key.
        let gone = GrantRecord { role: "unknown".into(), uid: Some(1), ..GrantRecord::default() };
        let left = Access::from_records(&[gone, records[0].clone()], &roles).unwrap();
        assert_eq!(left.to_records(), records[..1]);
    }

    #[test]
    fn permissions_on_the_wire() {
        let all = Permissions::from_wire(&(1..=7).collect::<Vec<_>>()).unwrap();
        assert_eq!(all.to_wire(), (1..=7).collect::<Vec<_>>());
        assert_eq!(Permissions::from_bits(all.bits()), Some(all));
        assert_eq!(Permissions::from_wire(&[]), Some(Permissions::VIEW));
        assert!(Permissions::from_wire(&[0]).is_none() && Permissions::from_wire(&[8]).is_none());
        assert!(Permissions::from_bits(1 << 8).is_none());
    }
}
