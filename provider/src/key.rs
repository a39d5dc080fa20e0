//! A key as libcrypto holds it: a reference to a private key in a token, and the public half.

use std::sync::{Arc, OnceLock};

use crate::dispatch::rsa_decryption::Rejection;
use crate::error::{Error, Result};
use crate::openssl::PublicKey;
use crate::params::Params;
use crate::provider::Provider;
use crate::token::{KeyKind, PrivateKey};

/// What a keymgmt's `keydata` points to (an `Arc`, so that a signature in progress keeps it).
pub struct Key {
    /// The provider that it belongs to.
    pub provider: Arc<Provider>,
    /// Its type, as the keymgmt that made it.
    pub kind: KeyKind,
    /// Set once: when it is loaded, or imported by libcrypto to compare a certificate's key with ours.
    public: OnceLock<PublicKey>,
    /// The public half as it is to be written, if that was set. Set once.
    written: OnceLock<PublicKey>,
    private: Option<PrivateKey>,
    /// For RSA decryption.
    pub rejection: Rejection,
}

impl Key {
    /// A key without content, to be imported into.
    pub fn new(provider: Arc<Provider>, kind: KeyKind) -> Self {
        Key::of(provider, kind, OnceLock::new(), None)
    }

    /// A key of a token.
    pub fn from_token(provider: Arc<Provider>, private: PrivateKey) -> Self {
        Key::of(provider, private.kind, OnceLock::from(private.public.clone()), Some(private))
    }

    /// A public key of a token.
    pub fn from_public(provider: Arc<Provider>, kind: KeyKind, public: PublicKey) -> Self {
        Key::of(provider, kind, OnceLock::from(public), None)
    }

    fn of(
        provider: Arc<Provider>,
        kind: KeyKind,
        public: OnceLock<PublicKey>,
        private: Option<PrivateKey>,
    ) -> Self {
        let written = OnceLock::new();
        Key { provider, kind, public, written, private, rejection: Rejection::default() }
    }

    /// Takes a public key's parameters.
    ///
    /// # Errors
    ///
    /// [`Error::Libcrypto`] if they are not a public key of this type, [`Error::Key`] if there is one already.
    pub fn import(&self, params: Params) -> Result<()> {
        let key = PublicKey::from_params(&self.provider.openssl, self.kind.name(), params)?;
        self.public.set(key).map_err(|_| Error::Key("has its public half already".into()))
    }

    /// The public half.
    ///
    /// # Errors
    ///
    /// [`Error::Key`] if there is none yet.
    pub fn public(&self) -> Result<&PublicKey> {
        self.public.get().ok_or_else(|| Error::Key("without content".into()))
    }

    /// The public half as it is to be written.
    ///
    /// # Errors
    ///
    /// As [`public`](Self::public).
    pub fn written(&self) -> Result<&PublicKey> {
        self.written.get().map_or_else(|| self.public(), Ok)
    }

    /// Sets how the point of an EC key is to be written: `compressed`, `uncompressed` or `hybrid`.
    ///
    /// # Errors
    ///
    /// [`Error::Libcrypto`] for another form, [`Error::Key`] if it was set before.
    pub fn set_point_format(&self, form: &str) -> Result<()> {
        let public = self.public()?.in_point_format(&self.provider.openssl, form)?;
        self.written.set(public).map_err(|_| Error::Key("has a form of its point already".into()))
    }

    /// Whether there is a public half.
    pub fn has_public(&self) -> bool {
        self.public.get().is_some()
    }

    /// The private key in its token.
    ///
    /// # Errors
    ///
    /// [`Error::Key`] if this is only a public key.
    pub fn private(&self) -> Result<&PrivateKey> {
        self.private.as_ref().ok_or_else(|| Error::Key("is a public key: it cannot sign".into()))
    }

    /// Whether it refers to a private key.
    pub fn has_private(&self) -> bool {
        self.private.is_some()
    }
}
