//! One log's files: opened where they ended, appended to, rotated, and deleted when they are old enough.
//!
//! The files of a log are called after it and the number of their first entry: `partition-1-000000000001.jsonl`. They
//! lie in one directory, because the daemon may make no others when it is confined.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::FallocateFlags;
use strongroom_audit::chain::{self, Head, LineHash};
use strongroom_audit::{CHECKPOINT, Entry, SUCCESS};

use super::key::AuditKey;
use super::last::Last;
use super::options::Options;

/// Room that is kept for entries when the disk is full, in bytes: the outcome of what was begun always fits.
const ROOM: u64 = 256 * 1024;

/// With less room than this nothing is begun.
const LEAST_ROOM: u64 = 16 * 1024;

/// So much of a file's end is looked at when the daemon starts, in bytes.
const TAIL: u64 = 1 << 20;

const DAY: u64 = 24 * 60 * 60;

/// What the name of a log's file ends with.
const EXTENSION: &str = ".jsonl";

/// The name of a log: `node` for 0, otherwise a partition's.
pub(super) fn log_name(log: u32) -> String {
    match log {
        0 => "node".to_owned(),
        partition => format!("partition-{partition}"),
    }
}

/// The files of a log with the numbers of their first entries, in order.
pub(super) fn files_of(directory: &Path, log: u32) -> io::Result<Vec<(u64, PathBuf)>> {
    let prefix = format!("{}-", log_name(log));
    let mut files = Vec::new();
    for file in fs::read_dir(directory)? {
        let file = file?;
        let name = file.file_name();
        let first =
            name.to_str().and_then(|name| name.strip_prefix(&prefix)?.strip_suffix(EXTENSION)?.parse().ok());
        files.extend(first.map(|first| (first, file.path())));
    }
    files.sort();
    Ok(files)
}

/// How a log ended.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// Its last entry says that the daemon stopped.
    pub(super) cleanly: bool,
    /// Bytes after the last whole line: a write that the end of the daemon or of the power cut.
    pub(super) torn: u64,
    /// Changes that were begun and of which nothing more is said: connection, request and action.
    pub(super) unfinished: Vec<Entry>,
    /// Its last entries.
    pub(super) last: Last,
}

/// Up to where a log is on the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct End {
    /// The file that is written to: the number of its first entry.
    pub(super) file: u64,
    /// Its whole entries that survive a loss of power, in bytes.
    pub(super) size: u64,
    /// The number of the last of them.
    pub(super) seq: u64,
}

/// One log.
#[derive(Debug)]
pub(super) struct Log {
    number: u32,
    directory: PathBuf,
    head: Head,
    on_disk: End,
    current: Option<Current>,
    /// Whole lines of a file that could not be brought to the disk: they go into the next one.
    carried: Vec<u8>,
    /// Entries since the last checkpoint, and since when there are some.
    unsigned: u64,
    unsigned_since: Option<SystemTime>,
}

#[derive(Debug)]
struct Current {
    file: File,
    /// The number of its first entry.
    first: u64,
    /// Whole entries, in bytes.
    size: u64,
    /// Up to where the disk has room for it.
    reserved: u64,
    /// When it was begun, in days since 1970.
    day: u64,
    /// Has entries that may not have reached the disk.
    is_dirty: bool,
}

fn today(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / DAY
}

impl Log {
    /// Opens a log where it ended. What was cut off in the middle of a line is taken away: nobody was told that it
    /// was there.
    pub(super) fn open(directory: &Path, number: u32) -> io::Result<(Self, Ended)> {
        let mut log = Log {
            number,
            directory: directory.to_owned(),
            head: Head::default(),
            on_disk: End::default(),
            current: None,
            carried: Vec::new(),
            unsigned: 0,
            unsigned_since: None,
        };
        let mut ended = Ended::default();
        for (first, path) in files_of(directory, number)?.iter().rev() {
            // A file whose first line was cut off is begun anew.
            if log.take_up(*first, path, &mut ended)? {
                break;
            }
            fs::remove_file(path)?;
        }
        Ok((log, ended))
    }

    /// Goes on where a file ended; `false` if there is no whole line in it.
    fn take_up(&mut self, first: u64, path: &Path, ended: &mut Ended) -> io::Result<bool> {
        let mut file = OpenOptions::new().read(true).append(true).open(path)?;
        let length = file.metadata()?.len();
        let from = length.saturating_sub(TAIL);
        file.seek(SeekFrom::Start(from))?;
        let mut tail = Vec::new();
        Read::by_ref(&mut file).take(TAIL).read_to_end(&mut tail)?;
        let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        ended.torn += (tail.len() - whole) as u64;
        tail.truncate(whole);
        let size = from + whole as u64;
        if size < length {
            file.set_len(size)?;
            file.sync_all()?;
        }
        let lines =
            tail.split(|byte| *byte == b'\n').skip(usize::from(from > 0)).filter(|line| !line.is_empty());
        let mut begun: Vec<Entry> = Vec::new();
        let mut found = false;
        for line in lines {
            let Ok(entry) = serde_json::from_slice::<Entry>(line) else { continue };
            found = true;
            self.head = Head { seq: entry.seq, hash: chain::hash(line) };
            ended.last.push(&entry);
            self.unsigned = if entry.action == CHECKPOINT { 0 } else { self.unsigned + 1 };
            ended.cleanly = match entry.action.as_str() {
                CHECKPOINT => ended.cleanly,
                action => action == super::STOP,
            };
            match entry.outcome.as_str() {
                super::BEGUN => begun.push(entry),
                _ if entry.request.is_some() => {
                    begun.retain(|b| (&b.connection, b.request) != (&entry.connection, entry.request));
                }
                _ => {}
            }
        }
        ended.unfinished = begun;
        if found {
            // A daemon that was killed may have left some of it in the kernel's memory.
            file.sync_data()?;
            let day = file.metadata()?.modified().map(today)?;
            self.current = Some(Current { file, first, size, reserved: 0, day, is_dirty: false });
            self.is_on_disk();
        }
        Ok(found)
    }

