//! The file of a quorum: who holds shares, and each share encrypted to its holder's RSA key. Nothing in it is
//! secret. JSON, so that holders can take their share out with jq and decrypt it with openssl.

mod form;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use strongroom_protocol::v1::Quorum;
use zeroize::Zeroizing;

pub use form::{QuorumFile, hex};

use crate::certificate::Certificate;
use crate::failure::{Exit, Failure};
use crate::{password, pem_file, private_key};

/// The largest file that is read, in bytes: 16 holders with RSA-8192 keys have 60 KiB.
const MAX_FILE: u64 = 1 << 20;

/// The size of a decrypted share, in bytes.
const SHARE: usize = 33;

/// The text of a quorum's file.
///
/// # Errors
///
/// None that can happen.
pub fn text(quorum: &Quorum) -> Result<String, Failure> {
    QuorumFile::of(quorum).text().map_err(|e| Failure::new(Exit::Failed, "json", e.to_string()))
}

/// Reads a file.
///
/// # Errors
///
/// If it cannot be read or is not such a file.
pub fn read(path: &Path) -> Result<Quorum, Failure> {
    let mut text = String::new();
    let file = File::open(path).map_err(|e| Failure::file("read", path, &e))?;
    file.take(MAX_FILE).read_to_string(&mut text).map_err(|e| Failure::file("read", path, &e))?;
    QuorumFile::parse(&text).map_err(|what| {
        let message = format!("{} is no file of shares: {what}", path.display());
        Failure::new(Exit::Failed, "quorum_file", message)
    })
}

/// Reads the RSA public key of a holder: a PEM file with a public key or a certificate. DER
/// SubjectPublicKeyInfo.
///
/// # Errors
///
/// If the file holds neither. Whether it is an RSA key is for the daemon to say.
pub fn holder_key(path: &Path) -> Result<Vec<u8>, Failure> {
    let wrong = |what: String| {
        Failure::new(Exit::Failed, "pem", format!("the holder's key {}: {what}", path.display()))
    };
    for block in pem_file::read(path)? {
        match block.label.as_str() {
            "PUBLIC KEY" => return Ok(block.content.map_err(wrong)?.to_vec()),
            "CERTIFICATE" => {
                let der = block.content.map_err(wrong)?;
                let certificate = Certificate::parse(&der).map_err(|e| wrong(e.to_string()))?;
                return Ok(certificate.public_key);
            }
            _ => {}
        }
    }
    Err(wrong(
        "it has no PUBLIC KEY and no CERTIFICATE; 'openssl pkey -in KEY -pubout' writes the public half"
            .to_owned(),
    ))
}

/// A decrypted share, and who holds it.
pub type Share = Zeroizing<Vec<u8>>;

/// Reads a file with a decrypted share.
///
/// # Errors
///
/// If it is not one.
pub fn share_file(path: &Path) -> Result<Share, Failure> {
    let mut share = Zeroizing::new(Vec::with_capacity(SHARE + 1));
    let file = File::open(path).map_err(|e| Failure::file("read", path, &e))?;
    file.take(SHARE as u64 + 1).read_to_end(&mut share).map_err(|e| Failure::file("read", path, &e))?;
    if share.len() == SHARE {
        return Ok(share);
    }
    let message = format!("{} is no decrypted share: those have {SHARE} bytes", path.display());
    Err(Failure::new(Exit::Failed, "share", message))
}

/// Decrypts the share of the holder whose private key is in a PEM file; asks for its passphrase.
///
/// # Errors
///
/// If the key cannot be read, holds no share, or the share does not decrypt.
pub fn decrypt_share(quorum: &Quorum, path: &Path) -> Result<(u32, Share), Failure> {
    let failed = |what: &str| Failure::new(Exit::Failed, "share", format!("{}: {what}", path.display()));
    let pkcs8 = private_key::pkcs8(path, pem_file::read(path)?, || match password::interactive() {
        true => password::ask(&format!("Passphrase of {}", path.display())),
        false => Err(Failure::usage(format!(
            "{} is encrypted and there is no terminal to ask for its passphrase at: decrypt the share with 'openssl \
             pkeyutl', and give it as --share",
            path.display()
        ))),
    })?;
    let key = PrivateDecryptingKey::from_pkcs8(&pkcs8).map_err(|_| failed("it is no RSA key"))?;
    let key = OaepPrivateDecryptingKey::new(key).map_err(|_| failed("it cannot decrypt"))?;
    let mut room = Zeroizing::new(vec![0; key.min_output_size()]);
    // Another holder's share does not decrypt: which one is ours shows by trying.
    for holder in &quorum.holders {
        if holder.share.len() != room.len() {
            continue;
        }
        if let Ok(share) = key.decrypt(&OAEP_SHA256_MGF1SHA256, &holder.share, &mut room, None) {
            return Ok((holder.number, Zeroizing::new(share.to_vec())));
        }
    }
    Err(failed("it decrypts none of the shares: it is no holder's key of this quorum"))
}

/// All shares that a command line gives: decrypted ones, and those that holders' keys decrypt.
///
/// # Errors
///
/// As [`share_file`] and [`decrypt_share`].
pub fn shares(quorum: Option<&Quorum>, files: &[PathBuf], keys: &[PathBuf]) -> Result<Vec<Vec<u8>>, Failure> {
    let mut shares = Vec::new();
    for file in files {
        shares.push(share_file(file)?.to_vec());
    }
    for key in keys {
        let quorum = quorum.ok_or_else(|| Failure::usage("no file of shares for --holder-key"))?;
        shares.push(decrypt_share(quorum, key)?.1.to_vec());
    }
    Ok(shares)
}

#[cfg(test)]
mod tests {
    use strongroom_protocol::v1::Holder;

    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let holder =
            Holder { number: 1, public_key: vec![1; 30], share: vec![2; 256], commitment: vec![3; 32] };
        let quorum = Quorum {
            id: vec![7; 16],
            needed: 2,
            holders: vec![holder.clone(), Holder { number: 2, ..holder }],
            check: vec![9; 32],
            name: "tls".into(),
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), QuorumFile::of(&quorum).text().unwrap()).unwrap();
        assert_eq!(read(file.path()).unwrap(), quorum);
        for damaged in ["", "{}", "[1]"] {
            std::fs::write(file.path(), damaged).unwrap();
            assert_eq!(read(file.path()).unwrap_err().code(), "quorum_file");
        }
        let text = QuorumFile::of(&quorum).text().unwrap();
        for wrong in ["+9", "9", "not hexadecimal"] {
            let other = text.replace(&hex(&quorum.check), wrong);
            std::fs::write(file.path(), other).unwrap();
            read(file.path()).unwrap_err();
        }
    }
}
