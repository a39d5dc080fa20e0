//! What each request is called in the log, and how it is noted: one table.

use strongroom_audit::Entry;
use strongroom_protocol::v1::{self, request::Op};
use strongroom_protocol::v1::{KeyTemplate, KeyType};

use crate::users;

/// How a request is noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    /// It changes something: an entry before, and one with the outcome.
    Change,
    /// Somebody logs in or out: an entry with the outcome, before it is answered.
    Session,
    /// It uses a key, or reads: counted. The object's identity, if it names one.
    Counted(&'a [u8]),
}

/// The table. A request that is not here does not compile.
pub(super) fn of(op: &Op) -> (&'static str, Kind<'_>) {
    use Kind::{Change, Counted, Session};
    match op {
        Op::Hello(_) => ("hello", Counted(&[])),
        Op::Status(_) => ("status", Counted(&[])),
        Op::ListPartitions(_) => ("list_partitions", Counted(&[])),
        Op::ShowPage(_) => ("show_page", Counted(&[])),
        Op::ListRights(_) => ("list_rights", Counted(&[])),
        Op::OpenChannel(_) => ("open_channel", Counted(&[])),
        Op::CreatePartition(_) => ("create_partition", Change),
        Op::DeletePartition(_) => ("delete_partition", Change),
        // A ticket stands for a log-in that was noted: each connection of a web server sends it.
        Op::Login(m) if !m.ticket.is_empty() => ("login_by_ticket", Counted(&[])),
        Op::Login(_) => ("login", Session),
        Op::Logout(_) => ("logout", Session),
        Op::ListUsers(_) => ("list_users", Counted(&[])),
        Op::CreateUser(_) => ("create_user", Change),
        Op::DeleteUser(_) => ("delete_user", Change),
        Op::ChangePassword(_) => ("change_password", Change),
        Op::AdmitUid(_) => ("admit_uid", Change),
        Op::UnlockUser(_) => ("unlock_user", Change),
        Op::ChallengeUser(_) => ("challenge_user", Counted(&[])),
        Op::SetPolicy(_) => ("set_policy", Change),
        Op::SetQuota(_) => ("set_quota", Change),
        Op::RequestNodeCertificate(_) => ("request_node_certificate", Counted(&[])),
        Op::InstallNodeCertificate(_) => ("install_node_certificate", Change),
        Op::InitCluster(_) => ("init_cluster", Change),
        Op::AdmitNode(_) => ("admit_node", Change),
        Op::JoinCluster(_) => ("join_cluster", Change),
        Op::LeaveCluster(_) => ("leave_cluster", Change),
        Op::ExpelNode(_) => ("expel_node", Change),
        Op::ShowCluster(_) => ("show_cluster", Counted(&[])),
        Op::ProveNode(_) => ("prove_node", Counted(&[])),
        Op::FindObjects(_) => ("find_objects", Counted(&[])),
        Op::GenerateKeyPair(_) => ("generate_key_pair", Change),
        Op::ImportKeyPair(_) => ("import_key_pair", Change),
        Op::GenerateKey(_) => ("generate_key", Change),
        Op::ImportKey(_) => ("import_key", Change),
        Op::CreateObject(_) => ("create_object", Change),
        Op::SetAttributes(_) => ("set_attributes", Change),
        Op::CopyObject(_) => ("copy_object", Change),
        Op::RevealKey(_) => ("reveal_key", Change),
        Op::RestoreSessionObjects(_) => ("restore_session_objects", Counted(&[])),
        Op::ForgetSessionObjects(_) => ("forget_session_objects", Counted(&[])),
        Op::DestroyObject(_) => ("destroy_object", Change),
        Op::Sign(m) => ("sign", Counted(&m.key)),
        Op::Verify(m) => ("verify", Counted(&m.key)),
        Op::GenerateRandom(_) => ("generate_random", Counted(&[])),
        Op::Encrypt(m) => ("encrypt", Counted(&m.key)),
        Op::Decrypt(m) => ("decrypt", Counted(&m.key)),
        Op::Derive(m) => ("derive", Counted(&m.key)),
        // A key comes of it: an entry of its own.
        Op::DeriveKey(_) => ("derive_key", Change),
        Op::Mac(m) => ("mac", Counted(&m.key)),
        Op::Recover(m) => ("recover", Counted(&m.key)),
        // Each has an entry: it is a log-in for one use.
        Op::AuthenticateUse(_) => ("authenticate_use", Session),
        Op::Encapsulate(m) => ("encapsulate", Counted(&m.key)),
        Op::Decapsulate(m) => ("decapsulate", Counted(&m.key)),
        // A key that goes out is an entry of its own, before it goes.
        Op::WrapKey(_) => ("wrap_key", Change),
        Op::UnwrapKey(_) => ("unwrap_key", Change),
        Op::TrustKey(_) => ("trust_key", Change),
        Op::DeleteKey(_) => ("delete_key", Change),
        Op::ListDeleted(_) => ("list_deleted", Counted(&[])),
        Op::RecoverKey(_) => ("recover_key", Change),
        Op::PurgeKey(_) => ("purge_key", Change),
        Op::SetLife(_) => ("set_life", Change),
        Op::RotateKey(_) => ("rotate_key", Change),
        Op::ActivateKey(_) => ("activate_key", Change),
        Op::SetRotation(_) => ("set_rotation", Change),
        Op::CreateSecurityDomain(_) => ("create_security_domain", Change),
        Op::RenewSecurityDomain(_) => ("renew_security_domain", Change),
        Op::ShowSecurityDomain(_) => ("show_security_domain", Counted(&[])),
        // Who began a backup is an entry of its own; its pieces are counted.
        Op::BeginBackup(_) => ("begin_backup", Change),
        Op::ReadBackup(_) => ("read_backup", Counted(&[])),
        Op::BeginRestore(_) => ("begin_restore", Change),
        Op::RestoreChunk(_) => ("restore_chunk", Counted(&[])),
        Op::FinishRestore(_) => ("finish_restore", Change),
        Op::Seal(_) => ("seal", Change),
        Op::Unseal(_) => ("unseal", Change),
        Op::SealWith(_) => ("seal_with", Change),
        Op::ShowSeal(_) => ("show_seal", Counted(&[])),
        Op::ShowTampering(_) => ("show_tampering", Counted(&[])),
        Op::ClearTampering(_) => ("clear_tampering", Change),
        Op::CheckStore(_) => ("check_store", Change),
        Op::Zeroize(_) => ("zeroize", Change),
        Op::GrantAccess(_) => ("grant_access", Change),
        Op::RevokeAccess(_) => ("revoke_access", Change),
        Op::ListAccess(_) => ("list_access", Counted(&[])),
        Op::PutAccessRole(_) => ("put_access_role", Change),
        Op::DeleteAccessRole(_) => ("delete_access_role", Change),
        Op::ListAccessRoles(_) => ("list_access_roles", Counted(&[])),
        Op::ReadAudit(_) => ("read_audit", Counted(&[])),
        Op::DescribeAudit(_) => ("describe_audit", Counted(&[])),
        Op::SetAudit(_) => ("set_audit", Change),
    }
}

