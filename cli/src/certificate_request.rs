//! A certificate request (PKCS#10, RFC 2986) for a key in the partition.

use std::net::IpAddr;
use std::str::FromStr;

use der::asn1::{Any, BitString, Ia5String, Null, ObjectIdentifier, OctetString, SetOfVec};
use der::{Decode, Encode};
use sha2::{Digest, Sha256, Sha384, Sha512};
use shake::{ExtendableOutput, Shake256, Update};
use strongroom_owner::node::ecdsa_der;
use strongroom_protocol::v1::{KeyType, Mechanism};
use x509_cert::attr::Attribute;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::Name;
use x509_cert::request::{CertReq, CertReqInfo, ExtensionReq, Version};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

/// SHA-256 in a DigestInfo (RFC 8017, 9.2): what stands before the digest.
const DIGEST_INFO_SHA256: [u8; 19] =
    [0x30, 0x31, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20];

/// For whom the certificate is to be.
#[derive(Debug, Clone, Default)]
pub struct Subject {
    /// The distinguished name, RFC 4514: `CN=www.example.org,O=Example`.
    pub name: Name,
    /// Host names.
    pub hosts: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
}

/// How a key signs a request: the algorithm's name in it (RFC 4055, 5758, 8410, 9881), and what the partition is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Signing {
    algorithm: ObjectIdentifier,
    hash: Hash,
    /// The mechanism.
    pub mechanism: Mechanism,
}

#[derive(Debug, Clone, Copy)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
    /// The key signs the message itself.
    None,
    /// The key signs the message's representative (FIPS 204, algorithm 7, line 6).
    Represented,
}

/// 64 bytes of SHAKE256.
fn shake256(parts: &[&[u8]]) -> Vec<u8> {
    let mut state = Shake256::default();
    parts.iter().for_each(|part| state.update(part));
    let mut representative = vec![0; 64];
    state.finalize_xof_into(&mut representative);
    representative
}

impl Signing {
    /// `None` if keys of this type sign nothing, or nothing that is made here.
    pub fn of(key_type: KeyType) -> Option<Self> {
        let (algorithm, hash, mechanism) = match key_type {
            KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => {
                ("1.2.840.113549.1.1.11", Hash::Sha256, Mechanism::RsaPkcs)
            }
            KeyType::P224 | KeyType::P256 | KeyType::Secp256k1 | KeyType::BrainpoolP256r1 => {
                ("1.2.840.10045.4.3.2", Hash::Sha256, Mechanism::Ecdsa)
            }
            KeyType::P384 | KeyType::BrainpoolP320r1 | KeyType::BrainpoolP384r1 => {
                ("1.2.840.10045.4.3.3", Hash::Sha384, Mechanism::Ecdsa)
            }
            KeyType::P521 | KeyType::BrainpoolP512r1 => {
                ("1.2.840.10045.4.3.4", Hash::Sha512, Mechanism::Ecdsa)
            }
            KeyType::Ed25519 => ("1.3.101.112", Hash::None, Mechanism::Eddsa),
            KeyType::Ed448 => ("1.3.101.113", Hash::None, Mechanism::Eddsa),
            KeyType::MlDsa44 => ("2.16.840.1.101.3.4.3.17", Hash::Represented, Mechanism::MlDsa),
            KeyType::MlDsa65 => ("2.16.840.1.101.3.4.3.18", Hash::Represented, Mechanism::MlDsa),
            KeyType::MlDsa87 => ("2.16.840.1.101.3.4.3.19", Hash::Represented, Mechanism::MlDsa),
            _ => return None,
        };
        Some(Signing { algorithm: ObjectIdentifier::new(algorithm).ok()?, hash, mechanism })
    }

