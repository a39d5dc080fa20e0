//! Reading a log: some lines at a time, from its files as they are.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use strongroom_audit::{Entry, MAX_LINE, micros_of};

use super::files;

/// Lines in one page, in bytes.
const MOST: usize = 256 * 1024;

/// Bytes that are looked at for a page of the last lines.
const LOOK_BACK: u64 = 8 << 20;

/// Where to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With the first entry that is not older than this, in microseconds since 1970; 0: with the first.
    Since(u64),
    /// With the last so many.
    Last(usize),
    /// Where a page ended: the number of a file's first entry, and bytes into it.
    After(u64, u64),
}

/// Some lines of a log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Whole lines, without line feeds.
    pub lines: Vec<String>,
    /// Where the next page begins.
    pub next: (u64, u64),
    /// There are more lines now.
    pub more: bool,
}

/// Reads a page. A place that is not one begins at the next line.
pub(super) fn read(directory: &Path, log: u32, start: &Start) -> io::Result<Page> {
    let files = files::files_of(directory, log)?;
    let (mut number, mut offset) = match start {
        Start::After(first, offset) => {
            let at = files.iter().position(|(number, _)| number >= first).unwrap_or(files.len());
            let is_there = files.get(at).is_some_and(|(number, _)| number == first);
            (at, if is_there { *offset } else { 0 })
        }
        Start::Since(micros) => {
            let mut at = 0;
            // A file whose successor begins before has nothing of it.
            while let Some((_, next)) = files.get(at + 1) {
                if first_moment(next)?.is_none_or(|moment| moment >= *micros) {
                    break;
                }
                at += 1;
            }
            (at, 0)
        }
        Start::Last(count) => last(&files, *count)?,
    };
    let since = if let Start::Since(micros) = start { *micros } else { 0 };
    let mut page =
        Page { next: (files.get(number).map_or(0, |(first, _)| *first), offset), ..Page::default() };
    let mut bytes = 0;
    while let Some((first, path)) = files.get(number) {
        let mut reader = BufReader::new(File::open(path)?);
        reader.seek(SeekFrom::Start(offset))?;
        loop {
            let mut line = Vec::new();
            Read::by_ref(&mut reader).take(MAX_LINE as u64 + 1).read_until(b'\n', &mut line)?;
            // What is not whole yet is being written.
            if line.pop() != Some(b'\n') {
                break;
            }
            if bytes + line.len() > MOST && !page.lines.is_empty() {
                page.more = true;
                return Ok(page);
            }
            offset += line.len() as u64 + 1;
            page.next = (*first, offset);
            let text = String::from_utf8_lossy(&line).into_owned();
            if since > 0 && moment_of(&text).is_some_and(|moment| moment < since) {
                continue;
            }
            bytes += line.len();
            page.lines.push(text);
        }
        number += 1;
        offset = 0;
    }
    Ok(page)
}

fn moment_of(line: &str) -> Option<u64> {
    micros_of(&serde_json::from_str::<Entry>(line).ok()?.time)
}

fn first_moment(path: &Path) -> io::Result<Option<u64>> {
    let mut line = String::new();
    BufReader::new(File::open(path)?).take(MAX_LINE as u64).read_line(&mut line)?;
    Ok(moment_of(line.trim_end()))
}

/// Where the last `count` lines begin: which file, and bytes into it.
fn last(files: &[(u64, std::path::PathBuf)], count: usize) -> io::Result<(usize, u64)> {
    let mut missing = count.max(1);
    for (at, (_, path)) in files.iter().enumerate().rev() {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let from = length.saturating_sub(LOOK_BACK);
        file.seek(SeekFrom::Start(from))?;
        let mut tail = Vec::new();
        file.take(LOOK_BACK).read_to_end(&mut tail)?;
        // The ends of lines but the last; what follows each is a line.
        let ends: Vec<usize> =
            tail.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at).collect();
        let lines = ends.len();
        if lines > missing {
            let end = ends.get(lines - missing - 1).copied().unwrap_or_default();
            return Ok((at, from + end as u64 + 1));
        }
        if from > 0 {
            // As many as were looked at.
            return Ok((at, from + ends.first().map_or(0, |end| *end as u64 + 1)));
        }
        if lines == missing || at == 0 {
            return Ok((at, 0));
        }
        missing -= lines;
    }
    Ok((0, 0))
}
