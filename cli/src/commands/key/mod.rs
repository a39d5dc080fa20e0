//! `strongroom key`: keys are made or brought into the partition, named, and destroyed.

mod access;
mod deleted;
mod export;
mod file;
mod generate;
mod import;
mod list;
mod publish;
mod request;
mod restrictions;
mod rotate;
mod trust;
mod view;
mod wrapped;
mod wrapping;

use clap::{Args, Subcommand, ValueEnum};
use strongroom_protocol::v1::{KeyPolicy, KeyTemplate, ObjectList, Role};

use crate::args::Global;
use crate::failure::{Exit, Failure};
use crate::objects::{Key as Pair, Selector, unhex};
use crate::output::Output;
use crate::session::Session;

use restrictions::Restrictions;

pub use publish::To;
pub use view::KeyView;

/// `strongroom key`.
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Make a key in the partition
    #[command(long_about = generate::ABOUT)]
    Generate(generate::Generate),
    /// Bring a key into the partition: from a PEM or PKCS#12 file, or wrapped from another HSM
    #[command(long_about = import::ABOUT)]
    Import(import::Import),
    /// Take an extractable key out of the partition, wrapped with another key
    #[command(long_about = export::ABOUT)]
    Export(export::Export),
    /// Trust a wrapping key (as a crypto officer)
    #[command(long_about = trust::ABOUT)]
    Trust(trust::Trust),
    /// List the keys, or those that were deleted
    List(list::List),
    /// Show a key: type, policy, URI, and of a pair the public key and its fingerprint
    Show(Named),
    /// Delete a key; for a while it can be recovered
    #[command(long_about = deleted::DELETE)]
    Delete(deleted::Delete),
    /// Bring a deleted key back (as a crypto officer)
    #[command(long_about = deleted::RECOVER)]
    Recover(deleted::Recover),
    /// Destroy a deleted key before its time, for ever (as a crypto officer)
    #[command(long_about = deleted::PURGE)]
    Purge(deleted::Purge),
    /// Make a new version of a key, under the same name
    #[command(long_about = rotate::ROTATE)]
    Rotate(rotate::Rotate),
    /// Make a version the one that the key's name means
    #[command(long_about = rotate::ACTIVATE)]
    Activate(rotate::Activate),
    /// Make a certificate request for a key
    #[command(long_about = request::ABOUT)]
    Request(request::Request),
    /// Have new versions of a key made by time
    #[command(long_about = rotate::ROTATION)]
    Rotation(rotate::Rotation),
    /// Let somebody use one key, and no other: a web server's user id
    #[command(long_about = access::GRANT)]
    Grant(access::Grant),
    /// No longer let somebody use a key, at once
    #[command(long_about = access::REVOKE)]
    Revoke(access::Revoke),
    /// List those whom a key names besides the partition's crypto users
    Access(Named),
    /// Print the public key (PEM)
    Public(publish::Public),
    /// Print the key's pkcs11: URI (RFC 7512), its name for nginx, Apache and openssl
    Uri(publish::UriOf),
    /// Write the PEM reference file, for programs that load keys from files only
    #[command(long_about = publish::REFERENCE)]
    Reference(publish::Reference),
}

/// The key that a command is about.
#[derive(Debug, Args)]
pub struct Named {
    /// The key: its name, or id:HEX, or object:HEX
    #[arg(value_parser = Selector::parse)]
    name: Selector,
}

/// What a new key is called.
#[derive(Debug, Args)]
pub struct NewName {
    /// The new key's name: CKA_LABEL, object= in URIs
    name: String,
    /// CKA_ID, id= in URIs; by default made from the public key, or chosen by the daemon
    #[arg(long, value_name = "HEX", value_parser = id)]
    id: Option<Id>,
    /// What the key may be used for, and nothing else; by default a pair signs (X25519 and X448: derive, ML-KEM:
    /// decapsulates), and a secret key encrypts and decrypts (a generic secret signs)
    #[arg(long, value_name = "USES", value_delimiter = ',')]
    usage: Vec<Usage>,
    /// The key may leave the partition, wrapped with another key ('strongroom key export')
    #[arg(long)]
    extractable: bool,
    /// It leaves under a wrapping key only that a crypto officer trusts
    #[arg(long, requires = "extractable")]
    wrap_with_trusted: bool,
    /// Crypto users read its value, through PKCS#11 (CKA_SENSITIVE false); of a secret key
    #[arg(long, requires = "extractable", conflicts_with = "wrap_with_trusted")]
    readable: bool,
    #[command(flatten)]
    restrictions: Restrictions,
}

/// What a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Usage {
    /// A private key signs; a secret key makes and checks codes (HMAC, CMAC)
    Sign,
    /// An RSA key, or a secret key, decrypts
    Decrypt,
    /// A key on a curve agrees on secrets (ECDH, X25519, X448)
    Derive,
    /// An ML-KEM key decapsulates secrets
    Decapsulate,
    /// A secret key encrypts
    Encrypt,
    /// A secret key, or the public half of an RSA key, wraps keys that go out
    Wrap,
    /// A secret key, or an RSA key, unwraps keys that come in
    Unwrap,
}