    /// The end of the log.
    pub(super) fn head(&self) -> Head {
        self.head
    }

    /// Up to where it is on the disk.
    pub(super) fn on_disk(&self) -> End {
        self.on_disk
    }

    fn is_on_disk(&mut self) {
        if let Some(current) = &self.current {
            self.on_disk = End { file: current.first, size: current.size, seq: self.head.seq };
        }
    }

    /// Goes on after entries that are missing: the numbers of those that were there are not used again.
    pub(super) fn skip_to(&mut self, head: Head) {
        self.head = head;
    }

    /// Entries that no checkpoint signs yet, and since when there are some.
    pub(super) fn unsigned(&self) -> (u64, Option<SystemTime>) {
        (self.unsigned, self.unsigned_since)
    }

    /// The hash of an entry, if it is there.
    pub(super) fn hash_of(&self, seq: u64) -> io::Result<Option<LineHash>> {
        if seq == self.head.seq {
            return Ok(Some(self.head.hash));
        }
        let files = files_of(&self.directory, self.number)?;
        let Some((_, path)) = files.iter().rev().find(|(first, _)| *first <= seq) else { return Ok(None) };
        for line in fs::read(path)?.split(|byte| *byte == b'\n') {
            match serde_json::from_slice::<Entry>(line) {
                Ok(entry) if entry.seq == seq => return Ok(Some(chain::hash(line))),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Makes sure that there is room for more entries, so that the outcome of what is begun can be written.
    pub(super) fn reserve(&mut self) -> io::Result<()> {
        let Some(current) = &mut self.current else { return Ok(()) };
        if current.reserved >= current.size + ROOM / 2 {
            return Ok(());
        }
        let size = current.size;
        match rustix::fs::fallocate(&current.file, FallocateFlags::KEEP_SIZE, size, ROOM) {
            Ok(()) => current.reserved = size + ROOM,
            // A file system that cannot say.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => current.reserved = u64::MAX,
            Err(_) if current.reserved >= size + LEAST_ROOM => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Appends entries, all or none; with `sync`, they will survive a loss of power. Of files that are old enough to be
    /// deleted, those from `unsent` on stay.
    pub(super) fn append(
        &mut self,
        entries: &[Entry],
        key: Option<&AuditKey>,
        sync: bool,
        options: &Options,
        unsent: u64,
    ) -> io::Result<()> {
        let now = SystemTime::now();
        let is_over = self
            .current
            .as_ref()
            .is_some_and(|current| current.size >= options.rotate_bytes || current.day != today(now));
        if is_over {
            self.checkpoint(key)?;
            if let Some(current) = self.current.take() {
                // The room that was kept for more.
                let _ = current.file.set_len(current.size);
            }
        }
        if self.current.is_none() {
            self.begin_file(key, now)?;
            self.delete_old(key, now, options, unsent)?;
        }
        self.write(entries, key, sync, now)
    }

    /// Signs what was appended since the last checkpoint, if there is anything, and makes it survive a loss of power.
    pub(super) fn checkpoint(&mut self, key: Option<&AuditKey>) -> io::Result<()> {
        if self.unsigned == 0 || key.is_none() {
            return self.sync();
        }
        self.write(&[Entry::new(CHECKPOINT, SUCCESS)], key, true, SystemTime::now())
    }

    fn begin_file(&mut self, key: Option<&AuditKey>, now: SystemTime) -> io::Result<()> {
        let carried = self.carried.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let carried = serde_json::from_slice::<Entry>(carried).map(|entry| entry.seq);
        let first = carried.unwrap_or(self.head.seq + 1);
        let name = format!("{}-{first:012}{EXTENSION}", log_name(self.number));
        let path = self.directory.join(name);
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)?;
        if file.metadata()?.len() > 0 {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        File::open(&self.directory)?.sync_all()?;
        self.current = Some(Current { file, first, size: 0, reserved: 0, day: today(now), is_dirty: false });
        let mut entry = Entry::new("audit_file", SUCCESS).with("strongroomd", env!("CARGO_PKG_VERSION"));
        if let Some(key) = key {
            entry = entry.with("public_key", chain::hex(&key.public().to_spki()));
        }
        self.write(&[entry], key, true, now)
    }

    /// Deletes files that nothing was written to for as long as they are kept, up to the one with what is still to be sent.
    fn delete_old(
        &mut self,
        key: Option<&AuditKey>,
        now: SystemTime,
        options: &Options,
        unsent: u64,
    ) -> io::Result<()> {
        let Some(days) = options.keep_days else { return Ok(()) };
        let kept = Duration::from_secs(u64::from(days) * DAY);
        let mut files = files_of(&self.directory, self.number)?;
        // Never the one that is written to.
        files.pop();
        let mut deleted = Vec::new();
        for (_, path) in files.into_iter().take_while(|(first, _)| *first < unsent) {
            let written = fs::metadata(&path)?.modified()?;
            if now.duration_since(written).is_ok_and(|age| age > kept) {
                fs::remove_file(&path)?;
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                deleted.push(Entry::new("audit_file_deleted", SUCCESS).with("file", name));
            }
        }
        if deleted.is_empty() { Ok(()) } else { self.write(&deleted, key, true, now) }
    }

    /// Writes entries at the end of the file; if that fails, none of them is there.
    fn write(
        &mut self,
        entries: &[Entry],
        key: Option<&AuditKey>,
        sync: bool,
        now: SystemTime,
    ) -> io::Result<()> {
        let Some(current) = &mut self.current else { return Ok(()) };
        let mut head = self.head;
        let (mut unsigned, mut unsigned_since) = (self.unsigned, self.unsigned_since);
        let mut bytes = self.carried.clone();
        for entry in entries {
            let mut entry = entry.clone();
            entry.log = log_name(self.number);
            if entry.time.is_empty() {
                entry.time = strongroom_audit::moment(now);
            }
            if entry.action == CHECKPOINT && key.is_some() {
                (unsigned, unsigned_since) = (0, None);
            } else {
                unsigned += 1;
                unsigned_since.get_or_insert(now);
            }
            let line = head.append(entry, |message| key?.sign(message));
            bytes.extend_from_slice(line.as_bytes());
            bytes.push(b'\n');
        }
        let size = current.size;
        if let Err(error) = current.file.write_all(&bytes) {
            // What is there of them goes; if that fails, too, the next start sees a line that was cut off.
            let _ = current.file.set_len(size);
            current.reserved = current.reserved.min(size);
            if size == 0 {
                self.leave_file();
            }
            return Err(error);
        }
        if sync && let Err(error) = current.file.sync_data() {
            let _ = current.file.set_len(size);
            self.leave_file();
            return Err(error);
        }
        self.carried.clear();
        current.size += bytes.len() as u64;
        current.is_dirty = !sync;
        self.head = head;
        (self.unsigned, self.unsigned_since) = (unsigned, unsigned_since);
        if sync {
            self.is_on_disk();
        }
        Ok(())
    }

    /// Makes what was appended survive a loss of power.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        match &mut self.current {
            Some(current) if current.is_dirty => {
                if let Err(error) = current.file.sync_data() {
                    self.leave_file();
                    return Err(error);
                }
                current.is_dirty = false;
                self.is_on_disk();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Goes on in another file: the disk did not take what was written to this one, and the kernel forgets that once it has said so.
    /// What it was told to keep since it last did goes into the next file.
    fn leave_file(&mut self) {
        let Some(current) = self.current.take() else { return };
        let kept = if self.on_disk.file == current.first { self.on_disk.size } else { 0 };
        let mut lines = vec![0; current.size.saturating_sub(kept) as usize];
        match current.file.read_exact_at(&mut lines, kept) {
            // The kernel's memory still has it. What was carried into this file is in it.
            Ok(()) if !lines.is_empty() => self.carried = lines,
            Ok(()) => {}
            Err(error) => tracing::error!(
                "entries of the audit log {} that did not get to the disk are lost: {error}",
                log_name(self.number)
            ),
        }
        let cut = match kept {
            0 => self.file_of(current.first).and_then(fs::remove_file),
            kept => current.file.set_len(kept),
        };
        if let Err(error) = cut {
            tracing::error!("the end of a file of the audit log {} stays: {error}", log_name(self.number));
        }
    }

    fn file_of(&self, first: u64) -> io::Result<PathBuf> {
        let files = files_of(&self.directory, self.number)?;
        let found = files.into_iter().find(|(number, _)| *number == first);
        found.map(|(_, path)| path).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// The numbers of all logs in a directory.
pub(super) fn logs_in(directory: &Path) -> io::Result<HashSet<u32>> {
    let mut logs = HashSet::new();
    for file in fs::read_dir(directory)? {
        let name = file?.file_name();
        let log =
            name.to_str().and_then(|name| name.strip_suffix(EXTENSION)?.rsplit_once('-')).map(|(log, _)| log);
        match log {
            Some("node") => drop(logs.insert(0)),
            Some(log) => {
                logs.extend(log.strip_prefix("partition-").and_then(|number| number.parse::<u32>().ok()))
            }
            None => {}
        }
    }
    Ok(logs)
}
