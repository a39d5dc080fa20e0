//! Who may do what, who is who, and what wrong passwords lead to.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod running;

use running::{Client, OFFICER, PASSWORD, Process, Running, TLS, USER, WRONG, code};
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// A local user who is no user of the partition.
    Nobody,
    /// Root, and the user who runs the daemon.
    Root,
    Officer,
    User,
    Appliance,
}

const APPLIANCE: &str = "backup";
/// A local user whom the daemon does not know.
const STRANGER: u32 = 61_234;

/// Connects as another local user. The kernel reports the thread that connects.
fn as_stranger(running: &Running) -> Client {
    let socket = running.socket();
    let connecting = std::thread::spawn(move || {
        let stranger = rustix::process::Uid::from_raw(STRANGER);
        rustix::thread::set_thread_res_uid(stranger, stranger, stranger).unwrap();
        Client::open(&socket).unwrap()
    });
    connecting.join().unwrap()
}

/// A daemon to whose socket everybody may connect.
fn public() -> Running {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let running = Running::try_start_in(directory, |config| config.socket_mode = 0o666).unwrap();
    running.client().make_partition("tls");
    running
}

/// One of each request, valid enough that only the policy can refuse it as not permitted.
fn every_request(private: &ObjectInfo, public: &ObjectInfo) -> Vec<Op> {
    let key = private.object.clone();
    vec![
        Op::Hello(Hello { versions: vec![1], client: String::new() }),
        Op::Status(Status {}),
        Op::ListPartitions(ListPartitions {}),
        Op::ListRights(ListRights {}),
        Op::ShowPage(ShowPage {}),
        Op::DescribeAudit(DescribeAudit {}),
        Op::SetAudit(SetAudit { uses: AuditUses::Sums.into() }),
        Op::ReadAudit(ReadAudit::default()),
        Op::CreatePartition(CreatePartition::default()),
        Op::FindObjects(FindObjects::default()),
        Op::GenerateRandom(GenerateRandom { length: 1 }),
        Op::Verify(Verify { key: public.object.clone(), ..Verify::default() }),
        Op::ListUsers(ListUsers {}),
        Op::CreateUser(CreateUser { name: "new".into(), role: 2, ..CreateUser::default() }),
        Op::AdmitUid(AdmitUid { name: "new".into(), uid: 77, withdraw: false }),
        Op::UnlockUser(UnlockUser { name: "new".into(), signature: vec![] }),
        Op::DeleteUser(DeleteUser { name: "new".into() }),
        Op::GenerateKeyPair(GenerateKeyPair { key_type: KeyType::P256.into(), ..Default::default() }),
        Op::ImportKeyPair(ImportKeyPair::default()),
        Op::GenerateKey(GenerateKey { key_type: KeyType::Aes256.into(), key: None }),
        Op::ImportKey(ImportKey::default()),
        Op::DeriveKey(DeriveKey { key: key.clone(), ..DeriveKey::default() }),
        Op::Recover(Recover { key: public.object.clone(), ..Recover::default() }),
        Op::AuthenticateUse(AuthenticateUse { key: key.clone(), ..AuthenticateUse::default() }),
        Op::Mac(Mac { key: key.clone(), ..Mac::default() }),
        Op::Encrypt(Encrypt { key: key.clone(), ..Encrypt::default() }),
        Op::Decrypt(Decrypt { key: key.clone(), ..Decrypt::default() }),
        Op::Decapsulate(Decapsulate { key: key.clone(), ..Decapsulate::default() }),
        Op::Encapsulate(Encapsulate { key: public.object.clone(), ..Encapsulate::default() }),
        Op::Derive(Derive { key: key.clone(), mechanism: Mechanism::Ecdh.into(), public_key: vec![4; 65] }),
        Op::CreateObject(CreateObject::default()),
        Op::SetAttributes(SetAttributes { object: key.clone(), ..SetAttributes::default() }),
        Op::Sign(Sign {
            key,
            mechanism: Mechanism::Ecdsa.into(),
            pss: None,
            data: vec![0; 32],
            ..Sign::default()
        }),
        Op::WrapKey(WrapKey { wrapping_key: private.object.clone(), ..WrapKey::default() }),
        Op::UnwrapKey(UnwrapKey { unwrapping_key: private.object.clone(), ..UnwrapKey::default() }),
        Op::TrustKey(TrustKey::default()),
        Op::DeleteKey(DeleteKey::default()),
        Op::ListDeleted(ListDeleted::default()),
        Op::RecoverKey(RecoverKey::default()),
        Op::PurgeKey(PurgeKey::default()),
        Op::SetLife(SetLife::default()),
        Op::RotateKey(RotateKey { object: public.object.clone(), activate: false }),
        Op::ActivateKey(ActivateKey { object: public.object.clone() }),
        Op::SetRotation(SetRotation { object: public.object.clone(), every_seconds: 0 }),
        Op::CopyObject(CopyObject { object: private.object.clone(), ..CopyObject::default() }),
        Op::RevealKey(RevealKey { key: private.object.clone() }),
        Op::RestoreSessionObjects(RestoreSessionObjects::default()),
        Op::ForgetSessionObjects(ForgetSessionObjects::default()),
        Op::DestroyObject(DestroyObject { object: public.object.clone() }),
        Op::DeletePartition(DeletePartition { label: "another".into() }),
        Op::SetQuota(SetQuota::default()),
        Op::ListAccess(ListAccess { key: private.object.clone() }),
        Op::GrantAccess(GrantAccess { key: private.object.clone(), grant: None }),
        Op::RevokeAccess(RevokeAccess { key: private.object.clone(), grant: None }),
        Op::ListAccessRoles(ListAccessRoles {}),
        Op::PutAccessRole(PutAccessRole::default()),
        Op::DeleteAccessRole(DeleteAccessRole::default()),
        Op::CreateSecurityDomain(CreateSecurityDomain::default()),
        Op::RenewSecurityDomain(RenewSecurityDomain::default()),
        Op::ShowSecurityDomain(ShowSecurityDomain {}),
        Op::BeginBackup(BeginBackup::default()),
        Op::ReadBackup(ReadBackup {}),
        Op::BeginRestore(BeginRestore::default()),
        Op::RestoreChunk(RestoreChunk::default()),
        Op::FinishRestore(FinishRestore {}),
        // Both at once are malformed, and the path is no store's.
        Op::SealWith(SealWith { passphrase: "x".into(), holders: vec![vec![]], needed: 1 }),
        Op::Zeroize(Zeroize { store_path: "another".into() }),
        Op::ShowSeal(ShowSeal {}),
        Op::ShowTampering(ShowTampering {}),
        Op::ClearTampering(ClearTampering::default()),
        Op::CheckStore(CheckStore {}),
        // One after the other: what is sealed is unsealed by its key file.
        Op::Seal(Seal {}),
        Op::Unseal(Unseal::default()),
        Op::SetPolicy(SetPolicy::default()),
        Op::ChallengeUser(ChallengeUser { name: "new".into() }),
        Op::RequestNodeCertificate(RequestNodeCertificate {}),
        Op::InstallNodeCertificate(InstallNodeCertificate::default()),
        Op::ProveNode(ProveNode::default()),
        // A short new password stops it before anything happens.
        Op::ChangePassword(ChangePassword { name: USER.into(), ..ChangePassword::default() }),
        Op::Login(Login::default()),
        Op::OpenChannel(OpenChannel {}),
        // Last: it ends the log-in.
        Op::Logout(Logout {}),
    ]
}

