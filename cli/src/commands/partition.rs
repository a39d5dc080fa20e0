//! `strongroom partition`: which partitions there are, and their end.

use clap::{Args, Subcommand};
use serde::Serialize;
use strongroom_protocol::v1::{DeletePartition, PartitionInfo, Role, request::Op};

use crate::args::Global;
use crate::commands::confirm;
use crate::failure::Failure;
use crate::output::{Cell, Output, Page, Report, Tone};
use crate::session::{self, Session, answer, role_name};

/// `strongroom partition`.
#[derive(Debug, Subcommand)]
pub enum Partition {
    /// List the partitions, and as whom you act in each
    List,
    /// Delete a partition with all its keys, for ever (as its crypto officer)
    Delete(Delete),
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
    /// Writes partitions as a table.
    pub fn table(partitions: &[Self], page: &mut Page) {
        let rows = partitions.iter().map(Self::row).collect();
        page.table(&["NUMBER", "PARTITION", "SERIAL", "OBJECTS", "YOU ACT AS"], rows);
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
            acting.into(),
        ]
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
            Partition::Delete(delete) => delete.run(global, output),
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
