//! `strongroom partition set-quota`: what a partition may take of the daemon.

use clap::Args;
use serde::Serialize;
use strongroom_protocol::v1::{Quota, Role, SetQuota, request::Op};

use super::Detail;
use crate::args::Global;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::{Session, answer};

/// What `strongroom partition set-quota --help` says.
pub const ABOUT: &str = "\
Limit how many keys a partition has, how much memory its objects take, and how many operations a second its keys are \
used for. 'none' takes a limit away; what is not given stays as it was.

  strongroom partition set-quota tls --keys 1000 --memory 16M
  strongroom partition set-quota tls --operations 5000
  strongroom partition set-quota tls --operations none

What is there already stays, and works. Keys that were deleted softly count as memory, and not as keys.";

/// `strongroom partition set-quota`.
#[derive(Debug, Args)]
#[group(required = true, multiple = true, id = "limits", args = ["keys", "memory", "operations"])]
pub struct SetQuotaCommand {
    /// The partition's label
    label: String,
    /// Private and secret keys
    #[arg(long, value_name = "NUMBER|none", value_parser = number)]
    keys: Option<u64>,
    /// Memory of all objects, in bytes, or with K, M or G after it (1K is 1024)
    #[arg(long, value_name = "SIZE|none", value_parser = bytes)]
    memory: Option<u64>,
    /// Signatures, decryptions and other uses of keys, a second
    #[arg(long, value_name = "NUMBER|none", value_parser = small_number)]
    operations: Option<u32>,
}

const NONE: &str = "none";

fn number(text: &str) -> Result<u64, String> {
    match text.parse() {
        _ if text == NONE => Ok(0),
        Ok(number) if number > 0 => Ok(number),
        _ => Err("a whole number above 0, or 'none'".to_owned()),
    }
}

fn small_number(text: &str) -> Result<u32, String> {
    u32::try_from(number(text)?).map_err(|_| format!("at most {}", u32::MAX))
}

/// What may stand after a size, and how many bits it shifts it by.
const UNITS: [(char, u32); 3] = [('G', 30), ('M', 20), ('K', 10)];

/// More memory than any machine has, in bytes: who writes more has mistaken a unit.
const MOST: u64 = 1 << 50;

fn bytes(text: &str) -> Result<u64, String> {
    let unit = UNITS.into_iter().find(|(unit, _)| text.ends_with(*unit));
    let (digits, shift) =
        unit.and_then(|(unit, shift)| Some((text.strip_suffix(unit)?, shift))).unwrap_or((text, 0));
    number(digits)
        .ok()
        .filter(|_| unit.is_none() || digits != NONE)
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|bytes| *bytes <= MOST)
        .ok_or_else(|| "a number of bytes, as in 4096, 64K, 16M or 1G, or 'none'".to_owned())
}

/// A size as people read it.
pub fn size(bytes: u64) -> String {
    let unit = UNITS.into_iter().find(|(_, shift)| bytes >> shift > 0);
    match unit {
        Some((unit, shift)) => format!("{:.1}{unit}", bytes as f64 / f64::from(1u32 << shift)),
        None => bytes.to_string(),
    }
}

/// So much of so much, if there is a limit.
pub fn of(taken: String, most: Option<String>) -> String {
    match most {
        Some(most) => format!("{taken} of {most}"),
        None => taken,
    }
}

/// What the owner limits; `null`: as much as any partition may have.
#[derive(Debug, Serialize)]
pub struct QuotaView {
    pub keys: Option<u64>,
    pub memory: Option<u64>,
    pub operations_per_second: Option<u32>,
}

impl From<Quota> for QuotaView {
    fn from(quota: Quota) -> Self {
        QuotaView {
            keys: Some(quota.keys).filter(|n| *n > 0),
            memory: Some(quota.memory).filter(|n| *n > 0),
            operations_per_second: Some(quota.operations_per_second).filter(|n| *n > 0),
        }
    }
}

impl SetQuotaCommand {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Why it failed.
    pub fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        let mut session = Session::open_partition(global, output, Some(&self.label), Role::CryptoOfficer)?;
        let set = SetQuota { keys: self.keys, memory: self.memory, operations_per_second: self.operations };
        let partition = answer!(session.try_call(Op::SetQuota(set)), Partition)?;
        output.print(&Detail(partition.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written_with_their_units() {
        for (text, expected) in
            [("4096", 4096), ("64K", 65_536), ("16M", 16 << 20), ("3G", 3 << 30), ("none", 0)]
        {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for wrong in
            ["", "0", "-1", "K", "1.5M", "1KK", "noneK", "1T", "99999999999G", "9223372036854775808", " 1"]
        {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert_eq!([size(999), size(65_536), size(3 << 29)], ["999", "64.0K", "1.5G"]);
        assert!(number("0").is_err() && small_number("4294967296").is_err());
    }
}
