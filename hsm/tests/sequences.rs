//! Whatever users ask for, in whatever order and however often: the store is the one that the daemon remembers, and the
//! next start finds what this one had.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod running;
mod stores;

use running::{Client, Running, code};
use stores::Numbers;
use strongroom_protocol::client::ClientError;
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

/// Labels, roles and users, few enough to meet again.
const NAMES: [&str; 3] = ["web", "data", "deploy"];
const UNKNOWN: [u8; 16] = [7; 16];

/// Clients of a daemon, and the identities of all objects that they were ever told of.
struct Players {
    owner: Client,
    officer: Client,
    user: Client,
    numbers: Numbers,
    known: Vec<Vec<u8>>,
}

/// What everybody who may look sees of a partition.
#[derive(Debug, PartialEq)]
struct Seen {
    objects: Vec<ObjectInfo>,
    deleted: Vec<ObjectInfo>,
    access: Vec<AccessList>,
    roles: Vec<AccessRole>,
    users: Vec<UserInfo>,
}

impl Players {
    fn of(running: &Running, seed: u64, known: Vec<Vec<u8>>) -> Self {
        let (owner, officer, user) = (running.client(), running.officer(), running.user());
        Self { owner, officer, user, numbers: Numbers(seed), known }
    }

    fn any<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.numbers.below(of.len())].clone()
    }

    fn name(&mut self) -> String {
        self.any(&NAMES).to_owned()
    }

    /// Mostly an object that is or was there.
    fn identity(&mut self) -> Vec<u8> {
        let known = self.known.clone();
        if known.is_empty() || self.numbers.below(30) == 0 { UNKNOWN.to_vec() } else { self.any(&known) }
    }

    /// One to four objects, some of them twice.
    fn identities(&mut self) -> Vec<Vec<u8>> {
        let mut all: Vec<_> = (0..=self.numbers.below(3)).map(|_| self.identity()).collect();
        if self.numbers.below(4) == 0 {
            all.push(all[0].clone());
        }
        all
    }

    fn template(&mut self) -> KeyTemplate {
        let policy = KeyPolicy { encrypt: true, ..KeyPolicy::default() };
        let label = self.name();
        let attributes = vec![Attribute { r#type: 1, value: vec![1; self.numbers.below(3_000)] }];
        KeyTemplate { label, policy: Some(policy), attributes, ..KeyTemplate::default() }
    }

    fn grant(&mut self) -> Grant {
        let who = match self.numbers.below(3) {
            0 => grantee::Who::Uid(self.numbers.below(2) as u32),
            1 => grantee::Who::User(self.name()),
            _ => grantee::Who::Certificate(vec![1; 32]),
        };
        let role = if self.numbers.below(3) == 0 { "tls-server".to_owned() } else { self.name() };
        Grant { grantee: Some(Grantee { who: Some(who) }), role, ..Grant::default() }
    }

    fn role(&mut self) -> AccessRole {
        let permissions =
            vec![Permission::Sign.into(), self.any(&[Permission::Wrap, Permission::Derive]).into()];
        AccessRole { name: self.name(), permissions, ..AccessRole::default() }
    }

    /// Something that a user asks for, and whether an officer does.
    fn request(&mut self) -> (Op, bool) {
        let every = |days: u64| 86_400 * days;
        match self.numbers.below(26) {
            0..=3 => {
                let key = self.template();
                (Op::GenerateKey(GenerateKey { key_type: KeyType::Aes256.into(), key: Some(key) }), false)
            }
            4..=6 => {
                let (private_key, public_key) = (self.template(), self.template());
                let private_key = Some(KeyTemplate { policy: None, ..private_key });
                let public_key = Some(KeyTemplate { policy: None, ..public_key });
                let key_type = KeyType::Ed25519.into();
                (Op::GenerateKeyPair(GenerateKeyPair { key_type, private_key, public_key }), false)
            }
            7 => {
                let (class, value) = (ObjectClass::Data.into(), vec![1; self.numbers.below(2_000)]);
                let object = ObjectInfo { class, label: self.name(), value, ..ObjectInfo::default() };
                (Op::CreateObject(CreateObject { object: Some(object) }), false)
            }
            8 => (Op::DestroyObject(DestroyObject { object: self.identity() }), false),
            9 | 10 => (Op::DeleteKey(DeleteKey { objects: self.identities() }), false),
            11..=13 => {
                let label = if self.numbers.below(2) == 0 { String::new() } else { self.name() };
                (Op::RecoverKey(RecoverKey { objects: self.identities(), label }), true)
            }
            14 => (Op::PurgeKey(PurgeKey { objects: self.identities() }), true),
            15 | 16 => {
                let activate = self.numbers.below(2) == 0;
                (Op::RotateKey(RotateKey { object: self.identity(), activate }), false)
            }
            17 => (Op::ActivateKey(ActivateKey { object: self.identity() }), false),
            18 => {
                let every_seconds = every(self.numbers.below(3) as u64);
                (Op::SetRotation(SetRotation { object: self.identity(), every_seconds }), false)
            }
            19 | 20 => {
                let (key, grant) = (self.identity(), Some(self.grant()));
                (Op::GrantAccess(GrantAccess { key, grant }), false)
            }
            21 => {
                let (key, grant) = (self.identity(), Some(self.grant()));
                (Op::RevokeAccess(RevokeAccess { key, grant }), false)
            }
            22 => (Op::PutAccessRole(PutAccessRole { role: Some(self.role()) }), true),
            23 => (Op::DeleteAccessRole(DeleteAccessRole { name: self.name() }), true),
            24 => {
                let (name, role) = (self.name(), Role::CryptoUser.into());
                if self.numbers.below(2) == 0 {
                    return (Op::DeleteUser(DeleteUser { name }), true);
                }
                let limited = true;
                let uids = vec![4_000];
                (Op::CreateUser(CreateUser { name, role, uids, limited, ..CreateUser::default() }), true)
            }
            _ => {
                let label = Some(self.name());
                let set = SetAttributes { object: self.identity(), label, ..SetAttributes::default() };
                (Op::SetAttributes(set), false)
            }
        }
    }

    fn play(&mut self) {
        let (op, by_officer) = self.request();
        let asked = format!("{op:?}");
        let player = if by_officer { &mut self.officer } else { &mut self.user };
        match player.call(op) {
            Ok(response::Result::Objects(list)) => {
                for object in list.objects {
                    if !self.known.contains(&object.object) {
                        self.known.push(object.object);
                    }
                }
            }
            Ok(_) => {}
            Err(error) => {
                let code = error.code().unwrap();
                assert!(![ErrorCode::Internal, ErrorCode::Store].contains(&code), "{asked}: {error}");
            }
        }
    }

    fn all(&mut self, page: impl Fn(Vec<u8>) -> Op) -> Result<Vec<ObjectInfo>, ClientError> {
        let mut all: Vec<ObjectInfo> = Vec::new();
        loop {
            let after = all.last().map(|object| object.object.clone()).unwrap_or_default();
            let response::Result::Objects(list) = self.user.call(page(after))? else { panic!() };
            all.extend(list.objects);
            if !list.more {
                return Ok(all);
            }
        }
    }

    fn seen(&mut self) -> Seen {
        let find = |after| FindObjects { after, all_versions: true, ..FindObjects::default() };
        let objects = self.all(|after| Op::FindObjects(find(after))).unwrap();
        let deleted = self.all(|after| Op::ListDeleted(ListDeleted { after })).unwrap();
        // The time of day is counted from now.
        let deleted = deleted.into_iter().map(|object| ObjectInfo { purge_at: 0, ..object }).collect();
        let keys =
            objects.iter().filter(|o| [ObjectClass::PrivateKey, ObjectClass::SecretKey].contains(&o.class()));
        let mut access = Vec::new();
        for key in keys {
            let list = Op::ListAccess(ListAccess { key: key.object.clone() });
            let response::Result::Access(list) = self.user.call(list).unwrap() else { panic!() };
            access.push(list);
        }
        let list = self.officer.call(Op::ListAccessRoles(ListAccessRoles {})).unwrap();
        let response::Result::AccessRoles(AccessRoleList { roles }) = list else { panic!() };
        let list = self.officer.call(Op::ListUsers(ListUsers {})).unwrap();
        let response::Result::Users(UserList { users }) = list else { panic!() };
        Seen { objects, deleted, access, roles, users }
    }
}

#[test]
fn the_next_start_finds_what_any_sequence_of_requests_has_left() {
    let mut running = Running::with_partition();
    let mut known = Vec::new();
    let (mut most, mut deleted) = (0, 0);
    for round in 0..6 {
        let mut players = Players::of(&running, round, std::mem::take(&mut known));
        for _ in 0..60 {
            players.play();
        }
        players.owner.connection.call(0, Op::CheckStore(CheckStore {})).unwrap();
        let before = players.seen();
        (most, deleted) = (most.max(before.objects.len()), deleted.max(before.deleted.len()));
        known = players.known;
        drop((players.owner, players.officer, players.user));
        running = running.restart();
        let mut again = Players::of(&running, round, Vec::new());
        assert_eq!(again.seen(), before, "round {round}");
        again.owner.connection.call(0, Op::CheckStore(CheckStore {})).unwrap();
    }
    // Much was tried on what was there.
    assert!(most > 20 && deleted > 10, "{most} objects and {deleted} deleted at most");
}

#[test]
fn a_key_that_is_named_twice_is_changed_not_at_all() {
    let mut running = Running::with_partition();
    let (mut user, mut officer) = (running.user(), running.officer());
    let pair = user.generate(KeyType::Ed25519, "web").unwrap();
    let twice = vec![pair[0].object.clone(), pair[1].object.clone(), pair[0].object.clone()];
    let once = vec![pair[0].object.clone(), pair[1].object.clone()];
    let delete = |objects: &[Vec<u8>]| Op::DeleteKey(DeleteKey { objects: objects.to_vec() });
    let recover = |objects: &[Vec<u8>]| {
        Op::RecoverKey(RecoverKey { objects: objects.to_vec(), ..RecoverKey::default() })
    };
    let purge = |objects: &[Vec<u8>]| Op::PurgeKey(PurgeKey { objects: objects.to_vec() });
    assert_eq!(code(user.call(delete(&twice))), ErrorCode::Malformed);
    user.call(delete(&once)).unwrap();
    assert_eq!(code(officer.call(recover(&twice))), ErrorCode::Malformed);
    assert_eq!(code(officer.call(purge(&twice))), ErrorCode::Malformed);
    officer.call(recover(&once)).unwrap();
    user.call(delete(&once)).unwrap();
    let many: Vec<_> = (0..300u16).map(|number| number.to_le_bytes().repeat(8)).collect();
    assert_eq!(code(user.call(delete(&many))), ErrorCode::Limit);
    let mut owner = running.client();
    owner.connection.call(0, Op::CheckStore(CheckStore {})).unwrap();
    drop((user, officer, owner));
    running = running.restart();
    running.officer().call(purge(&once)).unwrap();
    assert_eq!(running.user().find(FindObjects::default()).unwrap(), []);
}

#[test]
fn a_role_stays_while_a_deleted_key_gives_it() {
    let mut running = Running::with_partition();
    let (mut user, mut officer) = (running.user(), running.officer());
    let pair = user.generate(KeyType::Ed25519, "web").unwrap();
    let role = AccessRole {
        name: "deploy".into(),
        permissions: vec![Permission::Sign.into()],
        ..AccessRole::default()
    };
    officer.call(Op::PutAccessRole(PutAccessRole { role: Some(role) })).unwrap();
    let grantee = Some(Grantee { who: Some(grantee::Who::Uid(4_000)) });
    let grant = Some(Grant { grantee, role: "deploy".into(), ..Grant::default() });
    user.call(Op::GrantAccess(GrantAccess { key: pair[0].object.clone(), grant })).unwrap();
    let objects: Vec<_> = pair.iter().map(|object| object.object.clone()).collect();
    user.call(Op::DeleteKey(DeleteKey { objects: objects.clone() })).unwrap();
    let delete_role = || Op::DeleteAccessRole(DeleteAccessRole { name: "deploy".into() });
    let refused = officer.call(delete_role()).unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::NotPermitted));
    assert!(refused.to_string().contains("deleted keys"), "{refused}");
    drop((user, officer));
    running = running.restart();
    let mut officer = running.officer();
    officer.call(Op::RecoverKey(RecoverKey { objects: objects.clone(), label: String::new() })).unwrap();
    let list = Op::ListAccess(ListAccess { key: pair[0].object.clone() });
    let response::Result::Access(list) = running.user().call(list).unwrap() else { panic!() };
    assert_eq!(list.grants.len(), 1);
    running.user().call(Op::DeleteKey(DeleteKey { objects: objects.clone() })).unwrap();
    officer.call(Op::PurgeKey(PurgeKey { objects })).unwrap();
    officer.call(delete_role()).unwrap();
}
