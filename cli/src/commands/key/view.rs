//! A key in reports.

use pem_rfc7468::LineEnding;
use serde::Serialize;
use strongroom_protocol::names;
use strongroom_protocol::v1::{KeyPolicy, ObjectInfo, VersionState};

use super::restrictions;
use crate::commands::moment;
use crate::key_type;
use crate::objects::{Key, hex};
use crate::output::{Cell, Page, Report, Tone};
use strongroom_uri::{ObjectType, Uri};

/// A key's facts: the JSON of every command about keys.
#[derive(Debug, Serialize)]
pub struct KeyView {
    /// CKA_LABEL.
    pub name: String,
    /// CKA_ID in hexadecimal.
    pub id: String,
    /// As `--type` takes it: `p256`.
    #[serde(rename = "type")]
    key_type: &'static str,
    #[serde(skip)]
    pub title: &'static str,
    /// The RFC 7512 URI of the private or secret key.
    pub uri: String,
    /// SHA-256 of the public key (DER SubjectPublicKeyInfo) in hexadecimal; `null` of secret keys.
    fingerprint: Option<String>,
    /// PEM; `null` of secret keys.
    pub public_key: Option<String>,
    /// Whether the private half is there; `null` if the caller may not see it, and of secret keys.
    has_private_key: Option<bool>,
    /// `generated` or `imported`; of the private half or secret key, as what follows.
    origin: Option<&'static str>,
    pub extractable: Option<bool>,
    always_sensitive: Option<bool>,
    never_extractable: Option<bool>,
    /// It leaves the partition under trusted keys only.
    wrap_with_trusted: Option<bool>,
    /// A secret key's value is read by crypto users.
    readable: Option<bool>,
    /// Each use takes the password.
    always_authenticate: Option<bool>,
    /// The mechanisms with which it is used, and no others; `null`: it is not restricted.
    mechanisms: Option<Vec<String>>,
    /// What other keys have to be, if it is to wrap, unwrap or derive them; `null`: anything.
    wrap_template: Option<Vec<String>>,
    unwrap_template: Option<Vec<String>>,
    derive_template: Option<Vec<String>>,
    copyable: Option<bool>,
    modifiable: Option<bool>,
    /// A wrapping key that a crypto officer trusts.
    pub trusted: bool,
    /// Which version it is, of a key that was rotated.
    pub version: Option<u32>,
    /// `active`, `pending` or `retired`: the name means the active version.
    pub state: &'static str,
    /// The time between versions that are made by themselves.
    pub rotate_every: Option<String>,
    /// `sign`, `decrypt`, ...
    uses: Vec<&'static str>,
    owner: String,
    created: String,
    /// Titles of the certificates with the same id.
    pub certificates: Vec<String>,
    /// The identities of the private and the public object, or of the secret key, in hexadecimal.
    objects: Vec<String>,
}

/// Writes a public key as PEM.
pub fn public_pem(public_key: &[u8]) -> String {
    // Fails only for lengths beyond the address space.
    pem_rfc7468::encode_string("PUBLIC KEY", LineEnding::LF, public_key).unwrap_or_default()
}

/// `None` for an empty list.
fn some(list: Vec<String>) -> Option<Vec<String>> {
    (!list.is_empty()).then_some(list)
}

/// A time for people: whole days mostly.
fn every(seconds: u64) -> String {
    match (seconds / 86_400, seconds % 86_400) {
        (1, 0) => "day".to_owned(),
        (days, 0) => format!("{days} days"),
        _ => humantime::format_duration(std::time::Duration::from_secs(seconds)).to_string(),
    }
}

/// The RFC 7512 URI of the private half, or of the secret key.
pub fn uri_of(token: &str, key: &Key) -> String {
    uri(token, key, false)
}

