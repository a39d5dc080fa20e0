//! `strongroom key delete`.

use clap::Args;
use serde::Serialize;

use crate::commands::key::{KeyView, Named};
use crate::commands::{cert, confirm};
use crate::failure::Failure;
use crate::output::{Output, Page, Report};
use crate::session::Session;

pub(super) const ABOUT: &str = "\
Destroy a key, both halves, for ever. A copy in a file that it was imported from is not touched.

The certificate stays; 'strongroom cert delete' removes it.";

/// `strongroom key delete`.
#[derive(Debug, Args)]
#[command(
    long_about = "Destroy a key, both halves, for ever. What was imported from a file is gone only here.\n\n\
    The certificate stays; 'strongroom cert delete' removes it."
)]
pub struct Delete {
    #[command(flatten)]
    named: Named,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

#[derive(Debug, Serialize)]
struct Deleted {
    deleted: KeyView,
}

impl Report for Deleted {
    fn text(&self, page: &mut Page) {
        page.line(format!("Deleted key {}.", self.deleted.sentence()));
        for certificate in &self.deleted.certificates {
            page.line(format!(
                "Its certificate {certificate:?} is still there: 'strongroom cert delete id:{}' removes it.",
                self.deleted.id
            ));
        }
    }
}

impl Delete {
    pub(super) fn run(self, session: &mut Session, output: Output) -> Result<(), Failure> {
        session.require_crypto_user()?;
        let key = session.key(&self.named.name)?;
        let certificates = cert::stored(session)?;
        let view = KeyView::new(&session.partition().label, &key, cert::titles_of(&certificates, &key), true);
        confirm(self.yes, &format!("Destroy key {}, id {}, for ever?", view.sentence(), view.id))?;
        // The private half last: if the second step fails, the key is still listed, and nothing is lost by
        // repeating the command.
        for half in key.public.iter().chain(&key.private) {
            session.destroy(half)?;
        }
        output.print(&Deleted { deleted: view })
    }
}
