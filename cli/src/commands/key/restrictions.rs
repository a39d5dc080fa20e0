//! What a new key's maker rules out for good, and how reports show it.

use clap::Args;
use strongroom_protocol::v1::{Attribute, KeyTemplate, KeyTemplates, ObjectInfo};
use strongroom_protocol::{pkcs11, template_names};

/// What a key may not, or not without something else. It holds for everybody, through every interface, and for good.
#[derive(Debug, Args)]
#[command(next_help_heading = "Restrictions, for good")]
pub(super) struct Restrictions {
    /// The private or secret key is used with these PKCS#11 mechanisms only: ecdsa-sha256, CKM_AES_GCM
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = mechanism)]
    mechanisms: Vec<u64>,
    /// Each use takes the password again; of a private key that signs or decrypts, and does nothing else
    #[arg(long)]
    always_authenticate: bool,
    /// It wraps only keys that have these attributes: class=secret,type=aes,extractable=yes
    #[arg(long, value_name = "ATTRIBUTE=VALUE,…", value_delimiter = ',', value_parser = template_names::parse)]
    wrap_template: Vec<Attribute>,
    /// What it unwraps gets these attributes: extractable=no,label=guest
    #[arg(long, value_name = "ATTRIBUTE=VALUE,…", value_delimiter = ',', value_parser = template_names::parse)]
    unwrap_template: Vec<Attribute>,
    /// What is derived of it gets these attributes
    #[arg(long, value_name = "ATTRIBUTE=VALUE,…", value_delimiter = ',', value_parser = template_names::parse)]
    derive_template: Vec<Attribute>,
    /// No copies are made of it (CKA_COPYABLE)
    #[arg(long)]
    not_copyable: bool,
    /// Its name and id stay as they are (CKA_MODIFIABLE)
    #[arg(long)]
    not_modifiable: bool,
}

fn mechanism(name: &str) -> Result<u64, String> {
    match pkcs11::mechanism(name) {
        Some(row) => Ok(row.number),
        None => {
            Err("no such mechanism with a key; docs/pkcs11.md lists them, as in ecdsa-sha256 or CKM_AES_GCM"
                .to_owned())
        }
    }
}

impl Restrictions {
    /// Of a private key.
    pub(super) fn private(&self, template: KeyTemplate) -> KeyTemplate {
        let templates =
            self.templates(Vec::new(), self.unwrap_template.clone(), self.derive_template.clone());
        KeyTemplate {
            allowed_mechanisms: self.mechanisms.clone(),
            always_authenticate: self.always_authenticate,
            templates,
            ..self.handled(template)
        }
    }

    /// Of its public half.
    pub(super) fn public(&self, template: KeyTemplate) -> KeyTemplate {
        let templates = self.templates(self.wrap_template.clone(), Vec::new(), Vec::new());
        KeyTemplate { templates, ..self.handled(template) }
    }

    /// Of a secret key, which wraps and unwraps.
    pub(super) fn secret(&self, template: KeyTemplate) -> KeyTemplate {
        let [wrap, unwrap, derive] = [&self.wrap_template, &self.unwrap_template, &self.derive_template];
        let templates = self.templates(wrap.clone(), unwrap.clone(), derive.clone());
        KeyTemplate { templates, ..self.private(template) }
    }

    fn handled(&self, template: KeyTemplate) -> KeyTemplate {
        KeyTemplate { not_copyable: self.not_copyable, not_modifiable: self.not_modifiable, ..template }
    }

    fn templates(
        &self,
        wrap: Vec<Attribute>,
        unwrap: Vec<Attribute>,
        derive: Vec<Attribute>,
    ) -> Option<KeyTemplates> {
        let is_empty = wrap.is_empty() && unwrap.is_empty() && derive.is_empty();
        (!is_empty).then_some(KeyTemplates { wrap, unwrap, derive })
    }
}

/// The mechanisms to which a key is restricted; none: it is not.
pub(super) fn mechanisms<'a>(mut halves: impl Iterator<Item = &'a ObjectInfo>) -> Vec<String> {
    let restricted = halves.find(|half| !half.allowed_mechanisms.is_empty());
    let numbers = restricted.map(|half| half.allowed_mechanisms.as_slice()).unwrap_or_default();
    numbers.iter().map(|number| pkcs11::mechanism_name(*number)).collect()
}

/// One of a key's templates of other keys, of whichever half has it.
pub(super) fn template<'a>(
    halves: impl Iterator<Item = &'a ObjectInfo>,
    which: fn(&KeyTemplates) -> &Vec<Attribute>,
) -> Vec<String> {
    halves.filter_map(|half| half.templates.as_ref()).flat_map(which).map(template_names::show).collect()
}
