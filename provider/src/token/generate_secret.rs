//! Making a secret key in a token.

use std::sync::Arc;

use cryptoki_sys::*;
use strongroom_uri::Uri;

use super::Tokens;
use super::attribute::Template;
use super::generate::is_another_way;
use super::secret_key::StoredKey;
use crate::error::{Error, Result};
use crate::openssl::Context;

/// What secret key is to be made.
#[derive(Debug, Clone)]
pub struct NewSecret {
    /// CKA_KEY_TYPE
    pub kind: CK_KEY_TYPE,
    /// The mechanism that makes it.
    pub generation: CK_MECHANISM_TYPE,
    /// The token, and the key's label and id.
    pub uri: Uri,
    /// Its size in bytes.
    pub size: usize,
    /// What it may be used for.
    pub uses: Vec<SecretUse>,
}

/// What a secret key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretUse {
    /// CKA_ENCRYPT, CKA_DECRYPT
    Encrypt,
    /// CKA_SIGN, CKA_VERIFY
    Mac,
    /// CKA_WRAP, CKA_UNWRAP
    Wrap,
    /// CKA_DERIVE
    Derive,
}

impl SecretUse {
    const ALL: [SecretUse; 4] = [SecretUse::Encrypt, SecretUse::Mac, SecretUse::Wrap, SecretUse::Derive];

    /// By pkcs11-provider's name for it.
    pub fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "encrypt" => SecretUse::Encrypt,
            "mac" => SecretUse::Mac,
            "wrap" => SecretUse::Wrap,
            "derive" => SecretUse::Derive,
            _ => return None,
        })
    }

    fn attributes(self) -> &'static [CK_ATTRIBUTE_TYPE] {
        match self {
            SecretUse::Encrypt => &[CKA_ENCRYPT, CKA_DECRYPT],
            SecretUse::Mac => &[CKA_SIGN, CKA_VERIFY],
            SecretUse::Wrap => &[CKA_WRAP, CKA_UNWRAP],
            SecretUse::Derive => &[CKA_DERIVE],
        }
    }
}

impl Tokens {
    /// Makes a secret key in the token that the URI names: kept there, sensitive and not extractable.
    ///
    /// # Errors
    ///
    /// As [`generate`](Self::generate).
    pub fn generate_secret(&self, context: &Context, new: &NewSecret) -> Result<Arc<StoredKey>> {
        self.make(
            context,
            &new.uri,
            CKO_SECRET_KEY,
            |operation, slot, session, id| {
                let generate =
                    |template: &Template| operation.module.generate_key(session, new.generation, template);
                // What is left out is the token's to choose, but some tokens refuse attributes of uses that the type does not have.
                let made = match generate(&new.template(id, &SecretUse::ALL)) {
                    Err(rv) if is_another_way(rv) => generate(&new.template(id, &new.uses)),
                    done => done,
                };
                made.map_err(|rv| Error::token("C_GenerateKey", slot.name(), rv))
            },
            |search, slot, session, handle, pin| search.secret_key(slot, session, handle, pin),
        )
    }
}

impl NewSecret {
    /// What the key is to be like; the uses that are `told` are allowed or not, others are not told.
    fn template(&self, id: &[u8], told: &[SecretUse]) -> Template {
        let mut template = Template::class(CKO_SECRET_KEY)
            .and_number(CKA_KEY_TYPE, self.kind)
            .and_flag(CKA_TOKEN, true)
            .and_flag(CKA_PRIVATE, true)
            .and_flag(CKA_SENSITIVE, true)
            .and_flag(CKA_EXTRACTABLE, false)
            .and_number(CKA_VALUE_LEN, self.size as CK_ULONG)
            .and(CKA_ID, id);
        if let Some(label) = &self.uri.object {
            template = template.and(CKA_LABEL, label.as_bytes());
        }
        for usage in told {
            for attribute in usage.attributes() {
                template = template.and_flag(*attribute, self.uses.contains(usage));
            }
        }
        template
    }
}
