//! Private keys in PEM files, in the forms that OpenSSL has written over the years, as PKCS#8.

use std::path::Path;

use der::asn1::{Any, AnyRef, Null, ObjectIdentifier, OctetStringRef};
use der::{Decode, Encode, Tag, Tagged};
use pkcs8::{AlgorithmIdentifierRef, EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef};
use zeroize::Zeroizing;

use crate::failure::{Exit, Failure};
use crate::password::Password;
use crate::pem_file::Block;

/// rsaEncryption, RFC 8017.
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// id-ecPublicKey, RFC 5480.
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// A file in DER as if it were PEM: PKCS#8, encrypted or not, or one of the older forms.
pub fn block_of_der(der: Zeroizing<Vec<u8>>) -> Block {
    let label = if PrivateKeyInfoRef::from_der(&der).is_ok() {
        "PRIVATE KEY"
    } else if EncryptedPrivateKeyInfoRef::try_from(der.as_slice()).is_ok() {
        "ENCRYPTED PRIVATE KEY"
    } else if sec1::EcPrivateKey::from_der(&der).is_ok() {
        "EC PRIVATE KEY"
    } else {
        "RSA PRIVATE KEY"
    };
    Block { label: label.to_owned(), content: Ok(der) }
}

/// Finds the private key among the blocks of `path` and gives it as DER PKCS#8, not encrypted.
/// `passphrase` is asked only if the key is encrypted.
///
/// # Errors
///
/// If there is no key, or it is damaged, of a form that is not known, or the passphrase is wrong.
pub fn pkcs8(
    path: &Path,
    blocks: Vec<Block>,
    passphrase: impl FnOnce() -> Result<Password, Failure>,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let path = path.display();
    let malformed = |message: String| Failure::new(Exit::Failed, "key_malformed", message);
    let labels = blocks.iter().map(|b| b.label.as_str()).collect::<Vec<_>>().join(", ");
    let is_key = |b: &Block| b.label.ends_with("PRIVATE KEY");
    let reference = blocks.iter().any(|b| b.label == strongroom_uri::reference::LABEL);
    let Some(block) = blocks.into_iter().find(is_key) else {
        return Err(malformed(if reference {
            format!("{path} is a reference to a key that already is in a token: there is nothing to import")
        } else {
            format!("{path} holds no private key, but: {labels}")
        }));
    };
    let label = block.label;
    let wrong = |e: String| malformed(format!("the {label} in {path} {e}"));
    let der = block.content.map_err(wrong)?;
    match label.as_str() {
        "PRIVATE KEY" => PrivateKeyInfoRef::from_der(&der)
            .map(drop)
            .map_err(|e| wrong(format!("is not PKCS#8: {e}")))
            .map(|()| der),
        "RSA PRIVATE KEY" => {
            let parameters = AnyRef::from(Null);
            wrap(RSA, parameters, &der).map_err(|e| wrong(format!("is not PKCS#1: {e}")))
        }
        "EC PRIVATE KEY" => from_sec1(&der).map_err(wrong),
        "ENCRYPTED PRIVATE KEY" => {
            let encrypted = EncryptedPrivateKeyInfoRef::try_from(der.as_slice())
                .map_err(|e| wrong(format!("is not encrypted PKCS#8: {e}")))?;
            let passphrase = passphrase()?;
            let plain = encrypted.decrypt(passphrase.as_bytes()).map_err(|_| {
                let message = format!(
                    "the passphrase for {path} is wrong, or the encryption is not PBES2; \
                     'openssl pkcs8 -topk8 -in {path} -out NEWFILE' writes PBES2"
                );
                Failure::new(Exit::NotPermitted, "passphrase_wrong", message)
            })?;
            Ok(plain.to_bytes())
        }
        "OPENSSH PRIVATE KEY" => Err(wrong(
            "is OpenSSH's own format; convert a copy with 'ssh-keygen -p -m PKCS8 -f COPY'".to_owned(),
        )),
        _ => Err(wrong(
            "is of a kind that the partition cannot hold: RSA, EC and Ed25519 keys it can".to_owned(),
        )),
    }
}

fn from_sec1(der: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
    let key = sec1::EcPrivateKey::from_der(der).map_err(|e| format!("is not SEC1: {e}"))?;
    let curve = key
        .parameters
        .and_then(sec1::EcParameters::named_curve)
        .ok_or("names no curve; convert it with 'openssl pkcs8 -topk8 -nocrypt -in FILE -out NEWFILE'")?;
    let parameters = Any::encode_from(&curve).map_err(|e| e.to_string())?;
    wrap(EC, AnyRef::from(&parameters), der).map_err(|e| e.to_string())
}

/// Makes PKCS#8 of the older form inside it.
fn wrap(algorithm: ObjectIdentifier, parameters: AnyRef<'_>, key: &[u8]) -> der::Result<Zeroizing<Vec<u8>>> {
    // A cut or foreign block is noticed here and not by the daemon, which could not name the file.
    AnyRef::from_der(key)?.tag().assert_eq(Tag::Sequence)?;
    let algorithm = AlgorithmIdentifierRef { oid: algorithm, parameters: Some(parameters) };
    let info = PrivateKeyInfoRef::new(algorithm, OctetStringRef::new(key)?);
    // Encoded into a buffer of the right size: a growing one would leave copies behind.
    let length = usize::try_from(info.encoded_len()?)?;
    let mut buffer = Zeroizing::new(vec![0; length]);
    info.encode_to_slice(&mut buffer)?;
    Ok(buffer)
}
