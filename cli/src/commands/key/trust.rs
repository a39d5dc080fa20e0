//! `strongroom key trust`.

use clap::Args;
use serde::Serialize;
use strongroom_protocol::v1::{Role, TrustKey, request::Op};

use super::made;
use crate::commands::key::KeyView;
use crate::failure::Failure;
use crate::objects::Selector;
use crate::output::{Output, Page, Report};
use crate::session::{Session, answer};

pub(super) const ABOUT: &str = "\
Trust a wrapping key, as a crypto officer. Keys that were made with --wrap-with-trusted leave the partition under trusted \
keys only.

  strongroom key trust kek --login admin

The key has to wrap (and unwrap) and do nothing else, and not to be extractable itself. What a trusted key unwraps leaves under \
trusted keys only. Of a key with versions the active one is meant, and with --withdraw all of them.";

/// `strongroom key trust`.
#[derive(Debug, Args)]

pub struct Trust {
    /// The wrapping key: its name, or object:HEX
    #[arg(value_parser = Selector::parse)]
    name: Selector,
    /// Trust it no longer
    #[arg(long)]
    withdraw: bool,
}

#[derive(Debug, Serialize)]
struct Trusted {
    key: KeyView,
}

impl Report for Trusted {
    fn text(&self, page: &mut Page) {
        let (key, trusted) = (self.key.sentence(), self.key.trusted);
        let now = if trusted { "is trusted" } else { "is no longer trusted" };
        page.line(format!("Key {key}, id {}, {now}.", self.key.id));
    }
}

impl Trust {
    pub(super) fn run(self, session: &mut Session, output: Output) -> Result<(), Failure> {
        let (object, label) = match &self.name {
            Selector::Label(label) => (Vec::new(), label.clone()),
            Selector::Object(object) => (object.clone(), String::new()),
            Selector::Id(_) => {
                return Err(Failure::usage("an officer names a key by its name, or by object:HEX"));
            }
        };
        let op = || {
            Op::TrustKey(TrustKey { object: object.clone(), label: label.clone(), distrust: self.withdraw })
        };
        let mut objects = answer!(session.call(Role::CryptoOfficer, op), Objects)?;
        // The wrapping key first, then the private half of a public one.
        objects.objects.truncate(1);
        let key = made(objects)?;
        output.print(&Trusted { key: KeyView::new(&session.partition().label, &key, Vec::new(), false) })
    }
}
