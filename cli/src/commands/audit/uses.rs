//! `strongroom audit uses`.

use clap::{Args, ValueEnum};
use serde::Serialize;
use strongroom_protocol::v1::{AuditUses, PartitionInfo, Role, SetAudit, request::Op};

use crate::args::Global;
use crate::failure::Failure;
use crate::output::{Output, Page, Report};
use crate::session::{Session, answer};

pub const ABOUT: &str = "\
Show how uses of keys stand in the partition's audit log, or say how, as its crypto officer or appliance user.

'sums': an entry for each second, connection, key and outcome, with how often. 'each': an entry for each use, with its time and \
request. That costs more, docs/audit.md says how much, and disk: half a gigabyte for a million signatures.

  strongroom audit uses
  strongroom audit uses each --login auditor
  strongroom audit uses sums --login admin";

/// `strongroom audit uses`.
#[derive(Debug, Args)]
pub struct Uses {
    /// How they stand there from now on
    #[arg(value_enum)]
    uses: Option<How>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum How {
    Sums,
    Each,
}

#[derive(Debug, Serialize)]
struct Shown {
    partition: String,
    uses: How,
}

impl From<&PartitionInfo> for Shown {
    fn from(info: &PartitionInfo) -> Self {
        let policy = info.policy.unwrap_or_default();
        let uses = if policy.audit_uses() == AuditUses::Each { How::Each } else { How::Sums };
        Shown { partition: info.label.clone(), uses }
    }
}

impl Report for Shown {
    fn text(&self, page: &mut Page) {
        let uses = match self.uses {
            How::Sums => "sums, by second",
            How::Each => "an entry each",
        };
        page.fields([("partition", self.partition.as_str().into()), ("uses of keys", uses.into())]);
    }
}

impl Uses {
    pub(super) fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        let Some(how) = self.uses else {
            let session = Session::open_without_log_in(global)?;
            return output.print(&Shown::from(session.partition()));
        };
        let mut session = Session::open_in_own_role(global, output, Role::CryptoOfficer)?;
        let uses = match how {
            How::Sums => AuditUses::Sums,
            How::Each => AuditUses::Each,
        };
        let set = || Op::SetAudit(SetAudit { uses: uses.into() });
        let partition = answer!(session.call(Role::CryptoOfficer, set), Partition)?;
        output.print(&Shown::from(&partition))
    }
}