fn may(who: Who, op: &Op) -> bool {
    match op {
        Op::Hello(_) | Op::Status(_) | Op::ListPartitions(_) | Op::FindObjects(_) => true,
        Op::OpenChannel(_) | Op::Recover(_) | Op::Encapsulate(_) | Op::ListRights(_) | Op::ShowPage(_) => {
            true
        }
        Op::GenerateRandom(_) | Op::Verify(_) | Op::Login(_) | Op::Logout(_) | Op::ChangePassword(_) => true,
        Op::CreatePartition(_) | Op::SetQuota(_) => who == Who::Root,
        Op::CreateSecurityDomain(_) | Op::RenewSecurityDomain(_) => who == Who::Officer,
        Op::ShowSecurityDomain(_) | Op::BeginBackup(_) | Op::ReadBackup(_) => {
            matches!(who, Who::Officer | Who::Appliance)
        }
        Op::BeginRestore(_) | Op::RestoreChunk(_) | Op::FinishRestore(_) => who == Who::Root,
        Op::Seal(_) | Op::Unseal(_) | Op::SealWith(_) | Op::Zeroize(_) => who == Who::Root,
        Op::ShowSeal(_) | Op::ShowTampering(_) | Op::ClearTampering(_) | Op::CheckStore(_) => {
            who == Who::Root
        }
        Op::UnlockUser(_) | Op::InstallNodeCertificate(_) => matches!(who, Who::Root | Who::Officer),
        Op::ChallengeUser(_) | Op::RequestNodeCertificate(_) | Op::ProveNode(_) => true,
        Op::ListUsers(_) => matches!(who, Who::Officer | Who::Appliance),
        Op::CreateUser(_) | Op::DeleteUser(_) | Op::AdmitUid(_) => who == Who::Officer,
        Op::DeletePartition(_) | Op::SetPolicy(_) => who == Who::Officer,
        Op::ReadAudit(_) | Op::SetAudit(_) => matches!(who, Who::Officer | Who::Appliance),
        Op::DescribeAudit(_) => true,
        Op::GenerateKeyPair(_) | Op::ImportKeyPair(_) | Op::CreateObject(_) => who == Who::User,
        Op::GenerateKey(_) | Op::ImportKey(_) | Op::Encrypt(_) | Op::Decrypt(_) => who == Who::User,
        Op::SetAttributes(_) | Op::Sign(_) | Op::DestroyObject(_) | Op::Derive(_) => who == Who::User,
        Op::DeriveKey(_) => who == Who::User,
        Op::RevealKey(_) => who == Who::User,
        Op::CopyObject(_) | Op::RestoreSessionObjects(_) | Op::ForgetSessionObjects(_) => who == Who::User,
        Op::Decapsulate(_) | Op::AuthenticateUse(_) | Op::WrapKey(_) | Op::UnwrapKey(_) | Op::Mac(_) => {
            who == Who::User
        }
        Op::TrustKey(_) | Op::RecoverKey(_) | Op::PurgeKey(_) | Op::SetLife(_) => who == Who::Officer,
        Op::ListDeleted(_) => matches!(who, Who::Officer | Who::User),
        Op::DeleteKey(_) | Op::RotateKey(_) | Op::ActivateKey(_) | Op::SetRotation(_) => who == Who::User,
        Op::ListAccess(_) | Op::GrantAccess(_) | Op::RevokeAccess(_) => who == Who::User,
        Op::ListAccessRoles(_) | Op::PutAccessRole(_) | Op::DeleteAccessRole(_) => {
            matches!(who, Who::Officer | Who::User)
        }
    }
}

