//! Access by key: whom a key names uses that key, for what its role permits, and nothing else.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::print_stderr)]

mod running;
mod stores;

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use running::{Client, PASSWORD, Running, TLS, USER, code};
use rustix::process::{Uid, getuid};
use rustix::thread::set_thread_res_uid;
use stores::Records;
use strongroom_channel::{ChannelError, Client as Channel, Descriptors, Operation, Request};
use strongroom_hsm::access;
use strongroom_hsm::crypto::KeyKind;
use strongroom_hsm::crypto::aws_lc::PrivateKey;
use strongroom_hsm::memory::SecretBytes;
use strongroom_hsm::object::{Key, Search};
use strongroom_hsm::partition::{Change, Partition, Settings};
use strongroom_hsm::seal::SealingKey;
use strongroom_hsm::store::Store;
use strongroom_hsm::vault::{Slot, Vault};
use strongroom_protocol::client::ClientError;
use strongroom_protocol::v1::grantee::Who;
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

/// A web server's user id.
const WWW: u32 = 33;

fn grant_of(who: Who, role: &str) -> Option<Grant> {
    Some(Grant { grantee: Some(Grantee { who: Some(who) }), role: role.into(), permissions: vec![] })
}

fn access_of(reply: response::Result) -> Vec<Grant> {
    match reply {
        response::Result::Access(list) => list.grants,
        other => panic!("{other:?}"),
    }
}

fn grant(client: &mut Client, key: &ObjectInfo, who: Who, role: &str) -> Result<Vec<Grant>, ClientError> {
    let request = GrantAccess { key: key.object.clone(), grant: grant_of(who, role) };
    client.call(Op::GrantAccess(request)).map(access_of)
}

fn revoke(client: &mut Client, key: &ObjectInfo, who: Who, role: &str) -> Result<Vec<Grant>, ClientError> {
    let request = RevokeAccess { key: key.object.clone(), grant: grant_of(who, role) };
    client.call(Op::RevokeAccess(request)).map(access_of)
}

fn set_role(client: &mut Client, name: &str, may: &[Permission]) -> Result<(), ClientError> {
    let permissions = may.iter().map(|may| (*may).into()).collect();
    let role = AccessRole { name: name.into(), permissions, built_in: false };
    client.call(Op::PutAccessRole(PutAccessRole { role: Some(role) })).map(drop)
}

fn limited_user(running: &Running, name: &str) {
    running
        .officer()
        .call(Op::CreateUser(CreateUser {
            name: name.into(),
            role: Role::CryptoUser.into(),
            password: running::initial(PASSWORD),
            limited: true,
            ..CreateUser::default()
        }))
        .unwrap();
    running.client().take_over(name, PASSWORD).unwrap();
}

fn logged_in(running: &Running, name: &str) -> Client {
    let mut client = running.client();
    client.login(Role::CryptoUser, name, PASSWORD).unwrap();
    client
}

/// A connection of another user id: the system call is this thread's alone. `None` if this is not root.
fn as_uid(running: &Running, uid: u32) -> Option<Client> {
    if !getuid().is_root() {
        eprintln!("not run: only root can connect as another user id");
        return None;
    }
    set_permissions(running.directory.path(), Permissions::from_mode(0o755)).unwrap();
    let socket = running.socket();
    let connect = move || {
        let uid = Uid::from_raw(uid);
        set_thread_res_uid(uid, uid, uid).unwrap();
        Client::open(&socket).unwrap()
    };
    Some(std::thread::spawn(connect).join().unwrap())
}

fn names(mut found: Vec<ObjectInfo>) -> Vec<(String, ObjectClass)> {
    found.sort_by_key(|object| (object.label.clone(), object.class));
    found.iter().map(|object| (object.label.clone(), object.class())).collect()
}

fn sign(client: &mut Client, key: &ObjectInfo) -> Result<Vec<u8>, ClientError> {
    client.sign(key, Mechanism::Ecdsa, None, &[7; 32])
}

