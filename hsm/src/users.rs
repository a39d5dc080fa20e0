//! Users of a partition: roles, passwords, admitted user ids.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, Version};
use strongroom_protocol::v1::{PinState, Role, UserInfo};

use crate::crypto::aws_lc;
use crate::failure::{Failure, refuse};
use crate::records::UserRecord;
use crate::seal::Element;

/// The shortest password, in bytes.
pub const MIN_PASSWORD: usize = 8;
/// The longest password, in bytes.
pub const MAX_PASSWORD: usize = 128;
/// User ids that one user may have admitted.
pub const MAX_UIDS: usize = 64;
/// The longest user name, in bytes.
const MAX_NAME: usize = 32;

/// All roles of users.
pub const ROLES: [Role; 3] = [Role::CryptoOfficer, Role::CryptoUser, Role::ApplianceUser];

/// Argon2id's memory, passes and lanes: OWASP's first choice (19 MiB, 2, 1), about 20 ms.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

const SALT: usize = 16;
const HASH: usize = 32;

/// One user. A change makes a new one in its place.
#[derive(Debug, Clone)]
pub struct User {
    /// The name, unique in the partition.
    pub name: String,
    /// What the user may do.
    pub role: Role,
    /// Local user ids that act as this user without a password.
    pub uids: Vec<u32>,
    /// The password, if the user has one.
    pub password: Option<PasswordHash>,
    /// Passwords tried since the last right one.
    pub attempts: u32,
    /// Somebody else has set the password: its first use is to change it.
    pub must_change: bool,
    /// The revision that last set the password: log-ins and tickets from before it are over.
    pub epoch: u64,
    /// A crypto user who uses only keys that name it: see [`crate::access`].
    pub limited: bool,
    /// What keys name it by: the revision that made it, so that nobody inherits access by a name.
    pub identity: u64,
    /// The record's part of the partition's set hash.
    pub element: Element,
}

impl User {
    /// A new user. `epoch` is the revision that makes it.
    pub fn new(name: &str, role: Role, password: Option<PasswordHash>, uids: Vec<u32>, epoch: u64) -> Self {
        User {
            name: name.to_owned(),
            role,
            uids,
            password,
            attempts: 0,
            must_change: false,
            epoch,
            limited: false,
            identity: epoch,
            element: Element::default(),
        }
    }

    /// Whether the user has to be unlocked before the password counts again. `max_attempts` is the partition's
    /// policy.
    pub fn is_locked(&self, max_attempts: u32) -> bool {
        self.attempts >= max_attempts
    }

    /// Whether this is a crypto officer whom somebody can act as: locked ones are unlocked by the owner.
    pub fn can_administer(&self) -> bool {
        self.role == Role::CryptoOfficer && (self.password.is_some() || !self.uids.is_empty())
    }

    /// How messages and the log name it: `crypto user "web"`.
    pub fn title(&self) -> String {
        format!("{} \"{}\"", role_name(self.role), self.name)
    }

    /// What clients see. `max_attempts` as for [`User::is_locked`].
    pub fn info(&self, max_attempts: u32) -> UserInfo {
        UserInfo {
            name: self.name.clone(),
            role: self.role.into(),
            uids: self.uids.clone(),
            has_password: self.password.is_some(),
            locked: self.is_locked(max_attempts),
            failed_attempts: self.attempts,
            limited: self.limited,
            must_change_password: self.must_change,
        }
    }

    /// Whether this is `other` with the password and the role that it had: not a new user of the same name.
    pub fn is_still(&self, other: &User) -> bool {
        self.name == other.name && self.epoch == other.epoch && self.role == other.role
    }

    /// What lies in the store.
    pub fn to_record(&self) -> UserRecord {
        let (hash, salt, memory_kib, passes) = match &self.password {
            Some(p) => (p.hash.to_vec(), p.salt.to_vec(), p.memory_kib, p.passes),
            None => (Vec::new(), Vec::new(), 0, 0),
        };
        UserRecord {
            name: self.name.clone(),
            role: self.role.into(),
            uids: self.uids.clone(),
            hash,
            salt,
            memory_kib,
            passes,
            attempts: self.attempts,
            epoch: self.epoch,
            limited: self.limited,
            identity: self.identity,
            must_change: self.must_change,
        }
    }

