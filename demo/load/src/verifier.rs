//! Verifies the server's certificate once and its signature in every handshake.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

/// How long a verified chain counts as verified. Certificates expire while a long load runs.
const REMEMBERED: Duration = Duration::from_secs(30);
/// Chains remembered: a server has few certificates.
const MOST_CHAINS: usize = 8;

/// Which certificates to trust.
pub enum Trust {
    /// Those that chain up to one of these certificates, and those among them.
    Chain {
        /// Verifies chains.
        webpki: Arc<WebPkiServerVerifier>,
        /// The certificates themselves: a self-signed server certificate is its own CA, and a path
        /// validator refuses a CA's certificate as a server's.
        certificates: Vec<CertificateDer<'static>>,
    },
    /// All.
    Anything,
}

/// The verifier of every connection.
///
/// A load generator meets the same chain thousands of times a second, on the processor cores that it shares
/// with the server under test. It verifies each distinct chain once in a while, and the server's signature,
/// which is what proves possession of the private key, every time.
pub struct Verifier {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
    offered: Vec<SignatureScheme>,
    verified: Mutex<Vec<Verified>>,
}

struct Verified {
    chain: Vec<CertificateDer<'static>>,
    at: UnixTime,
}

impl Verifier {
    /// Trusts `trust`, offers the signature schemes `offered`.
    pub fn new(trust: Trust, algorithms: WebPkiSupportedAlgorithms, offered: Vec<SignatureScheme>) -> Self {
        Self { trust, algorithms, offered, verified: Mutex::new(Vec::new()) }
    }

    fn remembers(&self, leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>], now: UnixTime) -> bool {
        let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified.iter().any(|known| {
            now.as_secs().saturating_sub(known.at.as_secs()) < REMEMBERED.as_secs()
                && known.chain.len() == rest.len() + 1
                && known.chain.iter().zip(std::iter::once(leaf).chain(rest)).all(|(a, b)| a == b)
        })
    }

    fn remember(&self, leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>], at: UnixTime) {
        let chain: Vec<_> =
            std::iter::once(leaf).chain(rest).map(|certificate| certificate.clone().into_owned()).collect();
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified.retain(|known| known.chain != chain);
        if verified.len() == MOST_CHAINS {
            verified.remove(0);
        }
        verified.push(Verified { chain, at });
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The name is not part of what is remembered: all connections ask for the same one.
        if self.remembers(leaf, rest, now) {
            return Ok(ServerCertVerified::assertion());
        }
        if let Trust::Chain { webpki, certificates } = &self.trust {
            if certificates.contains(leaf) {
                verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
            } else {
                webpki.verify_server_cert(leaf, rest, name, ocsp, now)?;
            }
        }
        self.remember(leaf, rest, now);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.offered.clone()
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("offered", &self.offered).finish_non_exhaustive()
    }
}
