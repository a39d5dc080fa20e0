//! The words that operations are counted by.

use strongroom_protocol::v1::{KeyType, Mechanism, request::Op};

use crate::crypto::KeyKind;
use crate::crypto::symmetric::SecretKind;
use crate::failure::Failure;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[expect(missing_docs, reason = "named after the requests")]
pub enum Operation {
    Sign,
    Verify,
    Encrypt,
    Decrypt,
    Derive,
    Encapsulate,
    Decapsulate,
    Random,
    Generate,
    Import,
    Wrap,
    Unwrap,
    Find,
    Change,
    Destroy,
    Login,
    /// Everything else: users, partitions, log-outs.
    Manage,
}

impl Operation {
    const ALL: [(Operation, &str); 17] = [
        (Operation::Sign, "sign"),
        (Operation::Verify, "verify"),
        (Operation::Encrypt, "encrypt"),
        (Operation::Decrypt, "decrypt"),
        (Operation::Derive, "derive"),
        (Operation::Encapsulate, "encapsulate"),
        (Operation::Decapsulate, "decapsulate"),
        (Operation::Random, "random"),
        (Operation::Generate, "generate"),
        (Operation::Import, "import"),
        (Operation::Wrap, "wrap"),
        (Operation::Unwrap, "unwrap"),
        (Operation::Find, "find"),
        (Operation::Change, "change"),
        (Operation::Destroy, "destroy"),
        (Operation::Login, "login"),
        (Operation::Manage, "manage"),
    ];

    /// The operation that a request is.
    pub fn of(op: &Op) -> Self {
        match op {
            Op::Mac(m) if m.verify => Operation::Verify,
            Op::Sign(_) | Op::Mac(_) => Operation::Sign,
            Op::Verify(_) | Op::Recover(_) => Operation::Verify,
            Op::Encrypt(_) => Operation::Encrypt,
            Op::Decrypt(_) => Operation::Decrypt,
            Op::Derive(_) | Op::DeriveKey(_) => Operation::Derive,
            Op::Encapsulate(_) => Operation::Encapsulate,
            Op::Decapsulate(_) => Operation::Decapsulate,
            Op::GenerateRandom(_) => Operation::Random,
            Op::GenerateKeyPair(_) | Op::GenerateKey(_) | Op::RotateKey(_) => Operation::Generate,
            Op::ImportKeyPair(_) | Op::ImportKey(_) | Op::CreateObject(_) | Op::CopyObject(_) => {
                Operation::Import
            }
            Op::WrapKey(_) | Op::RevealKey(_) => Operation::Wrap,
            Op::UnwrapKey(_) => Operation::Unwrap,
            Op::FindObjects(_) => Operation::Find,
            Op::SetAttributes(_) | Op::ActivateKey(_) | Op::SetRotation(_) => Operation::Change,
            Op::DestroyObject(_) | Op::DeleteKey(_) | Op::PurgeKey(_) => Operation::Destroy,
            Op::Login(_) | Op::AuthenticateUse(_) => Operation::Login,
            _ => Operation::Manage,
        }
    }

    /// As a label has it: the verb of the command and the audit log.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(operation, _)| *operation == self).map_or("", |(_, name)| name)
    }

    pub(super) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).map(|(operation, _)| *operation)
    }
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it was asked for.
    Success,
    /// Not done, for a reason that lies in the request: no right, no such key, wrong data.
    Refused,
    /// Not done, for a reason that lies in the daemon or its store. Somebody should look.
    Failed,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Outcome; 3] = [Outcome::Success, Outcome::Refused, Outcome::Failed];

    /// The outcome of a request.
    pub fn of<T>(result: &Result<T, Failure>) -> Self {
        result.as_ref().map_or_else(Failure::outcome, |_| Outcome::Success)
    }

    /// As a label has it.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::Refused => "refused",
            Outcome::Failed => "failed",
        }
    }
}

/// A key type as people write it; empty if no key takes part, or it is not known which.
pub fn key_type_name(key_type: KeyType) -> String {
    match (KeyKind::from_wire(key_type), SecretKind::from_wire(key_type), key_type) {
        (Some(kind), ..) => kind.to_string(),
        (_, Some(kind), _) => kind.to_string(),
        (.., KeyType::Unspecified) => String::new(),
        (.., other) => other.as_str_name().trim_start_matches("KEY_TYPE_").replace('_', "-"),
    }
}

/// A mechanism as PKCS#11 names it, without CKM; empty if none takes part.
pub(super) fn mechanism_name(mechanism: Mechanism) -> &'static str {
    match mechanism {
        Mechanism::Unspecified => "",
        other => other.as_str_name().trim_start_matches("MECHANISM_"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_number() {
        for (number, (operation, name)) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, number);
            assert_eq!(Operation::from_number(number as u8), Some(operation));
            assert_eq!(operation.name(), name);
        }
        assert_eq!(Operation::from_number(200), None);
        assert_eq!(Outcome::ALL.map(|outcome| outcome as usize), [0, 1, 2]);
    }

    #[test]
    fn types_and_mechanisms_are_named_as_people_know_them() {
        assert_eq!(key_type_name(KeyType::Rsa2048), "RSA-2048");
        assert_eq!(key_type_name(KeyType::P256), "P-256");
        assert_eq!(key_type_name(KeyType::Aes256), "AES-256");
        assert_eq!(key_type_name(KeyType::Unspecified), "");
        assert_eq!(mechanism_name(Mechanism::RsaPkcsPss), "RSA_PKCS_PSS");
    }
}
