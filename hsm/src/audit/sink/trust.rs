//! Whom the daemon trusts at the other end of TLS, and as whom it shows itself. Read before the daemon confines itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

/// The system's authorities, on Debian.
const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The largest file that is read, in bytes.
const MOST: u64 = 4 << 20;

/// What TLS needs.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Certificates of authorities, PEM; none: the system's.
    pub authorities: Option<PathBuf>,
    /// The daemon's certificate with its chain and its private key, PEM.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// Why TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file cannot be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A file is not what it has to be.
    #[error("{}: not {what} in PEM: {error}", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What it has to be.
        what: &'static str,
        /// What the decoder said.
        error: pem::Error,
    },
    /// Nobody is trusted.
    #[error("{} has no certificate of an authority", .0.display())]
    Nobody(PathBuf),
    /// Certificate and key do not fit, or cannot be used.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TrustError> {
    let failed = |error| TrustError::Read { path: path.to_owned(), error };
    match fs::metadata(path).map_err(failed)?.len() {
        length if length > MOST => Err(failed(io::Error::other(format!("it has {length} bytes")))),
        _ => fs::read(path).map(Zeroizing::new).map_err(failed),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    CertificateDer::pem_slice_iter(&read(path)?).collect::<Result<_, _>>().map_err(|error| TrustError::Pem {
        path: path.to_owned(),
        what: "certificates",
        error,
    })
}

impl Trust {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// [`TrustError`].
    pub fn config(&self) -> Result<Arc<ClientConfig>, TrustError> {
        let path = self.authorities.as_deref().unwrap_or(Path::new(SYSTEM));
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(certificates(path)?);
        if added == 0 {
            return Err(TrustError::Nobody(path.to_owned()));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match &self.own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate)?;
                let private = PrivateKeyDer::from_pem_slice(&read(key)?);
                let private = private.map_err(|error| TrustError::Pem {
                    path: key.clone(),
                    what: "a private key",
                    error,
                })?;
                builder.with_client_auth_cert(chain, private)?
            }
        };
        Ok(Arc::new(config))
    }
}
