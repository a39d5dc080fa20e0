//! `strongroom partition policy`: what holds for all users of a partition.

use clap::{Args, ValueEnum};
use serde::Serialize;
use strongroom_protocol::v1::{PartitionInfo, Role, SetPolicy, request::Op};

use crate::args::Global;
use crate::failure::Failure;
use crate::objects::hex;
use crate::output::{Output, Page, Report};
use crate::session::{Session, answer};

/// What `strongroom partition policy --help` says.
pub const ABOUT: &str = "\
Show what holds for all users of the partition, or set it as its crypto officer.

  strongroom partition policy
  strongroom partition policy --max-attempts 5 --login admin

Wrong passwords are counted on disk before they are checked. As many as --max-attempts in a row lock the user: \
'strongroom user unlock'.

A password that somebody else has set, with 'user create' or as an officer with 'user password', must be changed \
at the first log-in. 'keep' lets passwords that are set from now on stay.";

/// `strongroom partition policy`.
#[derive(Debug, Args)]
pub struct Policy {
    /// So many wrong passwords in a row lock a user: 3 to 100
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(3..=100))]
    max_attempts: Option<u32>,
    /// Whether a password that somebody else has set must be changed at the first log-in
    #[arg(long, value_enum, value_name = "change|keep")]
    initial_passwords: Option<InitialPasswords>,
}

/// What happens to a password that somebody else has set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum InitialPasswords {
    Change,
    Keep,
}

#[derive(Debug, Serialize)]
struct Shown {
    partition: String,
    max_attempts: u32,
    initial_passwords: InitialPasswords,
    /// SHA-256 of the owner's certificate.
    owner: Option<String>,
}

impl From<&PartitionInfo> for Shown {
    fn from(info: &PartitionInfo) -> Self {
        let policy = info.policy.unwrap_or_default();
        let initial_passwords = match policy.keep_initial_passwords {
            true => InitialPasswords::Keep,
            false => InitialPasswords::Change,
        };
        let owner = Some(hex(&info.owner_fingerprint)).filter(|owner| !owner.is_empty());
        Shown { partition: info.label.clone(), max_attempts: policy.max_attempts, initial_passwords, owner }
    }
}

impl Report for Shown {
    fn text(&self, page: &mut Page) {
        let initial = match self.initial_passwords {
            InitialPasswords::Change => "must be changed at the first log-in",
            InitialPasswords::Keep => "may be kept",
        };
        let owner = self.owner.as_ref().map_or("none but root".to_owned(), |owner| format!("SHA256 {owner}"));
        page.fields([
            ("partition", self.partition.as_str().into()),
            ("wrong passwords", format!("{} in a row lock a user", self.max_attempts).into()),
            ("initial passwords", initial.into()),
            ("owner", owner.into()),
        ]);
    }
}

impl Policy {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Why it failed.
    pub fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        if self.max_attempts.is_none() && self.initial_passwords.is_none() {
            let session = Session::open_without_log_in(global)?;
            return output.print(&Shown::from(session.partition()));
        }
        let mut session = Session::open(global, output, Role::CryptoOfficer)?;
        let set = SetPolicy {
            max_attempts: self.max_attempts,
            keep_initial_passwords: self.initial_passwords.map(|initial| initial == InitialPasswords::Keep),
        };
        let partition = answer!(session.call(Role::CryptoOfficer, || Op::SetPolicy(set)), Partition)?;
        output.print(&Shown::from(&partition))
    }
}
