//! `strongroom user roles`: who may do what.

use serde::Serialize;
use strongroom_protocol::v1::{ListRights, RightsRow, request::Op};

use crate::args::Global;
use crate::failure::Failure;
use crate::output::{Cell, Output, Page, Report, Tone};
use crate::session::{self, answer};

/// What `strongroom user roles --help` says.
pub const ABOUT: &str = "\
Show who may do what: each request of the protocol with the roles of users that may send it, as the daemon decides.

  any   whoever can connect to the daemon's socket
  root  root, and the user that runs strongroomd
  PO    partition owner: who holds the private key of the owner's certificate
  CO    crypto officer: manages users and policy, cannot use keys
  CU    crypto user: owns and uses keys
  AU    appliance user: backup and audit, cannot use keys

\"own\": of the own account, with its password; \"named\": with a key that names them, for what the key says ('strongroom role list').";

/// A request and who may send it: \"yes\", \"no\", or the word for a condition.
#[derive(Debug, Serialize)]
struct Row {
    request: String,
    what: String,
    anyone: String,
    root: String,
    partition_owner: String,
    crypto_officer: String,
    crypto_user: String,
    appliance_user: String,
}

impl From<RightsRow> for Row {
    fn from(row: RightsRow) -> Self {
        Row {
            request: row.request,
            what: row.what,
            anyone: row.anyone,
            root: row.root,
            partition_owner: row.partition_owner,
            crypto_officer: row.crypto_officer,
            crypto_user: row.crypto_user,
            appliance_user: row.appliance_user,
        }
    }
}

impl Row {
    fn cells(&self) -> Vec<Cell> {
        let roles = [
            &self.anyone,
            &self.root,
            &self.partition_owner,
            &self.crypto_officer,
            &self.crypto_user,
            &self.appliance_user,
        ];
        let drawn = |answer: &String| match answer.as_str() {
            "yes" => Cell::toned("yes", Tone::Good),
            "no" => "-".into(),
            condition => Cell::toned(condition, Tone::Doubtful),
        };
        let mut cells = vec![self.request.as_str().into()];
        cells.extend(roles.map(drawn));
        cells.push(self.what.as_str().into());
        cells
    }
}

#[derive(Debug, Serialize)]
struct Table {
    roles: Vec<Row>,
}

impl Report for Table {
    fn text(&self, page: &mut Page) {
        let rows = self.roles.iter().map(Row::cells).collect();
        page.table(&["REQUEST", "ANY", "ROOT", "PO", "CO", "CU", "AU", "WHAT IT DOES"], rows);
    }
}

/// Runs the command.
///
/// # Errors
///
/// If the daemon does not answer.
pub fn run(global: &Global, output: Output) -> Result<(), Failure> {
    let mut connection = session::connect(global)?;
    let table = answer!(connection.call(0, Op::ListRights(ListRights {})), Rights)?;
    output.print(&Table { roles: table.rows.into_iter().map(Row::from).collect() })
}