    /// What the partition is given to sign, with this public key's other half.
    fn input(self, message: &[u8], public_key: &SubjectPublicKeyInfoOwned) -> Vec<u8> {
        let digest = match self.hash {
            Hash::None => return message.to_vec(),
            Hash::Represented => {
                let public_key = public_key.subject_public_key.raw_bytes();
                // Without a context (RFC 9881, 3); pure, not HashML-DSA.
                return shake256(&[&shake256(&[public_key]), &[0, 0], message]);
            }
            Hash::Sha256 => Sha256::digest(message).to_vec(),
            Hash::Sha384 => Sha384::digest(message).to_vec(),
            Hash::Sha512 => Sha512::digest(message).to_vec(),
        };
        match self.mechanism {
            Mechanism::RsaPkcs => [&DIGEST_INFO_SHA256[..], &digest].concat(),
            _ => digest,
        }
    }

    /// The algorithm with its parameters: RSA's are NULL, the others have none.
    fn identifier(self) -> AlgorithmIdentifierOwned {
        let parameters = (self.mechanism == Mechanism::RsaPkcs).then(|| Any::from(Null));
        AlgorithmIdentifierOwned { oid: self.algorithm, parameters }
    }
}

impl Subject {
    /// Reads a distinguished name.
    ///
    /// # Errors
    ///
    /// If it is none, with an example.
    pub fn parse_name(text: &str) -> Result<Name, String> {
        let name = Name::from_str(text).ok().filter(|name| !name.is_empty());
        name.ok_or_else(|| "a name is like CN=www.example.org,O=Example,C=DE".to_owned())
    }

    /// Reads a host name, which may begin with `*.`: letters, digits, hyphens and dots (RFC 5280, 4.2.1.6).
    ///
    /// # Errors
    ///
    /// If it is none, with what to do about names in other scripts.
    pub fn parse_host(text: &str) -> Result<String, String> {
        let host = text.strip_prefix("*.").unwrap_or(text);
        let is_label = |label: &str| {
            let inside = label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
            inside && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
        };
        match text.len() <= 253 && host.split('.').all(is_label) {
            true => Ok(text.to_owned()),
            false => {
                Err("not a host name; names in other scripts are written as in DNS, xn--mnchen-3ya.example"
                    .to_owned())
            }
        }
    }

    fn alternative_names(&self) -> der::Result<Option<Extension>> {
        let hosts = self.hosts.iter().map(|host| Ia5String::new(host).map(GeneralName::DnsName));
        let addresses = self.addresses.iter().map(|address| {
            let bytes = match address {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            OctetString::new(bytes).map(GeneralName::IpAddress)
        });
        let names: Vec<GeneralName> = hosts.chain(addresses).collect::<der::Result<_>>()?;
        match names.is_empty() {
            true => Ok(None),
            false => SubjectAltName(names).to_extension(&self.name, &[]).map(Some),
        }
    }
}

/// Puts a request together, DER. `sign` has the key sign what it is given, as PKCS#11 does.
///
/// # Errors
///
/// Those of `sign`; as `encoding` if the public key or the signature is not what it has to be.
pub fn make<E>(
    spki: &[u8],
    subject: &Subject,
    signing: Signing,
    encoding: impl Fn(der::Error) -> E,
    sign: impl FnOnce(Vec<u8>) -> Result<Vec<u8>, E>,
) -> Result<Vec<u8>, E> {
    let info = info(spki, subject).map_err(&encoding)?;
    let message = info.to_der().map_err(&encoding)?;
    let mut signature = sign(signing.input(&message, &info.public_key))?;
    if signing.mechanism == Mechanism::Ecdsa {
        let wrong = || encoding(der::ErrorKind::Failed.into());
        signature = ecdsa_der(&signature).ok_or_else(wrong)?;
    }
    let signature = BitString::from_bytes(&signature).map_err(&encoding)?;
    CertReq { info, algorithm: signing.identifier(), signature }.to_der().map_err(encoding)
}

fn info(spki: &[u8], subject: &Subject) -> der::Result<CertReqInfo> {
    let mut attributes = SetOfVec::new();
    if let Some(names) = subject.alternative_names()? {
        attributes.insert(Attribute::try_from(ExtensionReq(vec![names]))?)?;
    }
    let public_key = SubjectPublicKeyInfoOwned::from_der(spki)?;
    Ok(CertReqInfo { version: Version::V1, subject: subject.name.clone(), public_key, attributes })
}
