//! `strongroom key list`.

use clap::Args;
use serde::Serialize;

use crate::commands::cert;
use crate::commands::key::{KeyView, deleted};
use crate::failure::Failure;
use crate::output::{Output, Page, Report};
use crate::session::Session;

/// `strongroom key list`.
#[derive(Debug, Args)]
pub struct List {
    /// Those that were deleted and can still be recovered, with the date on which they go
    #[arg(long)]
    deleted: bool,
}

#[derive(Debug, Serialize)]
struct Listed {
    partition: String,
    keys: Vec<KeyView>,
}

impl Report for Listed {
    fn text(&self, page: &mut Page) {
        if self.keys.is_empty() {
            page.line(format!(
                "No key in partition {:?} yet: make one with 'strongroom key generate NAME --type p256'.",
                self.partition
            ));
        } else {
            let versions = self.keys.iter().any(|key| key.version.is_some());
            KeyView::table(&self.keys, versions, page);
        }
    }
}

impl List {
    /// Lists the keys, as a crypto user: others would see only a part and take it for the whole.
    pub(super) fn run(self, session: &mut Session, output: Output) -> Result<(), Failure> {
        if self.deleted {
            return deleted::list(session, output);
        }
        session.require_crypto_user()?;
        let certificates = cert::stored(session)?;
        let partition = session.partition().label.clone();
        let keys = session
            .keys()?
            .iter()
            .map(|key| KeyView::new(&partition, key, cert::titles_of(&certificates, key), true))
            .collect();
        output.print(&Listed { partition, keys })
    }
}
