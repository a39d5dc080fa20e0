//! Who may do what, who is who, and what wrong passwords lead to.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod requests;
mod running;

use requests::every_request;
use running::{Client, OFFICER, PASSWORD, Running, USER, code, partition_info};
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
        Op::InitCluster(_)
        | Op::AdmitNode(_)
        | Op::JoinCluster(_)
        | Op::LeaveCluster(_)
        | Op::ExpelNode(_) => who == Who::Root,
        Op::ShowCluster(_) => true,
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