    /// The user of a record; `None` if it makes no sense.
    pub fn from_record(record: UserRecord, element: Element) -> Option<Self> {
        let role = match Role::try_from(record.role).ok()? {
            Role::Unspecified => return None,
            role => role,
        };
        let password = match record.hash.is_empty() {
            true => None,
            false => Some(PasswordHash {
                hash: record.hash.try_into().ok()?,
                salt: record.salt.try_into().ok()?,
                memory_kib: record.memory_kib,
                passes: record.passes,
            }),
        };
        Some(User {
            name: record.name,
            role,
            uids: record.uids,
            password,
            attempts: record.attempts,
            must_change: record.must_change,
            epoch: record.epoch,
            limited: record.limited,
            identity: if record.identity == 0 { record.epoch } else { record.identity },
            element,
        })
    }
}

/// How messages and the log call a role.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::CryptoOfficer => "crypto officer",
        Role::CryptoUser => "crypto user",
        Role::ApplianceUser => "appliance user",
        Role::Unspecified => "user",
    }
}

/// Checks the form of a new user's name.
///
/// # Errors
///
/// Which characters and lengths are allowed.
pub fn check_name(name: &str) -> Result<(), Failure> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(allowed) {
        return refuse!(
            AttributeWrong,
            "a user name has 1 to {MAX_NAME} characters from a-z, A-Z, 0-9, '.', '_' and '-'"
        );
    }
    Ok(())
}

/// Checks the length of a new password.
///
/// # Errors
///
/// Which lengths are allowed.
pub fn check_new_password(password: &str) -> Result<(), Failure> {
    if password.len() < MIN_PASSWORD {
        return refuse!(
            PasswordTooShort,
            "the password is too short: it needs at least {MIN_PASSWORD} bytes"
        );
    }
    if password.len() > MAX_PASSWORD {
        return refuse!(AttributeWrong, "the password is too long: at most {MAX_PASSWORD} bytes");
    }
    Ok(())
}

/// Checks how many user ids a user is to have admitted.
///
/// # Errors
///
/// LIMIT.
pub fn check_uids(uids: &[u32]) -> Result<(), Failure> {
    match uids.len() > MAX_UIDS {
        true => refuse!(Limit, "a user may have {MAX_UIDS} admitted user ids"),
        false => Ok(()),
    }
}

/// A password's Argon2id hash with its salt and costs.
#[derive(Clone)]
pub struct PasswordHash {
    hash: [u8; HASH],
    salt: [u8; SALT],
    memory_kib: u32,
    passes: u32,
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

impl PasswordHash {
    /// Hashes a password with a new salt. Takes about 20 ms and 19 MiB: not for an I/O thread.
    ///
    /// # Errors
    ///
    /// INTERNAL if memory is short.
    pub fn new(password: &str) -> Result<Self, Failure> {
        let mut made =
            Self { hash: [0; HASH], salt: aws_lc::random_array(), memory_kib: MEMORY_KIB, passes: PASSES };
        made.hash = made.digest(password)?;
        Ok(made)
    }

    /// A hash that no password fits, to spend the same time on a user that does not exist.
    pub fn of_nobody() -> Self {
        Self { hash: [0; HASH], salt: [0; SALT], memory_kib: MEMORY_KIB, passes: PASSES }
    }

    /// Random bytes that no other password has, also not the same one set again.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// Whether this is the password. Costs as much as [`PasswordHash::new`].
    ///
    /// # Errors
    ///
    /// INTERNAL if memory is short.
    pub fn verify(&self, password: &str) -> Result<bool, Failure> {
        let digest = self.digest(password)?;
        Ok(aws_lc_rs::constant_time::verify_slices_are_equal(&digest, &self.hash).is_ok())
    }

    fn digest(&self, password: &str) -> Result<[u8; HASH], Failure> {
        let failed = |e: argon2::Error| {
            Failure::new(
                strongroom_protocol::v1::ErrorCode::Internal,
                format!("a password cannot be hashed: {e}"),
            )
        };
        let mut digest = [0; HASH];
        let params = Params::new(self.memory_kib, self.passes, LANES, Some(HASH)).map_err(failed)?;
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(password.as_bytes(), &self.salt, &mut digest)
            .map_err(failed)?;
        Ok(digest)
    }
}

/// All users of a partition: found by name or admitted user id without looking at the others.
#[derive(Debug, Default)]
pub struct Users {
    by_name: BTreeMap<String, Arc<User>>,
    by_uid: HashMap<(u32, Role), String>,
}

impl Users {
    /// The user of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<User>> {
        self.by_name.get(name)
    }

    /// Adds a user, in place of the one of the same name.
    pub fn put(&mut self, user: Arc<User>) {
        self.remove(&user.name);
        for uid in &user.uids {
            self.by_uid.insert((*uid, user.role), user.name.clone());
        }
        self.by_name.insert(user.name.clone(), user);
    }

