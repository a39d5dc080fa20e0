//! `strongroom key import` of files that hold a key in the clear, or under a passphrase: PEM, DER, PKCS#12.

use std::path::{Path, PathBuf};

use strongroom_protocol::v1::{
    CreateObject, ImportKeyPair, KeyPolicy, ObjectClass, ObjectInfo, Role, request::Op,
};
use zeroize::Zeroizing;

use super::import::{Imported, Origin};
use super::{KeyView, NewName, Usage, made};
use crate::certificate::Certificate;
use crate::commands::cert;
use crate::failure::{Exit, Failure};
use crate::objects::Key;
use crate::output::Output;
use crate::password::Password;
use crate::session::{Session, answer};
use crate::{password, pem_file, pkcs12, private_key};

/// Imports what the file at `path` holds, whatever kind of file it is.
pub(super) fn import(
    session: &mut Session,
    output: Output,
    name: &NewName,
    path: &Path,
    passphrase_file: Option<PathBuf>,
) -> Result<Imported, Failure> {
    let bytes = pem_file::bytes(path)?;
    // Read although the key may need none: a file that is named is there.
    let given = passphrase_file.map(|path| password::from_file(&path, output)).transpose()?;
    let passphrase = || match given {
        Some(passphrase) => Ok(passphrase),
        None if password::interactive() => password::ask(&format!("Passphrase of {}", path.display())),
        None => Err(Failure::new(
            Exit::Usage,
            "passphrase_needed",
            format!(
                "{} is encrypted: there is no terminal to ask for its passphrase; give --passphrase-file FILE",
                path.display()
            ),
        )),
    };
    let shown = Some(path.to_owned()).filter(|path| path.as_os_str() != "-");
    if pkcs12::is_pkcs12(&bytes) {
        let (pkcs8, certificates) = from_archive(path, &bytes, passphrase)?;
        return archive(session, name, shown, &pkcs8, certificates);
    }
    let blocks = match bytes.first() {
        // A DER SEQUENCE, which no text begins with: the digit 0 stands in no PEM file's first line.
        Some(0x30) if std::str::from_utf8(&bytes).is_err() => vec![private_key::block_of_der(bytes)],
        _ => pem_file::read_from(path, &bytes)?,
    };
    let has = |label: &str| blocks.iter().any(|block| block.label.ends_with(label));
    if has("PUBLIC KEY") && !has("PRIVATE KEY") {
        return public(session, name, path, blocks);
    }
    let certificate = has("CERTIFICATE");
    let pkcs8 = private_key::pkcs8(path, blocks, passphrase)?;
    let key = store(session, name, &pkcs8)?;
    Ok(imported(session, &key, Vec::new(), Origin::File { path: shown, certificate }))
}

fn imported(session: &Session, key: &Key, certificates: Vec<String>, origin: Origin) -> Imported {
    let partition = session.partition().label.clone();
    Imported { key: KeyView::new(&partition, key, certificates, true), partition, origin }
}

fn store(session: &mut Session, name: &NewName, pkcs8: &[u8]) -> Result<Key, Failure> {
    session.require_crypto_user()?;
    name.require_free(session)?;
    let op = || {
        Op::ImportKeyPair(ImportKeyPair {
            pkcs8: pkcs8.to_vec(),
            private_key: Some(name.private()),
            public_key: Some(name.public()),
            private_only: false,
        })
    };
    made(answer!(session.call(Role::CryptoUser, op), Objects)?)
}

