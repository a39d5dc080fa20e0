//! `strongroom key list`.

use serde::Serialize;

use crate::commands::cert;
use crate::commands::key::KeyView;
use crate::failure::Failure;
use crate::output::{Output, Page, Report};
use crate::session::Session;

#[derive(Debug, Serialize)]
struct List {
    partition: String,
    keys: Vec<KeyView>,
}

impl Report for List {
    fn text(&self, page: &mut Page) {
        if self.keys.is_empty() {
            page.line(format!(
                "No key in partition {:?} yet: make one with 'strongroom key generate NAME --type p256'.",
                self.partition
            ));
        } else {
            page.table(&KeyView::HEADINGS, self.keys.iter().map(KeyView::row).collect());
        }
    }
}

/// Lists the keys, as a crypto user: others would see only a part and take it for the whole.
pub fn run(session: &mut Session, output: Output) -> Result<(), Failure> {
    session.require_crypto_user()?;
    let certificates = cert::stored(session)?;
    let partition = session.partition().label.clone();
    let keys = session
        .keys()?
        .iter()
        .map(|key| KeyView::new(&partition, key, cert::titles_of(&certificates, key), true))
        .collect();
    output.print(&List { partition, keys })
}
