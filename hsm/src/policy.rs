//! Who may do what: one table, asked in one place before a request is carried out.

use strongroom_protocol::v1::{Role, request::Op};

use crate::failure::{Failure, refuse};
use crate::session::Acting;

/// Whom a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Anybody who can connect. What they see may still depend on who they are.
    Anyone,
    /// Root, or the user as whom the daemon runs: they own the machine's partitions.
    Owner,
    /// A crypto officer of the partition.
    Officer,
    /// A crypto officer of the partition, or the owner: so that wrong passwords, which anybody can send,
    /// never lock the last officer out for good.
    OfficerOrOwner,
    /// A crypto officer, or whoever knows the user's old password: the handler asks for it.
    OfficerOrOldPassword,
    /// A crypto user of the partition.
    CryptoUser,
}

/// The table. A request that is not here does not compile.
pub fn needs(op: &Op) -> Needs {
    match op {
        Op::Hello(_) | Op::Status(_) | Op::ListPartitions(_) => Needs::Anyone,
        Op::Login(_) | Op::Logout(_) | Op::GenerateRandom(_) => Needs::Anyone,
        // Private objects are shown to, and used by, crypto users only: see request::objects.
        Op::FindObjects(_) | Op::Verify(_) => Needs::Anyone,
        Op::CreatePartition(_) => Needs::Owner,
        Op::DeletePartition(_) => Needs::Officer,
        Op::ListUsers(_) | Op::CreateUser(_) | Op::DeleteUser(_) | Op::AdmitUid(_) => Needs::Officer,
        Op::UnlockUser(_) => Needs::OfficerOrOwner,
        Op::ChangePassword(_) => Needs::OfficerOrOldPassword,
        Op::GenerateKeyPair(_) | Op::ImportKeyPair(_) | Op::CreateObject(_) => Needs::CryptoUser,
        Op::SetAttributes(_) | Op::DestroyObject(_) => Needs::CryptoUser,
        Op::Sign(_) => Needs::CryptoUser,
    }
}

/// Checks the table for one request.
///
/// # Errors
///
/// NOT_LOGGED_IN if a log-in would help, NOT_PERMITTED if those who act may not do this.
pub fn authorize(op: &Op, acting: &Acting) -> Result<(), Failure> {
    let (permitted, wanted) = match needs(op) {
        Needs::Anyone | Needs::OfficerOrOldPassword => return Ok(()),
        Needs::Owner if acting.owner => return Ok(()),
        Needs::Owner => {
            return refuse!(NotPermitted, "only root and the user as whom strongroomd runs may do this");
        }
        Needs::Officer => (acting.officer.is_some(), Role::CryptoOfficer),
        Needs::OfficerOrOwner => (acting.officer.is_some() || acting.owner, Role::CryptoOfficer),
        Needs::CryptoUser => (acting.crypto_user.is_some(), Role::CryptoUser),
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
