//! `strongroom key rotate`, `activate` and `rotation`: versions of a key.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use strongroom_protocol::v1::{ActivateKey, Role, RotateKey, SetRotation, VersionState, request::Op};

use super::wrapping::private;
use super::{KeyView, Named, made};
use crate::failure::{Exit, Failure};
use crate::objects::{Key, Selector};
use crate::output::{Output, Page, Report};
use crate::progress::waiting;
use crate::session::{Session, answer};

pub(super) const ROTATE: &str = "\
Make a new version of a key: a new key of the same type and policy, under the same name, with an id of its own. It waits for its \
certificate; until 'strongroom key activate' the name means the version that it meant before.

  strongroom key rotate web
  strongroom key request web --host www.example.org --out web.csr
  strongroom cert put web web.crt              finds the version that the certificate is for
  strongroom key activate web
  strongroom cert get web --chain --out /etc/nginx/web.pem --force && nginx -s reload

A server that names the key by its name (object=web, without an id) has the new version when it reloads; what it has loaded goes \
on working until then, and after, until the old version is deleted. A secret key's new version is active at once.";

pub(super) const ACTIVATE: &str = "\
Make a version of a key the one that its name means. Without an id: the version that waits. The one that was active is kept, and works \
for those who have loaded it; 'strongroom key activate id:HEX' goes back to it.";

pub(super) const ROTATION: &str = "\
Have the partition make new versions of a key by itself.

  strongroom key rotation web --every 90d      a new version then waits for its certificate, as after 'key rotate'
  strongroom key rotation data --every 1y      of a secret key it is active at once
  strongroom key rotation web --never";

/// `strongroom key rotate`.
#[derive(Debug, Args)]

pub struct Rotate {
    #[command(flatten)]
    named: Named,
    /// Make the new version active at once
    #[arg(long)]
    activate: bool,
}

/// `strongroom key activate`.
#[derive(Debug, Args)]

pub struct Activate {
    #[command(flatten)]
    named: Named,
}

/// `strongroom key rotation`.
#[derive(Debug, Args)]

pub struct Rotation {
    #[command(flatten)]
    named: Named,
    /// The time between two versions: 90d, 1y; a day at least
    #[arg(long, value_name = "TIME", value_parser = days, required_unless_present = "never")]
    every: Option<Duration>,
    /// No longer
    #[arg(long, conflicts_with = "every")]
    never: bool,
}

fn days(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).ok().filter(|time| time.as_secs() >= 86_400);
    time.ok_or_else(|| "a time of a day or more, as in 90d or 1y".to_owned())
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Rotated {
    key: KeyView,
}

impl Report for Rotated {
    fn text(&self, page: &mut Page) {
        let (key, version) = (self.key.sentence(), self.key.version.unwrap_or(1));
        page.line(format!("Made version {version} of key {key}."));
        page.fields([("  id", self.key.id.as_str().into()), ("  uri", self.key.uri.as_str().into())]);
        if self.key.state == "active" {
            return page.line("It is active: the name means it from now on.");
        }
        page.line(
            "\nNext: a request for its certificate, the certificate, and then the name means this version",
        );
        page.line(format!(
            "  strongroom key request {} --host www.example.org --out request.csr",
            self.key.name
        ));
        page.line(format!("  strongroom cert put {} certificate.pem", self.key.name));
        page.line(format!("  strongroom key activate {}", self.key.name));
    }
}

impl Rotate {
    pub(super) fn run(self, session: &mut Session, output: Output) -> Result<(), Failure> {
        session.require_crypto_user()?;
        let key = session.key(&self.named.name)?;
        session.be_patient()?;
        let (object, activate) = (private(&key)?.object.clone(), self.activate || key.is_secret());
        let op = || Op::RotateKey(RotateKey { object: object.clone(), activate });
        let reply = waiting("making a new version", || session.call(Role::CryptoUser, op));
        let key = made(answer!(reply, Objects)?)?;
        output.print(&Rotated { key: KeyView::new(&session.partition().label, &key, Vec::new(), true) })
    }
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Activated {
    key: KeyView,
}

impl Report for Activated {
    fn text(&self, page: &mut Page) {
        let (key, version) = (self.key.sentence(), self.key.version.unwrap_or(1));
        page.line(format!("Version {version} of key {key}, id {}, is active.", self.key.id));
    }
}

impl Activate {
    pub(super) fn run(self, session: &mut Session, output: Output) -> Result<(), Failure> {
        session.require_crypto_user()?;
        let mut key = session.key(&self.named.name)?;
        if matches!(self.named.name, Selector::Label(_)) {
            key = pending(session, &key)?.ok_or_else(|| {
                let message =
                    format!("key {} has no version that waits: make one with 'key rotate'", self.named.name);
                Failure::new(Exit::NotFound, "no_such_object", message)
            })?;
        }
        let object = private(&key)?.object.clone();
        let op = || Op::ActivateKey(ActivateKey { object: object.clone() });
        let key = made(answer!(session.call(Role::CryptoUser, op), Objects)?)?;
        output.print(&Activated { key: KeyView::new(&session.partition().label, &key, Vec::new(), true) })
    }
}

/// The version of a key that waits for its certificate.
pub(super) fn pending(session: &mut Session, key: &Key) -> Result<Option<Key>, Failure> {
    let versions = session.versions(key)?;
    Ok(versions.into_iter().find(|version| version.state() == VersionState::Pending))
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Set {
    key: KeyView,
}

impl Report for Set {
    fn text(&self, page: &mut Page) {
        let key = self.key.sentence();
        page.line(match &self.key.rotate_every {
            Some(every) => format!("Key {key} gets a new version every {every}."),
            None => format!("Key {key} gets no new versions by itself."),
        });
    }
}

impl Rotation {
    pub(super) fn run(self, session: &mut Session, output: Output) -> Result<(), Failure> {
        session.require_crypto_user()?;
        let key = session.key(&self.named.name)?;
        let object = private(&key)?.object.clone();
        let every_seconds = self.every.map_or(0, |every| every.as_secs());
        let op = || Op::SetRotation(SetRotation { object: object.clone(), every_seconds });
        let key = made(answer!(session.call(Role::CryptoUser, op), Objects)?)?;
        output.print(&Set { key: KeyView::new(&session.partition().label, &key, Vec::new(), true) })
    }
}
