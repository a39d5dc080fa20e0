//! What a handshake costs in system calls and in allocations: `demo/bench --profile`.

mod heap;
mod system_calls;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use strongroom_demo::command;
use strongroom_demo::environment::Environment;
use strongroom_demo::load::{self, Amount};
use strongroom_demo::server::Server;
use strongroom_demo::stat;

use crate::markdown::table;
use crate::options::{Effort, Key, Program, Source};
use crate::progress::Progress;
use crate::stage::Stage;
use heap::{Counter, Counters};
use strongroom_demo::statistics::float;

/// How long a worker is watched, and allocations are counted.
const WATCHED: Duration = Duration::from_secs(2);
/// The load before that: log-ins, caches.
const WARM_UP: Duration = Duration::from_millis(700);
/// How long a load may take beyond its time.
const PATIENCE: Duration = Duration::from_secs(30);
/// Sources that are compared.
const SOURCES: [Source; 2] = [Source::File, Source::Partition];

/// What one server did for each handshake.
struct Column {
    name: String,
    calls: BTreeMap<String, f64>,
    server: BTreeMap<String, (f64, f64)>,
    daemon: BTreeMap<String, (f64, f64)>,
}

/// Profiles nginx with the key in a file and in the partition, and returns the tables as Markdown.
///
/// # Errors
///
/// When a server does not start, or strace or a C compiler is missing.
pub fn measure(effort: &Effort) -> Result<String> {
    let keys: Vec<Key> =
        effort.keys.iter().copied().filter(|key| [Key::Rsa2048, Key::P256].contains(key)).collect();
    if keys.is_empty() {
        bail!("the profile is of rsa2048 and p256");
    }
    let each = 2 * (WARM_UP + WATCHED) + Duration::from_secs(2);
    let steps = u32::try_from(keys.len() * SOURCES.len()).unwrap_or(1);
    let mut progress = Progress::start(each * steps);
    let stage = Stage::prepare()?;
    let counter = Counter::compile(&stage.folder("allocations")?)?;
    let mut columns = Vec::new();
    for key in keys {
        for source in SOURCES {
            let name = format!("{}, {}", key.kind().title(), source.title());
            progress.step(&format!("profile of {name}"), each);
            let (server, daemon) = allocations(&stage, effort, &counter, key, source)?;
            columns.push(Column { calls: calls(&stage, effort, key, source)?, server, daemon, name });
        }
    }
    progress.finish();
    Ok(written(&columns))
}

/// System calls a handshake, of one worker. What it accepted tells how many handshakes it made.
fn calls(stage: &Stage, effort: &Effort, key: Key, source: Source) -> Result<BTreeMap<String, f64>> {
    let site = stage.site(Program::Nginx, key, source)?.with_workers(effort.workers);
    let server = Program::Nginx.start(&site)?;
    load(stage, effort, &server, WARM_UP)?;
    let worker = busiest(&server)?;
    let time = WATCHED + Duration::from_secs(1);
    let folder = stage.folder("strace")?;
    let watched = std::thread::scope(|scope| {
        let watching = scope.spawn(|| system_calls::watch(worker, WATCHED, &folder));
        load(stage, effort, &server, time)?;
        watching.join().unwrap_or_else(|_| bail!("the thread with strace died"))
    })?;
    let accepted = watched.get("accept4").map_or(0, |accept| accept.calls.saturating_sub(accept.errors));
    if accepted == 0 {
        bail!("the watched worker had no connection");
    }
    Ok(watched.into_iter().map(|(name, calls)| (name, float(calls.calls) / float(accepted))).collect())
}

/// The process of a server that has used most processor time: a worker.
fn busiest(server: &Server) -> Result<u32> {
    let used = |id: &u32| stat::of(*id).map_or(0, |stat| stat.ticks);
    server.processes()?.into_iter().max_by_key(used).context("nginx has no worker")
}

type Allocations = BTreeMap<String, (f64, f64)>;

