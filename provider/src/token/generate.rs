//! Making a key pair in a token.

use cryptoki_sys::*;
use der::Encode;
use der::asn1::PrintableStringRef;
use strongroom_uri::Uri;

use super::attribute::Template;
use super::find::Search;
use super::kind::Use;
use super::process::Operation;
use super::public::PSS;
use super::session::Session;
use super::slot::Slot;
use super::{KeyKind, PrivateKey, Tokens};
use crate::error::{Error, Result};
use crate::openssl::{Context, Hash};
use crate::pin::Secret;

/// The size of the CKA_ID of a key whose URI gives none, in bytes. It is random.
const ID: usize = 16;

/// What pair is to be made.
#[derive(Debug, Clone)]
pub struct NewPair {
    /// Its type.
    pub kind: KeyKind,
    /// The token, and the label and id of both keys.
    pub uri: Uri,
    /// What it may be used for.
    pub uses: Vec<Use>,
    /// The size of an RSA modulus, in bits.
    pub bits: CK_ULONG,
    /// An RSA public exponent, the most significant byte first.
    pub exponent: Vec<u8>,
    /// The one hash that an RSA-PSS key may sign with, if it is to be restricted.
    pub hash: Option<Hash>,
    /// DER of CKA_EC_PARAMS, for types whose curve is not fixed.
    pub curve: Vec<u8>,
}

/// One way to ask a token for a pair.
#[derive(Clone)]
struct Way {
    mechanism: CK_MECHANISM_TYPE,
    key_type: CK_KEY_TYPE,
    curve: Vec<u8>,
    /// Which uses are said to be allowed or not. All, because what is left out is the token's to choose, but some tokens refuse
    /// attributes of uses that the type does not have.
    uses: &'static [Use],
}

impl Tokens {
    /// Makes a key pair in the token that the URI names: kept there, the private key sensitive and not extractable.
    ///
    /// # Errors
    ///
    /// Of finding the token and logging in as [`find`](Tokens::find). [`Error::Ambiguous`] if several tokens fit or a private key of this
    /// name is there already: neither would have a URI of its own. [`Error::Token`] with what the token says.
    pub fn generate(&self, context: &Context, pair: &NewPair) -> Result<PrivateKey> {
        let restrict = !self.settings.no_allowed_mechanisms;
        let key = self.make(
            context,
            &pair.uri,
            CKO_PRIVATE_KEY,
            |operation, slot, session, id| pair.make(operation, slot, session, id, restrict),
            |search, slot, session, handle, pin| {
                let known = Some(pair.kind).filter(|kind| *kind != KeyKind::RsaPss || !restrict);
                search.private_key(slot, session, handle, pin, known)
            },
        )?;
        if key.kind == pair.kind {
            return Ok(key);
        }
        Err(Error::Key(format!(
            "{} was made, but as {}: the token does not keep the restriction to PSS",
            pair.uri,
            key.kind.name().to_string_lossy()
        )))
    }

    /// Makes what `generate` makes in the token that the URI names, where no object of `class` may have that name, and reads it.
    pub(super) fn make<T>(
        &self,
        context: &Context,
        uri: &Uri,
        class: CK_OBJECT_CLASS,
        generate: impl Fn(&Operation, &Slot, CK_SESSION_HANDLE, &[u8]) -> Result<CK_OBJECT_HANDLE>,
        read: impl Fn(&Search, &Slot, &Session, CK_OBJECT_HANDLE, Option<Secret>) -> Result<T>,
    ) -> Result<T> {
        // The inner result is that of the generation itself, which is not done again: it may have been done.
        self.recovering(|operation| {
            let slot = self.one_slot(operation, uri)?;
            let session = slot.session(operation.module)?;
            let mut prompt = || None;
            let mut search = Search::new(self, operation.module, context, uri, &mut prompt, true);
            let pin = search.log_in(slot, &session)?;
            if let Some(error) = search.left_out.take() {
                return Err(error);
            }
            if uri.names_an_object() {
                let count = search.handles(&session, class)?.len();
                if count > 0 {
                    let what = if class == CKO_PRIVATE_KEY { "private" } else { "secret" };
                    return Err(Error::Key(format!(
                        "{uri}: token \"{}\" has a {what} key of this name; choose another label or id, or delete that one",
                        slot.token.label
                    )));
                }
            }
            let mut id = [0; ID];
            context.random(&mut id)?;
            let id = uri.id.as_deref().unwrap_or(&id);
            let made = slot
                .in_writable_session(operation.module, |writable| Ok(generate(operation, slot, writable, id)))?;
            let handle = match made {
                Ok(handle) => handle,
                Err(error) if error.rv().is_some_and(was_not_begun) => return Err(error),
                Err(error) => return Ok(Err(error)),
            };
            Ok(read(&search, slot, &session, handle, pin)
                .map_err(|error| Error::Key(format!("{uri} was made, but cannot be used: {error}"))))
        })?
    }

