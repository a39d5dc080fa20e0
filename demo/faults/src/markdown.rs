//! The results as a table in Markdown.

use std::fmt::Write as _;

use strongroom_load::summary::grouped;

use crate::fault::Fault;
use crate::results::{Outcome, Results, percentile};

/// Writes the document, with the picture beside it.
pub fn document(results: &Results) -> String {
    let mut text =
        String::from("# What befell a cluster\n\nWritten by `strongroom-faults`; not by hand.\n\n");
    // Writing to a String cannot fail.
    let _ = write(&mut text, results);
    text
}

/// The table alone, for the terminal.
pub fn table(results: &Results) -> String {
    let mut text = String::new();
    let _ = rows(&mut text, results);
    text
}

fn write(text: &mut String, results: &Results) -> std::fmt::Result {
    let day = results.started.split('T').next().unwrap_or_default();
    writeln!(
        text,
        "{day}, three nodes, three members of etcd, nginx and its visitors on {} processors, {} full TLS 1.3 handshakes in flight, \
         {} key, seed {}.\n",
        results.processors, results.connections, results.key_type, results.seed
    )?;
    rows(text, results)?;
    text.push_str(
        "\nA *stall* is how long the slowest handshake took while the fault lasted, until all was whole again and a second longer; the \
         *gap* the longest time in which none ended (in steps of 50 ms). Keys are made by a client through the module, one after \
         the other: *refused* are those whose making was refused or whose outcome the client was not told, *longest* is how \
         long one took.\n\n",
    );
    writeln!(text, "![{}](faults.svg)\n", crate::picture::spoken(results))?;
    let broken = results.broken();
    if broken.is_empty() {
        writeln!(text, "No handshake failed, no acknowledged key is missing, none is there twice.")?;
    }
    for promise in broken {
        writeln!(text, "- **Broken**: {promise}")?;
    }
    Ok(())
}

fn rows(text: &mut String, results: &Results) -> std::fmt::Result {
    text.push_str(
        "| fault | times | handshakes | failed | stall: median | p99 | longest | gap | keys acknowledged | refused | missing | double | longest |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    results.outcomes.iter().try_for_each(|outcome| row(text, outcome))?;
    let stalls = results.stalls();
    let faults = || results.outcomes.iter().filter(|outcome| outcome.fault != Fault::None);
    let sum = |of: fn(&Outcome) -> u64| grouped(faults().map(of).sum());
    writeln!(
        text,
        "| **all** | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
        stalls.len(),
        sum(|outcome| outcome.handshakes),
        sum(|outcome| outcome.failed),
        time(percentile(stalls.clone(), 50)),
        time(percentile(stalls.clone(), 99)),
        time(stalls.into_iter().max().unwrap_or_default()),
        time(faults().map(gap).max().unwrap_or_default()),
        sum(|outcome| outcome.keys.acknowledged),
        sum(|outcome| outcome.keys.refused),
        sum(|outcome| outcome.keys.missing),
        sum(|outcome| outcome.keys.double),
        time(faults().map(|outcome| outcome.keys.longest_ms).max().unwrap_or_default()),
    )
}

fn row(text: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let (stalls, keys) = (outcome.stalls(), &outcome.keys);
    writeln!(
        text,
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
        outcome.fault.title(),
        outcome.moments.len(),
        grouped(outcome.handshakes),
        grouped(outcome.failed),
        time(percentile(stalls.clone(), 50)),
        time(percentile(stalls.clone(), 99)),
        time(stalls.into_iter().max().unwrap_or_default()),
        time(gap(outcome)),
        grouped(keys.acknowledged),
        grouped(keys.refused),
        grouped(keys.missing),
        grouped(keys.double),
        time(keys.longest_ms),
    )
}

fn gap(outcome: &Outcome) -> u64 {
    outcome.moments.iter().map(|moment| moment.gap_ms).max().unwrap_or_default()
}

fn time(ms: u64) -> String {
    strongroom_load::summary::latency(ms * 1000)
}