#[test]
fn every_request_as_every_role() {
    let running = public();
    running.officer().create_user(APPLIANCE, Role::ApplianceUser, PASSWORD).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    let mut asked = std::collections::BTreeSet::new();
    for who in [Who::Nobody, Who::Root, Who::Officer, Who::User, Who::Appliance] {
        if !is_root && who == Who::Nobody {
            continue;
        }
        let pair = running.user().generate(KeyType::P256, "key").unwrap();
        for op in every_request(&pair[0], &pair[1]) {
            // Root's rights come with root's user id, whoever logs in.
            let mut client =
                if is_root && who != Who::Root { as_stranger(&running) } else { running.client() };
            let login = match who {
                Who::Nobody | Who::Root => None,
                Who::Officer => Some((Role::CryptoOfficer, OFFICER)),
                Who::User => Some((Role::CryptoUser, USER)),
                Who::Appliance => Some((Role::ApplianceUser, APPLIANCE)),
            };
            if let Some((role, name)) = login {
                client.login(role, name, PASSWORD).unwrap();
            }
            let permitted = may(who, &op) || (!is_root && may(Who::Root, &op));
            let text = format!("{who:?}: {op:?}");
            asked.insert(text.split([' ', '(']).nth(1).unwrap().to_owned());
            // Of what anybody may ask, each user id has so many a second that are noted in the audit log.
            let outcome = loop {
                match client.call(op.clone()) {
                    Err(error) if error.code() == Some(ErrorCode::Limit) => {
                        std::thread::sleep(std::time::Duration::from_millis(200));
                    }
                    outcome => break outcome,
                }
            };
            let refused = match outcome {
                Ok(_) => false,
                Err(error) => match (error.code().unwrap(), login) {
                    (ErrorCode::NotLoggedIn, None) | (ErrorCode::NotPermitted, _) => true,
                    (ErrorCode::NotLoggedIn, _) => panic!("{text}: {error}"),
                    (_, _) if !permitted => panic!("{text}: {error}"),
                    _ => false,
                },
            };
            assert_eq!(refused, !permitted, "{text}");
        }
    }
    let all: std::collections::BTreeSet<_> =
        strongroom_hsm::policy::TABLE.iter().map(|row| row.request.to_owned()).collect();
    assert_eq!(asked, all, "requests of the table that this test sends");
}

/// The daemon's table of roles is what it does.
#[test]
fn the_table_is_printed_as_it_is() {
    let running = Running::with_partition();
    let response::Result::Rights(table) = running.client().call(Op::ListRights(ListRights {})).unwrap()
    else {
        panic!()
    };
    assert_eq!(table.rows.len(), strongroom_hsm::policy::TABLE.len());
    let sign = table.rows.iter().find(|row| row.request == "Sign").unwrap();
    let roles = [&sign.root, &sign.partition_owner, &sign.crypto_officer, &sign.appliance_user];
    assert_eq!(sign.anyone, "named");
    assert!(roles.iter().all(|answer| *answer == "no") && sign.crypto_user == "yes", "{sign:?}");
}