/// The object that a change is about, if it names one that is there.
pub(super) fn object(op: &Op) -> &[u8] {
    match op {
        Op::SetAttributes(m) => &m.object,
        Op::CopyObject(m) => &m.object,
        Op::RevealKey(m) => &m.key,
        Op::DestroyObject(m) => &m.object,
        Op::WrapKey(m) => &m.key,
        Op::DeriveKey(m) => &m.key,
        Op::TrustKey(m) => &m.object,
        Op::DeleteKey(m) => first(&m.objects),
        Op::RecoverKey(m) => first(&m.objects),
        Op::PurgeKey(m) => first(&m.objects),
        Op::RotateKey(m) => &m.object,
        Op::ActivateKey(m) => &m.object,
        Op::SetRotation(m) => &m.object,
        Op::GrantAccess(m) => &m.key,
        Op::RevokeAccess(m) => &m.key,
        _ => &[],
    }
}

/// A key's private or secret half comes first.
fn first(objects: &[Vec<u8>]) -> &[u8] {
    objects.first().map(Vec::as_slice).unwrap_or_default()
}

/// What a request says, without its secrets.
pub(super) fn describe(op: &Op, entry: Entry) -> Entry {
    let password = |given: &str| if given.is_empty() { "none" } else { "set" };
    match op {
        Op::CreatePartition(m) => {
            let mut entry = entry.with("officer", name(&m.officer));
            m.label.clone_into(&mut entry.partition);
            entry
        }
        Op::CreateUser(m) => {
            let entry =
                entry.with("target", name(&m.name)).with("target_role", super::trail::role_name(m.role()));
            let entry = entry.with("password", password(&m.password));
            if m.uids.is_empty() { entry } else { entry.with("uids", list(&m.uids)) }
        }
        Op::DeleteKey(v1::DeleteKey { objects })
        | Op::RecoverKey(v1::RecoverKey { objects, .. })
        | Op::PurgeKey(v1::PurgeKey { objects })
            if objects.len() > 1 =>
        {
            // More than this are refused.
            let ids: Vec<_> = objects.iter().take(64).map(|object| super::trail::identity(object)).collect();
            entry.with("objects", ids.join(","))
        }
        Op::DeleteUser(m) => entry.with("target", name(&m.name)),
        Op::ChangePassword(m) => entry.with("target", name(&m.name)),
        Op::AdmitUid(m) => entry
            .with("target", name(&m.name))
            .with(if m.withdraw { "withdrawn_uid" } else { "admitted_uid" }, m.uid),
        // Numbers and switches: nothing of it is secret.
        Op::SetLife(m) => entry.with("life", format!("{m:?}")),
        Op::SetQuota(m) => entry.with("quota", format!("{m:?}")),
        Op::SetRotation(m) => entry.with("every_seconds", m.every_seconds),
        Op::UnlockUser(m) => {
            let entry = entry.with("target", name(&m.name));
            if m.signature.is_empty() { entry } else { entry.with("signed_by", "partition owner") }
        }
        Op::SetPolicy(m) => {
            let entry = match m.max_attempts {
                Some(attempts) => entry.with("max_attempts", attempts),
                None => entry,
            };
            match m.keep_initial_passwords {
                Some(keep) => entry.with("keep_initial_passwords", keep),
                None => entry,
            }
        }
        Op::SetAudit(m) => entry.with("uses", super::trail::lower(m.uses().as_str_name(), "AUDIT_USES_")),
        Op::GenerateKeyPair(m) => key(entry, m.private_key.as_ref(), m.key_type()),
        Op::ImportKeyPair(m) => key(entry, m.private_key.as_ref(), KeyType::Unspecified),
        Op::GenerateKey(m) => key(entry, m.key.as_ref(), m.key_type()),
        Op::ImportKey(m) => key(entry, m.key.as_ref(), m.key_type()),
        Op::CreateObject(m) => {
            let mut entry = entry;
            entry.key = m.object.as_ref().map(|object| object.label.clone()).unwrap_or_default();
            entry
        }
        Op::SealWith(m) => {
            let means = if m.holders.is_empty() {
                if m.passphrase.is_empty() { "file" } else { "passphrase" }
            } else {
                "shares"
            };
            entry.with("means", means)
        }
        Op::CreateSecurityDomain(v1::CreateSecurityDomain { holders, needed })
        | Op::RenewSecurityDomain(v1::RenewSecurityDomain { holders, needed, .. }) => {
            entry.with("holders", holders.len()).with("needed", *needed)
        }
        Op::ClearTampering(m) => {
            entry.with("use_as_is", m.use_as_is.join(",")).with("accept_loss", m.accept_loss.join(","))
        }
        Op::GrantAccess(v1::GrantAccess { grant: Some(grant), .. })
        | Op::RevokeAccess(v1::RevokeAccess { grant: Some(grant), .. }) => {
            // Names and numbers: nothing of it is secret.
            entry.with("grant", format!("{grant:?}"))
        }
        Op::PutAccessRole(m) => {
            let name = m.role.as_ref().map(|role| role.name.clone()).unwrap_or_default();
            entry.with("access_role", name)
        }
        Op::DeleteAccessRole(m) => entry.with("access_role", &m.name),
        Op::WrapKey(m) => entry.with("wrapping_key", super::trail::identity(&m.wrapping_key)),
        Op::UnwrapKey(m) => key(entry, m.key.as_ref(), KeyType::Unspecified)
            .with("unwrapping_key", super::trail::identity(&m.unwrapping_key)),
        Op::TrustKey(m) => {
            let mut entry = entry.with("trusted", !m.distrust);
            m.label.clone_into(&mut entry.key);
            entry
        }
        Op::SetAttributes(m) => {
            let mut entry = entry;
            if let Some(label) = &m.label {
                entry = entry.with("new_label", label);
            }
            if let Some(id) = &m.id {
                entry = entry.with("new_id", strongroom_audit::chain::hex(id.get(..255).unwrap_or(id)));
            }
            if m.attributes.is_empty() { entry } else { entry.with("attributes", m.attributes.len()) }
        }
        _ => entry,
    }
}

fn key(mut entry: Entry, template: Option<&KeyTemplate>, key_type: KeyType) -> Entry {
    entry.key = template.map(|template| template.label.clone()).unwrap_or_default();
    entry.key_type = super::trail::key_type_name(key_type);
    entry
}

/// A user's name; what can be none does not belong in the log: it may be a password in the wrong place.
pub(super) fn name(name: &str) -> &str {
    if users::check_name(name).is_ok() { name } else { "(not a name)" }
}

fn list(numbers: &[u32]) -> String {
    let numbers: Vec<String> = numbers.iter().take(64).map(u32::to_string).collect();
    numbers.join(",")
}
