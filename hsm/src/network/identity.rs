//! How the node proves itself in a handshake: with its own key, which stays in protected memory.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};
use strongroom_owner::Certificate;

use crate::identity::Identity;
use crate::vault::Vault;

/// Chooses the certificate for each handshake: one that was installed holds from then on. A node that is sealed has none.
#[derive(Debug)]
pub(super) struct OfNode(pub(super) Arc<Vault>);

impl ResolvesServerCert for OfNode {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let identity = self.0.identity().ok()?;
        let wanted = hello.certificate_authorities();
        let fits = |der: &&[u8]| match (wanted, Certificate::parse(der)) {
            (_, Err(_)) => false,
            // A client that does not say whom it trusts.
            (None, Ok(_)) => true,
            (Some(names), Ok(certificate)) => names.iter().any(|name| name.as_ref() == certificate.issuer()),
        };
        let der = identity.certificates().find(fits)?;
        let chain = vec![CertificateDer::from(der.to_vec())];
        Some(Arc::new(CertifiedKey::new(chain, Arc::new(NodeKey(Arc::clone(&identity))))))
    }
}

#[derive(Debug, Clone)]
struct NodeKey(Arc<Identity>);

impl SigningKey for NodeKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&self.scheme()).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for NodeKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.0.sign(message).map_err(|error| Error::General(error.to_string()))
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}
