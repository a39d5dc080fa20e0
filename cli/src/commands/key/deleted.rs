//! `strongroom key delete`, `recover` and `purge`, and the list of deleted keys.

use std::cmp::Reverse;
use std::collections::HashSet;

use clap::Args;
use serde::Serialize;
use strongroom_protocol::v1::{
    DeleteKey, ListDeleted, ObjectInfo, PurgeKey, RecoverKey, Role, VersionState, request::Op,
};

use crate::commands::key::{KeyView, Named};
use crate::commands::{cert, confirm, moment};
use crate::failure::{Exit, Failure};
use crate::objects::{Key, Selector, pair};
use crate::output::{Output, Page, Report};
use crate::session::{Session, answer};

pub(super) const DELETE: &str = "\
Delete a key, both halves. From now on nobody finds it and it signs nothing; a crypto officer can bring it back with \
'strongroom key recover' until the partition's retention is over ('strongroom partition set'), 90 days if nobody has said \
otherwise. Then it goes for ever, by itself.

Its name is free at once. Of a key with several versions, name one by id:HEX, or delete all with --all-versions. The \
certificate stays; 'strongroom cert delete' removes it.";

pub(super) const RECOVER: &str = "\
Bring a deleted key back, as a crypto officer: it is what it was.

  strongroom key list --deleted
  strongroom key recover web --login admin

Of a key whose versions were deleted, name one by id:HEX, or bring all back with --all-versions: each is what it was.";

pub(super) const PURGE: &str = "\
Destroy a deleted key before its time, for ever, as a crypto officer. Where purge protection is on nobody can.";

/// `strongroom key delete`.
#[derive(Debug, Args)]