/// Allocations and bytes a handshake, by library: of the server, and of the daemon.
fn allocations(
    stage: &Stage,
    effort: &Effort,
    counter: &Counter,
    key: Key,
    source: Source,
) -> Result<(Allocations, Allocations)> {
    let folder = stage.folder("allocations")?;
    let of_server = counter.counters(folder.join("server"))?;
    let of_daemon = counter.counters(folder.join("daemon"))?;
    // A daemon of its own that counts, on a store of its own.
    let counting = Stage::prepare_with(&of_daemon.environment(&Environment::plain()))?;
    let mut site = counting.site(Program::Nginx, key, source)?.with_workers(effort.workers);
    site.environment = of_server.environment(&site.environment);
    let server = Program::Nginx.start(&site)?;
    load(&counting, effort, &server, WARM_UP)?;
    let before = (of_server.snapshot()?, of_daemon.snapshot()?);
    let handshakes = load(&counting, effort, &server, WATCHED)?;
    let worker = busiest(&server)?;
    let daemon = counting.daemon().id().context("strongroomd has stopped")?;
    let each = |counters: &Counters, before: &heap::Snapshot, process: u32| -> Result<Allocations> {
        let libraries = heap::by_library(before, &counters.snapshot()?, process)?;
        let each = |count: u64| float(count) / float(handshakes);
        Ok(libraries
            .into_iter()
            .map(|(name, count)| (name, (each(count.calls), each(count.bytes))))
            .collect())
    };
    Ok((each(&of_server, &before.0, worker)?, each(&of_daemon, &before.1, daemon)?))
}

/// Loads the server and returns how many handshakes it made.
fn load(stage: &Stage, effort: &Effort, server: &Server, time: Duration) -> Result<u64> {
    let command =
        load::command_at(&stage.programs, server, &stage.ca(), Amount::Time(time), effort.connections, &[]);
    let finished = command::run(command, time + PATIENCE)?;
    let report: strongroom_load::Report = serde_json::from_slice(&finished.stdout)
        .with_context(|| format!("strongroom-load ({}): {}", finished.status, finished.stderr.trim()))?;
    anyhow::ensure!(report.error_count() == 0, "handshakes failed: {:?}", report.error_messages);
    Ok(report.handshakes.max(1))
}

fn written(columns: &[Column]) -> String {
    let mut text = String::from(
        "### System calls of an nginx worker\n\nCalls a full TLS 1.3 handshake, by `strace -c -f` on one worker \
         under load. Fewer than one in a hundred handshakes are left out.\n\n",
    );
    text.push_str(&grid(columns, |column| &column.calls, |calls| *calls, |calls| format!("{calls:.2}")));
    for (title, of) in [
        ("nginx", (|column: &Column| &column.server) as fn(&Column) -> &Allocations),
        ("strongroomd", |column| &column.daemon),
    ] {
        text.push_str(&format!(
            "\n### Allocations of {title}\n\nCalls of malloc and its like a full TLS 1.3 handshake, by the library \
             that calls; in parentheses bytes. A library that is not there calls less than once in a hundred.\n\n"
        ));
        let cell = |each: &(f64, f64)| format!("{:.2} ({:.0})", each.0, each.1);
        text.push_str(&grid(columns, of, |each| each.0, cell));
    }
    text
}

/// A row for each name, a column for each server.
fn grid<T>(
    columns: &[Column],
    of: impl Fn(&Column) -> &BTreeMap<String, T>,
    weight: impl Fn(&T) -> f64,
    cell: impl Fn(&T) -> String,
) -> String {
    let names: BTreeSet<&String> = columns
        .iter()
        .flat_map(|column| of(column).iter().filter(|(_, value)| weight(value) >= 0.01).map(|(name, _)| name))
        .collect();
    let mut head = vec![""];
    head.extend(columns.iter().map(|column| column.name.as_str()));
    let mut rows: Vec<Vec<String>> = names
        .into_iter()
        .map(|name| {
            let mut row = vec![name.clone()];
            row.extend(columns.iter().map(|column| of(column).get(name).map_or("–".to_owned(), &cell)));
            row
        })
        .collect();
    let mut total = vec!["all".to_owned()];
    total.extend(columns.iter().map(|column| {
        let sum = of(column).values().map(&weight).fold(0.0, |sum, each| sum + each);
        format!("{sum:.2}")
    }));
    rows.push(total);
    table(&head, 1, &rows)
}
