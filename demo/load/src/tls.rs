//! The one TLS configuration of all connections.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::{
    CipherSuite, ClientConfig, ConnectionCommon, ProtocolVersion, RootCertStore, SignatureScheme,
    SupportedCipherSuite, client::ClientConnectionData, version,
};

use crate::options::{Cipher, Group, KeyType, Options, TlsVersion};
use crate::plan::SetupError;
use crate::report::Negotiated;
use crate::sessions::Sessions;
use crate::verifier::{Trust, Verifier};

/// Makes the client's configuration.
///
/// Without `sessions`, nothing is kept from a connection: every handshake is a full one.
///
/// # Errors
///
/// [`SetupError::Ca`] and [`SetupError::Tls`].
pub fn config(options: &Options, sessions: Option<Arc<Sessions>>) -> Result<ClientConfig, SetupError> {
    let provider = Arc::new(provider(options)?);
    let algorithms = provider.signature_verification_algorithms;
    let offered: Vec<_> = algorithms
        .supported_schemes()
        .into_iter()
        .filter(|scheme| options.key_type.is_none_or(|key| key.signs(*scheme)))
        .collect();
    let trust = if options.insecure_chain {
        Trust::Anything
    } else {
        trust(&options.ca, &provider).map_err(|reason| SetupError::Ca { path: options.ca.clone(), reason })?
    };
    let versions = match options.tls {
        TlsVersion::Tls12 => [&version::TLS12],
        TlsVersion::Tls13 => [&version::TLS13],
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(|error| SetupError::Tls(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier::new(trust, algorithms, offered)))
        .with_no_client_auth();
    config.resumption = match sessions {
        Some(sessions) => Resumption::store(sessions),
        None => Resumption::disabled(),
    };
    Ok(config)
}

/// Says what a finished handshake agreed on.
pub fn negotiated(session: &ConnectionCommon<ClientConnectionData>) -> Negotiated {
    Negotiated {
        version: match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "1.2".into(),
            Some(ProtocolVersion::TLSv1_3) => "1.3".into(),
            other => format!("{other:?}"),
        },
        cipher: session
            .negotiated_cipher_suite()
            .map(|suite| format!("{:?}", suite.suite()))
            .unwrap_or_default(),
        group: session
            .negotiated_key_exchange_group()
            .map(|group| format!("{:?}", group.name()))
            .unwrap_or_default(),
    }
}

fn provider(options: &Options) -> Result<CryptoProvider, SetupError> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = options.group.offered(options.tls);
    // Browsers ask for AES-128 first, and so does this client. rustls's own order starts with AES-256, whose
    // SHA-384 key schedule costs an eighth of the client's processor time.
    provider.cipher_suites.sort_by_key(|suite| !Cipher::Aes128.is(suite.suite()));
    provider.cipher_suites.retain(|suite| {
        options.cipher.is_none_or(|cipher| cipher.is(suite.suite()))
            && options.key_type.is_none_or(|key| match suite {
                // In TLS 1.2 the cipher suite says which type of key signs.
                SupportedCipherSuite::Tls12(suite) => suite.sign.iter().any(|scheme| key.signs(*scheme)),
                SupportedCipherSuite::Tls13(_) => true,
            })
    });
    if options.tls == TlsVersion::Tls12 && options.group == Group::X25519mlkem768 {
        return Err(SetupError::Tls("TLS 1.2 has no ML-KEM".into()));
    }
    Ok(provider)
}

fn trust(ca: &Path, provider: &Arc<CryptoProvider>) -> Result<Trust, String> {
    let file = File::open(ca).map_err(|error| error.to_string())?;
    let certificates: Vec<CertificateDer<'static>> = rustls_pemfile::certs(&mut BufReader::new(file))
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    if certificates.is_empty() {
        return Err("no certificate in it".into());
    }
    let mut roots = RootCertStore::empty();
    let (_, unusable) = roots.add_parsable_certificates(certificates.iter().cloned());
    if roots.is_empty() {
        return Err(format!("none of the {unusable} certificates in it can be parsed"));
    }
    let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| error.to_string())?;
    Ok(Trust::Chain { webpki, certificates })
}