#[test]
fn an_appliance_user_looks_and_does_not_touch() {
    let running = Running::with_partition();
    let pair = running.user().generate(KeyType::P256, "key").unwrap();
    running.officer().create_user(APPLIANCE, Role::ApplianceUser, PASSWORD).unwrap();
    let mut client = running.client();
    // The role need not be said when the user is named.
    let reply = client.login(Role::Unspecified, APPLIANCE, PASSWORD).unwrap();
    assert_eq!(reply.role(), Role::ApplianceUser);
    let info = partition_info(&mut client);
    assert_eq!((info.acting_as.as_str(), info.acting_role()), (APPLIANCE, Role::ApplianceUser));
    client.call(Op::ListUsers(ListUsers {})).unwrap();
    assert_eq!(client.find(FindObjects::default()).unwrap().len(), 1, "the public key only");
    assert_eq!(code(client.sign(&pair[0], Mechanism::Ecdsa, None, &[0; 32])), ErrorCode::NotPermitted);
    // The ticket is the role's too, a user id of its own may be admitted, and an officer sets a new password.
    let login =
        |role: Role| Op::Login(Login { role: role.into(), ticket: reply.ticket.clone(), ..Login::default() });
    assert_eq!(code(running.client().call(login(Role::CryptoUser))), ErrorCode::TicketInvalid);
    running.client().call(login(Role::ApplianceUser)).unwrap();
    let uid = rustix::process::geteuid().as_raw();
    let mut officer = running.officer();
    officer.call(Op::AdmitUid(AdmitUid { name: APPLIANCE.into(), uid, withdraw: false })).unwrap();
    running.client().call(Op::ListUsers(ListUsers {})).unwrap();
    let reset = ChangePassword {
        name: APPLIANCE.into(),
        old_password: String::new(),
        new_password: "a new password".into(),
    };
    officer.call(Op::ChangePassword(reset)).unwrap();
    assert_eq!(code(client.login(Role::ApplianceUser, APPLIANCE, PASSWORD)), ErrorCode::PasswordWrong);
}

#[test]
fn private_objects_are_seen_by_crypto_users_only() {
    let running = Running::with_partition();
    let pair = running.user().generate(KeyType::P256, "key").unwrap();
    let count = |client: &mut Client| client.find(FindObjects::default()).unwrap().len();
    assert_eq!(count(&mut running.client()), 1);
    assert_eq!(count(&mut running.officer()), 1);
    assert_eq!(count(&mut running.user()), 2);
    let by_identity = FindObjects { object: pair[0].object.clone(), ..FindObjects::default() };
    assert_eq!(running.officer().find(by_identity.clone()).unwrap(), []);
    assert_eq!(running.user().find(by_identity).unwrap(), pair[..1]);
    let verify = Verify { key: pair[0].object.clone(), ..Verify::default() };
    assert_eq!(code(running.client().call(Op::Verify(verify))), ErrorCode::NoSuchObject);
}

#[test]
fn ten_wrong_passwords_lock_for_good_until_an_officer_unlocks() {
    let mut running = Running::with_partition();
    let mut client = running.client();
    for _ in 0..9 {
        assert_eq!(code(client.login(Role::CryptoUser, USER, WRONG)), ErrorCode::PasswordWrong);
    }
    // The right one counts anew.
    client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    for _ in 0..6 {
        assert_eq!(code(client.login(Role::CryptoUser, USER, WRONG)), ErrorCode::PasswordWrong);
    }
    drop(client);
    running = running.restart();
    let mut client = running.client();
    for _ in 0..4 {
        assert_eq!(code(client.login(Role::CryptoUser, USER, WRONG)), ErrorCode::PasswordWrong);
    }
    assert_eq!(code(client.login(Role::CryptoUser, USER, PASSWORD)), ErrorCode::UserLocked);
    drop(client);
    running = running.restart();
    assert_eq!(code(running.client().login(Role::CryptoUser, USER, PASSWORD)), ErrorCode::UserLocked);
    let mut officer = running.officer();
    let response::Result::Users(list) = officer.call(Op::ListUsers(ListUsers {})).unwrap() else { panic!() };
    let user = list.users.iter().find(|user| user.name == USER).unwrap();
    assert!(user.locked && user.failed_attempts == 10);
    officer.call(Op::UnlockUser(UnlockUser { name: USER.into(), signature: vec![] })).unwrap();
    running.user();
}