    /// The one token that fits.
    fn one_slot(&self, operation: &Operation, uri: &Uri) -> Result<&'static Slot> {
        let mut slots = self.fitting(operation, uri)?;
        if slots.len() > 1 && self.settings.default_slot.is_some() {
            slots = self.fitting(operation, &Uri { slot_id: self.settings.default_slot, ..uri.clone() })?;
        }
        match slots.as_slice() {
            [slot] => Ok(slot),
            _ => {
                Err(Error::Key(format!("{uri}: {} tokens fit; name one with token= or serial=", slots.len())))
            }
        }
    }
}

impl NewPair {
    fn make(
        &self,
        operation: &Operation,
        slot: &Slot,
        session: CK_SESSION_HANDLE,
        id: &[u8],
        restrict: bool,
    ) -> Result<CK_OBJECT_HANDLE> {
        let mut last = CKR_MECHANISM_INVALID;
        for way in self.ways()? {
            let (public, mut private) = self.templates(&way, id);
            if self.kind == KeyKind::RsaPss && restrict {
                // The one over a digest, which is how this provider signs, takes any hash: that it is the right one is seen to by the
                // provider, which reads the restriction from this list.
                let allowed = PSS
                    .iter()
                    .filter(|(_, hash)| self.hash.is_none() || hash.is_none() || *hash == self.hash);
                let allowed: Vec<u8> = allowed.flat_map(|(mechanism, _)| mechanism.to_ne_bytes()).collect();
                private = private.and(CKA_ALLOWED_MECHANISMS, &allowed);
            }
            match operation.module.generate_key_pair(session, way.mechanism, &public, &private) {
                Ok(handle) => return Ok(handle),
                Err(rv) => last = rv,
            }
            if !is_another_way(last) {
                break;
            }
        }
        if self.kind == KeyKind::RsaPss && restrict && last == CKR_ATTRIBUTE_TYPE_INVALID {
            return Err(Error::Unsupported(format!(
                "{} cannot restrict a key to RSA-PSS (it has no CKA_ALLOWED_MECHANISMS): make an RSA key, which signs with PSS too, or set \
                 pkcs11-module-quirks = no-allowed-mechanisms",
                slot.name()
            )));
        }
        let what = format!("{} pair in {}", self.kind.name().to_string_lossy(), slot.name());
        Err(Error::token("C_GenerateKeyPair", what, last))
    }

    /// How to ask for it, the standard's way first. Tokens differ in how they want a fixed curve to be named.
    fn ways(&self) -> Result<Vec<Way>> {
        let facts = self.kind.facts();
        // Tokens with ML-KEM know PKCS#11 3.2, and that it can do one thing only.
        let uses = if facts.kem.is_some() { facts.uses } else { &Use::ALL };
        let way = |curve| Way { mechanism: facts.generation, key_type: facts.key_type, curve, uses };
        let mut ways = match &facts.curve {
            None => vec![way(self.curve.clone())],
            Some(fixed) => {
                let unencodable = |_| Error::Key("has a curve whose name cannot be encoded".into());
                let oid = facts.algorithm.to_der().map_err(unencodable)?;
                let name = PrintableStringRef::new(fixed.name)
                    .and_then(|name| name.to_der())
                    .map_err(unencodable)?;
                // SoftHSM2 makes X25519 and X448 by the mechanism for Edwards curves.
                let edwards = Way {
                    mechanism: CKM_EC_EDWARDS_KEY_PAIR_GEN,
                    key_type: CKK_EC_EDWARDS,
                    ..way(oid.clone())
                };
                vec![way(oid), way(name), edwards]
            }
        };
        let fewer: Vec<Way> =
            ways.iter().map(|way| Way { uses: self.kind.possible_uses(), ..way.clone() }).collect();
        ways.extend(fewer);
        Ok(ways)
    }

