//! Who may do what: one table, asked in one place before a request is carried out.
//!
//! [`matrix`] reads the same table by role: for `strongroom user roles` and for docs/roles.md.

pub mod matrix;

use std::sync::Arc;

use strongroom_protocol::v1::{Role, request::Op};

use crate::failure::{Failure, refuse};
use crate::request::public_keys;
use crate::session::Acting;
use crate::users::User;

/// Whom a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Anybody who can connect, in whatever state.
    Anyone,
    /// Anybody who can connect, but for who logged in with a password that has to be changed first. What they
    /// see may still depend on who they are.
    Public,
    /// Root, or the user as whom the daemon runs: they own the machine, and make its partitions.
    Owner,
    /// A crypto officer of the partition.
    Officer,
    /// A crypto officer of the partition, or an appliance user: what backup, synchronisation and audit look at.
    OfficerOrAppliance,
    /// A crypto officer of the partition, or the owner of the machine.
    OfficerOrOwner,
    /// A crypto officer of the partition, its owner by a signed challenge, or, of a partition without an owner's
    /// certificate, the owner of the machine: so that wrong passwords, which anybody can send, never lock the last
    /// officer out for good. The handler decides.
    Unlocking,
    /// A crypto officer, or whoever knows the user's old password: the handler asks for it.
    OfficerOrOldPassword,
    /// A crypto user of the partition.
    CryptoUser,
    /// A crypto user of the partition, or somebody whom the key names: the handler asks the key, see
    /// [`crate::request::objects::usable`].
    KeyUser,
    /// A crypto user or a crypto officer of the partition.
    OfficerOrCryptoUser,
}

/// A request in the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The request's name in the protocol.
    pub request: &'static str,
    /// Whom it needs.
    pub needs: Needs,
    /// What it does, for people.
    pub what: &'static str,
}

/// Makes [`needs`] and [`TABLE`] of one list, so that they cannot differ.
macro_rules! table {
    ($($op:ident: $needs:ident, $what:literal;)*) => {
        /// Whom a request needs. A request that is not in the table does not compile.
        fn row_needs(op: &Op) -> Needs {
            match op { $(Op::$op(_) => Needs::$needs,)* }
        }

        /// All requests, in the order in which people are shown them.
        pub const TABLE: &[Row] =
            &[$(Row { request: stringify!($op), needs: Needs::$needs, what: $what },)*];
    };
}