/// A CKA_ID on the command line. (A bare `Vec` would be many values to clap.)
#[derive(Debug, Clone)]
struct Id(Vec<u8>);

fn id(hex: &str) -> Result<Id, String> {
    unhex(hex).map(Id)
}

impl NewName {
    /// Refuses a name that would be ambiguous afterwards.
    fn require_free(&self, session: &mut Session) -> Result<(), Failure> {
        if self.name.is_empty() || self.name.len() > 255 {
            return Err(Failure::usage("a key's name has 1 to 255 bytes"));
        }
        match session.keys_of(&Selector::Label(self.name.clone()))?.first() {
            None => Ok(()),
            Some(_) => {
                let message = format!(
                    "partition {:?} has a key {:?} already: choose another name, or delete that one with 'strongroom key delete'",
                    session.partition().label,
                    self.name
                );
                Err(Failure::new(Exit::Exists, "exists", message))
            }
        }
    }

    /// What the daemon is told of a secret key.
    fn secret(&self) -> KeyTemplate {
        let (wrap, verify) = (self.has(Usage::Wrap), self.has(Usage::Sign));
        let policy = self.holds().map(|policy| KeyPolicy { wrap, verify, ..policy });
        let template = KeyTemplate { policy, not_sensitive: self.readable, ..self.template() };
        self.restrictions.secret(template)
    }

    /// What the daemon is told of a private key.
    fn private(&self) -> KeyTemplate {
        // That it can be read the daemon refuses.
        let template = KeyTemplate { policy: self.holds(), not_sensitive: self.readable, ..self.template() };
        self.restrictions.private(template)
    }

    /// What a private or a secret key may.
    fn holds(&self) -> Option<KeyPolicy> {
        self.may(|may| KeyPolicy {
            sign: may(Usage::Sign),
            decrypt: may(Usage::Decrypt),
            derive: may(Usage::Derive),
            decapsulate: may(Usage::Decapsulate),
            encrypt: may(Usage::Encrypt),
            unwrap: may(Usage::Unwrap),
            ..KeyPolicy::default()
        })
    }

    /// What the daemon is told of a public key: the other side of what the private one may.
    fn public(&self) -> KeyTemplate {
        let policy = self.may(|may| KeyPolicy {
            verify: may(Usage::Sign),
            encrypt: may(Usage::Decrypt),
            encapsulate: may(Usage::Decapsulate),
            wrap: may(Usage::Wrap) || may(Usage::Unwrap),
            ..KeyPolicy::default()
        });
        self.restrictions.public(KeyTemplate { policy, ..self.template() })
    }

    fn may(&self, policy: impl FnOnce(&dyn Fn(Usage) -> bool) -> KeyPolicy) -> Option<KeyPolicy> {
        (!self.usage.is_empty()).then(|| policy(&|usage| self.has(usage)))
    }

    fn has(&self, usage: Usage) -> bool {
        self.usage.contains(&usage)
    }

    /// What both halves share. The policy is left to the daemon.
    fn template(&self) -> KeyTemplate {
        KeyTemplate {
            label: self.name.clone(),
            id: self.id.as_ref().map(|id| id.0.clone()).unwrap_or_default(),
            policy: None::<KeyPolicy>,
            extractable: self.extractable,
            wrap_with_trusted: self.wrap_with_trusted,
            ..KeyTemplate::default()
        }
    }
}

/// The key that the daemon has made: the private key, then the public key; or the secret key.
fn made(objects: ObjectList) -> Result<Pair, Failure> {
    let mut objects = objects.objects.into_iter();
    match (objects.next(), objects.next()) {
        (Some(private), public) => Ok(Pair { private: Some(private), public }),
        _ => Err(Failure::unexpected_answer()),
    }
}

impl Key {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Why it failed.
    pub fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        let role = match self {
            Key::Trust(_) | Key::Recover(_) | Key::Purge(_) => Role::CryptoOfficer,
            _ => Role::CryptoUser,
        };
        let mut session = Session::open(global, output, role)?;
        match self {
            Key::Generate(generate) => generate.run(&mut session, output),
            Key::Import(import) => import.run(&mut session, output),
            Key::Export(export) => export.run(&mut session, output),
            Key::Trust(trust) => trust.run(&mut session, output),
            Key::List(list) => list.run(&mut session, output),
            Key::Show(named) => publish::show(&named, &mut session, output),
            Key::Delete(delete) => delete.run(&mut session, output),
            Key::Grant(grant) => grant.run(&mut session, output),
            Key::Revoke(revoke) => revoke.run(&mut session, output),
            Key::Access(named) => access::access(&named, &mut session, output),
            Key::Public(public) => public.run(&mut session, output),
            Key::Uri(uri) => uri.run(&mut session, output),
            Key::Recover(recover) => recover.run(&mut session, output),
            Key::Purge(purge) => purge.run(&mut session, output),
            Key::Rotate(rotate) => rotate.run(&mut session, output),
            Key::Activate(activate) => activate.run(&mut session, output),
            Key::Request(request) => request.run(&mut session, output),
            Key::Rotation(rotation) => rotation.run(&mut session, output),
            Key::Reference(reference) => reference.run(&mut session, output),
        }
    }
}