impl Group {
    fn implementation(self) -> &'static dyn SupportedKxGroup {
        match self {
            Self::X25519 => aws_lc_rs::kx_group::X25519,
            Self::P256 => aws_lc_rs::kx_group::SECP256R1,
            Self::P384 => aws_lc_rs::kx_group::SECP384R1,
            Self::X25519mlkem768 => aws_lc_rs::kx_group::X25519MLKEM768,
        }
    }

    /// What to offer so that the server takes this group.
    ///
    /// In TLS 1.3 nothing else, so that it never asks for another key share. In TLS 1.2 the same list also says
    /// which curves a certificate may have: without the NIST curves, a server with a P-256 key finds "no
    /// shared cipher". This group comes first there.
    fn offered(self, version: TlsVersion) -> Vec<&'static dyn SupportedKxGroup> {
        let mut groups = vec![self.implementation()];
        if version == TlsVersion::Tls12 {
            groups.extend(
                [Self::P256, Self::P384].into_iter().filter(|group| *group != self).map(Self::implementation),
            );
        }
        groups
    }
}

impl Cipher {
    fn is(self, suite: CipherSuite) -> bool {
        let name = format!("{suite:?}");
        name.contains(match self {
            Self::Aes128 => "AES_128_GCM",
            Self::Aes256 => "AES_256_GCM",
            Self::Chacha20 => "CHACHA20_POLY1305",
        })
    }
}

impl KeyType {
    fn signs(self, scheme: SignatureScheme) -> bool {
        let name = format!("{scheme:?}");
        name.starts_with(match self {
            Self::Rsa => "RSA",
            Self::Ecdsa => "ECDSA",
            Self::Ed25519 => "ED25519",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;
    use rustls::NamedGroup;

    fn options(line: &[&str]) -> Options {
        let line = ["strongroom-load", "localhost:443"].iter().chain(line);
        Options::try_parse_from(line).unwrap()
    }

    #[test]
    fn key_type_limits_suites_and_schemes() {
        let config =
            config(&options(&["--insecure-chain", "--tls", "1.2", "--key-type", "rsa"]), None).unwrap();
        let suites: Vec<_> = config
            .crypto_provider()
            .cipher_suites
            .iter()
            .filter(|suite| suite.tls13().is_none())
            .map(|suite| format!("{:?}", suite.suite()))
            .collect();
        assert_eq!(suites.len(), 3, "{suites:?}");
        assert!(suites.iter().all(|suite| suite.contains("_RSA_")), "{suites:?}");
        assert!(KeyType::Rsa.signs(SignatureScheme::RSA_PSS_SHA256));
        assert!(!KeyType::Rsa.signs(SignatureScheme::ECDSA_NISTP256_SHA256));
        assert!(KeyType::Ed25519.signs(SignatureScheme::ED25519));
    }

    #[test]
    fn the_cheapest_cipher_is_offered_first() {
        let config = config(&options(&["--insecure-chain"]), None).unwrap();
        let first = config.crypto_provider().cipher_suites[0].suite();
        assert_eq!(first, CipherSuite::TLS13_AES_128_GCM_SHA256);
    }

    #[test]
    fn tls_1_3_offers_one_group_and_tls_1_2_those_of_certificates_too() {
        for (version, name, expected) in [
            ("1.3", "x25519", &[NamedGroup::X25519][..]),
            ("1.3", "p384", &[NamedGroup::secp384r1]),
            ("1.2", "x25519", &[NamedGroup::X25519, NamedGroup::secp256r1, NamedGroup::secp384r1]),
            ("1.2", "p384", &[NamedGroup::secp384r1, NamedGroup::secp256r1]),
        ] {
            let line = ["--insecure-chain", "--tls", version, "--group", name];
            let config = config(&options(&line), None).unwrap();
            let groups: Vec<_> =
                config.crypto_provider().kx_groups.iter().map(|group| group.name()).collect();
            assert_eq!(groups, expected);
        }
    }

    #[test]
    fn impossible_combinations_are_refused() {
        let line = ["--insecure-chain", "--tls", "1.2", "--group", "x25519mlkem768"];
        assert!(matches!(config(&options(&line), None), Err(SetupError::Tls(_))));
    }

    #[test]
    fn a_ca_file_needs_a_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let path = path.to_str().unwrap();
        assert!(matches!(config(&options(&["--ca", path]), None), Err(SetupError::Ca { .. })));
        std::fs::write(path, "nothing here").unwrap();
        assert!(matches!(config(&options(&["--ca", path]), None), Err(SetupError::Ca { .. })));
    }
}