table! {
    Hello: Anyone, "begin a connection";
    Status: Anyone, "see that the daemon runs, and what it has done";
    ListPartitions: Anyone, "list the partitions, with labels and how many objects they hold";
    ListRights: Anyone, "see this table";
    ShowPage: Anyone, "get a link to the daemon's page, which shows what one may see";
    DescribeAudit: Anyone, "see where the audit log is, and the public key that it is verified with";
    OpenChannel: Anyone, "share memory with the daemon, with the rights that the connection has";
    Login: Anyone, "log in, with the own password";
    Logout: Anyone, "log out";
    GenerateRandom: Public, "get random bytes";
    // Who sees what is in request::objects.
    FindObjects: Public, "list public keys, certificates and data (private and secret keys: crypto users only)";
    Verify: Public, "verify with a public key";
    Recover: Public, "get what was signed out of a signature, with a public key";
    Encapsulate: Public, "make a shared secret for the owner of a public key";
    CreatePartition: Owner, "make a partition with its first crypto officer";
    CreateSecurityDomain: Officer, "make the partition's security domain, once";
    RenewSecurityDomain: Officer, "renew the security domain, with shares of the present one";
    ShowSecurityDomain: OfficerOrAppliance, "see the partition's security domain and its holders";
    BeginBackup: OfficerOrAppliance, "make a backup of the partition, or of a key";
    ReadBackup: OfficerOrAppliance, "read the backup that was begun";
    BeginRestore: Owner, "restore a backup, or see whether it could be restored";
    RestoreChunk: Owner, "give the next bytes of the backup that is being restored";
    FinishRestore: Owner, "make what was restored usable";
    Seal: Owner, "seal the node: wipe all keys from its memory";
    Unseal: Owner, "unseal the node";
    SealWith: Owner, "change what unseals the node";
    ShowSeal: Owner, "see who holds the shares that unseal the node";
    ShowTampering: Owner, "see what was found in a store that was tampered with";
    ClearTampering: Owner, "go on after tampering";
    CheckStore: Owner, "compare the store with what the node remembers";
    Zeroize: Owner, "destroy the node's keys and its store";
    SetQuota: Owner, "limit a partition's keys, memory and operations a second";
    DeletePartition: Officer, "delete the partition with all that is in it";
    ListUsers: OfficerOrAppliance, "list the users";
    // The node's own log is the owner's: see request::audit.
    ReadAudit: OfficerOrAppliance, "read the partition's audit log (the daemon's own: root only)";
    SetAudit: OfficerOrAppliance, "say whether each use of a key has an entry in the audit log";
    CreateUser: Officer, "create a user";
    DeleteUser: Officer, "delete a user";
    AdmitUid: Officer, "let a local user id act as a user, or no longer";
    UnlockUser: Unlocking, "unlock a user who gave too many wrong passwords";
    ChallengeUser: Anyone, "get the challenge with which the partition's owner unlocks a locked user";
    RequestNodeCertificate: Anyone, "get the node's certificate request, for the partition's owner to sign";
    InitCluster: Owner, "make a cluster of the node: its partitions move to etcd";
    AdmitNode: Owner, "let a new node into the cluster, with a certificate by each partition's owner";
    JoinCluster: Owner, "make the node one of the cluster to which it was admitted";
    LeaveCluster: Owner, "take the node out of its cluster";
    ExpelNode: Owner, "take another node out of the cluster";
    ShowCluster: Anyone, "see the cluster's nodes, and whether a majority of etcd answers";
    InstallNodeCertificate: OfficerOrOwner, "give the node its certificate";
    ProveNode: Anyone, "have the node prove that it is the owner's";
    SetPolicy: Officer, "set how many wrong passwords lock a user, and whether initial passwords must be changed";
    ChangePassword: OfficerOrOldPassword, "change a password";
    GenerateKeyPair: CryptoUser, "make a key pair";
    ImportKeyPair: CryptoUser, "bring a private key in";
    GenerateKey: CryptoUser, "make a secret key";
    ImportKey: CryptoUser, "bring a secret key in";
    CreateObject: CryptoUser, "store a certificate, a public key or data";
    SetAttributes: CryptoUser, "rename an object, or change its attributes";
    DestroyObject: CryptoUser, "destroy a key or another object";
    CopyObject: CryptoUser, "copy a key or another object";
    RestoreSessionObjects: CryptoUser, "bring the own session objects back into the daemon's memory";
    ForgetSessionObjects: CryptoUser, "wipe the own session objects from the daemon's memory";
    RevealKey: CryptoUser, "read a secret key that was made to be read";
    Sign: KeyUser, "sign with a private key";
    Encrypt: KeyUser, "encrypt with a secret key (with a public key: whoever sees it)";
    Mac: KeyUser, "make or check a message authentication code with a secret key";
    AuthenticateUse: KeyUser, "give the own password for one use of a key that asks for it each time";
    Decrypt: KeyUser, "decrypt with a private or secret key";
    Derive: KeyUser, "agree on a secret with a private key";
    DeriveKey: CryptoUser, "make a secret key of another, or of a password";
    Decapsulate: KeyUser, "get the shared secret that was made for a private key";
    GrantAccess: CryptoUser, "let somebody use one key, for what a role permits";
    RevokeAccess: CryptoUser, "no longer let somebody use a key";
    ListAccess: CryptoUser, "see whom a key names";
    ListAccessRoles: OfficerOrCryptoUser, "list the roles that keys give";
    PutAccessRole: OfficerOrCryptoUser, "make or change a role that keys give";
    DeleteAccessRole: OfficerOrCryptoUser, "delete a role that keys give";
    WrapKey: KeyUser, "take an extractable key out, wrapped with another key";
    UnwrapKey: CryptoUser, "bring a wrapped key in";
    TrustKey: Officer, "trust a wrapping key, or no longer";
    DeleteKey: CryptoUser, "delete a key, which is kept for a while";
    ListDeleted: OfficerOrCryptoUser, "list deleted keys, and when they go";
    RecoverKey: Officer, "bring a deleted key back";
    PurgeKey: Officer, "destroy a deleted key before its time";
    SetLife: Officer, "say for how long deleted keys are kept, and switch purge protection on";
    RotateKey: CryptoUser, "make a new version of a key";
    ActivateKey: CryptoUser, "make a version the one that the key's name means";
    SetRotation: CryptoUser, "have new versions made by time";
}

