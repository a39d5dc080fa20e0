//! Sets of OpenSSL's operations.

use crate::bindings::*;

/// A set of operations (OSSL_OP_DIGEST, …).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Operations(u64);

/// The names of `pkcs11-module-block-operations` and, in part, `strongroom-operations`. Those that this provider does not offer are known too: blocking them
/// changes nothing.
const NAMES: [(&str, u32); 14] = [
    ("digest", OSSL_OP_DIGEST),
    ("cipher", OSSL_OP_CIPHER),
    ("mac", OSSL_OP_MAC),
    ("kdf", OSSL_OP_KDF),
    ("rand", OSSL_OP_RAND),
    ("keymgmt", OSSL_OP_KEYMGMT),
    ("keyexch", OSSL_OP_KEYEXCH),
    ("signature", OSSL_OP_SIGNATURE),
    ("asym-cipher", OSSL_OP_ASYM_CIPHER),
    ("kem", OSSL_OP_KEM),
    ("encoder", OSSL_OP_ENCODER),
    ("decoder", OSSL_OP_DECODER),
    ("store", OSSL_OP_STORE),
    ("skeymgmt", OSSL_OP_SKEYMGMT),
];

/// The names of `strongroom-operations`.
const OPTIONAL: [&str; 4] = ["cipher", "digest", "kdf", "mac"];

impl Operations {
    /// Adds an operation by its name; false if there is none.
    pub fn add(&mut self, name: &str) -> bool {
        let found = NAMES.iter().find(|(known, _)| *known == name);
        if let Some((_, operation)) = found {
            self.0 |= bit(*operation);
        }
        found.is_some()
    }

    /// Adds one of the operations that need no key pair, which are offered where the settings name them; false if it is none.
    pub fn add_optional(&mut self, name: &str) -> bool {
        OPTIONAL.contains(&name) && self.add(name)
    }

    /// Whether an operation is offered only where the settings name it.
    pub fn is_optional(operation: u32) -> bool {
        NAMES.iter().any(|(name, known)| *known == operation && OPTIONAL.contains(name))
    }

    /// Whether an operation is in the set.
    pub fn contains(self, operation: u32) -> bool {
        self.0 & bit(operation) != 0
    }
}

fn bit(operation: u32) -> u64 {
    1u64.checked_shl(operation).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_added() {
        let mut set = Operations::default();
        assert!(set.add("asym-cipher") && set.add("store"));
        assert!(!set.add("asym") && !set.add(""));
        assert!(set.contains(OSSL_OP_ASYM_CIPHER) && set.contains(OSSL_OP_STORE));
        assert!(!set.contains(OSSL_OP_DIGEST) && !set.contains(1000));
        assert!(!set.add_optional("keymgmt") && !set.add_optional("digests"));
        assert!(set.add_optional("digest") && set.contains(OSSL_OP_DIGEST));
    }
}