#[test]
fn a_user_id_uses_the_key_that_names_it_and_nothing_else() {
    let mut running = Running::with_partition();
    let mut user = running.user();
    let web = user.generate(KeyType::P256, "web").unwrap();
    let other = user.generate(KeyType::P256, "other").unwrap();
    grant(&mut user, &web[0], Who::Uid(WWW), "tls-server").unwrap();
    let Some(mut www) = as_uid(&running, WWW) else { return };

    let both = [("web".to_owned(), ObjectClass::PrivateKey), ("web".to_owned(), ObjectClass::PublicKey)];
    assert_eq!(names(www.find(FindObjects::default()).unwrap()), both);
    let by_label = |label: &str| FindObjects { label: label.into(), ..FindObjects::default() };
    assert_eq!(names(www.find(by_label("web")).unwrap()), both);
    assert_eq!(www.find(by_label("other")).unwrap(), []);
    for hidden in &other {
        let by_identity = FindObjects { object: hidden.object.clone(), ..FindObjects::default() };
        assert_eq!(www.find(by_identity).unwrap(), []);
        let by_id = FindObjects { id: hidden.id.clone(), ..FindObjects::default() };
        assert_eq!(www.find(by_id).unwrap(), []);
        let after = FindObjects { after: hidden.object.clone(), ..FindObjects::default() };
        assert_eq!(code(www.find(after)), ErrorCode::NoSuchObject);
    }
    let signature = sign(&mut www, &web[0]).unwrap();
    let verify = |key: &ObjectInfo| {
        Op::Verify(Verify {
            key: key.object.clone(),
            mechanism: Mechanism::Ecdsa.into(),
            pss: None,
            data: vec![7; 32],
            signature: signature.clone(),
        })
    };
    www.call(verify(&web[1])).unwrap();
    assert_eq!(code(www.call(verify(&other[1]))), ErrorCode::NoSuchObject);
    assert_eq!(code(sign(&mut www, &other[0])), ErrorCode::NoSuchObject);

    let key = web[0].object.clone();
    for op in [
        Op::Decrypt(Decrypt { key: key.clone(), mechanism: Mechanism::RsaPkcs.into(), ..Decrypt::default() }),
        Op::Derive(Derive { key: key.clone(), mechanism: Mechanism::Ecdh.into(), public_key: vec![4; 65] }),
        Op::Encrypt(Encrypt { key: key.clone(), ..Encrypt::default() }),
    ] {
        assert_eq!(code(www.call(op)), ErrorCode::KeyMayNot);
    }
    for op in [
        Op::SetAttributes(SetAttributes {
            object: key.clone(),
            label: Some("x".into()),
            ..Default::default()
        }),
        Op::DestroyObject(DestroyObject { object: key.clone() }),
        Op::DestroyObject(DestroyObject { object: web[1].object.clone() }),
        Op::GenerateKeyPair(GenerateKeyPair { key_type: KeyType::P256.into(), ..Default::default() }),
        Op::GenerateKey(GenerateKey { key_type: KeyType::Aes256.into(), key: None }),
        Op::CreateObject(CreateObject::default()),
        Op::ListAccess(ListAccess { key: key.clone() }),
        Op::GrantAccess(GrantAccess { key, grant: grant_of(Who::Uid(WWW), "crypto-user") }),
        Op::PutAccessRole(PutAccessRole::default()),
        Op::ListAccessRoles(ListAccessRoles {}),
        Op::ListUsers(ListUsers {}),
    ] {
        let text = format!("{op:?}");
        assert_eq!(code(www.call(op)), ErrorCode::NotLoggedIn, "{text}");
    }
    let info = partition_info(&mut www);
    assert_eq!((info.limited, info.acting_role(), info.acting_as.as_str()), (true, Role::CryptoUser, ""));

    // It lasts, and nobody else has it.
    drop((user, www));
    running = running.restart();
    let mut www = as_uid(&running, WWW).unwrap();
    sign(&mut www, &web[0]).unwrap();
    let mut stranger = as_uid(&running, WWW + 1).unwrap();
    assert_eq!(stranger.find(FindObjects::default()).unwrap(), []);
    assert_eq!(code(sign(&mut stranger, &web[0])), ErrorCode::NotLoggedIn);
    assert!(!partition_info(&mut stranger).limited);
    // A log-in replaces it.
    www.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    sign(&mut www, &other[0]).unwrap();
}

