//! Numbers of nodes by numbers of regions.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::options::Grid;
use crate::outcome::Outcome;
use crate::simulation;
use crate::world::{Load, World};

/// How long a client waits before it asks another node (the module: `PATIENCE`).
const PATIENCE: Duration = Duration::from_millis(400);

/// What etcd takes to write a change to a disk.
const FSYNC_MS: f64 = 2.0;

/// One row.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Nodes.
    pub nodes: u32,
    /// Regions.
    pub regions: u32,
    /// Requests a second by those that all cores could serve in full batches.
    pub offered: f64,
    /// While all nodes live.
    pub whole: Outcome,
    /// Node 0 dies in the middle.
    pub one_dies: Outcome,
    /// A change of a key or a user, from the farthest client, in milliseconds.
    pub change_ms: f64,
    /// Price of all cores in a month.
    pub price: f64,
}

/// Simulates all rows.
pub fn run(grid: &Grid, seed: u64) -> Vec<Row> {
    let mut rows = Vec::new();
    for regions in &grid.regions {
        for nodes in &grid.nodes {
            let world = world(grid, *nodes, *regions, seed);
            let whole = simulation::run(&world);
            let one_dies = simulation::run(&World { death: Some(world.duration / 2), ..world.clone() });
            rows.push(Row {
                nodes: *nodes,
                regions: *regions,
                offered: f64::from(grid.servers) * grid.rate
                    / (f64::from(nodes * grid.cores) * grid.times.most_per_core()),
                whole,
                one_dies,
                change_ms: change_ms(grid, *regions),
                price: f64::from(nodes * grid.cores) * grid.price,
            });
        }
    }
    rows
}

fn world(grid: &Grid, nodes: u32, regions: u32, seed: u64) -> World {
    World {
        nodes: nodes as usize,
        cores: grid.cores as usize,
        regions: regions as usize,
        within: grid.within,
        between: grid.between,
        times: grid.times,
        rule: grid.rule,
        patience: PATIENCE,
        load: Load::Servers {
            servers: grid.servers as usize,
            workers: grid.workers as usize,
            rate: grid.rate,
        },
        duration: grid.duration,
        warm_up: grid.duration / 4,
        death: None,
        seed,
    }
}

/// To the node, from there to etcd's leader, and from the leader to a majority and its disks.
fn change_ms(grid: &Grid, regions: u32) -> f64 {
    let within = grid.within.as_secs_f64() * 1e3;
    let between = if regions > 1 { grid.between.as_secs_f64() * 1e3 } else { within };
    within + between + between + FSYNC_MS
}

/// As a table in Markdown.
pub fn table(grid: &Grid, rows: &[Row]) -> String {
    let mut text = format!(
        "{} web servers with {} full handshakes a second each; nodes with {} cores, {} requests a second at most.\n\n\
         | regions | nodes | load | busiest | batch | p50 ms | p99 ms | p99.9 ms | far | one dies: p99 ms | p99.9 ms | repeated | failed | change ms | price |\n\
         |---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        grid.servers,
        grid.rate,
        grid.cores,
        (grid.times.most_per_core() * f64::from(grid.cores)).round(),
    );
    for row in rows {
        let (whole, less) = (&row.whole, &row.one_dies);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {:.0}% | ×{:.2} | {:.1} | {:.2} | {:.2} | {:.2} | {:.0}% | {:.2} | {:.0} | {} | {} | {:.0} | {:.0} |",
            row.regions,
            row.nodes,
            whole.utilisation * 100.0,
            whole.busiest,
            whole.mean_batch,
            whole.p50_ms,
            whole.p99_ms,
            whole.p999_ms,
            whole.far * 100.0,
            less.p99_ms,
            less.p999_ms,
            less.repeated,
            less.failed + whole.failed,
            row.change_ms,
            row.price,
        );
    }
    text
}
