//! TLS between clients and nodes: 1.3 only, both sides with certificates.
//!
//! A client knows a node by the partition's owner: it takes a certificate that the owner's key has signed, for a node,
//! and no other. A name does not count, so that a node keeps its certificate when it moves. The key exchange is hybrid
//! (X25519 with ML-KEM-768) where the other side has it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError as Alert, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    SignatureScheme,
};
use strongroom_owner::certificate::verify_by;
use strongroom_owner::{Certificate, CertificateError, OwnerCertificate, node};
use zeroize::Zeroizing;

/// The largest file with certificates or a key that is read, in bytes.
const MAX_FILE: u64 = 256 * 1024;

/// The most certificates in a client's chain.
const MAX_CHAIN: usize = 8;

/// Why a client has no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that is not there, or not for us.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What reading said.
        source: std::io::Error,
    },
    /// A file with something else in it.
    #[error("{} {why}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The TLS library does not take them.
    #[error("the client's certificate and key cannot be used: {0}")]
    Library(#[from] Error),
}

/// What is spoken, by clients and nodes alike: hybrid key exchange first.
pub fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1],
        ..aws_lc_rs::default_provider()
    }
}

/// Reads a file of a size that such files have.
///
/// # Errors
///
/// [`TlsError::File`], [`TlsError::Content`].
pub fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    use std::io::Read;
    let failed = |source| TlsError::File { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    // Room for the whole: a Vec that grows leaves copies behind.
    let mut bytes =
        Zeroizing::new(Vec::with_capacity(file.metadata().map_err(failed)?.len().min(MAX_FILE) as usize + 1));
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    match bytes.len() as u64 > MAX_FILE {
        true => Err(TlsError::Content { path: path.to_owned(), why: "is larger than 256 KiB".to_owned() }),
        false => Ok(bytes),
    }
}

/// The certificates in a PEM file, at least one.
///
/// # Errors
///
/// [`TlsError::File`], [`TlsError::Content`].
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |why: &str| TlsError::Content { path: path.to_owned(), why: why.to_owned() };
    let bytes = read_file(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let all = all.map_err(|error| wrong(&format!("is not PEM: {error}")))?;
    if all.is_empty() {
        return Err(wrong("holds no certificate (PEM)"));
    }
    Ok(all)
}

/// Whom a client trusts, and who it is.
pub struct Credentials {
    owners: Vec<OwnerCertificate>,
    chain: Vec<CertificateDer<'static>>,
    /// PEM. None: a client without a certificate.
    key: Option<Zeroizing<Vec<u8>>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("owners", &self.owners).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads the certificates of the partitions' owners, whose nodes are trusted, and the client's own certificate with
    /// its chain and key, all PEM.
    ///
    /// # Errors
    ///
    /// [`TlsError`], with the file.
    pub fn read(owner: &Path, client: Option<(&Path, &Path)>) -> Result<Self, TlsError> {
        let wrong = |path: &Path, why: String| TlsError::Content { path: path.to_owned(), why };
        let owners = read_certificates(owner)?;
        let owners: Result<Vec<_>, _> = owners.iter().map(|der| OwnerCertificate::parse(der)).collect();
        let owners =
            owners.map_err(|error| wrong(owner, format!("is not an owner's certificate: it {error}")))?;
        let Some((certificate, key)) = client else {
            return Ok(Credentials { owners, chain: Vec::new(), key: None });
        };
        let chain = read_certificates(certificate)?;
        if chain.len() > MAX_CHAIN {
            return Err(wrong(certificate, format!("holds more than {MAX_CHAIN} certificates")));
        }
        let pem = read_file(key)?;
        PrivateKeyDer::from_pem_slice(&pem).map_err(|error| {
            wrong(key, format!("holds no private key without a passphrase (PEM): {error}"))
        })?;
        Ok(Credentials { owners, chain, key: Some(pem) })
    }

    /// A configuration that shares nothing with an earlier one: no lock, and no copy of the key.
    ///
    /// # Errors
    ///
    /// [`TlsError::Library`]: the certificate and the key do not belong together, for instance.
    pub fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let verifier = OwnersNodes::new(self.owners.clone());
        let builder = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &self.key {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let key =
                    PrivateKeyDer::from_pem_slice(pem).map_err(|error| Error::General(error.to_string()))?;
                builder.with_client_auth_cert(self.chain.clone(), key)?
            }
        };
        // Each connection proves anew who is there, and no secret of one outlives it. Warm connections are what saves time.
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

/// Takes nodes of these owners.
#[derive(Debug)]
struct OwnersNodes {
    owners: Vec<OwnerCertificate>,
    /// Their names, so that a node that serves several owners shows the right certificate.
    names: Vec<DistinguishedName>,
}

impl OwnersNodes {
    fn new(owners: Vec<OwnerCertificate>) -> Self {
        let names = owners.iter().map(|owner| owner.certificate().subject_der().to_vec().into()).collect();
        OwnersNodes { owners, names }
    }
}

fn refusal(error: CertificateError) -> Error {
    match error {
        CertificateError::Validity => Error::InvalidCertificate(Alert::Expired),
        CertificateError::Malformed | CertificateError::Large => {
            Error::InvalidCertificate(Alert::BadEncoding)
        }
        error => Error::InvalidCertificate(Alert::Other(OtherError(Arc::new(error)))),
    }
}

impl ServerCertVerifier for OwnersNodes {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = Certificate::parse(end_entity).map_err(refusal)?;
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
        let mut why = CertificateError::Signature;
        for owner in &self.owners {
            match node::check_server(owner, &certificate, now) {
                Ok(()) => return Ok(ServerCertVerified::assertion()),
                Err(CertificateError::Signature) => {}
                Err(error) => why = error,
            }
        }
        Err(refusal(why))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let certificate = Certificate::parse(certificate).map_err(refusal)?;
        if signature.scheme != SignatureScheme::ECDSA_NISTP256_SHA256 {
            return Err(Error::InvalidCertificate(Alert::BadSignature));
        }
        verify_by(&certificate.public_key, message, signature.signature())
            .map_err(|_| Error::InvalidCertificate(Alert::BadSignature))?;
        Ok(HandshakeSignatureValid::assertion())
    }

    /// A node's key is P-256.
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        Some(&self.names)
    }
}
