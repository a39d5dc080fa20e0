//! The audit log's files, and what the daemon shows of it.
#![allow(dead_code)]

use std::fs;
use std::path::Path;

use strongroom_audit::{Entry, Fault, PublicKey, Summary, Verifier};
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

use crate::running::Client;

/// The files of a log, in order.
pub fn files(state: &Path, log: &str) -> Vec<std::path::PathBuf> {
    let all = fs::read_dir(state.join("audit")).unwrap().map(|file| file.unwrap().path());
    let is_of = |path: &std::path::PathBuf| {
        path.file_name().unwrap().to_str().unwrap().rsplit_once('-').unwrap().0 == log
    };
    let mut files: Vec<_> = all.filter(is_of).collect();
    files.sort();
    files
}

/// A log's entries, verified.
pub fn verified(state: &Path, log: &str, key: Option<&PublicKey>) -> Result<(Vec<Entry>, Summary), Fault> {
    let mut verifier = Verifier::new(key.cloned());
    let mut entries = Vec::new();
    for file in files(state, log) {
        for line in fs::read_to_string(file).unwrap().lines() {
            entries.push(verifier.line(line.as_bytes())?);
        }
    }
    Ok((entries, verifier.finish()?))
}

pub fn public_key(client: &mut Client) -> PublicKey {
    match client.connection.call(0, Op::DescribeAudit(DescribeAudit {})).unwrap() {
        response::Result::AuditDescription(said) => PublicKey::from_spki(&said.public_key).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// What the daemon itself shows of a log, with all that has happened so far.
pub fn read(client: &mut Client, log: u32) -> Vec<Entry> {
    let mut request = ReadAudit { checkpoint: true, ..ReadAudit::default() };
    let mut entries = Vec::new();
    loop {
        let response::Result::AuditPage(page) = client.connection.call(log, Op::ReadAudit(request)).unwrap()
        else {
            panic!()
        };
        entries.extend(page.lines.iter().map(|line| serde_json::from_str::<Entry>(line).unwrap()));
        if !page.more {
            return entries;
        }
        request = ReadAudit { cursor: page.cursor, ..ReadAudit::default() };
    }
}

pub fn of<'a>(entries: &'a [Entry], action: &str) -> Vec<&'a Entry> {
    entries.iter().filter(|entry| entry.action == action).collect()
}

pub fn outcomes(entries: &[Entry], action: &str) -> Vec<String> {
    of(entries, action).iter().map(|entry| entry.outcome.clone()).collect()
}