pub struct Delete {
    #[command(flatten)]
    named: Named,
    /// All versions of the key
    #[arg(long)]
    all_versions: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// `strongroom key recover`.
#[derive(Debug, Args)]

pub struct Recover {
    /// The deleted key: its name, or id:HEX
    #[arg(value_parser = Selector::parse)]
    name: Selector,
    /// All deleted versions of the key
    #[arg(long)]
    all_versions: bool,
    /// Its name from now on
    #[arg(long = "as", value_name = "NAME")]
    new_name: Option<String>,
}

/// `strongroom key purge`.
#[derive(Debug, Args)]

pub struct Purge {
    /// The deleted key: its name, or id:HEX
    #[arg(value_parser = Selector::parse)]
    name: Selector,
    /// All deleted versions of the key
    #[arg(long)]
    all_versions: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

#[derive(Debug, Serialize)]
struct Deleted {
    deleted: KeyView,
    /// When it goes for ever.
    purge_at: String,
}

impl Report for Deleted {
    fn text(&self, page: &mut Page) {
        let (key, id) = (self.deleted.sentence(), &self.deleted.id);
        page.line(format!("Deleted key {key}. A crypto officer can recover it until {}.", self.purge_at));
        for certificate in &self.deleted.certificates {
            page.line(format!(
                "Its certificate {certificate:?} is still there: 'strongroom cert delete id:{id}' removes it."
            ));
        }
    }
}

impl Delete {
    pub(super) fn run(self, session: &mut Session, output: Output) -> Result<(), Failure> {
        session.require_crypto_user()?;
        let key = session.key(&self.named.name)?;
        let mut versions = vec![key.clone()];
        if matches!(self.named.name, Selector::Label(_)) {
            let all = session.versions(&key)?;
            if all.len() > 1 && !self.all_versions {
                let message = format!(
                    "key {} has {} versions: name one by id:HEX ('strongroom key list'), or give --all-versions",
                    self.named.name,
                    all.len()
                );
                return Err(Failure::new(Exit::Usage, "ambiguous", message));
            }
            if self.all_versions {
                versions = all;
            }
        }
        let certificates = cert::stored(session)?;
        let view = KeyView::new(&session.partition().label, &key, cert::titles_of(&certificates, &key), true);
        confirm(self.yes, &format!("Delete key {}, id {}?", view.sentence(), view.id))?;
        let mut purge_at = 0;
        for objects in at_once(&versions) {
            let op = || Op::DeleteKey(DeleteKey { objects: objects.clone() });
            let deleted = answer!(session.call(Role::CryptoUser, op), Objects)?.objects;
            purge_at = deleted.iter().map(|object| object.purge_at).max().unwrap_or_default().max(purge_at);
        }
        output.print(&Deleted { deleted: view, purge_at: moment(purge_at) })
    }
}

/// Versions that are named in one request: strongroomd takes 64 objects at once, and a version has two at most.
const AT_ONCE: usize = 32;

/// The objects of versions, in as many pieces as requests are needed.
fn at_once(versions: &[Key]) -> Vec<Vec<Vec<u8>>> {
    let objects = |some: &[Key]| some.iter().flat_map(Key::halves).map(|half| half.object.clone()).collect();
    versions.chunks(AT_ONCE).map(objects).collect()
}

/// All deleted keys.
fn all(session: &mut Session, role: Role) -> Result<Vec<Key>, Failure> {
    let mut objects: Vec<ObjectInfo> = Vec::new();
    loop {
        let after = objects.last().map(|object| object.object.clone()).unwrap_or_default();
        let op = || Op::ListDeleted(ListDeleted { after: after.clone() });
        let page = answer!(session.call(role, op), Objects)?;
        let more = page.more && !page.objects.is_empty();
        objects.extend(page.objects);
        if !more {
            return Ok(pair(objects));
        }
    }
}

/// The one deleted key of that name, or all of its deleted versions: the active one first, the last ones before those.
fn named(session: &mut Session, name: &Selector, all_versions: bool) -> Result<Vec<Key>, Failure> {
    let fits = |key: &Key| match name {
        Selector::Label(label) => key.label() == label,
        Selector::Id(id) => key.id() == id,
        Selector::Object(object) => key.halves().any(|half| half.object == *object),
    };
    let mut found: Vec<_> = all(session, Role::CryptoOfficer)?.into_iter().filter(fits).collect();
    let is_one_key = found.iter().map(Key::family).collect::<HashSet<_>>().len() == 1;
    if found.len() > 1 && !(all_versions && is_one_key) {
        let ids: Vec<_> = found.iter().map(|key| format!("id:{}", crate::objects::hex(key.id()))).collect();
        let versions = if is_one_key { ", or all versions with --all-versions" } else { "" };
        let (count, ids) = (found.len(), ids.join(" or "));
        let message = format!("{count} deleted keys are named {name}; name one by {ids}{versions}");
        return Err(Failure::new(Exit::Usage, "ambiguous", message));
    }
    if found.is_empty() {
        let message =
            format!("no deleted key is named {name}: 'strongroom key list --deleted' shows those there are");
        return Err(Failure::new(Exit::NotFound, "no_such_object", message));
    }
    found.sort_by_key(|key| {
        let version = key.halves().map(|half| half.version).max();
        (key.state() != VersionState::Active, Reverse(version))
    });
    Ok(found)
}

#[derive(Debug, Serialize)]
struct Recovered {
    key: KeyView,
    /// The other versions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    versions: Vec<KeyView>,
}

impl Report for Recovered {
    fn text(&self, page: &mut Page) {
        for key in [&self.key].into_iter().chain(&self.versions) {
            page.line(format!("Recovered key {}, id {}.", key.sentence(), key.id));
        }
    }
}

impl Recover {
    pub(super) fn run(self, session: &mut Session, output: Output) -> Result<(), Failure> {
        let keys = named(session, &self.name, self.all_versions)?;
        let label = self.new_name.clone().unwrap_or_default();
        let mut recovered = Vec::new();
        for objects in at_once(&keys) {
            let op = || Op::RecoverKey(RecoverKey { objects: objects.clone(), label: label.clone() });
            recovered.extend(answer!(session.call(Role::CryptoOfficer, op), Objects)?.objects);
        }
        let partition = session.partition().label.clone();
        let view = |key: &Key| KeyView::new(&partition, key, Vec::new(), true);
        let mut views: Vec<_> = pair(recovered).iter().map(view).collect();
        if views.is_empty() {
            return Err(Failure::unexpected_answer());
        }
        output.print(&Recovered { key: views.remove(0), versions: views })
    }
}

#[derive(Debug, Serialize)]
struct Purged {
    purged: KeyView,
    /// The other versions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    versions: Vec<KeyView>,
}

impl Report for Purged {
    fn text(&self, page: &mut Page) {
        for key in [&self.purged].into_iter().chain(&self.versions) {
            page.line(format!("Purged key {}, id {}.", key.sentence(), key.id));
        }
    }
}

impl Purge {
    pub(super) fn run(self, session: &mut Session, output: Output) -> Result<(), Failure> {
        let keys = named(session, &self.name, self.all_versions)?;
        let partition = session.partition().label.clone();
        let mut views: Vec<_> =
            keys.iter().map(|key| KeyView::new(&partition, key, Vec::new(), true)).collect();
        let view = views.remove(0);
        let others =
            if views.is_empty() { String::new() } else { format!(" and {} other versions", views.len()) };
        confirm(self.yes, &format!("Destroy key {}, id {}{others}, for ever?", view.sentence(), view.id))?;
        for objects in at_once(&keys) {
            let op = || Op::PurgeKey(PurgeKey { objects: objects.clone() });
            answer!(session.call(Role::CryptoOfficer, op), Done)?;
        }
        output.print(&Purged { purged: view, versions: views })
    }
}

#[derive(Debug, Serialize)]
struct DeletedKey {
    #[serde(flatten)]
    key: KeyView,
    deleted_at: String,
    purge_at: String,
}

#[derive(Debug, Serialize)]
struct List {
    partition: String,
    deleted: Vec<DeletedKey>,
}

impl Report for List {
    fn text(&self, page: &mut Page) {
        if self.deleted.is_empty() {
            return page.line(format!("No deleted key in partition {:?}.", self.partition));
        }
        let row = |one: &DeletedKey| {
            let key = &one.key;
            [&key.name, key.title, &one.deleted_at, &one.purge_at, &key.id].map(Into::into).to_vec()
        };
        page.table(&["KEY", "TYPE", "DELETED", "GOES", "ID"], self.deleted.iter().map(row).collect());
    }
}

/// `strongroom key list --deleted`.
pub(super) fn list(session: &mut Session, output: Output) -> Result<(), Failure> {
    let partition = session.partition().label.clone();
    let deleted = all(session, Role::CryptoUser)?
        .iter()
        .map(|key| {
            let latest =
                |what: fn(&ObjectInfo) -> u64| moment(key.halves().map(what).max().unwrap_or_default());
            DeletedKey {
                key: KeyView::new(&partition, key, Vec::new(), true),
                deleted_at: latest(|object| object.deleted_at),
                purge_at: latest(|object| object.purge_at),
            }
        })
        .collect();
    output.print(&List { partition, deleted })
}