/// Whom a request needs.
pub fn needs(op: &Op) -> Needs {
    match op {
        // A public key is public: whoever sees it could encrypt with it anywhere.
        Op::Encrypt(m) if public_keys::encrypts(m) => Needs::Public,
        _ => row_needs(op),
    }
}

/// What a node answers that is sealed, tampered with or zeroized. Everything else is refused before it is looked at.
pub fn answered_when_closed(op: &Op) -> bool {
    matches!(
        op,
        Op::Hello(_)
            | Op::Status(_)
            | Op::OpenChannel(_)
            | Op::DescribeAudit(_)
            | Op::ReadAudit(_)
            | Op::Unseal(_)
            | Op::ShowSeal(_)
            | Op::ShowTampering(_)
            | Op::ClearTampering(_)
            | Op::Zeroize(_)
            | Op::ShowCluster(_)
    )
}

/// What a node of a cluster also does when no majority of etcd's members has answered for longer than its lease: it needs neither keys
/// of partitions nor etcd.
pub fn answered_when_cut_off(op: &Op) -> bool {
    matches!(op, Op::Seal(_) | Op::SealWith(_))
}

/// Checks the table for one request.
///
/// # Errors
///
/// NOT_LOGGED_IN if a log-in would help, NOT_PERMITTED if those who act may not do this, PASSWORD_EXPIRED if
/// they have to change their password first.
pub fn authorize(op: &Op, acting: &Acting) -> Result<(), Failure> {
    permit(needs(op), acting)
}

/// As [`authorize`], for a request whose needs are known.
///
/// # Errors
///
/// As for [`authorize`].
pub fn permit(needs: Needs, acting: &Acting) -> Result<(), Failure> {
    if let Some(user) = &acting.must_change
        && !matches!(needs, Needs::Anyone | Needs::OfficerOrOldPassword | Needs::Unlocking)
    {
        return refuse!(
            PasswordExpired,
            "the password of {} was set by somebody else and has to be changed first: 'strongroom user password \
             {}', or C_SetPIN",
            user.title(),
            user.name
        );
    }
    let (permitted, wanted) = match needs {
        Needs::Anyone | Needs::Public | Needs::OfficerOrOldPassword | Needs::Unlocking => return Ok(()),
        Needs::Owner if acting.root => return Ok(()),
        Needs::Owner => {
            return refuse!(NotPermitted, "only root and the user as whom strongroomd runs may do this");
        }
        Needs::Officer => (acting.officer.is_some(), Role::CryptoOfficer),
        Needs::OfficerOrAppliance => {
            (acting.officer.is_some() || acting.appliance_user.is_some(), Role::CryptoOfficer)
        }
        Needs::OfficerOrOwner => (acting.officer.is_some() || acting.root, Role::CryptoOfficer),
        Needs::CryptoUser => (acting.crypto_user.is_some(), Role::CryptoUser),
        Needs::KeyUser => (acting.crypto_user.is_some() || !acting.named.is_empty(), Role::CryptoUser),
        Needs::OfficerOrCryptoUser => {
            (acting.crypto_user.is_some() || acting.officer.is_some(), Role::CryptoUser)
        }
    };
    if permitted {
        return Ok(());
    }
    let wanted = crate::users::role_name(wanted);
    match acting.anyone() {
        Some(user) => refuse!(NotPermitted, "{user} may not do this: it takes a {wanted}"),
        None => refuse!(NotLoggedIn, "this takes a {wanted}: log in first"),
    }
}