/// Each wrong password counts, whatever happens to the daemon, and however many connections try.
#[test]
fn kill_and_further_connections_give_no_more_attempts() {
    let directory = tempfile::tempdir().unwrap();
    let wrong = |client: &mut Client| code(client.login(Role::CryptoUser, USER, WRONG));
    let process = Process::start(directory.path());
    process.client().make_partition("tls");
    for _ in 0..3 {
        assert_eq!(wrong(&mut process.client()), ErrorCode::PasswordWrong);
    }
    process.kill();
    let process = Process::start(directory.path());
    // Two at the same time, each on connections of its own.
    let tries = || (0..2).map(|_| wrong(&mut process.client())).collect::<Vec<_>>();
    let answers: Vec<_> = std::thread::scope(|scope| {
        let both = [scope.spawn(tries), scope.spawn(tries)];
        both.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(answers, [ErrorCode::PasswordWrong; 4]);
    process.kill();
    let process = Process::start(directory.path());
    for _ in 0..3 {
        assert_eq!(wrong(&mut process.client()), ErrorCode::PasswordWrong);
    }
    assert_eq!(code(process.client().login(Role::CryptoUser, USER, PASSWORD)), ErrorCode::UserLocked);
    process.kill();
    let process = Process::start(directory.path());
    assert_eq!(code(process.client().login(Role::CryptoUser, USER, PASSWORD)), ErrorCode::UserLocked);
}

fn user_info(client: &mut Client, name: &str) -> UserInfo {
    let response::Result::Users(list) = client.call(Op::ListUsers(ListUsers {})).unwrap() else { panic!() };
    list.users.into_iter().find(|user| user.name == name).unwrap()
}

fn change_password(name: &str, old: &str, new: &str) -> Op {
    Op::ChangePassword(ChangePassword {
        name: name.into(),
        old_password: old.into(),
        new_password: new.into(),
    })
}

#[test]
fn a_password_that_somebody_else_set_is_good_for_its_change_only() {
    let mut running = Running::with_partition();
    let pair = running.user().generate(KeyType::P256, "key").unwrap();
    running.officer().create_initial_user("new", Role::CryptoUser, "an initial one").unwrap();
    running = running.restart();
    assert!(user_info(&mut running.officer(), "new").must_change_password);
    assert!(!user_info(&mut running.officer(), USER).must_change_password);
    let mut client = running.client();
    let reply = client.login(Role::CryptoUser, "new", "an initial one").unwrap();
    assert!(reply.must_change_password);
    // The ticket is worth no more.
    let mut second = running.client();
    by_ticket(&mut second, &reply.ticket).unwrap();
    for op in every_request(&pair[0], &pair[1]) {
        // What is not about a partition is not this user's affair.
        let about_the_node = matches!(
            op,
            Op::Hello(_)
                | Op::Status(_)
                | Op::ListPartitions(_)
                | Op::ListRights(_)
                | Op::CreatePartition(_)
                | Op::OpenChannel(_)
                | Op::ShowPage(_)
                | Op::Seal(_)
                | Op::Unseal(_)
                | Op::SealWith(_)
                | Op::Zeroize(_)
                | Op::ShowSeal(_)
                | Op::ShowTampering(_)
                | Op::ClearTampering(_)
                | Op::CheckStore(_)
                | Op::DescribeAudit(_)
                | Op::BeginRestore(_)
                | Op::RestoreChunk(_)
                | Op::FinishRestore(_)
        );
        if about_the_node {
            continue;
        }
        let may = matches!(
            op,
            Op::Login(_)
                | Op::ChangePassword(_)
                | Op::UnlockUser(_)
                | Op::ChallengeUser(_)
                | Op::RequestNodeCertificate(_)
                | Op::ProveNode(_)
                | Op::Logout(_)
        );
        let text = format!("{op:?}");
        let expired = second.call(op).is_err_and(|error| error.code() == Some(ErrorCode::PasswordExpired));
        assert_eq!(expired, !may, "{text}");
    }
    // The initial one again is no new one.
    assert_eq!(
        code(client.call(change_password("new", "an initial one", "an initial one"))),
        ErrorCode::AttributeWrong
    );
    client.call(change_password("new", "an initial one", "my own secret")).unwrap();
    client.sign(&pair[0], Mechanism::Ecdsa, None, &[0; 32]).unwrap();
    assert!(!client.login(Role::CryptoUser, "new", "my own secret").unwrap().must_change_password);
    // A user id needs no password, whatever the state of the user's.
    let mut officer = running.officer();
    officer.call(change_password("new", "", "an initial one")).unwrap();
    assert!(user_info(&mut officer, "new").must_change_password);
    let uid = rustix::process::geteuid().as_raw();
    officer.call(Op::AdmitUid(AdmitUid { name: "new".into(), uid, withdraw: false })).unwrap();
    running.client().sign(&pair[0], Mechanism::Ecdsa, None, &[0; 32]).unwrap();
    // Whose passwords those of a new partition are, its maker says.
    let create = CreatePartition {
        label: "other".into(),
        officer: "co".into(),
        password: "an initial one".into(),
        user: "cu".into(),
        user_password: "an initial one".into(),
        hand_over: true,
        ..CreatePartition::default()
    };
    let mut client = running.client();
    let response::Result::Partition(made) = client.connection.call(0, Op::CreatePartition(create)).unwrap()
    else {
        panic!()
    };
    client.partition = made.number;
    client.login(Role::CryptoOfficer, "co", "an initial one").unwrap();
    assert_eq!(code(client.call(Op::ListUsers(ListUsers {}))), ErrorCode::PasswordExpired);
    client.call(change_password("co", "an initial one", "my own secret")).unwrap();
    assert!(user_info(&mut client, "cu").must_change_password);
    assert!(partition_info(&mut client).user_pin.unwrap().to_be_changed);
}

/// Both or none, and each is checked before anything is made.
#[test]
fn a_partition_comes_with_its_first_user() {
    let running = Running::start();
    let good = || CreatePartition {
        label: "tls".into(),
        officer: OFFICER.into(),
        password: PASSWORD.into(),
        user: USER.into(),
        user_password: PASSWORD.into(),
        user_uids: vec![70_001],
        ..CreatePartition::default()
    };
    let bad = [
        CreatePartition { user: "with blank".into(), ..good() },
        CreatePartition { user: OFFICER.into(), ..good() },
        CreatePartition { user_password: "short".into(), ..good() },
        CreatePartition { user_uids: vec![1; 65], ..good() },
        CreatePartition { label: String::new(), ..good() },
    ];
    let mut client = running.client();
    for create in bad {
        client.connection.call(0, Op::CreatePartition(create)).unwrap_err();
    }
    let text = format!("{:?}", good());
    assert!(!text.contains(PASSWORD), "{text}");
    client.connection.call(0, Op::CreatePartition(good())).unwrap();
    assert_eq!(partition_info(&mut client).number, TLS);
    running.user().generate(KeyType::P256, "key").unwrap();
    let user = user_info(&mut running.officer(), USER);
    assert!(user.uids == [70_001] && !user.must_change_password);
}

#[test]
fn the_policy_of_a_partition() {
    let mut running = Running::with_partition();
    let set = |max_attempts, keep_initial_passwords| {
        Op::SetPolicy(SetPolicy { max_attempts, keep_initial_passwords })
    };
    let mut officer = running.officer();
    assert_eq!(code(officer.call(set(Some(2), Some(true)))), ErrorCode::AttributeWrong);
    assert_eq!(code(officer.call(set(Some(101), None))), ErrorCode::AttributeWrong);
    let policy = |client: &mut Client| partition_info(client).policy.unwrap();
    let sums = AuditUses::Sums.into();
    let usual = PartitionPolicy { max_attempts: 10, keep_initial_passwords: false, audit_uses: sums };
    assert_eq!(policy(&mut officer), usual);
    officer.call(set(Some(3), None)).unwrap();
    officer.call(set(None, Some(true))).unwrap();
    drop(officer);
    running = running.restart();
    let mut officer = running.officer();
    let changed = PartitionPolicy { max_attempts: 3, keep_initial_passwords: true, ..usual };
    assert_eq!(policy(&mut officer), changed);
    // A service's password may be set once and for all then.
    officer.create_initial_user("service", Role::CryptoUser, PASSWORD).unwrap();
    let reply = running.client().login(Role::CryptoUser, "service", PASSWORD).unwrap();
    assert!(!reply.must_change_password);

    let pins = |client: &mut Client| {
        let info = partition_info(client);
        (info.user_pin.unwrap(), info.officer_pin.unwrap())
    };
    officer.call(Op::DeleteUser(DeleteUser { name: "service".into() })).unwrap();
    assert_eq!(pins(&mut officer), (PinState::default(), PinState::default()));
    let mut client = running.client();
    let mut states = Vec::new();
    for _ in 0..3 {
        assert_eq!(code(client.login(Role::CryptoUser, USER, WRONG)), ErrorCode::PasswordWrong);
        states.push(pins(&mut client).0);
    }
    let low = PinState { count_low: true, ..PinState::default() };
    let last = PinState { final_try: true, ..low };
    assert_eq!(states, [low, last, PinState { locked: true, ..last }]);
    assert_eq!(code(client.login(Role::CryptoUser, USER, PASSWORD)), ErrorCode::UserLocked);
    // More attempts are given at once.
    officer.call(set(Some(4), None)).unwrap();
    client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
}

#[test]
fn the_owner_unlocks_the_only_officer() {
    let running = Running::with_partition();
    let mut client = running.client();
    for _ in 0..10 {
        let _ = client.login(Role::CryptoOfficer, OFFICER, WRONG);
    }
    assert_eq!(code(client.login(Role::CryptoOfficer, OFFICER, PASSWORD)), ErrorCode::UserLocked);
    client.call(Op::UnlockUser(UnlockUser { name: OFFICER.into(), signature: vec![] })).unwrap();
    running.officer();
}

#[test]
fn unknown_names_and_wrong_roles_look_like_wrong_passwords() {
    let running = Running::with_partition();
    let mut client = running.client();
    assert_eq!(code(client.login(Role::CryptoUser, "nobody", PASSWORD)), ErrorCode::PasswordWrong);
    assert_eq!(code(client.login(Role::CryptoOfficer, USER, PASSWORD)), ErrorCode::PasswordWrong);
    assert_eq!(code(client.login(Role::Unspecified, "", PASSWORD)), ErrorCode::Malformed);
}

#[test]
fn a_password_alone_is_enough_for_the_only_user_of_a_role() {
    let running = Running::with_partition();
    let mut client = running.client();
    assert_eq!(client.login(Role::CryptoUser, "", PASSWORD).unwrap().user, USER);
    assert_eq!(client.login(Role::CryptoOfficer, "", PASSWORD).unwrap().user, OFFICER);
    client.create_user("second", Role::CryptoUser, PASSWORD).unwrap();
    assert_eq!(code(client.login(Role::CryptoUser, "", PASSWORD)), ErrorCode::NoSuchUser);
}

fn by_ticket(client: &mut Client, ticket: &[u8]) -> Result<(), ErrorCode> {
    let login = Login { role: Role::CryptoUser.into(), ticket: ticket.to_vec(), ..Login::default() };
    client.call(Op::Login(login)).map(drop).map_err(|error| error.code().unwrap())
}

#[test]
fn a_ticket_stands_for_the_password_until_it_changes_or_its_user_logs_out() {
    let mut running = Running::with_partition();
    let pair = running.user().generate(KeyType::P256, "key").unwrap();
    let may_sign = |client: &mut Client| client.sign(&pair[0], Mechanism::Ecdsa, None, &[0; 32]).is_ok();

    let mut first = running.client();
    let ticket = first.login(Role::CryptoUser, USER, PASSWORD).unwrap().ticket;
    assert_eq!(ticket.len(), 32);
    let mut second = running.client();
    by_ticket(&mut second, &ticket).unwrap();
    assert!(may_sign(&mut second));
    let mut forged = ticket.clone();
    forged[31] ^= 1;
    assert_eq!(by_ticket(&mut running.client(), &forged), Err(ErrorCode::TicketInvalid));

    // A log-out ends it everywhere.
    first.call(Op::Logout(Logout {})).unwrap();
    assert!(!may_sign(&mut first) && !may_sign(&mut second));
    assert_eq!(by_ticket(&mut running.client(), &ticket), Err(ErrorCode::TicketInvalid));

    // A new password ends all but the log-in that set it.
    let ticket = first.login(Role::CryptoUser, USER, PASSWORD).unwrap().ticket;
    by_ticket(&mut second, &ticket).unwrap();
    let change = |old: &str, new: &str| {
        Op::ChangePassword(ChangePassword {
            name: USER.into(),
            old_password: old.into(),
            new_password: new.into(),
        })
    };
    assert_eq!(code(first.call(change(WRONG, "new password"))), ErrorCode::PasswordWrong);
    assert_eq!(code(first.call(change(PASSWORD, "short"))), ErrorCode::PasswordTooShort);
    first.call(change(PASSWORD, "new password")).unwrap();
    assert!(may_sign(&mut first) && !may_sign(&mut second));
    assert_eq!(by_ticket(&mut second, &ticket), Err(ErrorCode::TicketInvalid));
    assert_eq!(code(second.login(Role::CryptoUser, USER, PASSWORD)), ErrorCode::PasswordWrong);
    // An officer sets it without knowing the old one, but not another officer's.
    running.officer().call(change("", "chosen by the officer")).unwrap();
    let mut third = running.client();
    assert!(third.login(Role::CryptoUser, USER, "chosen by the officer").unwrap().must_change_password);
    third.call(change("chosen by the officer", PASSWORD)).unwrap();
    assert!(may_sign(&mut third), "the log-in that changed it goes on");
    let ticket = third.login(Role::CryptoUser, USER, PASSWORD).unwrap().ticket;
    let mut officer = running.officer();
    officer.create_user("admin2", Role::CryptoOfficer, PASSWORD).unwrap();
    let other = ChangePassword {
        name: "admin2".into(),
        old_password: String::new(),
        new_password: "new password".into(),
    };
    assert_eq!(code(officer.call(Op::ChangePassword(other))), ErrorCode::PasswordWrong);

    // Nor does it outlive the user, or the daemon.
    officer.call(Op::DeleteUser(DeleteUser { name: USER.into() })).unwrap();
    officer.create_user(USER, Role::CryptoUser, PASSWORD).unwrap();
    assert!(!may_sign(&mut third));
    assert_eq!(by_ticket(&mut running.client(), &ticket), Err(ErrorCode::TicketInvalid));
    let ticket = third.login(Role::CryptoUser, USER, PASSWORD).unwrap().ticket;
    drop((first, second, third, officer));
    running = running.restart();
    assert_eq!(by_ticket(&mut running.client(), &ticket), Err(ErrorCode::TicketInvalid));
}

fn partition_info(client: &mut Client) -> PartitionInfo {
    let listed = client.call(Op::ListPartitions(ListPartitions {})).unwrap();
    let response::Result::Partitions(list) = listed else { panic!() };
    list.partitions.into_iter().find(|partition| partition.number == client.partition).unwrap()
}

#[test]
fn an_admitted_user_id_acts_without_a_password() {
    let mut running = Running::with_partition();
    let uid = rustix::process::geteuid().as_raw();
    let pair = running.user().generate(KeyType::P256, "key").unwrap();
    let admit = |name: &str, withdraw| Op::AdmitUid(AdmitUid { name: name.into(), uid, withdraw });
    let mut officer = running.officer();
    assert_eq!(partition_info(&mut running.client()).acting_as, "");
    officer.call(admit(USER, false)).unwrap();
    officer.call(admit(OFFICER, false)).unwrap();
    officer.create_user("second", Role::CryptoUser, "").unwrap();
    assert_eq!(code(officer.call(admit("second", false))), ErrorCode::Exists, "one user of each role");
    drop(officer);
    running = running.restart();

    // Both roles' rights together; keys are used as the crypto user.
    let mut client = running.client();
    let info = partition_info(&mut client);
    assert_eq!((info.acting_as.as_str(), info.acting_role()), (USER, Role::CryptoUser));
    client.sign(&pair[0], Mechanism::Ecdsa, None, &[0; 32]).unwrap();
    client.call(Op::ListUsers(ListUsers {})).unwrap();
    // An explicit log-in replaces that, a log-out brings it back.
    client.login(Role::CryptoOfficer, OFFICER, PASSWORD).unwrap();
    assert_eq!(code(client.sign(&pair[0], Mechanism::Ecdsa, None, &[0; 32])), ErrorCode::NotPermitted);
    client.call(Op::Logout(Logout {})).unwrap();
    client.sign(&pair[0], Mechanism::Ecdsa, None, &[0; 32]).unwrap();
    // Withdrawing works on open connections.
    running.officer().call(admit(USER, true)).unwrap();
    running.officer().call(admit(OFFICER, true)).unwrap();
    assert_eq!(code(client.sign(&pair[0], Mechanism::Ecdsa, None, &[0; 32])), ErrorCode::NotLoggedIn);
}

#[test]
fn partitions_are_apart() {
    let running = Running::with_partition();
    let pair = running.user().generate(KeyType::P256, "key").unwrap();
    let mut other = running.client();
    other.make_partition("other");
    assert_eq!(other.partition, TLS + 1);
    other.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    assert_eq!(code(other.sign(&pair[0], Mechanism::Ecdsa, None, &[0; 32])), ErrorCode::NoSuchObject);
    other.partition = TLS;
    assert_eq!(code(other.sign(&pair[0], Mechanism::Ecdsa, None, &[0; 32])), ErrorCode::NotLoggedIn);
    other.partition = 7;
    assert_eq!(code(other.find(FindObjects::default())), ErrorCode::NoSuchPartition);
}

#[test]
fn a_deleted_partition_is_gone_and_its_number_is_not_used_again() {
    let mut running = Running::with_partition();
    running.user().generate(KeyType::P256, "key").unwrap();
    let mut officer = running.officer();
    let delete = |label: &str| Op::DeletePartition(DeletePartition { label: label.into() });
    assert_eq!(code(officer.call(delete("tsl"))), ErrorCode::AttributeWrong);
    officer.call(delete("tls")).unwrap();
    assert_eq!(code(officer.find(FindObjects::default())), ErrorCode::NoSuchPartition);
    running.client().make_partition("tls");
    drop(officer);
    running = running.restart();
    let mut client = running.client();
    client.partition = TLS + 1;
    assert_eq!(partition_info(&mut client).objects, 0);
    let duplicate = CreatePartition {
        label: "tls".into(),
        officer: "x".into(),
        password: PASSWORD.into(),
        ..Default::default()
    };
    assert_eq!(code(client.call(Op::CreatePartition(duplicate))), ErrorCode::Exists);
}

#[test]
fn the_last_officer_stays() {
    let running = Running::with_partition();
    let mut officer = running.officer();
    let delete = || Op::DeleteUser(DeleteUser { name: OFFICER.into() });
    assert_eq!(code(officer.call(delete())), ErrorCode::NotPermitted);
    // An officer as whom nobody can act is none.
    officer.create_user("admin2", Role::CryptoOfficer, "").unwrap();
    assert_eq!(code(officer.call(delete())), ErrorCode::NotPermitted);
    let admit = |uid, withdraw| Op::AdmitUid(AdmitUid { name: "admin2".into(), uid, withdraw });
    officer.call(admit(70_001, false)).unwrap();
    officer.call(admit(70_002, false)).unwrap();
    let mut other = running.officer();
    officer.call(delete()).unwrap();
    assert_eq!(code(other.call(Op::ListUsers(ListUsers {}))), ErrorCode::NotLoggedIn);
}

#[test]
fn the_last_officer_keeps_a_user_id() {
    let running = Running::with_partition();
    let uid = rustix::process::geteuid().as_raw();
    let mut client = running.officer();
    client.create_user("admin2", Role::CryptoOfficer, "").unwrap();
    let admit = |uid, withdraw| Op::AdmitUid(AdmitUid { name: "admin2".into(), uid, withdraw });
    client.call(admit(uid, false)).unwrap();
    client.call(admit(uid + 1, false)).unwrap();
    client.call(Op::DeleteUser(DeleteUser { name: OFFICER.into() })).unwrap();
    client.call(admit(uid + 1, true)).unwrap();
    assert_eq!(code(client.call(admit(uid, true))), ErrorCode::NotPermitted);
    client.call(Op::ListUsers(ListUsers {})).unwrap();
}
