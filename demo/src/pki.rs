//! Certificates, made with the openssl command as a person would.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::command;
use crate::environment::Environment;
use crate::programs::system;

/// How long an openssl command may take. RSA-4096 generation varies.
const LIMIT: Duration = Duration::from_secs(60);

/// The types of key that the demo and the tests use, as openssl's `genpkey` makes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA with 2048 bits.
    Rsa2048,
    /// RSA with 3072 bits.
    Rsa3072,
    /// RSA with 4096 bits.
    Rsa4096,
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
    /// Ed25519.
    Ed25519,
}

impl KeyKind {
    /// All of them.
    pub const ALL: [KeyKind; 6] = [
        KeyKind::Rsa2048,
        KeyKind::Rsa3072,
        KeyKind::Rsa4096,
        KeyKind::P256,
        KeyKind::P384,
        KeyKind::Ed25519,
    ];

    /// One of each type: RSA keys of different sizes take the same way.
    pub const TYPES: [KeyKind; 4] = [KeyKind::Rsa2048, KeyKind::P256, KeyKind::P384, KeyKind::Ed25519];

    /// The name that `strongroom key generate --type` takes.
    pub fn name(self) -> &'static str {
        match self {
            KeyKind::Rsa2048 => "rsa-2048",
            KeyKind::Rsa3072 => "rsa-3072",
            KeyKind::Rsa4096 => "rsa-4096",
            KeyKind::P256 => "p256",
            KeyKind::P384 => "p384",
            KeyKind::Ed25519 => "ed25519",
        }
    }

    /// The name for people.
    pub fn title(self) -> &'static str {
        match self {
            KeyKind::Rsa2048 => "RSA-2048",
            KeyKind::Rsa3072 => "RSA-3072",
            KeyKind::Rsa4096 => "RSA-4096",
            KeyKind::P256 => "P-256",
            KeyKind::P384 => "P-384",
            KeyKind::Ed25519 => "Ed25519",
        }
    }

    fn genpkey(self) -> &'static [&'static str] {
        match self {
            KeyKind::Rsa2048 => &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
            KeyKind::Rsa3072 => &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"],
            KeyKind::Rsa4096 => &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096"],
            KeyKind::P256 => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            KeyKind::P384 => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
            KeyKind::Ed25519 => &["-algorithm", "ED25519"],
        }
    }
}

/// The openssl command in an environment, with arguments split at spaces. A word `{}` stands for the next
/// of `values`, which may contain spaces.
///
/// # Errors
///
/// When openssl is not installed.
pub fn openssl(environment: &Environment, arguments: &str, values: &[&str]) -> Result<Command> {
    let mut command = command::new(system("openssl")?);
    environment.apply(&mut command);
    let mut values = values.iter();
    for word in arguments.split_whitespace() {
        match word {
            "{}" => match values.next() {
                Some(value) => command.arg(value),
                None => bail!("too few values for 'openssl {arguments}'"),
            },
            word => command.arg(word),
        };
    }
    if values.next().is_some() {
        bail!("too many values for 'openssl {arguments}'");
    }
    Ok(command)
}

/// Runs the openssl command, which must succeed, and returns what it prints.
///
/// # Errors
///
/// With what openssl said.
pub fn run_openssl(environment: &Environment, arguments: &str, values: &[&str]) -> Result<String> {
    command::succeed(openssl(environment, arguments, values)?, LIMIT)
}

/// Makes a private key in a file that only this user can read.
///
/// # Errors
///
/// With what openssl said.
pub fn key_file(kind: KeyKind, file: &Path) -> Result<()> {
    let mut command = openssl(&Environment::plain(), "genpkey -quiet -out {}", &[&text(file)])?;
    command.args(kind.genpkey());
    command::succeed(command, LIMIT)?;
    Ok(())
}

/// A certification authority and its folder.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    environment: Environment,
    key: String,
}

impl Authority {
    /// Makes one with a key in a file.
    ///
    /// # Errors
    ///
    /// With what openssl said.
    pub fn in_file(folder: &Path) -> Result<Self> {
        let key = folder.join("ca.key");
        key_file(KeyKind::P256, &key)?;
        Self::with_key(folder, &Environment::plain(), &text(&key))
    }

    /// Makes one with a key that `environment` can open: a file or a URI.
    ///
    /// # Errors
    ///
    /// With what openssl said.
    pub fn with_key(folder: &Path, environment: &Environment, key: &str) -> Result<Self> {
        let authority =
            Authority { folder: folder.into(), environment: environment.clone(), key: key.into() };
        run_openssl(
            environment,
            "req -x509 -new -key {} -subj {} -days 30 -out {}",
            &[key, "/CN=Strongroom demo CA", &text(&authority.certificate())],
        )?;
        Ok(authority)
    }

    /// The authority's certificate, which clients trust.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Makes a certificate for localhost and 127.0.0.1 with the key `key`, a file or a URI that
    /// `environment` can open. Its files are called `name`.
    ///
    /// # Errors
    ///
    /// With what openssl said.
    pub fn certify(&self, environment: &Environment, key: &str, name: &str) -> Result<PathBuf> {
        let request = self.folder.join(format!("{name}.csr"));
        let extensions = self.folder.join(format!("{name}.ext"));
        let certificate = self.folder.join(format!("{name}.crt"));
        fs::write(
            &extensions,
            "subjectAltName = DNS:localhost, IP:127.0.0.1\nbasicConstraints = CA:FALSE\n",
        )?;
        run_openssl(
            environment,
            "req -new -key {} -subj {} -out {}",
            &[key, "/CN=localhost", &text(&request)],
        )?;
        run_openssl(
            &self.environment,
            "x509 -req -in {} -CA {} -CAkey {} -CAcreateserial -days 30 -extfile {} -out {}",
            &[
                &text(&request),
                &text(&self.certificate()),
                &self.key,
                &text(&extensions),
                &text(&certificate),
            ],
        )?;
        Ok(certificate)
    }
}

/// A path as a word of a command line. The run's folder has a name that is text.
pub fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_in_a_file_certifies_every_kind_of_key() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::in_file(folder.path()).unwrap();
        for kind in KeyKind::ALL {
            let key = folder.path().join(format!("{}.key", kind.name()));
            key_file(kind, &key).unwrap();
            let certificate = authority.certify(&Environment::plain(), &text(&key), kind.name()).unwrap();
            run_openssl(
                &Environment::plain(),
                "verify -verify_hostname localhost -CAfile {} {}",
                &[&text(&authority.certificate()), &text(&certificate)],
            )
            .unwrap();
        }
    }

    #[test]
    fn openssl_needs_as_many_values_as_places() {
        assert!(openssl(&Environment::plain(), "dgst -sign {}", &[]).is_err());
        assert!(openssl(&Environment::plain(), "dgst", &["key"]).is_err());
    }
}
