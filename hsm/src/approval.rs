//! FIPS state 2: what a partition refuses that was made with `strongroom init --fips`.
//!
//! This is a policy and no validation: it says which algorithms NIST's documents approve of (FIPS 186-5, 203 and 204, SP
//! 800-38D and F, 800-56A and B, 800-131A, 800-186), not that a laboratory has tested the module that computes them.
//!
//! Every request is judged here before it is carried out, every signature that comes through a channel, and every key that
//! comes into the partition, from wherever: see [`crate::partition::Change::add_object`].

mod table;

use strongroom_protocol::v1::{DeriveKey, KeyType, Mechanism, Sign, request::Op};

use crate::crypto::{self, Hash};
use crate::failure::{Failure, refuse};
use crate::request::sign;

/// Approved, or why not.
type Judgement = Result<(), &'static str>;

const DES3: &str = "Triple DES is withdrawn since 2024 (SP 800-131A, section 2)";
const SHA1: &str = "SHA-1 makes no signatures (SP 800-131A, section 9)";

/// The type and size of a key, or of a half of one.
fn judge_key_type(key_type: KeyType) -> Judgement {
    match key_type {
        KeyType::Secp256k1 => Err("SP 800-186 has the curve for blockchains only"),
        KeyType::BrainpoolP256r1
        | KeyType::BrainpoolP320r1
        | KeyType::BrainpoolP384r1
        | KeyType::BrainpoolP512r1 => Err("SP 800-186 (appendix H) has Brainpool's curves for interoperability only"),
        KeyType::X25519 | KeyType::X448 => Err("SP 800-56A does not have the curve for key agreement"),
        KeyType::Des3 => Err(DES3),
        KeyType::Unspecified
        | KeyType::Rsa2048
        | KeyType::Rsa3072
        | KeyType::Rsa4096
        | KeyType::P224
        | KeyType::P256
        | KeyType::P384
        | KeyType::P521
        // FIPS 186-5, section 7.
        | KeyType::Ed25519
        | KeyType::Ed448
        | KeyType::MlDsa44
        | KeyType::MlDsa65
        | KeyType::MlDsa87
        | KeyType::MlKem512
        | KeyType::MlKem768
        | KeyType::MlKem1024
        | KeyType::Aes128
        | KeyType::Aes192
        | KeyType::Aes256
        | KeyType::GenericSecret => Ok(()),
    }
}

/// A mechanism that makes, decrypts, wraps or unwraps something, whatever its parameters are.
fn judge_mechanism(mechanism: Mechanism) -> Judgement {
    match mechanism {
        Mechanism::RsaX509 => Err("RSA without padding is no approved scheme"),
        Mechanism::Des3Ecb | Mechanism::Des3Cbc | Mechanism::Des3CbcPad => Err(DES3),
        // What is signed this way is looked at: see `judge_signature`.
        Mechanism::RsaPkcs
        | Mechanism::RsaPkcsPss
        | Mechanism::Ecdsa
        | Mechanism::Eddsa
        | Mechanism::MlDsa
        | Mechanism::RsaPkcsOaep
        | Mechanism::Ecdh
        | Mechanism::MlKem
        | Mechanism::AesGcm
        | Mechanism::AesEcb
        | Mechanism::AesCbc
        | Mechanism::AesCbcPad
        | Mechanism::AesCtr
        | Mechanism::AesCcm
        | Mechanism::AesCmac
        | Mechanism::AesGmac
        | Mechanism::Hmac
        | Mechanism::AesKeyWrap
        | Mechanism::AesKeyWrapKwp
        // SP 800-56C; SP 800-108; SP 800-132, whose parameters are looked at: see `judge_derivation`.
        | Mechanism::Hkdf
        | Mechanism::Sp800108Counter
        | Mechanism::Sp800108Feedback
        | Mechanism::Sp800108DoublePipeline
        | Mechanism::Pbkdf2
        | Mechanism::RsaAesKeyWrap
        // Whoever carries it out says that it is none.
        | Mechanism::Unspecified => Ok(()),
    }
}

/// A key that is made of another, or of a password.
fn judge_derivation(request: &DeriveKey) -> Judgement {
    match &request.pbkdf2 {
        Some(given) if request.mechanism() == Mechanism::Pbkdf2 => {
            judge_pbkdf2(given.salt.len(), given.iterations)
        }
        _ => judge_mechanism(request.mechanism()),
    }
}

fn judge_pbkdf2(salt: usize, iterations: u32) -> Judgement {
    if salt < 16 {
        return Err("PBKDF2's salt has less than 128 bits (SP 800-132, 5.1)");
    }
    if iterations < 1_000 {
        return Err("PBKDF2 has less than 1,000 iterations (SP 800-132, 5.2)");
    }
    Ok(())
}