/// The key in a PKCS#12 file, and the certificates beside it.
fn from_archive(
    path: &Path,
    bytes: &[u8],
    passphrase: impl FnOnce() -> Result<Password, Failure>,
) -> Result<(Zeroizing<Vec<u8>>, Vec<Certificate>), Failure> {
    let path = path.display();
    // Some have an empty one: nobody is asked for that.
    let opened = match pkcs12::open(bytes, "") {
        Err(pkcs12::Error::Passphrase) => pkcs12::open(bytes, &passphrase()?),
        other => other,
    };
    let mut archive = opened.map_err(|error| match error {
        pkcs12::Error::Passphrase => {
            let message = format!("the passphrase for {path} is wrong, or the file is damaged");
            Failure::new(Exit::NotPermitted, "passphrase_wrong", message)
        }
        pkcs12::Error::Malformed(why) => {
            let message =
                format!("the PKCS#12 file {path} is damaged, or of a kind that is not known: {why}");
            Failure::new(Exit::Failed, "key_malformed", message)
        }
    })?;
    let names: Vec<_> = archive.keys.iter().map(|(name, _)| format!("{name:?}")).collect();
    let key = match (archive.keys.pop(), archive.keys.is_empty()) {
        (Some((_, key)), true) => key,
        (None, _) => {
            let message = format!("the PKCS#12 file {path} holds no private key");
            return Err(Failure::new(Exit::Failed, "key_malformed", message));
        }
        (Some(_), false) => {
            let message = format!(
                "the PKCS#12 file {path} holds {} keys ({}): write the one that you mean to a file of its own, with \
                 'openssl pkcs12 -in {path} -nocerts'",
                names.len(),
                names.join(", ")
            );
            return Err(Failure::new(Exit::Usage, "ambiguous", message));
        }
    };
    let malformed = |e| {
        let message = format!("a certificate in {path} is not X.509: {e}");
        Failure::new(Exit::Failed, "certificate_malformed", message)
    };
    let certificates = archive.certificates.iter().map(|der| Certificate::parse(der).map_err(malformed));
    Ok((key, certificates.collect::<Result<_, _>>()?))
}

/// Keeps a key with its certificate and the certificate's chain. Other certificates of the file stay out.
fn archive(
    session: &mut Session,
    name: &NewName,
    path: Option<PathBuf>,
    pkcs8: &[u8],
    certificates: Vec<Certificate>,
) -> Result<Imported, Failure> {
    let key = store(session, name, pkcs8)?;
    let leaf = certificates.iter().find(|certificate| certificate.public_key == key.public_key());
    let Some(leaf) = leaf else {
        return Ok(imported(session, &key, Vec::new(), Origin::Archive { path, certificates: 0 }));
    };
    let mut chain: Vec<_> = leaf.chain(&certificates).into_iter().cloned().collect();
    chain.retain(|certificate| certificate.der != leaf.der);
    let there = cert::stored(session)?;
    let made = cert::beside(session, &key, Some(leaf), &chain, &there)?;
    let count = made.chain.len() + usize::from(made.leaf.is_some());
    Ok(imported(session, &key, vec![leaf.title()], Origin::Archive { path, certificates: count }))
}

/// Keeps the public key of somebody else, to wrap keys for them.
fn public(
    session: &mut Session,
    name: &NewName,
    path: &Path,
    blocks: Vec<pem_file::Block>,
) -> Result<Imported, Failure> {
    let path = path.display();
    if !name.has(Usage::Wrap) {
        let message = format!(
            "{path} holds no private key, but a public one: --usage wrap keeps that, to wrap keys for its owner"
        );
        return Err(Failure::new(Exit::Failed, "key_malformed", message));
    }
    let block = blocks.into_iter().find(|block| block.label == "PUBLIC KEY");
    let content =
        block.map_or_else(|| Err("is not a SubjectPublicKeyInfo".to_owned()), |block| block.content);
    let der = content
        .map_err(|e| Failure::new(Exit::Failed, "key_malformed", format!("the public key in {path} {e}")))?;
    session.require_crypto_user()?;
    name.require_free(session)?;
    let template = name.public();
    let object = ObjectInfo {
        class: ObjectClass::PublicKey.into(),
        label: template.label,
        id: if template.id.is_empty() { cert::key_id(&der) } else { template.id },
        policy: Some(KeyPolicy { wrap: true, ..KeyPolicy::default() }),
        public_key: der.to_vec(),
        ..ObjectInfo::default()
    };
    let op = || Op::CreateObject(CreateObject { object: Some(object.clone()) });
    let public = answer!(session.call(Role::CryptoUser, op), Objects)?.objects.pop();
    if public.is_none() {
        return Err(Failure::unexpected_answer());
    }
    Ok(imported(session, &Key { private: None, public }, Vec::new(), Origin::Public))
}
