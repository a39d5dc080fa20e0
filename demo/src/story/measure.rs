//! Handshakes with the key in a file and with the key in the partition, side by side.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use strongroom_demo::cpu;
use strongroom_demo::load::{self, Amount, CONNECTIONS};
use strongroom_demo::pki::KeyKind;
use strongroom_demo::server::Server;
use strongroom_demo::statistics::median;

use super::screen::Screen;
use super::{Effort, Program, Stage};

/// What one side of a pair did in all rounds.
#[derive(Debug, Default)]
struct Side {
    /// Handshakes a second.
    rates: Vec<f64>,
    /// Processor time of the server with its workers, and of the daemon, in microseconds a handshake.
    cpu: Vec<f64>,
}

struct Contest {
    program: Program,
    kind: KeyKind,
    servers: [Server; 2],
    sides: [Side; 2],
}

/// Loads every pair of servers, in turns, and prints the table.
///
/// # Errors
///
/// When a server does not start or a handshake fails.
pub fn side_by_side(screen: &mut Screen, stage: &Stage, effort: Effort, markdown: bool) -> Result<()> {
    screen.step("Measure: the key in a file and the key in the partition, side by side");
    let mut contests = Vec::new();
    for program in [Program::Nginx, Program::Apache] {
        for kind in [KeyKind::Rsa2048, KeyKind::P256] {
            let pair = stage.pair(program, kind, false)?;
            let servers = [program.start(&pair.file)?, program.start(&pair.partition)?];
            contests.push(Contest { program, kind, servers, sides: [Side::default(), Side::default()] });
        }
    }
    let loads = contests.len() as u64 * 2 * u64::from(effort.rounds + 1);
    screen.say(&format!(
        "Full TLS 1.3 handshakes, {CONNECTIONS} connections, {} round{} of {:.1} s on each server; client and \
         servers\nshare this machine's {} processors.",
        effort.rounds,
        if effort.rounds == 1 { "" } else { "s" },
        effort.load.as_secs_f64(),
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
    ));
    let bar = screen.progress("handshakes", loads);
    for contest in &contests {
        for server in &contest.servers {
            one_load(stage, server, effort.warm_up)?;
            bar.inc(1);
        }
    }
    for round in 0..effort.rounds {
        for contest in &mut contests {
            // Who goes first changes, so that neither side always meets a warmer machine.
            let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
            for place in order {
                if let (Some(server), Some(side)) = (contest.servers.get(place), contest.sides.get_mut(place))
                {
                    let (rate, cpu) = one_load(stage, server, effort.load)?;
                    side.rates.push(rate);
                    side.cpu.push(cpu);
                }
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    screen.gap();
    screen.say(&table(&contests, markdown).to_string());
    screen.say(
        "CPU: server and strongroomd together, µs a handshake. A rate above ×1 and a CPU time below ×1 are for the\n\
         partition.",
    );
    Ok(())
}

/// Returns handshakes a second and CPU microseconds a handshake.
fn one_load(stage: &Stage, server: &Server, time: Duration) -> Result<(f64, f64)> {
    let mut roots = vec![server.process.id()];
    roots.extend(stage.partition.daemon.id());
    let before = cpu::used(&roots)?;
    let ca = stage.authority.certificate();
    let limit = time + Duration::from_secs(30);
    let report = load::run(&stage.programs, server, &ca, Amount::Time(time), &[], limit)?;
    let used = cpu::used(&roots)?.saturating_sub(before);
    if report.error_count() > 0 {
        bail!("handshakes with {} failed: {:?} {:?}", server.address(), report.errors, report.error_messages);
    }
    ensure!(report.handshakes > 0, "no handshake with {} within {time:?}", server.address());
    #[allow(clippy::cast_precision_loss)] // fewer than 2^52 handshakes
    Ok((report.rate_per_s, used.as_secs_f64() * 1e6 / report.handshakes as f64))
}

fn table(contests: &[Contest], markdown: bool) -> Table {
    let mut table = Table::new();
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.load_style(if markdown { presets::ASCII_MARKDOWN } else { presets::UTF8_FULL_CONDENSED });
    table.set_header([
        "server",
        "key",
        "file\nhandshakes/s",
        "partition\nhandshakes/s",
        "ratio",
        "file\nCPU µs",
        "partition\nCPU µs",
        "ratio",
    ]);
    for contest in contests {
        let [file, partition] = &contest.sides;
        let middle = |values: &[f64]| median(values).unwrap_or(f64::NAN);
        let rates = (middle(&file.rates), middle(&partition.rates));
        let cpu = (middle(&file.cpu), middle(&partition.cpu));
        table.add_row([
            contest.program.title().to_owned(),
            contest.kind.title().to_owned(),
            format!("{:.0}", rates.0),
            format!("{:.0}", rates.1),
            format!("×{:.2}", rates.1 / rates.0),
            format!("{:.0}", cpu.0),
            format!("{:.0}", cpu.1),
            format!("×{:.2}", cpu.1 / cpu.0),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
