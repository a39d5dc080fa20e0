//! Keys in PKCS#11 tokens.
//!
//! Above this module there are only identities (which token, which key); session and object handles live here,
//! per process, and are looked up again when they have gone stale: after a fork, a reload, a restart of the
//! token.
//!
//! - [`module`]: the module's functions, with lengths and pointers taken care of;
//! - [`shared`]: the module, shared by all providers of the process; [`ending`]: the process's end;
//! - [`process`]: what is known in this process: slots, sessions, log-in, handles; [`remembered`]: the short cut to them,
//!   by which a signature takes no lock that another thread may hold;
//! - [`login`]: log-ins; [`attempts`] and [`known_pins`]: what parents and siblings know of PINs;
//! - [`kind`]: the key types, one row for each;
//! - [`find`]: from a URI to objects; [`public`]: a key object's public half;
//! - [`generate`](Tokens::generate): a new key pair, [`generate_secret`](Tokens::generate_secret): a secret key;
//! - [`key_use`]: the one way in which a private key is used, with its recovery; by it [`sign`](Tokens::sign),
//!   [`decrypt`](Tokens::decrypt), [`derive`](Tokens::derive) and [`decapsulate`](Tokens::decapsulate);
//! - [`random`](mod@random): random bytes; [`digest`](Tokens::digest) and [`hkdf`](Tokens::hkdf), [`mac`](Tokens::mac), [`aes`](Tokens::aes), [`gcm`](Tokens::gcm), [`tls_prf`](Tokens::tls_prf): what takes no key pair;
//! - [`in_parts`]: a session that such an operation keeps between its parts; [`secret`]: a secret in the token while one needs it;
//!   [`secret_key`]: one that such an operation is done with, the application's or a token's own.

mod aes;
mod attempts;
mod attribute;
mod decapsulate;
mod decrypt;
mod derive;
mod digest;
mod ending;
mod find;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod gate;
mod gcm;
mod generate;
mod generate_secret;
mod in_parts;
mod key_derivation;
mod key_use;
mod kind;
mod known_pins;
mod library;
mod login;
mod mac;
mod message;
mod module;
mod process;
mod public;
mod random;
mod remembered;
mod secret;
mod secret_key;
mod session;
mod shared;
mod sign;
mod slot;
mod tls_prf;

pub use aes::{Aes, BLOCK, Mode};
pub use decrypt::{RsaCipher, is_not_offered};
pub use derive::Agreement;
pub use digest::DigestInParts;
pub use find::{Object, Wanted, ambiguous};
pub use gcm::{Gcm, GcmInParts, TAG};
pub use generate::NewPair;
pub use generate_secret::{NewSecret, SecretUse};
pub use in_parts::Parts;
pub use key_derivation::Hkdf;
pub use kind::{Functions, KeyKind, Kind, Table, Use, kinds};
pub use mac::{Mac, MacInParts};
pub use message::MessageOptions;
pub use secret_key::{SecretKey, StoredKey};
pub use sign::Mechanism;

use crate::error::Result;
use crate::openssl::{Context, PublicKey};
use crate::pin::Secret;
use crate::settings::Settings;
use remembered::Remembered;
use shared::{Manner, Shared};
use strongroom_uri::Uri;

/// The tokens that one PKCS#11 module gives access to.
pub struct Tokens {
    /// A module that cannot be loaded is an error of the first operation, not of OpenSSL's start.
    shared: Result<&'static Shared>,
    /// What openssl.cnf says.
    pub settings: Settings,
}

impl Tokens {
    /// Loads the module. It is initialised by the first operation in each process. It is loaded now because
    /// modules read their environment when they are loaded or first initialised, and web servers' workers have
    /// none.
    pub fn new(settings: Settings) -> Self {
        let shared = match &settings.fault {
            Some(fault) => Err(fault.clone()),
            None => Shared::of(Manner::of(&settings)),
        };
        Tokens { shared, settings }
    }

    /// Initialises the module, and looks which tokens there are.
    ///
    /// # Errors
    ///
    /// [`Error::Module`](crate::error::Error::Module) and [`Error::Setting`](crate::error::Error::Setting) if there is none,
    /// [`Error::Token`](crate::error::Error::Token) with the module's own error.
    pub fn start(&self) -> Result<()> {
        self.recovering(|operation| operation.slots(true).map(drop))
    }

    /// How many threads may sign for ASYNC jobs.
    ///
    /// # Errors
    ///
    /// [`Error::Job`](crate::error::Error::Job) if the setting is not a number.
    pub fn threads(&self) -> Result<usize> {
        self.settings.threads.clone()
    }
}

/// What identifies a token over restarts and processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenIdentity {
    /// CK_TOKEN_INFO.label, without the padding.
    pub label: String,
    /// CK_TOKEN_INFO.serialNumber, without the padding.
    pub serial: String,
}

/// The identity of a private key, with what using it takes.
pub struct PrivateKey {
    /// Where it is.
    token: TokenIdentity,
    /// CKA_ID; may be empty.
    id: Vec<u8>,
    /// CKA_LABEL; may be empty.
    label: Vec<u8>,
    /// Its type.
    pub kind: KeyKind,
    /// CKA_ALWAYS_AUTHENTICATE: the PIN is given again for each signature.
    always_authenticate: bool,
    /// The token hashes what the key signs: CKA_ALLOWED_MECHANISMS has PSS with a hash, and not PSS over a digest.
    pub hashes_in_token: bool,
    /// The PIN with which it was found, for the log-in of other processes.
    pin: Option<Secret>,
    /// The public half. A key object without it is not this key, whatever its name.
    pub public: PublicKey,
    /// Names this key in the handle caches.
    fingerprint: Fingerprint,
    /// Where it was found last.
    remembered: Remembered,
}

/// What a private key is used for.
#[derive(Debug, Clone)]
pub enum Operation {
    /// Signs the data.
    Sign(Mechanism),
    /// Decrypts the data.
    Decrypt(RsaCipher),
    /// Derives the secret shared with the owner of the public key that is the data.
    Derive(Agreement),
    /// Gets the secret that is encapsulated in the data.
    Decapsulate,
}

impl Tokens {
    /// Does `operation` with `key` on `data`; returns the size of the result in `out`, in bytes.
    ///
    /// # Errors
    ///
    /// What [`sign`](Self::sign), [`decrypt`](Self::decrypt), [`derive`](Self::derive) or
    /// [`decapsulate`](Self::decapsulate) says.
    pub fn operate(
        &self,
        context: &Context,
        key: &PrivateKey,
        operation: &Operation,
        data: &[u8],
        out: &mut [u8],
    ) -> Result<usize> {
        match operation {
            Operation::Sign(mechanism) => self.sign(context, key, mechanism, data, out),
            Operation::Decrypt(cipher) => self.decrypt(context, key, cipher, data, out),
            Operation::Derive(agreement) => self.derive(context, key, *agreement, data, out),
            Operation::Decapsulate => self.decapsulate(context, key, data, out),
        }
    }
}

/// SHA-256 over a key's type, id, label and public half.
pub type Fingerprint = [u8; 32];

impl PrivateKey {
    /// The key for people: its URI without a PIN.
    pub fn name(&self) -> String {
        Uri { kind: None, ..self.uri() }.to_string()
    }

    /// The URI by which it is found again.
    pub fn uri(&self) -> Uri {
        // A label that is not UTF-8 cannot be in a URI: the id must do.
        let label = std::str::from_utf8(&self.label).unwrap_or_default();
        Uri::of_private_key(&self.token.label, label, &self.id)
    }
}
