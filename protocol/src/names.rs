//! How the command, the daemon's messages and the audit log call what the protocol numbers.

use crate::v1::{KeyPolicy, Permission};

/// A permission's name.
pub fn permission(permission: Permission) -> &'static str {
    match permission {
        Permission::Unspecified | Permission::View => "view",
        Permission::Sign => "sign",
        Permission::Decrypt => "decrypt",
        Permission::Encrypt => "encrypt",
        Permission::Derive => "derive",
        Permission::Decapsulate => "decapsulate",
        Permission::Wrap => "wrap",
    }
}

/// What a key may be used for.
pub fn uses(policy: &KeyPolicy) -> impl Iterator<Item = &'static str> + use<> {
    let all = [
        (policy.sign, "sign"),
        (policy.verify, "verify"),
        (policy.encrypt, "encrypt"),
        (policy.decrypt, "decrypt"),
        (policy.wrap, "wrap"),
        (policy.unwrap, "unwrap"),
        (policy.derive, "derive"),
        (policy.encapsulate, "encapsulate"),
        (policy.decapsulate, "decapsulate"),
    ];
    all.into_iter().filter_map(|(may, name)| may.then_some(name))
}