    fn templates(&self, way: &Way, id: &[u8]) -> (Template, Template) {
        let named = |template: Template| {
            let template =
                template.and_number(CKA_KEY_TYPE, way.key_type).and_flag(CKA_TOKEN, true).and(CKA_ID, id);
            match &self.uri.object {
                Some(label) => template.and(CKA_LABEL, label.as_bytes()),
                None => template,
            }
        };
        let mut public = named(Template::class(CKO_PUBLIC_KEY));
        let mut private = named(Template::class(CKO_PRIVATE_KEY))
            .and_flag(CKA_PRIVATE, true)
            .and_flag(CKA_SENSITIVE, true)
            .and_flag(CKA_EXTRACTABLE, false);
        if self.kind.is_rsa() {
            public = public.and_number(CKA_MODULUS_BITS, self.bits).and(CKA_PUBLIC_EXPONENT, &self.exponent);
        } else if let Some(set) = self.kind.facts().parameter_set {
            public = public.and_number(CKA_PARAMETER_SET, set);
        } else {
            public = public.and(CKA_EC_PARAMS, &way.curve);
        }
        for possible in way.uses {
            let (public_attribute, private_attribute) = possible.attributes();
            let wanted = self.uses.contains(possible);
            public = public.and_flag(public_attribute, wanted);
            private = private.and_flag(private_attribute, wanted);
        }
        (public, private)
    }
}

impl KeyKind {
    /// What a key of this type could be used for.
    pub fn possible_uses(self) -> &'static [Use] {
        match self {
            KeyKind::Rsa => &[Use::Sign, Use::Decrypt, Use::Unwrap],
            other => other.facts().uses,
        }
    }
}

impl Use {
    /// Those of PKCS#11 2.40, which any token knows.
    const ALL: [Use; 4] = [Use::Sign, Use::Decrypt, Use::Unwrap, Use::Derive];

    /// The use that a certificate's key usage calls `name` (ITU-T X.509, 9.2.2.3), of keys of type `kind`.
    pub fn of_key_usage(name: &str, kind: KeyKind) -> Option<Self> {
        Some(match name {
            "digitalSignature" => Use::Sign,
            "dataEncipherment" => Use::Decrypt,
            "keyEncipherment" if kind.facts().kem.is_some() => Use::Decapsulate,
            "keyEncipherment" => Use::Unwrap,
            "keyAgreement" => Use::Derive,
            _ => return None,
        })
    }

    /// The attributes for it, of the public and of the private key.
    fn attributes(self) -> (CK_ATTRIBUTE_TYPE, CK_ATTRIBUTE_TYPE) {
        match self {
            Use::Sign => (CKA_VERIFY, CKA_SIGN),
            Use::Decrypt => (CKA_ENCRYPT, CKA_DECRYPT),
            Use::Unwrap => (CKA_WRAP, CKA_UNWRAP),
            Use::Derive => (CKA_DERIVE, CKA_DERIVE),
            Use::Decapsulate => (CKA_ENCAPSULATE, CKA_DECAPSULATE),
        }
    }
}

/// Errors of C_GenerateKeyPair after which nothing was made and the same may be asked in another way.
pub(super) fn is_another_way(rv: CK_RV) -> bool {
    matches!(
        rv,
        CKR_MECHANISM_INVALID
            | CKR_CURVE_NOT_SUPPORTED
            | CKR_DOMAIN_PARAMS_INVALID
            | CKR_ATTRIBUTE_VALUE_INVALID
            | CKR_ATTRIBUTE_TYPE_INVALID
            | CKR_TEMPLATE_INCONSISTENT
    )
}

/// Errors that say that nothing was made because session, log-in or module are not what they were: all of it may be done again.
fn was_not_begun(rv: CK_RV) -> bool {
    matches!(
        rv,
        CKR_SESSION_HANDLE_INVALID
            | CKR_USER_NOT_LOGGED_IN
            | CKR_OPERATION_ACTIVE
            | CKR_CRYPTOKI_NOT_INITIALIZED
    )
}
