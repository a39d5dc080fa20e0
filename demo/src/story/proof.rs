//! The proof: the key's bytes are in the memory of the web server that has a file, and not in that of the
//! web server that has the partition.

use anyhow::{Result, bail, ensure};
use comfy_table::{ContentArrangement, Table, presets};
use strongroom_demo::command;
use strongroom_demo::memory::{Search, Secret, search, secrets_of};
use strongroom_demo::nginx;
use strongroom_demo::pki::KeyKind;
use strongroom_demo::server::{Server, Site};

use super::screen::Screen;
use super::{LIMIT, Program, Stage, curl};

/// Searches the memory of running nginx processes for keys that the demo knows, and prints what it finds.
///
/// # Errors
///
/// When a key is not found where it must be, or found where it must not be.
pub fn search_memory(screen: &mut Screen, stage: &Stage) -> Result<()> {
    screen.step("Prove it: search nginx's memory for the private key");
    screen.say(
        "Nobody knows a key that was made in the partition. So two keys are made in files, and imported: one\n\
         nginx has the file, another the partition. Both serve pages, then all their memory is searched for\n\
         the primes of the RSA key and the secret number of the EC key, in both byte orders.",
    );
    let mut table = Table::new();
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["key", "nginx has", "processes", "memory", "the private key"]);
    for kind in [KeyKind::Rsa2048, KeyKind::P256] {
        let pair = stage.pair(Program::Nginx, kind, true)?;
        let secrets = secrets_of(std::path::Path::new(&pair.file.key))?;
        let with_file = one(stage, &pair.file, &secrets)?;
        let with_partition = one(stage, &pair.partition, &secrets)?;
        for (place, result) in [("the file", &with_file), ("the partition", &with_partition)] {
            table.add_row([
                kind.title().to_owned(),
                place.to_owned(),
                result.processes.to_string(),
                format!("{:.0} MB", result.bytes as f64 / 1e6),
                verdict(result),
            ]);
        }
        ensure!(
            !with_file.found.is_empty(),
            "the {} key was not found where it is a file: the search proves nothing",
            kind.title()
        );
        if !with_partition.found.is_empty() {
            bail!("the {} key IS in nginx's memory although it is in the partition", kind.title());
        }
    }
    screen.gap();
    screen.say(&table.to_string());
    screen.good("With the partition, whoever reads all of nginx's memory does not have the key.");
    Ok(())
}

fn verdict(result: &Search) -> String {
    if result.found.is_empty() {
        return "not there".into();
    }
    let mut names: Vec<&str> = result.found.iter().map(|(_, name)| *name).collect();
    names.sort_unstable();
    names.dedup();
    let mut processes: Vec<u32> = result.found.iter().map(|(id, _)| *id).collect();
    processes.dedup();
    format!("FOUND ({}) in {} processes", names.join(", "), processes.len())
}

/// Starts nginx, lets it sign a few handshakes, and searches it.
fn one(stage: &Stage, site: &Site, secrets: &[Secret]) -> Result<Search> {
    let server: Server = nginx::start(site)?;
    for _ in 0..8 {
        command::succeed(curl(&server, &stage.authority), LIMIT)?;
    }
    search(&server.processes()?, secrets)
}
