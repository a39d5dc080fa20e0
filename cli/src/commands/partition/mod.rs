//! `strongroom partition`: which partitions there are, and their end.

mod policy;
mod quota;

use clap::{Args, Subcommand};
use serde::Serialize;
use strongroom_protocol::v1::{DeletePartition, PartitionInfo, Role, SetLife, request::Op};

use crate::args::Global;
use crate::commands::confirm;
use crate::failure::Failure;
use crate::output::{Cell, Output, Page, Report, Tone};
use crate::session::{self, Session, answer, role_name};
use quota::QuotaView;

/// `strongroom partition`.
#[derive(Debug, Subcommand)]
pub enum Partition {
    /// List the partitions, and as whom you act in each
    List,
    /// Show a partition: what is in it, what it may have, and its FIPS state
    Show,
    /// Say for how long deleted keys are kept, and switch purge protection on (as a crypto officer)
    #[command(long_about = SET)]
    Set(Set),
    /// Limit a partition's keys, memory and operations (as root)
    #[command(long_about = quota::ABOUT)]
    SetQuota(quota::SetQuotaCommand),
    /// Delete a partition with all its keys, for ever (as its crypto officer)
    Delete(Delete),
    /// Show or set what holds for all users of the partition (set: as its crypto officer)
    #[command(long_about = policy::ABOUT)]
    Policy(policy::Policy),
}

/// `strongroom partition delete`.
#[derive(Debug, Args)]
pub struct Delete {
    /// The partition's label
    label: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

const SET: &str = "\
Say what the partition does with keys that are deleted, as its crypto officer. Without options it shows what it does.

  strongroom partition set --retention-days 30
  strongroom partition set --purge-protection     nobody destroys a deleted key before its time; for good

Deleted keys are kept for 7 to 90 days, at first 90. With --destroy-at-once yes, C_DestroyObject (pkcs11-tool --delete-object) \
destroys keys at once, as in other HSMs; 'strongroom key delete' never does.";

/// `strongroom partition set`.
#[derive(Debug, Args)]
pub struct Set {
    /// For how many days keys that are deleted from now on are kept, 7 to 90
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(7..=90))]
    retention_days: Option<u32>,
    /// Let nobody destroy a deleted key before its time. It cannot be switched off again
    #[arg(long)]
    purge_protection: bool,
    /// Whether C_DestroyObject destroys keys, and does not delete them softly
    #[arg(long, value_name = "yes|no", value_parser = ["yes", "no"])]
    destroy_at_once: Option<String>,
}

#[derive(Debug, Serialize)]
struct Life {
    partition: String,
    retention_days: u32,
    purge_protection: bool,
    destroy_at_once: bool,
    /// Objects of deleted keys.
    deleted_objects: u64,
}

impl Report for Life {
    fn text(&self, page: &mut Page) {
        let on = |on: bool| if on { "on" } else { "off" };
        page.fields([
            ("partition", self.partition.as_str().into()),
            ("deleted keys are kept", format!("{} days", self.retention_days).into()),
            ("purge protection", on(self.purge_protection).into()),
            ("C_DestroyObject", if self.destroy_at_once { "destroys" } else { "deletes" }.into()),
            ("deleted objects", self.deleted_objects.to_string().into()),
        ]);
    }
}

impl Set {
    fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        let mut session = Session::open(global, output, Role::CryptoOfficer)?;
        let asks = self.retention_days.is_some() || self.purge_protection || self.destroy_at_once.is_some();
        let info = if asks {
            let op = || {
                Op::SetLife(SetLife {
                    retention_days: self.retention_days,
                    purge_protection: self.purge_protection.then_some(true),
                    destroy_at_once: self.destroy_at_once.as_deref().map(|answer| answer == "yes"),
                })
            };
            answer!(session.call(Role::CryptoOfficer, op), Partition)?
        } else {
            session.partition().clone()
        };
        output.print(&Life {
            partition: info.label,
            retention_days: info.retention_days,
            purge_protection: info.purge_protection,
            destroy_at_once: info.destroy_at_once,
            deleted_objects: info.deleted_objects,
        })
    }
}

/// A partition in reports.
#[derive(Debug, Serialize)]
pub struct PartitionView {
    number: u32,
    label: String,
    serial: String,
    objects: u64,
    /// The user as whom the caller acts without log-in.
    acting_as: Option<String>,
    acting_role: Option<&'static str>,
    /// Acts only with keys that name the caller.
    limited: bool,
    /// Private and secret keys.
    keys: u64,
    /// Memory that the objects take in the daemon, in bytes.
    memory: u64,
    /// The same for each key, with its public half, certificate and all that finds it; `null` without keys.
    memory_of_a_key: Option<u64>,
    quota: QuotaView,
    /// 2: refuses what is not approved.
    fips_state: u32,
    /// Why the partition cannot be used; `null` if it is sound.
    damaged: Option<String>,
}

/// Names a role in JSON.
pub fn role_code(role: Role) -> Option<&'static str> {
    match role {
        Role::CryptoOfficer => Some("crypto_officer"),
        Role::CryptoUser => Some("crypto_user"),
        Role::ApplianceUser => Some("appliance_user"),
        Role::Unspecified => None,
    }
}

/// The role that [`role_code`] named.
pub fn role_of_code(code: Option<&str>) -> Role {
    let named = |role: &Role| role_code(*role) == code;
    [Role::CryptoOfficer, Role::CryptoUser, Role::ApplianceUser].into_iter().find(named).unwrap_or_default()
}