/// As [`uri_of`]; by the name alone, it names the version that is active when it is used.
pub fn uri(token: &str, key: &Key, by_name: bool) -> String {
    let mut uri = Uri::of_private_key(token, key.label(), key.id());
    if by_name {
        uri.id = None;
    }
    if key.is_secret() {
        uri.kind = Some(ObjectType::SecretKey);
    }
    uri.to_string()
}

impl KeyView {
    /// Gathers a key's facts. `certificates` are those with its id; `sees_private` says that the session would
    /// see the private half if it were there.
    pub fn new(token: &str, key: &Key, certificates: Vec<String>, sees_private: bool) -> Self {
        let of_private =
            |what: fn(&KeyPolicy) -> bool| key.private.as_ref().and_then(|o| o.policy.as_ref()).map(what);
        let first = key.halves().next();
        let is_pair = !key.is_secret();
        KeyView {
            name: key.label().to_owned(),
            id: hex(key.id()),
            key_type: key_type::name(key.key_type()),
            title: key_type::title(key.key_type()),
            uri: uri_of(token, key),
            fingerprint: is_pair.then(|| key.fingerprint()),
            public_key: is_pair.then(|| public_pem(key.public_key())),
            has_private_key: (sees_private && is_pair).then_some(key.private.is_some()),
            origin: of_private(|p| p.local).map(|local| if local { "generated" } else { "imported" }),
            extractable: of_private(|p| p.extractable),
            always_sensitive: of_private(|p| p.always_sensitive),
            never_extractable: of_private(|p| p.never_extractable),
            wrap_with_trusted: of_private(|p| p.wrap_with_trusted),
            readable: of_private(|p| p.not_sensitive && p.extractable && !p.wrap_with_trusted),
            always_authenticate: of_private(|p| p.always_authenticate),
            mechanisms: some(restrictions::mechanisms(key.halves())),
            wrap_template: some(restrictions::template(key.halves(), |all| &all.wrap)),
            unwrap_template: some(restrictions::template(key.halves(), |all| &all.unwrap)),
            derive_template: some(restrictions::template(key.halves(), |all| &all.derive)),
            copyable: key.private.as_ref().map(|object| !object.not_copyable),
            modifiable: key.private.as_ref().map(|object| !object.not_modifiable),
            trusted: key.halves().any(|half| half.policy.is_some_and(|policy| policy.trusted)),
            version: first.map(|o| o.version).filter(|version| *version > 0),
            state: match key.state() {
                VersionState::Active => "active",
                VersionState::Pending => "pending",
                VersionState::Retired => "retired",
            },
            rotate_every: first.map(|o| o.rotate_every).filter(|every| *every > 0).map(every),
            uses: first.and_then(|o| o.policy.as_ref()).into_iter().flat_map(names::uses).collect(),
            owner: first.map(|o| o.owner.clone()).unwrap_or_default(),
            created: moment(first.map(|o| o.created).unwrap_or_default()),
            certificates,
            objects: key.halves().map(|ObjectInfo { object, .. }| hex(object)).collect(),
        }
    }

    /// The key's name, type and origin in a sentence: `"web" (ECDSA P-256)`.
    pub fn sentence(&self) -> String {
        format!("{:?} ({})", self.name, self.title)
    }

    /// Whether the key may sign, certificate requests for example.
    pub fn signs(&self) -> bool {
        self.uses.contains(&"sign")
    }

    /// The headings for [`KeyView::row`].
    const HEADINGS: [&str; 6] = ["KEY", "TYPE", "ORIGIN", "CERTIFICATE", "CREATED", "ID"];

    /// Writes keys as a table.
    pub fn table(keys: &[Self], versions: bool, page: &mut Page) {
        let (mut headings, mut rows) =
            (Self::HEADINGS.to_vec(), keys.iter().map(Self::row).collect::<Vec<_>>());
        if versions {
            headings.insert(1, "VERSION");
            for (row, key) in rows.iter_mut().zip(keys) {
                let version = key.version.map_or("-".to_owned(), |number| format!("{number}, {}", key.state));
                row.insert(1, version.into());
            }
        }
        page.table(&headings, rows);
    }

