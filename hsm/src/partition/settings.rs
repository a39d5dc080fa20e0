//! What is set for a whole partition. It lies in the header's record.

use std::collections::BTreeMap;
use std::sync::Arc;

use strongroom_owner::OwnerCertificate;
use strongroom_protocol::v1::{AuditUses, PartitionPolicy, SetPolicy};

use super::Quota;
use crate::access::Permissions;
use crate::failure::{Failure, refuse};
use crate::records::{HeaderRecord, RoleRecord};

/// Wrong passwords in a row that lock a user, unless the partition's policy says otherwise.
pub const MAX_ATTEMPTS: u32 = 10;

/// What a policy may say instead. Two would lock whoever mistypes twice.
pub(crate) const ATTEMPTS: std::ops::RangeInclusive<u32> = 3..=100;

/// What is set for a whole partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// This many wrong passwords in a row lock a user.
    pub max_attempts: u32,
    /// A password that somebody else has set need not be changed at the first log-in.
    pub keep_initial_passwords: bool,
    /// Each use of a key has an entry in the audit log; otherwise there are sums.
    pub audit_each: bool,
    /// The partition's owner. Set when the partition is made, and never again.
    pub owner: Option<Arc<OwnerCertificate>>,
    /// The partition's own roles, see [`crate::access`].
    pub roles: BTreeMap<String, Permissions>,
    /// What the owner of the machine limits.
    pub quota: Quota,
    /// FIPS state 2, fixed when the partition was made: see [`crate::approval`].
    pub fips: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            max_attempts: MAX_ATTEMPTS,
            keep_initial_passwords: false,
            audit_each: false,
            owner: None,
            roles: BTreeMap::new(),
            quota: Quota::default(),
            fips: false,
        }
    }
}

impl Settings {
    /// The settings' part of the header's record.
    pub(super) fn to_record(&self) -> HeaderRecord {
        HeaderRecord {
            max_attempts: self.max_attempts,
            keep_initial_passwords: self.keep_initial_passwords,
            audit_each: self.audit_each,
            owner_certificate: self
                .owner
                .as_ref()
                .map(|owner| owner.certificate().der().to_vec())
                .unwrap_or_default(),
            roles: self
                .roles
                .iter()
                .map(|(name, permissions)| RoleRecord { name: name.clone(), permissions: permissions.bits() })
                .collect(),
            quota_keys: self.quota.keys,
            quota_memory: self.quota.memory,
            quota_operations: self.quota.operations,
            fips: self.fips,
            ..HeaderRecord::default()
        }
    }

    /// The settings of a header's record; `None` if this release cannot have written them.
    pub(super) fn from_record(record: &HeaderRecord) -> Option<Self> {
        let max_attempts = match record.max_attempts {
            0 => MAX_ATTEMPTS,
            attempts if ATTEMPTS.contains(&attempts) => attempts,
            _ => return None,
        };
        let owner = match record.owner_certificate.as_slice() {
            [] => None,
            der => Some(Arc::new(OwnerCertificate::parse(der).ok()?)),
        };
        let role = |role: &RoleRecord| Some((role.name.clone(), Permissions::from_bits(role.permissions)?));
        let roles = record.roles.iter().map(role).collect::<Option<_>>()?;
        let keep_initial_passwords = record.keep_initial_passwords;
        let audit_each = record.audit_each;
        let quota = Quota {
            keys: record.quota_keys,
            memory: record.quota_memory,
            operations: record.quota_operations,
        };
        Some(Settings {
            max_attempts,
            keep_initial_passwords,
            audit_each,
            owner,
            roles,
            quota,
            fips: record.fips,
        })
    }

    /// What clients see.
    pub fn policy(&self) -> PartitionPolicy {
        PartitionPolicy {
            max_attempts: self.max_attempts,
            keep_initial_passwords: self.keep_initial_passwords,
            audit_uses: if self.audit_each { AuditUses::Each } else { AuditUses::Sums }.into(),
        }
    }

    /// Changes what a request gives.
    ///
    /// # Errors
    ///
    /// ATTRIBUTE_WRONG if a value is out of bounds.
    pub fn set(&mut self, request: SetPolicy) -> Result<(), Failure> {
        if let Some(attempts) = request.max_attempts {
            if !ATTEMPTS.contains(&attempts) {
                return refuse!(
                    AttributeWrong,
                    "a policy lets a user give {} to {} wrong passwords, not {attempts}",
                    ATTEMPTS.start(),
                    ATTEMPTS.end()
                );
            }
            self.max_attempts = attempts;
        }
        if let Some(keep) = request.keep_initial_passwords {
            self.keep_initial_passwords = keep;
        }
        Ok(())
    }
}
