//! pkcs11: URIs (RFC 7512), the names of keys for every program outside, and the PEM files that carry them.
#![forbid(unsafe_code)]

mod display;
mod parse;
pub mod reference;

use zeroize::Zeroizing;

/// Why a text is not a URI that is understood. It says nothing of a PIN in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a pkcs11: URI: {0}")]
pub struct UriError(String);

/// The scheme, with its colon.
pub const SCHEME: &str = "pkcs11:";

/// What a URI's `type` attribute asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectType {
    /// `type=private`
    Private,
    /// `type=public`
    Public,
    /// `type=cert`
    Certificate,
    /// `type=secret-key`
    SecretKey,
    /// `type=data`
    Data,
}

/// A parsed URI. An attribute that is `None` fits everything.
#[derive(Clone, Default)]
pub struct Uri {
    /// The token's label, `token`.
    pub token: Option<String>,
    /// The token's `manufacturer`.
    pub manufacturer: Option<String>,
    /// The token's `serial` number.
    pub serial: Option<String>,
    /// The token's `model`.
    pub model: Option<String>,
    /// The `slot-id`.
    pub slot_id: Option<u64>,
    /// The `slot-description`.
    pub slot_description: Option<String>,
    /// The `slot-manufacturer`.
    pub slot_manufacturer: Option<String>,
    /// The `library-manufacturer`.
    pub library_manufacturer: Option<String>,
    /// The `library-description`.
    pub library_description: Option<String>,
    /// The `library-version`, major and minor.
    pub library_version: Option<(u8, u8)>,
    /// The object's label (CKA_LABEL), `object`.
    pub object: Option<String>,
    /// The object's `id` (CKA_ID).
    pub id: Option<Vec<u8>>,
    /// The object's class, `type`.
    pub kind: Option<ObjectType>,
    /// `pin-value`
    pub pin_value: Option<Zeroizing<Vec<u8>>>,
    /// `pin-source`: where the PIN is, such as a path or file: URI.
    pub pin_source: Option<String>,
    /// `module-name`: the PKCS#11 module's file name without `lib` and ending.
    pub module_name: Option<String>,
    /// `module-path`: the PKCS#11 module's path, or that of its folder.
    pub module_path: Option<String>,
}

impl Uri {
    /// The URI of a private key in the token (partition) `token`, by its label (CKA_LABEL) and CKA_ID. An empty one
    /// is left out.
    pub fn of_private_key(token: &str, label: &str, id: &[u8]) -> Self {
        Uri {
            token: Some(token.to_owned()),
            object: Some(label.to_owned()).filter(|label| !label.is_empty()),
            id: Some(id.to_vec()).filter(|id| !id.is_empty()),
            kind: Some(ObjectType::Private),
            ..Default::default()
        }
    }

    /// Whether it names an object, by label or id, and not only a kind of object or a token.
    pub fn names_an_object(&self) -> bool {
        self.object.is_some() || self.id.is_some()
    }

    /// Reads a URI.
    ///
    /// What the RFC's grammar asks to be escaped is also read unescaped where nothing else can be meant: blanks,
    /// letters beyond ASCII. So are `pin-value`, `pin-source`, `module-name` and `module-path` after `;`, in the path, and
    /// `object-type` for `type`: libp11 and pkcs11-provider take them, and their users' files have them.
    ///
    /// # Errors
    ///
    /// [`UriError`] if it is not a pkcs11: URI, is longer than 4,096 bytes, or has a repeated or malformed attribute. So
    /// it is if the path has an attribute that is not known, a vendor's (`x-`) too: it fits nothing (section 2.4), and the
    /// URI must not match by what is left of it. One in the query is ignored, as the RFC says, but not beside a
    /// `pin-value`: it may be the rest of a PIN with an unescaped `&`.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        parse::parse(text)
    }
}