    /// Takes a user out.
    pub fn remove(&mut self, name: &str) -> Option<Arc<User>> {
        let user = self.by_name.remove(name)?;
        for uid in &user.uids {
            self.by_uid.remove(&(*uid, user.role));
        }
        Some(user)
    }

    /// All, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<User>> {
        self.by_name.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// How the passwords of a role stand: all users together, see [`PinState`].
    pub fn pin_state(&self, role: Role, max_attempts: u32) -> PinState {
        let with_password: Vec<_> =
            self.iter().filter(|user| user.role == role && user.password.is_some()).collect();
        let each = |holds: &dyn Fn(&User) -> bool| {
            !with_password.is_empty() && with_password.iter().all(|user| holds(user))
        };
        PinState {
            count_low: with_password.iter().any(|user| user.attempts > 0),
            final_try: each(&|user| user.attempts + 1 >= max_attempts),
            locked: each(&|user| user.is_locked(max_attempts)),
            to_be_changed: each(&|user| user.must_change),
        }
    }

    /// Whether a local user id acts as any of the users.
    pub fn admits(&self, uid: u32) -> bool {
        ROLES.iter().any(|role| self.by_uid.contains_key(&(uid, *role)))
    }

    /// The user of this role as whom a local user id acts: there is at most one.
    pub fn admitted(&self, uid: u32, role: Role) -> Option<&Arc<User>> {
        self.by_name.get(self.by_uid.get(&(uid, role))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_fits_its_own_hash_only() {
        let hash = PasswordHash::new("correct horse").unwrap();
        assert!(hash.verify("correct horse").unwrap());
        assert!(!hash.verify("correct horsf").unwrap());
        assert!(!PasswordHash::of_nobody().verify("").unwrap());
        assert_ne!(hash.salt, PasswordHash::new("correct horse").unwrap().salt);
        assert!(!format!("{hash:?}").contains("hash:"));
    }

    #[test]
    fn names_and_passwords_have_bounds() {
        for name in ["a", "A.b_c-9", &"x".repeat(32)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "a:b", "a b", "ä", "a/b", &"x".repeat(33)] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_new_password("1234567").is_err());
        assert!(check_new_password("12345678").is_ok());
        assert!(check_new_password(&"x".repeat(128)).is_ok());
        assert!(check_new_password(&"x".repeat(129)).is_err());
    }

    #[test]
    fn an_admitted_user_id_is_found_until_it_is_withdrawn() {
        let user = |name: &str, role, uids: &[u32]| Arc::new(User::new(name, role, None, uids.to_vec(), 1));
        let found = |users: &Users, uid, role| users.admitted(uid, role).map(|user| user.name.clone());
        let mut users = Users::default();
        users.put(user("a", Role::CryptoUser, &[33, 34]));
        users.put(user("b", Role::CryptoOfficer, &[33]));
        assert_eq!(found(&users, 33, Role::CryptoUser).as_deref(), Some("a"));
        assert_eq!(found(&users, 33, Role::CryptoOfficer).as_deref(), Some("b"));
        assert_eq!(found(&users, 34, Role::CryptoOfficer), None);
        users.put(user("a", Role::CryptoUser, &[34]));
        assert_eq!(found(&users, 33, Role::CryptoUser), None);
        assert_eq!(found(&users, 34, Role::CryptoUser).as_deref(), Some("a"));
        users.remove("a");
        assert_eq!(found(&users, 34, Role::CryptoUser), None);
        assert_eq!(users.len(), 1);
    }

    #[test]
    fn one_user_who_can_log_in_keeps_a_role_from_being_locked() {
        let hash = PasswordHash::of_nobody();
        let user = |name: &str, attempts| {
            let user = User::new(name, Role::CryptoUser, Some(hash.clone()), Vec::new(), 1);
            Arc::new(User { attempts, ..user })
        };
        let mut users = Users::default();
        assert_eq!(users.pin_state(Role::CryptoUser, 5), PinState::default());
        users.put(user("a", 5));
        let state = users.pin_state(Role::CryptoUser, 5);
        assert!(state.locked && state.final_try && state.count_low && !state.to_be_changed);
        users.put(user("b", 4));
        let state = users.pin_state(Role::CryptoUser, 5);
        assert!(!state.locked && state.final_try && state.count_low);
        users.put(user("c", 0));
        let state = users.pin_state(Role::CryptoUser, 5);
        assert!(!state.locked && !state.final_try && state.count_low);
        // Who has no password has none that could be wrong.
        users.put(Arc::new(User::new("c", Role::CryptoUser, None, vec![33], 1)));
        assert!(users.pin_state(Role::CryptoUser, 5).final_try);
        assert_eq!(users.pin_state(Role::CryptoOfficer, 5), PinState::default());
    }
}