/// Such a user id sees all public objects besides.
#[test]
fn the_user_id_that_runs_the_daemon_uses_the_key_that_names_it() {
    let running = Running::with_partition();
    let mut user = running.user();
    let web = user.generate(KeyType::P256, "web").unwrap();
    let other = user.generate(KeyType::P256, "other").unwrap();
    grant(&mut user, &web[0], Who::Uid(getuid().as_raw()), "tls-server").unwrap();
    let mut owner = running.client();

    let (key, public) = (ObjectClass::PrivateKey, ObjectClass::PublicKey);
    let all = [("other".to_owned(), public), ("web".to_owned(), key), ("web".to_owned(), public)];
    assert_eq!(names(owner.find(FindObjects::default()).unwrap()), all);
    let by_id = |id: &[u8]| FindObjects { id: id.into(), class: key.into(), ..FindObjects::default() };
    assert_eq!(names(owner.find(by_id(&web[0].id)).unwrap()), all[1..2]);
    assert_eq!(owner.find(by_id(&other[0].id)).unwrap(), []);
    sign(&mut owner, &web[0]).unwrap();
    assert_eq!(code(sign(&mut owner, &other[0])), ErrorCode::NoSuchObject);
}

fn partition_info(client: &mut Client) -> PartitionInfo {
    match client.call(Op::ListPartitions(ListPartitions {})).unwrap() {
        response::Result::Partitions(list) => list.partitions.into_iter().next().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn over_channel(channel: &Channel, key: &ObjectInfo) -> Result<usize, ErrorCode> {
    let until = Instant::now() + Duration::from_secs(60);
    let operation =
        Operation::Sign { mechanism: Mechanism::Ecdsa as u32, hash: 0, mgf1_hash: 0, salt_length: 0 };
    let key = key.object.as_slice().try_into().unwrap();
    let request = Request { operation, partition: TLS, key, data: &[7; 32] };
    match channel.exchange(&request, &mut [0; 512], &mut || Instant::now() < until) {
        Ok(length) => Ok(length),
        Err(ChannelError::Refused { code, .. }) => Err(ErrorCode::try_from(code as i32).unwrap()),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_revocation_holds_at_once_for_open_connections_and_channels() {
    let running = Running::with_partition();
    limited_user(&running, "shop");
    let mut user = running.user();
    let pair = user.generate(KeyType::P256, "web").unwrap();
    let shop = || Who::User("shop".into());
    let mut client = logged_in(&running, "shop");
    let given = client.connection.open_channel().unwrap().unwrap();
    let channel =
        Channel::new(Descriptors { region: given.region, bell: given.bell, state: given.state }).unwrap();
    assert_eq!(over_channel(&channel, &pair[0]), Err(ErrorCode::NoSuchObject));
    assert_eq!(code(sign(&mut client, &pair[0])), ErrorCode::NoSuchObject);
    for _ in 0..20 {
        grant(&mut user, &pair[0], shop(), "tls-server").unwrap();
        sign(&mut client, &pair[0]).unwrap();
        over_channel(&channel, &pair[0]).unwrap();
        assert_eq!(revoke(&mut user, &pair[0], shop(), "").unwrap(), []);
        assert_eq!(over_channel(&channel, &pair[0]), Err(ErrorCode::NoSuchObject));
        assert_eq!(code(sign(&mut client, &pair[0])), ErrorCode::NoSuchObject);
    }
    assert_eq!(code(revoke(&mut user, &pair[0], shop(), "")), ErrorCode::NoSuchUser);
}

#[test]
fn a_user_of_the_same_name_inherits_nothing() {
    let running = Running::with_partition();
    limited_user(&running, "shop");
    let mut user = running.user();
    let pair = user.generate(KeyType::P256, "web").unwrap();
    let listed = grant(&mut user, &pair[0], Who::User("shop".into()), "tls-server").unwrap();
    assert_eq!(listed.len(), 1);
    let mut shop = logged_in(&running, "shop");
    sign(&mut shop, &pair[0]).unwrap();
    // Nor does the user with another password lose anything.
    let new_password = running::initial(PASSWORD);
    let change = ChangePassword { name: "shop".into(), new_password, ..Default::default() };
    running.officer().call(Op::ChangePassword(change)).unwrap();
    running.client().take_over("shop", PASSWORD).unwrap();
    sign(&mut logged_in(&running, "shop"), &pair[0]).unwrap();
    running.officer().call(Op::DeleteUser(DeleteUser { name: "shop".into() })).unwrap();
    limited_user(&running, "shop");
    let mut shop = logged_in(&running, "shop");
    assert_eq!(code(sign(&mut shop, &pair[0])), ErrorCode::NoSuchObject);
    assert_eq!(shop.find(FindObjects { class: 1, ..FindObjects::default() }).unwrap(), []);
    let list = user.call(Op::ListAccess(ListAccess { key: pair[0].object.clone() })).map(access_of);
    assert_eq!(list.unwrap(), []);
    // Those who use all keys anyway are not named.
    let refused = grant(&mut user, &pair[0], Who::User(USER.into()), "tls-server");
    assert_eq!(code(refused), ErrorCode::AttributeWrong);
    assert_eq!(code(grant(&mut user, &pair[0], Who::User("no".into()), "tls-server")), ErrorCode::NoSuchUser);
    assert_eq!(code(grant(&mut user, &pair[1], Who::Uid(WWW), "tls-server")), ErrorCode::AttributeWrong);
    assert_eq!(code(grant(&mut user, &pair[0], Who::Uid(WWW), "none")), ErrorCode::NoSuchUser);
    let short = Who::Certificate(vec![1; 31]);
    assert_eq!(code(grant(&mut user, &pair[0], short, "tls-server")), ErrorCode::AttributeWrong);
    assert_eq!(grant(&mut user, &pair[0], Who::Certificate(vec![1; 32]), "tls-server").unwrap().len(), 1);
}

#[test]
fn a_role_of_the_partitions_own_changes_for_all_keys_at_once() {
    let mut running = Running::with_partition();
    limited_user(&running, "shop");
    let mut user = running.user();
    let template = KeyTemplate {
        policy: Some(KeyPolicy { sign: true, derive: true, ..KeyPolicy::default() }),
        ..KeyTemplate::default()
    };
    let pair = user
        .objects(Op::GenerateKeyPair(GenerateKeyPair {
            key_type: KeyType::P256.into(),
            private_key: Some(template),
            public_key: None,
        }))
        .unwrap();
    let spki = &pair[1].public_key;
    let derive = Op::Derive(Derive {
        key: pair[0].object.clone(),
        mechanism: Mechanism::Ecdh.into(),
        public_key: spki[spki.len() - 65..].to_vec(),
    });
    set_role(&mut user, "deploy", &[Permission::Sign]).unwrap();
    grant(&mut user, &pair[0], Who::User("shop".into()), "deploy").unwrap();
    let mut shop = logged_in(&running, "shop");
    sign(&mut shop, &pair[0]).unwrap();
    assert_eq!(code(shop.call(derive.clone())), ErrorCode::KeyMayNot);
    set_role(&mut user, "deploy", &[Permission::Derive]).unwrap();
    assert_eq!(code(sign(&mut shop, &pair[0])), ErrorCode::KeyMayNot);
    shop.call(derive.clone()).unwrap();
    drop((user, shop));

    running = running.restart();
    let mut shop = logged_in(&running, "shop");
    assert_eq!(code(sign(&mut shop, &pair[0])), ErrorCode::KeyMayNot);
    shop.call(derive).unwrap();
    let mut user = running.user();
    let delete = || Op::DeleteAccessRole(DeleteAccessRole { name: "deploy".into() });
    assert_eq!(code(user.call(delete())), ErrorCode::NotPermitted);
    revoke(&mut user, &pair[0], Who::User("shop".into()), "deploy").unwrap();
    user.call(delete()).unwrap();
    assert_eq!(code(user.call(delete())), ErrorCode::NoSuchUser);
    assert_eq!(code(set_role(&mut user, "tls-server", &[Permission::Decrypt])), ErrorCode::Exists);
    assert_eq!(code(set_role(&mut user, "a b", &[])), ErrorCode::AttributeWrong);
}

/// Without padding a decryption is a signature: it takes the right to both.
#[test]
fn bare_rsa_takes_the_right_to_sign_and_to_decrypt() {
    let running = Running::with_partition();
    limited_user(&running, "shop");
    let mut user = running.user();
    let mut make = |sign, decrypt| {
        let policy = Some(KeyPolicy { sign, decrypt, ..KeyPolicy::default() });
        let template = KeyTemplate { policy, ..KeyTemplate::default() };
        let op = GenerateKeyPair {
            key_type: KeyType::Rsa2048.into(),
            private_key: Some(template),
            public_key: None,
        };
        user.objects(Op::GenerateKeyPair(op)).unwrap().swap_remove(0)
    };
    let (both, decrypts) = (make(true, true), make(false, true));
    let raw = |key: &ObjectInfo| {
        Op::Decrypt(Decrypt {
            key: key.object.clone(),
            mechanism: Mechanism::RsaX509.into(),
            ciphertext: [vec![0; 255], vec![2]].concat(),
            ..Decrypt::default()
        })
    };
    let mut user = running.user();
    user.call(raw(&both)).unwrap();
    assert_eq!(code(user.call(raw(&decrypts))), ErrorCode::KeyMayNot);
    let mut shop = logged_in(&running, "shop");
    for (role, permitted) in [("decrypter", false), ("tls-server-rsa", true)] {
        grant(&mut user, &both, Who::User("shop".into()), role).unwrap();
        assert_eq!(shop.call(raw(&both)).is_ok(), permitted, "{role}");
    }
}

/// What a store of before says of a role that is gone is not said of another role of that name.
#[test]
fn a_grant_of_a_role_that_is_gone_does_not_come_back() {
    let store: Arc<dyn Store> = Arc::new(Records::default());
    let node_key = || SealingKey::new(SecretBytes::from([7; 32].as_slice())).unwrap();
    Vault::initialise(&node_key(), Arc::clone(&store)).unwrap();
    let load = || {
        let vault = Vault::load(node_key(), Arc::clone(&store)).unwrap();
        match vault.slots().swap_remove(0) {
            Slot::Sound(partition) => partition,
            Slot::Damaged { why, .. } => panic!("{why}"),
        }
    };
    let set_role = |partition: &Partition, role: Option<access::Permissions>| {
        let change = |change: &mut Change<'_>| {
            match role {
                Some(role) => drop(change.settings().roles.insert("deploy".to_owned(), role)),
                None => drop(change.settings().roles.remove("deploy")),
            }
            Ok(())
        };
        partition.change(change).unwrap();
    };
    Vault::load(node_key(), Arc::clone(&store)).unwrap().create("tls", vec![], Settings::default()).unwrap();
    let partition = load();
    set_role(&partition, Some(access::Permissions::VIEW));
    let role = Arc::clone(partition.contents().roles.get("deploy").unwrap());
    let access = access::Access::default().with(access::Grant { grantee: access::Grantee::Uid(WWW), role });
    let key = Key::Private(Arc::new(PrivateKey::generate(KeyKind::P256).unwrap()));
    for deleted_at in [0, 1] {
        let (object, class) = (vec![deleted_at as u8; 16], ObjectClass::PrivateKey.into());
        let info = ObjectInfo { object, class, deleted_at, purge_due: deleted_at, ..ObjectInfo::default() };
        let kind = Some(KeyKind::P256);
        partition.change(|change| change.add_named(info, access.clone(), kind, Some(&key))).unwrap();
    }
    set_role(&partition, None);
    let partition = load();
    assert_eq!(partition.contents().stale.len(), 2);
    strongroom_hsm::life::mend(&partition).unwrap();
    assert!(partition.contents().stale.is_empty());
    set_role(&partition, Some(access::Permissions::VIEW));
    let partition = load();
    let contents = partition.contents();
    assert_eq!((contents.objects.len(), contents.deleted.len()), (1, 1));
    let all = contents.objects.find(Search::default()).chain(contents.deleted.find(Search::default()));
    assert!(all.into_iter().all(|object| object.access.grants().is_empty()));
}
