//! The form of a quorum's file, and nothing that depends on the command: the fuzz target reads it, too.

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use strongroom_protocol::v1::{Holder, Quorum};

const FORMAT: &str = "strongroom quorum 1";

/// What stands in the file.
#[derive(Debug, Serialize, Deserialize)]
pub struct QuorumFile {
    /// "strongroom quorum 1".
    format: String,
    /// The partition, or empty for a node's seal.
    pub partition: String,
    /// 32 hexadecimal digits.
    pub id: String,
    /// Shares that are needed.
    pub quorum: u32,
    /// All holders.
    pub holders: Vec<HolderEntry>,
    check: String,
}

/// One holder.
#[derive(Debug, Serialize, Deserialize)]
pub struct HolderEntry {
    /// From 1.
    pub number: u32,
    /// SHA-256 of the public key, hexadecimal: what `openssl pkey -pubout -outform DER | sha256sum` says.
    pub fingerprint: String,
    /// RSA-OAEP (SHA-256), base64.
    pub share: String,
    public_key: String,
    commitment: String,
}

fn base64(bytes: &[u8]) -> String {
    Base64::encode_string(bytes)
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

impl QuorumFile {
    /// The file for what the daemon said.
    pub fn of(quorum: &Quorum) -> Self {
        let holders = quorum.holders.iter().map(|holder| HolderEntry {
            number: holder.number,
            fingerprint: hex(&Sha256::digest(&holder.public_key)),
            share: base64(&holder.share),
            public_key: base64(&holder.public_key),
            commitment: hex(&holder.commitment),
        });
        QuorumFile {
            format: FORMAT.to_owned(),
            partition: quorum.name.clone(),
            id: hex(&quorum.id),
            quorum: quorum.needed,
            holders: holders.collect(),
            check: hex(&quorum.check),
        }
    }

    /// The file's text.
    ///
    /// # Errors
    ///
    /// None that can happen.
    pub fn text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }

    /// The quorum of a file's text.
    ///
    /// # Errors
    ///
    /// Why it is none.
    pub fn parse(text: &str) -> Result<Quorum, String> {
        let read: Self = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if read.format != FORMAT {
            return Err(format!("its format is not \"{FORMAT}\""));
        }
        read.quorum().ok_or_else(|| "a value is neither base64 nor hexadecimal".to_owned())
    }

    fn quorum(self) -> Option<Quorum> {
        let holder = |holder: HolderEntry| {
            Some(Holder {
                number: holder.number,
                public_key: Base64::decode_vec(&holder.public_key).ok()?,
                share: Base64::decode_vec(&holder.share).ok()?,
                commitment: unhex(&holder.commitment)?,
            })
        };
        Some(Quorum {
            id: unhex(&self.id)?,
            needed: self.quorum,
            holders: self.holders.into_iter().map(holder).collect::<Option<_>>()?,
            check: unhex(&self.check)?,
            name: self.partition,
        })
    }
}
