//! What a caller of the store searches for beyond the URI (OSSL_STORE_SEARCH(3)).

use crate::bindings::*;
use crate::error::{Error, Result};
use crate::openssl::{Certificate, Context, Name, digest_by_name};
use crate::params::{Params, Value};
use crate::token::{Object, Wanted};
use strongroom_uri::Uri;

/// Criteria, all of which an object must fit.
#[derive(Default)]
pub struct Criteria {
    subject: Option<Name>,
    issuer: Option<Name>,
    /// The most significant byte first, without leading zeros.
    serial: Option<Vec<u8>>,
    /// The digest's name, where it was given.
    digest: Option<String>,
    fingerprint: Option<Vec<u8>>,
    /// An object's label.
    alias: Option<String>,
}

impl Criteria {
    /// Takes the criteria in a loader's parameters.
    ///
    /// # Errors
    ///
    /// [`Error::Libcrypto`] if a name is none.
    pub fn set(&mut self, params: Params) -> Result<()> {
        if let Some(Value::Octets(name)) = params.get(OSSL_STORE_PARAM_SUBJECT) {
            self.subject = Some(Name::from_der(name)?);
        }
        if let Some(Value::Octets(name)) = params.get(OSSL_STORE_PARAM_ISSUER) {
            self.issuer = Some(Name::from_der(name)?);
        }
        if let Some(serial) = params.unsigned(OSSL_STORE_PARAM_SERIAL) {
            self.serial = Some(serial);
        }
        if let Some(Value::Text(name)) = params.get(OSSL_STORE_PARAM_DIGEST) {
            self.digest = Some(name.to_owned());
        }
        if let Some(Value::Octets(fingerprint)) = params.get(OSSL_STORE_PARAM_FINGERPRINT) {
            self.fingerprint = Some(fingerprint.to_vec());
        }
        if let Some(Value::Text(alias)) = params.get(OSSL_STORE_PARAM_ALIAS) {
            self.alias = Some(alias.to_owned());
        }
        Ok(())
    }

    /// The URI with the alias, which is an object's label.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the URI names another object.
    pub fn narrow(&self, uri: &Uri) -> Result<Uri> {
        match (&self.alias, &uri.object) {
            (Some(alias), Some(object)) if alias != object => Err(Error::NotFound {
                uri: uri.to_string(),
                found: "the alias that is searched for is another".into(),
            }),
            (Some(alias), _) => Ok(Uri { object: Some(alias.clone()), ..uri.clone() }),
            (None, _) => Ok(uri.clone()),
        }
    }

    /// The kinds of object that can fit: only certificates have subject, issuer and serial number.
    pub fn wanted(&self, wanted: Wanted) -> Wanted {
        if self.subject.is_none() && self.issuer.is_none() && self.serial.is_none() {
            return wanted;
        }
        Wanted { private: false, public: false, secrets: false, ..wanted }
    }

    /// Whether an object fits.
    pub fn fit(&self, context: &Context, object: &Object) -> bool {
        match object {
            Object::Certificate(der) => self.fits_certificate(context, der),
            Object::Private(key) => self.is_print_of(context, key.public.to_der()),
            Object::Public(_, key) => self.is_print_of(context, key.to_der()),
            Object::Secret(_) => self.fingerprint.is_none(),
        }
    }

    fn fits_certificate(&self, context: &Context, der: &[u8]) -> bool {
        let Criteria { subject, issuer, serial, fingerprint, .. } = self;
        if subject.is_none() && issuer.is_none() && serial.is_none() && fingerprint.is_none() {
            return true;
        }
        let Ok(certificate) = Certificate::from_der(context, der) else { return false };
        subject.as_ref().is_none_or(|name| certificate.has_subject(name))
            && issuer.as_ref().is_none_or(|name| certificate.has_issuer(name))
            && serial.as_ref().is_none_or(|serial| certificate.has_serial(serial))
            && (self.is_print_of(context, Ok(der.to_vec()))
                || self.is_print_of(context, certificate.public_key().and_then(|key| key.to_der())))
    }

    /// Whether the fingerprint, if one is searched for, is that of this DER: a certificate's, or a key's
    /// SubjectPublicKeyInfo.
    fn is_print_of(&self, context: &Context, der: Result<Vec<u8>>) -> bool {
        let Some(fingerprint) = &self.fingerprint else { return true };
        let by_length = if fingerprint.len() == 20 { "SHA1" } else { "SHA256" };
        let name = self.digest.as_deref().unwrap_or(by_length);
        der.and_then(|der| digest_by_name(context, name, &der)).is_ok_and(|digest| digest == *fingerprint)
    }
}
