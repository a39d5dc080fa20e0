//! A loss of power: of what was written since the last sync, the disk has any part and not the rest. Nothing that was
//! acknowledged is lost, and no state of the disk is taken for another one than those that were.
//!
//! The library disk.c records what the daemon writes to its store. From that the disk is made as a loss of power at a moment may
//! leave it: all that was synced, and of what was not, some sectors, chosen as if at random.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod faults;
mod running;
mod stores;

use std::fs;
use std::path::Path;

use faults::{Event, Fault};
use running::{OFFICER, PASSWORD, USER};
use stores::{Numbers, everything};
use strongroom_hsm::vault::Vault;
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

/// What a disk writes as a whole or not at all, in bytes.
const SECTOR: usize = 512;

/// How many losses of power.
const LOSSES: usize = 300;

/// The files as they were when the recording began, and what was written since.
struct Recorded {
    directory: tempfile::TempDir,
    base: Vec<u8>,
    events: Vec<Event>,
    /// After so many events, this was acknowledged.
    acknowledged: Vec<(usize, Change)>,
}

#[derive(Debug, Clone)]
enum Change {
    Made(String),
    Deleted(String),
}

/// A daemon that makes and deletes keys and users, each acknowledged.
fn record() -> Recorded {
    let directory = tempfile::tempdir().unwrap();
    let (process, fault) = Fault::start(directory.path());
    process.client().make_partition("tls");
    let mut user = process.client();
    user.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    let mut officer = process.client();
    officer.login(Role::CryptoOfficer, OFFICER, PASSWORD).unwrap();
    let base = fs::read(directory.path().join("state/store.redb")).unwrap();
    fault.record();
    let mut acknowledged = Vec::new();
    let mut keys = Vec::new();
    for number in 0..24 {
        let label = format!("key {number}");
        keys.push((label.clone(), user.generate(KeyType::P256, &label).unwrap()));
        acknowledged.push((fault.recorded().len(), Change::Made(label)));
        if number % 3 == 2 {
            let (label, key) = keys.remove(number % keys.len());
            for half in key {
                user.call(Op::DestroyObject(DestroyObject { object: half.object })).unwrap();
            }
            acknowledged.push((fault.recorded().len(), Change::Deleted(label)));
        }
        if number % 8 == 7 {
            let name = format!("user-{number}");
            officer.create_initial_user(&name, Role::CryptoUser, PASSWORD).unwrap();
            acknowledged.push((fault.recorded().len(), Change::Made(name)));
        }
    }
    let events = fault.recorded();
    process.kill();
    Recorded { directory, base, events, acknowledged }
}

/// The store as the disk has it when the power goes after so many events: `kept` says which unsynced sectors it has.
fn left(recorded: &Recorded, moment: usize, kept: &mut dyn FnMut() -> bool) -> Vec<u8> {
    let synced = recorded.events[..moment]
        .iter()
        .rposition(|event| matches!(event, Event::Sync))
        .map_or(0, |at| at + 1);
    let mut disk = recorded.base.clone();
    for (number, event) in recorded.events[..moment].iter().enumerate() {
        let is_synced = number < synced;
        match event {
            Event::Sync => {}
            Event::Length(length) => {
                if is_synced || kept() {
                    disk.resize(*length, 0);
                }
            }
            Event::Write { at, bytes } => {
                for (sector, bytes) in bytes.chunks(SECTOR).enumerate() {
                    if is_synced || kept() {
                        let at = at + sector * SECTOR;
                        if disk.len() < at + bytes.len() {
                            disk.resize(at + bytes.len(), 0);
                        }
                        disk[at..at + bytes.len()].copy_from_slice(bytes);
                    }
                }
            }
        }
    }
    disk
}

/// The labels of keys and names of users in a store, as the daemon reads them at its start.
fn labels(directory: &Path) -> Result<String, String> {
    let vault = Vault::start(directory, None, None).map_err(|error| error.to_string())?;
    let all = everything(&vault)?;
    Ok(all.iter().map(|(info, _)| format!("\n{}\n", info.label)).collect())
}

fn losses(count: usize) {
    let recorded = record();
    let syncs = recorded.events.iter().filter(|event| matches!(event, Event::Sync)).count();
    assert!(
        syncs >= recorded.acknowledged.len(),
        "{syncs} syncs for {} changes",
        recorded.acknowledged.len()
    );
    let directory = tempfile::tempdir().unwrap();
    fs::copy(recorded.directory.path().join("state/node.key"), directory.path().join("node.key")).unwrap();
    let mut numbers = Numbers(7);
    for round in 0..count {
        let moment = 1 + numbers.below(recorded.events.len());
        // From none of the unsynced sectors to all of them.
        let share = round % 5;
        let mut kept = || numbers.below(4) < share;
        let disk = left(&recorded, moment, &mut kept);
        fs::write(directory.path().join("store.redb"), disk).unwrap();
        let found = labels(directory.path()).unwrap_or_else(|error| {
            panic!("round {round}, after {moment} of {} events: {error}", recorded.events.len())
        });
        let done = recorded.acknowledged.iter().filter(|(after, _)| *after <= moment);
        let mut expected: Vec<(String, bool)> = Vec::new();
        for (_, change) in done {
            match change {
                Change::Made(label) => expected.push((label.clone(), true)),
                Change::Deleted(label) => {
                    expected.iter_mut().filter(|(of, _)| of == label).for_each(|(_, there)| *there = false)
                }
            }
        }
        for (label, there) in expected {
            let is_there =
                found.contains(&format!("\n{label}\n")) || found.contains(&format!("name: {label:?}"));
            // What was begun next may be on the disk already: the deletion of one that is expected.
            let next = recorded.acknowledged.iter().find(|(after, _)| *after > moment);
            let may_be_gone = matches!(next, Some((_, Change::Deleted(next))) if *next == label);
            assert!(
                is_there == there || may_be_gone,
                "round {round}, after {moment}: {label:?} {is_there}\n{found}"
            );
        }
    }
}

#[test]
fn a_loss_of_power_loses_nothing_that_was_acknowledged() {
    losses(LOSSES);
}

#[test]
#[ignore = "takes minutes: 5,000 losses of power"]
fn five_thousand_losses_of_power() {
    losses(5_000);
}
