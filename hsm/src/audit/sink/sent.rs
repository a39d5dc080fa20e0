//! What a sink has got, on the disk: what was not confirmed is sent again after a restart.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use strongroom_audit::chain::{self, hex};

use super::feed::Place;
use super::target::Target;

/// Up to where each log was sent.
pub(super) type Places = BTreeMap<u32, Place>;

/// The file's content: JSON, so that an owner can look.
#[derive(Serialize, Deserialize)]
struct Noted {
    sink: String,
    logs: Places,
}

/// The file of a sink.
#[derive(Debug)]
pub(super) struct Sent {
    path: PathBuf,
    sink: String,
}

impl Sent {
    pub(super) fn of(directory: &Path, target: &Target) -> Self {
        let sink = target.to_string();
        let name = hex(chain::hash(sink.as_bytes()).get(..8).unwrap_or_default());
        Sent { path: directory.join(format!("sink-{name}.json")), sink }
    }

    /// What is noted; nothing if that cannot be read: then all is sent again.
    pub(super) fn read(&self) -> Places {
        let noted = fs::read(&self.path).ok().and_then(|bytes| serde_json::from_slice::<Noted>(&bytes).ok());
        noted.filter(|noted| noted.sink == self.sink).map(|noted| noted.logs).unwrap_or_default()
    }

    /// Notes it; it survives a loss of power.
    pub(super) fn write(&self, logs: &Places) -> io::Result<()> {
        let noted = serde_json::to_vec(&Noted { sink: self.sink.clone(), logs: logs.clone() })?;
        let new = self.path.with_extension("new");
        let mut file: File =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&new)?;
        file.write_all(&noted)?;
        file.sync_all()?;
        fs::rename(new, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_survive_and_what_is_damaged_counts_as_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let target: Target = "syslog+tls://logs:6514".parse().unwrap();
        let sent = Sent::of(directory.path(), &target);
        assert!(sent.read().is_empty());
        let places = Places::from([(0, Place { file: 1, offset: 77, seq: 3 }), (4, Place::default())]);
        sent.write(&places).unwrap();
        assert_eq!(Sent::of(directory.path(), &target).read(), places);
        assert!(Sent::of(directory.path(), &"journald".parse().unwrap()).read().is_empty());
        fs::write(&sent.path, b"{\"sink\":").unwrap();
        assert!(sent.read().is_empty());
    }
}