impl From<PartitionInfo> for PartitionView {
    fn from(partition: PartitionInfo) -> Self {
        PartitionView {
            acting_role: role_code(partition.acting_role()),
            limited: partition.limited,
            keys: partition.keys,
            memory: partition.memory,
            memory_of_a_key: partition.memory.checked_div(partition.keys),
            quota: partition.quota.unwrap_or_default().into(),
            fips_state: partition.fips_state,
            number: partition.number,
            label: partition.label,
            serial: partition.serial,
            objects: partition.objects,
            damaged: Some(partition.damaged).filter(|why| !why.is_empty()),
            acting_as: Some(partition.acting_as).filter(|user| !user.is_empty()),
        }
    }
}

impl PartitionView {
    /// How many keys are in it.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Memory that its objects take, in bytes.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// Writes partitions as a table.
    pub fn table(partitions: &[Self], page: &mut Page) {
        let rows = partitions.iter().map(Self::row).collect();
        page.table(
            &["NUMBER", "PARTITION", "SERIAL", "OBJECTS", "KEYS", "MEMORY", "FIPS", "YOU ACT AS"],
            rows,
        );
        for partition in partitions {
            if let Some(why) = &partition.damaged {
                page.line(format!("partition {:?} is damaged: {why}", partition.label));
            }
        }
    }

    fn row(&self) -> Vec<Cell> {
        let role = role_of_code(self.acting_role);
        let acting = match &self.acting_as {
            Some(user) if self.limited => format!("{user} (limited crypto user)"),
            None if self.limited => "whom keys name".to_owned(),
            Some(user) => format!("{user} ({})", role_name(role)),
            None => "nobody".to_owned(),
        };
        vec![
            self.number.to_string().into(),
            self.label.as_str().into(),
            self.serial.as_str().into(),
            if self.damaged.is_some() {
                Cell::toned("damaged", Tone::Bad)
            } else {
                self.objects.to_string().into()
            },
            quota::of(self.keys.to_string(), self.quota.keys.map(|keys| keys.to_string())).into(),
            quota::of(quota::size(self.memory), self.quota.memory.map(quota::size)).into(),
            self.fips_state.to_string().into(),
            acting.into(),
        ]
    }
}

#[derive(Debug, Serialize)]
struct Detail(PartitionView);

impl Report for Detail {
    fn text(&self, page: &mut Page) {
        let view = &self.0;
        let unlimited = || "as many as the daemon can do".to_owned();
        let rate = view.quota.operations_per_second.map_or_else(unlimited, |most| format!("at most {most}"));
        let fips = match view.fips_state {
            0 => "0: everything that Strongroom can".to_owned(),
            state => format!("{state}: what NIST approves of (docs/fips.md)"),
        };
        let each = view.memory_of_a_key.map_or_else(|| "no keys".to_owned(), quota::size);
        page.fields([
            ("partition", view.label.as_str().into()),
            ("number", view.number.to_string().into()),
            ("serial", view.serial.as_str().into()),
            ("objects", view.objects.to_string().into()),
            ("keys", quota::of(view.keys.to_string(), view.quota.keys.map(|keys| keys.to_string())).into()),
            ("memory", quota::of(quota::size(view.memory), view.quota.memory.map(quota::size)).into()),
            ("memory for each key", each.into()),
            ("operations a second", rate.into()),
            ("FIPS state", fips.into()),
        ]);
    }
}

#[derive(Debug, Serialize)]
struct List {
    partitions: Vec<PartitionView>,
}

impl Report for List {
    fn text(&self, page: &mut Page) {
        if self.partitions.is_empty() {
            page.line("No partition yet: make one with 'strongroom init LABEL'.");
        } else {
            PartitionView::table(&self.partitions, page);
        }
    }
}

#[derive(Debug, Serialize)]
struct Deleted {
    deleted: PartitionView,
}

impl Report for Deleted {
    fn text(&self, page: &mut Page) {
        page.line(format!(
            "Deleted partition {:?} with {} objects.",
            self.deleted.label, self.deleted.objects
        ));
    }
}

impl Partition {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Why it failed.
    pub fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        match self {
            Partition::List => {
                let mut connection = session::connect(global)?;
                let partitions = session::partitions(&mut connection)?;
                output.print(&List { partitions: partitions.into_iter().map(PartitionView::from).collect() })
            }
            Partition::Show => {
                let session = Session::open_without_log_in(global)?;
                output.print(&Detail(PartitionView::from(session.partition().clone())))
            }
            Partition::Set(set) => set.run(global, output),
            Partition::SetQuota(quota) => quota.run(global, output),
            Partition::Delete(delete) => delete.run(global, output),
            Partition::Policy(policy) => policy.run(global, output),
        }
    }
}

impl Delete {
    fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        if global.partition.as_ref().is_some_and(|named| *named != self.label) {
            return Err(Failure::usage("--partition and the label name two partitions"));
        }
        let mut session = Session::open_partition(global, output, Some(&self.label), Role::CryptoOfficer)?;
        // The label may have been given as a number: never here.
        let (label, objects) = (session.partition().label.clone(), session.partition().objects);
        if label != self.label {
            return Err(Failure::usage(format!("name the partition by its label, {label:?}")));
        }
        confirm(self.yes, &format!("Delete partition {label:?} and the {objects} objects in it, for ever?"))?;
        let op = || Op::DeletePartition(DeletePartition { label: label.clone() });
        answer!(session.call(Role::CryptoOfficer, op), Done)?;
        output.print(&Deleted { deleted: session.partition().clone().into() })
    }
}
