//! What is to be sent: read from the log's files, as far as it is on the disk.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use serde::{Deserialize, Serialize};
use strongroom_audit::{Entry, MAX_LINE};

use super::super::files::{self, End};

/// Read at a time, in bytes; a line is never longer.
const MOST: u64 = 256 * 1024;
const _: () = assert!(MAX_LINE < MOST as usize);

/// A place in a log: between two entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// The file: the number of its first entry.
    pub(super) file: u64,
    /// In bytes.
    pub(super) offset: u64,
    /// The number of the entry before.
    pub(super) seq: u64,
}

/// An entry, as it stands in the file and as it is read.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) entry: Entry,
}

/// The next entries of a log after `place`, and the place behind them. None if there are no more up to `end`.
pub(super) fn read(
    directory: &Path,
    log: u32,
    mut place: Place,
    end: End,
) -> io::Result<Option<(Vec<Line>, Place)>> {
    if place.file == end.file && place.offset == end.size {
        return Ok(None);
    }
    if place.file > end.file {
        // The log was put back to an earlier state.
        place = Place { file: end.file, ..Place::default() };
    }
    for (first, path) in files::files_of(directory, log)? {
        if first < place.file || first > end.file {
            continue;
        }
        let mut file = File::open(path)?;
        let size = if first == end.file { end.size } else { file.metadata()?.len() };
        // What is behind the file's end has been cut off since: what follows was not sent.
        if first > place.file || place.offset > size {
            place = Place { file: first, offset: 0, seq: place.seq };
        }
        file.seek(SeekFrom::Start(place.offset))?;
        let mut bytes = Vec::new();
        file.take(MOST.min(size - place.offset)).read_to_end(&mut bytes)?;
        let mut lines = Vec::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let Some(whole) = line.strip_suffix(b"\n") else { break };
            place.offset += line.len() as u64;
            // What is no entry was not written by this daemon; 'strongroom audit verify' tells.
            if let Ok(entry) = serde_json::from_slice::<Entry>(whole) {
                place.seq = entry.seq;
                lines.push(Line { text: String::from_utf8_lossy(whole).into_owned(), entry });
            }
        }
        if !lines.is_empty() {
            return Ok(Some((lines, place)));
        }
    }
    Ok(None)
}
