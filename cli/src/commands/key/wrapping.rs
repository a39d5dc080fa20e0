//! How keys are wrapped: what `key import --wrapped` and `key export` have in common.

use std::path::Path;

use clap::{Args, ValueEnum};
use strongroom_protocol::v1::{Hash, Mechanism, OaepParameters, ObjectInfo};

use crate::failure::{Exit, Failure};
use crate::objects::Key;

/// The ways of wrapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// AES key wrap with padding (RFC 5649, CKM_AES_KEY_WRAP_KWP)
    AesKwp,
    /// AES key wrap without padding, of secret keys (RFC 3394, CKM_AES_KEY_WRAP)
    AesKw,
    /// RSA-OAEP of a fresh AES key, then AES key wrap with that (CKM_RSA_AES_KEY_WRAP)
    RsaAes,
    /// RSA-OAEP of a secret key itself (CKM_RSA_PKCS_OAEP)
    RsaOaep,
}

/// The hashes of RSA-OAEP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OaepHash {
    /// As Azure's key transfer blobs have it
    Sha1,
    /// SHA-224
    Sha224,
    /// SHA-256
    Sha256,
    /// SHA-384
    Sha384,
    /// SHA-512
    Sha512,
}

/// How a key is wrapped.
#[derive(Debug, Args)]
pub struct How {
    /// By default aes-kwp with an AES key, rsa-aes with an RSA key
    #[arg(long, value_name = "WAY")]
    mechanism: Option<Way>,
    /// RSA-OAEP's hash, for its mask too; by default sha256, for .byok files sha1
    #[arg(long, value_name = "HASH")]
    hash: Option<OaepHash>,
}

impl Way {
    fn wire(self) -> Mechanism {
        match self {
            Way::AesKwp => Mechanism::AesKeyWrapKwp,
            Way::AesKw => Mechanism::AesKeyWrap,
            Way::RsaAes => Mechanism::RsaAesKeyWrap,
            Way::RsaOaep => Mechanism::RsaPkcsOaep,
        }
    }

    /// PKCS#11's name.
    pub fn name(self) -> &'static str {
        match self {
            Way::AesKwp => "CKM_AES_KEY_WRAP_KWP",
            Way::AesKw => "CKM_AES_KEY_WRAP",
            Way::RsaAes => "CKM_RSA_AES_KEY_WRAP",
            Way::RsaOaep => "CKM_RSA_PKCS_OAEP",
        }
    }
}

impl OaepHash {
    fn wire(self) -> Hash {
        match self {
            OaepHash::Sha1 => Hash::Sha1,
            OaepHash::Sha224 => Hash::Sha224,
            OaepHash::Sha256 => Hash::Sha256,
            OaepHash::Sha384 => Hash::Sha384,
            OaepHash::Sha512 => Hash::Sha512,
        }
    }

    fn name(self) -> &'static str {
        match self {
            OaepHash::Sha1 => "SHA-1",
            OaepHash::Sha224 => "SHA-224",
            OaepHash::Sha256 => "SHA-256",
            OaepHash::Sha384 => "SHA-384",
            OaepHash::Sha512 => "SHA-512",
        }
    }
}

/// How a key is wrapped, decided.
#[derive(Debug, Clone, Copy)]
pub struct Decided {
    way: Way,
    hash: OaepHash,
}

impl How {
    /// Decides what was left open, for this wrapping key. `is_blob`: the file is a `.byok` file.
    pub fn decided(&self, with: &Key, is_blob: bool) -> Decided {
        let usual = if with.is_secret() { Way::AesKwp } else { Way::RsaAes };
        let usual_hash = if is_blob { OaepHash::Sha1 } else { OaepHash::Sha256 };
        Decided { way: self.mechanism.unwrap_or(usual), hash: self.hash.unwrap_or(usual_hash) }
    }
}

impl Decided {
    /// For the request.
    pub fn mechanism(self) -> Mechanism {
        self.way.wire()
    }

    /// Whether a `.byok` file can say it.
    pub fn fits_a_blob(self) -> bool {
        self.way == Way::RsaAes
    }

    /// For the request.
    pub fn oaep(self) -> Option<OaepParameters> {
        let hash = self.hash.wire().into();
        matches!(self.way, Way::RsaAes | Way::RsaOaep).then_some(OaepParameters {
            hash,
            mgf1_hash: hash,
            label: Vec::new(),
        })
    }

    /// PKCS#11's name of the mechanism, and the hash where there is one.
    pub fn title(self) -> String {
        match self.way {
            Way::RsaAes | Way::RsaOaep => format!("{}, {}", self.way.name(), self.hash.name()),
            way => way.name().to_owned(),
        }
    }
}

/// The half of a key that wraps: an AES key, or an RSA public key.
pub fn wraps(key: &Key) -> Result<&ObjectInfo, Failure> {
    let half = if key.is_secret() { &key.private } else { &key.public };
    half.as_ref().ok_or_else(|| lacks(key, "public half"))
}

/// The half of a key that unwraps, and is wrapped: an AES key, or a private key.
pub fn private(key: &Key) -> Result<&ObjectInfo, Failure> {
    key.private.as_ref().ok_or_else(|| lacks(key, "private half"))
}

fn lacks(key: &Key, half: &str) -> Failure {
    let message = format!("the {half} of key {:?} is not in this partition", key.label());
    Failure::new(Exit::NotFound, "no_such_object", message)
}

/// Says what is wrong with a file of a wrapped key.
pub fn malformed(path: &Path, what: &str) -> Failure {
    Failure::new(Exit::Failed, "wrapped_key_malformed", format!("{} {what}", path.display()))
}