/// Who does what needs this, for the log. The one who gives the right is named: a connection may act as a
/// crypto officer and a crypto user at once.
pub fn responsible(needs: Needs, acting: &Acting) -> String {
    if needs == Needs::KeyUser {
        return acting.key_user();
    }
    match responsible_user(needs, acting) {
        Some(user) => user.title(),
        None if acting.root => "owner".to_owned(),
        None => String::new(),
    }
}

/// As [`responsible`]; `None`: no user of the partition gives the right.
pub fn responsible_user(needs: Needs, acting: &Acting) -> Option<&Arc<User>> {
    match needs {
        Needs::Officer | Needs::OfficerOrOwner | Needs::OfficerOrOldPassword | Needs::Unlocking => {
            acting.officer.as_ref()
        }
        Needs::OfficerOrAppliance => acting.officer.as_ref().or(acting.appliance_user.as_ref()),
        Needs::CryptoUser => acting.crypto_user.as_ref(),
        Needs::OfficerOrCryptoUser => acting.crypto_user.as_ref().or(acting.officer.as_ref()),
        Needs::KeyUser => acting.crypto_user.as_ref().or(acting.limited.as_ref()),
        Needs::Owner => None,
        Needs::Anyone | Needs::Public => acting.shown(),
    }
}

#[cfg(test)]
mod tests {
    use strongroom_protocol::v1::{
        CreatePartition, DeletePartition, ErrorCode, InstallNodeCertificate, Sign,
    };

    use super::*;

    fn acting(root: bool, officer: bool, crypto_user: bool) -> Acting {
        let user = |name, role| Arc::new(User::new(name, role, None, Vec::new(), 1));
        Acting {
            root,
            officer: officer.then(|| user("admin", Role::CryptoOfficer)),
            crypto_user: crypto_user.then(|| user("web", Role::CryptoUser)),
            ..Acting::default()
        }
    }

    /// The rest of the table is tested over the socket, where everybody is the owner.
    #[test]
    fn what_only_the_owner_may() {
        let create = Op::CreatePartition(CreatePartition::default());
        let install = Op::InstallNodeCertificate(InstallNodeCertificate::default());
        for officer in [false, true] {
            for user in [false, true] {
                assert!(authorize(&create, &acting(true, officer, user)).is_ok());
                let refused = authorize(&create, &acting(false, officer, user)).unwrap_err();
                assert_eq!(refused.code, ErrorCode::NotPermitted);
                assert_eq!(authorize(&install, &acting(false, officer, user)).is_ok(), officer);
            }
        }
        assert!(authorize(&install, &acting(true, false, false)).is_ok());
    }

    #[test]
    fn the_one_who_gives_the_right_is_responsible() {
        let both = acting(true, true, true);
        assert_eq!(responsible(Needs::Officer, &both), "crypto officer \"admin\"");
        assert_eq!(responsible(Needs::CryptoUser, &both), "crypto user \"web\"");
        assert_eq!(responsible(Needs::OfficerOrOwner, &acting(true, false, true)), "owner");
    }

    #[test]
    fn owning_the_machine_gives_no_right_to_keys() {
        let sign = Op::Sign(Sign::default());
        let delete = Op::DeletePartition(DeletePartition::default());
        assert_eq!(authorize(&sign, &acting(true, false, false)).unwrap_err().code, ErrorCode::NotLoggedIn);
        assert_eq!(authorize(&delete, &acting(true, false, false)).unwrap_err().code, ErrorCode::NotLoggedIn);
        let refused = authorize(&sign, &acting(true, true, false)).unwrap_err();
        assert_eq!(refused.code, ErrorCode::NotPermitted);
        assert!(refused.message.contains("admin") && refused.message.contains("crypto user"));
        assert!(authorize(&sign, &acting(false, true, true)).is_ok());
    }
}
