//! `strongroom key generate`.

use clap::Args;
use serde::Serialize;
use strongroom_protocol::v1::{GenerateKey, GenerateKeyPair, KeyTemplate, KeyType, Role, request::Op};

use crate::commands::key::{KeyView, NewName, made};
use crate::failure::Failure;
use crate::key_type;
use crate::output::{Output, Page, Report};
use crate::progress::waiting;
use crate::session::{Session, answer};

pub(super) const ABOUT: &str = "\
Make a key in the partition. It signs, or encrypts, there and can never be read out.

  strongroom key generate web --type p256       what most sites want: small and fast
  strongroom key generate web --type rsa-2048   for very old clients
  strongroom key generate db --type aes-256     to encrypt with, through PKCS#11
  strongroom key generate tags --type generic-secret --size 64   for HMAC
  strongroom key generate mail --type rsa-3072 --usage sign,decrypt
  strongroom key generate kek --type aes-256 --usage wrap,unwrap
  strongroom key generate code --type p256 --mechanisms ecdsa-sha256 --always-authenticate

Then get a certificate for a key that signs. A request is made with the provider, by the key's URI:

  openssl req -new -key \"$(strongroom key uri web)\" -subj /CN=www.example.org -out web.csr
  strongroom cert put web web.crt";

/// `strongroom key generate`.
#[derive(Debug, Args)]

pub struct Generate {
    #[command(flatten)]
    name: NewName,
    /// rsa-2048, rsa-3072, rsa-4096, p224, p256, p384, p521, secp256k1, brainpoolP256r1, brainpoolP320r1,
    /// brainpoolP384r1, brainpoolP512r1, ed25519, ed448, x25519, x448, ml-dsa-44, ml-dsa-65, ml-dsa-87, ml-kem-512, ml-kem-768,
    /// ml-kem-1024, aes-128, aes-192, aes-256, 3des or generic-secret
    #[arg(long = "type", short = 't', value_name = "TYPE", value_parser = key_type::parse)]
    key_type: KeyType,
    /// How long a generic secret is, 1 to 1,024 bytes
    #[arg(long, value_name = "BYTES", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1024))]
    size: u32,
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Generated {
    key: KeyView,
}

impl Report for Generated {
    fn text(&self, page: &mut Page) {
        page.line(format!("Made key {}.", self.key.sentence()));
        page.fields([("  id", self.key.id.as_str().into()), ("  uri", self.key.uri.as_str().into())]);
        if !self.key.signs() || self.key.public_key.is_none() {
            return;
        }
        page.line("\nNext: a request for its certificate (the provider is found through openssl.cnf)");
        page.line(format!(
            "  openssl req -new -key \"{}\" -subj /CN=www.example.org -out request.csr",
            self.key.uri
        ));
    }
}

impl Generate {
    pub(super) fn run(self, session: &mut Session, output: Output) -> Result<(), Failure> {
        // Any log-in before the spinner turns: both use the terminal.
        session.require_crypto_user()?;
        self.name.require_free(session)?;
        session.be_patient()?;
        let op = || {
            if key_type::is_secret(self.key_type) {
                let is_generic = self.key_type == KeyType::GenericSecret;
                let value_length = if is_generic { self.size } else { 0 };
                let key = Some(KeyTemplate { value_length, ..self.name.secret() });
                return Op::GenerateKey(GenerateKey { key_type: self.key_type as i32, key });
            }
            Op::GenerateKeyPair(GenerateKeyPair {
                key_type: self.key_type as i32,
                private_key: Some(self.name.private()),
                public_key: Some(self.name.public()),
            })
        };
        let what = format!("making an {} key", key_type::title(self.key_type));
        let reply = waiting(&what, || session.call(Role::CryptoUser, op));
        let key = made(answer!(reply, Objects)?)?;
        let key = KeyView::new(&session.partition().label, &key, Vec::new(), true);
        output.print(&Generated { key })
    }
}