    /// A line of the list.
    fn row(&self) -> Vec<Cell> {
        let certificate = match self.certificates.as_slice() {
            [] => Cell::from("-"),
            several => several.join(", ").into(),
        };
        let origin = match (self.origin, self.has_private_key) {
            (Some(origin), _) => Cell::from(origin),
            (None, Some(false)) => Cell::toned("public key only", Tone::Doubtful),
            (None, _) => Cell::from("-"),
        };
        vec![
            self.name.as_str().into(),
            self.title.into(),
            origin,
            certificate,
            self.created.as_str().into(),
            self.id.as_str().into(),
        ]
    }

    /// What its maker has ruled out.
    fn restricted(&self) -> Vec<(&'static str, Cell)> {
        let lists = [
            ("mechanisms", &self.mechanisms),
            ("wraps keys with", &self.wrap_template),
            ("unwraps keys to", &self.unwrap_template),
            ("derives keys to", &self.derive_template),
        ];
        let mut fields: Vec<_> = lists
            .into_iter()
            .filter_map(|(name, list)| list.as_ref().map(|list| (name, list.join(", ").into())))
            .collect();
        if self.always_authenticate == Some(true) {
            fields.push(("each use", "takes the password".into()));
        }
        let never = [(self.copyable, "copied"), (self.modifiable, "renamed")];
        let never: Vec<_> =
            never.iter().filter(|(may, _)| *may == Some(false)).map(|(_, what)| *what).collect();
        if !never.is_empty() {
            fields.push(("never", never.join(", ").into()));
        }
        fields
    }

    fn protection(&self) -> Cell {
        match (self.has_private_key, self.extractable, self.never_extractable) {
            (Some(false), ..) => Cell::toned("the private key is not in this partition", Tone::Doubtful),
            (_, None, _) => "seen by crypto users only".into(),
            (_, Some(true), _) if self.wrap_with_trusted == Some(true) => {
                Cell::toned("extractable, wrapped with a trusted key", Tone::Doubtful)
            }
            _ if self.readable == Some(true) => Cell::toned("read by crypto users", Tone::Doubtful),
            (_, Some(true), _) => Cell::toned("extractable, wrapped", Tone::Doubtful),
            (_, Some(false), Some(true)) => Cell::toned("not extractable, and never was", Tone::Good),
            (_, Some(false), _) => Cell::toned("not extractable", Tone::Good),
        }
    }
}

impl Report for KeyView {
    fn text(&self, page: &mut Page) {
        let certificates = match self.certificates.as_slice() {
            [] => "none; store one with 'strongroom cert put'".to_owned(),
            several => several.join(", "),
        };
        let mut fields = vec![
            ("key", self.name.as_str().into()),
            ("type", self.title.into()),
            ("id", self.id.as_str().into()),
            ("uri", self.uri.as_str().into()),
        ];
        if let Some(fingerprint) = &self.fingerprint {
            fields.push(("fingerprint", format!("SHA256 {fingerprint}").into()));
        }
        let (private, mut may) = (self.protection(), self.uses.join(", "));
        if self.trusted {
            may.push_str(" (trusted)");
        }
        fields.extend([
            ("origin", self.origin.unwrap_or("-").into()),
            (if self.public_key.is_some() { "private key" } else { "secret key" }, private),
            ("may", may.into()),
            ("made by", format!("{}, {}", self.owner, self.created).into()),
        ]);
        fields.extend(self.restricted());
        if let Some(version) = self.version {
            fields.push(("version", format!("{version}, {}", self.state).into()));
        }
        if let Some(every) = &self.rotate_every {
            fields.push(("rotated", format!("every {every}").into()));
        }
        if self.public_key.is_some() {
            fields.push(("certificate", certificates.into()));
        }
        page.fields(fields);
        if let Some(public_key) = &self.public_key {
            page.block(public_key);
        }
    }
}