/// A mechanism that encrypts, or transports keys.
fn judge_encryption(mechanism: Mechanism) -> Judgement {
    match mechanism {
        Mechanism::RsaPkcs => Err("PKCS#1 v1.5 transports no keys since 2023 (SP 800-131A, section 6)"),
        other => judge_mechanism(other),
    }
}

/// A mechanism that unwraps a key.
fn judge_unwrapping(mechanism: Mechanism) -> Judgement {
    match mechanism {
        Mechanism::AesCbcPad => {
            Err("AES-CBC does not tell whether a wrapped key was changed (SP 800-38F, 3.1)")
        }
        other => judge_encryption(other),
    }
}

/// What stands before a digest in a DigestInfo (RFC 8017, 9.2, note 1): the hash, its prefix and the digest's length.
const DIGEST_INFOS: [(&str, &[u8], usize, Judgement); 9] = [
    ("SHA-1", b"\x30\x21\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00\x04\x14", 20, Err(SHA1)),
    ("SHA-224", b"\x30\x2d\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x04\x05\x00\x04\x1c", 28, Ok(())),
    ("SHA-256", b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20", 32, Ok(())),
    ("SHA-384", b"\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30", 48, Ok(())),
    ("SHA-512", b"\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40", 64, Ok(())),
    // NIST's identifiers (csrc.nist.gov, "Computer Security Objects Register").
    ("SHA3-224", b"\x30\x2d\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x07\x05\x00\x04\x1c", 28, Ok(())),
    ("SHA3-256", b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x08\x05\x00\x04\x20", 32, Ok(())),
    ("SHA3-384", b"\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x09\x05\x00\x04\x30", 48, Ok(())),
    ("SHA3-512", b"\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x0a\x05\x00\x04\x40", 64, Ok(())),
];

fn judge_signature(mechanism: crypto::Mechanism, data: &[u8]) -> Judgement {
    match mechanism {
        crypto::Mechanism::RsaPkcs => {
            let known = DIGEST_INFOS.iter().find(|(_, prefix, length, _)| {
                data.strip_prefix(*prefix).is_some_and(|digest| digest.len() == *length)
            });
            known.map_or(Err("what is signed is no DigestInfo of SHA-2 or SHA-3"), |(.., judgement)| {
                *judgement
            })
        }
        crypto::Mechanism::RsaPss { hash, mgf1_hash, .. }
            if hash == Hash::Sha1 || mgf1_hash == Hash::Sha1 =>
        {
            Err(SHA1)
        }
        crypto::Mechanism::RsaPss { hash, salt_length, .. } if salt_length > hash.length() => {
            Err("the salt is longer than the hash (FIPS 186-5, 5.4)")
        }
        // The hash of a digest is not told; shorter ones than SHA-224's are of none that is approved.
        crypto::Mechanism::Ecdsa if data.len() < 28 => {
            Err("the digest is shorter than any approved hash's (SHA-1 has 20 bytes)")
        }
        crypto::Mechanism::RsaPss { .. }
        | crypto::Mechanism::Ecdsa
        | crypto::Mechanism::EdDsa
        | crypto::Mechanism::MlDsa => Ok(()),
    }
}

/// The shortest key of an HMAC, in bytes: 112 bits (SP 800-131A, section 10).
const HMAC_KEY: usize = 14;

/// Making a code with HMAC and a key of so many bytes. (Codes that were made in former times can be verified.)
fn judge_hmac_key(length: usize) -> Judgement {
    match length < HMAC_KEY {
        true => Err("HMAC's key has fewer than 112 bits (SP 800-131A, section 10)"),
        false => Ok(()),
    }
}

fn refused(what: &str, judgement: Judgement) -> Result<(), Failure> {
    match judgement {
        Ok(()) => Ok(()),
        Err(why) => refuse!(
            NotApproved,
            "{what}: {why}; the partition is in FIPS state 2, for good: what it refuses is in docs/fips.md"
        ),
    }
}

/// Whether keys of this type are approved.
///
/// # Errors
///
/// NOT_APPROVED.
pub fn key_type(key_type: KeyType) -> Result<(), Failure> {
    let judgement = judge_key_type(key_type);
    if judgement.is_ok() {
        Ok(())
    } else {
        refused(&format!("keys of type {}", table::name_of(key_type)), judgement)
    }
}

/// Whether this signature is approved. Without memory: it is asked for every signature.
///
/// # Errors
///
/// NOT_APPROVED.
pub fn signature(mechanism: crypto::Mechanism, data: &[u8]) -> Result<(), Failure> {
    refused("the signature", judge_signature(mechanism, data))
}

/// Whether a code by HMAC is approved that is made with a key of so many bytes.
///
/// # Errors
///
/// NOT_APPROVED.
pub fn hmac_key(length: usize) -> Result<(), Failure> {
    refused("the authentication code", judge_hmac_key(length))
}

fn signing(request: &Sign) -> Result<(), Failure> {
    refused("the signature", judge_mechanism(request.mechanism()))?;
    match sign::mechanism(request.mechanism(), request.pss.as_ref()) {
        Ok(mechanism) => signature(mechanism, &request.data),
        // Whoever carries it out says what is wrong.
        Err(_) => Ok(()),
    }
}

/// Whether a request is approved of. A new one is judged here, or it does not compile.
///
/// # Errors
///
/// NOT_APPROVED.
pub fn request(op: &Op) -> Result<(), Failure> {
    let encryption = |what, mechanism| refused(what, judge_encryption(mechanism));
    match op {
        Op::GenerateKeyPair(m) => key_type(m.key_type()),
        Op::GenerateKey(m) => key_type(m.key_type()),
        Op::ImportKey(m) => key_type(m.key_type()),
        Op::Sign(m) => signing(m),
        Op::Encrypt(m) => encryption("the encryption", m.mechanism()),
        Op::Decrypt(m) => encryption("the decryption", m.mechanism()),
        Op::WrapKey(m) => encryption("the wrapping", m.mechanism()),
        Op::UnwrapKey(m) => refused("the unwrapping", judge_unwrapping(m.mechanism())),
        Op::Mac(m) => refused("the authentication code", judge_mechanism(m.mechanism())),
        Op::Derive(m) => refused("the derivation", judge_mechanism(m.mechanism())),
        Op::DeriveKey(m) => {
            key_type(m.key_type())?;
            refused("the derivation", judge_derivation(m))
        }
        Op::Encapsulate(m) => refused("the encapsulation", judge_mechanism(m.mechanism())),
        Op::Decapsulate(m) => refused("the decapsulation", judge_mechanism(m.mechanism())),
        // What was signed in former times can be verified (SP 800-131A: legacy use).
        Op::Verify(_)
        // The type of the key is judged when it is kept.
        | Op::Recover(_)
        | Op::ImportKeyPair(_)
        | Op::CreateObject(_)
        | Op::RotateKey(_)
        | Op::RecoverKey(_)
        | Op::CopyObject(_)
        | Op::RestoreSessionObjects(_)
        // Nothing is computed with a key that clients name.
        | Op::Hello(_)
        | Op::Status(_)
        | Op::ListPartitions(_)
        | Op::CreatePartition(_)
        | Op::DeletePartition(_)
        | Op::OpenChannel(_)
        | Op::Login(_)
        | Op::AuthenticateUse(_)
        | Op::Logout(_)
        | Op::ListUsers(_)
        | Op::CreateUser(_)
        | Op::DeleteUser(_)
        | Op::ChangePassword(_)
        | Op::AdmitUid(_)
        | Op::UnlockUser(_)
        | Op::FindObjects(_)
        | Op::SetAttributes(_)
        | Op::DestroyObject(_)
        | Op::ForgetSessionObjects(_)
        // Who made the key wanted to read it; nothing is computed with it.
        | Op::RevealKey(_)
        | Op::GenerateRandom(_)
        | Op::ListRights(_)
        | Op::SetPolicy(_)
        | Op::ChallengeUser(_)
        | Op::RequestNodeCertificate(_)
        | Op::InstallNodeCertificate(_)
        | Op::ProveNode(_)
        | Op::InitCluster(_)
        | Op::AdmitNode(_)
        | Op::JoinCluster(_)
        | Op::LeaveCluster(_)
        | Op::ExpelNode(_)
        | Op::ShowCluster(_)
        | Op::GrantAccess(_)
        | Op::RevokeAccess(_)
        | Op::ListAccess(_)
        | Op::PutAccessRole(_)
        | Op::DeleteAccessRole(_)
        | Op::ListAccessRoles(_)
        | Op::SetQuota(_)
        | Op::TrustKey(_)
        | Op::ListDeleted(_)
        | Op::DeleteKey(_)
        | Op::PurgeKey(_)
        | Op::SetLife(_)
        | Op::ActivateKey(_)
        | Op::SetRotation(_)
        | Op::ShowPage(_)
        | Op::Seal(_)
        | Op::Unseal(_)
        | Op::SealWith(_)
        | Op::ShowTampering(_)
        | Op::ClearTampering(_)
        | Op::CheckStore(_)
        | Op::Zeroize(_)
        | Op::CreateSecurityDomain(_)
        | Op::ShowSecurityDomain(_)
        | Op::ShowSeal(_)
        | Op::ReadAudit(_)
        | Op::DescribeAudit(_)
        | Op::BeginBackup(_)
        | Op::ReadBackup(_)
        | Op::BeginRestore(_)
        | Op::RestoreChunk(_)
        | Op::FinishRestore(_)
        | Op::RenewSecurityDomain(_)
        | Op::SetAudit(_) => Ok(()),
    }
}
